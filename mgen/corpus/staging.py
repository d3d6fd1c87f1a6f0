"""Writes a corpus in a temporary folder next to its target, which stays unchanged until the new corpus is complete.

Knows only the names of a corpus's manifest, of rejected.csv and of its journal, which are kept after a failed run.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mgen.corpus.shards import MANIFEST, REJECTED
from mgen.errors import MgenError

JOURNAL = "read"  # folder of the journal in a corpus, reused by the next run; it may be deleted
LOCK = "lock"


def check_out(out: Path, replace: bool) -> None:
    """Raises unless a corpus may be written to the folder `out`."""
    if not out.name or os.path.ismount(out):
        raise MgenError(f"{out}: a corpus cannot replace a mounted folder; give a folder inside it")
    if not out.exists() or (out.is_dir() and all(path.name == REJECTED for path in out.iterdir())):
        return
    if not (out / MANIFEST).is_file():
        raise MgenError(f"{out}: holds something other than a corpus; choose another --out")
    if not replace:
        raise MgenError(
            f"{out}: holds a corpus already; give --resume to update it, --overwrite to replace it, or "
            "choose another --out"
        )


@contextmanager
def stage_corpus(out: Path, overwrite: bool, resume: bool) -> Iterator[Path]:
    """A temporary folder next to `out` that replaces it on success.

    After a killed, interrupted or failed run the journal stays there for the next run, unless that one overwrites.

    Raises:
        MgenError: `out` is in use, another run is writing it, or writing fails.
    """
    restore_previous(out)
    check_out(out, overwrite or resume)
    aside, old = _sibling(out, "part"), _sibling(out, "old")
    try:
        aside.mkdir(parents=True, exist_ok=True)
        with _lock(aside / LOCK, out):
            shutil.rmtree(old, ignore_errors=True)
            try:
                _clear(aside, overwrite)
                yield aside
            except BaseException:
                _clear(aside, overwrite=False)
                if not (aside / JOURNAL).exists():
                    shutil.rmtree(aside, ignore_errors=True)
                raise
            check_out(out, overwrite or resume)
            (aside / LOCK).unlink(missing_ok=True)
            if out.exists():
                out.rename(old)
            try:
                aside.rename(out)
            finally:
                restore_previous(out)
            shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        why = error.strerror or " ".join(str(error).split())
        raise MgenError(
            f"{out}: cannot be written ({why}); free some space or choose another --out; what was read is kept for the "
            "same command"
        ) from error


def folder_of_rejected(aside: Path, out: Path) -> Path:
    """Where rejected.csv of a refused corpus goes: `out`, which the next run may still use, or if that holds a corpus,
    the temporary folder, which stays.
    """
    if (out / MANIFEST).is_file():
        return aside
    out.mkdir(exist_ok=True)
    return out


def restore_previous(out: Path) -> None:
    """Restores the old corpus after a run that was killed between moving it away and moving the new one in."""
    old = _sibling(out, "old") if out.name else out
    if old.exists() and out.is_dir() and not any(out.iterdir()):
        out.rmdir()
    if old.exists() and not out.exists():
        old.rename(out)


def _sibling(out: Path, suffix: str) -> Path:
    return out.with_name(f".{out.name}.{suffix}")


def _clear(aside: Path, overwrite: bool) -> None:
    """Deletes all but the lock and, unless `overwrite`, rejected.csv and a journal that is not empty."""
    journal = aside / JOURNAL
    keep = {LOCK} if overwrite or not any(journal.rglob("*.parquet")) else {LOCK, JOURNAL, REJECTED}
    for path in aside.iterdir():
        if path.name not in keep:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


@contextmanager
def _lock(path: Path, out: Path) -> Iterator[None]:
    """Holds a lock that is released when the process ends in any way; has no effect on Windows."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise MgenError(f"{out}: another run is writing it; wait for it, or choose another --out") from error
        yield
