"""What a judge says of a batch of pieces: the one type that rewards and critics share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mgen.notes import Notes


@dataclass(frozen=True, slots=True)
class Judgement:
    """Scores of B pieces that hold N notes together.

    Attributes:
        score: (B,) float32, never NaN. Nats for a critic, minus band widths for a rule.
        credit: (N,) float32 whose sum over a piece's notes is its score, or None where a judge hears the piece only
            as a whole. A piece without notes has no credit to give.
        defined: (B,) bool. False where the judge cannot speak; the score is then its stated worst value.
    """

    score: NDArray[np.float32]
    credit: NDArray[np.float32] | None
    defined: NDArray[np.bool_]


Judge = Callable[[Notes], Judgement]
