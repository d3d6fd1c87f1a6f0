"""Renders report.html: comparisons in words, tables, charts and sound, in one self-contained file.

Everything is passed in as plain data; nothing here samples, measures or knows a model.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

import jinja2
import numpy as np
from markupsafe import Markup

from mgen.errors import MgenError
from mgen.evaluation.columns import MetricColumn
from mgen.evaluation.comparisons import (
    ROLES,
    MetricComparison,
    SystemComparison,
    SystemRow,
    Verdict,
    aim,
    compare_systems,
    compare_with_pretrained,
    count_verdicts,
    disjoint,
    first_of_role,
    format_number,
    groups,
    join_names,
    role_in_words,
    role_of,
)
from mgen.notes import STEPS_PER_QUARTER, Notes
from mgen.render.audio import data_uri
from mgen.render.charts import Curve, Distribution, averaged, curve_svg, distribution_svg, swatches, whisker
from mgen.render.pianoroll import PIANOROLL_CSS, last_step, pianoroll_svg
from mgen.stats.intervals import Bounded, is_known

_MAX_COLUMNS = 12  # of one table; more are split by group
_MAX_LINES = 12  # of a fact; longer ones are folded

SAME_PROMPT = (
    "The same prompt, completed by each system; pieces of one prompt share their axes. Grey notes on shaded ground are "
    "the prompt."
)


@dataclass(frozen=True, slots=True)
class ExamplePiece:
    """One system's completion of a prompt.

    Attributes:
        system: its name, as in the table.
        notes: one piece, the prompt's notes included.
        prompt_end: grid step where the prompt ends; None or 0 without one.
        audio: OGG/Vorbis bytes; empty for no sound.
        caption: a line below the picture.
        tempo: of the audio, in quarter notes per minute.
    """

    system: str
    notes: Notes
    prompt_end: int | None
    audio: bytes = b""
    caption: str = ""
    tempo: float = 120.0


@dataclass(frozen=True, slots=True)
class Example:
    """One prompt with the completions of all systems.

    Attributes:
        prompt_name: such as the work that it opens.
        style: a line below: style and prompt type.
        tag: `typical`, `best` or `worst`.
        pieces: real music first. Those of baselines are folded.
        reason: how the example was chosen.
    """

    prompt_name: str
    style: str
    tag: str
    pieces: Sequence[ExamplePiece]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class PlainTable:
    """Any further table, such as one of corruptions.

    Attributes:
        head: titles of the columns; the first one names the rows.
        body: rows of equal length: words, numbers, or numbers with their intervals; NaN is shown as undefined.
        digits: of the numbers, after the decimal point.
        note: a line below.
    """

    head: Sequence[str]
    body: Sequence[Sequence[str | float | Bounded]]
    digits: int = 3
    note: str = ""

    def __post_init__(self) -> None:
        for row in self.body:
            if len(row) != len(self.head):
                raise MgenError(f"table: expected {len(self.head)} entries as in the head, found {len(row)}: {row[:1]}")


@dataclass(frozen=True, slots=True)
class Section:
    """A further part of the page, such as the self-check of the two-sample test.

    Attributes:
        short: its name in the navigation, where the title is long.
    """

    title: str
    intro: str
    table: PlainTable | None = None
    short: str = ""


def render_report(
    title: str,
    rows: Sequence[SystemRow],
    columns: Sequence[MetricColumn],
    curves: Sequence[Curve],
    examples: Sequence[Example],
    facts: Mapping[str, str],
    limits: Sequence[str],
    findings: Sequence[str] | None = None,
    distributions: Sequence[Distribution] = (),
    sections: Sequence[Section] = (),
    listening: str = SAME_PROMPT,
) -> str:
    """Renders the complete page.

    Args:
        facts: about the run: configuration, versions, seed, machine, time. Line breaks within a value are kept.
        limits: what the numbers do not show.
        findings: further sentences at the top; those that follow from the intervals are always there.
        distributions: metrics of every piece, drawn over real music's.
        sections: further tables, before the limits.
        listening: introduces the examples.
    """
    page = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page.filters["words"] = role_in_words
    main = main_columns(columns)
    roles = {row.name: role_of(row) for row in rows}
    compared = compare_with_pretrained(rows, columns)
    return page.from_string(files(__package__).joinpath("report.html.jinja").read_text("utf-8")).render(
        title=title,
        headline=_headline(rows, columns, compared, main[0] if main else None),
        first=main[0] if main else None,
        findings=findings,
        tuned=_tuned_systems(rows, columns, main, compared),
        uncompared=_uncompared_systems(rows, columns, {column.key for column in main}),
        comparisons=sum(len(comparisons) for _, comparisons in compared),
        seeded=any(getattr(cell, "seeds", ()) for row in rows for cell in row.metrics.values()),
        tables=[_tables(group, members, rows, columns, main) for group, members in groups(rows).items()],
        columns=columns,
        roles=set(roles.values()),
        distributions=_distributions(distributions, roles),
        curves=[(curve, Markup(curve_svg(curve)), swatches(curve), averaged(curve)) for curve in curves],
        examples=[_example(example, roles) for example in examples],
        listening=listening,
        sections=[(section, _plain_rows(section.table)) for section in sections],
        facts=[(name, value, value.count("\n") >= _MAX_LINES) for name, value in facts.items()],
        limits=limits,
        css=Markup(PIANOROLL_CSS),
        script=Markup(_SCRIPT),
        script_hash=base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode(),
    )


def main_columns(columns: Sequence[MetricColumn]) -> list[MetricColumn]:
    """Columns of the short table: those marked `main`; without marks all if they fit, else the first of each group."""
    marked = [column for column in columns if column.main]
    if marked or len(columns) <= _MAX_COLUMNS:
        return marked or list(columns)
    first: dict[str, MetricColumn] = {}
    for column in columns:
        first.setdefault(column.group, column)
    return list(first.values())


# ---------------------------------------------------------------- words

Compared = Sequence[tuple[SystemRow, list[MetricComparison]]]

_MARKS = {Verdict.BETTER: "better", Verdict.WORSE: "worse", Verdict.CHANGED: "changed"}
_OFF, _UNCLEAR = "still off the aim", "no clear change"
_FAR, _NEAR = "clearly off the aim", "not clearly off it"
_RESULTS = {
    "behind": "It loses to",
    "level": "It is level with",
    "no clear difference": "It is not clearly different from",
    "ahead": "It is ahead of",
}


def _headline(
    rows: Sequence[SystemRow], columns: Sequence[MetricColumn], compared: Compared, lead: MetricColumn | None
) -> list[str]:
    """A line for each tuned model, over all prompt types: the counts of better and worse numbers, the comparison of the
    first main number, and the results against the baselines.
    """
    by_row = compare_systems(rows, columns)
    lines = []
    for name in dict.fromkeys(row.name for row, comparisons in compared if row.role == "tuned" and comparisons):
        own = [(row, comparisons) for row, comparisons in compared if row.name == name]
        line = _describe_counts(name, [one for _, comparisons in own for one in comparisons])
        if lead:
            line += _describe_column(lead, own)
        others = [one for one in by_row.get(name, []) if one.role != "pretrained"]
        for result, opening in _RESULTS.items():
            if names := [one.other for one in others if one.result == result]:
                line += f" {opening} {join_names(names)}."
        lines.append(line)
    return lines


def _describe_column(column: MetricColumn, compared: Compared) -> str:
    """The comparison of one number, for each prompt type."""
    clauses = [
        ", ".join(filter(None, (_short(row.group), f"{_MARKS.get(one.verdict, _UNCLEAR)} ({one.step})")))
        for row, comparisons in compared
        for one in comparisons
        if one.column is column
    ]
    return f" {column.title[:1].upper()}{column.title[1:]}: {'; '.join(clauses)}." if clauses else ""


def _describe_counts(name: str, comparisons: Sequence[MetricComparison]) -> str:
    count = count_verdicts(comparisons)
    total = len(comparisons)
    if total == count[Verdict.UNCLEAR]:
        return f"{name}: no clear change from the pretrained model in any of {total} numbers."
    better, worse = count[Verdict.BETTER], count[Verdict.WORSE]
    rest = total - better - worse
    return (
        f"{name}: of {total} numbers, {better} better and {worse} worse than the pretrained model, "
        f"{rest} not clearly either."
    )


def _tuned_systems(
    rows: Sequence[SystemRow], columns: Sequence[MetricColumn], main: Sequence[MetricColumn], compared: Compared
) -> list[dict[str, object]]:
    """For each tuned model its comparisons with other systems, and a card for each prompt type."""
    by_row = compare_systems(rows, columns)
    keys = {column.key for column in main}
    cards: dict[str, list[dict[str, object]]] = {}
    for row, comparisons in compared:
        if row.role == "tuned" and comparisons:
            cards.setdefault(row.name, []).append(_card(row.group, comparisons, keys))
    return [
        {"name": name, "comparisons": [(one, _bar(one)) for one in by_row.get(name, [])], "cards": shown}
        for name, shown in cards.items()
    ]


def _card(group: str, comparisons: Sequence[MetricComparison], keys: set[str]) -> dict[str, object]:
    """The main numbers listed by verdict; the others counted, and listed in a folded part."""
    parts = []
    for part in (
        [one for one in comparisons if one.column.key in keys],
        [one for one in comparisons if one.column.key not in keys],
    ):
        by_verdict = {word.value: [one.describe() for one in part if one.verdict is word] for word in Verdict}
        by_verdict[_OFF] = [one.column.title for one in part if one.off_aim]
        parts.append({word: items for word, items in by_verdict.items() if items})
    return {"group": _short(group), "main": parts[0], "more": parts[1], "rest": _count_rest(comparisons, keys)}


def _count_rest(comparisons: Sequence[MetricComparison], keys: set[str]) -> str:
    others = [one.verdict for one in comparisons if one.column.key not in keys]
    if not others:
        return ""
    counts = [f"{others.count(word)} {_MARKS.get(word, _UNCLEAR)}" for word in Verdict if word in others]
    return f"{len(others)} other {'number' if len(others) == 1 else 'numbers'}: {', '.join(counts)}"


def _bar(comparison: SystemComparison) -> list[tuple[str, str, str]]:
    """Segments of a bar of width 100: class, x and width."""
    parts, x = [], 0.0
    for word in (Verdict.BETTER, Verdict.CHANGED, Verdict.UNCLEAR, Verdict.WORSE):
        share = 100 * comparison.counts[word] / comparison.total
        parts.append((_MARKS.get(word, "same"), f"{x:.2f}", f"{share:.2f}"))
        x += share
    return parts


def _uncompared_systems(
    rows: Sequence[SystemRow], columns: Sequence[MetricColumn], keys: set[str]
) -> list[dict[str, object]]:
    """Cards of the systems without a pretrained model: numbers clearly off the aim, and the others."""
    cards: list[dict[str, object]] = []
    for group, members in groups(rows).items():
        if first_of_role(members, "pretrained") is not None:
            continue
        real = first_of_role(members, "real")
        for row in (row for row in members if row.role not in ("real", "reference")):
            found = [(column, _distance_from_aim(column, row, real)) for column in columns]
            parts = [
                {
                    word: [
                        text
                        for column, near in found
                        if near and near[0] == word and (column.key in keys) is main
                        for text in near[1:]
                    ]
                    for word in (_FAR, _NEAR)
                }
                for main in (True, False)
            ]
            shown, more = ({word: items for word, items in part.items() if items} for part in parts)
            if shown or more:
                rest = ", ".join(f"{len(items)} {word}" for word, items in more.items())
                title = ", ".join(filter(None, (row.name, _short(group))))
                cards.append({"group": title, "main": shown, "more": more, "rest": rest and f"other numbers: {rest}"})
    return cards


def _distance_from_aim(column: MetricColumn, row: SystemRow, real: SystemRow | None) -> tuple[str, str] | None:
    """Whether a number is clearly off its aim, and both in words; None without an aim or a number."""
    aimed, cell = aim(column, real), row.metrics.get(column.key)
    if aimed is None or cell is None or not is_known(cell):
        return None
    ideal = "real" if column.better == "as real" else "ideal"
    number, best = (format_number(one.value, column.digits) for one in (cell, aimed))
    words = f"{column.title} ({number}; {ideal} {best})"
    return _FAR if disjoint(cell, aimed) else _NEAR, words


def _short(group: str) -> str:
    """The part of a group's title before the colon."""
    return group.partition(":")[0]


