"""The evaluation's own judge of style, trained afresh on works that no critic saw.

It has two views, and a piece must pass both: is it the style (against other music), and is it whole (against
the same music broken)? The second is there because chromatic noise reads as jazz to anything that knows only
jazz and other music. It is never stored: the same corpus and seed give the same judge.
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
from mgen.stats.two_sample import FOLDS, Models, auc_interval, folds_of, logits, train
from mgen.transforms.corruptions import CORRUPTIONS

BROKEN = ("markov_pitches", "random_pitches", "two_bar_loop", "one_pitch", "bars_of_others")
"""What the second view knows as broken; shuffled bars are left out, as much of their music is whole."""


@dataclass(frozen=True)
class View:
    """One question: boosting and logistic regression together, calibrated on works they were not fitted on."""

    models: Models
    slope: float
    bias: float

    def probability(self, table: Floats) -> Floats:
        """(B,) probability of yes for each row of features."""
        out: Floats = expit(self.slope * _score(self.models, table) + self.bias)
        return out


@dataclass(frozen=True)
class Judge:
    """How likely a piece is whole music of a style.

    It hears features free of key, tempo, register, velocity and metre. It cannot hear form, but as repetition and
    windows of 32 notes; harmony, but as intervals; swing, but as ratios of times between onsets; nor timbre or
    dynamics. Jazz with its bars shuffled passes as jazz. A piece without notes is no music to it. Optimising
    against it would flatter it like any judge: it must never give reward.

    Attributes:
        name: the style.
        style: target against other music.
        whole: music against the same music broken.
    """

    name: str
    style: View
    whole: View

    def probability(self, notes: Notes) -> Floats:
        """(B,) probability that a piece is of the style, times that of its being whole; 0 without notes."""
        table = features(notes, FORMAT_FREE)
        return np.where(notes.counts > 0, self.style.probability(table) * self.whole.probability(table), 0.0)

    def auc(self, target: Notes, other: Notes, groups_target: ArrayLike, groups_other: ArrayLike) -> Interval:
        """AUC of `probability` between the style and other music, resampled by work; to be stated with verdicts.

        Args:
            target, other: pieces of works that the judge was not trained on.
            groups_target, groups_other: their works.
        """
        score = np.concatenate([self.probability(target), self.probability(other)])
        label, groups = _labelled(target, other, groups_target, groups_other)
        return auc_interval(score, label, groups)


def fit_judge(
    target: Notes,
    other: Notes,
    groups_target: ArrayLike,
    groups_other: ArrayLike,
    seed: int = 0,
    name: str = "jazz",
) -> Judge:
    """Train a judge.

    Args:
        target: pieces of the style, of works that no critic saw, as long as those to be judged.
        other: pieces of other music.
        groups_target, groups_other: their works; pieces of a work are calibrated on together.
        seed: of folds, boosting and what is broken how.
        name: the style.

    Raises:
        MgenError: A side has fewer than two works, or works and pieces differ in number.
    """
    label, groups = _labelled(target, other, groups_target, groups_other)
    rng = np.random.default_rng(seed)
    broken = [_broken(side, rng) for side in (target, other)]
    music, noise = (features(Notes.concat(sides), FORMAT_FREE) for sides in ((target, other), broken))
    return Judge(
        name,
        style=_fit(music, label, groups, seed),
        whole=_fit(
            np.concatenate([music, noise]),
            np.repeat([1, 0], len(label)),
            np.concatenate([groups, groups]),
            seed,
        ),
    )


def _broken(notes: Notes, rng: np.random.Generator) -> Notes:
    """Each piece broken in one way, in the order of the pieces; chains and foreign bars come from all of them."""
    way = rng.permutation(notes.n_pieces) % len(BROKEN)
    every = Notes.concat([CORRUPTIONS[name](notes, rng) for name in BROKEN])
    return every.pieces(way * notes.n_pieces + np.arange(notes.n_pieces))


def _labelled(
    first: Notes, second: Notes, groups_first: ArrayLike, groups_second: ArrayLike
) -> tuple[NDArray[np.int64], NDArray[np.generic]]:
    """Class 1 for pieces of the first table, 0 for the second's; and all works."""
    groups = np.concatenate([np.asarray(groups_first).astype(str), np.asarray(groups_second).astype(str)])
    label = np.repeat([1, 0], [first.n_pieces, second.n_pieces])
    if len(groups) != len(label):
        raise MgenError(f"judge: expected a work for each of {len(label)} pieces, came {len(groups)}")
    return label, groups


def _score(models: Models, table: Floats) -> Floats:
    """(B,) mean log-odds of yes."""
    out: Floats = np.mean([logits(model, table) for model in models], axis=0)
    return out


def _fit(table: Floats, label: NDArray[np.int64], groups: NDArray[np.generic], seed: int) -> View:
    """Fit on everything; slope and bias are those of held-out works (Platt scaling)."""
    fold = folds_of(groups, label, FOLDS, seed)
    score = np.zeros(len(label))
    for held in (fold == number for number in range(int(fold.max()) + 1)):
        score[held] = _score(train(table[~held], label[~held], seed), table[held])
    scaling = LogisticRegression().fit(score[:, None], label)
    return View(train(table, label, seed), float(scaling.coef_[0, 0]), float(scaling.intercept_[0]))
