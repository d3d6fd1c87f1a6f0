"""A loss against runaway repetition: on pseudo-repetitions, each copy is to be less likely than the copy before.

Real music repeats a bar at once now and then, hardly ever more than a few times, so a model trained on real music alone
learns that what was repeated goes on, and never that it ends. Only pitches are judged here: metre, rhythm and loudness
may stay the same for a whole piece.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

LEAST = 1e-6  # of 1 - |p - target|, so that its logarithm is finite


@dataclass(frozen=True, slots=True)
class RepetitionPenalty:
    """How the copies of pseudo-repetitions are penalised; see `repetition_loss`."""

    weight: float  # of a judged token, next to 1 for a token of real music
    free: int  # copies that are not judged
    ratio: float  # of the probabilities of a token in a copy and in the one before


def repetition_loss(
    logits: Tensor, ids: Tensor, copies: Tensor, period: Tensor, judged: Tensor, free: int, ratio: float
) -> Tensor:
    """Sums -log(1 - |p_k - ratio p_(k-1)|) over the judged tokens of all copies k above `free`.

    p_k is the probability of a token in copy k, and p_(k-1) that of the same token one copy earlier, without gradient.
    With ratio 0 it is unlikelihood, -log(1 - p_k).

    Args:
        logits: (B, T, V) of the next token.
        ids: (B, T).
        copies: (B, T) number of the copy that a token belongs to, from 1; 0: real music.
        period: (B,) tokens of a copy.
        judged: (V,) bool, tokens that the loss looks at.
        free: copies that are not judged, at least 1.
        ratio: wanted ratio of the probabilities of a token in a copy and in the one before, 0..1.

    Returns:
        A scalar in nats.

    Source: Xu et al. 2022 (DITTO), arXiv:2206.02369, equation 2; Welleck et al. 2019 (unlikelihood), arXiv:1908.04319.
    """
    counted = (copies > free) & judged[ids]
    row, place = counted.nonzero(as_tuple=True)
    now = _probability(logits, ids, row, place)
    with torch.no_grad():
        before = _probability(logits, ids, row, place - period[row])
    return -torch.log((1 - (now - ratio * before).abs()).clamp(min=LEAST)).sum()


def _probability(logits: Tensor, ids: Tensor, row: Tensor, place: Tensor) -> Tensor:
    """(N,) probability of the tokens at (N,) rows and places, from the logits one place earlier."""
    scores = logits[row, place - 1].float()
    return (scores.gather(-1, ids[row, place, None])[:, 0] - scores.logsumexp(-1)).exp()
