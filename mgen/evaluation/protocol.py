"""The protocol: every player continues the same prompts of the test split, and all are measured alike.

A player is a model, or real music. Its pieces are the completions alone; the prompt is never judged. The
evaluation's judge is trained on the works of the split `judge`, which no critic saw, and never gives reward.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from mgen.corpus.shards import Corpus
from mgen.encoding.remi import Remi
from mgen.evaluation.features import features
from mgen.evaluation.intervals import Interval, bootstrap, distance_to_real
from mgen.evaluation.judge import Judge, fit_judge
from mgen.evaluation.metrics import METRICS
from mgen.evaluation.two_sample import c2st_auc
from mgen.notes import Notes
from mgen.rl.prompts import Prompts, draw_prompts
from mgen.rl.rollout import Decoding, completion_logprobs, sample
from mgen.rl.trainer import decode_completions

Floats = NDArray[np.float64]

SHOWN = ("rep4", "interval_rep8", "H1", "GS", "swing", "triplet_share", "polyphony", "density")
"""Metrics of a piece that are told as means beside real music's."""

DISTANCES = ("rep4", "H1")
"""Metrics whose distribution is compared with real music's."""


@dataclass(frozen=True)
class Protocol:
    """What is asked of every player; the numbers of two protocols do not compare.

    Attributes:
        n: pieces of each kind of prompt; a two-sample number is quoted from 512 on.
        n_greedy: of these prompts, how many are also continued greedily.
        target: style that is asked for.
        prompt_tokens, completion_tokens: tokens of music.
        seed: of prompts and samples; every model gets the same.
    """

    n: int = 512
    n_greedy: int = 64
    target: str = "jazz"
    prompt_tokens: int = 64
    completion_tokens: int = 192
    seed: int = 1

    def draw(self, corpus: Corpus, split: str, kind: str, seed: int) -> Prompts:
        """n prompts of a kind, with what real music did next."""
        music = 0 if kind == "nothing" else self.prompt_tokens
        rng = np.random.default_rng([self.seed, seed])
        return draw_prompts(corpus, split, kind, self.n, music, self.completion_tokens, self.target, rng)


@dataclass(frozen=True)
class Played:
    """What one player made of the prompts of one kind.

    Attributes:
        notes: B pieces, the completions.
        work: (B,) work of each prompt.
        completions: B token id lists; real music's own for real music.
        kl: (B,) log p_player - log p_reference of the player's own completions, in nats; None for real music.
        greedy: pieces decoded greedily from some of the prompts; None for real music.
    """

    notes: Notes
    work: NDArray[np.str_]
    completions: list[list[int]]
    kl: Floats | None = None
    greedy: Notes | None = None


@dataclass(frozen=True)
class Numbers:
    """One player's numbers on one kind of prompt.

    Attributes:
        cells: name -> number with its interval.
        pieces: name -> (B,) value of each piece, where the number is a mean over pieces; in the order of the
            prompts, so that two players can be compared prompt by prompt.
    """

    cells: dict[str, Interval]
    pieces: dict[str, Floats] = field(default_factory=dict)


def real_music(prompts: Prompts, remi: Remi) -> Played:
    """Real music as a player: it went on as it did."""
    return Played(prompts.real(remi), prompts.work, prompts.windows[:, prompts.prompt_tokens :].tolist())


