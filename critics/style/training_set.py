"""What an ensemble learns from: real excerpts, copies of them in other formats, and copies that are broken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from critics.style.ensemble import Material, feature_table
from critics.style.excerpts import Collected
from mgen.arrays import Floats
from mgen.transforms.format_augmentations import augment
from mgen.transforms.hard_negatives import HARD_NEGATIVES
from mgen.transforms.rebuild import is_changed

WAYS = tuple(HARD_NEGATIVES)
"""Names of the ways in which music is broken."""

EVENNESS = 0.7
"""Power of a collection's size that its excerpts are divided by: at 1 a collection of seven pieces would count as much
as one of two thousand, at 0 as little as its size.
"""

CORRUPTED_SHARE = 1 / 3
"""Of a collection's excerpts that are broken in each way."""

FEWEST = 20
"""At least so many, if there are."""


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """R rows of traits and the excerpt that each was made of: made once, learned from in parts.

    Attributes:
        table: (R, F).
        source: (R,) index of the excerpt.
        way: (R,) how it was broken; empty for real music and its copies.
    """

    table: Floats
    source: NDArray[np.int64]
    way: NDArray[np.str_]

    def of(
        self,
        excerpts: Collected,
        some: NDArray[np.bool_],
        ways: Sequence[str] = WAYS,
        evenness: float = EVENNESS,
    ) -> Material:
        """What was made of the excerpts in `some` (B,), broken in `ways` only; both sides weigh one half."""
        rows = np.flatnonzero(some[self.source] & np.isin(self.way, ["", *ways]))
        source = self.source[rows]
        weight = collection_weights(excerpts, some, evenness)[source]
        return Material(self.table[rows], excerpts.positive[source], self.way[rows], weight)


def prepared(excerpts: Collected, seed: int = 0, copies: int = 1) -> Prepared:
    """Traits of the excerpts, of `copies` copies of each in other formats, and of broken ones.

    What is made of an excerpt depends on it and on its own collection only: bars, chords and chains of others come
    from there. Straightened eighths are made of music of the style that was written on a grid: elsewhere the beat is
    not the music's. Broken copies that turned out as they were are left out.
    """
    rng = np.random.default_rng([seed, 17])
    every = np.arange(len(excerpts))
    parts = [(feature_table(excerpts.notes), every, "")]
    parts += [(feature_table(augment(excerpts.notes, rng)), every, "") for _ in range(copies)]
    for collection, positive in sorted({*zip(excerpts.collection.tolist(), excerpts.positive.tolist(), strict=True)}):
        own = np.flatnonzero((excerpts.collection == collection) & (excerpts.positive == positive))
        for way, change in HARD_NEGATIVES.items():
            able = own[(excerpts.positive & excerpts.on_grid)[own]] if way == "straight_eighths" else own
            some = np.sort(rng.permutation(able)[: max(FEWEST, round(CORRUPTED_SHARE * len(able)))])
            if not len(some):
                continue
            whole = excerpts.notes.pieces(some)
            broken = change(whole, rng)
            kept = np.flatnonzero(is_changed(whole, broken))
            parts.append((feature_table(broken.pieces(kept)), some[kept], way))
    tables, sources, ways = zip(*parts, strict=True)
    return Prepared(
        np.concatenate(tables),
        np.concatenate(sources),
        np.concatenate([np.full(len(source), way) for source, way in zip(sources, ways, strict=True)]),
    )


def collection_weights(excerpts: Collected, some: NDArray[np.bool_], evenness: float = EVENNESS) -> Floats:
    """(B,) weights, 1 on average in `some` and 0 elsewhere, with which both sides count alike.

    Within a side a collection, apart by kind, counts as its number of excerpts to the power 1 - `evenness`.
    """
    out = np.zeros(len(excerpts))
    kind = np.char.add(excerpts.collection, np.where(excerpts.on_grid, " on grid", " performed"))
    for side in (True, False):
        own = np.flatnonzero(some & (excerpts.positive == side))
        _, which, count = np.unique(kind[own], return_inverse=True, return_counts=True)
        weight = count[which] ** -evenness if len(own) else np.zeros(0)
        out[own] = weight / max(weight.sum(), 1e-12) / 2 * some.sum()
    return out
