"""From logits to nats."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from mgen.stats.calibration import Calibration, expected_calibration_error, fit_calibration, reliability


def counted(*cells):
    """Logits and labels from (logit, yes, no) counts."""
    logits = np.concatenate([np.full(yes + no, x, float) for x, yes, no in cells])
    labels = np.concatenate([np.repeat([True, False], [yes, no]) for _, yes, no in cells])
    return logits, labels


def test_scale_and_bias_of_a_known_logistic():
    # At logit 0 the odds are 1 : 2 and at 1 they are 2 : 1, so bias = -log 2 and scale = 2 log 2.
    found = fit_calibration(*counted((0, 20_000, 40_000), (1, 40_000, 20_000)))
    assert found.bias == pytest.approx(-math.log(2), abs=1e-3)
    assert found.scale == pytest.approx(2 * math.log(2), abs=1e-3)


def test_the_prior_is_balanced_whatever_the_counts():
    even = fit_calibration(*counted((-1, 10_000, 30_000), (1, 30_000, 10_000)))
    # Ten times as many of the others, alike at each logit, change nothing: they weigh one half together.
    uneven = fit_calibration(*counted((-1, 10_000, 300_000), (1, 30_000, 100_000)))
    assert even.scale == pytest.approx(math.log(3), abs=1e-3) and even.bias == pytest.approx(0, abs=1e-3)
    assert uneven.scale == pytest.approx(even.scale, abs=1e-3) and uneven.bias == pytest.approx(0, abs=1e-3)


def test_agrees_with_scikit_learn_on_many_logits():
    rng = np.random.default_rng(0)
    logits = rng.normal(40, 10, 20_000)  # far from 0 and widely spread, as raw logits may be
    labels = rng.random(20_000) < 1 / (1 + np.exp(-(0.3 * logits - 13)))
    logistic = LogisticRegression(C=1e9, class_weight="balanced", tol=1e-8, max_iter=1000)
    logistic.fit(logits[:, None], labels)
    found = fit_calibration(logits, labels)
    assert found.scale == pytest.approx(logistic.coef_[0, 0], rel=2e-3)
    assert found.bias == pytest.approx(logistic.intercept_[0], rel=2e-3)


def test_perfect_separation_gives_platts_targets_and_not_infinity():
    # Two logits and two unknowns: the fit says exactly the targets, odds (n + 1) : 1 with n = 9.
    found = fit_calibration(*counted((-1, 0, 9), (1, 9, 0)))
    assert found.log_odds([1.0])[0] == pytest.approx(math.log(10), abs=1e-4)
    assert found.log_odds([-1.0])[0] == pytest.approx(-math.log(10), abs=1e-4)


def test_a_network_worse_than_chance_falls_silent():
    found = fit_calibration(*counted((-1, 300, 100), (1, 100, 300)))
    assert found.scale == 0
    np.testing.assert_allclose(found.log_probability([-5.0, 5.0]), math.log(0.5), atol=1e-6)


def test_a_missing_side_is_an_error():
    with pytest.raises(ValueError, match="3 yes and 0 no"):
        fit_calibration([1.0, 2.0, 3.0], [True, True, True])


def test_log_probability_is_exact_in_both_tails():
    nats = Calibration(2.0, 1.0).log_probability([-1000.0, -0.5, 1000.0])
    np.testing.assert_allclose(nats, [-1999.0, math.log(0.5), 0.0])


def test_calibration_error_by_hand():
    # In the bin of 0.9 half are right: a gap of 0.4. In the bin of 0.1 half are wrong: again 0.4.
    assert expected_calibration_error([0.9, 0.9, 0.1, 0.1], [1, 0, 1, 0]) == pytest.approx(0.4)
    assert expected_calibration_error([1.0, 1.0, 0.0], [1, 1, 0]) == 0
    # Nine of ten yes at 0.9, one of ten at 0.1: predicted and observed are equal.
    predicted, true = np.repeat([0.9, 0.1], 10), [1] * 9 + [0] + [1] + [0] * 9
    assert expected_calibration_error(predicted, true) == pytest.approx(0, abs=1e-12)


def test_the_reliability_diagram_by_hand():
    # Bins of a fifth: 0.05 and 0.15 lie in the first, 0.9 in the last, and 1 belongs to it; both sides weigh one half,
    # so each of two yes counts 1/4 and each of four no 1/8.
    found = reliability([0.05, 0.15, 0.9, 1.0, 0.15, 0.9], [0, 1, 1, 0, 0, 0], bins=5)
    assert [part["n"] for part in found] == [3, 3]
    assert found[0]["predicted"] == pytest.approx((0.05 / 8 + 0.15 / 4 + 0.15 / 8) / (1 / 2))
    assert found[0]["observed"] == found[1]["observed"] == pytest.approx((1 / 4) / (1 / 2))
    assert found[1]["predicted"] == pytest.approx((0.9 / 4 + 1 / 8 + 0.9 / 8) / (1 / 2))
    rng = np.random.default_rng(0)
    predicted = rng.random(500)
    labels = rng.random(500) < predicted
    parts = reliability(predicted, labels)
    # what the calibration error sums: the weight of a bin times its distance from the diagonal
    weight = np.where(labels, 0.5 / labels.sum(), 0.5 / (~labels).sum())
    bins = np.bincount(np.minimum((predicted * 15).astype(int), 14), weight, 15)
    gaps = sum(w * abs(part["predicted"] - part["observed"]) for w, part in zip(bins, parts, strict=True))
    assert gaps == pytest.approx(expected_calibration_error(predicted, labels))


def test_calibrating_lowers_the_calibration_error():
    rng = np.random.default_rng(1)
    honest = rng.normal(0, 2, 4000)
    labels = rng.random(4000) < 1 / (1 + np.exp(-honest))
    shouted = 5 * honest + 3
    found = fit_calibration(shouted[:2000], labels[:2000])
    before, after = (
        expected_calibration_error(np.exp(predicted.log_probability(shouted[2000:])), labels[2000:])
        for predicted in (Calibration(), found)
    )
    assert before > 0.15 and after < 0.04
