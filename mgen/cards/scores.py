"""Scores of a judge on sets of pieces, and its cost.

A row of a card is one set: real music, transforms of the same pieces, or degenerate inputs.
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
from mgen.judgement import JudgeCall
from mgen.notes import Encoding, Notes
from mgen.stats.intervals import Interval, bootstrap
from mgen.stats.two_sample import auc_above

SAME = 1e-6  # scores that differ by less are equal
REPEATS = 5  # timings of the judge and of decoding, alternating; the median counts


@dataclass(frozen=True)
class CardRow:
    """A set of pieces to be judged.

    Attributes:
        notes: B pieces.
        works: (B,) their works, for intervals; None if the pieces are independent.
        paired: piece i is a transform of the i-th real piece.
        kind: `real`, `other`, `policy`, `corrupted`, `format` or `degenerate`.
        real: real pieces of the same works that the AUC compares them with; None: those of the first row.
    """

    notes: Notes
    works: NDArray[np.str_] | None
    paired: bool
    kind: str
    real: Notes | None = None


@dataclass(frozen=True)
class RowScores:
    """Scores of one row; undefined pieces count with the judge's worst value, as in training.

    Attributes:
        kind: of the row.
        n: pieces.
        mean: score.
        low, median, high: 5th, 50th and 95th percentile.
        undefined: share of pieces that the judge does not score.
        as_good_as_real: share of pieces that score at least the median of real music.
        auc: probability that a real piece scores above a piece of the row, ties half; None for the first row.
        change: mean difference from the pieces before the transform; None for an unpaired row.
        share_changed: share of pieces whose score changed; None for an unpaired row.
    """

    kind: str
    n: int
    mean: Interval
    low: float
    median: float
    high: float
    undefined: float
    as_good_as_real: float
    auc: Interval | None = None
    change: Interval | None = None
    share_changed: float | None = None

    @property
    def effect(self) -> str:
        """Sign of the change: `lower`, `higher`, or `none` if its interval contains 0; empty for an unpaired row."""
        if self.change is None:
            return ""
        if self.change.low <= 0 <= self.change.high:
            return "none"
        return "lower" if self.change.high < 0 else "higher"

    def to_json(self) -> dict[str, Any]:
        names = ("low", "median", "high", "undefined", "as_good_as_real")
        numbers = {name: round(getattr(self, name), 6) for name in names}
        out: dict[str, Any] = {"kind": self.kind, "n": self.n, "mean": self.mean.to_json(), **numbers}
        if self.auc is not None:
            out["auc"] = self.auc.to_json()
        if self.change is not None and self.share_changed is not None:
            share = round(self.share_changed, 6)
            out |= {"change": self.change.to_json(), "share_changed": share, "effect": self.effect}
        return out


def score_rows(judge: JudgeCall, rows: Mapping[str, CardRow], seed: int = 0) -> dict[str, RowScores]:
    """Scores every row.

    Args:
        rows: name -> row; the first is real music of the style.
        seed: of the resamples.
    """
    out: dict[str, RowScores] = {}
    real: Floats = np.zeros(0)
    works = next(iter(rows.values())).works
    for name, row in rows.items():
        judgement = judge(row.notes)
        score = judgement.score.astype(np.float64)
        real = real if out else score
        low, median, high = np.quantile(score, (0.05, 0.5, 0.95)).tolist()
        auc, change, share_changed = None, None, None
        if row.real is not None:
            auc = auc_above(judge(row.real).score, score, row.works, row.works, seed)
        elif out:
            auc = auc_above(real, score, works, row.works, seed)
        if row.paired:
            difference = np.where(np.abs(score - real) < SAME, 0.0, score - real)
            change, share_changed = bootstrap(difference, row.works, seed=seed), float((difference != 0).mean())
        out[name] = RowScores(
            kind=row.kind,
            n=len(score),
            mean=bootstrap(score, row.works, seed=seed),
            low=low,
            median=median,
            high=high,
            undefined=float((~judgement.defined).mean()),
            as_good_as_real=float((score >= np.median(real) - SAME).mean()),
            auc=auc,
            change=change,
            share_changed=share_changed,
        )
    return out


@dataclass(frozen=True)
class JudgeCost:
    """Time on one core, compared with decoding the same pieces from their tokens.

    Attributes:
        us_per_note, us_per_token: microseconds of the judge.
        decoding_us_per_token: microseconds of decoding.
        ratio: time of the judge over time of decoding; median over repeats.
    """

    us_per_note: float
    us_per_token: float
    decoding_us_per_token: float
    ratio: float

    def to_json(self) -> dict[str, float]:
        names = ("us_per_note", "us_per_token", "decoding_us_per_token", "ratio")
        return {name: float(f"{getattr(self, name):.4g}") for name in names}


def judge_cost(
    judge: JudgeCall, ids: Sequence[ArrayLike], encoding: Encoding, clock: Callable[[], float] | None = None
) -> JudgeCost:
    """Times a judge on pieces given as B sequences of token ids.

    Every repeat judges a new copy of the notes, so that nothing is cached; intermediate results that rules of one batch
    share are counted for each rule.
    """
    clock = clock or time.perf_counter
    notes = Notes.from_ids(ids, encoding)
    tokens = sum(np.size(row) for row in ids)
    judge(replace(notes))
    judging, decoding = [], []
    with threadpool_limits(1):
        for _ in range(REPEATS):
            fresh = replace(notes)
            began = clock()
            judge(fresh)
            between = clock()
            Notes.from_ids(ids, encoding)
            judging.append(between - began)
            decoding.append(clock() - between)
    judge_us, decoding_us = statistics.median(judging) * 1e6, statistics.median(decoding) * 1e6
    ratio = statistics.median(a / b for a, b in zip(judging, decoding, strict=True))
    return JudgeCost(judge_us / max(len(notes), 1), judge_us / tokens, decoding_us / tokens, ratio)
