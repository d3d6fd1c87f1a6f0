"""How a critic of features is trained: the training set made from excerpts, and the fit.

Features of excerpts, augmented copies and hard negatives are computed once; any number of models is trained on parts of
them. Computing takes some minutes, training some seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from critics.style.ensemble import TrainingSet, feature_table
from critics.style.excerpts import Excerpts, draw_excerpts
from critics.style.feature_model import FeatureModel
from mgen.arrays import Floats, Longs, Mask
from mgen.corpus.shards import Corpus
from mgen.errors import MgenError
from mgen.notes import Notes
from mgen.progress import Progress, counted, silent
from mgen.transforms.format_augmentations import augment
from mgen.transforms.hard_negatives import HARD_NEGATIVES
from mgen.transforms.rebuild import is_changed
from mgen.transforms.wrong_notes import repeat_section

LENGTHS = (24, 36, 54, 80, 120, 180, 256)
"""Notes of excerpts: from a short completion to the length used for leave-one-collection-out."""

EVENNESS = 0.7
"""Power of a collection's size that the weight of its excerpts is divided by: at 1 a collection of 7 pieces would weigh
as much as one of 2,000, at 0 in proportion to its size.
"""

CORRUPTED_SHARE = 1 / 3  # share of a collection's excerpts that each hard negative is made from
MIN_CORRUPTED = 20  # least number of these, if the collection has as many


@dataclass(frozen=True, slots=True, eq=False)
class FeatureRows:
    """R rows of features and the excerpt that each was made from."""

    excerpts: Excerpts  # B excerpts; the first B rows are theirs
    table: Floats  # (R, F)
    source: Longs  # (R,) number of the excerpt
    corruption: NDArray[np.str_]  # (R,) name of the hard negative; empty for real music and its augmented copies

    @classmethod
    def compute(cls, excerpts: Excerpts, seed: int = 0, copies: int = 1, progress: Progress = silent) -> FeatureRows:
        """Computes the features of excerpts, of `copies` augmented copies of each, and of hard negatives.

        With copies, each excerpt of 16 bars and more is also there with its first half repeated: that is form.

        What is made from an excerpt depends on it and its own collection only: bars, chords and Markov chains of
        others are taken from there. Straightened eighths are made from on-grid music of the style: elsewhere the beat
        is not that of the music. Hard negatives that changed nothing are left out.
        """
        rng = np.random.default_rng([seed, 17])
        every = np.arange(len(excerpts))
        parts = [(feature_table(excerpts.notes), every, "")]
        parts += [(feature_table(augment(excerpts.notes, rng)), every, "") for _ in range(copies)]
        if copies:
            repeated = repeat_section(excerpts.notes, rng)
            long = np.flatnonzero(is_changed(excerpts.notes, repeated))
            parts.append((feature_table(repeated.pieces(long)), long, ""))
        sides = zip(excerpts.collection.tolist(), excerpts.positive.tolist(), strict=True)
        for collection, positive in counted(progress, "collections: features", sorted({*sides})):
            own = np.flatnonzero((excerpts.collection == collection) & (excerpts.positive == positive))
            corrupted: list[tuple[Notes, Longs, str]] = []
            for name, corrupt in HARD_NEGATIVES.items():
                able = own[(excerpts.positive & excerpts.on_grid)[own]] if name == "straight_eighths" else own
                some = np.sort(rng.permutation(able)[: max(MIN_CORRUPTED, round(CORRUPTED_SHARE * len(able)))])
                if not len(some):
                    continue
                intact = excerpts.notes.pieces(some)
                changed = corrupt(intact, rng)
                kept = np.flatnonzero(is_changed(intact, changed))
                corrupted.append((changed.pieces(kept), some[kept], name))
            # One table of all: a call for each would take most of the time.
            table = feature_table(Notes.concat([notes for notes, *_ in corrupted]))
            ends = np.cumsum([len(source) for _, source, _ in corrupted])[:-1]
            for rows, (_, source, name) in zip(np.split(table, ends), corrupted, strict=True):
                parts.append((rows, source, name))
        tables, sources, names = zip(*parts, strict=True)
        corruption = np.repeat(np.array(names), [len(source) for source in sources])
        return cls(excerpts, np.concatenate(tables), np.concatenate(sources), corruption)

    def training_set(
        self, some: Mask, negatives: Sequence[str] = tuple(HARD_NEGATIVES), evenness: float = EVENNESS
    ) -> TrainingSet:
        """The rows made from the excerpts in `some` (B,), with hard negatives of these names only."""
        rows = np.flatnonzero(some[self.source] & np.isin(self.corruption, ["", *negatives]))
        source = self.source[rows]
        weight = collection_weights(self.excerpts, some, evenness)[source]
        return TrainingSet(self.table[rows], self.excerpts.positive[source], self.corruption[rows], weight)


def collection_weights(excerpts: Excerpts, some: Mask, evenness: float = EVENNESS) -> Floats:
    """(B,) weights, 1 on average in `some` (B,) and 0 elsewhere, with an equal sum on both sides.

    Within a side a collection, its performed and on-grid parts apart, weighs its size to the power 1 - `evenness`.
    """
    out = np.zeros(len(excerpts))
    part = np.char.add(excerpts.collection, np.where(excerpts.on_grid, " on grid", " performed"))
    for side in (True, False):
        own = np.flatnonzero(some & (excerpts.positive == side))
        _, which, count = np.unique(part[own], return_inverse=True, return_counts=True)
        weight = count[which] ** -evenness if len(own) else np.zeros(0)
        out[own] = weight / max(weight.sum(), 1e-12) / 2 * some.sum()
    return out


@dataclass(frozen=True, eq=False)
class FeatureTraining:
    """Training and calibration data of a critic of features, for any number of models."""

    corpus: Corpus
    positive: str
    lengths: tuple[int, ...]
    train: FeatureRows  # of the split train
    valid: FeatureRows  # of the split valid, for calibration

    @classmethod
    def of(
        cls,
        corpus: Corpus,
        positive: str,
        lengths: Sequence[int],
        pieces: int,
        each: int,
        seed: int = 0,
        progress: Progress = silent,
    ) -> FeatureTraining:
        """Draws excerpts of the splits train and valid, and computes their features.

        Args:
            lengths: notes of excerpts; lengths that one side has no piece of are skipped.
            pieces: at most this many of a collection per length, half as many for calibration.
            each: excerpts of a piece.
            progress: takes the count of the collections.

        Raises:
            MgenError: One side has no piece of any length.
        """
        train = excerpts_of_lengths(corpus, positive, "train", lengths, pieces, each, seed)
        valid = excerpts_of_lengths(corpus, positive, "valid", lengths, max(pieces // 2, 8), each, seed)
        of_train = FeatureRows.compute(train, seed, copies=1, progress=progress)
        of_valid = FeatureRows.compute(valid, seed, copies=0, progress=progress)
        return cls(corpus, positive, tuple(lengths), of_train, of_valid)

    def fit(self, seed: int = 0, negatives: Sequence[str] = tuple(HARD_NEGATIVES)) -> FeatureModel:
        """Trains and calibrates a model with hard negatives of these names only."""
        both = (self.train, self.valid)
        train, valid = (rows.training_set(np.ones(len(rows.excerpts), bool), negatives) for rows in both)
        return FeatureModel.fit(train, valid, seed=seed)

    def to_json(self) -> dict[str, Any]:
        """The training data as plain values, for critic.json."""
        excerpts = self.train.excerpts
        return {
            "data": self.corpus.fingerprint,
            "collections": {
                name: np.unique(excerpts.collection[excerpts.positive == side]).tolist()
                for name, side in ((self.positive, True), ("other", False))
            },
            "negatives": list(HARD_NEGATIVES),
            "excerpts": len(excerpts),
            "works": len(np.unique(excerpts.work)),
            "lengths": list(self.lengths),
        }


def excerpts_of_lengths(
    corpus: Corpus, positive: str, split: str, lengths: Sequence[int], pieces: int, each: int, seed: int
) -> Excerpts:
    """Draws excerpts of all lengths that both sides of a split have.

    Raises:
        MgenError: There is no such length.
    """
    parts, errors = [], []
    for n_notes in lengths:
        try:
            parts.append(draw_excerpts(corpus, positive, n_notes, pieces, each, seed, splits=(split,)))
        except MgenError as error:
            errors.append(str(error))
    if not parts:
        raise MgenError(f"split {split}: {errors[0]}")
    return Excerpts.concat(parts)
