"""Hand-written judges: `REWARDS` is every one, by name, built from bands that were measured on a corpus."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from mgen.errors import MgenError
from mgen.judgement import Judge, UnavailableJudge
from mgen.runs.judges import BANDS_FILE
from rewards.bands import BAND_RULES, Band, Bands, load_bands
from rewards.grammar import GrammarGate
from rewards.rule import BandRule


def _band(bands: Mapping[str, Band] | Path | None, name: str) -> Band:
    if bands is None:
        raise MgenError(f"judge {name}: expected --bands FILE, such as RUN/{BANDS_FILE}")
    if isinstance(bands, Path):
        bands = load_bands(bands)
    if name in bands:
        return bands[name]
    why = bands.left_out.get(name) if isinstance(bands, Bands) else None
    if why:
        raise UnavailableJudge(name, why)
    raise MgenError(f"bands: no '{name}' (there: {', '.join(bands) or 'none'}); measure them again")


def _rule(name: str, factory: Callable[[Band], BandRule], bands: Mapping[str, Band] | Path | None) -> Judge:
    return factory(_band(bands, name))


def _grammar(bands: Mapping[str, Band] | Path | None) -> Judge:
    return GrammarGate(max(1, round(_band(bands, "n_notes").low / 2)))


REWARDS: dict[str, Callable[[Mapping[str, Band] | Path | None], Judge]] = {
    "grammar": _grammar,
    **{name: partial(_rule, name, factory) for name, factory in BAND_RULES.items()},
}
"""Name -> factory of a judge from the bands of `fit_bands`, or from their file. Weights live in the config only."""


def rules(bands: Mapping[str, Band]) -> dict[str, Judge]:
    """Every judge of `REWARDS` that these bands allow: all but those whose measure the corpus left undefined."""
    allowed = {*bands, *(["grammar"] if "n_notes" in bands else [])}
    return {name: build(bands) for name, build in REWARDS.items() if name in allowed}
