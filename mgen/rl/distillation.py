"""First phases of a run: a policy is trained on what is better than it and easy to get.

Best of n: the best of n of its completions of each prompt. KL(best of n, policy) is at most log n - (n - 1) / n nats
per piece (Beirami et al. 2024, arXiv:2401.01879); what is distilled of it in one pass is less.

Guidance: the start under classifier-free guidance. Every probability is a target, so there is no noise of sampled
tokens.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mgen.arrays import Floats, Longs
from mgen.sampling.systems import best_of


def best_rows(score: Floats, n: int) -> Longs:
    """Indices of the best of each n completions in a row, by their scores (B,)."""
    return best_of(score.reshape(-1, n)) + np.arange(0, len(score), n)


def likelihood_loss(logprobs: Tensor, mask: Tensor) -> Tensor:
    """Minus the mean log-probability of completions (B, T), in nats per completion, as the policy gradient's loss is.

    The weight of the grammar, which is added to both, then means the same.
    """
    return -(logprobs * mask).sum() / len(mask)


def guided_loss(policy: Tensor, styled: Tensor, bare: Tensor, weight: float, mask: Tensor) -> Tensor:
    """Mean over completions of the sum over tokens of KL(policy, guided start), in nats.

    Guided are the logits bare + weight (styled - bare), as in `mgen.sampling.decoding`.

    Args:
        policy: (B, T, V) logits, with gradient; -inf where the grammar forbids a token.
        styled, bare: (B, T, V) logits of the start after the prompt, and after it without its style token.
        mask: (B, T) True on tokens of the completion.
    """
    forbidden = policy == -torch.inf
    guided = (bare + weight * (styled - bare)).masked_fill(forbidden, -torch.inf).log_softmax(-1)
    own = policy.log_softmax(-1)
    terms = own.exp() * (own - guided).masked_fill(forbidden, 0.0)
    return (terms.sum(-1) * mask).sum() / len(mask)
