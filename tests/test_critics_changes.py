"""Music changed in one respect, by hand and by what may not change."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from critics_music import SWUNG, toy

from critics.changes import GRIDS, humanised, retimed, sixteenths, straight_eighths, tritone_away
from mgen.notes import Notes

RNG = np.random.default_rng(0)


def columns(notes, *onsets_and_durations):
    onset, duration = (np.array(column, np.int32) for column in zip(*onsets_and_durations, strict=True))
    return replace(notes.select(np.arange(len(notes)) < len(onset)), onset=onset, duration=duration)


def test_straight_eighths_by_hand():
    one = toy(SWUNG, 1, np.random.default_rng(0), 2)
    swung = columns(one, (0, 16), (16, 8), (24, 8), (32, 8), (40, 8), (48, 6), (54, 30))
    changed = straight_eighths(swung, RNG)
    # Beat 0 swings: its late eighth comes at 12, and the first ends there. Beat 1 is a triplet and stays. Beat 2 has a
    # sixteenth and stays; what sounds from it into beat 3 ends at 84, which is no swung beat.
    assert changed.onset.tolist() == [0, 12, 24, 32, 40, 48, 54]
    assert changed.duration.tolist() == [12, 12, 8, 8, 8, 6, 30]


def test_straight_eighths_leave_no_swing_and_nothing_else_changes():
    notes = toy(SWUNG, 5, np.random.default_rng(1), 3)
    changed = straight_eighths(notes, RNG)
    assert set((notes.onset % 24).tolist()) == {0, 16} and set((changed.onset % 24).tolist()) == {0, 12}
    for name in ("piece", "bar", "pitch", "velocity"):
        np.testing.assert_array_equal(getattr(changed, name), getattr(notes, name))


def test_a_tritone_away_every_interval_is_the_same():
    notes = Notes.concat([toy(SWUNG, 1, np.random.default_rng(i), 2) for i in range(3)])
    high = replace(notes, pitch=np.where(notes.piece == 1, notes.pitch + 25, notes.pitch).astype(np.int32))
    high = replace(high, pitch=(high.pitch + np.where(high.piece == 1, 108 - high.pitch.max(), 0)).astype(np.int32))
    moved = tritone_away(high, RNG).pitch - high.pitch
    assert [set(moved[high.piece == i].tolist()) for i in range(3)] == [{6}, {-6}, {6}]


def test_sixteenths_by_hand():
    one = toy(SWUNG, 1, np.random.default_rng(0), 2)
    played = columns(one, (1, 16), (16, 8), (22, 2), (49, 40), (95, 9))
    changed = sixteenths(replace(played, pitch=np.array([60, 61, 62, 63, 64], np.int32)), RNG)
    # 22 is nearer to 24 than to 18; 95 would round to 96, the next bar, and stays in its own.
    assert changed.onset.tolist() == [0, 18, 24, 48, 95]
    assert changed.duration.tolist() == [18, 6, 6, 42, 12]  # 16/6 rounds to 3, 8/6 to 1, at least 1, 7, 9/6 to 2


def test_of_two_notes_that_come_to_fall_together_on_one_pitch_one_stays():
    one = toy(SWUNG, 1, np.random.default_rng(0), 1)
    close = replace(columns(one, (0, 6), (2, 6), (2, 6)), pitch=np.array([60, 60, 64], np.int32))
    changed = sixteenths(close, RNG)
    assert list(zip(changed.onset.tolist(), changed.pitch.tolist(), strict=True)) == [(0, 60), (0, 64)]


@pytest.mark.parametrize("change", [retimed, humanised, sixteenths])
def test_retiming_keeps_every_note_in_its_bar_and_piece(change):
    notes = toy(SWUNG, 40, np.random.default_rng(1), 3)
    changed = change(notes, np.random.default_rng(2))
    assert len(changed) > 0.9 * len(notes) and changed.n_pieces == notes.n_pieces
    assert (changed.position >= 0).all() and (changed.position < 96).all() and (changed.duration >= 1).all()
    assert set(zip(changed.piece.tolist(), changed.bar.tolist(), changed.pitch.tolist(), strict=True)) == set(
        zip(notes.piece.tolist(), notes.bar.tolist(), notes.pitch.tolist(), strict=True)
    )
    order = np.lexsort((changed.pitch, changed.onset, changed.piece))
    np.testing.assert_array_equal(order, np.arange(len(changed)))
    assert len(change(notes.select(np.zeros(len(notes), bool)), RNG)) == 0


def test_retiming_uses_every_grid_and_leaves_chords_together():
    notes = toy(SWUNG, 300, np.random.default_rng(1), 2)
    chords = Notes.concat([notes])
    chords = replace(chords, onset=(chords.onset // 48 * 48).astype(np.int32))
    chords = replace(chords, pitch=(50 + np.arange(len(chords)) % 16).astype(np.int32))
    changed = retimed(chords, np.random.default_rng(0))
    onsets = [np.unique(changed.onset[changed.piece == i]) for i in range(300)]
    assert all(len(found) <= 4 for found in onsets)  # 4 half notes of chords in two bars
    played = retimed(notes, np.random.default_rng(0))
    finest = {int(np.gcd.reduce(played.onset[played.piece == i])) for i in range(300)}
    assert finest >= {6, 8} and 1 in finest and set(GRIDS) == {1, 3, 4, 6, 8}
