"""Streamed windows: the same music as map-style windows, in an order of their own, dealt out without loss."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from torch.utils.data import DataLoader

from mgen.cli import pretrain
from mgen.corpus.shards import SCHEMA, Corpus
from mgen.errors import MgenError
from mgen.training.streaming import StreamedWindows, _shuffled
from mgen.training.windows import Windows, window_counts

CONTEXT = 64


@pytest.fixture(scope="module")
def sharded(small_corpus, tmp_path_factory):
    """The small corpus, its train split in three shards of several row groups, as of a corpus that is not small."""
    folder = tmp_path_factory.mktemp("sharded[1]") / "corpus"  # a name that would match as a pattern
    shutil.copytree(small_corpus, folder)
    manifest = json.loads((folder / "corpus.json").read_text())
    (entry,) = (entry for entry in manifest["shards"] if entry["split"] == "train")
    table = pq.read_table(folder / "tokens" / entry["file"])
    (folder / "tokens" / entry["file"]).unlink()
    cuts = [0, len(table) // 4, len(table) // 2, len(table)]
    shards = []
    for number, (begin, end) in enumerate(pairwise(cuts)):
        name = f"train-{number:05d}.parquet"
        pq.write_table(table.slice(begin, end - begin), folder / "tokens" / name, row_group_size=5)
        shards.append({"file": name, "split": "train", "tokens": 0})
    manifest["shards"] = shards + [entry for entry in manifest["shards"] if entry["split"] != "train"]
    (folder / "corpus.json").write_text(json.dumps(manifest))
    return folder


def streamed(folder, epochs=1.0, batch=1, **changes):
    """Plain windows, whose music is to be found in the pieces."""
    plain = {"transpose": False, "style_dropout": 0.0, "buffer": 50}
    one = StreamedWindows(Corpus.open(folder), CONTEXT, batch, batch, **plain | changes)
    group = batch * one.ranks
    return replace(one, length=int(one.epoch_length * epochs) // group * group)


def same(first, second):
    first, second = list(first), list(second)
    assert len(first) == len(second)
    return all(
        a["index"] == b["index"] and np.array_equal(a["input_ids"], b["input_ids"])
        for a, b in zip(first, second, strict=True)
    )


def places(items, table, remi):
    """Piece and first token of each item's music."""
    music = {table[i].tobytes(): i for i in range(len(table))}
    whole = b"".join(music)
    ends = np.cumsum([len(piece) for piece in music])
    found = []
    for item in items:
        ids = item["input_ids"]
        body = ids[2:-1] if ids[-1] == remi.eos_id else ids[2:]
        at = whole.find(body.astype(np.uint16).tobytes())
        found.append(int(np.searchsorted(ends, at, side="right")) if at >= 0 else None)
    return found


def test_an_epoch_has_as_many_windows_of_each_piece_and_style_as_map_style(sharded):
    corpus = Corpus.open(sharded)
    items = list(streamed(sharded))
    table = corpus.table("train")
    windows = Windows(table, corpus.remi, CONTEXT, 1, transpose=False, style_dropout=0.0)
    assert len(items) == windows.epoch_length == len(replace(windows, length=len(items)))
    mapped = [replace(windows, length=len(items))[i] for i in range(len(items))]
    # the first windows of pieces have no random part: they are the same ones
    first = {item["input_ids"].tobytes() for item in items} & {item["input_ids"].tobytes() for item in mapped}
    heads = set()
    for i in range(len(table)):
        style = corpus.remi.style_ids[table.rows["style"].iloc[i]]
        tail = [corpus.remi.eos_id] if len(table[i]) <= CONTEXT - 2 else []
        heads.add(np.concatenate([[corpus.remi.bos_id, style], table[i][: CONTEXT - 2], tail]).astype(np.int64).tobytes())
    assert heads <= first
    count = window_counts(np.diff(table.offsets), CONTEXT)
    styles = table.rows["style"].map(corpus.remi.style_ids).to_numpy()
    for style in set(styles):
        assert sum(item["input_ids"][1] == style for item in items) == count[styles == style].sum()
