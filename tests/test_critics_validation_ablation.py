"""Ablations: each is a critic that can be trained and compared."""

from __future__ import annotations

import numpy as np
import pytest
from critics_music import STRAIGHT, SWUNG, gathered, toy
from sklearn.metrics import roc_auc_score

from critics.validation import ablation
from critics.validation.ablation import ABLATIONS, STYLE


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
def test_each_differs_from_the_critic_of_style_in_one_thing(name, excerpts, monkeypatch):
    """What is trained: recorded, and trained only in the cheapest way."""
    fitted: list[tuple] = []
    spreads: list[float] = []

    class Recorded:
        def logits(self, table, question, spread):
            assert question == "style"
            spreads.append(spread)
            return table[:, 0]

    def fit(material, members, seed):
        fitted.append((material, tuple(members)))
        return Recorded()

    monkeypatch.setattr(ablation, "Ensemble", type("Ensemble", (), {"fit": staticmethod(fit)}))
    train = np.arange(48) % 4 > 0
    ABLATIONS[name](excerpts, 0)(train, ~train, 0)
    ABLATIONS["style"](excerpts, 0)(train, ~train, 0)
    (material, members), (usual, _) = fitted
    real, usual_real = ((part.way == "").sum() for part in (material, usual))
    differs = {
        "members": members != STYLE,
        "copies": real != usual_real,
        "weights": real == usual_real and not np.array_equal(material.weight, usual.weight),
        "spread": spreads[0] != spreads[1],
    }
    assert sum(differs.values()) == (name != "style"), differs
    assert members and {member.question for member in members} == {"style"}


@pytest.mark.parametrize("name", ["rhythm alone", "pitch alone"])
def test_a_view_by_itself_learns_a_toy(name, excerpts):
    train = np.arange(48) % 4 > 0
    said = ABLATIONS[name](excerpts, 0)(train, ~train, 0)
    assert said.shape == (12,) and roc_auc_score(excerpts.positive[~train], said) > 0.9
