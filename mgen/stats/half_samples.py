"""Distances between sets of pieces in units of the distance between halves of real music."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mgen.arrays import Longs
from mgen.stats.intervals import TAIL, Interval, Works, undefined_interval

SPLITS = 100  # random halves of the works, for the value and for its interval

Distances = Callable[[Longs, Longs, Longs], tuple[float, float]]
"""Rows (N,) of real pieces, (M,) of the other set and (M,) of other real pieces -> distances of the first from both."""


def over_floor(distances: Distances, works: tuple[Works, Works], undefined: int, splits: int, seed: int) -> Interval:
    """Distance of a set from real music over that of real music from itself: 1 is best, 0 upwards.

    The works of both sets are split into random halves. The real pieces of one half are compared with the other set's
    pieces of the other half, and with the real pieces of that half. The value is the ratio of the mean distances, and
    its interval the spread of the ratio over the splits: half-samples without replacement vary as much as the whole
    set does from sample to sample (McCarthy 1969). Both distances are of equally many pieces (the larger half is
    subsampled) that never share a work, so both have the bias of small samples, and pieces that continue real works
    have no advantage. The bias still hides small differences: report no ratio of few pieces.

    NaN where a half has fewer than two pieces, or where real music's halves do not differ at all.

    Args:
        works: (B,) of the real pieces and (C,) of the other ones.
        undefined: pieces that were left out, which the interval counts.
    """
    rng = np.random.default_rng(seed)
    pairs = np.array([_split(distances, works, rng) for _ in range(splits)])
    pairs = pairs[~np.isnan(pairs).any(axis=1)]
    if not len(pairs) or pairs[:, 1].mean() <= 1e-9:
        return undefined_interval(undefined)
    value = float(pairs[:, 0].mean() / pairs[:, 1].mean())
    ratios = pairs[:, 0] / np.maximum(pairs[:, 1], 1e-9)
    low, high = np.quantile(ratios, (TAIL, 1 - TAIL)).tolist()
    return Interval(value, min(low, value), max(high, value), undefined)


def _split(distances: Distances, works: tuple[Works, Works], rng: np.random.Generator) -> tuple[float, float]:
    every = np.unique(np.concatenate(works))
    first = rng.permutation(len(every)) < len(every) / 2
    here = [first[np.searchsorted(every, names)] for names in works]
    near, far, others = np.flatnonzero(here[0]), np.flatnonzero(~here[0]), np.flatnonzero(~here[1])
    n = min(len(far), len(others))
    if len(near) < 2 or n < 2:
        return np.nan, np.nan
    far, others = (rows[rng.permutation(len(rows))[:n]] if len(rows) > n else rows for rows in (far, others))
    return distances(near, others, far)
