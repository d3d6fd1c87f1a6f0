"""The realism critic: it learns what can be learned, says so honestly, and takes up where it was."""

from __future__ import annotations

import copy
import io
import math

import numpy as np
import pytest
import torch
from critics_music import STRAIGHT, SWUNG, toy
from transformers import AutoModelForSequenceClassification

from critics.realism.token_discriminator import (
    WINDOW,
    TokenDiscriminator,
    TokenDiscriminatorOptions,
    held_out_metrics,
    scheduled_steps,
)
from mgen.errors import MgenError
from mgen.notes import Notes
from mgen.stats.calibration import Calibration

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def policy_folder(tiny_policy, remi, tmp_path_factory):
    folder = tmp_path_factory.mktemp("policy")
    tiny_policy().save_pretrained(folder)
    remi.save_pretrained(folder)
    return folder


@pytest.fixture
def new(policy_folder, remi):
    def build(**options):
        options = {"learning_rate": 1e-2, "steps": 3, "batch_size": 32, "max_tokens": 96, **options}
        return TokenDiscriminator.new(remi, init=policy_folder, **options)

    return build


def rounds(critic, real, generated, count, pieces=32, seed=0):
    rng = np.random.default_rng(seed)
    return [critic.update(toy(real, pieces, rng, 2), toy(generated, pieces, rng, 2)) for _ in range(count)]


def weights(critic):
    return torch.cat([weight.flatten() for weight in critic.network.model.state_dict().values()])


def test_held_out_accuracy_rises_on_what_can_be_told_apart(new):
    critic = new()
    metrics = rounds(critic, SWUNG, STRAIGHT, 14)
    assert metrics[0]["accuracy"] < 0.8 and metrics[-1]["accuracy"] > 0.9
    assert metrics[-1]["logit_real"] > 1 > -1 > metrics[-1]["logit_generated"]
    assert metrics[-1]["loss"] < 0.4 < metrics[0]["loss"]
    rng = np.random.default_rng(7)
    assert critic(toy(SWUNG, 8, rng, 2)).score.mean() > 1
    assert critic(toy(STRAIGHT, 8, rng, 2)).score.mean() < -1


def test_it_says_nothing_where_there_is_nothing_to_tell(new):
    metrics = rounds(new(), SWUNG, SWUNG, 20)[8:]
    assert np.mean([m["accuracy"] for m in metrics]) == pytest.approx(0.5, abs=0.06)
    assert np.mean([m["auc"] for m in metrics]) == pytest.approx(0.5, abs=0.06)
    # The calibration keeps it from being sure of what it learned by heart.
    assert np.mean([abs(m["logit_real"]) for m in metrics]) < 0.3
    assert np.mean([m["loss"] for m in metrics]) == pytest.approx(math.log(2), abs=0.1)


def test_untried_it_says_nothing(new):
    notes = toy(SWUNG, 4, np.random.default_rng(0), 2)
    judged = new()(notes)
    assert judged.score.tolist() == [0.0] * 4 and judged.defined.all()


def test_a_batch_is_judged_before_it_is_learned_from(new):
    critic = new(ceiling=1.0)
    rounds(critic, SWUNG, STRAIGHT, 3)
    rng = np.random.default_rng(11)
    real, generated = toy(SWUNG, 16, rng, 2), toy(STRAIGHT, 16, rng, 2)
    as_it_was = copy.deepcopy(critic)
    metrics = critic.update(real, generated)
    assert not torch.equal(weights(critic), weights(as_it_was))
    said = as_it_was.calibration.log_odds(as_it_was.network.logits(real))
    assert metrics["logit_real"] == pytest.approx(said.mean(), abs=1e-5)


def test_judgement_contract(new):
    critic = new(clip=2.0)
    rng = np.random.default_rng(0)
    notes = toy(SWUNG, 6, rng, 3)
    number = np.arange(len(notes)) - notes.starts[notes.piece]
    notes = notes.select((notes.piece > 1) | (number < np.where(notes.piece == 0, 15, 0)))
    judged = critic(notes)
    assert judged.score.dtype == np.float32 and judged.credit is None
    assert judged.defined.tolist() == [False, False, True, True, True, True]
    assert judged.score[:2].tolist() == [-2.0, -2.0] and critic.worst == -2.0
    critic.calibration = Calibration(1e6, 0.0)
    assert set(np.abs(critic(notes).score).tolist()) == {2.0}
    alone = [critic(notes.pieces([i])).score[0] for i in range(6)]
    np.testing.assert_allclose(critic(notes).score, alone, atol=1e-5)


def test_pieces_that_cannot_be_judged_are_not_learned_from(new):
    critic = new()
    before = weights(critic).clone()
    silent = toy(SWUNG, 4, np.random.default_rng(0), 1).select(np.zeros(32, bool))
    assert critic.update(toy(SWUNG, 4, np.random.default_rng(0), 2), silent) == {}
    assert torch.equal(weights(critic), before)


def test_the_schedule_by_hand():
    # Strictly above the ceiling it rests, strictly below the floor it works twice.
    assert [scheduled_steps(accuracy, 3, 0.6, 0.9) for accuracy in (0.59, 0.6, 0.9, 0.91)] == [6, 3, 3, 0]


