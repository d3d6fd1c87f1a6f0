"""Checks on held-out prompts: which is best, when a run only gets worse, and a check of a tiny policy."""

from __future__ import annotations

import numpy as np
import pytest

from mgen.corpus.shards import Corpus
from mgen.errors import MgenError
from mgen.rl.guard import Guard, describe, is_best, only_worse


def evidence(*values):
    return [{} if value is None else {"guard/evidence": value} for value in values]


@pytest.mark.parametrize(
    ("values", "best"),
    [
        ([5.0], False),
        ([5.0, 9.0], True),
        ([1.0, 9.0, 8.0], True),  # that of the start does not count
        ([5.0, 3.0, 4.0], False),
        ([5.0, 3.0, 3.0], False),  # the first of equal ones is kept
        ([5.0, None, 4.0], True),
        ([5.0, 4.0, None], False),
    ],
)
def test_the_check_with_the_least_evidence_is_best(values, best):
    assert is_best(evidence(*values)) == best


def check(continuation, transfer=None):
    found = {"guard/continuation/auc": continuation, "guard/continuation/auc_high": continuation + 0.05}
    if transfer is not None:
        found |= {"guard/transfer/auc": transfer, "guard/transfer/auc_high": transfer + 0.05}
    return found


@pytest.mark.parametrize(
    ("checks", "worse"),
    [
        ([], False),
        ([check(0.7, 0.7)], False),
        ([check(0.7, 0.7), check(0.9, 0.9)], False),  # twice in a row
        ([check(0.7, 0.7), check(0.9, 0.9), check(0.8, 0.8)], True),
        ([check(0.7, 0.7), check(0.9, 0.9), check(0.8, 0.74)], False),  # one is within the interval
        ([check(0.7, 0.7), check(0.9, 0.9), check(0.7, 0.7), check(0.9, 0.9)], False),
        ([check(0.7), check(0.8), check(0.8)], True),
        ([{}, check(0.9), check(0.9)], False),  # nothing to compare with
    ],
)
def test_a_run_that_only_gets_worse_is_seen(checks, worse):
    assert only_worse(checks) == worse


def test_a_check_in_a_few_words():
    known = {"auc": 0.714, "auc_low": 0.65, "auc_high": 0.78, "whole": 0.96, "style": 0.31, "greedy_loops": 0.052}
    found = {f"guard/transfer/{name}": value for name, value in known.items()}
    assert describe(found) == "transfer AUC 0.71 [0.65, 0.78] by 36 notes, 96% whole, 31% of the style, greedy loops 5%"
    assert describe({"guard/transfer/loops": 0.5}) == "not measured: too few completions have 36 notes"


@pytest.mark.slow
def test_a_tiny_policy_is_checked(small_corpus, musical_policy):
    """It writes bars that are unlike real music; its checks are the same at every call."""
    guard = Guard.of(Corpus.open(small_corpus), "jazz", 40, 16, 192, seed=1)
    found = guard.check(musical_policy)
    assert found == guard.check(musical_policy)
    assert set(guard.prompts) == {"continuation", "transfer"}
    for kind in guard.prompts:
        assert 0 <= found[f"guard/{kind}/whole"] <= 1 and 0 <= found[f"guard/{kind}/style"] <= 1
        assert 0 < found[f"guard/{kind}/variety"] < 2
    measured = [key for key in found if key.endswith("/auc")]
    assert all(found[f"{key}_low"] <= found[key] <= found[f"{key}_high"] for key in measured)
    with pytest.raises(MgenError):
        Guard.of(Corpus.open(small_corpus), "jazz", 40, 16, 100_000, seed=1)


def test_the_style_of_other_works_is_seen(small_corpus):
    guard = Guard.of(Corpus.open(small_corpus), "jazz", 80, 16, 96, seed=1)
    works = [{*some.work} for group in (guard.prompts, guard.known) for some in group.values()]
    assert not (works[0] | works[1]) & (works[2] | works[3])
    of_style = guard._style_classifier()
    real, other = (of_style(guard.prompts[kind].real(guard.remi)) for kind in ("continuation", "transfer"))
    assert real > 0.8 and other < 0.2
    alone = Guard({"continuation": guard.real}, guard.real, {"continuation": guard.real}, guard.remi, 96)
    assert np.isnan(alone._style_classifier()(guard.real.real(guard.remi)))
