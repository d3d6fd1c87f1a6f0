from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mgen.corpus.shortcuts import (
    ALL_COUNTS,
    COLLECTION_SIZE,
    COLUMNS,
    NOTE_COUNTS,
    Shortcut,
    StyleAccuracy,
    _assign_folds,
    column_shortcuts,
    describe,
    note_shortcuts,
    predict_style,
)


def table(n=200, seed=0):
    """n works of each of two styles, four collections each."""
    rng = np.random.default_rng(seed)
    style = np.repeat(["jazz", "other"], n)
    number = np.tile(np.arange(n), 2)
    return rng, pd.DataFrame(
        {
            "style": style,
            "group": [f"{s} {i}" for s, i in zip(style, number, strict=True)],
            "collection": [f"{s} {i % 4}" for s, i in zip(style, number, strict=True)],
        }
    )


def test_a_column_that_decides_the_style_is_a_shortcut_and_a_random_one_is_not():
    rng, pieces = table()
    pieces["ticks_per_quarter"] = np.where(pieces["style"] == "jazz", 480, 96)
    pieces["n_tracks"] = rng.integers(1, 5, len(pieces))
    pieces["format"] = rng.choice(["midi", "gp5"], len(pieces))
    pieces["pedal"] = pieces["style"] == "jazz"
    shortcuts = {shortcut.key: shortcut for shortcut in column_shortcuts(pieces)}
    assert shortcuts["ticks_per_quarter"].works == StyleAccuracy(1.0, 0.0, 0.5, 400)
    assert shortcuts["ticks_per_quarter"].collections.accuracy == 1.0
    assert shortcuts["pedal"].works.accuracy == 1.0
    assert not shortcuts["n_tracks"].works.is_above_chance and not shortcuts["format"].works.is_above_chance
    assert next(iter(shortcuts)) in ("ticks_per_quarter", "pedal")  # strongest first
    text = describe(shortcuts["ticks_per_quarter"])
    assert text.startswith("Ticks per quarter alone: 100 % accuracy on unseen works, 100 % on unseen collections")
    assert "(chance: 50 %)" in text and "no token holds it" in text and "holds across collections" in text


def test_strings_and_missing_values_can_be_shortcuts():
    _, pieces = table()
    pieces["time_signature"] = np.where(pieces["style"] == "jazz", "4/4", "")
    pieces["tempo"] = np.where(pieces["style"] == "jazz", 120.0, np.nan)
    assert {shortcut.key: shortcut.works.accuracy for shortcut in column_shortcuts(pieces)} == {
        "time_signature": 1.0,
        "tempo": 1.0,
    }


def test_a_property_of_collections_is_distinguished_from_one_of_the_style():
    _, pieces = table()
    number = {name: i for i, name in enumerate(np.random.default_rng(1).permutation(pieces["collection"].unique()))}
    pieces["ticks_per_quarter"] = pieces["collection"].map(number)
    (shortcut,) = column_shortcuts(pieces)
    assert shortcut.works.accuracy == 1.0 and not shortcut.collections.is_above_chance
    assert "It identifies the collections, not the style." in describe(shortcut)


def test_the_size_of_a_collection_can_be_a_shortcut_and_a_constant_column_is_left_out():
    _, pieces = table()
    pieces["format"] = "midi"
    assert column_shortcuts(pieces) == []  # collections are all of one size
    pieces.loc[pieces["style"] == "jazz", "collection"] = "one"
    (shortcut,) = column_shortcuts(pieces)
    assert (shortcut.key, shortcut.works.accuracy, shortcut.collections) == ("collection_size", 1.0, None)


def test_the_recipe_band_keeps_instruments():
    _, pieces = table()
    pieces["instrument"] = np.where(pieces["style"] == "jazz", "Tenor Sax", "Violin")
    assert [column_shortcuts(pieces, recipe=recipe)[0].property.in_tokens for recipe in ("piano", "band")] == [
        False,
        True,
    ]


@pytest.mark.parametrize("width", [1, 3])
def test_pieces_of_one_work_are_never_on_both_sides(width):
    """A number of the work itself tells its style only to who has seen the work."""
    rng = np.random.default_rng(0)
    work = np.repeat(np.arange(60), 10)
    style = np.array(["jazz", "other"])[rng.permutation(np.arange(60) % 2)][work]
    features = np.column_stack([work.astype(float)] * width)
    assert not predict_style(features, style, work).is_above_chance
    assert predict_style(features, style, np.arange(600)).accuracy > 0.9


def test_every_style_weighs_the_same():
    style = np.array(["jazz"] * 90 + ["other"] * 10)
    group = np.arange(100)
    assert predict_style(np.zeros(100), style, group).accuracy == 0.5  # always jazz would be right in 90 of 100
    three = np.array(["a", "b", "c"] * 30)
    assert predict_style(np.zeros(90), three, np.arange(90)).chance == pytest.approx(1 / 3)


