"""The folder of a training run: its options, inputs, metrics and model.

`RUN/config.yaml` (options as used), `RUN/run.json` (versions, seed, data, machine, results), `RUN/metrics.jsonl`,
`RUN/logs/` and `RUN/samples/` (see `mgen.runs.tracking`), `RUN/checkpoints/`, `RUN/model/`. The same command again
resumes a run from its last complete checkpoint, and does nothing if the run is finished.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate import PartialState
from transformers import PreTrainedModel, PrinterCallback, ProgressCallback, Trainer, TrainerCallback

import mgen
from mgen.encoding.remi import Remi
from mgen.errors import MgenError
from mgen.files import write_atomically
from mgen.renames import check_run_folder
from mgen.runs.checkpoints import checkpoint_step, last_complete, replace_folder
from mgen.runs.sample_callback import ClipLogger
from mgen.runs.tracking import attach_trackers, close_trackers

PACKAGES = ("torch", "transformers", "trl", "accelerate", "miditok", "symusic", "numpy", "scikit-learn")
RUN_FILE = "run.json"
METRICS_FILE = "metrics.jsonl"

Progress = Callable[[str], None]  # takes a line about the progress of a run

# Options that may differ when a run is resumed: none of them changes a weight.
_FREE = {"out", "json", "debug", "logging_steps", "report_to", "disable_tqdm", "project", "run_name"}
_FREE |= {"sample_steps", "sample_prompts", "sample_tokens", "allow_equal_rewards"}


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """A finished training run."""

    folder: Path  # of the run
    model: Path  # folder of its model
    steps: int  # optimizer steps
    seconds: float  # from its start to its end, over all resumptions
    metrics: Mapping[str, float]  # the last ones, by name
    already_finished: bool  # whether it was finished before this call, which then trained nothing
    notes: tuple[str, ...]  # what a reader of the metrics should know, such as judges that were left out
    facts: Mapping[str, Any]  # the content of run.json


@dataclass
class Run:
    """An open run folder. Build with `Run.open`."""

    folder: Path
    facts: dict[str, Any]
    clip_loggers: list[ClipLogger] = field(default_factory=list)  # filled by `follow`

    @classmethod
    def open(cls, folder: Path | str, command: str, config: dict[str, Any], **facts: Any) -> Run:
        """Creates the folder, or opens the run that is there.

        Args:
            command: `pretrain`, `critic`, ...
            config: options as used; stored in config.yaml.
            facts: what else identifies the run (seed, hash of the data, ...).

        Raises:
            MgenError: The folder holds something else, another command's run, a run of an older mgen, or one with other
                options.
        """
        folder = Path(folder)
        state = PartialState()
        path = folder / RUN_FILE
        exists, empty = path.is_file(), not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
        state.wait_for_everyone()  # all processes have looked before the first one writes
        if exists:
            try:
                run = cls(folder, json.loads(path.read_text()))
                before = yaml.safe_load((folder / "config.yaml").read_text())
            except (json.JSONDecodeError, yaml.YAMLError, OSError) as error:
                problem = f"{folder}: its {RUN_FILE} or config.yaml cannot be read ({error})"
                raise MgenError(f"{problem}; choose another --out") from error
            run._check_same(command, config, before, facts)
        else:
            if not empty:
                raise MgenError(f"{folder}: not empty and not a run of mgen; choose another --out")
            run = cls(folder, _first_facts(command, facts))
            if state.is_main_process:
                (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
                (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=True))
                run._write_facts()
        state.wait_for_everyone()
        return run

    def _check_same(self, command: str, config: dict[str, Any], before: Any, facts: dict[str, Any]) -> None:
        def refuse(problem: str, more: str = "") -> None:
            raise MgenError(f"{self.folder}: {problem}; choose another --out{more}")

        if self.facts.get("command") != command:
            refuse(f"holds a run of mgen {self.facts.get('command')}, not {command}")
        check_run_folder(self.folder, command, before)
        for key in sorted((set(config) | set(before)) - _FREE):
            was, now = before.get(key), config.get(key)
            if was != now:
                refuse(f"started with {key}={was}, now {key}={now}", ", or the options that it was started with")
        for key, value in facts.items():
            if self.facts.get(key) != value:
                refuse(f"started with {key} {self.facts.get(key)}, now {value}")

    @property
    def finished(self) -> bool:
        return bool(self.facts.get("finished"))

    @property
    def model_folder(self) -> Path:
        return self.folder / "model"

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    def last_checkpoint(self) -> str | None:
        """The checkpoint to resume from, the same one on every process; drops metrics that were logged after it."""
        state = PartialState()
        if state.is_main_process:
            last_complete(self.checkpoints)  # removes half-written ones
        state.wait_for_everyone()
        last = last_complete(self.checkpoints)
        if last is None:
            return None
        path, step = self.folder / METRICS_FILE, checkpoint_step(last)
        if state.is_main_process and path.is_file():
            lines = [line for line in path.read_text().splitlines() if json.loads(line).get("step", 0) <= step]
            path.write_text("".join(f"{line}\n" for line in lines))
        return str(last)

    def follow(self, trainer: Trainer, progress: Progress | None = None) -> None:
        """Writes what the trainer logs to metrics.jsonl and to its trackers.

        Args:
            progress: takes a line with the main metrics at every tenth of the steps.
        """
        for printer in (PrinterCallback, ProgressCallback):
            trainer.remove_callback(printer)
        trainer.add_callback(MetricsCallback(self.folder / METRICS_FILE, progress))
        self.clip_loggers = attach_trackers(trainer, self.folder, self.facts["began"])

    def save_model(self, model: PreTrainedModel, remi: Remi) -> None:
        """Writes RUN/model in the layout of the Hub: to a temporary folder, flushed, then renamed."""
        if not PartialState().is_main_process:
            return
        part = self.folder / "model.part"
        model.save_pretrained(part, safe_serialization=True)
        remi.save_pretrained(part)
        replace_folder(part, self.model_folder)

    def finish(self, **results: Any) -> None:
        """Marks the run as finished and adds results to run.json."""
        close_trackers(self.clip_loggers)
        now = time.time()
        self.facts |= {"finished": _timestamp(now), "seconds": round(now - self.facts["began"], 1), **results}
        if PartialState().is_main_process:
            self._write_facts()

    def result(
        self, metrics: Mapping[str, float], already_finished: bool = False, notes: Sequence[str] = ()
    ) -> TrainingResult:
        """What a library call returns for this finished run."""
        done = int(self.facts["steps"]), float(self.facts["seconds"]), metrics, already_finished
        return TrainingResult(self.folder, self.model_folder, *done, tuple(notes), self.facts)

    def _write_facts(self) -> None:
        write_atomically(self.folder / RUN_FILE, json.dumps(self.facts, indent=1))


SHOWN_METRICS = {
    "loss": "loss",
    "eval_loss": "valid loss",
    "rewards/style/mean": "style",
    "rewards/realism/mean": "realism",
    "policy/kl": "KL",
}
"""Logged metric -> its name in a line of progress."""


class MetricsCallback(TrainerCallback):  # type: ignore[misc]
    """Appends every log entry to metrics.jsonl; reports the main metrics at every tenth of the steps.

    Args:
        path: of metrics.jsonl.
        progress: takes the report; None for no report.
    """

    def __init__(self, path: Path, progress: Progress | None = None) -> None:
        self.path, self.progress = path, progress
        self.last_tenth = -1

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        if not (state.is_world_process_zero and logs):
            return
        with self.path.open("a") as file:
            file.write(json.dumps({"step": state.global_step, **logs}) + "\n")
        tenth = 10 * state.global_step // max(state.max_steps, 1)
        known = {name: logs.get(key) for key, name in SHOWN_METRICS.items()}
        numbers = [f"{name} {value:.3f}" for name, value in known.items() if isinstance(value, int | float)]
        if self.progress is not None and numbers and tenth > self.last_tenth:
            self.last_tenth = tenth
            self.progress(f"  step {state.global_step} of {state.max_steps}: {', '.join(numbers)}")


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl."""
    path = folder / METRICS_FILE
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def on_main_process(progress: Progress | None) -> Progress:
    """`progress` on the main process, and a function that does nothing elsewhere or without `progress`."""
    return progress if progress is not None and PartialState().is_main_process else lambda line: None


def _first_facts(command: str, facts: dict[str, Any]) -> dict[str, Any]:
    now = time.time()
    versions = {"mgen": mgen.__version__, "python": platform.python_version()}
    versions |= {name: version(name) for name in PACKAGES}
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    machine = {"processor": platform.machine(), "cores": os.cpu_count(), "gpu": gpu}
    started = {"command": command, "began": now, "started": _timestamp(now)}
    return {**started, "versions": versions, "machine": machine, **facts}


def _timestamp(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))
