"""Features of a batch that several rules need, each computed once: onset clusters, lines, beats, windows, chords.

All are free of key and velocity, and each piece is computed as if it were alone: sums run over whole numbers or over
the notes of one piece in their order.
"""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mgen.arrays import Floats, Longs, Mask, divide, mean_of, windows
from mgen.music import ngrams
from mgen.music.chords import SEVENTHS, infer_chords
from mgen.music.half_bars import HalfBars
from mgen.music.onset_clusters import TOGETHER, OnsetClusters
from mgen.music.structure import structure_at_scales
from mgen.music.voices import leaders
from mgen.notes import STEPS_PER_QUARTER, Ints, Notes

LONGEST_FIGURE = 64  # notes in the longest figure whose immediate repetition counts as a loop
_GAP_EDGES = 9.5 * 2.0 ** np.arange(-2, 5)
GAPS = len(_GAP_EDGES) + 1
"""Classes of gaps between clusters."""

WINDOW = 32  # notes in a window of pitches: about two bars of eighths and chords

SCALES = {"short": 2, "mid": 4, "long": 8}
"""Name -> half bars in a segment: one, two and four bars of four quarters. Those of evaluation are twice as long, but a
completion seldom has two segments of that length."""

MOST_HALF_BARS = 512
"""Half bars of a piece whose structure is compared, from its beginning; the cost grows with the square."""

_IN_CHORD = np.array([[pitch in tones for pitch in range(12)] for tones in SEVENTHS])
"""(K, 12) whether a pitch class above the root is of each chord quality."""


@lru_cache(maxsize=1)
def batch_features(notes: Notes) -> BatchFeatures:
    """The features of a batch; the last batch is kept (and stays in memory), so that many rules share the work.

    `Notes` are compared by identity and taken as unchanging.
    """
    return BatchFeatures(notes)


