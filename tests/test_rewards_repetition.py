from __future__ import annotations

import numpy as np
import pytest
from rewards_pieces import melodies

from mgen.errors import MgenError
from rewards.bands import Band
from rewards.repetition import LongestRun, RepetitionBand

LOOP = [60, 62, 64] * 3


def test_a_loop_lies_above_the_band_and_its_returns_are_to_blame():
    # 9 notes, 7 3-grams, 3 of them different: 4/7 return, at notes 5 to 8. Band 1/7..3/7: half a width above.
    judged = RepetitionBand(Band(1 / 7, 3 / 7), n=3)(melodies(LOOP))
    np.testing.assert_allclose(judged.score, [-0.5], atol=1e-6)
    np.testing.assert_allclose(judged.credit, [0, 0, 0, 0, 0, -0.125, -0.125, -0.125, -0.125], atol=1e-6)


def test_noodling_lies_below_the_band_and_what_was_never_heard_is_to_blame():
    # 6 notes, four 3-grams, one of which returns: 1/4, half a width below
    judged = RepetitionBand(Band(0.3, 0.4), n=3)(melodies([60, 60, 60, 60, 66, 70]))
    np.testing.assert_allclose(judged.score, [-0.5], atol=1e-6)
    np.testing.assert_allclose(judged.credit, [0, 0, -1 / 6, 0, -1 / 6, -1 / 6], atol=1e-6)


def test_inside_the_band_nothing_is_said():
    judged = RepetitionBand(Band(0.5, 0.6), n=3)(melodies(LOOP))
    np.testing.assert_array_equal(judged.score, [0])
    np.testing.assert_array_equal(judged.credit, np.zeros(9))


def test_a_loop_that_climbs_is_heard_by_the_interval_view_alone():
    climbing = melodies([60, 62, 65, 61, 63, 66, 62, 64, 67, 63, 65, 68])
    # steps 2 3 -4 2 3 -4 2 3 -4 2 3: ten pairs, three different: 7/10 return
    assert RepetitionBand(Band(0.1, 0.3), n=2, view="pitch")(climbing).score == pytest.approx(-0.5)
    assert RepetitionBand(Band(0.1, 0.3), n=2, view="interval")(climbing).score == pytest.approx(-2.0)


def test_no_score_is_below_the_worst():
    judged = RepetitionBand(Band(0.0, 0.1), n=1)(melodies([60] * 8))  # 7/8 return: 7.75 widths
    np.testing.assert_array_equal(judged.score, [-3])
    np.testing.assert_allclose(judged.credit, [0] + [-3 / 7] * 7, rtol=1e-6)


@pytest.mark.parametrize(("view", "fewest"), [("pitch", 4), ("interval", 5)])
def test_a_piece_without_one_ngram_is_undefined_and_worst(view, fewest):
    judged = RepetitionBand(Band(0.0, 0.1), n=4, view=view)(
        melodies(range(60, 60 + fewest - 1), range(60, 60 + fewest))
    )
    np.testing.assert_array_equal(judged.defined, [False, True])
    assert judged.score[0] == -3
    assert judged.credit[: fewest - 1].sum() == pytest.approx(-3)


def test_a_long_run_is_blamed_where_it_passes_the_band():
    # runs of 1, 5 and 2: the fourth and fifth 62 are beyond 3; band width 2, so (5 - 3) / 2 = 1 width
    judged = LongestRun(Band(1, 3))(melodies([60, 62, 62, 62, 62, 62, 65, 65]))
    np.testing.assert_array_equal(judged.score, [-1])
    np.testing.assert_array_equal(judged.credit, [0, 0, 0, 0, -0.5, -0.5, 0, 0])


def test_a_run_needs_two_notes():
    judged = LongestRun(Band(1, 3))(melodies([60], [60, 61], []))
    np.testing.assert_array_equal(judged.defined, [False, True, False])
    np.testing.assert_array_equal(judged.score, [-3, 0, -3])


@pytest.mark.parametrize("wrong", [{"n": 0}, {"view": "rhythm"}])
def test_an_impossible_ngram_is_refused(wrong):
    with pytest.raises(MgenError, match="expected n >= 1 and view pitch or interval"):
        RepetitionBand(Band(0, 1), **wrong)
