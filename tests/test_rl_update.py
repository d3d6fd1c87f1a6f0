"""The update by hand: loss and gradient, KL of a step, learning rate, minibatches, signal and noise, weights."""

from __future__ import annotations

import math

import pytest
import torch

from mgen.rl.update import (
    average_weights,
    clipped_loss,
    copy_weights,
    kl_between,
    minibatches,
    set_weights,
    signal_and_noise,
    steered,
)


def test_clipped_loss_and_its_gradient_by_hand():
    """Row 1 gains 2, 1.2 (clipped) and -0.8 (clipped); row 2 gains 0.5 and -1.5, and its third token is padding."""
    logprobs = torch.tensor([[1.0, 1.5, 0.5], [0.5, 1.5, 9.0]]).log().requires_grad_()
    advantages = torch.tensor([[2.0, 1.0, -1.0], [1.0, -1.0, 5.0]])
    mask = torch.tensor([[True, True, True], [True, True, False]])
    loss = clipped_loss(logprobs, torch.zeros(2, 3), advantages, mask, 0.2)
    loss.backward()
    assert loss.item() == pytest.approx(-(2.4 - 1.0) / 2)
    # -r A / 2 where nothing is clipped
    torch.testing.assert_close(logprobs.grad, torch.tensor([[-1.0, 0.0, 0.0], [-0.25, 0.75, 0.0]]))


def test_kl_of_a_step_by_hand():
    """One ratio of 2: 2 - 1 - log 2, divided by the two completions; what is masked does not count."""
    logprobs = torch.tensor([[math.log(2), 0.0], [0.0, 7.0]])
    mask = torch.tensor([[True, True], [True, False]])
    assert float(kl_between(logprobs, torch.zeros(2, 2), mask)) == pytest.approx((1 - math.log(2)) / 2)


def test_kl_of_a_step_is_that_of_the_two_distributions():
    before, after = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.4, 0.4, 0.2])
    drawn = torch.multinomial(before, 200_000, replacement=True, generator=torch.Generator().manual_seed(0))[:, None]
    found = kl_between(after.log()[drawn], before.log()[drawn], torch.ones(drawn.shape, dtype=torch.bool))
    assert float(found) == pytest.approx(float((before * (before / after).log()).sum()), rel=0.03)


@pytest.mark.parametrize(
    ("growth", "aim", "factor"),
    [(0.1, 0.144, 1.2), (0.1, 0.064, 0.8), (0.1, 10, 1.5), (10, 0.1, 0.5), (0.0, 0.1, 1.5), (0.1, 0.0, 1.0)],
)
def test_the_learning_rate_follows_the_square_root(growth, aim, factor):
    assert steered(2e-4, growth, aim) == pytest.approx(2e-4 * factor)


def test_minibatches_cover_all_and_are_reproducible():
    def draw(seed):
        return [rows.tolist() for rows in minibatches(10, 4, 2, seed)]

    found = draw(3)
    assert [len(rows) for rows in found] == [4, 4, 2] * 2
    epochs = [[row for rows in part for row in rows] for part in (found[:3], found[3:])]
    assert [sorted(rows) for rows in epochs] == [list(range(10))] * 2 and epochs[0] != epochs[1]
    assert draw(3) == found != draw(4)


def test_signal_and_noise_by_hand():
    """Signal 3^2; noise of the mean |(n1 + n2) / 2|^2 = 1 / 2."""
    signal, first, second = torch.tensor([[3.0, 0, 0], [0.0, 1, 0], [0.0, 0, 1]])
    assert signal_and_noise(signal + first, signal + second) == pytest.approx((9, 0.5))
    assert signal_and_noise(torch.tensor([1.0, -2.0]), torch.tensor([1.0, 2.0])) == (-3, 4)


@pytest.mark.parametrize("ratio", [0.0, 0.5, 4.0])
def test_signal_and_noise_of_synthetic_gradients(ratio):
    generator = torch.Generator().manual_seed(0)
    signal, *noise = torch.randn(3, 100_000, generator=generator)
    signal *= math.sqrt(ratio / 2)  # the noise of the mean has power 1 / 2
    found = signal_and_noise(signal + noise[0], signal + noise[1])
    assert found[0] / found[1] == pytest.approx(ratio, abs=0.05)


def test_weights_are_copied_set_and_averaged_with_tied_ones_once(tiny_policy):
    one, other = tiny_policy(0), tiny_policy(1)
    start, end = copy_weights(one), copy_weights(other)
    assert one.lm_head.weight is one.model.embed_tokens.weight
    assert "model.embed_tokens.weight" in start and "lm_head.weight" not in start
    average = copy_weights(one)
    average_weights(average, other, 0.75)
    for name, weight in average.items():
        torch.testing.assert_close(weight, 0.75 * start[name] + 0.25 * end[name])
    ids = torch.arange(12)[None]
    expected = other(ids).logits.detach()
    set_weights(one, end)
    assert torch.equal(one(ids).logits, expected) and one.lm_head.weight is one.model.embed_tokens.weight
    assert not torch.equal(start["model.embed_tokens.weight"], one.model.embed_tokens.weight)  # a copy