class BatchFeatures(OnsetClusters):
    """Onset clusters of the P pitched notes among N, in the order of `notes`, and what rules derive from them.

    Each note of a cluster begins at most `TOGETHER` steps after the one before, however long the roll.
    """

    def __init__(self, notes: Notes) -> None:
        super().__init__(notes, TOGETHER, None, upwards=False)
        self.count = np.bincount(self.piece, minlength=self.n)  # (B,) pitched notes

    def to_notes(self, mask: Mask) -> Mask:
        """(N,) of the batch from (P,) of its pitched notes; drums are False."""
        out = np.zeros(len(self.notes), bool)
        out[self.row] = mask
        return out

    def clusters_to_notes(self, mask: Mask) -> Mask:
        """(N,) whether a note belongs to one of the clusters of `mask` (M,)."""
        return self.to_notes(mask[self.cluster])

    def mean(self, values: NDArray[Any], owner: NDArray[np.integer]) -> Floats:
        """(B,) mean of values by piece; NaN for a piece of none."""
        return mean_of(values, owner, self.n)

    def share(self, some: Mask, of: Mask) -> Floats:
        """(B,) notes of `some` (P,) over notes of `of` (P,); NaN for a piece with none of these."""
        count, total = (np.bincount(self.piece[mask], minlength=self.n) for mask in (some, of))
        return divide(count, total)

    @cached_property
    def n_clusters(self) -> Longs:
        """(B,) clusters in each piece."""
        return np.bincount(self.cluster_piece, minlength=self.n)

    @cached_property
    def gap_class(self) -> Longs:
        """(M,) class of the gap, 0..7, each twice as long as the one before; 0 where nothing `follows`.

        One class is of 9.5 to 19 of the 24 steps of a quarter: the edges lie between straight and triplet values, so
        that a swung pair is long and short whether it was played, typed as triplets or as dotted.
        """
        gap = np.where(self.follows, self.gap, 1)
        return np.searchsorted(_GAP_EDGES, gap).astype(np.int64)

    @cached_property
    def _near_bar(self) -> tuple[Longs, Ints]:
        """(M,) row in `notes.bars` of each cluster, and its step there plus TOGETHER: just before a bar is in it."""
        bars = self.notes.bars
        row = self.notes.bar_starts[self.cluster_piece] + self.cluster_bar
        step = self.cluster_onset + np.int32(TOGETHER) - bars.onset[row]
        over = step >= bars.length[row]  # just before the next bar, if there is one
        over &= np.append(bars.piece[1:], -1)[row] == self.cluster_piece
        return row + over, np.where(over, step - bars.length[row], step)

    @cached_property
    def beat(self) -> tuple[Ints, Ints]:
        """(M,) quarter note in which each cluster begins, and its step there, -2..21: just before a beat is on it."""
        row, near = self._near_bar
        number, step = np.divmod(near, np.int32(STEPS_PER_QUARTER))
        beats = -(-self.notes.bars.length // STEPS_PER_QUARTER)
        before = np.cumsum(beats) - beats  # quarters, whole or not, before each bar
        return number + before[row].astype(np.int32), step - np.int32(TOGETHER)

    @cached_property
    def ends(self) -> tuple[Longs, Longs]:
        """(B,) onset of the first and of the last cluster; 0 for a piece without notes."""
        stop = np.cumsum(self.n_clusters)
        some = self.n_clusters > 0
        first, last = np.zeros((2, self.n), np.int64)
        first[some] = self.cluster_onset[(stop - self.n_clusters)[some]]
        last[some] = self.cluster_onset[stop[some] - 1]
        return first, last

    @cached_property
    def rest(self) -> Longs:
        """(P,) grid steps of silence before each note; 0 before a piece's first."""
        far = int((self.onset.astype(np.int64) + self.duration).max(initial=0)) + 1
        shift = self.piece * np.int64(far)
        ended = np.maximum.accumulate(self.onset + self.duration + shift)
        silent = np.maximum(self.onset + shift - np.append(0, ended[:-1])[: len(shift)], 0)
        return np.where(ngrams.complete(self.piece, 2), silent, 0)

    @cached_property
    def bar_patterns(self) -> tuple[Longs, NDArray[np.uint64]]:
        """Rows in `notes.bars` of the bars with onsets, and the sixteenths of each that have one, as bits."""
        row, step = self._near_bar
        bit = np.uint64(1) << np.minimum(step // (STEPS_PER_QUARTER // 4), 63).astype(np.uint64)
        first = np.flatnonzero(np.diff(row, prepend=-1))
        return row[first], np.bitwise_or.reduceat(bit, first) if len(first) else bit

    @cached_property
    def window(self) -> tuple[Longs, Longs]:
        """(P,) window of `WINDOW` notes of each note, and (W,) its piece (`mgen.arrays.windows`)."""
        return windows(self.piece, self.n, WINDOW)

    @cached_property
    def window_classes(self) -> Longs:
        """(W, 12) notes of each pitch class in each window."""
        window, owner = self.window
        return np.bincount(window * 12 + self.pitch % 12, minlength=12 * len(owner)).reshape(-1, 12)

    @cached_property
    def leap(self) -> tuple[Mask, Longs, Mask]:
        """(P,) whether a note has a leader, semitones from it, and whether a bar line lies between the two."""
        leader = leaders(self.piece, self.onset, self.pitch)
        by = np.maximum(leader, 0)
        size = np.abs(self.pitch - self.pitch[by]).astype(np.int64)
        return leader >= 0, size, self.bar > self.bar[by]

    def repeats(self, n: int, view: ngrams.View) -> tuple[Mask, Mask]:
        """(P,) whether the n-gram that ends at a note occurred earlier, and whether there is one."""
        return ngrams.repeats(self.piece, self.pitch, n, view)

    def line_repeats(self, n: int) -> tuple[Mask, Mask]:
        """(M,) the same of n intervals of the top line."""
        return ngrams.repeats(self.cluster_piece, self.top.pitch, n, "interval")

    @cached_property
    def run(self) -> Longs:
        """(P,) how many consecutive notes, up to and with this one, have its pitch."""
        return ngrams.run_length(self.piece, self.pitch)

    @cached_property
    def loop(self) -> Longs:
        """(P,) notes in the longest loop that each note is part of; 0 outside loops."""
        return ngrams.loop_length(self.piece, self.pitch, LONGEST_FIGURE)

    @cached_property
    def half_bars(self) -> HalfBars:
        """The half bars of all bars of the batch."""
        return HalfBars.of(self.notes)

    @cached_property
    def half_bar(self) -> Longs:
        """(P,) row in `half_bars` of each note; a note just before a half bar belongs to it."""
        return self.half_bars.at(self.piece, self.onset + TOGETHER)

    @cached_property
    def strong(self) -> Mask:
        """(P,) whether a note begins where a half bar does."""
        near: Mask = np.abs(self.onset - self.half_bars.onset[self.half_bar]) <= TOGETHER
        return near

    @cached_property
    def chords(self) -> tuple[Longs, Longs]:
        """(H,) root, and (H,) row of `SEVENTHS`, of the chord of each half bar with its neighbours (`infer_chords`)."""
        root, quality, _ = infer_chords(
            self.half_bars, self.half_bar, self.onset, self.duration, self.pitch, SEVENTHS, context=True
        )
        return root, quality

    @cached_property
    def in_chord(self) -> Mask:
        """(P,) whether a note is of the chord of its half bar."""
        root, quality = self.chords
        inside: Mask = _IN_CHORD[quality[self.half_bar], (self.pitch - root[self.half_bar]) % 12]
        return inside

    @cached_property
    def structure(self) -> dict[int, Floats]:
        """(B,) structureness at each of `SCALES`."""
        return structure_at_scales(self.notes, tuple(SCALES.values()), MOST_HALF_BARS)
