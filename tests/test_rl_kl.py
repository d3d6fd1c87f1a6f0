"""The least KL of a change, by hand and by trying, and the weight of KL above and below its target."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mgen.rl.kl import KlBudget, kl_efficiency, least_kl


def test_least_kl_by_hand():
    assert least_kl(0.5, 1.0) == pytest.approx(math.log(2))
    assert least_kl(0.3, 0.3) == 0
    assert least_kl(0.0, 0.5) == math.inf and least_kl(0.0, 0.0) == 0
    assert kl_efficiency(0.5, 1.0, 2 * math.log(2)) == pytest.approx(0.5)
    assert math.isnan(kl_efficiency(0.5, 0.6, 0.0))


def test_no_policy_with_that_probability_has_less_kl():
    rng = np.random.default_rng(0)
    reference = rng.dirichlet(np.ones(6))
    event = np.array([1, 1, 0, 0, 0, 0], bool)
    before = reference[event].sum()
    best = math.inf
    for policy in rng.dirichlet(np.ones(6), 20_000):
        kl = (policy * np.log(policy / reference)).sum()
        assert kl >= least_kl(before, policy[event].sum()) - 1e-12
    tilted = np.where(event, reference * 0.9 / before, reference * 0.1 / (1 - before))
    best = (tilted * np.log(tilted / reference)).sum()
    assert best == pytest.approx(least_kl(before, 0.9))


def test_the_weight_of_kl_rises_above_its_target_and_returns_below_it():
    budget = KlBudget(0.5, {"continuation": 3.0, "transfer": 0.0})
    kl = [(3.3, 0.5 * math.exp(0.1)), (6.0, 0.5 * math.exp(0.1) * 1.25), (0.0, 0.5 * math.exp(0.1)), (0.0, 0.5)]
    for nats, weight in kl:
        budget.update({"continuation": nats, "transfer": 9.0, "unconditional": 9.0})
        assert budget.weight("continuation") == pytest.approx(weight)
    assert budget.weight("transfer") == budget.weight("unconditional") == 0.5


def test_a_weight_of_0_rises_too():
    budget = KlBudget(0.0, {"transfer": 1.0})
    budget.update({"transfer": 0.9})
    assert budget.weight("transfer") == 0
    budget.update({"transfer": 2.0})
    assert budget.weight("transfer") == pytest.approx(0.05 * 1.25)
    budget.update({"transfer": 0.5})
    assert budget.weight("transfer") == pytest.approx(0.05 * 1.25 * 0.8)
