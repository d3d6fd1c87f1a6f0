"""`check_judge` names the rule that a judge breaks, the piece, and what to do."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from mgen.errors import MgenError
from mgen.judgement import Judgement
from mgen.testing import check_judge


class MeanPitch:
    """A judge that keeps the contract: minus the mean pitch, in octaves, its credit shared by all notes."""

    worst = -20.0

    def __call__(self, notes):
        share = -notes.pitch / 12 / np.maximum(notes.counts, 1)[notes.piece]
        defined = notes.counts > 0
        score = np.where(defined, np.bincount(notes.piece, share, notes.n_pieces), self.worst)
        return Judgement(score.astype(np.float32), share.astype(np.float32), defined)


def breaking(change):
    """`MeanPitch` whose judgement is changed."""

    class Broken(MeanPitch):
        def __call__(self, notes):
            judgement = super().__call__(notes)
            fields = {"score": judgement.score, "credit": judgement.credit, "defined": judgement.defined}
            return Judgement(**(fields | change(judgement, notes)))

    return Broken


def lacking(attribute):
    return type("Broken", (), {"worst": -1.0, "__call__": lambda self, notes: None} | {attribute: None})


counter = itertools.count()


def louder(judgement, notes):
    notes.velocity[:] += 1
    return {}


BREAKS = {
    "scores are finite": lambda j, n: {"score": np.where(n.counts == n.counts.max(), np.nan, j.score)},
    "score has one float32 per piece": lambda j, n: {"score": j.score.astype(float)},
    "defined has one bool per piece": lambda j, n: {"defined": j.defined.astype(int)},
    "credit has one float32 per note": lambda j, n: {"credit": j.credit[:-1] if len(n) else j.credit[:, None]},
    "no score is below the worst value": lambda j, n: {"score": j.score - np.float32(1)},
    "an undefined piece gets the worst value": lambda j, n: {"score": np.where(j.defined, j.score, np.float32(0))},
    "credit sums to the score": lambda j, n: {"credit": j.credit * np.float32(0.9)},
    "an empty piece is not defined": lambda j, n: {"defined": np.ones(n.n_pieces, bool)},
    "each piece is judged alone": lambda j, n: {
        "score": np.where(j.defined, j.score - np.float32(0.01 * n.n_pieces), j.score),
        "credit": None,
    },
    "the same music gets the same score": lambda j, n: {
        "score": np.where(j.defined, -np.float32(next(counter) % 19), j.score),
        "credit": None,
    },
    "the notes stay as they are": louder,
}


def test_a_judge_that_keeps_the_contract_passes():
    check_judge(MeanPitch, tolerance=1e-6)


@pytest.mark.parametrize("rule", BREAKS)
def test_a_broken_rule_is_one_line(rule):
    with pytest.raises(MgenError) as caught:
        check_judge(breaking(BREAKS[rule]), name="own:Judge")
    message = str(caught.value)
    assert message.startswith(f"judge own:Judge breaks the rule '{rule}': ") and "; " in message and "\n" not in message


class Beginnings(MeanPitch):
    """`MeanPitch`, also of beginnings; a subclass breaks a rule of these."""

    def prefix_scores(self, notes):
        judgement = self(notes)
        return np.where(judgement.defined, judgement.score, -5.0)


BEGINNINGS = {
    "a beginning has a finite score": lambda scores: np.append(scores, 0.0),
    "a whole piece as a beginning has its score": lambda scores: scores + 1,
}


@pytest.mark.parametrize("rule", BEGINNINGS)
def test_a_broken_rule_of_beginnings_is_one_line(rule):
    check_judge(Beginnings, tolerance=1e-6)
    broken = type(
        "Broken",
        (Beginnings,),
        {"prefix_scores": lambda self, notes: BEGINNINGS[rule](Beginnings().prefix_scores(notes))},
    )
    with pytest.raises(MgenError, match=rule):
        check_judge(broken, tolerance=1e-6)


def test_a_key_that_matters_must_not_be_declared_away():
    with pytest.raises(MgenError, match=r"'transposition changes nothing': piece \d+ has .* compare intervals"):
        check_judge(MeanPitch, transposition_invariant=True)


@pytest.mark.parametrize(
    ("factory", "rule"),
    [
        (lacking("worst"), "a judge is callable and has a finite worst value"),
        (lambda: 3, "a judge is callable and has a finite worst value"),
        (lacking("other"), "a judge returns a Judgement"),
        (lacking("__call__"), "can be judged': it raised TypeError"),
    ],
)
def test_what_is_no_judge_is_one_line(factory, rule):
    with pytest.raises(MgenError, match=rule):
        check_judge(factory)
