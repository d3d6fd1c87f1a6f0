"""The completions of a step as tensors, and their log-probabilities under a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from mgen.sampling.grammar import GrammarMask


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """B prompts with completions of at most T tokens; all padding is on the right, where a causal model ignores it."""

    prompts: Sequence[Sequence[int]]  # B token id lists
    completions: Sequence[Sequence[int]]  # B token id lists
    ids: Tensor  # (B, L) int64, prompts with their completions
    completion_ids: Tensor  # (B, T) int64
    mask: Tensor  # (B, T) bool, True on tokens of the completion
    start: Tensor  # (B,) int64, tokens of the prompt
    temperature: Tensor  # (B,) float32, of the policy that sampled
    group: Tensor  # (B,) int64, completions of one prompt share it
    allowed: Tensor | None = None  # (B, L, V) bool, tokens that the grammar allows after each, if it was sampled with

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
    grammar: GrammarMask | None = None,
    pad_to: tuple[int, int] = (0, 0),
) -> Batch:
    """The batch of B prompts, those of a group next to each other, with a completion of at least one token each.

    Args:
        grammar: if it was sampled with.
        pad_to: least L and T, for a compiled model, which needs one shape.
    """
    rows = [[*prompt, *completion] for prompt, completion in zip(prompts, completions, strict=True)]
    ids = torch.full((len(rows), max(pad_to[0], *map(len, rows))), pad_id)
    completion_ids = torch.full((len(rows), max(pad_to[1], *map(len, completions))), pad_id)
    mask = torch.zeros(completion_ids.shape, dtype=torch.bool)
    for number, (row, completion) in enumerate(zip(rows, completions, strict=True)):
        ids[number, : len(row)] = torch.tensor(row)
        completion_ids[number, : len(completion)] = torch.tensor(completion)
        mask[number, : len(completion)] = True
    start, group = torch.tensor([len(prompt) for prompt in prompts]), torch.arange(len(rows)) // group_size
    ids, completion_ids, mask, start, temperature, group = (
        part.to(device) for part in (ids, completion_ids, mask, start, temperature, group)
    )
    allowed = None if grammar is None else grammar.after(ids)
    return Batch(prompts, completions, ids, completion_ids, mask, start, temperature, group, allowed)


def token_logprobs(model: PreTrainedModel, batch: Batch, rows: Tensor) -> Tensor:
    """(R, T) log-probabilities, in nats, of the completions `rows` (R,) of a batch; 0 where masked; with gradient.

    A causal model is read at the temperature of each completion, and among the tokens that the grammar allows if it was
    sampled with.
    """
    return read(model, batch, rows, allowed=False)[0]


def read(model: PreTrainedModel, batch: Batch, rows: Tensor, allowed: bool = True) -> tuple[Tensor, Tensor | None]:
    """As `token_logprobs`, and (R, T) log-probabilities that the model itself gives to all allowed tokens together.

    The second is None if it is not asked for, or without a grammar.
    """
    ids, mask, start = batch.ids[rows], batch.mask[rows], batch.start[rows]
    skipped = int(batch.start.min()) - 1  # positions before that of the first logits that are needed
    logits = model(input_ids=ids, logits_to_keep=ids.shape[1] - skipped).logits[:, :-1].float()
    targets = ids[:, skipped + 1 :]
    place = (start - 1 - skipped)[:, None] + torch.arange(mask.shape[1], device=ids.device)
    place = place.clamp(max=targets.shape[1] - 1)
    mass = None
    if not (temperature := batch.temperature[rows]).eq(1).all():
        logits = logits / temperature[:, None, None]
    if batch.allowed is not None:
        total = logits.logsumexp(-1) if allowed else None
        logits = logits.masked_fill(~batch.allowed[rows][:, skipped:-1], -torch.inf)
        if total is not None:
            mass = torch.where(mask, (logits.logsumexp(-1) - total).gather(1, place), 0.0)
    found = -cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view(targets.shape)
    return torch.where(mask, found.gather(1, place), 0.0), mass
