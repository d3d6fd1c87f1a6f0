"""The discriminator of features: what it learns, that no piece is judged by a model that saw it, and its limits."""

from __future__ import annotations

import copy
import io

import numpy as np
import pytest
import torch
from critics_music import STRAIGHT, SWUNG, toy

from critics.realism.feature_discriminator import (
    FOLDS,
    FeatureDiscriminator,
    FeatureDiscriminatorOptions,
    battery,
)
from mgen.notes import Notes
from mgen.transforms.corruptions import two_bar_loop


def music(style: str, pieces: int, seed: int) -> Notes:
    return toy(style, pieces, np.random.default_rng(seed), 2)


def rounds(real: str, generated: str, count: int, pieces: int = 32, **options):
    critic = FeatureDiscriminator(FeatureDiscriminatorOptions(**options))
    metrics = []
    for number in range(count):
        works = [f"work {number} {piece}" for piece in range(pieces)]
        metrics.append(critic.update(music(real, pieces, number), music(generated, pieces, 1000 + number), works))
    return critic, metrics


def test_one_round_is_enough_to_separate_toy_styles():
    critic, metrics = rounds(SWUNG, STRAIGHT, 2)
    assert metrics[0]["auc"] == 0.5 and metrics[1]["auc"] > 0.95
    assert metrics[1]["logit_real"] > 1 > -1 > metrics[1]["logit_generated"]
    assert critic(music(SWUNG, 16, 77)).score.mean() > 1 and critic(music(STRAIGHT, 16, 78)).score.mean() < -1


def test_moments_are_differences_of_means():
    critic, metrics = rounds(SWUNG, STRAIGHT, 2, fit="moments", corrupted=0.0)
    assert metrics[1]["auc"] > 0.95
    rows, memory = critic._standard(critic.memory.rows), critic.memory
    for fold in range(FOLDS):
        own = memory.fold != fold
        expected = rows[own & memory.real].mean(axis=0) - rows[own & ~memory.real].mean(axis=0)
        np.testing.assert_allclose(critic.coefficients[fold], expected, atol=1e-5)


def test_where_there_is_no_difference_its_ratio_is_near_0():
    """Real pieces against others of the same style: it would know by heart what it was fitted on."""
    _, metrics = rounds(SWUNG, SWUNG, 8)
    later = metrics[2:]
    assert np.mean([m["auc"] for m in later]) == pytest.approx(0.5, abs=0.08)
    assert np.mean([abs(m["logit_real"]) for m in later]) < 0.4
    assert np.mean([m["loss"] for m in later]) == pytest.approx(np.log(2), abs=0.08)


def test_before_the_first_fit_every_score_is_0():
    judged = FeatureDiscriminator()(music(SWUNG, 4, 0))
    assert judged.score.tolist() == [0.0] * 4 and judged.defined.all()


def test_a_real_piece_is_judged_by_the_model_without_its_work():
    """Other pieces in fold 0, in another order, leave the model of fold 0 as it was."""
    critic, _ = rounds(SWUNG, STRAIGHT, 1, pieces=40)
    again = copy.deepcopy(critic)
    mine = np.flatnonzero(critic.memory.real & (critic.memory.fold == 0))
    assert len(mine) > 2
    some = np.arange(100)  # of these features only: mean and deviation of each stay the same
    again.memory.rows[mine[:, None], some] = critic.memory.rows[mine[::-1][:, None], some]
    again._fit()
    np.testing.assert_allclose(again.coefficients[0], critic.coefficients[0], atol=1e-5)
    assert not np.allclose(again.coefficients[1], critic.coefficients[1], atol=1e-4)


def test_memory_keeps_the_newest_pieces_of_each_side():
    critic, _ = rounds(SWUNG, STRAIGHT, 3, pieces=16, capacity=20)
    assert np.bincount(critic.memory.side).tolist() == [20, 20, 6]
    newest = battery(music(SWUNG, 16, 2))
    np.testing.assert_array_equal(critic.memory.rows[critic.memory.real][-16:], newest)


