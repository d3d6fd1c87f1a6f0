"""Losses of piano-rolls, the network that predicts them, and its sampling."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModel

from mgen.encoding.piano_roll import PITCHES
from mgen.models.baselines.piano_roll import PianoRollConfig, PianoRollModel
from mgen.models.baselines.roll_losses import LOSSES, bce, cell_loss, focal, weighted_bce
from mgen.sampling.piano_roll import RollDecoding, continue_rolls

LOGITS = st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=8).map(torch.tensor)


def model(**changes):
    torch.manual_seed(0)
    shape = {"channels": 8, "width": 12, "kernel": 3, **changes}
    return PianoRollModel(PianoRollConfig(**shape)).eval()


def rolls(batch=2, steps=20, seed=0):
    return torch.rand(batch, steps, PITCHES, generator=torch.Generator().manual_seed(seed)) < 0.1


@given(LOGITS, st.sampled_from([0.0, 1.0]))
def test_special_cases_are_the_cross_entropy(logits, truth):
    truth = torch.full_like(logits, truth)
    torch.testing.assert_close(focal(logits, truth, 0.0, 0.5), bce(logits, truth) / 2)
    torch.testing.assert_close(weighted_bce(logits, truth, 1.0), bce(logits, truth))


def test_losses_worked_by_hand():
    # p(yes) = 3/4: log 3 is its logit
    logits, truth = torch.log(torch.tensor([3.0, 3.0])), torch.tensor([1.0, 0.0])
    log = torch.log(torch.tensor([4 / 3, 4.0]))
    torch.testing.assert_close(weighted_bce(logits, truth, 5.0), torch.tensor([5.0, 1.0]) * log)
    torch.testing.assert_close(
        focal(logits, truth, 2.0, 0.25), torch.tensor([0.25 * (1 / 4) ** 2, 0.75 * (3 / 4) ** 2]) * log
    )


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_extreme_logits_have_finite_gradients(loss, gamma):
    logits = torch.tensor([-1e4, -90.0, 0.0, 90.0, 1e4]).repeat(2).requires_grad_()
    truth = torch.tensor([0.0, 1.0]).repeat_interleave(5)
    found = cell_loss(loss, logits, truth, 20.0, gamma, 0.25)
    found.sum().backward()
    assert found.isfinite().all() and (found >= 0).all() and logits.grad.isfinite().all()


@pytest.mark.parametrize("convolutions", [0, 1, 3])
@pytest.mark.parametrize("step", [0, 7, 19])
def test_a_step_changes_no_earlier_output(convolutions, step):
    network, roll = model(convolutions=convolutions), rolls()
    changed = roll.clone()
    changed[:, step] = ~changed[:, step]
    before, after = network(roll).logits, network(changed).logits
    torch.testing.assert_close(before[:, :step], after[:, :step], rtol=0, atol=0)
    assert (before[:, step:] != after[:, step:]).any(dim=(0, 2)).all()


@pytest.mark.parametrize("cut", [1, 2, 13])
def test_the_state_stands_for_the_steps_before(cut):
    network, roll = model(layers=2, kernel=4), rolls()
    first = network(roll[:, :cut])
    rest = network(roll[:, cut:], state=first.state)
    torch.testing.assert_close(torch.cat([first.logits, rest.logits], dim=1), network(roll).logits)


def test_padding_does_not_count():
    network, roll, mask = model(loss="focal"), rolls(), torch.ones(2, 20, dtype=torch.bool)
    mask[1, 5:] = False
    labels = rolls(seed=1)
    whole = network(roll, labels, mask).loss
    labels[1, 5:] = ~labels[1, 5:]
    torch.testing.assert_close(network(roll, labels, mask).loss, whole)
    parts = [network(roll[:1], labels[:1]).loss * 20, network(roll[1:, :5], labels[1:, :5]).loss * 5]
    torch.testing.assert_close(whole, sum(parts) / 25)


def test_a_folder_gives_the_model_back(tmp_path):
    network = model(loss="weighted", positive_weight=20.0, steps_per_second=8.0)
    network.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path, trust_remote_code=False).eval()
    assert isinstance(loaded, PianoRollModel) and loaded.config.rate == network.config.rate
    torch.testing.assert_close(loaded(rolls()).logits, network(rolls()).logits)


def test_a_wrong_loss_is_one_line():
    with pytest.raises(ValueError, match="expected one of bce, weighted, focal"):
        PianoRollConfig(loss="mse")


def test_choices():
    logits = torch.tensor([[2.0, 1.0, -1.0, 3.0]])
    assert RollDecoding(threshold=0.8).choose(logits).tolist() == [[True, False, False, True]]
    assert RollDecoding(temperature=0).choose(logits).tolist() == [[True, True, False, True]]
    assert RollDecoding(temperature=0, top_k=2).choose(logits).tolist() == [[True, False, False, True]]
    draws = RollDecoding(temperature=2.0, top_k=3).choose(logits.expand(20_000, 4), torch.Generator().manual_seed(0))
    wanted = (logits[0] / 2).sigmoid() * torch.tensor([1, 1, 0, 1])
    torch.testing.assert_close(draws.float().mean(0), wanted, atol=0.02, rtol=0)


def test_a_continuation_goes_on_from_the_state():
    network, prompt, decoding = model(), rolls(3, 9), RollDecoding()
    found = continue_rolls(network, prompt, 6, decoding, seed=5)
    assert found.shape == (3, 6, PITCHES) and torch.equal(found, continue_rolls(network, prompt, 6, decoding, seed=5))
    assert not torch.equal(found, continue_rolls(network, prompt, 6, decoding, seed=6))
    greedy = RollDecoding(threshold=0.5)
    with torch.no_grad():
        network.head.bias -= network(rolls()).logits.mean()  # some on, some off
    found = continue_rolls(network, prompt, 6, greedy)
    whole = torch.cat([prompt[:, :1] & False, prompt, found], dim=1)
    assert torch.equal(found, network(whole[:, :-1]).logits[:, -6:] >= 0) and found.any()
    assert continue_rolls(network, prompt[:, :0], 4, greedy).shape == (3, 4, PITCHES)
