"""The policy-gradient loop: it learns what is rewarded, KL pulls it back, and it resumes where it was."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from critics_music import SWUNG, toy
from rl_policy import draw, high_pitches
from transformers import AutoModelForCausalLM, TrainingArguments

from critics.realism.token_discriminator import TokenDiscriminator
from mgen.errors import MgenError
from mgen.judgement import Judgement
from mgen.notes import Notes
from mgen.rl.advantages import Quantile
from mgen.rl.discriminator import DiscriminatorTrainer
from mgen.rl.learner import Learner
from mgen.rl.loop import PolicyGradient
from mgen.rl.loop_options import LoopOptions

pytestmark = pytest.mark.slow

HEAD = ["BOS_None", "Bar_None", "TimeSig_4/4"]


class Prompts:
    """The same prompt, as many times as asked for, of types in turn."""

    def __init__(self, remi, types=("continuation",)):
        names = {name: i for i, name in enumerate(remi.names)}
        self.head, self.types = [names[name] for name in HEAD], types

    def batch(self, n, number):
        return [self.head] * n, [self.types[i % len(self.types)] for i in range(n)]


def loop_of(policy, remi, folder, judges=None, weights=None, prompts=None, parts=None, **options):
    """A loop with small defaults; `parts` are arguments of the loop, `options` those of `LoopOptions`."""
    given = {
        "completions": 32,
        "grammar": False,
        "minibatch": 32,
        "max_completion_length": 24,
        "max_steps": 25,
        "save_steps": 100,
    }
    given |= {"learning_rate": 3e-3, "kl_step": 0.0, "epochs": 1, "average": 0.0, "kl_weight": 0.0, "seed": 1}
    settings = LoopOptions(**{**given, **options})
    settings.check_loop()
    start = Path(folder) / "policy"
    policy.save_pretrained(start)
    (Path(folder) / "checkpoints").mkdir(exist_ok=True)
    args = TrainingArguments(str(Path(folder) / "checkpoints"), report_to=[], use_cpu=True, disable_tqdm=True)
    policy, reference = (AutoModelForCausalLM.from_pretrained(start) for _ in range(2))
    judges = judges or {"high": high_pitches}
    weights = weights or dict.fromkeys(judges, 1.0)
    prompts = prompts or Prompts(remi)
    return PolicyGradient(policy, reference, remi, judges, weights, prompts, settings, args, **(parts or {}))


def logged(loop, key):
    return [line[key] for line in loop.state.log_history if key in line]


@pytest.mark.parametrize(
    "options", [{}, {"grammar": True, "grammar_weight": 0.01, "epochs": 2, "average": 0.5, "max_steps": 40}]
)
def test_it_learns_what_is_rewarded(options, musical_policy, remi, tmp_path):
    loop = loop_of(musical_policy, remi, tmp_path, **options)
    loop.train()
    rewards = logged(loop, "reward")
    assert np.mean(rewards[-5:]) > np.mean(rewards[:3]) + 0.3
    assert logged(loop, "policy/kl")[0] == 0 and logged(loop, "policy/kl")[-1] > 0.05
    assert abs(logged(loop, "share/high")[0] - 1) < 1e-6
    if "grammar" in options:
        assert 0 < np.mean(logged(loop, "grammar/removed")) < 0.9


def test_kl_pulls_back(musical_policy, remi, tmp_path):
    kl = {}
    for weight in (0.0, 4.0):
        loop = loop_of(musical_policy, remi, tmp_path, kl_weight=weight)
        loop.train()
        kl[weight] = np.mean(logged(loop, "policy/kl")[-5:])
    assert kl[4.0] < 0.5 * kl[0.0]


def test_the_learning_rate_follows_the_step(musical_policy, remi, tmp_path):
    loop = loop_of(musical_policy, remi, tmp_path, kl_step=0.02, learning_rate=1e-5, max_steps=20)
    loop.train()
    rates, steps = logged(loop, "learning_rate"), logged(loop, "policy/kl_step")
    assert rates[0] == 1e-5 and rates[1] == pytest.approx(1.5e-5)
    assert 0.005 < np.mean(steps[-5:]) < 0.08


def test_kl_above_its_target_costs_more(musical_policy, remi, tmp_path):
    prompts = Prompts(remi, ("continuation", "transfer"))
    options = {"kl_continuation": 0.05, "kl_transfer": 0.0, "kl_weight": 0.1}
    loop = loop_of(musical_policy, remi, tmp_path, prompts=prompts, **options)
    loop.train()
    weights = logged(loop, "policy/kl_weight/continuation")
    assert weights[0] == 0.1 and max(weights) > 0.15
    assert set(logged(loop, "policy/kl_weight/transfer")) == {0.1}


def test_it_ends_at_kl_stop(musical_policy, remi, tmp_path):
    lines = []
    loop = loop_of(musical_policy, remi, tmp_path, kl_stop=0.05, parts={"progress": lines.append})
    loop.train()
    assert loop.state.global_step < 25 and any("has reached kl_stop (0.05)" in line for line in lines)
    assert list((tmp_path / "checkpoints").glob(f"checkpoint-{loop.state.global_step}/manifest.json"))


def test_the_first_batch_is_described(musical_policy, remi, tmp_path):
    lines = []
    loop_of(musical_policy, remi, tmp_path, max_steps=1, parts={"progress": lines.append}).train()
    assert len(lines) == 1
    assert lines[0].startswith("first batch: KL 0.000 nats, rewards equal in ") and "signal / noise" in lines[0]


def test_cold_groups_are_judged_apart(musical_policy, remi, tmp_path):
    judges = {"high": high_pitches, "low": lambda notes: minus(high_pitches(notes))}
    options = {"cold_share": 0.25, "cold_judges": ["low"], "max_steps": 1, "kl_weight": 0.5}
    loop = loop_of(musical_policy, remi, tmp_path, judges=judges, **options)
    seen = {}
    advantages = loop._advantages

    def kept(batch, *rest):
        seen.update(batch=batch, parts=advantages(batch, *rest))
        return seen["parts"]

    loop._advantages = kept
    loop.train()
    cold = ~seen["batch"].warm
    assert cold.sum() == 8 and set(seen["batch"].temperature[cold].tolist()) == {0.5}
    assert (seen["parts"]["high"][cold] == 0).all() and (seen["parts"]["low"][~cold] == 0).all()
    assert (seen["parts"]["kl"][cold] == 0).all()
    assert seen["parts"]["low"][cold].abs().max() > 0


def minus(judgement):
    return dataclasses.replace(judgement, score=-judgement.score, credit=None)


def test_the_best_of_several_is_distilled(musical_policy, remi, tmp_path):
    """The first phase alone, without a step of policy gradient, raises the reward."""
    rewards = {}
    for prompts in (0, 512):
        lines = []
        options = {"distil_prompts": prompts, "distil_of": 8, "max_steps": 1, "learning_rate": 3e-3, "minibatch": 16}
        loop = loop_of(musical_policy, remi, tmp_path, parts={"progress": lines.append}, **options)
        loop.train()
        rewards[prompts] = logged(loop, "reward")[0]
    assert lines[0].startswith("first phase: the best of 8 after 512 prompts, ")
    assert rewards[512] > rewards[0] + 0.2


@pytest.mark.parametrize("grammar", [False, True])
def test_guidance_is_distilled(grammar, musical_policy, remi, tmp_path):
    prompts, lines = Prompts(remi), []
    prompts.head = [prompts.head[0], next(iter(remi.style_ids.values())), *prompts.head[1:]]
    options = {
        "guided_prompts": 512,
        "guided_weight": 3.0,
        "max_steps": 1,
        "learning_rate": 3e-3,
        "grammar": grammar,
        "grammar_weight": 0.1,
    }
    loop = loop_of(musical_policy, remi, tmp_path, prompts=prompts, parts={"progress": lines.append}, **options)
    loop.train()
    before, after = re.findall(r"[\d.]+", lines[0].removeprefix("first phase: KL to the start under guidance"))[:2]
    assert float(after) < 0.5 * float(before)
    if grammar:  # the tokens that the grammar forbids do not become more likely
        removed = logged(loop, "grammar/removed")[0]
        assert removed < grammar_removed(musical_policy, prompts, remi, tmp_path)


def grammar_removed(policy, prompts, remi, folder):
    (folder / "start").mkdir()
    loop = loop_of(policy, remi, folder / "start", prompts=prompts, grammar=True, max_steps=1)
    loop.train()
    return logged(loop, "grammar/removed")[0]


def test_the_quantile_reward_takes_the_place_of_the_judges(musical_policy, remi, tmp_path):
    names = {name: i for i, name in enumerate(remi.names)}
    note = [names[name] for name in ("Pitch_72", "Velocity_63", "Duration_1.0.24")]
    bar = [[names["Bar_None"], names["TimeSig_4/4"]]] * 9
    for count in range(9):  # scores 0 to 2
        bar[count] = bar[count] + [token for place in range(count) for token in (names[f"Position_{place}"], *note)]
    quantile = Quantile(4, {"continuation": Notes.from_ids(bar, remi)})
    loop = loop_of(musical_policy, remi, tmp_path, max_steps=1, parts={"quantile": quantile}, kl_weight=0.1)
    loop.train()
    shares = {key: value for key, value in loop.steps[0].items() if key.startswith("share/")}
    assert set(shares) == {"share/quantile", "share/kl"} and shares["share/quantile"] > 0.9


@pytest.mark.parametrize("critic", [None, {"gradient_penalty": 0.5, "spectral_norm": "all"}])
def test_it_resumes_exactly(critic, musical_policy, remi, tmp_path):
    """With a learner that counts, and with a discriminator that is one of the judges. At its end, it takes no step."""

    def train(folder, steps, resume=None):
        folder.mkdir(exist_ok=True)
        learner = Counting()
        if critic is not None:
            learner = TokenDiscriminator.new(remi, max_tokens=64, batch_size=16, steps=1, min_notes=2, seed=1, **critic)
        pieces = remi.decode([[5, 382]] * 64) if critic is None else toy(SWUNG, 32, np.random.default_rng(0), 1)
        discriminator = DiscriminatorTrainer({"realism": learner}, lambda n, batch: draw(pieces, n))
        loop = loop_of(
            musical_policy,
            remi,
            folder,
            judges={"high": high_pitches, "realism": learner},
            parts={"discriminator": discriminator},
            **{"max_steps": steps, "save_steps": 3, "kl_weight": 0.5, "kl_step": 0.1, "average": 0.8},
            **{"epochs": 2, "minibatch": 16, "kl_continuation": 0.05},
        )
        loop.train(None if resume is None else str(folder / "checkpoints" / f"checkpoint-{resume}"))
        steps = [{key: value for key, value in line.items() if "seconds/" not in key} for line in loop.steps]
        return loop.policy.state_dict(), learner.state_dict(), steps

    weights, state, steps = train(tmp_path / "a", 6)
    train(tmp_path / "b", 3)
    for step in (3, 6):
        again, state_again, steps_again = train(tmp_path / "b", 6, step)
        assert all(torch.equal(weights[name], again[name]) for name in weights)
        assert steps == steps_again and len(steps) == 6
        if critic is None:
            assert state == state_again
        else:
            assert state["calibration"] == state_again["calibration"] and state["rng"] == state_again["rng"]
            assert all(torch.equal(state["model"][name], state_again["model"][name]) for name in state["model"])


class Counting:
    """A learner that remembers how many pieces it was given."""

    worst = -1.0

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
        self.shown = [tuple(one) for one in state["shown"]]


@pytest.mark.parametrize("against", ["current", "reference"])
def test_the_discriminator_is_trained_between_steps_or_only_measured(against, musical_policy, remi, tmp_path):
    learner = Counting()
    pieces = remi.decode([[5, 382]] * 32)
    discriminator = DiscriminatorTrainer({}, lambda n, batch: draw(pieces, n), against)
    loop = loop_of(musical_policy, remi, tmp_path, max_steps=3, parts={"discriminator": discriminator})
    discriminator.discriminators["realism"] = learner
    loop.train()
    busy, idle = (learner.shown, learner.watched) if against == "current" else (learner.watched, learner.shown)
    assert [shown[:2] for shown in busy] == [(32, 32)] * 3 and idle == []
    assert len(logged(loop, "realism/accuracy")) == 3


def test_weights_that_do_not_fit_are_refused(musical_policy, remi, tmp_path):
    learner = Counting()
    discriminator = DiscriminatorTrainer({"real": learner}, lambda n, batch: None, "reference")
    judges, parts = {"high": high_pitches, "real": learner}, {"discriminator": discriminator}
    with pytest.raises(ValueError, match="must be the weight of realism"):
        loop_of(musical_policy, remi, tmp_path, judges=judges, parts=parts, kl_weight=0.5)
    loop_of(musical_policy, remi, tmp_path, judges=judges, parts=parts, kl_weight=1.0)


def test_judges_and_discriminator_get_completions_only(musical_policy, remi, tmp_path):
    """The prompt's note, far above those of the policy, reaches neither."""
    received, names = [], {name: i for i, name in enumerate(remi.names)}
    learner = Counting()
    learner.update = lambda real, generated, works: received.append(generated) or {}
    discriminator = DiscriminatorTrainer({}, lambda n, batch: draw(remi.decode([[5, 382]] * n), n))
    prompts = Prompts(remi)
    prompts.head += [names[name] for name in ("Position_0", "Pitch_108", "Velocity_63", "Duration_1.0.24")]
    judged = []

    def judge(notes):
        judged.append(notes)
        return high_pitches(notes)

    loop = loop_of(
        musical_policy,
        remi,
        tmp_path,
        {"high": judge},
        prompts=prompts,
        parts={"discriminator": discriminator},
        max_steps=1,
    )
    discriminator.discriminators["realism"] = learner
    loop.train()
    assert len(received[0]) == len(judged[0]) > 0
    for column in ("piece", "pitch", "onset", "duration", "token"):
        np.testing.assert_array_equal(getattr(received[0], column), getattr(judged[0], column))
    assert (judged[0].pitch == 108).mean() < 0.1


