"""The realism critic: it learns what can be learned, says so honestly, and takes up where it was."""

from __future__ import annotations

import copy
import io
import math

import numpy as np
import pytest
import torch
from critics_music import STRAIGHT, SWUNG, toy

from critics.calibration import Calibration
from critics.realism import RealismCritic, held_out_metrics


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
        return RealismCritic.new(remi, init=policy_folder, **options)

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


def test_the_schedule_rests_above_the_ceiling_and_works_harder_below_the_floor(new):
    rng = np.random.default_rng(0)
    batch = toy(SWUNG, 16, rng, 2), toy(STRAIGHT, 16, rng, 2)
    resting, normal, eager = new(ceiling=-1.0), new(floor=0.0, ceiling=1.0), new(floor=2.0, ceiling=3.0)
    before = weights(resting).clone()
    assert [critic.update(*batch)["steps"] for critic in (resting, normal, eager)] == [0, 3, 6]
    assert torch.equal(weights(resting), before) and not torch.equal(weights(normal), before)


def test_two_processes_that_see_the_same_stay_equal(new):
    first, second = new(seed=4, ceiling=1.0), new(seed=4, ceiling=1.0)
    rounds(first, SWUNG, STRAIGHT, 4)
    torch.manual_seed(123)  # what else a process draws must not matter
    torch.rand(7)
    rounds(second, SWUNG, STRAIGHT, 4)
    assert torch.equal(weights(first), weights(second)) and first.calibration == second.calibration
    assert not torch.equal(weights(first), weights(new(seed=4)))


def test_resuming_is_exact(new):
    whole, begun, resumed = (new(seed=seed, capacity=40, ceiling=1.0) for seed in (1, 1, 2))
    rounds(whole, SWUNG, STRAIGHT, 3, seed=0)
    expected = rounds(whole, SWUNG, STRAIGHT, 3, seed=1)
    rounds(begun, SWUNG, STRAIGHT, 3, seed=0)
    file = io.BytesIO()
    torch.save(begun.state_dict(), file)
    file.seek(0)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert rounds(resumed, SWUNG, STRAIGHT, 3, seed=1) == expected
    assert torch.equal(weights(resumed), weights(whole))


def test_warm_up_ends_with_a_calibration_of_the_finished_network(new):
    critic = new(ceiling=1.0)
    rng = np.random.default_rng(0)
    real, generated = ([toy(style, 32, rng, 2) for _ in range(15)] for style in (SWUNG, STRAIGHT))
    metrics = critic.warm_up(real, generated)
    assert metrics["accuracy"] > 0.9
    # What it is calibrated on is what the finished network says of the last fifth, and nothing else.
    held_out = [critic.network.logits(side[i]) for i in (12, 13, 14) for side in (real, generated)]
    remembered = [logit for logit, _ in critic._history]
    np.testing.assert_allclose(remembered, np.concatenate(held_out), atol=1e-5)
    finished = weights(critic).clone()
    critic.calibrate(real[0], generated[0])
    assert torch.equal(weights(critic), finished)


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
