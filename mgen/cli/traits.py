"""A style critic of traits, as `mgen critic` trains it: some minutes of traits, seconds of training.

Trained on excerpts of many lengths of the split train, calibrated on valid, measured on test. No part of it can be
taken up again in its middle: a run that was cut off begins anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from critics.excerpts import Collected, collected, joined
from critics.material import WAYS, Prepared, prepared
from critics.style import StyleCritic
from critics.trait_model import TraitModel
from mgen.corpus.shards import Corpus
from mgen.errors import MgenError

NOTES = (24, 36, 54, 80, 120, 180, 256)
"""Notes of excerpts: from a short completion to what transfer is measured on."""


def train_traits(
    corpus: Corpus,
    positive: str,
    lengths: Sequence[int],
    pieces: int,
    each: int,
    min_notes: int,
    worst: float,
    seed: int,
) -> tuple[StyleCritic, dict[str, Any]]:
    """A calibrated critic, and what it was trained on.

    Args:
        lengths: notes of excerpts; those of which a side has no piece are passed over.
        pieces: at most so many of a collection, for each length.
        each: excerpts of a piece.

    Raises:
        MgenError: On one of the sides there is no piece of any length.
    """
    parts = {}
    for split, share in (("train", 1.0), ("valid", 0.5)):
        excerpts = excerpts_of(corpus, positive, split, lengths, max(round(pieces * share), 8), each, seed)
        parts[split] = excerpts, prepared(excerpts, seed, copies=int(split == "train"))
    train, valid = (_whole(*part) for part in parts.values())
    model = TraitModel.fit(train, valid, seed=seed)
    heard = parts["train"][0]
    collections: dict[str, list[str]] = {}
    for yes in (True, False):
        names = np.unique(heard.collection[heard.positive == yes]).tolist()
        collections[positive if yes else "other"] = names
    about = {
        "data": corpus.fingerprint,
        "collections": collections,
        "broken": list(WAYS),
        "excerpts": len(heard),
        "works": len(np.unique(heard.work)),
        "lengths": list(lengths),
    }
    return StyleCritic(model, positive, min_notes, worst), about


def excerpts_of(
    corpus: Corpus, positive: str, split: str, lengths: Sequence[int], pieces: int, each: int, seed: int
) -> Collected:
    """Excerpts of all lengths that both sides of a split have.

    Raises:
        MgenError: There is none.
    """
    parts = []
    for count in lengths:
        try:
            parts.append(collected(corpus, positive, count, pieces, each, seed, splits=(split,)))
        except MgenError as error:
            refused = error
    if not parts:
        raise MgenError(f"split {split}: {refused}")
    return joined(parts)


def _whole(excerpts: Collected, rows: Prepared) -> Any:
    return rows.of(excerpts, np.ones(len(excerpts), bool))
