from __future__ import annotations

import json
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from mgen.errors import MgenError
from mgen.stats.intervals import (
    Interval,
    bootstrap,
    distance_to_real,
    mean,
    median,
    over_seeds,
    resamples,
    widen_by_runs,
)


def test_json_has_the_three_numbers_and_no_nan():
    assert Interval(0.5, 0.25, 0.75).to_json() == {"value": 0.5, "low": 0.25, "high": 0.75}
    assert Interval(0.5, 0.25, 0.75).cell() == "0.500 [0.250, 0.750]"
    assert Interval(123.25, -1.0, 200.0).cell() == "123.2 [-1.0, 200.0]"
    assert Interval(math.nan, math.nan, math.nan).cell() == "-"
    empty = bootstrap([np.nan, np.nan])
    assert empty.undefined == 2
    known = {"value": None, "low": None, "high": None}
    assert json.loads(json.dumps(empty.to_json(), allow_nan=False)) == {**known, "undefined": 2}


def test_undefined_pieces_are_left_out_and_counted():
    known = bootstrap([1.0, 2.0, 6.0], ["a", "b", "c"], seed=4)
    assert known.value == pytest.approx(3)
    some = bootstrap([1.0, np.nan, 2.0, 6.0, np.nan], ["a", "a", "b", "c", "d"], seed=4)
    assert (some.value, some.low, some.high, some.undefined) == (known.value, known.low, known.high, 2)


def test_a_resample_draws_whole_works():
    groups = np.array(["b", "a", "b", "c", "a", "b"])
    weights = np.concatenate(list(resamples(groups, 500, seed=0)))
    assert weights.shape == (500, 6)
    for name in "abc":
        of_work = weights[:, groups == name]
        assert (of_work == of_work[:, :1]).all()
    per_work = weights[:, [1, 0, 3]]  # a, b, c
    np.testing.assert_array_equal(per_work.sum(axis=1), 3)
    np.testing.assert_allclose(per_work.mean(axis=0), 1, atol=0.15)


@given(
    values=st.lists(st.integers(-5, 5), min_size=1, max_size=20),
    seed=st.integers(0, 1000),
)
def test_statistics_of_weights_are_those_of_copies(values, seed):
    values = np.array(values, dtype=np.float64)
    weights = np.random.default_rng(seed).integers(0, 4, (5, len(values))).astype(np.float64)
    weights[:, 0] += 1
    for row, m, middle in zip(weights, mean(values, weights), median(values, weights), strict=True):
        copies = np.repeat(values, row.astype(int))
        assert m == pytest.approx(copies.mean())
        assert middle == np.quantile(copies, 0.5, method="inverted_cdf")


@pytest.mark.slow
def test_intervals_of_works_are_honest_where_pieces_are_not_independent():
    # 40 works of 10 pieces each, all alike within a work: the deviation of the mean is 1 / sqrt(40)
    rng = np.random.default_rng(0)
    inside = {"works": 0, "pieces": 0}
    for trial in range(150):
        values = np.repeat(rng.normal(size=40), 10)
        for name, groups in (("works", np.repeat(np.arange(40), 10)), ("pieces", None)):
            interval = bootstrap(values, groups, n=300, seed=trial)
            inside[name] += interval.low <= 0 <= interval.high
    assert 0.88 <= inside["works"] / 150 <= 0.99
    assert inside["pieces"] / 150 < 0.6


def test_bootstrap_agrees_with_scipys():
    values = np.random.default_rng(1).exponential(size=60)
    ours = bootstrap(values, n=4000)
    theirs = scipy.stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=4000, rng=np.random.default_rng(0)
    ).confidence_interval
    np.testing.assert_allclose([ours.low, ours.high], theirs, rtol=0.03)


def test_the_same_seed_gives_the_same_interval_and_a_single_work_has_no_width():
    values = np.random.default_rng(0).normal(size=30)
    assert bootstrap(values, seed=7) == bootstrap(values, seed=7)
    assert bootstrap(values, seed=7) != bootstrap(values, seed=8)
    assert bootstrap([1.0, 3.0], ["a", "a"]) == Interval(2, 2, 2)


def test_groups_and_values_must_be_as_many():
    with pytest.raises(MgenError, match="3 values, found 2"):
        bootstrap([1.0, 2.0, 3.0], ["a", "b"])
    with pytest.raises(MgenError, match="both"):
        distance_to_real([1.0, 2.0], [1.0, 2.0], groups_real=["a", "b"])


@given(
    st.lists(st.floats(-5, 5, width=32), min_size=2, max_size=30),
    st.lists(st.floats(-5, 5, width=32), min_size=2, max_size=30),
)
def test_distance_is_scipys_wasserstein(real, other):
    ours = distance_to_real(real, other, n=50)
    assert ours.value == pytest.approx(scipy.stats.wasserstein_distance(real, other), abs=1e-9)
    assert 0 <= ours.low <= ours.value <= ours.high


def test_distance_of_a_shift_is_the_shift():
    real = np.random.default_rng(0).normal(size=200)
    shifted = distance_to_real(real, real + 3, works := np.arange(200), works)
    assert shifted.value == pytest.approx(3)
    # Each work is drawn for both sides at once, so nothing is left to vary.
    assert shifted.high - shifted.low < 1e-9
    apart = distance_to_real(real, real + 3)
    assert 0.2 < apart.high - apart.low < 0.8
    assert apart.low < 3 < apart.high


def test_distance_needs_both_sides():
    nothing = distance_to_real([1.0, np.nan], [np.nan, np.nan])
    assert np.isnan(nothing.value) and np.isnan(nothing.low) and nothing.undefined == 3
    few = distance_to_real([1.0, 2.0], [2.0, 4.0], n=200)  # many resamples have no piece of one side
    assert np.isfinite([few.low, few.high]).all()


def test_a_mean_over_seeds_tells_each_and_joins_the_spread_of_runs():
    values, seed = np.array([1.0, 3.0, 5.0, 7.0, np.nan]), np.array([0, 0, 1, 1, 1])
    works = np.array(["a", "b", "c", "d", "e"])
    found = over_seeds(values, works, seed)
    assert found.value == 4 and found.seeds == (2.0, 6.0) and found.undefined == 1
    assert (found.low, found.high) == (bootstrap(values, works).low, bootstrap(values, works).high)
    # two runs of mean 2 and 6: t(0.975, 1) = 12.706 times sqrt(8) / sqrt(2) = 2
    assert widen_by_runs(found, [2, 6]).high - 4 == pytest.approx(np.hypot(found.high - 4, 12.7062 * 2), rel=1e-4)
    runs = over_seeds(values, works, seed, runs=2)
    assert (runs.low, runs.high) == (1, 7)  # a mean is not beyond the values
    assert over_seeds(values, works, np.zeros(5, int)).seeds == ()
    shares = over_seeds(np.repeat([0.0, 1.0, 0.0], [30, 90, 40]), np.arange(160), np.arange(160) // 80, runs=2)
    assert 0 <= shares.low < shares.value < shares.high <= 1
    assert np.isnan(over_seeds(np.full(4, np.nan), np.arange(4), np.arange(4) % 2, runs=2).value)
    assert found.to_json()["seeds"] == [2.0, 6.0] and found.to_json()["undefined"] == 1
