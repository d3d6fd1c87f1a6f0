"""From judgements to advantages: pure functions, each with its equation."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mgen.judgement import Judgement
from mgen.notes import Notes


def token_rewards(judgement: Judgement, notes: Notes, lengths: Tensor) -> Tensor:
    """Spread a judge's score over the tokens that earned it.

    A note's credit goes to the token that completed the note; a judge that gives no credit, and a piece without
    notes, is paid at the last token.

    Args:
        judgement: of B completions with N notes.
        notes: the notes that were judged; `token` says where each was completed.
        lengths: (B,) tokens in each completion.

    Returns:
        (B, T) float32 rewards whose sum over tokens is the score, T the largest of `lengths`.
    """
    rewards = torch.zeros(len(lengths), int(lengths.max()), dtype=torch.float64)
    score = torch.from_numpy(judgement.score.astype(np.float64))
    whole = torch.ones(len(lengths), dtype=torch.bool)
    if judgement.credit is not None and len(notes):
        piece, token = (torch.from_numpy(column.astype(np.int64)) for column in (notes.piece, notes.token))
        rewards.index_put_((piece, token), torch.from_numpy(judgement.credit.astype(np.float64)), accumulate=True)
        whole = torch.from_numpy(notes.counts == 0)
    last = lengths - 1
    rewards[whole, last[whole]] += score[whole]
    return rewards.float()


def returns_to_go(rewards: Tensor, mask: Tensor) -> Tensor:
    """Reward still to come at each token, its own included: R_t = sum_{s >= t} r_s.

    Args:
        rewards: (B, T) reward of each token.
        mask: (B, T) True on tokens of the completion.
    """
    return (rewards * mask).flip(1).cumsum(1).flip(1)


def group_advantages(returns: Tensor, group: Tensor) -> Tensor:
    """Return minus the mean return of the other completions of the same prompt.

    Args:
        returns: (B, T) reward still to come at each token, in nats.
        group: (B,) completions of one prompt share a number.

    Returns:
        (B, T) advantages in nats, not divided by a deviation: dividing would make the KL weight mean something else for
        every prompt.

    Raises:
        ValueError: A group has one member, so it has no baseline.

    Source: Ahmadian et al. 2024 (RLOO), arXiv:2402.14740.
    """
    _, index, size = torch.unique(group, return_inverse=True, return_counts=True)
    if int(size.min()) < 2:
        raise ValueError(
            "a group has one completion, so nothing to compare it with; num_generations must be at least 2"
        )
    total = returns.new_zeros(len(size), returns.shape[1]).index_add_(0, index, returns)
    others: Tensor = (total[index] - returns) / (size[index] - 1)[:, None]
    return returns - others


def advantage_shares(parts: dict[str, Tensor], mask: Tensor) -> dict[str, float]:
    """How much of the advantage each judge moves: its mean absolute part over the sum of all judges' parts.

    Args:
        parts: judge -> (B, T) advantages from its rewards alone, weighted as in the sum.
        mask: (B, T) True on tokens of the completion.

    Returns:
        judge -> share, 0..1; they sum to 1 (or are all 0 where no judge prefers anything).
    """
    sizes = {name: float((part.abs() * mask).sum()) for name, part in parts.items()}
    total = sum(sizes.values())
    return {name: size / total if total else 0.0 for name, size in sizes.items()}
