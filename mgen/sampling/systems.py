"""Players: whoever continues the prompts of the protocol. They know nothing of how they are judged.

Models, guided, penalised or not; chains of note events; the training set itself; the best of several tries.
"""

from __future__ import annotations

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
from mgen.sampling.prompts import Prompts
from mgen.sampling.rollout import Decoding, sample

Score = Callable[[Notes], NDArray[np.floating]]
"""(B,) how good each piece is: what best-of-n chooses by."""


@dataclass(frozen=True)
class Completions:
    """What a player made of B prompts.

    Attributes:
        token_ids: B completions without their prompts; EOS, where there is one, is the last token.
        logprobs: log-probability of each token, in nats, under what it was really drawn from (guided, penalised, cut);
            None where there is no such thing.
    """

    token_ids: list[list[int]]
    logprobs: list[list[float]] | None


class System(Protocol):
    """Continues prompts.

    Attributes:
        decodes_greedily: whether `greedy` may be asked for.
    """

    decodes_greedily: ClassVar[bool]

    def play(self, prompts: Prompts, length: int, seed: int, greedy: bool = False) -> Completions:
        """B completions of at most `length` tokens; the same seed gives the same ones.

        Raises:
            MgenError: `greedy`, and this player draws by chance only.
        """
        ...


@dataclass(frozen=True)
class ModelSystem:
    """A policy.

    Guidance leads away from the same prompt without its style token, as the policy has seen music whose style was
    dropped: positions move up by one. The repetition penalty falls on pitches alone: a bar line or a position has to
    come again, and a style of writing is not a repetition.

    Attributes:
        decoding: its `max_new_tokens` is not read; greedy sets its temperature to 0.
    """

    model: PreTrainedModel
    remi: Remi
    decoding: Decoding = field(default_factory=Decoding)
    decodes_greedily: ClassVar[bool] = True

    @property
    def is_plain(self) -> bool:
        """Whether the model is played as it is, without guidance or penalty."""
        return self.decoding.guidance == 1 and self.decoding.repetition_penalty == 1

    def play(self, prompts: Prompts, length: int, seed: int, greedy: bool = False) -> Completions:
        """Sample; `logprobs` is None for greedy, which draws nothing.

        Raises:
            MgenError: Prompt and completion do not fit the context, or there is guidance and no style to lead to.
        """
        decoding = replace(self.decoding, max_new_tokens=length)
        if greedy:
            decoding = replace(decoding, temperature=0.0)
        ids = prompts.ids.tolist()
        bare = None if decoding.guidance == 1 else [without_style(row, self.remi) for row in ids]
        generator = torch.Generator(self.model.device).manual_seed(seed)
        pitches = torch.from_numpy(self.remi.kind == Kind.PITCH)
        try:
            rollout = sample(
                self.model,
                ids,
                decoding,
                self.remi.eos_id,
                self.remi.pad_id,
                generator,
                unguided=bare,
                penalised=pitches,
            )
        except ValueError as error:
            raise MgenError(str(error)) from error
        completions, logprobs = rollout.lists()
        return Completions(completions, None if decoding.temperature == 0 else logprobs)


def without_style(ids: Sequence[int], remi: Remi) -> list[int]:
    """A prompt that asks for no style.

    Raises:
        MgenError: It asked for none before.
    """
    styles = set(remi.style_ids.values())
    bare = [token for token in ids if token not in styles]
    if len(bare) == len(ids):
        raise MgenError(f"guidance needs a style to lead to, one of {', '.join(remi.style_ids)}; the prompt has none")
    return bare


@dataclass(frozen=True)
class MarkovSystem:
    """A chain of note events; see `mgen.models.baselines.markov`. No log-probabilities: a completion is cut in tokens
    and drawn in notes.
    """

    chain: MarkovChain
    decodes_greedily: ClassVar[bool] = False

    def play(self, prompts: Prompts, length: int, seed: int, greedy: bool = False) -> Completions:
        """Exactly `length` tokens each."""
        _refuse(greedy, "a Markov chain")
        return Completions(self.chain.sample(prompts.ids, length, np.random.default_rng(seed)), None)


@dataclass(frozen=True)
class CopySystem:
    """The training set itself, in excerpts as long as a completion: what copying scores."""

    excerpts: TrainingExcerpts
    decodes_greedily: ClassVar[bool] = False

    @classmethod
    def of(cls, table: TokenTable, remi: Remi) -> CopySystem:
        """Copies from the pieces of `table`."""
        return cls(TrainingExcerpts(table, remi))

    def play(self, prompts: Prompts, length: int, seed: int, greedy: bool = False) -> Completions:
        """Exactly `length` tokens each."""
        _refuse(greedy, "the training set")
        return Completions(self.excerpts.draw(prompts.ids, length, np.random.default_rng(seed)), None)


@dataclass(frozen=True)
class BestOf:
    """The best of n tries of a player at each prompt.

    What it plays lies at most log n - (n-1)/n nats from the player (Beirami et al. 2024, arXiv:2401.01879): `kl_bound`.
    It has no log-probabilities; equal tries go to the first.

    Attributes:
        score: judges completions, decoded as in fine-tuning.

    Raises:
        ValueError: n is below 1.
    """

    player: System
    remi: Remi
    n: int
    score: Score
    decodes_greedily: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"best of n: n ({self.n}) must be at least 1")

    @property
    def kl_bound(self) -> float:
        """Most nats a piece between this and the player."""
        return float(np.log(self.n) - (self.n - 1) / self.n)

    def play(self, prompts: Prompts, length: int, seed: int, greedy: bool = False) -> Completions:
        """n tries at each prompt, and the one with the highest score.

        Raises:
            MgenError: A score is no number.
        """
        _refuse(greedy, "best of n")
        tries = self.player.play(_each_again(prompts, self.n), length, seed).token_ids
        heads = prompts.ids.repeat(self.n, axis=0).tolist()
        score = np.asarray(self.score(Notes.from_completions(heads, tries, self.remi)), dtype=np.float64)
        best = best_of(score.reshape(-1, self.n))
        return Completions([tries[row * self.n + place] for row, place in enumerate(best.tolist())], None)


def best_of(score: NDArray[np.float64]) -> NDArray[np.intp]:
    """(B,) place of the highest of n scores (B, n), the first of equal ones.

    Raises:
        MgenError: A score is no number, so none is the highest.
    """
    if np.isnan(score).any():
        raise MgenError(
            f"best of n: {int(np.isnan(score).sum())} of {score.size} scores are no numbers; a judge must give "
            "its worst value where it cannot speak"
        )
    place: NDArray[np.intp] = score.argmax(axis=1)
    return place


def _each_again(prompts: Prompts, n: int) -> Prompts:
    """Every prompt n times, one after the other."""
    return replace(
        prompts,
        ids=prompts.ids.repeat(n, axis=0),
        windows=prompts.windows.repeat(n, axis=0),
        work=prompts.work.repeat(n),
    )


def _refuse(greedy: bool, who: str) -> None:
    if greedy:
        raise MgenError(f"greedy: {who} draws by chance only; ask for greedy of a model")
