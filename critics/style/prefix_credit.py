"""Credit per note from a judge that hears pieces as a whole: what each bar added to what was said before it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mgen.arrays import Floats
from mgen.notes import Bars, Notes

AT_ONCE = 1024
"""Prefixes judged at a time, so that memory stays within bounds."""


def prefix_credit(score: Callable[[Notes], Floats], notes: Notes, whole: Floats) -> NDArray[np.float32]:
    """Credit of each note: the difference that its bar makes to the score of all that was played so far.

    With s_k the score of a piece up to the end of its k-th bar that has notes, and s_0 = 0, the notes of that bar share
    s_k - s_(k-1) in equal parts. So a piece's credit sums to its score, and what a policy is told at a bar depends on
    nothing that comes later.

    A bar is as fine as it gets: one note more or less says nothing to a judge of shares and means. Early bars are
    judged by few notes, and move the score most.

    Args:
        score: (B,) of beginnings of pieces, each judged alone; where they are too short to be judged, what is said of
            a piece that has not begun, not the worst.
        notes: B pieces.
        whole: (B,) score of the pieces themselves.
    """
    fresh = np.append(True, (np.diff(notes.piece) != 0) | (np.diff(notes.bar) != 0))[: len(notes)]
    head = np.flatnonzero(fresh)
    if not len(head):
        return np.zeros(len(notes), np.float32)
    piece = notes.piece[head]
    end = np.append(head[1:], len(notes))
    last = np.append(np.diff(piece) != 0, True)
    said = np.where(last, whole[piece], 0.0)
    inner = np.flatnonzero(~last)
    for part in np.array_split(inner, -(-len(inner) // AT_ONCE)) if len(inner) else []:
        said[part] = score(_prefixes(notes, piece[part], end[part]))
    first = np.append(True, np.diff(piece) != 0)
    gained = said - np.where(first, 0.0, np.append(0.0, said[:-1]))
    size = end - head
    shared: NDArray[np.float32] = (gained / size)[np.cumsum(fresh) - 1].astype(np.float32)
    return shared


def _prefixes(notes: Notes, piece: NDArray[np.integer], end: NDArray[np.integer]) -> Notes:
    """The notes of each piece of `piece` (K,) before row `end` (K,) of the table, in their bars."""
    taken = notes.pieces(piece)
    count = end - notes.starts[piece]
    rank = np.arange(len(taken)) - taken.starts[taken.piece]
    taken = taken.select(rank < count[taken.piece])
    lastbar = np.zeros(taken.n_pieces, np.int64)
    np.maximum.at(lastbar, taken.piece, taken.bar)
    bars = taken.bars
    keep = np.arange(len(bars.piece)) - taken.bar_starts[bars.piece] <= lastbar[bars.piece]
    return replace(taken, bars=Bars(bars.piece[keep], bars.onset[keep], bars.beats[keep]))
