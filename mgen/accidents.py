"""Accidents of the machine that no code can prevent, recognised wherever a library reports them: full disk, no memory,
a lost process.

Libraries report one accident by different exceptions: a full disk is an OSError, or a RuntimeError of torch, or a
SafetensorError, and the first of several exceptions says most.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator

_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DISK_TEXT = re.compile(
    rf"no space left|disk quota|disk is full|file too large|os error ({'|'.join(map(str, sorted(_DISK)))})\b"
    "|PytorchStreamWriter failed writing|unexpected pos \\d+ vs",  # how torch.save reports any failed write
    re.IGNORECASE,
)
_MEMORY_TEXT = re.compile(
    "can't allocate memory|cannot allocate memory|out of memory|unable to allocate", re.IGNORECASE
)
_PROCESS_TEXT = re.compile(
    r"connection (closed|reset) by peer|socket timeout|timed out waiting|broken pipe|gloo|nccl|process ?group|"
    r"DistStoreError|TCPStore",
    re.IGNORECASE,
)


def describe_accident(error: BaseException) -> str | None:
    """What happened and what to do, without a line break; None for anything but an accident."""
    chain = list(_chain(error))
    for cause in chain:
        if (isinstance(cause, OSError) and cause.errno in _DISK) or _DISK_TEXT.search(str(cause)):
            return f"{_place(cause)}no space left on the device; free some space"
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{_place(error)}{error.strerror}; choose another place, or change its permissions"
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{_place(error)}{error.strerror}"
    for cause in chain:
        if isinstance(cause, MemoryError) or _MEMORY_TEXT.search(str(cause)):
            return "not enough memory; lower the batch size or the lengths"
    for cause in chain:
        if type(cause).__module__.startswith("torch.distributed") or (
            isinstance(cause, RuntimeError) and _PROCESS_TEXT.search(str(cause))
        ):
            return "another process of this run has ended; its own message says why, if it could write one"
    return None


def _place(error: BaseException) -> str:
    return f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An exception and those that it followed from."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__
