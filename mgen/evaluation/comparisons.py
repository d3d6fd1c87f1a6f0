"""What may be said of a model's numbers: better or worse than another's, as far as the intervals carry it.

Everything comes in as plain data; nothing here measures, and nothing draws.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from mgen.errors import MgenError
from mgen.stats.intervals import Bounded, is_known

BETTER = ("as real", "lower", "higher", "stated")

ROLES = ("real", "reference", "pretrained", "tuned", "low_cost_baseline", "baseline")
"""What a row may be, in the order of a table; any other word is taken as a low-cost baseline."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A number with its 95 % interval.

    Attributes:
        seeds: the same number of each training seed; shown as dots, no claim rests on them.
        undefined: pieces left out because the number is not defined for them.
    """

    value: float
    low: float
    high: float
    seeds: Sequence[float] = ()
    undefined: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """One player's numbers: real music's or a model's.

    Attributes:
        name: as shown; the same player has the same name everywhere.
        role: `real`, `reference` (other music, shown only), `pretrained` (what the others are compared with),
            `tuned` (what the page is about), `low_cost_baseline` (costs less than tuning) or `baseline`.
        cells: by the key of the column; a missing one, or NaN, is shown as undefined.
        group: the role of prompt; each group is a table of its own.
        changes: where known, intervals of the difference from the pretrained row, by key; they decide whether
            a change is clear. Without one, the two rows' own intervals must lie apart.
        against: the same for other rows, by their names: this row minus that one.
    """

    name: str
    role: str
    cells: Mapping[str, Bounded]
    group: str = ""
    changes: Mapping[str, Bounded] = field(default_factory=dict)
    against: Mapping[str, Mapping[str, Bounded]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Column:
    """One metric.

    Attributes:
        key: of the rows' cells.
        title: as shown; without commas, it stands in lists.
        better: `as real`, `lower`, `higher`, `stated` (never judged) or a number to be near to: `0.5`.
        digits: behind the point.
        explanation: a sentence or two for who does not know the metric.
        unit: shown beside the title.
        group: what it speaks of, such as `harmony`; columns of one group share a table.
        main: whether it stands in the short table and in the words.
    """

    key: str
    title: str
    better: str
    digits: int = 2
    explanation: str = ""
    unit: str = ""
    group: str = ""
    main: bool = False

    def __post_init__(self) -> None:
        if self.better not in BETTER and not _is_number(self.better):
            raise MgenError(f"column {self.key}: better is {self.better!r}; expected {', '.join(BETTER)} or a number")


class Verdict(StrEnum):
    """What may be said of a number against another row's."""

    BETTER = "better"
    WORSE = "worse"
    MOVED = "moved"
    UNCLEAR = "no clear change"


@dataclass(frozen=True, slots=True)
class Finding:
    """One number of a row beside another row's; `aim` is what both should be near to, if there is such a thing."""

    column: Column
    before: Bounded
    after: Bounded
    aim: Bounded | None
    verdict: Verdict

    @property
    def off(self) -> bool:
        """Whether the number is still clearly off its aim."""
        return self.aim is not None and apart(self.after, self.aim)

    def in_words(self) -> str:
        """`told apart (0.90 → 0.60; ideal 0.50)`; without numbers where nothing clear changed."""
        if self.verdict is Verdict.UNCLEAR:
            return self.column.title
        ideal = "real" if self.column.better == "as real" else "ideal"
        beside = f"; {ideal} {number(self.aim.value, self.column.digits)}" if self.aim else ""
        return f"{self.column.title} ({self.step}{beside})"

    @property
    def step(self) -> str:
        """`0.90 → 0.60`."""
        return _pair(self.before.value, self.after.value, self.column.digits)


