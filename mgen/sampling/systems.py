"""Systems complete the prompts of the evaluation protocol: models, Markov chains, copies, best-of-n.

A system knows nothing of how its completions are judged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from mgen.corpus.shards import TokenTable
from mgen.encoding.remi import Kind, Remi
from mgen.errors import MgenError
from mgen.models.baselines.excerpts import TrainingExcerpts
from mgen.models.baselines.markov import MarkovChain
from mgen.notes import Notes
from mgen.sampling.decoding import Decoding
from mgen.sampling.grammar import GrammarMask
from mgen.sampling.prompts import Prompts
from mgen.sampling.rollout import sample

Score = Callable[[Notes], NDArray[np.floating]]
"""(B,) score of each piece, higher is better: best-of-n keeps the piece with the highest."""

Draw = Callable[[NDArray[np.int64], int, np.random.Generator], list[list[int]]]
"""Completions of a given number of base tokens after prompts (B, P)."""


@dataclass(frozen=True)
class Completions:
    """A system's completions of B prompts.

    Attributes:
        token_ids: B completions without their prompts; EOS, where there is one, is the last token.
        logprobs: log-probability of each token, in nats, under the distribution it was drawn from (after guidance,
            penalty, grammar mask, top k, top p and min p); None for systems without one.
        removed: mean probability that the grammar mask took from a token of each completion; None without mask.
    """

    token_ids: list[list[int]]
    logprobs: list[list[float]] | None
    removed: list[float] | None = None


class System(Protocol):
    """Completes prompts.

    Attributes:
        decodes_greedily: whether `complete` accepts `greedy`.
    """

    decodes_greedily: ClassVar[bool]

    def complete(self, prompts: Prompts, length: int, seed: int, greedy: bool = False) -> Completions:
        """B completions of at most `length` tokens; the same seed gives the same ones.

        Raises:
            MgenError: `greedy` is set and the system can only sample.
        """
        ...


@dataclass(frozen=True)
class ModelSystem:
    """A policy with its decoding options.

    Guidance contrasts each prompt with the same prompt without its style token, as in training with style dropout:
    positions shift by one. The repetition penalty applies to pitch tokens only, because bar lines and positions
    recur in any music.

    Attributes:
        decoding: its `max_new_tokens` is not read; greedy sets its temperature to 0.
        dtype: of matrix products in sampling; by default that of the weights.
        grammar: whether only tokens that the grammar allows are sampled; see `mgen.sampling.grammar`.
    """

    model: PreTrainedModel
    remi: Remi
    decoding: Decoding = field(default_factory=Decoding)
    dtype: torch.dtype | None = None
    grammar: bool = False
    decodes_greedily: ClassVar[bool] = True

    @property
    def is_plain(self) -> bool:
        """Whether decoding has neither guidance nor repetition penalty."""
        return self.decoding.guidance == 1 and self.decoding.repetition_penalty == 1

    def complete(self, prompts: Prompts, length: int, seed: int, greedy: bool = False) -> Completions:
        """Samples completions; `logprobs` is None for greedy decoding.

        Raises:
            MgenError: Prompt and completion exceed the context, or guidance has no style token to contrast.
        """
        decoding = replace(self.decoding, max_new_tokens=length)
        if greedy:
            decoding = replace(decoding, temperature=0.0)
        ids = prompts.lists(self.remi)
        unguided = None if decoding.guidance == 1 else [without_style(row, self.remi) for row in ids]
        generator = torch.Generator(self.model.device).manual_seed(seed)
        pitches = torch.from_numpy(self.remi.count_in(Kind.PITCH) > 0)
        try:
            ends = self.remi.eos_id, self.remi.pad_id
            rollout = sample(
                self.model,
                ids,
                decoding,
                *ends,
                generator,
                unguided=unguided,
                penalised=pitches,
                dtype=self.dtype,
                grammar=GrammarMask(self.remi, self.model.device) if self.grammar else None,
            )
        except ValueError as error:
            raise MgenError(str(error)) from error
        completions, logprobs = rollout.lists()
        removed = (rollout.removed.sum(1) / rollout.mask.sum(1).clamp_min(1)).tolist()
        return Completions(
            completions, None if decoding.temperature == 0 else logprobs, removed if self.grammar else None
        )


def sample_completions(
    policy: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    remi: Remi,
    seed: int,
    dtype: torch.dtype | None = None,
) -> list[list[int]]:
    """Samples a completion of each prompt at temperature 1, without the prompt; the same seed gives the same ones.

    Raises:
        ValueError: A prompt and its completion do not fit into the context.
    """
    generator = torch.Generator(policy.device).manual_seed(seed)
    decoding = Decoding(max_new_tokens=max_new_tokens)
    return sample(policy, prompts, decoding, remi.eos_id, remi.pad_id, generator, dtype=dtype).lists()[0]


def without_style(ids: Sequence[int], remi: Remi) -> list[int]:
    """The prompt without its style token.

    Raises:
        MgenError: It has none.
    """
    styles = set(remi.style_ids.values())
    rest = [token for token in ids if token not in styles]
    if len(rest) == len(ids):
        raise MgenError(f"guidance needs a style to lead to, one of {', '.join(remi.style_ids)}; the prompt has none")
    return rest


@dataclass(frozen=True)
class MarkovSystem:
    """A Markov chain of note events; see `mgen.models.baselines.markov`.

    It has no log-probabilities: the chain draws notes, and a completion may end within one.
    """

    chain: MarkovChain  # of base tokens
    remi: Remi
    decodes_greedily: ClassVar[bool] = False

    def complete(self, prompts: Prompts, length: int, seed: int, greedy: bool = False) -> Completions:
        """Exactly `length` tokens each; with merges at most, and as many in the mean."""
        _refuse_greedy(greedy, "a Markov chain")
        return _complete_in_base_tokens(self.chain.sample, prompts, length, seed, self.remi)


@dataclass(frozen=True)
class CopySystem:
    """Excerpts of the training set, as long as a completion: shows how copying scores."""

    excerpts: TrainingExcerpts  # of base tokens
    remi: Remi
    decodes_greedily: ClassVar[bool] = False

    @classmethod
    def of(cls, table: TokenTable, remi: Remi) -> CopySystem:
        """Copies from the pieces of `table`."""
        return cls(TrainingExcerpts(table, remi.base), remi)

    def complete(self, prompts: Prompts, length: int, seed: int, greedy: bool = False) -> Completions:
        """Exactly `length` tokens each; with merges at most, and as many in the mean."""
        _refuse_greedy(greedy, "the training set")
        return _complete_in_base_tokens(self.excerpts.draw, prompts, length, seed, self.remi)


@dataclass(frozen=True)
class BestOf:
    """The best of n completions of each prompt by another system.

    KL(best of n, system) is at most log n - (n-1)/n nats per piece, `kl_bound` (Beirami et al. 2024, arXiv:2401.01879).
    There are no log-probabilities. Ties go to the first.

    Attributes:
        score: of completions, decoded as in fine-tuning.

    Raises:
        ValueError: n is below 1.
    """

    system: System
    remi: Remi
    n: int
    score: Score
    decodes_greedily: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"best of n: n ({self.n}) must be at least 1")

    @property
    def kl_bound(self) -> float:
        """Upper bound of KL(best of n, system), in nats per piece."""
        return float(np.log(self.n) - (self.n - 1) / self.n)

    def complete(self, prompts: Prompts, length: int, seed: int, greedy: bool = False) -> Completions:
        """Samples n completions of each prompt and keeps the one with the highest score.

        Raises:
            MgenError: A score is NaN.
        """
        _refuse_greedy(greedy, "best of n")
        candidates = self.system.complete(_repeat(prompts, self.n), length, seed).token_ids
        heads = prompts.ids.repeat(self.n, axis=0).tolist()
        score = np.asarray(self.score(Notes.from_completions(heads, candidates, self.remi)), dtype=np.float64)
        best = best_of(score.reshape(-1, self.n))
        return Completions([candidates[row * self.n + place] for row, place in enumerate(best.tolist())], None)


def best_of(score: NDArray[np.float64]) -> NDArray[np.intp]:
    """(B,) index of the highest of n scores (B, n), the first of equal ones.

    Raises:
        MgenError: A score is NaN.
    """
    if np.isnan(score).any():
        raise MgenError(
            f"best of n: {int(np.isnan(score).sum())} of {score.size} scores are no numbers; a judge must give "
            "its worst value for pieces that it cannot score"
        )
    place: NDArray[np.intp] = score.argmax(axis=1)
    return place


def _complete_in_base_tokens(draw: Draw, prompts: Prompts, length: int, seed: int, remi: Remi) -> Completions:
    """Completions by a baseline that reads and writes base tokens, cut to `length` tokens."""
    rows = [remi.expand(row)[0] for row in prompts.ids]
    longest = max(map(len, rows), default=0)
    # Padding on the left changes nothing: a baseline reads the last bar and the last notes.
    heads = np.array([np.pad(row, (longest - len(row), 0), constant_values=remi.pad_id) for row in rows])
    drawn = draw(heads, math.ceil(length * remi.base_per_token), np.random.default_rng(seed))
    return Completions([remi.merge(row)[:length].tolist() for row in drawn], None)


def _repeat(prompts: Prompts, n: int) -> Prompts:
    """Each prompt n times in a row."""
    columns = {name: getattr(prompts, name).repeat(n, axis=0) for name in ("ids", "windows", "work")}
    return replace(prompts, **columns)


def _refuse_greedy(greedy: bool, system: str) -> None:
    if greedy:
        raise MgenError(f"greedy: {system} can only sample; use greedy decoding with a model")
