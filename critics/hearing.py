"""What a critic gets to hear of a piece: the notes without what tells who wrote the file.

One deterministic change of every piece, before anything is computed, in training and when judging. Knows nothing of
styles.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from critics.changes import next_onset, relaid
from mgen.corpus.clean import LONGEST
from mgen.evaluation.metrics import median_of, pitched
from mgen.notes import STEPS_PER_QUARTER, Bars, Notes

TOGETHER = 2
"""Grid steps, 42 ms by the clock of performed music: notes at most so far from the one before sound as one chord."""

WIDEST = 4
"""Grid steps from the first to the last note of such a chord."""

FINENESS = 2
"""Classes an octave of the times between onsets: 2:1 swing is two classes, and what a player or a grid adds is none."""

FASTEST, SLOWEST = -3, 4
"""Octaves between which times between onsets are kept, from the piece's median one."""

LOUD = 64
COMMON_TIME = 4


def heard(notes: Notes) -> Notes:
    """The pieces as a critic hears them; drums are not heard.

    Nearly simultaneous notes become chords, as a score would have them. Times from one onset to the next are taken to
    classes of half an octave around the piece's median, which becomes half a beat. Each note lasts to the next onset,
    all are equally loud, and bars of 4/4 begin with the first note. So velocity, tempo, durations, articulation, the
    beat grid, and whether there is one, are gone; pitches, their order, chords and the shape of the rhythm are left.

    Cannot be heard any more: sustained voices and held bass notes, rests as such, accents, the place in the bar.

    Returns:
        A table of as many pieces and no more notes: of notes that come to begin together on one pitch one stays.
    """
    notes = pitched(notes)
    notes = replace(notes, program=np.zeros_like(notes.program))
    chord, first = chords(notes)
    piece = notes.piece[first]
    begins = np.append(True, np.diff(piece) != 0)[: len(piece)]
    gap = np.diff(notes.onset[first], prepend=np.int32(0)).astype(np.float64)
    usual = np.maximum(np.nan_to_num(median_of(gap[~begins], piece[~begins], notes.n_pieces), nan=1.0), 1.0)
    octaves = np.log2(np.maximum(gap / usual[piece], 2.0 ** (FASTEST - 1)))
    octaves = np.clip(np.rint(FINENESS * octaves) / FINENESS, FASTEST, SLOWEST)
    steps = np.where(begins, 0, np.rint(STEPS_PER_QUARTER / 2 * 2.0**octaves))
    total = np.cumsum(steps)
    onset = total - np.maximum.accumulate(np.where(begins, total, 0))
    owner = np.arange(notes.n_pieces, dtype=np.int32)
    bars = Bars(owner, np.zeros_like(owner), np.full_like(owner, COMMON_TIME))
    plain = replace(
        notes, bars=bars, velocity=np.full_like(notes.velocity, LOUD), duration=np.ones_like(notes.duration)
    )
    plain = relaid(plain, onset[chord].astype(np.int32))
    lasting = np.maximum(next_onset(plain) - plain.onset, 1)
    return replace(plain, duration=np.minimum(lasting, LONGEST).astype(np.int32))


def chords(notes: Notes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(N,) number of the chord that each note belongs to, and (K,) row of each chord's first note.

    A chord goes on while the next note begins at most `TOGETHER` steps after the one before and `WIDEST` after the
    chord's first.
    """
    onset, size = notes.onset, len(notes)
    fresh = np.append(True, (np.diff(notes.piece) != 0) | (np.diff(onset) > TOGETHER))[:size]
    place = np.arange(size)
    while True:  # once for each chord in the longest run of such notes
        first = np.maximum.accumulate(np.where(fresh, place, 0)) if size else place
        wide = onset - onset[first] > WIDEST
        late = wide & ~np.append(False, wide[:-1] & (first[1:] == first[:-1]))[:size]
        if not late.any():
            return np.cumsum(fresh) - 1, np.flatnonzero(fresh)
        fresh = fresh | late
