"""The two-sample test: can a fresh classifier tell generated music from real music?

Everything here is a constant of the protocol, so that numbers of different models and days can be compared.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from mgen.errors import MgenError
from mgen.evaluation.intervals import REPLICATES, TAIL, Floats, Interval, resamples
from mgen.evaluation.metrics import divide

FOLDS = 5
WIDENING = float(np.sqrt(1 + FOLDS / (FOLDS - 1)))
"""Of a cross-validated interval: sqrt(1 + folds * pieces held out / trained on), 1.5."""

QUOTABLE = 512
"""Pieces a side below which no two-sample number should be quoted."""


def boosting(seed: int) -> HistGradientBoostingClassifier:
    """Gradient-boosted trees, small and many; sees single features and how they go together."""
    return HistGradientBoostingClassifier(
        max_iter=100,
        learning_rate=0.1,
        max_leaf_nodes=8,
        l2_regularization=1.0,
        early_stopping=False,
        random_state=seed,
    )


def linear() -> Pipeline:
    """Logistic regression on standardised features; sees what many features say faintly."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.02, max_iter=500))


Models = tuple[HistGradientBoostingClassifier, Pipeline]


def train(table: Floats, label: NDArray[np.integer], seed: int) -> Models:
    """Boosting and logistic regression, fitted."""
    models = boosting(seed), linear()
    # On tables this small a second thread gains little, and where another process has the core it waits without end.
    with threadpool_limits(1):
        for model in models:
            model.fit(table, label)
    return models


def logits(model: Pipeline | HistGradientBoostingClassifier, table: Floats) -> Floats:
    """(B,) a classifier's log-odds of class 1, in nats."""
    with threadpool_limits(1):
        out: Floats = model.decision_function(table)
    return out


def folds_of(groups: NDArray[np.generic], label: NDArray[np.integer], folds: int, seed: int) -> NDArray[np.int64]:
    """(B,) fold of each row: works stay whole, each fold has about the same share of each class.

    Fewer folds where a class has fewer works than that.

    Raises:
        MgenError: A class has fewer than two works.
    """
    works = min((len(np.unique(groups[label == side])) for side in (0, 1)), default=0)
    if works < 2:
        raise MgenError(f"expected at least 2 works a side to hold some out, came {works}; give more works")
    split = StratifiedGroupKFold(min(folds, works), shuffle=True, random_state=seed)
    fold = np.empty(len(label), np.int64)
    for number, (_, held) in enumerate(split.split(label[:, None], label, groups)):
        fold[held] = number
    return fold


def auc(score: Floats, label: NDArray[np.integer], weights: Floats) -> Floats:
    """(R,) areas under the ROC curve for R weightings (R, B) of the rows; NaN where a class has no weight.

    AUC is the chance that a row of class 1 scores above a row of class 0; ties count half.
    """
    order = np.argsort(score, kind="stable")
    _, tie = np.unique(score[order], return_inverse=True)
    ends = np.flatnonzero(np.append(np.diff(tie) > 0, True))
    weights = weights[:, order]
    up, down = weights * (label[order] == 1), weights * (label[order] == 0)
    # Both at the end of each run of equal scores; a trapezoid between two ends counts ties half.
    reached = [np.pad(np.cumsum(side, axis=1)[:, ends], ((0, 0), (1, 0))) for side in (up, down)]
    area = ((reached[1][:, 1:] + reached[1][:, :-1]) / 2 * np.diff(reached[0], axis=1)).sum(axis=1)
    return divide(area, reached[0][:, -1] * reached[1][:, -1])


def auc_interval(score: Floats, label: NDArray[np.integer], groups: NDArray[np.generic], seed: int = 0) -> Interval:
    """AUC with its bootstrap interval, resampled by work."""
    value = float(auc(score, label, np.ones((1, len(score))))[0])
    draws = np.concatenate([auc(score, label, weights) for weights in resamples(groups, REPLICATES, seed)])
    low, high = np.nanquantile(draws, (TAIL, 1 - TAIL)).tolist()
    return Interval(value, low, high)


def c2st_auc(
    real: Floats, generated: Floats, groups_real: ArrayLike, groups_generated: ArrayLike, seed: int = 0
) -> Interval:
    """How well a fresh classifier tells held-out generated from real pieces: AUC, 0.5 is not at all.

    Boosting and logistic regression are each trained on four fifths of the works and rank the held-out fifth;
    the mean of their ranks is the score. A work that is in both sets lies in one fold, and is resampled as one.
    Folds share what they are trained on, so values spread more than resampled pieces do (1.3 times, measured on
    real against real): both ends of the interval are moved away from the value by the factor `WIDENING`.

    Args:
        real: (N, F) features of real pieces.
        generated: (M, F) features of generated pieces, which should be as many and as long.
        groups_real: (N,) works of the real pieces.
        groups_generated: (M,) works that the generated pieces continue; a name each where there are none.
        seed: of folds, boosting and resamples.

    Raises:
        MgenError: Sets of different features, NaN features, or fewer than two works a side.

    Source: Lopez-Paz and Oquab 2017, arXiv:1610.06545; Nadeau and Bengio 2003 for the widening.
    """
    real, generated = np.atleast_2d(real), np.atleast_2d(generated)
    if real.shape[1] != generated.shape[1]:
        raise MgenError(f"c2st: real has {real.shape[1]} features, generated {generated.shape[1]}; use the same groups")
    table = np.concatenate([real, generated])
    if not np.isfinite(table).all():
        raise MgenError(
            f"c2st: {int((~np.isfinite(table)).sum())} features are not finite; use mgen.evaluation.features"
        )
    label = np.repeat([0, 1], [len(real), len(generated)])
    groups = np.concatenate([np.asarray(groups_real).astype(str), np.asarray(groups_generated).astype(str)])
    if len(groups) != len(table):
        raise MgenError(f"c2st: expected a work for each of {len(table)} pieces, came {len(groups)}")
    fold = folds_of(groups, label, FOLDS, seed)
    score = np.zeros(len(table))
    for held in (fold == number for number in range(int(fold.max()) + 1)):
        for model in train(table[~held], label[~held], seed):
            rank = rankdata(logits(model, table[held]))
            score[held] += (rank - 0.5) / held.sum()
    found = auc_interval(score, label, groups, seed)
    low, high = (found.value + WIDENING * (end - found.value) for end in (found.low, found.high))
    return Interval(found.value, max(low, 0.0), min(high, 1.0))