# ---------------------------------------------------------------- tables


def _tables(
    group: str,
    members: Sequence[SystemRow],
    rows: Sequence[SystemRow],
    columns: Sequence[MetricColumn],
    main: Sequence[MetricColumn],
) -> dict[str, object]:
    """The tables of one prompt type: the short one, and the complete one by groups of columns."""
    verdicts = {
        (row.name, one.column.key): one.verdict
        for row, comparisons in compare_with_pretrained(members, columns)
        for one in comparisons
    }
    parts: dict[str, list[MetricColumn]] = {}
    if len(main) < len(columns):
        for column in columns:
            parts.setdefault(column.group, []).append(column)
    head, _, rest = group.partition(":")
    return {
        "title": head,
        "rest": rest.strip(),
        "main": _table(members, rows, main, verdicts),
        "parts": [(name or "other", _table(members, rows, part, verdicts)) for name, part in parts.items()],
        "count": len(columns),
    }


def _table(
    members: Sequence[SystemRow],
    rows: Sequence[SystemRow],
    columns: Sequence[MetricColumn],
    verdicts: Mapping[tuple[str, str], Verdict],
) -> dict[str, object]:
    """The columns that any row has, and the cells of each row: None where undefined."""
    real = first_of_role(members, "real")
    shown = [column for column in columns if any(column.key in row.metrics for row in members)]
    spans = {column.key: _span(column, rows) for column in shown}
    body = []
    before = ""
    for row in members:
        cells: list[dict[str, object] | None] = []
        for column in shown:
            cell = row.metrics.get(column.key)
            if cell is None or not math.isfinite(cell.value):
                cells.append(None)
                continue
            value, low, high = (format_number(of, column.digits) for of in (cell.value, cell.low, cell.high))
            picture = Markup(whisker(cell, aim(column, real), spans[column.key]))
            mark = verdicts.get((row.name, column.key))
            cells.append(
                {
                    "value": value,
                    "interval": f"{low} to {high}" if is_known(cell) else "",
                    "picture": picture,
                    "mark": _MARKS.get(mark, "") if mark else "",
                    "undefined": getattr(cell, "undefined", 0),
                }
            )
        role = role_of(row)
        body.append({"row": row, "role": role, "first": role != before, "cells": cells})
        before = role
    return {"columns": shown, "body": body}


