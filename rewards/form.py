"""Rules of form: structure at three scales, length, ending."""

from __future__ import annotations

import numpy as np

from rewards.batch import SCALES, BatchFeatures
from rewards.rule import Band, BandRule, Measurement


class Structure(BandRule):
    """Distance of structureness at one scale from that of real music, 0..1.

    Mean similarity of each segment of the piece to its most similar other segment, transposed or not
    (`mgen.music.structure`): a loop has 1. Credit falls on all notes equally. Undefined: a piece shorter than two
    segments. If most real pieces are, the corpus has no band, and the rule cannot be built.

    Known reward hacking: a few bars repeated in alternation; pair with `loops` and `repetition_pitch`.
    Source: `mgen.music.structure.structureness`; the band is measured on the training corpus (`fit_bands`).
    """

    beat_bound = True

    def __init__(self, band: Band, scale: str) -> None:
        super().__init__(band)
        self.half_bars = SCALES[scale]

    def measure(self, music: BatchFeatures) -> Measurement:
        return Measurement(music.structure[self.half_bars])


class Length(BandRule):
    """Distance of the number of notes from that of real music.

    Credit falls on all notes equally. Undefined: no pitched notes.

    Known reward hacking: any notes in the right number; pair with all other rules.
    Source: the band is measured on the training corpus (`fit_bands`), not chosen.
    """

    inside, least = 0.8, 1.0

    def measure(self, music: BatchFeatures) -> Measurement:
        return Measurement(np.where(music.count > 0, music.count.astype(np.float64), np.nan))


class Ending(BandRule):
    """Distance of the relative length of the last sound from that of real music, in octaves (log2).

    Longest note of the last onset cluster over the geometric mean of all durations. Complete pieces end on a long note,
    excerpts on any: the band requires an ending only if it was measured on complete pieces. Credit falls on the notes
    of the last cluster. Undefined: fewer than two clusters.

    Known reward hacking: a long note after anything; pair with `voice_leading`.
    Source: ours, after phrase-final lengthening; the band is measured on the training corpus (`fit_bands`).
    """

    inside = 0.8

    def measure(self, music: BatchFeatures) -> Measurement:
        last = np.append(music.cluster_piece[1:] != music.cluster_piece[:-1], True)[music.cluster]
        length = np.log2(np.maximum(music.duration, 1))
        longest = np.zeros(music.n)
        np.maximum.at(longest, music.piece[last], length[last])
        value = np.where(music.n_clusters > 1, longest - music.mean(length, music.piece), np.nan)
        return Measurement(value, music.to_notes(last), music.to_notes(last))
