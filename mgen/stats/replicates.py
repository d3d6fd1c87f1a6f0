"""Intervals of numbers that belong to a whole set and not to a piece, by resampling works in both sets at once.

Resampling a set draws some works twice and leaves others out, which moves such a number (a set of fewer works is
less varied); so an interval is that of the resamples, moved to have the value as its middle.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mgen.arrays import Floats
from mgen.errors import MgenError
from mgen.stats.intervals import TAIL, Interval, resamples

REPLICATES = 200
"""Resamples of a number of a whole set: each costs a look at all pairs of pieces."""

Works = NDArray[np.str_]


def works_of(works: ArrayLike | None, n_pieces: int, side: str) -> Works:
    """(B,) work of each piece as a string; a piece stands alone where `works` is None.

    Raises:
        MgenError: There are not as many works as pieces.
    """
    names = np.array([f"{side} {i}" for i in range(n_pieces)]) if works is None else np.asarray(works).astype(str)
    if names.shape != (n_pieces,):
        raise MgenError(f"sets: expected a work for each of {n_pieces} {side} pieces, came {names.size}")
    return names


def joint_resamples(real: Works, other: Works, n: int, seed: int) -> Iterator[tuple[Floats, Floats]]:
    """n times the weights (B,) and (C,) of the pieces of both sets: how often each was drawn.

    A work in both sets is drawn for both at once. Resamples that left one set empty are left out.
    """
    for block in resamples(np.concatenate([real, other]), n, seed):
        for weights in block:
            sides = weights[: len(real)], weights[len(real) :]
            if sides[0].any() and sides[1].any():
                yield sides


def moved(value: float, draws: ArrayLike, undefined: int = 0, least: float = -np.inf, most: float = np.inf) -> Interval:
    """The interval of `draws` (R,), moved so that their mean is `value`, and kept within `least`..`most`.

    NaN draws are left out; without a value, or with no draw, nothing is promised (NaN), or nothing but the value.
    """
    known: Floats = np.asarray(draws, dtype=np.float64)
    known = known[~np.isnan(known)]
    if not np.isfinite(value):
        return Interval(np.nan, np.nan, np.nan, undefined)
    if not len(known):
        return Interval(value, np.nan, np.nan, undefined)
    low, high = np.quantile(known - known.mean() + value, (TAIL, 1 - TAIL)).tolist()
    value = float(value)
    return Interval(value, min(max(low, least), value), max(min(high, most), value), undefined)


def nothing(undefined: int = 0) -> Interval:
    """What is said where nothing is defined."""
    return Interval(np.nan, np.nan, np.nan, undefined)
