"""Rewards: judges by rule. `REWARDS` has them all by name, built from bands that are measured on a corpus.

Read first: `rule.py` (score and credit of a rule from its band), then one group of rules, such as `rhythm.py`
(`swing`, `syncopation`, `groove`, `rests`, `onset_variety`). The others are `repetition.py`, `harmony.py`,
`form.py` and `grammar.py`; `accompaniment.py` has those of a bass to given drums. `bands.py` lists the rules by name
and measures their bands; `batch.py` computes the features of a batch that several rules share; `trl.py` makes plain
TRL rewards of judges.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from mgen.errors import MgenError
from mgen.judgement import Judge, UnavailableJudge
from mgen.runs.judges import BANDS_FILE
from rewards.accompaniment import ACCOMPANIMENT_RULES
from rewards.bands import BAND_RULES, Bands, load_bands
from rewards.grammar import GrammarGate
from rewards.rule import Band, BandRule


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


ACCOMPANIMENT: dict[str, Callable[[Mapping[str, Band] | Path | None], Judge]] = {
    name: partial(_rule, name, factory) for name, factory in ACCOMPANIMENT_RULES.items()
}
"""As `REWARDS`, of judges that read the drums of the prompt: only a corpus of pairs has their bands."""


def rules(bands: Mapping[str, Band]) -> dict[str, Judge]:
    """Builds every judge of `REWARDS` that these bands allow: all except those without a band."""
    allowed = {*bands, *(["grammar"] if "n_notes" in bands else [])}
    return {name: build(bands) for name, build in REWARDS.items() if name in allowed}
