"""Evaluate models against real music, or compare one folder of music files with another, and write a report.

    mgen evaluate --model pretrained=runs/base/model tuned=runs/tuned/model --corpus corpus --out runs/evaluation
    mgen evaluate --midi pieces --reference music/jazz --out runs/comparison

All models complete the same prompts of the test split, together with baselines and real music; the first model is the
pretrained model of the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from mgen.cli.options import Output, parse, print_result
from mgen.cli.progress import ProgressDisplay
from mgen.evaluation.columns import columns
from mgen.evaluation.measure import Measurements
from mgen.evaluation.protocol import Evaluation
from mgen.evaluation.report_content import format_interval
from mgen.workflows.evaluate import EvaluateConfig, EvaluateResult, run_evaluate


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate; returns the exit code."""
    config, output = parse(argv, EvaluateConfig, Output, doc=__doc__)
    with ProgressDisplay(output.json) as progress:
        result = run_evaluate(config, progress)
    return print_result("" if output.json else _summary(result), result.facts, output.json)


def _summary(result: EvaluateResult) -> str:
    """The main numbers, a table for each prompt type; the others are in the report."""
    measured, seconds = result.measured, f"{result.facts['seconds']:.0f} s"
    place = f"{result.folder / 'report.html'}: {seconds}" if result.folder else seconds
    if isinstance(measured, Evaluation):
        by_type = {
            name: {row: measurements[name] for row, measurements in measured.measurements.items()}
            for name in measured.prompts
        }
        tables = [_table(f"prompts: {name}", rows, measured.protocol.target) for name, rows in by_type.items()]
        return "\n".join([*tables, f"{place}; AUC of the judge on test: {format_interval(measured.judge_auc)}"])
    rows = dict(zip(measured.names, measured.measurements, strict=True))
    remarks = [f"{name}: {remark}" for name, remark in measured.remarks.items()]
    return "\n".join([_table("excerpts", rows, ""), *remarks, place])


def _table(title: str, rows: Mapping[str, Measurements], target: str) -> str:
    table = Table("", *rows, title=title, title_justify="left")
    for column in columns(target):
        found = [row.metrics.get(column.key) for row in rows.values()]
        cells = [format_interval(cell, column.digits) if cell else "" for cell in found]
        if column.main and any(cells):
            table.add_row(column.title, *cells)
    console = Console(soft_wrap=True)
    console.width = max(console.width, 24 * (1 + len(rows)))  # wider than the terminal rather than cut
    with console.capture() as capture:
        console.print(table)
    return capture.get().rstrip("\n")
