"""Figures of `mgen bench` of judges: the rules and the style critic."""

from __future__ import annotations

import statistics
import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from critics.realism.feature_discriminator import FeatureDiscriminator
from critics.style import StyleCritic
from critics.style.ensemble import MEMBERS, TrainingSet, feature_table
from critics.style.feature_model import FeatureModel
from mgen.corpus.windows import sample_windows
from mgen.notes import Notes
from mgen.rl.rewards import beginnings
from mgen.workflows.bench_measure import BenchConfig, compare, demo_table, per_second, vocabulary
from rewards import rules
from rewards.bands import fit_bands


def bench_rewards(config: BenchConfig) -> dict[str, Any]:
    """Tokens/s of all rule rewards together on one core, and of decoding ids to notes.

    Every batch is new to the rewards. `slowest` has the three most expensive rewards in microseconds per token; what
    several rewards share (the chords of a batch) counts for the first of them.
    """
    torch.set_num_threads(1)
    remi = vocabulary(config)
    windows, _ = sample_windows(demo_table(remi), remi, 256, config.context, np.random.default_rng(0))
    rows = list(windows)
    judges = rules(fit_bands(Notes.from_ids(rows, remi)))
    decoded = Notes.from_ids(rows, remi)
    turns: list[dict[str, float]] = []

    def judge() -> float:
        fresh = replace(decoded)  # rules cache the last batch by its identity
        spent = {}
        for name, one in judges.items():
            began = time.perf_counter()
            one(fresh)
            spent[name] = 1e6 * (time.perf_counter() - began) / windows.size
        turns.append(spent)
        return 1e6 / sum(spent.values())

    def decode() -> float:
        return per_second(windows.size, lambda: Notes.from_ids(rows, remi))

    judge(), decode()
    turns.clear()
    what = f"tokens/s, {len(judges)} rule rewards together on decoded notes; reference: decoding ids to notes"
    result = compare(what, judge, decode, max(config.repeats, 5), limit=500_000)
    cost = {name: statistics.median(turn[name] for turn in turns) for name in judges}
    return result | {
        "with_decoding": 1 / (1 / result["ours"] + 1 / result["rival"]),
        "slowest": {name: round(cost[name], 4) for name in sorted(cost, key=cost.__getitem__, reverse=True)[:3]},
    }


def bench_critic(config: BenchConfig) -> dict[str, Any]:
    """Tokens/s of the style critic on 256 decoded pieces at once, and of decoding them.

    `seconds` is the time for all pieces, and `seconds_with_realism` that of style critic and discriminator together,
    with the beginnings of pieces that rewards of tokens need. The models have the size that commands use; the networks
    are trained for two steps only.
    """
    remi = vocabulary(config)
    windows, _ = sample_windows(demo_table(remi), remi, 256, config.context, np.random.default_rng(0))
    rows = list(windows)
    notes = Notes.from_ids(rows, remi)
    style, realism = StyleCritic(untrained_style_model(notes), "jazz"), FeatureDiscriminator()
    realism.update(notes, notes.pieces(np.arange(notes.n_pieces)[::-1]), np.arange(notes.n_pieces).astype(str))

    def speed() -> float:
        return per_second(windows.size, lambda: style(replace(notes)))  # features are kept by identity of the notes

    def decode() -> float:
        return per_second(windows.size, lambda: Notes.from_ids(rows, remi))

    def judge_all() -> None:
        fresh = replace(notes)
        begun = beginnings(fresh, windows == remi.bar_id).notes
        for judge in (style, realism):
            judge(fresh), judge.prefix_scores(begun)

    speed(), decode()
    what = f"tokens/s, the style critic on {len(rows)} decoded pieces of {config.context} tokens; reference: decoding"
    result = compare(what, speed, decode, config.repeats, limit=256 * 512 / 2.5)
    all_seconds = [windows.size / per_second(windows.size, judge_all) for _ in range(config.repeats)]
    return result | {
        "seconds": windows.size / result["ours"],
        "seconds_with_realism": statistics.median(all_seconds),
        "notes": len(notes),
    }


def untrained_style_model(notes: Notes) -> FeatureModel:
    """A style critic's model of the usual size after two steps of training on pieces with arbitrary labels."""
    number = np.arange(notes.n_pieces)
    corruption = np.where(number % 3 == 0, "one_pitch", "")
    training_set = TrainingSet(feature_table(notes), number % 2 == 0, corruption, np.ones(len(number)))
    return FeatureModel.fit(training_set, training_set, tuple(replace(member, steps=2) for member in MEMBERS))
