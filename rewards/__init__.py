"""Hand-written judges: `REWARDS` is every one, by name, built from bands that were measured on a corpus."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from mgen.errors import MgenError
from mgen.judgement import Judgement
from mgen.notes import Notes
from rewards.bands import GRAM, Band
from rewards.grammar import GrammarGate
from rewards.repetition import LongestRun, RepetitionBand


class Rule(Protocol):
    """A judge that states its worst value: what it gives a piece that it cannot speak of."""

    worst: float

    def __call__(self, notes: Notes) -> Judgement: ...


def _band(bands: Mapping[str, Band], name: str) -> Band:
    if name not in bands:
        raise MgenError(f"bands: no '{name}' (there: {', '.join(bands) or 'none'}); measure them anew")
    return bands[name]


REWARDS: dict[str, Callable[[Mapping[str, Band]], Rule]] = {
    "grammar": lambda bands: GrammarGate(max(1, round(_band(bands, "n_notes").low / 2))),
    "repetition_pitch": lambda bands: RepetitionBand(_band(bands, "repetition_pitch"), GRAM, "pitch"),
    "repetition_interval": lambda bands: RepetitionBand(_band(bands, "repetition_interval"), GRAM, "interval"),
    "longest_run": lambda bands: LongestRun(_band(bands, "longest_run")),
}
"""Name -> factory of a judge from the bands of `fit_bands`. Weights live in the config, nowhere else."""
