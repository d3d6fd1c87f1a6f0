from __future__ import annotations

import math

import numpy as np
import pytest

from mgen.listen.ranking import PairResult, VoteTable, bradley_terry, connected, share, study_results, two_way, wins
from mgen.listen.vote_store import Preference, StudyClip

NAMES = ("Milwaukee", "Detroit", "Toronto", "New York", "Boston", "Cleveland", "Baltimore")
# American League, 1987: games that the row's team won against the column's, and the strengths that Agresti
# (Categorical Data Analysis, 1990, table 10.11) and R's BradleyTerry2 find from them, Baltimore being 0.
GAMES = [
    [0, 7, 9, 7, 7, 9, 11],
    [6, 0, 7, 5, 11, 9, 9],
    [4, 6, 0, 7, 7, 8, 12],
    [6, 8, 6, 0, 6, 7, 10],
    [6, 2, 6, 7, 0, 7, 12],
    [4, 4, 5, 6, 6, 0, 6],
    [2, 4, 1, 3, 1, 7, 0],
]
AGRESTI = [1.5814, 1.4364, 1.2945, 1.2476, 1.1077, 0.6839, 0.0]


def preference(first, second, preferred, rater="Ann", work="w", choice="a", pair=0, seconds=9.0):
    clips = (StudyClip(system, f"{work} {pair}", work, f"{system} {work} {pair}") for system in (first, second))
    return Preference(rater, pair, *clips, preferred, choice, seconds, seconds)


# ----------------------------------------------------------------------------------------------------- Bradley-Terry


def test_strengths_of_the_american_league():
    strength = bradley_terry(GAMES, prior=0)
    np.testing.assert_allclose(strength - strength[-1], AGRESTI, atol=5e-5)


def test_two_systems_by_hand():
    # 3 wins, 1 loss, 2 ties: 4 to 2, so log 2 between them.
    np.testing.assert_allclose(bradley_terry([[0, 4], [2, 0]], prior=0), [math.log(2) / 2, -math.log(2) / 2])
    # With a tie added: 4.5 to 2.5.
    np.testing.assert_allclose(np.diff(bradley_terry([[0, 4], [2, 0]], prior=1)), [-math.log(4.5 / 2.5)])


def test_three_systems_whose_games_fit_exactly():
    # Strengths 1 : 2 : 4 foresee 1 to 2 of 3 games, 1 to 2 of 3, 1 to 4 of 5.
    strength = bradley_terry([[0, 1, 1], [2, 0, 1], [4, 2, 0]], prior=0)
    np.testing.assert_allclose(strength, np.log([1, 2, 4]) - np.log(2), atol=1e-9)
    # A chain: the ends never met, and are compared through the middle.
    chain = bradley_terry([[0, 1, 0], [2, 0, 1], [0, 2, 0]], prior=0)
    np.testing.assert_allclose(chain, np.log([1, 2, 4]) - np.log(2), atol=1e-9)


def test_who_never_lost_is_finite_and_first():
    strength = bradley_terry([[0, 50, 50], [0, 0, 30], [0, 20, 0]])
    assert np.isfinite(strength).all() and strength[0] > strength[1] > strength[2]
    assert strength[0] - strength[1] < 10
    np.testing.assert_allclose(strength.sum(), 0, atol=1e-9)


def test_many_tables_at_once_are_each_alone():
    rng = np.random.default_rng(0)
    tables = rng.integers(0, 5, (40, 4, 4)) * ~np.eye(4, dtype=bool)
    together = bradley_terry(tables)
    np.testing.assert_allclose(together, [bradley_terry(table) for table in tables], atol=1e-8)
    # Nobody met nobody: nobody is ahead.
    np.testing.assert_array_equal(bradley_terry(np.zeros((1, 3, 3))), np.zeros((1, 3)))


def test_the_likelihood_is_highest_there():
    rng = np.random.default_rng(1)
    table = rng.integers(0, 9, (5, 5)) * ~np.eye(5, dtype=bool)
    strength = bradley_terry(table, prior=0)

    def likelihood(s):
        return -(table * np.log1p(np.exp(s[None, :] - s[:, None]))).sum()

    best = likelihood(strength)
    for _ in range(50):
        assert likelihood(strength + rng.normal(0, 0.05, 5)) < best + 1e-12


def test_islands_are_seen():
    assert connected(np.array([[0, 1, 0], [0, 0, 1], [0, 0, 0]]))
    assert not connected(np.array([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]]))


# ---------------------------------------------------------------------------------------------------------- intervals


def test_a_vote_weighs_its_rater_times_its_piece():
    rater, piece = [0, 0, 1, 1], ["x", "y", "x", "y"]
    weights = two_way(rater, piece, 2000)
    assert set(np.unique(weights)) <= {0.0, 1.0, 2.0, 4.0}
    np.testing.assert_array_equal(weights[:, 0] * weights[:, 3], weights[:, 1] * weights[:, 2])
    np.testing.assert_allclose(weights.mean(0), 1, atol=0.08)


