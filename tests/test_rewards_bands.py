from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from rewards_pieces import BANDS, melodies

from mgen.errors import MgenError
from rewards import REWARDS, rules
from rewards.bands import MEASURES, fit_bands, load_bands, save_bands
from rewards.batch import batch_features
from rewards.rule import Band, judge_by_band


def test_distance_counts_band_widths():
    distance = Band(0.2, 0.4).distance([0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 1.0, np.nan])
    np.testing.assert_allclose(distance, [1, 0.5, 0, 0, 0, 1, 3, np.nan], atol=1e-12)


@pytest.mark.parametrize(("low", "high"), [(1, 1), (2, 1), (0, np.inf), (np.nan, 1)])
def test_a_band_has_a_finite_width(low, high):
    with pytest.raises(MgenError, match="must be below"):
        Band(low, high)


def test_above_the_band_only_the_excess_carries_the_score():
    notes = melodies([60, 61, 62], [60, 61], [60])
    excess = np.array([False, True, True, True, False, False])
    judged = judge_by_band(Band(1, 3), np.array([7.0, 0.0, np.nan]), notes, excess)
    np.testing.assert_allclose(judged.score, [-2, -0.5, -3])
    np.testing.assert_allclose(judged.credit, [0, -1, -1, -0.25, -0.25, -3])
    np.testing.assert_array_equal(judged.defined, [True, True, False])


def test_below_the_band_the_lack_carries_the_score_and_where_nobody_is_to_blame_all_do():
    notes = melodies([60, 61, 62], [60, 61], [60, 61])
    nobody, lack = np.zeros(7, bool), np.array([True, False, False, False, False, False, True])
    judged = judge_by_band(Band(1, 3), np.array([0.0, 0.0, 5.0]), notes, nobody, lack)
    np.testing.assert_allclose(judged.credit, [-0.5, 0, 0, -0.25, -0.25, -0.5, -0.5])


def test_rules_share_what_they_hear_in_a_batch():
    notes = melodies([60, 61, 62])
    assert batch_features(notes) is batch_features(notes)
    assert batch_features(replace(notes)) is not batch_features(notes)


def test_bands_are_quantiles_of_the_pieces():
    # 21 pieces of 10..30 notes that never repeat: the middle four fifths of the counts is 12..28.
    notes = melodies(*[[40 + i * (i + 1) // 2 % 67 for i in range(n)] for n in range(10, 31)])
    assert fit_bands(notes)["n_notes"] == Band(12, 28)


def test_a_corpus_that_does_not_vary_gets_the_width_of_one_note():
    notes = melodies(*[[60, 62, 64, 65, 60, 62, 64, 67]] * 20)  # two of seven 2-grams return
    bands = fit_bands(notes)
    assert bands["n_notes"] == Band(8, 9)
    assert bands["longest_run"] == Band(1, 2)
    assert bands["repetition_pitch"].low == pytest.approx(2 / 7)
    assert bands["repetition_pitch"].high == pytest.approx(2 / 7 + 1 / 8)


def test_a_measure_that_most_pieces_leave_undefined_has_no_band():
    bands = fit_bands(melodies(*[[60, 62, 64, 65, 67]] * 11, *[[60]] * 14))
    assert "repetition_pitch" not in bands and "length" in bands
    assert bands.left_out["repetition_pitch"] == "only 11 of 25 real pieces can be measured"
    with pytest.raises(MgenError, match=r"judge repetition_pitch: only 11 of 25 .*; leave it out"):
        REWARDS["repetition_pitch"](bands)
    assert set(rules(bands)) == set(REWARDS) - set(bands.left_out)


def test_bands_of_beat_bound_rules_are_of_pieces_on_the_grid():
    # leaps of 2 or 3 semitones on the grid, of 5 off it
    steps = np.repeat([2, 3, 5], [9, 23, 8]).tolist()
    notes = melodies(*[range(40, 40 + 12 * step, step) for step in steps])
    on_grid = np.arange(40) < 32
    assert fit_bands(notes, on_grid)["bar_lines"] == fit_bands(notes.pieces(np.arange(32)))["bar_lines"]
    assert (fit_bands(notes, on_grid)["bar_lines"].low, fit_bands(notes)["bar_lines"].low) == (2, 3)
    both = [bands["voice_leading"] for bands in (fit_bands(notes), fit_bands(notes, on_grid))]
    assert both[0] == both[1], "it reads no beats"


def test_music_off_the_grid_has_no_band_of_a_beat_bound_rule():
    notes = melodies(*[[60, 62, 64, 65] * 4] * 40)
    bands = fit_bands(notes, np.arange(40) < 31)  # 32 of 40 would do
    bound = {name for name, measure in MEASURES.items() if measure.beat_bound}
    assert {"swing", "syncopation", "groove", "bar_lines"} <= bound <= set(bands.left_out)
    assert bands.left_out["bar_lines"] == "only 31 of 40 real pieces are on the beat grid and can be measured"
    assert "bar_lines" in fit_bands(notes, np.arange(40) < 32)
    with pytest.raises(MgenError, match="judge bar_lines: only 31 of 40 real pieces are on the beat grid"):
        REWARDS["bar_lines"](bands)


def test_too_few_pieces_are_an_error():
    with pytest.raises(MgenError, match="expected at least 20 pieces with notes, found 19 of 25"):
        fit_bands(melodies(*[[60, 62, 64, 65, 67]] * 19, *[[]] * 6))
    with pytest.raises(MgenError, match="found 0 of 0"):
        fit_bands(melodies())


def test_bands_know_what_they_were_measured_on(tmp_path):
    bands = fit_bands(melodies(*[[60, 62, 64, 65, 60, 62, 64, 67, 60]] * 20))  # nine quarters: three bars
    assert bands.about == {"pieces": 20, "notes": 9, "quarters": 12, "tokens": 0}
    save_bands(bands, tmp_path / "bands.json")
    again = load_bands(tmp_path / "bands.json")
    assert (again, again.about, again.left_out) == (bands, bands.about, bands.left_out)
    assert again.left_out  # quarter notes have no swing


def test_bands_come_back_from_their_file(tmp_path):
    save_bands(BANDS, tmp_path / "bands.json")
    assert load_bands(tmp_path / "bands.json") == BANDS
    assert [path.name for path in tmp_path.iterdir()] == ["bands.json"]


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"a": 1}', '{"a": {"low": 1}}', '{"a": {"low": 2, "high": 1}}'])
def test_a_file_that_holds_no_bands_is_one_clear_error(tmp_path, text):
    (tmp_path / "bands.json").write_text(text)
    with pytest.raises(MgenError, match=r"bands\.json: .*measure the bands again") as caught:
        load_bands(tmp_path / "bands.json")
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_the_same_error(tmp_path):
    with pytest.raises(MgenError, match=r"none\.json: .*measure the bands again"):
        load_bands(tmp_path / "none.json")
