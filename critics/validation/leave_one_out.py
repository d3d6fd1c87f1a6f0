"""Leave-one-collection-out: how well a critic recognises a style in collections that it was not trained on.

A held-out AUC says little about a style critic, because it learns first who made a file. So for every pair of a
collection of the style and another one, a critic is trained on all other collections and classifies these two. Knows
nothing about how a critic is trained: that is a `Fitter`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from critics.style.excerpts import Excerpts
from mgen.arrays import Floats, Mask, divide
from mgen.errors import MgenError
from mgen.notes import Notes
from mgen.progress import Progress, counted, silent
from mgen.stats.intervals import REPLICATES, Interval, percentile_interval, resamples
from mgen.stats.two_sample import auc

MIN_PIECES = 30  # pieces of a collection below which it is only trained on
PERFORMED, ON_GRID, ACROSS, ALL = "performed", "on grid", "across", "all"
PAIR_TYPES = (PERFORMED, ON_GRID, ACROSS)

Scorer = Callable[[Mask, Mask, int], Floats]
"""Excerpts to train on (B,), excerpts to score (B,), seed -> (T,) scores of the latter, higher for the style."""

Fitter = Callable[[Excerpts, int], Scorer]
"""All excerpts and a seed -> how to train on some of them and score others.

What it computes from an excerpt beforehand (features, augmented copies, hard negatives) may depend only on that excerpt
and its own collection: then it is computed once, and no held-out music enters the training.
"""


def by_critic(fit: Callable[[Excerpts, int], Callable[[Notes], Floats]]) -> Fitter:
    """A fitter from a function that trains one critic on excerpts, for each pair from the beginning."""

    def fitter(excerpts: Excerpts, seed: int) -> Scorer:
        def score(train: Mask, test: Mask, seed: int) -> Floats:
            critic = fit(excerpts.rows(train), seed)
            return critic(excerpts.notes.pieces(np.flatnonzero(test)))

        return score

    return fitter


@dataclass(frozen=True, slots=True, eq=False)
class CollectionPart:
    """The excerpts of a collection on one side, performed or on grid: a row or column of the matrix."""

    name: str
    collection: str
    positive: bool
    on_grid: bool
    member: Mask  # (B,)


def collection_parts(excerpts: Excerpts, min_pieces: int = MIN_PIECES) -> list[CollectionPart]:
    """Splits collections into their performed and on-grid parts, those with at least `min_pieces` pieces.

    A collection with two such parts gives `NAME performed` and `NAME on grid`, any other its name alone.
    """
    out: list[CollectionPart] = []
    for name in np.unique(excerpts.collection).tolist():
        for positive in (True, False):
            own = (excerpts.collection == name) & (excerpts.positive == positive)
            members = {on_grid: own & (excerpts.on_grid == on_grid) for on_grid in (False, True)}
            large = [on_grid for on_grid, m in members.items() if len(np.unique(excerpts.path[m])) >= min_pieces]
            for on_grid in large:
                label = f"{name} {ON_GRID if on_grid else PERFORMED}" if len(large) > 1 else name
                out.append(CollectionPart(label, name, positive, on_grid, members[on_grid]))
    return out


def collection_pairs(parts: Sequence[CollectionPart]) -> Iterator[tuple[CollectionPart, CollectionPart, str]]:
    """Every part of the style with every other one, and the type of the pair."""
    for a in parts:
        for b in parts:
            if a.positive and not b.positive:
                yield a, b, (ON_GRID if a.on_grid else PERFORMED) if a.on_grid == b.on_grid else ACROSS


@dataclass(frozen=True, slots=True)
class PairResult:
    """How well a critic separates two collections that it was not trained on."""

    positive: str
    other: str
    type: str  # `performed` or `on grid` where both are, else `across`
    auc: Interval  # with its interval, resampled by work
    n: tuple[int, int]  # excerpts of the positive and of the other collection
    trained_on: int  # excerpts in the training set

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "n": list(self.n), "auc": self.auc.to_json()}


@dataclass(frozen=True, slots=True)
class LeaveOneOutMatrix:
    """All pairs, and their mean over all and over each type."""

    pairs: tuple[PairResult, ...]
    # `all` and pair types -> mean AUC, with the interval from resampling works in all collections at once: it holds for
    # other pieces of these collections, not for other collections.
    mean: dict[str, Interval]

    def minimum(self, pair_type: str = ALL) -> PairResult:
        """The pair with the lowest AUC, of one type or of all."""
        return min((pair for pair in self.pairs if pair_type in (ALL, pair.type)), key=lambda pair: pair.auc.value)

    def to_json(self) -> dict[str, Any]:
        """`mean` and `minimum` of all and of each type, and `pairs`."""
        lowest = {name: self.minimum(name) for name in self.mean}
        return {
            "mean": {name: value.to_json() for name, value in self.mean.items()},
            "minimum": {k: {"positive": p.positive, "other": p.other, **p.auc.to_json()} for k, p in lowest.items()},
            "pairs": [pair.to_json() for pair in self.pairs],
        }


def training_mask(excerpts: Excerpts, *held_out: str) -> Mask:
    """(B,) excerpts to train on when the collections `held_out` are to be scored.

    Held out are these collections, and every work and every song, by its title, that is also in one of them.
    """
    out = np.isin(excerpts.collection, held_out)
    known = np.unique(excerpts.title[out])
    again = np.isin(excerpts.work, excerpts.work[out]) | np.isin(excerpts.title, known[known != ""])
    return ~(out | again)


def leave_one_out_matrix(
    excerpts: Excerpts,
    fitter: Fitter,
    seed: int = 0,
    min_pieces: int = MIN_PIECES,
    progress: Progress = silent,
    name: str = "critic",
) -> LeaveOneOutMatrix:
    """Trains on all but two collections and scores these two, for every pair of a positive and another collection.

    Args:
        fitter: how a critic is trained, once per two collections.
        min_pieces: pieces below which a collection is only trained on.
        progress: takes the count of the trainings, with the name.

    Raises:
        MgenError: A side has no collection of `min_pieces` pieces, or nothing on one side is left to train on; or a
            score is not finite.
    """
    parts = collection_parts(excerpts, min_pieces)
    pairs = list(collection_pairs(parts))
    if not pairs:
        counts = {side: sum(part.positive == side for part in parts) for side in (True, False)}
        raise MgenError(
            f"leave-one-collection-out: expected a collection of {min_pieces} pieces on both sides, found "
            f"{counts[True]} of the style and {counts[False]} others; prepare a corpus of more collections"
        )
    scorer = fitter(excerpts, seed)
    scores: dict[tuple[str, str], tuple[Floats, int]] = {}
    held_out = list(dict.fromkeys((a.collection, b.collection) for a, b, _ in pairs))
    for both in counted(progress, f"pairs of collections, {name}", held_out):
        train, test = training_mask(excerpts, *both), np.isin(excerpts.collection, both)
        if len(np.unique(excerpts.positive[train])) < 2:
            problem = f"leave-one-collection-out: without {' and '.join(both)} only one side is left to train on"
            raise MgenError(f"{problem}; prepare a corpus of at least two collections per side")
        score = np.full(len(excerpts), np.nan)
        score[test] = scorer(train, test, seed)
        if not np.isfinite(score[test]).all():
            raise MgenError(f"leave-one-collection-out: scores of {' and '.join(both)} are not finite; fix the fitter")
        scores[both] = score, int(train.sum())
    return _matrix(excerpts, pairs, scores, seed)


def _matrix(
    excerpts: Excerpts,
    pairs: list[tuple[CollectionPart, CollectionPart, str]],
    scores: dict[tuple[str, str], tuple[Floats, int]],
    seed: int,
) -> LeaveOneOutMatrix:
    members = [(a.member | b.member, scores[a.collection, b.collection][0]) for a, b, _ in pairs]

    def areas(weights: Floats) -> Floats:
        """(R, P) AUC of every pair in R resamples."""
        label = excerpts.positive.astype(np.int64)
        return np.stack([auc(score[own], label[own], weights[:, own]) for own, score in members], axis=1)

    values = areas(np.ones((1, len(excerpts))))[0]
    draws = np.concatenate([areas(weights) for weights in resamples(excerpts.work, REPLICATES, seed)])

    results = []
    for (a, b, pair_type), value, drawn in zip(pairs, values, draws.T, strict=True):
        n, trained_on = (int(a.member.sum()), int(b.member.sum())), scores[a.collection, b.collection][1]
        results.append(PairResult(a.name, b.name, pair_type, percentile_interval(value, drawn), n, trained_on))
    mean = {}
    for name in (ALL, *PAIR_TYPES):
        own = np.array([name in (ALL, pair.type) for pair in results])
        if own.any():
            known = ~np.isnan(draws[:, own])  # a resample may miss one side of a small pair
            drawn = divide(np.nansum(draws[:, own], axis=1), known.sum(axis=1))
            mean[name] = percentile_interval(values[own].mean(), drawn)
    return LeaveOneOutMatrix(tuple(results), mean)
