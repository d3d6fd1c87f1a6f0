"""Renders report.html: outcome and sound first, then comparisons, tables and charts, in one self-contained file.

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

from mgen.evaluation.columns import COST, SENTENCES, MetricColumn
from mgen.evaluation.comparisons import (
    MARGIN,
    ROLES,
    MetricComparison,
    SystemRow,
    Verdict,
    aim,
    compare_systems,
    compare_with_pretrained,
    describe_aim,
    disjoint,
    first_of_role,
    format_number,
    format_value,
    graded_columns,
    groups,
    join_names,
    role_in_words,
    role_of,
)
from mgen.evaluation.outcome import comparison_sentence, in_words, outcome_sentences
from mgen.notes import STEPS_PER_QUARTER, Notes
from mgen.render.audio import data_uri
from mgen.render.charts import Curve, Distribution, averaged, curve_svg, distribution_svg, swatches, whisker
from mgen.render.pianoroll import PIANOROLL_CSS, last_step, pianoroll_svg
from mgen.stats.intervals import is_known

_MAX_COLUMNS = 12  # of one table; more are split by group
_MAX_LINES = 12  # of a fact; longer ones are folded

_PLACES = {"pretrained": "Before", "tuned": "After", "reference": "Real music", "real": "Real music"}
"""Role -> heading of its player on the first screen, in this order."""

SAME_PROMPT = (
    "The same prompt, completed by each system; pieces of one prompt share their axes. Grey notes on shaded ground are "
    "the prompt."
)


@dataclass(frozen=True, slots=True)
class ExamplePiece:
    """One system's completion of a prompt."""

    system: str  # its name, as in the table
    notes: Notes  # one piece, the prompt's notes included
    prompt_end: int | None  # grid step where the prompt ends; None or 0 without one
    audio: bytes = b""  # OGG/Vorbis bytes; empty for no sound
    caption: str = ""  # what to listen for
    tempo: float = 120.0  # of the audio, in quarter notes per minute


@dataclass(frozen=True, slots=True)
class Example:
    """One prompt with the completions of all systems."""

    prompt_name: str  # such as the work that it opens
    style: str  # a line below: style and prompt type
    tag: str  # `typical`, `best` or `worst`
    pieces: Sequence[ExamplePiece]  # real music first; those of baselines are folded
    reason: str = ""  # how the example was chosen


@dataclass(frozen=True, slots=True)
class Opening:
    """What the first screen is about."""

    group: str  # title of the prompt type
    act: str = ""  # what the first graded number is the share of, see `outcome_sentences`
    example: Example | None = None  # one prompt to listen to


def render_report(
    title: str,
    rows: Sequence[SystemRow],
    columns: Sequence[MetricColumn],
    curves: Sequence[Curve],
    examples: Sequence[Example],
    facts: Mapping[str, str],
    limits: Sequence[str],
    distributions: Sequence[Distribution] = (),
    listening: str = SAME_PROMPT,
    by_length: Sequence[Curve] = (),
    repetition: Sequence[Curve] = (),
    opening: Opening | None = None,
) -> str:
    """Renders the complete page.

    Args:
        examples: below the tables; the one of the opening is not among them.
        facts: about the run: configuration, versions, seed, machine, time. Line breaks within a value are kept.
        limits: what the numbers do not show.
        distributions: metrics of every piece, drawn over real music's.
        listening: introduces the examples.
        by_length: numbers of excerpts by their length.
        repetition: likelihood of a bar by the copies of it before.
        opening: what the first screen is about; by default the first prompt type, without sound.
    """
    page = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page.filters["words"] = role_in_words
    page.filters["sha256"] = lambda text: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    main = main_columns(columns)
    roles = {row.name: role_of(row) for row in rows}
    opening = opening or Opening(next(iter(groups(rows)), ""))
    compared = compare_with_pretrained(rows, columns)
    return page.from_string(files(__package__).joinpath("report.html.jinja").read_text("utf-8")).render(
        title=title,
        first=_first_screen(opening, rows, columns, roles),
        tuned=_tuned_systems(rows, columns, main, compared),
        graded=graded_columns(columns),
        margin=MARGIN,
        uncompared=_uncompared_systems(rows, columns, {column.key for column in main}),
        comparisons=sum(len(comparisons) for _, comparisons in compared),
        seeded=any(getattr(cell, "seeds", ()) for row in rows for cell in row.metrics.values()),
        tables=_tables(rows, columns, main, compared),
        columns=columns,
        roles=set(roles.values()),
        distributions=_distributions(distributions, roles),
        by_length=_drawn(by_length),
        repetition=_drawn(repetition),
        curves=_drawn(curves),
        examples=[_example(example, roles) for example in examples],
        listening=listening,
        facts=[(name, value, value.count("\n") >= _MAX_LINES) for name, value in facts.items()],
        limits=limits,
        css=Markup(PIANOROLL_CSS),
    )


