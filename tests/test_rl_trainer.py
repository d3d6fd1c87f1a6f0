"""The trainer: it learns what is rewarded, KL pulls it back, and it takes up where it was."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from critics_music import SWUNG, toy
from datasets import Dataset
from transformers import AutoModelForCausalLM
from trl import GRPOConfig

from critics.realism.token_discriminator import TokenDiscriminator
from mgen.errors import MgenError
from mgen.judgement import Judgement
from mgen.rl.discriminator import DiscriminatorTrainer, check_weights, fixed_point
from mgen.rl.trainer import MusicTrainer, Quantile
from rewards.trl import trl_rewards

pytestmark = pytest.mark.slow


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


def trainer_of(policy, remi, args, judge=high_pitches, judges=None, weights=None, **rest):
    prompts = Dataset.from_list([{"prompt": "BOS_NoneBar_NoneTimeSig_4/4"}] * 64)
    folder = Path(args.output_dir) / "policy"
    policy.save_pretrained(folder)
    start, reference = (AutoModelForCausalLM.from_pretrained(folder) for _ in range(2))
    judges = trl_rewards(judges or {"high": judge}, remi)
    args.reward_weights = weights or [1.0] * len(judges)
    return MusicTrainer(start, reference, remi, judges, args, prompts, **rest)


def draw(pieces, n):
    """The first n pieces, as draws of real music: no two of the same work."""
    return pieces.pieces(range(n)), np.arange(n).astype(str)


def logged(trainer, key):
    return [line[key] for line in trainer.state.log_history if key in line]


@pytest.mark.parametrize("objective", ["kl_in_return", "grpo"])
def test_it_learns_what_is_rewarded(objective, musical_policy, remi, tmp_path):
    changes = {} if objective == "kl_in_return" else {"beta": 0.01, "scale_rewards": "group"}
    trainer = trainer_of(musical_policy, remi, config(tmp_path, **changes), objective=objective, kl_weight=0.0)
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


class Bars:
    """The number of notes above middle C, which can be counted in beginnings too."""

    worst = -1.0

    def prefix_scores(self, notes):
        return np.bincount(notes.piece, weights=notes.pitch > 60, minlength=notes.n_pieces)

    def __call__(self, notes):
        score = self.prefix_scores(notes).astype(np.float32)
        return Judgement(score, None, np.ones(notes.n_pieces, bool))


def test_a_closed_bar_is_no_longer_in_the_return(musical_policy, remi, tmp_path):
    """All completions are alike up to a bar line, but for the notes above middle C before it."""
    trainer = trainer_of(musical_policy, remi, config(tmp_path, max_steps=1), judges={"bars": Bars()}, kl_weight=0.0)
    judge = trainer.judges[0]
    names = {name: i for i, name in enumerate(remi.names)}
    bar = "Position_0 Pitch_{} Velocity_63 Duration_1.0.24"
    high = np.random.default_rng(0).integers(0, 2, (256, 2))
    rows = [
        [names[token] for token in f"{bar.format(first)} Bar_None TimeSig_4/4 {bar.format(second)}".split()]
        for first, second in (50 + 20 * high).tolist()
    ]
    judge(["BOS_NoneBar_NoneTimeSig_4/4"] * 256, None, rows)
    assert judge.last.score.tolist() == high.sum(1).tolist()
    ids, group = torch.tensor(rows), torch.arange(256) // 8
    found = {}
    for causal in (True, False):
        trainer.causal_rewards = causal
        found[causal] = trainer._token_advantages(ids, ids >= 0, torch.zeros(ids.shape), group)
    assert (found[True]["kl"] == 0).all()
    by_bars, at_end = found[True]["bars"], found[False]["bars"]
    torch.testing.assert_close(by_bars[:, 0], at_end[:, 0])  # the sum of the rewards is the score in both
    second = torch.from_numpy(high[:, 1].astype(np.float32))
    torch.testing.assert_close(by_bars[:, 5], second - second.mean(), atol=0.2, rtol=0)  # after the bar line
    assert at_end[:, 5].var() > 1.7 * by_bars[:, 5].var()


def test_the_quantile_reward_compares_with_samples_of_the_same_prompt_type(musical_policy, remi, tmp_path):
    judge = Bars()
    some = remi.decode([[remi.bos_id, *high_notes(remi, count)] for count in range(1, 6)], 1)  # scores 1 to 5
    samples = {"continuation": some.pieces([2] * 9), "transfer": some.pieces([0] * 9), "": some}
    trainer = trainer_of(
        musical_policy, remi, config(tmp_path, max_steps=1), judges={"bars": judge}, quantile=Quantile(4, samples)
    )
    judge = trainer.judges[0]
    judge.last = Judgement(np.array([2.0, 2.0], np.float32), None, np.ones(2, bool))
    found = trainer._quantile_rewards(["continuation", "transfer"])
    np.testing.assert_allclose(found, 3 * np.log([1 / 10, 1]))  # below all samples, and not below any
    trainer.train()
    assert logged(trainer, "share/quantile")[0] > 0.9


def high_notes(remi, count):
    names = {name: i for i, name in enumerate(remi.names)}
    bar = ["Bar_None", "TimeSig_4/4"]
    for number in range(count):
        bar += [f"Position_{12 * number}", "Pitch_72", "Velocity_63", "Duration_1.0.24"]
    return [names[name] for name in bar]


def without_credit(judge):
    """The same judge, with a score for the piece only."""
    return lambda notes: dataclasses.replace(judge(notes), credit=None)


def long_notes(notes):
    """Mean pitch in octaves, without credit."""
    count = np.maximum(notes.counts, 1)
    score = np.bincount(notes.piece, weights=notes.pitch / 12, minlength=notes.n_pieces) / count
    return Judgement(score.astype(np.float32), None, notes.counts > 0)


@pytest.mark.parametrize(
    ("objective", "changes"),
    [
        ("kl_in_return", {}),
        ("grpo", {"scale_rewards": "group", "beta": 0.01, "loss_type": "grpo"}),
        (
            "grpo",
            {"scale_rewards": "group", "beta": 0.01, "multi_objective_aggregation": "normalize_then_sum"},
        ),
        ("grpo", {"scale_rewards": "batch", "beta": 0.01}),
    ],
)
def test_shares_are_of_what_enters_the_loss(objective, changes, musical_policy, remi, tmp_path):
    """Parts of judges with credit and without add up to the advantages that TRL, or we, put into the loss."""
    judges = {"high": high_pitches, "score": without_credit(high_pitches), "mean": long_notes}
    args = config(tmp_path, max_steps=1, **changes)
    trainer = trainer_of(musical_policy, remi, args, judges=judges, weights=[1.0, 0.5, 2.0], objective=objective)
    seen = {}
    log, generate = trainer._log_step, trainer._generate_and_score_completions
    trainer._log_step = lambda parts, mask, ratio: seen.update(parts=parts, mask=mask) or log(parts, mask, ratio)
    trainer._generate_and_score_completions = lambda inputs: seen.setdefault("output", generate(inputs))
    trainer.train()
    advantages = seen["output"]["advantages"]
    advantages = advantages if objective == "kl_in_return" else advantages[:, None]
    torch.testing.assert_close(sum(seen["parts"].values()), advantages, atol=1e-5, rtol=1e-4)
    assert advantages.abs().max() > 0.1
    names = ["high", "score", "mean", *(["kl"] if objective == "kl_in_return" else [])]
    assert list(seen["parts"]) == names
    shares = {name: logged(trainer, f"share/{name}")[0] for name in names}
    assert sum(shares.values()) == pytest.approx(1, abs=1e-5)
    assert shares["high"] == pytest.approx(2 * shares["score"], rel=1e-4)  # credit or not, weights 1 and 0.5


def test_normalising_each_judge_is_refused_with_kl_in_return(musical_policy, remi, tmp_path):
    args = config(tmp_path, multi_objective_aggregation="normalize_then_sum")
    with pytest.raises(ValueError, match=r"\(normalize_then_sum\).*use it with the objective grpo"):
        trainer_of(musical_policy, remi, args)


def test_a_dominant_reward_is_reported_once(musical_policy, remi, tmp_path):
    judges, lines = {"high": high_pitches, "mean": long_notes}, []
    trainer = trainer_of(
        musical_policy,
        remi,
        config(tmp_path, max_steps=7),
        judges=judges,
        weights=[50.0, 0.01],
        kl_weight=0.0,
        warn=lines.append,
    )
    trainer.train()
    assert len(lines) == 1 and "step 5: dominant reward: high has" in lines[0]
    assert min(logged(trainer, "share/high")) > 0.8


class Counting:
    """A learner that remembers how much it was shown."""

    def __init__(self):
        self.shown, self.watched = [], []

    def __call__(self, notes):
        return Judgement(np.zeros(notes.n_pieces, np.float32), None, np.ones(notes.n_pieces, bool))

    def update(self, real, generated, works):
        self.shown.append((real.n_pieces, generated.n_pieces, len(generated)))
        return {"accuracy": 0.5}

    def watch(self, real, generated, works):
        self.watched.append((real.n_pieces, generated.n_pieces, len(generated)))
        return {"accuracy": 0.5}

    def state_dict(self):
        return {"shown": self.shown}

    def load_state_dict(self, state):
        self.shown = state["shown"]


@pytest.mark.parametrize("against", ["current", "reference"])
def test_the_discriminator_is_trained_between_steps_or_only_measured(against, musical_policy, remi, tmp_path):
    learner = Counting()
    pieces = remi.decode([[5, 382]] * 32)
    discriminator = DiscriminatorTrainer({"realism": learner}, lambda n, batch: draw(pieces, n), against)
    trainer = trainer_of(musical_policy, remi, config(tmp_path, max_steps=3), discriminator=discriminator)
    trainer.train()
    busy, idle = (learner.shown, learner.watched) if against == "current" else (learner.watched, learner.shown)
    assert [shown[:2] for shown in busy] == [(32, 32)] * 3 and idle == []
    assert len(logged(trainer, "realism/accuracy")) == 3


@pytest.mark.parametrize(
    ("against", "calls"),
    [("current", ["update"] * 6), ("reference", ["update"] * 5 + [("calibrate", 1)])],
)
def test_the_warm_up_is_against_the_frozen_policy(against, calls, remi):
    made = []
    learner = SimpleNamespace(
        update=lambda real, generated, works: made.append("update") or {"pieces": float(generated.n_pieces)},
        calibrate=lambda batches: made.append(("calibrate", len(list(batches)))) or {"calibrated": 1.0},
    )
    pieces = remi.decode([[5, 382]] * 8)
    drawn = []
    discriminator = DiscriminatorTrainer(
        {"a": learner}, lambda n, batch: drawn.append(batch) or draw(pieces, n), against
    )
    metrics = discriminator.warm_up(lambda n, batch: pieces.pieces(range(n)), rounds=6, pieces=4)
    assert made == calls and metrics == ({"a/pieces": 4.0} if against == "current" else {"a/calibrated": 1.0})
    assert drawn == [0, 1, 2, 3, 4, 5] and discriminator.batches == 6


def test_a_warm_up_against_the_reference_needs_two_rounds():
    with pytest.raises(ValueError, match=r"warm-up \(1\) must be at least 2"):
        DiscriminatorTrainer({"a": Counting()}, None, "reference").warm_up(None, rounds=1, pieces=4)


def test_fixed_points_by_hand():
    """Two pieces, p_ref (0.8, 0.2), p_real (0.5, 0.5). The best policy under the objective, found by trying all."""
    reference, real = np.array([0.8, 0.2]), np.array([0.5, 0.5])
    share = np.linspace(0.001, 0.999, 9999)
    policy = np.stack([share, 1 - share])
    kl = {name: (policy * np.log(policy / p[:, None])).sum(0) for name, p in (("ref", reference), ("real", real))}
    static = (policy * np.log(real / reference)[:, None]).sum(0)
    for against, weight, kl_weight in (
        ("reference", 1.0, 1.0),
        ("reference", 0.5, 1.0),
        ("current", 1.0, 1.0),
        ("current", 1.0, 0.5),
        ("current", 1.0, 0.0),
    ):
        # Against current samples the mean of log p_real / p_policy over the policy is -KL(policy, real).
        gained = weight * (static if against == "reference" else -kl["real"])
        best = share[(gained - kl_weight * kl["ref"]).argmax()]
        a, b = fixed_point(against, weight, kl_weight)
        found = reference**a * real**b
        assert found[0] / found.sum() == pytest.approx(best, abs=2e-4), (against, weight, kl_weight)
    assert fixed_point("current", 1.0, 0.5) == pytest.approx((1 / 3, 2 / 3))
    assert fixed_point("current", 1.0, 1.0) == (0.5, 0.5)  # the geometric mean


@pytest.mark.parametrize(
    ("against", "weight", "kl_weight", "message"),
    [
        ("reference", 1.0, 0.5, r"kl_weight \(0.5\) must be the weight of realism \(1\)"),
        ("reference", 1.0, 0.0, "try kl_weight 1"),
        ("current", 1.0, 1.0, r"kl_weight \(1\) must be below the weight of realism \(1\)"),
        ("current", 0.5, 0.6, "try 0.25 or 0"),
        ("current", 0.0, 0.0, "must be above 0"),
        ("both", 1.0, 0.0, "expected one of"),
    ],
)
def test_weights_that_do_not_fit_the_samples_are_refused(against, weight, kl_weight, message):
    with pytest.raises(ValueError, match=message):
        check_weights(against, weight, kl_weight)


def test_the_trainer_refuses_weights_that_do_not_fit(musical_policy, remi, tmp_path):
    learner = Counting()
    discriminator = DiscriminatorTrainer({"real": learner}, lambda n, batch: None, "reference")

    def build(kl_weight, objective="kl_in_return"):
        judges = {"high": high_pitches, "real": learner}
        args = config(tmp_path, **({} if objective == "kl_in_return" else {"beta": 0.01, "scale_rewards": "group"}))
        return trainer_of(
            musical_policy,
            remi,
            args,
            judges=judges,
            discriminator=discriminator,
            kl_weight=kl_weight,
            objective=objective,
        )

    with pytest.raises(ValueError, match="must be the weight of realism"):
        build(0.5)
    assert build(1.0).kl_weight == 1.0 and build(0.5, "grpo").objective == "grpo"


TROUBLES = {"running_away": "is too strong", "starved": "sees no difference"}


@pytest.mark.parametrize(("name", "message"), TROUBLES.items())
def test_a_discriminator_in_trouble_is_reported_once(name, message, musical_policy, remi, tmp_path):
    learner = Counting()
    values = iter([0.5, 1.0, 1.0, 0.9, 1.0])
    learner.update = lambda real, generated, works: {name: next(values)}
    pieces, lines = remi.decode([[5, 382]] * 32), []
    discriminator = DiscriminatorTrainer({"realism_tokens": learner}, lambda n, batch: draw(pieces, n))
    args = config(tmp_path, max_steps=5)
    trainer_of(musical_policy, remi, args, discriminator=discriminator, warn=lines.append).train()
    steps = [line.split(":")[0] for line in lines if message in line]
    assert steps == ["  step 2", "  step 5"]  # again after a step without it


def test_the_discriminator_gets_completions_only(musical_policy, remi, tmp_path):
    """The prompt's note, far above those of the policy, reaches neither judges nor discriminator."""
    received = []
    learner = Counting()
    learner.update = lambda real, generated, works: received.append(generated) or {}
    discriminator = DiscriminatorTrainer({"realism": learner}, lambda n, batch: draw(remi.decode([[5, 382]] * n), n))
    trainer = trainer_of(musical_policy, remi, config(tmp_path, max_steps=1), discriminator=discriminator)
    prompt = "BOS_NoneBar_NoneTimeSig_4/4Position_0Pitch_108Velocity_63Duration_1.0.24"
    trainer.train_dataset = Dataset.from_list([{"prompt": prompt}] * 64)
    trainer.train()
    judged = trainer.judges[0].last_notes
    assert len(received[0]) == len(judged) > 0
    for column in ("piece", "pitch", "onset", "duration", "token"):
        np.testing.assert_array_equal(getattr(received[0], column), getattr(judged, column))
    assert (judged.pitch == 108).mean() < 0.1


