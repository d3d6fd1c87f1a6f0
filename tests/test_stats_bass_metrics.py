"""Metrics of bass lines, worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mgen.encoding.drum_bass import HOLD, KICK, LOWEST, PITCHES, REST
from mgen.music.keys import UNKNOWN_KEY
from mgen.stats.bass_metrics import (
    METRICS,
    Played,
    bass_auc,
    bass_scores,
    bass_values,
    distinct_lines,
    pair_distance,
    repeats_of_drums,
)

C, D, FIS = (pitch - LOWEST for pitch in (36, 38, 42))


def line(**classes):
    """(16,) rests with `s3=C`: a class at step 3."""
    made = np.full(16, REST)
    for name, of in classes.items():
        made[int(name[1:])] = of
    return made


def played(bass, truth, kicks=(), key=0, **others):
    drums = np.zeros((len(bass), 16, 14), bool)
    drums[:, list(kicks), KICK] = True
    return Played(drums, np.array(truth), np.array(bass), np.full(len(bass), key), **others)


def test_starts_kicks_and_keys_by_hand():
    made = line(s0=C, s4=D, s8=FIS, s9=HOLD)
    true = line(s0=C, s4=FIS, s10=D, s12=C)
    values = bass_values(played([made], [true], kicks=(0, 2, 4, 8)))
    assert values["note_f1"] == pytest.approx(2 * 1 / (3 + 4))  # C at 0
    assert values["onset_f1"] == pytest.approx(2 * 2 / (3 + 4))
    assert values["kicks_with_bass"] == pytest.approx(3 / 4)
    assert values["bass_on_kicks"] == pytest.approx(3 / 3)
    assert values["in_key"] == pytest.approx(2 / 3)  # no F# in C major
    assert values["pitch_entropy"] == pytest.approx(np.log2(3))
    assert np.isnan(values["perplexity"]) and np.isnan(values["diversity"])
    assert np.isnan(bass_values(played([made], [true], key=UNKNOWN_KEY))["in_key"])


def test_bleu_by_hand():
    true = line(s0=C)
    made = line(s1=C)
    # 1-grams: C and 15 rests, all 16 match. 2-grams of the true bar: C r, and 14 r r; of ours: r C, C r, 13 r r: 14 of
    # 15. 3-grams: true C r r, 13 r r r; ours r C r, C r r, 12 r r r: 13 of 14. 4-grams: 12 of 13.
    expected = (16 / 16 * 14 / 15 * 13 / 14 * 12 / 13) ** 0.25
    assert bass_values(played([made], [true]))["bleu"] == pytest.approx(expected)


def test_bleu_counts_an_ngram_no_more_often_than_the_true_bar():
    true = np.concatenate([np.full(8, C), np.full(8, REST)])
    made = np.full(16, C)
    # n-grams of C only: the true bar has 8, 7, 6 and 5 of them; ours 16, 15, 14 and 13
    assert bass_values(played([made], [true]))["bleu"] == pytest.approx((8 / 16 * 7 / 15 * 6 / 14 * 5 / 13) ** 0.25)


def test_bleu_does_not_cross_bars_and_is_zero_without_a_common_4_gram():
    true = np.concatenate([np.full(16, C), np.full(16, D)])
    swapped = np.concatenate([np.full(16, D), np.full(16, C)])
    two = Played(np.zeros((1, 32, 14), bool), true[None], swapped[None], np.zeros(1, int))
    assert bass_values(two)["bleu"] == 0
    assert bass_values(Played(two.drums, true[None], true[None], two.key))["bleu"] == 1


def test_perplexity_and_diversity_by_hand():
    truth = [line(s0=C), line(s0=D)]
    nats = np.array([16 * np.log(2), 16 * np.log(8)])
    others = np.array([[line(s0=C), line(s0=D)], [line(s0=D), line(s0=D)], [line(s0=C, s1=HOLD), line(s0=D)]])
    values = bass_values(played(truth, truth, nats=nats, others=others))
    assert values["perplexity"] == pytest.approx(4)
    # of three pairs of lines for the first drum part: 1, 1 and 2 steps differ
    np.testing.assert_allclose(pair_distance(others), [4 / 3 / 16, 0])
    assert values["diversity"] == pytest.approx(4 / 3 / 16 / 2)
    np.testing.assert_allclose(distinct_lines(others), [1, 1 / 3])  # three lines, and one line three times
    assert values["distinct"] == pytest.approx(2 / 3)


def test_real_diversity_is_over_equal_drums_of_a_piece():
    drums = np.zeros((5, 16, 14), bool)
    drums[3, 0, 0] = True
    bass = np.array([line(s0=C), line(s0=D), line(s1=C), line(s0=C), line(s0=C)])
    values, window = repeats_of_drums(drums, bass, np.array([7, 7, 7, 7, 8]))
    np.testing.assert_allclose(values, [(1 + 2 + 2) / 3 / 16])
    assert window.tolist() == [0]
    none, _ = repeats_of_drums(drums[2:], bass[2:], np.array([7, 7, 8]))
    assert len(none) == 0


def test_real_basses_are_no_other_basses_and_random_ones_are():
    rng = np.random.default_rng(0)

    def basses():
        lines = np.tile(np.repeat(rng.integers(0, 12, (200, 8)), 4, axis=1), (1, 2)).astype(np.uint8)
        lines[:, 1::2] = HOLD
        return lines

    truth, work = basses(), np.arange(200).astype(str)
    other = rng.permuted(truth, axis=1)
    found = bass_auc(truth, basses(), work)
    assert found.low < 0.5 < found.high or abs(found.value - 0.5) < 0.05
    assert bass_auc(truth, other, work).low > 0.8
    assert np.isnan(bass_auc(truth[:40], other[:40], work[:40]).value)  # too few


def test_holds_without_a_note_are_rests():
    made = line(s0=HOLD, s1=HOLD, s4=C)
    assert bass_values(played([made], [line(s4=C)]))["bleu"] == 1


def test_intervals_are_over_works_and_the_real_bass_is_perfect():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, PITCHES + 2, (12, 16))
    work = np.repeat(["a", "b", "c"], 4)
    scores = bass_scores(played(truth, truth, kicks=(0, 8), nats=np.full(12, 5.0)), work)
    assert set(scores) == set(METRICS)
    assert scores["note_f1"].value == scores["note_f1"].low == scores["bleu"].value == 1
    wrong = truth.copy()
    wrong[work == "a"] = REST
    found = bass_scores(played(wrong, truth, kicks=(0, 8)), work)["onset_f1"]
    assert found.low < found.value < found.high == 1  # a resample without work a
