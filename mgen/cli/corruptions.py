"""Corrupt real music and see which metrics, rewards and critics detect it.

    mgen corruptions --corpus corpus --critic runs/critic/model --out runs/corruptions

A row is a corruption (or, `format`, a change of what only the file format determines), a column a metric, reward or
critic. A sign is printed where the difference from the uncorrupted pieces is significant.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

from mgen.cli.options import Output, parse, print_result
from mgen.cli.progress import ProgressDisplay
from mgen.evaluation.corruption_table import REAL
from mgen.stats.intervals import Interval
from mgen.workflows.corruptions import (
    CORRUPTION_ROWS,
    FORMAT_ROWS,
    JUDGE_PREFIXES,
    CorruptionsConfig,
    CorruptionsResult,
    run_corruptions,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the table; returns the exit code."""
    config, output = parse(argv, CorruptionsConfig, Output, doc=__doc__)
    with ProgressDisplay(output.json) as progress:
        result = run_corruptions(config, progress)
    return print_result("" if output.json else _summary(result), result.facts, output.json)


def _summary(result: CorruptionsResult) -> str:
    table, sets = result.table, result.sets
    console = Console(soft_wrap=True)
    with console.capture() as capture:
        for title, rows in (("corrupted", list(CORRUPTION_ROWS)), ("only the format changed", list(FORMAT_ROWS))):
            shown = Table("", REAL, *map(_words, rows), title=title, title_justify="left")
            for name, cells in table.cells.items():
                if not np.isnan(cells[REAL].mean.value):
                    signed = (f"{_number(cells[row].mean)} {cells[row].sign}" for row in rows)
                    shown.add_row(name, _number(cells[REAL].mean), *signed)
            for name in next(iter(sets.values()), {}):
                if not name.startswith(("oa_", "kld_")):
                    shown.add_row(f"set {name}", *(_number(sets[row][name]) for row in (REAL, *rows)))
            console.print(shown)
        title = "+ and -: significant; =: not significant; ?: undefined"
        missed = Table("", "not detected", "scored above real music", title=title, title_justify="left")
        for name, cells in table.cells.items():
            if np.isnan(cells[REAL].mean.value):
                missed.add_row(name, "undefined on real music", "")
                continue
            signs = table.detected(name).items() if name.startswith(JUDGE_PREFIXES) else ()
            better = [row for row, sign in signs if sign == "+" and row in CORRUPTION_ROWS]
            undetected = [row for row in table.undetected(name) if row in CORRUPTION_ROWS]
            missed.add_row(name, ", ".join(map(_words, undetected)) or "-", ", ".join(map(_words, better)))
        console.print(missed)
    facts = result.facts
    return f"{capture.get()}{facts['about']}; {table.n} pieces of {table.works} works, {facts['seconds']:.0f} s"


def _words(row: str) -> str:
    return row.replace("_", " ")


def _number(interval: Interval) -> str:
    return "" if np.isnan(interval.value) else f"{interval.value:.3f}"
