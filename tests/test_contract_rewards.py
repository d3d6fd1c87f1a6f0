"""What every judge of `REWARDS` promises, whatever it hears."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rewards_pieces import BANDS, random_ids, song

from mgen.encoding.remi import Remi
from mgen.errors import MgenError
from mgen.notes import Notes
from rewards import REWARDS
from rewards.bands import MEASURES, fit_bands

REMI = Remi.build()
JUDGES = {name: factory(BANDS) for name, factory in REWARDS.items()}


@st.composite
def batches(draw: st.DrawFn) -> Notes:
    """Pieces of random tokens: some music, some broken, some empty; the start of each is prompt."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sizes = draw(st.lists(st.sampled_from([0, 1, 8, 30, 90, 300]), min_size=1, max_size=6))
    ids = [random_ids(REMI, rng, size) for size in sizes]
    return Notes.from_ids(ids, REMI, [min(draw(st.integers(0, 12)), size) for size in sizes])


every_judge = pytest.mark.parametrize("name", REWARDS)
few = settings(max_examples=40, deadline=None)


@every_judge
@few
@given(notes=batches())
def test_a_judgement_is_finite_and_of_its_types(name, notes):
    judged = JUDGES[name](notes)
    assert judged.score.shape == judged.defined.shape == (notes.n_pieces,)
    assert judged.score.dtype == np.float32
    assert judged.defined.dtype == bool
    assert np.isfinite(judged.score).all()
    assert (judged.score >= JUDGES[name].worst).all()
    assert (judged.score <= 0).all()
    np.testing.assert_array_equal(judged.score[~judged.defined], JUDGES[name].worst)


@every_judge
@few
@given(notes=batches())
def test_credit_sums_to_the_score(name, notes):
    judged = JUDGES[name](notes)
    if judged.credit is not None:
        assert judged.credit.dtype == np.float32
        total = np.bincount(notes.piece, weights=judged.credit, minlength=notes.n_pieces)
        np.testing.assert_allclose(total, np.where(notes.counts > 0, judged.score, 0), atol=1e-5)


@every_judge
@few
@given(notes=batches(), data=st.data())
def test_each_piece_is_judged_alone(name, notes, data):
    order = data.draw(st.lists(st.integers(0, notes.n_pieces - 1), min_size=1, max_size=8))
    together, shuffled = JUDGES[name](notes), JUDGES[name](notes.pieces(order))
    np.testing.assert_array_equal(shuffled.score, together.score[order])
    np.testing.assert_array_equal(shuffled.defined, together.defined[order])
    alone = JUDGES[name](notes.pieces(order[:1]))
    np.testing.assert_array_equal(alone.score, together.score[order[:1]])
    if together.credit is not None:
        np.testing.assert_array_equal(alone.credit, together.credit[notes.piece == order[0]])


@every_judge
@few
@given(notes=batches(), semitones=st.integers(-20, 19))
def test_transposition_changes_nothing(name, notes, semitones):
    here, there = JUDGES[name](notes), JUDGES[name](replace(notes, pitch=notes.pitch + semitones))
    np.testing.assert_array_equal(here.score, there.score)
    np.testing.assert_array_equal(here.credit, there.credit)


@every_judge
def test_silence_is_survived_and_never_pays(name):
    judge = JUDGES[name]
    notes = Notes.from_ids([[], [REMI.bar_id], [REMI.eos_id]], REMI)
    judged = judge(notes)
    np.testing.assert_array_equal(judged.score, [judge.worst] * 3)
    assert not judged.defined.any()
    assert judge(Notes.from_ids([], REMI)).score.shape == (0,)
    assert judge(song()).defined.all()


@pytest.mark.parametrize("name", sorted(REWARDS.keys() & MEASURES.keys()))
@few
@given(notes=batches())
def test_a_judge_is_content_exactly_inside_the_band_of_its_name(name, notes):
    value = MEASURES[name].of(notes)
    inside = (value >= BANDS[name].low) & (value <= BANDS[name].high)
    np.testing.assert_array_equal(JUDGES[name](notes).score == 0, inside)


def test_bands_of_a_corpus_build_every_judge():
    rng = np.random.default_rng(0)
    notes = Notes.from_ids([random_ids(REMI, rng, 300) for _ in range(40)], REMI)
    bands = fit_bands(notes)
    for name in REWARDS.keys() & MEASURES.keys():
        judged = REWARDS[name](bands)(notes)
        assert (judged.score[judged.defined] == 0).mean() >= MEASURES[name].inside - 0.05


@every_judge
def test_a_missing_band_is_named(name):
    with pytest.raises(MgenError, match=r"bands: no '\w+' \(there: other\)"):
        REWARDS[name]({"other": BANDS["n_notes"]})
