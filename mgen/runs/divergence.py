"""Finds weights that a step of training has broken, before they are saved or sampled from."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

MOST_GROWTH = 1000.0
"""Growth of the norm of all weights over a run above which no learning rate makes sense: a run that learns stays below
10, and weights of that size no longer compute anything, though all of them may be finite.
"""


def weight_norm(weights: Iterable[Tensor]) -> float:
    """The Euclidean norm of all weights; NaN or infinite if one of them is."""
    norm = torch.nn.utils.get_total_norm([weight.detach() for weight in weights])
    return float(getattr(norm, "full_tensor", lambda: norm)())  # of sharded weights, the norm over all processes


def divergence(norm: float, start: float) -> str | None:
    """Describes broken weights; None if they are sound.

    Args:
        norm: of the weights now.
        start: of the weights at the start of training.
    """
    if not math.isfinite(norm):
        return f"the weights are {'not numbers' if math.isnan(norm) else 'infinite'}"
    growth = norm / max(start, 1.0)
    return f"the weights have grown {growth:.0e} times" if growth > MOST_GROWTH else None
