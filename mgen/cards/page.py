"""The page of all cards, in Markdown that a code host shows: from what the cards' files say, and nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mgen.cards.card import EXPLOIT, FILE, NONE, SECONDS, TEMPO, number
from mgen.errors import MgenError

DEMO = "demo"
"""Name of the files of the piece for comparison, without their ends."""

FEW = 0.01
"""Share of senseless inputs that may be as good as real music."""

Json = Mapping[str, Any]

KINDS = {
    "real": "",
    "other": "",
    "policy": "",
    "broken": "Broken music: a judge of music should hear it, and give less",
    "format": "Only the format changed: it should hear little or nothing",
    "senseless": "No music: none should be as good as real",
}

_HEAD = """# Cards of the judges

A reward or critic is accepted by its card: what it says of real music, of music broken on purpose and of no music at
all, what it costs, and the piece that fools it. This page is written by `mgen card`.

{measured}

How to read a card. *mean*: score with its 95 % interval, resampled by work; what a judge cannot judge counts with its
worst value, as in training. *5 to 95 %*: where nine tenths of the pieces lie. *cannot judge*: share of pieces. *as good
as real*: share of pieces that score at least what the median of real {style} does. *change*: mean difference from the
same pieces unchanged; it is *heard* if its interval is clear of 0, however small it is. Cost is on one core, beside the
time in which the same process decodes the same tokens; what rules that judge one batch share is counted for each.

The exploit of a card is what a search against that judge alone found, by mutation of pieces {start} and of
noise, as long as real excerpts are. It is the *strangest* piece that the judge holds for at least as good as the median
of real {style}. Strangeness is measured without the judge: 0 if all features of the evaluation are as in the middle
98 % of real {style}, 1 if all lie a whole width of that band outside. A band rule hears one thing and is fooled by all
others: what holds a policy is the sum of several judges, and its distance from the reference.
"""


def read_cards(folder: Path) -> list[dict[str, Any]]:
    """All cards in a folder, by name.

    Raises:
        MgenError: A card's file cannot be read.
    """
    cards = []
    for path in sorted(folder.glob(f"*/{FILE}")):
        if path.parent.suffix == ".part":
            continue
        try:
            cards.append(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise MgenError(f"{path}: not a card ({error}); measure it anew with mgen card") from error
    return cards


def write_page(cards: Sequence[Json], folder: Path, page: Path) -> None:
    """Write the page of cards whose files lie in `folder`; links are relative to the page."""
    base = Path(os.path.relpath(folder.resolve(), page.resolve().parent)).as_posix()
    aside = page.with_name(page.name + ".part")
    aside.write_text(markdown(cards, "" if base == "." else f"{base}/"), encoding="utf-8")
    os.replace(aside, page)


def markdown(cards: Sequence[Json], base: str) -> str:
    """The page; `base` is what links to the cards' files begin with."""
    corpora = list(dict.fromkeys(card["measured_on"]["words"] for card in cards))
    style = cards[0]["measured_on"]["style"]
    start = " and ".join(dict.fromkeys(card["measured_on"]["start"] for card in cards))
    measured = f"Measured on {corpora[0]}." if len(corpora) == 1 else "Each card says what it was measured on."
    head = _HEAD.format(measured=measured, style=style, start=start)
    demo = (
        f"For comparison, a piece of the embedded demo music ([MIDI]({base}{DEMO}.mid), "
        f"[sound]({base}{DEMO}.ogg)):\n\n![piano-roll of a demo piece]({base}{DEMO}.png)\n"
    )
    parts = [head, _overview(cards), demo, *(_card(card, base, len(corpora) > 1) for card in cards)]
    return "\n".join(parts)


