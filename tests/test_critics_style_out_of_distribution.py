"""OutOfDistributionGuard: distances of another library, limits by hand, and unlike pieces."""

from __future__ import annotations

import numpy as np
import pytest
from evaluation_pieces import demo, line, nothing, piece
from sklearn.covariance import LedoitWolf

from critics.style.ensemble import feature_table, notes_of
from critics.style.features import GROUPS as ALL_GROUPS
from critics.style.features import feature_columns
from critics.style.out_of_distribution import GUARDED_GROUPS, KNOWN, SLOPE, OutOfDistributionGuard
from mgen.corpus.demo import COLLECTIONS
from mgen.notes import Notes

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def real():
    return feature_table(demo(*COLLECTIONS, works=12))


@pytest.fixture(scope="module")
def guard(real):
    return OutOfDistributionGuard.fit(real, real, np.full(len(real), 50))


@pytest.mark.parametrize("name", GUARDED_GROUPS)
def test_a_distance_is_that_of_mahalanobis(name, guard, real):
    """With the mean and the covariance of scikit-learn, of deviations."""
    own = real[:, feature_columns()[name]]
    deviations = (own - own.mean(axis=0)) / np.maximum(own.std(axis=0), 1e-3)
    squares = LedoitWolf().fit(deviations).mahalanobis(deviations)
    found = np.linalg.norm((own - guard.mean[name]) @ guard.root[name], axis=1)
    np.testing.assert_allclose(found, np.sqrt(squares), rtol=1e-6)


def test_a_share_of_real_pieces_lies_within_the_limit(guard, real):
    distance = guard.distance(real, np.full(len(real), 50))
    assert distance.shape == (len(real),) and (distance >= 0).all()
    assert np.quantile(distance, KNOWN) == pytest.approx(1)


def test_the_limits_are_those_of_pieces_of_the_length(real):
    short = np.arange(len(real)) < len(real) // 2
    guard = OutOfDistributionGuard.fit(real, real, np.where(short, 32, 128))
    alone = OutOfDistributionGuard.fit(real, real[short], np.full(short.sum(), 32))
    for name in GUARDED_GROUPS:
        assert guard.limit[name].at([8, 32]).tolist() == [alone.limit[name].values[0]] * 2
        one, other = guard.limit[name].values
        assert guard.limit[name].at(64) == pytest.approx((one + other) / 2)  # half way in the logarithm


def test_beyond_the_limit_a_piece_loses_in_proportion(guard, real):
    moved = np.repeat(real[:1], 3, axis=0)
    group = feature_columns()["key"]
    moved[:, group] = guard.mean["key"] + np.array([[0.5], [60], [120]]) * (real[0, group] - guard.mean["key"])
    lost = guard.penalty(moved, 50)
    distance = guard.distance(moved, 50)
    assert lost[0] == 0 and distance[2] == pytest.approx(2 * distance[1])
    np.testing.assert_allclose(lost[1:], SLOPE * (distance[1:] - 1))


def test_the_farthest_group_counts_and_rare_things_do_not(guard, real):
    one = real[:1]
    for name in ALL_GROUPS:
        moved = one.copy()
        moved[:, feature_columns()[name]] += 50
        if name in GUARDED_GROUPS:
            own = moved[:, feature_columns()[name]] - guard.mean[name]
            expected = np.linalg.norm(own @ guard.root[name], axis=1) / guard.limit[name].values
            np.testing.assert_allclose(guard.distance(moved, 50), expected)
            assert expected[0] > 1
        else:
            np.testing.assert_array_equal(guard.distance(moved, 50), guard.distance(one, 50))


def test_degenerate_inputs_are_out_of_distribution(guard):
    odd = [
        nothing(),
        line([60]),
        line([60] * 80),
        piece(*((24 * k, 8, 60 + 12 * (k % 2)) for k in range(80))),
        piece(*((0, 24, 30 + k) for k in range(60))),
        piece(*((24 * k, 12, 36) for k in range(80)), drums=True),
    ]
    table = feature_table(Notes.concat(odd))
    distance = guard.distance(table, notes_of(table))
    assert np.isfinite(distance).all() and (distance > 1).all()


@pytest.mark.slow
def test_other_works_of_the_same_collections_are_known():
    table = feature_table(demo(*COLLECTIONS, works=40))
    learned = np.arange(len(table)) % 40 < 30
    guard = OutOfDistributionGuard.fit(table[learned], table[learned], notes_of(table[learned]))
    assert (guard.distance(table[~learned], notes_of(table[~learned])) <= 1).mean() > 0.7


@pytest.mark.slow
def test_works_that_were_not_learned_from_tell_how_far_real_music_lies():
    """From a dozen works of each, others lie further out than any of them."""
    table = feature_table(demo(*COLLECTIONS, works=40))
    number = np.arange(len(table)) % 40
    learned, others, test = (
        table[(number >= first) & (number < last)] for first, last in ((0, 12), (12, 26), (26, 40))
    )
    without = OutOfDistributionGuard.fit(learned, learned, np.full(len(learned), 50))
    wider = OutOfDistributionGuard.fit(learned, others, np.full(len(others), 50))
    assert (without.distance(test, 50) <= 1).mean() + 0.3 < (wider.distance(test, 50) <= 1).mean()
    for name in GUARDED_GROUPS:
        np.testing.assert_array_equal(wider.mean[name], without.mean[name])
        np.testing.assert_array_equal(wider.root[name], without.root[name])


def test_a_trait_that_never_varied_is_not_magnified_without_end(real):
    still = real.copy()
    still[:, feature_columns()["rhythm"]] = 0.25
    still[0, feature_columns()["rhythm"].start] += 1e-9
    guard = OutOfDistributionGuard.fit(still, still, np.full(len(still), 50))
    assert np.isfinite(guard.root["rhythm"]).all() and np.isfinite(guard.distance(real, 50)).all()