@pytest.mark.parametrize("critic", [None, {"gradient_penalty": 0.5, "spectral_norm": "all"}])
def test_it_resumes_exactly(critic, musical_policy, remi, tmp_path):
    """With a learner that counts, between two of the four steps on one batch of completions, and with the realism
    critic itself, which is then one of the judges. Resumed at its end, a run takes no step.
    """

    def train(folder, steps, resume=None):
        learner = Counting()
        if critic is not None:
            learner = TokenDiscriminator.new(remi, max_tokens=64, batch_size=16, steps=1, min_notes=2, seed=1, **critic)
        pieces = remi.decode([[5, 382]] * 64) if critic is None else toy(SWUNG, 32, np.random.default_rng(0), 1)
        discriminator = DiscriminatorTrainer({"realism": learner}, lambda n, batch: draw(pieces, n))
        more = {"steps_per_generation": 2, "num_iterations": 2} if critic is None else {}
        args = config(folder, max_steps=steps, save_strategy="steps", save_steps=3, save_total_limit=4, **more)
        judges = {"high": high_pitches} if critic is None else {"high": high_pitches, "realism": learner}
        trainer = trainer_of(musical_policy, remi, args, judges=judges, discriminator=discriminator, kl_weight=0.5)
        trainer.train(resume_from_checkpoint=resume)
        end = learner.shown if critic is None else learner.state_dict()
        return trainer.model.state_dict(), end

    straight, shown = train(tmp_path / "a", 6)
    train(tmp_path / "b", 3)
    for step in (3, 6):
        resumed, shown_again = train(tmp_path / "b", 6, str(tmp_path / "b" / f"checkpoint-{step}"))
        assert all(torch.equal(straight[name], resumed[name]) for name in straight)
        if critic is None:
            assert shown == shown_again and len(shown) == 2
        else:
            assert shown["accuracies"] == shown_again["accuracies"] and len(shown["accuracies"]) == 6
            assert shown["calibration"] == shown_again["calibration"] and shown["rng"] == shown_again["rng"]
            assert all(torch.equal(shown["model"][name], shown_again["model"][name]) for name in shown["model"])


