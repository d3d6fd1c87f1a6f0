"""Maximum mean discrepancy: by hand, near its floor for real music, and what the Fréchet distance cannot see."""

from __future__ import annotations

import numpy as np
import pytest

from mgen.stats.frechet import frechet_ratio
from mgen.stats.mmd import gaussian_kernel, mmd_ratio, squared_mmd


def test_the_kernel_and_its_discrepancy_by_hand():
    kernel = gaussian_kernel(np.array([[0.0, 0.0], [3.0, 4.0]]), np.array([[0.0, 10.0]]))  # the median distance is 5
    assert kernel[0, 1] == pytest.approx(np.exp(-0.5)) and kernel[0, 2] == pytest.approx(np.exp(-2.0))
    assert kernel[1, 2] == pytest.approx(np.exp(-0.5 * (9 + 36) / 25))
    inside = (2 + 2 * np.exp(-0.5)) / 4
    expected = inside + 1 - 2 * (kernel[0, 2] + kernel[1, 2]) / 2
    assert squared_mmd(kernel, np.array([0, 1]), np.array([2])) == pytest.approx(expected)
    assert squared_mmd(kernel, np.array([0, 1]), np.array([1, 0])) == pytest.approx(0, abs=1e-12)


def test_fresh_real_music_is_as_far_as_real_music():
    inside, values = 0, []
    for seed in range(20):
        real, fresh = np.random.default_rng(seed).normal(size=(2, 120, 12))
        cell = mmd_ratio(real, fresh, splits=40, seed=seed)
        values.append(cell.value)
        inside += cell.low <= 1 <= cell.high
    assert np.mean(values) == pytest.approx(1, abs=0.1) and inside >= 17


def test_it_sees_more_than_means_and_covariances():
    """Two clusters against one cloud with the same mean and covariance."""
    rng = np.random.default_rng(1)
    real = rng.normal(size=(1000, 2))
    other = np.stack([rng.choice([-1.0, 1.0], 1000) + 0.1 * rng.normal(size=1000), rng.normal(size=1000)], axis=1)
    seen, unseen = mmd_ratio(real, other, splits=40), frechet_ratio(real, other, splits=40)
    assert seen.low > 1 and seen.value > 3 * unseen.value


def test_too_few_rows_are_undefined_and_rows_with_nan_are_counted():
    rows = np.random.default_rng(0).normal(size=(40, 3))
    assert np.isnan(mmd_ratio(rows[:3], rows).value)
    holes = rows.copy()
    holes[:5, 0] = np.nan
    assert mmd_ratio(holes, rows).undefined == 5
