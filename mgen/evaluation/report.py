"""report.html: what changed, in words, numbers, pictures and sound, in one file that needs nothing else.

Everything comes in as plain data; nothing here samples, measures or knows a model.
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
from mgen.evaluation.comparisons import (
    ROLES,
    Cell,
    Column,
    Duel,
    Finding,
    Row,
    Verdict,
    aim,
    apart,
    counted,
    duels,
    from_pretrained,
    groups,
    listed,
    number,
    of_role,
    role_in_words,
    role_of,
)
from mgen.notes import STEPS_PER_QUARTER, Notes
from mgen.render.audio import data_uri
from mgen.render.charts import Curve, Distribution, averaged, curve_svg, distribution_svg, swatches, ticks, whisker
from mgen.render.pianoroll import PIANOROLL_CSS, last_step, pianoroll_svg
from mgen.stats.intervals import Bounded, is_known

__all__ = [
    "Bounded",
    "Cell",
    "Column",
    "Curve",
    "Distribution",
    "Example",
    "Row",
    "Section",
    "Table",
    "Take",
    "render_report",
    "ticks",
]

_MAIN = 12  # columns that one table may have before it is cut into groups
_LONG = 12  # lines of a fact that is folded away

SAME_PROMPT = (
    "The same prompt, continued by each player; takes of one prompt share their axes. Grey notes on shaded ground are "
    "the prompt."
)


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
        style: a line below: style and role of prompt.
        tag: `typical`, `best` or `worst`.
        takes: real music's first. Those of baselines are folded away.
        reason: how the example was chosen.
    """

    prompt_name: str
    style: str
    tag: str
    takes: Sequence[Take]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Any table: of checks, of corruptions.

    Attributes:
        head: titles of the columns; the first names the rows.
        body: rows of as many entries: words, numbers, or numbers with their intervals; NaN is shown as undefined.
        digits: of the numbers, behind the point.
        note: a line below.
    """

    head: Sequence[str]
    body: Sequence[Sequence[str | float | Bounded]]
    digits: int = 3
    note: str = ""

    def __post_init__(self) -> None:
        for row in self.body:
            if len(row) != len(self.head):
                raise MgenError(f"table: expected {len(self.head)} entries as in the head, came {len(row)}: {row[:1]}")


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page of its own, such as the self-check of the two-sample test.

    Attributes:
        short: what the list of sections calls it, where its title is long.
    """

    title: str
    intro: str
    table: Table | None = None
    short: str = ""


def render_report(
    title: str,
    rows: Sequence[Row],
    columns: Sequence[Column],
    curves: Sequence[Curve],
    examples: Sequence[Example],
    facts: Mapping[str, str],
    limits: Sequence[str],
    findings: Sequence[str] | None = None,
    distributions: Sequence[Distribution] = (),
    sections: Sequence[Section] = (),
    listening: str = SAME_PROMPT,
) -> str:
    """The page, whole.

    Args:
        facts: what was run: configuration, versions, seed, machine, time. Lines within a value are kept.
        limits: what the numbers do not show.
        findings: sentences of one's own to open with; what follows from the intervals is said in any case.
        distributions: metrics of every piece, drawn over real music's.
        sections: more tables, before the limits.
        listening: what the examples are.
    """
    page = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page.filters["arrow"] = _arrow
    page.filters["words"] = role_in_words
    main = main_columns(columns)
    roles = {row.name: role_of(row) for row in rows}
    found = from_pretrained(rows, columns)
    return page.from_string(files(__package__).joinpath("report.html.jinja").read_text("utf-8")).render(
        title=title,
        headline=_headline(rows, columns, found, main[0] if main else None),
        first=main[0] if main else None,
        findings=findings,
        players=_players(rows, columns, main, found),
        alone=_alone(rows, columns, {column.key for column in main}),
        comparisons=sum(len(findings) for _, findings in found),
        seeded=any(getattr(cell, "seeds", ()) for row in rows for cell in row.cells.values()),
        tables=[_tables(group, members, rows, columns, main) for group, members in groups(rows).items()],
        columns=columns,
        roles=set(roles.values()),
        spread=_spread(distributions, roles),
        curves=[(curve, Markup(curve_svg(curve)), swatches(curve), averaged(curve)) for curve in curves],
        examples=[_example(example, roles) for example in examples],
        listening=listening,
        sections=[(section, _plain(section.table)) for section in sections],
        facts=[(name, value, value.count("\n") >= _LONG) for name, value in facts.items()],
        limits=limits,
        css=Markup(PIANOROLL_CSS),
        script=Markup(_SCRIPT),
        script_hash=base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode(),
    )


