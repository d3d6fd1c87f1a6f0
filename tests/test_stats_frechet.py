from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from evaluation_pieces import nothing, solos, works

from mgen.errors import MgenError
from mgen.notes import Notes
from mgen.stats.frechet import DIMENSIONS, frechet_distance, frechet_ratio, pooled_embedder


def test_the_distance_by_hand():
    # diagonal covariances: the difference of means, and of deviations
    first = np.array([0.0, 1.0]), np.diag([4.0, 1.0])
    second = np.array([3.0, 1.0]), np.diag([1.0, 9.0])
    assert frechet_distance(first, second) == pytest.approx(9 + (2 - 1) ** 2 + (1 - 3) ** 2)
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-9)


def test_the_distance_is_scipys_square_root():
    rng = np.random.default_rng(0)
    pair = []
    for _ in range(2):
        root = rng.normal(size=(5, 5))
        pair.append((rng.normal(size=5), root @ root.T))
    (m1, c1), (m2, c2) = pair
    expected = ((m1 - m2) ** 2).sum() + np.trace(c1 + c2 - 2 * np.real(scipy.linalg.sqrtm(c1 @ c2)))
    assert frechet_distance(*pair) == pytest.approx(expected)
    assert frechet_distance(*pair[::-1]) == pytest.approx(expected)


def test_fresh_real_music_is_as_far_as_real_music():
    inside, values = 0, []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        real, fresh = rng.normal(size=(2, 120, 12))
        cell = frechet_ratio(real, fresh, splits=40, seed=seed)
        values.append(cell.value)
        inside += cell.low <= 1 <= cell.high
    assert np.mean(values) == pytest.approx(1, abs=0.1)
    assert inside >= 17


def test_works_that_both_share_gain_nothing():
    rng = np.random.default_rng(0)
    work = np.repeat(rng.normal(size=(30, 8)), 4, axis=0)  # pieces of a work are alike
    real, other = (work + 0.3 * rng.normal(size=work.shape) for _ in range(2))
    names = works(120, 4)
    assert frechet_ratio(real, other, names, names).value == pytest.approx(1, abs=0.15)


def test_the_ratio_grows_with_the_difference():
    rng = np.random.default_rng(3)
    real, other = rng.normal(size=(2, 160, 6))
    ratios = [frechet_ratio(real, other + shift, splits=20) for shift in (0, 0.5, 2)]
    assert ratios[0].value < ratios[1].value < ratios[2].value
    assert ratios[1].low > 1.5
    narrow = frechet_ratio(real, 0.1 * other, splits=20)
    assert narrow.low > 1.5
    assert all(cell.low <= cell.value <= cell.high for cell in ratios)


def test_a_direction_in_which_real_music_never_goes_is_seen():
    rng = np.random.default_rng(4)
    real, other = rng.normal(size=(2, 100, 4))
    real[:, 3] = 1.0
    other[:, 3] = 1.0
    still = frechet_ratio(real, other, splits=10).value
    other[::2, 3] = 2.0
    assert frechet_ratio(real, other, splits=10).value > still + 1


def test_wide_spaces_are_cut():
    rng = np.random.default_rng(5)
    real, other = rng.normal(size=(2, 40, 4 * DIMENSIONS))
    assert frechet_ratio(real, other, splits=2).value == pytest.approx(1, abs=0.2)


def test_bad_input():
    rng = np.random.default_rng(6)
    real = rng.normal(size=(20, 3))
    holes = real.copy()
    holes[:4, 1] = np.nan
    assert frechet_ratio(real, holes, splits=5).undefined == 4
    for other in (real[:0], real[:1], np.full((20, 3), np.nan)):
        assert np.isnan(frechet_ratio(real, other, splits=5).value)
    assert np.isnan(frechet_ratio(np.ones((20, 3)), np.ones((20, 3)), splits=5).value)  # no floor to divide by
    assert np.isnan(frechet_ratio(real, real, np.zeros(20), np.zeros(20), splits=5).value)  # one work: no halves
    with pytest.raises(MgenError, match="real has 3 dimensions, other 2"):
        frechet_ratio(real, real[:, :2])


def test_pooled_states_are_the_mean_over_a_pieces_own_tokens(remi, tiny_policy):
    model = tiny_policy().model
    notes = Notes.concat([solos(3, bars=4), nothing(), solos(1, seed=2, bars=2)])
    embed = pooled_embedder(model, lambda notes: remi.encode(notes), remi.pad_id, batch_size=2)
    found = embed(notes)
    assert found.shape == (5, 32) and np.isnan(found[3]).all()
    with torch.no_grad():
        for piece in (0, 1, 2, 4):
            alone = model(input_ids=torch.tensor(remi.encode(notes.pieces([piece]))[0][None].astype(np.int64)))
            np.testing.assert_allclose(found[piece], alone.last_hidden_state[0].mean(0).numpy(), atol=1e-5)
