"""Rules of an accompaniment: a bass line against the drums that it is written to.

They read the notes of the prompt, `Notes.given`, and are defined only where these are drums alone: a corpus of pairs
(`mgen pairs`), whose completions begin with the bar in which the drums begin, in C major or A minor.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mgen.arrays import Floats, Longs, Mask, divide
from mgen.encoding.drum_bass import KICK_PITCHES, STEP
from mgen.music.metrics import SCALE
from mgen.notes import Ints, Notes
from rewards.batch import BatchFeatures
from rewards.rule import Band, BandRule, Measurement

_WHITE = np.isin(np.arange(12), SCALE)


def drums_alone(notes: Notes) -> Mask:
    """(B,) whether the given notes of a piece are drums, at least one, and nothing else."""
    if notes.given is None:
        return np.zeros(notes.n_pieces, bool)
    given = notes.given
    pitched = np.bincount(given.piece[given.program >= 0], minlength=given.n_pieces)
    alone: Mask = (given.counts > 0) & (pitched == 0)
    return alone


def _codes(piece: Ints, onset: Ints) -> Longs:
    """A number for each piece and 16th."""
    codes: Longs = piece.astype(np.int64) * (1 << 32) + (onset + STEP // 2) // STEP
    return codes


class KickAgreement(BandRule):
    """Distance of the agreement of bass and kick drum from that of the better half of real music, 0..1.

    2 |a & b| / (|a| + |b|) (Dice) of the 16ths with a kick and those with the start of a bass note. The band is the
    upper half of real lines, because policies agree with the kick as the mean of them already. Credit falls, below
    the band, on the notes without a kick. Undefined: no given drums with a kick.

    Known reward hacking: the same pitch on every kick; pair with `pitch_entropy` or the judge `realism`.
    Source: ours; the band is measured on the training corpus (`fit_bands`).
    """

    centre = 0.75

    def measure(self, music: BatchFeatures) -> Measurement:
        notes = music.notes
        if notes.given is None:
            return Measurement(np.full(notes.n_pieces, np.nan))
        given, pitched = notes.given, notes.program >= 0
        struck = np.isin(given.pitch, KICK_PITCHES) & (given.program < 0)
        kicks = np.unique(_codes(given.piece[struck], given.onset[struck]))
        played = _codes(notes.piece, notes.onset)
        starts = np.unique(played[pitched])
        both, n_kicks, n_starts = (
            np.bincount(codes >> 32, minlength=notes.n_pieces)
            for codes in (np.intersect1d(kicks, starts, assume_unique=True), kicks, starts)
        )
        defined = drums_alone(notes) & (n_kicks > 0)
        value: Floats = np.where(defined, divide(2 * both, n_kicks + n_starts), np.nan)
        on_kick = np.isin(played, kicks)
        return Measurement(value, pitched & on_kick, pitched & ~on_kick)


class InKey(BandRule):
    """Distance of the share of notes in C major and A natural minor from that of the better half of real music, 0..1.

    The band is the upper half of real lines. Credit falls, below it, on the notes outside the scale. Undefined: the
    given part is not drums alone, since other music is in any key; or no note.

    Known reward hacking: one note of the scale all along; pair with `pitch_entropy` or the judge `realism`.
    Source: ours; the band is measured on the training corpus (`fit_bands`).
    """

    centre = 0.75

    def measure(self, music: BatchFeatures) -> Measurement:
        notes = music.notes
        pitched = notes.program >= 0
        inside = pitched & _WHITE[notes.pitch % 12]
        count, total = (np.bincount(notes.piece[some], minlength=notes.n_pieces) for some in (inside, pitched))
        value: Floats = np.where(drums_alone(notes), divide(count, total), np.nan)
        return Measurement(value, None, pitched & ~inside)


ACCOMPANIMENT_RULES: dict[str, Callable[[Band], BandRule]] = {"kick_agreement": KickAgreement, "in_key": InKey}
"""Name -> factory of a rule from its band."""
