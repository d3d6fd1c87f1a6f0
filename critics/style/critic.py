"""The style critic: how surely is this piece jazz?

Says log P(style | piece), whatever the prompt was. What it hears by is a `Model`: `critics/style/feature_model.py`,
which is to give reward, or `critics/style/token_model.py`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

from critics.sequence import FILE, SequenceCritic
from critics.style.feature_model import FeatureModel
from critics.style.prefix_credit import prefix_credit
from critics.style.token_model import TokenModel
from mgen.encoding.remi import Remi
from mgen.errors import MgenError
from mgen.judgement import Judgement
from mgen.notes import Notes
from mgen.stats.calibration import Calibration

WORST = float(np.log(1e-4))
NOTHING_KNOWN = float(np.log(0.5))
MIN_NOTES = 16

HEARS = ("traits", "tokens")
"""What a style critic may hear by: traits that all formats share, or the tokens themselves."""


class Model(Protocol):
    """What a critic hears by."""

    hears: str

    @property
    def parameters(self) -> int: ...

    def hear(self, notes: Notes) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """(B,) log P(style | piece) in nats, calibrated; (B,) whether it is like anything that was learned from."""
        ...

    def save(self, folder: Path) -> dict[str, Any]: ...


class StyleCritic:
    """log P(style | piece) in nats, between `worst` and 0, both styles equally likely beforehand.

    The score ends at `worst`, log 1e-4: a calibration fitted on a few hundred excerpts says nothing of odds beyond some
    thousands to one, and a log-probability without end would let one confident network shout down all other judges.

    It abstains where it cannot know: a piece of fewer than `min_notes` pitched notes, or one that is unlike all real
    music it learned from, is not `defined` and gets `worst`. Credit, if it is wanted, is what each bar changes
    (`critics/style/prefix_credit.py`); it costs as many judgements as a piece has bars.

    Known exploit: thick chords far apart. A model of traits hears neither tempo nor density, and judges shares and
    means, so a piece that mixes the parts of a style in the right proportions pleases it; pair with `density`, `rests`
    and `realism`. A model of tokens hears timing and format long before pitch. See the card (`mgen card style`).

    Args:
        model: what it hears by.
        positive: name of the style.
        credit: give credit by bars.
    """

    def __init__(
        self, model: Model, positive: str, min_notes: int = MIN_NOTES, worst: float = WORST, credit: bool = False
    ) -> None:
        self.model, self.positive = model, positive
        self.min_notes, self.worst, self.credit = min_notes, worst, credit

    def __call__(self, notes: Notes) -> Judgement:
        said, defined = self._said(notes)
        score = np.where(defined, np.maximum(said, self.worst), self.worst)
        credit = prefix_credit(self._so_far, notes, score) if self.credit else None
        return Judgement(score=score.astype(np.float32), credit=credit, defined=defined)

    def probability(self, notes: Notes) -> NDArray[np.float64]:
        """(B,) P(style | piece), 0 where it cannot be judged; without a floor."""
        said, defined = self._said(notes)
        return np.where(defined, np.exp(said), 0.0)

    def _said(self, notes: Notes) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        defined = notes.pitched().counts >= self.min_notes
        said = np.full(notes.n_pieces, -np.inf)
        some = np.flatnonzero(defined)
        if len(some):
            said[some], known = self.model.hear(notes.pieces(some))
            defined[some] = known
        return said, defined

    def _so_far(self, notes: Notes) -> NDArray[np.float64]:
        """(B,) score of beginnings; one that is too short is as likely as a piece that has not begun."""
        said, defined = self._said(notes)
        short = notes.pitched().counts < self.min_notes
        return np.where(short, NOTHING_KNOWN, np.where(defined, np.maximum(said, self.worst), self.worst))

    def save_pretrained(self, folder: Path | str, **facts: Any) -> None:
        """Write the model, and critic.json with its calibration and `facts`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        own = self.model.save(folder)
        about = {
            "kind": "style",
            "hears": self.model.hears,
            "positive": self.positive,
            "score": "log P(positive | piece), nats, both styles equally likely beforehand",
            "min_notes": self.min_notes,
            "worst": self.worst,
        }
        (folder / FILE).write_text(json.dumps({**about, **own, **facts}, indent=1))

    @classmethod
    def from_pretrained(cls, folder: Path | str, remi: Remi | None = None, credit: bool = False) -> StyleCritic:
        """What `save_pretrained` wrote.

        Args:
            remi: the encoding of the music to be judged, if it has to be the critic's own; traits have none.
            credit: give credit by bars.

        Raises:
            MgenError: The folder holds no style critic, or one of another vocabulary.
        """
        folder = Path(folder)
        facts = _facts(folder)
        if facts.get("kind") != "style":
            raise MgenError(
                f"{folder}: expected a style critic, found '{facts.get('kind')}'; train one with mgen critic"
            )
        hears = facts.get("hears", "tokens")
        if hears not in HEARS:
            raise MgenError(
                f"{folder / FILE}: expected hears to be one of {', '.join(HEARS)}, came '{hears}'; train it again"
            )
        try:
            model: Model
            if hears == "traits":
                model = FeatureModel.load(folder, facts)
            else:
                network, _ = SequenceCritic.from_pretrained(folder, remi)
                model = TokenModel(network, Calibration(**facts["calibration"]))
            return cls(model, str(facts["positive"]), int(facts["min_notes"]), float(facts["worst"]), credit)
        except (KeyError, TypeError, ValueError, RuntimeError, OSError, SafetensorError) as error:
            why = " ".join(repr(error).split())
            raise MgenError(f"{folder}: the critic cannot be read ({why}); train it again") from error


def _facts(folder: Path) -> dict[str, Any]:
    path = folder / FILE
    if not path.is_file():
        raise MgenError(f"{folder}: expected a critic ({FILE}), found none; give RUN/model of a run of mgen critic")
    try:
        facts = json.loads(path.read_text())
    except ValueError as error:
        raise MgenError(f"{path}: cannot be read ({error}); train the critic again") from error
    if not isinstance(facts, dict):
        raise MgenError(f"{path}: expected an object; train the critic again")
    return facts
