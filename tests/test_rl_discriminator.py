"""Training of the discriminator: its warm-up, and the fixed points of its reward and KL."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from rl_policy import draw

from mgen.rl.discriminator import DiscriminatorTrainer, check_weights, fixed_point


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
        DiscriminatorTrainer({"a": SimpleNamespace()}, None, "reference").warm_up(None, rounds=1, pieces=4)


def test_the_gate_opens_when_completions_pass_for_real(remi):
    """Scores of 0 are a probability of 1/2; the moving average goes three tenths of the way at each step."""
    made, score = [], [-20.0]

    class Learner(SimpleNamespace):
        def __call__(self, notes):
            return SimpleNamespace(score=np.full(notes.n_pieces, score[0]))

    learner = Learner(
        update=lambda *_: made.append("update") or {},
        watch=lambda *_: made.append("watch") or {},
        state_dict=dict,
        load_state_dict=lambda state: None,
    )
    pieces = remi.decode([[5, 382]] * 8)
    discriminator = DiscriminatorTrainer({"a": learner}, lambda n, batch: draw(pieces, n), "current", gate=0.25)
    assert discriminator.step(pieces)["discriminator/believed"] < 1e-6
    score[0] = 0.0
    found = [discriminator.step(pieces) for _ in range(3)]
    expected = [0.5 * (1 - 0.7**steps) for steps in (1, 2, 3)]  # .15, .255, .3285
    assert [one["discriminator/believed"] for one in found] == pytest.approx(expected, abs=1e-6)
    assert [one["discriminator/trained"] for one in found] == [0.0, 1.0, 1.0]
    assert made == ["watch", "watch", "update", "update"]
    other = DiscriminatorTrainer({"a": learner}, None, "current", gate=0.25)
    other.load_state_dict(discriminator.state_dict())
    assert other.believed == discriminator.believed


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
