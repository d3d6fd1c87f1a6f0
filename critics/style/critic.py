"""The style critic: log P(style | piece), whatever the prompt was.

Its model is one of features (`critics/style/feature_model.py`), the one for rewards, or one of tokens: one network that
plain TRL can load, but that depends on file formats.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from critics.sequence import FILE, REMEDY, SequenceCritic
from critics.style.feature_model import FeatureModel
from critics.style.prefix_credit import prefix_credit
from mgen.arrays import Floats, Mask
from mgen.encoding.remi import Remi
from mgen.errors import MgenError
from mgen.judgement import Judgement
from mgen.notes import Notes
from mgen.speed import PLAIN, Speed
from mgen.stats.calibration import Calibration, read_calibration
from mgen.stored import explain_damage, finite, read_json

WORST = float(np.log(1e-4))
PRIOR = float(np.log(0.5))
MIN_NOTES = 16

INPUTS = ("features", "tokens")
"""Inputs of a style critic: style features, which do not depend on file formats, or tokens."""


@dataclass(frozen=True, eq=False)
class TokenModel:
    """log P(style | piece) in nats, both styles equally likely beforehand. It never abstains."""

    network: SequenceCritic  # gives the raw logit of a piece
    calibration: Calibration  # from that logit to nats

    input = "tokens"

    @property
    def parameters(self) -> int:
        """Weights of the network."""
        return int(self.network.model.num_parameters())

    def predict(self, notes: Notes) -> tuple[Floats, Mask]:
        """(B,) log-probability, and (B,) True."""
        return self.calibration.log_probability(self.network.logits(notes)), np.ones(notes.n_pieces, bool)

    def save(self, folder: Path) -> dict[str, Any]:
        """Writes network and tokenizer; returns the rest as plain values."""
        self.network.save_pretrained(folder)
        return {"calibration": asdict(self.calibration), "max_tokens": self.network.max_tokens}


class StyleCritic:
    """log P(style | piece) in nats, between `worst` and 0, at a prior of 1/2.

    The floor `worst` is log 1e-4: a calibration on a few hundred excerpts says nothing about odds beyond some thousands
    to one, and an unbounded log-probability would let one confident network dominate all other judges.

    The critic abstains (`defined` is False, the score is `worst`) for a piece with fewer than `min_notes` pitched
    notes, or one unlike all real music in its training and calibration sets. Credit is what each bar changes
    (`critics/style/prefix_credit.py`); it costs one prediction per bar.

    Known reward hacking: thick chords far apart. The features contain neither tempo nor density and are shares and
    means, so a piece that mixes elements of a style in the right proportions scores well; pair with `density`, `rests`
    and `realism`. A critic of tokens learns timing and format long before pitch. See the card (`mgen card style`).

    Args:
        model: computes the probability.
        positive: name of the style.
        credit: give credit per bar.
    """

    def __init__(
        self,
        model: FeatureModel | TokenModel,
        positive: str,
        min_notes: int = MIN_NOTES,
        worst: float = WORST,
        credit: bool = False,
    ) -> None:
        self.model, self.positive = model, positive
        self.min_notes, self.worst, self.credit = min_notes, worst, credit

    def __call__(self, notes: Notes) -> Judgement:
        score, defined = self._scores(notes)
        credit = prefix_credit(self.prefix_scores, notes, score) if self.credit else None
        return Judgement(score=score.astype(np.float32), credit=credit, defined=defined)

    def probability(self, notes: Notes) -> Floats:
        """(B,) P(style | piece) without a floor; 0 where the critic abstains."""
        nats, defined = self._predict(notes)
        return np.where(defined, np.exp(nats), 0.0)

    def _predict(self, notes: Notes) -> tuple[Floats, Mask]:
        defined = notes.pitched().counts >= self.min_notes
        nats = np.full(notes.n_pieces, -np.inf)
        some = np.flatnonzero(defined)
        if len(some):
            nats[some], defined[some] = self.model.predict(notes.pieces(some))
        return nats, defined

    def _scores(self, notes: Notes) -> tuple[Floats, Mask]:
        nats, defined = self._predict(notes)
        return np.where(defined, np.maximum(nats, self.worst), self.worst), defined

    def prefix_scores(self, notes: Notes) -> Floats:
        """(B,) scores of beginnings of pieces, on the scale of the final score; for one too short the prior's."""
        return np.where(notes.pitched().counts < self.min_notes, PRIOR, self._scores(notes)[0])

    def save_pretrained(self, folder: Path | str, **facts: Any) -> None:
        """Writes the model, and critic.json with its calibration and `facts`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        model_facts = self.model.save(folder)
        about = {
            "kind": "style",
            "input": self.model.input,
            "positive": self.positive,
            "score": "log P(positive | piece), nats, both styles equally likely beforehand",
            "min_notes": self.min_notes,
            "worst": self.worst,
        }
        (folder / FILE).write_text(json.dumps({**about, **model_facts, **facts}, indent=1))

    @classmethod
    def from_pretrained(
        cls, folder: Path | str, remi: Remi | None = None, credit: bool = False, speed: Speed = PLAIN
    ) -> StyleCritic:
        """Reads what `save_pretrained` wrote.

        Args:
            remi: encoding of the music to be judged, if it must be the critic's own; features need none.
            credit: give credit per bar.
            speed: precision of a network of tokens.

        Raises:
            MgenError: The folder holds no style critic, one of another vocabulary, or one of an older mgen.
        """
        folder = Path(folder)
        if not (folder / FILE).is_file():
            raise MgenError(f"{folder}: expected a critic ({FILE}), found none; give RUN/model of a run of mgen critic")
        facts = read_json(folder / FILE, REMEDY)
        kind, found = facts.get("kind"), facts.get("input")
        if kind != "style":
            raise MgenError(f"{folder}: expected a style critic, found '{kind}'; train one with mgen critic")
        if "hears" in facts:
            raise MgenError(f"{folder}: a style critic of an older mgen; train it again with mgen critic")
        if found not in INPUTS:
            expected = f"expected input to be one of {', '.join(INPUTS)}, found '{found}'"
            raise MgenError(f"{folder / FILE}: {expected}; train it again with mgen critic")
        with explain_damage(folder, REMEDY):
            model: FeatureModel | TokenModel
            if facts["input"] == "features":
                model = FeatureModel.load(folder, facts)
            else:
                network, _ = SequenceCritic.from_pretrained(folder, remi, speed)
                model = TokenModel(network, read_calibration(facts["calibration"]))
            least, worst = int(finite(facts["min_notes"])), finite(facts["worst"])
            if not facts["positive"] or not isinstance(facts["positive"], str) or least < 0 or worst >= 0:
                raise ValueError("expected positive to be a name, min_notes at least 0 and worst below 0")
            return cls(model, facts["positive"], least, worst, credit)