def _drawn(curves: Iterable[Curve]) -> list[tuple[Curve, Markup, list[tuple[str, int]], int]]:
    """Each curve with its chart, its legend and the number of points that one drawn point averages."""
    return [(curve, Markup(curve_svg(curve)), swatches(curve), averaged(curve)) for curve in curves]


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

_OFF = "still off the aim"
_FAR, _NEAR = "clearly off the aim", "not clearly off it"


def _first_screen(
    opening: Opening, rows: Sequence[SystemRow], columns: Sequence[MetricColumn], roles: Mapping[str, str]
) -> dict[str, object]:
    """The outcome in words, one prompt as players, and the graded numbers of the models and of real music."""
    members = groups(rows).get(opening.group, [])
    shown = [row for row in members if row.role not in ("reference", "low_cost_baseline", "baseline")]
    numbers = [*graded_columns(columns), *(column for column in columns if column.key == COST)]
    compared = compare_with_pretrained(members, numbers)
    return {
        "sentences": _sentences(members, columns, opening.act),
        "numbers": _table(shown, rows, numbers[:_MAX_COLUMNS], _verdicts(compared)) if shown else None,
        "prompts": opening.group,
        "prompted": any(piece.prompt_end for piece in opening.example.pieces) if opening.example else False,
        "example": _example(opening.example, roles, opens=True) if opening.example else None,
    }


def _sentences(members: Sequence[SystemRow], columns: Sequence[MetricColumn], act: str) -> list[str]:
    """The outcome in words; of music without a model, which main numbers are clearly off the aim."""
    evaluated = first_of_role(members, "evaluated")
    if evaluated is None:
        return outcome_sentences(members, columns, act) if members else []
    found = _distances_from_aim(main_columns(columns), evaluated, first_of_role(members, "real"))
    far = [words for _, word, words in found if word == _FAR]
    which = f": {join_names(far)}" if far else ""
    return [f"{evaluated.name}: {len(far) or 'none'} of {len(found)} main numbers clearly off the aim{which}."]


def _tuned_systems(
    rows: Sequence[SystemRow], columns: Sequence[MetricColumn], main: Sequence[MetricColumn], compared: Compared
) -> list[dict[str, object]]:
    """For each tuned model its comparisons with other systems, and a card for each prompt type."""
    by_row = compare_systems(rows, columns)
    keys = {column.key for column in main}
    tuned: dict[str, list[tuple[SystemRow, list[MetricComparison]]]] = {}
    for row, comparisons in compared:
        if row.role == "tuned" and comparisons:
            tuned.setdefault(row.name, []).append((row, comparisons))
    return [
        {
            "name": name,
            "sentence": comparison_sentence(by_row[name]) if name in by_row else "",
            "comparisons": [
                (one, {key: in_words(counts) for key, counts in one.by_key.items()}) for one in by_row.get(name, [])
            ],
            "cards": [_comparison_card(row.group, comparisons, keys) for row, comparisons in own],
        }
        for name, own in tuned.items()
    ]


def _comparison_card(group: str, comparisons: Sequence[MetricComparison], keys: set[str]) -> dict[str, object]:
    """The main numbers listed by verdict; the others counted, and listed in a folded part."""
    found = [(one.column.key, one.verdict.value, one.describe()) for one in comparisons]
    found += [(one.column.key, _OFF, one.column.title) for one in comparisons if one.off_aim]
    main, more = _split_by_word(found, keys, (*Verdict, _OFF))
    counts = {word: len(items) for word, items in more.items() if word != _OFF}
    total = sum(counts.values())
    words = ", ".join(f"{count} {word}" for word, count in counts.items())
    rest = f"{total} other {'number' if total == 1 else 'numbers'}: {words}" if counts else ""
    return {"group": _short(group), "main": main, "more": more, "rest": rest}


def _split_by_word(
    found: Sequence[tuple[str, str, str]], keys: set[str], words: Iterable[str]
) -> list[dict[str, list[str]]]:
    """The texts of (key, word, text) by word, in the order of `words`: those whose key is in `keys`, and the others."""
    parts = []
    for part in ([one for one in found if one[0] in keys], [one for one in found if one[0] not in keys]):
        by_word = {str(word): [text for _, its_word, text in part if its_word == word] for word in words}
        parts.append({word: texts for word, texts in by_word.items() if texts})
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
            main, more = _split_by_word(_distances_from_aim(columns, row, real), keys, (_FAR, _NEAR))
            if main or more:
                rest = ", ".join(f"{len(items)} {word}" for word, items in more.items())
                title = ", ".join(filter(None, (row.name, _short(group))))
                cards.append({"group": title, "main": main, "more": more, "rest": rest and f"other numbers: {rest}"})
    return cards


