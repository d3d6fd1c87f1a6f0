"""The training set of a critic of features: what is made from which excerpt, and its weight."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from critics_music import STRAIGHT, SWUNG, gathered, toy
from evaluation_pieces import demo, random_piece

from critics.style import feature_training
from critics.style.ensemble import feature_table
from critics.style.feature_training import CORRUPTED_SHARE, EVENNESS, MIN_CORRUPTED, FeatureRows, collection_weights
from mgen.notes import Notes
from mgen.transforms.hard_negatives import HARD_NEGATIVES
from mgen.transforms.rebuild import resolve_overlaps
from mgen.transforms.wrong_notes import MANY

pytestmark = pytest.mark.slow


def collections():
    """Swung jazz, typed in and played, and other music of two collections, one of them small."""
    return gathered(
        ("tabs", demo("lead_sheets", works=6), True, True),
        ("solos", demo("club_takes", works=6), True, False),
        ("folk", demo("folk_tunes", works=6), False, True),
        ("few", demo("chorales", works=2), False, True),
    )


@pytest.mark.slow
def test_real_rows_are_first_then_copies_then_hard_negatives():
    excerpts = collections()
    made = FeatureRows.compute(excerpts, copies=2)
    n = len(excerpts)
    np.testing.assert_array_equal(made.table[:n], feature_table(excerpts.notes))
    assert made.source[: 3 * n].tolist() == 3 * list(range(n))
    # then those of 16 bars and more with their first half repeated
    long = np.flatnonzero(np.diff(excerpts.notes.bar_starts) >= 2 * MANY - 1)
    first = 3 * n + len(long)
    assert len(long) and made.source[3 * n : first].tolist() == long.tolist()
    assert (made.corruption[:first] == "").all() and (made.corruption[first:] != "").all()
    assert (FeatureRows.compute(excerpts, copies=0).corruption[n:] != "").all()
    assert set(made.corruption.tolist()) == {"", *HARD_NEGATIVES} == {"", *HARD_NEGATIVES}
    assert np.isfinite(made.table).all() and made.table.shape == (len(made.source), made.table.shape[1])
    again, other = FeatureRows.compute(excerpts, copies=2), FeatureRows.compute(excerpts, seed=1, copies=2)
    np.testing.assert_array_equal(again.table, made.table)
    assert len(other.table) != len(made.table) or (other.table != made.table).any()


def test_each_hard_negative_is_made_from_a_third_of_a_collection_and_at_least_some():
    rng = np.random.default_rng(0)
    large = gathered(("large", toy(SWUNG, 90, rng, 2), True, True), ("other", toy(STRAIGHT, 3, rng, 2), False, True))
    made = FeatureRows.compute(large, copies=0)
    negative = made.corruption == "random_pitches"
    assert (negative & (made.source < 90)).sum() == round(90 * CORRUPTED_SHARE) > MIN_CORRUPTED
    assert (negative & (made.source >= 90)).sum() == 3  # all that there are
    assert len(np.unique(made.source[negative])) == negative.sum()


def test_what_is_made_of_an_excerpt_comes_from_its_own_collection(monkeypatch):
    """Collections an octave and more apart: whatever is exchanged, nothing of one is found in the other."""
    rng = np.random.default_rng(0)
    parts = []
    for number in range(4):
        notes = Notes.concat([random_piece(rng, 40) for _ in range(8)])
        pitch = 30 + 20 * number + notes.pitch % 12
        parts.append((f"c{number}", resolve_overlaps(replace(notes, pitch=pitch.astype(np.int32))), number < 2, True))
    excerpts = gathered(*parts)
    exchanging = ("bars_of_others", "rhythm_of_others", "chords_of_others", "pitches_permuted", "markov_pitches")
    exchanging += ("hand_of_others", "superposed", "collage")
    monkeypatch.setattr(feature_training, "HARD_NEGATIVES", {name: HARD_NEGATIVES[name] for name in exchanging})
    monkeypatch.setattr(feature_training, "augment", lambda notes, rng: notes)
    monkeypatch.setattr(feature_training, "feature_table", _range)
    made = FeatureRows.compute(excerpts)
    lowest = 30 + 20 * (made.source // 8)
    assert set(made.corruption.tolist()) == {"", *exchanging}
    assert (made.table[:, 0] >= lowest).all() and (made.table[:, 1] < lowest + 12).all()


def _range(notes: Notes) -> np.ndarray:
    """Lowest and highest pitch."""
    low, high = np.full(notes.n_pieces, 127.0), np.zeros(notes.n_pieces)
    np.minimum.at(low, notes.piece, notes.pitch)
    np.maximum.at(high, notes.piece, notes.pitch)
    return np.stack([low, high], axis=1)


def test_eighths_are_straightened_where_the_beat_is_the_music_s():
    swung = demo("blues_piano", works=6)
    excerpts = gathered(
        ("tabs", swung, True, True),
        ("solos", swung, True, False),
        ("shuffles", swung, False, True),
        ("takes", swung, False, False),
    )
    made = FeatureRows.compute(excerpts)
    where = {name: set(excerpts.collection[made.source[made.corruption == name]].tolist()) for name in HARD_NEGATIVES}
    assert where.pop("straight_eighths") == {"tabs"}  # neither what was played, nor the other side
    assert all(names == {"tabs", "solos", "shuffles", "takes"} for names in where.values())


def test_an_unchanged_copy_is_no_hard_negative():
    """Straight eighths of the style have no swing to take out; triads in major no note to move."""
    rng = np.random.default_rng(0)
    excerpts = gathered(("a", toy(STRAIGHT, 6, rng), True, True), ("b", toy(STRAIGHT, 6, rng), False, True))
    made = FeatureRows.compute(excerpts)
    assert (
        "straight_eighths" not in made.corruption
        and "in_major" not in made.corruption
        and "one_pitch" in made.corruption
    )
    mixed = Notes.concat([toy(style, 3, rng) for style in (STRAIGHT, SWUNG, STRAIGHT)])
    excerpts = gathered(("a", mixed, True, True), ("b", toy(STRAIGHT, 6, rng), False, True))
    made = FeatureRows.compute(excerpts)
    assert sorted(made.source[made.corruption == "straight_eighths"]) == [3, 4, 5]


def test_the_sides_weigh_alike_and_collections_by_a_power_of_their_size():
    size = {"large": 64, "played": 16, "small": 4, "one": 1}
    names = np.repeat(list(size), list(size.values()))
    notes = toy(SWUNG, len(names), np.random.default_rng(0), 1)
    excerpts = gathered(("x", notes, True, True))
    positive = np.isin(names, ["large", "small"])
    excerpts = replace(excerpts, positive=positive, collection=names, on_grid=names != "played")
    weight = collection_weights(excerpts, np.ones(85, bool))
    assert weight.mean() == pytest.approx(1)
    assert weight[positive].sum() == pytest.approx(weight[~positive].sum()) == pytest.approx(85 / 2)
    total = {name: weight[names == name].sum() for name in size}
    assert total["large"] / total["small"] == pytest.approx(16 ** (1 - EVENNESS))
    assert total["played"] / total["one"] == pytest.approx(16 ** (1 - EVENNESS))
    # A part: what is left out weighs nothing, and nothing else depends on it.
    some = names != "large"
    part = collection_weights(excerpts, some)
    assert not part[~some].any() and part[some].mean() == pytest.approx(1)
    assert part[names == "small"].sum() == pytest.approx(21 / 2)
    # What was played and what was typed in are two collections, also under one name.
    mixed = replace(excerpts, collection=np.where(positive, "a", "b"))
    again = collection_weights(mixed, np.ones(85, bool))
    assert again[names == "played"].sum() / again[names == "one"].sum() == pytest.approx(16 ** (1 - EVENNESS))


def test_what_is_taken_of_some_excerpts_was_made_of_these():
    excerpts = collections()
    made = FeatureRows.compute(excerpts)
    some = np.arange(len(excerpts)) % 2 == 0
    part = made.training_set(some, ["one_pitch", "in_major"])
    assert set(part.corruption.tolist()) == {"", "one_pitch", "in_major"}
    rows = some[made.source] & np.isin(made.corruption, ["", "one_pitch", "in_major"])
    np.testing.assert_array_equal(part.table, made.table[rows])
    np.testing.assert_array_equal(part.positive, excerpts.positive[made.source[rows]])
    np.testing.assert_array_equal(part.weight, collection_weights(excerpts, some)[made.source[rows]])
    assert set(made.training_set(some).corruption.tolist()) == {"", *HARD_NEGATIVES}
