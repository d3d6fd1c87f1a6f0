"""Baselines by name: the rows of an evaluation that a tuned model has to beat.

A low-cost baseline is the pretrained model with another decoding, which costs less than reinforcement learning. A name
such as `markov5` or `best_of_8` consists of a method and a number.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import replace

from mgen.corpus.shards import Corpus
from mgen.errors import MgenError
from mgen.models.baselines.markov import MarkovChain
from mgen.sampling.decoding import Decoding
from mgen.sampling.prompts import check_style
from mgen.sampling.systems import BestOf, CopySystem, MarkovSystem, ModelSystem, Score, System

BASELINES = {
    "markov1": "order-1 Markov chain of note events, fitted on training pieces of the target style",
    "markov5": "order-5 Markov chain of note events, with back-off",
    "train": "excerpts of the training set in the target style: how copying scores",
}
"""Default baselines; `markovK` exists for any order K."""

LOW_COST_BASELINES = {
    "best_of_8": "best of 8 completions of the pretrained model under the judges of the fine-tuning",
    "guidance_2": "pretrained model with classifier-free guidance of weight 2 on the style token",
    "repetition_penalty_1.2": "pretrained model with a repetition penalty of 1.2 on pitches",
}
"""Default low-cost baselines; each exists for other numbers."""


def baseline(name: str, corpus: Corpus, target: str) -> System:
    """Builds `markovK` or `train` from the training pieces of the target style.

    Raises:
        MgenError: There is no such baseline, or the split has no such music.
    """
    method, number = _split_name(name, {"markov": True, "train": False}, BASELINES)
    check_style(target, corpus.remi)
    table = corpus.table("train", target)
    if not len(table):
        raise MgenError(f"{name}: the corpus has no training music of style '{target}'; prepare some")
    if method == "train":
        return CopySystem.of(table, corpus.remi)
    return MarkovSystem(MarkovChain.fit(table, corpus.remi.base, _count(name, number)), corpus.remi)


def low_cost_baseline(name: str, system: ModelSystem, score: Score | None = None) -> System:
    """Builds `best_of_N`, `guidance_W` or `repetition_penalty_P` from a system, usually the pretrained policy.

    Args:
        score: that best-of-n maximises, such as `mgen.runs.judges.judges_of_run`; the others need none.

    Raises:
        MgenError: There is no such baseline, its number is out of range, or best-of-n has no score.
    """
    methods = {"best_of_": True, "guidance_": True, "repetition_penalty_": True}
    method, number = _split_name(name, methods, LOW_COST_BASELINES)
    if method == "best_of_":
        if score is None:
            raise MgenError(f"{name}: needs the judges to choose by; name a run of mgen finetune")
        return BestOf(system, system.remi, _count(name, number), score)
    try:
        decoding = Decoding(guidance=number) if method == "guidance_" else Decoding(repetition_penalty=number)
    except ValueError as error:
        raise MgenError(f"{name}: {error}") from error
    return replace(system, decoding=decoding)


def _split_name(name: str, methods: dict[str, bool], usual: dict[str, str]) -> tuple[str, float]:
    """Method and number of a name; `methods` maps each method to whether it has a number."""
    match = re.fullmatch(r"([a-z_]+?)(\d+(?:\.\d+)?)?", name)
    if match and methods.get(match[1]) == (match[2] is not None):
        return match[1], float(match[2] or 0)
    near = difflib.get_close_matches(name, usual, n=1)
    raise MgenError(f"no row is called '{name}'{f'; did you mean {near[0]}?' if near else ''} ({', '.join(usual)})")


def _count(name: str, number: float) -> int:
    if number < 1 or number != int(number):
        raise MgenError(f"{name}: expected a whole number of at least 1, got {number:g}")
    return int(number)