def play(
    model: PreTrainedModel, reference: PreTrainedModel, prompts: Prompts, remi: Remi, protocol: Protocol
) -> Played:
    """Let a model continue the prompts, once by chance at temperature 1 and some of them greedily."""
    ids = prompts.ids.tolist()
    # The same seed for every model: what differs is the model.
    generator = torch.Generator(model.device).manual_seed(protocol.seed)
    free = Decoding(max_new_tokens=protocol.completion_tokens)
    rollout = sample(model, ids, free, remi.eos_id, remi.pad_id, generator)
    completions, _ = rollout.lists()
    kl = np.zeros(len(ids))
    if model is not reference:
        whole = torch.cat([torch.tensor(ids, device=model.device), rollout.token_ids], dim=1)
        told = completion_logprobs(reference, whole, rollout.token_ids.shape[1])
        kl = ((rollout.logprobs - told) * rollout.mask).sum(1).double().cpu().numpy()
    some = np.linspace(0, len(ids) - 1, protocol.n_greedy).astype(int)
    greedy_ids = [ids[i] for i in some]
    greedily = Decoding(temperature=0, max_new_tokens=protocol.completion_tokens)
    greedy = sample(model, greedy_ids, greedily, remi.eos_id, remi.pad_id).lists()[0]
    return Played(
        decode_completions(ids, completions, remi),
        prompts.work,
        completions,
        kl,
        decode_completions(greedy_ids, greedy, remi),
    )


def train_judge(corpus: Corpus, protocol: Protocol) -> tuple[Judge, Interval]:
    """The evaluation's own judge, and its AUC on the test split."""
    parts = []
    for split in ("judge", "test"):
        target, other = (protocol.draw(corpus, split, kind, seed=100) for kind in ("continue", "turn"))
        parts.append((target.real(corpus.remi), other.real(corpus.remi), target.work, other.work))
    judge = fit_judge(*parts[0], seed=protocol.seed, name=protocol.target)
    return judge, judge.auc(*parts[1])


def measure(played: Played, target: Played, judge: Judge) -> Numbers:
    """Every number of a player on one kind of prompt.

    Args:
        target: real music of the style that was asked for, in excerpts as long: what the player is compared with. If
            it is `played` itself, the two-sample test is between halves of its works, and shows what no difference
            looks like.
    """
    notes, work = played.notes, played.work
    pieces: dict[str, Floats] = {
        "valid": (notes.n_broken == 0).astype(float),
        "broken_tokens": METRICS["broken_tokens"](notes),
        "loop_rate": METRICS["loop_rate"](notes),
        f"judge_{judge.name}": (judge.probability(notes) > 0.5).astype(float),
        **{name: METRICS[name](notes) for name in SHOWN},
    }
    if played.kl is not None:
        pieces["kl_piece"] = played.kl
    cells = {name: bootstrap(values, work) for name, values in pieces.items()}
    if played.greedy is not None:
        cells["loop_rate_greedy"] = bootstrap(METRICS["loop_rate"](played.greedy))
    if played is target:
        cells["c2st_auc"] = between_halves(played)
    else:
        cells["c2st_auc"] = c2st_auc(features(target.notes), features(notes), target.work, work)
        for name in DISTANCES:
            cells[f"{name}_distance"] = distance_to_real(METRICS[name](target.notes), pieces[name], target.work, work)
    return Numbers(cells, pieces)


def between_halves(real: Played, seed: int = 0) -> Interval:
    """The two-sample test between two halves of the works of one set of pieces."""
    works = np.unique(real.work)
    first = np.isin(real.work, np.random.default_rng(seed).permutation(works)[: len(works) // 2])
    table = features(real.notes)
    return c2st_auc(table[first], table[~first], real.work[first], real.work[~first])


def changes(after: Numbers, before: Numbers, work: NDArray[np.str_]) -> dict[str, Interval]:
    """Differences prompt by prompt, after minus before, of every number that is a mean over pieces."""
    shared = [name for name in after.pieces if name in before.pieces]
    return {name: bootstrap(after.pieces[name] - before.pieces[name], work) for name in shared}


def to_json(
    numbers: Mapping[str, Mapping[str, Numbers]],
) -> dict[str, dict[str, dict[str, dict[str, float | None]]]]:
    """player -> kind of prompt -> name -> value, low, high."""
    return {
        player: {kind: {name: cell.to_json() for name, cell in part.cells.items()} for kind, part in by_kind.items()}
        for player, by_kind in numbers.items()
    }
