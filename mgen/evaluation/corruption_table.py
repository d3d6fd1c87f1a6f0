"""Which metrics and judges detect which corruption: each corruption against each measure, piece by piece.

Measures are functions from pieces to numbers; this module knows neither rewards nor critics.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mgen.arrays import Floats, divide
from mgen.errors import MgenError
from mgen.notes import Notes
from mgen.progress import Progress, counted, silent
from mgen.stats.intervals import REPLICATES, TAIL, Interval, resamples, work_names
from mgen.transforms.rebuild import Transform

REAL = "real"  # name of the row of uncorrupted music
SAME = 1e-9  # smaller differences are rounding errors
Measure = Callable[[Notes], Floats]  # B pieces to (B,) numbers, NaN where undefined


@dataclass(frozen=True)
class CorruptionCell:
    """One measure of one row."""

    mean: Interval  # over pieces
    change: Interval  # mean difference from the same pieces uncorrupted; 0 for the row `real`

    @property
    def sign(self) -> str:
        """`+` or `-` where the interval of the change excludes 0, `=` where it does not, `?` where it is undefined."""
        if np.isnan(self.change.value):
            return "?"
        return "+" if self.change.low > 0 else "-" if self.change.high < 0 else "="


@dataclass(frozen=True)
class CorruptionTable:
    """Cells by measure and row."""

    cells: dict[str, dict[str, CorruptionCell]]  # measure -> row -> cell; the first row is `real`
    rows: tuple[str, ...]  # names of the rows after `real`
    n: int  # pieces
    works: int  # different works

    def detected(self, measure: str) -> dict[str, str]:
        """Rows that a measure separates from real music, with `+` or `-`."""
        signs = {row: self.cells[measure][row].sign for row in self.rows}
        return {row: sign for row, sign in signs.items() if sign in "+-"}

    def undetected(self, measure: str) -> list[str]:
        """Rows that a measure does not separate from real music: no difference, or an undefined one."""
        detected = self.detected(measure)
        return [row for row in self.rows if row not in detected]

    def to_json(self) -> dict[str, Any]:
        """`rows` and `changes` (row -> measure -> number), `detected` (measure -> row -> sign), `undetected`."""
        every = (REAL, *self.rows)
        return {
            "n": self.n,
            "works": self.works,
            "rows": {row: {name: self.cells[name][row].mean.to_json() for name in self.cells} for row in every},
            "changes": {
                row: {name: self.cells[name][row].change.to_json() for name in self.cells} for row in self.rows
            },
            "detected": {name: self.detected(name) for name in self.cells},
            "undetected": {name: self.undetected(name) for name in self.cells},
        }

    def to_csv(self) -> str:
        """One line for each measure and row."""
        out = io.StringIO()
        lines = csv.writer(out, lineterminator="\n")
        ends = ("", "_low", "_high")
        lines.writerow(["measure", "row", *(f"value{end}" for end in ends), *(f"change{end}" for end in ends), "sign"])
        for name, cells in self.cells.items():
            for row, cell in cells.items():
                numbers = [x for part in (cell.mean, cell.change) for x in (part.value, part.low, part.high)]
                lines.writerow([name, row, *(f"{x:.6g}" if np.isfinite(x) else "" for x in numbers), cell.sign])
        return out.getvalue()


def corruption_table(
    notes: Notes,
    works: ArrayLike,
    measures: Mapping[str, Measure],
    corruptions: Mapping[str, Transform],
    seed: int = 0,
    progress: Progress = silent,
) -> CorruptionTable:
    """Measures real pieces and each corruption of them, and the differences piece by piece.

    Args:
        notes: B real pieces. Chains and foreign bars are drawn from all of them.
        works: (B,) their works; intervals resample them.
        measures: name -> measure.
        corruptions: name -> corruption.
        seed: of corruptions and resamples.
        progress: takes the count of the rows.

    Raises:
        MgenError: There are no pieces, or a measure returns another number of values.
    """
    names = work_names(works, notes.n_pieces, REAL)
    if not notes.n_pieces:
        raise MgenError("corruptions: expected real pieces, found none; give a split or folder that has some")
    real = _measure(notes, measures)
    cells: dict[str, dict[str, CorruptionCell]] = {name: {} for name in measures}
    for row, corrupt in counted(progress, "rows", {REAL: None, **corruptions}.items()):
        # the same generator for each corruption: a row does not depend on the others
        values = real if corrupt is None else _measure(corrupt(notes, np.random.default_rng(seed)), measures)
        differences = values - real
        differences[np.abs(differences) < SAME] = 0
        means = _means(values, names, seed), _means(differences, names, seed)
        for name, mean, change in zip(measures, *means, strict=True):
            cells[name][row] = CorruptionCell(mean, change)
    return CorruptionTable(cells, tuple(corruptions), notes.n_pieces, len(np.unique(names)))


def _measure(notes: Notes, measures: Mapping[str, Measure]) -> Floats:
    """(B, C) values, one column per measure."""
    out = np.full((notes.n_pieces, len(measures)), np.nan)
    for place, (name, measure) in enumerate(measures.items()):
        values = np.asarray(measure(notes), np.float64)
        if values.shape != (notes.n_pieces,):
            expected = f"({notes.n_pieces},)"
            raise MgenError(f"measure '{name}': expected {expected} numbers, found {values.shape}; correct the measure")
        out[:, place] = values
    return out


def _means(values: Floats, works: np.ndarray[tuple[int], np.dtype[np.str_]], seed: int) -> list[Interval]:
    """Means of columns (B, C) with intervals by work: `bootstrap` of each, from shared resamples."""
    known = ~np.isnan(values)
    filled, there = np.where(known, values, 0.0), known.astype(np.float64)
    draws = np.concatenate([divide(w @ filled, w @ there) for w in resamples(works, REPLICATES, seed)])
    out = []
    for column, total in enumerate(known.sum(axis=0).tolist()):
        if not total:
            out.append(Interval(np.nan, np.nan, np.nan, len(values)))
            continue
        some = draws[~np.isnan(draws[:, column]), column]
        low, high = np.quantile(some, (TAIL, 1 - TAIL)).tolist()
        out.append(Interval(float(filled[:, column].sum() / total), low, high, len(values) - total))
    return out
