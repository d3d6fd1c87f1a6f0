"""The lock of a run folder: one command at a time trains in it.

The lock belongs to the process and ends with it, however it ends; forked workers do not hold it. It is a POSIX lock, so
it also holds between machines that share the folder over NFS, if the file system has locks. Where there are none
(Windows, some network mounts) two commands are not kept apart.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import IO

from mgen.errors import MgenError

LOCK = ".lock"


def is_locked(folder: Path) -> bool:
    """Whether another process trains in a run folder now; False where there are no locks, or no folder."""
    if not (folder / LOCK).is_file():
        return False
    try:
        held = lock_run(folder)
    except MgenError:
        return True
    if held is not None:
        held.close()
    return False


def lock_run(folder: Path) -> IO[str] | None:
    """Locks a run folder for this process, until the returned file is closed; None where there are no locks.

    Raises:
        MgenError: Another process trains in the folder.
    """
    try:
        import fcntl
    except ImportError:
        return None
    file = (folder / LOCK).open("a+", encoding="utf-8")
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        with file:
            if not isinstance(error, BlockingIOError | PermissionError):
                return None
            file.seek(0)
            owner = file.read().strip() or "another process"
            raise MgenError(f"{folder}: {owner} trains in it; wait for its end, or choose another --out") from error
    file.truncate(0)
    file.write(f"process {os.getpid()} on {platform.node()}")
    file.flush()
    return file