def test_corrupted_music_scores_below_real_though_no_policy_plays_it():
    loops, scores = two_bar_loop(toy(SWUNG, 24, np.random.default_rng(5), 8), np.random.default_rng(0)), {}
    for corrupted in (0.0, 0.2):
        critic, metrics = rounds(SWUNG, STRAIGHT, 6, corrupted=corrupted)
        scores[corrupted] = critic(loops).score.mean()
        assert metrics[-1]["auc"] > 0.95
    assert scores[0.2] < scores[0.0] - 0.5


def test_no_score_is_above_the_median_of_real_music():
    capped, _ = rounds(SWUNG, STRAIGHT, 3)
    free, _ = rounds(SWUNG, STRAIGHT, 3, capped=False)
    pieces = music(SWUNG, 64, 50)
    assert 0.2 < (capped(pieces).score == np.float32(capped.cap)).mean() < 0.9
    assert free(pieces).score.max() > capped.cap > 0 and free.cap == 10


@pytest.mark.parametrize("case", ["none are generated", "one note each", "none are real"])
def test_a_batch_of_one_side_changes_nothing(case):
    critic, _ = rounds(SWUNG, STRAIGHT, 1)
    before = critic.state_dict()
    real, generated = music(SWUNG, 8, 5), music(STRAIGHT, 8, 6)
    if case == "none are generated":
        generated = Notes.concat([])
    elif case == "one note each":
        generated = generated.select(np.append(True, np.diff(generated.piece) != 0))
    else:
        real = Notes.concat([])
    assert critic.update(real, generated, [str(i) for i in range(real.n_pieces)]) == {}
    after = critic.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before if isinstance(before[name], torch.Tensor))
    judged = critic(generated)
    assert np.isfinite(judged.score).all() and (judged.score[~judged.defined] == critic.worst).all()


def test_a_constant_feature_has_no_effect_and_nothing_is_nan():
    """Every piece of both sides is the same, so every feature is constant."""
    critic = FeatureDiscriminator()
    one = music(SWUNG, 1, 0)
    same = one.pieces(np.zeros(16, int))
    metrics = critic.update(same, same, [str(i) for i in range(16)])
    assert all(np.isfinite(value) for value in metrics.values())
    np.testing.assert_allclose(critic(same).score, 0, atol=1e-3)


def test_scores_are_clipped_and_short_beginnings_have_the_prior():
    critic, _ = rounds(SWUNG, STRAIGHT, 2, clip=0.5, min_notes=8)
    assert np.abs(critic(music(SWUNG, 8, 9)).score).max() == np.float32(0.5)
    short = music(STRAIGHT, 3, 9)
    short = short.select(np.arange(len(short)) - short.starts[short.piece] < 5)
    assert critic.prefix_scores(short).tolist() == [0.0] * 3
    assert critic(short).score.tolist() == [-0.5] * 3 and not critic(short).defined.any()


def test_its_state_continues_bit_for_bit_and_its_folder_judges_alike(tmp_path):
    critic, _ = rounds(SWUNG, STRAIGHT, 2)
    stored = io.BytesIO()
    torch.save(critic.state_dict(), stored)
    stored.seek(0)
    again = FeatureDiscriminator()
    again.load_state_dict(torch.load(stored, weights_only=True))
    batch = music(SWUNG, 16, 20), music(STRAIGHT, 16, 21), [str(i) for i in range(16)]
    assert critic.update(*copy.deepcopy(batch)) == again.update(*batch)
    critic.save_pretrained(tmp_path)
    loaded = FeatureDiscriminator.from_pretrained(tmp_path)
    pieces = music(SWUNG, 16, 22)
    np.testing.assert_array_equal(loaded(pieces).score, again(pieces).score)


def test_every_tenth_round_compares_it_with_new_trees():
    _, metrics = rounds(SWUNG, STRAIGHT, 11, pieces=16)
    assert ["fresh_auc" in one for one in metrics] == [False] * 10 + [True]
    assert 0.9 < metrics[-1]["fresh_auc"] <= 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clip": 0}, r"clip \(0\) must be above 0"),
        ({"regularisation": -1.0}, r"regularisation \(-1.0\) must be above 0"),
        ({"corrupted": 1.0}, r"corrupted \(1.0\) must be at least 0 and below 1"),
        ({"fit": "trees"}, r"fit \(trees\) must be one of logistic, moments"),
        ({"capacity": FOLDS - 1}, r"capacity \(3\) must be at least 4"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        FeatureDiscriminatorOptions(**options)
