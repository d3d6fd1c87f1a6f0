"""Losses of a prediction that is yes or no for every cell of a piano-roll, of which few are yes."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid, softplus

LOSSES = ("bce", "weighted", "focal")


def bce(logits: Tensor, truth: Tensor) -> Tensor:
    """Binary cross-entropy of each cell, in nats."""
    return binary_cross_entropy_with_logits(logits, truth, reduction="none")


def weighted_bce(logits: Tensor, truth: Tensor, positive_weight: float) -> Tensor:
    """Binary cross-entropy of each cell, that of a yes times `positive_weight`."""
    return truth * positive_weight * softplus(-logits) + (1 - truth) * softplus(logits)


def focal(logits: Tensor, truth: Tensor, gamma: float, alpha: float) -> Tensor:
    """-a (1 - p)^gamma log p of each cell: p is the probability of the truth; a is alpha for a yes, else 1 - alpha.

    With gamma 0 and alpha 1/2 it is half of the cross-entropy.

    Source: Lin et al. 2017, arXiv:1708.02002, equation 5.
    """
    right = (2 * truth - 1) * logits  # logit of the truth
    share = truth * alpha + (1 - truth) * (1 - alpha)
    # (1 - p)^gamma through its logarithm: its gradient is finite where 1 - p is 0
    return share * (gamma * logsigmoid(-right)).exp() * softplus(-right)


def cell_loss(loss: str, logits: Tensor, truth: Tensor, positive_weight: float, gamma: float, alpha: float) -> Tensor:
    """The loss of each cell.

    Args:
        loss: one of `LOSSES`.
        logits, truth: of one shape; truth is 0 or 1, a float.
    """
    if loss == "weighted":
        return weighted_bce(logits, truth, positive_weight)
    return focal(logits, truth, gamma, alpha) if loss == "focal" else bce(logits, truth)
