"""Results of a listening study: pairwise shares and a Bradley-Terry ranking with intervals.

Votes of one rater are correlated, and so are votes on one piece, so intervals resample raters and pieces, not votes.
Nothing here knows SQLite or pages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mgen.arrays import Floats
from mgen.listen.vote_store import Preference
from mgen.stats.intervals import REPLICATES, TAIL, Interval, percentile_interval, undefined_interval

Ints = NDArray[np.int64]

PRIOR = 0.1  # ties added between every two systems: the strength of a system that never lost stays finite
MIN_SECONDS = 2.0  # played of each clip after the common prompt; a vote after less is an early vote
_NEWTON_STEPS = 100
_CLOSE = 1e-10  # nats


@dataclass(frozen=True, slots=True)
class VoteTable:
    """V votes as arrays."""

    systems: tuple[str, ...]  # names, P of them
    rater: Ints  # (V,) number of the rater
    piece: Ints  # (V,) number of the piece; prompts of one work are one piece
    first: Ints  # (V,) index into `systems`
    second: Ints  # likewise
    won: Floats  # (V,) 1 if the first was preferred, 0 if the second, 0.5 for a tie
    a_won: Floats  # (V,) the same for the clip displayed as A

    @classmethod
    def of(cls, preferences: Sequence[Preference], systems: Sequence[str]) -> VoteTable:
        index = {system: i for i, system in enumerate(systems)}

        def numbers(names: list[str]) -> Ints:
            return np.unique(np.array(names, dtype=str), return_inverse=True)[1].astype(np.int64)

        won = {None: 0.5, 0: 1.0, 1: 0.0}
        return cls(
            tuple(systems),
            numbers([vote.rater for vote in preferences]),
            numbers([vote.first.work or vote.first.prompt for vote in preferences]),
            np.array([index[vote.first.system] for vote in preferences], np.int64),
            np.array([index[vote.second.system] for vote in preferences], np.int64),
            np.array([won[vote.preferred] for vote in preferences], np.float64),
            np.array([{"a": 1.0, "b": 0.0}.get(vote.choice, 0.5) for vote in preferences], np.float64),
        )


def two_way(rater: ArrayLike, piece: ArrayLike, n: int = REPLICATES, seed: int = 0) -> Floats:
    """Draws weights (R, V) by resampling raters and, independently, pieces: a vote's weight is the product of the two.

    Resamples without any vote are dropped, so that R <= n. The interval is conservative if only one of the two factors
    matters. With one rater only pieces are resampled: the interval is then valid for that rater alone.

    Source: Owen 2007, "The pigeonhole bootstrap", Annals of Applied Statistics 1(2).
    """
    rng = np.random.default_rng(seed)
    weights = np.ones((n, len(np.asarray(rater))))
    for labels in (rater, piece):
        names, number = np.unique(np.asarray(labels), return_inverse=True)
        if len(names):
            weights *= rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=n)[:, number]
    return weights[weights.any(axis=1)]


def share(won: Floats, weights: Floats) -> Interval:
    """Mean of `won` (V,) with percentiles over weights (R, V); resamples without any of these votes are dropped."""
    if not len(won):
        return undefined_interval()
    total = weights.sum(axis=1)
    return percentile_interval(won.mean(), (weights @ won)[total > 0] / total[total > 0])


def wins(table: VoteTable, weights: Floats) -> Floats:
    """(R, P, P) how often the row's system was preferred to the column's under weights (R, V); a tie is half a win."""
    size = len(table.systems)
    out = np.zeros((len(weights), size * size))
    for cell, part in (
        (table.first * size + table.second, table.won),
        (table.second * size + table.first, 1 - table.won),
    ):
        each = np.zeros((len(cell), size * size))
        each[np.arange(len(cell)), cell] = part
        out += weights @ each
    return out.reshape(-1, size, size)


def bradley_terry(wins: ArrayLike, prior: float = PRIOR) -> Floats:
    """Maximum-likelihood strengths: i is preferred to j with probability 1 / (1 + e^(s_j - s_i)).

    Args:
        wins: (R, P, P), or (P, P) for one table; wins of the row over the column, a tie is half a win.
        prior: ties added between every two systems. With 0, a system that always won or lost has no finite strength.

    Returns:
        (R, P), or (P,), in nats, with mean 0.

    Source: Bradley & Terry 1952, Biometrika 39; Newton's method, as the likelihood is concave.
    """
    table = np.asarray(wins, np.float64)
    one = table.ndim == 2
    table = table[None] if one else table
    size = table.shape[-1]
    apart = ~np.eye(size, dtype=bool)
    table = (table + prior / 2) * apart
    games = table + table.swapaxes(1, 2)
    strength = np.zeros(table.shape[:2])
    for _ in range(_NEWTON_STEPS):
        expected = 1 / (1 + np.exp(strength[:, None, :] - strength[:, :, None]))
        gradient = (table - games * expected).sum(axis=2)
        spread = games * expected * (1 - expected)
        curvature = -spread
        curvature[:, np.arange(size), np.arange(size)] += spread.sum(axis=2)
        # The likelihood is invariant to a constant added to all strengths: the ones fix their sum.
        step = np.linalg.solve(curvature + 1, gradient[..., None])[..., 0]
        strength += np.clip(step, -1, 1)
        strength -= strength.mean(axis=1, keepdims=True)
        if np.abs(step).max(initial=0) < _CLOSE:
            break
    return strength[0] if one else strength


def connected(wins: Floats) -> bool:
    """Whether every two systems were compared, directly or through others; a ranking needs that."""
    met = (wins + wins.T > 0) | np.eye(len(wins), dtype=bool)
    for _ in range(len(met)):
        met = met @ met
    return bool(met.all())


@dataclass(frozen=True, slots=True)
class PairResult:
    """Votes on two systems: `wins`, `ties` and `losses` of `first`, and its `share` (a tie is half a win)."""

    first: str
    second: str
    wins: int
    ties: int
    losses: int
    share: Interval


@dataclass(frozen=True, slots=True)
class StudyResults:
    """Results of a listening study."""

    raters: int
    pieces: int
    votes: int
    pairs: tuple[PairResult, ...]  # every two systems that were compared
    # (system, strength in nats), the strongest first; None if not all systems were compared.
    ranking: tuple[tuple[str, Interval], ...] | None
    a_share: Interval  # share of votes for A; 0.5 without a bias to one side
    early_votes: int  # votes given before both clips had played for `MIN_SECONDS`

    def to_json(self) -> dict[str, Any]:
        """The form that `mgen votes --json` prints."""
        pairs = [asdict(pair) | {"share": pair.share.to_json()} for pair in self.pairs]
        ranking = self.ranking and [{"system": name, "strength": strength.to_json()} for name, strength in self.ranking]
        return asdict(self) | {"pairs": pairs, "ranking": ranking, "a_share": self.a_share.to_json()}


def study_results(
    preferences: Sequence[Preference], systems: Sequence[str], n: int = REPLICATES, seed: int = 0
) -> StudyResults:
    """Analyses the valid votes of a study.

    Args:
        systems: in the order of the tables.
        n: resamples for the intervals, drawn from `seed`.
    """
    table = VoteTable.of(preferences, systems)
    weights = two_way(table.rater, table.piece, n, seed)
    pairs = []
    for i, first in enumerate(systems):
        for j, second in enumerate(systems[i + 1 :], i + 1):
            same, reversed_ = ((table.first == x) & (table.second == y) for x, y in ((i, j), (j, i)))
            here = same | reversed_
            if here.any():
                won = np.where(same, table.won, 1 - table.won)[here]
                n_wins, n_ties, n_losses = (int((won == value).sum()) for value in (1, 0.5, 0))
                pairs.append(PairResult(first, second, n_wins, n_ties, n_losses, share(won, weights[:, here])))
    return StudyResults(
        raters=len(np.unique(table.rater)),
        pieces=len(np.unique(table.piece)),
        votes=len(preferences),
        pairs=tuple(pairs),
        ranking=_ranking(table, weights),
        a_share=share(table.a_won, weights),
        early_votes=sum(min(vote.seconds_a, vote.seconds_b) < MIN_SECONDS for vote in preferences),
    )


def _ranking(table: VoteTable, weights: Floats) -> tuple[tuple[str, Interval], ...] | None:
    won = wins(table, np.ones((1, len(table.won))))[0]
    if not connected(won):
        return None
    strength = bradley_terry(won)
    low, high = np.quantile(bradley_terry(wins(table, weights)), (TAIL, 1 - TAIL), axis=0)
    return tuple(
        (table.systems[i], Interval(float(strength[i]), float(low[i]), float(high[i])))
        for i in np.argsort(-strength, kind="stable")
    )
