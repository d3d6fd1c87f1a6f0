"""Half bars: the windows of time for harmony and structure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mgen.arrays import ranges
from mgen.notes import STEPS_PER_QUARTER, Ints, Notes

BEATS = 2
"""Quarter notes in a half bar. The last half bar of an odd bar has three; a bar of one quarter is one half bar."""

MOST_BEATS = 3  # quarter notes in the longest half bar


@dataclass(frozen=True, slots=True, eq=False)
class HalfBars:
    """The half bars of B pieces, W in all, by piece and time; a piece has at least one."""

    n_pieces: int
    piece: Ints  # (W,)
    onset: NDArray[np.int64]  # (W,) grid steps

    @classmethod
    def of(cls, notes: Notes) -> HalfBars:
        """The half bars of all bars, including those without notes."""
        each = np.maximum(notes.bars.beats // BEATS, 1)
        number, bar = ranges(np.zeros_like(each), each)
        onset = notes.bars.onset[bar] + number * BEATS * STEPS_PER_QUARTER
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
