"""Best-of-n distillation by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mgen.rl.distillation import best_rows, likelihood_loss


def test_the_best_of_each_group_by_hand():
    assert best_rows(np.array([0.0, 3.0, 1.0, 2.0, -1.0, -5.0]), 3).tolist() == [1, 3]
    assert best_rows(np.array([0.0, 3.0, 1.0, 2.0, -1.0, -5.0]), 2).tolist() == [1, 3, 4]


def test_the_loss_is_a_mean_over_tokens():
    logprobs = torch.tensor([[-1.0, -2.0, -3.0], [-6.0, 99.0, 99.0]], requires_grad=True)
    mask = torch.tensor([[True, True, True], [True, False, False]])
    loss = likelihood_loss(logprobs, mask, tokens=4 / len(mask))
    loss.backward()
    assert loss.item() == pytest.approx(12 / 4)
    torch.testing.assert_close(logprobs.grad, -mask.float() / 4)