def main_columns(columns: Sequence[Column]) -> list[Column]:
    """The short table's: those marked so; without marks all that fit, or the first of each group."""
    marked = [column for column in columns if column.main]
    if marked or len(columns) <= _MAIN:
        return marked or list(columns)
    first: dict[str, Column] = {}
    for column in columns:
        first.setdefault(column.group, column)
    return list(first.values())


# ---------------------------------------------------------------- words

_MARKS = {Verdict.BETTER: "better", Verdict.WORSE: "worse", Verdict.MOVED: "changed"}
_OFF, _UNCLEAR = "still off the aim", "no clear change"
_FAR, _NEAR = "clearly off the aim", "not clearly off it"
_RESULTS = {
    "behind": "It loses to",
    "level": "It is level with",
    "no clear difference": "It is not clearly different from",
    "ahead": "It is ahead of",
}


def _headline(
    rows: Sequence[Row], columns: Sequence[Column], found: Sequence[tuple[Row, list[Finding]]], lead: Column | None
) -> list[str]:
    """For each tuned model, over all roles of prompt: how many numbers are better and worse than the pretrained one's,
    what became of the first of the main ones, and whom of the others it beats.
    """
    met = duels(rows, columns)
    lines = []
    for name in dict.fromkeys(row.name for row, findings in found if row.role == "tuned" and findings):
        own = [(row, findings) for row, findings in found if row.name == name]
        lines.append(_counted(name, [finding for _, findings in own for finding in findings]))
        if lead:
            lines[-1] += _said_of(lead, own)
        others = [duel for duel in met.get(name, []) if duel.role != "pretrained"]
        for result, opening in _RESULTS.items():
            if names := [duel.other for duel in others if duel.result == result]:
                lines[-1] += f" {opening} {listed(names)}."
    return lines


def _said_of(column: Column, found: Sequence[tuple[Row, list[Finding]]]) -> str:
    """What became of one number, for each role of prompt."""
    clauses = [
        ", ".join(filter(None, (_short(row.group), f"{_MARKS.get(finding.verdict, _UNCLEAR)} ({finding.step})")))
        for row, findings in found
        for finding in findings
        if finding.column is column
    ]
    return f" {column.title[:1].upper()}{column.title[1:]}: {'; '.join(clauses)}." if clauses else ""


def _counted(name: str, findings: Sequence[Finding]) -> str:
    count = counted(findings)
    total = len(findings)
    if total == count[Verdict.UNCLEAR]:
        return f"{name}: no clear change from the pretrained model in any of {total} numbers."
    better, worse = count[Verdict.BETTER], count[Verdict.WORSE]
    rest = total - better - worse
    return (
        f"{name}: of {total} numbers, {better} better and {worse} worse than the pretrained model, "
        f"{rest} not clearly either."
    )


def _players(
    rows: Sequence[Row],
    columns: Sequence[Column],
    main: Sequence[Column],
    found: Sequence[tuple[Row, list[Finding]]],
) -> list[dict[str, object]]:
    """What the words say of each tuned model: whom it beats, and a card for each role of prompt."""
    met = duels(rows, columns)
    keys = {column.key for column in main}
    cards: dict[str, list[dict[str, object]]] = {}
    for row, findings in found:
        if row.role == "tuned" and findings:
            cards.setdefault(row.name, []).append(_card(row.group, findings, keys))
    return [
        {"name": name, "duels": [(duel, _bar(duel)) for duel in met.get(name, [])], "cards": shown}
        for name, shown in cards.items()
    ]


