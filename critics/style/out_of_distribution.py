"""The out-of-distribution guard: how far a piece lies from the music that a critic knows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from sklearn.covariance import LedoitWolf

from critics.style.by_length import ByLength
from critics.style.features import feature_columns
from mgen.arrays import Floats

GUARDED_GROUPS = ("key", "harmony", "repetition", "voice_leading", "rhythm", "texture", "variety")
"""Groups of few and common features. Set classes of chords and pairs of intervals are rare: every piece has some that
no other piece has.
"""

KNOWN = 0.995  # share of real pieces that lie within the limit

SLOPE = 10.0
"""Nats that a piece loses per limit that it lies beyond the limit: 1 nat for 10 %."""


@dataclass(frozen=True, slots=True, eq=False)
class OutOfDistributionGuard:
    """Mahalanobis distances from real music, per group of features."""

    mean: dict[str, Floats]  # group -> (K,)
    root: dict[str, Floats]  # group -> (K, K) inverse square root of the covariance, so that a distance is a norm
    # Group -> limit of the distance by number of notes: short pieces lie farther out. In all groups at once, a share
    # `KNOWN` of real pieces lies within.
    limit: dict[str, ByLength]

    @classmethod
    def fit(cls, table: Floats, others: Floats, notes: ArrayLike) -> OutOfDistributionGuard:
        """Fits the guard to `critics.style.ensemble.feature_table` of real music.

        Args:
            table: (B, F) of pieces for mean and covariance.
            others: (C, F) of pieces of other works, for the limits; they lie farther out.
            notes: (C,) number of notes of each of the others.

        Source: Mahalanobis 1936, with the covariance of Ledoit and Wolf 2004.
        """
        mean, root = {}, {}
        for name in GUARDED_GROUPS:
            own = table[:, feature_columns()[name]]
            mean[name] = own.mean(axis=0)
            scale = np.maximum(own.std(axis=0), 1e-3)
            values, vectors = np.linalg.eigh(LedoitWolf().fit((own - mean[name]) / scale).covariance_)
            root[name] = vectors / np.sqrt(np.maximum(values, 1e-6)) / scale[:, None]
        guard = cls(mean, root, {})

        def known(values: Floats) -> float:
            return float(np.quantile(values, KNOWN))

        distances = guard._distances(others)
        limit = {name: ByLength.measure(notes, own, known) for name, own in distances.items()}
        each = [own / np.maximum(limit[name].at(notes), 1e-9) for name, own in distances.items()]
        farthest = ByLength.measure(notes, np.max(each, axis=0), known)
        limit = {name: ByLength(own.notes, own.values * farthest.values) for name, own in limit.items()}
        return cls(mean, root, limit)

    def _distances(self, table: Floats) -> dict[str, Floats]:
        return {
            name: np.linalg.norm((table[:, feature_columns()[name]] - self.mean[name]) @ self.root[name], axis=1)
            for name in self.mean
        }

    def distance(self, table: Floats, notes: ArrayLike) -> Floats:
        """(B,) largest distance over the groups, as a multiple of the limit for pieces of as many `notes` (B,)."""
        each = [own / np.maximum(self.limit[name].at(notes), 1e-9) for name, own in self._distances(table).items()]
        out: Floats = np.max(each, axis=0)
        return out

    def penalty(self, table: Floats, notes: ArrayLike) -> Floats:
        """(B,) nats to subtract from a score: 0 within the limit, then linear in the distance (`SLOPE`)."""
        return SLOPE * np.maximum(self.distance(table, notes) - 1, 0)
