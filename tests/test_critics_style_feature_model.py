"""The critic of traits as a whole: taught a little on the demo's music, what it says, and of what it says nothing."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from critics_music import gathered
from evaluation_pieces import demo, each, line, nothing, piece
from safetensors.torch import load_file, save_file
from sklearn.metrics import roc_auc_score

from critics.style import StyleCritic
from critics.style.ensemble import MEMBERS, Ensemble, feature_table
from critics.style.feature_model import CORRUPTED_PRIOR, WEIGHTS, FeatureModel
from critics.style.out_of_distribution import OutOfDistributionGuard
from critics.style.feature_training import prepared
from mgen.errors import MgenError
from mgen.notes import Notes
from mgen.stats.calibration import expected_calibration_error
from mgen.transforms.corruptions import markov_pitches, one_pitch, random_pitches, shuffle_bars, two_bar_loop
from mgen.transforms.degenerate import random_tokens

NAMES = {"lead_sheets": True, "club_takes": True, "folk_tunes": False, "pop_takes": False}
LENGTH = 64


def excerpts(first: int, last: int):
    """The first notes of some works of each collection."""
    parts = []
    for name, jazz in NAMES.items():
        notes = demo(name, works=48)
        notes = notes.select(np.arange(len(notes)) - notes.starts[notes.piece] < LENGTH)
        parts.append((name, notes.pieces(range(first, last)), jazz, "takes" not in name))
    return gathered(*parts)


def material(first: int, last: int, copies: int):
    some = excerpts(first, last)
    return prepared(some, copies=copies).of(some, np.ones(len(some), bool))


@pytest.fixture(scope="module")
def lessons():
    return material(0, 24, 1), material(24, 36, 0)


@pytest.fixture(scope="module")
def model(lessons):
    return FeatureModel.fit(*lessons, tuple(replace(member, steps=60) for member in MEMBERS))


@pytest.fixture(scope="module")
def critic(model):
    return StyleCritic(model, "jazz")


@pytest.fixture(scope="module")
def test():
    return excerpts(36, 48)


def test_it_tells_works_that_it_never_heard(critic, test):
    judged = critic(test.notes)
    known = judged.defined
    assert known.mean() > 0.9 and judged.score.dtype == np.float32
    assert roc_auc_score(test.positive[known], judged.score[known]) > 0.95
    assert expected_calibration_error(np.exp(judged.score[known]), test.positive[known]) < 0.15


def test_the_score_is_of_the_style_and_of_whole_music(model, critic, test):
    """By hand, from the two questions: log P(style) + log P(whole), of which broken music has its prior."""
    table = feature_table(test.notes)
    style, whole = (model.ensemble.logits(table, question) for question in ("style", "whole"))
    p_style = 1 / (1 + np.exp(-(model.style.scale * style + model.style.bias)))
    odds = np.exp(model.whole.scale * whole + model.whole.bias) * (1 - CORRUPTED_PRIOR) / CORRUPTED_PRIOR
    expected = np.log(p_style * odds / (1 + odds))
    np.testing.assert_allclose(model.log_probability(table), expected, rtol=1e-6)
    judged = critic(test.notes)
    rows = judged.defined
    np.testing.assert_allclose(judged.score[rows], np.maximum(expected, critic.worst)[rows], rtol=1e-5)
    np.testing.assert_allclose(critic.probability(test.notes)[rows], np.exp(expected[rows]), rtol=1e-5)
    assert (judged.score[~rows] == np.float32(critic.worst)).all() and (judged.score <= 0).all()


def test_each_piece_is_judged_alone(critic, test):
    notes = Notes.concat([test.notes.pieces(range(6)), nothing(), line([60] * 40)])
    together = critic(notes)
    alone = [critic(one) for one in each(notes)]
    np.testing.assert_allclose(together.score, np.concatenate([one.score for one in alone]), rtol=1e-5)
    np.testing.assert_array_equal(together.defined, np.concatenate([one.defined for one in alone]))


def test_it_is_silent_about_what_is_no_music(critic, test, remi):
    tokens = random_tokens(test.notes, np.random.default_rng(0), remi, 4 * LENGTH)
    odd = {
        "empty": nothing(4),
        "one note": line([60]),
        "one pitch": one_pitch(test.notes, np.random.default_rng(0)),
        "one moment": piece(*((0, 24, 30 + k) for k in range(60))),
        "drums": replace(test.notes, program=np.full(len(test.notes), -1, np.int32)),
        "few notes among drums": _mostly_drums(test.notes),
        "random tokens": tokens,
    }
    median = np.median(critic(test.notes).score[test.positive])
    for name, notes in odd.items():
        judged = critic(notes)
        assert (judged.score < median).all(), name
        assert (judged.score == np.float32(critic.worst))[~judged.defined].all(), name
        assert not judged.defined.any() or name == "random tokens", name
    assert critic(tokens).defined.mean() < 0.1


def _mostly_drums(notes: Notes) -> Notes:
    number = np.arange(len(notes)) - notes.starts[notes.piece]
    return replace(notes, program=np.where(number % 6, -1, 0).astype(np.int32))


@pytest.mark.parametrize("change", [random_pitches, markov_pitches, two_bar_loop, shuffle_bars])
def test_broken_music_scores_below_whole(change, critic, test):
    jazz = test.notes.pieces(np.flatnonzero(test.positive))
    broken = critic(change(jazz, np.random.default_rng(0))).score
    assert broken.mean() < critic(jazz).score.mean() - 0.3


def test_threads_decide_nothing(critic, test):
    threads, before = torch.get_num_threads(), critic(test.notes)
    torch.set_num_threads(2)
    try:
        np.testing.assert_array_equal(critic(test.notes).score, before.score)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def saved(critic, tmp_path_factory):
    folder = tmp_path_factory.mktemp("critic")
    critic.save_pretrained(folder, trained_on={"data": "abc"})
    return folder


def test_saved_and_loaded_it_judges_the_same(saved, critic, test):
    loaded = StyleCritic.from_pretrained(saved)
    first, second = critic(test.notes), loaded(test.notes)
    np.testing.assert_array_equal(first.score, second.score)
    np.testing.assert_array_equal(first.defined, second.defined)
    assert (loaded.positive, loaded.min_notes, loaded.worst, loaded.credit) == ("jazz", 16, critic.worst, False)
    assert loaded.model.parameters == critic.model.parameters == sum(w.numel() for w in _weights(critic))
    about = json.loads((saved / "critic.json").read_text())
    assert about["kind"] == "style" and about["hears"] == "traits" and about["trained_on"] == {"data": "abc"}


def test_the_prior_is_the_one_it_was_saved_with(model, test, tmp_path):
    StyleCritic(replace(model, broken_prior=0.5), "jazz").save_pretrained(tmp_path)
    loaded = StyleCritic.from_pretrained(tmp_path).model
    table = feature_table(test.notes)
    assert loaded.broken_prior == 0.5
    assert (loaded.log_probability(table) < model.log_probability(table)).all()


def _weights(critic):
    return [weight for network in critic.model.ensemble.networks for weight in network.parameters()]


def test_read_with_credit_it_gives_credit_by_bars(saved, test):
    few = test.notes.pieces([0, 20])
    critic = StyleCritic.from_pretrained(saved, credit=True)
    judged = critic(few)
    np.testing.assert_allclose(np.bincount(few.piece, judged.credit), judged.score, atol=1e-5)
    first = few.select(few.bar <= 3)
    alone = critic(first)
    known = np.flatnonzero(alone.defined)
    early = few.bar <= 3
    # up to its last bar, a beginning was told what it would be told by itself
    np.testing.assert_allclose(
        np.bincount(few.piece[early], judged.credit[early])[known], alone.score[known], atol=1e-5
    )


def facts(change):
    def apply(folder):
        path = folder / "critic.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return apply


def tensors(change):
    def apply(folder):
        content = load_file(folder / WEIGHTS)
        change(content)
        save_file(content, folder / WEIGHTS)

    return apply


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (lambda folder: (folder / WEIGHTS).unlink(), "No such file"),
        (lambda folder: (folder / WEIGHTS).write_bytes(b""), "header too small"),
        (lambda folder: (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-9]), "Error"),
        (lambda folder: (folder / "critic.json").unlink(), "expected a critic"),
        (lambda folder: (folder / "critic.json").write_text("{"), "cannot be read"),
        (lambda folder: (folder / "critic.json").write_bytes(b"\xff\xfe"), "cannot be read"),
        (lambda folder: (folder / "critic.json").write_text("[]"), "expected an object"),
        (facts(lambda content: content.pop("members")), "members"),
        (facts(lambda content: content.update(members=[])), "traits"),
        (facts(lambda content: content.update(members=content["members"][:4])), "no member is asked 'whole'"),
        (facts(lambda content: content["members"][0].update(ears=2)), "ears"),
        (facts(lambda content: content.update(style={"scale": "a"})), "multiply"),
        (facts(lambda content: content.update(worst="a")), "could not convert"),
        (facts(lambda content: content.update(hears="smells")), "expected hears to be one of traits, tokens"),
        (facts(lambda content: content["novelty_limit"].pop("key")), "limits of novelty"),
        (tensors(lambda content: content.pop("2.mean")), "mean"),
        (tensors(lambda content: content.update({"0.mean": torch.zeros(5)})), "must match"),
        (tensors(lambda content: content["0.columns"].add_(7)), "this version hears"),
        (tensors(lambda content: content.pop("novelty.root.key")), "limits of novelty"),
        (tensors(lambda content: content.update({"novelty.mean.key": torch.zeros(3)})), "broadcast"),
    ],
)
def test_a_folder_that_is_not_whole_is_told_in_a_line(broken, said, saved, tmp_path):
    folder = tmp_path / "critic"
    shutil.copytree(saved, folder)
    broken(folder)
    with pytest.raises(MgenError, match=said) as caught:
        StyleCritic.from_pretrained(folder)
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)
    assert "train" in str(caught.value) or "RUN/model" in str(caught.value)


def test_a_missing_side_is_an_error(lessons):
    train, valid = lessons
    one_sided = replace(valid, positive=np.ones_like(valid.positive))
    with pytest.raises(ValueError, match="calibration needs both sides"):
        FeatureModel.fit(train, one_sided, (replace(MEMBERS[0], steps=4), replace(MEMBERS[-1], steps=4)))


def test_novelty_is_learned_from_real_music_only(model, lessons):
    expected = OutOfDistributionGuard.fit(*(part.table[part.way == ""] for part in lessons))
    assert model.novelty.limit == expected.limit
    assert isinstance(model.ensemble, Ensemble) and len(model.ensemble.members) == len(MEMBERS)
