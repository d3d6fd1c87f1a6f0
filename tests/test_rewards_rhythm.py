from __future__ import annotations

import numpy as np
import pytest
from evaluation_pieces import piece
from rewards_pieces import melodies, played, value_of

from rewards.batch import batch_features
from rewards.rhythm import Groove, OnsetVariety, Rests, Swing, Syncopation
from rewards.rule import Band

ANY = Band(0, 1)


def _struck(*onsets: int, held: int = 4) -> list[tuple[int, int, int]]:
    return [(onset, held, 60 + i % 12) for i, onset in enumerate(onsets)]


def test_notes_that_begin_nearly_together_are_one_moment():
    music = batch_features(played([(0, 9, 60), (2, 9, 64), (4, 9, 67), (7, 9, 72)], [(7, 9, 60)]))
    assert music.cluster.tolist() == [0, 0, 0, 1, 2]
    assert music.top.pitch.tolist() == [67, 72, 60]
    assert music.follows.tolist() == [False, True, False]


def test_gaps_of_swung_and_dotted_pairs_are_alike():
    pairs = [value for long, short in ((16, 8), (18, 6), (15, 9)) for value in (long, short)]
    onsets = np.cumsum([0, *pairs, 12, 12, 24, 48])
    assert batch_features(played(_struck(*onsets))).gap_class.tolist() == [0, 3, 2, 3, 2, 3, 2, 3, 3, 4, 5]


def test_swing_is_the_mean_ratio_of_pairs():
    swung = _struck(0, 16, 24, 36, 48, 56, 64, 72)  # 2:1, 1:1, three in a beat, and one alone
    assert value_of(Swing(ANY), played(swung, _struck(0, 24, 48))) == pytest.approx([1.5, np.nan], nan_ok=True)
    notes = played(swung)
    judged = Swing(Band(0.5, 1.0))(notes)  # a width too late, on the second of the swung pair
    np.testing.assert_allclose(judged.credit, [0, -1, 0, 0, 0, 0, 0, 0])
    straight = Swing(Band(2.0, 2.5))(notes)
    np.testing.assert_allclose(straight.credit, [0, 0, 0, -1, 0, 0, 0, 0])


def test_beats_begin_at_the_bar_line():
    # 7/8: pairs in three quarters of each bar, the first of the second bar a step early; every pair is 2 : 1
    onsets = [84 * bar + 24 * beat + step for bar in range(3) for beat in range(3) for step in (0, 16)]
    onsets[6] -= 1
    notes = piece(*_struck(*onsets), beats=7, unit=8)
    assert value_of(Swing(ANY), notes) == pytest.approx([2])
    assert value_of(Syncopation(ANY), notes) == pytest.approx([2 / 17])  # before the fourth, empty beat


def test_a_pair_played_a_little_early_is_still_a_pair():
    # the beat struck a step early, the second at 15 of 24: 15 / 9
    assert value_of(Swing(ANY), played(_struck(0, 16, 23, 39))) == pytest.approx([(2 + 15 / 9) / 2])


def test_syncopated_is_off_the_beat_over_an_empty_beat():
    # 12: over beat 1 to 36: syncopated. 36: over beat 2 (struck a step late, at 49): not. The last is not counted.
    notes = played(_struck(0, 12, 36, 49, 60))
    assert value_of(Syncopation(ANY), notes) == pytest.approx([1 / 4])
    above = Syncopation(Band(1 / 25, 4 / 25))(notes)  # in square roots: (1/2 - 2/5) / (2/5 - 1/5)
    np.testing.assert_allclose(above.credit, [0, -0.5, 0, 0, 0], atol=1e-6)
    below = Syncopation(Band(0.36, 0.49))(notes)
    np.testing.assert_allclose(below.credit, [-1 / 3, 0, -1 / 3, -1 / 3, 0], atol=1e-6)


def test_groove_compares_each_bar_with_the_next():
    # bars of 96: {0, 24, 48, 72}, {0, 24, 48, 60}, empty, {0}: 2 * 3 / 8, and no other pair
    notes = played(_struck(0, 24, 48, 72, 96, 120, 144, 156, 288))
    assert value_of(Groove(ANY), notes) == pytest.approx([0.75])
    assert np.isnan(value_of(Groove(ANY), melodies([60, 62]))).all()
    # just before the bar line is on it
    assert value_of(Groove(ANY), played(_struck(0, 24, 95, 120))) == pytest.approx([1])


def test_rests_are_silences_of_an_eighth_or_more():
    # 12 held 8: 4 of silence, no rest. 24 held 8, then 16 until 48. Of 96 steps to the last onset, 16 + 40.
    notes = played([(0, 12, 60), (12, 8, 62), (24, 8, 64), (48, 8, 65), (96, 8, 67)])
    assert value_of(Rests(ANY), notes) == pytest.approx([56 / 96])
    judged = Rests(Band(0.01, 0.09))(notes)
    assert judged.score[0] == pytest.approx(-(np.sqrt(56 / 96) - 0.3) / 0.2)
    assert (judged.credit < 0).tolist() == [False, False, False, True, True]
    # a note held underneath leaves no silence
    assert value_of(Rests(ANY), played([(0, 96, 40), (0, 12, 60), (96, 12, 62)])) == pytest.approx([0])


def test_onset_variety_in_bits():
    even, two = _struck(*range(0, 96, 12)), _struck(0, 12, 36, 48, 72)
    assert value_of(OnsetVariety(ANY), played(even, two, [(0, 12, 60)])) == pytest.approx([0, 1, np.nan], nan_ok=True)
