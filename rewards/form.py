"""Does the piece hold together as a whole? Structure at three scales, length, and whether it ends."""

from __future__ import annotations

import numpy as np

from mgen.arrays import Floats, Mask
from rewards.batch import BatchFeatures
from rewards.rule import Band, BandRule

SCALES = {"short": 2, "mid": 4, "long": 8}
"""Name -> half bars in a segment: one, two and four bars of four quarters. Those of evaluation are twice as long;
excerpts as short as a completion seldom hold two of their longest."""


class Structure(BandRule):
    """Distance of structureness at one scale from that of real music, 0..1.

    How much a segment of so many half bars resembles the most similar other segment of its piece, transposed or not,
    mean over segments (`mgen.music.structure`): a loop has 1. Credit falls on all notes alike. Undefined: a piece
    shorter than two segments. Where most real pieces are, the corpus has no band, and the rule cannot be built.

    Known reward hacking: a few bars copied to and fro; pair with `loops` and `repetition_pitch`.
    Source: `mgen.music.structure.structureness`; the band is measured on the training corpus (`fit_bands`).
    """

    def __init__(self, band: Band, scale: str) -> None:
        super().__init__(band)
        self.half_bars = SCALES[scale]

    def value(self, music: BatchFeatures) -> Floats:
        return music.structure[self.half_bars]


class Length(BandRule):
    """Distance of the number of notes from that of real music.

    Credit falls on all notes alike. Undefined: no pitched notes.

    Known reward hacking: any notes, as many as asked for; pair with everything else.
    Source: the band is measured on the training corpus (`fit_bands`), not chosen.
    """

    inside, least = 0.8, 1.0

    def value(self, music: BatchFeatures) -> Floats:
        return np.where(music.count > 0, music.count.astype(np.float64), np.nan)


class Ending(BandRule):
    """Distance of the length of the last sound from that of real music, in octaves (log2) beside a typical note.

    Longest note of the last moment over the geometric mean of all durations. Whole pieces end on a long note and cut
    ones on any: the band asks for an ending only if it was measured on music that ends. Credit falls on the notes of
    the last moment. Undefined: fewer than two moments.

    Known reward hacking: a long note after anything; pair with `voice_leading`.
    Source: ours, after phrase-final lengthening; the band is measured on the training corpus (`fit_bands`).
    """

    inside = 0.8

    def _last(self, music: BatchFeatures) -> Mask:
        last = np.ones(len(music.first), bool)
        last[:-1] = np.diff(music.cluster_piece) != 0
        out: Mask = last[music.cluster]
        return out

    def value(self, music: BatchFeatures) -> Floats:
        last = self._last(music)
        held = np.log2(np.maximum(music.duration, 1))
        longest = np.zeros(music.n)
        np.maximum.at(longest, music.piece[last], held[last])
        return np.where(music.n_clusters > 1, longest - music.mean(held, music.piece), np.nan)

    def blame(self, music: BatchFeatures) -> tuple[Mask | None, Mask | None]:
        last = music.to_notes(self._last(music))
        return last, last