def test_a_loss_that_is_not_finite_stops_the_run(musical_policy, remi, tmp_path):
    trainer = trainer_of(musical_policy, remi, config(tmp_path, max_steps=3), kl_weight=float("inf"))
    with pytest.raises(MgenError, match=r"step 1: the loss is .* last good checkpoint: none yet; lower learning_rate"):
        trainer.train()


def test_a_broken_judge_stops_the_run_and_names_the_last_good_checkpoint(musical_policy, remi, tmp_path):
    calls = []

    def breaks_later(notes):
        judgement = high_pitches(notes)
        calls.append(1)
        return dataclasses.replace(judgement, score=judgement.score * np.float32(np.nan if len(calls) > 2 else 1))

    args = config(tmp_path, **SHORT, save_strategy="steps", save_steps=2)
    trainer = trainer_of(musical_policy, remi, args, judges={"mine": breaks_later})
    with pytest.raises(MgenError, match=r"^step 3: judge mine .*piece 0 .* has nan.*checkpoint: .*checkpoint-2; "):
        trainer.train()


def test_a_step_that_breaks_the_weights_is_found_before_they_are_saved(musical_policy, remi, tmp_path):
    args = config(tmp_path, **SHORT, learning_rate=1e10, save_strategy="steps", save_steps=1)
    with pytest.raises(MgenError, match=r"^step 1: the weights have grown .* times.*lower learning_rate \(1e\+10\)"):
        trainer_of(musical_policy, remi, args).train()
    assert not list(tmp_path.glob("checkpoint-*"))