def _card(group: str, findings: Sequence[Finding], keys: set[str]) -> dict[str, object]:
    """The main numbers under each verdict, in words; the others counted, and listed for who asks."""
    parts = []
    for part in (
        [finding for finding in findings if finding.column.key in keys],
        [finding for finding in findings if finding.column.key not in keys],
    ):
        said = {word.value: [finding.in_words() for finding in part if finding.verdict is word] for word in Verdict}
        said[_OFF] = [finding.column.title for finding in part if finding.off]
        parts.append({word: items for word, items in said.items() if items})
    return {"group": _short(group), "said": parts[0], "more": parts[1], "rest": _rest(findings, keys)}


def _rest(findings: Sequence[Finding], keys: set[str]) -> str:
    others = [finding.verdict for finding in findings if finding.column.key not in keys]
    if not others:
        return ""
    counts = [f"{others.count(word)} {_MARKS.get(word, _UNCLEAR)}" for word in Verdict if word in others]
    return f"{len(others)} other {'number' if len(others) == 1 else 'numbers'}: {', '.join(counts)}"


def _bar(duel: Duel) -> list[tuple[str, str, str]]:
    """Parts of a bar 100 wide: class, place and width."""
    parts, x = [], 0.0
    for word in (Verdict.BETTER, Verdict.MOVED, Verdict.UNCLEAR, Verdict.WORSE):
        share = 100 * duel.counts[word] / duel.total
        parts.append((_MARKS.get(word, "same"), f"{x:.2f}", f"{share:.2f}"))
        x += share
    return parts


def _alone(rows: Sequence[Row], columns: Sequence[Column], keys: set[str]) -> list[dict[str, object]]:
    """Where there is no pretrained model: which of a row's numbers are clearly off the aim, and which are not."""
    cards: list[dict[str, object]] = []
    for group, members in groups(rows).items():
        if of_role(members, "pretrained") is not None:
            continue
        real = of_role(members, "real")
        for row in (row for row in members if row.role not in ("real", "reference")):
            found = [(column, _near(column, row, real)) for column in columns]
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
            said, more = ({word: items for word, items in part.items() if items} for part in parts)
            if said or more:
                rest = ", ".join(f"{len(items)} {word}" for word, items in more.items())
                title = ", ".join(filter(None, (row.name, _short(group))))
                cards.append({"group": title, "said": said, "more": more, "rest": rest and f"other numbers: {rest}"})
    return cards


def _near(column: Column, row: Row, real: Row | None) -> tuple[str, str] | None:
    """Whether a number is clearly off its aim, and the number in words; None without an aim or a number."""
    aimed, cell = aim(column, real), row.cells.get(column.key)
    if aimed is None or cell is None or not is_known(cell):
        return None
    ideal = "real" if column.better == "as real" else "ideal"
    words = f"{column.title} ({number(cell.value, column.digits)}; {ideal} {number(aimed.value, column.digits)})"
    return _FAR if apart(cell, aimed) else _NEAR, words


def _short(group: str) -> str:
    """What stands before the colon of a group's title."""
    return group.partition(":")[0]


def _arrow(column: Column) -> str:
    return {
        "as real": "best: as real music",
        "lower": "↓ lower is better",
        "higher": "↑ higher is better",
        "stated": "stated",
    }.get(column.better, f"best: {column.better}")


# ---------------------------------------------------------------- tables


def _tables(
    group: str, members: Sequence[Row], rows: Sequence[Row], columns: Sequence[Column], main: Sequence[Column]
) -> dict[str, object]:
    """What the template shows of one role of prompt: the short table, and the whole one by groups of columns."""
    found = {
        (row.name, finding.column.key): finding.verdict
        for row, findings in from_pretrained(members, columns)
        for finding in findings
    }
    parts: dict[str, list[Column]] = {}
    if len(main) < len(columns):
        for column in columns:
            parts.setdefault(column.group, []).append(column)
    head, _, rest = group.partition(":")
    return {
        "title": head,
        "rest": rest.strip(),
        "main": _table(members, rows, main, found),
        "parts": [(name or "other", _table(members, rows, part, found)) for name, part in parts.items()],
        "count": len(columns),
    }


