"""One judge's card: measured, told as JSON, and kept with the piece that fools it."""

from __future__ import annotations

import inspect
import io
import json
import math
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike
from PIL import Image

from mgen.cards.reward_hacking import Exploit, Reference, Trait, stress, traits
from mgen.cards.scores import Cost, Row, RowScores, cost, score_rows
from mgen.cards.search import Budget
from mgen.judgement import Judge
from mgen.notes import Notes
from mgen.render.audio import ogg, synthesise
from mgen.render.pianoroll_image import pianoroll_image
from mgen.transforms.edits import NoteArray

FILE = "card.json"
EXPLOIT = "exploit"
"""Name of the files of the piece that fools a judge, without their ends."""

SECONDS = 12.0
"""Of a piece that are to be heard."""

TEMPO = 120.0
PICTURE = (900, 220)
NONE = "-"
"""What is written for a number that there is not."""

_SECTION = re.compile(r"^(Args|Attributes|Returns|Raises|Source|Known reward hacking):", re.M)


@dataclass(frozen=True)
class Subject:
    """What is judged: the same for every judge of a page.

    Attributes:
        rows: name -> row; the first is real music of the style.
        tokens: of the first row's pieces, as token ids.
        reference: what a stress search is measured by.
        begin: drafts that it starts from.
        demo: one piece for comparison.
        measured_on: in words and numbers, for the page.
    """

    rows: Mapping[str, Row]
    tokens: Sequence[ArrayLike]
    reference: Reference
    begin: Sequence[NoteArray]
    demo: Notes
    measured_on: dict[str, Any]


@dataclass(frozen=True)
class Card:
    """All that is known of a judge; see the attributes of the parts.

    Attributes:
        name: of the judge.
        about: the beginning of its docstring.
        expected: what its docstring says of its exploit.
        unit: of its score.
        worst: its score where it cannot speak.
        band: where its measure lies in real music, if it is a rule that has one.
        credit: whether it says which notes earn the score.
        demo: its score of the piece for comparison.
    """

    name: str
    about: str
    expected: str
    unit: str
    worst: float
    band: tuple[float, float] | None
    credit: bool
    rows: dict[str, RowScores]
    cost: Cost
    exploit: Exploit
    traits: dict[str, Trait]
    demo: float
    measured_on: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "about": self.about,
            "expected_exploit": self.expected,
            "unit": self.unit,
            "worst": self.worst,
            "band": self.band,
            "credit": self.credit,
            "rows": {name: row.to_json() for name, row in self.rows.items()},
            "cost": self.cost.to_json(),
            "exploit": {
                **self.exploit.to_json(),
                "demo": round(self.demo, 6),
                "traits": {name: trait.to_json() for name, trait in self.traits.items()},
                "told": outside(self.traits),
            },
            "measured_on": self.measured_on,
        }


def measure_card(
    name: str,
    judge: Judge,
    subject: Subject,
    budget: Budget,
    seed: int,
    tell: Callable[[str], None] = lambda line: None,
) -> Card:
    """Measure everything. `judge.worst` and `judge.band` are read where there are any.

    Args:
        budget: of the stress search.
        seed: of resamples and of the search.
        tell: is told what is done.
    """
    about, expected = docstring_parts(inspect.getdoc(judge) or "")
    tell("scores")
    rows = score_rows(judge, subject.rows, seed)
    tell("cost")
    price = cost(judge, subject.tokens, subject.reference.remi)
    exploit = stress(judge, subject.reference, subject.begin, budget, seed, tell)
    demo = judge(subject.demo)
    band = getattr(judge, "band", None)
    return Card(
        name=name,
        about=about,
        expected=expected,
        unit="nats" if band is None else "band widths",
        worst=float(getattr(judge, "worst", math.nan)),
        band=None if band is None else (float(band.low), float(band.high)),
        credit=demo.credit is not None,
        rows=rows,
        cost=price,
        exploit=exploit,
        traits=traits(exploit.notes, subject.reference.notes),
        demo=float(demo.score[0]),
        measured_on=subject.measured_on,
    )


def docstring_parts(text: str) -> tuple[str, str]:
    """The description at the beginning of a docstring, and what follows `Known reward hacking:`, each as one line."""
    pieces = _SECTION.split(text)
    named = dict(zip(pieces[1::2], pieces[2::2], strict=True))
    exploit = named.get("Known reward hacking", "")
    return " ".join(pieces[0].split()), " ".join(exploit.split())


def outside(found: Mapping[str, Trait], most: int = 6) -> list[str]:
    """The traits outside the middle nine tenths of real music, farthest first, in words."""
    apart = {name: trait.apart for name, trait in found.items() if trait.apart > 0}
    order = sorted(apart, key=lambda name: -apart[name])[:most]
    return [
        f"{found[name].words} {number(found[name].value)} (real music {number(found[name].low)} to "
        f"{number(found[name].high)})"
        for name in order
    ]


def number(value: float | None) -> str:
    """Three digits that count; whole numbers whole."""
    if value is None or not math.isfinite(value):
        return NONE
    rounded = float(f"{value:.3g}")
    text = f"{rounded:.0f}" if abs(rounded) >= 100 or rounded == int(rounded) else f"{rounded:g}"
    return "0" if text == "-0" else text


# ------------------------------------------------------------ files


def save_card(card: Card, folder: Path) -> Path:
    """Write `folder/NAME` with card.json and the exploit as MIDI, picture and sound; one that was there is replaced."""
    place = folder / card.name
    aside = folder / f"{card.name}.part"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    save_piece(card.exploit.notes, aside, EXPLOIT)
    (aside / FILE).write_text(json.dumps(card.to_json(), indent=1) + "\n", encoding="utf-8")
    if place.exists():
        shutil.rmtree(place)
    aside.rename(place)
    return place


def save_piece(notes: Notes, folder: Path, name: str) -> None:
    """The first of some pieces as NAME.mid, NAME.png (a piano-roll) and NAME.ogg (its beginning)."""
    score = notes.to_score(0, TEMPO)
    score.dump_midi(folder / f"{name}.mid")
    (folder / f"{name}.ogg").write_bytes(ogg(synthesise(score, max_seconds=SECONDS)))
    picture = Image.fromarray(pianoroll_image(notes, 0, width=PICTURE[0], height=PICTURE[1]))
    out = io.BytesIO()
    picture.quantize(64).save(out, "png", optimize=True)
    (folder / f"{name}.png").write_bytes(out.getvalue())
