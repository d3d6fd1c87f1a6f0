"""Calibration of a network's raw logits to nats: a scale and a bias, fitted on pieces outside its training set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize
from scipy.special import expit, log_expit

from mgen.arrays import Floats
from mgen.stored import finite

BINS = 15  # Bins of the expected calibration error, as in Guo et al. 2017, arXiv:1706.04599


@dataclass(frozen=True, slots=True)
class Calibration:
    """log P(yes) / P(no) = scale * logit + bias, at equal priors of yes and no."""

    scale: float = 1.0
    bias: float = 0.0

    def log_odds(self, logits: ArrayLike) -> Floats:
        """log P(yes) / P(no) in nats, which at equal priors is also the log density ratio of the two classes."""
        return self.scale * np.asarray(logits, np.float64) + self.bias

    def log_probability(self, logits: ArrayLike) -> Floats:
        """log P(yes) in nats, at most 0; exact far into both tails."""
        return np.asarray(log_expit(self.log_odds(logits)), np.float64)


def read_calibration(facts: Mapping[str, Any]) -> Calibration:
    """A calibration that was stored as plain values.

    Raises:
        KeyError, TypeError, ValueError: A number is missing or not finite.
    """
    return Calibration(finite(facts["scale"]), finite(facts["bias"]))


def balanced_weights(labels: ArrayLike) -> Floats:
    """(B,) weights that sum to one half for yes and for no: the prior of every calibration here."""
    yes = np.asarray(labels, bool)
    n_yes, n_no = max(int(yes.sum()), 1), max(int((~yes).sum()), 1)
    return np.where(yes, 0.5 / n_yes, 0.5 / n_no)


def fit_calibration(logits: ArrayLike, labels: ArrayLike) -> Calibration:
    """Fits scale and bias by maximum likelihood, yes and no weighing one half each.

    Args:
        logits: (B,) raw logits of pieces outside the network's training set.
        labels: (B,) whether each is a yes.

    Returns:
        A scale of at least 0: a network worse than chance gets a constant output, never an inverted one. Targets are
        Platt's, (n + 1) / (n + 2) of n pieces and not 1, so that a perfect separation gives a finite scale.

    Raises:
        ValueError: One of the two classes is missing.

    Source: Platt 1999, with the numerics of Lin, Lin and Weng 2007, doi:10.1007/s10994-007-5018-6.
    """
    x, yes = np.asarray(logits, np.float64), np.asarray(labels, bool)
    n_yes, n_no = int(yes.sum()), int((~yes).sum())
    if not n_yes or not n_no:
        raise ValueError(f"calibration: expected pieces of both classes, found {n_yes} yes and {n_no} no")
    weight = balanced_weights(yes)
    target = np.where(yes, (n_yes + 1) / (n_yes + 2), 1 / (n_no + 2))
    centre, spread = float(weight @ x), max(float(np.std(x)), 1e-6)
    z = (x - centre) / spread  # so that the search does not depend on the network's scale

    def nats(line: Floats) -> tuple[float, Floats]:
        odds = line[0] * z + line[1]
        loss = -(target * log_expit(odds) + (1 - target) * log_expit(-odds))
        slope = weight * (expit(odds) - target)
        return float(weight @ loss), np.array([slope @ z, slope.sum()])

    found = minimize(
        nats,
        np.array([1.0, 0.0]),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0, None), (None, None)],
        options={"gtol": 1e-10, "ftol": 1e-15, "maxiter": 1000},
    )
    scale = float(found.x[0]) / spread
    return Calibration(scale, float(found.x[1]) - scale * centre)


def expected_calibration_error(probability: ArrayLike, labels: ArrayLike) -> float:
    """Mean distance between predicted and observed P(yes), over `BINS` equal bins; 0 is best, 1 worst.

    Args:
        probability: (B,) predicted P(yes) of each piece.
        labels: (B,) whether it is a yes. Both classes weigh one half.

    Source: Naeini et al. 2015; the variant for a binary P(yes), over all of 0..1.
    """
    predicted, weight = np.asarray(probability, np.float64), balanced_weights(labels)
    place = np.minimum((predicted * BINS).astype(np.int64), BINS - 1)
    gap = np.bincount(place, weight * (predicted - np.asarray(labels, np.float64)))
    return float(np.abs(gap).sum() / weight.sum())


def reliability(probability: ArrayLike, labels: ArrayLike, bins: int = BINS) -> list[dict[str, float]]:
    """The reliability diagram: one entry for each of `bins` equal bins of P(yes) that holds a piece.

    Returns:
        The mean `predicted` P(yes), the `observed` share of yes and the number of pieces `n` of each bin. A calibrated
        critic has predicted = observed. Both classes weigh one half.
    """
    predicted, yes = np.asarray(probability, np.float64), np.asarray(labels, bool)
    weight = balanced_weights(labels)
    place = np.minimum((predicted * bins).astype(np.int64), bins - 1)
    masses = (weight, weight * predicted, weight * yes)
    total, mean, share = (np.bincount(place, mass, minlength=bins) for mass in masses)
    count = np.bincount(place, minlength=bins)
    return [
        {"predicted": float(mean[k] / total[k]), "observed": float(share[k] / total[k]), "n": int(count[k])}
        for k in np.flatnonzero(count)
    ]
