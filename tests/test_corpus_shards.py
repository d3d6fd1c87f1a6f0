from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from mgen.corpus import shards
from mgen.corpus.shards import Corpus, ShardWriter, TokenTable
from mgen.corpus.split import SPLITS
from mgen.encoding.remi import Remi
from mgen.errors import MgenError


def write_corpus(folder, pieces, remi):
    """A corpus of (split, style, ids), with no music in it."""
    split, style = (np.array([piece[column] for piece in pieces]) for column in (0, 1))
    sizes = np.array([len(ids) for *_, ids in pieces])
    with ShardWriter(folder / "tokens", split, style, sizes) as writer:
        for number in reversed(range(len(pieces))):  # in no order
            writer.write(number, np.array(pieces[number][2], np.uint16))
    rows = [{"split": split, "style": style, "n_tokens": len(ids)} for split, style, ids in pieces]
    pd.DataFrame(rows).to_parquet(folder / "pieces.parquet")
    remi.save_pretrained(folder / "tokenizer")
    manifest = {"version": 2, "fingerprint": "f", "tokenizer": remi.fingerprint, "shards": writer.shards}
    (folder / "corpus.json").write_text(json.dumps(manifest))


@pytest.fixture
def drawn(tmp_path, remi, monkeypatch):
    """A corpus of 60 pieces in many small row groups and shards, and its pieces."""
    monkeypatch.setattr(shards, "GROUP_TOKENS", 50)
    monkeypatch.setattr(shards, "SHARD_TOKENS", 150)
    rng = np.random.default_rng(0)
    pieces = [
        (
            str(rng.choice(SPLITS)),
            str(rng.choice(["jazz", "other"])),
            rng.integers(0, 300, rng.integers(1, 40)).tolist(),
        )
        for _ in range(60)
    ]
    write_corpus(tmp_path / "c", pieces, remi)
    return tmp_path / "c", pieces


@pytest.mark.parametrize("style", [None, "jazz", "other"])
@pytest.mark.parametrize("split", SPLITS)
def test_a_table_is_the_pieces_of_its_split_and_style_in_order(drawn, split, style):
    folder, pieces = drawn
    table = Corpus.open(folder).table(split, style)
    wanted = [i for i, piece in enumerate(pieces) if piece[0] == split and style in (None, piece[1])]
    assert table.rows["piece"].tolist() == wanted and len(table) == len(wanted)
    assert [table[i].tolist() for i in range(len(table))] == [pieces[i][2] for i in wanted]
    assert table.ids.dtype == np.uint16 and table.offsets.dtype == np.int64
    assert table.rows["style"].tolist() == [pieces[i][1] for i in wanted]


def test_shards_and_groups_are_cut_where_they_are_full(drawn):
    folder, pieces = drawn
    files = sorted((folder / "tokens").glob("train-*.parquet"))
    assert len(files) > 1 and files[0].name == "train-00000.parquet"
    groups = [pq.ParquetFile(file).metadata.num_row_groups for file in files]
    assert max(groups) > 1
    total = sum(len(ids) for split, _, ids in pieces if split == "train")
    assert sum(s["tokens"] for s in Corpus.open(folder).manifest["shards"] if s["split"] == "train") == total


def test_shards_are_in_a_random_order_that_is_always_the_same(drawn, tmp_path, remi):
    folder, pieces = drawn
    files = sorted((folder / "tokens").glob("*.parquet"))
    found = [number for file in files for number in pq.read_table(file)["piece"].to_pylist()]
    assert sorted(found) == list(range(len(pieces))) and found != sorted(found)
    for file in files:
        rows = pq.read_table(file).to_pylist()
        assert [(row["style"], row["ids"]) for row in rows] == [pieces[row["piece"]][1:] for row in rows]
    write_corpus(tmp_path / "again", pieces, remi)
    for file in files:
        assert file.read_bytes() == (tmp_path / "again" / "tokens" / file.name).read_bytes()


def test_a_table_is_indexed_like_a_list():
    table = TokenTable(np.arange(5, dtype=np.uint16), np.array([0, 2, 2, 5]), pd.DataFrame(index=range(3)))
    assert [piece.tolist() for piece in table] == [[0, 1], [], [2, 3, 4]]
    assert table[-1].tolist() == [2, 3, 4]
    for index in (3, -4):
        with pytest.raises(IndexError):
            table[index]


def damage_version(folder):
    manifest = json.loads((folder / "corpus.json").read_text())
    (folder / "corpus.json").write_text(json.dumps(manifest | {"version": 99}))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda folder: shutil.rmtree(folder), "found no corpus.json"),
        (lambda folder: (folder / "corpus.json").write_text("{"), "corpus.json: "),
        (lambda folder: (folder / "corpus.json").write_text("[]"), "corpus.json: "),
        (damage_version, "version 99, this mgen reads 2"),
        (lambda folder: Remi.build(("folk",)).save_pretrained(folder / "tokenizer"), "the corpus was written with"),
        (lambda folder: shutil.rmtree(folder / "tokenizer"), "expected miditok.json"),
        (lambda folder: (folder / "pieces.parquet").write_bytes(b"PAR1"), "pieces.parquet: cannot be read"),
        (lambda folder: (folder / "tokens" / "train-00000.parquet").unlink(), "train-00000.parquet: cannot be read"),
        (lambda folder: (folder / "tokens" / "train-00000.parquet").write_bytes(b"x" * 99), "cannot be read"),
    ],
)
def test_what_is_damaged_is_named(drawn, damage, says):
    folder, _ = drawn
    damage(folder)
    with pytest.raises(MgenError, match=says) as caught:
        Corpus.open(folder).table("train")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", [-1, 1])
def test_tokens_are_counted(drawn, change):
    folder, _ = drawn
    table = pd.read_parquet(folder / "pieces.parquet")
    table.loc[table.index[table["split"] == "train"][0], "n_tokens"] += change
    table.to_parquet(folder / "pieces.parquet")
    with pytest.raises(MgenError, match=r"pieces\.parquet counts"):
        Corpus.open(folder).table("train")


def test_what_is_not_there_is_said(drawn):
    corpus = Corpus.open(drawn[0])
    with pytest.raises(MgenError, match="expected one of train, valid, judge, test"):
        corpus.table("dev")
    with pytest.raises(MgenError, match="the corpus has jazz, other"):
        corpus.table("train", "folk")
