"""Which judges distinguish real music from a policy's samples, before anything is trained on them."""

from __future__ import annotations

from collections.abc import Mapping

from numpy.typing import ArrayLike

from mgen.stats.intervals import Interval
from mgen.stats.two_sample import auc_above

WEAK = 0.55
"""AUC below which a judge says next to nothing about what a policy lacks."""


def judge_aucs(
    scores_real: Mapping[str, ArrayLike],
    scores_policy: Mapping[str, ArrayLike],
    works_real: ArrayLike | None = None,
    works_policy: ArrayLike | None = None,
    seed: int = 0,
) -> dict[str, Interval]:
    """AUC of real music above a policy's samples, for each judge.

    Args:
        scores_real: judge -> (R,) scores of real pieces; pieces that it leaves undefined have its worst score.
        scores_policy: judge -> (S,) scores of the samples.
        works_real, works_policy: (R,) and (S,) works of the pieces, and those that the samples continue; None: each
            piece is a work.
        seed: of the resamples.

    Returns:
        Judge -> AUC with its 95 % interval: 1 if all real pieces score above all samples, 0.5 for a judge that cannot
        distinguish them (ties count half), below 0.5 for one that prefers the samples.

    Raises:
        MgenError: Pieces and works differ in number, or a side has no pieces.
    """
    return {
        name: auc_above(real, scores_policy[name], works_real, works_policy, seed) for name, real in scores_real.items()
    }


def weak(aucs: Mapping[str, Interval], below: float = WEAK) -> list[str]:
    """Judges whose AUC is below a limit, in the order of `aucs`."""
    return [name for name, auc in aucs.items() if auc.value < below]
