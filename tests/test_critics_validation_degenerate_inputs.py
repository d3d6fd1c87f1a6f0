"""Wrong-way inputs: who is asked about what, by critics that say what a hand can follow."""

from __future__ import annotations

import numpy as np
import pytest
from evaluation_pieces import demo, line

from critics.style import StyleCritic
from critics.style.feature_training import WAYS
from critics.validation.degenerate_inputs import KINDS, wrong_way
from mgen.notes import Notes


class Pitches:
    """Says -0.1 for each different pitch that a piece lacks of ten, if it was told of such inputs; else -0.5 always."""

    hears = "pitches"
    parameters = 0

    def __init__(self, told: bool = True) -> None:
        self.told = told

    def hear(self, notes: Notes) -> tuple[np.ndarray, np.ndarray]:
        different = np.array([len(np.unique(notes.pitch[notes.piece == i])) for i in range(notes.n_pieces)])
        said = -0.1 * (10 - np.minimum(different, 10)) if self.told else np.full(notes.n_pieces, -0.5)
        return said, different > 2

    def save(self, folder):
        return {}


def test_every_kind_is_tried_on_a_critic_that_never_heard_it():
    real = demo("lead_sheets", works=6)
    asked: list[tuple[str, ...]] = []

    def without(left_out: tuple[str, ...]) -> StyleCritic:
        asked.append(tuple(left_out))
        return StyleCritic(Pitches(told=False), "jazz")

    three = Notes.concat([line([60, 62, 64] * 10)] * 5)
    found = wrong_way(StyleCritic(Pitches(), "jazz"), without, real, {"three pitches": three, "the same": real})
    assert list(found) == [*KINDS, "three pitches", "the same"]
    # each set of ways is left out once, however many kinds it belongs to
    assert sorted(asked) == sorted({kind.left_out for kind in KINDS.values() if kind.left_out})
    for name, row in found.items():
        assert row["n"] == (5 if name == "three pitches" else 6)
        known = name in KINDS and KINDS[name].left_out
        assert (row["trained"] is None) == (not known)
    worst = float(np.log(1e-4))
    for name in ("one_pitch", "held_note", "single_note"):
        for column in ("trained", "left_out"):  # neither judges what has fewer than three pitches
            real_mean = 0.0 if column == "trained" else -0.5
            assert found[name][column] == {
                "above_median": 0.0,
                "change": pytest.approx(worst - real_mean, abs=1e-5),
                "abstained": 1.0,
            }
    # real music has ten pitches and more: 0; three are -0.7
    assert found["three pitches"]["left_out"] == {
        "above_median": 0.0, "change": pytest.approx(-0.7, abs=1e-6), "abstained": 0.0
    }  # fmt: skip
    assert found["the same"]["left_out"] == {"above_median": 0.0, "change": 0.0, "abstained": 0.0}
    assert found["random_pitches"]["left_out"]["change"] == 0.0  # who never heard of it says what it always says


def test_the_share_above_the_median_of_real_music():
    poor = line([60, 62, 64, 65] * 8)
    rich = line(range(60, 72))
    real = Notes.concat([line(range(60, 67), 12), line(range(60, 67), 6), line(range(60, 64))])
    found = wrong_way(
        StyleCritic(Pitches(), "jazz", min_notes=1), lambda _: StyleCritic(Pitches(), "jazz"), real,
        {"half": Notes.concat([poor, rich])},
    )["half"]["left_out"]  # fmt: skip
    assert found["above_median"] == 0.5  # 4 pitches and 12 beside a median of 7
    assert found["change"] == pytest.approx((-0.6 + 0) / 2 - (-0.3 - 0.3 - 0.6) / 3)


def test_what_is_left_out_are_ways_that_there_are():
    assert {way for kind in KINDS.values() for way in kind.left_out} <= set(WAYS)
