"""Rolls of a prepared corpus and their windows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mgen.corpus.roll_windows import Rolls, RollWindows, as_batch, read_rolls
from mgen.corpus.shards import Corpus
from mgen.encoding.piano_roll import PITCHES, Rate, of_notes
from mgen.errors import MgenError
from mgen.notes import Notes

SILENT = np.zeros((1, PITCHES), bool)


def random_rolls(*steps):
    rng = np.random.default_rng(0)
    pieces = [rng.random((n, PITCHES)) < 0.2 for n in steps]
    bits = np.packbits(np.concatenate([part for piece in pieces for part in (SILENT, piece)]), axis=1)
    begins = np.cumsum([0, *(n + 1 for n in steps)])
    return pieces, Rolls(bits, begins, np.array([f"work {i}" for i in range(len(steps))]))


@pytest.mark.parametrize(("window", "hop"), [(4, 4), (4, 2), (5, 3), (40, 40)])
def test_windows_have_every_step_with_the_one_before(window, hop):
    pieces, rolls = random_rolls(11, 1, 4)
    items = RollWindows(rolls, window, hop)
    seen = [np.zeros(len(piece), int) for piece in pieces]
    batch = as_batch(items.__getitems__(range(len(items))))
    for i, piece in enumerate(items.piece):
        begin = hop * int((items.piece[:i] == piece).sum())
        alone = items[i]
        assert all(torch.equal(alone[name], of[i]) for name, of in batch.items())
        n = int(alone["mask"].sum())
        assert alone["mask"][:n].all() and n == min(window, len(pieces[piece]) - begin)
        before = np.concatenate([SILENT, pieces[piece]])
        np.testing.assert_array_equal(alone["labels"][:n], pieces[piece][begin : begin + n])
        np.testing.assert_array_equal(alone["roll"][:n], before[begin : begin + n])
        assert not alone["labels"][n:].any()
        seen[piece][begin : begin + n] += 1
    assert all((counts >= 1).all() for counts in seen)
    assert hop < window or all((counts == 1).all() for counts in seen)
    with pytest.raises(IndexError):
        items[len(items)]


def test_transitions_and_density():
    pieces, rolls = random_rolls(9, 3)
    for piece, found in zip(pieces, rolls.transitions(), strict=True):
        last = np.concatenate([SILENT, piece[:-1]])
        wanted = [[((last == a) & (piece == b)).sum() for b in (0, 1)] for a in (0, 1)]
        np.testing.assert_array_equal(found, wanted)
    assert rolls.density == pytest.approx(np.concatenate(pieces).mean())


@pytest.mark.parametrize("rate", [Rate(4), Rate(per_second=8.0)])
def test_rolls_of_a_corpus_are_those_of_its_notes(small_corpus, rate):
    corpus = Corpus.open(small_corpus)
    rolls, counts = read_rolls(corpus, "valid", rate)
    table = corpus.table("valid")
    assert counts["used"] == counts["pieces"] == len(table) and counts["no notes in range"] == 0
    assert counts.get("without tempo", 0) == int(rate.per_second > 0) * table.rows["tempo"].isna().sum()
    tempo = table.rows["tempo"].fillna(120).to_numpy()
    for piece in (0, len(table) - 1):
        wanted, _ = of_notes(Notes.from_ids([table[piece]], corpus.remi), rate, tempo[piece])
        bits = rolls.bits[rolls.begins[piece] : rolls.begins[piece + 1]]
        np.testing.assert_array_equal(np.unpackbits(bits, axis=1, count=PITCHES)[1:], wanted)
        assert not bits[0].any()
    part, counts = read_rolls(corpus, "valid", rate, "jazz", share=0.2, seed=1)
    assert 1 <= counts["works"] < table.rows["work"].nunique() and len(part.work) == counts["used"]


def test_a_split_without_music_is_one_line(small_corpus, monkeypatch):
    corpus = Corpus.open(small_corpus)
    table = corpus.table("valid")
    low = [corpus.remi.encode(Notes.from_ids([table[0]], corpus.remi))[0][:0].astype(np.uint16)]
    none = type(table)(low[0], np.zeros(1, np.int64), table.rows[:0])
    empty = type(table)(low[0], np.zeros(3, np.int64), table.rows[:2])
    for given, message in ((none, "there is no piece"), (empty, "none of 2 pieces has one")):
        monkeypatch.setattr(Corpus, "table", lambda *_, given=given: given)
        with pytest.raises(MgenError, match=f"valid: expected a piece .*, {message}; add music"):
            read_rolls(corpus, "valid", Rate())
