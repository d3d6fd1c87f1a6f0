"""AUC of judges between real music and samples, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mgen.errors import MgenError
from mgen.rl.judge_auc import judge_aucs, weak
from mgen.stats.two_sample import auc_above


def test_auc_is_the_share_of_pairs_in_which_the_real_piece_scores_higher_and_ties_count_half():
    # real 1, 3 against samples 0, 1, 3: 1 wins, ties, loses; 3 wins, wins, ties: (1 + .5 + 0 + 1 + 1 + .5) / 6
    aucs = judge_aucs({"a": [1, 3], "b": [0, 0], "c": [0, 1]}, {"a": [0, 1, 3], "b": [0, 0, 0], "c": [5, 5, 5]})
    assert [auc.value for auc in aucs.values()] == pytest.approx([4 / 6, 0.5, 0])


def test_weak_judges_are_those_below_the_limit():
    real = {"good": [1, 2], "blind": [0, 0], "wrong": [-1, -1]}
    aucs = judge_aucs(real, {name: [0, 0] for name in real})
    assert weak(aucs) == ["blind", "wrong"] and weak(aucs, below=0.5) == ["wrong"]


def test_pieces_of_one_work_are_drawn_together():
    rng = np.random.default_rng(0)
    real, sampled = np.repeat(rng.normal(size=20), 20) + 0.5, rng.normal(size=400)
    alone = auc_above(real, sampled)
    by_work = auc_above(real, sampled, np.repeat(np.arange(20), 20))
    assert alone.value == by_work.value and alone.low < alone.value < alone.high
    assert by_work.high - by_work.low > 2 * (alone.high - alone.low)


def test_a_work_on_both_sides_is_drawn_for_both():
    score = np.arange(50.0)
    paired = auc_above(score + 0.1, score, np.arange(50), np.arange(50))
    apart = auc_above(score + 0.1, score)
    assert paired.high - paired.low < 0.2 * (apart.high - apart.low)


@pytest.mark.parametrize(
    ("real", "sampled", "works"), [([], [1.0], None), ([1.0], [], None), ([1.0, 2.0], [1.0], ["x"])]
)
def test_sides_without_pieces_and_wrong_works_are_errors(real, sampled, works):
    with pytest.raises(MgenError, match="expected"):
        auc_above(real, sampled, works)
