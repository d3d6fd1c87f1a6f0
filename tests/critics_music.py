"""Two toy styles that the tests of critics share: swung blue notes, and straight triads."""

from __future__ import annotations

import numpy as np
import pandas as pd
import symusic
from numpy.typing import NDArray

from critics.style.by_length import ByLength
from critics.style.excerpts import Excerpts
from mgen.corpus.shards import TokenTable
from mgen.encoding.remi import Remi
from mgen.notes import STEPS_PER_QUARTER, Notes

SWUNG, STRAIGHT = "swung", "straight"
MEDIANS = {"style": ByLength(np.ones(1), np.full(1, 3.0)), "intact": ByLength(np.ones(1), np.full(1, 4.0))}
"""Log odds of real music for critics that are not trained."""

STYLES: dict[str, tuple[int, tuple[int, ...]]] = {
    SWUNG: (16, (0, 3, 5, 6, 7, 10)),  # the second eighth of a beat comes late; degrees of the blues scale
    STRAIGHT: (12, (0, 4, 7, 12)),
}


def toy(style: str, pieces: int, rng: np.random.Generator, bars: int = 4) -> Notes:
    """Pieces of two eighths a beat in a key and at loudnesses drawn at random."""
    second, degrees = STYLES[style]
    count = bars * 8
    onset = (np.arange(bars * 4)[:, None] * STEPS_PER_QUARTER + [0, second]).reshape(-1).astype(np.int32)
    scores = []
    for _ in range(pieces):
        pitch = rng.integers(50, 70) + rng.choice(degrees, count)
        loud = rng.integers(1, 128, count)
        track = symusic.Track("toy", 0, False)
        track.notes = symusic.Note.from_numpy(
            onset, np.full(count, 8, np.int32), pitch.astype(np.int8), loud.astype(np.int8)
        )
        score = symusic.Score(STEPS_PER_QUARTER)
        score.tracks.append(track)
        scores.append(score)
    return Notes.from_scores(scores)


def gathered(*parts: tuple[str, Notes, bool, bool]) -> Excerpts:
    """Excerpts of (collection, pieces, of the style, on the grid), no two of the same work."""
    size = [notes.n_pieces for _, notes, _, _ in parts]
    names, positive, on_grid = (np.repeat([part[column] for part in parts], size) for column in (0, 2, 3))
    work = np.arange(sum(size)).astype(str)
    notes = Notes.concat([notes for _, notes, _, _ in parts])
    return Excerpts(notes, positive, names, work, on_grid, work, work, np.zeros(sum(size), np.int64))


def table(remi: Remi, rows: list[NDArray[np.int64]], works: list[str] | None = None) -> TokenTable:
    """Pieces of one collection as a corpus holds them."""
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    names = works or [f"work {i}" for i in range(len(rows))]
    return TokenTable(np.concatenate(rows).astype(np.uint16), offsets, pd.DataFrame({"group": names}))
