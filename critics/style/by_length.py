"""Values that depend on the number of notes of a piece, such as the score of real music."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mgen.arrays import Floats
from mgen.stored import finite


@dataclass(frozen=True, slots=True, eq=False)
class ByLength:
    """A value measured at some lengths; between them it is interpolated in the logarithm of the number of notes.

    Below the shortest and above the longest length it stays that of the nearest one.
    """

    notes: Floats  # (L,) numbers of notes, increasing, at least 1
    values: Floats  # (L,)

    @classmethod
    def measure(cls, notes: ArrayLike, values: ArrayLike, statistic: Callable[[Floats], float]) -> ByLength:
        """The statistic of the `values` (B,) of pieces of `notes` (B,) notes; lengths in one half octave are alike."""
        notes, values = np.maximum(np.asarray(notes, np.float64), 1), np.asarray(values, np.float64)
        _, of = np.unique(np.rint(2 * np.log2(notes)), return_inverse=True)
        classes = [of == one for one in range(of.max() + 1)]
        lengths = np.array([np.median(notes[own]) for own in classes])
        return cls(lengths, np.array([float(statistic(values[own])) for own in classes]))

    def at(self, notes: ArrayLike) -> Floats:
        """(B,) value for pieces of `notes` (B,) notes."""
        out: Floats = np.interp(np.log(np.maximum(notes, 1)), np.log(self.notes), self.values)
        return out

    def to_json(self) -> list[list[float]]:
        """Pairs of number of notes and value."""
        return [[float(notes), float(value)] for notes, value in zip(self.notes, self.values, strict=True)]

    @classmethod
    def from_json(cls, pairs: Sequence[Sequence[float]]) -> ByLength:
        """Reads `to_json`.

        Raises:
            TypeError, ValueError: The pairs are not of finite numbers, or the lengths do not increase.
        """
        notes, values = (np.array([finite(number) for number in column]) for column in zip(*pairs, strict=True))
        if notes[0] < 1 or (np.diff(notes) <= 0).any():
            raise ValueError("expected lengths in increasing order")
        return cls(notes, values)
