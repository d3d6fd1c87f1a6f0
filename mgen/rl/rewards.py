"""Rewards of tokens from judges: the score on the last token, or gains on the tokens that close bars.

A reward must not reach back: the gradient of a token is weighted with the rewards from that token on, so a reward on an
earlier token than the one that caused it does not count, and training ends at another policy than the optimum of the
objective. Two forms are exact. The score of the whole piece on its last token; or, from a judge that can judge
beginnings, what each closed bar adds to the score, on the token that closes it. The sum is the score in both. The
second takes from the return of a token what its past has earned already, so it has less variance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from mgen.arrays import Floats, Longs, rank_within
from mgen.judgement import Judgement
from mgen.notes import Notes

CLOSINGS = 4  # beginnings of a piece that are judged; twice as many cost twice as much and gain little


@dataclass(frozen=True, slots=True, eq=False)
class Beginnings:
    """K beginnings of B completions, each up to a token that closes a bar.

    Attributes:
        notes: K pieces, in order of piece and token.
        piece: (K,) completion that each is the beginning of.
        token: (K,) index, in the completion, of the token that closes its last bar.
    """

    notes: Notes
    piece: Longs
    token: Longs


def beginnings(notes: Notes, closes_bar: NDArray[np.bool_], most: int = CLOSINGS) -> Beginnings:
    """The beginnings of completions up to some of their bar lines, evenly chosen.

    Args:
        notes: of B completions, with the token that completed each.
        closes_bar: (B, T) True on tokens that begin a bar, and so close the one before.
        most: of a completion; with more bar lines, some are left out.
    """
    piece, token = np.nonzero(closes_bar)
    count = np.bincount(piece, minlength=notes.n_pieces)[piece]
    rank = rank_within(piece, notes.n_pieces)
    # Of c bar lines those are kept at which (rank + 1) most / (c + 1) passes a whole number.
    kept = (count <= most) | ((rank + 1) * (most + 1) // (count + 1) > rank * (most + 1) // (count + 1))
    piece, token = piece[kept], token[kept]
    begun = notes.pieces(piece)
    return Beginnings(begun.select(begun.token < token[begun.piece]).trimmed(), piece, token)


def end_rewards(score: NDArray[np.floating], lengths: Tensor) -> Tensor:
    """(B, T) float32: each completion's score (B,) on its last token.

    Args:
        lengths: (B,) tokens in each completion, at least 1; T is the largest.
    """
    rewards = torch.zeros(len(lengths), int(lengths.max()))
    rewards[torch.arange(len(lengths)), lengths - 1] = torch.from_numpy(np.asarray(score, np.float32))
    return rewards


def quantile_rewards(score: ArrayLike, reference: ArrayLike, n: int) -> Floats:
    """(B,) the quantile reward (n - 1) log F(score), with F the distribution of reference samples' scores.

    With KL weight 1 its optimum is the best of n samples of the reference policy, whatever the scale of the score, at
    a KL of log n - (n - 1) / n.

    Args:
        score: (B,) of completions.
        reference: (R,) of samples of the reference policy after prompts of the same type; F is (1 + those that are not
            above) / (R + 1), so that no reward is infinite.
        n: at least 2.

    Source: Amini, Vieira and Cotterell 2024 (variational best-of-n), arXiv:2407.06057.
    """
    known = np.sort(np.asarray(reference, np.float64))
    below = np.searchsorted(known, np.asarray(score, np.float64), side="right")
    out: Floats = (n - 1) * np.log((1 + below) / (1 + len(known)))
    return out


def predicted_scores(scores: Floats, begun: Beginnings, final: NDArray[np.floating], group: Longs) -> Floats:
    """(K,) the final score that the score of each beginning predicts: a line for each number of closed bars.

    A line is fitted on the other half of the groups, so the prediction for a completion depends on its past and on
    independent completions alone, and is a valid baseline. With fewer than four beginnings to fit on, it is their mean.

    Args:
        scores: (K,) of the beginnings.
        begun: the beginnings.
        final: (B,) scores of the completions.
        group: (B,) completions of one prompt share a number.
    """
    rank, target = rank_within(begun.piece, len(final)), np.asarray(final, np.float64)[begun.piece]
    half = np.unique(group, return_inverse=True)[1][begun.piece] % 2
    out = np.zeros(len(scores))
    for own in {*zip(rank.tolist(), half.tolist(), strict=True)}:
        rows = (rank == own[0]) & (half == own[1])
        others = (rank == own[0]) & (half != own[1])
        x, y = scores[others], target[others]
        spread = ((x - x.mean()) ** 2).sum() if len(x) > 3 else 0.0
        slope = ((x - x.mean()) * (y - y.mean())).sum() / spread if spread > 0 else 0.0
        out[rows] = (y.mean() if len(y) else 0.0) + slope * (scores[rows] - (x.mean() if len(x) else 0.0))
    return out


def gain_rewards(judgement: Judgement, scores: Floats, begun: Beginnings, lengths: Tensor) -> Tensor:
    """(B, T) float32: what each closed bar adds to the score, on the token that closes it, and the rest on the last.

    Args:
        judgement: of B completions.
        scores: (K,) of their beginnings, or predicted from these.
        begun: the beginnings.
        lengths: (B,) tokens in each completion.
    """
    rewards = end_rewards(judgement.score, lengths).double()
    if len(scores):
        first = rank_within(begun.piece, len(lengths)) == 0
        gain = torch.from_numpy(scores - np.where(first, 0.0, np.append(0.0, scores[:-1])))
        piece, token = torch.from_numpy(begun.piece), torch.from_numpy(begun.token)
        rewards.index_put_((piece, token), gain, accumulate=True)
        paid = torch.zeros(len(lengths), dtype=torch.float64).index_add_(0, piece, gain)
        rewards[torch.arange(len(lengths)), lengths - 1] -= paid
    return rewards.float()