def test_a_loss_that_is_not_finite_stops_the_run(musical_policy, remi, tmp_path):
    loop = loop_of(musical_policy, remi, tmp_path, weights={"high": float("inf")})
    with pytest.raises(MgenError, match=r"step 1: the loss is .* last good checkpoint: none yet;"):
        loop.train()


def test_a_broken_judge_stops_the_run_and_names_the_last_good_checkpoint(musical_policy, remi, tmp_path):
    calls = []

    def breaks_later(notes):
        judgement = high_pitches(notes)
        calls.append(1)
        return dataclasses.replace(judgement, score=judgement.score * np.float32(np.nan if len(calls) > 2 else 1))

    loop = loop_of(musical_policy, remi, tmp_path, {"mine": breaks_later}, save_steps=2)
    with pytest.raises(MgenError, match=r"^step 3: judge mine .*piece 0 .* has nan.*checkpoint: .*checkpoint-2; "):
        loop.train()


def test_a_step_that_breaks_the_weights_is_found_before_they_are_saved(musical_policy, remi, tmp_path):
    loop = loop_of(musical_policy, remi, tmp_path, learning_rate=1e10, save_steps=1)
    with pytest.raises(MgenError, match=r"^step 1: the weights have grown .* times.*lower learning_rate \(1e\+10\)"):
        loop.train()
    assert not list((tmp_path / "checkpoints").glob("checkpoint-*"))


