from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from evaluation_pieces import demo, each, line, nothing, piece, random_piece, solos
from sklearn.metrics import roc_auc_score

from mgen.notes import Notes
from mgen.stats.sequence_classifier import GRAMS, last_occurrence, note_features, sequence_ranks


def of(values: list[int], n: int, piece: list[int] | None = None) -> list[int]:
    owner = np.array(piece or [0] * len(values), np.int32)
    return last_occurrence(owner, np.array(values))[GRAMS.index(n)].tolist()


def test_how_long_ago_a_figure_was_heard():
    # c d e | c d e c d: "c d" ended 3 notes before, "c d e" too
    assert of([60, 62, 64, 60, 62, 64, 60, 62], 2) == [0, 0, 0, 0, 3, 3, 3, 3]
    assert of([60, 62, 64, 60, 62, 64, 60, 62], 3) == [0, 0, 0, 0, 0, 3, 3, 3]
    # the latest time counts, and figures may overlap
    assert of([5, 5, 5, 5, 5], 4) == [0, 0, 0, 0, 1]
    assert of([1, 2, 9, 1, 2, 8, 8, 1, 2], 2) == [0, 0, 0, 0, 3, 0, 0, 0, 4]
    # not over the border of two pieces, nor from one to another
    assert of([1, 2, 1, 2, 1, 2], 2, [0, 0, 0, 1, 1, 1]) == [0, 0, 0, 0, 0, 0]
    assert of([1, 2, 1, 2, 1, 2], 2, [0, 0, 0, 0, 1, 1]) == [0, 0, 0, 2, 0, 0]
    assert of([], 8) == []


def test_eight_notes_by_trying_all():
    rng = np.random.default_rng(0)
    values = rng.integers(2, size=400)
    found = of(values.tolist(), 8)
    for i in range(7, 400):
        ended = [j for j in range(7, i) if (values[j - 7 : j + 1] == values[i - 7 : i + 1]).all()]
        assert found[i] == (i - ended[-1] if ended else 0)
    assert max(found) > 0


def test_key_velocity_program_and_tokens_change_nothing():
    notes = Notes.concat([solos(3), demo("lead_sheets", works=1), random_piece(np.random.default_rng(0))])
    moved = replace(notes, pitch=notes.pitch - 5, velocity=127 - notes.velocity, token=notes.token + 9)
    for name in ("piece", "classes", "values"):
        np.testing.assert_array_equal(getattr(note_features(notes), name), getattr(note_features(moved), name))


def test_each_piece_is_read_alone():
    pieces = [*each(solos(2)), nothing(), line([60]), random_piece(np.random.default_rng(1))]
    together = note_features(Notes.concat(pieces))
    alone = [note_features(one) for one in pieces]
    np.testing.assert_array_equal(together.classes, np.concatenate([one.classes for one in alone]))
    np.testing.assert_allclose(together.values, np.concatenate([one.values for one in alone]), atol=1e-6)
    assert together.classes.min() >= 0 and together.classes.max() < together.n_classes


def test_classes_of_a_column_keep_to_their_numbers():
    # what one column can say no other can: the largest of one is below the least of the next
    notes = Notes.concat([random_piece(np.random.default_rng(seed), 200) for seed in range(8)])
    classes = note_features(notes).classes
    assert (classes.max(axis=0)[:-1] < classes.min(axis=0)[1:]).all()


def wandering(rng: np.random.Generator, again: bool) -> Notes:
    """48 random steps in even eighths; or 24, note_features twice."""
    moves = rng.integers(-3, 4, 24 if again else 48)
    moves = np.tile(moves, 2) if again else moves
    return line((72 + np.clip(np.cumsum(moves), -24, 24)).tolist(), step=12)


@pytest.fixture(scope="module")
def repeating() -> tuple[Notes, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    label = np.arange(80) % 2
    return Notes.concat([wandering(rng, bool(side)) for side in label]), label, np.arange(80) // 2 % 2


def test_repetition_is_heard(repeating):
    # Single intervals and rhythm are alike on both sides: only what was note_features before tells.
    assert roc_auc_score(repeating[1], sequence_ranks(*repeating, seed=0)) > 0.9


def test_the_same_for_a_seed_and_the_callers_generator_left_alone(repeating):
    notes, label, fold = repeating[0].pieces(np.arange(24)), repeating[1][:24], repeating[2][:24]
    torch.manual_seed(5)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    first = sequence_ranks(notes, label, fold, seed=1)
    torch.rand(3)
    np.testing.assert_array_equal(first, sequence_ranks(notes, label, fold, seed=1))
    assert (first != sequence_ranks(notes, label, fold, seed=2)).any()
    torch.manual_seed(5)
    assert torch.equal(before, torch.get_rng_state()) and torch.get_num_threads() == threads


def test_silence_is_survived():
    label, fold = np.arange(8) % 2, np.arange(8) // 2 % 2
    silent = sequence_ranks(nothing(8), label, fold, seed=0)
    assert np.isfinite(silent).all()
    drums = piece((0, 12, 38), (12, 12, 42), drums=True)
    some = Notes.concat([line([60, 62, 64]), nothing(), drums, line([60])] * 2)
    assert np.isfinite(sequence_ranks(some, label, fold, seed=0)).all()
