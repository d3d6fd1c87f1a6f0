"""A reward card: measured, written as JSON, and kept with the piece that exploits the judge."""

from __future__ import annotations

import inspect
import io
import json
import math
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike
from PIL import Image

from mgen.cards.reward_hacking import Exploit, FeatureComparison, SearchReference, compare_features, find_exploit
from mgen.cards.scores import CardRow, JudgeCost, RowScores, judge_cost, score_rows
from mgen.cards.search import SearchBudget
from mgen.judgement import Judge, judged
from mgen.notes import Notes
from mgen.progress import Progress, silent
from mgen.render.audio import ogg, synthesise
from mgen.render.pianoroll_image import pianoroll_image
from mgen.transforms.edits import NoteArray

FILE = "card.json"
EXPLOIT = "exploit"
"""Stem of the files of the piece that exploits a judge."""

SECONDS = 12.0  # length of the audio of a piece
TEMPO = 120.0
PICTURE = (900, 220)
UNDEFINED = "-"

_SECTION = re.compile(r"^(Args|Attributes|Returns|Raises|Source|Known reward hacking):", re.M)


@dataclass(frozen=True)
class CardSetup:
    """What every judge of a page is measured on.

    Attributes:
        rows: name -> row; the first is real music of the style.
        tokens: token ids of the pieces of the first row.
        reference: of the reward-hacking search.
        initial: first generation of that search.
        demo: one piece for comparison.
        measured_on: description of the data, for the page.
    """

    rows: Mapping[str, CardRow]
    tokens: Sequence[ArrayLike]
    reference: SearchReference
    initial: Sequence[NoteArray]
    demo: Notes
    measured_on: dict[str, Any]


@dataclass(frozen=True)
class RewardCard:
    """The measurements of one judge.

    Attributes:
        name: of the judge.
        about: first part of its docstring.
        expected_exploit: the exploit that its docstring names.
        unit: of its score.
        worst: its score of undefined pieces.
        band: range of its measure in real music, for a band rule.
        credit: whether it assigns credit to notes.
        demo_score: its score of the demo piece.
        features: of the exploit, compared with real music.
    """

    name: str
    about: str
    expected_exploit: str
    unit: str
    worst: float
    band: tuple[float, float] | None
    credit: bool
    rows: dict[str, RowScores]
    cost: JudgeCost
    exploit: Exploit
    features: dict[str, FeatureComparison]
    demo_score: float
    measured_on: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        names = ("name", "about", "expected_exploit", "unit", "worst", "band", "credit")
        return {
            **{name: getattr(self, name) for name in names},
            "rows": {name: row.to_json() for name, row in self.rows.items()},
            "cost": self.cost.to_json(),
            "exploit": {
                **self.exploit.to_json(),
                "demo_score": round(self.demo_score, 6),
                "features": {name: feature.to_json() for name, feature in self.features.items()},
                "outside_real_range": outside_real_range(self.features),
            },
            "measured_on": self.measured_on,
        }


def measure_card(
    name: str,
    judge: Judge,
    setup: CardSetup,
    budget: SearchBudget,
    seed: int,
    progress: Progress = silent,
) -> RewardCard:
    """Measures a judge; its attributes `worst` and `band` are read if it has them.

    Args:
        budget: of the reward-hacking search.
        seed: of the resamples and the search.
        progress: takes the count of the generations of the search.
    """
    about, expected_exploit = docstring_parts(inspect.getdoc(judge) or "")
    checked = partial(judged, name, judge)
    rows = score_rows(checked, setup.rows, seed)
    cost = judge_cost(judge, setup.tokens, setup.reference.remi)
    exploit = find_exploit(checked, setup.reference, setup.initial, budget, seed, progress)
    demo = checked(setup.demo)
    band = getattr(judge, "band", None)
    return RewardCard(
        name=name,
        about=about,
        expected_exploit=expected_exploit,
        unit="nats" if band is None else "band widths",
        worst=float(getattr(judge, "worst", math.nan)),
        band=None if band is None else (float(band.low), float(band.high)),
        credit=demo.credit is not None,
        rows=rows,
        cost=cost,
        exploit=exploit,
        features=compare_features(exploit.notes, setup.reference.notes),
        demo_score=float(demo.score[0]),
        measured_on=setup.measured_on,
    )


def docstring_parts(text: str) -> tuple[str, str]:
    """Returns the first part of a docstring and its section `Known reward hacking:`, each as one line."""
    pieces = _SECTION.split(text)
    sections = dict(zip(pieces[1::2], pieces[2::2], strict=True))
    exploit = sections.get("Known reward hacking", "")
    return " ".join(pieces[0].split()), " ".join(exploit.split())


def outside_real_range(features: Mapping[str, FeatureComparison], most: int = 6) -> list[str]:
    """Describes the features outside the middle 90 % of real music, the farthest first."""
    distances = {name: feature.outside for name, feature in features.items() if feature.outside > 0}
    order = sorted(distances, key=lambda name: -distances[name])[:most]
    return [
        f"{features[name].description} {number(features[name].value)} (real music {number(features[name].low)} to "
        f"{number(features[name].high)})"
        for name in order
    ]


def number(value: float | None) -> str:
    """Formats a number with three significant digits; integers and large numbers without decimals."""
    if value is None or not math.isfinite(value):
        return UNDEFINED
    rounded = float(f"{value:.3g}")
    text = f"{rounded:.0f}" if abs(rounded) >= 100 or rounded == int(rounded) else f"{rounded:g}"
    return "0" if text == "-0" else text


# ------------------------------------------------------------ files


def save_card(card: RewardCard, folder: Path) -> Path:
    """Writes `folder/NAME`: card.json and the exploit as MIDI, piano-roll and audio; an earlier card is replaced."""
    place = folder / card.name
    partial = folder / f"{card.name}.part"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save_piece(card.exploit.notes, partial, EXPLOIT)
    (partial / FILE).write_text(json.dumps(card.to_json(), indent=1) + "\n", encoding="utf-8")
    if place.exists():
        shutil.rmtree(place)
    partial.rename(place)
    return place


def save_piece(notes: Notes, folder: Path, name: str) -> None:
    """Writes the first of some pieces as NAME.mid, NAME.png (piano-roll) and NAME.ogg (its beginning)."""
    score = notes.to_score(0, TEMPO)
    score.dump_midi(folder / f"{name}.mid")
    (folder / f"{name}.ogg").write_bytes(ogg(synthesise(score, max_seconds=SECONDS)))
    picture = Image.fromarray(pianoroll_image(notes, 0, width=PICTURE[0], height=PICTURE[1]))
    out = io.BytesIO()
    picture.quantize(64).save(out, "png", optimize=True)
    (folder / f"{name}.png").write_bytes(out.getvalue())
