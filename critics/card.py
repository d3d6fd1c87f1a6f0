"""A style critic's card: how well it hears music that it has never seen, and what moves its score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from critics.calibration import Calibration, expected_calibration_error
from critics.style import StyleCritic
from critics.training import Excerpts
from mgen.encoding.remi import PITCH_RANGE
from mgen.evaluation.corruptions import CORRUPTIONS, Corruption
from mgen.evaluation.intervals import Interval, bootstrap
from mgen.notes import STEPS_PER_QUARTER, Notes, sort_order

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


def flat_velocities(notes: Notes, rng: np.random.Generator) -> Notes:
    """All notes equally loud. A critic must not hear it."""
    return _sorted(replace(notes, velocity=np.full_like(notes.velocity, 64)))


def tritone_away(notes: Notes, rng: np.random.Generator) -> Notes:
    """Each piece six semitones up, or down where it would leave the range. A critic should hardly hear it."""
    highest = np.zeros(notes.n_pieces, np.int32)
    np.maximum.at(highest, notes.piece, notes.pitch)
    shift = np.where(highest + 6 <= PITCH_RANGE[1], 6, -6)[notes.piece]
    return replace(notes, pitch=np.clip(notes.pitch + shift, *PITCH_RANGE).astype(np.int32))


def straight_eighths(notes: Notes, rng: np.random.Generator) -> Notes:
    """Swing taken out; the rest of the rhythm stays, so the score should fall.

    Where a beat has no onsets but on it and at 14-19 of its 24 steps, the late ones come at 12, and notes
    that end there end at 12.
    """
    beats = int(notes.onset.max(initial=0)) // STEPS_PER_QUARTER + 1
    beat = notes.piece.astype(np.int64) * beats + notes.onset // STEPS_PER_QUARTER
    step = notes.onset % STEPS_PER_QUARTER
    swung = np.zeros(notes.n_pieces * beats, bool)
    swung[beat[_late(step)]] = True
    swung[beat[~_late(step) & (step > 0)]] = False

    def straight(time: NDArray[np.int32]) -> NDArray[np.int32]:
        number, step = np.divmod(time, STEPS_PER_QUARTER)
        inside = np.minimum(number, beats - 1) + notes.piece.astype(np.int64) * beats
        moved = swung[inside] & (number < beats) & _late(step)
        return np.where(moved, time - step + STEPS_PER_QUARTER // 2, time).astype(np.int32)

    onset, end = straight(notes.onset), straight(notes.onset + notes.duration)
    return _sorted(replace(notes, onset=onset, duration=np.maximum(end - onset, 1)))


def _late(step: NDArray[np.int32]) -> NDArray[np.bool_]:
    return (step >= 14) & (step <= 19)


def _sorted(notes: Notes) -> Notes:
    order = sort_order(notes.piece, notes.onset, notes.program, notes.pitch, notes.duration, notes.velocity)
    columns = ("piece", "onset", "duration", "bar", "pitch", "velocity", "program", "token")
    return replace(notes, **{name: getattr(notes, name)[order] for name in columns})


FORMAT: dict[str, Corruption] = {"flat_velocities": flat_velocities, "tritone_away": tritone_away}
BROKEN: dict[str, Corruption] = {"straight_eighths": straight_eighths, **CORRUPTIONS}