def test_a_resting_critic_keeps_its_weights(new):
    rng = np.random.default_rng(0)
    batch = toy(SWUNG, 16, rng, 2), toy(STRAIGHT, 16, rng, 2)
    resting, normal, eager = new(floor=0.0, ceiling=0.001), new(floor=0.0, ceiling=1.0), new(floor=0.999, ceiling=1.0)
    before = weights(resting).clone()
    assert [critic.update(*batch)["steps"] for critic in (resting, normal, eager)] == [0, 3, 6]
    assert torch.equal(weights(resting), before) and not torch.equal(weights(normal), before)


def test_the_schedule_follows_a_policy_that_catches_up_and_one_that_collapses(new):
    """Three plays of `WINDOW` rounds: a policy far from real music, one that plays it, and one that plays one piece."""
    critic, rng = new(ceiling=0.9), np.random.default_rng(0)
    one_piece = toy(STRAIGHT, 1, np.random.default_rng(5), 2)
    plays = {
        "far": lambda: toy(STRAIGHT, 32, rng, 2),
        "caught up": lambda: toy(SWUNG, 32, rng, 2),
        "collapsed": lambda: Notes.concat([one_piece] * 32),
    }
    steps, last = {}, {}
    for name, play in plays.items():
        found = [critic.update(toy(SWUNG, 32, rng, 2), play()) for _ in range(WINDOW)]
        steps[name], last[name] = [metrics["steps"] for metrics in found], found[-1]
    # Far: it learns, then rests for good; it holds perfect separation and says that it has run away from the policy.
    assert steps["far"][0] > 0 and sum(steps["far"][-6:]) == 0
    assert last["far"]["running_away"] >= 6 / WINDOW and last["far"]["starved"] <= 3 / WINDOW
    # Caught up: it wakes in the very first round, and works at least at its full rate while it can tell nothing.
    assert min(steps["caught up"]) >= 3 and np.mean(steps["caught up"]) > 4.5
    assert last["caught up"]["starved"] > 0.5 and last["caught up"]["running_away"] == 0
    # Collapsed: it finds that out again, and rests again.
    assert steps["collapsed"][0] > 0 and sum(steps["collapsed"][-4:]) == 0
    assert last["collapsed"]["auc"] == 1


def test_two_processes_that_see_the_same_stay_equal(new):
    first, second = new(seed=4, ceiling=1.0), new(seed=4, ceiling=1.0)
    rounds(first, SWUNG, STRAIGHT, 4)
    torch.manual_seed(123)  # what else a process draws must not matter
    torch.rand(7)
    rounds(second, SWUNG, STRAIGHT, 4)
    assert torch.equal(weights(first), weights(second)) and first.calibration == second.calibration
    assert not torch.equal(weights(first), weights(new(seed=4)))


@pytest.mark.parametrize("held", [{}, {"gradient_penalty": 1.0, "spectral_norm": "all"}])
def test_resuming_is_exact(held, new):
    whole, begun, resumed = (new(seed=seed, capacity=40, ceiling=1.0, **held) for seed in (1, 1, 2))
    rounds(whole, SWUNG, STRAIGHT, 3, seed=0)
    expected = rounds(whole, SWUNG, STRAIGHT, 3, seed=1)
    rounds(begun, SWUNG, STRAIGHT, 3, seed=0)
    file = io.BytesIO()
    torch.save(begun.state_dict(), file)
    file.seek(0)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert rounds(resumed, SWUNG, STRAIGHT, 3, seed=1) == expected
    assert torch.equal(weights(resumed), weights(whole))


@pytest.mark.parametrize("spectral_norm", ["none", "head", "all"])
def test_a_saved_critic_says_the_same_and_is_a_stock_model(spectral_norm, new, remi, tmp_path):
    critic = new(spectral_norm=spectral_norm, clip=3.0, against="reference")
    rounds(critic, SWUNG, STRAIGHT, 4)
    before = weights(critic).clone()
    critic.save_pretrained(tmp_path, held_out={"auc": 0.9})
    assert torch.equal(weights(critic), before)
    loaded = TokenDiscriminator.from_pretrained(tmp_path, remi)
    assert (loaded.against, loaded.clip, loaded.calibration) == ("reference", 3.0, critic.calibration)
    notes = toy(SWUNG, 8, np.random.default_rng(3), 2)
    np.testing.assert_allclose(loaded(notes).score, critic(notes).score, atol=1e-5)
    stock = AutoModelForSequenceClassification.from_pretrained(tmp_path)  # and with no weight missing or left over
    assert stock.state_dict().keys() == loaded.network.model.state_dict().keys()
    # And as far as judging goes, a checkpoint's state does as well.
    other = new(spectral_norm=spectral_norm, clip=3.0, seed=9)
    other.load_judge(critic.state_dict())
    np.testing.assert_array_equal(other(notes).score, critic(notes).score)


