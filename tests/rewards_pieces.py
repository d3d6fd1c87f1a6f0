"""Pieces that the tests of rewards share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import symusic
from numpy.typing import NDArray

from mgen.notes import Notes
from rewards.batch import batch_features
from rewards.rule import Band, BandRule

BANDS = {
    "n_notes": Band(6, 20),
    "repetition_pitch": Band(0.1, 0.3),
    "repetition_interval": Band(0.2, 0.4),
    "repetition_rhythm": Band(0.1, 0.5),
    "loops": Band(0.05, 0.2),
    "longest_run": Band(1, 3),
    "phrase_reuse": Band(0.02, 0.1),
    "chord_tones": Band(0.4, 0.8),
    "scale_fit": Band(0.7, 0.9),
    "pitch_entropy": Band(2.0, 3.0),
    "voice_leading": Band(1.0, 4.0),
    "bar_lines": Band(2.0, 4.0),
    "swing": Band(1.0, 2.0),
    "syncopation": Band(0.1, 0.3),
    "groove": Band(0.3, 0.7),
    "rests": Band(0.05, 0.3),
    "onset_variety": Band(0.5, 2.0),
    "structure_short": Band(0.3, 0.6),
    "structure_mid": Band(0.2, 0.5),
    "structure_long": Band(0.1, 0.4),
    "length": Band(6, 20),
    "ending": Band(0.5, 2.0),
}


def melodies(*lines: Sequence[int]) -> Notes:
    """A piece per line: its pitches, a quarter each, as read from a file."""
    return played(*([(24 * i, 24, pitch) for i, pitch in enumerate(line)] for line in lines))


def song() -> Notes:
    """Eight bars of swung pairs of eighths: every rule can speak of it."""
    phrase = [60, 62, 64, 65, 67, 65, 64, 62, 60, 64, 67, 72, 71, 69, 66, 67]
    notes = [(24 * (i // 2), 16, pitch) for i, pitch in enumerate(phrase * 4)]
    return played(
        [(onset + 16, 8, pitch) if i % 2 else (onset, 16, pitch) for i, (onset, _, pitch) in enumerate(notes)]
    )


def played(*pieces: Sequence[tuple[int, int, int]]) -> Notes:
    """A piece per list of notes: onset and duration in steps of 24 a quarter, and pitch."""
    scores = []
    for notes in pieces:
        score = symusic.Score(24)
        track = symusic.Track("piano", 0, False)
        for onset, duration, pitch in notes:
            track.notes.append(symusic.Note(onset, duration, pitch, 64))
        score.tracks.append(track)
        scores.append(score)
    return Notes.from_scores(scores)


def value_of(rule: BandRule, notes: Notes) -> NDArray[np.float64]:
    """What a rule measures, whatever its band."""
    return rule.measure(batch_features(notes)).value
