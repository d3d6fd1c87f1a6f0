"""Structure: how much of a piece returns later, transposed or not.

Repetition here is in time (at the same place of a half bar), unlike in `mgen.music.ngrams`, which compares the order of
notes only. Drums are left out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mgen.arrays import Floats, divide, run_starts
from mgen.music import ngrams
from mgen.music.half_bars import MOST_STEPS, HalfBars
from mgen.notes import STEPS_PER_QUARTER, Notes

SHORT, MID, LONG = 4, 8, 16  # half bars in a segment of each scale: 2, 4 and 8 bars of four quarters

MOST = 4096
"""Half bars of a piece that are compared, from its beginning: over an hour of music; the cost grows with the square."""

_SLOT = STEPS_PER_QUARTER // 2
_SLOTS = MOST_STEPS // _SLOT
_IN_WORD = 5  # eighths whose twelve intervals fit into 64 bits
_CELLS = 1 << 19  # cells of self-similarity matrices that are in memory at a time


def figures(notes: Notes) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Describes the notes of each half bar, free of key.

    Onsets are rounded to eighth notes (a swung eighth is an eighth). A note is described by its eighth and by the
    interval, without octaves, from the highest note of the piece's last eighth with an onset before it; the notes of a
    piece's first eighth are left out.

    Returns:
        (W, 2) sets, one bit for each eighth of the half bar and interval in semitones (the first five eighths in the
        first column, the sixth of a half bar of three beats in the second); (B + 1,) index of each piece's first
        half bar, the last entry W.
    """
    notes = notes.pitched()
    windows = HalfBars.of(notes)
    sets = np.zeros((len(windows.piece), 2), np.uint64)
    if len(notes):
        step = notes.onset + _SLOT // 2
        window = windows.at(notes.piece, step)
        slot = np.clip((step - windows.onset[window]) // _SLOT, 0, _SLOTS - 1)
        starts = run_starts(window * _SLOTS + slot)
        group, first = np.cumsum(starts) - 1, np.flatnonzero(starts)
        top = np.maximum.reduceat(notes.pitch, first)
        known = ngrams.complete(notes.piece[first], 2)[group]
        interval = (notes.pitch - top[group - 1]) % 12
        bit = np.uint64(1) << (slot % _IN_WORD * 12 + interval).astype(np.uint64)
        np.bitwise_or.at(sets, (window[known], slot[known] // _IN_WORD), bit[known])
    return sets, windows.starts


def structureness(notes: Notes, half_bars: int) -> Floats:
    """SI: how much a segment of `half_bars` half bars resembles the most similar other segment of its piece, 0..1.

    Segments begin at every half bar. The similarity of two is 2 |a & b| / (|a| + |b|) (Dice), a and b being the sets
    of their notes as `figures` describes them, with the half bar of the segment; the two may not overlap. SI is the
    mean over all segments with notes of their best match: the diagonals of a self-similarity matrix that does not know
    the key. 1: every segment returns, as in a loop. It is not 0 by chance: solos of the Weimar Jazz Database have
    0.35, 0.26, 0.20 at the three scales, with random pitches 0.29, 0.21, 0.16.

    Args:
        half_bars: SHORT, MID or LONG; a power of two.

    Cannot see: figures moved by less than a half bar, in augmentation, inverted; what happens within an eighth;
    an accompaniment under a melody that changes, since intervals are from the highest note before; the music after
    4096 half bars. In free performances, whose bars are not the music's, it sees little. Grows with the length of
    the piece: compare pieces of one length.
    NaN: fewer than twice `half_bars` half bars, or no segment with notes.
    Source: ours, after the structureness indicator of Wu and Yang 2020, arXiv:2008.01307, which is the greatest
    fitness (Mueller et al. 2011) in a range of 3-8, 8-15 or more than 15 seconds of synthesised audio.
    """
    return structure_at_scales(notes, (half_bars,))[half_bars]


def structure_at_scales(notes: Notes, scales: Sequence[int], most: int = MOST) -> dict[int, Floats]:
    """Computes `structureness` at several scales from one self-similarity matrix per piece.

    Args:
        scales: half bars in a segment of each scale, rising powers of two.
        most: half bars of a piece that are compared, from its beginning.

    Returns:
        (B,) of each scale; NaN where undefined.
    """
    sets, starts = figures(notes)
    count = np.minimum(np.diff(starts), most)
    out = {length: np.full(notes.n_pieces, np.nan) for length in scales}
    pieces = np.argsort(count, kind="stable")
    pieces = pieces[count[pieces] >= 2 * scales[0]]
    while len(pieces):  # pieces of like lengths at a time, padded to the longest
        fits = int((np.arange(1, len(pieces) + 1) * count[pieces] ** 2 <= _CELLS).sum())
        some, pieces = pieces[: max(fits, 1)], pieces[max(fits, 1) :]
        number = np.arange(count[some[-1]])
        rows = np.minimum(starts[some, None] + number, len(sets) - 1)
        padded = np.where((number < count[some, None])[:, :, None], sets[rows], np.uint64(0))
        for length, values in _mean_best(padded, count[some], scales).items():
            out[length][some] = values
    return out


def _mean_best(sets: NDArray[np.uint64], count: NDArray[np.int64], scales: Sequence[int]) -> dict[int, Floats]:
    """Computes the mean best match at each scale.

    Args:
        sets: (P, W, 2) half bars of P pieces.
        count: (P,) half bars of each piece, at most W.
    """
    n, width, _ = sets.shape
    total = np.bitwise_count(sets).sum(axis=2, dtype=np.int64).cumsum(axis=1)
    total = np.concatenate([np.zeros((n, 1), np.int64), total], axis=1)
    scales = [length for length in scales if length < width]
    sizes = {length: (total[:, length:] - total[:, :-length]).astype(np.float32) for length in scales}
    best = {length: np.zeros(size.shape) for length, size in sizes.items()}
    words = [word for word in (sets[:, :, 0], sets[:, :, 1]) if word.any()]
    block = max(_CELLS // (n * width), 1)
    for row in range(0, width, block):
        rows = slice(row, row + block + scales[-1] - 1)
        shared = np.zeros((n, len(range(width)[rows]), width), np.uint16)
        for word in words:
            shared += np.bitwise_count(word[:, rows, None] & word[:, None])
        done = 1
        for length, size in sizes.items():
            while done < length:
                shared = shared[:, :-done, :-done] + shared[:, done:, done:]
                done *= 2
            mine, at = size[:, row : row + block], np.arange(size.shape[1])
            alike = shared[:, : mine.shape[1]] / np.maximum(mine[:, :, None] + size[:, None], 1)
            apart = np.abs(at[row : row + block, None] - at) >= length  # segments that overlap are no match
            alike *= apart & (at < count[:, None] - length + 1)[:, None]
            best[length][:, row : row + block] = 2 * alike.max(axis=2, initial=0)
    out = {}
    for length, size in sizes.items():
        at, segments = np.arange(size.shape[1]), count[:, None] - length + 1
        known = (size > 0) & (at < segments) & ((at >= length) | (at < segments - length))
        out[length] = divide(np.where(known, best[length], 0).sum(axis=1), known.sum(axis=1))
    return out
