"""report.html: what changed, in words, numbers, pictures and sound, in one file that needs nothing else.

Everything comes in as plain data; nothing here samples, measures or knows a model.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from importlib.resources import files
from typing import Protocol

import jinja2
import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from mgen.errors import MgenError
from mgen.evaluation.audio import data_uri
from mgen.evaluation.pianoroll import PIANOROLL_CSS, last_step, pianoroll_svg
from mgen.notes import STEPS_PER_QUARTER, Notes

BETTER = ("as real", "lower", "higher", "stated")

_POINTS = 240  # of a curve; longer ones are averaged in equal bins
_SERIES = 6  # colours and dashes


class Bounded(Protocol):
    """A number with its 95 % interval, such as `mgen.evaluation.intervals.Interval`."""

    @property
    def value(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Cell:
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Row:
    """One player's numbers: real music's or a model's.

    Attributes:
        name: as shown; the same player has the same name everywhere.
        kind: `real`, `reference` (other music, shown only), `pretrained` (what the others are compared with),
            `tuned`, or a word for a control.
        cells: by the key of the column; a missing one, or NaN, is shown as undefined.
        group: the kind of prompt; each group is a table of its own.
        changes: where known, intervals of the difference from the pretrained row, by key; they decide whether
            a change is clear. Without one, the two rows' own intervals must lie apart.
    """

    name: str
    kind: str
    cells: Mapping[str, Bounded]
    group: str = ""
    changes: Mapping[str, Bounded] = field(default_factory=dict)


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
    """

    key: str
    title: str
    better: str
    digits: int = 2
    explanation: str = ""
    unit: str = ""

    def __post_init__(self) -> None:
        if self.better not in BETTER and not _is_number(self.better):
            raise MgenError(f"column {self.key}: better is {self.better!r}; expected {', '.join(BETTER)} or a number")


@dataclass(frozen=True, slots=True)
class Curve:
    """A chart of one quantity over training; `series` maps a name to its steps and values."""

    title: str
    unit: str
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]]


@dataclass(frozen=True, slots=True)
class Take:
    """One player's continuation of a prompt.

    Attributes:
        row: name of the player, as in the table.
        notes: one piece, the prompt's notes included.
        prompt_end: grid step where the prompt ends; None or 0 without one.
        audio: OGG/Vorbis bytes; empty for no sound.
        caption: a line below the picture.
        tempo: quarters a minute at which the sound was made.
    """

    row: str
    notes: Notes
    prompt_end: int | None
    audio: bytes = b""
    caption: str = ""
    tempo: float = 120.0


@dataclass(frozen=True, slots=True)
class Example:
    """One prompt and what each player made of it.

    Attributes:
        prompt_name: what it is called, such as the work it opens.
        style: a line below: style and kind of prompt.
        tag: `typical`, `best` or `worst`.
        takes: real music's first.
        reason: how the example was chosen.
    """

    prompt_name: str
    style: str
    tag: str
    takes: Sequence[Take]
    reason: str = ""


class Verdict(StrEnum):
    """What may be said of a number against the pretrained model's."""

    BETTER = "better"
    WORSE = "worse"
    MOVED = "moved"
    UNCLEAR = "no clear change"


_OFF = "still off the aim"
_SAID = {
    Verdict.BETTER: "better in",
    Verdict.WORSE: "worse in",
    Verdict.MOVED: "changed, but not clearly for better or worse, in",
    Verdict.UNCLEAR: "no clear change in",
}


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
    if not (_known(before) and _known(after)) or column.better == "stated":
        return None
    pull = _pull(before, after, column, real)
    if pull is None:
        return None
    if change is not None and _known(change):
        direction = (change.low > 0) - (change.high < 0)
    else:
        direction = (after.low > before.high) - (after.high < before.low)
    if not direction:
        return Verdict.UNCLEAR
    return {1: Verdict.BETTER, 0: Verdict.MOVED, -1: Verdict.WORSE}[direction * pull]


