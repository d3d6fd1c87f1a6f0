from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rewards_pieces import melodies, played, value_of

from mgen.encoding.remi import Remi
from mgen.music.structure import structureness
from mgen.notes import Notes
from mgen.testing import random_token_ids
from rewards.form import SCALES, Ending, Length, Structure
from rewards.rule import Band

ANY = Band(0, 1)
REMI = Remi.build(("jazz", "other"))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), sizes=st.lists(st.sampled_from([0, 1, 30, 100, 400]), min_size=1, max_size=6))
def test_structure_of_a_batch_is_that_of_evaluation(seed, sizes):
    rng = np.random.default_rng(seed)
    notes = Notes.from_ids([random_token_ids(REMI, rng, size) for size in sizes], REMI)
    for scale, half_bars in SCALES.items():
        expected = structureness(notes, half_bars)
        np.testing.assert_allclose(value_of(Structure(ANY, scale), notes), expected, rtol=1e-6)


def test_many_long_pieces_are_heard_in_parts():
    """More half bars than are compared at a time, and pieces without any music between."""
    rng = np.random.default_rng(0)
    ids = (
        [random_token_ids(REMI, rng, 1500) for _ in range(3)]
        + [[]]
        + [random_token_ids(REMI, rng, 90) for _ in range(40)]
    )
    notes = Notes.from_ids(ids, REMI)
    np.testing.assert_allclose(value_of(Structure(ANY, "mid"), notes), structureness(notes, 4), rtol=1e-6)


def test_a_loop_of_one_bar_is_all_structure():
    bar = [60, 64, 67, 64]
    # the very first onset has no note before it, so no interval
    assert value_of(Structure(ANY, "short"), melodies(bar * 8))[0] > 0.95
    assert np.isnan(value_of(Structure(ANY, "long"), melodies(bar * 7))).all()  # seven bars: no two of four


def test_length_is_the_number_of_notes():
    judged = Length(Band(3, 5))(melodies([60], [60, 62, 64], range(60, 69)))
    np.testing.assert_array_equal(judged.score, [-1, 0, -2])
    np.testing.assert_allclose(judged.credit[-9:], [-2 / 9] * 9, rtol=1e-6)


def test_an_ending_is_longer_than_what_was_before():
    # three quarters and a whole note: log2 of 96 over the geometric mean of 24, 24, 24, 96
    notes = played([(0, 24, 60), (24, 24, 62), (48, 24, 64), (72, 96, 60)])
    assert value_of(Ending(ANY), notes) == pytest.approx([1.5])
    judged = Ending(Band(2, 3))(notes)
    np.testing.assert_allclose(judged.credit, [0, 0, 0, -0.5], atol=1e-6)


def test_the_last_chord_is_as_long_as_its_longest_note():
    notes = played([(0, 12, 60), (24, 12, 55), (25, 48, 64)])
    assert value_of(Ending(ANY), notes) == pytest.approx([2 - 2 / 3])
    assert (Ending(Band(2, 3))(notes).credit < 0).tolist() == [False, True, True]
    assert np.isnan(value_of(Ending(ANY), melodies([60]))).all()