@dataclass(frozen=True, slots=True)
class Duel:
    """A row against another, over all kinds of prompt: in how many numbers it is better, worse, and so on.

    Attributes:
        row, other: names.
        role: of the other.
        counts: over all numbers.
        by_key: over the kinds of prompt, for each column's key.
    """

    row: str
    other: str
    role: str
    counts: Mapping[Verdict, int]
    by_key: Mapping[str, Mapping[Verdict, int]]

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def result(self) -> str:
        """`ahead`, `behind`, `level`, or `no clear difference`: which of the two is clearly nearer to the aim in
        more numbers. Numbers hang together, so this is a count and not a test.
        """
        won, lost = self.counts[Verdict.BETTER], self.counts[Verdict.WORSE]
        if won != lost:
            return "ahead" if won > lost else "behind"
        return "level" if won else "no clear difference"

    def in_words(self) -> str:
        """One sentence, the losing side said as plainly as the winning one."""
        won, lost = self.counts[Verdict.BETTER], self.counts[Verdict.WORSE]
        of = f"of {self.total} numbers"
        match self.result:
            case "ahead":
                return f"{self.row} is ahead of {self.other}: better in {won} and worse in {lost} {of}."
            case "behind":
                return f"{self.row} loses to {self.other}: worse in {lost} and better in {won} {of}."
            case "level":
                return f"{self.row} and {self.other} are level: each is better in {won} {of}."
        return f"{self.row} is not clearly better or worse than {self.other} in any {of}."


def verdict(
    before: Bounded,
    after: Bounded,
    column: Column,
    real: Bounded | None = None,
    change: Bounded | None = None,
) -> Verdict | None:
    """Whether `after` is better than `before`, as far as the intervals carry the claim.

    A change is clear where the interval of the difference leaves out 0 or, if that is not known, the two
    intervals lie apart. It is an improvement where what is aimed at lies on the new side of the midpoint of
    both numbers, beyond the joint margin of aim and midpoint; `moved`: neither number is clearly nearer.

    Returns:
        None where nothing can be claimed: a stated column, an undefined number, or no real music to be like.

    Source: one-sided margins joined as the root of their squares' sum, Zou and Donner 2008 (MOVER), which is
    for independent estimates. Rows that share prompts are positively dependent: their margin is too wide.
    """
    if not (is_known(before) and is_known(after)) or column.better == "stated":
        return None
    pull = _pull(before, after, column, real)
    if pull is None:
        return None
    if change is not None and is_known(change):
        direction = int(change.low > 0) - int(change.high < 0)
    else:
        direction = int(after.low > before.high) - int(after.high < before.low)
    if not direction:
        return Verdict.UNCLEAR
    return {1: Verdict.BETTER, 0: Verdict.MOVED, -1: Verdict.WORSE}[direction * pull]


def compare(row: Row, other: Row, columns: Sequence[Column], real: Row | None) -> list[Finding]:
    """What may be said of each number that both rows have, `other` being what was there before."""
    known_changes = row.against.get(other.name) or (row.changes if other.role == "pretrained" else {})
    found = []
    for column in columns:
        before, after = other.cells.get(column.key), row.cells.get(column.key)
        if before is None or after is None:
            continue
        near = aim(column, real)
        word = verdict(before, after, column, near, known_changes.get(column.key))
        if word is not None:
            found.append(Finding(column, before, after, near, word))
    return found


def from_pretrained(rows: Sequence[Row], columns: Sequence[Column]) -> list[tuple[Row, list[Finding]]]:
    """Each model beside its group's pretrained one."""
    found = []
    for members in groups(rows).values():
        base, real = of_role(members, "pretrained"), of_role(members, "real")
        for row in members:
            if base is not None and row.role not in ("real", "reference", "pretrained"):
                found.append((row, compare(row, base, columns, real)))
    return found


def duels(rows: Sequence[Row], columns: Sequence[Column]) -> dict[str, list[Duel]]:
    """For each tuned row's name: how it stands against the pretrained model, the baselines."""
    found: dict[tuple[str, str, str], list[Finding]] = {}
    for members in groups(rows).values():
        real = of_role(members, "real")
        for row in (row for row in members if row.role == "tuned"):
            for other in (other for other in members if other.role not in ("real", "reference", "tuned")):
                findings = found.setdefault((row.name, other.name, other.role), [])
                findings += compare(row, other, columns, real)
    out: dict[str, list[Duel]] = {}
    for (name, opponent, role), findings in found.items():
        keys = {finding.column.key for finding in findings}
        by_key = {key: counted([one for one in findings if one.column.key == key]) for key in keys}
        if findings:
            out.setdefault(name, []).append(Duel(name, opponent, role, counted(findings), by_key))
    return out


