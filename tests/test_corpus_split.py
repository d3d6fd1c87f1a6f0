from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from mgen.corpus.split import SPLITS, assign_splits, splits_of_groups
from mgen.errors import MgenError


def pieces(**collections):
    """`jazz_solos=30` is thirty works of the collection solos in the style jazz; a list names the works."""
    rows = []
    for name, works in collections.items():
        style, collection = name.split("_")
        names = works if isinstance(works, list) else [f"{name} {number}" for number in range(works)]
        rows += [{"style": style, "collection": collection, "work": work} for work in names]
    return pd.DataFrame(rows)


def test_each_collection_is_cut_at_the_shares():
    table = pieces(jazz_solos=100, other_folk=50)
    counts = table.assign(split=assign_splits(table)).groupby(["collection", "split"]).size()
    assert counts["solos"].to_dict() == {"train": 64, "valid": 10, "judge": 10, "test": 16}
    assert counts["folk"].to_dict() == {"train": 32, "valid": 5, "judge": 5, "test": 8}


def test_four_works_are_enough():
    assert sorted(assign_splits(pieces(jazz_solos=4))) == sorted(SPLITS)


def test_small_collections_are_cut_together():
    split = assign_splits(pieces(jazz_a=2, jazz_b=1, jazz_c=3))
    assert set(split) == set(SPLITS)


@pytest.mark.slow
@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"), st.integers(0, 40)), min_size=60, max_size=150
    ).map(lambda rows: pd.DataFrame(rows, columns=["style", "collection", "work"]).astype({"work": str}))
)
def test_a_work_is_in_one_split_wherever_it_comes_from(table):
    try:
        split = assign_splits(table)
    except MgenError:  # hypothesis complains if that is the rule
        reject()
    assert (table.assign(split=split).groupby("work")["split"].nunique() == 1).all()
    order = np.random.default_rng(0).permutation(len(table))
    np.testing.assert_array_equal(assign_splits(table.iloc[order].reset_index(drop=True)), split[order])


def test_works_keep_the_splits_they_have_and_new_ones_fill_up_the_shares():
    previous = {f"jazz_solos {number}": "test" for number in range(6)} | {"jazz_solos 6": "train"}
    table = pieces(jazz_solos=50)
    split = dict(zip(table["work"], assign_splits(table, previous=previous), strict=True))
    assert {work: split[work] for work in previous} == previous
    counts = pd.Series(split.values()).value_counts().to_dict()
    assert counts == {"train": 32, "valid": 5, "judge": 5, "test": 8}


def test_a_split_that_is_empty_comes_first():
    previous = dict.fromkeys([f"jazz_solos {number}" for number in range(3)], "train")
    previous |= dict.fromkeys([f"jazz_solos {number}" for number in range(3, 7)], "test") | {"jazz_solos 7": "valid"}
    table = pieces(jazz_solos=9)
    assert assign_splits(table, previous=previous)[8] == "judge"


def test_a_group_goes_where_it_must_stay_unseen_longest():
    groups = ["a", "a", "b", "b", "c", "d", "d", "e"]
    had = ["train", "test", "valid", "", "", "judge", "valid", "train"]
    assert splits_of_groups(groups, had) == {"a": "test", "b": "valid", "d": "judge", "e": "train"}


def test_a_work_in_two_styles_goes_where_the_first_puts_it():
    shared = [f"tune {number}" for number in range(20)]
    table = pieces(jazz_a=shared, other_b=[*shared, *(f"own {number}" for number in range(20))])
    table["split"] = assign_splits(table)
    alone = pieces(jazz_a=shared)
    alone["split"] = assign_splits(alone)
    expected = alone.set_index("work")["split"]
    both = table[table["style"] == "other"].set_index("work")["split"]
    assert (both[shared] == expected[shared]).all()


@pytest.mark.parametrize(
    ("table", "styles", "says"),
    [
        (pieces(jazz_a=10, other_b=2), (), "style other has 2 works in 2 kept pieces, none left for judge and test"),
        (pieces(jazz_a=["one"] * 9), (), "style jazz has 1 work in 9 kept pieces, none left for valid and judge"),
        (pieces(jazz_a=10), ("jazz", "folk"), "style folk has 0 works in 0 kept pieces"),
    ],
)
def test_a_style_that_cannot_fill_the_splits_is_named(table, styles, says):
    with pytest.raises(MgenError, match=says):
        assign_splits(table, styles)
