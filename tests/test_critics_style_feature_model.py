"""The critic of features, trained briefly on the demo's music: its scores, and where it abstains."""

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

from critics.style import StyleCritic, ensemble
from critics.style.ensemble import MEMBERS, Ensemble, feature_table
from critics.style.feature_model import CORRUPTED_PRIOR, WEIGHTS, FeatureModel
from critics.style.feature_training import FeatureRows
from critics.style.features import style_features
from critics.style.out_of_distribution import OutOfDistributionGuard
from mgen.errors import MgenError
from mgen.notes import Notes
from mgen.stats.calibration import expected_calibration_error
from mgen.transforms.corruptions import markov_pitches, one_pitch, random_pitches, shuffle_bars, two_bar_loop
from mgen.transforms.degenerate import random_tokens

pytestmark = pytest.mark.slow

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


def training_set(first: int, last: int, copies: int):
    some = excerpts(first, last)
    return FeatureRows.compute(some, copies=copies).training_set(np.ones(len(some), bool))


@pytest.fixture(scope="module")
def training_sets():
    return training_set(0, 24, 1), training_set(24, 36, 0)


@pytest.fixture(scope="module")
def model(training_sets):
    return FeatureModel.fit(*training_sets, tuple(replace(member, steps=60) for member in MEMBERS))


@pytest.fixture(scope="module")
def critic(model):
    return StyleCritic(model, "jazz")


@pytest.fixture(scope="module")
def test():
    return excerpts(36, 48)


def test_it_classifies_held_out_works(critic, test):
    judged = critic(test.notes)
    known = judged.defined
    assert known.all() and judged.score.dtype == np.float32
    assert roc_auc_score(test.positive[known], judged.score[known]) > 0.95
    assert expected_calibration_error(np.exp(judged.score[known]), test.positive[known]) < 0.15


def test_the_score_is_of_the_style_and_of_intact_music(model, critic, test):
    """By hand, from the two questions: log P(style) + log P(intact), with the prior of corrupted music."""
    table = feature_table(test.notes)
    style, intact = (model.ensemble.logits(table, question) for question in ("style", "intact"))
    p_style = 1 / (1 + np.exp(-(model.style.scale * style + model.style.bias)))
    odds = np.exp(model.intact.scale * intact + model.intact.bias) * (1 - CORRUPTED_PRIOR) / CORRUPTED_PRIOR
    expected = np.log(p_style * odds / (1 + odds))
    np.testing.assert_allclose(model.log_probability(table), expected, rtol=1e-6)
    judged = critic(test.notes)
    lost = model.penalty(test.notes)
    assert judged.defined.all() and (judged.score <= 0).all() and (lost == 0).mean() > 0.5
    np.testing.assert_allclose(judged.score, np.maximum(expected - lost, critic.worst), rtol=1e-5)
    np.testing.assert_allclose(critic.probability(test.notes), np.exp(expected - lost), rtol=1e-5)


def test_log_odds_are_capped_at_the_median_of_real_music(model, training_sets, test):
    """By hand: each part up to its median over real music of the style of that length, then minus the guard's loss."""
    _, valid = training_sets
    own = valid.table[(valid.corruption == "") & valid.positive]
    table, lost = feature_table(test.notes), model.penalty(test.notes)
    total = -lost
    for question, calibration in (("style", model.style), ("intact", model.intact)):
        prior = 0.0 if question == "style" else np.log((1 - CORRUPTED_PRIOR) / CORRUPTED_PRIOR)

        def odds(rows, question=question, calibration=calibration, prior=prior):
            return calibration.scale * model.ensemble.logits(rows, question) + calibration.bias + prior

        median = np.median(odds(own))
        assert model.real[question].notes.tolist() == [LENGTH] and model.real[question].values == pytest.approx(median)
        capped = np.minimum(odds(table), median)
        assert 0 < (capped == median).mean() < 1
        part = StyleCritic(model, "jazz", part=question, scale="log_odds")(test.notes).score
        np.testing.assert_allclose(part, np.maximum(capped - lost, np.log(1e-4)), rtol=1e-5)
        total += capped
    both = StyleCritic(model, "jazz", scale="log_odds")
    np.testing.assert_allclose(both(test.notes).score, np.maximum(total, np.log(1e-4)), rtol=1e-5)
    # a beginning that is too short has the prior: 0 for the style, and music is seldom corrupted
    short = test.notes.select(np.arange(len(test.notes)) - test.notes.starts[test.notes.piece] < 10)
    np.testing.assert_allclose(both.prefix_scores(short), np.log((1 - CORRUPTED_PRIOR) / CORRUPTED_PRIOR))
    np.testing.assert_allclose(both.prefix_scores(test.notes), both(test.notes).score, rtol=1e-5)


def test_judges_of_one_batch_share_its_features(model, test, monkeypatch):
    computed = []
    monkeypatch.setattr(ensemble, "style_features", lambda notes: computed.append(notes) or style_features(notes))
    notes = replace(test.notes)
    for part in ("style", "intact"):
        StyleCritic(model, "jazz", part=part, scale="log_odds")(notes)
    assert computed == [notes]


