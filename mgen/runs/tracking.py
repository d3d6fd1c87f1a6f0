"""Where a training run is followed: TensorBoard where it is installed, Weights & Biases or trackio when asked for.

Everything stays in the run's folder (RUN/logs), so `tensorboard --logdir runs` finds all runs; trackio keeps its own.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from accelerate import PartialState
from transformers import Trainer
from transformers.integrations import TensorBoardCallback, TrackioCallback

from mgen.encoding.remi import Remi
from mgen.errors import MgenError
from mgen.extras import is_installed
from mgen.runs.sample_callback import Clip, ClipLogger, SampleCallback

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

TRACKERS = ("tensorboard", "wandb", "trackio")
LOGS = "logs"


@dataclass
class TrackingOptions:
    """Options of every command that trains."""

    report_to: list[str] = field(
        default_factory=lambda: ["tensorboard"] if is_installed("tensorboard") else [],
        metadata={"help": "tensorboard (the default where it is installed), wandb, trackio (one or several), or none."},
    )
    project: str = field(default="mgen", metadata={"help": "Name that wandb and trackio gather runs under."})


@dataclass
class SampleOptions(TrackingOptions):
    """Options of every command that trains a policy."""

    sample_steps: int | None = field(
        default=None,
        metadata={
            "help": "Steps between samples of fixed prompts; 0: none. By default at every checkpoint, if tracked."
        },
    )
    sample_prompts: int = field(default=4, metadata={"help": "Prompts that are continued, drawn once from valid."})
    sample_tokens: int = field(default=192, metadata={"help": "Longest continuation, as far as the context allows."})


def check_tracking(config: Any) -> None:
    """Check a config's tracking options before anything is trained.

    Raises:
        ValueError: A tracker is unknown or not installed, a run's name is a path, or a number is out of range.
    """
    given = config.report_to or []
    asked = [word for word in ([given] if isinstance(given, str) else list(given)) if word != "none"]
    for name in asked:
        if name not in TRACKERS:
            raise ValueError(f"report_to '{name}': expected {', '.join(TRACKERS)} or none")
        if not is_installed(name):
            raise ValueError(f"report_to {name}: it is not installed; pip install 'mgen[{name}]', or leave it out")
    config.report_to = asked or "none"
    if config.run_name and Path(config.run_name).name != config.run_name:
        raise ValueError(f"run_name '{config.run_name}': trackers file runs by it; give a name without / in it")
    if not isinstance(config, SampleOptions):
        return
    if config.sample_steps is not None and config.sample_steps < 0:
        raise ValueError(f"sample_steps ({config.sample_steps}) must be at least 0; 0 plays nothing")
    if config.sample_prompts < 1 or config.sample_tokens < 1:
        raise ValueError(
            f"sample_prompts ({config.sample_prompts}) and sample_tokens ({config.sample_tokens}) must be at least 1; "
            "--sample_steps 0 plays nothing"
        )


class TensorBoardClips(TensorBoardCallback):  # type: ignore[misc]
    """transformers' callback, writing to the run's folder; a run taken up again writes over what came after its
    checkpoint.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.logging_dir = str(folder)
        self.tb_writer: SummaryWriter | None = None
        self.purge_step: int | None = None

    def _init_summary_writer(self, args: Any) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.tb_writer = SummaryWriter(log_dir=self.logging_dir, purge_step=self.purge_step)
        self.purge_step = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        self.purge_step = state.global_step + 1 if state.global_step else None
        super().on_train_begin(args, state, control, **rest)

    def show(self, clips: Sequence[Clip], step: int) -> None:
        """Clips beside the curves."""
        assert self.tb_writer is not None  # training has begun
        for clip in clips:
            self.tb_writer.add_audio(f"audio/{clip.name}", clip.audio[None], step, clip.sample_rate)
            self.tb_writer.add_image(f"pianoroll/{clip.name}", clip.picture, step, dataformats="HWC")
        self.tb_writer.flush()


class WandbClips:
    """Clips in the run that Weights & Biases has open."""

    def show(self, clips: Sequence[Clip], step: int) -> None:
        wandb = importlib.import_module("wandb")
        shown: dict[str, Any] = {"train/global_step": step}
        for clip in clips:
            caption = f"{clip.midi.parent.name}/{clip.midi.name}"
            shown[f"audio/{clip.name}"] = wandb.Audio(clip.audio, sample_rate=clip.sample_rate, caption=caption)
            shown[f"pianoroll/{clip.name}"] = wandb.Image(clip.picture, caption=caption)
        wandb.log(shown)