def constant(notes):
    """The same score for every piece."""
    return Judgement(np.full(notes.n_pieces, -0.3, np.float32), None, np.ones(notes.n_pieces, bool))


def test_rewards_that_never_differ_stop_the_run_at_step_3(musical_policy, remi, tmp_path):
    def train(**options):
        lines = []
        loop = loop_of(
            musical_policy, remi, tmp_path, {"mine": constant}, parts={"progress": lines.append}, max_steps=4, **options
        )
        loop.train()
        return lines, logged(loop, "groups/equal")

    message = r"^step 3: all completions of a prompt have equal rewards.*checkpoint-2; .*--allow_equal_rewards true"
    with pytest.raises(MgenError, match=message):
        train(save_steps=1)
    lines, equal = train(allow_equal_rewards=True)
    assert equal == [1.0] * 4
    assert [line.split(":")[0] for line in lines if "equal rewards" in line] == ["  step 3"]


def test_shuffled_advantages_teach_nothing(musical_policy, remi, tmp_path):
    loop = loop_of(musical_policy, remi, tmp_path, shuffled=True)
    loop.train()
    rewards = logged(loop, "reward")
    assert np.mean(rewards[-5:]) < np.mean(rewards[:3]) + 0.3  # a run with true rewards gains more
    assert logged(loop, "policy/kl")[-1] > 0.01


