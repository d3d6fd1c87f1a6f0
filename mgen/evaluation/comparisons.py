"""Comparisons of systems: better or worse than another, as far as the intervals support it.

Everything is passed in as plain data; nothing here measures or draws.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from mgen.evaluation.columns import MetricColumn
from mgen.stats.intervals import BOUND_SIGNS, Bounded, Interval, is_known

ROLES = ("real", "reference", "pretrained", "tuned", "evaluated", "low_cost_baseline", "baseline")
"""Roles of rows, in the order of a table; any other word is taken as a low-cost baseline.

`reference` is other music, which is only shown; the others are compared with `pretrained`; `tuned` is the subject of
the page, or `evaluated`, music that has no pretrained model; a `low_cost_baseline` costs less than tuning.
"""


MARGIN = 2
"""Clear numbers that decide a comparison. Without any difference one of 20 is clear, to one side one of 40: of 12
graded numbers at least one in a quarter of the cases, at least two in 4 %.
"""


@dataclass(frozen=True, slots=True)
class SystemRow:
    """The numbers of one system, or of real music, for one prompt type.

    Where the interval of a difference is known, it decides whether a change is clear. Otherwise the two rows' own
    intervals must not overlap.
    """

    name: str  # as shown; the same system has the same name everywhere
    role: str  # one of `ROLES`
    metrics: Mapping[str, Bounded]  # by the key of the column; a missing one, or NaN, is shown as undefined
    group: str = ""  # title of the prompt type; each group is a table
    changes: Mapping[str, Bounded] = field(default_factory=dict)  # differences from the pretrained row, by key
    against: Mapping[str, Mapping[str, Bounded]] = field(default_factory=dict)  # another row's name -> differences


class Verdict(StrEnum):
    """Result of comparing a number with another row's."""

    BETTER = "better"
    WORSE = "worse"
    CHANGED = "changed"
    UNCLEAR = "no clear change"


@dataclass(frozen=True, slots=True)
class MetricComparison:
    """One number of a row and of the row before it; `aim` is the best value, if there is one."""

    column: MetricColumn
    before: Bounded
    after: Bounded
    aim: Bounded | None
    verdict: Verdict

    @property
    def off_aim(self) -> bool:
        """Whether the interval of the number does not overlap that of the aim."""
        return self.aim is not None and disjoint(self.after, self.aim)

    def describe(self) -> str:
        """`two-sample AUC (0.90 → 0.60; ideal 0.50)`; the title alone where nothing clear changed."""
        if self.verdict is Verdict.UNCLEAR:
            return self.column.title
        best = f"; {describe_aim(self.column, self.aim)}" if self.aim else ""
        return f"{self.column.title} ({self.step}{best})"

    @property
    def step(self) -> str:
        """`0.90 → 0.60`, with more digits where both would look equal."""
        for digits in range(self.column.digits, 9):
            before, after = (format_value(cell, digits) for cell in (self.before, self.after))
            if before != after or self.before.value == self.after.value:
                break
        return f"{before} → {after}"


@dataclass(frozen=True, slots=True)
class SystemComparison:
    """A row compared with another in the graded numbers, over all prompt types."""

    row: str  # its name
    other: str  # name of the other row
    role: str  # of the other row
    counts: Mapping[Verdict, int]  # over the graded numbers
    by_key: Mapping[str, Mapping[Verdict, int]]  # over the prompt types, for each graded column's key

    @property
    def result(self) -> str:
        """`ahead` or `behind` where clearly better and clearly worse numbers differ by at least `MARGIN`; `level`."""
        lead = self.counts[Verdict.BETTER] - self.counts[Verdict.WORSE]
        return "level" if abs(lead) < MARGIN else "ahead" if lead > 0 else "behind"


def verdict(
    before: Bounded, after: Bounded, column: MetricColumn, real: Bounded | None = None, change: Bounded | None = None
) -> Verdict | None:
    """Compares two numbers, as far as their intervals support it.

    A change is clear where the interval of the difference excludes 0 or, if it is not known, the two intervals do not
    overlap. It is an improvement where the aim is on the new number's side of the midpoint of both, by more than the
    joint margin of aim and midpoint; `CHANGED`: neither number is clearly nearer.

    Returns:
        None where there is no claim: a stated column, an undefined number, or no real music to compare with.

    Source: one-sided margins joined as the root of the sum of squares, Zou and Donner 2008 (MOVER), for independent
    estimates. Rows that share prompts are positively correlated, so their margin is conservative.
    """
    if not (is_known(before) and is_known(after)) or column.better == "stated":
        return None
    preferred = _preferred_direction(before, after, column, real)
    if preferred is None:
        return None
    if change is not None and is_known(change):
        direction = int(change.low > 0) - int(change.high < 0)
    else:
        direction = int(after.low > before.high) - int(after.high < before.low)
    if not direction:
        return Verdict.UNCLEAR
    return {1: Verdict.BETTER, 0: Verdict.CHANGED, -1: Verdict.WORSE}[direction * preferred]


def compare_rows(
    row: SystemRow, other: SystemRow, columns: Sequence[MetricColumn], real: SystemRow | None
) -> list[MetricComparison]:
    """Compares each number that both rows have; `other` is the row before."""
    differences = row.against.get(other.name) or (row.changes if other.role == "pretrained" else {})
    comparisons = []
    for column in columns:
        before, after = other.metrics.get(column.key), row.metrics.get(column.key)
        if before is None or after is None:
            continue
        near = aim(column, real)
        result = verdict(before, after, column, near, differences.get(column.key))
        if result is not None:
            comparisons.append(MetricComparison(column, before, after, near, result))
    return comparisons


