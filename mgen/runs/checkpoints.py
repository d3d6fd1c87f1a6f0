"""Checkpoints that are complete or do not count.

`transformers` writes a checkpoint in place, file by file. From a half-written one it fails to resume, or resumes with a
fresh optimizer and no warning. Here a manifest of hashes is written last: a checkpoint without it was interrupted and
is removed, and one whose files differ from it is an error.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from mgen.errors import MgenError
from mgen.runs.divergence import divergence, weight_norm

MANIFEST = "manifest.json"


def write_manifest(folder: Path) -> None:
    """Flushes every file of `folder` to the disk, then writes their hashes, last and in one rename."""
    hashes = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != MANIFEST:
            with path.open("rb") as file:
                hashes[str(path.relative_to(folder))] = hashlib.file_digest(file, "sha256").hexdigest()
                os.fsync(file.fileno())
    part = folder / f"{MANIFEST}.part"
    with part.open("w") as file:
        json.dump(hashes, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    part.replace(folder / MANIFEST)


def check_manifest(folder: Path) -> None:
    """Raises `MgenError` unless every file of a complete checkpoint is as it was written."""
    hashes: dict[str, str] = json.loads((folder / MANIFEST).read_text())
    for name, expected in hashes.items():
        path = folder / name
        if not path.is_file():
            raise MgenError(f"{path}: missing, but {MANIFEST} lists it; remove {folder} to resume from the one before")
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != expected:
                problem = f"{path}: not what was written (its hash differs)"
                raise MgenError(f"{problem}; remove {folder} to resume from the one before")


def replace_folder(part: Path, folder: Path) -> None:
    """Renames the finished `part` to `folder`, with a manifest, in place of what an interrupted run left there."""
    write_manifest(part)
    if folder.exists():
        shutil.rmtree(folder)
    part.rename(folder)


def checkpoint_step(folder: Path) -> int:
    """Optimizer steps before the checkpoint `checkpoint-STEP`."""
    return int(folder.name.rsplit("-", 1)[1])


def last_complete(folder: Path) -> Path | None:
    """The newest complete checkpoint below `folder`, verified, or None; removes half-written ones.

    Raises:
        MgenError: A file of that checkpoint is missing or was changed.
    """
    complete = []
    for path in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        if (path / MANIFEST).is_file():
            complete.append(path)
        else:
            shutil.rmtree(path)
    if not complete:
        return None
    newest = max(complete, key=checkpoint_step)
    check_manifest(newest)
    return newest


def check_save_total_limit(args: TrainingArguments) -> None:
    """Raises ValueError if fewer than two checkpoints would be kept."""
    if args.save_total_limit is not None and args.save_total_limit < 2:
        raise ValueError(
            f"save_total_limit ({args.save_total_limit}) must be at least 2, so that one is always complete"
        )


class VerifiedCheckpoints(Trainer):  # type: ignore[misc]
    """A `Trainer` that ends each checkpoint with a manifest and stops where its loss is not finite.

    As a base class it comes before the trainer that it extends.
    """

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            folder = Path(self.args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
            self.save_extra_files(folder)
            write_manifest(folder)
        self.accelerator.wait_for_everyone()

    def save_extra_files(self, folder: Path) -> None:
        """Writes what a subclass keeps in a checkpoint besides the files of `Trainer`."""

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
        checkpoints = Path(self.args.output_dir)
        last = (last_complete(checkpoints) if checkpoints.is_dir() else None) or "none yet"
        step = self.state.global_step + 1 if step is None else step
        return MgenError(f"step {step}: {problem}; last good checkpoint: {last}; {remedy}")


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
