"""Is a piece like anything that was learned from? A critic should say nothing of what it cannot know."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.covariance import LedoitWolf

from critics.style.features import columns
from mgen.arrays import Floats

GROUPS = ("key", "harmony", "returns", "leading", "rhythm", "texture", "variety")
"""Traits that no real piece leaves far behind: groups of few and common things. Kinds of chords and pairs of steps are
rare things, of which every piece has some that no other has.
"""

MARGIN = 1.1
"""Of the largest distance of a real piece that is known: one of a new performer is a little further out."""


@dataclass(frozen=True, slots=True, eq=False)
class OutOfDistributionGuard:
    """How far a piece lies from real music, in groups of traits.

    Attributes:
        mean: group -> (K,).
        root: group -> (K, K) inverse square root of the covariance, so that a distance is a length.
        limit: group -> the largest distance that a known real piece has, times `MARGIN`.
    """

    mean: dict[str, Floats]
    root: dict[str, Floats]
    limit: dict[str, float]

    @classmethod
    def fit(cls, table: Floats, others: Floats) -> OutOfDistributionGuard:
        """From `critics.style.ensemble.feature_table` of real music.

        Args:
            table: (B, F) of pieces that mean and covariance are taken from.
            others: (C, F) of pieces of other works, for the limits: from few pieces these lie further than any of them.

        Source: Mahalanobis 1936, with the covariance of Ledoit and Wolf 2004.
        """
        mean, root, limit = {}, {}, {}
        for name in GROUPS:
            own = table[:, columns()[name]]
            mean[name] = own.mean(axis=0)
            scale = np.maximum(own.std(axis=0), 1e-3)
            values, vectors = np.linalg.eigh(LedoitWolf().fit((own - mean[name]) / scale).covariance_)
            root[name] = vectors / np.sqrt(np.maximum(values, 1e-6)) / scale[:, None]
            known = np.concatenate([own, others[:, columns()[name]]])
            limit[name] = MARGIN * float(np.linalg.norm((known - mean[name]) @ root[name], axis=1).max())
        return cls(mean, root, limit)

    def distance(self, table: Floats) -> Floats:
        """(B,) largest distance of all groups, in limits: above 1 a piece is unlike all that was learned from."""
        each = [
            np.linalg.norm((table[:, columns()[name]] - self.mean[name]) @ self.root[name], axis=1) / self.limit[name]
            for name in self.limit
        ]
        out: Floats = np.max(each, axis=0)
        return out
