"""Base of the band rules: a band, and the score and credit that follow from it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import isfinite, sqrt
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mgen.arrays import Floats, Mask
from mgen.errors import MgenError
from mgen.judgement import Judgement
from mgen.notes import Notes
from rewards.batch import BatchFeatures, batch_features

WORST = -3.0  # lowest score of a band rule: three widths outside, so that no rule dominates the others


@dataclass(frozen=True, slots=True)
class Band:
    """The range of real music for one quantity.

    Raises:
        MgenError: `low` is not below `high`, or one of them is not finite.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (isfinite(self.low) and isfinite(self.high) and self.low < self.high):
            raise MgenError(f"band: low ({self.low}) must be below high ({self.high}); measure it again")

    def distance(self, values: ArrayLike) -> NDArray[np.float64]:
        """Distance to the band in band widths: 0 inside; NaN stays NaN."""
        values = np.asarray(values, dtype=np.float64)
        outside = np.maximum(np.maximum(self.low - values, values - self.high), 0.0)
        return outside / (self.high - self.low)


def judge_by_band(
    band: Band, value: Floats, notes: Notes, excess: Mask | None = None, lack: Mask | None = None, worst: float = WORST
) -> Judgement:
    """Scores minus the distance to the band, at least `worst`, and assigns the score to notes as credit.

    Args:
        band: the range of `value` in real music.
        value: (B,) measure of each piece; NaN where undefined, which scores `worst` and is not `defined`.
        notes: the pieces.
        excess: (N,) notes that make `value` large; they share the credit of a piece above the band. None: all notes.
        lack: (N,) notes that make `value` small, for pieces below the band. In a piece without such notes, and where
            its value is undefined, all notes share the credit.
        worst: lowest score, below 0.
    """
    piece = notes.piece
    defined = ~np.isnan(value)
    score = np.where(defined, np.maximum(0.0 - band.distance(value), worst), worst)
    carries = np.ones(len(notes), bool)
    for mask, blamed in ((value > band.high, excess), (value < band.low, lack)):
        if blamed is not None:
            carries &= blamed | ~mask[piece]
    count = np.bincount(piece[carries], minlength=notes.n_pieces)
    nobody = count == 0
    carries |= nobody[piece]
    count = np.where(nobody, notes.counts, count)
    credit = np.where(carries, (score / np.maximum(count, 1))[piece], 0.0)
    return Judgement(score.astype(np.float32), credit.astype(np.float32), defined)


class Measurement(NamedTuple):
    """What a rule measures in B pieces of N notes; a mask of None is all notes equally."""

    value: Floats  # (B,) NaN where undefined
    excess: Mask | None = None  # (N,) notes that make the value too large
    lack: Mask | None = None  # (N,) notes that make it too small


class BandRule(ABC):
    """A rule that scores how far one number of a piece lies outside the band of real music.

    0 inside the band, falling by 1 for every band width outside it, down to -3. A piece whose number is undefined is
    not `defined` and gets the worst score, -3. Drums are left out.

    Attributes:
        root: measure distances between square roots. Shares that come from counts have a nearly constant variance on
            that scale.
        inside: share of real pieces inside a measured band. One half, except for measures that are near 0 in most
            pieces.
        centre: share of real pieces below the middle of the band: one half, or more for what a piece should have more
            of than most real ones.
        least: smallest width of a measured band; None: the share of one note in a typical piece.
        beat_bound: measure against beats or bar lines, which are the music's only in pieces on the beat grid; bands of
            such rules are measured there.
    """

    worst = WORST
    root: ClassVar[bool] = False
    inside: ClassVar[float] = 0.5
    centre: ClassVar[float] = 0.5
    least: ClassVar[float | None] = None
    beat_bound: ClassVar[bool] = False

    def __init__(self, band: Band) -> None:
        self.band = band

    @abstractmethod
    def measure(self, music: BatchFeatures) -> Measurement:
        """The number of each piece, and the notes that bear the credit."""

    def __call__(self, notes: Notes) -> Judgement:
        value, excess, lack = self.measure(batch_features(notes))
        band = self.band
        if self.root:
            band, value = Band(sqrt(band.low), sqrt(band.high)), np.sqrt(value)
        return judge_by_band(band, value, notes, excess, lack, self.worst)
