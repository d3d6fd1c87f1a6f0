"""Makes reward cards: scores of real, corrupted and degenerate music, cost, and the piece that exploits the judge.

    mgen card style longest_run --corpus corpus --critic runs/critic/model --out runs/cards

`mgen card all` makes the cards of all judges, `mgen card --fit` only measures the bands of the rules. Every card is a
folder below --out; the page is rewritten from all cards there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from critics import CRITICS
from mgen.cards.reward_card import number
from mgen.cli.options import Output, parse
from mgen.cli.progress import ProgressDisplay
from mgen.cli.tables import as_text
from mgen.errors import MgenError
from mgen.options import option
from mgen.workflows.card import ALL, OTHER, BandsResult, CardConfig, CardsResult, make_cards, measure_bands
from rewards import REWARDS


@dataclass
class FitConfig:
    """Option of `mgen card` to measure bands instead of cards."""

    fit: bool = option(False, "Only measure the bands of all rules; --out is their file.")


def main(argv: Sequence[str] | None = None) -> int:
    """Makes cards, or measures bands; returns the exit code."""
    arguments = {"names": {"nargs": "*", "metavar": "NAME", "help": f"{ALL}, {', '.join([*REWARDS, *CRITICS])}"}}
    config, fit, output, words = parse(argv, CardConfig, FitConfig, Output, doc=__doc__, arguments=arguments)
    began = time.monotonic()
    if fit.fit:
        if words.names:
            raise MgenError(f"mgen card --fit: measures all bands, got the name '{words.names[0]}'; leave it out")
        if not config.out:
            raise MgenError("mgen card --fit: expected --out FILE for the bands, got none")
        bands = measure_bands(**vars(config))
        print(json.dumps(bands.to_json()) if output.json else "\n".join(_describe_bands(bands, config.out)))
        return 0
    with ProgressDisplay(output.json) as progress:
        result = make_cards(words.names, progress=progress, **vars(config))
    if output.json:
        print(json.dumps(result.to_json()))
    else:
        place = f"{config.out}: " if config.out else ""
        print(*_describe_cards(result), f"{place}{len(result.cards)} cards, {time.monotonic() - began:.0f} s", sep="\n")
    return 0


def _describe_bands(result: BandsResult, out: str) -> list[str]:
    table = Table("band", "from", "to")
    for name, band in result.bands.items():
        table.add_row(name, number(band.low), number(band.high))
    left_out = [f"no band of {name}: {why}" for name, why in result.bands.left_out.items()]
    return [f"{out}: {result.measured_on}", as_text(table), *left_out]


def _describe_cards(result: CardsResult) -> list[str]:
    table = Table("judge")
    for name in ("real", "other", "exploit", "distance"):
        table.add_column(name, justify="right")
    for card in result.cards:
        other, exploit = card.rows.get(OTHER), card.exploit
        table.add_row(
            card.name,
            number(exploit.real_median),
            number(other.median if other else None),
            f"{number(exploit.score)}{'' if exploit.reached_median else ' (below real)'}",
            f"{exploit.distance:.2f}",
        )
    title = "median scores of real and other music; the piece that exploits the judge, and its distance from real music"
    return [title, as_text(table), *filter(None, [result.measured_on, result.unavailable])]
