"""The search finds optima that are known by hand, the same ones for the same seed."""

from __future__ import annotations

import time

import numpy as np
import pytest

from mgen.arrays import mean_of
from mgen.cards.search import SURVIVORS, SearchBudget, evolve
from mgen.errors import MgenError
from mgen.music import ngrams
from mgen.transforms.edits import SizeLimits, noise

LIMITS = SizeLimits((8, 24), (1, 4))


def initial(n=32):
    rng = np.random.default_rng(0)
    return [noise(LIMITS, rng) for _ in range(n)]


def share_of_c(notes):
    """Share of a piece's notes that are a C; best: 1."""
    return mean_of(notes.pitch % 12 == 0, notes.piece, notes.n_pieces)


def test_a_share_of_one_pitch_class_is_driven_to_one():
    found = evolve(share_of_c, initial(), LIMITS, SearchBudget(200, 60, enough=1.0), seed=0)
    assert found.fitness[0] == 1.0 and not found.timed_out
    assert (found.pieces[0][:, 1] % 12 == 0).all() and LIMITS.long_enough(found.pieces[0])
    assert len(found.pieces) == SURVIVORS and (np.diff(found.fitness) <= 0).all()
    keys = {piece.tobytes() for piece in found.pieces}
    assert len(keys) == SURVIVORS


def test_a_number_of_notes_is_met_to_the_note():
    found = evolve(
        lambda notes: -np.abs(notes.counts - 17.0), initial(), LIMITS, SearchBudget(100, 60, enough=0.0), seed=3
    )
    assert len(found.pieces[0]) == 17


def test_a_judge_of_runs_alone_is_exploited_by_never_repeating_a_pitch():
    """A planted judge: `longest_run`, and a preference for few pitches. Two alternating pitches are the optimum."""

    def few_without_runs(notes):
        pitches = np.unique(np.stack([notes.piece, notes.pitch]), axis=1)[0]
        different = np.bincount(pitches, minlength=notes.n_pieces)
        return -different - 100.0 * (ngrams.longest_run(notes) > 1)

    found = evolve(few_without_runs, initial(), LIMITS, SearchBudget(300, 60, enough=-2.0), seed=1)
    assert found.fitness[0] == -2.0
    one, other = found.pieces[0][:2, 1]
    assert found.pieces[0][:, 1].tolist() == [(one, other)[i % 2] for i in range(len(found.pieces[0]))]


def test_a_seed_gives_the_same_pieces_and_another_seed_others():
    first, again, other = (evolve(share_of_c, initial(), LIMITS, SearchBudget(5, 60), seed) for seed in (0, 0, 1))
    assert first.evaluated == again.evaluated and first.generations == 5
    for one, two in zip(first.pieces, again.pieces, strict=True):
        np.testing.assert_array_equal(one, two)
    assert [piece.tobytes() for piece in first.pieces] != [piece.tobytes() for piece in other.pieces]


def test_it_ends_by_time_by_patience_or_when_it_has_enough():
    def slow(notes):
        time.sleep(0.02)
        return np.zeros(notes.n_pieces)

    timed = evolve(slow, initial(), LIMITS, SearchBudget(10**6, 0.1), 0)
    assert timed.timed_out and 0 < timed.generations < 20
    patient = evolve(lambda notes: np.zeros(notes.n_pieces), initial(), LIMITS, SearchBudget(100, 60, patience=7), 0)
    assert patient.generations == 7 and not patient.timed_out
    assert (
        evolve(lambda notes: np.ones(notes.n_pieces), initial(), LIMITS, SearchBudget(9, 60, enough=1), 0).generations
        == 0
    )


def test_pieces_that_are_too_short_are_no_start():
    short = [piece[:4] for piece in initial(3)]
    with pytest.raises(MgenError, match="none of 3 initial pieces has the least size, 8 notes and 1 bars"):
        evolve(share_of_c, short, LIMITS, SearchBudget(5, 60), 0)
