"""The out-of-distribution guard: finds pieces that a critic cannot judge, because they are unlike its training data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.covariance import LedoitWolf

from critics.style.features import feature_columns
from mgen.arrays import Floats

GUARDED_GROUPS = ("key", "harmony", "repetition", "voice_leading", "rhythm", "texture", "variety")
"""Groups of few and common features. Set classes of chords and pairs of intervals are rare: every piece has some that
no other piece has.
"""

MARGIN = 1.1  # factor on the largest distance of a known real piece: a new performer's are a little farther out


@dataclass(frozen=True, slots=True, eq=False)
class OutOfDistributionGuard:
    """Mahalanobis distances from real music, per group of features."""

    mean: dict[str, Floats]  # group -> (K,)
    root: dict[str, Floats]  # group -> (K, K) inverse square root of the covariance, so that a distance is a norm
    limit: dict[str, float]  # group -> the largest distance of a known real piece, times `MARGIN`

    @classmethod
    def fit(cls, table: Floats, others: Floats) -> OutOfDistributionGuard:
        """Fits the guard to `critics.style.ensemble.feature_table` of real music.

        Args:
            table: (B, F) of pieces for mean and covariance.
            others: (C, F) of pieces of other works, for the limits; they lie farther out than those of a small fit.

        Source: Mahalanobis 1936, with the covariance of Ledoit and Wolf 2004.
        """
        mean, root, limit = {}, {}, {}
        for name in GUARDED_GROUPS:
            columns = feature_columns()[name]
            own = table[:, columns]
            mean[name] = own.mean(axis=0)
            scale = np.maximum(own.std(axis=0), 1e-3)
            values, vectors = np.linalg.eigh(LedoitWolf().fit((own - mean[name]) / scale).covariance_)
            root[name] = vectors / np.sqrt(np.maximum(values, 1e-6)) / scale[:, None]
            known = np.concatenate([own, others[:, columns]])
            limit[name] = MARGIN * float(np.linalg.norm((known - mean[name]) @ root[name], axis=1).max())
        return cls(mean, root, limit)

    def distance(self, table: Floats) -> Floats:
        """(B,) largest distance over the groups, as a multiple of its limit; above 1 a piece is out of distribution."""
        each = [
            np.linalg.norm((table[:, feature_columns()[name]] - self.mean[name]) @ self.root[name], axis=1) / limit
            for name, limit in self.limit.items()
        ]
        out: Floats = np.max(each, axis=0)
        return out
