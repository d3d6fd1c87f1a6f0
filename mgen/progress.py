"""How library code reports its progress; it prints nothing.

A long call takes `progress`, any function of a line of text: `print`, or `lines.append`. If it also has a method
`count(loop, done, total, note)`, as the display of the command line has (`mgen.cli.progress`), it is called in every
loop that may take more than some seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import TypeVar

Progress = Callable[[str], None]  # takes a line
Item = TypeVar("Item")


def silent(line: str) -> None:
    """Reports nothing."""


def takes_counts(progress: Progress) -> bool:
    """Whether `count` reaches it; a function of lines gets lines at some of the steps instead."""
    return hasattr(progress, "count")


def count(progress: Progress, loop: str, done: int, total: int, note: str = "") -> None:
    """Reports that `done` of `total` rounds are over; the loop has ended when they are equal.

    Args:
        loop: what is counted, in the plural: `steps`, `files`.
        note: a remark on the state, such as the loss.
    """
    if takes_counts(progress):
        progress.count(loop, done, total, note)  # type: ignore[attr-defined]


def counted(progress: Progress, loop: str, items: Collection[Item] | Iterable[Item], total: int = 0) -> Iterator[Item]:
    """Yields the items of a loop and counts its rounds.

    Args:
        total: number of items, if they have no length.
    """
    total = total or len(items)  # type: ignore[arg-type]
    try:
        for done, item in enumerate(items):
            count(progress, loop, done, total)
            yield item
    finally:
        count(progress, loop, total, total)
