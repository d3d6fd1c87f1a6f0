"""From a network's raw logit to nats: a scale and a bias, fitted on music it did not learn from.

Knows nothing of music: arrays of logits and labels in, a straight line out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize
from scipy.special import expit, log_expit

from mgen.arrays import Floats

BINS = 15
"""Bins of the expected calibration error, as in Guo et al. 2017, arXiv:1706.04599."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """log P(yes) / P(no) = scale * logit + bias, where yes and no are equally likely beforehand."""

    scale: float = 1.0
    bias: float = 0.0

    def log_odds(self, logits: ArrayLike) -> Floats:
        """log P(yes) / P(no) in nats. At equal priors it is also the log density ratio of the two sides."""
        return self.scale * np.asarray(logits, np.float64) + self.bias

    def log_probability(self, logits: ArrayLike) -> Floats:
        """log P(yes) in nats, at most 0; exact far into both tails."""
        return np.asarray(log_expit(self.log_odds(logits)), np.float64)


def balanced_weights(labels: ArrayLike) -> Floats:
    """(B,) weights with which yes and no count one half each: the prior of every calibration here."""
    yes = np.asarray(labels, bool)
    n_yes, n_no = max(int(yes.sum()), 1), max(int((~yes).sum()), 1)
    return np.where(yes, 0.5 / n_yes, 0.5 / n_no)


def fit_calibration(logits: ArrayLike, labels: ArrayLike) -> Calibration:
    """The scale and bias of greatest likelihood, yes and no weighing one half each.

    Args:
        logits: (B,) raw logits of pieces that the network did not learn from.
        labels: (B,) whether each is a yes.

    Returns:
        A scale of at least 0: a network that is worse than chance becomes silent, it is never turned round.
        Targets are Platt's, (n + 1) / (n + 2) of n pieces and not 1, so that a perfect separation gives a
        finite scale.

    Raises:
        ValueError: One of the two sides is missing.

    Source: Platt 1999, with the numerics of Lin, Lin and Weng 2007, doi:10.1007/s10994-007-5018-6.
    """
    x, yes = np.asarray(logits, np.float64), np.asarray(labels, bool)
    n_yes, n_no = int(yes.sum()), int((~yes).sum())
    if not n_yes or not n_no:
        raise ValueError(f"calibration needs both sides, came {n_yes} yes and {n_no} no")
    weight = balanced_weights(yes)
    target = np.where(yes, (n_yes + 1) / (n_yes + 2), 1 / (n_no + 2))
    centre, spread = float(weight @ x), max(float(np.std(x)), 1e-6)
    z = (x - centre) / spread  # or the step sizes of the search depend on the network's scale

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


def expected_calibration_error(probability: ArrayLike, labels: ArrayLike, bins: int = BINS) -> float:
    """Mean distance between what was said and what was true, over `bins` equal bins of P(yes); 0 is best, 1
    worst.

    Args:
        probability: (B,) P(yes) that was said of each piece.
        labels: (B,) whether it is a yes. Both sides weigh one half.

    Source: Naeini et al. 2015; the variant for a binary P(yes), over all of 0..1.
    """
    said, weight = np.asarray(probability, np.float64), balanced_weights(labels)
    place = np.minimum((said * bins).astype(np.int64), bins - 1)
    gap = np.bincount(place, weight * (said - np.asarray(labels, np.float64)), minlength=bins)
    return float(np.abs(gap).sum() / weight.sum())


def reliability(probability: ArrayLike, labels: ArrayLike, bins: int = BINS) -> list[dict[str, float]]:
    """The reliability diagram: for each of `bins` equal bins of P(yes) that holds a piece, the mean `said`, the share
    `true` and `n`; a calibrated critic lies on said = true. Both sides weigh one half.
    """
    said, yes, weight = np.asarray(probability, np.float64), np.asarray(labels, bool), balanced_weights(labels)
    place = np.minimum((said * bins).astype(np.int64), bins - 1)
    count, total, told, true = (
        np.bincount(place, part, minlength=bins) for part in (np.ones(len(said)), weight, weight * said, weight * yes)
    )
    return [
        {"said": float(told[k] / total[k]), "true": float(true[k] / total[k]), "n": int(count[k])}
        for k in np.flatnonzero(count)
    ]
