"""How well yes or no is predicted by scores, with intervals by resampling whole groups.

Scores are logits, counted in bins 1/32 wide: millions of examples become a small table, every measure is a sum over it,
and a resample is a weighted sum of tables. Scores in one bin count as equal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mgen.arrays import Floats, divide
from mgen.stats.intervals import REPLICATES, Interval, percentile_interval, resamples, undefined_interval

BINS, LIMIT = 1024, 16.0  # logits beyond +-16 are in the outermost bins
CENTRES: Floats = (np.arange(BINS) + 0.5) * 2 * LIMIT / BINS - LIMIT  # (BINS,) logits
EVEN = BINS // 2  # first bin of probabilities of at least one half


def bin_of(logits: Tensor) -> Tensor:
    """The bin of each logit, int64."""
    return ((logits.float() + LIMIT) * (BINS / (2 * LIMIT))).long().clamp(0, BINS - 1)


def count_scores(logits: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """(B, 2, BINS) int32 examples of each row by truth (no, yes) and bin.

    Args:
        logits, truth, mask: (B, ...) of one shape; where the mask is False nothing is counted.
    """
    rows = len(logits)
    row = torch.arange(rows, device=logits.device).view(-1, *[1] * (logits.ndim - 1))
    cell = ((row * 2 + truth.long()) * BINS + bin_of(logits))[mask]
    return torch.bincount(cell, minlength=rows * 2 * BINS).view(rows, 2, BINS).int()


@dataclass(frozen=True, slots=True)
class ScoreCounts:
    """Examples of each of G groups by bin."""

    no: Floats  # (G, BINS) examples that are no
    yes: Floats  # (G, BINS) examples that are yes

    @classmethod
    def of(cls, counts: NDArray[np.integer], groups: NDArray[np.integer] | None = None) -> ScoreCounts:
        """Sums tables (N, 2, BINS) over the groups (N,) of their rows, 0 upwards; one group by default."""
        groups = np.zeros(len(counts), np.int64) if groups is None else groups
        total = np.zeros((int(groups.max(initial=0)) + 1, 2, BINS))
        np.add.at(total, groups, counts)
        return cls(total[:, 0], total[:, 1])

    def precision(self, weights: Floats, least: int) -> Floats:
        """(R,) share of yes among the examples in bins from `least` on; NaN without any."""
        hits, alarms = self._from(weights, least)
        return divide(hits, hits + alarms)

    def recall(self, weights: Floats, least: int) -> Floats:
        """(R,) share of the yes in bins from `least` on; NaN without any yes."""
        return divide(self._from(weights, least)[0], weights @ self.yes.sum(axis=1))

    def f1(self, weights: Floats, least: int) -> Floats:
        """(R,) harmonic mean of precision and recall; 0 if nothing is found."""
        hits, alarms = self._from(weights, least)
        return divide(2 * hits, hits + alarms + weights @ self.yes.sum(axis=1))

    def average_precision(self, weights: Floats) -> Floats:
        """(R,) mean precision over the yes, by falling score, as in scikit-learn; NaN without any yes."""
        yes, no = (weights @ of[:, ::-1] for of in (self.yes, self.no))
        hits = np.cumsum(yes, axis=1)
        precision = np.nan_to_num(divide(hits, hits + np.cumsum(no, axis=1)))
        return divide((precision * yes).sum(axis=1), hits[:, -1])

    def mean_loss(self, weights: Floats, no: Floats, yes: Floats) -> Floats:
        """(R,) mean over the examples of a loss that is `no` and `yes` (BINS,) at the centres of the bins."""
        return divide(weights @ (self.no @ no + self.yes @ yes), weights @ (self.no + self.yes).sum(axis=1))

    def best_threshold(self) -> tuple[int, float]:
        """The bin from which on yes is predicted that gives the highest F1 over all groups, and that F1."""
        yes, no = (np.cumsum(of.sum(axis=0)[::-1])[::-1] for of in (self.yes, self.no))
        f1 = np.nan_to_num(divide(2 * yes, yes + no + yes[0]))
        return int(f1.argmax()), float(f1.max())

    def _from(self, weights: Floats, least: int) -> tuple[Floats, Floats]:
        """(R,) yes and (R,) no in bins from `least` on."""
        found = weights @ self.yes[:, least:].sum(axis=1), weights @ self.no[:, least:].sum(axis=1)
        return cast(tuple[Floats, Floats], found)


def detection_scores(counts: ScoreCounts, least: int, loss: tuple[Floats, Floats]) -> dict[str, Interval]:
    """F1, precision, recall, average precision and loss with 95 % intervals over groups.

    Args:
        least: bin from which on yes is predicted.
        loss: of a no and of a yes, (BINS,) each.
    """
    functions: dict[str, Callable[[Floats], Floats]] = {
        "f1": lambda weights: counts.f1(weights, least),
        "precision": lambda weights: counts.precision(weights, least),
        "recall": lambda weights: counts.recall(weights, least),
        "average_precision": counts.average_precision,
        "loss": lambda weights: counts.mean_loss(weights, *loss),
    }
    groups = len(counts.yes)
    blocks = list(resamples(np.arange(groups), REPLICATES, seed=0))
    scores = {}
    for name, function in functions.items():
        value = float(function(np.ones((1, groups)))[0])
        draws = np.concatenate([function(weights) for weights in blocks])
        scores[name] = undefined_interval() if np.isnan(value) else percentile_interval(value, draws)
    return scores
