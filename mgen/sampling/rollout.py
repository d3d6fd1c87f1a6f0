"""Sampling from a policy. The sampler knows nothing about music, and nothing about rewards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from mgen.errors import MgenError
from mgen.models.transformer import context_length
from mgen.sampling.decoding import Decoding, choose, penalise
from mgen.sampling.llama import LlamaReader, is_stock_llama
from mgen.sampling.lstm import LstmReader, is_stock_lstm

CHECK_EVERY = 8  # steps between looks at which rows have ended: on a GPU each look waits for it
WORTH_DROPPING = 0.75  # rows that have ended are dropped when at most this share of the rows goes on


@dataclass(frozen=True, slots=True)
class Rollout:
    """B sampled completions, right-padded to T tokens, as the sampling policy saw them."""

    token_ids: Tensor  # (B, T) int64
    mask: Tensor  # (B, T) bool; the end token counts
    logprobs: Tensor  # (B, T) float32, in nats, of the distribution drawn from (see `choose`); 0 where masked
    removed: Tensor  # (B, T) float32, probability of the tokens that the grammar mask forbade; 0 where masked

    def lists(self) -> tuple[list[list[int]], list[list[float]]]:
        """Ids and log-probabilities of each completion, without padding."""
        sizes = self.mask.sum(1).tolist()
        ids, logprobs = self.token_ids.tolist(), self.logprobs.tolist()
        return (
            [row[:size] for row, size in zip(ids, sizes, strict=True)],
            [row[:size] for row, size in zip(logprobs, sizes, strict=True)],
        )


class Reader(Protocol):
    """A model that reads the prompts of B rows, then token after token."""

    def start(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """(B, V) float32 logits after the prompts."""
        ...

    def step(self, tokens: Tensor) -> Tensor:
        """(B, V) float32 logits after the next tokens (B,), valid until the next step."""
        ...

    def keep(self, rows: Tensor) -> None:
        """Goes on with the rows of these indices only."""
        ...


class Grammar(Protocol):
    """Forbids tokens. Follows B rows from their prompts on."""

    def start(self, prompts: Sequence[Sequence[int]]) -> None: ...

    def allowed(self) -> Tensor:
        """(B, V) bool, the tokens that may come next, at least one in each row."""
        ...

    def step(self, tokens: Tensor) -> None:
        """Follows the next tokens (B,)."""
        ...

    def keep(self, rows: Tensor) -> None:
        """Goes on with the rows of these indices only."""
        ...

    def after(self, ids: Tensor) -> Tensor:
        """(B, T, V) bool, the tokens that may come after each token of ids (B, T)."""
        ...


@torch.no_grad()
def sample(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    eos_id: int,
    pad_id: int,
    generator: torch.Generator | None = None,
    batch_size: int = 256,
    unguided: Sequence[Sequence[int]] | None = None,
    penalised: Tensor | None = None,
    *,
    dtype: torch.dtype | None = None,
    temperature: Tensor | None = None,
    seeds: Sequence[int] | None = None,
    grammar: Grammar | None = None,
) -> Rollout:
    """Continues each prompt until the end token or `max_new_tokens`.

    A stock Llama is read by `LlamaReader`, an LSTM by `LstmReader`, any other model by its forward method.

    Args:
        prompts: B token id lists, of any lengths.
        generator: one with the same seed gives the same completions.
        batch_size: completions sampled at a time.
        unguided: for guidance, the B prompts without their style token; each is continued with the same tokens as its
            prompt, at its own positions.
        penalised: (V,) bool, tokens that the repetition penalty falls on; all by default, as in `transformers`.
        dtype: of matrix products, bfloat16 for example; by default that of the weights.
        temperature: (B,) one for each prompt, instead of that of `decoding`.
        seeds: B seeds instead of `generator`; the completion of a prompt depends on its own seed only, but for
            rounding, which depends on the size of the batch.
        grammar: what it forbids is not drawn, and `logprobs` are of what was drawn from.

    Raises:
        ValueError: A prompt is empty, prompt and completion together exceed the model's context, there is guidance
            without `unguided`, or a temperature is out of range.
        MgenError: A probability is not a number.
    """
    count, device, steps = len(prompts), model.device, decoding.max_new_tokens
    if decoding.guidance == 1:
        unguided = None
    elif unguided is None or len(unguided) != count:
        raise ValueError(f"guidance ({decoding.guidance}) needs each of the {count} prompts unguided as well")
    if temperature is not None and (len(temperature) != count or not bool((temperature >= 0).all())):
        raise ValueError(f"temperature must be {count} numbers of at least 0, one for each prompt")
    context = context_length(model.config)
    for prompt in (*prompts, *(unguided or ())):
        if not prompt or len(prompt) + steps > context:
            raise ValueError(
                f"a prompt of {len(prompt)} tokens and max_new_tokens ({steps}) must have at least 1 and together "
                f"at most {context} tokens, the model's context"
            )
    if temperature is None and decoding.temperature == 0:
        uniform = torch.zeros(count, steps, device=device)  # nothing is drawn
    else:
        uniform = _uniform(count, steps, generator, seeds).to(device)
    temperature = None if temperature is None else temperature.to(device, torch.float32)
    penalised = None if penalised is None else penalised.to(device)
    ids = torch.full((count, steps), pad_id, device=device)
    logprobs, removed = torch.zeros(2, count, steps, device=device)
    training = model.training
    model.eval()
    try:
        with torch.autocast(device.type, enabled=False):  # `dtype` decides
            for begin in range(0, count, batch_size):
                rows = slice(begin, begin + batch_size)
                _sample_batch(
                    _reader(model, dtype),
                    prompts[rows],
                    None if unguided is None else unguided[rows],
                    decoding,
                    None if temperature is None else temperature[rows],
                    uniform[rows],
                    penalised,
                    grammar,
                    eos_id,
                    (ids[rows], logprobs[rows], removed[rows]),
                )
    finally:
        model.train(training)
    ended = (ids == eos_id).int().cumsum(1) - (ids == eos_id).int()
    mask = ended == 0
    mask = mask[:, : int(mask.sum(1).max()) if count else 0]
    ids, logprobs, removed = (column[:, : mask.shape[1]] for column in (ids, logprobs, removed))
    return Rollout(
        ids.masked_fill(~mask, pad_id), mask, logprobs.masked_fill(~mask, 0.0), removed.masked_fill(~mask, 0.0)
    )


def _reader(model: PreTrainedModel, dtype: torch.dtype | None) -> Reader:
    if is_stock_llama(model):
        return LlamaReader(model, dtype or model.dtype)
    return LstmReader(model, dtype or model.dtype) if is_stock_lstm(model) else PlainReader(model, dtype)


def _uniform(count: int, steps: int, generator: torch.Generator | None, seeds: Sequence[int] | None) -> Tensor:
    """(B, T) numbers of [0, 1)."""
    if seeds is None:
        return torch.rand(count, steps, generator=generator, device=generator.device if generator else "cpu")
    rows = [torch.rand(steps, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(rows) if rows else torch.zeros(0, steps)


class PlainReader:
    """Any causal model of transformers, with its forward method and cache. Prompts of one length are read together."""

    def __init__(self, model: PreTrainedModel, dtype: torch.dtype | None) -> None:
        self.model, self.dtype = model, dtype

    def start(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        device = self.model.device
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        parts = [(lengths == length).nonzero()[:, 0] for length in sorted(set(lengths.tolist()))]
        self.parts = [(rows.to(device), DynamicCache(config=self.model.config)) for rows in parts]
        self.alive = torch.arange(len(prompts), device=device)
        self.count = len(prompts)
        return self._read([torch.tensor([list(prompts[row]) for row in rows], device=device) for rows in parts])

    def step(self, tokens: Tensor) -> Tensor:
        every = tokens.new_zeros(self.count, 1).index_copy_(0, self.alive, tokens[:, None])
        return self._read([every[rows] for rows, _ in self.parts])[self.alive]

    def keep(self, rows: Tensor) -> None:
        self.alive = self.alive[rows]  # the others are read on: not every architecture's cache can drop rows

    def _read(self, ids: Sequence[Tensor]) -> Tensor:
        """Logits (B, V) after the next tokens (rows, T) of each part."""
        logits = []
        with torch.autocast(self.model.device.type, self.dtype, enabled=self.dtype is not None):
            for part, (_, cache) in zip(ids, self.parts, strict=True):
                output = self.model(input_ids=part, past_key_values=cache, use_cache=True, logits_to_keep=1)
                logits.append(output.logits[:, -1].float())
        return torch.cat(logits)[torch.cat([rows for rows, _ in self.parts]).argsort()]


def _sample_batch(
    reader: Reader,
    prompts: Sequence[Sequence[int]],
    unguided: Sequence[Sequence[int]] | None,
    decoding: Decoding,
    temperature: Tensor | None,
    uniform: Tensor,
    penalised: Tensor | None,
    grammar: Grammar | None,
    eos_id: int,
    out: tuple[Tensor, Tensor, Tensor],
) -> None:
    """Writes ids, log-probabilities and removed mass to `out`, each (B, T); after the end of a row, anything."""
    ids, logprobs, removed = out
    logits = reader.start([*prompts, *(unguided or ())])
    rows = torch.arange(len(prompts), device=logits.device)  # those that go on
    done = torch.zeros_like(rows, dtype=torch.bool)
    seen = torch.zeros(len(prompts), logits.shape[1], dtype=torch.bool, device=logits.device)
    if decoding.repetition_penalty != 1:
        for row, prompt in zip(seen, prompts, strict=True):
            row[list(prompt)] = True
    if grammar is not None:
        grammar.start(prompts)
    for step in range(decoding.max_new_tokens):
        if unguided is not None:
            guided, bare = logits.chunk(2)
            logits = bare + decoding.guidance * (guided - bare)
        if decoding.repetition_penalty != 1:
            logits = penalise(logits, seen if penalised is None else seen & penalised, decoding.repetition_penalty)
        if grammar is not None:
            forbidden = ~grammar.allowed()
            removed[rows, step] = logits.softmax(-1).masked_fill_(~forbidden, 0.0).sum(-1)
            logits = logits.masked_fill(forbidden, -torch.inf)
        at = None if temperature is None else temperature[rows]
        token, logprob = choose(logits, decoding, uniform[rows, step], at)
        ids[rows, step], logprobs[rows, step] = token, logprob
        done |= token == eos_id
        last = step + 1 == decoding.max_new_tokens
        if last or step % CHECK_EVERY == CHECK_EVERY - 1:
            _check_numbers(logprob, decoding)
            left = int((~done).sum())
            if last or not left:
                return
            if left <= WORTH_DROPPING * len(rows):
                kept = (~done).nonzero()[:, 0]
                reader.keep(kept if unguided is None else torch.cat([kept, kept + len(rows)]))
                if grammar is not None:
                    grammar.keep(kept)
                rows, done, seen, token = rows[kept], done[kept], seen[kept], token[kept]
        if decoding.repetition_penalty != 1:
            seen.scatter_(1, token[:, None], True)
        if grammar is not None:
            grammar.step(token)
        logits = reader.step(token if unguided is None else token.repeat(2))


def _check_numbers(logprobs: Tensor, decoding: Decoding) -> None:
    if logprobs.isnan().any():
        extremes = f"guidance ({decoding.guidance:g}) or repetition_penalty ({decoding.repetition_penalty:g})"
        raise MgenError(
            "the model's probabilities of the next token are not numbers: its weights are broken, or temperature "
            f"({decoding.temperature:g}), {extremes} is too extreme"
        )


@torch.no_grad()
def completion_logprobs(
    model: PreTrainedModel,
    ids: Tensor,
    length: int,
    attention_mask: Tensor | None = None,
    batch_size: int = 64,
    grammar: Grammar | None = None,
) -> Tensor:
    """(B, T) log-probabilities, in nats, under a model, of the last T = `length` tokens of each row of `ids` (B, P
    + T), among the tokens that the grammar allows if there is one.
    """
    parts = []
    for begin in range(0, len(ids), batch_size):
        rows = slice(begin, begin + batch_size)
        mask = None if attention_mask is None else attention_mask[rows]
        logits = model(input_ids=ids[rows], attention_mask=mask, logits_to_keep=length + 1).logits[:, :-1].float()
        if grammar is not None:
            logits = logits.masked_fill(~grammar.after(ids[rows])[:, -length - 1 : -1], -torch.inf)
        parts.append(logits.log_softmax(-1).gather(-1, ids[rows, -length:, None])[..., 0])
    return torch.cat(parts)
