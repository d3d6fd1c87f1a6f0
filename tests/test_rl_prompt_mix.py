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
