"""Reward-hacking search: how far a policy could exploit a judge.

Two searches against one judge. The first maximises its score. The second maximises the distance from real music among
pieces that score at least the median of real pieces; the distance is measured without the judge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from mgen.arrays import Floats
from mgen.cards.search import SearchBudget, evolve
from mgen.encoding.remi import Remi
from mgen.judgement import JudgeCall
from mgen.music import metrics
from mgen.music.features import features
from mgen.notes import Notes
from mgen.progress import Progress, silent
from mgen.transforms.edits import NoteArray, SizeLimits, constructions, noise, note_arrays, notes_from_arrays

REAL_RANGE = (0.01, 0.99)  # quantiles that bound the range of a feature in real music
MIN_WIDTH = 0.01  # least width of a feature's range; most features are shares
SAME = 1e-6  # scores that differ by less are equal
INITIAL_PIECES = 64  # initial pieces of each kind (music, noise)

CEILING = 0.05
"""If at least this share of real pieces has the highest real score, that score is taken as the judge's maximum."""

HIGHEST_SHARE = 0.3  # share of the budget for the search for the highest score
PATIENCE = 60  # generations without a higher score that end that search


@dataclass(frozen=True)
class FeatureDistance:
    """Distance of a piece from real music by the features of the evaluation, 0..1.

    A feature counts 0 inside the middle 98 % of real pieces, 1 at a full width of that range outside or more, and
    linearly in between; the distance is the mean over features. Loops and noise are both far. It is no measure of
    quality: good music of another style is far too.

    Attributes:
        low, high: (F,) the ranges.
    """

    low: Floats
    high: Floats

    @classmethod
    def of(cls, real: Notes) -> FeatureDistance:
        low, high = np.quantile(features(real), REAL_RANGE, axis=0)
        return cls(low, high)

    def __call__(self, notes: Notes) -> Floats:
        """(B,) distance of each piece."""
        values = features(notes)
        outside = np.maximum(np.maximum(self.low - values, values - self.high), 0)
        distance: Floats = np.minimum(outside / np.maximum(self.high - self.low, MIN_WIDTH), 1).mean(axis=1)
        return distance


@dataclass(frozen=True)
class SearchReference:
    """Real music that a search is measured by.

    Attributes:
        notes: real pieces of the style, as long as the pieces to be judged.
        distance: fitted on other real pieces.
        remi: encoding in which a found piece must be expressible.
        tokens: length to which a found piece is cut.
    """

    notes: Notes
    distance: FeatureDistance
    remi: Remi
    tokens: int

    def reencode(self, notes: Notes) -> Notes:
        """Encodes, cuts and decodes pieces as a policy could have written them, as if read from a file again."""
        rows = [row[: self.tokens] for row in self.remi.encode(notes)]
        read = self.remi.decode(rows)
        none = np.zeros(read.n_pieces, np.int32)
        return replace(read, token=np.full(len(read), -1, np.int32), n_tokens=none, n_broken=none)


@dataclass(frozen=True)
class Exploit:
    """Result of a reward-hacking search.

    Attributes:
        notes: one piece: of those that score at least `real_median` the one farthest from real music; if there is none,
            the piece with the highest score.
        score, distance: of that piece.
        highest: highest score found, by any piece.
        real_median, real_p95: median and 95th percentile of the score of real music.
        distance_median, distance_p95: the same of the distance of real music.
        reached_median: whether a piece reached the median score of real music.
        evaluated: pieces that were judged.
        timed_out: whether a search ended by time; a faster machine may find more.
    """

    notes: Notes
    score: float
    distance: float
    highest: float
    real_median: float
    real_p95: float
    distance_median: float
    distance_p95: float
    reached_median: bool
    evaluated: int
    timed_out: bool

    def to_json(self) -> dict[str, Any]:
        names = ("score", "distance", "highest", "real_median", "real_p95", "distance_median", "distance_p95")
        numbers = {name: round(float(getattr(self, name)), 6) for name in names}
        others = {name: getattr(self, name) for name in ("reached_median", "evaluated", "timed_out")}
        return numbers | others


