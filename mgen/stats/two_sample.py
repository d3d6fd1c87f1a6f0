"""The two-sample test: can a new classifier distinguish generated music from real music?

All settings are constants of the protocol, so that numbers of different models and days can be compared. Both sides
are made equal in number and length first; then two kinds of classifiers, one of features and one of the sequence of
notes, are trained on some works and rank the pieces of others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from mgen.arrays import Floats, divide
from mgen.errors import MgenError
from mgen.music.features import features
from mgen.notes import Bars, Ints, Notes
from mgen.stats.intervals import REPLICATES, Interval, percentile_interval, resamples, work_names
from mgen.stats.sequence_classifier import sequence_ranks

FOLDS = 5
WIDENING = float(np.sqrt(1 + FOLDS / (FOLDS - 1)))
"""Of a cross-validated interval: sqrt(1 + folds * pieces held out / trained on), 1.5."""

QUOTABLE = 512  # pieces per side that are used; with fewer, no two-sample number should be quoted
MAX_NOTES = 100  # notes that are used of each piece, from its beginning

MIN_NOTES = 16
"""Pieces with fewer notes keep their length, which then distinguishes them: they miss the required length."""


@dataclass(frozen=True)
class TwoSample:
    """Result of the two-sample test."""

    feature: Interval  # AUC of the feature model
    sequence: Interval | None  # AUC of the sequence model; None if it was left out
    n: int  # pieces used per side
    notes: float  # mean number of notes used per piece; more notes raise the AUC, so compare equal lengths

    @property
    def larger(self) -> Interval:
        """The larger AUC, reported as `c2st_auc`; the larger of two that are 0.5 is a little above 0.5."""
        if self.sequence is None or self.sequence.value <= self.feature.value:
            return self.feature
        return self.sequence

    @property
    def quotable(self) -> bool:
        """Whether there were enough pieces."""
        return self.n >= QUOTABLE


def boosting(seed: int) -> HistGradientBoostingClassifier:
    """Gradient-boosted trees, small and many; sees single features and their interactions."""
    budget = {"max_iter": 100, "learning_rate": 0.1, "max_leaf_nodes": 8, "l2_regularization": 1.0}
    return HistGradientBoostingClassifier(**budget, early_stopping=False, random_state=seed)


def linear() -> Pipeline:
    """Logistic regression on standardised features; sees weak evidence in many features."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.02, max_iter=500))


Models = tuple[HistGradientBoostingClassifier, Pipeline]
Boost = Callable[[int], HistGradientBoostingClassifier]
"""Seed -> an untrained classifier, such as `boosting`."""


def train(table: Floats, label: NDArray[np.integer], seed: int, boost: Boost = boosting) -> Models:
    """Fits boosting and logistic regression."""
    models = boost(seed), linear()
    # On tables this small a second thread gains little, and on a busy machine it may wait very long.
    with threadpool_limits(1):
        for model in models:
            model.fit(table, label)
    return models


def logits(model: Pipeline | HistGradientBoostingClassifier, table: Floats) -> Floats:
    """(B,) a classifier's log-odds of class 1, in nats."""
    with threadpool_limits(1):
        out: Floats = model.decision_function(table)
    return out


def assign_folds(groups: NDArray[np.generic], label: NDArray[np.integer], folds: int, seed: int) -> NDArray[np.int64]:
    """(B,) fold of each row: no work is split, each fold has about the same share of each class.

    At most as many folds as a class has works.

    Raises:
        MgenError: A class has fewer than two works.
    """
    works = min((len(np.unique(groups[label == side])) for side in (0, 1)), default=0)
    if works < 2:
        raise MgenError(f"expected at least 2 works per side to hold some out, found {works}; give more works")
    split = StratifiedGroupKFold(min(folds, works), shuffle=True, random_state=seed)
    fold = np.empty(len(label), np.int64)
    for number, (_, held) in enumerate(split.split(label[:, None], label, groups)):
        fold[held] = number
    return fold


