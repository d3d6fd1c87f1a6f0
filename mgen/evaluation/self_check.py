"""The two-sample test tested on real music: what is broken is found, and what is real is not told from what is real.

Takes real pieces and their works; knows no corpus and no models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mgen.errors import MgenError
from mgen.notes import Bars, Notes
from mgen.stats.intervals import Interval
from mgen.stats.two_sample import MAX_NOTES, QUOTABLE, TwoSample, in_turns, two_sample
from mgen.transforms.corruptions import CORRUPTIONS

REQUIRED = {"bars_shuffled": 0.75, "segments_shuffled": 0.68, "markov_pitches": 0.99}
"""Corruption -> the AUC, of the larger classifier, that the test has to reach at `QUOTABLE` pieces a side."""

HALF = 0.5
INCLUDED = 0.9
"""Share of the intervals of real against real that have to include 0.5."""

_COLUMNS = ("duration", "pitch", "velocity", "program")


@dataclass(frozen=True)
class Excerpts:
    """E excerpts of whole bars.

    Attributes:
        notes: E pieces.
        work: (E,) their works.
    """

    notes: Notes
    work: NDArray[np.str_]

    def of(self, index: NDArray[np.integer]) -> Excerpts:
        return Excerpts(self.notes.pieces(index), self.work[index])


@dataclass(frozen=True)
class Check:
    """Real music against the same broken.

    Attributes:
        found: what the test said.
        required: the AUC asked for, at `QUOTABLE` pieces a side.
    """

    found: TwoSample
    required: float

    @property
    def met(self) -> bool | None:
        """Whether it was reached; None with too few pieces for the question."""
        return self.found.larger.value >= self.required if self.found.quotable else None


@dataclass(frozen=True)
class Splits:
    """Real music against real music.

    Attributes:
        intervals: one of each random split of the works.
        quotable: whether there were enough pieces a side.
    """

    intervals: tuple[Interval, ...]
    quotable: bool

    @property
    def share(self) -> float:
        """Of the intervals that include 0.5; NaN without any."""
        held = [interval.low <= HALF <= interval.high for interval in self.intervals]
        return float(np.mean(held)) if held else float("nan")

    @property
    def met(self) -> bool | None:
        """Whether as many as required do; None with too few pieces for the question, or no split."""
        return self.share >= INCLUDED if self.quotable and self.intervals else None


@dataclass(frozen=True)
class SelfCheck:
    """What was found.

    Attributes:
        n: pieces a side.
        works: of which the excerpts are.
        checks: corruption -> result.
        splits: classifier -> result.
    """

    n: int
    works: int
    checks: dict[str, Check]
    splits: dict[str, Splits]

    @property
    def met(self) -> bool | None:
        """Whether all is met; None if something could not be asked and nothing failed."""
        every = [check.met for check in self.checks.values()] + [part.met for part in self.splits.values()]
        return False if False in every else None if None in every else True

    def to_json(self) -> dict[str, Any]:
        """Numbers by name; a requirement that could not be asked is None."""
        checks, splits = {}, {}
        for name, check in self.checks.items():
            found = check.found
            checks[name] = {
                "c2st_auc": found.larger.to_json(),
                "feature": found.feature.to_json(),
                "sequence": found.sequence.to_json() if found.sequence else None,
                "required": check.required,
                "met": check.met,
            }
        for name, part in self.splits.items():
            splits[name] = {
                "splits": len(part.intervals),
                "include_half": part.share if part.intervals else None,
                "required": INCLUDED,
                "met": part.met,
                "intervals": [interval.to_json() for interval in part.intervals],
            }
        return {"n": self.n, "works": self.works, "checks": checks, "real_against_real": splits, "met": self.met}


def bar_excerpts(notes: Notes, work: ArrayLike, a_work: int, length: int = MAX_NOTES) -> Excerpts:
    """Excerpts of whole bars with at least `length` notes, an even number of bars each, which do not overlap.

    Whole bars can be shuffled with no half of one to tell it by; an even number, so that no segment of two bars is
    short. The first bar of an excerpt has notes.

    Args:
        notes: P pieces.
        work: (P,) their works.
        a_work: excerpts of a piece at most, evenly over it.
    """
    names, bars = np.asarray(work).astype(str), notes.bar_starts
    first = np.searchsorted(bars[notes.piece] + notes.bar, np.arange(len(notes.bars.piece) + 1))
    chosen: list[tuple[int, int, int]] = []
    for piece in range(notes.n_pieces):
        found = list(_stretches(first, int(bars[piece]), int(bars[piece + 1]), length))
        kept = np.unique(np.linspace(0, len(found) - 1, min(a_work, len(found))).round().astype(int))
        chosen += [(piece, *found[i]) for i in kept.tolist()]
    if not chosen:
        raise MgenError(
            f"excerpts of {length} notes in whole bars were asked for, the longest of {notes.n_pieces} pieces has "
            f"{int(notes.counts.max(initial=0))}; give more music"
        )
    piece, begin, end = np.array(chosen).T
    row, owner = _runs(first[begin], first[end])
    bar, bar_owner = _runs(begin, end)
    start = notes.bars.onset[begin]
    none, whole = np.zeros(len(chosen), np.int32), np.zeros(len(row), np.int32)
    cut = Notes(
        n_pieces=len(chosen),
        piece=owner,
        onset=(notes.onset[row] - start[owner]).astype(np.int32),
        bar=(notes.bar[row] - (begin - bars[piece])[owner]).astype(np.int32),
        token=whole - 1,
        broken=whole,
        bars=Bars(bar_owner, (notes.bars.onset[bar] - start[bar_owner]).astype(np.int32), notes.bars.beats[bar]),
        n_tokens=none,
        n_broken=none,
        **{name: getattr(notes, name)[row] for name in _COLUMNS},
    )
    return Excerpts(cut, names[piece])


def _stretches(first: NDArray[np.int64], begin: int, end: int, length: int) -> Iterator[tuple[int, int]]:
    """First bar and the bar after the last of each excerpt of a piece that has the bars begin..end."""
    while begin < end:
        if first[begin + 1] == first[begin]:
            begin += 1
            continue
        until = begin + 1 + int(np.searchsorted(first[begin + 1 : end + 1], first[begin] + length))
        until += (until - begin) % 2
        if until > end:
            return
        yield begin, until
        begin = until


def _runs(begin: NDArray[np.int64], end: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """begin[i]..end[i] for each i, one after the other, and the i of each."""
    size = end - begin
    owner = np.repeat(np.arange(len(size), dtype=np.int32), size)
    return np.arange(size.sum()) - (np.cumsum(size) - size)[owner] + begin[owner], owner


def halves(real: Excerpts, n: int, seed: int) -> tuple[Excerpts, Excerpts]:
    """n excerpts of one half of the works and n of the other, or as many as both have; no work is in both.

    Raises:
        MgenError: There are fewer than four works.
    """
    works = np.unique(real.work)
    if len(works) < 4:
        raise MgenError(f"expected excerpts of at least 4 works, 2 for each half, came {len(works)}; give more music")
    rng = np.random.default_rng(seed)
    first = np.isin(real.work, rng.permutation(works)[: len(works) // 2])
    n = min(n, int(first.sum()), int((~first).sum()))
    one, other = (side[in_turns(real.work[side], n, rng)] for side in (np.flatnonzero(first), np.flatnonzero(~first)))
    return real.of(one), real.of(other)


def self_check(
    real: Excerpts,
    *,
    n: int = QUOTABLE,
    splits: int = 100,
    sequence_splits: int = 20,
    seed: int = 0,
    tell: Callable[[str], None] = lambda line: None,
) -> SelfCheck:
    """Test the two-sample test.

    Segments of two bars begin with the excerpt, and the classifiers count bars from there: splices at any bar line are
    harder to hear (0.68 instead of 0.72 on 512 excerpts of 100 notes of Weimar solos with bass and jazz piano).

    The broken side is always of other works than the real side: no work, and so no theme, key or player, can be
    recognised on both, and what is found is the breaking alone. Each excerpt is broken by itself (the Markov chain is
    that of all broken ones).

    Args:
        real: excerpts of real music, several of a work.
        n: pieces a side.
        splits: random splits of the works for the feature model, real against real.
        sequence_splits: of these, how many the sequence model takes part in.
        seed: of splits and of what is broken how.
        tell: takes a line of progress.

    Raises:
        MgenError: There are fewer than four works.
    """
    checks: dict[str, Check] = {}
    for name, required in REQUIRED.items():
        one, other = halves(real, n, seed)
        broken = CORRUPTIONS[name](other.notes, np.random.default_rng(seed))
        checks[name] = Check(two_sample(one.notes, broken, one.work, other.work, seed=seed), required)
        tell(f"{name}: {checks[name].found.larger.value:.3f}")
    found: list[TwoSample] = []
    for number in range(max(splits, sequence_splits)):
        one, other = halves(real, n, seed + 1 + number)
        with_sequence = number < sequence_splits
        found.append(two_sample(one.notes, other.notes, one.work, other.work, seed=number, sequence=with_sequence))
        tell(f"real against real, split {number + 1} of {max(splits, sequence_splits)}")
    quotable = all(part.quotable for part in found)
    kinds = {
        "feature": Splits(tuple(part.feature for part in found[:splits]), quotable),
        "sequence": Splits(tuple(part.sequence for part in found if part.sequence is not None), quotable),
    }
    sizes = [part.n for part in (*found, *(check.found for check in checks.values()))]
    return SelfCheck(min(sizes), len(np.unique(real.work)), checks, kinds)
