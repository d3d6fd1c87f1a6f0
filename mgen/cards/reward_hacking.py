"""How a judge is fooled: a stress search against it alone, and what came out, in numbers.

Two searches. One wants the highest score. The other wants the piece that is farthest from real music while it
still scores what the middle one of real pieces does; how far is measured without the judge.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from mgen.arrays import Floats
from mgen.cards.search import Budget, evolve
from mgen.encoding.remi import Remi
from mgen.judgement import Judge
from mgen.music import metrics
from mgen.music.features import features
from mgen.notes import Notes
from mgen.transforms.edits import NoteArray, SizeLimits, constructions, noise, note_arrays, notes_from_arrays

MIDDLE = (0.01, 0.99)
"""Quantiles of real music between which a feature of a piece is as in real music."""

NARROWEST = 0.01
"""The least width of a feature's band; most features are shares."""

SAME = 1e-6
"""Scores that differ by less are equal."""

STARTS = 64
"""Pieces of each kind (music, noise) that a search starts from."""

CEILING = 0.05
"""Share of real pieces that have to reach the highest real score for it to be the highest there is."""

HIGHEST_SHARE = 0.3
"""Share of the budget that the search for the highest score gets."""

PATIENCE = 60
"""Generations without a higher score after which that search ends."""


@dataclass(frozen=True)
class Strangeness:
    """How far a piece is from real music, 0..1, by the features of the evaluation.

    A feature counts 0 inside the middle 98 % of real pieces, 1 from a whole width of that band outside, and evenly in
    between; strangeness is the mean over features. It hears loops as well as noise. It does not know what is good:
    music of another kind is strange too.

    Attributes:
        low, high: (F,) the bands.
    """

    low: Floats
    high: Floats

    @classmethod
    def of(cls, real: Notes) -> Strangeness:
        low, high = np.quantile(features(real), MIDDLE, axis=0)
        return cls(low, high)

    def __call__(self, notes: Notes) -> Floats:
        """(B,) strangeness of each piece."""
        values = features(notes)
        outside = np.maximum(np.maximum(self.low - values, values - self.high), 0)
        apart: Floats = np.minimum(outside / np.maximum(self.high - self.low, NARROWEST), 1).mean(axis=1)
        return apart


@dataclass(frozen=True)
class Reference:
    """What a search is measured by.

    Attributes:
        notes: real pieces of the style, as long as what will be judged.
        strangeness: fitted on other real pieces.
        remi: what a winner has to be written in.
        tokens: of what will be judged; a winner is cut to them.
    """

    notes: Notes
    strangeness: Strangeness
    remi: Remi
    tokens: int

    def written(self, notes: Notes) -> Notes:
        """As a policy could have written it: encoded, cut, decoded; as if read from a file again."""
        rows = [row[: self.tokens] for row in self.remi.encode(notes)]
        read = self.remi.decode(rows)
        none = np.zeros(read.n_pieces, np.int32)
        return replace(read, token=np.full(len(read), -1, np.int32), n_tokens=none, n_broken=none)


@dataclass(frozen=True)
class Exploit:
    """What a stress search found.

    Attributes:
        notes: one piece: the strangest that scores at least `median`, or, if none does, the one with the highest score.
        score: of that piece.
        strangeness: of that piece.
        highest: the highest score found, by any piece.
        median, top: score of real music: its median and 95th percentile.
        usual, unusual: strangeness of real music: its median and 95th percentile.
        reached: some piece reached the median of real music.
        judged: pieces that were judged.
        timed_out: a search ended by time, so that a slower machine may find less.
    """

    notes: Notes
    score: float
    strangeness: float
    highest: float
    median: float
    top: float
    usual: float
    unusual: float
    reached: bool
    judged: int
    timed_out: bool

    def to_json(self) -> dict[str, Any]:
        names = ("score", "strangeness", "highest", "median", "top", "usual", "unusual")
        numbers = {name: round(float(getattr(self, name)), 6) for name in names}
        return {**numbers, "reached": self.reached, "judged": self.judged, "timed_out": self.timed_out}