def in_words(rows: Sequence[Row], columns: Sequence[Column]) -> list[str]:
    """A line for each row beside a pretrained one: what is better, worse, and not clearly changed."""
    lines = []
    for who, says in _findings(rows, columns).items():
        clauses = "; ".join(f"{lead} {_list(says[key])}" for key, lead in _SAID.items() if key in says)
        off = f" Still clearly off the aim: {_list(says[_OFF])}." if _OFF in says else ""
        lines.append(f"{who}: {clauses}.{off}")
    return lines


def render_report(
    title: str,
    rows: Sequence[Row],
    columns: Sequence[Column],
    curves: Sequence[Curve],
    examples: Sequence[Example],
    facts: Mapping[str, str],
    limits: Sequence[str],
    findings: Sequence[str] | None = None,
) -> str:
    """The page, whole.

    Args:
        facts: what was run: configuration, versions, seed, machine, time. Lines within a value are kept.
        limits: what the numbers do not show.
        findings: sentences of one's own to open with; what `in_words` says is shown in any case.
    """
    page = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page.filters["arrow"] = _arrow
    return page.from_string(files(__package__).joinpath("report.html.jinja").read_text("utf-8")).render(
        title=title,
        headline=_headline(rows, columns),
        findings=findings,
        found=_findings(rows, columns),
        comparisons=sum(found is not None for *_, found in _changes(rows, columns)),
        tables=[_table(group, members, rows, columns) for group, members in _groups(rows).items()],
        columns=columns,
        curves=[(curve, Markup(curve_svg(curve)), _swatches(curve), _bin(curve)) for curve in curves],
        examples=[_example(example) for example in examples],
        facts=facts,
        limits=limits,
        css=Markup(PIANOROLL_CSS),
        script=Markup(_SCRIPT),
        script_hash=base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode(),
    )


# ---------------------------------------------------------------- words


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _known(cell: Bounded | None) -> bool:
    return cell is not None and all(map(math.isfinite, (cell.value, cell.low, cell.high)))


def _aim(column: Column, real: Row | Bounded | None) -> Bounded | None:
    """What to be near to: a number, or real music's; None if there is no such thing."""
    if column.better == "as real":
        cell = real.cells.get(column.key) if isinstance(real, Row) else real
        return cell if _known(cell) else None
    return Cell(*[float(column.better)] * 3) if _is_number(column.better) else None


def _pull(before: Bounded, after: Bounded, column: Column, real: Bounded | None) -> int | None:
    """+1 if larger is better between the two, -1 if smaller, 0 if that is not clear, None without an aim."""
    if column.better in ("lower", "higher"):
        return 1 if column.better == "higher" else -1
    aim = _aim(column, real)
    if aim is None:
        return None
    away = aim.value - (before.value + after.value) / 2
    up = math.hypot(before.high - before.value, after.high - after.value) / 2
    down = math.hypot(before.value - before.low, after.value - after.low) / 2
    above = away > math.hypot(aim.value - aim.low, up)
    return above - (-away > math.hypot(aim.high - aim.value, down))


