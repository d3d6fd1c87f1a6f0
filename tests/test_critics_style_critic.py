"""The style critic of tokens: its training data, that it learns, and its scores."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from critics_music import MEDIANS, STRAIGHT, SWUNG, table, toy
from sklearn.metrics import roc_auc_score
from transformers import TrainingArguments

from critics.sequence import SequenceCritic
from critics.style import StyleCritic
from critics.style.critic import TokenModel
from critics.style.token_training import BLOCK, NEGATIVES, StyleDataset, StyleTrainer, TokenWindows, with_negatives
from mgen.encoding.remi import Kind, Remi
from mgen.errors import MgenError
from mgen.notes import Notes
from mgen.stats.calibration import Calibration, fit_calibration

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def network(tiny_policy, remi, tmp_path_factory):
    folder = tmp_path_factory.mktemp("policy")
    tiny_policy().save_pretrained(folder)
    remi.save_pretrained(folder)
    return SequenceCritic.new(remi, init=folder, max_tokens=96, label="jazz")


@pytest.fixture(scope="module")
def music(remi):
    rng = np.random.default_rng(5)

    def collection(style, pieces, bars=12):
        return table(remi, remi.encode(toy(style, pieces, rng, bars)))

    tables = {
        ("jazz", "large"): collection(SWUNG, 60),
        ("jazz", "small"): collection(SWUNG, 3),
        ("other", "one"): collection(STRAIGHT, 30),
        ("other", "short"): collection(STRAIGHT, 30, bars=3),
    }
    return TokenWindows(tables, remi, "jazz", prompt_tokens=24)


@pytest.fixture(scope="module")
def trained(network, music, tmp_path_factory):
    """A critic after some seconds of training, and its weights before."""
    before = {name: weight.clone() for name, weight in network.model.state_dict().items()}
    args = TrainingArguments(
        str(tmp_path_factory.mktemp("run")),
        max_steps=40,
        per_device_train_batch_size=16,
        learning_rate=1e-2,
        eval_strategy="no",
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    valid = music.draw(128, 96, np.random.default_rng(1))
    trainer = StyleTrainer(network, args, StyleDataset(music, network, 48, 640, retime=False), valid)
    trainer.train()
    metrics = trainer.evaluate()
    calibration = fit_calibration(network.logits(valid.notes), valid.positive)
    return StyleCritic(TokenModel(network, calibration, MEDIANS), "jazz"), before, metrics


def held_out(remi):
    rng = np.random.default_rng(99)
    return Notes.concat([toy(SWUNG, 40, rng), toy(STRAIGHT, 40, rng)]), np.arange(80) < 40


@pytest.mark.slow
def test_it_learns_to_tell_two_styles_apart(trained, remi):
    critic, before, metrics = trained
    notes, jazz = held_out(remi)
    judged = critic(notes)
    assert roc_auc_score(jazz, judged.score) > 0.9
    assert metrics["eval_auc"] > 0.9 and metrics["eval_loss"] < math.log(2)
    now = critic.model.network.model.state_dict()
    assert all(not torch.equal(now[name], weight) for name, weight in before.items() if "norm" not in name)


def test_the_score_is_log_probability_in_nats_within_its_bounds(trained, remi):
    critic, _, _ = trained
    notes, jazz = held_out(remi)
    judged = critic(notes)
    assert judged.score.dtype == np.float32 and judged.defined.all() and judged.credit is None
    assert (judged.score <= 0).all() and (judged.score >= critic.worst).all()
    assert judged.score[jazz].mean() > math.log(0.5) > judged.score[~jazz].mean()
    nats = critic.model.calibration.log_probability(critic.model.network.logits(notes))
    np.testing.assert_allclose(judged.score, np.maximum(nats, math.log(1e-4)), atol=1e-5)


def test_the_worst_score_is_a_bound_however_sure_the_network_is(trained, remi):
    critic, _, _ = trained
    sure = StyleCritic(TokenModel(critic.model.network, Calibration(1e4, 0.0), MEDIANS), "jazz")
    notes, jazz = held_out(remi)
    score = sure(notes).score
    assert score[~jazz].min() == np.float32(math.log(1e-4)) and score.max() == 0


def test_pieces_with_too_few_notes_are_undefined_and_get_the_worst(trained, remi):
    critic, _, _ = trained
    notes, _ = held_out(remi)
    number = np.arange(len(notes)) - notes.starts[notes.piece]
    cut = notes.select((notes.piece > 1) | (number < np.where(notes.piece == 0, 15, 0)))  # 15 notes, and none
    judged = critic(cut)
    assert judged.defined.tolist() == [False, False, *[True] * 78]
    assert (judged.score[:2] == np.float32(critic.worst)).all() and np.isfinite(judged.score).all()
    np.testing.assert_allclose(judged.score[2:], critic(notes).score[2:], atol=1e-5)
    assert critic(cut.pieces([1])).score.tolist() == [np.float32(critic.worst)]
    assert critic(notes.pieces([])).score.shape == (0,)


def test_drums_are_no_notes_of_a_style(trained, remi):
    critic, _, _ = trained
    notes, _ = held_out(remi)
    number = np.arange(len(notes)) - notes.starts[notes.piece]
    drums = replace(notes, program=np.where((notes.piece == 0) & (number >= 15), -1, 0).astype(np.int32))
    assert critic(drums).defined.tolist() == [False] + [True] * 79


def test_saved_and_loaded_it_judges_the_same(trained, remi, tmp_path):
    critic, _, _ = trained
    notes, _ = held_out(remi)
    critic.save_pretrained(tmp_path, trained_on={"data": "abc"})
    loaded = StyleCritic.from_pretrained(tmp_path, remi)
    assert loaded.model.calibration == critic.model.calibration and loaded.positive == "jazz"
    np.testing.assert_array_equal(loaded(notes).score, critic(notes).score)
    with pytest.raises(MgenError, match="is not that of the music"):
        StyleCritic.from_pretrained(tmp_path, Remi.build(styles=("jazz", "rest")))


def test_a_critic_of_another_kind_is_refused(trained, remi, tmp_path):
    trained[0].model.network.save_pretrained(tmp_path, kind="realism")
    with pytest.raises(MgenError, match="expected a style critic, found 'realism'"):
        StyleCritic.from_pretrained(tmp_path)


def test_sides_and_collections_come_up_equally_often(music):
    excerpts = music.draw(200, 48, np.random.default_rng(0))
    names, count = np.unique(excerpts.collection, return_counts=True)
    assert dict(zip(names.tolist(), count.tolist(), strict=True)) == dict.fromkeys(names.tolist(), 50)
    assert excerpts.positive.sum() == 100 and excerpts.notes.n_pieces == 200
    jazz = np.isin(excerpts.collection, ["large", "small"])
    np.testing.assert_array_equal(jazz, excerpts.positive)
    # The notes belong to their labels: swung beats have an onset at step 16, straight ones at 12.
    swung = np.bincount(excerpts.notes.piece, excerpts.notes.onset % 24 == 16, minlength=200) > 0
    np.testing.assert_array_equal(swung, excerpts.positive)


def test_excerpts_are_cut_as_completions_are(music):
    excerpts = music.draw(400, 48, np.random.default_rng(0))
    assert (excerpts.notes.n_tokens == 48).all()
    first = excerpts.notes.position[excerpts.notes.starts[:-1]]
    assert 0.3 < (first == 0).mean() < 0.75 and (first > 0).mean() > 0.2  # after a prompt: inside a bar


def test_a_collection_of_short_pieces_is_passed_over_and_a_side_of_them_is_an_error(music, remi):
    assert set(music.draw(64, 120, np.random.default_rng(0)).collection) == {"large", "small", "one"}
    with pytest.raises(MgenError, match=r"no piece that is jazz has the 5024 tokens"):
        music.draw(8, 5000, np.random.default_rng(0))
    only = TokenWindows({key: value for key, value in music.tables.items() if key[0] == "jazz"}, remi, "jazz", 0)
    with pytest.raises(MgenError, match="no piece that is not jazz"):
        only.draw(8, 48, np.random.default_rng(0))


def test_items_are_a_function_of_seed_and_number(music, network):
    first, again, other = (StyleDataset(music, network, 48, 3 * BLOCK, seed=seed) for seed in (1, 1, 2))
    for i in (2 * BLOCK + 5, 0, BLOCK, 7):
        (row, label), (same, same_label) = first[i], again[i]
        np.testing.assert_array_equal(row, same)
        assert label == same_label
    assert any(len(first[i][0]) != len(other[i][0]) or (first[i][0] != other[i][0]).any() for i in range(20))
    with pytest.raises(IndexError):
        first[3 * BLOCK]


def test_training_covers_all_keys_and_lengths(music, network, remi):
    items = StyleDataset(music, network, 24, 8 * BLOCK)
    lengths = {len(items[i * BLOCK][0]) for i in range(8)}
    assert min(lengths) < 60 and max(lengths) > 70
    classes = set()
    for i in range(BLOCK):
        row, _ = items[i]
        classes |= set((remi.value[row[remi.kind[row] == Kind.PITCH]] % 12).tolist())
    assert classes == set(range(12))


def test_corrupted_copies_of_the_style_replace_some_of_the_other_side(music):
    excerpts = music.draw(80, 48, np.random.default_rng(0))
    mixed = with_negatives(excerpts, 0.5, np.random.default_rng(1))
    np.testing.assert_array_equal(mixed.positive, excerpts.positive)

    def timing(notes, piece):
        return notes.onset[notes.piece == piece].tolist()

    jazz = [timing(excerpts.notes, i) for i in np.flatnonzero(excerpts.positive)]
    others = np.flatnonzero(~excerpts.positive)
    changed = [i for i in others if timing(mixed.notes, i) != timing(excerpts.notes, i)]
    assert len(changed) == 20 and len(NEGATIVES) == 4
    # Three of four corruptions keep the rhythm of the piece; the loop repeats two bars of it.
    assert sum(timing(mixed.notes, i) in jazz for i in changed) >= 15
    for i in np.flatnonzero(excerpts.positive):
        assert timing(mixed.notes, i) == timing(excerpts.notes, i)
    assert with_negatives(excerpts, 0.0, RNG).notes.n_pieces == 80
