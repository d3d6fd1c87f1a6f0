"""A critic's card: intervals against another library, changes of music by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from critics_music import SWUNG, toy
from sklearn.metrics import roc_auc_score

from critics.calibration import Calibration
from critics.card import auc_interval, score_changes, straight_eighths, style_card, tritone_away, weighted_auc
from critics.sequence import SequenceCritic
from critics.style import StyleCritic
from critics.training import Excerpts
from mgen.evaluation.corruptions import CORRUPTIONS
from mgen.notes import Notes

RNG = np.random.default_rng(0)


def test_weighted_auc_is_scikit_learns():
    rng = np.random.default_rng(3)
    scores = rng.integers(0, 12, 200).astype(float)  # many ties
    positive = rng.random(200) < 0.4
    weights = rng.integers(0, 4, (5, 200)).astype(float)
    expected = [roc_auc_score(positive, scores, sample_weight=row) for row in weights]
    np.testing.assert_allclose(weighted_auc(scores, positive, weights), expected)
    assert weighted_auc(scores, positive, np.zeros((1, 200))).tolist() == [0.5]


def test_the_interval_of_few_works_is_wider_than_that_of_as_many_pieces():
    rng = np.random.default_rng(0)
    work = np.repeat(np.arange(20), 20)
    positive = work % 2 == 0
    scores = positive + rng.normal(0, 1, 20)[work] + rng.normal(0, 0.1, 400)
    by_work = auc_interval(scores, positive, work.astype(str))
    by_piece = auc_interval(scores, positive, np.arange(400).astype(str))
    assert by_work.value == by_piece.value == pytest.approx(roc_auc_score(positive, scores))
    assert by_work.low < by_work.value < by_work.high
    assert by_work.high - by_work.low > 2 * (by_piece.high - by_piece.low)


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
    high = replace(
        high, pitch=(high.pitch + np.where(high.piece == 1, 108 - high.pitch.max(), 0)).astype(np.int32)
    )
    moved = tritone_away(high, RNG).pitch - high.pitch
    assert [set(moved[high.piece == i].tolist()) for i in range(3)] == [{6}, {-6}, {6}]


@pytest.fixture(scope="module")
def critic(remi):
    network = SequenceCritic.new(remi, size="tiny", max_tokens=96, seed=2)
    return StyleCritic(network, Calibration(2.0, -0.5), "jazz")


def test_a_card_has_every_number_and_flat_velocities_change_nothing(critic):
    rng = np.random.default_rng(0)
    notes = toy(SWUNG, 24, rng, 3)
    positive = np.arange(24) % 2 == 0
    collection = np.where(positive, np.where(np.arange(24) < 12, "a", "b"), "c")
    card = style_card(critic, Excerpts(notes, positive, collection, np.arange(24).astype(str)))
    assert card["format"]["flat_velocities"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert card["format"]["tritone_away"]["value"] != 0
    assert set(card["broken"]) == {"straight_eighths", *CORRUPTIONS}
    assert card["auc"]["value"] == pytest.approx(roc_auc_score(positive, critic.network.logits(notes)))
    assert {(a, b) for a, others in card["pairs"].items() for b in others} == {("a", "c"), ("b", "c")}
    assert card["n"] == card["works"] == 24


def test_a_change_of_score_is_after_minus_before_and_skips_what_is_undefined(critic):
    notes = toy(SWUNG, 4, np.random.default_rng(5), 3)
    short = notes.select((notes.piece != 2) | (notes.onset < 24))
    up = {"up": lambda pieces, rng: replace(pieces, pitch=(pieces.pitch + 1).astype(np.int32))}
    change = score_changes(critic, short, np.arange(4).astype(str), up)["up"]["value"]
    keep = [0, 1, 3]
    expected = critic(up["up"](short, RNG)).score[keep] - critic(short).score[keep]
    assert change == pytest.approx(expected.mean(), abs=1e-6)
