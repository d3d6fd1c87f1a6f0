"""What the rules hear in a batch, worked out once for all of them: moments, lines, beats, windows.

Everything is free of key and velocity, and computed for each piece as if it were alone: sums run over whole numbers
or over the notes of one piece in their order.
"""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mgen.arrays import Floats, Longs, Mask, divide
from mgen.music import ngrams
from mgen.music.half_bars import HalfBars
from mgen.music.voices import leaders
from mgen.notes import STEPS_PER_QUARTER, Ints, Notes
from rewards.inferred import CHORDS, chords_of, structure_at_scales

TOGETHER = 2
"""Grid steps (42 ms at 120 quarters a minute) between notes that still begin together, as in a played chord."""

LONGEST_FIGURE = 64
"""Notes in the longest figure whose immediate repetition is heard as a loop."""

_GAP_EDGES = 9.5 * 2.0 ** np.arange(-2, 5)
GAPS = len(_GAP_EDGES) + 1
"""Classes of gaps between moments."""

WINDOW = 32
"""Notes in a window of pitches: about two bars of eighths and chords."""


@lru_cache(maxsize=1)
def heard(notes: Notes) -> Heard:
    """What is heard in a batch; the last batch is remembered (and kept alive), so that many rules share the work.

    `Notes` are told apart by identity and taken as unchanging.
    """
    return Heard(notes)