def _table(
    members: Sequence[Row], rows: Sequence[Row], columns: Sequence[Column], found: Mapping[tuple[str, str], Verdict]
) -> dict[str, object]:
    """Columns that any row has, and for each row its cells: None where undefined."""
    real = of_role(members, "real")
    shown = [column for column in columns if any(column.key in row.cells for row in members)]
    spans = {column.key: _span(column, rows) for column in shown}
    body = []
    before = ""
    for row in members:
        cells: list[dict[str, object] | None] = []
        for column in shown:
            cell = row.cells.get(column.key)
            if cell is None or not math.isfinite(cell.value):
                cells.append(None)
                continue
            value, low, high = (number(of, column.digits) for of in (cell.value, cell.low, cell.high))
            picture = Markup(whisker(cell, aim(column, real), spans[column.key]))
            mark = found.get((row.name, column.key))
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


def _span(column: Column, rows: Iterable[Row]) -> tuple[float, float]:
    """What a column's little pictures range over, in every table alike; baselines may lie outside."""
    ends = [
        end
        for row in rows
        if row.role != "baseline" and (cell := row.cells.get(column.key))
        for end in (cell.value, cell.low, cell.high, *getattr(cell, "seeds", ()))
    ]
    if _number_aim(column) is not None:
        ends.append(float(column.better))
    ends = [end for end in ends if math.isfinite(end)] or [0.0]
    return min(ends), max(ends)


def _number_aim(column: Column) -> Bounded | None:
    return None if column.better == "as real" else aim(column, None)


def _plain(table: Table | None) -> list[list[tuple[str, str, bool]]]:
    """A table's entries as (words, interval, whether it is a number)."""

    def shown(entry: str | float | Bounded, digits: int) -> tuple[str, str, bool]:
        if isinstance(entry, str):
            return entry, "", False
        if isinstance(entry, (int, float)):
            return number(float(entry), digits), "", True
        between = f"{number(entry.low, digits)} to {number(entry.high, digits)}" if is_known(entry) else ""
        return number(entry.value, digits), between, True

    return [[shown(entry, table.digits) for entry in row] for row in table.body] if table else []


# ---------------------------------------------------------------- distributions and examples


def _spread(distributions: Sequence[Distribution], roles: Mapping[str, str]) -> list[dict[str, object]]:
    """Distributions by role of prompt."""
    found: dict[str, list[tuple[Distribution, Markup]]] = {}
    for distribution in distributions:
        drawn = Markup(distribution_svg(distribution, roles))
        found.setdefault(distribution.group, []).append((distribution, drawn))
    return [{"title": _short(group), "figures": figures} for group, figures in found.items()]


def _example(example: Example, roles: Mapping[str, str]) -> dict[str, object]:
    """What the template shows of one prompt; its takes share both axes, to be compared by eye."""
    takes = example.takes
    steps = max((last_step(take.notes, 0) for take in takes), default=1)
    pitch = np.concatenate([take.notes.pitch[take.notes.program >= 0] for take in takes] or [np.zeros(0, np.int32)])
    pitches = (int(pitch.min()), int(pitch.max())) if len(pitch) else (60, 60)
    height = min(max(200, 40 + 4 * (pitches[1] - pitches[0])), 340)
    shown: dict[bool, list[dict[str, object]]] = {False: [], True: []}
    for take in takes:
        name = f"{take.row}, {example.prompt_name}"
        roll = pianoroll_svg(take.notes, 0, take.prompt_end, name, height=height, steps=steps, pitches=pitches)
        role = roles.get(take.row, take.row if take.row in ROLES else "")
        shown[role in ("low_cost_baseline", "baseline")].append(
            {
                "row": take.row,
                "role": role,
                "caption": take.caption,
                "audio": Markup(data_uri(take.audio)) if take.audio else "",
                "rate": f"{STEPS_PER_QUARTER * take.tempo / 60:.4f}",
                "svg": Markup(roll),
            }
        )
    return {"example": example, "takes": shown[False], "more": shown[True]}


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
  roll.addEventListener('click', event => {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(roll.getScreenCTM().inverse());
    audio.currentTime = Math.min(Math.max((at.x - left) / speed, 0), audio.duration || 0);
    audio.play();
  });
}
"""