def _span(column: MetricColumn, rows: Iterable[SystemRow]) -> tuple[float, float]:
    """Range of a column's whiskers, the same in every table; baselines may be outside."""
    ends = [
        end
        for row in rows
        if row.role != "baseline" and (cell := row.metrics.get(column.key))
        for end in (cell.value, cell.low, cell.high, *getattr(cell, "seeds", ()))
    ]
    if column.best_value is not None:
        ends.append(column.best_value)
    ends = [end for end in ends if math.isfinite(end)] or [0.0]
    return min(ends), max(ends)


def _plain_rows(table: PlainTable | None) -> list[list[tuple[str, str, bool]]]:
    """The entries of a table as (words, interval, whether it is a number)."""

    def shown(entry: str | float | Bounded, digits: int) -> tuple[str, str, bool]:
        if isinstance(entry, str):
            return entry, "", False
        if isinstance(entry, (int, float)):
            return format_number(float(entry), digits), "", True
        between = (
            f"{format_number(entry.low, digits)} to {format_number(entry.high, digits)}" if is_known(entry) else ""
        )
        return format_number(entry.value, digits), between, True

    return [[shown(entry, table.digits) for entry in row] for row in table.body] if table else []


# ---------------------------------------------------------------- distributions and examples


def _distributions(distributions: Sequence[Distribution], roles: Mapping[str, str]) -> list[dict[str, object]]:
    """Distributions by prompt type."""
    found: dict[str, list[tuple[Distribution, Markup]]] = {}
    for distribution in distributions:
        drawn = Markup(distribution_svg(distribution, roles))
        found.setdefault(distribution.group, []).append((distribution, drawn))
    return [{"title": _short(group), "figures": figures} for group, figures in found.items()]


