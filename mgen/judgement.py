"""What a judge returns for a batch of pieces: the types that rewards and critics share."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

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
        credit: (N,) float32 that sums to the score over a piece's notes, for display of the notes at fault, or None
            where a judge scores a piece only as a whole. A piece without notes has no credit to give.
        defined: (B,) bool. False where the judge cannot judge the piece; the score is then the judge's worst value.
    """

    score: NDArray[np.float32]
    credit: NDArray[np.float32] | None
    defined: NDArray[np.bool_]


JudgeCall = Callable[[Notes], Judgement]
"""What of a judge is called, without its attribute `worst`."""


class Judge(Protocol):
    """A reward (computed by rule) or a critic (learned from data).

    A judge may also have the methods of `PrefixJudge`, and `probability(notes) -> (B,)`, which runs log.

    Attributes:
        worst: score of a piece that it cannot judge; no score is below it.
    """

    @property
    def worst(self) -> float: ...

    def __call__(self, notes: Notes, /) -> Judgement: ...


@runtime_checkable
class PrefixJudge(Protocol):
    """A judge that can judge beginnings too, for rewards of tokens that close bars (`mgen.rl.rewards`)."""

    def prefix_scores(self, notes: Notes, /) -> NDArray[np.float64]:
        """(B,) scores of beginnings, on the scale of the final score; for one too short to judge, the score that is
        likely before anything is known, and not the worst.
        """


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


def judged(name: str, judge: JudgeCall, notes: Notes) -> Judgement:
    """Calls a judge and checks what it returns, so that any fault of a judge is one line.

    Raises:
        MgenError: The judge fails or breaks a rule; the line has its name and the first piece in question.
    """
    try:
        judgement = judge(notes)
    except Exception as error:
        where, what = _failing(judge, notes), " ".join(str(error).split())[:200]
        fault = what if isinstance(error, MgenError) else f"{type(error).__name__}: {what}"
        remedy = "--debug shows where; mgen.testing.check_judge tries a judge"
        raise MgenError(f"judge {name} failed on {where}: {fault}; {remedy}") from error
    return check_judgement(name, judgement, notes, getattr(judge, "worst", None))


def _failing(judge: JudgeCall, notes: Notes) -> str:
    """The first piece that a judge fails on alone, or the batch."""
    for piece in range(notes.n_pieces):
        try:
            judge(notes.pieces([piece]))
        except Exception:  # which one it is does not matter here: the caller reports that of the batch
            return f"piece {piece} ({notes.counts[piece]} notes)"
    return f"a batch of {notes.n_pieces} pieces ({len(notes)} notes), on none of them alone"


def check_judgement(name: str, judgement: object, notes: Notes, worst: float | None) -> Judgement:
    """Checks what a judge returned for `notes` against the contract of `Judgement`.

    Args:
        worst: of the judge; None for a function that states none, whose scores have no lower limit.

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
    if worst is not None:
        lowest = np.float32(worst)
        check("no score is below the worst value", score < lowest, score, f"clip the score at worst ({worst:g})")
        check(
            "an undefined piece gets the worst value",
            ~defined & (score != lowest),
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