def test_another_critic_is_refused_as_a_realism_critic(new, tmp_path):
    new().network.save_pretrained(tmp_path, kind="style")
    with pytest.raises(MgenError, match="expected a realism critic, found 'style'"):
        TokenDiscriminator.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"smoothing": 0.5}, r"smoothing \(0.5\) must be at least 0 and below 0.5"),
        ({"floor": 0.9, "ceiling": 0.8}, r"floor \(0.9\) must be below ceiling \(0.8\)"),
        ({"ceiling": 1.5}, "between 0 and 1"),
        ({"clip": 0.0}, r"clip \(0.0\) must be above 0"),
        ({"clip": float("nan")}, "clip"),
        ({"gradient_penalty": -1.0}, "gradient_penalty"),
        ({"spectral_norm": "some"}, "expected one of none, head, all"),
        ({"steps": 0}, r"steps \(0\) must be at least 1"),
        ({"capacity": 0}, "capacity"),
        ({"memory": 8}, "at least 32"),
    ],
)
def test_options_out_of_range_are_refused(option, said):
    with pytest.raises(ValueError, match=said):
        TokenDiscriminatorOptions(**option)


@pytest.mark.parametrize("held", [{"gradient_penalty": 1.0}, {"spectral_norm": "head"}, {"spectral_norm": "all"}])
def test_it_still_learns_when_it_is_held(held, new):
    metrics = rounds(new(ceiling=1.0, **held), SWUNG, STRAIGHT, 14)
    assert metrics[-1]["accuracy"] > 0.85 and metrics[-1]["loss"] < 0.5


def test_what_it_hears_is_the_completion(new, policy_folder, remi):
    """After different prompts that end at one place of a bar, the same completion is the same piece."""
    names = {name: i for i, name in enumerate(remi.names)}

    def ids(words):
        return [names[word] for word in words.split()]

    def note(position, pitch):
        return f"Position_{position} Pitch_{pitch} Velocity_63 Duration_0.6.24"

    bar = "Bar_None TimeSig_4/4 "
    completion = ids(bar.join(["", *[" ".join(note(p, 60 + p // 6) + " " for p in range(0, 96, 6)) for _ in range(2)]]))
    prompts = [ids(bar + note(0, 40)), ids(bar + " ".join(note(p, 90) for p in (0, 24, 48)))]
    pieces = [Notes.from_completions([prompt], [completion], remi) for prompt in prompts]
    assert all(len(notes) == 32 and notes.pitch.min() == 60 and notes.pitch.max() == 75 for notes in pieces)
    critic = new()
    scores = [float(critic(notes).score[0]) for notes in pieces]
    assert scores[0] == scores[1] and critic(pieces[0]).defined.all()


def test_calibration_of_a_finished_network(new):
    critic = new(ceiling=1.0)
    rng = np.random.default_rng(0)
    pairs = [(toy(SWUNG, 32, rng, 2), toy(STRAIGHT, 32, rng, 2)) for _ in range(14)]
    for pair in pairs[:11]:
        critic.update(*pair)
    finished = weights(critic).clone()
    metrics = critic.calibrate((*pair, ()) for pair in pairs[11:])
    assert torch.equal(weights(critic), finished) and metrics["accuracy"] > 0.9
    # What it is calibrated on is what the finished network says of these, and nothing else.
    held_out = [critic.network.logits(side) for pair in pairs[11:] for side in pair]
    remembered = [logit for logit, _, _ in critic._history]
    np.testing.assert_allclose(remembered, np.concatenate(held_out), atol=1e-5)
    watched = critic.watch(*pairs[0])
    assert watched["accuracy"] > 0.9 and critic.watch(pairs[0][0], pairs[0][1].pieces([])) == {}
    assert torch.equal(weights(critic), finished) and len(critic._history) == len(remembered)


def test_held_out_numbers_by_hand():
    said = np.array([2.0, -1.0, -6.0, -2.0, 1.0, 0.0])
    is_real = np.array([True, True, False, False, False, False])
    found = held_out_metrics(said, is_real, clip=5.0)
    # Real: one of two right. Generated: two right, one wrong, one undecided, so 2.5 of 4.
    assert found["accuracy"] == pytest.approx((1 / 2 + 2.5 / 4) / 2)
    assert found["auc"] == pytest.approx(6 / 8)  # 2 beats all four; -1 beats -6 and -2
    assert found["logit_real"] == 0.5 and found["logit_generated"] == -7 / 4
    assert found["clip_rate"] == 1 / 4
    nats = [math.log1p(math.exp(-x)) for x in (2.0, -1.0)], [math.log1p(math.exp(x)) for x in said[2:]]
    assert found["loss"] == pytest.approx((np.mean(nats[0]) + np.mean(nats[1])) / 2)


def test_a_step_that_breaks_the_weights_is_one_line(remi):
    critic = TokenDiscriminator.new(remi, max_tokens=32, batch_size=4, steps=1, min_notes=2, learning_rate=1e30)
    pieces = toy(SWUNG, 4, np.random.default_rng(0), 1)
    with pytest.raises(MgenError, match=r"discriminator broke its weights; lower its learning rate \(1e\+30\)"):
        critic.update(pieces, pieces)
