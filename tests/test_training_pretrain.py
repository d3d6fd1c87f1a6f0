"""Pretraining: windows, exact resume after a kill at any moment."""

from __future__ import annotations

import json
import math
import os

import numpy as np
import pandas as pd
import pytest
import torch

from mgen.cli import pretrain
from mgen.corpus.shards import Corpus, TokenTable
from mgen.corpus.windows import Windows, collate, sample_windows
from mgen.encoding.remi import Kind
from mgen.errors import MgenError
from mgen.runs import checkpoints
from mgen.runs.checkpoints import last_complete
from mgen.training.pretrain import PretrainTrainer, token_sums

pytestmark = pytest.mark.slow


def table_of(remi, pieces):
    ids = np.concatenate(pieces).astype(np.uint16)
    offsets = np.concatenate([[0], np.cumsum([len(piece) for piece in pieces])]).astype(np.int64)
    return TokenTable(ids, offsets, pd.DataFrame({"style": ["jazz", "other"] * len(pieces)}).iloc[: len(pieces)])


def piece_of(remi, bars, pitch=60):
    names = {name: i for i, name in enumerate(remi.names)}
    bar = ["Bar_None", "TimeSig_4/4", "Position_0", f"Pitch_{pitch}", "Velocity_63", "Duration_1.0.24"]
    return np.array([names[name] for name in bar * bars])


def test_windows_start_on_a_bar_after_bos_and_style(remi):
    table = table_of(remi, [piece_of(remi, 40, 60), piece_of(remi, 3, 70)])
    windows = Windows(table, remi, context=32, length=500, style_dropout=0.0)
    for i in range(500):
        ids = windows[i]["input_ids"]
        assert len(ids) <= 32 and ids[0] == remi.bos_id and ids[2] == remi.bar_id
        assert ids[1] in remi.style_ids.values()
        music = remi.decode([ids[2:]])
        assert music.n_broken.sum() <= (ids[-1] == remi.eos_id)


def test_windows_are_a_function_of_seed_and_number(remi):
    table = table_of(remi, [piece_of(remi, 40)])
    first, again, other = (Windows(table, remi, 32, 100, seed=seed) for seed in (1, 1, 2))
    same = [np.array_equal(first[i]["input_ids"], again[i]["input_ids"]) for i in reversed(range(100))]
    assert all(same)
    assert not all(np.array_equal(first[i]["input_ids"], other[i]["input_ids"]) for i in range(100))


def test_an_epoch_visits_every_piece_and_all_twelve_keys_come_up(remi):
    table = table_of(remi, [piece_of(remi, 20, 40 + i) for i in range(6)])
    windows = Windows(table, remi, 32, length=3000)
    pieces = windows.cells[:, 0]
    assert set(pieces.tolist()) == set(range(6))
    pitches = set()
    for i in range(3000):
        ids = windows[i]["input_ids"]
        pitches |= {int(p) % 12 for p in remi.value[ids[remi.kind[ids] == Kind.PITCH]]}
    assert pitches == set(range(12))


def test_sampled_windows_have_the_length_asked_for_and_start_on_a_bar(remi):
    table = table_of(remi, [piece_of(remi, 40), piece_of(remi, 2)])
    rng = np.random.default_rng(0)
    windows, piece = sample_windows(table, remi, 50, 30, rng)
    assert windows.shape == (50, 30) and (windows[:, 0] == remi.bar_id).all() and set(piece.tolist()) == {0}
    with pytest.raises(MgenError, match="longest piece has 240"):
        sample_windows(table, remi, 5, 1000, rng)


def test_padding_is_not_trained_on(remi):
    batch = collate(
        [{"input_ids": np.array([1, 2, 3]), "index": 0}, {"input_ids": np.array([4]), "index": 1}],
        remi.pad_id,
    )
    assert batch["labels"].tolist() == [[1, 2, 3], [4, -100, -100]]
    assert batch["input_ids"].tolist() == [[1, 2, 3], [4, remi.pad_id, remi.pad_id]]