def _groups(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Rows by group: real music, references, the pretrained model, the others."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    order = {"real": 0, "reference": 1, "pretrained": 2}
    return {name: sorted(members, key=lambda row: order.get(row.kind, 3)) for name, members in groups.items()}


def _of_kind(rows: Sequence[Row], kind: str) -> Row | None:
    return next((row for row in rows if row.kind == kind), None)


def _changes(
    rows: Sequence[Row], columns: Sequence[Column]
) -> list[tuple[Row, Column, Bounded, Bounded, Verdict | None]]:
    """(row, column, before, after, verdict) of every number a row shares with its group's pretrained row."""
    found = []
    for members in _groups(rows).values():
        base, real = _of_kind(members, "pretrained"), _of_kind(members, "real")
        for row in members:
            if base is None or row.kind in ("real", "reference", "pretrained"):
                continue
            for column in columns:
                before, after = base.cells.get(column.key), row.cells.get(column.key)
                if before is None or after is None:
                    continue
                word = verdict(before, after, column, _aim(column, real), row.changes.get(column.key))
                found.append((row, column, before, after, word))
    return found


def _findings(rows: Sequence[Row], columns: Sequence[Column]) -> dict[str, dict[str, list[str]]]:
    """For each row that is compared: its numbers under each verdict, and those still off their aim."""
    reals = {group: _of_kind(members, "real") for group, members in _groups(rows).items()}
    said: dict[str, dict[str, list[str]]] = {}
    for row, column, before, after, found in _changes(rows, columns):
        if found is None:
            continue
        says = said.setdefault(", ".join(filter(None, (row.name, row.group))), {key: [] for key in (*Verdict, _OFF)})
        aim = _aim(column, reals[row.group])
        if found is Verdict.UNCLEAR:
            says[found].append(column.title)
        else:
            beside = (
                f"; {'real' if column.better == 'as real' else 'ideal'} {_number(aim.value, column.digits)}"
                if aim
                else ""
            )
            says[found].append(f"{column.title} ({_pair(before.value, after.value, column.digits)}{beside})")
        if aim and (after.low > aim.high or after.high < aim.low):
            says[_OFF].append(column.title)
    return {who: {key: items for key, items in says.items() if items} for who, says in said.items()}


def _headline(rows: Sequence[Row], columns: Sequence[Column]) -> list[str]:
    """For each row's name, over all groups: how many numbers became better and worse."""
    counts: dict[str, dict[Verdict, int]] = {}
    for row, *_, found in _changes(rows, columns):
        if found is not None:
            by_verdict = counts.setdefault(row.name, dict.fromkeys(Verdict, 0))
            by_verdict[found] += 1
    lines = []
    for name, count in counts.items():
        total = sum(count.values())
        if not total - count[Verdict.UNCLEAR]:
            lines.append(f"{name}: no clear change from the pretrained model in any of {total} numbers.")
            continue
        moved = f", {count[Verdict.MOVED]} changed without being clearly either" if count[Verdict.MOVED] else ""
        lines.append(
            f"{name}: of {total} numbers, {count[Verdict.BETTER]} better and {count[Verdict.WORSE]} worse "
            f"than the pretrained model{moved}, {count[Verdict.UNCLEAR]} without clear change."
        )
    return lines


def _list(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}") if math.isfinite(value) else "\N{EN DASH}"


def _pair(before: float, after: float, digits: int) -> str:
    """`before → after`, with as many more digits as it takes to tell them apart."""
    while _number(before, digits) == _number(after, digits) and before != after and digits < 8:
        digits += 1
    return f"{_number(before, digits)} → {_number(after, digits)}"


def _arrow(column: Column) -> str:
    return {
        "as real": "best: as real music",
        "lower": "↓ lower is better",
        "higher": "↑ higher is better",
        "stated": "stated",
    }.get(column.better, f"best: {column.better}")


# ---------------------------------------------------------------- tables


def _table(group: str, members: Sequence[Row], rows: Sequence[Row], columns: Sequence[Column]) -> dict[str, object]:
    """What the template shows of one group: its rows, each with a list of cells."""
    found = {(id(row), column.key): word for row, column, _, _, word in _changes(rows, columns)}
    real = _of_kind(members, "real")
    shown = [column for column in columns if any(column.key in row.cells for row in members)]
    spans = {column.key: _span(column, rows) for column in shown}
    body = []
    for row in members:
        cells: list[tuple[object, ...] | None] = []
        for column in shown:
            cell = row.cells.get(column.key)
            if cell is None or not math.isfinite(cell.value):
                cells.append(None)
                continue
            numbers = [_number(number, column.digits) for number in (cell.value, cell.low, cell.high)]
            picture = Markup(_whisker(cell, _aim(column, real), spans[column.key]))
            cells.append((*numbers, picture, found.get((id(row), column.key))))
        body.append((row, cells))
    return {"group": group, "columns": shown, "body": body}


def _span(column: Column, rows: Sequence[Row]) -> tuple[float, float]:
    """What a column's little pictures range over, in every table alike."""
    ends = [end for row in rows if (cell := row.cells.get(column.key)) for end in (cell.value, cell.low, cell.high)]
    if _is_number(column.better):
        ends.append(float(column.better))
    ends = [end for end in ends if math.isfinite(end)] or [0.0]
    return min(ends), max(ends)


def _whisker(cell: Bounded, aim: Bounded | None, span: tuple[float, float]) -> str:
    """A dot on its interval, over the aim and its interval."""
    if not _known(cell):
        return ""

    def x(value: float) -> float:
        return 4 + 72 * (value - span[0]) / (span[1] - span[0] or 1)

    band = ""
    if aim:
        across = x(aim.high) - x(aim.low) + 1.5
        band = f'<rect class="aim" x="{x(aim.low) - 0.75:.1f}" y="0" width="{across:.1f}" height="12"/>'
    return (
        f'<svg class="whisker" viewBox="0 0 80 12" aria-hidden="true">{band}'
        f'<line x1="{x(cell.low):.1f}" x2="{x(cell.high):.1f}" y1="6" y2="6"/>'
        f'<circle cx="{x(cell.value):.1f}" cy="6" r="2.6"/></svg>'
    )


# ---------------------------------------------------------------- curves


def curve_svg(curve: Curve, width: int = 440, height: int = 250) -> str:
    """A line chart with its axes: steps to the right, `unit` upwards. What is not finite leaves a gap."""
    left, right, top, bottom = 48.0, 10.0, 24.0, 34.0
    series = {name: _points(*pair) for name, pair in curve.series.items()}
    steps = np.concatenate([points[0] for points in series.values()] or [np.zeros(0)])
    values = np.concatenate([points[1] for points in series.values()] or [np.zeros(0)])
    values = values[np.isfinite(values)]
    if not len(values):
        return _figure(width, 40, f"{curve.title}: nothing was logged", '<text x="4" y="24">nothing was logged</text>')
    y_ticks, x_ticks = ticks(values.min(), values.max()), ticks(steps.min(), steps.max())
    x0, x1 = float(steps.min()), max(float(steps.max()), float(steps.min()) + 1)
    y0, y1 = min(y_ticks[0], float(values.min())), max(y_ticks[-1], float(values.max()))

    def x(step: float) -> float:
        return left + (step - x0) / (x1 - x0) * (width - left - right)

    def y(value: float) -> float:
        return height - bottom - (value - y0) / (y1 - y0) * (height - top - bottom)

    parts = [f'<text class="unit" x="4" y="12">{escape(curve.unit)}</text>']
    for tick in y_ticks:
        parts.append(
            f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
            f'<text x="{left - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:,g}</text>'
        )
    for tick in x_ticks:
        if x0 <= tick <= x1:
            parts.append(f'<text x="{x(tick):.1f}" y="{height - bottom + 16}" text-anchor="middle">{tick:,g}</text>')
    parts.append(f'<text x="{width - right}" y="{height - 3}" text-anchor="end">step</text>')
    for i, (at, of) in enumerate(series.values()):
        parts.append(f'<g class="s{i % _SERIES}">{"".join(_strokes(at, of, x, y))}</g>')
    told = "; ".join(f"{name} from {of[0]:.3g} to {of[-1]:.3g}" for name, (_, of) in series.items() if len(of))
    unit = f", {curve.unit}" if curve.unit else ""
    return _figure(width, height, f"{curve.title}{unit}, steps {x0:g} to {x1:g}: {told}", "".join(parts))


def _figure(width: int, height: int, label: str, inside: str) -> str:
    shape = f'class="curve" viewBox="0 0 {width} {height}"'
    return f'<svg {shape} role="img" aria-label="{escape(label)}">{inside}</svg>'


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers, 1, 2 or 5 times a power of ten apart, from at or below `low` to at or above `high`."""
    if high <= low:
        low, high = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def _points(steps: Sequence[float], values: Sequence[float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """At most `_POINTS` points: means over equal bins of neighbours."""
    at, of = np.asarray(steps, np.float64), np.asarray(values, np.float64)
    if at.shape != of.shape or at.ndim != 1:
        raise MgenError(f"curve: {at.shape} steps but {of.shape} values; give one value a step")
    size = -(-len(at) // _POINTS)
    if size < 2:
        return at, of
    cuts = np.arange(0, len(at), size)
    count = np.diff(np.append(cuts, len(at)))
    return np.add.reduceat(at, cuts) / count, np.add.reduceat(of, cuts) / count


def _bin(curve: Curve) -> int:
    """How many neighbouring points one drawn point averages."""
    return max((-(-len(steps) // _POINTS) for steps, _ in curve.series.values()), default=1)


def _strokes(at: NDArray[np.float64], of: NDArray[np.float64], x: Scale, y: Scale) -> Iterable[str]:
    """One polyline for each stretch of finite values; a point that stands alone is a dot."""
    finite = np.isfinite(of)
    for stretch in np.split(np.arange(len(of)), np.flatnonzero(np.diff(finite)) + 1):
        if not len(stretch) or not finite[stretch[0]]:
            continue
        if len(stretch) == 1:
            yield f'<circle cx="{x(at[stretch[0]]):.1f}" cy="{y(of[stretch[0]]):.1f}" r="3"/>'
        else:
            line = " ".join(f"{x(at[i]):.1f},{y(of[i]):.1f}" for i in stretch)
            yield f'<polyline points="{line}"/>'


class Scale(Protocol):
    """From a quantity to a place in the drawing."""

    def __call__(self, value: float, /) -> float: ...


def _swatches(curve: Curve) -> list[tuple[str, int]]:
    return [(name, i % _SERIES) for i, name in enumerate(curve.series)]


# ---------------------------------------------------------------- examples


def _example(example: Example) -> dict[str, object]:
    """What the template shows of one prompt; its takes share both axes, to be compared by eye."""
    takes = example.takes
    steps = max((last_step(take.notes, 0) for take in takes), default=1)
    pitch = np.concatenate([take.notes.pitch[take.notes.program >= 0] for take in takes] or [np.zeros(0, np.int32)])
    pitches = (int(pitch.min()), int(pitch.max())) if len(pitch) else (60, 60)
    height = min(max(200, 40 + 4 * (pitches[1] - pitches[0])), 340)
    shown = []
    for take in takes:
        name = f"{take.row}, {example.prompt_name}"
        roll = pianoroll_svg(take.notes, 0, take.prompt_end, name, height=height, steps=steps, pitches=pitches)
        shown.append(
            {
                "row": take.row,
                "caption": take.caption,
                "audio": Markup(data_uri(take.audio)) if take.audio else "",
                "rate": f"{STEPS_PER_QUARTER * take.tempo / 60:.4f}",
                "svg": Markup(roll),
            }
        )
    return {"example": example, "takes": shown}


_SCRIPT = """
const takes = [...document.querySelectorAll('.take')];
for (const take of takes) {
  const audio = take.querySelector('audio'), roll = take.querySelector('.pr');
  if (!audio) continue;
  const head = roll.querySelector('.pr-head'), right = roll.viewBox.baseVal.width;
  const left = +roll.dataset.left, speed = +roll.dataset.step * +take.dataset.rate;
  const draw = () => {
    const x = Math.min(left + audio.currentTime * speed, right);
    head.setAttribute('x1', x);
    head.setAttribute('x2', x);
    head.setAttribute('visibility', 'visible');
    if (!audio.paused) requestAnimationFrame(draw);
  };
  audio.addEventListener('play', () => {
    for (const other of takes) if (other !== take) other.querySelector('audio')?.pause();
    draw();
  });
  audio.addEventListener('seeked', draw);
}
"""
