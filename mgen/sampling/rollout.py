"""Sampling from a policy. The sampler knows nothing about music, and nothing about rewards."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    PreTrainedModel,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from mgen.errors import MgenError
from mgen.models.transformer import context_length


@dataclass(frozen=True, slots=True)
class Rollout:
    """B sampled completions, right-padded to T tokens, as the sampling policy saw them."""

    token_ids: Tensor  # (B, T) int64
    mask: Tensor  # (B, T) bool; the end token counts
    logprobs: Tensor  # (B, T) float32, in nats, of the distribution drawn from (see `choose`); 0 where masked

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

    Order, as in `transformers`: guidance, repetition penalty, temperature, top k, top p.

    Attributes:
        temperature: 0 is greedy.
        top_k: 0 keeps all tokens.
        top_p: share of probability that is kept.
        guidance: w of classifier-free guidance: logits are `u + w (c - u)`, c those after the prompt and u those after
            the same prompt without its style token. 1 is the model itself, 0 the model without the style token.
        repetition_penalty: logits of tokens that prompt or completion contain are divided by it where they are positive
            and multiplied by it where they are negative (Keskar et al. 2019, CTRL, arXiv:1909.05858). 1 is none.

    Raises:
        ValueError: A number is outside its range.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    max_new_tokens: int = 256
    guidance: float = 1.0
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise ValueError(f"temperature ({self.temperature}) must be at least 0; 0 is greedy")
        if self.top_k < 0:
            raise ValueError(f"top_k ({self.top_k}) must be at least 0; 0 keeps all tokens")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p ({self.top_p}) must be above 0 and at most 1")
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens ({self.max_new_tokens}) must be at least 1")
        if not 0 <= self.guidance < math.inf:
            raise ValueError(f"guidance ({self.guidance}) must be at least 0; 1 is none, try 2")
        if not 0 < self.repetition_penalty < math.inf:
            raise ValueError(f"repetition_penalty ({self.repetition_penalty}) must be above 0; 1 is none, try 1.2")

    def warpers(self) -> LogitsProcessorList:
        """Temperature, top k and top p, as far as they change anything."""
        warpers = LogitsProcessorList()
        if self.temperature not in (0, 1):
            warpers.append(TemperatureLogitsWarper(float(self.temperature)))
        if self.top_k:
            warpers.append(TopKLogitsWarper(self.top_k))
        if self.top_p < 1:
            warpers.append(TopPLogitsWarper(self.top_p))
        return warpers


class _Buffer(DynamicLayer):  # type: ignore[misc]
    """Keys and values of a layer in memory that is allocated once; `transformers` copies all of them at every step."""

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
    unguided: Sequence[Sequence[int]] | None = None,
    penalised: Tensor | None = None,
) -> Rollout:
    """Continues each prompt until the end token or `max_new_tokens`.

    Args:
        prompts: B token id lists. Prompts of one length are sampled together, so nothing is ever padded on the left.
        generator: on the model's device; one with the same seed gives the same completions.
        batch_size: completions sampled at a time.
        unguided: for guidance, the B prompts without their style token; each is continued with the same tokens as its
            prompt, at its own positions.
        penalised: (V,) bool, tokens that the repetition penalty falls on; all by default, as in `transformers`.

    Raises:
        ValueError: A prompt is empty, prompt and completion together exceed the model's context, or there is guidance
            without `unguided`.
    """
    context = context_length(model.config)
    device = model.device
    steps = decoding.max_new_tokens
    if decoding.guidance == 1:
        unguided = [[]] * len(prompts)
    elif unguided is None or len(unguided) != len(prompts):
        raise ValueError(f"guidance ({decoding.guidance}) needs each of the {len(prompts)} prompts unguided as well")
    ids = torch.full((len(prompts), steps), pad_id, device=device)
    logprobs = torch.zeros(len(prompts), steps, device=device)
    rows_of: dict[tuple[int, int], list[int]] = {}
    for row, (prompt, bare) in enumerate(zip(prompts, unguided, strict=True)):
        rows_of.setdefault((len(prompt), len(bare)), []).append(row)
    training = model.training
    model.eval()
    try:
        for (length, bare_length), rows in rows_of.items():
            shortest = length if decoding.guidance == 1 else min(length, bare_length)
            if not shortest or max(length, bare_length) + steps > context:
                raise ValueError(
                    f"a prompt of {length} tokens and max_new_tokens ({steps}) must have at least 1 and together "
                    f"at most {context} tokens, the model's context"
                )
            for begin in range(0, len(rows), batch_size):
                part = rows[begin : begin + batch_size]
                prompt_ids = torch.tensor([list(prompts[row]) for row in part], device=device)
                bare_ids = torch.tensor([list(unguided[row]) for row in part], dtype=torch.int64, device=device)
                ids[part], logprobs[part] = _sample_batch(
                    model, prompt_ids, bare_ids, decoding, penalised, eos_id, pad_id, generator
                )
    finally:
        model.train(training)
    ended = (ids == eos_id).int().cumsum(1) - (ids == eos_id).int()
    mask = ended == 0
    longest = int(mask.sum(1).max()) if len(prompts) else 0
    return Rollout(ids[:, :longest], mask[:, :longest], logprobs[:, :longest].masked_fill(~mask[:, :longest], 0.0))


class _Reader:
    """A model that reads token after token, with its cache."""

    def __init__(self, model: PreTrainedModel, length: int) -> None:
        self.model = model
        layers = DynamicCache(config=model.config).layers  # some architectures have layers of other kinds
        self.cache = Cache(layers=[_Buffer(length) if type(layer) is DynamicLayer else layer for layer in layers])

    def __call__(self, ids: Tensor) -> Tensor:
        """(B, V) logits after the next tokens (B, T)."""
        output = self.model(input_ids=ids, past_key_values=self.cache, use_cache=True, logits_to_keep=1)
        logits: Tensor = output.logits[:, -1].float()
        return logits


def _sample_batch(
    model: PreTrainedModel,
    prompt_ids: Tensor,
    bare_ids: Tensor,
    decoding: Decoding,
    penalised: Tensor | None,
    eos_id: int,
    pad_id: int,
    generator: torch.Generator | None,
) -> tuple[Tensor, Tensor]:
    """(B, T) ids, `pad_id` after the end, and (B, T) log-probabilities."""
    batch, length = prompt_ids.shape
    steps, device = decoding.max_new_tokens, prompt_ids.device
    read = _Reader(model, length + steps)
    read_bare = None if decoding.guidance == 1 else _Reader(model, bare_ids.shape[1] + steps)
    seen = prompt_ids
    ids = torch.full((batch, steps), pad_id, device=device)
    logprobs = torch.zeros(batch, steps, device=device)
    done = torch.zeros(batch, dtype=torch.bool, device=device)
    step_ids = prompt_ids
    for step in range(steps):
        logits = read(step_ids)
        if read_bare is not None:
            bare = read_bare(bare_ids if step == 0 else step_ids)
            logits = bare + decoding.guidance * (logits - bare)
        if decoding.repetition_penalty != 1:
            logits = penalise(logits, seen, decoding.repetition_penalty, penalised)
        token, logprob = choose(logits, decoding, generator)
        ids[:, step] = token.masked_fill(done, pad_id)
        logprobs[:, step] = logprob
        done = done | (token == eos_id)
        if done.all():
            break
        step_ids = token[:, None]
        if decoding.repetition_penalty != 1:
            seen = torch.cat([seen, step_ids], dim=1)
    return ids, logprobs


def penalise(logits: Tensor, seen: Tensor, penalty: float, penalised: Tensor | None = None) -> Tensor:
    """Logits (B, V) with the repetition penalty on the tokens `seen` (B, T) that are also `penalised` (V,) bool."""
    changed: Tensor = RepetitionPenaltyLogitsProcessor(float(penalty))(seen, logits)
    return changed if penalised is None else torch.where(penalised.to(logits.device), changed, logits)


def choose(logits: Tensor, decoding: Decoding, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """Next token (B,) and its log-probability (B,) from logits (B, V).

    The log-probability is that of the distribution that the token is drawn from, so that a sum of log ratios to another
    model is an unbiased sample of the KL: at the temperature, after top k and top p. Greedy decoding draws nothing and
    reports temperature 1.

    Raises:
        MgenError: A logit is not a number.
    """
    if decoding.temperature == 0:
        _check_numbers(logits, decoding)
        token = logits.argmax(-1)
        return token, logits.log_softmax(-1).gather(-1, token[:, None])[:, 0]
    no_ids = torch.empty(len(logits), 0, dtype=torch.int64, device=logits.device)  # warpers do not look at tokens
    logprobs = decoding.warpers()(no_ids, logits).log_softmax(-1)
    _check_numbers(logprobs, decoding)
    token = torch.multinomial(logprobs.exp(), 1, generator=generator)
    return token[:, 0], logprobs.gather(-1, token)[:, 0]


def _check_numbers(logits: Tensor, decoding: Decoding) -> None:
    if logits.isnan().any():
        extremes = f"guidance ({decoding.guidance:g}) or repetition_penalty ({decoding.repetition_penalty:g})"
        raise MgenError(
            "the model's probabilities of the next token are not numbers: its weights are broken, or temperature "
            f"({decoding.temperature:g}), {extremes} is too extreme"
        )


@torch.no_grad()
def completion_logprobs(
    model: PreTrainedModel, ids: Tensor, length: int, attention_mask: Tensor | None = None, batch_size: int = 64
) -> Tensor:
    """(B, T) log-probabilities, in nats, under a model, of the last T = `length` tokens of each row of `ids` (B, P
    + T).
    """
    parts = []
    for begin in range(0, len(ids), batch_size):
        rows = slice(begin, begin + batch_size)
        mask = None if attention_mask is None else attention_mask[rows]
        logits = model(input_ids=ids[rows], attention_mask=mask, logits_to_keep=length + 1).logits[:, :-1].float()
        parts.append(logits.log_softmax(-1).gather(-1, ids[rows, -length:, None])[..., 0])
    return torch.cat(parts)
