"""The update of a policy by policy gradient: loss, how far it moved the policy, and how strong its signal is."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn


def clipped_loss(logprobs: Tensor, sampled: Tensor, advantages: Tensor, mask: Tensor, clip: float) -> Tensor:
    """Minus the advantage that a policy gains on completions of an earlier one, as a mean over completions.

    loss = -1/B sum_b sum_t min(r A, clip(r, 1 - c, 1 + c) A), with r = exp(logprobs - sampled). At r = 1 its gradient
    is that of minus the expected reward; no completion is divided by its length.

    Args:
        logprobs: (B, T) under the policy, with gradient.
        sampled: (B, T) under the policy that sampled.
        advantages: (B, T) in nats.
        mask: (B, T) True on tokens of the completion.
        clip: c, above 0.

    Source: Schulman et al. 2017 (PPO), arXiv:1707.06347.
    """
    ratio = torch.exp(logprobs - sampled)
    gained = torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages)
    return -(gained * mask).sum() / len(mask)


def kl_between(logprobs: Tensor, sampled: Tensor, mask: Tensor) -> Tensor:
    """KL(sampling policy, policy) in nats per completion, estimated on its own samples.

    The mean over completions of sum_t (r - 1 - log r), r = exp(logprobs - sampled), which has little variance near 0.

    Source: Schulman 2020, "Approximating KL divergence" (k3).
    """
    log_ratio = (logprobs - sampled) * mask
    return ((log_ratio.exp() - 1 - log_ratio) * mask).sum() / max(len(mask), 1)


def steered(learning_rate: float, growth: float, aim: float) -> float:
    """The learning rate after a step that moved the policy by `growth` nats per completion, when `aim` was wanted.

    KL grows with the square of a step, so the rate is multiplied by sqrt(aim / growth), but at most by 1.5 and at
    least by 0.5: one step measures it with noise.
    """
    if aim <= 0:
        return learning_rate
    return learning_rate * min(max(math.sqrt(aim / max(growth, 1e-12)), 0.5), 1.5)


def minibatches(size: int, minibatch: int, epochs: int, seed: int) -> Iterator[Tensor]:
    """Indices of `size` completions in random minibatches, each epoch in another order; the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        yield from torch.split(torch.randperm(size, generator=generator), minibatch)


def signal_and_noise(first: Tensor, second: Tensor) -> tuple[float, float]:
    """Powers of the signal and of the noise in the mean of two gradients (weights,) of independent half batches.

    With g the true gradient and n the noise of a half, first = g + n1 and second = g + n2: |g|^2 is estimated by
    first . second, which is negative where noise hides the signal, and the noise of the mean, |n|^2 / 2, by
    |first - second|^2 / 4. Take means of both over several batches before dividing. The batch whose signal equals its
    noise has 1 / (signal / noise) times as many completions.
    """
    return float(first @ second), float((first - second).square().sum() / 4)


Weights = dict[str, Tensor]
"""The parameters of a model by name, tied ones once."""


def copy_weights(model: nn.Module) -> Weights:
    """A copy of the weights of a model."""
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


@torch.no_grad()
def set_weights(model: nn.Module, weights: Weights) -> None:
    """Sets the weights of a model."""
    for name, weight in model.named_parameters():
        weight.copy_(weights[name])


@torch.no_grad()
def average_weights(average: Weights, model: nn.Module, decay: float) -> None:
    """Moves an average towards the weights of a model by a share of 1 - `decay`, in place."""
    for name, weight in model.named_parameters():
        average[name].lerp_(weight, 1 - decay)
