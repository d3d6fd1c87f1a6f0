"""mgeval: are the pieces of two sets as far from each other as the pieces of one set are among themselves?

Nine features of a piece, Euclidean distances inside a set and between two sets, and the agreement of the two densities
of distance.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import rel_entr

from mgen.arrays import Floats, divide, mean_of, shares
from mgen.music import metrics, ngrams
from mgen.notes import Notes
from mgen.stats.intervals import SET_REPLICATES, Interval, Works, centred_interval, undefined_interval, work_names

LENGTHS = np.array([96, 48, 24, 12, 6, 72, 36, 18, 9, 32, 16, 8])
"""Note lengths in grid steps: whole to sixteenth, dotted half to dotted sixteenth, triplet half to triplet eighth."""

BINS = 256  # points of the grid of both densities
GROUPS = 128  # most groups of works that are resampled
FLOOR = 1e-10  # added to the mass of every point before the ratio of two is computed, which limits KL to about 23 nats


def total_used_pitch(notes: Notes) -> Floats:
    """(B, 1) number of different pitches."""
    used = np.zeros((notes.n_pieces, 128), bool)
    used[notes.piece, notes.pitch] = True
    return _known(used.sum(axis=1), notes)


def total_used_note(notes: Notes) -> Floats:
    """(B, 1) number of notes."""
    return _known(notes.counts, notes)


def pitch_class_histogram(notes: Notes) -> Floats:
    """(B, 12) share of the sounding time of each pitch class; mgeval also weights by velocity."""
    return shares(notes.piece, notes.pitch % 12, 12, notes.n_pieces, notes.duration)


def pitch_class_transitions(notes: Notes) -> Floats:
    """(B, 144) share of each move from one pitch class to the next, chords read upwards.

    mgeval counts moves, and only those to a note that begins within 50 ms of the end of the one before.
    """
    return _moves(notes, notes.pitch % 12)


def pitch_range(notes: Notes) -> Floats:
    """(B, 1) highest minus lowest pitch, semitones."""
    return metrics.pitch_range(notes)[:, None]


def average_pitch_shift(notes: Notes) -> Floats:
    """(B, 1) mean size of the interval from a note to the next, semitones, chords read upwards."""
    within = ngrams.complete(notes.piece, 2)
    step = np.abs(np.diff(notes.pitch, prepend=np.int32(0)))
    return mean_of(step[within], notes.piece[within], notes.n_pieces)[:, None]


def average_ioi(notes: Notes) -> Floats:
    """(B, 1) mean time from an onset to the next note's, quarter notes; 0 within a chord, as in mgeval."""
    within = ngrams.complete(notes.piece, 2)
    gap = np.diff(notes.onset, prepend=np.int32(0)) / 24
    return mean_of(gap[within], notes.piece[within], notes.n_pieces)[:, None]


def note_length_histogram(notes: Notes) -> Floats:
    """(B, 12) share of notes nearest to each of `LENGTHS`; mgeval scales these by the bar."""
    return shares(notes.piece, _length(notes), len(LENGTHS), notes.n_pieces)


def note_length_transitions(notes: Notes) -> Floats:
    """(B, 144) share of each move from one of `LENGTHS` to the next; mgeval counts them."""
    return _moves(notes, _length(notes))


FEATURES: dict[str, Callable[[Notes], Floats]] = {
    "pitches": total_used_pitch,
    "notes": total_used_note,
    "pitch_classes": pitch_class_histogram,
    "pitch_class_moves": pitch_class_transitions,
    "range": pitch_range,
    "interval": average_pitch_shift,
    "ioi": average_ioi,
    "lengths": note_length_histogram,
    "length_moves": note_length_transitions,
}
"""mgeval's nine: name -> function of pitched notes to (B, K), NaN rows where a piece leaves it undefined."""


def _known(values: NDArray[np.integer], notes: Notes) -> Floats:
    return np.where(notes.counts > 0, values, np.nan)[:, None]


def _length(notes: Notes) -> NDArray[np.int64]:
    """(N,) the nearest of `LENGTHS`; a tie goes to the first."""
    nearest: NDArray[np.int64] = np.abs(notes.duration[:, None] - LENGTHS).argmin(axis=1)
    return nearest


def _moves(notes: Notes, letters: NDArray[np.integer]) -> Floats:
    to = np.flatnonzero(ngrams.complete(notes.piece, 2))
    return shares(notes.piece[to], letters[to - 1] * 12 + letters[to], 144, notes.n_pieces)


def distances(first: Floats, second: Floats) -> Floats:
    """(B, C) Euclidean distances between the rows of two tables."""
    if first.shape[1] == 1:
        return np.abs(first - second.T)
    square = (first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1) - 2 * first @ second.T
    out: Floats = np.sqrt(np.maximum(square, 0))
    return out


