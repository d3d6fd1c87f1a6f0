"""Bands: the range of real music for each rule, measured on a corpus and stored as data.

A rule scores the distance to its band in band widths, so that all rules have the same unit and weights are comparable.
A band holds for excerpts of one length: long pieces repeat more of themselves than short ones.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mgen.arrays import Mask
from mgen.errors import MgenError
from mgen.files import write_atomically
from mgen.music import metrics
from mgen.notes import Notes
from mgen.stored import explain_damage, finite, read_json
from rewards.accompaniment import ACCOMPANIMENT_RULES, drums_alone
from rewards.batch import batch_features
from rewards.form import Ending, Length, Structure
from rewards.harmony import BarLines, ChordTones, PitchEntropy, ScaleFit, VoiceLeading
from rewards.repetition import LongestRun, Loops, PhraseReuse, RepetitionBand, RhythmRepetition
from rewards.rhythm import Groove, OnsetVariety, Rests, Swing, Syncopation
from rewards.rule import Band, BandRule

FEWEST_PIECES = 20  # fewest pieces from which quantiles are measured

MOST_UNDEFINED = 0.2
"""Share of pieces that may leave a measure undefined, as its rule gives each of these real pieces the worst score. If
more do, the corpus has no such band."""

BAND_RULES: dict[str, Callable[[Band], BandRule]] = {
    "repetition_pitch": partial(RepetitionBand, view="pitch"),
    "repetition_interval": partial(RepetitionBand, view="interval"),
    "repetition_rhythm": RhythmRepetition,
    "loops": Loops,
    "longest_run": LongestRun,
    "phrase_reuse": PhraseReuse,
    "chord_tones": ChordTones,
    "scale_fit": ScaleFit,
    "pitch_entropy": PitchEntropy,
    "voice_leading": VoiceLeading,
    "bar_lines": BarLines,
    "swing": Swing,
    "syncopation": Syncopation,
    "groove": Groove,
    "rests": Rests,
    "onset_variety": OnsetVariety,
    "structure_short": partial(Structure, scale="short"),
    "structure_mid": partial(Structure, scale="mid"),
    "structure_long": partial(Structure, scale="long"),
    "length": Length,
    "ending": Ending,
}
"""Name -> factory of a rule from its band."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A quantity that has a band."""

    of: Callable[[Notes], NDArray[np.float64]]  # (B,) float64 values of a batch; NaN where a piece has none
    inside: float  # share of real pieces inside the band
    least: float | None = None  # smallest width; None: 1/N, the share of one note in a typical piece of N notes
    beat_bound: bool = False  # whether it is defined for pieces on the beat grid only
    centre: float = 0.5  # share of real pieces below the middle of the band


def _measure(factory: Callable[[Band], BandRule]) -> Measure:
    rule = factory(Band(0, 1))
    return Measure(
        lambda notes: rule.measure(batch_features(notes)).value, rule.inside, rule.least, rule.beat_bound, rule.centre
    )


MEASURES: dict[str, Measure] = {
    "n_notes": Measure(lambda notes: notes.counts.astype(np.float64), 0.8, 1.0),
    **{name: _measure(factory) for name, factory in BAND_RULES.items()},
}
"""Name -> quantity of its band: all rules of `BAND_RULES`, and the number of notes for the grammar gate."""

ACCOMPANIMENT_MEASURES = {name: _measure(factory) for name, factory in ACCOMPANIMENT_RULES.items()}
"""As `MEASURES`, of music whose prompts are drums alone."""


class Bands(dict[str, Band]):
    """Bands by name, and a description of the corpus that they were measured on.

    Attributes:
        about: `pieces`, and the medians over them of `notes`, `quarters` (length of their bars) and `tokens` (0 for
            music from files); empty if unknown.
        left_out: name -> why the corpus has no such band.
    """

    def __init__(
        self,
        bands: Mapping[str, Band] | None = None,
        about: Mapping[str, Any] | None = None,
        left_out: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(bands or {})
        self.about, self.left_out = dict(about or {}), dict(left_out or {})


def fit_bands(notes: Notes, on_grid: Mask | None = None) -> Bands:
    """Measures every band: the middle part of real pieces, or the upper one (`Measure.inside` and `Measure.centre`).

    A band is at least as wide as `Measure.least`, the difference of one note (1 for a count, 1/N for a share of a
    typical piece of N notes): otherwise the smallest step would cost many widths on a corpus that hardly varies. A
    narrower band is widened upwards.

    A measure that is undefined for more than a fifth of the pieces gets no band, so its rule cannot be built; the
    reason is in `left_out` (structure at a scale too long for the excerpts, swing of music without swing). Measures
    that are bound to the beat are undefined for pieces off the beat grid.

    Args:
        notes: a sample of B real pieces, cut to the length of the completions to be judged.
        on_grid: (B,) which of them are on the beat grid; None: all.

    Raises:
        MgenError: There are fewer than 20 pieces with notes.
    """
    some = notes.counts > 0
    if some.sum() < FEWEST_PIECES:
        raise MgenError(
            f"bands: expected at least {FEWEST_PIECES} pieces with notes, found {some.sum()} of {notes.n_pieces}; "
            "give more excerpts"
        )
    typical = float(np.median(notes.counts[some]))
    bands = Bands(
        about={
            "pieces": int(some.sum()),
            "notes": typical,
            "quarters": float(np.median(metrics.quarters(notes)[some])),
            "tokens": float(np.median(notes.n_tokens[some])),
        }
    )
    measures = MEASURES | (ACCOMPANIMENT_MEASURES if drums_alone(notes).any() else {})
    for name, measure in measures.items():
        values = measure.of(notes)
        known = some & np.isfinite(values)
        if measure.beat_bound and on_grid is not None:
            known &= on_grid
        usable = values[known]
        if len(usable) < max(FEWEST_PIECES, (1 - MOST_UNDEFINED) * some.sum()):
            where = "are on the beat grid and " if measure.beat_bound else ""
            bands.left_out[name] = f"only {len(usable)} of {some.sum()} real pieces {where}can be measured"
            continue
        low, high = np.quantile(
            usable, (measure.centre - measure.inside / 2, measure.centre + measure.inside / 2)
        ).tolist()
        bands[name] = Band(low, max(high, low + (measure.least or 1 / typical)))
    return bands


def save_bands(bands: Mapping[str, Band], path: Path) -> None:
    """Writes bands and the description of their corpus, if known, as JSON."""
    stored: dict[str, Any] = {name: asdict(band) for name, band in bands.items()}
    if isinstance(bands, Bands):
        stored |= {key: value for key, value in (("about", bands.about), ("left_out", bands.left_out)) if value}
    write_atomically(path, json.dumps(stored, indent=2) + "\n")


def load_bands(path: Path) -> Bands:
    """Reads a file of `save_bands`.

    Raises:
        MgenError: The file is missing, or does not hold bands.
    """
    remedy = "measure the bands again"
    stored = read_json(path, remedy)
    with explain_damage(path, remedy):
        about = {str(key): finite(value) for key, value in stored.pop("about", {}).items()}
        left_out = {str(key): str(value) for key, value in stored.pop("left_out", {}).items()}
        limits = {name: (finite(band["low"]), finite(band["high"])) for name, band in stored.items()}
        if not limits or any(low >= high for low, high in limits.values()):
            raise ValueError("expected bands, each with low below high")
    return Bands({name: Band(*both) for name, both in limits.items()}, about, left_out)
