"""Sampling from a policy. The sampler knows nothing about music, and nothing about rewards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, DynamicLayer


@dataclass(frozen=True, slots=True)
class Rollout:
    """B sampled completions, right-padded to T tokens, as the sampling policy saw them."""

    token_ids: Tensor  # (B, T) int64
    mask: Tensor  # (B, T) bool; the end token counts
    logprobs: Tensor  # (B, T) float32, in nats, under the sampling policy at its temperature; 0 where masked

    def lists(self) -> tuple[list[list[int]], list[list[float]]]:
        """Ids and log-probabilities of each completion, without padding."""
        sizes = self.mask.sum(1).tolist()
        ids, logprobs = self.token_ids.tolist(), self.logprobs.tolist()
        return (
            [row[:size] for row, size in zip(ids, sizes, strict=True)],
            [row[:size] for row, size in zip(logprobs, sizes, strict=True)],
        )


@dataclass(frozen=True, slots=True)
class Decoding:
    """How the next token is chosen.

    Raises:
        ValueError: A number is outside its range.
    """

    temperature: float = 1.0  # 0 is greedy
    top_k: int = 0  # 0: all tokens
    top_p: float = 1.0
    max_new_tokens: int = 256

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise ValueError(f"temperature ({self.temperature}) must be at least 0; 0 is greedy")
        if self.top_k < 0:
            raise ValueError(f"top_k ({self.top_k}) must be at least 0; 0 keeps all tokens")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p ({self.top_p}) must be above 0 and at most 1")
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens ({self.max_new_tokens}) must be at least 1")


class _Buffer(DynamicLayer):  # type: ignore[misc]
    """A layer's keys and values in memory taken once; `transformers` copies all of them at every step."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length = length
        self.filled = 0

    def update(self, key_states: Tensor, value_states: Tensor, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        if self.keys is None:
            batch, heads, _steps, width = key_states.shape
            self.room = key_states.new_empty(2, batch, heads, self.length, width)
            self.is_initialized = True
        end = self.filled + key_states.shape[-2]
        self.room[0, :, :, self.filled : end] = key_states
        self.room[1, :, :, self.filled : end] = value_states
        self.filled = end
        keys, values = self.room[0, :, :, :end], self.room[1, :, :, :end]
        self.keys: Tensor | None = keys
        self.values: Tensor | None = values
        return keys, values


@torch.no_grad()
def sample(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    eos_id: int,
    pad_id: int,
    generator: torch.Generator | None = None,
    batch_size: int = 128,
) -> Rollout:
    """Continue each prompt until the end token or `max_new_tokens`.

    Args:
        prompts: B token id lists. Prompts of one length are sampled together, so nothing is ever padded on the left.
        generator: source of chance, on the model's device; the same one gives the same completions.
        batch_size: most completions sampled at a time.

    Raises:
        ValueError: A prompt is empty, or prompt and completion together exceed the model's context.
    """
    context = model.config.max_position_embeddings
    device = model.device
    steps = decoding.max_new_tokens
    ids = torch.full((len(prompts), steps), pad_id, device=device)
    logprobs = torch.zeros(len(prompts), steps, device=device)
    rows_of: dict[int, list[int]] = {}
    for row, prompt in enumerate(prompts):
        rows_of.setdefault(len(prompt), []).append(row)
    training = model.training
    model.eval()
    try:
        for length, rows in rows_of.items():
            if not length or length + steps > context:
                raise ValueError(
                    f"a prompt of {length} tokens and max_new_tokens ({steps}) must have at least 1 and together "
                    f"at most {context} tokens, the model's context"
                )
            for begin in range(0, len(rows), batch_size):
                part = rows[begin : begin + batch_size]
                prompt_ids = torch.tensor([list(prompts[row]) for row in part], device=device)
                ids[part], logprobs[part] = _sample_batch(model, prompt_ids, decoding, eos_id, pad_id, generator)
    finally:
        model.train(training)
    ended = (ids == eos_id).int().cumsum(1) - (ids == eos_id).int()
    mask = ended == 0
    longest = int(mask.sum(1).max()) if len(prompts) else 0
    return Rollout(ids[:, :longest], mask[:, :longest], logprobs[:, :longest].masked_fill(~mask[:, :longest], 0.0))


def _sample_batch(
    model: PreTrainedModel,
    prompt_ids: Tensor,
    decoding: Decoding,
    eos_id: int,
    pad_id: int,
    generator: torch.Generator | None,
) -> tuple[Tensor, Tensor]:
    """(B, T) ids, `pad_id` after the end, and (B, T) log-probabilities."""
    batch, length = prompt_ids.shape
    cache = Cache(layers=[_Buffer(length + decoding.max_new_tokens) for _ in range(model.config.num_hidden_layers)])
    ids = torch.full((batch, decoding.max_new_tokens), pad_id, device=prompt_ids.device)
    logprobs = torch.zeros(batch, decoding.max_new_tokens, device=prompt_ids.device)
    done = torch.zeros(batch, dtype=torch.bool, device=prompt_ids.device)
    step_ids = prompt_ids
    for step in range(decoding.max_new_tokens):
        output = model(input_ids=step_ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        token, logprob = choose(output.logits[:, -1].float(), decoding, generator)
        ids[:, step] = token.masked_fill(done, pad_id)
        logprobs[:, step] = logprob
        done = done | (token == eos_id)
        if done.all():
            break
        step_ids = token[:, None]
    return ids, logprobs


def choose(logits: Tensor, decoding: Decoding, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """Next token (B,) and its log-probability (B,) from logits (B, V).

    The log-probability is that of the policy at the temperature, before top-k and top-p cut it; greedy reports it at
    temperature 1.
    """
    if decoding.temperature == 0:
        token = logits.argmax(-1)
        return token, logits.log_softmax(-1).gather(-1, token[:, None])[:, 0]
    scaled = logits / decoding.temperature
    logprobs = scaled.log_softmax(-1)
    kept = scaled
    if decoding.top_k:
        floor = kept.topk(min(decoding.top_k, kept.shape[-1])).values[:, -1:]
        kept = kept.masked_fill(kept < floor, -torch.inf)
    if decoding.top_p < 1:
        ordered, order = kept.sort(-1, descending=True)
        share = ordered.softmax(-1)
        # A token stays if those before it hold less than top_p; the first always does.
        cut = share.cumsum(-1) - share >= decoding.top_p
        kept = kept.masked_fill(cut.scatter(-1, order, cut), -torch.inf)
    token = torch.multinomial(kept.softmax(-1), 1, generator=generator)
    return token[:, 0], logprobs.gather(-1, token)[:, 0]


@torch.no_grad()
def completion_logprobs(
    model: PreTrainedModel,
    ids: Tensor,
    length: int,
    attention_mask: Tensor | None = None,
    batch_size: int = 64,
) -> Tensor:
    """(B, T) log-probabilities, in nats, that a model gives the last T = `length` tokens of each row of `ids` (B, P
    + T).
    """
    parts = []
    for begin in range(0, len(ids), batch_size):
        rows = slice(begin, begin + batch_size)
        mask = None if attention_mask is None else attention_mask[rows]
        logits = model(input_ids=ids[rows], attention_mask=mask, logits_to_keep=length + 1).logits[:, :-1].float()
        parts.append(logits.log_softmax(-1).gather(-1, ids[rows, -length:, None])[..., 0])
    return torch.cat(parts)
