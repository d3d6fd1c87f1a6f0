"""What has to be inferred from the notes of a batch: the chord of every half bar, and what of a piece returns."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mgen.music.chords import HELD
from mgen.music.half_bars import HalfBars
from mgen.music.structure import figures
from mgen.notes import Ints, Notes

_TONES = ((0, 4, 7, 10), (0, 4, 7, 11), (0, 3, 7, 10), (0, 3, 6, 10))
CHORDS = np.array([[pitch in tones for pitch in range(12)] for tones in _TONES], dtype=np.int64)
"""(K, 12) pitch classes above the root of each kind of chord: dominant, major, minor and half-diminished seventh."""

SEGMENTS = (2, 4, 8)
"""Half bars in a segment of each scale of structure."""

MOST = 512
"""Half bars of a piece that are compared, from its beginning; the work grows with the square."""

_CELLS = 1 << 19
_BIG = 1 << 20


def chords_of(
    windows: HalfBars, window: NDArray[np.int64], onset: Ints, duration: Ints, pitch: Ints
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Root (H,) and kind (H,), a row of `CHORDS`, of the chord of each half bar.

    Args:
        windows: H half bars.
        window: (P,) row in `windows` of each note.
        onset, duration, pitch: (P,) of each note.

    Of the 48 seventh chords it is the one on whose pitch classes the notes of the half bar and its two neighbours
    sound longest; with the neighbours, since a few notes at random always fit some chord. Of equals it is the one
    whose root is the fewest semitones above the lowest note of the half bar, then the earlier kind. Where nothing
    sounds it is arbitrary.

    Cannot see: triads as such, changes within a half bar, a root that nobody plays.
    """
    size = len(windows.piece)
    ends = np.append(windows.onset[1:], 0)
    ends[windows.starts[1:] - 1] = np.iinfo(np.int64).max
    sounding, bass = np.zeros(size * 12, np.int64), np.full(size, _BIG)
    begin = onset.astype(np.int64)
    end = begin + np.clip(duration, 1, HELD)
    while len(window):
        stop = np.minimum(end, ends[window])
        steps = np.maximum(stop - begin, 0)
        sounding += np.bincount(window * 12 + pitch % 12, weights=steps, minlength=12 * size).astype(np.int64)
        np.minimum.at(bass, window, pitch)
        on = end > ends[window]
        window, begin, end, pitch = window[on] + 1, stop[on], end[on], pitch[on]
    alone = sounding.reshape(size, 12)
    classes, beside = alone.copy(), windows.piece[1:] == windows.piece[:-1]
    classes[1:][beside] += alone[:-1][beside]
    classes[:-1][beside] += alone[1:][beside]
    around = (np.arange(12)[:, None] + np.arange(12)) % 12  # (root, pitch class above it)
    fit = np.einsum("hra,ka->hrk", classes[:, around], CHORDS)
    above = (np.arange(12) - bass[:, None]) % 12
    kinds = len(CHORDS)
    best = (fit * (12 * kinds) - above[:, :, None] * kinds - np.arange(kinds)).reshape(size, 12 * kinds).argmax(axis=1)
    return best // kinds, best % kinds


def structure_at_scales(notes: Notes) -> dict[int, NDArray[np.float64]]:
    """(B,) structureness of each piece at each scale of `SEGMENTS`: `mgen.music.structure.structureness`, all
    scales and pieces at a time.
    """
    played, starts = figures(notes)
    count = np.minimum(np.diff(starts), MOST)
    out = {length: np.full(notes.n_pieces, np.nan) for length in SEGMENTS}
    pieces = np.argsort(count, kind="stable")
    pieces = pieces[count[pieces] >= 2 * SEGMENTS[0]]
    while len(pieces):
        sizes = count[pieces]
        fits = int((np.arange(1, len(pieces) + 1) * sizes.astype(np.int64) ** 2 <= _CELLS).sum())
        some, pieces = pieces[: max(fits, 1)], pieces[max(fits, 1) :]
        for length, values in _mean_best(played, starts[some], count[some]).items():
            out[length][some] = values
    return out


def _mean_best(
    played: NDArray[np.uint64], first: NDArray[np.int64], count: NDArray[np.int64]
) -> dict[int, NDArray[np.float64]]:
    """Structureness of some pieces, from the first row and the number of their half bars."""
    width = int(count.max())
    number = np.arange(width)
    there = number < count[:, None]
    sets = np.where(there[:, :, None], played[np.minimum(first[:, None] + number, len(played) - 1)], np.uint64(0))
    shared = np.zeros((len(count), width, width), np.uint16)
    for word in range(sets.shape[2]):
        one = sets[:, :, word]
        if one.any():
            shared += np.bitwise_count(one[:, :, None] & one[:, None, :])
    size = np.bitwise_count(sets).sum(axis=2, dtype=np.int64)
    out, width = {}, 1
    for length in SEGMENTS:
        while width < length:
            shared = shared[:, :-width, :-width] + shared[:, width:, width:]
            size = size[:, :-width] + size[:, width:]
            width *= 2
        at = np.arange(size.shape[1])
        segments = count - length + 1
        apart = np.abs(at[:, None] - at) >= length
        alike = shared / np.maximum(size[:, :, None] + size[:, None, :], 1).astype(np.float32)
        alike *= apart & (at < segments[:, None])[:, None, :]
        best = 2 * alike.max(axis=2, initial=0).astype(np.float64)
        known = (size > 0) & (at < segments[:, None]) & ((at >= length) | (at < segments[:, None] - length))
        owner, column = np.nonzero(known)
        total = np.bincount(owner, weights=best[owner, column], minlength=len(count))
        each = known.sum(axis=1)
        out[length] = np.where(each > 0, total / np.maximum(each, 1), np.nan)
        if not len(at):
            break
    return {length: out.get(length, np.full(len(count), np.nan)) for length in SEGMENTS}
