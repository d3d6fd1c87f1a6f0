"""The format-invariant view, by hand and by what must not change it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from test_transforms_format_augmentations import assert_valid, written

from mgen.notes import Notes
from mgen.transforms.format_augmentations import FORMAT_AUGMENTATIONS, scale_time
from mgen.transforms.format_invariant import chords, format_invariant_view

RNG = np.random.default_rng(0)


def test_nearly_simultaneous_notes_are_a_chord_that_is_not_too_wide():
    # 0, 2 and 4 are chained; 6 is two after 4, but six after the first, so a new chord begins, which 8 joins.
    one = written([0, 2, 4, 6, 8, 20, 23, 40], [60, 61, 62, 63, 64, 65, 66, 67])
    chord, first = chords(Notes.concat([one, one]))
    assert chord.tolist() == [0, 0, 0, 1, 1, 2, 3, 4, 5, 5, 5, 6, 6, 7, 8, 9]
    assert first.tolist() == [0, 3, 5, 6, 7, 8, 11, 13, 14, 15]


def test_the_view_by_hand():
    # Gaps 10, 10, 11, 20 and 5: the median is 10, which becomes 12 steps; 11 is in its class, 20 is an octave more,
    # 5 an octave less. The last note has no next onset: it lasts the usual time.
    one = written([7, 17, 18, 27, 38, 58, 63], [60, 62, 65, 64, 66, 68, 70], 3)
    out = format_invariant_view(one)
    assert out.onset.tolist() == [0, 12, 12, 24, 36, 60, 66]
    assert out.duration.tolist() == [12, 12, 12, 12, 24, 6, 12]
    assert out.pitch.tolist() == one.pitch.tolist() and set(out.velocity.tolist()) == {64}
    assert out.bars.onset.tolist() == [0] and out.bars.beats.tolist() == [4]


def test_a_pitch_that_is_struck_again_begins_a_new_chord():
    one = written([0, 1, 2, 2, 3], [60, 64, 55, 60, 67])
    assert chords(one)[0].tolist() == [0, 0, 1, 1, 1]  # the second 60 takes along what begins with it
    assert len(format_invariant_view(one)) == 5


def test_less_of_the_rhythm_by_hand():
    # Gaps 10, 10, 11, 20, 5 and 10: the same, the same, longer, shorter, longer.
    one = written([7, 17, 27, 38, 58, 63, 73], [60, 62, 64, 66, 68, 70, 71])
    assert np.diff(format_invariant_view(one, "contour").onset).tolist() == [12, 12, 12, 16, 8, 16]
    out = format_invariant_view(one, "none")
    assert np.diff(out.onset).tolist() == [24] * 6 and out.duration.tolist() == [24] * 7
    assert out.bars.onset.tolist() == out.onset.tolist() and set(out.bars.beats.tolist()) == {1}


def test_two_to_one_swing_is_uneven_and_even_eighths_are_even():
    swung = format_invariant_view(written(np.add.outer(24 * np.arange(16), [0, 16]).reshape(-1), np.full(32, 60)))
    straight = format_invariant_view(written(12 * np.arange(32), np.full(32, 60)))
    assert len(set(np.diff(swung.onset).tolist())) == 2 and set(np.diff(straight.onset).tolist()) == {12}


@pytest.mark.parametrize("name", ["flat_velocities", "reshaped_velocities", "articulated", "other_bar_phase"])
def test_some_format_augmentations_do_not_change_the_view(name, demo_pieces):
    notes = Notes.from_scores(demo_pieces)
    notes = notes.select(notes.program >= 0)
    a, b = format_invariant_view(notes), format_invariant_view(FORMAT_AUGMENTATIONS[name](notes, RNG))
    for column in ("piece", "onset", "pitch", "duration", "velocity", "bar"):
        np.testing.assert_array_equal(getattr(a, column), getattr(b, column))


def test_slower_music_sounds_the_same_but_for_chords_that_were_close(demo_pieces):
    one = written([0, 12, 24, 32, 40, 48, 72, 72, 96], [60, 62, 64, 65, 67, 69, 71, 60, 72])
    a, b = (format_invariant_view(scale_time(one, np.array([factor]))) for factor in (1.0, 2.0))
    np.testing.assert_array_equal(a.onset, b.onset)
    np.testing.assert_array_equal(a.duration, b.duration)


@pytest.mark.parametrize("rhythm", ["classes", "contour", "none"])
def test_it_is_a_valid_table_and_each_piece_is_changed_alone(demo_pieces, rhythm):
    notes = Notes.from_scores(demo_pieces)
    out = format_invariant_view(notes, rhythm)
    assert_valid(out)
    struck = np.unique(np.stack([notes.piece, notes.onset, notes.pitch])[:, notes.program >= 0], axis=1)
    assert out.counts.tolist() == np.bincount(struck[0]).tolist()
    for piece in range(notes.n_pieces):
        alone = format_invariant_view(notes.pieces([piece]), rhythm)
        np.testing.assert_array_equal(alone.onset, out.pieces([piece]).onset)
        np.testing.assert_array_equal(alone.pitch, out.pieces([piece]).pitch)
    empty = notes.select(np.zeros(len(notes), bool))
    assert len(format_invariant_view(empty)) == 0 and format_invariant_view(empty).n_pieces == notes.n_pieces
    assert format_invariant_view(Notes.concat([])).n_pieces == 0
    single = format_invariant_view(replace(written([30], [60])))
    assert single.onset.tolist() == [0] and single.duration.tolist() == [12]
