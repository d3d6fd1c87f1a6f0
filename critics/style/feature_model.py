"""P(style | piece) from traits: an ensemble, calibrated, that knows what it cannot judge."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from scipy.special import log_expit
from threadpoolctl import threadpool_limits

from critics.style.ensemble import MEMBERS, SPREAD, Ensemble, Material, Member, feature_table
from critics.style.out_of_distribution import OutOfDistributionGuard
from mgen.arrays import Floats
from mgen.notes import Notes
from mgen.stats.calibration import Calibration, fit_calibration

WEIGHTS = "ensemble.safetensors"

CORRUPTED_PRIOR = 0.1
"""With more, real short excerpts are doubted by more than their calibration allows; with less, broken music costs
less.
"""


@dataclass(frozen=True, eq=False)
class FeatureModel:
    """log P(the style and whole | piece) = log P(style | whole music, piece) + log P(whole | piece), in nats.

    Attributes:
        ensemble: answers both questions in raw logits.
        style: from these to log odds, both styles being equally likely.
        whole: to log odds, whole and broken being equally likely.
        novelty: says which pieces are unlike all real music that was learned from.
        broken_prior: of the pieces that come in, the share that is no whole music; of the rest half is of the style.
        spread: of the members' logits that is taken off their mean; the calibrations hold for it alone.
    """

    ensemble: Ensemble
    style: Calibration
    whole: Calibration
    novelty: OutOfDistributionGuard
    broken_prior: float = CORRUPTED_PRIOR
    spread: float = SPREAD

    hears = "traits"

    @property
    def parameters(self) -> int:
        """Weights of all networks."""
        return sum(weight.numel() for network in self.ensemble.networks for weight in network.parameters())

    @classmethod
    def fit(
        cls, train: Material, valid: Material, members: tuple[Member, ...] = MEMBERS, seed: int = 0
    ) -> FeatureModel:
        """Train on one part of the works, calibrate on another.

        Raises:
            ValueError: One of the parts lacks a side.
        """
        ensemble = Ensemble.fit(train, members, seed)
        real = valid.way == ""
        labels = valid.positive[real]
        style = fit_calibration(ensemble.logits(valid.table[real], "style"), labels)
        whole = fit_calibration(ensemble.logits(valid.table, "whole"), real)
        return cls(ensemble, style, whole, OutOfDistributionGuard.fit(train.table[train.way == ""], valid.table[real]))

    def hear(self, notes: Notes) -> tuple[Floats, NDArray[np.bool_]]:
        """(B,) log-probability in nats, and (B,) whether a piece is like anything that was learned from."""
        with threadpool_limits(1):  # the matrices are small: a second thread costs more than it gives
            table = feature_table(notes)
            return self.log_probability(table), self.novelty.distance(table) <= 1

    def log_probability(self, table: Floats) -> Floats:
        """(B,) from `critics.style.ensemble.feature_table`; see the class."""
        whole = self.whole.log_odds(self.ensemble.logits(table, "whole", self.spread)) + np.log(
            1 / self.broken_prior - 1
        )
        out: Floats = self.style.log_probability(self.ensemble.logits(table, "style", self.spread)) + log_expit(whole)
        return out

    # --------------------------------------------------------------- files

    def save(self, folder: Path) -> dict[str, Any]:
        """Write the weights; returns the rest as plain values."""
        tensors = self.ensemble.tensors()
        for part in ("mean", "root"):
            tensors |= {f"novelty.{part}.{name}": torch.from_numpy(value) for name, value in self._part(part).items()}
        save_file({name: value.contiguous() for name, value in tensors.items()}, folder / WEIGHTS)
        return {
            "members": self.ensemble.described(),
            "style": asdict(self.style),
            "whole": asdict(self.whole),
            "broken_prior": self.broken_prior,
            "spread": self.spread,
            "novelty_limit": self.novelty.limit,
        }

    def _part(self, name: str) -> dict[str, Floats]:
        found: dict[str, Floats] = getattr(self.novelty, name)
        return found

    @classmethod
    def load(cls, folder: Path, facts: dict[str, Any]) -> FeatureModel:
        """What `save` wrote.

        Raises:
            KeyError, OSError, RuntimeError, SafetensorError, TypeError, ValueError: Files or values are missing, or do
                not fit each other or the traits of this version.
        """
        tensors = load_file(folder / WEIGHTS)
        parts = {
            part: {
                name.rsplit(".", 1)[1]: value.numpy()
                for name, value in tensors.items()
                if name.startswith(f"novelty.{part}.")
            }
            for part in ("mean", "root")
        }
        limit = dict(facts["novelty_limit"])
        if not parts["mean"].keys() == parts["root"].keys() == limit.keys():
            raise ValueError("the limits of novelty are not those of its weights")
        ensemble = Ensemble.from_tensors(facts["members"], tensors)
        nothing = Notes.concat([])
        known, now = {int(network.columns[-1]) + 1 for network in ensemble.networks}, feature_table(nothing).shape[1]
        if known != {now}:
            raise ValueError(f"it learned from {', '.join(map(str, known))} traits, this version hears {now}")
        style, whole = Calibration(**facts["style"]), Calibration(**facts["whole"])
        novelty = OutOfDistributionGuard(parts["mean"], parts["root"], limit)
        model = cls(ensemble, style, whole, novelty, float(facts["broken_prior"]), float(facts["spread"]))
        model.hear(nothing)  # parts that do not fit are told now, not in the middle of a run
        return model
