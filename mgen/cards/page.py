"""The page of all reward cards, as Markdown; written from the cards' files alone."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mgen.cards.reward_card import EXPLOIT, FILE, SECONDS, TEMPO, UNDEFINED, number
from mgen.errors import MgenError
from mgen.files import write_atomically
from mgen.stored import read_json

DEMO = "demo"  # stem of the files of the demo piece
TOLERATED = 0.01  # share of degenerate inputs that may score as well as real music
Json = Mapping[str, Any]

ROW_KINDS = {
    "real": "",
    "other": "",
    "policy": "",
    "corrupted": "Corrupted music: the score should fall",
    "format": "Changes of format only: the score should not change",
    "degenerate": "Degenerate inputs: none should score as well as real music",
}
"""Kind of row -> heading of its rows."""

_OF_JUDGES = (
    "One row for each judge: whether it scores music other than the real one lower, whether the file format moves it, "
    "how well the piece that exploits it scores and how far that is from real music, and what it costs."
)
_OF_ROWS = (
    "One row for each set of pieces: the judge's scores, and what a corruption or a change of format does to those of "
    "the same real pieces."
)
"""What each table shows."""

_HEAD = """# Reward cards

A reward or critic is accepted by its card: its scores of real, corrupted and degenerate music, its cost, and the piece
that exploits it. This page is written by `mgen card NAME ... --corpus CORPUS --out FOLDER`; do not edit it.

{measured}

How to read a card. *mean*: score with its 95 % interval, resampled by work; undefined pieces count with the judge's
worst value, as in training. *5 to 95 %*: range of 90 % of the pieces. *undefined*: share of pieces that the judge does
not score. *as good as real*: share of pieces that score at least the median of real {style}. *AUC*: probability that a
real piece scores above one of the row, ties half (0.5: the judge does not distinguish them; below, it prefers the row);
{samples}*change*: mean difference
from the same pieces before the transform; *effect* is its sign if the interval excludes 0. Cost is on one core, next to
decoding the same tokens in the same process; what rules of one batch share is counted for each.

The exploit of a card is the result of a reward-hacking search against that judge alone, by edit operators on
pieces {start} and on noise, as long as real excerpts. Of the pieces that score at least the median of real
{style} it is the one farthest from real music. The *distance* is measured without the judge: 0 if all features of the
evaluation are within the middle 98 % of real {style}, 1 if all are a full width of that range outside. A band rule
measures one feature and is exploited in all others: a policy is constrained by the sum of several judges and by its KL
divergence from the reference.
"""


def read_cards(folder: Path) -> list[dict[str, Any]]:
    """Reads all cards in a folder, by name.

    Raises:
        MgenError: A card's file cannot be read, or is of an older mgen.
    """
    cards = []
    for path in sorted(folder.glob(f"*/{FILE}")):
        if path.parent.suffix == ".part":
            continue
        card = read_json(path, "measure it again with mgen card")
        aucs = sum("auc" in row for row in dict(card.get("rows") or ()).values())
        if "real_median" not in dict(card.get("exploit") or ()) or not aucs:
            raise MgenError(f"{path}: a card of an older mgen; measure it again with mgen card")
        cards.append(card)
    return cards


def write_page(cards: Sequence[Json], folder: Path, page: Path) -> None:
    """Writes the page of cards whose files are in `folder`; links are relative to the page."""
    base = Path(os.path.relpath(folder.resolve(), page.resolve().parent)).as_posix()
    write_atomically(page, markdown(cards, "" if base == "." else f"{base}/"))


def markdown(cards: Sequence[Json], base: str) -> str:
    """Formats the page; `base` is the prefix of links to the cards' files."""
    data = list(dict.fromkeys(card["measured_on"]["description"] for card in cards))
    style = cards[0]["measured_on"]["style"]
    start = " and ".join(dict.fromkeys(card["measured_on"]["initial_pieces"] for card in cards))
    measured = f"Measured on {data[0]}." if len(data) == 1 else "Each card names the music that it was measured on."
    sampled = any(row["kind"] == "policy" for card in cards for row in card["rows"].values())
    samples = "a policy's samples are compared with the real continuations of the same prompts. " if sampled else ""
    head = _HEAD.format(measured=measured, style=style, start=start, samples=samples)
    demo = (
        f"For comparison, a piece of the embedded demo music ([MIDI]({base}{DEMO}.mid), "
        f"[audio]({base}{DEMO}.ogg)):\n\n![piano-roll of a demo piece]({base}{DEMO}.png)\n"
    )
    parts = [head, _overview(cards), demo, *(_card(card, base, len(data) > 1) for card in cards)]
    return "\n".join(parts)


