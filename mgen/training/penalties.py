"""Terms next to the next-token loss of pretraining: what they have in common, and the one on broken grammar."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from mgen.sampling.grammar import GrammarMask

JUDGED = 4  # with all rows a step of 3.5 M weights takes 1.2 s, with a quarter of them 1.0 s


class Penalty(Protocol):
    """A term on some tokens of a batch."""

    @property
    def weight(self) -> float:
        """Next to 1 for the next-token loss of real music."""
        ...

    def prepare(
        self, model: PreTrainedModel, batch: dict[str, Any], dtype: torch.dtype | None = None
    ) -> Callable[[Tensor], Tensor]:
        """Takes what is meant for the penalty out of the batch, or changes its rows.

        Args:
            dtype: of matrix products, if the model is to be sampled from; by default that of its weights.

        Returns:
            (B, T, V) logits -> the sum of the penalty over the batch, in nats.
        """
        ...


@dataclass(frozen=True)
class GrammarPenalty:
    """Minus the logarithm of the probability of all allowed tokens, at every place of a batch: estimated from its first
    rows, one in `JUDGED`.

    The next-token loss has this term already, with weight 1: a forbidden token takes probability from the right one.
    Broken tokens are rare and cost it little, but one spoils a piece, so they are worth more.

    Source: Xu et al. 2018, the semantic loss, arXiv:1711.11157.
    """

    weight: float
    mask: GrammarMask

    def prepare(
        self, model: PreTrainedModel, batch: dict[str, Any], dtype: torch.dtype | None = None
    ) -> Callable[[Tensor], Tensor]:
        ids = batch["input_ids"]
        rows = -(-len(ids) // JUDGED)
        forbidden, judged = ~self.mask.after(ids[:rows]), ids[:rows] != self.mask.pad_id
        return lambda logits: forbidden_loss(logits[:rows], forbidden, judged) * len(ids) / rows


def forbidden_loss(logits: Tensor, forbidden: Tensor, judged: Tensor) -> Tensor:
    """Sums -log(1 - p) over the places that are `judged` (B, T); p is the probability of the tokens `forbidden` (B, T,
    V), from logits (B, T, V).
    """
    logits = logits.float()
    allowed = logits.masked_fill(forbidden, -torch.inf).logsumexp(-1)
    return ((logits.logsumexp(-1) - allowed) * judged).sum()
