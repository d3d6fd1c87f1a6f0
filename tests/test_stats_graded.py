from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from evaluation_pieces import solos
from scipy.stats import norm

from mgen.errors import MgenError
from mgen.notes import Notes
from mgen.stats.graded import FEWEST, GradedTest, crossing, graded, nats
from mgen.stats.intervals import Interval
from mgen.stats.two_sample import first_notes
from mgen.transforms.corruptions import CORRUPTIONS

N = 90


@pytest.fixture(scope="module")
def music() -> tuple[Notes, Notes]:
    """Real pieces, and the same with the pitches of a Markov chain."""
    real = solos(N, bars=6)
    return real, CORRUPTIONS["markov_pitches"](real, np.random.default_rng(0))


@pytest.fixture(scope="module")
def found(music: tuple[Notes, Notes]) -> GradedTest:
    real, other = music
    short = first_notes(real, np.where(np.arange(N) < 5, 10, 1000))  # five pieces of ten notes
    return graded(short, other, np.arange(N), np.arange(N), lengths=(8, 24, 500))


def test_more_notes_make_it_easier(found):
    assert found.auc[24].value > max(0.65, found.auc[8].value + 0.1)
    for cell in (found.auc[8], found.auc[24], found.until[0.75]):
        assert cell.low <= cell.value <= cell.high


def test_pieces_with_fewer_notes_are_left_out_with_the_completion_of_the_same_prompt(found):
    assert found.pieces == {8: N, 24: N - 5, 500: 0}
    assert (found.auc[8].undefined, found.auc[24].undefined) == (0, 5)
    assert np.isnan(found.auc[500].value) and found.auc[500].undefined == 2 * N
    assert found.metrics()["auc_by_notes_500"].to_json() == {
        **dict.fromkeys(("value", "low", "high")),
        "undefined": 2 * N,
    }


def test_nothing_that_no_listener_would_mind_is_found(music):
    real, _ = music
    other = replace(real, pitch=real.pitch + 3, velocity=np.full_like(real.velocity, 1))
    same = graded(real, other, np.arange(N), np.arange(N), lengths=(8, 24))
    assert all(cell.low <= 0.5 <= cell.high for cell in same.auc.values())
    assert same.until[0.75] == Interval(24, 24, 24, bound="above")
    assert same.metrics()["notes_until_told"].to_json()["bound"] == "above"


def test_the_crossing_is_linear_in_the_logarithm_of_the_notes():
    aucs = np.array([[0.5, 0.7, 0.9], [0.8, 0.9, 0.9], [0.5, 0.6, 0.7], [0.7, 0.8, 0.6]])
    # a quarter of the way from 32 to 128 notes; at the first length; never; half of the way from 8 to 32
    np.testing.assert_allclose(crossing([8, 32, 128], aucs, 0.75), [32 * 4**0.25, 0, np.inf, 16])


def test_evidence_is_the_divergence_of_two_normals():
    # Two normals at distance d: AUC = Phi(d / sqrt 2), KL = d^2 / 2 = 0.5 nats for d = 1
    one = nats(Interval(norm.cdf(np.sqrt(0.5)), 0.4, 1.0), 512)
    assert one.value == pytest.approx(0.5) and one.low == 0 and one.bound == ""
    assert np.isfinite(one.high)
    assert nats(Interval(1.0, 1.0, 1.0), 512).bound == "above"


def test_too_few_pieces_are_not_measured(music):
    real, other = (side.pieces(np.arange(FEWEST - 1)) for side in music)
    none = graded(real, other, np.arange(FEWEST - 1), np.arange(FEWEST - 1), lengths=(8,))
    assert all(np.isnan(cell.value) for cell in none.metrics().values())
    with pytest.raises(MgenError, match="expected a work for each"):
        graded(real, other, np.arange(3), np.arange(3))
