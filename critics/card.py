"""A style critic's card: how well it hears music that it has never seen, and what moves its score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from critics.calibration import Calibration, expected_calibration_error
from critics.changes import flat_velocities, humanised, sixteenths, straight_eighths, tritone_away
from critics.style import StyleCritic
from critics.training import Excerpts
from mgen.evaluation.corruptions import CORRUPTIONS, Corruption
from mgen.evaluation.intervals import Interval, bootstrap
from mgen.notes import Notes

CHANGED = 256
"""At most so many pieces are changed and judged again."""

Floats = NDArray[np.float64]
Number = dict[str, float | None]
"""`value` with the 95 % interval `low`..`high`."""


def style_card(critic: StyleCritic, test: Excerpts, seed: int = 0) -> dict[str, Any]:
    """Everything measured on excerpts of the test split; the intervals are bootstraps by work.

    Returns:
        `auc`, `accuracy` (P > 1/2), `score` (nats) of each side, `ece_raw` and `ece` (before and after
        calibration), `pairs` (AUC of each collection of the positive style against each other one), and two
        tables of changes of score, in nats, on the positive style: `format`, where it should hear little
        or nothing, and `broken`, where the score should fall.
    """
    logits = critic.network.logits(test.notes)
    score = critic(test.notes).score.astype(np.float64)
    yes, work = test.positive, test.work
    right = (critic.calibration.log_odds(logits) > 0) == yes
    pairs = {
        a: {
            b: auc_interval(logits[both], yes[both], work[both], seed).to_json()
            for b in np.unique(test.collection[~yes]).tolist()
            for both in [np.where(yes, test.collection == a, test.collection == b)]
        }
        for a in np.unique(test.collection[yes]).tolist()
    }
    rows = np.flatnonzero(yes)[:CHANGED]
    heard = test.notes.pieces(rows)
    return {
        "n": len(yes),
        "works": len(np.unique(work)),
        "auc": auc_interval(logits, yes, work, seed).to_json(),
        "accuracy": bootstrap(right, work, seed=seed).to_json(),
        "score": {
            side: bootstrap(score[rows], work[rows], seed=seed).to_json()
            for side, rows in {"positive": yes, "other": ~yes}.items()
        },
        "ece_raw": expected_calibration_error(np.exp(Calibration().log_probability(logits)), yes),
        "ece": expected_calibration_error(np.exp(critic.calibration.log_probability(logits)), yes),
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
    changes: Mapping[str, Corruption],
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


FORMAT: dict[str, Corruption] = {
    "flat_velocities": flat_velocities,
    "tritone_away": tritone_away,
    "humanised": humanised,
    "sixteenths": sixteenths,
}
BROKEN: dict[str, Corruption] = {"straight_eighths": straight_eighths, **CORRUPTIONS}
