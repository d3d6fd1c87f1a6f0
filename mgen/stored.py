"""Reads files that a program wrote and an accident may have damaged: each fault is one line with the file's path."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mgen.errors import MgenError


@contextmanager
def explain_damage(place: Path | str, remedy: str) -> Iterator[None]:
    """Turns whatever is raised over damaged content into one line.

    Every exception, because libraries raise them of all kinds: `KeyError` for a missing value, `RuntimeError` for a
    tensor of another shape, `RecursionError` for deep nesting, and their own classes. Only the reading of files
    belongs into this context.

    Args:
        place: file or folder, for the line.
        remedy: what to do, the end of the line.

    Raises:
        MgenError: for any exception; an `MgenError` passes as it is.
    """
    try:
        yield
    except MgenError:
        raise
    except Exception as error:
        raise MgenError(f"{place}: cannot be read ({reason(error)}); {remedy}") from error


def reason(error: Exception) -> str:
    """What an exception of a library says, on one short line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, KeyError):
        return f"{error} is missing"
    text = " ".join(str(error).split())
    return (text if len(text) <= 160 else f"{text[:157]}...") or type(error).__name__


def finite(value: object) -> float:
    """A stored number as a float; `ValueError` for anything else, and for NaN and infinity."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"expected a finite number, found {value!s:.40}")
    return float(value)


def integers(content: object, name: str = "") -> Iterator[tuple[str, int]]:
    """All integers in JSON content, each with the nearest key around it: sizes, before anything of a size is made."""
    if isinstance(content, int):
        yield name, content
    for key, value in content.items() if isinstance(content, dict) else ():
        yield from integers(value, key)
    for value in content if isinstance(content, list) else ():
        yield from integers(value, name)


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """The JSON object in a file.

    Args:
        remedy: as in `explain_damage`.

    Raises:
        MgenError: There is no such file, or something else in it.
    """
    if not path.is_file():
        found = "no file" if path.exists() else "nothing"
        raise MgenError(f"{path}: expected a file with a JSON object, found {found}; {remedy}")
    with explain_damage(path, remedy):
        content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise MgenError(f"{path}: expected a JSON object, found {type(content).__name__}; {remedy}")
    return content