def auc(score: Floats, label: NDArray[np.integer], weights: Floats) -> Floats:
    """(R,) areas under the ROC curve for R weightings (R, B) of the rows; NaN where a class has no weight.

    AUC is the probability that a row of class 1 scores above a row of class 0; ties count half.
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
    return percentile_interval(value, draws)


def auc_above(
    upper: ArrayLike,
    lower: ArrayLike,
    works_upper: ArrayLike | None = None,
    works_lower: ArrayLike | None = None,
    seed: int = 0,
) -> Interval:
    """Probability that a piece of one set scores above a piece of another, ties half; 95 % interval by work.

    Args:
        upper, lower: (B,) and (C,) scores.
        works_upper, works_lower: works; a work in both sets is drawn for both at once. None: each piece is a work.
        seed: of the resamples.

    Raises:
        MgenError: Scores and works differ in number, or a set is empty.
    """
    sides = [np.asarray(side, np.float64) for side in (upper, lower)]
    if not all(map(len, sides)):
        raise MgenError(f"AUC: expected pieces on both sides, found {len(sides[0])} and {len(sides[1])}")
    works = [
        work_names(works, len(side), name)
        for works, side, name in zip((works_upper, works_lower), sides, ("upper", "lower"), strict=True)
    ]
    label = np.repeat([1, 0], [len(side) for side in sides])
    return auc_interval(np.concatenate(sides), label, np.concatenate(works), seed)


def two_sample(
    real: Notes,
    generated: Notes,
    works_real: ArrayLike,
    works_generated: ArrayLike,
    *,
    seed: int = 0,
    sequence: bool = True,
) -> TwoSample:
    """The two-sample test of the protocol: how well new classifiers distinguish generated from real pieces.

    Number and length of the pieces are made equal (`equal_sides`). Notes of the prompts must be left out.

    Args:
        real: pieces of real music.
        generated: pieces to compare, produced like the real ones (completions of as many tokens, or excerpts from a
            bar line).
        works_real, works_generated: (B,), (C,) works of the real pieces, and those that the generated ones continue, or
            one name per piece. A work on both sides is held out on both at once.
        seed: of the choice of pieces, folds, classifiers and resamples.
        sequence: whether to train the sequence model.

    Raises:
        MgenError: Works and pieces differ in number, a side has fewer than two works, or a time or pitch is not finite.

    Cannot see: velocity, instrument, key, register, absolute tempo, drums except in the metre, and anything beyond the
    first `MAX_NOTES` notes; nor that pieces of at least `MIN_NOTES` notes are shorter than real ones. Odd and even bars
    are counted from a piece's beginning.
    """
    sides = equal_sides(real, generated, works_real, works_generated, seed)
    label, fold = sides.label, assign_folds(sides.work, sides.label, FOLDS, seed)
    ranks = [held_out_ranks(features(sides.notes), label, fold, seed)]
    if sequence:
        ranks.append(sequence_ranks(sides.notes, label, fold, seed))
    aucs = [cross_validated_auc(score, label, sides.work, seed) for score in ranks]
    return TwoSample(aucs[0], aucs[1] if sequence else None, len(label) // 2, len(sides.notes) / len(label))


@dataclass(frozen=True)
class Sides:
    """Both sides in one table, equal in number and length of pieces."""

    notes: Notes  # 2 N pieces, the real ones first
    label: NDArray[np.int64]  # (2 N,) 0 for a real piece, 1 for a generated one
    work: NDArray[np.str_]  # (2 N,) works


def equal_sides(
    real: Notes, generated: Notes, works_real: ArrayLike, works_generated: ArrayLike, seed: int = 0
) -> Sides:
    """Makes both sides equal in number, at most `QUOTABLE`, and in the lengths of their pieces.

    Pieces are drawn evenly from the works, the same on both sides where the works are the same. Each is cut to its
    first `MAX_NOTES` notes. Then the pieces of both sides are paired by rank of length and the longer of each pair is
    cut to the shorter, but not below `MIN_NOTES`; bars after the last note are removed. Times and pitches are rounded
    to whole steps and semitones first, so that rounding noise cannot distinguish the sides.

    Raises:
        MgenError: Works and pieces differ in number, a side is empty, or a time or pitch is not finite.
    """
    works = check_works(real, generated, works_real, works_generated)
    n = min(QUOTABLE, real.n_pieces, generated.n_pieces)
    chosen = [choose_evenly(work, n, np.random.default_rng(seed)) for work in works]
    notes = whole_steps(
        Notes.concat([side.pieces(index) for side, index in zip((real, generated), chosen, strict=True)])
    )
    count = np.minimum(notes.counts, MAX_NOTES)
    order = [side * n + np.argsort(count[side * n : (side + 1) * n], kind="stable") for side in (0, 1)]
    shorter = np.minimum(count[order[0]], count[order[1]])
    length = count.copy()
    for side in order:
        length[side] = np.minimum(count[side], np.maximum(shorter, MIN_NOTES))
    work = np.concatenate([work[index] for work, index in zip(works, chosen, strict=True)])
    return Sides(first_notes(notes, length), np.repeat([0, 1], n), work)


def choose_evenly(work: NDArray[np.str_], n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Chooses n pieces (rising indices): one of every work, a second of every work that has one, and so on."""
    place = rng.permutation(len(work))
    order = place[np.argsort(work[place], kind="stable")]
    turn = np.empty(len(work), np.int64)
    turn[order] = np.arange(len(work)) - np.searchsorted(work[order], work[order])
    return np.sort(np.lexsort((place.argsort(), turn))[:n])


