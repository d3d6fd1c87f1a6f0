"""What the votes say: shares of every two players, a ranking, and how sure either is.

Votes of one rater lean one way, and so do votes on one piece, so intervals resample raters and pieces, never single
votes. Nothing here knows SQLite or pages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mgen.arrays import Floats
from mgen.listen.store import Ballot
from mgen.stats.intervals import REPLICATES, TAIL, Interval

Ints = NDArray[np.int64]

PRIOR = 0.1  # ties that every two players are taken to have had: keeps one who never lost finite
ENOUGH_SECONDS = 2.0  # of a take, after what both share; a vote after less was given unheard
_NEWTON_STEPS = 100
_CLOSE = 1e-10  # nats


@dataclass(frozen=True, slots=True)
class Votes:
    """V votes as numbers.

    Attributes:
        players: names, P of them.
        rater, piece: (V,) numbers of who voted and on what; two prompts of one work are one piece.
        first, second: (V,) indices into `players`.
        won: (V,) 1 where the first was preferred, 0 where the second, 0.5 for a tie.
        a_won: (V,) the same for the take that was shown as A.
    """

    players: tuple[str, ...]
    rater: Ints
    piece: Ints
    first: Ints
    second: Ints
    won: Floats
    a_won: Floats

    @classmethod
    def of(cls, ballots: Sequence[Ballot], players: Sequence[str]) -> Votes:
        index = {player: i for i, player in enumerate(players)}

        def numbers(names: list[str]) -> Ints:
            return np.unique(np.array(names, dtype=str), return_inverse=True)[1].astype(np.int64)

        won = {None: 0.5, 0: 1.0, 1: 0.0}
        return cls(
            tuple(players),
            numbers([ballot.rater for ballot in ballots]),
            numbers([ballot.first.work or ballot.first.prompt for ballot in ballots]),
            np.array([index[ballot.first.player] for ballot in ballots], np.int64),
            np.array([index[ballot.second.player] for ballot in ballots], np.int64),
            np.array([won[ballot.preferred] for ballot in ballots], np.float64),
            np.array([{"a": 1.0, "b": 0.0}.get(ballot.chose, 0.5) for ballot in ballots], np.float64),
        )


def two_way(rater: ArrayLike, piece: ArrayLike, n: int = REPLICATES, seed: int = 0) -> Floats:
    """Weights (R, V) of resamples of raters and, independently, of pieces: a vote's is the product of its two.

    Of n resamples those are left out that drew no vote at all.

    A margin too wide where only one of the two matters, never too narrow by treating votes of one rater as strangers.
    With one rater only pieces are resampled: the interval then speaks of that rater alone.

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
    """Mean of `won` (V,) with percentiles over weights (R, V); resamples that drew none of the votes are left out."""
    if not len(won):
        return Interval(np.nan, np.nan, np.nan)
    total = weights.sum(axis=1)
    draws = (weights @ won)[total > 0] / total[total > 0]
    low, high = np.quantile(draws, (TAIL, 1 - TAIL)).tolist()
    return Interval(float(won.mean()), low, high)


def wins(votes: Votes, weights: Floats) -> Floats:
    """(R, P, P) how often the row's player was preferred to the column's, a tie half to each, under weights (R, V)."""
    size = len(votes.players)
    out = np.zeros((len(weights), size * size))
    for cell, part in (
        (votes.first * size + votes.second, votes.won),
        (votes.second * size + votes.first, 1 - votes.won),
    ):
        each = np.zeros((len(cell), size * size))
        each[np.arange(len(cell)), cell] = part
        out += weights @ each
    return out.reshape(-1, size, size)


def bradley_terry(wins: ArrayLike, prior: float = PRIOR) -> Floats:
    """Strengths under which the wins are likeliest; i is preferred to j with probability 1 / (1 + e^(s_j - s_i)).

    Args:
        wins: (R, P, P), or (P, P) for one table; row over column, ties counted half to each.
        prior: ties added between every two players. With 0, a player who won or lost every time has no finite strength.

    Returns:
        (R, P), or (P,), in nats, with mean 0. Of two players who never met they speak through others.

    Source: Bradley & Terry 1952, Biometrika 39; found by Newton's method, as the likelihood is concave.
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
        # Adding the same to all strengths changes nothing: the ones fix their sum.
        step = np.linalg.solve(curvature + 1, gradient[..., None])[..., 0]
        strength += np.clip(step, -1, 1)
        strength -= strength.mean(axis=1, keepdims=True)
        if np.abs(step).max(initial=0) < _CLOSE:
            break
    return strength[0] if one else strength


def connected(wins: Floats) -> bool:
    """Whether every two players met, directly or through others; else a ranking sets side by side what nobody heard."""
    met = (wins + wins.T > 0) | np.eye(len(wins), dtype=bool)
    for _ in range(len(met)):
        met = met @ met
    return bool(met.all())


def results(ballots: Sequence[Ballot], players: Sequence[str], n: int = REPLICATES, seed: int = 0) -> dict[str, Any]:
    """All that is told of a votes file, as `mgen votes --json` prints it.

    Returns:
        `raters`, `pieces`, `votes`; `pairs`: for every two players that met, `wins`, `ties`, `losses` of `first` and
        its `share` (a tie is half a win); `ranking`: the strongest first, with `strength` in nats; None where not all
        players met through others; `a_share`: how often A was preferred, 0.5 without a lean to one side; `unheard`:
        votes given before both takes had been heard for two seconds.
    """
    votes = Votes.of(ballots, players)
    weights = two_way(votes.rater, votes.piece, n, seed)
    pairs = []
    for i, first in enumerate(players):
        for j, second in enumerate(players[i + 1 :], i + 1):
            straight, turned = ((votes.first == x) & (votes.second == y) for x, y in ((i, j), (j, i)))
            here = straight | turned
            if not here.any():
                continue
            won = np.where(straight, votes.won, 1 - votes.won)[here]
            counts = {name: int((won == value).sum()) for name, value in (("wins", 1), ("ties", 0.5), ("losses", 0))}
            pairs.append({"first": first, "second": second, **counts, "share": share(won, weights[:, here]).to_json()})
    return {
        "raters": len(np.unique(votes.rater)),
        "pieces": len(np.unique(votes.piece)),
        "votes": len(ballots),
        "pairs": pairs,
        "ranking": _ranking(votes, weights),
        "a_share": share(votes.a_won, weights).to_json(),
        "unheard": sum(min(ballot.heard_a, ballot.heard_b) < ENOUGH_SECONDS for ballot in ballots),
    }


def _ranking(votes: Votes, weights: Floats) -> list[dict[str, Any]] | None:
    table = wins(votes, np.ones((1, len(votes.won))))[0]
    if not connected(table):
        return None
    strength = bradley_terry(table)
    low, high = np.quantile(bradley_terry(wins(votes, weights)), (TAIL, 1 - TAIL), axis=0)
    return [
        {"player": votes.players[i], "strength": Interval(float(strength[i]), float(low[i]), float(high[i])).to_json()}
        for i in np.argsort(-strength, kind="stable")
    ]