def counted(findings: Iterable[Finding]) -> dict[Verdict, int]:
    """How many findings there are of each verdict."""
    words = [finding.verdict for finding in findings]
    return {word: words.count(word) for word in Verdict}


SAID = {
    Verdict.BETTER: "better in",
    Verdict.WORSE: "worse in",
    Verdict.MOVED: "changed, but not clearly for better or worse, in",
    Verdict.UNCLEAR: "no clear change in",
}


def in_words(rows: Sequence[Row], columns: Sequence[Column]) -> list[str]:
    """A line for each model beside its pretrained one, and one for each baseline."""
    lines = []
    for row, findings in from_pretrained(rows, columns):
        if not findings:
            continue
        by_word = {word: [finding.in_words() for finding in findings if finding.verdict is word] for word in SAID}
        clauses = "; ".join(f"{SAID[word]} {listed(items)}" for word, items in by_word.items() if items)
        off = [finding.column.title for finding in findings if finding.off]
        still = f" Still clearly off the aim: {listed(off)}." if off else ""
        lines.append(f"{', '.join(filter(None, (row.name, row.group)))}: {clauses}.{still}")
    for met in duels(rows, columns).values():
        lines += [duel.in_words() for duel in met if duel.role != "pretrained"]
    return lines


# ---------------------------------------------------------------- rows and numbers


def groups(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Rows by group, each in the order of `ROLES`."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.group, []).append(row)
    return {name: sorted(members, key=lambda row: ROLES.index(role_of(row))) for name, members in found.items()}


def role_of(row: Row) -> str:
    """Its role as one of `ROLES`."""
    return row.role if row.role in ROLES else "low_cost_baseline"


def role_in_words(role: str) -> str:
    """`low_cost_baseline` as `low-cost baseline`."""
    return role.replace("low_cost", "low-cost").replace("_", " ")


def of_role(rows: Sequence[Row], role: str) -> Row | None:
    """The first row of a role."""
    return next((row for row in rows if row.role == role), None)


def apart(one: Bounded, other: Bounded) -> bool:
    """Whether two intervals have nothing in common."""
    return one.low > other.high or one.high < other.low


def aim(column: Column, real: Row | Bounded | None) -> Bounded | None:
    """What to be near to: a number, or real music's; None if there is no such thing."""
    if column.better == "as real":
        cell = real.cells.get(column.key) if isinstance(real, Row) else real
        return cell if is_known(cell) else None
    if not _is_number(column.better):
        return None
    wanted = float(column.better)
    return Cell(wanted, wanted, wanted)


def listed(names: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def number(value: float, digits: int) -> str:
    """With a true minus, and none before a zero; an en dash for what is not finite."""
    if not math.isfinite(value):
        return "\N{EN DASH}"
    words = f"{value:.{digits}f}"
    return words.replace("-", "\N{MINUS SIGN}" if float(words) else "")


def _pair(before: float, after: float, digits: int) -> str:
    """`before → after`, with as many more digits as it takes to tell them apart."""
    while number(before, digits) == number(after, digits) and before != after and digits < 8:
        digits += 1
    return f"{number(before, digits)} → {number(after, digits)}"


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _pull(before: Bounded, after: Bounded, column: Column, real: Bounded | None) -> int | None:
    """+1 if larger is better between the two, -1 if smaller, 0 if that is not clear, None without an aim."""
    if column.better in ("lower", "higher"):
        return 1 if column.better == "higher" else -1
    near = aim(column, real)
    if near is None:
        return None
    away = near.value - (before.value + after.value) / 2
    up = math.hypot(before.high - before.value, after.high - after.value) / 2
    down = math.hypot(before.value - before.low, after.value - after.low) / 2
    return int(away > math.hypot(near.value - near.low, up)) - int(-away > math.hypot(near.high - near.value, down))
