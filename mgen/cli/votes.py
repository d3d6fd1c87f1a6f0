"""What raters voted for on the listening page: shares, a ranking, and how sure they are.

    mgen votes votes.sqlite
    mgen votes votes.sqlite --export pairs.jsonl

May be read while raters vote. The export is one preference a line, for trl: ties and music without tokens are left out.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mgen.cli.options import parse
from mgen.encoding.remi import Remi
from mgen.errors import MgenError
from mgen.listen.ranking import results
from mgen.listen.store import Ballot, Store


@dataclass
class VotesConfig:
    """Options of `mgen votes`."""

    export: str = field(default="", metadata={"help": "File for preference pairs, one JSON object a line."})
    tokenizer: str = field(
        default="", metadata={"help": "Model folder whose tokens the pairs are in, where the votes file has no names."}
    )
    seed: int = field(default=0, metadata={"help": "Of the intervals' resamples."})
    json: bool = field(default=False, metadata={"help": "Print one JSON object and nothing else."})


def main(argv: Sequence[str] | None = None) -> int:
    """Tell the results; returns the exit code."""

    def positional(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("file", metavar="FILE", help="votes file that mgen listen wrote")

    config, words = parse(
        argv, VotesConfig, program="mgen votes", example="mgen votes votes.sqlite", positional=positional
    )
    store = Store.read(words.file)
    try:
        ballots, players, question = store.ballots(), store.players, store.question
        names = store.vocabulary
    finally:
        store.close()
    if not ballots:
        raise MgenError(f"{words.file}: holds no vote yet; vote on the page of mgen listen first")
    found = {"question": question, **results(ballots, players, seed=config.seed)}
    if config.export:
        found["exported"] = export(ballots, names, config)
    if config.json:
        print(json.dumps(found))
    else:
        show(found)
        if config.export:
            print(f"{config.export}: {found['exported']} preference pairs", file=sys.stderr)
    return 0


def export(ballots: Sequence[Ballot], names: Sequence[str] | None, config: VotesConfig) -> int:
    """Write preference pairs, and return how many.

    Raises:
        MgenError: No vote that is not a tie is about music with tokens, or what the tokens are called is not known.
    """
    if config.tokenizer:
        names = Remi.from_pretrained(config.tokenizer).names
    told = [ballot for ballot in ballots if ballot.preferred is not None]
    told = [one for one in told if one.first.completion_ids is not None and one.second.completion_ids is not None]
    if not told:
        raise MgenError(
            f"--export {config.export}: no preference between takes with tokens among {len(ballots)} votes; vote on "
            "samples of mgen evaluate or on models"
        )
    if names is None:
        raise MgenError(
            f"--export {config.export}: the votes file does not name its tokens; give --tokenizer RUN/model"
        )
    out = Path(config.export)
    aside = out.with_name(f"{out.name}.part")
    try:
        aside.write_text("".join(f"{json.dumps(preference(ballot, names))}\n" for ballot in told))
    except IndexError as error:
        raise MgenError(
            f"--tokenizer {config.tokenizer}: has fewer tokens than the takes; give their model's"
        ) from error
    aside.replace(out)
    return len(told)


def preference(ballot: Ballot, names: Sequence[str]) -> dict[str, Any]:
    """A vote as trl's preference trainers read it, token names run together."""
    takes = (ballot.first, ballot.second)
    chosen, rejected = takes if ballot.preferred == 0 else takes[::-1]

    def text(ids: Sequence[int] | None) -> str:
        return "".join(names[token] for token in ids or ())

    return {
        "prompt": text(chosen.prompt_ids),
        "chosen": text(chosen.completion_ids),
        "rejected": text(rejected.completion_ids),
        "rater": ballot.rater,
        "pair": ballot.pair,
        "chosen_player": chosen.player,
        "rejected_player": rejected.player,
    }


def show(found: dict[str, Any]) -> None:
    """The results as tables."""
    console = Console(soft_wrap=True, highlight=False)
    counts = f"{found['votes']} votes of {found['raters']} raters on {found['pieces']} pieces"
    console.print(f"{escape(found['question'])}  {counts}")
    pairs = Table("first", "second", "wins", "ties", "losses", "share of first", title="pairs", title_justify="left")
    for row in found["pairs"]:
        numbers = (str(row[name]) for name in ("wins", "ties", "losses"))
        pairs.add_row(escape(row["first"]), escape(row["second"]), *numbers, _cell(row["share"]))
    console.print(pairs)
    if found["ranking"] is None:
        console.print("No ranking yet: not all players have met, directly or through others.")
    else:
        title = "Bradley-Terry strength, in nats (a tie is half a win)"
        ranking = Table("player", "strength", title=title, title_justify="left")
        for row in found["ranking"]:
            ranking.add_row(escape(row["player"]), _cell(row["strength"]))
        console.print(ranking)
    console.print(f"A was preferred in a share of {_cell(found['a_share'])}; 0.5 is no lean to one side")
    if found["unheard"]:
        console.print(f"{found['unheard']} votes were given before both takes had been heard for two seconds")
    few = [name for name in ("raters", "pieces") if found[name] < 2]
    if few:
        console.print(f"Intervals speak of these {' and '.join(few)} alone: there is but one.")


def _cell(interval: dict[str, float | None]) -> str:
    value, low, high = (float("nan") if interval[key] is None else interval[key] for key in ("value", "low", "high"))
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"
