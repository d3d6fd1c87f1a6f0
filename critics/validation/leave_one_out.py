"""Leave-one-collection-out: how well a critic hears a style in collections that it never heard.

A held-out AUC says little of a style critic: it learns who wrote the file first. So for every pair of a collection of
the style and another one, a critic is trained on all the rest and has to tell these two. Knows nothing of how a
critic is trained: that is a `Fitter`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from critics.style.excerpts import Collected
from mgen.arrays import Floats, Mask, divide
from mgen.errors import MgenError
from mgen.notes import Notes
from mgen.stats.intervals import REPLICATES, TAIL, Interval, resamples
from mgen.stats.two_sample import auc

FEWEST = 30
"""Excerpts' pieces below which a collection is trained on only."""

PERFORMED, ON_GRID, ACROSS, ALL = "performed", "on grid", "across", "all"
KINDS = (PERFORMED, ON_GRID, ACROSS)


Trained = Callable[[Mask, Mask, int], Floats]
"""Excerpts to learn from (B,), excerpts to judge (B,), seed -> (T,) scores of those to judge, higher for the style."""

Fitter = Callable[[Collected, int], Trained]
"""All excerpts and a seed -> how to learn from some of them and judge others.

What it makes of an excerpt before (features, changed copies, broken copies) may depend on that excerpt and on its own
collection only: then it is made once, and no held-out music reaches what is learned.
"""


def by_critic(fit: Callable[[Collected, int], Callable[[Notes], Floats]]) -> Fitter:
    """A fitter from a function that trains one critic from excerpts, all anew for every pair."""

    def fitter(excerpts: Collected, seed: int) -> Trained:
        def trained(train: Mask, test: Mask, seed: int) -> Floats:
            critic = fit(excerpts.rows(train), seed)
            return critic(excerpts.notes.pieces(np.flatnonzero(test)))

        return trained

    return fitter


@dataclass(frozen=True, slots=True)
class Pair:
    """Two collections that were told from each other by a critic that had heard neither.

    Attributes:
        kind: `performed` or `on grid` where both are, else `across`.
        auc: with its interval, resampled by work.
        n: excerpts of the positive and of the other collection.
        trained_on: excerpts that the critic was trained on.
    """

    positive: str
    other: str
    kind: str
    auc: Interval
    n: tuple[int, int]
    trained_on: int