TWO = """
import os, sys
from pathlib import Path
import torch
from transformers import AutoModelForCausalLM
from mgen.encoding.remi import Remi
from rl_policy import high_pitches
from test_rl_loop import loop_of

folder = Path(sys.argv[1], os.environ.get("RANK", "0"))
folder.mkdir(parents=True)
policy = AutoModelForCausalLM.from_pretrained(sys.argv[2])
options = {"max_steps": 2, "kl_weight": 0.5, "epochs": 2, "minibatch": 16, "device_batch": 3, "learning_rate": 1e-3}
loop = loop_of(policy, Remi.build(("jazz", "other")), folder, **options)
loop.train()
torch.save((loop.policy.state_dict(), loop.steps, loop.learner.accelerator.num_processes), folder / "end.pt")
if torch.distributed.is_initialized():
    torch.distributed.destroy_process_group()
"""


def test_two_processes_make_the_same_update_as_one(musical_policy, tmp_path):
    """Float32, the same completions, minibatches and seeds; only the order of sums differs."""
    musical_policy.save_pretrained(tmp_path / "start")
    (tmp_path / "two.py").write_text(TWO)
    root = Path(__file__).parent
    env = os.environ | {"ACCELERATE_USE_CPU": "1", "PYTHONPATH": os.pathsep.join([str(root.parent), str(root)])}
    launch = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    ended = []
    for name, words in (("one", []), ("two", launch)):
        command = [sys.executable, *words, str(tmp_path / "two.py"), str(tmp_path / name), str(tmp_path / "start")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=540, env=env)
        assert done.returncode == 0, done.stderr[-3000:]
        ranks = sorted((tmp_path / name).iterdir())
        ended += [torch.load(folder / "end.pt", weights_only=True) for folder in ranks]
    (one, steps, _), *others = ended
    assert [world for *_, world in ended] == [1, 2, 2]
    for weights, metrics, _ in others:
        for name, weight in one.items():
            torch.testing.assert_close(weights[name], weight, atol=1e-5, rtol=0)
        for own, other in zip(steps, metrics, strict=True):
            for key in ("reward", "policy/kl", "policy/kl_step", "completions/notes"):
                assert other[key] == pytest.approx(own[key], abs=1e-4), key