class Densities:
    """Densities of the distances inside `other` and between `other` and `real`, on one grid.

    Both use one Gaussian kernel (Scott's rule for the smaller set, on the mean deviation of the two kinds of distances)
    on a histogram of `BINS` points that reaches four widths beyond the distances, so that no mass is lost and two
    equal samples have equal densities.

    Args:
        real: (B, K) one feature of the real pieces, without NaN.
        other: (C, K) of the other pieces, C at least 2.
        real_group, other_group: (B,), (C,) numbers below `groups`; pieces of one number are drawn together.
        groups: G.
    """

    def __init__(
        self,
        real: Floats,
        other: Floats,
        real_group: NDArray[np.integer],
        other_group: NDArray[np.integer],
        groups: int,
    ) -> None:
        first, second = np.triu_indices(len(other), 1)
        inside, between = distances(other, other)[first, second], distances(other, real)
        spread = (inside.std() + between.std()) / 2
        self.width = max(float(spread) * min(len(real), len(other)) ** -0.2, 1e-9)
        low = min(inside.min(), between.min()) - 4 * self.width
        high = max(inside.max(), between.max()) + 4 * self.width
        self.grid = np.linspace(low, high, BINS)
        step = self.grid[1] - self.grid[0]
        self._pairs = []  # (G * G, BINS) pairs of groups, inside and between
        for apart, one, two in (
            (inside, other_group[first], other_group[second]),
            (between, other_group[:, None], real_group),
        ):
            place = (one.astype(np.int64) * groups + two) * BINS + np.rint((apart - low) / step).astype(np.int64)
            counts = np.bincount(place.ravel(), minlength=groups * groups * BINS)
            self._pairs.append(counts.reshape(-1, BINS).astype(np.float64))
        kernel = np.exp(-0.5 * ((self.grid[:, None] - self.grid) / self.width) ** 2)
        self._kernel: Floats = kernel / kernel.sum(axis=1, keepdims=True)

    def of(self, weights: Floats) -> Floats:
        """(R, 2, BINS) mass inside and between, each summing to 1, with each group drawn `weights` (R, G) times.

        A piece is never compared with itself, however often it is drawn. NaN where a resample has no pair.
        """
        both = (weights[:, :, None] * weights[:, None, :]).reshape(len(weights), -1)
        mass = np.stack([both @ counts for counts in self._pairs], axis=1) @ self._kernel
        return divide(mass, mass.sum(axis=2, keepdims=True))


def overlap(mass: Floats) -> Floats:
    """(R,) area that two densities (R, 2, G) share, 0..1."""
    shared: Floats = mass.min(axis=1).sum(axis=1)
    return shared


def divergence(mass: Floats) -> Floats:
    """(R,) KL of the first density of (R, 2, G) from the second, nats, 0 to about 23."""
    floored = mass + FLOOR
    floored /= floored.sum(axis=2, keepdims=True)
    nats: Floats = np.maximum(rel_entr(floored[:, 0], floored[:, 1]).sum(axis=1), 0.0)
    return nats


def work_groups(real: Works, other: Works, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Numbers the works of both sets in common; returns (B,), (C,) and how many numbers there are.

    More than `GROUPS` works are put into random groups: a mean over drawn groups varies as one over drawn works does,
    and pairs of groups can be counted once for all resamples.
    """
    names, number = np.unique(np.concatenate([real, other]), return_inverse=True)
    if len(names) > GROUPS:
        number = np.random.default_rng(seed).permutation(len(names))[number] % GROUPS
    return number[: len(real)], number[len(real) :], min(len(names), GROUPS)


def mgeval(
    real: Notes,
    other: Notes,
    works_real: ArrayLike | None = None,
    works_other: ArrayLike | None = None,
    replicates: int = SET_REPLICATES,
    seed: int = 0,
) -> dict[str, Interval]:
    """Overlapping area and KL of the distances inside `other` and those between `other` and `real`.

    `oa_<feature>` and `kld_<feature>` for each of `FEATURES`, and their means `oa` (1 is best) and `kld` (nats, 0 is
    best). Distances inside are those of each piece from each other piece (leave one out).

    Cannot see: order beyond pairs of notes; anything outside the nine features; a set that copies the real one. A
    feature as spread as real music's but with another mean is seen only by the difference of the means. Pieces that
    leave a feature undefined are left out of it and counted; with fewer than two in `other`, or none in `real`, the
    number is NaN, and the means are of the remaining features.

    Differs from the published code: both densities are on one grid with one kernel (there, KL divides densities at
    different points, so that it depends on the ranges of the samples), and features are shares where theirs are counts.
    Source: Yang and Lerch 2020, On the evaluation of generative models in music.
    """
    real, other = real.pitched(), other.pitched()
    names = work_names(works_real, real.n_pieces, "real"), work_names(works_other, other.n_pieces, "other")
    *numbers, groups = work_groups(*names, seed)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(groups, np.full(groups, 1 / groups), replicates) if groups else np.ones((0, 0))
    weights = np.concatenate([np.ones((1, groups)), drawn])  # the first row is the data as it is
    undefined: dict[str, int] = {}
    found: dict[str, Floats] = {}
    for name, feature in FEATURES.items():
        tables = feature(real), feature(other)
        known = [~np.isnan(table).any(axis=1) for table in tables]
        undefined[name] = int(sum((~mask).sum() for mask in known))
        if known[0].sum() >= 1 and known[1].sum() >= 2:
            own = [number[mask] for number, mask in zip(numbers, known, strict=True)]
            mass = Densities(tables[0][known[0]], tables[1][known[1]], own[0], own[1], groups).of(weights)
            found[name] = np.stack([overlap(mass), divergence(mass)])
    cells: dict[str, Interval] = {}
    for place, (name, most) in enumerate({"oa": 1.0, "kld": np.inf}.items()):
        rows = {feature: row[place] for feature, row in found.items()}
        mean = {name: np.mean(list(rows.values()), axis=0)} if rows else {}
        every = {f"{name}_{feature}": row for feature, row in rows.items()} | mean
        lost = {name: max(undefined.values())} | {f"{name}_{feature}": count for feature, count in undefined.items()}
        for key, count in lost.items():
            if key in every:
                cells[key] = centred_interval(float(every[key][0]), every[key][1:], count, 0, most)
            else:
                cells[key] = undefined_interval(count)
    return cells
