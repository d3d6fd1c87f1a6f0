"""Half bars: the windows of time for harmony and structure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mgen.arrays import ranges
from mgen.notes import STEPS_PER_QUARTER, STEPS_PER_WHOLE, Ints, Notes

QUARTERS, EIGHTHS = 2, 3
"""Beats in a half bar of quarters and of eighths. The last half bar of a bar has those left over too (3/4 and 5/8 are
one half bar, 7/8 is 3 + 4); a shorter bar is one half bar.
"""

MOST_STEPS = 3 * STEPS_PER_QUARTER  # grid steps in the longest half bar


@dataclass(frozen=True, slots=True, eq=False)
class HalfBars:
    """The half bars of B pieces, W in all, by piece and time; a piece has at least one."""

    n_pieces: int
    piece: Ints  # (W,)
    onset: NDArray[np.int64]  # (W,) grid steps

    @classmethod
    def of(cls, notes: Notes) -> HalfBars:
        """The half bars of all bars, including those without notes."""
        bars = notes.bars
        beats = np.where(bars.unit == 4, QUARTERS, EIGHTHS)
        each = np.maximum(bars.beats // beats, 1)
        number, bar = ranges(np.zeros_like(each), each)
        onset = bars.onset[bar] + number * (beats * STEPS_PER_WHOLE // bars.unit)[bar]
        return cls(notes.n_pieces, notes.bars.piece[bar], onset.astype(np.int64))

    @property
    def starts(self) -> NDArray[np.int64]:
        """(B + 1,) index of each piece's first half bar; the last entry is W."""
        return np.searchsorted(self.piece, np.arange(self.n_pieces + 1))

    def at(self, piece: NDArray[np.integer], step: NDArray[np.integer]) -> NDArray[np.int64]:
        """Index of the half bar that contains each grid step; a piece's last half bar contains all later steps."""
        far = np.int64(max(self.onset.max(initial=0), step.max(initial=0)) + 1)
        line = self.piece * far + self.onset
        return np.searchsorted(line, piece * far + step, side="right") - 1
