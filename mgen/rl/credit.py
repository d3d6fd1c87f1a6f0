"""From judgements to advantages: pure functions, each with its equation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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


AGGREGATIONS = ("sum_then_normalize", "normalize_then_sum")
"""How TRL makes one advantage of many scores, by its own names."""

EPSILON = 1e-4
"""What TRL adds to a deviation before it divides."""


def score_advantages(
    scores: Tensor, weights: Tensor, group_size: int, aggregation: str = AGGREGATIONS[0], scale: str = "group"
) -> Tensor:
    """What each judge brings to TRL's advantage of a completion, its own part of the sum.

    With r_bj the score, w_j the weight, m_gj and s_gj mean and deviation in the completion's group g:

        sum_then_normalize:  A_bj = w_j (r_bj - m_gj) / (s_g + 1e-4),  s_g the deviation in the group of sum_j w_j r_bj;
        normalize_then_sum:  z_bj = (r_bj - m_gj) / (s_gj + 1e-4),     A_bj = w_j (z_bj - mean_b z_bj) / (s + 1e-4),
                             s the deviation over all completions of sum_j w_j z_bj.

    In the first, a judge weighs what its scores spread; in the second, all spread alike, and one that hardly prefers
    anything is as loud as the rest.

    Args:
        scores: (B, J) of the completions of all processes, those of a group side by side.
        weights: (J,).
        group_size: completions of one prompt.
        aggregation: of `AGGREGATIONS`.
        scale: of sum_then_normalize: deviation of the `group`, of the `batch`, or `none`, which does not divide.

    Returns:
        (B, J) whose sum over judges is the advantage.

    Source: Liu et al. 2026 (GDPO), arXiv:2601.05242, for the second; both as `trl.GRPOTrainer` computes them.
    """
    if aggregation not in AGGREGATIONS:
        raise ValueError(f"aggregation '{aggregation}': expected one of {', '.join(AGGREGATIONS)}")
    grouped = scores.view(-1, group_size, scores.shape[1])
    above = grouped - grouped.mean(1, keepdim=True)
    if aggregation == "normalize_then_sum":
        parts = (above / (_deviation(grouped) + EPSILON)).view_as(scores) * weights
        return (parts - parts.mean(0)) / (parts.sum(1).std() + EPSILON)
    total = (grouped * weights).sum(2, keepdim=True)
    if scale != "none":
        above = above / ((_deviation(total) if scale == "group" else total.std()) + EPSILON)
    return above.view_as(scores) * weights


def _deviation(grouped: Tensor) -> Tensor:
    """(G, 1, J) deviations over the middle of (G, B, J); of one value alone 0."""
    return grouped.std(1, keepdim=True) if grouped.shape[1] > 1 else torch.zeros_like(grouped[:, :1])


def token_counts(mask: Tensor, loss_type: str) -> Tensor:
    """(B, T) how much each token counts in TRL's loss, up to a factor: all alike, or (`grpo`, `sapo`) each completion
    as much as the next, however long.

    Args:
        mask: (B, T) True on tokens of the completion.
        loss_type: of `trl.GRPOConfig`.
    """
    counts = mask.float()
    return counts / counts.sum(1, keepdim=True).clamp(min=1) if loss_type in ("grpo", "sapo") else counts


def advantage_sizes(parts: Mapping[str, Tensor], counts: Tensor) -> Tensor:
    """How much each judge moves the loss: the sum of its absolute part of the advantage.

    Args:
        parts: judge -> (B, T) or (B, 1) advantages from its rewards alone, weighted as in the sum.
        counts: (B, T) how much each token counts, see `token_counts`.

    Returns:
        (J,) sizes, which add up over the processes of a run.
    """
    return torch.stack([(part.abs() * counts).sum() for part in parts.values()])


def advantage_shares(sizes: Tensor) -> Tensor:
    """(J,) shares of the whole, 0..1, of (J,) sizes; they sum to 1 (or are all 0 where no judge prefers anything)."""
    total = sizes.sum()
    return sizes / torch.where(total > 0, total, torch.ones_like(total))


def dominant_reward(shares: Sequence[Mapping[str, float]], limit: float) -> str | None:
    """The judge whose share of the advantage was above the limit in each of several steps, if there is one.

    Args:
        shares: of each step, judge -> share, 0..1.
        limit: at least one half, so that there is but one.
    """
    for name in shares[0] if shares else ():
        if all(step.get(name, 0.0) > limit for step in shares):
            return name
    return None
