from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mgen.corpus.shortcuts import (
    COLUMNS,
    COUNTED,
    MARGINALS,
    TOGETHER,
    Guess,
    Leak,
    _dealt,
    column_leaks,
    count_leaks,
    guess,
    in_words,
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


def test_a_column_that_decides_the_style_is_a_leak_and_a_random_one_is_not():
    rng, pieces = table()
    pieces["ticks_per_quarter"] = np.where(pieces["style"] == "jazz", 480, 96)
    pieces["n_tracks"] = rng.integers(1, 5, len(pieces))
    pieces["format"] = rng.choice(["midi", "gp5"], len(pieces))
    pieces["pedal"] = pieces["style"] == "jazz"
    leaks = {leak.key: leak for leak in column_leaks(pieces)}
    assert leaks["ticks_per_quarter"].works == Guess(1.0, 0.0, 0.5, 400)
    assert leaks["ticks_per_quarter"].collections.accuracy == 1.0
    assert leaks["pedal"].works.accuracy == 1.0
    assert not leaks["n_tracks"].works.above and not leaks["format"].works.above
    assert next(iter(leaks)) in ("ticks_per_quarter", "pedal")  # worst first
    said = in_words(leaks["ticks_per_quarter"])
    assert said.startswith("Ticks a quarter alone: 100 in 100 pieces of works not seen before, 100 of collections")
    assert "(blind: 50)" in said and "no token holds it" in said and "holds across collections" in said


def test_words_and_missing_values_can_leak():
    _, pieces = table()
    pieces["time_signature"] = np.where(pieces["style"] == "jazz", "4/4", "")
    pieces["tempo"] = np.where(pieces["style"] == "jazz", 120.0, np.nan)
    assert {leak.key: leak.works.accuracy for leak in column_leaks(pieces)} == {"time_signature": 1.0, "tempo": 1.0}


def test_a_fingerprint_of_collections_is_told_from_a_habit_of_the_style():
    _, pieces = table()
    place = {name: i for i, name in enumerate(np.random.default_rng(1).permutation(pieces["collection"].unique()))}
    pieces["ticks_per_quarter"] = pieces["collection"].map(place)
    (leak,) = column_leaks(pieces)
    assert leak.works.accuracy == 1.0 and not leak.collections.above
    assert "It knows the collections, not the style." in in_words(leak)


def test_the_size_of_a_collection_can_leak_and_a_column_of_one_value_is_not_looked_at():
    _, pieces = table()
    pieces["format"] = "midi"
    assert column_leaks(pieces) == []  # collections are all of one size
    pieces.loc[pieces["style"] == "jazz", "collection"] = "one"
    (leak,) = column_leaks(pieces)
    assert (leak.key, leak.works.accuracy, leak.collections) == ("collection_size", 1.0, None)


def test_the_recipe_band_keeps_instruments():
    _, pieces = table()
    pieces["instrument"] = np.where(pieces["style"] == "jazz", "Tenor Sax", "Violin")
    assert [column_leaks(pieces, recipe=recipe)[0].clue.kept for recipe in ("piano", "band")] == [False, True]


@pytest.mark.parametrize("width", [1, 3])
def test_pieces_of_one_work_are_never_on_both_sides(width):
    """A number of the work itself tells its style only to who has seen the work."""
    rng = np.random.default_rng(0)
    work = np.repeat(np.arange(60), 10)
    style = np.array(["jazz", "other"])[rng.permutation(np.arange(60) % 2)][work]
    features = np.column_stack([work.astype(float)] * width)
    assert not guess(features, style, work).above
    assert guess(features, style, np.arange(600)).accuracy > 0.9


def test_every_style_weighs_the_same():
    style = np.array(["jazz"] * 90 + ["other"] * 10)
    group = np.arange(100)
    assert guess(np.zeros(100), style, group).accuracy == 0.5  # always jazz would be right in 90 of 100
    three = np.array(["a", "b", "c"] * 30)
    assert guess(np.zeros(90), three, np.arange(90)).blind == pytest.approx(1 / 3)


def test_the_error_counts_works_not_pieces():
    """Ten copies of every piece of a work say no more than one."""
    rng = np.random.default_rng(0)
    style = np.array(["jazz", "other"] * 50)
    feature = (style == "jazz") + rng.normal(size=100) * 0.8
    alone = guess(feature, style, np.arange(100))
    copies = guess(np.repeat(feature, 10), np.repeat(style, 10), np.repeat(np.arange(100), 10))
    assert copies.error == pytest.approx(alone.error, rel=0.35) and copies.error > 0.02


@pytest.mark.parametrize(("style", "group"), [("aaaa", "wxyz"), ("aabb", "wxyy"), ("", "")])
def test_nothing_is_guessed_of_one_style_or_one_work(style, group):
    assert guess(np.arange(len(style)), np.array(list(style)), np.array(list(group))) is None


def test_parts_have_every_style_and_none_has_all_of_one():
    rng = np.random.default_rng(0)
    of = np.repeat([0, 1, 2], [2, 30, 7])
    group = rng.permutation(len(of))
    part = _dealt(of, group, 2, 0)
    assert [np.bincount(part[of == style]).min() for style in range(3)] == [1, 15, 3]


@pytest.mark.parametrize(
    ("collections", "on_grid", "says", "not_said"),
    [
        (None, None, "(blind: 50)", "collections"),
        (Guess(0.88, 0.01, 0.5, 9), None, "holds across collections", "better"),
        (Guess(0.6, 0.01, 0.5, 9), None, "knows the collections better than the style", "holds"),
        (Guess(0.55, 0.1, 0.5, 9), None, "knows the collections, not the style", "few"),
        (Guess(0.8, 0.2, 0.5, 9), None, "too few collections", "knows"),
        (None, Guess(0.6, 0.02, 0.5, 9), "falls to 60: mgen prepare --on-grid-only", "still"),
        (None, Guess(0.93, 0.02, 0.5, 9), "still 93, so --on-grid-only does not mend it", "falls"),
    ],
)
def test_words_follow_the_numbers(collections, on_grid, says, not_said):
    leak = Leak("phase", MARGINALS["phase"], Guess(0.9, 0.01, 0.5, 9), collections, on_grid)
    said = in_words(leak)
    assert says in said and not_said not in said and "90 in 100" in said and said.endswith(".")


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
    leaks = {leak.key: leak for leak in count_leaks(counts, pieces)}
    assert list(leaks) == sorted(leaks, key=lambda key: -leaks[key].works.accuracy)
    assert leaks["range"].works.accuracy == leaks["range"].on_grid.accuracy == 1.0
    assert leaks["density"].works.above and leaks["density"].on_grid.accuracy == 0.5
    assert leaks["range"].on_grid.pieces == 200 and leaks["range"].works.pieces == 400
    assert not leaks["polyphony"].works.above and leaks[TOGETHER].works.accuracy > 0.99


def test_without_every_style_on_the_grid_nothing_is_said_of_it():
    _, pieces = table(30)
    third = pieces.iloc[:30].assign(style="third", group=[f"third {i}" for i in range(30)])
    pieces = pd.concat([pieces, third], ignore_index=True).assign(on_grid=[True] * 60 + [False] * 30)
    (alone, _) = count_leaks({"density": np.arange(90.0)[:, None]}, pieces)
    assert alone.works.blind == pytest.approx(1 / 3) and alone.on_grid is None  # two of three are another guess


def test_every_clue_ends_what_is_said_of_it():
    for clue in (COLUMNS | COUNTED | MARGINALS).values():
        said = in_words(Leak("key", clue, Guess(0.5, 0.1, 0.5, 9)))
        assert said == f"{clue.title} alone: 50 in 100 pieces of works not seen before (blind: 50). {clue.advice}"
