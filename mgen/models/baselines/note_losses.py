"""Losses and predictions of a head that predicts a class of the next note."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, logsigmoid, mse_loss, one_hot

from mgen.models.baselines.event_vectors import TARGETS, log2_quarters

LOSSES = ("cross_entropy", "weighted", "mse", "bce")


def check_losses(loss: str, targets: Sequence[str], confidence_penalty: float, label_smoothing: float) -> None:
    """Raises ValueError if a loss, targets and output regularisation do not fit together."""
    if not targets or len(set(targets)) < len(targets):
        raise ValueError(f"targets ({' '.join(targets)}): expected one or more of {', '.join(TARGETS)}, each once")
    if loss == "mse" and list(targets) != ["duration"]:
        raise ValueError(f"loss mse predicts a duration alone, not {' '.join(targets)}; use --targets duration")
    if loss == "mse" and (confidence_penalty or label_smoothing):
        raise ValueError("loss mse has no probabilities: leave out confidence_penalty and label_smoothing")


def head_size(loss: str, target: str) -> int:
    """Numbers that the head of a target returns: one for each class, or one."""
    single = loss == "mse" or (loss == "bce" and target == "dotted")
    return 1 if single else TARGETS[target].size


def balanced_weights(counts: Tensor) -> Tensor:
    """(K,) class weights: examples over (classes that occur times examples of the class); 0 for a class without any.

    Before the first example all are 1.

    Source: King and Zeng 2001, as in scikit-learn's `class_weight="balanced"`.
    """
    counts = torch.where(counts.sum() > 0, counts, 1.0)
    occurs = counts > 0
    return torch.where(occurs, counts.sum() / (occurs.sum() * counts.clamp(min=1)), 0.0)


def head_loss(
    loss: str, logits: Tensor, classes: Tensor, counts: Tensor, confidence_penalty: float, label_smoothing: float
) -> Tensor:
    """The loss of one head, a mean over the batch.

    Args:
        loss: one of `LOSSES`; `bce` sums over the classes of a head.
        logits: (B, `head_size`).
        classes: (B,) int64, the right ones.
        counts: (K,) how often training has had each class; for `weighted`.
        confidence_penalty: weight of minus the entropy of the prediction.
        label_smoothing: probability that is shared by all classes.

    Source: confidence penalty: Pereyra et al. 2017, arXiv:1701.06548.
    """
    if loss == "mse":
        return mse_loss(logits[:, 0], log2_quarters().to(logits)[classes])
    if loss == "bce":
        single = logits.shape[1] == 1
        wanted = classes[:, None].to(logits) if single else one_hot(classes, logits.shape[1]).to(logits)
        wanted = wanted * (1 - label_smoothing) + label_smoothing / max(logits.shape[1], 2)
        value = binary_cross_entropy_with_logits(logits, wanted, reduction="none").sum(dim=1).mean()
        if confidence_penalty:
            yes = logits.sigmoid()
            entropy = -(yes * logsigmoid(logits) + (1 - yes) * logsigmoid(-logits)).sum(dim=1)
            value = value - confidence_penalty * entropy.mean()
        return value
    weights = balanced_weights(counts).to(logits) if loss == "weighted" else None
    columns = logits.T  # one class after the other: four times as fast on a CPU, because few classes fill no register
    value = cross_entropy(columns[None], classes[None], weights, label_smoothing=label_smoothing)
    if confidence_penalty:
        logp = columns.log_softmax(dim=0)
        value = value + confidence_penalty * (logp.exp() * logp).sum(dim=0).mean()
    return value


def predicted_class(loss: str, logits: Tensor) -> Tensor:
    """(B,) classes for the logits (B, `head_size`) of one head; of `mse` the note value nearest in log duration."""
    if loss == "mse":
        return (logits - log2_quarters().to(logits)).abs().argmin(dim=1)
    return (logits[:, 0] > 0).long() if logits.shape[1] == 1 else torch.argmax(logits, dim=1)
