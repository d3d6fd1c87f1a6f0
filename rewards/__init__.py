"""Hand-written judges: `REWARDS` is every one, by name, built from bands that were measured on a corpus."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

from mgen.errors import MgenError
from mgen.judgement import Judgement
from mgen.notes import Notes
from rewards.bands import BAND_RULES, Band, Bands
from rewards.grammar import GrammarGate
from rewards.rule import BandRule


class Rule(Protocol):
    """A judge that states its worst value: what it gives a piece that it cannot speak of."""

    worst: float

    def __call__(self, notes: Notes) -> Judgement: ...


def _band(bands: Mapping[str, Band], name: str) -> Band:
    if name in bands:
        return bands[name]
    why = bands.left_out.get(name) if isinstance(bands, Bands) else None
    if why:
        raise MgenError(f"bands: no '{name}', for {why}; leave that judge out, or judge longer pieces")
    raise MgenError(f"bands: no '{name}' (there: {', '.join(bands) or 'none'}); measure them anew")


def _ruled(name: str, factory: Callable[[Band], BandRule], bands: Mapping[str, Band]) -> Rule:
    return factory(_band(bands, name))


REWARDS: dict[str, Callable[[Mapping[str, Band]], Rule]] = {
    "grammar": lambda bands: GrammarGate(max(1, round(_band(bands, "n_notes").low / 2))),
    **{name: partial(_ruled, name, factory) for name, factory in BAND_RULES.items()},
}
"""Name -> factory of a judge from the bands of `fit_bands`. Weights live in the config, nowhere else."""


def rules(bands: Mapping[str, Band]) -> dict[str, Rule]:
    """Every judge of `REWARDS` that these bands allow: all but those whose measure the corpus left undefined."""
    allowed = {*bands, *(["grammar"] if "n_notes" in bands else [])}
    return {name: build(bands) for name, build in REWARDS.items() if name in allowed}