def starts(music: Notes, limits: SizeLimits, seed: int) -> list[NoteArray]:
    """Drafts that a search begins with: pieces of `music`, noise, and what anyone would try first."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation(music.n_pieces)[:STARTS]
    return [*note_arrays(music.pieces(rows)), *(noise(limits, rng) for _ in range(STARTS)), *constructions(limits)]


def stress(
    judge: Judge,
    reference: Reference,
    begin: Sequence[NoteArray],
    budget: Budget,
    seed: int,
    tell: Callable[[str], None] = lambda line: None,
) -> Exploit:
    """Search for a piece that a judge likes and should not.

    Args:
        judge: it alone.
        reference: real music.
        begin: see `starts`.
        budget: of both searches together.
        seed: of all chance.
        tell: is told how it goes.
    """
    limits = SizeLimits.of(reference.notes)
    real = judge(reference.notes).score.astype(np.float64)
    usual, unusual = np.quantile(reference.strangeness(reference.notes), (0.5, 0.95)).tolist()
    median, top = np.quantile(real, (0.5, 0.95)).tolist()
    ceiling = real.max() - SAME if (real >= real.max() - SAME).mean() >= CEILING else np.inf

    def score(notes: Notes) -> Floats:
        return judge(reference.written(notes)).score.astype(np.float64)

    def shabby(notes: Notes) -> Floats:
        """Below the median of real music: minus how far. From there on: how strange."""
        notes = reference.written(notes)
        short: Floats = judge(notes).score.astype(np.float64) - median
        out: Floats = short.copy()
        enough = np.flatnonzero(short >= -SAME)
        if len(enough):
            out[enough] = reference.strangeness(notes.pieces(enough))
        return out

    first, second = (
        replace(budget, generations=int(budget.generations * share), seconds=budget.seconds * share)
        for share in (HIGHEST_SHARE, 1 - HIGHEST_SHARE)
    )
    first = replace(first, patience=PATIENCE, enough=ceiling)
    high = evolve(score, begin, limits, first, seed, lambda line: tell(f"highest score, {line}"))
    low = evolve(shabby, [*high.drafts, *begin], limits, second, seed + 1, lambda line: tell(f"strangest, {line}"))
    reached = bool(low.fitness[0] >= 0)
    notes = reference.written(notes_from_arrays([low.drafts[0]]))  # it began with what the first search found
    kept = float(judge(notes).score[0])
    return Exploit(
        notes=notes,
        score=kept,
        strangeness=float(reference.strangeness(notes)[0]),
        highest=max(float(high.fitness[0]), kept),
        median=median,
        top=top,
        usual=usual,
        unusual=unusual,
        reached=reached,
        judged=high.judged + low.judged,
        timed_out=high.timed_out or low.timed_out,
    )


# ------------------------------------------------------------ in numbers


def _different(column: str, notes: Notes) -> Floats:
    pairs = np.unique(np.stack([notes.piece, getattr(notes, column)]), axis=1)
    return np.bincount(pairs[0], minlength=notes.n_pieces).astype(np.float64)


TRAITS: dict[str, tuple[str, metrics.Metric]] = {
    "notes": ("notes", lambda notes: notes.counts.astype(np.float64)),
    "bars": ("bars", lambda notes: np.diff(notes.bar_starts).astype(np.float64)),
    "pitches": ("different pitches", partial(_different, "pitch")),
    "durations": ("different durations", partial(_different, "duration")),
    "density": ("notes a quarter", metrics.density),
    "polyphony": ("notes sounding at once", metrics.polyphony),
    "pitch_range": ("semitones from the lowest to the highest note", metrics.pitch_range),
    "mean_interval": ("semitones from note to note", metrics.mean_interval),
    "rep4": ("share of pitch 4-grams repeated", metrics.METRICS["rep4"]),
    "interval_rep8": ("share of interval 8-grams repeated", metrics.METRICS["interval_rep8"]),
    "longest_loop": ("longest loop", metrics.longest_loop),
    "same_pitch": ("share of notes on the pitch before", metrics.same_pitch),
    "longest_run": ("longest run of one pitch", metrics.longest_run),
    "H4": ("bits of pitch class in four bars", metrics.METRICS["H4"]),
    "scale_consistency": ("share of notes in the best scale", metrics.scale_consistency),
    "swing": ("swing ratio", metrics.swing),
    "triplet_share": ("share of onsets in triplets", metrics.triplet_share),
    "empty_beats": ("share of beats without a note", metrics.empty_beats),
    "GS": ("likeness of the bars' rhythms", metrics.grooving_similarity),
    "compression": ("size of the pitches when compressed", metrics.compression),
}
"""What is told of a winner: name -> words and measure."""


@dataclass(frozen=True)
class Trait:
    """A winner's number beside real music's.

    Attributes:
        words: what it is.
        value: of the winner; NaN where undefined.
        low, middle, high: 5th, 50th and 95th percentile of real music.
    """

    words: str
    value: float
    low: float
    middle: float
    high: float

    @property
    def apart(self) -> float:
        """Widths of the middle nine tenths outside them; 0 inside, NaN where undefined."""
        outside = max(self.low - self.value, self.value - self.high, 0.0) if np.isfinite(self.value) else np.nan
        return outside / max(self.high - self.low, NARROWEST)

    def to_json(self) -> dict[str, Any]:
        names = ("value", "low", "middle", "high")
        numbers = {name: float(getattr(self, name)) for name in names}
        return {"words": self.words, **{k: round(v, 4) if np.isfinite(v) else None for k, v in numbers.items()}}


def traits(winner: Notes, real: Notes) -> dict[str, Trait]:
    """What one piece is like, beside real music."""
    out = {}
    for name, (words, measure) in TRAITS.items():
        values = measure(real)
        known = values[np.isfinite(values)]
        low, middle, high = np.quantile(known, (0.05, 0.5, 0.95)).tolist() if len(known) else (np.nan,) * 3
        out[name] = Trait(words, float(measure(winner)[0]), low, middle, high)
    return out
