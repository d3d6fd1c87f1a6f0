"""Excerpts of collections: as long as asked for, from bar lines, of real pieces."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from test_transforms_format_augmentations import assert_valid, written

from critics.style.excerpts import Excerpts, draw_excerpts, excerpt_starts, title_key
from mgen.corpus.shards import Corpus
from mgen.errors import MgenError
from mgen.notes import Notes
from mgen.transforms.rebuild import take_excerpts

pytestmark = pytest.mark.slow


def test_an_excerpt_by_hand():
    one = written([0, 30, 96, 97, 200, 290, 400], [60, 61, 62, 63, 64, 65, 66])
    both = Notes.concat([one, one])
    excerpt = take_excerpts(both, np.array([1, 0]), np.array([1, 0]), np.array([4, 4]))
    assert_valid(excerpt)
    assert excerpt.pitch.tolist() == [62, 63, 64, 65, 60, 61, 62, 63]
    assert excerpt.onset.tolist() == [0, 1, 104, 194, 0, 30, 96, 97]
    assert excerpt.bars.onset.tolist() == [0, 96, 192, 0, 96]  # up to the bar of the last note
    piece, bar = excerpt_starts(both, 3, 4, np.random.default_rng(0))
    # From bar 2 on there are three notes, from bar 3 (onset 288) two: bars 0, 1, 2 and one of them again.
    assert piece.tolist() == [0] * 4 + [1] * 4
    assert set(bar[:4].tolist()) == set(bar[4:].tolist()) == {0, 1, 2}
    assert len(excerpt_starts(both, 8, 1, np.random.default_rng(0))[0]) == 0


def test_an_empty_bar_begins_no_excerpt():
    one = written([0, 200, 210], [60, 61, 62])
    assert set(excerpt_starts(one, 2, 5, np.random.default_rng(0))[1].tolist()) == {0, 2}


def test_titles():
    assert title_key("Doug_McKenzie__Autumn_Leaves") == title_key("x__AutumnLeaves") == "autumnleaves"


def test_excerpts_of_a_corpus_are_its_pieces_notes(small_corpus):
    corpus = Corpus.open(small_corpus)
    excerpts = draw_excerpts(corpus, "jazz", 48, pieces=5, each=2, seed=3)
    assert_valid(excerpts.notes)
    assert set(excerpts.notes.counts.tolist()) == {48}
    table = corpus.pieces
    for name in set(excerpts.collection.tolist()):
        own = table[(table["collection"] == name) & (table["n_notes"] >= 48)]
        sizes = own.groupby("on_grid").size().clip(upper=5).sum()
        assert (excerpts.collection == name).sum() == 2 * sizes
    by_path = table.set_index("path")
    for k in (0, 7, len(excerpts) - 1):
        row = by_path.loc[excerpts.path[k]]
        assert isinstance(row, pd.Series) and (row["style"] == "jazz") == excerpts.positive[k]
        tokens = corpus.table(row["split"])
        (at,) = np.flatnonzero(tokens.rows["path"] == excerpts.path[k])
        complete = Notes.from_ids([tokens[int(at)]], corpus.remi)
        one, bar = excerpts.notes.pieces([k]), excerpts.start[k]
        first = np.searchsorted(complete.bar, bar)
        np.testing.assert_array_equal(one.pitch, complete.pitch[first : first + 48])
        np.testing.assert_array_equal(
            one.onset, complete.onset[first : first + 48] - complete.bars.onset[excerpts.start[k]]
        )
    again = draw_excerpts(corpus, "jazz", 48, pieces=5, each=2, seed=3)
    np.testing.assert_array_equal(again.notes.onset, excerpts.notes.onset)
    both = Excerpts.concat([excerpts.rows(excerpts.positive), excerpts.rows(~excerpts.positive)])
    assert len(both) == len(excerpts) and both.positive[: int(excerpts.positive.sum())].all()


def test_a_missing_style_or_length_is_an_error(small_corpus):
    corpus = Corpus.open(small_corpus)
    with pytest.raises(MgenError, match="positive 'polka': the corpus has"):
        draw_excerpts(corpus, "polka", 48, pieces=5)
    with pytest.raises(MgenError, match=r"no piece that is .*jazz has 100000 notes"):
        draw_excerpts(corpus, "jazz", 100_000, pieces=5)
