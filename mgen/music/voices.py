"""Voice leading where several lines sound at once, guessed from time and pitch.

Notes are not assigned to voices: each note has a leader, the earlier note that it most likely continues.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.integer[Any]]

LOOK_BACK = 16  # notes before a note among which its leader is searched
REACH = 96  # grid steps, a bar of 4/4, within which a note may lead to another

SEMITONES_PER_STEP = 0.15
"""Distance of one grid step in semitones: a semitone is as far as seven steps, and a beat as far as 3.6 semitones."""


def leaders(piece: Ints, onset: Ints, pitch: Ints) -> NDArray[np.int64]:
    """Finds the leader of each note: the nearest earlier note, among the last `LOOK_BACK` notes and `REACH` steps.

    Distance is semitones + `SEMITONES_PER_STEP` * grid steps; a tie goes to the later note. Notes of one onset never
    lead to each other; a note may lead to several notes, or none.

    Args:
        piece, onset, pitch: (N,) sorted by piece and onset.

    Returns:
        (N,) row of the leader, -1 where there is none.
    """
    best, leader = np.full(len(piece), np.inf), np.full(len(piece), -1)
    for back in range(1, min(LOOK_BACK, len(piece) - 1) + 1):
        since = onset[back:] - onset[:-back]
        near = (piece[back:] == piece[:-back]) & (since > 0) & (since <= REACH)
        far = np.where(near, np.abs(pitch[back:] - pitch[:-back]) + SEMITONES_PER_STEP * since, np.inf)
        closer = far < best[back:]
        best[back:][closer] = far[closer]
        leader[back:][closer] = np.flatnonzero(closer)
    return leader


def followers(piece: Ints, onset: Ints, pitch: Ints) -> NDArray[np.int64]:
    """(N,) row of the nearest later note, -1 where there is none: `leaders` of the reversed piece."""
    last = len(piece) - 1
    back = leaders(-piece[::-1], -onset[::-1], pitch[::-1])[::-1]
    return np.where(back < 0, -1, last - back)