def initial_pieces(music: Notes, limits: SizeLimits, seed: int) -> list[NoteArray]:
    """Returns pieces of `music`, noise, and simple constructions as the first generation of a search."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation(music.n_pieces)[:INITIAL_PIECES]
    random = (noise(limits, rng) for _ in range(INITIAL_PIECES))
    return [*note_arrays(music.pieces(rows)), *random, *constructions(limits)]


def find_exploit(
    judge: JudgeCall,
    reference: SearchReference,
    initial: Sequence[NoteArray],
    budget: SearchBudget,
    seed: int,
    progress: Progress = silent,
) -> Exploit:
    """Searches for a piece that a judge scores as real music although it is not.

    Args:
        judge: the only judge of the search.
        reference: real music.
        initial: see `initial_pieces`.
        budget: of both searches together.
        seed: of all randomness.
        progress: takes the count of the generations.
    """
    limits = SizeLimits.of(reference.notes)
    real = judge(reference.notes).score.astype(np.float64)
    distance_median, distance_p95 = np.quantile(reference.distance(reference.notes), (0.5, 0.95)).tolist()
    real_median, real_p95 = np.quantile(real, (0.5, 0.95)).tolist()
    ceiling = real.max() - SAME if (real >= real.max() - SAME).mean() >= CEILING else np.inf

    def score(notes: Notes) -> Floats:
        return judge(reference.reencode(notes)).score.astype(np.float64)

    def distance_if_accepted(notes: Notes) -> Floats:
        """The distance of pieces that score at least the median of real music; the (negative) difference of others."""
        notes = reference.reencode(notes)
        excess: Floats = judge(notes).score.astype(np.float64) - real_median
        out: Floats = excess.copy()
        accepted = np.flatnonzero(excess >= -SAME)
        if len(accepted):
            out[accepted] = reference.distance(notes.pieces(accepted))
        return out

    first, second = (
        replace(budget, generations=int(budget.generations * share), seconds=budget.seconds * share)
        for share in (HIGHEST_SHARE, 1 - HIGHEST_SHARE)
    )
    first = replace(first, patience=PATIENCE, enough=ceiling)
    best = evolve(score, initial, limits, first, seed, progress)
    initial = [*best.pieces, *initial]
    farthest = evolve(distance_if_accepted, initial, limits, second, seed + 1, progress)
    notes = reference.reencode(notes_from_arrays([farthest.pieces[0]]))
    found = float(judge(notes).score[0])
    return Exploit(
        notes=notes,
        score=found,
        distance=float(reference.distance(notes)[0]),
        highest=max(float(best.fitness[0]), found),
        real_median=real_median,
        real_p95=real_p95,
        distance_median=distance_median,
        distance_p95=distance_p95,
        reached_median=bool(farthest.fitness[0] >= 0),
        evaluated=best.evaluated + farthest.evaluated,
        timed_out=best.timed_out or farthest.timed_out,
    )


# ------------------------------------------------------------ features


def _distinct(column: str, notes: Notes) -> Floats:
    pairs = np.unique(np.stack([notes.piece, getattr(notes, column)]), axis=1)
    return np.bincount(pairs[0], minlength=notes.n_pieces).astype(np.float64)


REPORTED_FEATURES: dict[str, tuple[str, metrics.Metric]] = {
    "notes": ("notes", lambda notes: notes.counts.astype(np.float64)),
    "bars": ("bars", lambda notes: np.diff(notes.bar_starts).astype(np.float64)),
    "pitches": ("distinct pitches", partial(_distinct, "pitch")),
    "durations": ("distinct durations", partial(_distinct, "duration")),
    "density": ("notes per quarter note", metrics.density),
    "polyphony": ("notes sounding at once", metrics.polyphony),
    "pitch_range": ("semitones from the lowest to the highest note", metrics.pitch_range),
    "mean_interval": ("semitones between successive notes", metrics.mean_interval),
    "rep4": ("share of pitch 4-grams repeated", metrics.METRICS["rep4"]),
    "interval_rep8": ("share of interval 8-grams repeated", metrics.METRICS["interval_rep8"]),
    "longest_loop": ("longest loop", metrics.longest_loop),
    "same_pitch": ("share of repeated notes", metrics.same_pitch),
    "longest_run": ("longest run of one pitch", metrics.longest_run),
    "H4": ("bits of pitch class in four bars", metrics.METRICS["H4"]),
    "scale_consistency": ("share of notes in the best scale", metrics.scale_consistency),
    "swing": ("swing ratio", metrics.swing),
    "triplet_share": ("share of onsets in triplets", metrics.triplet_share),
    "empty_beats": ("share of beats without a note", metrics.empty_beats),
    "GS": ("similarity of the bars' rhythms", metrics.grooving_similarity),
    "compression": ("compressed size of the pitches", metrics.compression),
}
"""Features that a card compares with real music: name -> description and metric."""


@dataclass(frozen=True)
class FeatureComparison:
    """A feature of one piece, compared with real music.

    Attributes:
        description: of the feature.
        value: of the piece; NaN if undefined.
        low, median, high: 5th, 50th and 95th percentile of real music.
    """

    description: str
    value: float
    low: float
    median: float
    high: float

    @property
    def outside(self) -> float:
        """Distance from the range low..high in its widths; 0 inside, NaN if undefined."""
        distance = max(self.low - self.value, self.value - self.high, 0.0) if np.isfinite(self.value) else np.nan
        return distance / max(self.high - self.low, MIN_WIDTH)

    def to_json(self) -> dict[str, Any]:
        numbers = {name: float(getattr(self, name)) for name in ("value", "low", "median", "high")}
        return {
            "description": self.description,
            **{name: round(number, 4) if np.isfinite(number) else None for name, number in numbers.items()},
        }


def compare_features(piece: Notes, real: Notes) -> dict[str, FeatureComparison]:
    """Compares the `REPORTED_FEATURES` of one piece with those of real pieces."""
    out = {}
    for name, (description, measure) in REPORTED_FEATURES.items():
        values = measure(real)
        known = values[np.isfinite(values)]
        low, median, high = np.quantile(known, (0.05, 0.5, 0.95)).tolist() if len(known) else (np.nan,) * 3
        out[name] = FeatureComparison(description, float(measure(piece)[0]), low, median, high)
    return out
