"""mgeval: are the pieces of two sets as far from each other as the pieces of one set are among themselves?

Nine features of a piece, Euclidean distances inside a set and between two sets, and how far the two densities of
distance agree. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import rel_entr

from mgen import ngrams
from mgen.evaluation import metrics
from mgen.evaluation.intervals import Floats, Interval
from mgen.evaluation.metrics import divide, mean_of
from mgen.evaluation.replicates import REPLICATES, joint_resamples, moved, nothing, works_of
from mgen.notes import Notes

LENGTHS = np.array([96, 48, 24, 12, 6, 72, 36, 18, 9, 32, 16, 8])
"""Note lengths in grid steps: whole to sixteenth, dotted half to dotted sixteenth, triplet half to triplet eighth."""

BINS = 256
"""Points of the grid on which both densities are."""

FLOOR = 1e-10
"""Added to the mass of every point before a ratio of two is taken, so that KL ends at about 23 nats."""


def total_used_pitch(notes: Notes) -> Floats:
    """(B, 1) number of different pitches."""
    used = np.zeros((notes.n_pieces, 128), bool)
    used[notes.piece, notes.pitch] = True
    return _known(used.sum(axis=1), notes)


def total_used_note(notes: Notes) -> Floats:
    """(B, 1) number of notes."""
    return _known(notes.counts, notes)


def pitch_class_histogram(notes: Notes) -> Floats:
    """(B, 12) share of the sounding time that each pitch class has; mgeval weighs by velocity too."""
    return _shares(notes.piece, notes.pitch % 12, 12, notes.n_pieces, notes.duration)


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
    """(B, 12) share of notes that are nearest to each of `LENGTHS`; mgeval scales these by the bar."""
    return _shares(notes.piece, _length(notes), len(LENGTHS), notes.n_pieces)


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
    """(N,) the nearest of `LENGTHS`; the first named of two as near."""
    return np.abs(notes.duration[:, None] - LENGTHS).argmin(axis=1)


def _shares(
    piece: NDArray[np.integer],
    bins: NDArray[np.integer],
    size: int,
    n: int,
    weights: NDArray[np.integer] | None = None,
) -> Floats:
    counts = np.bincount(piece * np.int64(size) + bins, weights, minlength=n * size).reshape(n, size)
    return divide(counts, counts.sum(axis=1, keepdims=True))


def _moves(notes: Notes, letters: NDArray[np.integer]) -> Floats:
    to = np.flatnonzero(ngrams.complete(notes.piece, 2))
    return _shares(notes.piece[to], letters[to - 1] * 12 + letters[to], 144, notes.n_pieces)


# ------------------------------------------------------------- distances


def distances(first: Floats, second: Floats) -> Floats:
    """(B, C) Euclidean distances between the rows of two tables."""
    if first.shape[1] == 1:
        return np.abs(first - second.T)
    square = (first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1) - 2 * first @ second.T
    out: Floats = np.sqrt(np.maximum(square, 0))
    return out


class Densities:
    """Densities of the distances inside `other` and between `other` and `real`, on one grid.

    A Gaussian kernel of one width for both (Scott's rule for as many pieces, on the deviation of all distances) runs
    over a histogram of `BINS` points that reaches four widths beyond the distances, so that no mass is lost and two
    equal samples have equal densities.

    Args:
        real: (B, K) one feature of the real pieces, without NaN.
        other: (C, K) of the others, C at least 2.
    """

    def __init__(self, real: Floats, other: Floats) -> None:
        self.pairs = np.triu_indices(len(other), 1)
        inside, between = distances(other, other)[self.pairs], distances(other, real).ravel()
        spread = (inside.std() + between.std()) / 2
        self.width = max(float(spread) * min(len(real), len(other)) ** -0.2, 1e-9)
        low = min(inside.min(), between.min()) - 4 * self.width
        high = max(inside.max(), between.max()) + 4 * self.width
        self.grid = np.linspace(low, high, BINS)
        step = self.grid[1] - self.grid[0]
        self._inside, self._between = (np.rint((x - low) / step).astype(np.int64) for x in (inside, between))
        kernel = np.exp(-0.5 * ((self.grid[:, None] - self.grid) / self.width) ** 2)
        self._kernel: Floats = kernel / kernel.sum(axis=1, keepdims=True)

    def of(self, real: Floats, other: Floats) -> Floats:
        """(2, BINS) mass inside and between, each summing to 1, for pieces that count (B,) and (C,) times.

        A piece is never compared with itself, however often it was drawn.
        """
        weights = np.outer(other, real).ravel()
        inside = np.bincount(self._inside, other[self.pairs[0]] * other[self.pairs[1]], minlength=BINS)
        mass = np.stack([inside, np.bincount(self._between, weights, minlength=BINS)]) @ self._kernel
        return divide(mass, mass.sum(axis=1, keepdims=True))


def overlap(mass: Floats) -> float:
    """Area that two densities (2, G) share, 0..1."""
    return float(mass.min(axis=0).sum())


def divergence(mass: Floats) -> float:
    """KL of the first density (2, G) from the second, nats, 0 to about 23."""
    floored = mass + FLOOR
    floored /= floored.sum(axis=1, keepdims=True)
    return max(float(rel_entr(floored[0], floored[1]).sum()), 0.0)


def mgeval(
    real: Notes,
    other: Notes,
    works_real: ArrayLike | None = None,
    works_other: ArrayLike | None = None,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> dict[str, Interval]:
    """Overlapping area and KL of the distances inside `other` and those between `other` and `real`.

    `oa_<feature>` and `kld_<feature>` for each of `FEATURES`, and their means `oa` (1 is best) and `kld` (nats, 0 is
    best). Distances inside are those of each piece from each other piece (leave one out).

    Cannot see: order beyond pairs of notes; anything that the nine features do not hold; a set that copies the real
    one. A feature that is as spread as real music's but elsewhere is seen only as far as it is moved. Pieces of which
    a feature is undefined are left out of it and counted; with fewer than two in `other`, or none in `real`, the
    number is NaN, and the means are of the features that are left.

    Differs from the published code: both densities are on one grid with one kernel (there, KL divides densities taken
    at different points, so that it depends on the ranges of the samples), and shares where that counts.
    Source: Yang and Lerch 2020, On the evaluation of generative models in music.
    """
    real, other = metrics.pitched(real), metrics.pitched(other)
    groups = works_of(works_real, real.n_pieces, "real"), works_of(works_other, other.n_pieces, "other")
    cells: dict[str, Interval] = {}
    values: list[list[float]] = []
    draws: list[list[list[float]]] = []
    tables = {name: (feature(real), feature(other)) for name, feature in FEATURES.items()}
    known = {name: [~np.isnan(table).any(axis=1) for table in both] for name, both in tables.items()}
    missing = 0
    densities = {}
    for name, both in tables.items():
        lost = int(sum((~mask).sum() for mask in known[name]))
        missing = max(missing, lost)
        if known[name][0].sum() < 1 or known[name][1].sum() < 2:
            cells[f"oa_{name}"] = cells[f"kld_{name}"] = nothing(lost)
            continue
        densities[name] = Densities(*(table[mask] for table, mask in zip(both, known[name], strict=True)))
    if not densities:
        return {"oa": nothing(missing), "kld": nothing(missing), **cells}

    def all_of(weights: tuple[Floats, Floats]) -> list[list[float]]:
        out = []
        for name, pair in densities.items():
            mass = pair.of(*(side[mask] for side, mask in zip(weights, known[name], strict=True)))
            out.append([overlap(mass), divergence(mass)])
        return out

    values = all_of((np.ones(real.n_pieces), np.ones(other.n_pieces)))
    draws = [all_of(weights) for weights in joint_resamples(*groups, replicates, seed)]
    value, drawn = np.array(values), np.array(draws).reshape(-1, len(values), 2)
    for place, name in enumerate(densities):
        lost = int(sum((~mask).sum() for mask in known[name]))
        cells[f"oa_{name}"] = moved(value[place, 0], drawn[:, place, 0], lost, 0, 1)
        cells[f"kld_{name}"] = moved(value[place, 1], drawn[:, place, 1], lost, 0)
    means = {
        "oa": moved(value[:, 0].mean(), drawn[:, :, 0].mean(axis=1), missing, 0, 1),
        "kld": moved(value[:, 1].mean(), drawn[:, :, 1].mean(axis=1), missing, 0),
    }
    return {**means, **{f"{kind}_{name}": cells[f"{kind}_{name}"] for kind in ("oa", "kld") for name in FEATURES}}
