"""The folder of a corpus while it is written: beside the one asked for, which stays until the new one is whole.

Knows nothing of what a corpus holds but the name of its manifest and of its journal, which outlives a run that failed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mgen.corpus.shards import MANIFEST
from mgen.errors import MgenError

JOURNAL = "read"
"""Folder of the journal in a corpus: what was read, for the next time. It may be deleted."""

LOCK = "lock"


def check_out(out: Path, replace: bool) -> None:
    """Raise unless a corpus may be written to the folder `out`."""
    if not out.name or os.path.ismount(out):
        raise MgenError(f"{out}: a corpus cannot take the place of a mounted folder; give a folder inside it")
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / MANIFEST).is_file():
        raise MgenError(f"{out}: holds something else than a corpus; choose another --out")
    if not replace:
        raise MgenError(
            f"{out}: holds a corpus already; give --resume to bring it up to date, --overwrite to make it anew, or "
            "choose another --out"
        )


@contextmanager
def stage_corpus(out: Path, overwrite: bool, resume: bool) -> Iterator[Path]:
    """A folder beside `out` that takes its place when all went well.

    What a run that was killed, interrupted or failed has written to the journal stays there, and the next run finds it,
    unless it is told to overwrite.

    Raises:
        MgenError: `out` is in use, another run is writing it, or the disk refuses.
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


def restore_previous(out: Path) -> None:
    """Restore the corpus of a run that was killed after it moved the old one away and before the new one came."""
    old = _sibling(out, "old") if out.name else out
    if old.exists() and out.is_dir() and not any(out.iterdir()):
        out.rmdir()
    if old.exists() and not out.exists():
        old.rename(out)


def _sibling(out: Path, suffix: str) -> Path:
    return out.with_name(f".{out.name}.{suffix}")


def _clear(aside: Path, overwrite: bool) -> None:
    """Delete all but the lock and, unless it is to be overwritten, a journal that holds something."""
    journal = aside / JOURNAL
    keep = {LOCK} if overwrite or not any(journal.rglob("*.parquet")) else {LOCK, JOURNAL}
    for path in aside.iterdir():
        if path.name not in keep:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


@contextmanager
def _lock(path: Path, out: Path) -> Iterator[None]:
    """Hold a lock that ends with the process, however it ends; without effect on Windows."""
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
