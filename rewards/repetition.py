"""Rules of repetition: too little is penalised as well as too much."""

from __future__ import annotations

import numpy as np

from mgen.arrays import max_of
from mgen.errors import MgenError
from mgen.music import ngrams
from mgen.music.ngrams import View
from rewards.batch import BatchFeatures
from rewards.rule import Band, BandRule, Measurement

FIGURE = 2  # intervals in a figure of `PhraseReuse`: three notes of a line


class RepetitionBand(BandRule):
    """Distance of the share of repeated n-grams from that of real music.

    0 inside the band, falling by 1 for every band width outside it (in square roots), down to -3: too much is a
    loop, too little is noodling. Credit falls on the notes that complete a repeated n-gram (or, below the band, on
    those that complete a new one). A piece without an n-gram is not `defined` and gets the worst score, -3.

    An n-gram is n consecutive pitches (n notes) or intervals (n + 1 notes), chords read upwards. Transposing a piece
    changes nothing. Short n-grams distinguish music from a random walk: an excerpt of a few hundred tokens hardly ever
    repeats a long one, so that a band of long n-grams would reach down to 0 and have no effect.

    Known reward hacking: varying one note in n hides a loop from pitch n-grams, and so does transposing it; the
    interval view finds the second. Beyond three widths a little less looping gains nothing.
    Source: the band is measured on the training corpus (`fit_bands`), not chosen.
    """

    root = True

    def __init__(self, band: Band, n: int = 2, view: View = "pitch") -> None:
        if n < 1 or view not in {"pitch", "interval"}:
            raise MgenError(f"repetition: expected n >= 1 and view pitch or interval, got {n} and {view}")
        super().__init__(band)
        self.n, self.view = n, view

    def measure(self, music: BatchFeatures) -> Measurement:
        again, whole = music.repeats(self.n, self.view)
        return Measurement(music.share(again, whole), music.to_notes(again), music.to_notes(whole & ~again))


class RhythmRepetition(BandRule):
    """Distance of the share of repeated rhythms from that of real music.

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

    def measure(self, music: BatchFeatures) -> Measurement:
        at = np.flatnonzero(music.follows)
        piece = music.cluster_piece[at]
        again, whole = np.zeros((2, len(music.first)), bool)
        again[at] = ngrams.repeated(piece, music.gap_class[at], self.n)
        whole[at] = ngrams.complete(piece, self.n)
        share = music.mean(again[whole], music.cluster_piece[whole])
        return Measurement(share, music.clusters_to_notes(again), music.clusters_to_notes(whole & ~again))


class Loops(BandRule):
    """Distance of the longest loop, as a share of a piece's notes, from that of real music.

    A loop is a figure of at most 64 pitches that occurs at least twice without a break; the last repetition may be cut
    short, and one repeated pitch is a figure of one note. Credit falls on the notes of loops longer than the band
    allows. Undefined: fewer than two notes.

    Known reward hacking: one other note in every repetition, or a transposed one; pair with `repetition_interval`.
    Source: the band is measured on the training corpus (`fit_bands`), not chosen.
    """

    inside = 0.8

    def measure(self, music: BatchFeatures) -> Measurement:
        longest = max_of(music.loop, music.piece, music.n)
        share = np.where(music.count > 1, longest / np.maximum(music.count, 1), np.nan)
        return Measurement(share, music.to_notes(music.loop > self.band.high * music.count[music.piece]))


class LongestRun(BandRule):
    """Distance of the longest run of one pitch, in notes, from that of real music.

    0 inside the band, falling by 1 for every band width outside it, down to -3. Credit falls on the notes of a run
    beyond the band (or, below the band, on all notes equally). A piece of fewer than two notes is not `defined` and
    gets the worst score, -3.

    Known reward hacking: two pitches in alternation never form a run; pair with `RepetitionBand`.
    Source: the band is measured on the training corpus (`fit_bands`), not chosen.
    """

    inside, least = 0.8, 1.0

    def measure(self, music: BatchFeatures) -> Measurement:
        longest = np.where(music.count > 1, max_of(music.run, music.piece, music.n), np.nan)
        return Measurement(longest, music.to_notes(music.run > self.band.high))


class PhraseReuse(BandRule):
    """Distance of the share of figures that return after other material from that of real music.

    A figure is two intervals of the top line, transposed or not. The share is of the positions of the line where a
    return begins: the figure occurred earlier, but the figure one note before it did not (so a returning passage
    counts once, however long). A random line has few returns, and so has a loop, which never leaves its figure; music
    that takes up its ideas has several. Distances are in square roots. Credit falls, above the band, on the notes that
    complete such a figure, and below it on all notes equally. Undefined: fewer than three clusters. In excerpts of
    some fifty notes the band reaches down to 0, and a line without returns passes.

    Known reward hacking: one figure between new notes; pair with `repetition_interval`.
    Source: ours; the band is measured on the training corpus (`fit_bands`), not chosen.
    """

    root = True

    def measure(self, music: BatchFeatures) -> Measurement:
        again, whole = music.line_repeats(FIGURE)
        begins = again & ~np.append(False, again[:-1])[: len(again)]
        return Measurement(music.mean(begins[whole], music.cluster_piece[whole]), music.clusters_to_notes(begins))
