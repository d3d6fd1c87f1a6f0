"""Does a piece copy the training set? The longest run of intervals that it shares with any training piece.

Runs are of semitone steps of the top line: the highest note at every onset of a pitched instrument, repeated notes
once, since all music has those. A copy is found transposed, at another speed and over another accompaniment. The search
is exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mgen.arrays import Floats, max_of, run_starts
from mgen.music.metrics import onsets
from mgen.music.onset_clusters import OnsetClusters
from mgen.notes import Notes
from mgen.stats.intervals import Interval, bootstrap, work_names

LEVELS = 10  # runs are counted up to 2**LEVELS - 1 intervals; a longer copy counts as that
QUANTILE = 0.99  # share of real held-out pieces below the threshold
Integers = NDArray[np.int64]


def _text(notes: Notes) -> tuple[Integers, NDArray[np.int32]]:
    """(L,) semitone step to each note of the top lines, 1..255, 0 at a piece's first note; and (L,) its piece."""
    music = OnsetClusters(notes, gap=0)
    new = run_starts(music.cluster_piece, music.top.pitch)
    piece, pitch = music.cluster_piece[new], music.top.pitch[new]
    step = np.diff(pitch, prepend=np.int32(0)).astype(np.int64) + 128
    return np.where(run_starts(piece), 0, step), piece


@dataclass(frozen=True, eq=False)
class CopyIndex:
    """A suffix array of the training set's steps, and what real held-out pieces share with it."""

    suffixes: Integers  # (L,) positions of the text, sorted by the 2**LEVELS letters that follow
    # For each level k, (L + 2**LEVELS,) the rank of the 2**k letters from each position on; -1 beyond the text's end.
    ranks: list[NDArray[np.int32]]
    codes: list[Integers]  # for each level, the codes of these ranks, rising
    # Notes in a run above which a piece counts as copied: the 99th percentile of held-out pieces; NaN if no held-out
    # piece has two notes.
    threshold: float

    @classmethod
    def of(cls, train: Notes, held_out: Notes) -> CopyIndex:
        """Indexes a training set. `held_out` are real pieces outside it, as long as those to be judged."""
        text, _ = _text(train)
        pad = np.full(1 << LEVELS, -1, np.int32)
        codes, ranks = [], []
        code = text
        for level in range(LEVELS):
            unique, number = np.unique(code, return_inverse=True)
            codes.append(unique)
            ranks.append(np.concatenate([number.astype(np.int32), pad]))
            code = _pair_code(ranks[-1], len(text), len(unique), 1 << level)
        suffixes = np.argsort(code, kind="stable")
        index = cls(suffixes, ranks, codes, np.nan)
        runs = index.copied_run(held_out)
        known = runs[~np.isnan(runs)]
        return cls(suffixes, ranks, codes, float(np.quantile(known, QUANTILE)) if len(known) else np.nan)

    def copied_run(self, notes: Notes) -> Floats:
        """(B,) notes in the longest run that a piece shares with any training piece, 1 upwards, repeated notes once.

        1 for a piece that shares no step; at most 2**LEVELS. All music shares scales and trills: compare with
        `threshold`. NaN: fewer than two onsets.
        """
        text, piece = _text(notes)
        reach = self._matches(text)
        run = max_of(reach, piece, notes.n_pieces)
        long_enough = np.bincount(onsets(notes.pitched())[0], minlength=notes.n_pieces) > 1
        return np.where(long_enough, run + 1.0, np.nan)

    def copied(self, notes: Notes) -> Floats:
        """(B,) 1 for a piece whose longest shared run is above the threshold, else 0; NaN where it has none."""
        runs = self.copied_run(notes)
        return np.where(np.isnan(runs) | np.isnan(self.threshold), np.nan, runs > self.threshold)

    def copy_rate(self, notes: Notes, works: ArrayLike | None = None, seed: int = 0) -> Interval:
        """Share of pieces that copy; real held-out music has 0.01.

        Cannot see: a copy of the accompaniment under another line, of rhythm alone, or with some notes changed. Grows
        with the length of pieces.
        Source: ours, after the longest shared subsequence of plagiarism studies (Yin et al. 2021, arXiv:2109.00663).
        """
        return bootstrap(self.copied(notes), work_names(works, notes.n_pieces, "real"), seed=seed)

    def mean_run(self, notes: Notes, works: ArrayLike | None = None, seed: int = 0) -> Interval:
        """Mean of `copied_run`, notes."""
        return bootstrap(self.copied_run(notes), work_names(works, notes.n_pieces, "real"), seed=seed)

    def _matches(self, text: Integers) -> Integers:
        """(Q,) length of the longest match in the training text from each position of a text on, without a 0."""
        wanted = self._numbers(text)
        low = np.zeros(len(text), np.int64)
        high = np.full(len(text), len(self.suffixes))
        length = np.zeros(len(text), np.int64)
        for level in range(LEVELS - 1, -1, -1):
            ahead = np.arange(len(text)) + length
            number = np.where(ahead < len(text), wanted[level][np.minimum(ahead, len(text) - 1)], -1)
            trying = np.flatnonzero(number >= 0)
            if not len(trying):
                continue
            inside = low[trying], high[trying], length[trying], number[trying]
            begin = self._place(level, *inside, right=False)
            end = self._place(level, begin, *inside[1:], right=True)
            found = trying[end > begin]
            low[found], high[found] = begin[end > begin], end[end > begin]
            length[found] += 1 << level
        return length

    def _numbers(self, text: Integers) -> list[Integers]:
        """For each level the rank (Q,) of the letters from each position on; -1 where training lacks them."""
        out = []
        code = np.where(text > 0, text, -1)
        for level, known in enumerate(self.codes):
            at = np.minimum(np.searchsorted(known, code), max(len(known) - 1, 0))
            number = np.where(known[at] == code, at, -1) if len(known) else np.full(len(text), -1)
            out.append(number)
            padded = np.concatenate([number, np.full(1 << LEVELS, -1)])
            shifted = padded[1 << level :][: len(number)]
            code = np.where((number >= 0) & (shifted >= 0), number * (len(known) + 1) + shifted + 1, -1)
        return out

    def _place(
        self, level: int, low: Integers, high: Integers, length: Integers, number: Integers, *, right: bool
    ) -> Integers:
        """Searches the suffixes low..high for where rank `number` begins (or ends, if `right`), `length` letters on."""
        low, high = low.copy(), high.copy()
        ranks = self.ranks[level]
        while (low < high).any():
            open_ = low < high
            middle = (low + high) // 2
            seen = ranks[self.suffixes[np.minimum(middle, len(self.suffixes) - 1)] + length]
            below = (seen <= number) if right else (seen < number)
            low, high = np.where(open_ & below, middle + 1, low), np.where(open_ & ~below, middle, high)
        return low


def _pair_code(ranks: NDArray[np.int32], n: int, size: int, step: int) -> Integers:
    """(n,) codes of twice as many letters; those whose second half is beyond the text sort first."""
    out: Integers = ranks[:n].astype(np.int64) * (size + 1) + ranks[step : step + n] + 1
    return out
