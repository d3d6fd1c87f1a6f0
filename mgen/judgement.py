"""What a judge returns for a batch of pieces: the types that rewards and critics share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mgen.errors import MgenError
from mgen.notes import Notes

CREDIT_TOLERANCE = 1e-4
"""Largest difference, in nats, between a piece's score and the sum of its credit: rounding of float32."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """Scores of B pieces that hold N notes together.

    Attributes:
        score: (B,) float32, never NaN. Nats for a critic, minus band widths for a rule.
        credit: (N,) float32 that sums to the score over a piece's notes, or None where a judge scores a piece only as
            a whole. A piece without notes has no credit to give.
        defined: (B,) bool. False where the judge cannot judge the piece; the score is then the judge's worst value.
    """

    score: NDArray[np.float32]
    credit: NDArray[np.float32] | None
    defined: NDArray[np.bool_]


class Judge(Protocol):
    """A reward (computed by rule) or a critic (learned from data).

    Attributes:
        worst: score of a piece that it cannot judge; no score is below it.
    """

    @property
    def worst(self) -> float: ...

    def __call__(self, notes: Notes, /) -> Judgement: ...


class UnavailableJudge(MgenError):
    """A judge that has nothing to judge by here, though the caller made no mistake; `reason` says why."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"judge {name}: {reason}; leave it out, or judge longer pieces")
        self.reason = reason


def broken_rule(name: str, rule: str, found: str, remedy: str) -> MgenError:
    """The error of a judge that breaks a rule of the contract, in one line."""
    return MgenError(f"judge {name} breaks the rule '{rule}': {found}; {remedy}")


def check_is_judge(name: str, judge: Any) -> Judge:
    """Returns `judge` if it is callable and has a finite number `worst`, and raises MgenError otherwise."""
    worst = getattr(judge, "worst", None)
    if not callable(judge) or not isinstance(worst, int | float) or not math.isfinite(worst):
        rule = "a judge is callable and has a finite worst value"
        raise broken_rule(name, rule, f"found {type(judge).__name__}", "see mgen.judgement.Judge")
    checked: Judge = judge
    return checked


def check_judgement(name: str, judgement: object, notes: Notes, worst: float) -> Judgement:
    """Checks what a judge returned for `notes` against the contract of `Judgement`.

    Raises:
        MgenError: A rule is broken; one line with the rule, the piece and what to do.
    """
    if not isinstance(judgement, Judgement):
        raise broken_rule(
            name, "a judge returns a Judgement", f"found {type(judgement).__name__}", "see mgen.judgement"
        )
    shapes = {
        "score": (notes.n_pieces, np.float32),
        "credit": (len(notes), np.float32),
        "defined": (notes.n_pieces, bool),
    }
    for field, (size, dtype) in shapes.items():
        array = getattr(judgement, field)
        if array is None and field == "credit":
            continue
        if not isinstance(array, np.ndarray) or array.shape != (size,) or array.dtype != dtype:
            shape, kind = getattr(array, "shape", "no shape"), getattr(array, "dtype", type(array).__name__)
            each = "note" if field == "credit" else "piece"
            raise broken_rule(
                name,
                f"{field} has one {np.dtype(dtype).name} per {each}",
                f"expected shape ({size},), found {kind} of shape {shape}",
                f"return np.asarray({field}, np.{np.dtype(dtype).name})",
            )
    score, credit, defined = judgement.score, judgement.credit, judgement.defined

    def check(rule: str, wrong: NDArray[np.bool_], values: NDArray[Any], remedy: str) -> None:
        if wrong.any():
            piece = int(np.flatnonzero(wrong)[0])
            raise broken_rule(name, rule, f"piece {piece} ({notes.counts[piece]} notes) has {values[piece]:g}", remedy)

    check("scores are finite", ~np.isfinite(score), score, "return the worst value and defined False instead")
    check("no score is below the worst value", score < np.float32(worst), score, f"clip the score at worst ({worst:g})")
    check(
        "an undefined piece gets the worst value",
        ~defined & (score != np.float32(worst)),
        score,
        f"return worst ({worst:g}) where defined is False",
    )
    if credit is not None:
        total = np.bincount(notes.piece, credit.astype(np.float64), notes.n_pieces)
        check(
            "credit sums to the score",
            (notes.counts > 0) & ~(np.abs(total - score) <= CREDIT_TOLERANCE * np.maximum(1, np.abs(score))),
            total,
            "give each note its share of the piece's score, or return credit=None",
        )
    return judgement
