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
from mgen.cli.tables import as_text
from mgen.evaluation.columns import COST, MetricColumn, columns
from mgen.evaluation.comparisons import format_interval
from mgen.evaluation.measure import Measurements
from mgen.evaluation.protocol import OWN_MUSIC, REAL, Evaluation
from mgen.workflows.evaluate import EvaluateConfig, EvaluateResult, run_evaluate

_SHOWN = ("judge_{target}", "notes_until_told", "auc_by_notes_36", "valid", "loop_rate", COST)
_NARROW, _NAME = 80, 12  # columns of a terminal, and of the names in it that do not wrap


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate; returns the exit code."""
    config, output = parse(argv, EvaluateConfig, Output, doc=__doc__)
    with ProgressDisplay(output.json) as progress:
        result = run_evaluate(config, progress)
    return print_result("" if output.json else _summary(result), result.facts, output.json)


def _summary(result: EvaluateResult) -> str:
    """The graded numbers of each system, a table for each prompt type; of folders, the main numbers of both."""
    measured, seconds = result.measured, f"{result.facts['seconds']:.0f} s"
    place = f"all numbers, sound and charts: {result.folder / 'report.html'} ({seconds})" if result.folder else seconds
    if isinstance(measured, Evaluation):
        target = measured.protocol.target
        by_type = {
            name: {
                OWN_MUSIC if row == REAL and name == "transfer" else row: measurements[name]
                for row, measurements in measured.measurements.items()
            }
            for name in measured.prompts
        }
        tables = [_by_system(f"prompts: {name}", rows, target) for name, rows in by_type.items()]
        return "\n".join([*tables, f"AUC of the judge on test: {format_interval(measured.judge_auc)}", place])
    rows = dict(zip(measured.names, measured.measurements, strict=True))
    remarks = [f"{name}: {remark}" for name, remark in measured.remarks.items()]
    return "\n".join([_by_number("excerpts", rows), *remarks, place])


def _by_system(title: str, rows: Mapping[str, Measurements], target: str) -> str:
    """A row for each system, with the numbers of `_SHOWN` that any has."""
    by_key = {column.key: column for column in columns(target)}
    chosen = [by_key[key.format(target=target)] for key in _SHOWN]
    shown = [column for column in chosen if any(column.key in part.metrics for part in rows.values())]
    heads = [f"{column.title}, {column.unit}" if column.unit else column.title for column in shown]
    cells = [[name, *(_cell(part, column) for column in shown)] for name, part in rows.items()]
    return _table(title, ["", *heads], cells)


def _by_number(title: str, rows: Mapping[str, Measurements]) -> str:
    """A row for each main number, with a column for each folder."""
    shown = [column for column in columns("the style") if column.main]
    cells = [[column.title, *(_cell(part, column) for part in rows.values())] for column in shown]
    return _table(title, ["", *rows], [row for row in cells if any(row[1:])])


def _cell(part: Measurements, column: MetricColumn) -> str:
    found = part.metrics.get(column.key)
    return format_interval(found, column.digits) if found else ""


def _table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose cells may wrap; below `_NARROW` columns a line for each cell."""
    if Console().width < _NARROW:
        lines = [title]
        for name, *cells in rows:
            lines += [name, *(f"  {head} {cell}" for head, cell in zip(heads[1:], cells, strict=True) if cell)]
        return "\n".join(lines)
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))
    for i, head in enumerate(heads):
        table.add_column(head, overflow="fold", min_width=0 if i else min(max(len(row[0]) for row in rows), _NAME))
    for row in rows:
        table.add_row(*row)
    return as_text(table)
