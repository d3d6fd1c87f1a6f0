"""Log odds from style features: an ensemble, calibrated, with an out-of-distribution guard."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from scipy.special import log_expit
from threadpoolctl import threadpool_limits

from critics.style.by_length import ByLength
from critics.style.ensemble import (
    MEMBERS,
    QUESTIONS,
    SPREAD,
    Ensemble,
    Member,
    Question,
    TrainingSet,
    notes_of,
    shared_feature_table,
)
from critics.style.out_of_distribution import OutOfDistributionGuard
from mgen.arrays import Floats
from mgen.models.pretrained import check_finite
from mgen.notes import Notes
from mgen.stats.calibration import Calibration, fit_calibration, read_calibration
from mgen.stored import finite

WEIGHTS = "ensemble.safetensors"

CORRUPTED_PRIOR = 0.1
"""A higher prior lowers the score of short real excerpts by more than their calibration allows; with a lower one,
corruptions cost less.
"""


@dataclass(frozen=True, eq=False)
class FeatureModel:
    """Log odds, in nats, that a piece is of the style if it is intact, and that it is intact."""

    ensemble: Ensemble  # gives the raw logits of both questions
    style: Calibration  # calibrates the first, at equal priors of both styles
    intact: Calibration  # calibrates the second, at equal priors of intact and corrupted
    guard: OutOfDistributionGuard  # how far a piece is from all real music in the training and calibration sets
    real: dict[Question, ByLength]  # question -> median log odds of real music of the style, by number of notes
    # Share of corrupted pieces among those to be judged; half of the others are of the style.
    corrupted_prior: float = CORRUPTED_PRIOR
    spread: float = SPREAD  # of the ensemble; the calibrations hold for this value alone

    input = "features"

    @property
    def parameters(self) -> int:
        """Weights of all networks."""
        return sum(weight.numel() for network in self.ensemble.networks for weight in network.parameters())

    @property
    def prior(self) -> dict[Question, float]:
        """Question -> log odds before anything of a piece is known."""
        return {"style": 0.0, "intact": float(np.log(1 / self.corrupted_prior - 1))}

    @classmethod
    def fit(
        cls, train: TrainingSet, valid: TrainingSet, members: tuple[Member, ...] = MEMBERS, seed: int = 0
    ) -> FeatureModel:
        """Trains on one part of the works, and calibrates and measures real music on another.

        Raises:
            ValueError: One of the parts lacks a class.
        """
        ensemble = Ensemble.fit(train, members, seed)
        real = valid.corruption == ""
        style = fit_calibration(ensemble.logits(valid.table[real], "style"), valid.positive[real])
        intact = fit_calibration(ensemble.logits(valid.table, "intact"), real)
        known = valid.table[real]
        guard = OutOfDistributionGuard.fit(train.table[train.corruption == ""], known, notes_of(known))
        model = cls(ensemble, style, intact, guard, {})
        own = valid.table[real & valid.positive]
        for question in QUESTIONS:
            odds = model.table_log_odds(own, question)
            model.real[question] = ByLength.measure(notes_of(own), odds, lambda values: float(np.median(values)))
        return model

    def log_odds(self, notes: Notes, question: Question) -> Floats:
        """(B,) calibrated log odds in nats, the prior included."""
        with threadpool_limits(1):  # the matrices are small: a second thread costs more than it gains
            return self.table_log_odds(shared_feature_table(notes), question)

    def penalty(self, notes: Notes) -> Floats:
        """(B,) nats that a piece loses because it is unlike all real music."""
        with threadpool_limits(1):
            return self.guard.penalty(shared_feature_table(notes), notes.pitched().counts)

    def table_log_odds(self, table: Floats, question: Question) -> Floats:
        """`log_odds` from `critics.style.ensemble.feature_table`."""
        calibration = self.style if question == "style" else self.intact
        return calibration.log_odds(self.ensemble.logits(table, question, self.spread)) + self.prior[question]

    def log_probability(self, table: Floats) -> Floats:
        """(B,) log P(style and intact | piece) in nats, from `critics.style.ensemble.feature_table`."""
        style, intact = (log_expit(self.table_log_odds(table, question)) for question in QUESTIONS)
        out: Floats = style + intact
        return out

    def save(self, folder: Path) -> dict[str, Any]:
        """Writes the weights; returns the rest as plain values."""
        tensors = self.ensemble.tensors()
        for part, groups in (("mean", self.guard.mean), ("root", self.guard.root)):
            tensors |= {f"guard.{part}.{name}": torch.from_numpy(value) for name, value in groups.items()}
        save_file({name: value.contiguous() for name, value in tensors.items()}, folder / WEIGHTS)
        return {
            "members": [asdict(member) for member in self.ensemble.members],
            "style": asdict(self.style),
            "intact": asdict(self.intact),
            "corrupted_prior": self.corrupted_prior,
            "spread": self.spread,
            "guard_limit": {name: limit.to_json() for name, limit in self.guard.limit.items()},
            "real": {question: medians.to_json() for question, medians in self.real.items()},
        }

    @classmethod
    def load(cls, folder: Path, facts: dict[str, Any]) -> FeatureModel:
        """Reads what `save` wrote.

        Raises:
            MgenError: A weight is not finite.
            KeyError, OSError, RuntimeError, SafetensorError, TypeError, ValueError: Files or values are missing, or do
                not fit each other or the features of this version.
        """
        tensors = load_file(folder / WEIGHTS)
        check_finite(folder / WEIGHTS, tensors)
        mean, root = (
            {name.removeprefix(first): value.numpy() for name, value in tensors.items() if name.startswith(first)}
            for first in ("guard.mean.", "guard.root.")
        )
        limit = {name: ByLength.from_json(pairs) for name, pairs in facts["guard_limit"].items()}
        if not mean.keys() == root.keys() == limit.keys():
            raise ValueError("guard_limit does not fit the weights")
        ensemble = Ensemble.from_tensors(facts["members"], tensors)
        if extra := {name for name in tensors if not name.startswith("guard.")} - ensemble.tensors().keys():
            raise ValueError(f"no member has the tensor {min(extra)}")
        empty = Notes.concat([])
        n_features = shared_feature_table(empty).shape[1]
        trained_with = {int(network.columns[-1]) + 1 for network in ensemble.networks}
        if trained_with != {n_features}:
            raise ValueError(f"it has {', '.join(map(str, trained_with))} features, this version {n_features}")
        style, intact = read_calibration(facts["style"]), read_calibration(facts["intact"])
        guard = OutOfDistributionGuard(mean, root, limit)
        prior, spread = finite(facts["corrupted_prior"]), float(facts["spread"])
        if not (0 < prior < 1 and spread >= 0):
            raise ValueError(f"corrupted_prior is {prior} and spread {spread}; expected 0 to 1, and at least 0")
        real = {question: ByLength.from_json(facts["real"][question]) for question in QUESTIONS}
        model = cls(ensemble, style, intact, guard, real, prior, spread)
        # parts that do not fit fail here and not in the middle of a run
        model.log_probability(shared_feature_table(empty))
        model.penalty(empty)
        return model
