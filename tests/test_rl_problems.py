"""Problems of a run: each appears once, when it begins, and depends on the metrics alone."""

from __future__ import annotations

import copy
import re

import pytest

from mgen.rl.problems import never_differed, new_problems, problems

GATE = {"share/gate": 0.9, "share/style": 0.08, "share/kl": 0.02}
EVEN = {"share/gate": 0.4, "share/style": 0.4, "share/kl": 0.2}
KL = {"share/gate": 0.05, "share/style": 0.05, "share/kl": 0.9}
TWO = {"share/style": 0.9, "share/kl": 0.1}
EQUAL, DIFFERENT = {"groups/equal": 1.0}, {"groups/equal": 0.9}
AWAY, CLOSE = {"realism_tokens/running_away": 1.0}, {"realism_tokens/running_away": 0.5}
STARVED, FED = {"realism_tokens/starved": 1.0}, {"realism_tokens/starved": 0.0}
BLIND = {"realism/auc": 0.6, "realism/fresh_auc": 0.64}
SEEING = {"realism/auc": 0.6, "realism/fresh_auc": 0.62}


def reported(steps):
    """(step, line) of each new problem, over a whole run."""
    return [(n, line) for n in range(1, len(steps) + 1) for line in new_problems(steps[:n], 0.8)]


@pytest.mark.parametrize(
    ("steps", "numbers", "words"),
    [
        ([GATE] * 8, [5], "gate has 0.90 of the advantage.*Lower the weight of gate"),
        ([KL] * 6, [5], "kl has 0.90 of the advantage.*Lower kl_weight"),
        ([*[GATE] * 4, EVEN, *[GATE] * 6], [10], "gate has"),
        ([*[GATE] * 5, EVEN, *[GATE] * 5], [5, 11], "gate has"),
        ([TWO] * 9, [], ""),  # of one judge and KL, one has to have most
        ([EVEN] * 9, [], ""),
        ([EQUAL] * 5, [3], "all completions of a prompt have equal rewards, so only KL is trained on, for 3 steps"),
        ([DIFFERENT, *[EQUAL] * 4, DIFFERENT, *[EQUAL] * 3], [4, 9], "equal rewards"),
        ([CLOSE, AWAY, AWAY, CLOSE, AWAY], [2, 5], "realism_tokens is too strong"),
        ([FED, STARVED, STARVED, FED, STARVED], [2, 5], "realism_tokens sees no difference"),
        ([SEEING, BLIND, {}, BLIND], [2, 4], "realism misses what new boosted trees see: AUC 0.60 against 0.64"),
    ],
)
def test_a_problem_is_reported_when_it_begins(steps, numbers, words):
    before = copy.deepcopy(steps)
    found = reported(steps)
    assert [number for number, _ in found] == numbers
    for _, line in found:
        assert "\n" not in line
        assert re.search(words, line)
    assert reported(steps) == found and steps == before  # nothing is remembered


def test_two_problems_at_once_are_two_lines():
    assert len(new_problems([CLOSE | FED, AWAY | STARVED], 0.8)) == 2
    assert set(problems([AWAY | STARVED], 0.8)) == {"running_away", "starved"}
    assert problems([], 0.8) == {} and new_problems([], 0.8) == []


def test_never_differed():
    assert never_differed([EQUAL] * 3) and not never_differed([EQUAL] * 2)
    assert not never_differed([DIFFERENT, *[EQUAL] * 9]) and not never_differed([{}] * 3)
