"""Best-of-n distillation: a policy is trained on the best of n of its completions of each prompt.

KL(best of n, policy) is at most log n - (n - 1) / n nats per piece (Beirami et al. 2024, arXiv:2401.01879); what is
distilled of it in one pass is less.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from mgen.arrays import Floats, Longs
from mgen.sampling.systems import best_of


def best_rows(score: Floats, n: int) -> Longs:
    """Indices of the best of each n completions in a row, by their scores (B,)."""
    return best_of(score.reshape(-1, n)) + np.arange(0, len(score), n)


def likelihood_loss(logprobs: Tensor, mask: Tensor, tokens: float) -> Tensor:
    """Minus the mean log-probability of completions (B, T), in nats per token.

    Args:
        tokens: mean number of tokens in a completion, over all of them, so that parts of a batch add up.
    """
    return -(logprobs * mask).sum() / (len(mask) * tokens)
