"""Shows the results of a listening study: shares, a ranking, and their intervals.

    mgen votes votes.sqlite
    mgen votes votes.sqlite --export pairs.jsonl

Works while raters vote. The export has one preference per line, for TRL; ties and clips without tokens are left out.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mgen.cli.options import Output, parse
from mgen.stats.intervals import Interval
from mgen.workflows.votes import Votes, VotesConfig, count_votes


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the results; returns the exit code."""
    arguments = {"file": {"metavar": "FILE", "help": "votes file that mgen listen wrote"}}
    config, output, words = parse(argv, VotesConfig, Output, doc=__doc__, arguments=arguments)
    votes = count_votes(words.file, **vars(config))
    if output.json:
        print(json.dumps(votes.to_json()))
        return 0
    _show(votes)
    if config.export:
        print(f"{config.export}: {votes.exported} preference pairs", file=sys.stderr)
    return 0


def _show(votes: Votes) -> None:
    results = votes.results
    console = Console(soft_wrap=True, highlight=False)
    counts = f"{results.votes} votes of {results.raters} raters on {results.pieces} pieces"
    console.print(f"{escape(votes.question)}  {counts}")
    pairs = Table("first", "second", "wins", "ties", "losses", "share of first", title="pairs", title_justify="left")
    for pair in results.pairs:
        numbers = map(str, (pair.wins, pair.ties, pair.losses))
        pairs.add_row(escape(pair.first), escape(pair.second), *numbers, _cell(pair.share))
    console.print(pairs)
    if results.ranking is None:
        console.print("No ranking yet: not all systems were compared, directly or through others.")
    else:
        title = "Bradley-Terry strength, in nats (a tie is half a win)"
        ranking = Table("system", "strength", title=title, title_justify="left")
        for system, strength in results.ranking:
            ranking.add_row(escape(system), _cell(strength))
        console.print(ranking)
    console.print(f"share of votes for A: {_cell(results.a_share)}; 0.5 is no bias to one side")
    if results.early_votes:
        console.print(f"early votes: {results.early_votes}, given before both clips had played for two seconds")
    single = [name for name, count in (("rater", results.raters), ("piece", results.pieces)) if count < 2]
    if single:
        console.print(f"There is one {' and one '.join(single)} only: the intervals hold for it alone.")


def _cell(interval: Interval) -> str:
    return f"{interval.value:.2f} [{interval.low:.2f}, {interval.high:.2f}]"
