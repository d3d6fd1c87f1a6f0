"""How the next token is chosen from a model's logits."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import LogitsProcessorList, MinPLogitsWarper, TopKLogitsWarper, TopPLogitsWarper


@dataclass(frozen=True, slots=True)
class Decoding:
    """How the next token is chosen.

    Order, as in `transformers`: guidance, repetition penalty, grammar mask, temperature, top k, top p, min p.

    Attributes:
        temperature: 0 is greedy.
        top_k: 0 keeps all tokens.
        top_p: share of probability that is kept.
        guidance: w of classifier-free guidance: logits are `u + w (c - u)`, c those after the prompt and u those after
            the same prompt without its style token. 1 is the model itself, 0 the model without the style token.
        repetition_penalty: logits of tokens that prompt or completion contain are divided by it where they are positive
            and multiplied by it where they are negative (Keskar et al. 2019, CTRL, arXiv:1909.05858). 1 is none.
        min_p: tokens below this share of the likeliest one's probability go (Nguyen et al. 2024, arXiv:2407.01082). 0
            keeps all tokens.

    Raises:
        ValueError: A number is outside its range.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    max_new_tokens: int = 256
    guidance: float = 1.0
    repetition_penalty: float = 1.0
    min_p: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
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
        if not 0 <= self.min_p <= 1:
            raise ValueError(f"min_p ({self.min_p}) must be at least 0 and at most 1; 0 is none, try 0.05")

    def warpers(self) -> LogitsProcessorList:
        """Top k, top p and min p, as far as they change anything."""
        warpers = LogitsProcessorList()
        if self.top_k:
            warpers.append(TopKLogitsWarper(self.top_k))
        if self.top_p < 1:
            warpers.append(TopPLogitsWarper(self.top_p))
        if self.min_p:
            warpers.append(MinPLogitsWarper(self.min_p))
        return warpers


def penalise(logits: Tensor, penalised: Tensor, penalty: float) -> Tensor:
    """Logits (B, V) with the repetition penalty on the tokens `penalised` (B, V) bool."""
    return torch.where(penalised, torch.where(logits < 0, logits * penalty, logits / penalty), logits)


def choose(
    logits: Tensor, decoding: Decoding, uniform: Tensor, temperature: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Next token (B,) and its log-probability (B,) from logits (B, V).

    The log-probability is that of the distribution that the token is drawn from, so that a sum of log ratios to another
    model is an unbiased sample of the KL: at the temperature, after top k, top p and min p. Greedy decoding draws
    nothing and reports temperature 1 without them. It is NaN where the logits are not numbers.

    Args:
        uniform: (B,) float32 numbers from [0, 1); the token is where the cumulative distribution passes them.
        temperature: (B,) one for each row, instead of that of `decoding`.
    """
    if temperature is None:
        if decoding.temperature == 0:
            return _greedy(logits)
        scaled = logits if decoding.temperature == 1 else logits / decoding.temperature
    else:
        scaled = logits / torch.where(temperature == 0, 1, temperature)[:, None]
    no_ids = torch.empty(len(logits), 0, dtype=torch.int64, device=logits.device)  # warpers do not look at tokens
    logprobs = decoding.warpers()(no_ids, scaled).log_softmax(-1)
    # In float64, a float32 number below 1 times the total is below the total: a token of probability 0 is never drawn.
    total = logprobs.exp().cumsum(-1, dtype=torch.float64)
    token = torch.searchsorted(total, uniform.double()[:, None] * total[:, -1:], right=True)
    token = token.clamp_max_(logits.shape[1] - 1)  # NaN would be beyond
    logprob = logprobs.gather(-1, token)[:, 0]
    if temperature is None:
        return token[:, 0], logprob
    likeliest, its_logprob = _greedy(logits)
    greedy = temperature == 0
    return torch.where(greedy, likeliest, token[:, 0]), torch.where(greedy, its_logprob, logprob)


def _greedy(logits: Tensor) -> tuple[Tensor, Tensor]:
    token = logits.argmax(-1)
    return token, logits.log_softmax(-1).gather(-1, token[:, None])[:, 0]