def check_works(
    real: Notes, generated: Notes, works_real: ArrayLike, works_generated: ArrayLike
) -> tuple[NDArray[np.str_], NDArray[np.str_]]:
    """Returns the works of both sides as strings.

    Raises:
        MgenError: Works and pieces differ in number, or a side is empty.
    """
    works = np.asarray(works_real).astype(str), np.asarray(works_generated).astype(str)
    for name, notes, work in zip(("real", "generated"), (real, generated), works, strict=True):
        if work.shape != (notes.n_pieces,):
            raise MgenError(f"c2st: expected a work for each of {notes.n_pieces} {name} pieces, found {work.size}")
        if not notes.n_pieces:
            raise MgenError(f"c2st: expected {name} pieces, found none; give at least 2 of different works")
    return works


def whole_steps(notes: Notes) -> Notes:
    """Rounds to whole grid steps and semitones."""

    def whole(part: Notes | Bars, name: str) -> Ints:
        values = getattr(part, name)
        if not np.isfinite(values).all():
            lost = int((~np.isfinite(values)).sum())
            raise MgenError(f"c2st: {lost} values of {name} are not finite; leave them out")
        rounded: Ints = np.rint(values).astype(np.int32)
        return rounded

    bars = replace(notes.bars, onset=whole(notes.bars, "onset"), beats=whole(notes.bars, "beats"))
    onset, duration, bar, pitch = (whole(notes, name) for name in ("onset", "duration", "bar", "pitch"))
    return replace(notes, onset=onset, duration=duration, bar=bar, pitch=pitch, bars=bars)


def first_notes(notes: Notes, length: NDArray[np.integer]) -> Notes:
    """Cuts each piece to its first `length` (B,) notes and the bars up to the last of them."""
    return notes.select(np.arange(len(notes)) - notes.starts[notes.piece] < length[notes.piece]).trimmed()


def held_out_ranks(
    table: Floats, label: NDArray[np.integer], fold: NDArray[np.integer], seed: int, boost: Boost = boosting
) -> Floats:
    """(B,) mean rank, 0..1 within its fold, from boosting and logistic regression trained on the other folds."""
    score = np.zeros(len(table))
    for held in (fold == number for number in range(int(fold.max()) + 1)):
        for model in train(table[~held], label[~held], seed, boost):
            score[held] += (rankdata(logits(model, table[held])) - 0.5) / held.sum() / 2
    return score


def cross_validated_auc(score: Floats, label: NDArray[np.integer], groups: NDArray[np.generic], seed: int) -> Interval:
    """AUC of held-out scores, 0.5 is chance, with an interval by work that is widened by `WIDENING`.

    Folds share training data, so values vary more than resampled pieces do: 1.3 times, measured on real against real.

    Source: Lopez-Paz and Oquab 2017, arXiv:1610.06545; Nadeau and Bengio 2003 for the widening.
    """
    found = auc_interval(score, label, groups, seed)
    low, high = (found.value + WIDENING * (end - found.value) for end in (found.low, found.high))
    return Interval(found.value, max(low, 0.0), min(high, 1.0))
