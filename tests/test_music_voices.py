from __future__ import annotations

import numpy as np
from evaluation_pieces import random_piece

from mgen.music.voices import LOOK_BACK, REACH, SEMITONES_PER_STEP, followers, leaders
from mgen.notes import Notes


def rows(*notes: tuple[int, int, int]) -> tuple[np.ndarray, ...]:
    """Piece, onset, pitch."""
    return tuple(np.array(column, np.int32) for column in zip(*notes, strict=True))


def test_two_lines_go_on_each_by_itself():
    # bass 40 41 43 under 72 74 71, together; each goes on from its own line
    table = rows((0, 0, 40), (0, 0, 72), (0, 24, 41), (0, 24, 74), (0, 48, 43), (0, 48, 71))
    assert leaders(*table).tolist() == [-1, -1, 0, 1, 2, 3]
    assert followers(*table).tolist() == [2, 3, 4, 5, -1, -1]


def test_time_counts_less_than_pitch_and_pieces_end():
    # 60 is two octaves from the last note and a beat away; the same pitch two beats ago is nearer
    assert leaders(*rows((0, 0, 60), (0, 24, 84), (0, 48, 60))).tolist() == [-1, 0, 0]
    # 4 steps are 0.6 semitones: of 61 and 59, a semitone away both, the later
    assert leaders(*rows((0, 0, 61), (0, 4, 59), (0, 8, 60)))[2] == 1
    assert leaders(*rows((0, 0, 60), (1, 24, 60))).tolist() == [-1, -1]
    assert leaders(*rows((0, 0, 60), (0, REACH + 1, 60))).tolist() == [-1, -1]
    none = np.zeros(0, np.int32)
    assert leaders(none, none, none).tolist() == followers(none, none, none).tolist() == []


def test_the_nearest_by_trying_all():
    rng = np.random.default_rng(0)
    notes = Notes.concat([random_piece(rng, 40) for _ in range(3)])
    found = leaders(notes.piece, notes.onset, notes.pitch)
    for i in range(len(notes)):
        allowed = [
            j
            for j in range(max(0, i - LOOK_BACK), i)
            if notes.piece[j] == notes.piece[i] and 0 < notes.onset[i] - notes.onset[j] <= REACH
        ]
        far = {
            j: abs(int(notes.pitch[i]) - int(notes.pitch[j])) + SEMITONES_PER_STEP * (notes.onset[i] - notes.onset[j])
            for j in allowed
        }
        assert (found[i] == -1) == (not far)
        assert not far or far[found[i]] == min(far.values())
