"""Best-of-n distillation by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mgen.rl.distillation import best_rows, guided_loss, likelihood_loss


def test_the_best_of_each_group_by_hand():
    assert best_rows(np.array([0.0, 3.0, 1.0, 2.0, -1.0, -5.0]), 3).tolist() == [1, 3]
    assert best_rows(np.array([0.0, 3.0, 1.0, 2.0, -1.0, -5.0]), 2).tolist() == [1, 3, 4]


def test_the_loss_is_a_mean_over_completions():
    logprobs = torch.tensor([[-1.0, -2.0, -3.0], [-6.0, 99.0, 99.0]], requires_grad=True)
    mask = torch.tensor([[True, True, True], [True, False, False]])
    loss = likelihood_loss(logprobs, mask)
    loss.backward()
    assert loss.item() == pytest.approx(12 / 2)
    torch.testing.assert_close(logprobs.grad, -mask.float() / 2)


def test_the_guided_loss_is_a_kl_by_hand():
    """Three tokens of which the grammar allows two; guided by 2, odds are styled squared over bare."""
    policy = torch.tensor([[[0.3, -0.2, -torch.inf], [1.0, 2.0, 3.0]]], requires_grad=True)
    styled = torch.log(torch.tensor([[[0.6, 0.3, 0.1], [1.0, 1.0, 1.0]]]))
    bare = torch.log(torch.tensor([[[0.2, 0.2, 0.6], [1.0, 1.0, 1.0]]]))
    loss = guided_loss(policy, styled, bare, 2.0, torch.tensor([[True, False]]))
    loss.backward()
    odds = np.array([0.6**2 / 0.2, 0.3**2 / 0.2])
    guided, own = odds / odds.sum(), np.exp([0.3, -0.2]) / np.exp([0.3, -0.2]).sum()
    log_ratio = np.log(own / guided)
    expected = (own * log_ratio).sum()
    assert loss.item() == pytest.approx(expected, abs=1e-6)
    gradient = own * (log_ratio - expected)  # of a KL by the logits of its first distribution
    np.testing.assert_allclose(policy.grad[0, 0], [*gradient, 0.0], atol=1e-6)
    assert (policy.grad[0, 1] == 0).all()
