"""Does a piece repeat itself as much as real music does? Too little is a fault as much as too much."""

from __future__ import annotations

import numpy as np

from mgen.arrays import Floats, Mask
from mgen.errors import MgenError
from mgen.music import ngrams
from mgen.music.ngrams import View
from rewards.batch import BatchFeatures
from rewards.rule import Band, BandRule

FIGURE = 2
"""Intervals in a figure of `PhraseReuse`: three notes of a line."""


class RepetitionBand(BandRule):
    """Distance of a piece's repeated n-grams from the share that real music has.

    0 inside the band, falling by 1 for every band width outside it (in square roots), down to -3: too much is a
    loop, too little is noodling. Credit falls on the notes that complete a repeated n-gram (or, below the
    band, on those that complete one never heard before). A piece without a single n-gram is not `defined` and gets
    the worst score, -3.

    An n-gram is n pitches (n notes) or n intervals (n + 1 notes) in a row, chords read upwards. Transposing a
    piece changes nothing. Short n-grams are what tells music from a random walk: an excerpt of a few hundred tokens
    hardly ever repeats a long one, so that its band would reach down to 0 and ask for nothing.

    Known reward hacking: varying one note in n hides a loop from pitch n-grams, and so does transposing it; pair
    with the interval view, which hears the second. Beyond three widths a little less looping gains nothing.
    Source: the band is measured on the training corpus (`fit_bands`), not chosen.
    """

    root = True

    def __init__(self, band: Band, n: int = 2, view: View = "pitch") -> None:
        if n < 1 or view not in {"pitch", "interval"}:
            raise MgenError(f"repetition: expected n >= 1 and view pitch or interval, got {n} and {view}")
        super().__init__(band)
        self.n, self.view = n, view

    def value(self, music: BatchFeatures) -> Floats:
        again, whole = music.repeats(self.n, self.view)
        return music.share(again, whole)

    def blame(self, music: BatchFeatures) -> tuple[Mask | None, Mask | None]:
        again, whole = music.repeats(self.n, self.view)
        return music.to_notes(again), music.to_notes(whole & ~again)


class RhythmRepetition(BandRule):
    """Distance of a piece's repeated rhythms from the share that real music has.

    A rhythm is `n` consecutive gaps between onset clusters, in the classes of `BatchFeatures.gap_class`. Distances are
    in square roots. Credit falls on the notes that complete a repeated rhythm, or, below the band, a new one.
    Undefined: fewer than n + 1 clusters.

    Known reward hacking: a rhythm repeated often enough under any pitches; pair with `onset_variety`.
    Source: the band is measured on the training corpus (`fit_bands`), not chosen.
    """

    root = True

    def __init__(self, band: Band, n: int = 4) -> None:
        super().__init__(band)
        self.n = n

    def _masks(self, music: BatchFeatures) -> tuple[Mask, Mask]:
        at = np.flatnonzero(music.follows)
        piece = music.cluster_piece[at]
        again, whole = np.zeros((2, len(music.first)), bool)
        again[at] = ngrams.repeated(piece, music.gap_class[at], self.n)
        whole[at] = ngrams.complete(piece, self.n)
        return again, whole

    def value(self, music: BatchFeatures) -> Floats:
        again, whole = self._masks(music)
        return music.mean(again[whole], music.cluster_piece[whole])

    def blame(self, music: BatchFeatures) -> tuple[Mask | None, Mask | None]:
        again, whole = self._masks(music)
        return music.clusters_to_notes(again), music.clusters_to_notes(whole & ~again)


class Loops(BandRule):
    """Distance of a piece's longest loop, as a share of its notes, from what real music has.

    A loop is a figure of pitches, of at most 64 notes, that is heard at least twice without a break; the last turn
    may be cut short, and one pitch repeated is a figure of one note. Credit falls on the notes of loops longer than
    the band allows. Undefined: fewer than two notes.

    Known reward hacking: one other note at every turn, or a turn transposed; pair with `repetition_interval`.
    Source: the band is measured on the training corpus (`fit_bands`), not chosen.
    """

    inside = 0.8

    def value(self, music: BatchFeatures) -> Floats:
        longest = np.zeros(music.n, np.int64)
        np.maximum.at(longest, music.piece, music.loop)
        return np.where(music.count > 1, longest / np.maximum(music.count, 1), np.nan)

    def blame(self, music: BatchFeatures) -> tuple[Mask | None, Mask | None]:
        return music.to_notes(music.loop > self.band.high * music.count[music.piece]), None


class LongestRun(BandRule):
    """Distance of the longest run of one pitch, in notes, from what real music has.

    0 inside the band, falling by 1 for every band width outside it, down to -3. Credit falls on the notes
    that carry a run on beyond the band (or, below the band, on all notes alike). A piece of fewer than two
    notes is not `defined` and gets the worst score, -3.

    Known reward hacking: two pitches in alternation never make a run; pair with `RepetitionBand`.
    Source: the band is measured on the training corpus (`fit_bands`), not chosen.
    """

    inside, least = 0.8, 1.0

    def value(self, music: BatchFeatures) -> Floats:
        longest = np.zeros(music.n, np.int64)
        np.maximum.at(longest, music.piece, music.run)
        return np.where(music.count > 1, longest, np.nan)

    def blame(self, music: BatchFeatures) -> tuple[Mask | None, Mask | None]:
        return music.to_notes(music.run > self.band.high), None


class PhraseReuse(BandRule):
    """Distance of the figures that come back after something else from the share that real music has.

    A figure is two intervals of the top line, transposed or not; the share is of its places in the line where one
    begins to come back: it was heard before, and what came just before it here was not (so of a stretch that is heard
    again, however long, one figure counts). A random line has few such places, and so has a loop, which never goes to
    anything else; music that takes up its ideas has several. Distances are in square roots. Credit falls, above the
    band, on the notes that complete such a figure, and below it on all notes alike. Undefined: fewer than three
    moments. In excerpts of some fifty notes the band reaches down to 0, and a line that never takes anything up again
    passes.

    Known reward hacking: one figure between ever new notes; pair with `repetition_interval`.
    Source: ours; the band is measured on the training corpus (`fit_bands`), not chosen.
    """

    root = True

    def _masks(self, music: BatchFeatures) -> tuple[Mask, Mask]:
        again, whole = music.line_repeats(FIGURE)
        going_on = np.append(False, again[:-1])[: len(again)]
        return again & ~going_on, whole

    def value(self, music: BatchFeatures) -> Floats:
        back, whole = self._masks(music)
        return music.mean(back[whole], music.cluster_piece[whole])

    def blame(self, music: BatchFeatures) -> tuple[Mask | None, Mask | None]:
        return music.clusters_to_notes(self._masks(music)[0]), None