def _distances_from_aim(
    columns: Sequence[MetricColumn], row: SystemRow, real: SystemRow | None
) -> list[tuple[str, str, str]]:
    """Key, whether the number is clearly off its aim, and both in words, where there are a number and an aim."""
    found = []
    for column in columns:
        best, cell = aim(column, real), row.metrics.get(column.key)
        if best is not None and cell is not None and is_known(cell):
            words = f"{column.title} ({format_value(cell, column.digits)}; {describe_aim(column, best)})"
            found.append((column.key, _FAR if disjoint(cell, best) else _NEAR, words))
    return found


def _short(group: str) -> str:
    """The part of a group's title before the colon."""
    return group.partition(":")[0]


# ---------------------------------------------------------------- tables


def _tables(
    rows: Sequence[SystemRow], columns: Sequence[MetricColumn], main: Sequence[MetricColumn], compared: Compared
) -> list[dict[str, object]]:
    """The tables of each prompt type: the short one, and the complete one by groups of columns."""
    verdicts = _verdicts(compared)
    parts: dict[str, list[MetricColumn]] = {}
    for column in columns if len(main) < len(columns) else ():
        parts.setdefault(column.group, []).append(column)
    return [
        {
            "title": _short(group),
            "rest": group.partition(":")[2].strip(),
            "main": _table(members, rows, main, verdicts),
            "parts": [
                (name or "other", SENTENCES.get(name, ""), _table(members, rows, part, verdicts))
                for name, part in parts.items()
            ],
        }
        for group, members in groups(rows).items()
    ]


def _verdicts(compared: Compared) -> dict[tuple[str, str, str], Verdict]:
    """Verdicts by name, group and column of the row."""
    return {(row.name, row.group, one.column.key): one.verdict for row, comparisons in compared for one in comparisons}


def _table(
    members: Sequence[SystemRow],
    rows: Sequence[SystemRow],
    columns: Sequence[MetricColumn],
    verdicts: Mapping[tuple[str, str, str], Verdict],
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
            low, high = (format_number(of, column.digits) for of in (cell.low, cell.high))
            mark = verdicts.get((row.name, row.group, column.key), Verdict.UNCLEAR)
            cells.append(
                {
                    "value": format_value(cell, column.digits),
                    "interval": f"[{low}, {high}]" if is_known(cell) else "",
                    "picture": Markup(whisker(cell, aim(column, real), spans[column.key])),
                    "mark": "" if mark is Verdict.UNCLEAR else mark.value,
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


# ---------------------------------------------------------------- distributions and examples


def _distributions(distributions: Sequence[Distribution], roles: Mapping[str, str]) -> list[dict[str, object]]:
    """Distributions by prompt type."""
    found: dict[str, list[tuple[Distribution, Markup]]] = {}
    for distribution in distributions:
        drawn = Markup(distribution_svg(distribution, roles))
        found.setdefault(distribution.group, []).append((distribution, drawn))
    return [{"title": _short(group), "figures": figures} for group, figures in found.items()]


def _example(example: Example, roles: Mapping[str, str], opens: bool = False) -> dict[str, object]:
    """The pieces of one prompt; they share both axes, so that they can be compared by eye.

    Args:
        opens: whether they are of the first screen: one of each role next to one another, before, after, real.
    """
    pieces = [
        (piece, roles.get(piece.system, piece.system if piece.system in ROLES else "")) for piece in example.pieces
    ]
    if opens:
        order = list(_PLACES)
        pieces.sort(key=lambda pair: order.index(pair[1]) if pair[1] in order else len(order))
    steps = max((last_step(piece.notes, 0) for piece, _ in pieces), default=1)
    pitch = np.concatenate(
        [piece.notes.pitch[piece.notes.program >= 0] for piece, _ in pieces] or [np.zeros(0, np.int32)]
    )
    pitches = (int(pitch.min()), int(pitch.max())) if len(pitch) else (60, 60)
    width, height = (480, 220) if opens else (960, min(max(200, 40 + 4 * (pitches[1] - pitches[0])), 340))
    shown: dict[bool, list[dict[str, object]]] = {False: [], True: []}
    taken: set[str] = set()
    for piece, role in pieces:
        name = f"{piece.system}, {example.prompt_name}"
        roll = pianoroll_svg(
            piece.notes, 0, piece.prompt_end, name, width=width, height=height, steps=steps, pitches=pitches
        )
        folded = role in ("low_cost_baseline", "baseline") or (opens and role in taken)
        taken.add(role)
        shown[folded].append(
            {
                "system": piece.system,
                "place": _PLACES.get(role, "") if opens else "",
                "role": role,
                "caption": piece.caption,
                "audio": Markup(data_uri(piece.audio)) if piece.audio else "",
                "rate": f"{STEPS_PER_QUARTER * piece.tempo / 60:.4f}",
                "svg": Markup(roll),
            }
        )
    return {"example": example, "pieces": shown[False], "more": shown[True]}
