"""Array types and the small reductions that metrics, rewards and critics share. NaN marks what is undefined."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import entr

Floats = NDArray[np.float64]
Longs = NDArray[np.int64]
Mask = NDArray[np.bool_]


def divide(part: ArrayLike, whole: ArrayLike) -> Floats:
    """Divides element by element (broadcast); NaN where `whole` is not above 0."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1), np.nan)


def mean_of(values: NDArray[np.generic], owner: NDArray[np.integer], n: int) -> Floats:
    """(n,) mean of the values of each owner, NaN values left out; NaN for an owner of none."""
    values = np.asarray(values, dtype=np.float64)
    known = ~np.isnan(values)
    total = np.bincount(owner[known], weights=values[known], minlength=n)
    return divide(total, np.bincount(owner[known], minlength=n))


def median_of(values: NDArray[np.generic], owner: NDArray[np.integer], n: int) -> Floats:
    """(n,) median of the values (no NaN) of each owner; NaN for an owner of none."""
    ordered = np.asarray(values, dtype=np.float64)[np.lexsort((values, owner))]
    count = np.bincount(owner, minlength=n)
    some = count > 0
    first = (np.cumsum(count) - count)[some]
    out = np.full(n, np.nan)
    out[some] = (ordered[first + (count[some] - 1) // 2] + ordered[first + count[some] // 2]) / 2
    return out


def max_of(values: NDArray[np.integer], owner: NDArray[np.integer], n: int) -> Longs:
    """(n,) largest of the values (0 upwards) of each owner; 0 for an owner of none."""
    out = np.zeros(n, np.int64)
    np.maximum.at(out, owner, values)
    return out


def shares(
    owner: NDArray[np.integer], bins: NDArray[np.integer], size: int, n: int, weights: NDArray[np.integer] | None = None
) -> Floats:
    """(n, size) share of each bin, 0..size - 1, among an owner's values; NaN for an owner of none."""
    counts = np.bincount(owner * np.int64(size) + bins, weights, minlength=n * size).reshape(n, size)
    return divide(counts, counts.sum(axis=1, keepdims=True))


def rank_within(owner: NDArray[np.integer], n: int) -> Longs:
    """(N,) how many rows of the same owner precede each row.

    Args:
        owner: (N,) rising, below `n`.
    """
    count = np.bincount(owner, minlength=n)
    before: Longs = (np.cumsum(count) - count)[owner]
    return np.arange(len(owner)) - before


def windows(owner: NDArray[np.integer], n: int, size: int) -> tuple[Longs, Longs]:
    """Splits the rows of each owner into windows of `size` rows; an owner's last window is up to twice as long.

    Args:
        owner: (N,) rising, below `n`.

    Returns:
        (N,) window of each row and (W,) owner of each window. An owner of fewer than `size` rows has one window.
    """
    count = np.bincount(owner, minlength=n)
    number = np.where(count > 0, np.maximum(count // size, 1), 0)
    rank = rank_within(owner, n)
    window = (np.cumsum(number) - number)[owner] + np.minimum(rank // size, number[owner] - 1)
    return window, np.repeat(np.arange(n), number)


def entropy(counts: NDArray[np.number]) -> Floats:
    """(...) entropy in bits of the last axis of counts; NaN where they are all 0."""
    bits: Floats = entr(divide(counts, counts.sum(axis=-1, keepdims=True))).sum(axis=-1) / np.log(2)
    return bits


def run_starts(*columns: NDArray[np.generic]) -> Mask:
    """(N,) whether a row differs from the row before it in any of the (N,) columns; True for the first row."""
    differs = [column[1:] != column[:-1] for column in columns]
    return np.append(True, np.any(differs, axis=0))[: len(columns[0])]


def ranges(begin: NDArray[np.integer], end: NDArray[np.integer]) -> tuple[Longs, Longs]:
    """Joins the ranges begin[i]..end[i] - 1.

    Returns:
        (N,) their numbers in order, and (N,) the range i that each belongs to.
    """
    size = end - begin
    owner = np.repeat(np.arange(len(size)), size)
    return np.arange(len(owner)) + (begin - np.cumsum(size) + size)[owner], owner
