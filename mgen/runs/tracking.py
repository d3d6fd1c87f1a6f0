"""Trackers of a training run: TensorBoard if it is installed, Weights & Biases or trackio on request.

All logs stay in the run's folder (RUN/logs), so `tensorboard --logdir runs` finds every run; trackio has its own store.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from accelerate import PartialState
from transformers import Trainer
from transformers.integrations import TensorBoardCallback, TrackioCallback

from mgen.encoding.remi import Remi
from mgen.errors import MgenError
from mgen.extras import is_installed, pip_install
from mgen.models.transformer import context_length
from mgen.options import option
from mgen.progress import Progress
from mgen.runs.sample_callback import ClipLogger, SampleCallback, SampleClip

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

TRACKERS = ("tensorboard", "wandb", "trackio")
LOGS = "logs"


@dataclass
class TrackingOptions:
    """Options of every command that trains."""

    report_to: list[str] = option(
        ["tensorboard"] if is_installed("tensorboard") else [],
        "tensorboard (the default if installed), wandb, trackio (one or several), or none.",
    )
    project: str = option("mgen", "Project of the run in wandb and trackio.")


@dataclass
class SampleOptions(TrackingOptions):
    """Options of every command that trains a policy."""

    sample_steps: int | None = option(
        None, "Steps between samples of fixed prompts; 0: none. By default at every checkpoint, if tracked.", least=0
    )
    sample_prompts: int = option(4, "Prompts of the samples, drawn once from valid.", least=1)
    sample_tokens: int = option(192, "Longest continuation, within the policy's context.", least=1)


def check_tracking(config: Any) -> None:
    """Checks the tracking options before training, and normalises `report_to`.

    Raises:
        ValueError: A tracker is unknown or not installed, or the run's name is a path.
    """
    given = config.report_to or []
    trackers = [word for word in ([given] if isinstance(given, str) else list(given)) if word != "none"]
    for name in trackers:
        if name not in TRACKERS:
            raise ValueError(f"report_to '{name}': expected {', '.join(TRACKERS)} or none")
        if not is_installed(name):
            raise ValueError(f"report_to {name}: it is not installed; {pip_install(name)}, or leave it out")
    config.report_to = trackers or "none"
    if config.run_name and Path(config.run_name).name != config.run_name:
        raise ValueError(f"run_name '{config.run_name}': trackers use it as a file name; give a name without /")


class TensorBoardClipLogger(TensorBoardCallback):  # type: ignore[misc]
    """The callback of transformers, writing to the run's folder. A resumed run overwrites what was logged after its
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
        self.purge_step = state.global_step + 1
        super().on_train_begin(args, state, control, **rest)

    def show(self, clips: Sequence[SampleClip], step: int) -> None:
        """Adds the clips to the log."""
        assert self.tb_writer is not None  # training has begun
        for clip in clips:
            self.tb_writer.add_audio(f"audio/{clip.name}", clip.audio[None], step, clip.sample_rate)
            self.tb_writer.add_image(f"pianoroll/{clip.name}", clip.picture, step, dataformats="HWC")
        self.tb_writer.flush()


class WandbClipLogger:
    """Adds clips to the open run of Weights & Biases."""

    def show(self, clips: Sequence[SampleClip], step: int) -> None:
        wandb = importlib.import_module("wandb")
        shown: dict[str, Any] = {"train/global_step": step}
        for clip in clips:
            caption = f"{clip.midi.parent.name}/{clip.midi.name}"
            shown[f"audio/{clip.name}"] = wandb.Audio(clip.audio, sample_rate=clip.sample_rate, caption=caption)
            shown[f"pianoroll/{clip.name}"] = wandb.Image(clip.picture, caption=caption)
        wandb.log(shown)


