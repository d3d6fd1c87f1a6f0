"""Streamed windows: the music of map-style windows, in an order of their own, dealt out without loss or repetition."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from itertools import islice, pairwise

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from torch.utils.data import DataLoader

from mgen.cli import pretrain
from mgen.corpus.shards import Corpus
from mgen.corpus.windows import Windows, window_counts
from mgen.errors import MgenError
from mgen.training.pretrain import PretrainTrainer
from mgen.training.streaming import StreamedWindows, _shuffle, evaluation_table

pytestmark = pytest.mark.slow

CONTEXT = 256


@pytest.fixture(scope="module")
def sharded(small_corpus, tmp_path_factory):
    """The small corpus, its train split in three shards of several row groups, as of a corpus that is not small."""
    folder = tmp_path_factory.mktemp("sharded") / "a[b]" / "corpus"  # taken as a pattern, this folder is another one
    shutil.copytree(small_corpus, folder)
    manifest = json.loads((folder / "corpus.json").read_text())
    (entry,) = (entry for entry in manifest["shards"] if entry["split"] == "train")
    table = pq.read_table(folder / "tokens" / entry["file"])
    (folder / "tokens" / entry["file"]).unlink()
    shards = []
    for number, (begin, end) in enumerate(pairwise([0, len(table) // 4, len(table) // 2, len(table)])):
        name = f"train-{number:05d}.parquet"
        pq.write_table(table.slice(begin, end - begin), folder / "tokens" / name, row_group_size=5)
        shards.append({"file": name, "split": "train", "tokens": 0})
    manifest["shards"] = shards + [entry for entry in manifest["shards"] if entry["split"] != "train"]
    (folder / "corpus.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture
def damaged(sharded, tmp_path):
    """A copy to be broken."""
    shutil.copytree(sharded, tmp_path / "corpus")
    return tmp_path / "corpus"


def streamed(folder, epochs=1.0, batch=1, ranks=1, **changes):
    plain = {"transpose": False, "style_dropout": 0.0, "buffer": 50}
    one = StreamedWindows(Corpus.open(folder), CONTEXT, batch * ranks, batch, ranks=ranks, **plain | changes)
    return replace(one, length=int(one.epoch_length * epochs) // one.global_batch * one.global_batch)


def plain(items):
    return [(int(item["index"]), item["input_ids"].tolist()) for item in items]


def music(items):
    return [tuple(item["input_ids"].tolist()) for item in items]


def test_an_epoch_has_the_windows_of_each_piece_that_map_style_has(sharded):
    corpus = Corpus.open(sharded)
    table = corpus.table("train")
    ours = streamed(sharded)
    count = window_counts(np.diff(table.offsets), CONTEXT, corpus.remi)
    styles = table.rows["style"].map(corpus.remi.style_ids)
    expected = Counter()
    for i in range(len(table)):
        expected.update((table[i].tobytes(), styles[i], number) for number in range(count[i]))
    windows = islice(ours._windows(), ours.epoch_length)
    assert Counter((w.piece.tobytes(), w.style_id, w.number) for _, w in windows) == expected
    assert ours.epoch_length == Windows(table, corpus.remi, CONTEXT, 1).epoch_length == len(list(ours))


def test_first_windows_are_bos_style_and_the_beginning_of_the_piece(sharded):
    # Only later windows of a piece begin at a place left to chance.
    corpus = Corpus.open(sharded)
    table = corpus.table("train")
    found = set(music(streamed(sharded)))
    for i in range(len(table)):
        ids = [corpus.remi.bos_id, corpus.remi.style_ids[table.rows["style"][i]], *table[i][: CONTEXT - 2].tolist()]
        if len(table[i]) <= CONTEXT - 2:
            ids.append(corpus.remi.eos_id)
        assert tuple(ids) in found


def test_windows_start_on_a_bar_and_reach_the_end_of_each_piece(sharded):
    corpus = Corpus.open(sharded)
    items = list(streamed(sharded))
    for item in items:
        ids = item["input_ids"]
        assert len(ids) <= CONTEXT and ids[0] == corpus.remi.bos_id and ids[2] == corpus.remi.bar_id
    ends = sum(item["input_ids"][-1] == corpus.remi.eos_id for item in items)
    assert ends > 0.3 * len(corpus.table("train"))


def test_keys_and_styles_are_drawn_as_map_style_draws_them(sharded):
    corpus = Corpus.open(sharded)
    with_style = [item["input_ids"][1] in corpus.remi.style_ids.values() for item in streamed(sharded, 4)]
    assert all(with_style)
    dropped = streamed(sharded, 4, style_dropout=0.25, transpose=True)
    share = np.mean([item["input_ids"][1] == corpus.remi.bar_id for item in dropped])
    n = len(dropped)
    assert abs(share - 0.25) < 4 * np.sqrt(0.25 * 0.75 / n)
    assert music(dropped) != music(replace(dropped, transpose=False))


def test_the_seed_determines_the_stream_and_epochs_differ(sharded):
    two = streamed(sharded, 2)
    items = plain(two)
    assert items == plain(two)
    assert items != plain(replace(two, seed=1))
    n = two.epoch_length
    first, second = music(two)[:n], music(two)[n:]
    assert [index for index, _ in items] == list(range(2 * n))
    assert first != second
    assert len(set(first) - set(second)) > 0.3 * n  # other cuts, not the same ones in another order
    shards = [window.piece.tobytes() for _, window in islice(replace(two, buffer=1)._windows(), 2 * n)]
    assert shards[0] != shards[n]  # another shard leads


def test_a_window_is_cut_elsewhere_in_each_epoch_and_by_each_seed(small_corpus):
    # One shard and no choice: the windows stay where they are, and only their cuts can differ.
    still = streamed(small_corpus, 2, buffer=1)
    n = still.epoch_length
    order = [(window.piece.tobytes(), window.number) for _, window in islice(still._windows(), 2 * n)]
    assert order[:n] == order[n:]
    later = np.array([number > 0 for _, number in order[:n]])
    items, seeded = music(still), music(replace(still, seed=1))
    for other in (items[n:], seeded[:n]):
        moved = np.array([a != b for a, b in zip(items[:n], other, strict=True)])
        assert moved[later].mean() > 0.5 and not moved[~later].any()


def test_a_buffer_gives_each_window_once_and_moves_them():
    rng = np.random.default_rng(0)
    shuffled = list(_shuffle(iter(range(1000)), 100, rng))
    assert sorted(shuffled) == list(range(1000))
    assert list(_shuffle(iter(range(7)), 100, rng)) != list(range(7))
    moved = np.arange(1000) - np.array(shuffled)
    assert moved.min() >= -100  # none comes before it has been read
    assert 50 < np.abs(moved[:800]).mean() < 100  # waits exponentially, 100 draws on average: 2 / e of them


@pytest.mark.parametrize("begin", [8, 120, 304, 640])
def test_a_stream_begins_anywhere(sharded, begin):
    full = streamed(sharded, 3, batch=4, ranks=2)
    assert full.epoch_length < 640 < full.length
    assert plain(replace(full, begin=begin)) == plain(full)[begin // 2 :]


def test_two_processes_share_the_stream(sharded):
    one = streamed(sharded, 2, batch=4, ranks=2)
    both = [plain(replace(one, rank=rank)) for rank in (0, 1)]
    assert [index for index, _ in both[0][:8]] == [0, 1, 2, 3, 8, 9, 10, 11]
    assert [index for index, _ in both[1][:8]] == [4, 5, 6, 7, 12, 13, 14, 15]
    assert sorted(both[0] + both[1]) == plain(replace(one, batch=8, ranks=1))


def test_workers_change_nothing(sharded):
    one = streamed(sharded, 0.5, batch=4, ranks=2, begin=0)
    one = replace(one, begin=16, rank=1)

    def batches(workers):
        return [plain(batch) for batch in DataLoader(one, batch_size=4, num_workers=workers, collate_fn=list)]

    assert batches(3) == batches(0)


def test_lengths_that_are_no_multiple_of_the_global_batch_are_refused(sharded):
    with pytest.raises(ValueError, match=r"length \(9\) must be a multiple of batch \(4\) times ranks \(2\)"):
        StreamedWindows(Corpus.open(sharded), CONTEXT, 9, 4, ranks=2)
    with pytest.raises(ValueError, match=r"begin \(4\) must be"):
        StreamedWindows(Corpus.open(sharded), CONTEXT, 16, 4, ranks=2, begin=4)


def test_the_table_for_evaluation_is_that_of_the_corpus_up_to_a_limit(sharded):
    corpus = Corpus.open(sharded)
    for split in ("train", "valid"):
        ours, theirs = evaluation_table(corpus, split), corpus.table(split)
        np.testing.assert_array_equal(ours.ids, theirs.ids)
        np.testing.assert_array_equal(ours.offsets, theirs.offsets)
        assert ours.rows.equals(theirs.rows[["piece", "style"]].astype(ours.rows.dtypes))
    full = corpus.table("train")
    some = evaluation_table(corpus, "train", 20_000)
    longest = int(np.diff(full.offsets).max())
    assert 20_000 <= len(some.ids) < 20_000 + longest
    number = {piece: i for i, piece in enumerate(full.rows["piece"])}
    for i, piece in enumerate(some.rows["piece"]):
        np.testing.assert_array_equal(some[i], full[number[piece]])
        assert some.rows["style"][i] == full.rows["style"][number[piece]]


def options(corpus, out, *more):
    return [
        "--corpus", str(corpus), "--out", str(out), "--max_steps", "8", "--eval_steps", "4", "--context", "64",
        "--per_device_train_batch_size", "4", "--gradient_accumulation_steps", "2", "--valid_windows", "8",
        "--report_to", "none", "--disable_tqdm", "true", "--logging_steps", "1", "--dropout", "0.1",
        "--streaming", "true", *more,
    ]  # fmt: skip


def test_interrupted_and_started_again_it_ends_with_the_same_weights(sharded, tmp_path, monkeypatch):
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    items = {straight: [], broken: []}
    compute_loss = PretrainTrainer.compute_loss

    def watch(run, last_step):
        def loss(self, model, inputs, *args, **kwargs):
            if self.state.global_step == last_step:
                raise KeyboardInterrupt
            items[run].append((self.state.global_step, inputs["index"].tolist()))
            return compute_loss(self, model, inputs, *args, **kwargs)

        monkeypatch.setattr(PretrainTrainer, "compute_loss", loss)

    watch(straight, None)
    assert pretrain.main(options(sharded, straight)) == 0
    watch(broken, 6)
    with pytest.raises(KeyboardInterrupt):
        pretrain.main(options(sharded, broken))
    watch(broken, None)
    assert pretrain.main(options(sharded, broken)) == 0

    steps = [(step, list(range(i, i + 4))) for i, step in zip(range(0, 64, 4), np.repeat(range(8), 2), strict=True)]
    assert items[straight] == steps
    assert items[broken] == steps[:12] + steps[8:]  # the checkpoint was written after four steps of two batches
    first, second = (load_file(run / "model" / "model.safetensors") for run in (straight, broken))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    logs = [
        [(line["step"], line["loss"], line["epoch"]) for line in map(json.loads, log.splitlines()) if "loss" in line]
        for log in ((run / "metrics.jsonl").read_text() for run in (straight, broken))
    ]
    assert logs[0] == logs[1] and len(logs[0]) == 8
    facts = [json.loads((run / "run.json").read_text()) for run in (straight, broken)]
    windows = Windows(Corpus.open(sharded).table("train"), Corpus.open(sharded).remi, 64, 1)
    assert facts[0]["epochs"] == facts[1]["epochs"] == round(64 / windows.epoch_length, 2)


def test_a_missing_or_damaged_shard_is_one_line(damaged):
    shard = damaged / "tokens" / "train-00001.parquet"
    full = shard.read_bytes()
    shard.unlink()
    with pytest.raises(MgenError, match=r"train-00001\.parquet: cannot be read \(.*\); prepare it again") as caught:
        streamed(damaged)
    assert "\n" not in str(caught.value)
    shard.write_bytes(full[: len(full) // 2])
    with pytest.raises(MgenError, match=r"train-00001\.parquet: cannot be read"):
        streamed(damaged)
    broken = bytearray(full)
    broken[100:600] = bytes(500)  # its end, which is looked at first, is sound
    shard.write_bytes(broken)
    with pytest.raises(MgenError, match=r"tokens: a shard cannot be read"):
        list(streamed(damaged))


def test_shards_that_do_not_fit_the_pieces_are_refused(damaged):
    shard = damaged / "tokens" / "train-00001.parquet"
    table = pq.read_table(shard)
    pq.write_table(table.slice(1), shard)
    with pytest.raises(MgenError, match=r"tokens: train has 62 pieces, pieces\.parquet counts 63; prepare it again"):
        streamed(damaged)
    pq.write_table(table.drop_columns("style"), shard)
    with pytest.raises(MgenError, match="expected the columns piece, style, ids, found piece, ids"):
        streamed(damaged)
    for first in (table["ids"][0].as_py() * 900, table["ids"][0].as_py()[:8]):
        ids = pa.array([first, *table["ids"].to_pylist()[1:]], table.schema.field("ids").type)
        pq.write_table(table.set_column(2, table.schema.field("ids"), ids), shard)
        with pytest.raises(MgenError, match=r"lengths in train differ from pieces\.parquet"):
            list(streamed(damaged))


def test_a_corpus_of_another_version_or_without_music_is_one_line(damaged, tmp_path):
    pieces = pd.read_parquet(damaged / "pieces.parquet")
    pieces.assign(split="valid").to_parquet(damaged / "pieces.parquet")
    with pytest.raises(MgenError, match="no pieces in train; add music"):
        streamed(damaged)
    manifest = json.loads((damaged / "corpus.json").read_text())
    (damaged / "corpus.json").write_text(json.dumps(manifest | {"version": 1}))
    with pytest.raises(MgenError, match="is of version 1, this mgen reads 2; prepare it again"):
        pretrain.main(options(damaged, tmp_path / "run"))


def test_nothing_is_left_in_the_cache(sharded, tmp_path):
    code = (
        "import sys; from mgen.corpus.shards import Corpus; from mgen.training.streaming import StreamedWindows; "
        "print(len(list(StreamedWindows(Corpus.open(sys.argv[1]), 256, 700, 1))))"
    )
    home = tmp_path / "home"
    home.mkdir()
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    world = os.environ | {"HF_HOME": str(home), "TMPDIR": str(temporary), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code, str(sharded)], env=world, capture_output=True, text=True)
    assert done.stdout.strip() == "700", done.stderr
    assert not [path for folder in (home, temporary) for path in folder.rglob("*") if path.is_file()]


def test_streaming_and_a_batch_that_changes_do_not_mix(sharded, tmp_path):
    with pytest.raises(MgenError, match="streaming needs a fixed batch"):
        pretrain.main(options(sharded, tmp_path / "run", "--auto_find_batch_size", "true"))