def test_each_piece_is_judged_alone(critic, test):
    notes = Notes.concat([test.notes.pieces(range(6)), nothing(), line([60] * 40)])
    together = critic(notes)
    alone = [critic(one) for one in each(notes)]
    np.testing.assert_allclose(together.score, np.concatenate([one.score for one in alone]), rtol=1e-5)
    np.testing.assert_array_equal(together.defined, np.concatenate([one.defined for one in alone]))


def test_it_abstains_on_degenerate_inputs(critic, test, remi):
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
    for name in ("empty", "one note", "drums", "few notes among drums"):
        assert not critic(odd[name]).defined.any(), name


def _mostly_drums(notes: Notes) -> Notes:
    number = np.arange(len(notes)) - notes.starts[notes.piece]
    return replace(notes, program=np.where(number % 6, -1, 0).astype(np.int32))


@pytest.mark.parametrize("change", [random_pitches, markov_pitches, two_bar_loop, shuffle_bars])
def test_corrupted_music_scores_below_intact_music(change, critic, test):
    jazz = test.notes.pieces(np.flatnonzero(test.positive))
    corrupted = critic(change(jazz, np.random.default_rng(0))).score
    assert corrupted.mean() < critic(jazz).score.mean() - 0.3


def test_threads_do_not_matter(critic, test):
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
    assert about["kind"] == "style" and about["input"] == "features" and about["trained_on"] == {"data": "abc"}


def test_the_prior_is_the_one_it_was_saved_with(model, test, tmp_path):
    StyleCritic(replace(model, corrupted_prior=0.5), "jazz").save_pretrained(tmp_path)
    loaded = StyleCritic.from_pretrained(tmp_path).model
    table = feature_table(test.notes)
    assert loaded.corrupted_prior == 0.5
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
    # up to its last bar, a beginning has the credit that it has alone
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
    ("damage", "message"),
    [
        (lambda folder: (folder / WEIGHTS).unlink(), "No such file"),
        (lambda folder: (folder / WEIGHTS).write_bytes(b""), "header too small"),
        (lambda folder: (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-9]), "Error"),
        (lambda folder: (folder / "critic.json").unlink(), "expected a critic"),
        (lambda folder: (folder / "critic.json").write_text("{"), "cannot be read"),
        (lambda folder: (folder / "critic.json").write_bytes(b"\xff\xfe"), "cannot be read"),
        (lambda folder: (folder / "critic.json").write_text("[]"), "expected a JSON object"),
        (facts(lambda content: content.pop("members")), "members"),
        (facts(lambda content: content.update(members=[])), "no member has the tensor"),
        (facts(lambda content: content.update(members=content["members"][:4])), "no member has the tensor 4"),
        (facts(lambda content: content["members"][0].update(hidden=2)), "hidden"),
        (facts(lambda content: content.update(style={"scale": "a"})), "finite number"),
        (facts(lambda content: content.update(worst="a")), "finite number"),
        (facts(lambda content: content.update(input="audio")), "expected input to be one of features, tokens"),
        (facts(lambda content: content.pop("real")), "an older mgen; train it again with mgen critic"),
        (facts(lambda content: content["real"].pop("intact")), "intact"),
        (facts(lambda content: content["real"].update(style=[[64, 1], [32, 2]])), "increasing order"),
        (facts(lambda content: content["guard_limit"].pop("key")), "guard_limit does not fit"),
        (tensors(lambda content: content.pop("2.mean")), "mean"),
        (tensors(lambda content: content.update({"0.mean": torch.zeros(5)})), "must match"),
        (tensors(lambda content: content["0.columns"].add_(7)), "this version"),
        (tensors(lambda content: content.pop("guard.root.key")), "guard_limit does not fit"),
        (tensors(lambda content: content.update({"guard.mean.key": torch.zeros(3)})), "broadcast"),
    ],
)
def test_a_damaged_folder_is_an_error_in_one_line(damage, message, saved, tmp_path):
    folder = tmp_path / "critic"
    shutil.copytree(saved, folder)
    damage(folder)
    with pytest.raises(MgenError, match=message) as caught:
        StyleCritic.from_pretrained(folder)
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)
    assert "train" in str(caught.value) or "RUN/model" in str(caught.value)


def test_a_missing_side_is_an_error(training_sets):
    train, valid = training_sets
    one_sided = replace(valid, positive=np.ones_like(valid.positive))
    with pytest.raises(ValueError, match="calibration: expected pieces of both classes, found 48 yes and 0 no"):
        FeatureModel.fit(train, one_sided, (replace(MEMBERS[0], steps=4), replace(MEMBERS[-1], steps=4)))


def test_the_guard_is_fitted_to_real_music_only(model, training_sets):
    known, others = (part.table[part.corruption == ""] for part in training_sets)
    expected = OutOfDistributionGuard.fit(known, others, np.full(len(others), LENGTH))
    for name, limit in expected.limit.items():
        np.testing.assert_array_equal(model.guard.limit[name].values, limit.values)
    assert isinstance(model.ensemble, Ensemble) and len(model.ensemble.members) == len(MEMBERS)
