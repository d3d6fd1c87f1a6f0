from __future__ import annotations

import numpy as np
import pytest
from rewards_pieces import melodies, played, value_of

from mgen.errors import MgenError
from mgen.music.ngrams import longest_loop, loop_length
from rewards.batch import batch_features
from rewards.repetition import LongestRun, Loops, PhraseReuse, RepetitionBand, RhythmRepetition
from rewards.rule import Band

LOOP = [60, 62, 64] * 3


def test_a_loop_lies_above_the_band_and_its_returns_are_to_blame():
    # 9 notes, 7 3-grams, 3 of them different: 4/7 return, at notes 5 to 8. The square roots of 1, 9 and 16
    # twenty-eighths are as 1, 3 and 4: half a width above.
    judged = RepetitionBand(Band(1 / 28, 9 / 28), n=3)(melodies(LOOP))
    np.testing.assert_allclose(judged.score, [-0.5], atol=1e-6)
    np.testing.assert_allclose(judged.credit, [0, 0, 0, 0, 0, -0.125, -0.125, -0.125, -0.125], atol=1e-6)


def test_noodling_lies_below_the_band_and_what_was_never_heard_is_to_blame():
    # 6 notes, four 3-grams, one of which returns: 1/4; in square roots 0.5 below 0.6..0.7
    judged = RepetitionBand(Band(0.36, 0.49), n=3)(melodies([60, 60, 60, 60, 66, 70]))
    np.testing.assert_allclose(judged.score, [-1.0], atol=1e-6)
    np.testing.assert_allclose(judged.credit, [0, 0, -1 / 3, 0, -1 / 3, -1 / 3], atol=1e-6)


def test_inside_the_band_nothing_is_said():
    judged = RepetitionBand(Band(0.5, 0.6), n=3)(melodies(LOOP))
    np.testing.assert_array_equal(judged.score, [0])
    np.testing.assert_array_equal(judged.credit, np.zeros(9))


def test_a_loop_that_climbs_is_heard_by_the_interval_view_alone():
    climbing = melodies([60, 62, 65, 61, 63, 66, 62, 64, 67, 63, 65, 68])
    # steps 2 3 -4 2 3 -4 2 3 -4 2 3: ten pairs, three different: 7/10 return
    # no pitches do: 0, and 0.2..0.4 in square roots; 7/90, 28/90 and 63/90 have square roots as 1, 2 and 3
    assert RepetitionBand(Band(0.04, 0.16), n=2, view="pitch")(climbing).score == pytest.approx(-1.0)
    assert RepetitionBand(Band(7 / 90, 28 / 90), n=2, view="interval")(climbing).score == pytest.approx(-1.0)


def test_no_score_is_below_the_worst():
    judged = RepetitionBand(Band(0.0, 0.01), n=1)(melodies([60] * 8))  # 7/8 return: eight widths
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


def _timed(*gaps: int) -> list[tuple[int, int, int]]:
    return [(int(onset), 4, 60 + i % 12) for i, onset in enumerate(np.cumsum([0, *gaps]))]


def test_a_rhythm_is_heard_under_any_pitches():
    # gaps long short long short long: four pairs, the third and fourth occurred earlier; notes 4 and 5 complete them
    notes = played(_timed(16, 8, 16, 8, 16), _timed(24), _timed(6, 12, 24, 48))
    rule = RhythmRepetition(Band(0.04, 0.16), n=2)
    assert value_of(rule, notes) == pytest.approx([0.5, np.nan, 0], nan_ok=True)
    judged = rule(notes)
    each = (np.sqrt(0.5) - 0.4) / 0.2 / 2
    np.testing.assert_allclose(judged.credit[:6], [0, 0, 0, 0, -each, -each], rtol=1e-5)
    # below the band: those that complete a new pair
    np.testing.assert_allclose(judged.credit[-5:], [0, 0, -1 / 3, -1 / 3, -1 / 3], rtol=1e-5)


def test_loops_are_blamed_where_they_are():
    # a b c a b c a: seven of ten notes, and a run of two is a loop of its own
    notes = melodies([60, 62, 64, 60, 62, 64, 60, 70, 72, 72], [60], [60, 62, 64])
    rule = Loops(Band(0.1, 0.4))
    assert value_of(rule, notes) == pytest.approx([0.7, np.nan, 0], nan_ok=True)
    assert batch_features(notes).loop.tolist() == [7] * 7 + [0, 2, 2] + [0] * 4
    np.testing.assert_allclose(rule(notes).credit[:10], [-1 / 7] * 7 + [0] * 3, rtol=1e-5)


def test_loop_lengths_agree_with_the_longest_loop():
    rng = np.random.default_rng(0)
    notes = melodies(
        *(rng.integers(60, 62 + i % 3, size=size).tolist() for i, size in enumerate([1, 2, 9, 40, 60, 90]))
    )
    length = loop_length(notes.piece, notes.pitch, 20)
    longest = np.zeros(6, np.int64)
    np.maximum.at(longest, notes.piece, length)
    np.testing.assert_array_equal(longest, longest_loop(notes, 20))
    # a stretch is as long as the notes that say so
    assert (np.bincount(notes.piece[length == longest[notes.piece]], minlength=6) >= longest).all()


def test_a_loop_ends_with_its_piece():
    notes = melodies([60, 62, 60, 62], [60, 62, 60, 62, 60])
    assert loop_length(notes.piece, notes.pitch, 8).tolist() == [4] * 4 + [5] * 5


def test_figures_are_reused_where_they_begin_to_return():
    # steps 2 2 | 7 -9 | 2 2 1 | -12 | 2 2 1: the pairs (2 2) come back twice; the (2 1) that follows the last time
    # also occurred, but continues a return
    notes = melodies([60, 62, 64, 71, 62, 64, 66, 67, 55, 57, 59, 60])
    rule = PhraseReuse(Band(0.01, 0.04))
    assert value_of(rule, notes) == pytest.approx([2 / 10])
    judged = rule(notes)
    assert np.flatnonzero(judged.credit).tolist() == [6, 10]


def test_a_loop_and_a_line_of_ever_new_steps_reuse_nothing_after_something_else():
    loop, new = melodies([60, 62, 65, 61] * 5), melodies([60, 61, 63, 66, 70, 75, 81])
    # of the loop's 18 pairs only the fifth begins to come back: from then on it never ceases
    assert value_of(PhraseReuse(Band(0, 1)), loop) == pytest.approx([1 / 18])
    assert value_of(PhraseReuse(Band(0, 1)), new) == pytest.approx([0])
