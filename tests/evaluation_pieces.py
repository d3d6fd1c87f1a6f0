"""Pieces that the tests of evaluation share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
import symusic
from numpy.typing import NDArray

from mgen.corpus.demo import compose
from mgen.notes import Bars, Notes


def piece(*notes: tuple[int, int, int], program: int = 0, drums: bool = False, beats: int = 4, unit: int = 4) -> Notes:
    """One piece of (onset, duration, pitch) in grid steps."""
    score = symusic.Score(24)
    score.time_signatures.append(symusic.TimeSignature(0, beats, unit))
    track = symusic.Track("t", program, drums)
    for onset, duration, pitch in notes:
        track.notes.append(symusic.Note(onset, duration, pitch, 64))
    score.tracks.append(track)
    return Notes.from_scores([score])


def line(pitches: Iterable[int], step: int = 24) -> Notes:
    """One piece: its pitches, evenly `step` grid steps apart."""
    return piece(*((step * i, step, pitch) for i, pitch in enumerate(pitches)))


def nothing(pieces: int = 1) -> Notes:
    """Pieces without notes, a bar each."""
    return Notes.concat([piece() for _ in range(pieces)])


def random_piece(rng: np.random.Generator, notes: int = 60, program: int = 0) -> Notes:
    """Overlapping notes anywhere in about six bars."""
    rows = zip(
        rng.integers(0, 600, notes).tolist(),
        rng.integers(1, 80, notes).tolist(),
        rng.integers(40, 90, notes).tolist(),
        strict=True,
    )
    return piece(*rows, program=program)


def solo(seed: int, bars: int = 24) -> Notes:
    """A swung line in the manner of a solo: steps in a mode, figures that return, breaths."""
    rng = np.random.default_rng(seed)
    scale = np.array([0, 2, 3, 5, 7, 9, 10])
    figures = [rng.choice([1, 1, -1, -1, 2, -2, 3], 4) for _ in range(4)]
    rows: list[tuple[int, int, int]] = []
    degree = int(rng.integers(18, 26))
    for half in range(2 * bars):
        if rng.random() < 0.15:
            continue
        moves = figures[rng.choice(4, p=[0.5, 0.25, 0.15, 0.1])]
        if rng.random() < 0.3:
            moves = rng.choice([1, 1, -1, -1, 2, -2], 4)
        degree = 18 if rng.random() < 0.4 else degree
        for move, onset in zip(moves.tolist(), (0, 16, 24, 40), strict=True):
            degree = int(np.clip(degree + move, 12, 32))
            rows.append((48 * half + onset, 8, 30 + 12 * (degree // 7) + int(scale[degree % 7])))
    return piece(*rows)


@lru_cache(maxsize=8)
def solos(n: int = 40, seed: int = 0, bars: int = 24) -> Notes:
    return Notes.concat([solo(seed * 10_000 + i, bars) for i in range(n)])


@lru_cache(maxsize=8)
def demo(*collections: str, works: int = 6) -> Notes:
    """Works of the embedded corpus."""
    return Notes.concat([_read(compose(name, index)) for name in collections for index in range(works)])


def _read(score: symusic.core.ScoreTick) -> Notes:
    return Notes.from_scores([score])


def same(first: Notes, second: Notes) -> bool:
    """Whether two tables hold the same notes and bars."""
    columns = ("piece", "onset", "duration", "bar", "pitch", "velocity", "program")
    return all(np.array_equal(getattr(first, name), getattr(second, name)) for name in columns) and bars_equal(
        first.bars, second.bars
    )


def bars_equal(first: Bars, second: Bars) -> bool:
    return all(np.array_equal(getattr(first, name), getattr(second, name)) for name in Bars.__slots__)


def works(n: int, of: int = 1) -> NDArray[np.str_]:
    """(n,) names of works with `of` pieces each."""
    return (np.arange(n) // of).astype(str)


def each(notes: Notes) -> Sequence[Notes]:
    return [notes.pieces([i]) for i in range(notes.n_pieces)]
