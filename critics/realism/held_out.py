"""Metrics of a discriminator on pieces that it was not fitted on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_expit
from sklearn.metrics import roc_auc_score


def held_out_metrics(log_odds: NDArray[np.float64], is_real: NDArray[np.bool_], clip: float) -> dict[str, float]:
    """How well log odds (B,), in nats, separate real from generated pieces.

    Returns:
        `accuracy` (balanced), `auc`, `logit_real`, `logit_generated` (means), `loss` (cross-entropy in nats, balanced;
        log 2 at chance), `clip_rate` (share of generated pieces outside +-`clip`).
    """
    right = np.where(is_real, log_odds > 0, log_odds < 0) + 0.5 * (log_odds == 0)
    signed = np.where(is_real, log_odds, -log_odds)
    return {
        "accuracy": float((right[is_real].mean() + right[~is_real].mean()) / 2),
        "auc": float(roc_auc_score(is_real, log_odds)),
        "logit_real": float(log_odds[is_real].mean()),
        "logit_generated": float(log_odds[~is_real].mean()),
        "loss": float(-(log_expit(signed[is_real]).mean() + log_expit(signed[~is_real]).mean()) / 2),
        "clip_rate": float((np.abs(log_odds[~is_real]) > clip).mean()),
    }
