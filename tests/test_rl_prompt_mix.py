"""Prompts of fine-tuning, and the real music that bands are measured on."""

from __future__ import annotations

import numpy as np

from mgen.corpus.shards import Corpus
from mgen.rl.prompt_mix import PromptMix
from rewards.bands import fit_bands


def test_real_continuations_know_whether_their_pieces_are_on_the_grid(small_corpus):
    corpus = Corpus.open(small_corpus)
    corpus.pieces["on_grid"] = corpus.pieces["n_notes"] % 2 == 0  # some pieces are, some are not
    prompts = PromptMix(corpus, "jazz", 0.5, [8, 24], 64, 0)
    notes, works, on_grid = prompts.real_target(40)
    assert notes.n_pieces == len(works) == len(on_grid) == 40 and 0 < on_grid.sum() < 32
    even = corpus.pieces.groupby("group")["n_notes"].first() % 2 == 0
    np.testing.assert_array_equal(even[works], on_grid)
    bands = fit_bands(notes, on_grid)
    assert "scale_fit" in bands and "groove" not in bands
    assert bands.left_out["groove"].endswith("on the beat grid and can be measured")
    again, _, same = prompts.real_target(40)
    np.testing.assert_array_equal(again.pitch, notes.pitch)
    np.testing.assert_array_equal(same, on_grid)


def test_real_continuations_are_of_the_target_style_and_end_as_its_pieces_do(small_corpus):
    corpus = Corpus.open(small_corpus)
    prompts = PromptMix(corpus, "jazz", 0.5, [8, 24], 64, 0)
    notes, works = prompts.real(400, 1)
    jazz = corpus.pieces[corpus.pieces["style"] == "jazz"]
    assert set(works) <= set(jazz["group"]) and len(works) == notes.n_pieces == 400
    table = corpus.merged_table("train", "jazz")
    bars = np.flatnonzero(corpus.remi.opens_bar[table.ids])
    piece = np.searchsorted(table.offsets, bars, side="right") - 1
    left = table.offsets[piece + 1] - bars
    expected = []  # by piece, as pieces are drawn with equal chances
    for length in (8, 24):
        fits = left > length
        ended = [np.mean(left[fits & (piece == one)] < length + 64) for one in np.unique(piece[fits])]
        expected.append(np.mean(ended))
    drawn = np.concatenate([part.windows[:, -1] == corpus.remi.pad_id for part in prompts._draw(4000, prompts._rng(9))])
    assert np.mean(expected) > 0.02 and abs(np.mean(drawn[: len(drawn) // 2]) - np.mean(expected)) < 0.04
    heads, types = prompts.batch(40, 0)
    assert types.count("transfer") == 20 and corpus.remi.pad_id not in {token for head in heads for token in head}
