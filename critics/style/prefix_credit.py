"""Credit per note from a judge of whole pieces: how much each bar changes the score."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mgen.arrays import Floats, run_starts
from mgen.notes import Notes
from mgen.stats.two_sample import first_notes

BATCH = 1024  # prefixes scored at a time, to limit memory


def prefix_credit(score: Callable[[Notes], Floats], notes: Notes, total: Floats) -> NDArray[np.float32]:
    """(N,) credit of each note: the difference that its bar makes to the score of the piece so far.

    With s_k the score of a piece up to the end of its k-th bar that has notes, and s_0 = 0, the notes of that bar share
    s_k - s_(k-1) equally. So a piece's credit sums to its score, and the credit of a bar does not depend on later bars.

    Bars are the finest useful unit: one note more or less hardly moves shares and means. Early bars are judged by few
    notes, and move the score most.

    Args:
        score: (B,) scores of beginnings of pieces, each judged alone; for one that is too short to judge, the score of
            an empty beginning and not the worst.
        notes: B pieces.
        total: (B,) scores of the complete pieces.
    """
    in_new_bar = run_starts(notes.piece, notes.bar)
    first = np.flatnonzero(in_new_bar)
    if not len(first):
        return np.zeros(len(notes), np.float32)
    piece = notes.piece[first]
    end = np.append(first[1:], len(notes))
    is_last = np.append(np.diff(piece) != 0, True)
    scores = np.where(is_last, total[piece], 0.0)
    inner = np.flatnonzero(~is_last)
    for part in np.array_split(inner, -(-len(inner) // BATCH)) if len(inner) else []:
        owner = piece[part]
        scores[part] = score(first_notes(notes.pieces(owner), end[part] - notes.starts[owner]))
    gain = scores - np.where(run_starts(piece), 0.0, np.append(0.0, scores[:-1]))
    credit: NDArray[np.float32] = (gain / (end - first))[np.cumsum(in_new_bar) - 1].astype(np.float32)
    return credit
