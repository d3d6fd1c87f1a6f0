"""The reward-hacking search exploits a narrow judge, reports when it cannot, and compares its piece with real music."""

from __future__ import annotations

import numpy as np
import pytest

from mgen.cards.reward_hacking import (
    FeatureComparison,
    FeatureDistance,
    SearchReference,
    compare_features,
    find_exploit,
    initial_pieces,
)
from mgen.cards.search import SearchBudget
from mgen.corpus.demo import COLLECTIONS, compose
from mgen.judgement import Judgement
from mgen.music import ngrams
from mgen.notes import Notes
from mgen.transforms.corruptions import one_pitch, two_bar_loop
from mgen.transforms.degenerate import random_notes
from mgen.transforms.edits import SizeLimits, notes_from_arrays

TOKENS = 128


@pytest.fixture(scope="module")
def real(remi):
    whole = Notes.from_scores([compose(name, i) for name in COLLECTIONS for i in range(8)])
    return remi.decode([row[:TOKENS] for row in remi.encode(whole)])


@pytest.fixture(scope="module")
def reference(real, remi):
    halves = (real.pieces(np.arange(first, real.n_pieces, 2)) for first in (0, 1))
    train, test = halves
    return SearchReference(test, FeatureDistance.of(train), remi, TOKENS)


def no_runs(notes):
    """0, or minus the notes by which the longest run of one pitch goes beyond 2."""
    run = np.where(notes.counts > 0, ngrams.longest_run(notes), 10)
    return Judgement(np.minimum(0.0, 2.0 - run).astype(np.float32), None, notes.counts > 0)


def test_distance_is_low_for_music_and_high_for_degenerate_inputs(reference):
    notes, rng = reference.notes, np.random.default_rng(0)
    usual = reference.distance(notes)
    assert (usual >= 0).all() and usual.mean() < 0.05
    for change in (one_pitch, two_bar_loop, random_notes):
        distance = reference.distance(change(notes, rng))
        assert (distance <= 1).all() and np.median(distance) > 2 * np.median(usual)


def test_distance_counts_widths_of_the_band():
    """A feature counts by its distance in widths, at most 1; by hand on bands drawn around one piece."""
    notes = notes_from_arrays([np.array([[12 * i, 60 + i % 5, 12, 80] for i in range(16)], np.int64)])
    from mgen.music.features import features

    values = features(notes)[0]
    inside = FeatureDistance(values - 0.5, values + 0.5)
    half_out, far_out = FeatureDistance(values - 3, values - 1), FeatureDistance(values + 1, values + 1.5)
    assert [float(s(notes)[0]) for s in (inside, half_out, far_out)] == pytest.approx([0, 0.5, 1])


@pytest.mark.slow
def test_a_judge_of_runs_alone_is_exploited(reference, real):
    initial = initial_pieces(real, SizeLimits.of(reference.notes), 0)
    found = find_exploit(no_runs, reference, initial, SearchBudget(60, 60), 0)
    assert found.reached_median and found.score >= found.real_median - 1e-6 and not found.timed_out
    assert found.distance > 3 * found.distance_p95
    assert ngrams.longest_run(found.notes)[0] <= 2 - found.real_median
    assert no_runs(found.notes).score[0] == found.score == found.highest
    compared = compare_features(found.notes, reference.notes)
    assert compared["longest_run"].outside == 0, "what the judge measures is in the range of real music"
    assert sum(trait.outside > 0 for trait in compared.values()) > 5, "the rest is not"
    again = find_exploit(no_runs, reference, initial, SearchBudget(60, 60), 0)
    np.testing.assert_array_equal(found.notes.pitch, again.notes.pitch)
    np.testing.assert_array_equal(found.notes.onset, again.notes.onset)


def test_the_winner_can_be_written_in_the_tokens_that_are_judged(reference, real, remi):
    found = find_exploit(
        no_runs, reference, initial_pieces(real, SizeLimits.of(reference.notes), 0), SearchBudget(20, 60), 0
    )
    ids = remi.encode(found.notes)[0]
    assert len(ids) <= TOKENS and found.notes.n_tokens.tolist() == [0] and (found.notes.token == -1).all()
    np.testing.assert_array_equal(remi.decode([ids]).pitch, found.notes.pitch)


def test_a_judge_that_only_knows_its_pieces_is_not_exploited(reference, real):
    """It gives 1 to the real pieces, and to the rest less than any of them gets."""
    keys = {piece.tobytes() for piece in np.split(reference.notes.pitch, reference.notes.starts[1:-1])}

    def knows(notes):
        pieces = np.split(notes.pitch, notes.starts[1:-1])
        score = [1.0 if piece.tobytes() in keys else -1 / (1 + len(piece)) for piece in pieces]
        return Judgement(np.array(score, np.float32), None, np.ones(notes.n_pieces, bool))

    found = find_exploit(
        knows, reference, initial_pieces(real, SizeLimits.of(reference.notes), 0)[64:], SearchBudget(10, 60), 0
    )
    assert not found.reached_median and found.real_median == 1 and found.highest == found.score < 0


def test_a_feature_outside_real_music_is_measured_in_widths():
    assert FeatureComparison("pitches", 2, 24, 33, 44).outside == pytest.approx(22 / 20)
    assert FeatureComparison("pitches", 54, 24, 33, 44).outside == pytest.approx(0.5)
    assert FeatureComparison("pitches", 30, 24, 33, 44).outside == 0
    assert np.isnan(FeatureComparison("pitches", np.nan, 24, 33, 44).outside)


def test_features_are_counted_as_by_hand(reference):
    line = [[24 * i, (60, 67)[i % 2], 12, 80] for i in range(16)]
    compared = compare_features(notes_from_arrays([np.array(line, np.int64)]), reference.notes)
    expected = {"notes": 16, "bars": 4, "pitches": 2, "durations": 1, "density": 1, "pitch_range": 7}
    assert {name: compared[name].value for name in expected} == expected
    assert compared["mean_interval"].value == 7 and compared["longest_loop"].value == 1
