"""A run's folder: what was asked, with what, and what came of it.

`RUN/config.yaml` as used, `RUN/run.json` (versions, seed, data, machine), `RUN/metrics.jsonl`, `RUN/logs/` and
`RUN/samples/` (see `mgen.runs.tracking`), `RUN/checkpoints/`, `RUN/model/`. The same command again takes a run up where
its last whole checkpoint is; a finished one says so.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import time
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
from mgen.runs.checkpoints import last_complete, write_manifest
from mgen.runs.sample_callback import ClipLogger
from mgen.runs.tracking import close_trackers, track

PACKAGES = ("torch", "transformers", "trl", "accelerate", "miditok", "symusic", "numpy", "scikit-learn")
RUN_FILE = "run.json"

# What a run may change when it is taken up again: nothing here alters a weight.
_FREE = {"out", "json", "debug", "logging_steps", "report_to", "disable_tqdm", "project", "run_name"}
_FREE |= {"sample_steps", "sample_prompts", "sample_tokens"}


@dataclass
class Run:
    """An open run folder. Build with `Run.open`."""

    folder: Path
    facts: dict[str, Any]
    clip_loggers: list[ClipLogger] = field(default_factory=list)  # where clips are shown, once a trainer is followed

    @classmethod
    def open(cls, folder: Path | str, command: str, config: dict[str, Any], **facts: Any) -> Run:
        """Make the folder, or take up what is there.

        Args:
            command: `pretrain`, `critic`, ...
            config: options as used; stored in config.yaml.
            facts: what else identifies the run (seed, hash of the data, ...).

        Raises:
            MgenError: The folder holds something else, another command's run, or the same command's with other options.
        """
        folder = Path(folder)
        state = PartialState()
        path = folder / RUN_FILE
        there, empty = path.is_file(), not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
        state.wait_for_everyone()  # all processes have looked before the first one writes
        if there:
            try:
                run = cls(folder, json.loads(path.read_text()))
                before = yaml.safe_load((folder / "config.yaml").read_text())
            except (json.JSONDecodeError, yaml.YAMLError, OSError) as error:
                raise MgenError(
                    f"{folder}: its {RUN_FILE} or config.yaml cannot be read ({error}); choose another --out"
                ) from error
            run._check_same(command, config, before, facts)
        else:
            if not empty:
                raise MgenError(f"{folder}: not empty and not a run of mgen; choose another --out")
            run = cls(folder, _facts(command, facts))
            if state.is_main_process:
                (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
                (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=True))
                run._write()
        state.wait_for_everyone()
        return run

    def _check_same(self, command: str, config: dict[str, Any], before: Any, facts: dict[str, Any]) -> None:
        if self.facts.get("command") != command:
            raise MgenError(
                f"{self.folder}: holds a run of mgen {self.facts.get('command')}, not {command}; choose another --out"
            )
        for key in sorted((set(config) | set(before)) - _FREE):
            if config.get(key) != before.get(key):
                raise MgenError(
                    f"{self.folder}: was begun with {key}={before.get(key)}, now {key}={config.get(key)}; "
                    "choose another --out, or the options it was begun with"
                )
        for key, value in facts.items():
            if self.facts.get(key) != value:
                raise MgenError(
                    f"{self.folder}: was begun with {key} {self.facts.get(key)}, now {value}; choose another --out"
                )

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
        """Where to go on from; the same answer on every process."""
        state = PartialState()
        if state.is_main_process:
            last_complete(self.checkpoints)  # also removes what was cut off
        state.wait_for_everyone()
        found = last_complete(self.checkpoints)
        if found is not None:
            self._forget_after(int(found.name.rsplit("-", 1)[1]))
        return str(found) if found else None

    def _forget_after(self, step: int) -> None:
        path = self.folder / "metrics.jsonl"
        if PartialState().is_main_process and path.is_file():
            lines = [line for line in path.read_text().splitlines() if json.loads(line).get("step", 0) <= step]
            path.write_text("".join(f"{line}\n" for line in lines))

    def follow(self, trainer: Trainer) -> None:
        """Write what the trainer logs to metrics.jsonl and to its trackers, and a line of it to the terminal at every
        tenth of the way.
        """
        for printer in (PrinterCallback, ProgressCallback):
            trainer.remove_callback(printer)
        trainer.add_callback(_Metrics(self.folder / "metrics.jsonl"))
        self.clip_loggers = track(trainer, self.folder, self.facts["began"])

    def save_model(self, model: PreTrainedModel, remi: Remi) -> None:
        """Write RUN/model in the Hub's layout: aside, flushed, then renamed into place."""
        if not PartialState().is_main_process:
            return
        aside = self.folder / "model.part"
        model.save_pretrained(aside, safe_serialization=True)
        remi.save_pretrained(aside)
        write_manifest(aside)
        if self.model_folder.exists():  # of a run that was cut off between this and its end
            shutil.rmtree(self.model_folder)
        aside.rename(self.model_folder)

    def finish(self, **results: Any) -> None:
        """Note the end, with results for the reader of run.json."""
        close_trackers(self.clip_loggers)
        now = time.time()
        self.facts |= {"finished": _stamp(now), "seconds": round(now - self.facts["began"], 1), **results}
        if PartialState().is_main_process:
            self._write()

    def _write(self) -> None:
        aside = self.folder / f"{RUN_FILE}.part"
        aside.write_text(json.dumps(self.facts, indent=1))
        aside.replace(self.folder / RUN_FILE)


TOLD = {
    "loss": "loss",
    "eval_loss": "valid loss",
    "rewards/style/mean": "style",
    "rewards/realism/mean": "realism",
    "policy/kl": "KL",
}
"""What the terminal shows of a log line, by its name there."""


class _Metrics(TrainerCallback):  # type: ignore[misc]
    def __init__(self, path: Path) -> None:
        self.path = path
        self.told = -1  # tenths of the way

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        if not (state.is_world_process_zero and logs):
            return
        with self.path.open("a") as file:
            file.write(json.dumps({"step": state.global_step, **logs}) + "\n")
        tenth = 10 * state.global_step // max(state.max_steps, 1)
        shown = [f"{name} {logs[key]:.3f}" for key, name in TOLD.items() if isinstance(logs.get(key), int | float)]
        if shown and tenth > self.told:
            self.told = tenth
            print(f"  step {state.global_step} of {state.max_steps}: {', '.join(shown)}", file=sys.stderr, flush=True)


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl."""
    path = folder / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def _facts(command: str, facts: dict[str, Any]) -> dict[str, Any]:
    now = time.time()
    return {
        "command": command,
        "began": now,
        "started": _stamp(now),
        "versions": {
            "mgen": mgen.__version__,
            "python": platform.python_version(),
            **{name: version(name) for name in PACKAGES},
        },
        "machine": {
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        },
        **facts,
    }


def _stamp(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))
