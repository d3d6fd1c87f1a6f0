"""log P(style | piece) from style features: an ensemble, calibrated, with an out-of-distribution guard."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from scipy.special import log_expit
from threadpoolctl import threadpool_limits

from critics.style.ensemble import MEMBERS, SPREAD, Ensemble, Member, TrainingSet, feature_table
from critics.style.out_of_distribution import OutOfDistributionGuard
from mgen.arrays import Floats, Mask
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
    """log P(style and intact | piece) = log P(style | intact, piece) + log P(intact | piece), in nats."""

    ensemble: Ensemble  # gives the raw logits of both questions
    style: Calibration  # calibrates the first, at equal priors of both styles
    intact: Calibration  # calibrates the second, at equal priors of intact and corrupted
    guard: OutOfDistributionGuard  # finds pieces unlike all real music in the training and calibration sets
    # Share of corrupted pieces among those to be judged; half of the others are of the style.
    corrupted_prior: float = CORRUPTED_PRIOR
    spread: float = SPREAD  # of the ensemble; the calibrations hold for this value alone

    input = "features"

    @property
    def parameters(self) -> int:
        """Weights of all networks."""
        return sum(weight.numel() for network in self.ensemble.networks for weight in network.parameters())

    @classmethod
    def fit(
        cls, train: TrainingSet, valid: TrainingSet, members: tuple[Member, ...] = MEMBERS, seed: int = 0
    ) -> FeatureModel:
        """Trains on one part of the works and calibrates on another.

        Raises:
            ValueError: One of the parts lacks a class.
        """
        ensemble = Ensemble.fit(train, members, seed)
        real = valid.corruption == ""
        style = fit_calibration(ensemble.logits(valid.table[real], "style"), valid.positive[real])
        intact = fit_calibration(ensemble.logits(valid.table, "intact"), real)
        guard = OutOfDistributionGuard.fit(train.table[train.corruption == ""], valid.table[real])
        return cls(ensemble, style, intact, guard)

    def predict(self, notes: Notes) -> tuple[Floats, Mask]:
        """(B,) log-probability in nats, and (B,) whether a piece resembles the training data."""
        with threadpool_limits(1):  # the matrices are small: a second thread costs more than it gains
            table = feature_table(notes)
            return self.log_probability(table), self.guard.distance(table) <= 1

    def log_probability(self, table: Floats) -> Floats:
        """(B,) log-probability in nats from `critics.style.ensemble.feature_table`."""
        prior = np.log(1 / self.corrupted_prior - 1)
        intact = self.intact.log_odds(self.ensemble.logits(table, "intact", self.spread)) + prior
        style = self.style.log_probability(self.ensemble.logits(table, "style", self.spread))
        out: Floats = style + log_expit(intact)
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
            "guard_limit": self.guard.limit,
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
        limit = {name: finite(value) for name, value in facts["guard_limit"].items()}
        if not mean.keys() == root.keys() == limit.keys():
            raise ValueError("guard_limit does not fit the weights")
        ensemble = Ensemble.from_tensors(facts["members"], tensors)
        if extra := {name for name in tensors if not name.startswith("guard.")} - ensemble.tensors().keys():
            raise ValueError(f"no member has the tensor {min(extra)}")
        empty = Notes.concat([])
        n_features = feature_table(empty).shape[1]
        trained_with = {int(network.columns[-1]) + 1 for network in ensemble.networks}
        if trained_with != {n_features}:
            raise ValueError(f"it has {', '.join(map(str, trained_with))} features, this version {n_features}")
        style, intact = read_calibration(facts["style"]), read_calibration(facts["intact"])
        guard = OutOfDistributionGuard(mean, root, limit)
        prior, spread = finite(facts["corrupted_prior"]), float(facts["spread"])
        if not (0 < prior < 1 and spread >= 0):
            raise ValueError(f"corrupted_prior is {prior} and spread {spread}; expected 0 to 1, and at least 0")
        model = cls(ensemble, style, intact, guard, prior, spread)
        model.predict(empty)  # parts that do not fit fail here and not in the middle of a run
        return model
