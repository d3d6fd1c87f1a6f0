"""Measures of scores in bins, against scikit-learn on the same scores."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score

from mgen.stats.detection import BINS, CENTRES, EVEN, ScoreCounts, bin_of, count_scores, detection_scores

ONE = np.ones((1, 1))


def sample(seed, n=400):
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < 0.2
    return truth, rng.normal(2 * truth - 2, 2, n).astype(np.float32)


@given(st.integers(0, 10**6))
def test_measures_are_those_of_scikit_learn(seed):
    truth, logits = sample(seed)
    table = count_scores(torch.tensor(logits)[None], torch.tensor(truth)[None], torch.ones(1, len(truth)).bool())
    counts = ScoreCounts.of(table.numpy())
    rounded = CENTRES[bin_of(torch.tensor(logits)).numpy()]
    assert counts.average_precision(ONE)[0] == pytest.approx(average_precision_score(truth, rounded))
    assert counts.average_precision(ONE)[0] == pytest.approx(average_precision_score(truth, logits), abs=0.02)
    least, best = counts.best_threshold()
    for at in (least, EVEN):
        guess = rounded >= CENTRES[at]
        for name, of in (("f1", f1_score), ("precision", precision_score), ("recall", recall_score)):
            assert getattr(counts, name)(ONE, at)[0] == pytest.approx(of(truth, guess))
    assert best == counts.f1(ONE, least)[0] and best >= counts.f1(ONE, EVEN)[0]


def test_the_mask_and_the_groups():
    logits, truth = torch.zeros(3, 2), torch.tensor([[1, 0], [1, 1], [0, 0]])
    mask = torch.tensor([[True, True], [True, False], [False, True]])
    counts = ScoreCounts.of(count_scores(logits, truth, mask).numpy(), np.array([0, 1, 0]))
    assert counts.yes.sum(axis=1).tolist() == [1, 1] and counts.no.sum(axis=1).tolist() == [2, 0]
    # one bin for all: average precision is the share of yes
    assert counts.average_precision(np.array([[1.0, 1.0], [1.0, 0.0]])).tolist() == [0.5, pytest.approx(1 / 3)]


def test_the_loss_of_bins_is_that_of_the_scores():
    truth, logits = sample(0, 100_000)
    loss = np.logaddexp(0, CENTRES), np.logaddexp(0, -CENTRES)
    table = count_scores(torch.tensor(logits)[None], torch.tensor(truth)[None], torch.ones(1, len(truth)).bool())
    exact = np.logaddexp(0, np.where(truth, -logits, logits)).mean()
    assert ScoreCounts.of(table.numpy()).mean_loss(ONE, *loss)[0] == pytest.approx(exact, rel=1e-4)


def test_extreme_scores_and_no_example():
    assert bin_of(torch.tensor([-1e9, 0.0, 1e9])).tolist() == [0, EVEN, BINS - 1]
    none = ScoreCounts.of(np.zeros((2, 2, BINS), np.int64), np.array([0, 1]))
    found = detection_scores(none, EVEN, (CENTRES, CENTRES))
    assert all(np.isnan(one.value) for one in found.values()) and none.best_threshold()[1] == 0