@pytest.fixture
def steps_of(musical_policy, remi, tmp_path):
    """Metrics of a few steps, and what was said."""

    def run(name, **parts):
        (tmp_path / name).mkdir()
        lines = []
        options = {"grammar": True, "device_batch": 16, "minibatch": 0, "max_steps": 3}
        loop = loop_of(musical_policy, remi, tmp_path / name, parts={"progress": lines.append, **parts}, **options)
        loop.train()
        return [[line["reward"], line["policy/kl"], line["policy/kl_step"]] for line in loop.steps], lines

    return run


def test_compiled_it_does_the_same_steps(steps_of):
    eager, _ = steps_of("eager")
    compiled, lines = steps_of("compiled", compiled=True)
    assert lines[0].startswith("compiled in ")
    np.testing.assert_allclose(compiled, eager, atol=2e-4)


def test_where_nothing_compiles_it_goes_on(steps_of, monkeypatch):
    def explode(*_, **__):
        raise RuntimeError("error: cannot find Python.h\nand more")

    eager, _ = steps_of("eager")
    monkeypatch.setattr(torch.nn.Module, "compile", lambda layer, **_: setattr(layer, "_compiled_call_impl", explode))
    failing, lines = steps_of("failing", compiled=True)
    assert lines[0] == "compiling failed, the run goes on without: error: cannot find Python.h"
    assert failing == eager  # not padded any more


