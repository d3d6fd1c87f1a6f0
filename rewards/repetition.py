"""Does a piece repeat itself as much as real music does? Too little is a fault as much as too much."""

from __future__ import annotations

import numpy as np

from mgen.errors import MgenError
from mgen.judgement import Judgement
from mgen.ngrams import View, longest_run, repeats, run_length, share
from mgen.notes import Notes
from rewards.bands import WORST, Band, judge_by_band


class RepetitionBand:
    """Distance of a piece's repeated n-grams from the share that real music has.

    0 inside the band, falling by 1 for every band width outside it, down to -3: too much repetition is a
    loop, too little is noodling. Credit falls on the notes that complete a repeated n-gram (or, below the
    band, on all notes alike). A piece without a single n-gram is not `defined` and gets the worst score, -3.

    An n-gram is n pitches (n notes) or n intervals (n + 1 notes) in a row, chords read upwards. Transposing a
    piece changes nothing.

    Known exploit: varying one note in n hides a loop from pitch n-grams, and so does transposing it; pair
    with the interval view, which hears the second. Beyond three widths a little less looping gains nothing.
    Source: the band is measured on the training corpus (`fit_bands`), not chosen.
    """

    worst = WORST

    def __init__(self, band: Band, n: int = 4, view: View = "pitch") -> None:
        if n < 1 or view not in {"pitch", "interval"}:
            raise MgenError(f"repetition: expected n >= 1 and view pitch or interval, got {n} and {view}")
        self.band, self.n, self.view = band, n, view

    def __call__(self, notes: Notes) -> Judgement:
        ended, whole = repeats(notes, self.n, self.view)
        return judge_by_band(self.band, share(notes, ended, whole), notes, ended, self.worst)


class LongestRun:
    """Distance of the longest run of one pitch, in notes, from what real music has.

    0 inside the band, falling by 1 for every band width outside it, down to -3. Credit falls on the notes
    that carry a run on beyond the band (or, below the band, on all notes alike). A piece of fewer than two
    notes is not `defined` and gets the worst score, -3.

    Known exploit: two pitches in alternation never make a run; pair with `RepetitionBand`.
    Source: the band is measured on the training corpus (`fit_bands`), not chosen.
    """

    worst = WORST

    def __init__(self, band: Band) -> None:
        self.band = band

    def __call__(self, notes: Notes) -> Judgement:
        run = run_length(notes.piece, notes.pitch)
        value = np.where(notes.counts > 1, longest_run(notes), np.nan)
        return judge_by_band(self.band, value, notes, run > self.band.high, self.worst)
