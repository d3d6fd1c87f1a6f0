"""Structure: how much of what happens in a piece happens again later, transposed or not.

Repetition here is in time (at the same place of a half bar), unlike `mgen.music.ngrams`, which hears the order of notes
only. Drums are not heard.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mgen.arrays import Floats
from mgen.music import ngrams
from mgen.music.half_bars import MOST_BEATS, HalfBars
from mgen.notes import STEPS_PER_QUARTER, Notes

SHORT, MID, LONG = 4, 8, 16
"""Half bars in a segment of each scale: 2, 4 and 8 bars of four quarters."""

MOST = 4096
"""Half bars of a piece that are compared, from its beginning: over an hour of music; the work grows with the square."""

_SLOT = STEPS_PER_QUARTER // 2
_SLOTS = MOST_BEATS * STEPS_PER_QUARTER // _SLOT
_IN_WORD = 5  # eighths whose twelve intervals fit into 64 bits
_BLOCK = 256  # rows of a self-similarity matrix at a time, so that memory stays within bounds


def figures(notes: Notes) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """What is played in each half bar, free of key.

    Onsets are rounded to eighth notes (a swung eighth is an eighth). A note is told by its eighth and by the
    interval, without octaves, from the highest note of the piece's last eighth in which something began before; the
    notes of a piece's first one are told by nothing.

    Returns:
        (W, 2) sets, one bit for each eighth of the half bar and interval in semitones (the first five eighths in the
        first column, the sixth of a half bar of three beats in the second); (B + 1,) index of each piece's first
        half bar, the last entry W.
    """
    notes = notes.select(notes.program >= 0)
    windows = HalfBars.of(notes)
    sets = np.zeros((len(windows.piece), 2), np.uint64)
    if len(notes):
        step = notes.onset + _SLOT // 2
        window = windows.at(notes.piece, step)
        slot = np.clip((step - windows.onset[window]) // _SLOT, 0, _SLOTS - 1)
        place = window * _SLOTS + slot
        fresh = np.diff(place, prepend=-1) != 0
        group, head = np.cumsum(fresh) - 1, np.flatnonzero(fresh)
        top = np.maximum.reduceat(notes.pitch, head)
        told = ngrams.complete(notes.piece[head], 2)[group]
        interval = (notes.pitch - top[group - 1]) % 12
        bit = np.uint64(1) << (slot % _IN_WORD * 12 + interval).astype(np.uint64)
        np.bitwise_or.at(sets, (window[told], slot[told] // _IN_WORD), bit[told])
    return sets, windows.starts


def structureness(notes: Notes, half_bars: int) -> Floats:
    """SI: how much a segment of so many half bars resembles the most similar other segment of its piece, 0..1.

    Segments begin at every half bar. The similarity of two is 2 |a & b| / (|a| + |b|) (Dice), a and b being the sets
    of their notes as `figures` tells them, with the half bar of the segment; the two may not overlap. SI is the mean
    over all segments with notes of their best match: the diagonals of a self-similarity matrix that does not know
    the key. 1: every segment returns, as in a loop. It is not 0 by chance: solos of the Weimar Jazz Database have
    0.35, 0.26, 0.20 at the three scales, with random pitches 0.29, 0.21, 0.16.

    Args:
        half_bars: SHORT, MID or LONG.

    Cannot see: figures moved by less than a half bar, in augmentation, inverted; what happens within an eighth;
    an accompaniment under a melody that changes, since intervals are from the highest note before; what comes after
    4096 half bars. In free performances, whose bars are not the music's, it sees little. Grows with the length of
    the piece: compare pieces of one length.
    NaN: fewer than twice so many half bars, or no segment with notes.
    Source: ours, after the structureness indicator of Wu and Yang 2020, arXiv:2008.01307, which is the greatest
    fitness (Mueller et al. 2011) in a range of 3-8, 8-15 or more than 15 seconds of synthesised audio.
    """
    played, starts = figures(notes)
    return np.array(
        [
            _mean_best(played[begin : min(end, begin + MOST)], half_bars)
            for begin, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)
        ],
        dtype=np.float64,
    )


def _mean_best(played: NDArray[np.uint64], length: int) -> float:
    """SI of one piece, from its (W, 2) half bars."""
    segments = len(played) - length + 1
    number = np.arange(max(segments, 0))
    total = np.append(0, np.bitwise_count(played).sum(axis=1, dtype=np.int64).cumsum()).astype(np.float32)
    size = total[length:] - total[:-length]  # (S,) notes of each segment
    known = (size > 0) & ((number >= length) | (number < segments - length))
    if not known.any():
        return np.nan
    words = played.T[played.any(axis=0)]
    best = np.zeros(segments, np.float32)
    for row in range(0, segments, _BLOCK):
        rows = slice(row, row + _BLOCK + length - 1)
        shared = np.bitwise_count(np.bitwise_and.outer(words[0][rows], words[0])).astype(np.uint16)
        for word in words[1:]:
            shared += np.bitwise_count(np.bitwise_and.outer(word[rows], word))
        width = 1
        while width < length:
            shared = shared[:-width, :-width] + shared[width:, width:]
            width *= 2
        alike = shared / np.add.outer(np.maximum(size[row : row + _BLOCK], 1), size)
        flat = alike.reshape(-1)
        for apart in range(1 - length, length):  # segments that overlap are no match
            begin, end = max(0, -row - apart), max(0, min(len(alike), segments - row - apart))
            flat[begin * segments + row + begin + apart : end * segments : segments + 1] = 0
        best[row : row + _BLOCK] = 2 * alike.max(axis=1)
    return float(best[known].mean(dtype=np.float64))