SHORT = {"max_steps": 4, "per_device_train_batch_size": 8, "num_generations": 4}


def constant(notes):
    """The same score for every piece."""
    return Judgement(np.full(notes.n_pieces, -0.3, np.float32), None, np.ones(notes.n_pieces, bool))


def test_rewards_that_never_differ_stop_the_run_at_step_3(musical_policy, remi, tmp_path):
    def train(name, **options):
        lines = []
        args = config(tmp_path / name, **SHORT, save_strategy="steps", save_steps=1)
        trainer = trainer_of(musical_policy, remi, args, judges={"mine": constant}, warn=lines.append, **options)
        trainer.train()
        return lines, logged(trainer, "groups/equal")

    message = r"^step 3: all completions of a prompt have equal rewards.*checkpoint-2; .*--allow_equal_rewards true"
    with pytest.raises(MgenError, match=message):
        train("stopped")
    lines, equal = train("allowed", allow_equal_rewards=True)
    assert equal == [1.0] * 4 and [line.split(":")[0] for line in lines] == ["  step 3"]


def test_rewards_that_no_longer_differ_are_only_reported(musical_policy, remi, tmp_path):
    lines, calls = [], []

    def saturates(notes):
        calls.append(1)
        return high_pitches(notes) if len(calls) == 1 else constant(notes)

    args = config(tmp_path, **SHORT)
    trainer_of(musical_policy, remi, args, judges={"mine": saturates}, warn=lines.append).train()
    assert [line.split(":")[0] for line in lines if "equal rewards" in line] == ["  step 4"]


def test_groups_must_stay_on_one_process(musical_policy, remi, tmp_path):
    args = config(tmp_path, per_device_train_batch_size=36, num_generations=4)
    args.num_generations = 8
    with pytest.raises(ValueError, match=r"\(36\).*multiple of num_generations \(8\).*40"):
        trainer_of(musical_policy, remi, args)
