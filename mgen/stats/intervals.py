"""Numbers with their 95 % intervals, by resampling whole works: excerpts of one work are not independent.

A mean over pieces has a percentile interval (`bootstrap`). A number of a whole set, such as a distance or a share of
different n-grams, moves when works are drawn twice and others not at all; its interval is that of the resamples,
shifted so that their mean is the value (`centred_interval`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t

from mgen.arrays import Floats, divide
from mgen.errors import MgenError

Statistic = Callable[[Floats, Floats], Floats]
"""(B,) values and (R, B) weights, how often each resample drew each value -> (R,) the statistic of each."""

Works = NDArray[np.str_]

Bound = Literal["", "at most", "above"]
BOUND_SIGNS: dict[Bound, str] = {"": "", "at most": "\N{LESS-THAN OR EQUAL TO}", "above": ">"}
"""How a bound is shown before the number."""

REPLICATES = 1000  # resamples of a mean over pieces
SET_REPLICATES = 200  # resamples of a number of a whole set: each takes all pairs of pieces
TAIL = 0.025
_CHUNK = 1 << 21  # weights in memory at once


class Bounded(Protocol):
    """A number with its 95 % interval."""

    @property
    def value(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Interval:
    """A number with its 95 % interval; all three NaN where it is undefined."""

    value: float  # number of the data
    low: float  # lower end of the interval
    high: float  # upper end
    undefined: int = 0  # pieces left out because the number is not defined for them
    seeds: tuple[float, ...] = ()  # the number for each seed, where there are several
    bound: Bound = ""  # `at most` or `above`: the number lies outside the measured range, and `value` is its end

    def to_json(self) -> dict[str, Any]:
        """`value`, `low`, `high`, and the other fields where they are set; None for NaN, which JSON lacks."""
        numbers: dict[str, Any] = {name: _number(getattr(self, name)) for name in ("value", "low", "high")}
        if self.undefined:
            numbers["undefined"] = self.undefined
        if self.seeds:
            numbers["seeds"] = [_number(value) for value in self.seeds]
        if self.bound:
            numbers["bound"] = self.bound
        return numbers

    def cell(self) -> str:
        """`0.512 [0.430, 0.601]`, with fewer digits from 100 on; `-` where it is undefined."""
        if not isfinite(self.value):
            return "-"
        digits = 1 if abs(self.value) >= 100 else 3
        value, low, high = (f"{number:.{digits}f}" for number in (self.value, self.low, self.high))
        return f"{value} [{low}, {high}]"


def _number(value: float) -> float | None:
    return value if isfinite(value) else None


def undefined_interval(undefined: int = 0) -> Interval:
    """The interval of a number that no piece defines."""
    return Interval(np.nan, np.nan, np.nan, undefined)


def percentile_interval(value: float, draws: ArrayLike, undefined: int = 0) -> Interval:
    """The interval between the outer percentiles of `draws` (R,); NaN draws are left out."""
    low, high = np.nanquantile(np.asarray(draws, np.float64), (TAIL, 1 - TAIL)).tolist()
    return Interval(float(value), low, high, undefined)


def centred_interval(
    value: float, draws: ArrayLike, undefined: int = 0, least: float = -np.inf, most: float = np.inf
) -> Interval:
    """The interval of `draws` (R,), shifted so that their mean is `value`, and kept within `least`..`most`.

    NaN draws are left out. Without a finite value all is NaN; without a draw, the ends are.
    """
    known: Floats = np.asarray(draws, dtype=np.float64)
    known = known[~np.isnan(known)]
    if not np.isfinite(value):
        return undefined_interval(undefined)
    if not len(known):
        return Interval(value, np.nan, np.nan, undefined)
    low, high = np.quantile(known - known.mean() + value, (TAIL, 1 - TAIL)).tolist()
    value = float(value)
    return Interval(value, min(max(low, least), value), max(min(high, most), value), undefined)


def is_known(cell: Bounded | None) -> bool:
    """Whether number and interval are there and finite."""
    return cell is not None and all(map(isfinite, (cell.value, cell.low, cell.high)))


def over_seeds(values: ArrayLike, groups: ArrayLike, seed: ArrayLike, runs: int = 1) -> Interval:
    """A mean with its interval by work, and the mean of each seed.

    Where the seeds belong to several training runs, the interval also covers the spread between runs (`widen_by_runs`).

    Args:
        values: (B,) numbers of pieces; NaN are left out and counted.
        groups: (B,) their works.
        seed: (B,) their seeds, 0 upwards.
        runs: number of training runs; seed s belongs to run s mod `runs`.
    """
    values, seed = np.asarray(values, np.float64), np.asarray(seed)
    found = bootstrap(values, groups)
    if not len(seed) or seed.max() == 0:
        return found
    found = replace(found, seeds=tuple(_mean_of_known(values[seed == s]) for s in range(int(seed.max()) + 1)))
    means = [_mean_of_known(values[seed % runs == run]) for run in range(runs)]
    if runs < 2 or np.isnan(values).all():
        return found
    wide = widen_by_runs(found, means)  # a mean lies between the least and the largest value
    return replace(wide, low=max(wide.low, float(np.nanmin(values))), high=min(wide.high, float(np.nanmax(values))))


def _mean_of_known(values: Floats) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else np.nan


def widen_by_runs(found: Interval, runs: ArrayLike) -> Interval:
    """Combines the margins of an interval over pieces with that of the mean of several training runs.

    Args:
        runs: (K,) mean of each run; their margin is Student's t. Margins add as the root of the sum of squares.
    """
    known = np.asarray(runs, np.float64)
    known = known[~np.isnan(known)]
    if len(known) < 2:
        return found
    margin = float(t.ppf(1 - TAIL, len(known) - 1) * known.std(ddof=1) / np.sqrt(len(known)))
    low = found.value - float(np.hypot(found.value - found.low, margin))
    return replace(found, low=low, high=found.value + float(np.hypot(found.high - found.value, margin)))


def mean(values: Floats, weights: Floats) -> Floats:
    """(R,) weighted means."""
    out: Floats = weights @ values / weights.sum(axis=1)
    return out


def median(values: Floats, weights: Floats) -> Floats:
    """(R,) weighted medians: the lowest value with at least half of the weight at or below it."""
    order = np.argsort(values, kind="stable")
    below = np.cumsum(weights[:, order], axis=1)
    middle: NDArray[np.intp] = (below >= below[:, -1:] / 2).argmax(axis=1)
    return values[order][middle]


def resamples(groups: NDArray[np.generic], n: int, seed: int) -> Iterator[Floats]:
    """Yields the weights (r, B) of n resamples of whole groups, in blocks: how often each item was drawn."""
    names, group = np.unique(groups, return_inverse=True)
    rng = np.random.default_rng(seed)
    rows = max(1, _CHUNK // max(len(group), 1))
    for begin in range(0, n, rows):
        drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=min(rows, n - begin))
        weights: Floats = drawn[:, group].astype(np.float64)
        yield weights


def bootstrap(
    values: ArrayLike, groups: ArrayLike | None = None, statistic: Statistic = mean, n: int = REPLICATES, seed: int = 0
) -> Interval:
    """Percentile bootstrap, clustered: whole groups are drawn with replacement.

    Args:
        values: (B,) numbers of pieces; NaN are left out and counted.
        groups: (B,) work of each piece; None: each piece is a work.
        n: resamples, drawn from `seed`.

    Raises:
        MgenError: There are not as many groups as values.
    """
    values, groups = _paired(values, groups)
    known = ~np.isnan(values)
    undefined = int((~known).sum())
    if not known.any():
        return undefined_interval(undefined)
    values, groups = values[known], groups[known]
    draws = np.concatenate([statistic(values, weights) for weights in resamples(groups, n, seed)])
    low, high = np.quantile(draws, (TAIL, 1 - TAIL)).tolist()  # a NaN draw makes them NaN: the statistic is not robust
    return Interval(float(statistic(values, np.ones((1, len(values))))[0]), low, high, undefined)


def distance_to_real(
    real: ArrayLike,
    other: ArrayLike,
    groups_real: ArrayLike | None = None,
    groups_other: ArrayLike | None = None,
    n: int = REPLICATES,
    seed: int = 0,
) -> Interval:
    """Wasserstein-1 distance between two samples of a metric, in the metric's unit; 0 upwards.

    W1 is the area between the two distribution functions. A work in both samples is drawn for both at once.
    Two samples of the same music do not give 0: report the distance of real music's halves with it.

    Args:
        real, other: (B,) and (C,) values; NaN are left out, and counted in `undefined`.
        groups_real, groups_other: works; None: each piece is a work.
        n: resamples, drawn from `seed`.

    Raises:
        MgenError: There are not as many groups as values.
    """
    (first, first_groups), (second, second_groups) = _paired(real, groups_real), _paired(other, groups_other)
    if (groups_real is None) != (groups_other is None):
        raise MgenError("distance: expected groups for both samples or for none, found one; give both")
    if groups_real is None:
        second_groups = second_groups + len(first)
    values = np.concatenate([first, second])
    groups = np.concatenate([first_groups, second_groups])
    is_real = np.arange(len(values)) < len(first)
    known = ~np.isnan(values)
    undefined = int((~known).sum())
    values, groups, is_real = values[known], groups[known], is_real[known]
    if is_real.all() or not is_real.any():
        return undefined_interval(undefined)
    order = np.argsort(values, kind="stable")
    values, groups, is_real = values[order], groups[order], is_real[order]
    gap = np.diff(values)

    def area(weights: Floats) -> Floats:
        sides = (weights * is_real, weights * ~is_real)
        share = [divide(side, side.sum(axis=1, keepdims=True)) for side in sides]
        out: Floats = np.abs(np.cumsum(share[0] - share[1], axis=1)[:, :-1]) @ gap
        return out

    value = float(area(np.ones((1, len(values))))[0])
    draws = np.concatenate([area(weights) for weights in resamples(groups, n, seed)])  # NaN where one side is empty
    return centred_interval(value, draws, undefined, 0.0)


def work_names(works: ArrayLike | None, n_pieces: int, side: str) -> Works:
    """(B,) work of each piece as a string; each piece is a work where `works` is None.

    Raises:
        MgenError: There are not as many works as pieces.
    """
    names = np.array([f"{side} {i}" for i in range(n_pieces)]) if works is None else np.asarray(works).astype(str)
    if names.shape != (n_pieces,):
        raise MgenError(f"sets: expected a work for each of {n_pieces} {side} pieces, found {names.size}")
    return names


def joint_resamples(real: Works, other: Works, n: int, seed: int) -> Iterator[tuple[Floats, Floats]]:
    """Yields n times the weights (B,) and (C,) of the pieces of both sets: how often each was drawn.

    A work in both sets is drawn for both at once. Resamples that leave one set empty are skipped.
    """
    for block in resamples(np.concatenate([real, other]), n, seed):
        for weights in block:
            sides = weights[: len(real)], weights[len(real) :]
            if sides[0].any() and sides[1].any():
                yield sides


def _paired(values: ArrayLike, groups: ArrayLike | None) -> tuple[Floats, NDArray[np.generic]]:
    numbers = np.asarray(values, dtype=np.float64)
    names = np.arange(len(numbers)) if groups is None else np.asarray(groups)
    if numbers.ndim != 1 or names.shape != numbers.shape:
        raise MgenError(f"interval: expected a group for each of {len(numbers)} values, found {len(names)}")
    return numbers, names
