"""Ablations: each is a critic that can be trained and compared."""

from __future__ import annotations

import numpy as np
import pytest
from critics_music import STRAIGHT, SWUNG, gathered, toy
from sklearn.metrics import roc_auc_score

from critics.validation import fitters
from critics.validation.fitters import ABLATIONS, STYLE_MEMBERS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def excerpts():
    rng = np.random.default_rng(0)
    size = {"large": 16, "small": 8}
    pieces = [
        (f"{style} {name}", toy(style, n, rng), style == SWUNG, True)
        for style in (SWUNG, STRAIGHT)
        for name, n in size.items()
    ]
    return gathered(*pieces)


@pytest.mark.parametrize("name", ABLATIONS)
def test_each_ablation_differs_from_the_style_members_in_one_respect(name, excerpts, monkeypatch):
    """Compares what is trained, without training."""
    fitted: list[tuple] = []
    spreads: list[float] = []

    class FakeEnsemble:
        def logits(self, table, question, spread):
            assert question == "style"
            spreads.append(spread)
            return table[:, 0]

    def fit(training_set, members, seed):
        fitted.append((training_set, tuple(members)))
        return FakeEnsemble()

    monkeypatch.setattr(fitters, "Ensemble", type("Ensemble", (), {"fit": staticmethod(fit)}))
    train = np.arange(48) % 4 > 0
    ABLATIONS[name](excerpts, 0)(train, ~train, 0)
    ABLATIONS["style members"](excerpts, 0)(train, ~train, 0)
    (training_set, members), (usual, _) = fitted
    real, usual_real = ((part.corruption == "").sum() for part in (training_set, usual))
    differs = {
        "members": members != STYLE_MEMBERS,
        "copies": real != usual_real,
        "weights": real == usual_real and not np.array_equal(training_set.weight, usual.weight),
        "spread": spreads[0] != spreads[1],
    }
    assert sum(differs.values()) == (name != "style members"), differs
    assert members and {member.question for member in members} == {"style"}


@pytest.mark.parametrize("name", ["rhythm only", "pitch only"])
def test_a_view_by_itself_learns_a_toy(name, excerpts):
    train = np.arange(48) % 4 > 0
    score = ABLATIONS[name](excerpts, 0)(train, ~train, 0)
    assert score.shape == (12,) and roc_auc_score(excerpts.positive[~train], score) > 0.9
