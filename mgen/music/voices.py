"""Which note leads to which, where several lines sound at once: a guess from time and pitch alone.

No voices are told apart for good: each note has the one before it that it most likely goes on from.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.integer[Any]]

LOOK_BACK = 16
"""Notes before a note among which its leader is looked for."""

REACH = 96
"""Grid steps, a bar of common time, after which a note leads nowhere."""

SEMITONES_A_STEP = 0.15
"""What a grid step of distance counts: a semitone and seven steps, or two notes and a third of a beat, are as far."""


def leaders(piece: Ints, onset: Ints, pitch: Ints) -> NDArray[np.int64]:
    """(N,) row of the earlier note that lies nearest to each note, -1 where there is none.

    Nearest in semitones and, less, in time, among the last `LOOK_BACK` notes and `REACH` steps; of two as near the
    later. Notes of one moment never lead to each other; a note may lead to several, or none.

    Args:
        piece, onset, pitch: (N,) sorted by piece and onset.
    """
    best, leader = np.full(len(piece), np.inf), np.full(len(piece), -1)
    for back in range(1, min(LOOK_BACK, len(piece) - 1) + 1):
        since = onset[back:] - onset[:-back]
        near = (piece[back:] == piece[:-back]) & (since > 0) & (since <= REACH)
        far = np.where(near, np.abs(pitch[back:] - pitch[:-back]) + SEMITONES_A_STEP * since, np.inf)
        closer = far < best[back:]
        best[back:][closer] = far[closer]
        leader[back:][closer] = np.flatnonzero(closer)
    return leader


def followers(piece: Ints, onset: Ints, pitch: Ints) -> NDArray[np.int64]:
    """(N,) the same backwards: row of the later note that lies nearest, -1 where there is none."""
    last = len(piece) - 1
    back = leaders(-piece[::-1], -onset[::-1], pitch[::-1])[::-1]
    return np.where(back < 0, -1, last - back)
