"""Bands: where real music lies, measured on a corpus and stored as data.

A rule scores the distance to a band in units of the band's width, so that every rule speaks the same unit and
a weight of 1 means something. A band holds for excerpts of one length: long pieces repeat more of themselves
than short ones.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from math import isfinite
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mgen.errors import MgenError
from mgen.judgement import Judgement
from mgen.ngrams import longest_run, repeated_share
from mgen.notes import Notes

WORST = -3.0
"""The least that a band rule gives: three widths outside. One judge cannot shout down the others."""

FEWEST_PIECES = 20
"""Pieces below which quantiles say nothing of a corpus."""


@dataclass(frozen=True, slots=True)
class Band:
    """An interval that real music occupies.

    Raises:
        MgenError: `low` is not below `high`, or one of them is not finite.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (isfinite(self.low) and isfinite(self.high) and self.low < self.high):
            raise MgenError(f"band: low ({self.low}) must be below high ({self.high}); measure it anew")

    def distance(self, values: ArrayLike) -> NDArray[np.float64]:
        """0 for values inside, growing by 1 for every width of the band outside; NaN stays NaN."""
        values = np.asarray(values, dtype=np.float64)
        outside = np.maximum(np.maximum(self.low - values, values - self.high), 0.0)
        return outside / (self.high - self.low)


def judge_by_band(
    band: Band, value: NDArray[np.float64], notes: Notes, excess: NDArray[np.bool_], worst: float = WORST
) -> Judgement:
    """Minus the distance to the band, not below `worst`, with credit.

    Args:
        band: where `value` should lie.
        value: (B,) measure of each piece; NaN where it has none, which scores `worst` and is not `defined`.
        notes: the pieces.
        excess: (N,) notes that make `value` large, at least one in every piece above the band. They share the
            credit of such a piece; everywhere else all notes do.
        worst: least score, below 0.
    """
    defined = ~np.isnan(value)
    score = np.where(defined, np.maximum(0.0 - band.distance(value), worst), worst)
    carries = excess | ~(value > band.high)[notes.piece]
    count = np.bincount(notes.piece[carries], minlength=notes.n_pieces)
    each = score / np.maximum(count, 1)
    credit = np.where(carries, each[notes.piece], 0.0)
    return Judgement(score.astype(np.float32), credit.astype(np.float32), defined)


@dataclass(frozen=True, slots=True)
class Measure:
    """Something that has a band.

    Attributes:
        of: (B,) float64 values of a batch; NaN where a piece has none.
        inside: share of real pieces that the band holds; as many lie below as above.
        is_share: values are shares of a piece's notes (else counts of notes).
    """

    of: Callable[[Notes], NDArray[np.float64]]
    inside: float
    is_share: bool = False


GRAM = 3
"""Pitches or intervals in an n-gram; a short excerpt hardly ever repeats the 4-grams of evaluation."""

# The middle half for repetition: a tenth of real excerpts of 448 tokens repeats next to nothing, so a wider
# band would have no low side, and pretrained models repeat too little.
MEASURES = {
    "n_notes": Measure(lambda notes: notes.counts.astype(np.float64), 0.8),
    "repetition_pitch": Measure(partial(repeated_share, n=GRAM, view="pitch"), 0.5, is_share=True),
    "repetition_interval": Measure(partial(repeated_share, n=GRAM, view="interval"), 0.5, is_share=True),
    "longest_run": Measure(lambda notes: np.where(notes.counts > 1, longest_run(notes), np.nan), 0.8),
}


def fit_bands(notes: Notes) -> dict[str, Band]:
    """Measure every band: the middle half of real pieces (repetition) or the middle four fifths (counts).

    A band is at least as wide as the difference that one note makes (1 for a count, 1/N for a share of a
    typical piece of N notes): otherwise a corpus that hardly varies would make the smallest step cost many
    widths. A band that is too narrow is widened upwards, since every measure has its floor below.

    Args:
        notes: a sample of real pieces, cut to the length of the completions that will be judged. Where most
            are too short to repeat anything, the bands of repetition reach down to 0 and cannot ask for more.

    Raises:
        MgenError: Fewer than 20 pieces are long enough to be measured.
    """
    typical = max(float(np.median(notes.counts)), 1.0) if notes.n_pieces else 1.0
    bands = {}
    for name, measure in MEASURES.items():
        values = measure.of(notes)
        usable = values[np.isfinite(values)]
        if len(usable) < FEWEST_PIECES:
            raise MgenError(
                f"band '{name}': expected at least {FEWEST_PIECES} measurable pieces, found {len(usable)} of "
                f"{notes.n_pieces}; give more or longer excerpts"
            )
        low, high = np.quantile(usable, (0.5 - measure.inside / 2, 0.5 + measure.inside / 2)).tolist()
        bands[name] = Band(low, max(high, low + (1 / typical if measure.is_share else 1.0)))
    return bands


def save_bands(bands: Mapping[str, Band], path: Path) -> None:
    """Write bands as JSON; a file of that name is replaced only by a whole one."""
    aside = path.with_name(path.name + ".part")
    aside.write_text(json.dumps({name: asdict(band) for name, band in bands.items()}, indent=2) + "\n")
    os.replace(aside, path)


def load_bands(path: Path) -> dict[str, Band]:
    """Read what `save_bands` wrote.

    Raises:
        MgenError: The file is missing, or does not hold bands.
    """
    try:
        stored = json.loads(path.read_text())
        return {str(name): Band(float(band["low"]), float(band["high"])) for name, band in stored.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, MgenError) as error:
        raise MgenError(f"{path}: expected bands as JSON ({error!r}); measure them anew") from error
