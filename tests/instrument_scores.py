"""Scores of which only the instruments matter."""

from __future__ import annotations

from symusic import Note, Score, Track


def score_of(*tracks):
    """A score of (program, is_drum, name, number of notes)."""
    score = Score(480)
    for program, is_drum, name, n_notes in tracks:
        track = Track(name, program, is_drum)
        for n in range(n_notes):
            track.notes.append(Note(n * 480, 480, 60, 80))
        score.tracks.append(track)
    return score