def test_the_error_counts_works_not_pieces():
    """Ten copies of every piece of a work say no more than one."""
    rng = np.random.default_rng(0)
    style = np.array(["jazz", "other"] * 50)
    feature = (style == "jazz") + rng.normal(size=100) * 0.8
    alone = predict_style(feature, style, np.arange(100))
    copies = predict_style(np.repeat(feature, 10), np.repeat(style, 10), np.repeat(np.arange(100), 10))
    assert copies.error == pytest.approx(alone.error, rel=0.35) and copies.error > 0.02


@pytest.mark.parametrize(("style", "group"), [("aaaa", "wxyz"), ("aabb", "wxyy"), ("", "")])
def test_nothing_is_guessed_of_one_style_or_one_work(style, group):
    assert predict_style(np.arange(len(style)), np.array(list(style)), np.array(list(group))) is None


def test_parts_have_every_style_and_none_has_all_of_one():
    rng = np.random.default_rng(0)
    of = np.repeat([0, 1, 2], [2, 30, 7])
    group = rng.permutation(len(of))
    part = _assign_folds(of, group, 2, 0)
    assert [np.bincount(part[of == style]).min() for style in range(3)] == [1, 15, 3]


@pytest.mark.parametrize(
    ("collections", "on_grid", "says", "excluded"),
    [
        (None, None, "(chance: 50 %)", "collections"),
        (StyleAccuracy(0.88, 0.01, 0.5, 9), None, "holds across collections", "better"),
        (StyleAccuracy(0.6, 0.01, 0.5, 9), None, "identifies the collections better than the style", "holds"),
        (StyleAccuracy(0.55, 0.1, 0.5, 9), None, "identifies the collections, not the style", "few"),
        (StyleAccuracy(0.8, 0.2, 0.5, 9), None, "too few collections", "identifies"),
        (None, StyleAccuracy(0.6, 0.02, 0.5, 9), "falls to 60 %: mgen prepare --on_grid_only", "still"),
        (None, StyleAccuracy(0.93, 0.02, 0.5, 9), "still 93 %, so --on_grid_only does not help", "falls"),
    ],
)
def test_words_follow_the_numbers(collections, on_grid, says, excluded):
    shortcut = Shortcut("phase", NOTE_COUNTS["phase"], StyleAccuracy(0.9, 0.01, 0.5, 9), collections, on_grid)
    text = describe(shortcut)
    assert says in text and excluded not in text and "90 %" in text and text.endswith(".")


@pytest.mark.slow
def test_counts_are_guessed_alone_together_and_on_the_grid():
    rng, pieces = table()
    jazz = (pieces["style"] == "jazz").to_numpy()
    pieces["on_grid"] = np.arange(len(pieces)) % 2 == 0
    grid = pieces["on_grid"].to_numpy()
    # density tells the style of pieces off the grid only, range of all, polyphony of none
    counts = {
        "density": np.where(grid, 1.0, jazz)[:, None],
        "range": np.column_stack([jazz, jazz]).astype(float),
        "polyphony": rng.normal(size=(len(pieces), 1)),
    }
    shortcuts = {shortcut.key: shortcut for shortcut in note_shortcuts(counts, pieces)}
    assert list(shortcuts) == sorted(shortcuts, key=lambda key: -shortcuts[key].works.accuracy)
    assert shortcuts["range"].works.accuracy == shortcuts["range"].on_grid.accuracy == 1.0
    assert shortcuts["density"].works.is_above_chance and shortcuts["density"].on_grid.accuracy == 0.5
    assert shortcuts["range"].on_grid.pieces == 200 and shortcuts["range"].works.pieces == 400
    assert not shortcuts["polyphony"].works.is_above_chance and shortcuts[ALL_COUNTS].works.accuracy > 0.99


def test_without_every_style_on_the_grid_nothing_is_text_of_it():
    _, pieces = table(30)
    third = pieces.iloc[:30].assign(style="third", group=[f"third {i}" for i in range(30)])
    pieces = pd.concat([pieces, third], ignore_index=True).assign(on_grid=[True] * 60 + [False] * 30)
    (alone, _) = note_shortcuts({"density": np.arange(90.0)[:, None]}, pieces)
    assert alone.works.chance == pytest.approx(1 / 3) and alone.on_grid is None  # two of three are another guess


def test_advice_ends_every_description():
    for one in (COLUMNS | COLLECTION_SIZE | NOTE_COUNTS).values():
        text = describe(Shortcut("key", one, StyleAccuracy(0.5, 0.1, 0.5, 9)))
        assert text == (f"{one.title} alone: 50 % accuracy on unseen works (chance: 50 %). {one.advice}")
