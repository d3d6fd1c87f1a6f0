"""The token network: it ignores loudness, judges each piece alone, and is a stock model on disk."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from critics_music import SWUNG, toy
from transformers import AutoModelForSequenceClassification

from critics.sequence import SequenceCritic, pad_rows, transpose_rows
from mgen.encoding.remi import Kind, Remi
from mgen.errors import MgenError
from mgen.notes import Notes


@pytest.fixture(scope="module")
def policy_folder(tiny_policy, remi, tmp_path_factory):
    folder = tmp_path_factory.mktemp("policy")
    tiny_policy(seed=3).save_pretrained(folder)
    remi.save_pretrained(folder)
    return folder


@pytest.fixture
def network(policy_folder, remi):
    network = SequenceCritic.new(remi, init=policy_folder, max_tokens=128, seed=1)
    with torch.no_grad():
        network.model.score.weight.mul_(50)  # logits of a size that differences show in
    return network


@pytest.fixture
def pieces():
    rng = np.random.default_rng(0)
    return Notes.concat([toy(SWUNG, 1, rng, bars) for bars in (4, 1, 2, 7, 3)])


def louder(notes, seed):
    velocity = np.random.default_rng(seed).integers(1, 128, len(notes)).astype(np.int32)
    return replace(notes, velocity=velocity)


def test_rows_are_canonical_tokens_with_one_velocity_cut_and_ended(network, pieces, remi):
    rows = network.rows(pieces)
    for row, ids in zip(rows, remi.encode(pieces), strict=True):
        assert row[-1] == remi.eos_id and len(row) == min(len(ids), 128) + 1
        kept = remi.kind[ids[:128]] != Kind.VELOCITY
        np.testing.assert_array_equal(row[:-1][kept], ids[:128][kept])
    ids = np.concatenate(rows)
    assert len(np.unique(ids[remi.kind[ids] == Kind.VELOCITY])) == 1


def test_velocities_do_not_move_the_logit(network, pieces):
    np.testing.assert_array_equal(network.logits(louder(pieces, 1)), network.logits(louder(pieces, 2)))


def test_every_piece_is_judged_alone(network, pieces):
    together = network.logits(pieces, batch_size=3)
    alone = [network.logits(pieces.pieces([i]))[0] for i in range(pieces.n_pieces)]
    assert np.ptp(together) > 0.1  # or the same number for all would pass
    np.testing.assert_allclose(together, alone, atol=1e-5)
    order = [3, 0, 4, 2, 1]
    np.testing.assert_allclose(network.logits(pieces.pieces(order)), together[order], atol=1e-5)


def test_no_pieces_give_no_logits_and_an_empty_piece_one(network, pieces):
    assert network.logits(pieces.pieces([])).shape == (0,)
    silent = pieces.select(pieces.piece != 1)
    assert np.isfinite(network.logits(silent)).all()


def test_a_policys_backbone_is_copied(policy_folder, remi, tiny_policy):
    network = SequenceCritic.new(remi, init=policy_folder)
    for name, weight in tiny_policy(seed=3).model.state_dict().items():
        assert torch.equal(network.model.model.state_dict()[name], weight), name
    assert network.max_tokens == network.model.config.max_position_embeddings - 1


def test_new_weights_follow_the_seed_and_leave_the_global_generator_alone(policy_folder, remi):
    before = torch.get_rng_state()
    one, same, other = (SequenceCritic.new(remi, policy_folder, seed=seed).model.score.weight for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_saved_and_loaded_it_gives_the_same_logits(network, pieces, remi, tmp_path):
    network.save_pretrained(tmp_path, kind="test", extra=1)
    loaded, facts = SequenceCritic.from_pretrained(tmp_path, remi)
    assert facts["extra"] == 1 and loaded.max_tokens == 128
    np.testing.assert_array_equal(loaded.logits(pieces), network.logits(pieces))


def test_the_stock_model_alone_ignores_velocity(network, pieces, remi, tmp_path):
    network.save_pretrained(tmp_path)
    stock = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    first, second = (remi.encode(louder(pieces, seed)) for seed in (1, 2))
    assert any((a != b).any() for a, b in zip(first, second, strict=True))
    said = [stock(input_ids=torch.from_numpy(pad_rows(rows, remi.pad_id))).logits for rows in (first, second)]
    assert torch.equal(*said)
    pitched = [remi.transpose(row, 1) for row in first]
    assert not torch.equal(said[0], stock(input_ids=torch.from_numpy(pad_rows(pitched, remi.pad_id))).logits)


STOCK = """
import json, sys
from transformers import AutoModelForSequenceClassification, AutoTokenizer
folder, text = sys.argv[1:]
model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
logit = model(**tokenizer(text, return_tensors="pt")).logits.item()
assert not any(name.split(".")[0] in {"mgen", "critics", "rewards"} for name in sys.modules)
print(json.dumps(logit))
"""


@pytest.mark.slow
def test_a_process_without_our_code_gives_the_same_logit(network, pieces, remi, tmp_path):
    network.save_pretrained(tmp_path)
    text = "".join(remi.names[token] for token in network.rows(pieces)[2])
    done = subprocess.run([sys.executable, "-I", "-c", STOCK, tmp_path, text], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == pytest.approx(network.logits(pieces)[2], abs=1e-5)


def test_another_vocabulary_is_refused(network, policy_folder, tmp_path):
    band = Remi.build(("jazz", "other"), multi=True)
    network.save_pretrained(tmp_path)
    with pytest.raises(MgenError, match="is not that of the music"):
        SequenceCritic.from_pretrained(tmp_path, band)
    with pytest.raises(MgenError, match="is not that of the music"):
        SequenceCritic.new(band, init=policy_folder)


def test_a_folder_without_a_critic_is_refused(policy_folder):
    with pytest.raises(MgenError, match=r"expected a critic \(critic.json\), found none"):
        SequenceCritic.from_pretrained(policy_folder)


def test_more_tokens_than_the_network_holds_are_refused(policy_folder, remi):
    with pytest.raises(MgenError, match=r"max_tokens \(1024\) .* try 1023"):
        SequenceCritic.new(remi, init=policy_folder, max_tokens=1024)


def test_transposed_rows_keep_everything_but_the_key(network, pieces, remi):
    rows = network.rows(pieces)
    rng = np.random.default_rng(0)
    shifts = set()
    for _ in range(60):
        for row, moved in zip(rows, transpose_rows(rows, remi, rng), strict=True):
            is_pitch = remi.kind[row] == Kind.PITCH
            np.testing.assert_array_equal(row[~is_pitch], moved[~is_pitch])
            (shift,) = set((remi.value[moved] - remi.value[row])[is_pitch].tolist())
            shifts.add(shift)
    assert shifts == set(range(-5, 7))


def test_transposition_stays_in_the_range_of_pitches(remi, pieces):
    high = replace(pieces, pitch=(pieces.pitch + 108 - pieces.pitch.max()).astype(np.int32))
    rows = remi.encode(high)
    for seed in range(20):
        for row in transpose_rows(rows, remi, np.random.default_rng(seed)):
            assert (remi.kind[row] == remi.kind[rows[0]][0]).any() and remi.decode([row]).n_broken[0] == 0
            assert remi.value[row[remi.kind[row] == Kind.PITCH]].max() <= 108
