"""Checkpoints that are complete or do not count, and training that resumes from any of them as if it had not stopped.

`transformers` writes a checkpoint in place, file by file. From a half-written one it fails to resume, or resumes with a
fresh optimizer and no warning. Here a manifest of hashes is written last: a checkpoint without one that names all its
parts was interrupted and is removed, and one whose files differ from it is an error. Checkpoints are ordered by their
step: no clock is asked.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import Trainer, TrainerCallback, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from mgen.errors import MgenError
from mgen.models.pretrained import quiet
from mgen.runs.divergence import divergence, weight_norm
from mgen.stored import read_json

MANIFEST = "manifest.json"

_NAME = re.compile(rf"{PREFIX_CHECKPOINT_DIR}-([0-9]+)")
_PARTS = (TRAINER_STATE_NAME, "model", "optim")  # in the names of the files of every checkpoint, however it is trained


def file_hashes(folder: Path) -> dict[str, str]:
    """Path below `folder` -> hash of each file but the manifest."""
    hashes = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != MANIFEST:
            with path.open("rb") as file:
                hashes[str(path.relative_to(folder))] = hashlib.file_digest(file, "sha256").hexdigest()
    return hashes


def write_manifest(folder: Path) -> None:
    """Flushes every file of `folder` to the disk, then writes their hashes, last and in one rename."""
    hashes = file_hashes(folder)
    part = folder / f"{MANIFEST}.part"
    part.write_text(json.dumps(hashes, indent=1))
    for path in (*(folder / name for name in hashes), part):
        with path.open("rb") as file:
            os.fsync(file.fileno())
    part.replace(folder / MANIFEST)


def read_manifest(folder: Path) -> dict[str, str]:
    """Path below `folder` -> hash, as `write_manifest` wrote them.

    Raises:
        MgenError: There is no manifest, or it lists no hashes.
    """
    path = folder / MANIFEST
    hashes = read_json(path, f"remove {folder}")
    if not (hashes and all(isinstance(value, str) for value in hashes.values())):
        raise MgenError(f"{path}: expected the hashes of files, found {json.dumps(hashes)[:40]}")
    return hashes


def check_manifest(folder: Path) -> None:
    """Raises `MgenError` unless every file that the manifest of `folder` lists is as it was written."""
    for name, expected in read_manifest(folder).items():
        path = folder / name
        if not path.is_file():
            raise MgenError(f"{path}: missing, but {MANIFEST} lists it")
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != expected:
                raise MgenError(f"{path}: not what was written (its hash differs)")


@contextmanager
def replace_folder(folder: Path) -> Iterator[Path]:
    """A new folder to write to; on success it gets a manifest and is renamed to `folder`, in place of what is there.

    Raises:
        MgenError: The folder that `folder` is in does not exist.
    """
    part = folder.with_name(f"{folder.name}.part")
    _remove(part)  # of an interrupted run
    try:
        part.mkdir()
    except FileNotFoundError as error:
        raise MgenError(f"{folder.parent}: was deleted during training; give the command again") from error
    yield part
    write_manifest(part)
    _remove(folder)
    part.rename(folder)


def _remove(path: Path) -> None:
    """Removes a file or a folder, its manifest first: what a kill leaves of it does not count."""
    if path.is_dir() and not path.is_symlink():
        (path / MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def checkpoint_folders(folder: Path) -> dict[int, Path]:
    """Step -> folder of each checkpoint below `folder`, complete or not, in the order of steps.

    Only `checkpoint-STEP` is one; other names and files are nobody's business.
    """
    found = {int(name[1]): path for path in folder.glob("*") if (name := _NAME.fullmatch(path.name)) and path.is_dir()}
    return dict(sorted(found.items()))


def is_complete(checkpoint: Path) -> bool:
    """Whether a checkpoint was written to its end: its manifest lists weights, optimizer and state of the trainer."""
    try:
        names = list(read_manifest(checkpoint))
    except MgenError:
        return False
    return all(any(part in name for name in names) for part in _PARTS)


def last_complete(folder: Path) -> Path | None:
    """The complete checkpoint of the highest step below `folder`, verified, or None; removes half-written ones.

    Raises:
        MgenError: A file of that checkpoint is missing or was changed.
    """
    last = None
    for path in checkpoint_folders(folder).values():
        if is_complete(path):
            last = path
        else:
            _remove(path)
    if last is not None:
        _check(last, f"remove {last} to resume from the one before")
    return last


def _check(checkpoint: Path, remedy: str) -> None:
    try:
        check_manifest(checkpoint)
    except MgenError as error:
        raise MgenError(f"{error}; {remedy}") from error


def rotate(folder: Path, keep: int, spare: Collection[int | None]) -> None:
    """Removes the checkpoints of the lowest steps until `keep` are left, but none of a step in `spare`."""
    found = checkpoint_folders(folder)
    old = [path for step, path in found.items() if step not in spare]
    for path in old[: max(len(found) - keep, 0)]:
        _remove(path)


def check_saving(args: TrainingArguments) -> None:
    """Raises ValueError if a run could not resume from its checkpoints, or keeps fewer than two."""
    if args.save_total_limit is not None and args.save_total_limit < 2:
        raise ValueError(
            f"save_total_limit ({args.save_total_limit}) must be at least 2, so that one is always complete"
        )
    if args.save_only_model:
        raise ValueError("save_only_model: a run cannot resume without its optimizer; leave it out")


def stopped(folder: Path, step: int, problem: str, remedy: str) -> MgenError:
    """The error that ends a training: one line with its step and the last good checkpoint below `folder`."""
    last = last_complete(folder) or "none yet"
    return MgenError(f"step {step}: {problem}; last good checkpoint: {last}; {remedy}")


class VerifiedCheckpoints(Trainer):  # type: ignore[misc]
    """A `Trainer` that ends each checkpoint with a manifest, resumes exactly, and stops where its loss is not finite.

    As a base class it comes before the trainer that it extends.
    """

    _ended: bool  # whether the checkpoint that was resumed from is the last of its run

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        try:
            super().__init__(*args, **kwargs)
        except ValueError as error:  # of transformers or TRL, about options that do not fit together
            raise MgenError(" ".join(str(error).split())) from error

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        folder, keep = Path(self.args.output_dir), self.args.save_total_limit
        if not folder.is_dir():
            raise MgenError(f"{folder}: was deleted during training; give the command again")
        self.args.save_total_limit = None  # `Trainer` would remove those of the oldest time, before this one counts
        try:
            with quiet():
                super()._save_checkpoint(model, trial)
        finally:
            self.args.save_total_limit = keep
        checkpoint = folder / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        self.save_extra_files(checkpoint)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            write_manifest(checkpoint)
            if keep:
                rotate(folder, keep, {self.state.global_step, self.state.best_global_step})
        self.accelerator.wait_for_everyone()

    def save_extra_files(self, folder: Path) -> None:
        """Writes what a subclass keeps in a checkpoint besides the files of `Trainer`; called on every process."""

    def _init_training_state(
        self, max_steps: int, steps_per_epoch: int, epochs: int, resume_from_checkpoint: str | None, trial: Any
    ) -> Any:
        begin = super()._init_training_state(max_steps, steps_per_epoch, epochs, resume_from_checkpoint, trial)
        self._ended = False
        if resume_from_checkpoint is None:
            return begin
        saved = TrainerState.load_from_json(str(Path(resume_from_checkpoint) / TRAINER_STATE_NAME))
        stopped = saved.stateful_callbacks["TrainerControl"]["args"]["should_training_stop"]
        early = stopped and saved.global_step < saved.max_steps
        self._ended = early or saved.global_step >= max_steps
        if saved.best_global_step:  # stored with its path, but a run may have moved
            folder = Path(self.args.output_dir)
            best = folder / f"{PREFIX_CHECKPOINT_DIR}-{saved.best_global_step}"
            _check(best, f"its weights were the best so far: remove {folder} to train from the start")
            self.state.best_model_checkpoint = str(best)
        return begin

    def _issue_warnings_after_load(self, loaded: Any) -> None:
        # A checkpoint holds tied weights once: the other name is expected to be missing.
        tied = getattr(self.model, "all_tied_weights_keys", None) or {}
        loaded.missing_keys[:] = [key for key in loaded.missing_keys if key not in tied]
        super()._issue_warnings_after_load(loaded)

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        if self._ended:  # `Trainer` would train one step more
            self.control.should_training_stop = True
        else:
            super()._run_epoch(*args, **kwargs)

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        # A line of the log averages over the steps since the line before: these are lost to a run that resumes.
        self.control.should_log |= self.control.should_save and self.args.logging_strategy != "no"
        super()._maybe_log_save_evaluate(*args, **kwargs)

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Trains as `Trainer.train`.

        Raises:
            MgenError: A step broke the weights; it is found before they are used or saved.
        """
        self.add_callback(_DivergenceCallback(self))
        return super().train(*args, **kwargs)

    def check_loss(self, loss: Tensor, items: Sequence[int]) -> None:
        """Raises `MgenError` if the loss of a batch is infinite or not a number.

        Args:
            loss: a scalar.
            items: numbers of the training items in the batch, for the message.
        """
        if not torch.isfinite(loss):
            kind = "not a number" if math.isnan(loss.item()) else "infinite"
            problem = f"the loss is {kind} (batch: items {items[0]}..{items[-1]})"
            raise self.stopped(problem, f"lower learning_rate ({self.args.learning_rate:g})")

    def stopped(self, problem: str, remedy: str, step: int | None = None) -> MgenError:
        """The error that ends the training: one line with the step and the last good checkpoint.

        Args:
            step: by default the one that is being taken.
        """
        step = self.state.global_step + 1 if step is None else step
        return stopped(Path(self.args.output_dir), step, problem, remedy)


class _DivergenceCallback(TrainerCallback):  # type: ignore[misc]
    """Stops the training after a step that broke the weights, before they are saved or sampled from."""

    def __init__(self, trainer: VerifiedCheckpoints) -> None:
        self.trainer, self.start = trainer, 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.start = weight_norm(self.trainer.model.parameters())

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if problem := divergence(weight_norm(self.trainer.model.parameters()), self.start):
            remedy = f"lower learning_rate ({args.learning_rate:g})"
            raise self.trainer.stopped(f"{problem} after this step", remedy, state.global_step)
