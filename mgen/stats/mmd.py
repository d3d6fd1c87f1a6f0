"""Maximum mean discrepancy between two sets of pieces, in units of that between halves of real music."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from mgen.arrays import Floats, Longs
from mgen.stats.distributions import distances
from mgen.stats.diversity import defined_rows, standardise
from mgen.stats.half_samples import SPLITS, over_floor
from mgen.stats.intervals import Interval, undefined_interval


def gaussian_kernel(real: Floats, other: Floats) -> Floats:
    """(B + C, B + C) exp(-d^2 / 2 m^2) of real (B, D) and other (C, D) rows; m is the median distance of real ones."""
    apart = distances(real, real)[np.triu_indices(len(real), 1)]
    rows = np.concatenate([real, other])
    kernel: Floats = np.exp(-0.5 * (distances(rows, rows) / max(float(np.median(apart)), 1e-9)) ** 2)
    return kernel


def squared_mmd(kernel: Floats, first: Longs, second: Longs) -> float:
    """Squared MMD between the rows `first` and `second` of a kernel matrix, at least 0, with each row's own term.

    Source: Gretton et al. 2012, A kernel two-sample test.
    """
    parts = (kernel[np.ix_(one, other)].mean() for one, other in ((first, first), (second, second), (first, second)))
    inside, outside, between = map(float, parts)
    return max(inside + outside - 2 * between, 0.0)


def mmd_ratio(
    real: Floats,
    other: Floats,
    works_real: ArrayLike | None = None,
    works_other: ArrayLike | None = None,
    splits: int = SPLITS,
    seed: int = 0,
) -> Interval:
    """Squared MMD of `other` from real music over that of real music from itself (`half_samples.over_floor`).

    Features are standardised by real music. Sees any difference of the two distributions at about the median distance
    between real pieces, not means and covariances alone; the floor falls with the number of pieces, so ratios of equal
    numbers are compared.

    Cannot see: properties outside the features; single copies. Rows with a NaN are left out and counted.

    Args:
        real: (B, D) features of real pieces.
        other: (C, D).
    """
    tables, names, undefined = defined_rows(real, other, works_real, works_other)
    if min(map(len, tables)) < 4:
        return undefined_interval(undefined)
    tables = standardise(*tables)
    kernel, begin = gaussian_kernel(*tables), len(tables[0])

    def both(near: Longs, others: Longs, far: Longs) -> tuple[float, float]:
        return squared_mmd(kernel, near, begin + others), squared_mmd(kernel, near, far)

    return over_floor(both, names, undefined, splits, seed)
