"""Repetition inside pieces: which n-grams of consecutive notes occurred earlier, and how long one value is held.

Consecutive means in the order of a `Notes` table: by onset, then program, then pitch. A chord is therefore
read from the bottom up, and music of several instruments is read as one line. Everything here is exact (no hash that
could collide) and has no Python loop over pieces.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mgen.arrays import Floats, max_of, mean_of, ranges, rank_within, run_starts
from mgen.notes import Notes

View = Literal["pitch", "interval"]
"""What an n-gram is made of: n pitches (n notes), or n intervals in semitones (n + 1 notes)."""

_Integers = NDArray[np.integer[Any]]
_LIMIT = np.iinfo(np.int64).max


def complete(piece: _Integers, n: int) -> NDArray[np.bool_]:
    """(N,) whether the n-gram of n >= 1 rows that ends at each row lies in one piece; `piece` (N,) rises."""
    out = np.zeros(len(piece), bool)
    out[n - 1 :] = piece[n - 1 :] == piece[: max(len(piece) - n + 1, 0)]
    return out


def repeated(piece: _Integers, values: _Integers, n: int) -> NDArray[np.bool_]:
    """(N,) whether the n-gram of `values` that ends at each row ended earlier in the same piece already.

    False where the n-gram is not `complete`. The first of equal n-grams is no repeat; two may overlap. A piece
    therefore has as many repeats as n-grams minus different n-grams.

    Args:
        piece: (N,) piece of each row, rising.
        values: (N,) any integers.
        n: rows in an n-gram, at least 1.
    """
    ends = np.flatnonzero(complete(piece, n))
    out = np.zeros(len(piece), bool)
    if not len(ends):
        return out
    lowest = int(values.min())
    letters = values.astype(np.int64) - lowest
    size = int(values.max()) - lowest + 1
    # One number per n-gram, digit by digit; where the next digit would overflow, numbers become ranks.
    code = piece[ends].astype(np.int64)
    bound = int(code[-1]) + 1
    for back in range(n - 1, -1, -1):
        if bound > _LIMIT // size:
            code = np.unique(code, return_inverse=True)[1]
            bound = int(code.max()) + 1
        code = code * size + letters[ends - back]
        bound *= size
    order = np.argsort(code, kind="stable")
    code = code[order]
    out[ends[order[1:]]] = code[1:] == code[:-1]
    return out


def run_length(piece: _Integers, values: _Integers) -> NDArray[np.int64]:
    """(N,) how many consecutive rows of the piece (rising), up to and with this one, have its value; at least 1."""
    at = np.arange(len(piece))
    return at - np.maximum.accumulate(np.where(run_starts(piece, values), at, 0)) + 1


def repeat_share(piece: _Integers, values: _Integers, n: int, n_pieces: int) -> Floats:
    """(B,) share of each piece's n-grams of `values` that are `repeated`, 0..1; NaN for a piece without any n-gram."""
    whole = complete(piece, n)
    return mean_of(repeated(piece, values, n)[whole], piece[whole], n_pieces)


def repeats(piece: _Integers, pitch: _Integers, n: int, view: View) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Finds repeated n-grams of pitches or of intervals by the note that ends them.

    Both results are equal for a piece and its transposition. The interval view also finds a figure that returns
    transposed.

    Args:
        piece: (N,) piece of each note of a line, rising.
        pitch: (N,) its pitch.

    Returns:
        (N,) whether the n-gram that ends at the note ended earlier in its piece, and (N,) whether there is an n-gram.
    """
    if view == "pitch":
        return repeated(piece, pitch, n), complete(piece, n)
    within = complete(piece, 2)  # rows that an interval leads to
    interval = np.diff(pitch, prepend=0)[within]
    ended, whole = np.zeros((2, len(piece)), bool)
    ended[within] = repeated(piece[within], interval, n)
    whole[within] = complete(piece[within], n)
    return ended, whole


def longest_run(notes: Notes) -> NDArray[np.int64]:
    """(B,) notes in the longest run of one pitch of each piece; 0 for a piece without notes."""
    return max_of(run_length(notes.piece, notes.pitch), notes.piece, notes.n_pieces)


def longest_loop(notes: Notes, most: int) -> NDArray[np.int64]:
    """(B,) notes in the longest loop (`loop_length`) of each piece; 0 for a piece without a loop."""
    out = np.zeros(notes.n_pieces, np.int64)
    for first, length in _loops(notes.piece, notes.pitch, most):
        np.maximum.at(out, notes.piece[first], length)
    return out


def loop_length(piece: _Integers, values: _Integers, most: int) -> NDArray[np.int64]:
    """(N,) rows in the longest loop that each row is part of, 0 where it is part of none.

    A loop is a stretch of one piece that repeats one figure of values at least twice without a break; the last
    repetition may be cut short.

    Args:
        piece: (N,) piece of each row, rising.
        values: (N,) pitches.
        most: rows in the longest figure that is looked for.
    """
    out = np.zeros(len(piece), np.int64)
    for first, length in _loops(piece, values, most):
        row, loop = ranges(first, first + length)
        np.maximum.at(out, row, length[loop])
    return out


def _loops(piece: _Integers, values: _Integers, most: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """First rows and lengths of the loops of every size of figure that has any."""
    counts = np.bincount(piece, minlength=1)
    number = rank_within(piece, len(counts)).astype(np.int32)
    pitch = values.astype(np.int16)
    for size in range(1, min(most, int(counts.max()) // 2) + 1):
        # whether each note equals the one `size` notes earlier, then whether the next 2, 4 or 8 do too: few in music
        run = (pitch[size:] == pitch[:-size]) & (number[size:] >= size)
        width = 1
        while width < 8 and 2 * width <= size:
            run = run[:-width] & run[width:]
            width *= 2
        at = np.flatnonzero(run)
        if not len(at):
            continue
        head = np.flatnonzero(np.diff(at, prepend=-2) != 1)
        length = np.diff(np.append(head, len(at))) + width - 1
        loops = length >= size
        if loops.any():
            yield at[head[loops]], length[loops] + size
