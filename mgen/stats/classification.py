"""How well classes are predicted, with intervals by resampling whole songs."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mgen.arrays import Floats, divide
from mgen.stats.intervals import REPLICATES, Interval, percentile_interval, resamples, undefined_interval

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Counts:
    """Examples of K classes in each of G groups."""

    support: Floats  # (G, K) examples of each class
    hits: Floats  # (G, K) of them predicted right
    predicted: Floats  # (G, K) predictions of each class

    @classmethod
    def of(cls, truth: Ints, predicted: Ints, n_classes: int, groups: Ints | None = None) -> Counts:
        """Counts N examples: right class, predicted class and group, each (N,)."""
        groups = np.zeros(len(truth), np.int64) if groups is None else groups
        shape = int(groups.max(initial=0)) + 1, n_classes

        def count(classes: Ints, rows: Ints) -> Floats:
            found = np.bincount(rows * n_classes + classes, minlength=shape[0] * n_classes)
            return found.reshape(shape).astype(np.float64)

        right = truth == predicted
        return cls(count(truth, groups), count(truth[right], groups[right]), count(predicted, groups))

    def accuracy(self, weights: Floats) -> Floats:
        """(R,) share of right predictions, for weights (R, G) of the groups."""
        return divide(weights @ self.hits.sum(axis=1), weights @ self.support.sum(axis=1))

    def balanced_accuracy(self, weights: Floats, classes: NDArray[np.bool_]) -> Floats:
        """(R,) mean recall of those of the `classes` (K,) that have examples under the weights (R, G)."""
        recall = divide(weights @ self.hits, weights @ self.support)[:, classes]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a resample without any example: NaN
            mean: Floats = np.nanmean(recall, axis=1) if recall.shape[1] else np.full(len(weights), np.nan)
        return mean

    def recall(self, weights: Floats, label: int) -> Floats:
        """(R,) share of the examples of a class that are predicted as such; NaN without any."""
        return divide(weights @ self.hits[:, label], weights @ self.support[:, label])

    def precision(self, weights: Floats, label: int) -> Floats:
        """(R,) share of the predictions of a class that are right; NaN without any."""
        return divide(weights @ self.hits[:, label], weights @ self.predicted[:, label])


def classification_scores(counts: Counts, classes: NDArray[np.bool_], label: int | None = None) -> dict[str, Interval]:
    """Accuracy and balanced accuracy, and precision and recall of one class, with 95 % intervals over groups.

    Args:
        classes: (K,) those that balanced accuracy averages over, as far as they have examples.
        label: the class of precision and recall; None for neither.
    """
    functions: dict[str, Callable[[Floats], Floats]] = {
        "accuracy": counts.accuracy,
        "balanced_accuracy": lambda weights: counts.balanced_accuracy(weights, classes),
    }
    if label is not None:
        functions["precision"] = lambda weights: counts.precision(weights, label)
        functions["recall"] = lambda weights: counts.recall(weights, label)
    groups = len(counts.support)
    blocks = list(resamples(np.arange(groups), REPLICATES, seed=0))
    whole = np.ones((1, groups))
    scores = {}
    for name, function in functions.items():
        value = float(function(whole)[0])
        draws = np.concatenate([function(weights) for weights in blocks])
        scores[name] = undefined_interval() if np.isnan(value) else percentile_interval(value, draws)
    return scores