def test_votes_of_one_rater_are_not_many():
    """Ten raters who each vote one way on all of a hundred pieces: as unsure as ten votes, not as a thousand."""
    lean = np.array([1, 1, 1, 1, 1, 1, 0, 0, 0, 0.0])
    rater, piece = (grid.ravel() for grid in np.meshgrid(range(10), range(100), indexing="ij"))
    found = share(lean[rater], two_way(rater, piece))
    # Binomial of 10 at 0.6: 1.2 % lie below 3, 5.5 % below 4; 0.6 % above 9, 4.6 % above 8.
    assert (found.value, found.low, found.high) == tuple(pytest.approx(x) for x in (0.6, 0.3, 0.9))
    alone = share(lean[rater], two_way(range(1000), range(1000)))
    assert alone.high - alone.low < 0.15


def test_votes_on_one_piece_are_not_many_either():
    rater, piece = (grid.ravel() for grid in np.meshgrid(range(100), range(10), indexing="ij"))
    found = share((piece < 6).astype(float), two_way(rater, piece))
    assert (found.low, found.high) == (pytest.approx(0.3), pytest.approx(0.9))


def test_an_interval_holds_the_truth_about_as_often_as_it_says():
    """60 worlds of 12 raters and 12 pieces with leanings of both: nominal 95 %, and this bootstrap errs to the wide."""
    rng = np.random.default_rng(5)
    rater, piece = (grid.ravel() for grid in np.meshgrid(range(12), range(12), indexing="ij"))
    held = 0
    for _ in range(60):
        lean = rng.normal(0, 0.15, 12)[rater] + rng.normal(0, 0.15, 12)[piece]
        won = (rng.random(144) < np.clip(0.5 + lean, 0, 1)).astype(float)
        found = share(won, two_way(rater, piece, 400))
        held += found.low <= 0.5 <= found.high
    assert held >= 52


# ------------------------------------------------------------------------------------------------------------ results


def test_results_by_hand():
    preferences = [
        preference("real", "base", 0, "Ann", "w1", "a"),
        preference("real", "base", 0, "Bob", "w1", "b"),
        preference("real", "base", 1, "Ann", "w2", "a"),
        preference("real", "base", None, "Bob", "w2", "tie", seconds=1.0),
        preference("base", "jazz", 1, "Ann", "w3", "b"),
    ]
    found = study_results(preferences, ["real", "base", "jazz"])
    assert (found.raters, found.pieces, found.votes, found.early_votes) == (2, 3, 5, 1)
    first, second = found.pairs
    assert first == PairResult("real", "base", 2, 1, 1, first.share)
    assert first.share.value == 0.625 and first.share.low <= 0.5 <= first.share.high
    assert second == PairResult("base", "jazz", 0, 0, 1, second.share)
    assert found.a_share.value == pytest.approx((1 + 0 + 1 + 0.5 + 0) / 5)
    assert [system for system, _ in found.ranking] == ["jazz", "real", "base"]
    assert all(strength.low <= strength.value <= strength.high for _, strength in found.ranking)
    content = found.to_json()
    assert content["pairs"][0] == {
        "first": "real", "second": "base", "wins": 2, "ties": 1, "losses": 1, "share": first.share.to_json(),
    }  # fmt: skip
    assert content["ranking"][0] == {"system": "jazz", "strength": found.ranking[0][1].to_json()}
    assert content["early_votes"] == 1 and content["a_share"]["value"] == found.a_share.value


def test_the_order_within_a_pair_does_not_matter():
    one = [preference("x", "y", 0, work=f"w{i}") for i in range(4)]
    other = [preference("y", "x", 1, work=f"w{i}") for i in range(4)]
    assert study_results(one, ["x", "y"]) == study_results(other, ["x", "y"])


def test_two_prompts_of_one_work_are_one_piece():
    preferences = [preference("x", "y", 0, work="w", pair=i) for i in range(5)]
    assert study_results(preferences, ["x", "y"]).pieces == 1
    assert study_results([preference("x", "y", 0, work="", pair=i) for i in range(5)], ["x", "y"]).pieces == 5


def test_no_ranking_over_systems_who_never_met():
    preferences = [preference("a", "b", 0), preference("c", "d", 1)]
    assert study_results(preferences, ["a", "b", "c", "d"]).ranking is None
    assert study_results([*preferences, preference("b", "c", None)], ["a", "b", "c", "d"]).ranking is not None


def test_ties_are_half_a_win_to_each():
    votes = VoteTable.of([preference("x", "y", None), preference("y", "x", 0)], ["x", "y"])
    np.testing.assert_array_equal(wins(votes, np.ones((1, 2))), [[[0, 0.5], [1.5, 0]]])


def test_a_true_order_is_found_from_drawn_votes():
    rng = np.random.default_rng(2)
    strength = {"a": 0.8, "b": 0.0, "c": -0.8}
    preferences = []
    for i in range(600):
        one, two = rng.choice(list(strength), 2, replace=False)
        first = rng.random() < 1 / (1 + math.exp(strength[two] - strength[one]))
        preferences.append(preference(one, two, int(not first), f"r{i % 10}", f"w{i % 30}", pair=i))
    found = study_results(preferences, list(strength))
    assert [system for system, _ in found.ranking] == ["a", "b", "c"]
    assert all(interval.low <= strength[system] <= interval.high for system, interval in found.ranking)
