"""All metrics of one set of pieces, compared with real music; the same for models and for folders.

Nothing here samples, reads files or knows a model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mgen.arrays import Floats
from mgen.errors import MgenError
from mgen.music.metrics import METRICS
from mgen.notes import Notes
from mgen.stats.frechet import Embedder
from mgen.stats.graded import FEWEST, graded
from mgen.stats.intervals import Interval, bootstrap, distance_to_real, over_seeds, undefined_interval
from mgen.stats.memorisation import CopyIndex
from mgen.stats.set_metrics import set_metrics, single_set_metrics
from mgen.stats.two_sample import two_sample

DISTANCES = tuple(name for name in METRICS if name not in {"valid", "broken_tokens", "loop_rate"})
"""Metrics whose distribution over pieces is compared with real music's (`NAME_distance`, Wasserstein-1)."""


@dataclass(frozen=True)
class PieceSet:
    """B pieces of one system."""

    notes: Notes  # of the pieces, without the prompts
    work: NDArray[np.str_]  # (B,) work of each piece; pieces of one work are not independent
    seed: NDArray[np.int64]  # (B,) index of the seed that drew each piece, from 0
    runs: int = 1  # number of training runs that the seeds cycle through; 1 for a single model

    @classmethod
    def of_seeds(cls, notes: Sequence[Notes], works: Sequence[NDArray[np.str_]], runs: int = 1) -> PieceSet:
        """Concatenates the pieces of several seeds."""
        seed = np.repeat(np.arange(len(notes)), [part.n_pieces for part in notes])
        return cls(Notes.concat(notes), np.concatenate(works), seed, runs)

    @cached_property
    def metrics(self) -> dict[str, Floats]:
        """Metric -> (B,) value of each piece."""
        return {name: metric(self.notes) for name, metric in METRICS.items()}

    def first(self, n: int) -> PieceSet:
        """The first n pieces."""
        return self if n >= len(self.work) else self.select(np.arange(n))

    def halves(self, seed: int = 0) -> tuple[PieceSet, PieceSet]:
        """The pieces of a random half of the works, and the others."""
        works = np.random.default_rng(seed).permutation(np.unique(self.work))
        parts = works[: len(works) // 2], works[len(works) // 2 :]
        first, second = (self.select(np.flatnonzero(np.isin(self.work, part))) for part in parts)
        return first, second

    def select(self, rows: NDArray[np.integer]) -> PieceSet:
        return PieceSet(self.notes.pieces(rows), self.work[rows], self.seed[rows], self.runs)


@dataclass(frozen=True)
class Measurements:
    """All numbers of one system for one prompt type.

    Two systems with the same prompts can be compared pair by pair.
    """

    metrics: dict[str, Interval]  # name -> number with its interval; NaN where it is undefined
    per_piece: dict[str, Floats] = field(default_factory=dict)  # (B,) values of each metric that is a mean over pieces
    remarks: dict[str, str] = field(default_factory=dict)  # metric -> why it is undefined, or why it must not be quoted

    def to_json(self) -> dict[str, Any]:
        """Metric -> `value`, `low`, `high`."""
        return {name: interval.to_json() for name, interval in self.metrics.items()}


@dataclass(frozen=True)
class MetricOptions:
    """Optional parts of `measure`."""

    copies: CopyIndex | None = None  # index of the training set, for `copy_rate`; None leaves the metric out
    embedders: Mapping[str, Embedder] = field(default_factory=dict)  # by name, for further Fréchet distances
    sequence: bool = True  # whether the two-sample test has its sequence model, which takes most of the time
    two_sample: bool = True  # whether there is a two-sample test
    metre: bool = True  # whether the one by length reads the metre, see `graded`


def measure(
    own: PieceSet, real: PieceSet, options: MetricOptions, more: Mapping[str, Floats] | None = None
) -> Measurements:
    """Computes all metrics of a set of pieces.

    Args:
        own: the pieces.
        real: real pieces, as many and as long. If it is `own` itself, metrics that compare two sets compare two halves
            of its works; they are a reference for "no difference" with half as many pieces.
        more: further (B,) values of pieces, to be averaged.
    """
    per_piece = {**own.metrics, **(more or {})}
    means = {name: over_seeds(values, own.work, own.seed, own.runs) for name, values in per_piece.items()}
    compared, remarks = _compare(*(own.halves() if own is real else (own, real)), options)
    if own is real:  # metrics of one set depend on its size: use the complete set, as for other systems
        compared |= single_set_metrics(own.notes, own.work, train=options.copies)
    return Measurements({**compared, **means}, per_piece, remarks)


def _compare(own: PieceSet, real: PieceSet, options: MetricOptions) -> tuple[dict[str, Interval], dict[str, str]]:
    """Metrics that compare two sets, and remarks on them."""
    metrics: dict[str, Interval] = {}
    remarks: dict[str, str] = {}
    sets = real.notes, own.notes, real.work, own.work
    if options.two_sample:
        try:
            test = two_sample(*sets, sequence=options.sequence)
            metrics["c2st_auc"], metrics["c2st_feature"] = test.larger, test.feature
            if test.sequence is not None:
                metrics["c2st_sequence"] = test.sequence
            if not test.quotable:
                remarks["c2st_auc"] = f"{test.n} pieces per side: too few to quote it, the protocol asks for 512"
            by_length = graded(*sets, metre=options.metre)
            metrics |= by_length.metrics()
            if short := [f"{n} notes ({have})" for n, have in by_length.pieces.items() if have < FEWEST]:
                remarks["auc_by_notes"] = f"not measured, fewer than {FEWEST} pieces per side have {', '.join(short)}"
        except MgenError as error:
            metrics["c2st_auc"] = undefined_interval()
            remarks["c2st_auc"] = str(error)
    try:
        metrics |= set_metrics(*sets, train=options.copies, embedders=options.embedders)
    except MgenError as error:
        remarks["sets"] = str(error)
    for name in DISTANCES:
        metrics[f"{name}_distance"] = distance_to_real(real.metrics[name], own.metrics[name], real.work, own.work)
    return metrics, remarks


def paired_differences(after: Measurements, before: Measurements, work: NDArray[np.str_]) -> dict[str, Interval]:
    """Mean differences over equal prompts, after minus before, of every metric that is a mean over pieces."""
    shared = [name for name in after.per_piece if name in before.per_piece]
    return {name: bootstrap(after.per_piece[name] - before.per_piece[name], work) for name in shared}
