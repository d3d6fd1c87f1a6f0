"""The two-sample test by length: how many notes does a new classifier need to recognise generated music?

The AUC of complete pieces is near 1 for every small model and ranks none. That of excerpts of a few notes does not
saturate: it rises with the number of notes, the more slowly the better the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm
from sklearn.ensemble import HistGradientBoostingClassifier

from mgen.arrays import Floats, Longs, divide
from mgen.music.features import FORMAT_FREE, GROUPS, features
from mgen.notes import Notes
from mgen.stats.intervals import REPLICATES, Bound, Interval, percentile_interval, resamples, undefined_interval
from mgen.stats.two_sample import (
    FOLDS,
    QUOTABLE,
    WIDENING,
    assign_folds,
    auc,
    check_works,
    choose_evenly,
    first_notes,
    held_out_ranks,
    whole_steps,
)

LENGTHS = (8, 12, 16, 24, 36, 50, 100)  # notes of the excerpts
THRESHOLDS = (0.65, 0.75, 0.9)  # AUCs whose number of notes is reported
FEWEST = 80  # pieces per side; a length that fewer have is not measured


@dataclass(frozen=True)
class GradedTest:
    """Result of the two-sample test by length."""

    auc: dict[int, Interval]  # notes -> AUC; NaN if not measured; `undefined`: pieces, of both sides, with fewer notes
    pieces: dict[int, int]  # notes -> pieces used per side
    until: dict[float, Interval]  # AUC -> notes at which it is reached, with a bound outside of the measured lengths

    @property
    def nats_piece(self) -> Interval:
        """Nats of evidence in a piece of the largest measured length: the squared probit of the AUC.

        It is the KL divergence between two normal distributions of scores that give this AUC (the binormal model of
        ROC curves); 0 for an AUC of at most 0.5.
        """
        if not (measured := [n for n, found in self.auc.items() if np.isfinite(found.value)]):
            return undefined_interval()
        return nats(self.auc[measured[-1]], self.pieces[measured[-1]])

    def metrics(self) -> dict[str, Interval]:
        """All numbers by their names in metrics.json."""
        out = {"notes_until_told" + ("" if at == 0.75 else f"_{100 * at:.0f}"): n for at, n in self.until.items()}
        out |= {f"auc_by_notes_{n}": found for n, found in self.auc.items()}
        return out | {"nats_piece": self.nats_piece}


def quick_boosting(seed: int) -> HistGradientBoostingClassifier:
    """Boosting at less than half the cost of `two_sample.boosting`; its AUCs are the same within 0.01."""
    budget = {"max_iter": 30, "learning_rate": 0.3, "max_leaf_nodes": 4, "max_bins": 31, "l2_regularization": 1.0}
    return HistGradientBoostingClassifier(**budget, early_stopping=False, random_state=seed)


def graded(
    real: Notes,
    generated: Notes,
    works_real: ArrayLike,
    works_generated: ArrayLike,
    *,
    lengths: Sequence[int] = LENGTHS,
    metre: bool = True,
    seed: int = 0,
) -> GradedTest:
    """Two-sample test of the feature classifiers on the first notes of the pieces, for several numbers of notes.

    Each length has its own classifiers, trained on some works and applied to the others. A piece with fewer notes is
    left out of that length. Where both sides name the same works in the same order, piece i of both continues the same
    prompt, and both are left out together; otherwise both sides are made equal in number. At most `QUOTABLE` pieces per
    side are used.

    Args:
        real, generated: pieces without the notes of their prompts.
        works_real, works_generated: (B,), (C,) works, as in `two_sample`.
        lengths: numbers of notes, rising.
        metre: whether features of the metre take part. Where prompts of the two sides are of different music, the
            metre and the place in the bar where a completion begins are theirs, and show in its first notes.
        seed: of the choice of pieces, folds, classifiers and resamples.

    Returns:
        AUCs, and the notes until `THRESHOLDS` are reached: the first crossing, linear in the logarithm of the number
        of notes between two lengths. Intervals are bootstraps by work, the same resamples for all lengths, widened as
        in `cross_validated_auc`.

    Raises:
        MgenError: Works and pieces differ in number, a side is empty or has fewer than two works, or a time or pitch is
            not finite.

    Cannot see: what `two_sample` cannot, and the order of notes beyond the features.
    """
    works = check_works(real, generated, works_real, works_generated)
    sides = whole_steps(real), whole_steps(generated)
    work, side = np.concatenate(works), np.repeat([0, 1], [len(names) for names in works])
    scores: dict[int, tuple[Longs, Floats]] = {}
    pieces: dict[int, int] = {}
    for n in lengths:
        chosen = _long_enough(n, sides, works, seed)
        pieces[n] = len(chosen[0])
        if pieces[n] >= FEWEST:
            cut = Notes.concat([notes.pieces(index) for notes, index in zip(sides, chosen, strict=True)])
            row = np.concatenate([chosen[0], len(works[0]) + chosen[1]])
            fold = assign_folds(work[row], side[row], FOLDS, seed)
            table = features(first_notes(cut, np.full(len(row), n)), GROUPS if metre else FORMAT_FREE)
            scores[n] = row, held_out_ranks(table, side[row], fold, seed, quick_boosting)
    values = np.array([auc(score, side[row], np.ones((1, len(row))))[0] for row, score in scores.values()])
    draws = [
        np.stack([auc(score, side[row], weights[:, row]) for row, score in scores.values()], axis=1)
        for weights in (resamples(work, REPLICATES, seed) if scores else ())
    ]
    spread = np.clip(values + WIDENING * (np.concatenate(draws) - values), 0, 1) if draws else np.zeros((0, 0))
    found = {n: undefined_interval(sum(int((notes.counts < n).sum()) for notes in sides)) for n in lengths}
    for column, n in enumerate(scores):
        found[n] = percentile_interval(values[column], spread[:, column], found[n].undefined)
    until = {threshold: _notes_until(threshold, list(scores), values, spread) for threshold in THRESHOLDS}
    return GradedTest(found, pieces, until)


def crossing(lengths: ArrayLike, aucs: Floats, threshold: float) -> Floats:
    """(R,) notes at which rows of AUCs (R, L) of rising lengths (L,) first reach a threshold.

    Linear in the logarithm of the number of notes between two lengths; 0 if the first length reaches it already, and
    infinite if none does.
    """
    log = np.log(np.asarray(lengths, np.float64))
    reached, row = aucs >= threshold, np.arange(len(aucs))
    after = reached.argmax(axis=1)
    before = np.maximum(after - 1, 0)
    share = divide(threshold - aucs[row, before], aucs[row, after] - aucs[row, before])
    notes = np.exp(log[before] + share * (log[after] - log[before]))
    out: Floats = np.where(reached[:, 0], 0.0, np.where(reached.any(axis=1), notes, np.inf))
    return out


def nats(found: Interval, pieces: int) -> Interval:
    """The squared probit of an AUC, in nats; an AUC that this many pieces per side cannot distinguish from 1 is a
    bound.
    """
    most = 1 - 0.5 / pieces

    def evidence(value: float) -> float:
        return float(norm.ppf(min(max(value, 0.5), most)) ** 2)

    bound: Bound = "above" if found.value > most else ""
    return Interval(evidence(found.value), evidence(found.low), evidence(found.high), found.undefined, bound=bound)


def _long_enough(
    n: int, sides: tuple[Notes, Notes], works: tuple[NDArray[np.str_], NDArray[np.str_]], seed: int
) -> tuple[Longs, Longs]:
    """Pieces of both sides with at least n notes, equally many; pairs where the sides have the same prompts."""
    fits = sides[0].counts >= n, sides[1].counts >= n
    if np.array_equal(*works):
        fits = (fits[0] & fits[1],) * 2
    rows = np.flatnonzero(fits[0]), np.flatnonzero(fits[1])
    most = min(QUOTABLE, len(rows[0]), len(rows[1]))
    first, second = (
        row[choose_evenly(work[row], most, np.random.default_rng(seed))] for row, work in zip(rows, works, strict=True)
    )
    return first, second


def _notes_until(threshold: float, lengths: Sequence[int], values: Floats, spread: Floats) -> Interval:
    """Notes at which an AUC is reached: within the measured lengths, or a bound."""
    if not lengths:
        return undefined_interval()
    first, last = lengths[0], lengths[-1]
    value = float(crossing(lengths, values[None], threshold)[0])
    draws = np.clip(crossing(lengths, spread, threshold), first, last)
    bound: Bound = "at most" if value < first else "above" if value > last else ""
    value = min(max(value, first), last)
    found = percentile_interval(value, draws)
    return Interval(value, min(found.low, value), max(found.high, value), bound=bound)
