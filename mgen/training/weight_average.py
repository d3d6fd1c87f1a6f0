"""Averaged weights: an exponential moving average of the weights of a policy over the steps of its training.

Within a step the model has the weights that are trained, between steps their average. All that looks at the model
between steps uses the average: validation, the choice of the best checkpoint, samples, the saved model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from transformers import TrainerCallback

TRAINED_WEIGHTS = "trained_weights.safetensors"  # in a checkpoint, whose model has the average


def decay_at(decay: float, step: int) -> float:
    """Share of the average that step `step`, from 1 on, keeps: min(decay, (1 + step) / (10 + step)).

    The limit lets the average forget the initial weights in the first steps.

    Source: `tf.train.ExponentialMovingAverage`, `num_updates`.
    """
    return min(decay, (1 + step) / (10 + step))


class WeightAverage(TrainerCallback):  # type: ignore[misc]
    """Averages the weights of the model in training: after step t, average = d average + (1 - d) weights.

    Args:
        decay: d, 0..1; `decay_at` lowers it in the first steps.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.absent: list[Tensor] = []  # the weights that the model does not have now: average or trained

    def on_train_begin(self, args: Any, state: Any, control: Any, model: nn.Module, **_: Any) -> None:
        if not state.global_step:
            self.absent = [weight.detach().clone() for weight in model.parameters()]

    def on_step_begin(self, args: Any, state: Any, control: Any, model: nn.Module, **_: Any) -> None:
        self._exchange(model)

    def on_step_end(self, args: Any, state: Any, control: Any, model: nn.Module, **_: Any) -> None:
        trained = [weight.detach() for weight in model.parameters()]
        update: Any = get_ema_multi_avg_fn(decay_at(self.decay, state.global_step))  # type: ignore[no-untyped-call]
        update(self.absent, trained, state.global_step)
        self._exchange(model)

    @torch.no_grad()
    def _exchange(self, model: nn.Module) -> None:
        # In place: optimizer, compiled code and other processes hold the same tensors.
        for weight, absent in zip(model.parameters(), self.absent, strict=True):
            held = weight.clone()
            weight.copy_(absent)
            absent.copy_(held)

    def save(self, folder: Path, model: nn.Module) -> None:
        """Writes the trained weights, between two steps."""
        names = [name for name, _ in model.named_parameters()]
        save_file(dict(zip(names, self.absent, strict=True)), folder / TRAINED_WEIGHTS)

    def load(self, folder: Path, model: nn.Module) -> None:
        """Reads the trained weights for a model that has the average."""
        trained = load_file(folder / TRAINED_WEIGHTS)
        self.absent = [trained[name].to(weight.device) for name, weight in model.named_parameters()]
