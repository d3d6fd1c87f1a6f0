"""What a judge says of sets of pieces, row by row, and what it costs.

A row is a set of pieces: real music, the same pieces changed, or inputs that are no music at all.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits

from mgen.arrays import Floats
from mgen.judgement import Judge
from mgen.notes import Encoding, Notes
from mgen.stats.intervals import Interval, bootstrap

SAME = 1e-6
"""Scores that differ by less are equal."""

TURNS = 5
"""Turns of a judge and its rival, one after the other; the median counts."""


@dataclass(frozen=True)
class Row:
    """A set of pieces to be judged.

    Attributes:
        notes: B pieces.
        works: (B,) their works, for intervals; None where each stands alone.
        paired: piece i is the i-th real piece, changed.
        kind: `real`, `other`, `broken`, `format` or `senseless`.
    """

    notes: Notes
    works: NDArray[np.str_] | None
    paired: bool
    kind: str


@dataclass(frozen=True)
class RowScores:
    """What a judge says of a row; what it cannot judge counts with its worst value, as in training.

    Attributes:
        kind: of the row.
        n: pieces.
        mean: score.
        low, median, high: 5th, 50th and 95th percentile.
        undefined: share that it cannot judge.
        good: share that scores at least the median of real music.
        change: of a paired row, mean difference from the pieces as they were; else None.
        moved: of a paired row, share of pieces whose score changed.
    """

    kind: str
    n: int
    mean: Interval
    low: float
    median: float
    high: float
    undefined: float
    good: float
    change: Interval | None = None
    moved: float | None = None

    @property
    def heard(self) -> str:
        """Whether the change is certain, in words; empty where there is nothing to compare with."""
        if self.change is None:
            return ""
        if self.change.low <= 0 <= self.change.high:
            return "not heard"
        return "heard, lower" if self.change.high < 0 else "heard, higher"

    def to_json(self) -> dict[str, Any]:
        numbers = {name: round(getattr(self, name), 6) for name in ("low", "median", "high", "undefined", "good")}
        out: dict[str, Any] = {"kind": self.kind, "n": self.n, "mean": self.mean.to_json(), **numbers}
        if self.change is not None and self.moved is not None:
            out |= {"change": self.change.to_json(), "moved": round(self.moved, 6), "heard": self.heard}
        return out


def score_rows(judge: Judge, rows: Mapping[str, Row], seed: int = 0) -> dict[str, RowScores]:
    """What a judge says of every row.

    Args:
        rows: name -> row; the first is real music of the style.
        seed: of resamples.
    """
    out: dict[str, RowScores] = {}
    real: Floats = np.zeros(0)
    for name, row in rows.items():
        judged = judge(row.notes)
        score = judged.score.astype(np.float64)
        real = real if out else score
        low, median, high = np.quantile(score, (0.05, 0.5, 0.95)).tolist()
        change, moved = None, None
        if row.paired:
            apart = np.where(np.abs(score - real) < SAME, 0.0, score - real)
            change, moved = bootstrap(apart, row.works, seed=seed), float((apart != 0).mean())
        out[name] = RowScores(
            kind=row.kind,
            n=len(score),
            mean=bootstrap(score, row.works, seed=seed),
            low=low,
            median=median,
            high=high,
            undefined=float((~judged.defined).mean()),
            good=float((score >= np.median(real) - SAME).mean()),
            change=change,
            moved=moved,
        )
    return out


@dataclass(frozen=True)
class Cost:
    """Time on one core, and the time of decoding the same pieces from their tokens in the same process.

    Attributes:
        note, token: microseconds of the judge for each.
        decoding: microseconds of decoding for each token.
        ratio: of the judge's time to decoding; the median over turns.
    """

    note: float
    token: float
    decoding: float
    ratio: float

    def to_json(self) -> dict[str, float]:
        return {name: float(f"{getattr(self, name):.4g}") for name in ("note", "token", "decoding", "ratio")}


def cost(judge: Judge, ids: Sequence[ArrayLike], encoding: Encoding, clock: Callable[[], float] | None = None) -> Cost:
    """Measure a judge beside the decoding of the pieces (B sequences of token ids) that it judges.

    Nothing is remembered from one turn to the next: each judges a table of its own. What rules of one batch share is
    counted for each of them.
    """
    clock = clock or time.perf_counter
    notes = Notes.from_ids(ids, encoding)
    tokens = sum(np.size(row) for row in ids)
    judge(replace(notes))
    ours, rival = [], []
    with threadpool_limits(1):
        for _ in range(TURNS):
            fresh = replace(notes)
            began = clock()
            judge(fresh)
            between = clock()
            Notes.from_ids(ids, encoding)
            ours.append(between - began)
            rival.append(clock() - between)
    each, decoding = statistics.median(ours) * 1e6, statistics.median(rival) * 1e6
    ratio = statistics.median(a / b for a, b in zip(ours, rival, strict=True))
    return Cost(each / max(len(notes), 1), each / tokens, decoding / tokens, ratio)