def test_a_failure_in_the_gradient_leaves_none_behind(steps_of, monkeypatch):
    eager, _ = steps_of("eager")
    backward = Learner.backward

    def fails(self, rows, loss):
        backward(self, rows, loss)
        if self.longest_prompt is not None:
            raise RuntimeError("no memory")

    monkeypatch.setattr(Learner, "backward", fails)
    monkeypatch.setattr(torch.nn.Module, "compile", lambda layer, **_: None)
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    failing, lines = steps_of("failing", compiled=True)
    assert lines[0] == "compiling failed, the run goes on without: no memory"
    assert failing == eager


def test_every_shape_of_a_step_is_compiled(musical_policy, remi, tmp_path, monkeypatch):
    """Prompts of two lengths, a minibatch smaller than what a process reads at a time."""
    prompts, shapes = Prompts(remi), []
    short, long = prompts.head, [*prompts.head, *prompts.head[1:]]
    prompts.batch = lambda n, number: ([short] * (n // 2) + [long] * (n - n // 2), ["continuation"] * n)
    monkeypatch.setattr(torch.nn.Module, "compile", lambda layer, **_: None)

    def noted(head, **_):
        return lambda logits, *rest: shapes.append((tuple(logits.shape), logits.requires_grad)) or head(logits, *rest)

    monkeypatch.setattr(torch, "compile", noted)
    options = {"device_batch": 16, "minibatch": 8, "max_steps": 2, "kl_step": 0.0}
    options |= {"signal_steps": 0}  # half batches have another shape
    loop = loop_of(musical_policy, remi, tmp_path, prompts=prompts, parts={"compiled": True}, **options)
    step = loop._step
    known = []
    loop._step = lambda: known.append({*shapes}) or step()
    loop.train()
    assert {*shapes} == known[0] and len(known[0]) == 2 and len(shapes) > 20


@pytest.mark.parametrize("distilled", [False, True])
def test_a_first_phase_is_checked_against_the_start(distilled, musical_policy, remi, tmp_path):
    checked = []

    class Guard:
        notes = 36

        def check(self, policy, progress):
            checked.append({name: weight.clone() for name, weight in policy.state_dict().items()})
            return {"guard/evidence": float(len(checked))}

    options = {"distil_prompts": 16, "distil_of": 2, "max_steps": 1} if distilled else {"max_steps": 1}
    loop = loop_of(musical_policy, remi, tmp_path, parts={"guard": Guard(), "guard_steps": 1}, **options)
    start = {name: weight.clone() for name, weight in loop.policy.state_dict().items()}
    loop.train()
    assert all(torch.equal(start[name], checked[0][name]) for name in start)
    assert len(checked) == 2 + distilled
    # The evidence rises from check to check, so the first one after the start is kept.
    assert all(torch.equal(loop.policy.state_dict()[name], checked[1][name]) for name in start)
