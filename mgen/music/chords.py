"""Chords inferred from the notes of half bars, and how irregular their progression is.

No chord symbols are read: music of any encoding has chords. Drums are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mgen.arrays import Floats, Longs, Mask
from mgen.music import ngrams
from mgen.music.half_bars import HalfBars
from mgen.notes import STEPS_PER_QUARTER, Notes

Integers = NDArray[np.integer[Any]]
Qualities = Sequence[Sequence[int]]
"""Chord qualities, each as semitones above the root, in the order that decides ties."""

TRIADS: Qualities = ((0, 4, 7), (0, 3, 7))  # major, minor

SEVENTHS: Qualities = ((0, 4, 7, 10), (0, 4, 7, 11), (0, 3, 7, 10), (0, 3, 6, 10))
"""Dominant, major, minor and half-diminished seventh."""

LONGEST_NOTE = 16 * STEPS_PER_QUARTER  # grid steps after which a note is taken as silent: four bars of 4/4
_NO_BASS = 1 << 20


def infer_chords(
    half_bars: HalfBars,
    half_bar: Longs,
    onset: Integers,
    duration: Integers,
    pitch: Integers,
    qualities: Qualities,
    *,
    context: bool = False,
) -> tuple[Longs, Longs, Mask]:
    """Finds the chord whose pitch classes sound longest in each half bar.

    Each note counts the grid steps that it sounds in the half bar; notes of one pitch class add up. A tie goes to the
    chord whose root is the fewest semitones above the lowest note that sounds in the half bar, then to the earlier
    quality.

    Args:
        half_bars: W half bars.
        half_bar: (N,) index in `half_bars` of each note's beginning.
        onset, duration, pitch: (N,) of each note.
        qualities: K chord qualities.
        context: count the half bars before and after as well. Large templates need this: a few notes of one half bar
            always fit some seventh chord.

    Returns:
        (W,) root 0..11, (W,) quality 0..K - 1, and (W,) whether any note sounds in the half bar; where none does and
        none counts from `context`, root and quality are meaningless.

    Source: template matching, Fujishima 1999.
    """
    size, n = len(half_bars.piece), len(qualities)
    ends = np.append(half_bars.onset[1:], 0)
    ends[half_bars.starts[1:] - 1] = np.iinfo(np.int64).max
    steps, bass = np.zeros(size * 12), np.full(size, _NO_BASS)
    begin = onset.astype(np.int64)
    end = begin + np.clip(duration, 1, LONGEST_NOTE)
    while len(half_bar):  # once for each half bar that the longest note spans
        stop = np.minimum(end, ends[half_bar])
        steps += np.bincount(half_bar * 12 + pitch % 12, weights=np.maximum(stop - begin, 0), minlength=12 * size)
        np.minimum.at(bass, half_bar, pitch)
        on = end > ends[half_bar]
        half_bar, begin, end, pitch = half_bar[on] + 1, stop[on], end[on], pitch[on]
    own = steps.reshape(size, 12)
    classes = own
    if context:
        classes, adjacent = own.copy(), half_bars.piece[1:] == half_bars.piece[:-1]
        classes[1:][adjacent] += own[:-1][adjacent]
        classes[:-1][adjacent] += own[1:][adjacent]
    templates = np.zeros((12, 12, n))  # pitch class, root, quality
    for quality, tones in enumerate(qualities):
        for tone in tones:
            templates[(np.arange(12) + tone) % 12, np.arange(12), quality] = 1
    fit = (classes @ templates.reshape(12, 12 * n)).reshape(size, 12, n)  # whole numbers, so exact
    above = (np.arange(12) - bass[:, None]) % 12
    order = above[:, :, None] * n + np.arange(n)
    best = (fit * (12 * n) - order).reshape(size, 12 * n).argmax(axis=1)
    return best // n, best % n, bass < _NO_BASS


def half_bar_chords(notes: Notes) -> tuple[Longs, Longs]:
    """Finds the major or minor triad of every half bar in which a pitched note sounds (`infer_chords`).

    A half bar is two quarters or three eighths from the bar line, more at the end of an odd bar. One pitch alone is the
    major chord on it; the notes of Am7 are A minor over A and C major over C.

    Returns:
        (W,) piece and (W,) chord, `2 * root + (1 if minor)`, in order of time; silent half bars are left out.

    Cannot see: sevenths, suspended and diminished chords (they go to the nearest triad: Bm7b5 to D minor), changes
    within a half bar, a root that no note plays. In a solo line alone it finds the written root in one half bar of
    five (Weimar Jazz Database).
    Source: the 24 triads are the usual vocabulary of chord recognition.
    """
    notes = notes.pitched()
    windows = HalfBars.of(notes)
    window = windows.at(notes.piece, notes.onset)
    root, quality, sounds = infer_chords(windows, window, notes.onset, notes.duration, notes.pitch, TRIADS)
    return windows.piece[sounds].astype(np.int64), (2 * root + quality)[sounds]


def chord_irregularity(notes: Notes, n: int = 3) -> Floats:
    """CPI: share of different chord n-grams among all of a piece, 0 (one progression over and over) to 1.

    CPI = different n-grams / n-grams, over the chords of `half_bar_chords`; a chord held over several half bars counts
    once. Chords differ by their root in the piece, so a progression that returns transposed is another one, while
    transposing the whole piece changes nothing.

    Cannot see: what `half_bar_chords` cannot; how long chords last. Falls with the length of the piece: compare pieces
    of one length. Over a solo line alone it is near 1, and only its distance to real solos means something: those of
    the Weimar Jazz Database have 0.96, with random pitches 0.99; the published 0.40 is of their written chords.
    NaN: fewer than n changes of chord.
    Source: chord progression irregularity of Wu and Yang 2020, arXiv:2008.01307, on written chords; their code
    (MusDr) leaves a piece's last n-gram out and gives 1 to a piece of n chords or fewer.
    """
    piece, chord = half_bar_chords(notes)
    changed = ngrams.run_length(piece, chord) == 1
    piece, chord = piece[changed], chord[changed]
    return 1 - ngrams.repeat_share(piece, chord, n, notes.n_pieces)
