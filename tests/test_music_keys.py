"""The key of a piece."""

from __future__ import annotations

import numpy as np
import pytest
from symusic import core

from mgen.music.keys import KEYS, UNKNOWN_KEY, key_of, scale_of, tonic_of
from mgen.notes import Notes


def piece(pitches, program=0, drums=False):
    score = core.ScoreTick(24)
    track = core.TrackTick("x", program, drums)
    for i, pitch in enumerate(pitches):
        track.notes.append(core.NoteTick(24 * i, 24, pitch, 80))
    score.tracks.append(track)
    return Notes.from_scores([score])


@pytest.mark.parametrize("shift", range(12))
def test_cadences_in_every_key(shift):
    major = [60, 64, 67, 65, 69, 72, 67, 71, 74, 60, 64, 67]  # C F G C
    minor = [57, 60, 64, 62, 65, 69, 64, 68, 71, 57, 60, 64]  # Am Dm E Am
    assert key_of(piece([pitch + shift for pitch in major])).tolist() == [shift]
    assert key_of(piece([pitch + shift for pitch in minor])).tolist() == [12 + (9 + shift) % 12]


def test_music_without_a_key_and_pieces_apart():
    drums = piece([36, 38, 42], drums=True)
    flat = piece(range(60, 72))
    c_major = piece([60, 64, 67, 72])
    keys = key_of(Notes.concat([drums, c_major, flat]))
    assert keys.tolist() == [UNKNOWN_KEY, 0, UNKNOWN_KEY]


def test_scales_and_tonics():
    keys = np.array([0, 7, 12 + 9, UNKNOWN_KEY])
    assert [np.flatnonzero(row).tolist() for row in scale_of(keys)] == [
        [0, 2, 4, 5, 7, 9, 11],
        [0, 2, 4, 6, 7, 9, 11],
        [0, 2, 4, 5, 7, 9, 11],  # A minor has the notes of C major
        [],
    ]
    assert tonic_of(keys).tolist() == [0, 7, 9, 0]
    every = np.arange(KEYS)
    assert (scale_of(every)[every, tonic_of(every)]).all() and (scale_of(every).sum(axis=1) == 7).all()
