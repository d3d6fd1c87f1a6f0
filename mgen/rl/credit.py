"""From judgements to advantages: pure functions on tensors, each with its equation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


def returns_to_go(rewards: Tensor, mask: Tensor) -> Tensor:
    """Sums the rewards from each token to the end: R_t = sum_{s >= t} r_s.

    Args:
        rewards: (B, T) reward of each token.
        mask: (B, T) True on tokens of the completion.
    """
    return (rewards * mask).flip(1).cumsum(1).flip(1)


def group_advantages(returns: Tensor, group: Tensor) -> Tensor:
    """Subtracts a baseline: the mean return of the other completions of the same prompt, shrunk to that of all others.

    With m_g the mean of the n - 1 others of the group, m that of the completions of other groups, and v, w the
    variances between and within groups, the baseline is m + a (m_g - m) with a = v / (v + w / (n - 1)), which predicts
    the return best (James and Stein 1961). Both variances are of the sums over all tokens' returns, one a for all.

    Args:
        returns: (B, T) return-to-go of each token, in nats.
        group: (B,) completions of one prompt share a number.

    Returns:
        (B, T) advantages in nats, not divided by a deviation: with a division the KL weight would differ from prompt to
        prompt.

    Raises:
        ValueError: A group has one member, so it has no baseline.

    Source: Ahmadian et al. 2024 (RLOO), arXiv:2402.14740.
    """
    _, index, size = torch.unique(group, return_inverse=True, return_counts=True)
    if int(size.min()) < 2:
        raise ValueError(
            "a group has one completion and no other to compare it with; num_generations must be at least 2"
        )
    total = returns.new_zeros(len(size), returns.shape[1]).index_add_(0, index, returns)
    own = (total[index] - returns) / (size[index] - 1)[:, None]
    baseline: Tensor = own
    if len(size) < 3:
        return returns - baseline
    rest = (total.sum(0) - total[index]) / (len(returns) - size[index])[:, None]
    within = (returns - own).square().mean() * (size.double().mean() - 1) / size.double().mean()
    between = (total / size[:, None]).var(0).mean() - within / size.double().mean()
    trust = between.clamp(min=0) / (between.clamp(min=0) + within / (size.double().mean() - 1)).clamp(min=1e-12)
    baseline = rest + trust.to(returns.dtype) * (own - rest)
    return returns - baseline


SAME = 1e-6  # largest difference, in nats, between rewards that count as equal


def equal_groups(rewards: Tensor, group_size: int) -> float:
    """Share of the groups, 0..1, whose completions all have the same reward, so that it teaches nothing.

    Args:
        rewards: (B,) weighted sums of the judges' scores, with those of a group next to each other.
        group_size: completions of one prompt.
    """
    groups = rewards.view(-1, group_size)
    return float((groups.amax(1) - groups.amin(1) < SAME).double().mean())


def advantage_sizes(parts: Mapping[str, Tensor], mask: Tensor) -> Tensor:
    """Measures how much each judge moves the loss: the sum of the absolute values of its advantages.

    Args:
        parts: judge -> (B, T) advantages from its rewards alone, weighted as in the sum.
        mask: (B, T) True on tokens of the completion.

    Returns:
        (J,) sizes, to be summed over the processes of a run.
    """
    return torch.stack([(part.abs() * mask).sum() for part in parts.values()])


def advantage_shares(sizes: Tensor) -> Tensor:
    """Divides (J,) sizes by their sum: (J,) shares within 0..1, all 0 if every size is 0."""
    total = sizes.sum()
    return sizes / torch.where(total > 0, total, torch.ones_like(total))


def dominant_reward(shares: Sequence[Mapping[str, float]], limit: float) -> str | None:
    """Finds the judge whose share of the advantage exceeds the limit in every step.

    Args:
        shares: for each step, judge -> share, 0..1.
        limit: at least 0.5, so that at most one judge exceeds it.
    """
    for name in shares[0] if shares else ():
        if all(step.get(name, 0.0) > limit for step in shares):
            return name
    return None
