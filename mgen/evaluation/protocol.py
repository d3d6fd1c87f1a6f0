"""The protocol: every player continues the same prompts of the test split, and all are measured alike.

A player is a model, a control, a rival, or real music. Its pieces are the completions alone; the prompt is never
judged. The evaluation's judge is trained on the works of the split `judge`, which no critic saw, and never gives
reward.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from mgen.arrays import Floats
from mgen.corpus.shards import Corpus
from mgen.encoding.remi import Remi
from mgen.evaluation.judge import Judge, fit_judge
from mgen.evaluation.measure import Beside, Numbers, Pieces, joined, measure
from mgen.music.metrics import METRICS
from mgen.notes import Notes
from mgen.sampling.prompts import Prompts, draw_prompts
from mgen.sampling.rollout import completion_logprobs
from mgen.sampling.systems import BestOf, Completions, ModelSystem, System
from mgen.stats.intervals import Interval, bootstrap
from mgen.stats.memorisation import CopyIndex

COOLER = {"loop_rate_08": 0.8, "loop_rate_greedy": 0.0}
"""Loop rates that are told beside that at temperature 1, and their temperatures."""


@dataclass(frozen=True)
class Protocol:
    """What is asked of every player; the numbers of two protocols do not compare.

    Attributes:
        n: pieces of each kind of prompt, over all seeds; a two-sample number is quoted from 512 on.
        seeds: the pieces are drawn in so many equal parts, each with prompts and samples of its own.
        n_greedy: of these prompts, how many are also continued greedily and at temperature 0.8.
        target: style that is asked for.
        prompt_tokens, completion_tokens: tokens of music.
        seed: of everything drawn; every player gets the same prompts.
        sequence: whether the two-sample test has its sequence model.
    """

    n: int = 1024
    seeds: int = 1
    n_greedy: int = 64
    target: str = "jazz"
    prompt_tokens: int = 64
    completion_tokens: int = 192
    seed: int = 1
    sequence: bool = True

    def draw(self, corpus: Corpus, split: str, kind: str, *use: int, n: int | None = None) -> Prompts:
        """n prompts of a kind, with what real music did next; another `use`, others."""
        music = 0 if kind == "unconditional" else self.prompt_tokens
        rng = np.random.default_rng([self.seed, *use])
        return draw_prompts(corpus, split, kind, n or self.n, music, self.completion_tokens, self.target, rng)


@dataclass(frozen=True)
class PromptSet:
    """The prompts of one type, a part for each seed."""

    prompt_type: str
    parts: list[Prompts]

    @classmethod
    def draw(cls, protocol: Protocol, corpus: Corpus, split: str, kind: str, use: int) -> PromptSet:
        """The protocol's prompts of a kind; another `use`, others."""
        size = np.bincount(np.arange(protocol.n) % protocol.seeds, minlength=protocol.seeds)
        parts = [protocol.draw(corpus, split, kind, use, s, n=int(n)) for s, n in enumerate(size)]
        return cls(kind, parts)

    @property
    def work(self) -> NDArray[np.str_]:
        """(B,) work that each prompt came from."""
        return np.concatenate([part.work for part in self.parts])

    @property
    def ids(self) -> list[list[int]]:
        """B prompts' tokens."""
        return [row for part in self.parts for row in part.ids.tolist()]

    def real(self, remi: Remi) -> Pieces:
        """How real music went on."""
        return joined([part.real(remi) for part in self.parts], [part.work for part in self.parts])

    @property
    def real_completions(self) -> list[list[int]]:
        """B: the tokens with which real music went on."""
        return [row for part in self.parts for row in part.windows[:, part.prompt_tokens :].tolist()]


@dataclass(frozen=True)
class EvaluatedSystem:
    """A player as a row of the tables.

    Attributes:
        name: as shown.
        role: `pretrained`, `tuned`, `low_cost_baseline`, `baseline`, or `reference`, which is only shown.
        players: one, or one for each of several training runs that the seeds go round in turn.
        remark: what a reader has to know of it.
    """

    name: str
    role: str
    players: Sequence[System]
    remark: str = ""


@dataclass(frozen=True)
class SystemOutput:
    """What one player made of the prompts of one kind.

    Attributes:
        pieces: the completions.
        completions: B token id lists; real music's own for real music.
        more: name -> (B,) numbers of pieces that only a model has, such as `kl_piece`.
        cells: numbers that are no mean over these pieces, such as greedy loops.
    """

    pieces: Pieces
    completions: list[list[int]]
    more: dict[str, Floats] = field(default_factory=dict)
    cells: dict[str, Interval] = field(default_factory=dict)


def real_music(asked: PromptSet, remi: Remi) -> SystemOutput:
    """Real music as a player: it went on as it did."""
    return SystemOutput(asked.real(remi), asked.real_completions)


