"""A critic's card: intervals against another library, changes of score."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from critics_music import MEDIANS, SWUNG, toy
from sklearn.metrics import roc_auc_score

from critics.sequence import SequenceCritic
from critics.style import StyleCritic
from critics.style.critic import TokenModel
from critics.style.excerpts import LabelledPieces
from critics.validation.card import auc_interval, score_changes, style_card, weighted_auc
from mgen.stats.calibration import Calibration, reliability
from mgen.transforms.corruptions import CORRUPTIONS

pytestmark = pytest.mark.slow

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


@pytest.fixture(scope="module")
def critic(remi):
    network = SequenceCritic.new(remi, size="tiny", max_tokens=96, seed=2)
    return StyleCritic(TokenModel(network, Calibration(2.0, -0.5), MEDIANS), "jazz")


def test_a_card_has_every_number_and_flat_velocities_change_nothing(critic):
    rng = np.random.default_rng(0)
    notes = toy(SWUNG, 24, rng, 3)
    positive = np.arange(24) % 2 == 0
    collection = np.where(positive, np.where(np.arange(24) < 12, "a", "b"), "c")
    card = style_card(critic, LabelledPieces(notes, positive, collection, np.arange(24).astype(str)))
    assert card["format"]["flat_velocities"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert card["format"]["tritone_away"]["value"] != 0
    assert set(card["corrupted"]) == {"straight_eighths", *CORRUPTIONS}
    assert card["auc"]["value"] == pytest.approx(roc_auc_score(positive, critic.model.network.logits(notes)))
    assert {(a, b) for a, others in card["pairs"].items() for b in others} == {("a", "c"), ("b", "c")}
    assert card["n"] == card["works"] == 24


def test_abstentions_are_counted_and_a_brief_card_is_part_of_a_complete_one(critic):
    rng = np.random.default_rng(0)
    notes = toy(SWUNG, 12, rng, 3)
    notes = notes.select((notes.piece > 2) | (notes.onset < 48))  # 4 notes of the first three
    positive = np.arange(12) < 8
    music = LabelledPieces(notes, positive, np.where(positive, "a", "b"), np.arange(12).astype(str))
    complete, brief = style_card(critic, music), style_card(critic, music, brief=True)
    assert complete["abstained"] == {"positive": pytest.approx(3 / 8), "other": 0.0}
    assert brief == {key: value for key, value in complete.items() if key not in {"pairs", "format", "corrupted"}}
    assert set(complete) - set(brief) == {"pairs", "format", "corrupted"}
    probability = critic.probability(notes)
    assert complete["reliability"] == reliability(probability, positive) and (probability[:3] == 0).all()


def test_a_change_of_score_is_after_minus_before_and_skips_what_is_undefined(critic):
    notes = toy(SWUNG, 4, np.random.default_rng(5), 3)
    short = notes.select((notes.piece != 2) | (notes.onset < 24))
    up = {"up": lambda pieces, rng: replace(pieces, pitch=(pieces.pitch + 1).astype(np.int32))}
    change = score_changes(critic, short, np.arange(4).astype(str), up)["up"]["value"]
    keep = [0, 1, 3]
    expected = critic(up["up"](short, RNG)).score[keep] - critic(short).score[keep]
    assert change == pytest.approx(expected.mean(), abs=1e-6)
