"""Leave-one-collection-out on collections made so that the answer is known."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from critics_music import STRAIGHT, SWUNG, toy
from sklearn.metrics import roc_auc_score

from critics.style.excerpts import Excerpts
from critics.validation.fitters import ensemble, even_weights, network, on_table
from critics.validation.leave_one_out import (
    ACROSS,
    ON_GRID,
    PERFORMED,
    by_critic,
    collection_pairs,
    collection_parts,
    leave_one_out_matrix,
    training_mask,
)
from mgen.errors import MgenError
from mgen.music.features import FORMAT_FREE, features
from mgen.notes import Notes

pytestmark = pytest.mark.slow

music_features = partial(features, groups=FORMAT_FREE)

SIDES = {"club": True, "hall": True, "church": False, "school": False, "game": False}


def collections(n=8, music=True, **changes):
    """`n` excerpts of each of five collections, each as loud as no other; swung where `music` is True and the
    collection is of the style.
    """
    parts, positive, names = [], [], []
    for number, (name, side) in enumerate(SIDES.items()):
        notes = toy(SWUNG if side and music else STRAIGHT, n, np.random.default_rng(number))
        parts.append(replace(notes, velocity=np.full_like(notes.velocity, 20 + 20 * number)))
        positive += [side] * n
        names += [name] * n
    of = np.array(names)
    works = np.array([f"{name} {k}" for k, name in enumerate(names)])
    columns = {
        "positive": np.array(positive),
        "collection": of,
        "on_grid": np.ones(len(of), bool),
        "work": works,
        "title": works,
        "path": works,
        "start": np.zeros(len(of), np.int64),
    }
    return Excerpts(notes=Notes.concat(parts), **(columns | changes))


def loudness(notes: Notes) -> np.ndarray:
    return notes.velocity[notes.starts[:-1]].astype(float)


def remembers(excerpts: Excerpts, seed: int):
    """A critic that knows each loudness it was trained on, and nothing else."""
    known = {level: excerpts.positive[loudness(excerpts.notes) == level].mean() for level in loudness(excerpts.notes)}
    return lambda notes: np.array([known.get(level, 0.5) for level in loudness(notes)])


def test_format_that_separates_the_training_set_separates_no_held_out_collections():
    excerpts = collections()
    everything = remembers(excerpts, 0)(excerpts.notes)
    assert roc_auc_score(excerpts.positive, everything) == 1
    matrix = leave_one_out_matrix(excerpts, by_critic(remembers), min_pieces=8)
    assert len(matrix.pairs) == 6
    assert all(pair.auc.value == 0.5 for pair in matrix.pairs) and matrix.mean["all"].value == 0.5


def test_music_separates_and_without_music_nothing_does():
    matrix = leave_one_out_matrix(collections(), on_table(music_features, copies=1), min_pieces=8)
    assert matrix.mean["all"].value > 0.95 and matrix.minimum().auc.value > 0.9
    silent = leave_one_out_matrix(collections(n=30, music=False), on_table(music_features), min_pieces=30)
    assert 0.35 < silent.mean["all"].value < 0.65


@pytest.mark.slow
def test_a_network_is_trained_for_every_pair(remi):
    excerpts = collections(n=4)
    matrix = leave_one_out_matrix(excerpts, network(remi, steps=2, tokens=64), min_pieces=4)
    assert len(matrix.pairs) == 6 and all(0 <= pair.auc.value <= 1 for pair in matrix.pairs)


@pytest.mark.slow
def test_the_style_critic_is_trained_on_some_and_scores_others():
    excerpts = collections(n=24)
    test = np.isin(excerpts.collection, ["club", "church"])
    score = ensemble(excerpts, 0)(training_mask(excerpts, "club", "church"), test, 0)
    assert score.shape == (48,) and np.isfinite(score).all() and (score <= 0).all()
    assert roc_auc_score(excerpts.positive[test], score) > 0.9


def test_held_out_are_two_collections_with_their_works_and_songs():
    excerpts = collections()
    work, song = excerpts.work.copy(), excerpts.title.copy()
    work[8] = work[16]  # hall and church share a work
    song[9] = song[33]  # hall and game share a song
    song[0] = song[10] = ""  # no name is no shared name
    excerpts = replace(excerpts, work=work, title=song)
    seen = {}

    def spy(everything, seed):
        def trained(train, test, seed):
            names = tuple(np.unique(everything.collection[test]).tolist())
            seen[names] = train
            assert not (train & test).any()
            return np.arange(test.sum(), dtype=float)

        return trained

    matrix = leave_one_out_matrix(excerpts, spy, min_pieces=8)
    assert len(seen) == len(matrix.pairs) == 6
    for names, train in seen.items():
        assert not np.isin(excerpts.collection[train], names).any()
    of_club = seen[("church", "club")]
    assert not of_club[8] and of_club[9] and of_club[10] and of_club.sum() == 23
    assert seen[("club", "game")].sum() == 23 and not seen[("club", "game")][9]
    np.testing.assert_array_equal(of_club, training_mask(excerpts, "club", "church"))
    assert {pair.trained_on for pair in matrix.pairs} >= {23}


def test_a_matrix_is_the_auc_of_its_pairs():
    excerpts = collections(on_grid=np.repeat([True, False, True, False, False], 8))
    rng = np.random.default_rng(0)
    fixed = rng.normal(size=len(excerpts)).round(1) + excerpts.positive

    def fitter(everything, seed):
        return lambda train, test, seed: fixed[test]

    matrix = leave_one_out_matrix(excerpts, fitter, min_pieces=8)
    values = {}
    for pair in matrix.pairs:
        both = np.isin(excerpts.collection, [pair.positive, pair.other])
        values[pair.positive, pair.other] = roc_auc_score(excerpts.positive[both], fixed[both])
        assert pair.auc.value == pytest.approx(values[pair.positive, pair.other])
        assert pair.auc.low < pair.auc.value < pair.auc.high or pair.auc.high == 1
        assert pair.n == (8, 8)
    assert matrix.mean["all"].value == pytest.approx(np.mean(list(values.values())))
    on_grid, performed = values["club", "church"], np.mean([values["hall", name] for name in ("school", "game")])
    assert matrix.mean[ON_GRID].value == pytest.approx(on_grid)
    assert matrix.mean[PERFORMED].value == pytest.approx(performed)
    assert sum(pair.type == ACROSS for pair in matrix.pairs) == 3
    lowest = matrix.minimum()
    assert values[lowest.positive, lowest.other] == min(values.values())
    report = matrix.to_json()
    assert report["minimum"]["all"]["value"] == lowest.auc.value and len(report["pairs"]) == 6
    assert set(report["mean"]) == {"all", "performed", "on grid", "across"}


def test_a_collection_has_two_parts_and_a_small_part_is_left_out():
    on_grid = np.ones(40, bool)
    on_grid[[0, 1, 2, 3]] = False  # club is half performed
    on_grid[[8, 9]] = False  # hall has two performances
    excerpts = collections(on_grid=on_grid)
    names = [part.name for part in collection_parts(excerpts, min_pieces=4)]
    assert names == ["church", "club performed", "club on grid", "game", "hall", "school"]
    assert {part.name: int(part.member.sum()) for part in collection_parts(excerpts, 4)}["hall"] == 6
    assert len(list(collection_pairs(collection_parts(excerpts, 4)))) == 9
    assert [part.name for part in collection_parts(excerpts, 5)] == ["church", "game", "hall", "school"]
    trained = []
    leave_one_out_matrix(
        excerpts, lambda every, seed: lambda train, test, seed: trained.append(1) or np.ones(test.sum()), 0, 4
    )
    assert len(trained) == 6  # club is held out whole, once for both kinds


def test_too_few_collections_and_invalid_scores_are_errors():
    excerpts = collections()
    with pytest.raises(MgenError, match="expected a collection of 9 pieces on both sides, found 0"):
        leave_one_out_matrix(excerpts, on_table(music_features), min_pieces=9)
    with pytest.raises(MgenError, match="are not finite"):
        leave_one_out_matrix(
            excerpts, by_critic(lambda some, seed: lambda notes: np.full(notes.n_pieces, np.nan)), min_pieces=8
        )
    one = excerpts.rows(np.isin(excerpts.collection, ["club", "church", "game"]))
    with pytest.raises(MgenError, match="only one side is left"):
        leave_one_out_matrix(one, on_table(music_features), min_pieces=8)


def test_sides_and_collections_weigh_alike():
    positive = np.array([True, True, True, False, False])
    weight = even_weights(positive, np.array(["a", "a", "b", "c", "d"]))
    np.testing.assert_allclose(weight, [0.625, 0.625, 1.25, 1.25, 1.25])
