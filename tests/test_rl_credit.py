"""Credit and advantages, by hand."""

from __future__ import annotations

import pytest
import torch

from mgen.rl.credit import (
    advantage_shares,
    advantage_sizes,
    dominant_reward,
    group_advantages,
    returns_to_go,
    score_advantages,
    token_counts,
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


def test_shares_of_the_advantage():
    counts = torch.tensor([[1.0, 1.0, 0.0]])
    parts = {"large": torch.tensor([[3.0, -3.0, 50.0]]), "small": torch.tensor([[1.0, 1.0, 0.0]])}
    sizes = advantage_sizes(parts, counts)
    assert sizes.tolist() == [6.0, 2.0] and advantage_shares(sizes).tolist() == [0.75, 0.25]
    assert advantage_shares(torch.zeros(2)).tolist() == [0.0, 0.0]


def test_a_part_per_completion_counts_on_each_of_its_tokens():
    mask = torch.tensor([[True, True, True, True], [True, False, False, False]])
    parts = {"long": torch.tensor([[1.0], [0.0]]), "short": torch.tensor([[0.0], [1.0]])}
    # dr_grpo adds up tokens, four to one; grpo counts each completion once.
    assert advantage_sizes(parts, token_counts(mask, "dr_grpo")).tolist() == [4.0, 1.0]
    assert advantage_sizes(parts, token_counts(mask, "grpo")).tolist() == [1.0, 1.0]


SCORES = torch.tensor([[0.0, 0.0], [10.0, 1.0], [10.0, 3.0], [0.0, 2.0]])  # two groups of two; two judges


def test_sum_then_normalize_by_hand():
    """Weights 1 and 2: sums 0, 12 and 16, 4; deviations 12 / sqrt 2 in both groups."""
    parts = score_advantages(SCORES, torch.tensor([1.0, 2.0]), 2)
    by = 12 / 2**0.5 + 1e-4
    expected = torch.tensor([[-5.0, -1.0], [5.0, 1.0], [5.0, 1.0], [-5.0, -1.0]]) / by
    torch.testing.assert_close(parts, expected)
    # A judge weighs what its scores spread: five to one.
    shares = advantage_shares(advantage_sizes({"a": parts[:, :1], "b": parts[:, 1:]}, torch.ones(4, 1)))
    assert shares.tolist() == pytest.approx([5 / 6, 1 / 6])
    torch.testing.assert_close(score_advantages(SCORES, torch.tensor([1.0, 2.0]), 2, scale="none"), expected * by)
    # Over all four sums 0, 12, 16, 4: deviation sqrt(160 / 3).
    batch = score_advantages(SCORES, torch.tensor([1.0, 2.0]), 2, scale="batch")
    torch.testing.assert_close(batch, expected * by / ((160 / 3) ** 0.5 + 1e-4))


def test_normalize_then_sum_by_hand():
    """Each judge's score becomes +-1 / sqrt 2 in its group, whatever it spreads; the sums' deviation is sqrt 6."""
    parts = score_advantages(SCORES, torch.tensor([1.0, 2.0]), 2, "normalize_then_sum")
    half = torch.tensor([[-1.0, -2.0], [1.0, 2.0], [1.0, 2.0], [-1.0, -2.0]]) / 2**0.5
    torch.testing.assert_close(parts, half / 6**0.5, atol=1e-3, rtol=0)
    shares = advantage_shares(advantage_sizes({"a": parts[:, :1], "b": parts[:, 1:]}, torch.ones(4, 1)))
    assert shares.tolist() == pytest.approx([1 / 3, 2 / 3], abs=1e-3)


def test_a_judge_that_prefers_nothing_has_no_part():
    scores = torch.tensor([[0.0, 5.0], [1.0, 5.0]])
    for aggregation in ("sum_then_normalize", "normalize_then_sum"):
        parts = score_advantages(scores, torch.ones(2), 2, aggregation)
        assert (parts[:, 1] == 0).all() and (parts[:, 0] != 0).all() and torch.isfinite(parts).all()
    with pytest.raises(ValueError, match="expected one of sum_then_normalize, normalize_then_sum"):
        score_advantages(scores, torch.ones(2), 2, "both")


def test_dominant_reward():
    gate, even = {"gate": 0.9, "style": 0.1}, {"gate": 0.5, "style": 0.5}
    assert dominant_reward([gate] * 3, 0.8) == "gate"
    assert dominant_reward([gate, even, gate], 0.8) is None  # not in every step
    assert dominant_reward([gate, {"gate": 0.1, "style": 0.9}], 0.8) is None  # not the same one
    assert dominant_reward([gate] * 3, 0.9) is None and dominant_reward([], 0.8) is None
