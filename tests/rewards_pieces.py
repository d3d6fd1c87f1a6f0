"""Pieces that the tests of rewards share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import symusic
from numpy.typing import NDArray

from mgen.encoding.remi import Kind, Remi
from mgen.notes import Notes
from rewards.bands import Band

BANDS = {
    "n_notes": Band(6, 20),
    "repetition_pitch": Band(0.1, 0.3),
    "repetition_interval": Band(0.2, 0.4),
    "longest_run": Band(1, 3),
}


def melodies(*lines: Sequence[int]) -> Notes:
    """A piece per line: its pitches, a quarter each, as read from a file."""
    scores = []
    for line in lines:
        score = symusic.Score(24)
        track = symusic.Track("line", 0, False)
        for i, pitch in enumerate(line):
            track.notes.append(symusic.Note(24 * i, 24, pitch, 64))
        score.tracks.append(track)
        scores.append(score)
    return Notes.from_scores(scores)


def random_ids(remi: Remi, rng: np.random.Generator, tokens: int) -> NDArray[np.int64]:
    """About `tokens` ids: notes of few pitches, bars and positions, now and then any token at all."""

    def one(kind: Kind, choices: int = 1000) -> int:
        return int(rng.choice(np.flatnonzero(remi.kind == kind)[:choices]))

    out: list[int] = []
    while len(out) < tokens:
        match rng.choice(["note", "position", "bar", "any"], p=[0.6, 0.25, 0.1, 0.05]):
            case "note":
                out += [one(Kind.PITCH, 5), one(Kind.VELOCITY), one(Kind.DURATION)]
            case "position":
                out += [one(Kind.POSITION)]
            case "bar":
                out += [remi.bar_id, one(Kind.TIME_SIGNATURE)]
            case _:
                out += [int(rng.integers(remi.vocab_size))]
    return np.array(out[:tokens], dtype=np.int64)
