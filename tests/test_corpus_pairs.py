"""Pairs of drums and bass over a corpus: their conditions, and what is left out of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from band_corpus import band, prepare_songs, songs
from torch.utils.data import DataLoader

from mgen.corpus.pairs import PairSet, as_batch, genres_of, known_conditions, read_pairs, unseen
from mgen.corpus.shards import Corpus
from mgen.errors import MgenError
from mgen.music.keys import UNKNOWN_KEY


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    mixed = songs(8) | {
        "solo": band(20, drums=False),
        "beat": band(21, bass=False, chords=False),
        "waltz": band(22, signatures=((0, 3, 4),)),
        "rubato": band(23, tempos=((0, 100.0), (64, 90.0), (80, 95.0))),
    }
    return Corpus.open(prepare_songs(tmp_path_factory.mktemp("band"), mixed, collections=2))


def test_every_window_of_every_piece_is_a_pair_or_counted(corpus):
    genres, total = genres_of(corpus), {}
    assert genres == ["group0", "group1"]
    for split in ("train", "valid", "judge", "test"):
        pieces = corpus.pieces[corpus.pieces["split"] == split]
        try:
            pairs, counts = read_pairs(corpus, split, genres)
        except MgenError:
            continue
        assert counts["pieces"] == len(pieces) and counts["windows"] == len(pairs)
        assert set(pairs.work) <= set(pieces["group"])
        genre = pieces["collection"].to_numpy()[pairs.piece]
        assert [genres[int(number)] for number in pairs.conditions[:, 2]] == genre.tolist()
        assert (pairs.conditions[:, 1] == 33).all() and (pairs.drums.sum(axis=(1, 2)) >= 8).all()
        for reason, number in counts.items():
            total[reason] = total.get(reason, 0) + number
    assert total["windows"] >= 12


def test_tempo_of_the_window_and_key_of_the_piece(tmp_path):
    music = songs(8, tempos=((0, 100.0), (64, 90.0), (100, 95.0)), bars=12)
    corpus = Corpus.open(prepare_songs(tmp_path, music))
    pairs, counts = read_pairs(corpus, "train", [])
    assert counts["tempo change"] == counts["pieces"]
    assert sorted(set(pairs.conditions[:, 0].tolist())) == [95, 100]  # of the second four bars it changes within
    assert (pairs.conditions[:, 2] == -1).all() and (pairs.conditions[:, 3] < UNKNOWN_KEY).all()


@pytest.mark.parametrize(
    ("changes", "recipe", "message"),
    [
        ({"drums": False}, "band", r"pieces without drums \d+\); add music with drums and bass"),
        ({"bass": False}, "band", r"pieces without bass \d+"),
        ({"program": 43}, "band", r"pieces without bass \d+"),  # a contrabass is no bass here
        ({"signatures": ((0, 3, 4),)}, "band", r"no window of 64 steps in 4/4 .* other metre \d+"),
        ({"tempos": tuple((8 * i, 100.0 + i) for i in range(16))}, "band", r"tempo change \d+"),
        ({"bars": 3}, "band", r"end of a section \d+"),
        ({}, "piano", r"has the recipe piano, which keeps no drums; mgen prepare --config configs/prepare/band.yaml"),
    ],
)
def test_why_there_is_no_pair(tmp_path, changes, recipe, message):
    corpus = Corpus.open(prepare_songs(tmp_path, songs(6, **changes), recipe))
    with pytest.raises(MgenError, match=message) as found:
        read_pairs(corpus, "train", [])
    assert "\n" not in str(found.value)


def test_a_corpus_of_an_older_mgen_is_named(tmp_path):
    corpus = Corpus.open(prepare_songs(tmp_path, songs(6)))
    del corpus.pieces["tempo_map"]
    with pytest.raises(MgenError, match="has no tempo_map, it is of an older mgen; prepare it again"):
        read_pairs(corpus, "train", [])


def test_off_grid_pieces_are_counted(tmp_path):
    corpus = Corpus.open(prepare_songs(tmp_path, songs(6)))
    corpus.pieces["on_grid"] = False
    with pytest.raises(MgenError, match=r"pieces off grid \d+"):
        read_pairs(corpus, "train", [])


def test_conditions_of_training_and_those_it_lacks():
    train = np.array([[120, 33, 0, 4], [90, 35, 1, 12], [90, 35, 1, UNKNOWN_KEY]], np.float32)
    known = known_conditions(train)
    assert known == {"instrument": [33, 35], "genre": [0, 1], "key": list(range(25))}
    known = known_conditions(train[:1])
    assert known == {"instrument": [33], "genre": [0], "key": list(range(12))}
    test = np.array([[10, 34, -1, 15], [10, 33, 0, 5]], np.float32)
    assert unseen(test, known) == {"instrument": 1, "genre": 1, "key": 1}


def test_a_loader_gets_the_same_batches_as_items(corpus):
    pairs, _ = read_pairs(corpus, "train", genres_of(corpus))
    items = PairSet(pairs)
    (batch,) = DataLoader(items, len(items), collate_fn=as_batch)
    alone = as_batch([items[i] for i in range(len(items))])
    assert all(torch.equal(batch[name], alone[name]) for name in ("drums", "conditions", "labels"))
    assert batch["drums"].shape == (len(items), 64, 14) and batch["labels"].dtype == torch.int64
    with pytest.raises(IndexError):
        items[len(items)]
    assert len(pairs.select(np.array([0, 2]))) == 2


def test_the_bench_counts_files(monkeypatch):
    from mgen.workflows import bench

    monkeypatch.setattr(bench, "machine", lambda: {})
    found = bench.bench("pairs", files=8, repeats=1)
    assert found["what"].startswith("files/s to pairs of drums and bass") and found["ours"] > 0