def test_nats_by_hand():
    logits = torch.log(torch.tensor([[[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]]))
    sums = token_sums(logits, torch.tensor([[0, -100]]), torch.tensor([True, False, False]))
    assert sums.tolist() == pytest.approx([math.log(2), 1, 1])


def words(corpus, out, steps=12):
    return [
        "--corpus", str(corpus), "--out", str(out), "--max_steps", str(steps), "--eval_steps", "4", "--context", "64",
        "--per_device_train_batch_size", "4", "--valid_windows", "8", "--report_to", "none", "--disable_tqdm", "true",
        "--logging_steps", "1",
    ]  # fmt: skip


def test_killed_at_four_moments_it_ends_as_an_uninterrupted_run(small_corpus, tmp_path, monkeypatch):
    """In a step, while a checkpoint is written, after the last one, while the model is written; then it is moved."""
    # test_training_streaming.py resumes without these
    options = ["--ema", "0.9", "--optimizer", "muon", "--repetition", "own", "--repetition_from", "0.3"]
    options += ["--grammar_weight", "2"]
    options += ["--repetition_share", "0.5"]
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    assert pretrain.main([*words(small_corpus, straight), *options]) == 0

    def kill(where, name, at):
        original, calls = getattr(where, name), []

        def cut(*args, **kwargs):
            calls.append(0)
            if len(calls) == at:
                raise KeyboardInterrupt
            return original(*args, **kwargs)

        monkeypatch.setattr(where, name, cut)
        with pytest.raises(KeyboardInterrupt):
            pretrain.main([*words(small_corpus, killed), *options])
        monkeypatch.undo()
        assert not (killed / "model").exists()

    kill(PretrainTrainer, "training_step", at=7)
    assert last_complete(killed / "checkpoints").name == "checkpoint-4"
    kill(checkpoints, "write_manifest", at=1)
    assert (killed / "checkpoints" / "checkpoint-8" / "model.safetensors").is_file()
    kill(PretrainTrainer, "evaluate", at=3)  # at steps 8 and 12, and at the end
    assert last_complete(killed / "checkpoints").name == "checkpoint-12"
    kill(checkpoints, "write_manifest", at=1)
    assert (killed / "model.part" / "model.safetensors").is_file()
    killed = killed.rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    assert pretrain.main([*words(os.path.relpath(small_corpus), "./moved/"), *options]) == 0

    for path in sorted((straight / "model").iterdir()):
        assert path.read_bytes() == (killed / "model" / path.name).read_bytes(), path.name
    assert (killed / "metrics.jsonl").read_text() == (straight / "metrics.jsonl").read_text()
    first, second = (json.loads((run / "run.json").read_text()) for run in (straight, killed))
    times = {"began", "started", "finished", "seconds"}
    assert {key: value for key, value in first.items() if key not in times} == {
        key: value for key, value in second.items() if key not in times
    }
    assert sorted(path.name for path in killed.iterdir()) == sorted(path.name for path in straight.iterdir())


def test_a_finished_run_says_so_and_another_config_is_refused(small_corpus, tmp_path, capsys):
    out = tmp_path / "run"
    assert pretrain.main(words(small_corpus, out, 4)) == 0
    before = os.stat(out / "model" / "model.safetensors").st_mtime_ns
    assert pretrain.main(words(small_corpus, out, 4)) == 0
    assert "was finished before" in capsys.readouterr().out
    assert os.stat(out / "model" / "model.safetensors").st_mtime_ns == before
    with pytest.raises(MgenError, match="max_steps=4, now max_steps=5"):
        pretrain.main(words(small_corpus, out, 5))


def test_it_learns(small_corpus, tmp_path):
    out = tmp_path / "run"
    assert pretrain.main([*words(small_corpus, out, 30), "--optimizer", "rmsprop", "--learning_rate", "3e-3"]) == 0
    facts = json.loads((out / "run.json").read_text())
    assert facts["nats_per_token"] < 0.85 * facts["uniform_nats_per_token"]
    assert facts["nats_per_note"] > facts["nats_per_token"]  # a note takes several tokens


def test_muon_does_not_split_its_matrices(small_corpus, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(MgenError, match="optimizer muon needs whole matrices in each process, not fsdp; use adamw"):
        pretrain.main([*words(small_corpus, tmp_path / "run"), "--optimizer", "muon"])
    assert not (tmp_path / "run").exists()


def test_a_folder_with_something_else_in_it_is_refused(small_corpus, tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(MgenError, match="not empty"):
        pretrain.main(words(small_corpus, tmp_path))
    assert (tmp_path / "letter.txt").read_text() == "dear"


def test_a_learning_rate_that_breaks_the_weights_stops_the_run_in_that_step(small_corpus, tmp_path):
    text = [
        *words(small_corpus, tmp_path / "run", 12),
        "--learning_rate",
        "1e30",
        "--max_grad_norm",
        "0",
        "--warmup_steps",
        "0",
    ]
    with pytest.raises(MgenError, match=r"step 1: the weights are infinite .*lower learning_rate \(1e\+30\)"):
        pretrain.main(text)
    assert not list((tmp_path / "run" / "checkpoints").iterdir())


def test_corpus_and_model_with_other_tokens_do_not_mix(small_corpus, tmp_path):
    from mgen.encoding.remi import Remi
    from mgen.models.transformer import check_vocabulary

    corpus = Corpus.open(small_corpus)
    with pytest.raises(MgenError, match="same recipe, styles, velocity and merges"):
        check_vocabulary("model", Remi.build(("jazz", "other"), multi=True), small_corpus, corpus.remi)
