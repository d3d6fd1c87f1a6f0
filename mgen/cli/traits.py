"""A style critic of traits, as `mgen critic` trains it: some minutes of traits, seconds of training.

Trained on excerpts of many lengths of the split train, calibrated on valid, measured on test. No part of it can be
taken up again in its middle: a run that was cut off begins anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from critics.style.excerpts import Collected, collected, joined
from critics.style.feature_model import FeatureModel
from critics.style.training_set import WAYS, Prepared, prepared
from mgen.corpus.shards import Corpus
from mgen.errors import MgenError

NOTES = (24, 36, 54, 80, 120, 180, 256)
"""Notes of excerpts: from a short completion to what transfer is measured on."""


@dataclass(frozen=True, eq=False)
class Lessons:
    """What a critic of traits is made from: prepared once, learned from as often as it is wanted.

    Attributes:
        corpus, positive: whose music, and which style is the yes.
        train, valid: excerpts, and what was made of them.
    """

    corpus: Corpus
    positive: str
    lengths: tuple[int, ...]
    train: tuple[Collected, Prepared]
    valid: tuple[Collected, Prepared]

    @classmethod
    def of(
        cls, corpus: Corpus, positive: str, lengths: Sequence[int], pieces: int, each: int, seed: int = 0
    ) -> Lessons:
        """Excerpts of the splits train and valid.

        Args:
            lengths: notes of excerpts; those of which a side has no piece are passed over.
            pieces: at most so many of a collection, for each length; half of them for calibration.
            each: excerpts of a piece.

        Raises:
            MgenError: On one of the sides there is no piece of any length.
        """
        train = excerpts_of(corpus, positive, "train", lengths, pieces, each, seed)
        valid = excerpts_of(corpus, positive, "valid", lengths, max(pieces // 2, 8), each, seed)
        return cls(
            corpus,
            positive,
            tuple(lengths),
            (train, prepared(train, seed, copies=1)),
            (valid, prepared(valid, seed, copies=0)),
        )

    def model(self, seed: int = 0, ways: Sequence[str] = WAYS) -> FeatureModel:
        """Trained and calibrated, on music broken in `ways` only."""
        train, valid = (rows.of(heard, np.ones(len(heard), bool), ways) for heard, rows in (self.train, self.valid))
        return FeatureModel.fit(train, valid, seed=seed)

    def told(self) -> dict[str, Any]:
        """What a critic of these was trained on, as plain values."""
        heard = self.train[0]
        names = {
            self.positive if yes else "other": np.unique(heard.collection[heard.positive == yes]).tolist()
            for yes in (True, False)
        }
        return {
            "data": self.corpus.fingerprint,
            "collections": names,
            "broken": list(WAYS),
            "excerpts": len(heard),
            "works": len(np.unique(heard.work)),
            "lengths": list(self.lengths),
        }


def excerpts_of(
    corpus: Corpus, positive: str, split: str, lengths: Sequence[int], pieces: int, each: int, seed: int
) -> Collected:
    """Excerpts of all lengths that both sides of a split have.

    Raises:
        MgenError: There is none.
    """
    parts, refused = [], []
    for count in lengths:
        try:
            parts.append(collected(corpus, positive, count, pieces, each, seed, splits=(split,)))
        except MgenError as error:
            refused.append(str(error))
    if not parts:
        raise MgenError(f"split {split}: {refused[0]}")
    return joined(parts)