def _overview(cards: Sequence[Json]) -> str:
    """A table with one row per judge."""
    lines = [
        _OF_JUDGES,
        "",
        "| judge | unit | median of real | other music as good | lower if corrupted | AUC over corrupted | AUC over a "
        "policy | changed by format | degenerate as good, at worst | exploit: score | distance | µs per token |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for card in cards:
        rows, exploit = card["rows"], card["exploit"]
        degenerate = [row["as_good_as_real"] for row in rows.values() if row["kind"] == "degenerate"]
        other = next((row["as_good_as_real"] for row in rows.values() if row["kind"] == "other"), None)
        corrupted = [row["auc"]["value"] for row in rows.values() if row["kind"] == "corrupted"]
        policy = next((row["auc"] for row in rows.values() if row["kind"] == "policy"), None)
        cells = (
            f"[{card['name']}](#{card['name']})",
            card["unit"],
            number(exploit["real_median"]),
            _percent(other),
            _count(rows, "corrupted", {"lower"}),
            f"{min(corrupted):.2f} to {max(corrupted):.2f}" if corrupted else UNDEFINED,
            _auc(policy) if policy else UNDEFINED,
            _count(rows, "format", {"lower", "higher"}),
            _percent(max(degenerate, default=None)),
            number(exploit["score"]),
            f"{exploit['distance']:.2f}",
            number(card["cost"]["us_per_token"]),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _count(rows: Json, kind: str, effects: set[str]) -> str:
    found = [row["effect"] for row in rows.values() if row["kind"] == kind and "effect" in row]
    return f"{sum(effect in effects for effect in found)} of {len(found)}"


def _card(card: Json, base: str, name_data: bool) -> str:
    name, cost = card["name"], card["cost"]
    credit = "with credit per note" if card["credit"] else "for the piece as a whole"
    facts = (
        f"Score in {card['unit']}, {credit}; {number(card['worst'])} for undefined pieces. "
        f"{number(cost['us_per_note'])} µs per note, {number(cost['us_per_token'])} µs per token: "
        f"{number(cost['ratio'])} times the decoding of the same tokens ({number(cost['decoding_us_per_token'])} µs "
        "per token)."
    )
    if card["band"]:
        facts += f" The band of real music is {number(card['band'][0])} to {number(card['band'][1])}."
    if name_data:
        facts += f" Measured on {card['measured_on']['description']}."
    rows = f'<details markdown="1"><summary>Scores of all rows</summary>\n\n{_rows(card)}\n</details>\n'
    return "\n".join([f"## {name}\n", card["about"], "", facts, "", _effects(card), "", _exploit(card, base), rows])


def _effects(card: Json) -> str:
    """Lists what the judge reacts to, in sentences."""

    def names(kind: str, *effects: str) -> list[str]:
        rows = card["rows"].items()
        return [name.replace("_", " ") for name, row in rows if row["kind"] == kind and row.get("effect") in effects]

    parts = {
        "Corruptions that lower its score": names("corrupted", "lower"),
        "Corruptions without effect": names("corrupted", "none"),
        "Corruptions that raise it": names("corrupted", "higher"),
        "Changes of format that move it": names("format", "lower", "higher"),
        f"Degenerate inputs as good as real music in more than {TOLERATED:.0%} of cases": [
            name.replace("_", " ")
            for name, row in card["rows"].items()
            if row["kind"] == "degenerate" and row["as_good_as_real"] > TOLERATED
        ],
    }
    return " ".join(f"{heading}: {', '.join(found)}." for heading, found in parts.items() if found)


def _rows(card: Json) -> str:
    lines = [
        _OF_ROWS,
        "",
        "| | mean | 5 to 95 % | undefined | as good as real | AUC | change | effect |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    kind = ""
    for name, row in card["rows"].items():
        if row["kind"] != kind and ROW_KINDS[row["kind"]]:
            lines.append(f"| **{ROW_KINDS[row['kind']]}** | | | | | | | |")
        kind = row["kind"]
        cells = (
            name.replace("_", " "),
            _interval(row["mean"]),
            f"{number(row['low'])} to {number(row['high'])}",
            _percent(row["undefined"]),
            _percent(row["as_good_as_real"]),
            _auc(row["auc"]) if "auc" in row else "",
            _interval(row["change"]) if "change" in row else "",
            row.get("effect", ""),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _exploit(card: Json, base: str) -> str:
    exploit, place = card["exploit"], f"{base}{card['name']}/{EXPLOIT}"
    if exploit["reached_median"]:
        what = "The piece farthest from real music among those that score at least its median scores"
    else:
        what = f"None of {exploit['evaluated']:,} pieces reached the median of real music; the best scores"
    lines = [
        f"**Known reward hacking.** {what} {number(exploit['score'])} (real music: median "
        f"{number(exploit['real_median'])}, 95th percentile {number(exploit['real_p95'])}; the demo piece "
        f"{number(exploit['demo_score'])}; the highest score found {number(exploit['highest'])}). Its distance is "
        f"{exploit['distance']:.2f}; that of 95 % of real music is below {exploit['distance_p95']:.2f}. "
        f"{exploit['evaluated']:,} pieces were judged."
    ]
    outside = exploit["outside_real_range"]
    lines.append(
        f"Outside the range of real music: {'; '.join(outside)}."
        if outside
        else "All reported features are within the range of real music."
    )
    if exploit["timed_out"]:
        lines.append("The search ended by time: a faster machine may find more.")
    if card["expected_exploit"]:
        lines.append(f"Expected by its author: {card['expected_exploit']}")
    lines += [
        "",
        f"![piano-roll of the piece that exploits {card['name']}]({place}.png)",
        "",
        f"[MIDI]({place}.mid) · [audio]({place}.ogg): the first {SECONDS:g} s at {TEMPO:g} quarter notes per minute",
        "",
    ]
    return "\n".join(lines)


def _interval(cell: Json) -> str:
    if cell["value"] is None:
        return UNDEFINED
    return f"{number(cell['value'])} [{number(cell['low'])}, {number(cell['high'])}]"


def _auc(cell: Json) -> str:
    return f"{cell['value']:.2f} [{cell['low']:.2f}, {cell['high']:.2f}]"


def _percent(share: float | None) -> str:
    """Formats a share in whole per cent; with one decimal below 1 %."""
    if share is None:
        return UNDEFINED
    return f"{100 * share:.1f} %" if 0 < share < 0.01 else f"{100 * share:.0f} %"
