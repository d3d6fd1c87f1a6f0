"""The folder of a training run: its options, inputs, metrics and model.

`RUN/config.yaml` (options as used), `RUN/run.json` (versions, seed, data, machine, results), `RUN/metrics.jsonl`,
`RUN/logs/` and `RUN/samples/` (see `mgen.runs.tracking`), `RUN/checkpoints/`, `RUN/model/`. The same command again
resumes a run from its last complete checkpoint, and does nothing if the run is finished.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from torch import Tensor
from transformers import PreTrainedModel, PrinterCallback, ProgressCallback, Trainer, TrainerState
from transformers.trainer import TRAINER_STATE_NAME

from mgen.encoding.remi import Remi
from mgen.errors import MgenError
from mgen.models.pretrained import quiet
from mgen.progress import Progress, silent
from mgen.runs.checkpoints import last_complete, replace_folder
from mgen.runs.folder import (
    CHECKPOINTS,
    MODEL,
    REMEDY,
    RUN_FILE,
    Facts,
    is_finished,
    open_folder,
    timestamp,
    write_facts,
)
from mgen.runs.metrics import MetricsCallback, write_metrics
from mgen.runs.sample_callback import ClipLogger
from mgen.runs.tracking import attach_trackers, close_trackers
from mgen.speed import Speed


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
    facts: Facts
    lock: IO[str] | None = None  # of the main process; released by `finish`, or with the run or its process
    clip_loggers: list[ClipLogger] = field(default_factory=list)  # filled by `follow`
    opened: float = field(default_factory=time.monotonic)  # seconds

    @classmethod
    def open(cls, folder: Path | str, command: str, config: dict[str, Any], **facts: Any) -> Run:
        """Creates the folder, or opens the run that is there.

        Args:
            command: `pretrain`, `critic`, ...
            config: options as used; stored in config.yaml.
            facts: what else identifies the run (seed, hash of the data, ...).

        Raises:
            MgenError: The folder holds something else, another command's run, a run of an older mgen, or one with other
                options or inputs; another process trains in it; or it cannot be written.
        """
        folder, lock = Path(folder), None
        answer: list[Any] = ["", {}]
        if PartialState().is_main_process:
            try:
                answer[1], lock = open_folder(folder, command, config, facts)
            except MgenError as error:
                answer[0] = str(error)
        problem, known = broadcast_object_list(answer)
        if problem:
            raise MgenError(problem)
        return cls(folder, known, lock)

    @property
    def finished(self) -> bool:
        return is_finished(self.folder, self.facts)

    def fact(self, name: str) -> Any:
        """A value of run.json.

        Raises:
            MgenError: There is none.
        """
        if name not in self.facts:
            raise MgenError(f"{self.folder}: its {RUN_FILE} has no '{name}'; {REMEDY}")
        return self.facts[name]

    @property
    def model_folder(self) -> Path:
        return self.folder / MODEL

    @property
    def checkpoints(self) -> Path:
        return self.folder / CHECKPOINTS

    def last_checkpoint(self) -> str | None:
        """The checkpoint to resume from, the same one on every process; metrics.jsonl gets what it had logged."""
        state = PartialState()
        if state.is_main_process:
            last = last_complete(self.checkpoints)  # removes half-written ones
            saved = TrainerState.load_from_json(str(last / TRAINER_STATE_NAME)).log_history if last else []
            write_metrics(self.folder, saved)
        state.wait_for_everyone()
        last = last_complete(self.checkpoints)
        return str(last) if last else None

    def record_speed(self, speed: Speed, progress: Progress) -> None:
        """Says how the networks of the run are computed, in a line and in run.json."""
        progress(speed.reason)
        self.facts["machine"] = {**self.facts.get("machine", {}), "speed": speed.reason.removeprefix("speed: ")}
        if PartialState().is_main_process:
            write_facts(self.folder, self.facts)

    def follow(self, trainer: Trainer, progress: Progress = silent) -> None:
        """Writes what the trainer logs to metrics.jsonl and to its trackers, and reports its steps."""
        for printer in (PrinterCallback, ProgressCallback):
            trainer.pop_callback(printer)
        trainer.add_callback(MetricsCallback(self.folder, progress))
        self.clip_loggers = attach_trackers(trainer, self.folder, self.facts["began"])

    def save_model(
        self, model: PreTrainedModel, remi: Remi | None = None, weights: Mapping[str, Tensor] | None = None
    ) -> None:
        """Writes RUN/model in the layout of the Hub: to a temporary folder, flushed, then renamed.

        Args:
            remi: the vocabulary, for a model of tokens.
            weights: of a model whose parts are on several processes.
        """
        if not PartialState().is_main_process:
            return
        with replace_folder(self.model_folder) as part, quiet():
            model.save_pretrained(part, state_dict=weights, safe_serialization=True)
            if remi is not None:
                remi.save_pretrained(part)

    def finish(self, **results: Any) -> None:
        """Marks the run as finished and adds results to run.json."""
        close_trackers(self.clip_loggers)
        now = time.time()
        seconds = max(now - self.facts["began"], time.monotonic() - self.opened)  # the clock may have been set back
        self.facts |= {"finished": timestamp(now), "seconds": round(seconds, 1), **results}
        if PartialState().is_main_process:
            write_facts(self.folder, self.facts)
        if self.lock is not None:
            Path(self.lock.name).unlink(missing_ok=True)
            self.lock.close()

    def result(
        self, metrics: Mapping[str, float], already_finished: bool = False, notes: Sequence[str] = ()
    ) -> TrainingResult:
        """What a library call returns for this finished run."""
        done = int(self.fact("steps")), float(self.fact("seconds")), metrics, already_finished
        return TrainingResult(self.folder, self.model_folder, *done, tuple(notes), self.facts)


def on_main_process(progress: Progress | None) -> Progress:
    """`progress` on the main process, and a function that does nothing elsewhere or without `progress`."""
    return progress if progress is not None and PartialState().is_main_process else silent
