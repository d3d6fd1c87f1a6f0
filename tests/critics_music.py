"""Two toy styles that the tests of critics share: swung blue notes, and straight triads."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mgen.corpus.shards import TokenTable
from mgen.encoding.remi import Remi
from mgen.notes import STEPS_PER_QUARTER, Bars, Notes

SWUNG, STRAIGHT = "swung", "straight"
STYLES: dict[str, tuple[int, tuple[int, ...]]] = {
    SWUNG: (16, (0, 3, 5, 6, 7, 10)),  # the second eighth of a beat comes late; degrees of the blues scale
    STRAIGHT: (12, (0, 4, 7, 12)),
}


def toy(style: str, pieces: int, rng: np.random.Generator, bars: int = 4) -> Notes:
    """Pieces of two eighths a beat in a key and at loudnesses drawn at random."""
    second, degrees = STYLES[style]
    count = bars * 8
    piece = np.repeat(np.arange(pieces), count).astype(np.int32)
    onset = np.tile(np.arange(bars * 4)[:, None] * STEPS_PER_QUARTER + [0, second], (pieces, 1)).reshape(-1)
    pitch = rng.integers(50, 70, pieces)[piece] + rng.choice(degrees, len(piece))
    return Notes(
        n_pieces=pieces,
        piece=piece,
        onset=onset.astype(np.int32),
        duration=np.full(len(piece), 8, np.int32),
        bar=(onset // (4 * STEPS_PER_QUARTER)).astype(np.int32),
        pitch=pitch.astype(np.int32),
        velocity=rng.integers(1, 128, len(piece)).astype(np.int32),
        program=np.zeros(len(piece), np.int32),
        token=np.full(len(piece), -1, np.int32),
        bars=Bars(
            np.repeat(np.arange(pieces), bars).astype(np.int32),
            np.tile(np.arange(bars) * 4 * STEPS_PER_QUARTER, pieces).astype(np.int32),
            np.full(pieces * bars, 4, np.int32),
        ),
        n_tokens=np.zeros(pieces, np.int32),
        n_broken=np.zeros(pieces, np.int32),
    )


def table(remi: Remi, rows: list[NDArray[np.int64]], works: list[str] | None = None) -> TokenTable:
    """Pieces of one collection as a corpus holds them."""
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    names = works or [f"work {i}" for i in range(len(rows))]
    return TokenTable(np.concatenate(rows).astype(np.uint16), offsets, pd.DataFrame({"work": names}))
