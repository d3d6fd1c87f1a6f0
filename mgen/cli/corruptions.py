"""Corrupt real music and see which metrics, rewards and critics detect it.

    mgen corruptions --corpus corpus --critic runs/critic/model --out runs/corruptions

Printed is, for each metric, reward and critic, which corruptions do not change it significantly. All numbers are in the
folder: also those of `format`, changes of what only the file format determines.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.table import Table

from mgen.cli.options import Output, parse, print_result
from mgen.cli.progress import ProgressDisplay
from mgen.cli.tables import as_text
from mgen.evaluation.corruption_table import REAL
from mgen.workflows.corruptions import (
    CORRUPTION_ROWS,
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
    return print_result("" if output.json else _summary(result, config.out), result.facts, output.json)


def _summary(result: CorruptionsResult, out: str) -> str:
    """Which corruptions each measure misses, and where all numbers are."""
    table, facts = result.table, result.facts
    missed = Table("", "not detected", "scored above real music")
    for name, cells in table.cells.items():
        if np.isnan(cells[REAL].mean.value):
            missed.add_row(name, "undefined on real music", "")
            continue
        signs = table.detected(name).items() if name.startswith(JUDGE_PREFIXES) else ()
        better = [row for row, sign in signs if sign == "+" and row in CORRUPTION_ROWS]
        undetected = [row for row in table.undetected(name) if row in CORRUPTION_ROWS]
        missed.add_row(name, _words(undetected) or "-", _words(better))
    about = f"{facts['about']}; {table.n} pieces of {table.works} works, {facts['seconds']:.0f} s"
    numbers = f"all numbers: {Path(out) / 'corruptions.csv'}" if out else "--out FOLDER writes all numbers"
    return "\n".join([f"{len(CORRUPTION_ROWS)} corruptions of real music", as_text(missed), about, numbers])


def _words(rows: Sequence[str]) -> str:
    return ", ".join(row.replace("_", " ") for row in rows)
