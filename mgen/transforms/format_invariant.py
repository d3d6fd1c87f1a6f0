"""The format-invariant view: a piece without what depends on its file format, as notes.

The style features of a critic work on onset clusters (`mgen.music.onset_clusters`); this view serves where notes are
needed: the shortcut baseline, and critics on other features. Deterministic.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mgen.arrays import Floats, median_of, run_starts
from mgen.music.onset_clusters import TOGETHER, cluster_starts
from mgen.notes import STEPS_PER_QUARTER, Bars, Notes
from mgen.transforms.rebuild import next_onset, onsets_from_gaps, with_onsets

Rhythm = Literal["classes", "contour", "none"]

WIDEST = 4  # grid steps from the first to the last note of a chord, at most

FINENESS = 2
"""Classes per octave of the times between onsets: 2:1 swing spans two, the noise of a performer or grid none."""

FASTEST, SLOWEST = -3, 4  # octaves from the piece's median time between onsets, to which others are limited
USUAL = STEPS_PER_QUARTER // 2  # grid steps of a piece's median time between onsets in the view
LONGER = USUAL // 3  # grid steps by which `contour` lengthens or shortens the usual time between onsets
LOUD = 64
COMMON_TIME = 4


def format_invariant_view(notes: Notes, rhythm: Rhythm = "classes") -> Notes:
    """Removes loudness, tempo, durations, articulation and the beat grid; keeps pitches, their order, chords, rhythm.

    Nearly simultaneous notes become chords. Each note lasts to the next onset, all are equally loud, and bars of 4/4
    begin with the first note. Drums are left out.

    Args:
        rhythm: `classes` keeps the times between onsets in classes of half an octave around the piece's median, which
            becomes half a beat; `contour` keeps only whether a time is longer than, shorter than or in the class of
            the one before; `none` puts one chord on each beat and one beat in each bar, so that phase, durations and
            density are gone too.

    Returns:
        As many pieces with the same notes, without duplicates on one onset and pitch.

    Also lost: sustained voices, rests, accents, the position in the bar.
    """
    notes = notes.pitched()
    notes = replace(notes, program=np.zeros_like(notes.program))
    chord, first = chords(notes)
    piece = notes.piece[first]
    begins = run_starts(piece)
    steps = _times(notes.onset[first], piece, begins, notes.n_pieces, rhythm)
    owner = np.arange(notes.n_pieces, dtype=np.int32)
    beats = 1 if rhythm == "none" else COMMON_TIME  # with 4, the last bar would give the number of chords away
    bars = Bars(owner, np.zeros_like(owner), np.full_like(owner, beats), np.full_like(owner, 4))
    last = STEPS_PER_QUARTER if rhythm == "none" else USUAL  # duration of the last chord
    plain = replace(
        notes, bars=bars, velocity=np.full_like(notes.velocity, LOUD), duration=np.full_like(notes.duration, last)
    )
    plain = with_onsets(plain, onsets_from_gaps(np.where(begins, 0, steps), begins)[chord])
    return replace(plain, duration=next_onset(plain) - plain.onset)


def _times(
    onset: NDArray[np.int32], piece: NDArray[np.int32], begins: NDArray[np.bool_], n: int, rhythm: Rhythm
) -> Floats:
    """(K,) grid steps from the previous chord to each, in the view; without meaning where a piece `begins`."""
    if rhythm == "none":
        return np.full(len(onset), float(STEPS_PER_QUARTER))
    gap = np.diff(onset, prepend=np.int32(0)).astype(np.float64)
    usual = np.maximum(np.nan_to_num(median_of(gap[~begins], piece[~begins], n), nan=1.0), 1.0)
    octaves = np.log2(np.maximum(gap / usual[piece], 2.0 ** (FASTEST - 1)))
    octaves = np.clip(np.rint(FINENESS * octaves) / FINENESS, FASTEST, SLOWEST)
    if rhythm == "classes":
        steps: Floats = np.rint(USUAL * 2.0**octaves)
        return steps
    second = np.append(False, begins[:-1])[: len(begins)]  # the first time of a piece has no predecessor
    return USUAL + LONGER * np.where(second, 0, np.sign(np.diff(octaves, prepend=0.0)))


def chords(notes: Notes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(N,) number of the chord of each note, and (K,) row of each chord's first note.

    A chord is an onset cluster (`TOGETHER` steps from note to note, `WIDEST` in all), which also ends where one of its
    pitches is struck again: a score cannot write that in one chord.
    """
    starts = cluster_starts(notes.piece, notes.onset, TOGETHER, WIDEST)
    chord = np.cumsum(starts) - 1
    order = np.lexsort((notes.onset, notes.pitch, chord))
    again = (np.diff(notes.pitch[order]) == 0) & (np.diff(chord[order]) == 0) & (np.diff(notes.onset[order]) > 0)
    first_of_onset = np.maximum.accumulate(np.where(run_starts(notes.piece, notes.onset), np.arange(len(notes)), 0))
    starts[first_of_onset[order[1:][again]]] = True
    return np.cumsum(starts) - 1, np.flatnonzero(starts)
