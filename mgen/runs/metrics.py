"""RUN/metrics.jsonl: one JSON object per line, with the step it belongs to."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from mgen.errors import MgenError
from mgen.files import write_atomically
from mgen.progress import Progress, count, silent, takes_counts
from mgen.runs.folder import RUN_FILE

METRICS_FILE = "metrics.jsonl"

SHOWN_METRICS = {
    "reward": "reward",
    "loss": "loss",
    "eval_loss": "valid loss",
    "eval_balanced_accuracy": "balanced accuracy",
    "eval_average_precision": "average precision",
    "rewards/style/mean": "style",
    "rewards/realism/mean": "realism",
    "policy/kl": "KL",
}
"""Logged metric -> its name in a line of progress."""


class MetricsCallback(TrainerCallback):  # type: ignore[misc]
    """Appends every log entry to metrics.jsonl; reports each step with the main metrics.

    Args:
        folder: of the run.
        progress: takes the counts; a function of lines gets one at every tenth of the steps.
    """

    def __init__(self, folder: Path, progress: Progress = silent) -> None:
        self.folder, self.progress = folder, progress
        self.last_tenth = -1
        self.shown: dict[str, str] = {}  # the main metrics, as they were last logged

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._count(state, state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._count(state, state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._count(state, state.max_steps)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        if not (state.is_world_process_zero and logs) or "train_runtime" in logs:  # a summary of this process alone
            return
        if not (self.folder / RUN_FILE).is_file():
            raise MgenError(f"{self.folder}: was deleted during training; give the command again")
        with (self.folder / METRICS_FILE).open("a") as file:
            file.write(_line({**logs, "step": state.global_step}))
        tenth = 10 * state.global_step // max(state.max_steps, 1)
        known = {name: logs.get(key) for key, name in SHOWN_METRICS.items()}
        numbers = {name: f"{name} {value:.3f}" for name, value in known.items() if isinstance(value, int | float)}
        self.shown |= numbers
        if numbers and tenth > self.last_tenth and not takes_counts(self.progress):
            self.last_tenth = tenth
            self.progress(f"  step {state.global_step} of {state.max_steps}: {', '.join(numbers.values())}")

    def _count(self, state: Any, done: int) -> None:
        count(self.progress, "steps", done, state.max_steps, ", ".join(self.shown.values()))


def write_metrics(folder: Path, logged: Iterable[Mapping[str, Any]]) -> None:
    """Replaces a run's metrics.jsonl by what a trainer has logged, such as the log that a checkpoint holds."""
    write_atomically(folder / METRICS_FILE, "".join(map(_line, logged)))


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl, without one at the end that is still being written.

    Raises:
        MgenError: Another line is no JSON object with a step.
    """
    path = folder / METRICS_FILE
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True) if path.is_file() else []
    found = []
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if isinstance(entry, dict) and isinstance(entry.get("step"), int):
            found.append(entry)
        elif number < len(lines) or line.endswith("\n"):
            raise MgenError(f"{path}, line {number}: expected a JSON object with a step; remove the line")
    return found


def _line(logged: Mapping[str, Any]) -> str:
    return json.dumps({"step": logged["step"], **dict(sorted(logged.items()))}) + "\n"  # sorted as in a checkpoint
