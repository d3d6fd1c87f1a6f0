"""The trainer: it learns what is rewarded, KL pulls it back, and it takes up where it was."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM
from trl import GRPOConfig

from mgen.errors import MgenError
from mgen.judgement import Judgement
from mgen.rl.adversary import Adversary
from mgen.rl.trainer import MusicTrainer
from rewards.trl import trl_rewards


def high_pitches(notes):
    """1 for every note above middle C, paid on that note; -1 for a piece without notes."""
    credit = (notes.pitch > 60).astype(np.float32) / 4
    score = np.bincount(notes.piece, weights=credit, minlength=notes.n_pieces).astype(np.float32)
    defined = notes.counts > 0
    return Judgement(np.where(defined, score, -1).astype(np.float32), credit, defined)


def config(folder, **changes):
    options = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 32,
        "num_generations": 8,
        "max_completion_length": 24,
        "max_steps": 25,
        "learning_rate": 5e-3,
        "lr_scheduler_type": "constant",
        "beta": 0.0,
        "scale_rewards": "none",
        "loss_type": "dr_grpo",
        "bf16": False,
        "use_cpu": True,
        "gradient_checkpointing": False,
        "report_to": [],
        "logging_steps": 1,
        "save_strategy": "no",
        "disable_tqdm": True,
        "seed": 1,
    }
    return GRPOConfig(**{**options, **changes})


@pytest.fixture(scope="module")
def musical_policy(tiny_policy, remi):
    """A tiny policy that has learned to write notes, so that a reward on notes has something to go by."""
    torch.manual_seed(0)
    policy = tiny_policy()
    names = {name: i for i, name in enumerate(remi.names)}
    generator = np.random.default_rng(0)
    rows = []
    for _ in range(64):
        row = [remi.bos_id, names["Bar_None"], names["TimeSig_4/4"]]
        for position in range(0, 72, 6):
            row += [
                names[f"Position_{position}"],
                names[f"Pitch_{generator.integers(40, 80)}"],
                names["Velocity_63"],
                names["Duration_0.6.24"],
            ]
        rows.append(row)
    ids = torch.tensor(rows)
    optimizer = torch.optim.AdamW(policy.parameters(), 1e-2)
    for _ in range(60):
        loss = policy(ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return policy


def trainer_of(policy, remi, args, judge=high_pitches, **rest):
    prompts = Dataset.from_list([{"prompt": "BOS_NoneBar_NoneTimeSig_4/4"}] * 64)
    folder = Path(args.output_dir) / "policy"
    policy.save_pretrained(folder)
    start, reference = (AutoModelForCausalLM.from_pretrained(folder) for _ in range(2))
    judges = trl_rewards({"high": judge}, remi)
    args.reward_weights = [1.0]
    return MusicTrainer(start, reference, remi, judges, args, prompts, **rest)


def logged(trainer, key):
    return [line[key] for line in trainer.state.log_history if key in line]


@pytest.mark.parametrize("form", ["nats", "normalised"])
def test_it_learns_what_is_rewarded(form, musical_policy, remi, tmp_path):
    changes = {} if form == "nats" else {"beta": 0.01, "scale_rewards": "group"}
    trainer = trainer_of(musical_policy, remi, config(tmp_path, **changes), form=form, kl_weight=0.0)
    trainer.train()
    rewards = logged(trainer, "reward")
    assert np.mean(rewards[-5:]) > np.mean(rewards[:3]) + 0.3
    assert logged(trainer, "policy/kl")[-1] > 0.05
    assert abs(logged(trainer, "share/high")[0] - 1) < 1e-6


def test_kl_pulls_back(musical_policy, remi, tmp_path):
    kl = {}
    for weight in (0.0, 4.0):
        trainer = trainer_of(musical_policy, remi, config(tmp_path / str(weight)), kl_weight=weight)
        trainer.train()
        kl[weight] = np.mean(logged(trainer, "policy/kl")[-5:])
    assert kl[4.0] < 0.5 * kl[0.0]


def test_kl_is_0_before_the_first_step(musical_policy, remi, tmp_path):
    trainer = trainer_of(musical_policy, remi, config(tmp_path, max_steps=1))
    trainer.train()
    assert abs(logged(trainer, "policy/kl")[0]) < 1e-3


def test_credit_reaches_the_note_and_not_what_follows_it(musical_policy, remi, tmp_path):
    """Return-to-go of a reward on one note is nothing after that note."""
    trainer = trainer_of(musical_policy, remi, config(tmp_path, max_steps=1), kl_weight=0.0)
    trainer.train()
    judge = trainer.judges[0]
    first = np.flatnonzero(judge.last_notes.token <= 8)  # notes completed by the ninth token
    credit = np.zeros(len(judge.last_notes), np.float32)
    credit[first[0]] = 1.0
    judge.last = dataclasses.replace(judge.last, credit=credit)
    mask = torch.ones(32, 24, dtype=torch.bool)
    parts = trainer._advantage_parts(mask, torch.zeros(32, 24), torch.arange(32) // 8)
    piece, token = int(judge.last_notes.piece[first[0]]), int(judge.last_notes.token[first[0]])
    assert (parts["high"][piece, : token + 1] == 1).all()  # every token that led to the note
    assert (parts["high"][:, token + 1 :] == 0).all()
    others = [row for row in range(8 * (piece // 8), 8 * (piece // 8) + 8) if row != piece]
    torch.testing.assert_close(parts["high"][others, 0], torch.full((7,), -1 / 7))
    assert (parts["kl"] == 0).all()


class Counting:
    """A learner that remembers how much it was shown."""

    def __init__(self):
        self.shown = []

    def __call__(self, notes):
        return Judgement(np.zeros(notes.n_pieces, np.float32), None, np.ones(notes.n_pieces, bool))

    def update(self, real, generated):
        self.shown.append((real.n_pieces, generated.n_pieces, len(generated)))
        return {"accuracy": 0.5}

    def state_dict(self):
        return {"shown": self.shown}

    def load_state_dict(self, state):
        self.shown = state["shown"]


@pytest.mark.parametrize(("against", "updates"), [("current", 3), ("reference", 0)])
def test_the_adversary_learns_between_steps(against, updates, musical_policy, remi, tmp_path):
    learner = Counting()
    pieces = remi.decode([[5, 382]] * 32)
    adversary = Adversary(learner, lambda n, batch: pieces.pieces(range(n)), against)
    trainer = trainer_of(musical_policy, remi, config(tmp_path, max_steps=3), adversary=adversary)
    trainer.train()
    assert [shown[:2] for shown in learner.shown] == [(32, 32)] * updates
    assert len(logged(trainer, "realism/accuracy")) == updates


@pytest.mark.parametrize(("against", "calls"), [("current", ["update"] * 3), ("reference", ["warm_up"])])
def test_the_warm_up_is_against_the_frozen_policy(against, calls, remi):
    said = []
    learner = SimpleNamespace(
        update=lambda real, played: said.append("update") or {"pieces": float(played.n_pieces)},
        warm_up=lambda real, played: said.append("warm_up") or {"pieces": float(sum(p.n_pieces for p in played))},
    )
    pieces = remi.decode([[5, 382]] * 8)
    adversary = Adversary(learner, lambda n, batch: pieces.pieces(range(n)), against)
    metrics = adversary.warm_up(lambda n, batch: pieces.pieces(range(n)), rounds=3, pieces=4)
    assert said == calls and metrics == {"pieces": 4.0 if against == "current" else 12.0}


def test_it_takes_up_where_it_was(musical_policy, remi, tmp_path):
    def train(folder, steps, resume=None):
        learner = Counting()
        pieces = remi.decode([[5, 382]] * 32)
        adversary = Adversary(learner, lambda n, batch: pieces.pieces(range(n)))
        args = config(folder, max_steps=steps, save_strategy="steps", save_steps=3, save_total_limit=4)
        trainer = trainer_of(musical_policy, remi, args, adversary=adversary)
        trainer.train(resume_from_checkpoint=resume)
        return trainer.model.state_dict(), learner.shown

    straight, shown = train(tmp_path / "a", 6)
    train(tmp_path / "b", 3)
    resumed, shown_again = train(tmp_path / "b", 6, str(tmp_path / "b" / "checkpoint-3"))
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)
    assert shown == shown_again


def test_a_loss_that_is_no_number_stops_the_run(musical_policy, remi, tmp_path):
    def poison(notes):
        judgement = high_pitches(notes)
        return dataclasses.replace(judgement, score=judgement.score, credit=judgement.credit * np.float32(np.inf))

    trainer = trainer_of(musical_policy, remi, config(tmp_path, max_steps=3), judge=poison)
    with pytest.raises(MgenError, match=r"step 1: the loss is .* last good checkpoint: none yet"):
        trainer.train()


def test_groups_must_stay_on_one_process(musical_policy, remi, tmp_path):
    args = config(tmp_path, per_device_train_batch_size=36, num_generations=4)
    args.num_generations = 8
    with pytest.raises(ValueError, match=r"\(36\).*multiple of num_generations \(8\).*40"):
        trainer_of(musical_policy, remi, args)
