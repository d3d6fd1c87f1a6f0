"""The evaluation's judge of style, trained for each evaluation on works that no critic saw.

It is two classifiers, and a piece must pass both: target style against other music, and intact against corrupted music.
The second is needed because chromatic noise passes as jazz for a classifier that has seen only jazz and other music.
The judge is not stored: the same corpus and seed give the same judge.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from mgen.arrays import Floats
from mgen.errors import MgenError
from mgen.music.features import FORMAT_FREE, features
from mgen.notes import Notes
from mgen.stats.intervals import Interval
from mgen.stats.two_sample import FOLDS, Models, assign_folds, auc_interval, logits, train
from mgen.transforms.corruptions import CORRUPTIONS

CORRUPTED = ("markov_pitches", "random_pitches", "two_bar_loop", "one_pitch", "bars_of_others")
"""Corruptions of the second classifier's negatives; not shuffled bars, because most of their music is intact."""


@dataclass(frozen=True)
class Classifier:
    """Boosting and logistic regression averaged, calibrated on works that they were not fitted on."""

    models: Models
    slope: float
    bias: float

    def probability(self, table: Floats) -> Floats:
        """(B,) probability of class 1 for each row of features."""
        out: Floats = expit(self.slope * _mean_logits(self.models, table) + self.bias)
        return out


@dataclass(frozen=True)
class EvaluationJudge:
    """Probability that a piece is intact music of the target style.

    Its features are free of key, tempo, register, velocity and metre. Blind to form (except repetition and windows of
    32 notes), to harmony (except intervals), to swing (except ratios of inter-onset times), to timbre and dynamics:
    jazz with shuffled bars passes. A piece without notes has probability 0. It must never give reward, because a
    policy optimised against it would exploit it.
    """

    style: str  # name of the target style
    style_classifier: Classifier  # target style against other music
    intact_classifier: Classifier  # music against the same music corrupted

    def probability(self, notes: Notes) -> Floats:
        """(B,) probability of the style times probability of being intact; 0 without notes."""
        table = features(notes, FORMAT_FREE)
        both = self.style_classifier.probability(table) * self.intact_classifier.probability(table)
        return np.where(notes.counts > 0, both, 0.0)

    def auc(self, target: Notes, other: Notes, groups_target: ArrayLike, groups_other: ArrayLike) -> Interval:
        """AUC of `probability` between the style and other music, with a bootstrap by work.

        Args:
            target, other: pieces of works that the judge was not trained on.
            groups_target, groups_other: their works.
        """
        score = np.concatenate([self.probability(target), self.probability(other)])
        label, groups = _labels(target, other, groups_target, groups_other)
        return auc_interval(score, label, groups)


def fit_judge(
    target: Notes, other: Notes, groups_target: ArrayLike, groups_other: ArrayLike, *, style: str, seed: int = 0
) -> EvaluationJudge:
    """Trains a judge.

    Args:
        target: pieces of the style, of works that no critic saw, as long as those to be judged.
        other: pieces of other music.
        groups_target, groups_other: their works; calibration folds keep the pieces of a work together.
        style: name of the target style.
        seed: of folds, boosting and corruptions.

    Raises:
        MgenError: A side has fewer than two works, or works and pieces differ in number.
    """
    label, groups = _labels(target, other, groups_target, groups_other)
    rng = np.random.default_rng(seed)
    corrupted = [_corrupt(side, rng) for side in (target, other)]
    music, noise = (features(Notes.concat(sides), FORMAT_FREE) for sides in ((target, other), corrupted))
    return EvaluationJudge(
        style,
        style_classifier=_fit(music, label, groups, seed),
        intact_classifier=_fit(
            np.concatenate([music, noise]), np.repeat([1, 0], len(label)), np.concatenate([groups, groups]), seed
        ),
    )


def _corrupt(notes: Notes, rng: np.random.Generator) -> Notes:
    """Corrupts each piece in one way, in order; chains and foreign bars are drawn from all pieces."""
    way = rng.permutation(notes.n_pieces) % len(CORRUPTED)
    every = Notes.concat([CORRUPTIONS[name](notes, rng) for name in CORRUPTED])
    return every.pieces(way * notes.n_pieces + np.arange(notes.n_pieces))


def _labels(
    first: Notes, second: Notes, groups_first: ArrayLike, groups_second: ArrayLike
) -> tuple[NDArray[np.int64], NDArray[np.generic]]:
    """Labels, 1 for the first pieces and 0 for the second, and the works of both."""
    groups = np.concatenate([np.asarray(groups_first).astype(str), np.asarray(groups_second).astype(str)])
    label = np.repeat([1, 0], [first.n_pieces, second.n_pieces])
    if len(groups) != len(label):
        raise MgenError(f"judge: expected a work for each of {len(label)} pieces, found {len(groups)}")
    return label, groups


def _mean_logits(models: Models, table: Floats) -> Floats:
    """(B,) mean log-odds of class 1."""
    out: Floats = np.mean([logits(model, table) for model in models], axis=0)
    return out


def _fit(table: Floats, label: NDArray[np.int64], groups: NDArray[np.generic], seed: int) -> Classifier:
    """Fits on all pieces; slope and bias come from held-out folds (Platt scaling)."""
    fold = assign_folds(groups, label, FOLDS, seed)
    score = np.zeros(len(label))
    for held_out in (fold == number for number in range(int(fold.max()) + 1)):
        score[held_out] = _mean_logits(train(table[~held_out], label[~held_out], seed), table[held_out])
    scaling = LogisticRegression().fit(score[:, None], label)
    return Classifier(train(table, label, seed), float(scaling.coef_[0, 0]), float(scaling.intercept_[0]))
