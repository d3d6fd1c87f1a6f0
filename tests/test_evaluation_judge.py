from __future__ import annotations

import numpy as np
import pytest
from evaluation_pieces import demo, nothing

from mgen.errors import MgenError
from mgen.evaluation.judge import EvaluationJudge, fit_judge
from mgen.notes import Notes
from mgen.transforms.corruptions import CORRUPTIONS

pytestmark = pytest.mark.slow

JAZZ = ("lead_sheets", "blues_piano")
OTHER = ("chorales", "folk_tunes")
TRAIN, HELD = 16, 8


def split(collections: tuple[str, ...]) -> tuple[Notes, Notes]:
    """The first works of each collection, and the rest."""
    total = TRAIN + HELD
    music = demo(*collections, works=total)
    number = np.arange(music.n_pieces) % total
    return music.pieces(np.flatnonzero(number < TRAIN)), music.pieces(np.flatnonzero(number >= TRAIN))


@pytest.fixture(scope="module")
def judge() -> EvaluationJudge:
    return fit(0)


def fit(seed: int) -> EvaluationJudge:
    jazz, other = split(JAZZ)[0], split(OTHER)[0]
    return fit_judge(
        jazz,
        other,
        [f"jazz {i}" for i in range(jazz.n_pieces)],
        [f"other {i}" for i in range(other.n_pieces)],
        style="jazz",
        seed=seed,
    )


def test_it_tells_unseen_works_apart(judge):
    jazz, other = split(JAZZ)[1], split(OTHER)[1]
    works = np.arange(2 * HELD)
    assert judge.auc(jazz, other, works, 100 + works).value > 0.95
    assert judge.auc(other, jazz, works, 100 + works).value < 0.05
    assert judge.probability(jazz).mean() > 0.6 > 0.3 > judge.probability(other).mean()


@pytest.mark.parametrize("way", ["random_pitches", "two_bar_loop", "one_pitch"])
def test_corrupted_jazz_does_not_pass(judge, way):
    jazz = split(JAZZ)[1]
    corrupted = CORRUPTIONS[way](jazz, np.random.default_rng(0))
    assert (judge.probability(corrupted) > 0.5).mean() < 0.25
    assert (judge.probability(corrupted) > 0.5).mean() < (judge.probability(jazz) > 0.5).mean() - 0.5


def test_probabilities_and_silence(judge):
    music = Notes.concat([split(JAZZ)[1], nothing(2)])
    chance = judge.probability(music)
    assert chance.shape == (music.n_pieces,)
    assert ((chance >= 0) & (chance <= 1)).all()
    np.testing.assert_array_equal(chance[-2:], 0)
    assert judge.style == "jazz"


def test_refitting_gives_the_same_judge(judge):
    music = split(JAZZ)[1]
    np.testing.assert_array_equal(fit(0).probability(music), judge.probability(music))
    assert not np.array_equal(fit(1).probability(music), judge.probability(music))


def test_works_must_match_the_pieces():
    jazz = split(JAZZ)[0]
    with pytest.raises(MgenError, match=f"each of {2 * jazz.n_pieces} pieces, found {jazz.n_pieces + 1}"):
        fit_judge(jazz, jazz, np.arange(jazz.n_pieces), ["a"], style="jazz")
    with pytest.raises(MgenError, match="at least 2 works per side"):
        fit_judge(jazz, jazz, np.arange(jazz.n_pieces), np.full(jazz.n_pieces, "x"), style="jazz")
