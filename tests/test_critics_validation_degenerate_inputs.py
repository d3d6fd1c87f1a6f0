"""Degenerate inputs: which critic scores what, with critics that can be computed by hand."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
from evaluation_pieces import demo, line

from critics.style import StyleCritic
from critics.validation.degenerate_inputs import INPUT_TYPES, compare_inputs
from mgen.notes import Notes
from mgen.transforms.hard_negatives import HARD_NEGATIVES


def distinct(notes: Notes) -> np.ndarray:
    return np.array([len(np.unique(notes.pitch[notes.piece == i])) for i in range(notes.n_pieces)])


class Pitches:
    """-0.1 for each distinct pitch that a piece lacks of ten, if trained on such inputs; otherwise -0.5; 0.001 less."""

    input = "pitches"
    parameters = 0

    def __init__(self, trained: bool = True) -> None:
        self.trained = trained

    prior: ClassVar = {"style": 0.0}

    def log_odds(self, notes: Notes, question: str) -> np.ndarray:
        nats = -0.1 * (10.01 - np.minimum(distinct(notes), 10)) if self.trained else np.full(notes.n_pieces, -0.501)
        return nats - np.log1p(-np.exp(nats))

    def penalty(self, notes: Notes) -> np.ndarray:
        return np.where(distinct(notes) > 2, 0.0, 100.0)

    def save(self, folder):
        return {}


def test_every_type_is_scored_by_a_critic_trained_without_it():
    real = demo("lead_sheets", works=6)
    asked: list[tuple[str, ...]] = []

    def without(left_out: tuple[str, ...]) -> StyleCritic:
        asked.append(tuple(left_out))
        return StyleCritic(Pitches(trained=False), "jazz")

    three = Notes.concat([line([60, 62, 64] * 10)] * 5)
    found = compare_inputs(StyleCritic(Pitches(), "jazz"), without, real, {"three pitches": three, "the same": real})
    assert list(found) == [*INPUT_TYPES, "three pitches", "the same"]
    # each set of hard negatives is left out once
    assert sorted(asked) == sorted({left_out for left_out in INPUT_TYPES.values() if left_out})
    for name, row in found.items():
        assert row["n"] == (5 if name == "three pitches" else 6)
        tested = name in INPUT_TYPES and INPUT_TYPES[name]
        assert (row["trained"] is None) == (not tested)
    worst = float(np.log(1e-4))
    for name in ("one_pitch", "held_note", "single_note"):
        for column in ("trained", "left_out"):  # fewer than three pitches lose all
            real_mean = -0.001 if column == "trained" else -0.501
            assert found[name][column] == {
                "above_median": 0.0,
                "change": pytest.approx(worst - real_mean, abs=1e-5),
                "abstained": float(name == "single_note"),
            }
    # real music has ten pitches and more: 0; three give -0.7
    assert found["three pitches"]["left_out"] == {
        "above_median": 0.0, "change": pytest.approx(-0.7, abs=1e-6), "abstained": 0.0
    }  # fmt: skip
    assert found["the same"]["left_out"] == {"above_median": 0.0, "change": 0.0, "abstained": 0.0}
    assert found["random_pitches"]["left_out"]["change"] == 0.0  # the critic trained without it is constant


def test_the_share_above_the_median_of_real_music():
    poor = line([60, 62, 64, 65] * 8)
    rich = line(range(60, 72))
    real = Notes.concat([line(range(60, 67), 12), line(range(60, 67), 6), line(range(60, 64))])
    found = compare_inputs(
        StyleCritic(Pitches(), "jazz", min_notes=1), lambda _: StyleCritic(Pitches(), "jazz"), real,
        {"half": Notes.concat([poor, rich])},
    )["half"]["left_out"]  # fmt: skip
    assert found["above_median"] == 0.5  # 4 pitches and 12 against a median of 7
    assert found["change"] == pytest.approx((-0.6 + 0) / 2 - (-0.3 - 0.3 - 0.6) / 3)


def test_what_is_left_out_are_hard_negatives():
    assert {name for left_out in INPUT_TYPES.values() for name in left_out} <= set(HARD_NEGATIVES)
