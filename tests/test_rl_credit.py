"""Credit and advantages, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mgen.judgement import Judgement
from mgen.notes import Notes
from mgen.rl.credit import advantage_shares, group_advantages, returns_to_go, token_rewards


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


def two_notes(remi) -> Notes:
    names = "Bar_None TimeSig_4/4 Position_0 Pitch_60 Velocity_63 Duration_1.0.24 Pitch_64 Velocity_63 Duration_1.0.24"
    vocabulary = {name: i for i, name in enumerate(remi.names)}
    return Notes.from_ids([[vocabulary[name] for name in names.split()], [remi.bar_id]], remi)


def test_credit_falls_on_the_token_that_completed_the_note(remi):
    judgement = Judgement(
        np.array([-1.5, -3.0], np.float32), np.array([-0.5, -1.0], np.float32), np.array([True, False])
    )
    rewards = token_rewards(judgement, two_notes(remi), torch.tensor([9, 1]))
    expected = torch.zeros(2, 9)
    expected[0, 5], expected[0, 8] = -0.5, -1.0  # the two duration tokens
    expected[1, 0] = -3.0  # a piece without notes is paid at its last token
    torch.testing.assert_close(rewards, expected)


def test_a_judge_without_credit_is_paid_at_the_last_token(remi):
    judgement = Judgement(np.array([-2.0, -3.0], np.float32), None, np.array([True, True]))
    rewards = token_rewards(judgement, two_notes(remi), torch.tensor([9, 1]))
    assert rewards.sum(1).tolist() == [-2.0, -3.0]
    assert rewards[0, 8] == -2.0 and rewards[1, 0] == -3.0


def test_shares_of_the_advantage():
    mask = torch.tensor([[True, True, False]])
    parts = {"loud": torch.tensor([[3.0, -3.0, 50.0]]), "quiet": torch.tensor([[1.0, 1.0, 0.0]])}
    assert advantage_shares(parts, mask) == {"loud": 0.75, "quiet": 0.25}
    assert advantage_shares({"silent": torch.zeros(1, 3)}, mask) == {"silent": 0.0}
