"""Checkpoints that are whole or not there.

`transformers` writes a checkpoint in place, file by file, and when it takes up a half-written one it stops, or goes on
without a word with a fresh optimizer. Here a manifest of hashes is written last: a checkpoint without it was cut off
and does not count, and one whose files differ from it is an error.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from transformers import Trainer
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from mgen.errors import MgenError

MANIFEST = "manifest.json"


def write_manifest(folder: Path) -> None:
    """Flush every file of `folder` to the disk, then write their hashes, last and in one rename."""
    hashes = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != MANIFEST:
            with path.open("rb") as file:
                hashes[str(path.relative_to(folder))] = hashlib.file_digest(file, "sha256").hexdigest()
                os.fsync(file.fileno())
    aside = folder / f"{MANIFEST}.part"
    with aside.open("w") as file:
        json.dump(hashes, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(folder / MANIFEST)


def check_manifest(folder: Path) -> None:
    """Raise `MgenError` unless every file of a whole checkpoint is there as it was written."""
    hashes: dict[str, str] = json.loads((folder / MANIFEST).read_text())
    for name, expected in hashes.items():
        path = folder / name
        if not path.is_file():
            raise MgenError(
                f"{path}: missing, though {MANIFEST} lists it; remove {folder} to go on from the one before"
            )
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != expected:
                raise MgenError(
                    f"{path}: not what was written (its hash differs); remove {folder} to go on from the one before"
                )


def last_complete(folder: Path) -> Path | None:
    """The newest whole checkpoint below `folder`, checked; half-written ones are removed. None if there is none.

    Raises:
        MgenError: The newest whole checkpoint has lost or changed a file since.
    """
    whole = []
    for path in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        if (path / MANIFEST).is_file():
            whole.append(path)
        else:
            shutil.rmtree(path)
    if not whole:
        return None
    newest = max(whole, key=lambda path: int(path.name.rsplit("-", 1)[1]))
    check_manifest(newest)
    return newest


class VerifiedCheckpoints(Trainer):  # type: ignore[misc]
    """A `Trainer` that closes each checkpoint with a manifest. List it before the trainer that it extends."""

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            folder = Path(self.args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
            self.save_beside(folder)
            write_manifest(folder)
        self.accelerator.wait_for_everyone()

    def save_beside(self, folder: Path) -> None:
        """What a subclass keeps in a checkpoint beside the `Trainer`'s own files."""
