"""Credit and advantages, by hand."""

from __future__ import annotations

import pytest
import torch

from mgen.rl.credit import (
    advantage_shares,
    advantage_sizes,
    dominant_reward,
    equal_groups,
    group_advantages,
    returns_to_go,
)


def test_advantage_is_reward_minus_the_others_mean():
    returns = torch.tensor([[3.0], [1.0], [5.0], [5.0]])
    group = torch.tensor([0, 0, 1, 1])
    # group 0: 3-1 and 1-3; group 1: nothing to choose between
    torch.testing.assert_close(group_advantages(returns, group), torch.tensor([[2.0], [-2.0], [0.0], [0.0]]))


def test_a_baseline_does_not_hear_its_own_completion():
    returns = torch.tensor([[0.0], [3.0], [6.0]])
    group = torch.zeros(3, dtype=torch.long)
    # 0 - (3+6)/2, 3 - (0+6)/2, 6 - (0+3)/2
    torch.testing.assert_close(group_advantages(returns, group), torch.tensor([[-4.5], [0.0], [4.5]]))


def test_a_group_of_one_has_no_baseline():
    with pytest.raises(ValueError, match="at least 2"):
        group_advantages(torch.zeros(3, 1), torch.tensor([0, 0, 1]))


def test_returns_count_what_is_still_to_come():
    rewards = torch.tensor([[1.0, 2.0, 4.0, 100.0]])
    mask = torch.tensor([[True, True, True, False]])
    torch.testing.assert_close(returns_to_go(rewards, mask), torch.tensor([[7.0, 6.0, 4.0, 0.0]]))


def test_a_baseline_of_few_is_shrunk_to_the_mean_of_all_others():
    """Three groups of two: 0 and 2, 1 and 3, 5 and 7. Within: others differ by 2, so 4 / 2 = 2; means 1, 2, 6."""
    returns = torch.tensor([[0.0], [2.0], [1.0], [3.0], [5.0], [7.0]], dtype=torch.float64)
    group = torch.arange(3).repeat_interleave(2)
    between = 7 - 2 / 2  # variance of the means 1, 2, 6, less that of a mean of two
    trust = between / (between + 2)
    own, rest = torch.tensor([2.0, 0, 3, 1, 7, 5]), torch.tensor([4.0, 4, 3.5, 3.5, 1.5, 1.5])
    expected = returns[:, 0] - (rest + trust * (own - rest))
    torch.testing.assert_close(group_advantages(returns, group)[:, 0], expected)


def test_groups_with_equal_rewards_are_counted():
    assert equal_groups(torch.tensor([1.0, 1.0, 2.0, 3.0, 0.5, 0.5, 4.0, 4.0 + 1e-7]), 2) == 0.75


def test_shares_of_the_advantage():
    mask = torch.tensor([[True, True, False]])
    parts = {"large": torch.tensor([[3.0, -3.0, 50.0]]), "small": torch.tensor([[1.0, 1.0, 0.0]])}
    sizes = advantage_sizes(parts, mask)
    assert sizes.tolist() == [6.0, 2.0] and advantage_shares(sizes).tolist() == [0.75, 0.25]
    assert advantage_shares(torch.zeros(2)).tolist() == [0.0, 0.0]


def test_dominant_reward():
    gate, even = {"gate": 0.9, "style": 0.1}, {"gate": 0.5, "style": 0.5}
    assert dominant_reward([gate] * 3, 0.8) == "gate"
    assert dominant_reward([gate, even, gate], 0.8) is None  # not in every step
    assert dominant_reward([gate, {"gate": 0.1, "style": 0.9}], 0.8) is None  # not the same one
    assert dominant_reward([gate] * 3, 0.9) is None and dominant_reward([], 0.8) is None