def _example(example: Example, roles: Mapping[str, str]) -> dict[str, object]:
    """The pieces of one prompt; they share both axes, so that they can be compared by eye."""
    pieces = example.pieces
    steps = max((last_step(piece.notes, 0) for piece in pieces), default=1)
    pitch = np.concatenate([piece.notes.pitch[piece.notes.program >= 0] for piece in pieces] or [np.zeros(0, np.int32)])
    pitches = (int(pitch.min()), int(pitch.max())) if len(pitch) else (60, 60)
    height = min(max(200, 40 + 4 * (pitches[1] - pitches[0])), 340)
    shown: dict[bool, list[dict[str, object]]] = {False: [], True: []}
    for piece in pieces:
        name = f"{piece.system}, {example.prompt_name}"
        roll = pianoroll_svg(piece.notes, 0, piece.prompt_end, name, height=height, steps=steps, pitches=pitches)
        role = roles.get(piece.system, piece.system if piece.system in ROLES else "")
        shown[role in ("low_cost_baseline", "baseline")].append(
            {
                "system": piece.system,
                "role": role,
                "caption": piece.caption,
                "audio": Markup(data_uri(piece.audio)) if piece.audio else "",
                "rate": f"{STEPS_PER_QUARTER * piece.tempo / 60:.4f}",
                "svg": Markup(roll),
            }
        )
    return {"example": example, "pieces": shown[False], "more": shown[True]}


_SCRIPT = """
const pieces = [...document.querySelectorAll('.piece')];
for (const piece of pieces) {
  const audio = piece.querySelector('audio'), roll = piece.querySelector('.pr');
  if (!audio) continue;
  const head = roll.querySelector('.pr-head'), right = roll.viewBox.baseVal.width;
  const left = +roll.dataset.left, speed = +roll.dataset.step * +piece.dataset.rate;
  const draw = () => {
    const x = Math.min(left + audio.currentTime * speed, right);
    head.setAttribute('x1', x);
    head.setAttribute('x2', x);
    head.setAttribute('visibility', 'visible');
    if (!audio.paused) requestAnimationFrame(draw);
  };
  audio.addEventListener('play', () => {
    for (const other of pieces) if (other !== piece) other.querySelector('audio')?.pause();
    draw();
  });
  audio.addEventListener('seeked', draw);
  roll.addEventListener('click', event => {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(roll.getScreenCTM().inverse());
    audio.currentTime = Math.min(Math.max((at.x - left) / speed, 0), audio.duration || 0);
    audio.play();
  });
}
"""
