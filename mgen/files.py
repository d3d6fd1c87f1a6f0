"""Files and folders that commands write."""

from __future__ import annotations

import itertools
from pathlib import Path

from mgen.errors import MgenError


def check_new_folder(out: Path | str) -> Path:
    """The path of an output folder; raises `MgenError` if it exists and is not empty."""
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise MgenError(f"{out}: not empty; choose another --out")
    return out


def free_folder(name: str) -> Path:
    """`name` if it is a new or empty folder, or else `name-2`, `name-3`, ..."""
    for number in itertools.count(1):
        out = Path(name if number == 1 else f"{name}-{number}")
        if not out.exists() or (out.is_dir() and not any(out.iterdir())):
            return out
    raise AssertionError("unreachable")


def write_atomically(path: Path, text: str) -> None:
    """Writes to a temporary file and renames it, so that no file is incomplete.

    Raises:
        MgenError: The file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.part")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise MgenError(f"{path}: cannot be written ({error.strerror or error}); choose another --out") from error
    finally:
        temporary.unlink(missing_ok=True)