def play(
    system: EvaluatedSystem, reference: PreTrainedModel | None, asked: PromptSet, remi: Remi, protocol: Protocol
) -> SystemOutput:
    """Let an system continue the prompts at temperature 1, and some of them cooler.

    Args:
        reference: that `kl_piece` is measured from; None leaves it out.
    """
    completions, kl = [], []
    for s, part in enumerate(asked.parts):
        player = system.players[s % len(system.players)]
        # The same seed for every player: what differs is the player.
        done = player.complete(part, protocol.completion_tokens, seed=1000 * protocol.seed + s)
        completions.append(done)
        if reference is not None and done.logprobs is not None:
            kl.append(log_ratio(done, part, reference, remi))
    ids = [row for done in completions for row in done.token_ids]
    notes = [
        Notes.from_completions(part.ids.tolist(), done.token_ids, remi)
        for part, done in zip(asked.parts, completions, strict=True)
    ]
    pieces = joined(notes, [part.work for part in asked.parts], len(system.players))
    more = {"kl_piece": np.concatenate(kl)} if len(kl) == len(asked.parts) else {}
    cells = cooler(system, asked, remi, protocol)
    first = system.players[0]
    if isinstance(first, ModelSystem) and first.is_plain and asked.prompt_type == "continuation":
        cells["nll_note"] = nll_note(first.model, asked, remi)
    if isinstance(first, BestOf):
        cells["kl_bound"] = Interval(first.kl_bound, first.kl_bound, first.kl_bound)
    return SystemOutput(pieces, ids, more, cells)


def log_ratio(done: Completions, prompts: Prompts, reference: PreTrainedModel, remi: Remi) -> Floats:
    """(B,) log p_player - log p_reference of each completion, in nats: its mean is the KL of a piece."""
    assert done.logprobs is not None
    told = logprobs_of(reference, prompts.ids.tolist(), done.token_ids, remi)
    out: Floats = np.array([sum(row) for row in done.logprobs]) - np.array([row.sum() for row in told])
    return out


def logprobs_of(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]], remi: Remi
) -> list[Floats]:
    """B: log-probabilities, in nats, that a model gives each token of each completion; prompts are of one length."""
    longest = max(map(len, completions))
    rows = [[*p, *c, *[remi.pad_id] * (longest - len(c))] for p, c in zip(prompts, completions, strict=True)]
    # No attention mask: behind a causal mask nothing attends to padding on the right.
    told = completion_logprobs(model, torch.tensor(rows, device=model.device), longest).double().cpu().numpy()
    return [row[: len(c)] for row, c in zip(told, completions, strict=True)]


def nll_note(model: PreTrainedModel, asked: PromptSet, remi: Remi) -> Interval:
    """Nats a note that a model is surprised by on how real music went on: comparable across encodings."""
    nats, notes = [], []
    for part in asked.parts:
        real = part.windows[:, part.prompt_tokens :].tolist()
        nats += [-row.sum() for row in logprobs_of(model, part.ids.tolist(), real, remi)]
        notes += part.real(remi).counts.tolist()
    count = np.array(notes, np.float64)
    return bootstrap(nats, asked.work, lambda values, weights: (weights @ values) / (weights @ count))


def cooler(system: EvaluatedSystem, asked: PromptSet, remi: Remi, protocol: Protocol) -> dict[str, Interval]:
    """Loop rates at temperature 0.8 and greedily, of some of the prompts; only models have a temperature."""
    player = system.players[0]
    if not (protocol.n_greedy and isinstance(player, ModelSystem)):
        return {}
    part = asked.parts[0]
    rows = np.linspace(0, len(part.ids) - 1, min(protocol.n_greedy, len(part.ids))).astype(int)
    some = replace(part, ids=part.ids[rows], windows=part.windows[rows], work=part.work[rows])
    cells = {}
    for name, temperature in COOLER.items():
        cool = replace(player, decoding=replace(player.decoding, temperature=temperature))
        done = cool.complete(some, protocol.completion_tokens, seed=1000 * protocol.seed)
        notes = Notes.from_completions(some.ids.tolist(), done.token_ids, remi)
        cells[name] = bootstrap(METRICS["loop_rate"](notes), some.work)
    return cells


def train_judge(corpus: Corpus, protocol: Protocol) -> tuple[Judge, Interval]:
    """The evaluation's own judge, and its AUC on the test split."""
    parts = []
    for split in ("judge", "test"):
        target, other = (protocol.draw(corpus, split, kind, 100) for kind in ("continuation", "transfer"))
        parts.append((target.real(corpus.remi), other.real(corpus.remi), target.work, other.work))
    judge = fit_judge(*parts[0], seed=protocol.seed, name=protocol.target)
    return judge, judge.auc(*parts[1])


def copy_index(corpus: Corpus, protocol: Protocol) -> CopyIndex:
    """What copying is looked for in: all of train; what real music of `valid` shares with it is the threshold."""
    remi = corpus.remi
    table = corpus.table("train")
    train = Notes.from_ids([table[i] for i in range(len(table))], remi)
    held = [protocol.draw(corpus, "valid", kind, 101).real(remi) for kind in ("continuation", "transfer")]
    return CopyIndex.of(train, Notes.concat(held))


def judged(played: SystemOutput, target: Pieces, judge: Judge, beside: Beside) -> Numbers:
    """Every number of a player on one kind of prompt.

    Args:
        target: real music of the style that was asked for, in excerpts as long.
    """
    says = {f"judge_{judge.name}": (judge.probability(played.pieces.notes) > 0.5).astype(float)}
    numbers = measure(played.pieces, target, beside, {**says, **played.more})
    return Numbers({**numbers.cells, **played.cells}, numbers.pieces, numbers.remarks)
