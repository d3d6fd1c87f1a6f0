"""Splits by work: what is judged was never trained on, in any performance or arrangement."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mgen.errors import MgenError

SHARES = {"train": 0.64, "valid": 0.10, "judge": 0.10, "test": 0.16}
"""Share of the works in each split; `judge` is what the evaluation's own judge is trained on, and nothing
else.
"""

SPLITS = tuple(SHARES)


def assign_splits(pieces: pd.DataFrame, styles: tuple[str, ...] = ()) -> NDArray[np.str_]:
    """Split (P,) of each piece.

    Works of a collection are put in the order of a hash of their names and cut at `SHARES`, so each split is
    drawn from every collection, and at least one work goes to each split. Collections of fewer than four
    works of one style are cut together. A work that is in several collections, or styles, goes where the
    first of them puts it: a work is in one split only.

    Args:
        pieces: P rows with columns style, collection, work.
        styles: styles that must be there, beside those that are.

    Raises:
        MgenError: A style would have no piece in one of the splits.
    """
    columns = ["style", "collection", "work"]
    works = pieces[columns].drop_duplicates().sort_values(columns).drop_duplicates("work")
    size = works.groupby(["style", "collection"])["work"].transform("size")
    works["collection"] = works["collection"].where(size >= len(SPLITS), "")
    works["hash"] = [hashlib.sha256(work.encode()).hexdigest() for work in works["work"]]
    works = works.sort_values(["style", "collection", "hash"])
    split = {
        work: name
        for _, group in works.groupby(["style", "collection"])
        for work, name in zip(group["work"], _cut(len(group)), strict=True)
    }
    out = pieces["work"].map(split).to_numpy(dtype=str)
    _check(pieces, out, styles)
    return out


def _cut(n: int) -> list[str]:
    """A split for each of `n` works in order; with fewer than four the later splits get none."""
    held = {name: max(1, round(share * n)) for name, share in SHARES.items() if name != "train"}
    names = ["train"] * max(1, n - sum(held.values())) + [name for name, count in held.items() for _ in range(count)]
    return names[:n]


def _check(pieces: pd.DataFrame, split: NDArray[np.str_], styles: tuple[str, ...]) -> None:
    for style in sorted({*styles, *pieces["style"]}):
        own = (pieces["style"] == style).to_numpy()
        empty = [name for name in SPLITS if name not in split[own]]
        if empty:
            n = pieces.loc[own, "work"].nunique()
            works = f"{n} work{'' if n == 1 else 's'} in {int(own.sum())} kept pieces"
            raise MgenError(
                f"corpus too small to split: style {style} has {works}, "
                f"none left for {' and '.join(empty)}; give it {len(SPLITS)} works or more "
                "(files of one work go to one split)"
            )
