"""The completions of a step as tensors, and their log-probabilities under a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
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


Head = Callable[..., tuple[Tensor, Tensor | None]]
"""`completion_logprobs`, or the same compiled."""


def token_logprobs(model: PreTrainedModel, batch: Batch, rows: Tensor) -> Tensor:
    """(R, T) log-probabilities, in nats, of the completions `rows` (R,) of a batch; 0 where masked; with gradient.

    A causal model is read at the temperature of each completion, and among the tokens that the grammar allows if it was
    sampled with.
    """
    return read(model, batch, rows)[0]


def read(model: PreTrainedModel, batch: Batch, rows: Tensor, head: Head | None = None) -> tuple[Tensor, Tensor | None]:
    """As `token_logprobs`, and (R, T) log-probabilities that the model itself gives to all allowed tokens together.

    The second is None without a grammar.
    """
    ids, mask, place = batch.ids[rows], batch.mask[rows], _places(batch, rows)
    temperature = None if batch.warm.all() else batch.temperature[rows, None, None]
    allowed = None if batch.allowed is None else batch.allowed[rows, :-1]
    logits = model(input_ids=ids).logits[:, :-1]
    return (head or completion_logprobs)(logits, ids[:, 1:], place, mask, temperature, allowed)


def completion_logits(model: PreTrainedModel, batch: Batch, rows: Tensor) -> tuple[Tensor, Tensor | None]:
    """(R, T, V) logits that the tokens of completions are drawn from, -inf where the grammar forbids one.

    Args:
        rows: (R,) of the batch.

    Returns:
        Also (R, T) log-probabilities that the model gives to all allowed tokens together, 0 where masked; None without
        a grammar.
    """
    ids, place = batch.ids[rows], _places(batch, rows)
    logits: Tensor = model(input_ids=ids).logits.float()
    place = place[:, :, None].expand(-1, -1, logits.shape[2])
    found = logits.gather(1, place)
    if batch.allowed is None:
        return found, None
    inside = found.masked_fill(~batch.allowed[rows].gather(1, place), -torch.inf)
    return inside, torch.where(batch.mask[rows], inside.logsumexp(-1) - found.logsumexp(-1), 0.0)


def _places(batch: Batch, rows: Tensor) -> Tensor:
    """(R, T) places of the tokens before those of the completions; where masked, some place before the last."""
    places = batch.start[rows, None] - 1 + torch.arange(batch.mask.shape[1], device=batch.ids.device)
    return places.clamp(max=batch.ids.shape[1] - 2)


def completion_logprobs(
    logits: Tensor, targets: Tensor, place: Tensor, mask: Tensor, temperature: Tensor | None, allowed: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """See `read`.

    Args:
        logits: (R, L, V).
        targets: (R, L) the token after each.
        place: (R, T) index along L of each token of the completion.
        mask: (R, T) True on tokens of the completion.
        temperature: (R, 1, 1); 1 without it.
        allowed: (R, L, V) bool; all without it.
    """
    logits = logits.float()
    if temperature is not None:
        logits = logits / temperature
    total = logits.logsumexp(-1)
    inside = total if allowed is None else logits.masked_fill(~allowed, -torch.inf).logsumexp(-1)
    found = logits.gather(2, targets[:, :, None])[:, :, 0] - inside
    found = torch.where(mask, found.gather(1, place), 0.0)
    return found, None if allowed is None else torch.where(mask, (inside - total).gather(1, place), 0.0)
