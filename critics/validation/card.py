"""A style critic's card: how well it hears music that it has never seen, and what moves its score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from critics.style.critic import StyleCritic
from mgen.arrays import Floats
from mgen.notes import Notes
from mgen.stats.calibration import expected_calibration_error, reliability
from mgen.stats.intervals import Interval, bootstrap
from mgen.transforms.corruptions import CORRUPTIONS
from mgen.transforms.format_augmentations import flat_velocities, humanise, sixteenths, tritone_away
from mgen.transforms.hard_negatives import straighten_eighths
from mgen.transforms.rebuild import Transform

CHANGED = 256
"""At most so many pieces are changed and judged again."""

Number = dict[str, float | None]
"""`value` with the 95 % interval `low`..`high`."""


class Labelled(Protocol):
    """B excerpts of real music, as `critics.style.token_training.Excerpts` and `critics.style.excerpts.Collected`
    hold them.
    """

    @property
    def notes(self) -> Notes: ...
    @property
    def positive(self) -> NDArray[np.bool_]: ...
    @property
    def collection(self) -> NDArray[np.str_]: ...
    @property
    def work(self) -> NDArray[np.str_]: ...


def style_card(critic: StyleCritic, test: Labelled, seed: int = 0, brief: bool = False) -> dict[str, Any]:
    """Everything measured on excerpts of the test split; the intervals are bootstraps by work.

    Args:
        brief: without pairs and changes.

    Returns:
        `auc`, `accuracy` (P > 1/2), `score` (nats) of each side, `ece`, `reliability` (see `calibration.reliability`),
        `abstained` (share of each side that it would not judge), `pairs` (AUC of each collection of the positive style
        against each other one), and two tables of changes of score, in nats, on the positive style: `format`, where it
        should hear little or nothing, and `broken`, where the score should fall.
    """
    judged = critic(test.notes)
    said, score = critic.probability(test.notes), judged.score.astype(np.float64)
    yes, work = test.positive, test.work
    right = (said > 0.5) == yes
    whole = {
        "n": len(yes),
        "works": len(np.unique(work)),
        "auc": auc_interval(said, yes, work, seed).to_json(),
        "accuracy": bootstrap(right, work, seed=seed).to_json(),
        "score": {
            side: bootstrap(score[rows], work[rows], seed=seed).to_json()
            for side, rows in {"positive": yes, "other": ~yes}.items()
        },
        "ece": expected_calibration_error(said, yes),
        "reliability": reliability(said, yes),
        "abstained": {
            side: float(1 - judged.defined[rows].mean()) for side, rows in {"positive": yes, "other": ~yes}.items()
        },
    }
    if brief:
        return whole
    pairs = {
        a: {
            b: auc_interval(said[both], yes[both], work[both], seed).to_json()
            for b in np.unique(test.collection[~yes]).tolist()
            for both in [np.where(yes, test.collection == a, test.collection == b)]
        }
        for a in np.unique(test.collection[yes]).tolist()
    }
    rows = np.flatnonzero(yes)
    rows = rows[:: -(-len(rows) // CHANGED)] if len(rows) else rows  # of all lengths and collections
    heard = test.notes.pieces(rows)
    return {
        **whole,
        "pairs": pairs,
        "format": score_changes(critic, heard, work[rows], FORMAT, seed),
        "broken": score_changes(critic, heard, work[rows], BROKEN, seed),
    }


def auc_interval(scores: ArrayLike, positive: NDArray[np.bool_], work: NDArray[np.str_], seed: int = 0) -> Interval:
    """AUC, bootstrapped by work."""
    return bootstrap(scores, work, lambda values, weights: weighted_auc(values, positive, weights), seed=seed)


def weighted_auc(scores: Floats, positive: NDArray[np.bool_], weights: Floats) -> Floats:
    """(R,) share of weighted pairs in which the positive piece has the higher score; a tie is half a pair.

    Args:
        scores: (B,).
        positive: (B,).
        weights: (R, B) of each piece in each of R resamples; 1/2 comes where a side is not drawn at all.
    """
    order = np.argsort(scores, kind="stable")
    ranked, yes, weights = scores[order], positive[order], weights[:, order]
    others = np.pad(np.cumsum(weights * ~yes, axis=1), ((0, 0), (1, 0)))
    lower, not_higher = (others[:, np.searchsorted(ranked, ranked, side)] for side in ("left", "right"))
    beaten = (lower + not_higher) / 2
    pairs = (weights @ yes) * (weights @ ~yes)
    return np.where(pairs > 0, (beaten * weights * yes).sum(axis=1) / np.maximum(pairs, 1e-12), 0.5)


# ------------------------------------------------------------ changed music


def score_changes(
    critic: StyleCritic,
    notes: Notes,
    work: NDArray[np.str_],
    changes: Mapping[str, Transform],
    seed: int = 0,
) -> dict[str, Number]:
    """Mean change of score, in nats, of the pieces that can be judged, when one thing in them changes."""
    rng = np.random.default_rng(seed)
    before = critic(notes)
    keep = before.defined
    after = {name: critic(change(notes, rng)).score for name, change in changes.items()}
    return {
        name: bootstrap((score - before.score)[keep], work[keep], seed=seed).to_json() for name, score in after.items()
    }


FORMAT: dict[str, Transform] = {
    "flat_velocities": flat_velocities,
    "tritone_away": tritone_away,
    "humanised": humanise,
    "sixteenths": sixteenths,
}
BROKEN: dict[str, Transform] = {"straight_eighths": straighten_eighths, **CORRUPTIONS}
