"""Splits by work: no performance or arrangement of a training work is in another split."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mgen.errors import MgenError

SHARES = {"train": 0.64, "valid": 0.10, "judge": 0.10, "test": 0.16}
"""Share of the works in each split; only the evaluation's own judge is trained on `judge`."""

SPLITS = tuple(SHARES)

STRICTEST_FIRST = ("test", "judge", "valid", "train")
"""Splits from the one that most needs to stay unseen to the training split."""


def sums_by_split(pieces: pd.DataFrame, by: str, column: str) -> dict[str, dict[str, int]]:
    """Sum of a column for each value of `by` and each split."""
    table = pieces.pivot_table(index=by, columns="split", values=column, aggfunc="sum", fill_value=0)
    return {str(name): {split: int(row.get(split, 0)) for split in SPLITS} for name, row in table.iterrows()}


def assign_splits(
    pieces: pd.DataFrame, styles: tuple[str, ...] = (), by: str = "work", previous: Mapping[str, str] | None = None
) -> NDArray[np.str_]:
    """Split (P,) of each piece.

    The works of a collection are sorted by a hash of their names and divided by `SHARES`, so that each split has works
    of every collection, at least one. Collections with fewer than four works of one style are pooled. A work in several
    collections or styles gets the split of the first of them.

    Args:
        pieces: P rows with columns style, collection, and `by`.
        styles: styles that must be present, in addition to those of `pieces`.
        by: column with the unit that is never split: works, or groups of works.
        previous: split of works that have one already and keep it.

    Raises:
        MgenError: A style would have no piece in one of the splits.
    """
    columns = ["style", "collection", by]
    works = pieces[columns].drop_duplicates().sort_values(columns).drop_duplicates(by)
    size = works.groupby(["style", "collection"])[by].transform("size")
    works["collection"] = works["collection"].where(size >= len(SPLITS), "")
    works["hash"] = [hashlib.sha256(work.encode()).hexdigest() for work in works[by]]
    works = works.sort_values(["style", "collection", "hash"])
    split = dict(previous or {})
    for _, group in works.groupby(["style", "collection"]):
        split.update(_fill_splits(group[by].tolist(), split))
    out = pieces[by].map(split).to_numpy(dtype=str)
    _check(pieces, by, out, styles)
    return out


def splits_of_groups(groups: Sequence[str], splits: Sequence[str]) -> dict[str, str]:
    """Split of each group of which pieces have one already: the first of them in `STRICTEST_FIRST`.

    Args:
        groups, splits: (P,) group and previous split of each piece; the split of a new piece is empty.
    """
    found: dict[str, str] = {}
    for group, split in zip(groups, splits, strict=True):
        if split and STRICTEST_FIRST.index(split) <= STRICTEST_FIRST.index(found.get(group, "train")):
            found[group] = split
    return found


def _fill_splits(works: list[str], previous: Mapping[str, str]) -> dict[str, str]:
    """Assigns splits to the `works` without one: empty splits first, then those that are short of their share."""
    wanted = Counter(_share_out(len(works)))
    wanted.subtract(previous[work] for work in works if work in previous)
    has = Counter(previous[work] for work in works if work in previous)
    empty_first = sorted(SPLITS, key=lambda name: has[name] > 0)
    names = [name for name in empty_first for _ in range(wanted[name])]
    new = [work for work in works if work not in previous]
    return dict(zip(new, names + ["train"] * (len(new) - len(names)), strict=False))


def _share_out(n: int) -> list[str]:
    """Split of each of `n` works in order; with fewer than four works the last splits stay empty."""
    held = {name: max(1, round(share * n)) for name, share in SHARES.items() if name != "train"}
    names = ["train"] * max(1, n - sum(held.values())) + [name for name, count in held.items() for _ in range(count)]
    return names[:n]


def _check(pieces: pd.DataFrame, by: str, split: NDArray[np.str_], styles: tuple[str, ...]) -> None:
    for style in sorted({*styles, *pieces["style"]}):
        own = (pieces["style"] == style).to_numpy()
        empty = [name for name in SPLITS if name not in split[own]]
        if empty:
            n = pieces.loc[own, by].nunique()
            works = f"{n} work{'' if n == 1 else 's'} in {int(own.sum())} kept pieces"
            raise MgenError(
                f"corpus too small to split: style {style} has {works}, "
                f"none left for {' and '.join(empty)}; give it {len(SPLITS)} works or more "
                "(files of one work go to one split)"
            )
