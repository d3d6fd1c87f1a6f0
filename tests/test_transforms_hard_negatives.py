"""Music broken in its format's clothes: by hand, and by what has to stay."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from critics_music import STRAIGHT, SWUNG, toy
from test_transforms_format_augmentations import assert_valid, columns

from mgen.notes import Notes
from mgen.transforms.hard_negatives import (
    HARD_NEGATIVES,
    chords_of_others,
    in_major,
    permute_gaps,
    permute_pitches,
    rhythm_of_others,
)
from mgen.transforms.rebuild import is_changed


@pytest.mark.parametrize("name", HARD_NEGATIVES)
def test_no_pieces_become_no_pieces(name):
    assert HARD_NEGATIVES[name](Notes.concat([]), np.random.default_rng(0)).n_pieces == 0


@pytest.mark.parametrize("name", HARD_NEGATIVES)
def test_every_hard_negative_gives_a_valid_table(name, demo_pieces):
    change = HARD_NEGATIVES[name]
    notes = Notes.concat([Notes.from_scores(demo_pieces), toy(SWUNG, 2, np.random.default_rng(0))])
    broken = change(notes, np.random.default_rng(0))
    assert broken.n_pieces == notes.n_pieces
    assert_valid(broken)
    some = is_changed(notes, broken)
    assert some.any()
    again = change(notes, np.random.default_rng(0))
    np.testing.assert_array_equal(broken.pitch, again.pitch)
    empty = notes.select(np.zeros(len(notes), bool))
    assert len(change(empty, np.random.default_rng(0))) == 0
    one = change(notes.pieces([0]), np.random.default_rng(0))
    assert one.n_pieces == 1 and len(one) > 0


def test_in_major_by_hand():
    one = toy(SWUNG, 1, np.random.default_rng(0), 2)
    played = columns(one, *[(k * 12, 8) for k in range(9)])
    # G major holds 8 of the 9, C major and D major 7; F is as near to E as to F#, so it goes down.
    sharp = replace(played, pitch=np.array([67, 69, 71, 72, 74, 76, 78, 77, 66], np.int32))
    assert in_major(sharp, np.random.default_rng(0)).pitch.tolist() == [67, 69, 71, 72, 74, 76, 78, 76, 66]
    played = columns(one, *[(k * 12, 8) for k in range(8)])
    # E flat in C major goes down to D, B flat to A; the blues' flat fifth to F.
    blue = replace(played, pitch=np.array([60, 62, 64, 65, 71, 63, 70, 66], np.int32))
    assert in_major(blue, np.random.default_rng(0)).pitch.tolist() == [60, 62, 64, 65, 71, 62, 69, 65]


def test_permuted_pitches_are_the_piece_s_own():
    notes = toy(SWUNG, 5, np.random.default_rng(1), 3)
    broken = permute_pitches(notes, np.random.default_rng(2))
    np.testing.assert_array_equal(broken.onset, notes.onset)
    for piece in range(5):
        own = notes.piece == piece
        assert sorted(broken.pitch[own]) == sorted(notes.pitch[own])
        assert (broken.pitch[own] != notes.pitch[own]).any()


def test_chords_go_to_onsets_of_as_many_notes():
    one = toy(STRAIGHT, 1, np.random.default_rng(0), 1)
    first = replace(columns(one, (0, 6), (12, 6), (12, 6), (24, 6)), pitch=np.array([60, 61, 65, 62], np.int32))
    other = replace(columns(one, (0, 6), (0, 6), (36, 6)), pitch=np.array([70, 75, 80], np.int32))
    both = Notes.concat([first, other])
    seen = set()
    for seed in range(20):
        broken = chords_of_others(both, np.random.default_rng(seed))
        assert broken.onset.tolist() == both.onset.tolist()
        assert sorted(broken.pitch[[0, 3, 6]].tolist()) == [60, 62, 80]
        assert {tuple(broken.pitch[[1, 2]]), tuple(broken.pitch[[4, 5]])} == {(61, 65), (70, 75)}
        seen.add(tuple(broken.pitch.tolist()))
    assert len(seen) > 6  # of 12


def test_pitches_go_on_under_the_rhythm_of_another_piece():
    one = toy(STRAIGHT, 1, np.random.default_rng(0), 1)
    long = replace(columns(one, (0, 6), (10, 6), (20, 6), (30, 6)), pitch=np.array([60, 61, 62, 63], np.int32))
    short = replace(columns(one, (5, 9), (25, 9)), pitch=np.array([70, 71], np.int32))
    broken = rhythm_of_others(Notes.concat([long, short]), np.random.default_rng(0))
    assert broken.piece.tolist() == [0, 0, 1, 1, 1, 1]
    assert broken.onset.tolist() == [5, 25, 0, 10, 20, 30]
    assert broken.pitch.tolist() == [60, 61, 70, 71, 70, 71]


def test_permuted_gaps_keep_the_pitches_in_order():
    one = toy(STRAIGHT, 1, np.random.default_rng(0), 1)
    notes = replace(
        columns(one, (7, 3), (10, 3), (10, 3), (30, 3), (31, 3)), pitch=np.array([60, 61, 65, 62, 63], np.int32)
    )
    two = Notes.concat([notes, replace(notes, pitch=notes.pitch + 7)])
    seen = set()
    for seed in range(20):
        broken = permute_gaps(two, np.random.default_rng(seed))
        assert broken.pitch.tolist() == [60, 61, 65, 62, 63, 67, 68, 72, 69, 70]
        for piece in range(2):
            onset = broken.onset[broken.piece == piece]
            assert onset[0] == 7 and onset[1] == onset[2] and onset[-1] == 31
            assert sorted(np.diff(np.unique(onset))) == [1, 3, 20]
            seen.add(tuple(onset))
    assert len(seen) == 6
