"""A style critic's card: AUC and calibration on the test split, and what changes its score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from critics.style import StyleCritic
from critics.style.excerpts import LabelledPieces
from mgen.arrays import Floats
from mgen.notes import Notes
from mgen.stats.calibration import expected_calibration_error, reliability
from mgen.stats.intervals import Interval, bootstrap
from mgen.stats.two_sample import auc
from mgen.transforms.corruptions import CORRUPTIONS
from mgen.transforms.format_augmentations import flat_velocities, humanise, sixteenths, tritone_away
from mgen.transforms.hard_negatives import straighten_eighths
from mgen.transforms.rebuild import Transform

MAX_CHANGED = 256  # largest number of pieces that are changed and judged again
IntervalJson = dict[str, float | None]  # `value` with the 95 % interval `low`..`high`


def style_card(critic: StyleCritic, test: LabelledPieces, seed: int = 0, brief: bool = False) -> dict[str, Any]:
    """Measures a critic on excerpts of the test split; the intervals are bootstraps by work.

    Args:
        brief: without pairs and score changes.

    Returns:
        `auc`, `accuracy` (P > 1/2), `score` (nats) of each side, `ece`, `reliability` (see `calibration.reliability`),
        `abstained` (share of each side), `pairs` (AUC of each collection of the positive style against each other one),
        and two tables of score changes, in nats, on the positive style: `format`, which should be near 0, and
        `corrupted`, where the score should fall.
    """
    judged = critic(test.notes)
    probability, score = critic.probability(test.notes), judged.score.astype(np.float64)
    yes, work = test.positive, test.work
    correct = (probability > 0.5) == yes
    sides = {"positive": yes, "other": ~yes}
    card = {
        "n": len(yes),
        "works": len(np.unique(work)),
        "auc": auc_interval(probability, yes, work, seed).to_json(),
        "accuracy": bootstrap(correct, work, seed=seed).to_json(),
        "score": {side: bootstrap(score[own], work[own], seed=seed).to_json() for side, own in sides.items()},
        "ece": expected_calibration_error(probability, yes),
        "reliability": reliability(probability, yes),
        "abstained": {side: float(1 - judged.defined[own].mean()) for side, own in sides.items()},
    }
    if brief:
        return card
    pairs = {
        a: {
            b: auc_interval(probability[both], yes[both], work[both], seed).to_json()
            for b in np.unique(test.collection[~yes]).tolist()
            for both in [np.where(yes, test.collection == a, test.collection == b)]
        }
        for a in np.unique(test.collection[yes]).tolist()
    }
    rows = np.flatnonzero(yes)
    rows = rows[:: -(-len(rows) // MAX_CHANGED)] if len(rows) else rows  # of all lengths and collections
    changed = test.notes.pieces(rows)
    return {
        **card,
        "pairs": pairs,
        "format": score_changes(critic, changed, work[rows], FORMAT_TRANSFORMS, seed),
        "corrupted": score_changes(critic, changed, work[rows], CORRUPTION_TRANSFORMS, seed),
    }


def auc_interval(scores: ArrayLike, positive: NDArray[np.bool_], work: NDArray[np.str_], seed: int = 0) -> Interval:
    """AUC, bootstrapped by work."""
    return bootstrap(scores, work, lambda values, weights: weighted_auc(values, positive, weights), seed=seed)


def weighted_auc(scores: Floats, positive: NDArray[np.bool_], weights: Floats) -> Floats:
    """(R,) AUC under R weightings (R, B) of the pieces; 1/2 where a side has no weight."""
    return np.nan_to_num(auc(scores, positive.astype(np.int64), weights), nan=0.5)


def score_changes(
    critic: StyleCritic, notes: Notes, work: NDArray[np.str_], transforms: Mapping[str, Transform], seed: int = 0
) -> dict[str, IntervalJson]:
    """Mean change of the score, in nats, under each transform, of the pieces that the critic judges."""
    rng = np.random.default_rng(seed)
    before = critic(notes)
    keep = before.defined
    change = {name: critic(transform(notes, rng)).score - before.score for name, transform in transforms.items()}
    return {name: bootstrap(by[keep], work[keep], seed=seed).to_json() for name, by in change.items()}


FORMAT_TRANSFORMS: dict[str, Transform] = {
    "flat_velocities": flat_velocities,
    "tritone_away": tritone_away,
    "humanised": humanise,
    "sixteenths": sixteenths,
}
CORRUPTION_TRANSFORMS: dict[str, Transform] = {"straight_eighths": straighten_eighths, **CORRUPTIONS}
