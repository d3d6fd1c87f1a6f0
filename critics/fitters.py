"""Critics that are cheap to train anew for every pair of collections: classifiers on tables of features."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from critics.changes import augmented
from critics.excerpts import Collected
from critics.transfer import Fitter, Mask, Trained
from mgen.evaluation.features import FORMAT_FREE, features
from mgen.evaluation.intervals import Floats
from mgen.evaluation.two_sample import boosting, linear
from mgen.notes import Notes

Table = Callable[[Notes], Floats]
"""(B, F) numbers of each piece, each judged alone."""


def on_table(table: Table, copies: int = 0) -> Fitter:
    """Boosting and logistic regression on a table of features; the score is the mean of their log-odds.

    Both sides weigh one half, and so do the collections of a side among themselves.

    Args:
        table: what is heard of a piece.
        copies: copies of each training excerpt in other formats (`critics.changes.augmented`), beside the excerpt.
    """

    def fitter(excerpts: Collected, seed: int) -> Trained:
        rng = np.random.default_rng([seed, 1])
        tables = [table(excerpts.notes)]
        tables += [table(augmented(excerpts.notes, rng)) for _ in range(copies)]

        def trained(train: Mask, test: Mask, seed: int) -> Floats:
            heard = np.concatenate([part[train] for part in tables])
            label = np.tile(excerpts.positive[train].astype(np.int64), len(tables))
            weight = np.tile(collection_weights(excerpts.positive[train], excerpts.collection[train]), len(tables))
            trees, line = boosting(seed), linear()
            with threadpool_limits(1):
                trees.fit(heard, label, sample_weight=weight)
                line.fit(heard, label, logisticregression__sample_weight=weight)
                parts = [model.decision_function(tables[0][test]) for model in (trees, line)]
            score: Floats = np.mean(parts, axis=0)
            return score

        return trained

    return fitter


def collection_weights(positive: NDArray[np.bool_], collection: NDArray[np.str_]) -> Floats:
    """(B,) weights, 1 on average, with which the sides count alike, and the collections of a side too."""
    out = np.zeros(len(positive))
    for side in (True, False):
        names = np.unique(collection[positive == side])
        for name in names:
            own = (positive == side) & (collection == name)
            out[own] = len(out) / 2 / len(names) / own.sum()
    return out


def music_features(notes: Notes) -> Floats:
    """Features without velocity, metre, key and tempo."""
    return features(notes, FORMAT_FREE)
