"""The style critic: is a piece of the style, and intact? Whatever the prompt was.

Its model is one of features (`critics/style/feature_model.py`), the one for rewards, or one of tokens: one network that
plain TRL can load, but that depends on file formats.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import log_expit

from critics.sequence import FILE, REMEDY, SequenceCritic
from critics.style.by_length import ByLength
from critics.style.ensemble import Question
from critics.style.excerpts import LabelledPieces
from critics.style.feature_model import FeatureModel
from critics.style.prefix_credit import prefix_credit
from mgen.arrays import Floats, Mask
from mgen.encoding.remi import Remi
from mgen.errors import MgenError
from mgen.judgement import Judgement, UnavailableJudge
from mgen.notes import Notes
from mgen.speed import PLAIN, Speed
from mgen.stats.calibration import Calibration, fit_calibration, read_calibration
from mgen.stored import explain_damage, finite, read_json

WORST = float(np.log(1e-4))
MIN_NOTES = 16

INPUTS = ("features", "tokens")
"""Inputs of a style critic: style features, which do not depend on file formats, or tokens."""


PARTS: dict[str, tuple[Question, ...]] = {"both": ("style", "intact"), "style": ("style",), "intact": ("intact",)}
"""Name -> the questions that a critic answers: is an intact piece of the style, and is it intact?"""

SCALES = ("log_odds", "log_probability")
"""Scales of the score. A log-probability is flat for music that is surely of the style; log odds are not."""


@dataclass(frozen=True, eq=False)
class TokenModel:
    """Log odds that a piece is of the style, in nats, both styles equally likely beforehand."""

    network: SequenceCritic  # gives the raw logit of a piece
    calibration: Calibration  # from that logit to nats
    real: dict[Question, ByLength]  # `style` -> median log odds of real music of the style, by number of notes

    input = "tokens"

    @classmethod
    def fit(cls, network: SequenceCritic, valid: LabelledPieces) -> TokenModel:
        """Calibrates a trained network and measures real music; the one median is of excerpts of about one length."""
        logits = network.logits(valid.notes)
        calibration = fit_calibration(logits, valid.positive)
        odds, own = calibration.log_odds(logits[valid.positive]), valid.notes.pitched().counts[valid.positive]
        real = ByLength(np.array([max(np.median(own), 1.0)]), np.array([np.median(odds)]))
        return cls(network, calibration, {"style": real})

    @property
    def parameters(self) -> int:
        """Weights of the network."""
        return int(self.network.model.num_parameters())

    @property
    def prior(self) -> dict[Question, float]:
        """Question -> log odds before anything of a piece is known."""
        return {"style": 0.0}

    def log_odds(self, notes: Notes, question: Question) -> Floats:
        """(B,) calibrated log odds in nats."""
        return self.calibration.log_odds(self.network.logits(notes))

    def penalty(self, notes: Notes) -> Floats:
        """(B,) 0: it has no out-of-distribution guard."""
        return np.zeros(notes.n_pieces)

    def save(self, folder: Path) -> dict[str, Any]:
        """Writes network and tokenizer; returns the rest as plain values."""
        self.network.save_pretrained(folder)
        real = {question: medians.to_json() for question, medians in self.real.items()}
        return {"calibration": asdict(self.calibration), "max_tokens": self.network.max_tokens, "real": real}


class StyleCritic:
    """How surely a piece is of the style and intact, in nats, at least `worst`.

    With the scale `log_probability` the score is log P(style and intact | piece), at most 0. With `log_odds` it is the
    sum over the parts of the log odds, each capped at the median of real music of the style with as many notes: nothing
    is gained by being surer than real music. Both have the floor `worst`, log 1e-4, where they agree: a
    calibration on a few hundred excerpts says nothing about odds beyond some thousands to one.

    A piece farther from real music than nearly all real music loses nats in proportion
    (`critics/style/out_of_distribution.py`). The critic abstains (`defined` is False, the score is `worst`) for a piece
    with fewer than `min_notes` pitched notes. Credit is what each bar changes (`critics/style/prefix_credit.py`); it
    costs one prediction per bar.

    Known reward hacking: thick chords far apart. The features contain neither tempo nor density and are shares and
    means, so a piece that mixes elements of a style in the right proportions scores well; pair with `density`, `rests`
    and `realism`. A critic of tokens learns timing and format long before pitch. See the card (`mgen card style`).

    Args:
        model: computes the log odds.
        positive: name of the style.
        credit: give credit per bar.
        part: what is judged, of `PARTS`; a model of tokens knows the style only.
        scale: of `SCALES`.
    """

    def __init__(
        self,
        model: FeatureModel | TokenModel,
        positive: str,
        min_notes: int = MIN_NOTES,
        worst: float = WORST,
        credit: bool = False,
        part: str = "both",
        scale: str = "log_probability",
    ) -> None:
        self.model, self.positive = model, positive
        self.min_notes, self.worst, self.credit = min_notes, worst, credit
        self.questions = tuple(question for question in PARTS[part] if question in model.prior)
        self.capped = scale == "log_odds"

    def __call__(self, notes: Notes) -> Judgement:
        score, defined = self._scores(notes)
        credit = prefix_credit(self.prefix_scores, notes, score) if self.credit else None
        return Judgement(score=score.astype(np.float32), credit=credit, defined=defined)

    def probability(self, notes: Notes) -> Floats:
        """(B,) P(style and intact | piece) without a floor; 0 where the critic abstains."""
        nats = sum(log_expit(self.model.log_odds(notes, question)) for question in self.model.prior)
        defined = notes.pitched().counts >= self.min_notes
        return np.where(defined, np.exp(nats - self.model.penalty(notes)), 0.0)

    def prefix_scores(self, notes: Notes) -> Floats:
        """(B,) scores of beginnings of pieces, on the scale of the final score; for one too short the prior's."""
        prior = sum(self._nats(question, self.model.prior[question], self.min_notes) for question in self.questions)
        return np.where(notes.pitched().counts < self.min_notes, np.maximum(prior, self.worst), self._scores(notes)[0])

    def _scores(self, notes: Notes) -> tuple[Floats, Mask]:
        count = notes.pitched().counts
        nats = -self.model.penalty(notes)
        for question in self.questions:
            nats += self._nats(question, self.model.log_odds(notes, question), count)
        defined = count >= self.min_notes
        return np.where(defined, np.maximum(nats, self.worst), self.worst), defined

    def _nats(self, question: Question, log_odds: ArrayLike, notes: ArrayLike) -> Floats:
        """(B,) log odds of pieces of `notes` (B,) notes on the scale of the score."""
        odds = np.asarray(log_odds, np.float64)
        return np.minimum(odds, self.model.real[question].at(notes)) if self.capped else np.asarray(log_expit(odds))

    def save_pretrained(self, folder: Path | str, **facts: Any) -> None:
        """Writes the model, and critic.json with its calibration and `facts`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        model_facts = self.model.save(folder)
        about = {
            "kind": "style",
            "input": self.model.input,
            "positive": self.positive,
            "score": "log P(positive and intact | piece), nats, both styles equally likely beforehand",
            "min_notes": self.min_notes,
            "worst": self.worst,
        }
        (folder / FILE).write_text(json.dumps({**about, **model_facts, **facts}, indent=1))

    @classmethod
    def from_pretrained(
        cls,
        folder: Path | str,
        remi: Remi | None = None,
        credit: bool = False,
        speed: Speed = PLAIN,
        part: str = "both",
        scale: str = "log_probability",
    ) -> StyleCritic:
        """Reads what `save_pretrained` wrote.

        Args:
            remi: encoding of the music to be judged, if it must be the critic's own; features need none.
            credit: give credit per bar.
            speed: precision of a network of tokens.
            part, scale: as of the class.

        Raises:
            MgenError: The folder holds no style critic, one of another vocabulary, or one of an older mgen; or part or
                scale is none.
            UnavailableJudge: The critic is one of tokens, which does not judge whether a piece is intact.
        """
        for name, value, known in (("part", part, tuple(PARTS)), ("scale", scale, SCALES)):
            if value not in known:
                raise MgenError(f"style critic: {name} '{value}': expected one of {', '.join(known)}")
        folder = Path(folder)
        if not (folder / FILE).is_file():
            raise MgenError(f"{folder}: expected a critic ({FILE}), found none; give RUN/model of a run of mgen critic")
        facts = read_json(folder / FILE, REMEDY)
        kind, found = facts.get("kind"), facts.get("input")
        if kind != "style":
            raise MgenError(f"{folder}: expected a style critic, found '{kind}'; train one with mgen critic")
        if "real" not in facts:
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
                medians = ByLength.from_json(facts["real"]["style"])
                model = TokenModel(network, read_calibration(facts["calibration"]), {"style": medians})
            least, worst = int(finite(facts["min_notes"])), finite(facts["worst"])
            if not facts["positive"] or not isinstance(facts["positive"], str) or least < 0 or worst >= 0:
                raise ValueError("expected positive to be a name, min_notes at least 0 and worst below 0")
        if part == "intact" and part not in model.prior:
            raise UnavailableJudge("intact", "the critic reads tokens and does not judge whether music is intact")
        return cls(model, facts["positive"], least, worst, credit, part, scale)
