"""Rows of an evaluation by name: baselines, and low-cost baselines (cheaper than reinforcement learning).

A word such as `markov5` or `best_of_8` is a kind and a number.
"""

from __future__ import annotations

import difflib
import re

from transformers import PreTrainedModel

from mgen.corpus.shards import Corpus
from mgen.encoding.remi import Remi
from mgen.errors import MgenError
from mgen.models.baselines.markov import MarkovChain
from mgen.sampling.prompts import check_style
from mgen.sampling.rollout import Decoding
from mgen.sampling.systems import BestOf, CopySystem, MarkovSystem, ModelSystem, Score, System

BASELINES = {
    "markov1": "order-1 chain of note events, fitted on training pieces of the target style",
    "markov5": "order-5 chain of note events, with back-off",
    "train": "the training set itself: excerpts of real training pieces of the target style",
}
"""Usual words of `baseline`, and what they are; any other order may be given."""

LOW_COST_BASELINES = {
    "best_of_8": "the best of 8 completions of the pretrained model under the judges of the fine-tuning",
    "guidance_2": "the pretrained model with guidance of weight 2 on the style token",
    "repetition_penalty_1.2": "the pretrained model with a repetition penalty of 1.2 on pitches",
}
"""Usual words of `low_cost_baseline`, and what they are; any other number may be given."""


def baseline(word: str, corpus: Corpus, target: str) -> System:
    """`markovK`, or `train`, from the training split's pieces of the target style.

    Raises:
        MgenError: No such baseline, or the split has no such music.
    """
    kind, number = _parted(word, {"markov": True, "train": False}, BASELINES)
    check_style(target, corpus.remi)
    table = corpus.table("train", target)
    if not len(table):
        raise MgenError(f"{word}: the corpus has no training music of style '{target}'; prepare some")
    if kind == "train":
        return CopySystem.of(table, corpus.remi)
    return MarkovSystem(MarkovChain.fit(table, corpus.remi, _whole(word, number)))


def low_cost_baseline(word: str, model: PreTrainedModel, remi: Remi, score: Score | None = None) -> System:
    """`best_of_N`, `guidance_W` or `repetition_penalty_P` over a policy, usually the pretrained one.

    Args:
        score: what best-of-n chooses by, such as `mgen.runs.judges.judges_of_run`; the others do without.

    Raises:
        MgenError: No such low-cost baseline, its number is out of range, or best-of-n has nothing to choose by.
    """
    kind, number = _parted(word, {"best_of_": True, "guidance_": True, "repetition_penalty_": True}, LOW_COST_BASELINES)
    if kind == "best_of_":
        if score is None:
            raise MgenError(f"{word}: needs the judges to choose by; name a run of mgen finetune")
        return BestOf(ModelSystem(model, remi), remi, _whole(word, number), score)
    try:
        decoding = Decoding(guidance=number) if kind == "guidance_" else Decoding(repetition_penalty=number)
    except ValueError as error:
        raise MgenError(f"{word}: {error}") from error
    return ModelSystem(model, remi, decoding)


def _parted(word: str, kinds: dict[str, bool], usual: dict[str, str]) -> tuple[str, float]:
    """The kind and the number that a word is made of; `kinds` says which have a number."""
    found = re.fullmatch(r"([a-z_]+?)(\d+(?:\.\d+)?)?", word)
    if found and kinds.get(found[1]) == (found[2] is not None):
        return found[1], float(found[2] or 0)
    near = difflib.get_close_matches(word, usual, n=1)
    raise MgenError(f"no row is called '{word}'{f'; did you mean {near[0]}?' if near else ''} ({', '.join(usual)})")


def _whole(word: str, number: float) -> int:
    if number < 1 or number != int(number):
        raise MgenError(f"{word}: expected a whole number of at least 1, got {number:g}")
    return int(number)
