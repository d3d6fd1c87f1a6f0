"""The completions of a step as tensors, and their log-probabilities under a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from mgen.sampling.grammar import GrammarMask


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """B prompts, padded on the left to P tokens, and their completions, padded on the right to T."""

    ids: Tensor  # (B, P + T) int64
    attended: Tensor  # (B, P + T) bool, False on padding
    mask: Tensor  # (B, T) bool, True on tokens of the completion
    temperature: Tensor  # (B,) float32, of the policy that sampled
    group: Tensor  # (B,) int64, completions of one prompt share it

    @property
    def completion_ids(self) -> Tensor:
        """(B, T), padded on the right."""
        return self.ids[:, -self.mask.shape[1] :]

    @property
    def warm(self) -> Tensor:
        """(B,) bool, completions at temperature 1."""
        return self.temperature == 1


def collate(
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    temperature: Tensor,
    group_size: int,
    pad_id: int,
    device: torch.device | str = "cpu",
) -> Batch:
    """The batch of B prompts, those of a group next to each other, with a completion of at least one token each."""
    width, length = max(map(len, prompts)), max(map(len, completions))
    ids = torch.full((len(prompts), width + length), pad_id)
    attended = torch.zeros(ids.shape, dtype=torch.bool)
    for row, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        place = slice(width - len(prompt), width + len(completion))
        ids[row, place] = torch.tensor([*prompt, *completion])
        attended[row, place] = True
    group = torch.arange(len(prompts)) // group_size
    return Batch(*(part.to(device) for part in (ids, attended, attended[:, width:], temperature, group)))


def token_logprobs(model: PreTrainedModel, batch: Batch, rows: Tensor, grammar: GrammarMask | None = None) -> Tensor:
    """(R, T) log-probabilities, in nats, of the completions `rows` (R,) of a batch; 0 where masked; with gradient.

    Args:
        model: read at the temperature of each completion.
        grammar: if it was sampled with: the probabilities are of the tokens that it allows.
    """
    ids, mask, length = batch.ids[rows], batch.mask[rows], batch.mask.shape[1]
    attended = batch.attended[rows].long()
    logits = model(input_ids=ids, attention_mask=attended, logits_to_keep=length + 1).logits[:, :-1].float()
    logits = logits / batch.temperature[rows][:, None, None]
    if grammar is not None:
        logits = logits.masked_fill(~grammar.after(ids)[:, -length - 1 : -1], -torch.inf)
    chosen = logits.gather(-1, ids[:, -length:, None])[..., 0] - logits.logsumexp(-1)
    return torch.where(mask, chosen, 0.0)
