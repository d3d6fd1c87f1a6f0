"""The moving average of the weights, by hand; resuming with it is tested in test_training_pretrain.py."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from mgen.cli import pretrain
from mgen.errors import MgenError
from mgen.training.weight_average import WeightAverage, decay_at


def step(average, model, number, move):
    state = SimpleNamespace(global_step=number - 1)
    average.on_step_begin(None, state, None, model)
    with torch.no_grad():
        model.weight += move
    trained = model.weight.item()
    state.global_step = number
    average.on_step_end(None, state, None, model)
    return trained


def test_the_average_by_hand_and_the_trained_weights_go_on():
    model = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(1.0)
    held = model.weight
    average = WeightAverage(0.2)
    average.on_train_begin(None, SimpleNamespace(global_step=0), None, model)
    # decay: 2/11 at step 1; 3/12 at step 2 is above 0.2
    assert step(average, model, 1, 1.0) == 2.0
    assert model.weight.item() == pytest.approx(2 / 11 * 1 + 9 / 11 * 2)
    assert step(average, model, 2, 2.0) == 4.0
    assert model.weight.item() == pytest.approx(0.2 * (20 / 11) + 0.8 * 4)
    assert model.weight is held


def test_the_decay_grows_to_the_one_asked_for():
    assert [decay_at(0.99, step) for step in (1, 90, 10**6)] == pytest.approx([2 / 11, 0.91, 0.99])


def test_a_checkpoint_has_both(tmp_path):
    model = torch.nn.Linear(1, 1, bias=False)
    average = WeightAverage(0.5)
    average.on_train_begin(None, SimpleNamespace(global_step=0), None, model)
    trained = step(average, model, 1, 1.0)
    average.save(tmp_path, model)
    resumed = WeightAverage(0.5)
    resumed.load(tmp_path, model)
    resumed.on_train_begin(None, SimpleNamespace(global_step=1), None, model)
    assert step(resumed, model, 2, 1.0) == pytest.approx(trained + 1)


def test_a_decay_of_one_would_never_learn(capsys):
    with pytest.raises(MgenError, match=r"ema \(1\) must be at least 0 and below 1"):
        pretrain.main(["--corpus", "corpus", "--out", "run", "--ema", "1"])