@dataclass(frozen=True, slots=True)
class Matrix:
    """All pairs, and their mean over all and over each kind.

    Attributes:
        mean: `all` and kinds -> mean AUC of their pairs, with the interval from resampling works in all collections at
            once: it tells of other pieces of these collections, not of other collections.
    """

    pairs: tuple[Pair, ...]
    mean: dict[str, Interval]

    def minimum(self, kind: str = ALL) -> Pair:
        """The pair of a kind, or of all, with the lowest AUC."""
        return min((pair for pair in self.pairs if kind in (ALL, pair.kind)), key=lambda pair: pair.auc.value)

    def to_json(self) -> dict[str, Any]:
        """`mean` and `minimum` of all and of each kind, and `pairs`."""
        lowest = {kind: self.minimum(kind) for kind in self.mean}
        return {
            "mean": {kind: value.to_json() for kind, value in self.mean.items()},
            "minimum": {
                kind: {"positive": pair.positive, "other": pair.other, **pair.auc.to_json()}
                for kind, pair in lowest.items()
            },
            "pairs": [
                {
                    "positive": pair.positive,
                    "other": pair.other,
                    "kind": pair.kind,
                    "n": list(pair.n),
                    "trained_on": pair.trained_on,
                    "auc": pair.auc.to_json(),
                }
                for pair in self.pairs
            ],
        }


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One side of pairs: the excerpts of a collection that are of one kind."""

    name: str
    collection: str
    positive: bool
    on_grid: bool
    member: Mask  # (B,)


def rows_of(excerpts: Collected, fewest: int = FEWEST) -> list[Row]:
    """The rows of a matrix: collections of at least `fewest` pieces, apart by kind where a collection has two.

    A collection that has two such kinds gives `NAME performed` and `NAME on grid`, any other its name alone; the
    few pieces of its other kind are in no row.
    """
    out: list[Row] = []
    for name in np.unique(excerpts.collection).tolist():
        for positive in (True, False):
            own = (excerpts.collection == name) & (excerpts.positive == positive)
            kinds = {on_grid: own & (excerpts.on_grid == on_grid) for on_grid in (False, True)}
            able = [kind for kind, member in kinds.items() if len(np.unique(excerpts.path[member])) >= fewest]
            for on_grid in able:
                label = f"{name} {ON_GRID if on_grid else PERFORMED}" if len(able) > 1 else name
                out.append(Row(label, name, positive, on_grid, kinds[on_grid]))
    return out


def pairs_of(rows: list[Row]) -> Iterator[tuple[Row, Row, str]]:
    """Every row of the style with every other, and their kind."""
    for a in rows:
        for b in rows:
            if a.positive and not b.positive:
                yield a, b, (ON_GRID if a.on_grid else PERFORMED) if a.on_grid == b.on_grid else ACROSS


def learned_from(excerpts: Collected, *held_out: str) -> Mask:
    """(B,) excerpts that a critic may learn from when the collections `held_out` are to be judged.

    Collections are held out whole, of both kinds, and so is every work and every song, by its title, that is in one
    of them.
    """
    out = np.isin(excerpts.collection, held_out)
    known = np.unique(excerpts.title[out])
    again = np.isin(excerpts.work, excerpts.work[out]) | np.isin(excerpts.title, known[known != ""])
    return ~(out | again)


def leave_one_out_matrix(
    excerpts: Collected,
    fitter: Fitter,
    seed: int = 0,
    fewest: int = FEWEST,
    done: Callable[[int, int], None] = lambda so_far, of: None,
) -> Matrix:
    """Train on all but two collections and tell these two, for every pair of a positive and another collection.

    Args:
        fitter: how a critic is trained; it is asked once for each two collections.
        fewest: pieces below which a collection is only trained on.
        done: is called after each training with how many there were and will be.

    Raises:
        MgenError: A side has no collection of `fewest` pieces, or nothing on one side is left to train on; or a score
            is not finite.
    """
    rows = rows_of(excerpts, fewest)
    pairs = list(pairs_of(rows))
    if not pairs:
        counts = {side: sum(row.positive == side for row in rows) for side in (True, False)}
        raise MgenError(
            f"transfer: expected a collection of {fewest} pieces on both sides, came {counts[True]} of the style and "
            f"{counts[False]} others; prepare a corpus of more collections"
        )
    trained = fitter(excerpts, seed)
    scores: dict[tuple[str, str], tuple[Floats, int]] = {}
    wanted = list(dict.fromkeys((a.collection, b.collection) for a, b, _ in pairs))
    for number, both in enumerate(wanted):
        train, test = learned_from(excerpts, *both), np.isin(excerpts.collection, both)
        sides = np.unique(excerpts.positive[train])
        if len(sides) < 2:
            raise MgenError(
                f"transfer: without {both[0]} and {both[1]} only one side is left to train on; prepare a corpus of at "
                "least two collections a side"
            )
        score = np.full(len(excerpts), np.nan)
        score[test] = trained(train, test, seed)
        if not np.isfinite(score[test]).all():
            raise MgenError(f"transfer: {both[0]} and {both[1]} got scores that are no numbers; mend the fitter")
        scores[both] = score, int(train.sum())
        done(number + 1, len(wanted))
    return _matrix(excerpts, pairs, scores, seed)


def _matrix(
    excerpts: Collected,
    pairs: list[tuple[Row, Row, str]],
    scores: dict[tuple[str, str], tuple[Floats, int]],
    seed: int,
) -> Matrix:
    members = [(a.member | b.member, scores[a.collection, b.collection][0]) for a, b, _ in pairs]

    def areas(weights: Floats) -> Floats:
        """(R, P) AUC of every pair in R resamples."""
        label = excerpts.positive.astype(np.int64)
        return np.stack([auc(score[own], label[own], weights[:, own]) for own, score in members], axis=1)

    values = areas(np.ones((1, len(excerpts))))[0]
    draws = np.concatenate([areas(weights) for weights in resamples(excerpts.work, REPLICATES, seed)])

    def interval(value: float, drawn: Floats) -> Interval:
        low, high = np.nanquantile(drawn, (TAIL, 1 - TAIL)).tolist()
        return Interval(float(value), low, high)

    found = tuple(
        Pair(
            a.name,
            b.name,
            kind,
            interval(values[k], draws[:, k]),
            (int(a.member.sum()), int(b.member.sum())),
            scores[a.collection, b.collection][1],
        )
        for k, (a, b, kind) in enumerate(pairs)
    )
    mean = {}
    for name in (ALL, *KINDS):
        own = np.array([name in (ALL, pair.kind) for pair in found])
        if own.any():
            known = ~np.isnan(draws[:, own])  # a resample may miss a whole side of a small pair
            mean[name] = interval(values[own].mean(), divide(np.nansum(draws[:, own], axis=1), known.sum(axis=1)))
    return Matrix(found, mean)
