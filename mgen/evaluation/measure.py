"""Every number of one set of pieces beside real music: what `mgen evaluate` says, of models and of folders alike.

Nothing here samples, reads files or knows a model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mgen.arrays import Floats
from mgen.errors import MgenError
from mgen.music.metrics import METRICS
from mgen.notes import Notes
from mgen.stats.frechet import Embedder
from mgen.stats.intervals import UNDEFINED, Interval, bootstrap, distance_to_real, over_seeds
from mgen.stats.memorisation import CopyIndex
from mgen.stats.set_metrics import alone, set_metrics
from mgen.stats.two_sample import two_sample

DISTANCES = tuple(name for name in METRICS if name not in {"valid", "broken_tokens", "loop_rate"})
"""Metrics whose distribution over pieces is compared with real music's (`NAME_distance`, Wasserstein-1)."""


@dataclass(frozen=True)
class Pieces:
    """B pieces of one player.

    Attributes:
        notes: of the pieces; a prompt is not among them.
        work: (B,) what each belongs to; pieces of one work are not independent.
        seed: (B,) number of the seed that drew each, 0 upwards.
        runs: training runs that the seeds go round in turn; 1 where one model played all of them.
    """

    notes: Notes
    work: NDArray[np.str_]
    seed: NDArray[np.int64]
    runs: int = 1

    @cached_property
    def values(self) -> dict[str, Floats]:
        """Name -> (B,) of every metric."""
        return {name: metric(self.notes) for name, metric in METRICS.items()}

    def of_works(self, chosen: NDArray[np.str_]) -> Pieces:
        """The pieces of some works."""
        return self._rows(np.flatnonzero(np.isin(self.work, chosen)))

    def first(self, n: int) -> Pieces:
        """The first n pieces."""
        return self if n >= len(self.work) else self._rows(np.arange(n))

    def _rows(self, rows: NDArray[np.int64]) -> Pieces:
        return Pieces(self.notes.pieces(rows), self.work[rows], self.seed[rows], self.runs)

    def halves(self, seed: int = 0) -> tuple[Pieces, Pieces]:
        """The pieces of a random half of the works, and the others."""
        works = np.random.default_rng(seed).permutation(np.unique(self.work))
        return self.of_works(works[: len(works) // 2]), self.of_works(works[len(works) // 2 :])


@dataclass(frozen=True)
class Numbers:
    """One player's numbers.

    Attributes:
        cells: name -> number with its interval; NaN where it is undefined.
        pieces: name -> (B,) value of each piece, where the number is a mean over pieces; in the order of the
            pieces, so that two players of the same prompts can be compared prompt by prompt.
        remarks: name -> what has to be said with a number: why it is undefined, or not to be quoted.
    """

    cells: dict[str, Interval]
    pieces: dict[str, Floats] = field(default_factory=dict)
    remarks: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Beside:
    """What sets of pieces are measured beside.

    Attributes:
        copies: of the music that a model was trained on, for `copy_rate`; None leaves it out.
        embedders: by name, for Fréchet distances beside that of the features.
        sequence: whether the sequence model of the two-sample test takes part; it takes most of the time.
        two_sample: whether the two-sample test is done at all.
    """

    copies: CopyIndex | None = None
    embedders: Mapping[str, Embedder] = field(default_factory=dict)
    sequence: bool = True
    two_sample: bool = True


def measure(own: Pieces, real: Pieces, beside: Beside, more: Mapping[str, Floats] | None = None) -> Numbers:
    """Every number of a set of pieces.

    Args:
        own: the pieces.
        real: real music to compare with, as many pieces and as long. If it is `own` itself, numbers that compare two
            sets compare two halves of its works: they show what no difference looks like with half as many pieces.
        more: further (B,) numbers of pieces whose mean is told.
    """
    pieces = {**own.values, **(more or {})}
    cells = {name: over_seeds(values, own.work, own.seed, own.runs) for name, values in pieces.items()}
    compared, remarks = _compared(*(own.halves() if own is real else (own, real)), beside)
    if own is real:  # these are of one set and depend on its size: of the whole set, as for the others
        compared |= alone(own.notes, own.work, train=beside.copies)
    return Numbers({**compared, **cells}, pieces, remarks)


def _compared(own: Pieces, real: Pieces, beside: Beside) -> tuple[dict[str, Interval], dict[str, str]]:
    """Numbers that compare two sets, and remarks on them."""
    cells: dict[str, Interval] = {}
    remarks: dict[str, str] = {}
    if beside.two_sample:
        try:
            found = two_sample(real.notes, own.notes, real.work, own.work, sequence=beside.sequence)
            cells["c2st_auc"], cells["c2st_feature"] = found.larger, found.feature
            if found.sequence is not None:
                cells["c2st_sequence"] = found.sequence
            if not found.quotable:
                remarks["c2st_auc"] = f"{found.n} pieces a side: too few to quote it, the protocol asks for 512"
        except MgenError as error:
            cells["c2st_auc"] = UNDEFINED
            remarks["c2st_auc"] = str(error)
    try:
        cells |= set_metrics(
            real.notes, own.notes, real.work, own.work, train=beside.copies, embedders=beside.embedders
        )
    except MgenError as error:
        remarks["sets"] = str(error)
    for name in DISTANCES:
        cells[f"{name}_distance"] = distance_to_real(real.values[name], own.values[name], real.work, own.work)
    return cells, remarks


def changes(after: Numbers, before: Numbers, work: NDArray[np.str_]) -> dict[str, Interval]:
    """Differences prompt by prompt, after minus before, of every number that is a mean over pieces."""
    shared = [name for name in after.pieces if name in before.pieces]
    return {name: bootstrap(after.pieces[name] - before.pieces[name], work) for name in shared}


def joined(parts: list[Notes], works: list[NDArray[np.str_]], runs: int = 1) -> Pieces:
    """The pieces of several seeds as one set."""
    seed = np.repeat(np.arange(len(parts)), [part.n_pieces for part in parts])
    return Pieces(Notes.concat(parts), np.concatenate(works), seed, runs)