class TrackioClipLogger(TrackioCallback):  # type: ignore[misc]
    """The callback of transformers, with its messages on stderr (stdout is for results); adds clips to its open run."""

    def setup(self, *args: Any, **rest: Any) -> None:
        with redirect_stdout(sys.stderr):
            super().setup(*args, **rest)

    def on_train_end(self, *args: Any, **rest: Any) -> None:
        with redirect_stdout(sys.stderr):
            super().on_train_end(*args, **rest)

    def show(self, clips: Sequence[SampleClip], step: int) -> None:
        trackio = importlib.import_module("trackio")
        shown: dict[str, Any] = {"train/global_step": step}
        for clip in clips:
            caption = f"{clip.midi.parent.name}/{clip.midi.name}"  # trackio numbers log entries, not steps
            samples = np.rint(clip.audio * 32767).astype(np.int16)  # trackio would rescale floats
            shown[f"audio/{clip.name}"] = trackio.Audio(samples, caption=caption, sample_rate=clip.sample_rate)
            shown[f"pianoroll/{clip.name}"] = trackio.Image(clip.picture, caption=caption)
        trackio.log(shown)


def attach_trackers(trainer: Trainer, folder: Path, began: float) -> list[ClipLogger]:
    """Makes the trackers of a trainer write to the run's folder.

    Args:
        folder: of the run.
        began: start of the run, in seconds since 1970; it identifies the run to a tracker when it is resumed, perhaps
            in another place.

    Returns:
        A clip logger for each tracker.
    """
    clip_loggers: list[ClipLogger] = []
    identity = hashlib.sha256(str(began).encode()).hexdigest()[:16]
    trainer.args.run_name = trainer.args.run_name or f"{folder.resolve().name}-{identity[:6]}"
    if trainer.pop_callback(TensorBoardCallback) is not None:
        board = TensorBoardClipLogger(folder / LOGS)
        trainer.add_callback(board)
        clip_loggers.append(board)
    if "wandb" in trainer.args.report_to:
        clip_loggers.append(WandbClipLogger())
        wandb = importlib.import_module("wandb")
        if PartialState().is_main_process and wandb.run is None:
            (folder / LOGS).mkdir(exist_ok=True)
            named = {"project": trainer.args.project, "name": trainer.args.run_name, "id": identity}
            wandb.init(**named, dir=folder / LOGS, resume="allow")
    if trainer.pop_callback(TrackioCallback) is not None:
        trackio = TrackioClipLogger()
        trainer.add_callback(trackio)
        clip_loggers.append(trackio)
    return clip_loggers


def close_trackers(clip_loggers: Sequence[ClipLogger]) -> None:
    """Closes the trackers, so that the next run of this process gets its own."""
    if not PartialState().is_main_process:
        return
    for clip_logger in clip_loggers:
        if isinstance(clip_logger, TensorBoardClipLogger) and clip_logger.tb_writer is not None:
            clip_logger.tb_writer.close()
            clip_logger.tb_writer = None
        elif isinstance(clip_logger, WandbClipLogger):
            importlib.import_module("wandb").finish()
        elif isinstance(clip_logger, TrackioClipLogger):
            with redirect_stdout(sys.stderr):
                importlib.import_module("trackio").finish()


def attach_samples(
    trainer: Trainer,
    options: SampleOptions,
    folder: Path,
    clip_loggers: Sequence[ClipLogger],
    remi: Remi,
    prompts: Mapping[str, Sequence[int]],
    at_start: bool,
    progress: Progress,
) -> SampleCallback | None:
    """Adds a `SampleCallback` to the trainer of a policy, as the options say.

    Args:
        folder: of the run; MIDI files go to `folder`/samples.
        prompts: name -> token ids; those that fill the context are skipped.
        at_start: sample before the first step too.
        progress: takes a line if there are no samples though a tracker would show them.

    Raises:
        MgenError: `sample_steps` is set, and there is no prompt or no process that holds the whole policy.
    """
    every = options.sample_steps
    if every == 0 or (every is None and not clip_loggers):
        return None
    context = context_length(trainer.model.config)
    fitting = {name: ids for name, ids in prompts.items() if len(ids) < context}
    split = any(getattr(trainer, name, False) for name in ("is_fsdp_enabled", "is_deepspeed_enabled"))
    if split or not fitting:
        obstacle = "no process holds the whole policy" if fitting else "valid has no music to draw prompts from"
        if every is not None:
            raise MgenError(f"sample_steps ({every}): {obstacle}; use --sample_steps 0")
        progress(f"no samples: {obstacle}")
        return None
    room = context - max(len(ids) for ids in fitting.values())
    new_tokens = min(options.sample_tokens, room)
    callback = SampleCallback(fitting, remi, folder / "samples", clip_loggers, every, new_tokens, at_start)
    trainer.add_callback(callback)
    return callback