class Heard:
    """The pitched notes of B pieces, P of N, and their moments, M.

    A moment is one or several notes that begin together: each at most `TOGETHER` steps after the one before.
    """

    def __init__(self, notes: Notes) -> None:
        self.notes = notes
        self.n = notes.n_pieces
        self.row = np.flatnonzero(notes.program >= 0)  # (P,) of each pitched note in `notes`
        whole = len(self.row) == len(notes)
        self.piece, self.onset, self.pitch, self.duration, self.bar = (
            column if whole else column[self.row]
            for column in (notes.piece, notes.onset, notes.pitch, notes.duration, notes.bar)
        )
        self.count = np.bincount(self.piece, minlength=self.n)  # (B,) pitched notes
        fresh = np.ones(len(self.piece), bool)
        fresh[1:] = (np.diff(self.onset) > TOGETHER) | (np.diff(self.piece) != 0)
        self.head = np.flatnonzero(fresh)  # (M,) row of a moment's first note
        self.moment = np.cumsum(fresh) - 1  # (P,)
        self._repeats: dict[str, tuple[Mask, Mask]] = {}
        self._structure: dict[int, Floats] | None = None

    def spread(self, mask: Mask) -> Mask:
        """(N,) of the batch from (P,) of its pitched notes."""
        out = np.zeros(len(self.notes), bool)
        out[self.row] = mask
        return out

    def of_moments(self, mask: Mask) -> Mask:
        """(N,) whether a note belongs to one of the moments of `mask` (M,)."""
        return self.spread(mask[self.moment])

    def mean(self, values: NDArray[Any], owner: NDArray[np.integer]) -> Floats:
        """(B,) mean of values by piece; NaN for a piece of none."""
        total = np.bincount(owner, weights=values, minlength=self.n)
        return divide(total, np.bincount(owner, minlength=self.n))

    # ------------------------------------------------------------- moments

    @cached_property
    def moment_piece(self) -> Ints:
        return self.piece[self.head]

    @cached_property
    def moment_onset(self) -> Ints:
        return self.onset[self.head]

    @cached_property
    def moments(self) -> Longs:
        """(B,) moments in each piece."""
        return np.bincount(self.moment_piece, minlength=self.n)

    @cached_property
    def top(self) -> Ints:
        """(M,) highest pitch of each moment."""
        return np.maximum.reduceat(self.pitch, self.head) if len(self.head) else self.pitch

    @cached_property
    def follows(self) -> Mask:
        """(M,) whether the moment before is of the same piece."""
        return ngrams.complete(self.moment_piece, 2)

    @cached_property
    def gap(self) -> Ints:
        """(M,) grid steps since the moment before; read it where `follows`."""
        return np.diff(self.moment_onset, prepend=np.int32(0))

    @cached_property
    def gap_class(self) -> Longs:
        """(M,) class of the gap, 0..7, each twice as long as the one before; 0 where nothing `follows`.

        One is of 9.5 to 19 of the 24 steps of a quarter: the edges lie where neither straight nor triplet values do,
        so that a swung pair is long and short whether it was played, typed as triplets or as dotted.
        """
        gap = np.where(self.follows, self.gap, 1)
        return np.searchsorted(_GAP_EDGES, gap).astype(np.int64)

    # ------------------------------------------------------------- beats and bars

    @cached_property
    def beat(self) -> tuple[Ints, Ints]:
        """(M,) quarter note in which each moment begins, and its step there, -2..21: just before a beat is on it."""
        near = self.moment_onset + TOGETHER
        number, step = np.divmod(near, np.int32(STEPS_PER_QUARTER))
        return number, step - np.int32(TOGETHER)

    @cached_property
    def bar_row(self) -> Longs:
        """(P,) row of each note's bar in `notes.bars`."""
        return self.notes.bar_starts[self.piece] + self.bar

    @cached_property
    def quarters(self) -> Floats:
        """(B,) quarter notes from the first moment to the last, at least one; NaN for a piece without notes."""
        first, last = self.ends
        return np.where(self.count > 0, np.maximum(last - first, STEPS_PER_QUARTER) / STEPS_PER_QUARTER, np.nan)

    @cached_property
    def ends(self) -> tuple[Longs, Longs]:
        """(B,) onset of the first and of the last moment; 0 for a piece without notes."""
        stop = np.cumsum(self.moments)
        some = self.moments > 0
        first, last = np.zeros((2, self.n), np.int64)
        first[some] = self.moment_onset[(stop - self.moments)[some]]
        last[some] = self.moment_onset[stop[some] - 1]
        return first, last

    @cached_property
    def half_bars(self) -> HalfBars:
        return HalfBars.of(self.notes)

    # ------------------------------------------------------------- windows of notes

    @cached_property
    def window(self) -> tuple[Longs, Longs]:
        """(P,) window of each note, and (W,) its piece.

        A window has `WINDOW` notes; a piece's last one may have up to twice as many, and its only one fewer.
        """
        rank = np.arange(len(self.piece)) - (np.cumsum(self.count) - self.count)[self.piece]
        windows = np.where(self.count > 0, np.maximum(self.count // WINDOW, 1), 0)
        window = (np.cumsum(windows) - windows)[self.piece] + np.minimum(rank // WINDOW, windows[self.piece] - 1)
        return window, np.repeat(np.arange(self.n), windows)

    @cached_property
    def classes(self) -> Longs:
        """(W, 12) notes of each pitch class in each window."""
        window, owner = self.window
        return np.bincount(window * 12 + self.pitch % 12, minlength=12 * len(owner)).reshape(-1, 12)

    # ------------------------------------------------------------- voices

    @cached_property
    def leap(self) -> tuple[Mask, Longs, Mask]:
        """(P,) whether a note goes on from an earlier one, by how many semitones, and whether over a bar line."""
        leader = leaders(self.piece, self.onset, self.pitch)
        by = np.maximum(leader, 0)
        size = np.abs(self.pitch - self.pitch[by]).astype(np.int64)
        return leader >= 0, size, self.bar > self.bar[by]

    # ------------------------------------------------------------- what came before

    def share(self, some: Mask, of: Mask) -> Floats:
        """(B,) notes of `some` (P,) over notes of `of` (P,); NaN for a piece with none of these."""
        count, total = (np.bincount(self.piece[mask], minlength=self.n) for mask in (some, of))
        return divide(count, total)

    def repeats(self, n: int, view: ngrams.View) -> tuple[Mask, Mask]:
        """(P,) whether the n-gram that ends at a note came before, and whether there is one."""
        key = f"{n} {view}"
        if key not in self._repeats:
            self._repeats[key] = ngrams.repeats_of(self.piece, self.pitch, n, view)
        return self._repeats[key]

    def line_repeats(self, n: int) -> tuple[Mask, Mask]:
        """(M,) the same of n intervals of the top line."""
        key = f"{n} line"
        if key not in self._repeats:
            self._repeats[key] = ngrams.repeats_of(self.moment_piece, self.top, n, "interval")
        return self._repeats[key]

    @cached_property
    def run(self) -> Longs:
        """(P,) how many notes in a row, up to and with this one, had its pitch."""
        return ngrams.run_length(self.piece, self.pitch)

    @cached_property
    def loop(self) -> Longs:
        """(P,) notes in the longest loop that each note is part of; 0 outside loops."""
        return ngrams.loop_length(self.piece, self.pitch, LONGEST_FIGURE)

    @cached_property
    def rest(self) -> Longs:
        """(P,) grid steps of silence before each note; 0 before a piece's first."""
        far = int((self.onset.astype(np.int64) + self.duration).max(initial=0)) + 1
        shift = self.piece * np.int64(far)
        ended = np.maximum.accumulate(self.onset + self.duration + shift)
        silent = np.maximum(self.onset + shift - np.append(0, ended[:-1])[: len(shift)], 0)
        return np.where(ngrams.complete(self.piece, 2), silent, 0)

    # ------------------------------------------------------------- harmony

    @cached_property
    def half_bar(self) -> Longs:
        """(P,) row in `half_bars` of each note; one just before a half bar belongs to it."""
        return self.half_bars.at(self.piece, self.onset + TOGETHER)

    @cached_property
    def strong(self) -> Mask:
        """(P,) whether a note begins where a half bar does."""
        near: Mask = np.abs(self.onset - self.half_bars.onset[self.half_bar]) <= TOGETHER
        return near

    @cached_property
    def chords(self) -> tuple[Longs, Longs]:
        """(H,) root, and (H,) row of `CHORDS`, of the chord of each half bar, as `chords_of` infers it."""
        return chords_of(self.half_bars, self.half_bar, self.onset, self.duration, self.pitch)

    @cached_property
    def in_chord(self) -> Mask:
        """(P,) whether a note is of the chord of its half bar."""
        root, kind = self.chords
        above = (self.pitch - root[self.half_bar]) % 12
        inside: Mask = CHORDS[kind[self.half_bar], above] > 0
        return inside

    # ------------------------------------------------------------- form

    @cached_property
    def bar_patterns(self) -> tuple[Longs, NDArray[np.uint64]]:
        """Rows in `notes.bars` of the bars that strike anything, and the sixteenths that each strikes, as bits."""
        bars = self.notes.bars
        row = self.bar_row[self.head]
        step = self.moment_onset + TOGETHER - bars.onset[row]
        over = step >= bars.beats[row] * STEPS_PER_QUARTER  # just before the next bar, if there is one
        over &= np.append(bars.piece[1:], -1)[row] == self.moment_piece
        row, step = row + over, np.where(over, 0, step)
        bit = np.uint64(1) << np.minimum(step // (STEPS_PER_QUARTER // 4), 63).astype(np.uint64)
        first = np.flatnonzero(np.diff(row, prepend=-1))
        return row[first], np.bitwise_or.reduceat(bit, first) if len(first) else bit

    def structure(self, half_bars: int) -> Floats:
        """(B,) structureness at a scale of so many half bars, a power of two up to 8."""
        if self._structure is None:
            self._structure = structure_at_scales(self.notes)
        return self._structure[half_bars]
