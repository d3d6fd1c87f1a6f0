"""Repetition inside pieces: which n-grams of consecutive notes came before, and how long one value is held.

Consecutive means in the order of a `Notes` table: by onset, then program, then pitch. A chord is therefore
read from the bottom up, and in music of several instruments the voices are read as one line. Everything here
is exact (no hash that could collide), knows no rewards and no metrics, and has no Python loop over pieces.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mgen.notes import Notes

View = Literal["pitch", "interval"]
"""What an n-gram is made of: n pitches (n notes), or n intervals in semitones (n + 1 notes)."""

_Integers = NDArray[np.integer[Any]]
_LIMIT = np.iinfo(np.int64).max


def complete(piece: _Integers, n: int) -> NDArray[np.bool_]:
    """(N,) whether the n-gram that ends at each row lies in one piece.

    Args:
        piece: (N,) piece of each row, rising.
        n: rows in an n-gram, at least 1.
    """
    out = np.zeros(len(piece), bool)
    out[n - 1 :] = piece[n - 1 :] == piece[: max(len(piece) - n + 1, 0)]
    return out


def repeated(piece: _Integers, values: _Integers, n: int) -> NDArray[np.bool_]:
    """(N,) whether the n-gram of `values` that ends at each row ended earlier in the same piece already.

    False where the n-gram is not `complete`. The first of equal n-grams is no repeat; two may overlap. The
    repeats of a piece are therefore as many as its n-grams minus its different ones.

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
    """(N,) how many rows in a row, up to and with this one, had its value in its piece; at least 1.

    Args:
        piece: (N,) piece of each row, rising.
        values: (N,) any integers.
    """
    at = np.arange(len(piece))
    fresh = np.ones(len(piece), bool)
    fresh[1:] = (values[1:] != values[:-1]) | (piece[1:] != piece[:-1])
    return at - np.maximum.accumulate(np.where(fresh, at, 0)) + 1


def repeats(notes: Notes, n: int, view: View = "pitch") -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Repeated and complete n-grams by the note that ends them.

    Both are equal for a piece and its transposition. The interval view also hears a figure that returns
    transposed.

    Returns:
        (N,) whether the n-gram that ends at the note came before in its piece, and (N,) whether there is one.
    """
    return repeats_of(notes.piece, notes.pitch, n, view)


def repeats_of(piece: _Integers, pitch: _Integers, n: int, view: View) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The same of any line: (N,) piece of each row, rising, and (N,) its pitch."""
    if view == "pitch":
        return repeated(piece, pitch, n), complete(piece, n)
    within = complete(piece, 2)  # rows that an interval leads to
    interval = np.diff(pitch, prepend=0)[within]
    ended, whole = np.zeros((2, len(piece)), bool)
    ended[within] = repeated(piece[within], interval, n)
    whole[within] = complete(piece[within], n)
    return ended, whole


def share(notes: Notes, some: NDArray[np.bool_], of: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(B,) notes of `some` (N,) over notes of `of` (N,) in each piece; NaN for a piece with none of these."""
    count, total = (np.bincount(notes.piece[mask], minlength=notes.n_pieces) for mask in (some, of))
    return np.where(total > 0, count / np.maximum(total, 1), np.nan)


def repeated_share(notes: Notes, n: int, view: View = "pitch") -> NDArray[np.float64]:
    """(B,) share of each piece's n-grams that came before in it, 0..1; NaN for a piece without any n-gram."""
    return share(notes, *repeats(notes, n, view))


def longest_run(notes: Notes) -> NDArray[np.int64]:
    """(B,) notes in the longest run of one pitch of each piece; 0 for a piece without notes."""
    out = np.zeros(notes.n_pieces, np.int64)
    np.maximum.at(out, notes.piece, run_length(notes.piece, notes.pitch))
    return out


def longest_loop(notes: Notes, most: int) -> NDArray[np.int64]:
    """(B,) notes in the longest stretch of each piece that is one figure of pitches at least twice without a break.

    The last turn of the figure may be cut short. 0 for a piece without such a stretch.

    Args:
        most: notes in the longest figure that is looked for.
    """
    out = np.zeros(notes.n_pieces, np.int64)
    for first, length in _loops(notes.piece, notes.pitch, most):
        np.maximum.at(out, notes.piece[first], length)
    return out


def loop_length(piece: _Integers, values: _Integers, most: int) -> NDArray[np.int64]:
    """(N,) rows in the longest loop that each row is part of, 0 where it is part of none.

    A loop is a stretch of one piece that is one figure of values at least twice without a break, the last turn cut
    short or not.

    Args:
        piece: (N,) piece of each row, rising.
        values: (N,) pitches.
        most: rows in the longest figure that is looked for.
    """
    out = np.zeros(len(piece), np.int64)
    for first, length in _loops(piece, values, most):
        row = np.repeat(first + length - np.cumsum(length), length) + np.arange(length.sum())
        np.maximum.at(out, row, np.repeat(length, length))
    return out


def _loops(piece: _Integers, values: _Integers, most: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """First rows and lengths of the loops of every size of figure that has any."""
    counts = np.bincount(piece) if len(piece) else np.zeros(1, np.int64)
    number = (np.arange(len(piece)) - (np.cumsum(counts) - counts)[piece]).astype(np.int32)
    pitch = values.astype(np.int16)
    for size in range(1, min(most, int(counts.max()) // 2) + 1):
        # whether each note is the one `size` notes earlier, then whether the next 2, 4 or 8 are too: few in music
        run = (pitch[size:] == pitch[:-size]) & (number[size:] >= size)
        width = 1
        while width < 8 and 2 * width <= size:
            run = run[:-width] & run[width:]
            width *= 2
        at = np.flatnonzero(run)
        if not len(at):
            continue
        fresh = np.ones(len(at), bool)
        fresh[1:] = np.diff(at) != 1
        head = np.flatnonzero(fresh)
        length = np.diff(np.append(head, len(at))) + width - 1
        loops = length >= size
        if loops.any():
            yield at[head[loops]], length[loops] + size
