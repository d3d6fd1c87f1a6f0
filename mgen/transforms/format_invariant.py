"""What is left of a piece without what tells who wrote the file, as notes again.

A stand-in for what a critic of traits hears (`mgen.music.onset_clusters`), where notes are needed: for the control
of format, and for critics on other features. One deterministic change of every piece; knows nothing of styles.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mgen.arrays import Floats, median_of
from mgen.music.metrics import pitched
from mgen.notes import STEPS_PER_QUARTER, Bars, Notes
from mgen.transforms.format_augmentations import next_onset, relaid

Rhythm = Literal["classes", "contour", "none"]

TOGETHER = 2
"""Grid steps, 42 ms by the clock of performed music: notes at most so far from the one before sound as one chord."""

WIDEST = 4
"""Grid steps from the first to the last note of such a chord."""

FINENESS = 2
"""Classes an octave of the times between onsets: 2:1 swing is two classes, and what a player or a grid adds is none."""

FASTEST, SLOWEST = -3, 4
"""Octaves between which times between onsets are kept, from the piece's median one."""

USUAL = STEPS_PER_QUARTER // 2
"""Grid steps of a piece's median time between onsets, as heard."""

LONGER = USUAL // 3
"""Grid steps that a longer time between onsets than the one before has more than the usual one, and a shorter less."""

LOUD = 64
COMMON_TIME = 4


def heard(notes: Notes, rhythm: Rhythm = "classes") -> Notes:
    """The pieces as a critic hears them; drums are not heard.

    Nearly simultaneous notes become chords, as a score would have them. Each note lasts to the next onset, all are
    equally loud, and bars of 4/4 begin with the first note. So velocity, tempo, durations, articulation, the beat grid,
    and whether there is one, are gone; pitches, their order, chords and what is kept of the rhythm are left.

    Args:
        rhythm: `classes` keeps the times from one onset to the next in classes of half an octave around the piece's
            median, which becomes half a beat; `contour` keeps only whether a time is longer than, shorter than or in
            the class of the one before; with `none` there is a chord a beat, and a beat a bar: of loudness, phase,
            durations and density nothing is left.

    Returns:
        A table of as many pieces and the same notes; only what doubled a note on its onset and pitch is gone.

    Cannot be heard any more: sustained voices and held bass notes, rests as such, accents, the place in the bar.
    """
    notes = pitched(notes)
    notes = replace(notes, program=np.zeros_like(notes.program))
    chord, first = chords(notes)
    piece = notes.piece[first]
    begins = np.append(True, np.diff(piece) != 0)[: len(piece)]
    steps = _times(notes.onset[first], piece, begins, notes.n_pieces, rhythm)
    total = np.cumsum(np.where(begins, 0, steps))
    onset = total - np.maximum.accumulate(np.where(begins, total, 0))
    owner = np.arange(notes.n_pieces, dtype=np.int32)
    beats = 1 if rhythm == "none" else COMMON_TIME  # the last bar of four would tell how many chords there are
    bars = Bars(owner, np.zeros_like(owner), np.full_like(owner, beats))
    last = STEPS_PER_QUARTER if rhythm == "none" else USUAL  # of a piece, which no onset ends
    plain = replace(
        notes, bars=bars, velocity=np.full_like(notes.velocity, LOUD), duration=np.full_like(notes.duration, last)
    )
    plain = relaid(plain, onset[chord].astype(np.int32))
    return replace(plain, duration=next_onset(plain) - plain.onset)


def _times(
    onset: NDArray[np.int32], piece: NDArray[np.int32], begins: NDArray[np.bool_], n: int, rhythm: Rhythm
) -> Floats:
    """(K,) grid steps from the chord before to each, as heard; of no meaning where a piece `begins`."""
    if rhythm == "none":
        return np.full(len(onset), float(STEPS_PER_QUARTER))
    gap = np.diff(onset, prepend=np.int32(0)).astype(np.float64)
    usual = np.maximum(np.nan_to_num(median_of(gap[~begins], piece[~begins], n), nan=1.0), 1.0)
    octaves = np.log2(np.maximum(gap / usual[piece], 2.0 ** (FASTEST - 1)))
    octaves = np.clip(np.rint(FINENESS * octaves) / FINENESS, FASTEST, SLOWEST)
    if rhythm == "classes":
        steps: Floats = np.rint(USUAL * 2.0**octaves)
        return steps
    second = np.append(False, begins[:-1])[: len(begins)]  # the first time of a piece has none before it
    return USUAL + LONGER * np.where(second, 0, np.sign(np.diff(octaves, prepend=0.0)))


def chords(notes: Notes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(N,) number of the chord that each note belongs to, and (K,) row of each chord's first note.

    A chord goes on while the next note begins at most `TOGETHER` steps after the one before and `WIDEST` after the
    chord's first, and ends where one of its pitches is struck again.
    """
    onset, size = notes.onset, len(notes)
    place = np.arange(size)
    new = np.append(True, np.diff(notes.piece) != 0)[:size]
    later = np.append(True, np.diff(onset) != 0)[:size] | new
    fresh = new | np.append(True, np.diff(onset) > TOGETHER)[:size]
    while size:  # once for each chord in the longest run of such notes
        first = np.maximum.accumulate(np.where(fresh, place, 0))
        wide = onset - onset[first] > WIDEST
        late = wide & ~np.append(False, wide[:-1] & (first[1:] == first[:-1]))
        if not late.any():
            break
        fresh = fresh | late
    chord = np.cumsum(fresh) - 1
    order = np.lexsort((onset, notes.pitch, chord))
    again = (np.diff(notes.pitch[order]) == 0) & (np.diff(chord[order]) == 0) & (np.diff(onset[order]) > 0)
    moment = np.maximum.accumulate(np.where(later, place, 0)) if size else place
    fresh[moment[order[1:][again]]] = True
    return np.cumsum(fresh) - 1, np.flatnonzero(fresh)
