"""Chords as heard in the notes of a piece, and how irregular their progression is.

Nothing here reads chord symbols: music of any encoding has chords. Drums are not heard.
"""

from __future__ import annotations

import numpy as np

from mgen.arrays import Floats, Longs
from mgen.music import ngrams
from mgen.music.half_bars import HalfBars
from mgen.notes import STEPS_PER_QUARTER, Notes

QUALITIES = {"major": (0, 4, 7), "minor": (0, 3, 7)}
"""Name -> semitones above the root, in the order in which a tie is decided."""

HELD = 16 * STEPS_PER_QUARTER
"""Grid steps for which a note is heard, at most: four bars of four."""


def half_bar_chords(notes: Notes) -> tuple[Longs, Longs]:
    """The chord of every half bar in which a pitched note sounds.

    A half bar is two beats from the bar line, three at the end of an odd bar. Of the 24 major and minor triads its
    chord is the one on whose pitch classes the notes sound longest (every note counts as many grid steps as it
    sounds in the half bar; notes of one pitch class add up). Of equals, it is the one whose root is the fewest
    semitones above the lowest note that sounds, then the major one. So one pitch alone is the major chord on it,
    and the notes of Am7 are A minor over A and C major over C.

    Returns:
        (W,) piece and (W,) chord, `2 * root + (1 if minor)`, in the order of time; half bars in which nothing sounds
        are left out.

    Cannot see: sevenths, suspended and diminished chords (they go to the nearest triad: Bm7b5 to D minor), changes
    within a half bar, a root that nobody plays. In a solo line alone it finds the written root in one half bar of
    five (Weimar Jazz Database).
    Source: template matching, Fujishima 1999; the 24 triads are the usual vocabulary of chord recognition.
    """
    notes = notes.select(notes.program >= 0)
    windows = HalfBars.of(notes)
    if not len(notes):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    end = notes.onset + np.clip(notes.duration.astype(np.int64), 1, HELD)
    first = windows.at(notes.piece, notes.onset)
    count = windows.at(notes.piece, end - 1) - first + 1
    note = np.repeat(np.arange(len(notes)), count)  # one row for every note in every half bar in which it sounds
    window = np.arange(len(note)) - (np.cumsum(count) - count)[note] + first[note]
    closes = np.append(windows.onset[1:], 0)
    closes[windows.starts[1:] - 1] = np.iinfo(np.int64).max
    steps = np.minimum(end[note], closes[window]) - np.maximum(notes.onset[note], windows.onset[window])
    pitch = notes.pitch[note].astype(np.int64)

    size = len(windows.piece)
    sounding = np.bincount(window * 12 + pitch % 12, weights=steps, minlength=12 * size)
    classes = sounding.astype(np.int64).reshape(size, 12)
    bass = np.full(size, 1 << 20)
    np.minimum.at(bass, window, pitch)
    heard = np.flatnonzero(classes.any(axis=1))
    classes, bass = classes[heard], bass[heard]

    root, minor = np.arange(24) // 2, np.arange(24) % 2
    templates = np.zeros((12, 24), np.int64)
    for quality, tones in enumerate(QUALITIES.values()):
        for tone in tones:
            templates[(root[quality::2] + tone) % 12, np.arange(quality, 24, 2)] = 1
    above = (root - bass[:, None]) % 12
    chord = (24 * (classes @ templates) - 2 * above - minor).argmax(axis=1)
    return windows.piece[heard].astype(np.int64), chord


def chord_irregularity(notes: Notes, n: int = 3) -> Floats:
    """CPI: share of different chord n-grams among all of a piece, 0 (one progression over and over) to 1.

    CPI = different n-grams / n-grams, over the chords of `half_bar_chords`; a chord that is held on is one. Chords are
    told apart by their root in the piece, so a progression that returns transposed is another one, while
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
    whole = ngrams.complete(piece, n)
    total = np.bincount(piece[whole], minlength=notes.n_pieces)
    again = np.bincount(piece[ngrams.repeated(piece, chord, n)], minlength=notes.n_pieces)
    return np.where(total > 0, 1 - again / np.maximum(total, 1), np.nan)