def compare_with_pretrained(
    rows: Sequence[SystemRow], columns: Sequence[MetricColumn]
) -> list[tuple[SystemRow, list[MetricComparison]]]:
    """Compares each model with the pretrained one of its group."""
    comparisons = []
    for members in groups(rows).values():
        base, real = first_of_role(members, "pretrained"), first_of_role(members, "real")
        for row in members:
            if base is not None and row.role not in ("real", "reference", "pretrained"):
                comparisons.append((row, compare_rows(row, base, columns, real)))
    return comparisons


def graded_columns(columns: Sequence[MetricColumn]) -> list[MetricColumn]:
    """The columns that decide comparisons, in their order; all where none is marked."""
    return sorted((column for column in columns if column.graded), key=lambda column: column.graded) or list(columns)


def compare_systems(rows: Sequence[SystemRow], columns: Sequence[MetricColumn]) -> dict[str, list[SystemComparison]]:
    """Compares the graded numbers of each tuned row with those of the pretrained model and the baselines: tuned row's
    name -> comparisons.
    """
    graded = graded_columns(columns)
    found: dict[tuple[str, str, str], list[MetricComparison]] = {}
    for members in groups(rows).values():
        real = first_of_role(members, "real")
        for row in (row for row in members if row.role == "tuned"):
            for other in (other for other in members if other.role not in ("real", "reference", "tuned")):
                comparisons = found.setdefault((row.name, other.name, other.role), [])
                comparisons += compare_rows(row, other, graded, real)
    out: dict[str, list[SystemComparison]] = {}
    for (name, other_name, role), comparisons in found.items():
        keys = {comparison.column.key for comparison in comparisons}
        by_key = {key: count_verdicts([one for one in comparisons if one.column.key == key]) for key in keys}
        if comparisons:
            summary = SystemComparison(name, other_name, role, count_verdicts(comparisons), by_key)
            out.setdefault(name, []).append(summary)
    return out


def count_verdicts(comparisons: Iterable[MetricComparison]) -> dict[Verdict, int]:
    """Number of comparisons with each verdict."""
    verdicts = [comparison.verdict for comparison in comparisons]
    return {one: verdicts.count(one) for one in Verdict}


# ---------------------------------------------------------------- rows and numbers


def groups(rows: Iterable[SystemRow]) -> dict[str, list[SystemRow]]:
    """Rows by group, each in the order of `ROLES`."""
    found: dict[str, list[SystemRow]] = {}
    for row in rows:
        found.setdefault(row.group, []).append(row)
    return {name: sorted(members, key=lambda row: ROLES.index(role_of(row))) for name, members in found.items()}


def role_of(row: SystemRow) -> str:
    """Its role as one of `ROLES`."""
    return row.role if row.role in ROLES else "low_cost_baseline"


def role_in_words(role: str) -> str:
    """`low_cost_baseline` as `low-cost baseline`."""
    return role.replace("low_cost", "low-cost").replace("_", " ")


def first_of_role(rows: Sequence[SystemRow], role: str) -> SystemRow | None:
    """The first row of a role."""
    return next((row for row in rows if row.role == role), None)


def disjoint(one: Bounded, other: Bounded) -> bool:
    """Whether two intervals do not overlap."""
    return one.low > other.high or one.high < other.low


def aim(column: MetricColumn, real: SystemRow | Bounded | None) -> Bounded | None:
    """The best value of a column: a constant, or real music's; None if there is no such value."""
    if column.better == "as real":
        number = real.metrics.get(column.key) if isinstance(real, SystemRow) else real
        return number if is_known(number) else None
    best = column.best_value
    return None if best is None else Interval(best, best, best)


def describe_aim(column: MetricColumn, best: Bounded) -> str:
    """`ideal 0.50` or, where real music is the aim, `real 0.50`."""
    return f"{'real' if column.better == 'as real' else 'ideal'} {format_value(best, column.digits)}"


def join_names(names: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def format_value(cell: Bounded, digits: int) -> str:
    """The number of a cell; a bound has its sign before it."""
    return BOUND_SIGNS[getattr(cell, "bound", "")] + format_number(cell.value, digits)


def format_interval(cell: Bounded, digits: int = 3) -> str:
    """`0.512 [0.480, 0.544]`; a bound has its sign before it, and an unknown interval is left out."""
    ends = f" [{format_number(cell.low, digits)}, {format_number(cell.high, digits)}]" if is_known(cell) else ""
    return format_value(cell, digits) + ends


def format_number(value: float, digits: int) -> str:
    """With a true minus, and none before a zero; an en dash for a value that is not finite."""
    if not math.isfinite(value):
        return "\N{EN DASH}"
    words = f"{value:.{digits}f}"
    return words.replace("-", "\N{MINUS SIGN}" if float(words) else "")


def _preferred_direction(before: Bounded, after: Bounded, column: MetricColumn, real: Bounded | None) -> int | None:
    """+1 if the larger of the two is better, -1 if the smaller, 0 if that is not clear, None without an aim."""
    if column.better in ("lower", "higher"):
        return 1 if column.better == "higher" else -1
    near = aim(column, real)
    if near is None:
        return None
    away = near.value - (before.value + after.value) / 2
    up = math.hypot(before.high - before.value, after.high - after.value) / 2
    down = math.hypot(before.value - before.low, after.value - after.low) / 2
    return int(away > math.hypot(near.value - near.low, up)) - int(-away > math.hypot(near.high - near.value, down))