def _overview(cards: Sequence[Json]) -> str:
    """A line a judge."""
    lines = [
        "| judge | unit | median of real | other music as good | broken heard | format heard | no music as good, "
        "at worst | exploit: score | strangeness | µs a token |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for card in cards:
        rows, exploit = card["rows"], card["exploit"]
        worst = max((row["good"] for row in rows.values() if row["kind"] == "senseless"), default=None)
        other = next((row["good"] for row in rows.values() if row["kind"] == "other"), None)
        cells = (
            f"[{card['name']}](#{card['name']})",
            card["unit"],
            number(exploit["median"]),
            _percent(other),
            _heard(rows, "broken", "heard, lower"),
            _heard(rows, "format", "heard"),
            _percent(worst),
            number(exploit["score"]),
            f"{exploit['strangeness']:.2f}",
            number(card["cost"]["token"]),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _heard(rows: Json, kind: str, how: str) -> str:
    some = [row["heard"] for row in rows.values() if row["kind"] == kind and "heard" in row]
    return f"{sum(heard.startswith(how) for heard in some)} of {len(some)}"


def _card(card: Json, base: str, say_corpus: bool) -> str:
    name, price = card["name"], card["cost"]
    credit = "it says which notes earn it" if card["credit"] else "for the piece as a whole"
    facts = (
        f"Score in {card['unit']}, {credit}; {number(card['worst'])} where it cannot judge. "
        f"{number(price['note'])} µs a note, {number(price['token'])} µs a token: {number(price['ratio'])} times the "
        f"decoding of the same tokens ({number(price['decoding'])} µs a token)."
    )
    if card["band"]:
        facts += f" Real music's band is {number(card['band'][0])} to {number(card['band'][1])}."
    if say_corpus:
        facts += f" Measured on {card['measured_on']['words']}."
    rows = f"<details><summary>Scores row by row</summary>\n\n{_rows(card)}\n</details>\n"
    return "\n".join([f"## {name}\n", card["about"], "", facts, "", _told(card), "", _exploit(card, base), rows])


def _told(card: Json) -> str:
    """What the judge hears, in words."""
    by_kind: dict[str, dict[str, list[str]]] = {"broken": {}, "format": {}}
    for name, row in card["rows"].items():
        if row["kind"] in by_kind:
            by_kind[row["kind"]].setdefault(row["heard"], []).append(name.replace("_", " "))
    broken, form = by_kind["broken"], by_kind["format"]
    heard = [name for how, names in form.items() if how.startswith("heard") for name in names]
    parts = {
        "Of broken music it hears": broken.get("heard, lower", []),
        "It does not hear": broken.get("not heard", []),
        "It likes better than real music": broken.get("heard, higher", []),
        "Of what only the format changed it hears": heard,
        "As good as real music, in more than one of a hundred": [
            name.replace("_", " ")
            for name, row in card["rows"].items()
            if row["kind"] == "senseless" and row["good"] > FEW
        ],
    }
    return " ".join(f"{words}: {', '.join(names)}." for words, names in parts.items() if names)


def _rows(card: Json) -> str:
    lines = [
        "| | mean | 5 to 95 % | cannot judge | as good as real | change | |",
        "| --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    kind = ""
    for name, row in card["rows"].items():
        if row["kind"] != kind and KINDS[row["kind"]]:
            lines.append(f"| **{KINDS[row['kind']]}** | | | | | | |")
        kind = row["kind"]
        cells = (
            name.replace("_", " "),
            _interval(row["mean"]),
            f"{number(row['low'])} to {number(row['high'])}",
            _percent(row["undefined"]),
            _percent(row["good"]),
            _interval(row["change"]) if "change" in row else "",
            row.get("heard", ""),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _exploit(card: Json, base: str) -> str:
    exploit, place = card["exploit"], f"{base}{card['name']}/{EXPLOIT}"
    median = number(exploit["median"])
    if exploit["reached"]:
        what = f"The strangest piece that it holds for as good as real music scores {number(exploit['score'])}"
    else:
        what = (
            f"None of {exploit['judged']:,} pieces reached the median of real music; the best scores "
            f"{number(exploit['score'])}"
        )
    lines = [
        f"**Known reward hacking.** {what} (real music: median {median}, 95th percentile {number(exploit['top'])}; "
        f"the demo piece {number(exploit['demo'])}; the highest score found {number(exploit['highest'])}). "
        f"Its strangeness is {exploit['strangeness']:.2f}; that of 95 % of real music is below {exploit['unusual']:.2f}"
        f". {exploit['judged']:,} pieces were judged."
    ]
    told = exploit["told"]
    lines.append(f"Unlike real music: {'; '.join(told)}." if told else "No number told here lies outside real music's.")
    if exploit["timed_out"]:
        lines.append("The search ended by time: a faster machine may find more.")
    if card["expected_exploit"]:
        lines.append(f"Expected by its author: {card['expected_exploit']}")
    lines += [
        "",
        f"![piano-roll of the piece that fools {card['name']}]({place}.png)",
        "",
        f"[MIDI]({place}.mid) · [sound]({place}.ogg), the first {SECONDS:g} seconds at {TEMPO:g} quarters a minute",
        "",
    ]
    return "\n".join(lines)


def _interval(found: Json) -> str:
    if found["value"] is None:
        return NONE
    return f"{number(found['value'])} [{number(found['low'])}, {number(found['high'])}]"


def _percent(share: float | None) -> str:
    """Whole per cent, but for less than one."""
    if share is None:
        return NONE
    return f"{100 * share:.1f} %" if 0 < share < 0.01 else f"{100 * share:.0f} %"