class TrackioClips(TrackioCallback):  # type: ignore[misc]
    """transformers' callback, speaking on stderr: stdout is for results. Clips go to the run that it has open."""

    def setup(self, *args: Any, **rest: Any) -> None:
        with redirect_stdout(sys.stderr):
            super().setup(*args, **rest)

    def on_train_end(self, *args: Any, **rest: Any) -> None:
        with redirect_stdout(sys.stderr):
            super().on_train_end(*args, **rest)

    def show(self, clips: Sequence[Clip], step: int) -> None:
        trackio = importlib.import_module("trackio")
        shown: dict[str, Any] = {"train/global_step": step}
        for clip in clips:
            caption = f"{clip.midi.parent.name}/{clip.midi.name}"  # it numbers logs, not steps
            samples = np.rint(clip.audio * 32767).astype(np.int16)  # it would level floats anew
            shown[f"audio/{clip.name}"] = trackio.Audio(samples, caption=caption, sample_rate=clip.sample_rate)
            shown[f"pianoroll/{clip.name}"] = trackio.Image(clip.picture, caption=caption)
        trackio.log(shown)


def track(trainer: Trainer, folder: Path, began: float) -> list[ClipLogger]:
    """Have a trainer's trackers write where the run is; what comes back shows clips.

    Args:
        folder: of the run.
        began: when the run was begun; with the folder it tells a run that is taken up from another of that name.
    """
    clip_loggers: list[ClipLogger] = []
    identity = hashlib.sha256(f"{folder.resolve()} {began}".encode()).hexdigest()[:16]
    trainer.args.run_name = trainer.args.run_name or f"{folder.resolve().name}-{identity[:6]}"
    if trainer.pop_callback(TensorBoardCallback) is not None:
        board = TensorBoardClips(folder / LOGS)
        trainer.add_callback(board)
        clip_loggers.append(board)
    if "wandb" in trainer.args.report_to:
        clip_loggers.append(WandbClips())
        wandb = importlib.import_module("wandb")
        if PartialState().is_main_process and wandb.run is None:
            (folder / LOGS).mkdir(exist_ok=True)
            wandb.init(
                project=trainer.args.project,
                name=trainer.args.run_name,
                id=identity,
                dir=folder / LOGS,
                resume="allow",
            )
    if trainer.pop_callback(TrackioCallback) is not None:
        trackio = TrackioClips()
        trainer.add_callback(trackio)
        clip_loggers.append(trackio)
    return clip_loggers


def close_trackers(clip_loggers: Sequence[ClipLogger]) -> None:
    """Close what trackers have open, so that another run in the same process is another run to them."""
    if not PartialState().is_main_process:
        return
    for clip_logger in clip_loggers:
        if isinstance(clip_logger, TensorBoardClips) and clip_logger.tb_writer is not None:
            clip_logger.tb_writer.close()
            clip_logger.tb_writer = None
        elif isinstance(clip_logger, WandbClips):
            importlib.import_module("wandb").finish()
        elif isinstance(clip_logger, TrackioClips):
            with redirect_stdout(sys.stderr):
                importlib.import_module("trackio").finish()


def listen(
    trainer: Trainer,
    config: SampleOptions,
    folder: Path,
    clip_loggers: Sequence[ClipLogger],
    remi: Remi,
    prompts: Mapping[str, Sequence[int]],
    at_start: bool,
) -> SampleCallback | None:
    """Has the policy of `trainer` continue `prompts` at the steps that the options give.

    Samples go to `folder`/samples and to `clip_loggers`.

    Raises:
        MgenError: Samples were asked for, and there is no prompt to start from or no process that holds the policy.
    """
    every = config.sample_steps
    if every == 0 or (every is None and not clip_loggers):
        return None
    context = trainer.model.config.max_position_embeddings
    fitting = {name: ids for name, ids in prompts.items() if len(ids) < context}
    why = ""
    if not fitting:
        why = "valid has no music to draw prompts from"
    elif trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        why = "no process holds the whole policy"
    if why and every is not None:
        raise MgenError(f"sample_steps ({every}): {why}; use --sample_steps 0")
    if why:
        if PartialState().is_main_process:
            print(f"no samples are played: {why}", file=sys.stderr)
        return None
    room = context - max(len(ids) for ids in fitting.values())
    listening = SampleCallback(
        fitting, remi, folder / "samples", clip_loggers, every, min(config.sample_tokens, room), at_start
    )
    trainer.add_callback(listening)
    return listening
