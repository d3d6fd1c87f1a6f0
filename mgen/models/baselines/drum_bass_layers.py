"""What the networks of `mgen baseline drum-bass` share: their form, and how a class is chosen."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from mgen.encoding.drum_bass import HOLD, PITCHES, REST


class Network(nn.Module):
    """A drum part and numbers of the conditions to logits of a bass line.

    Args:
        config: a `DrumBassConfig`.
        conditions: C, numbers that describe the conditions.
    """

    random = False  # whether `draw` has more than one result

    def __init__(self, config: Any, conditions: int) -> None:
        super().__init__()
        self.config, self.n_conditions = config, conditions

    def forward(self, drums: Tensor, conditions: Tensor, bass: Tensor | None) -> tuple[Tensor, Tensor]:
        """Predicts the classes of all steps.

        Args:
            drums: (B, T, 14) float, 0 or 1.
            conditions: (B, C).
            bass: (B, T) the right classes, which only some networks read; None if unknown.

        Returns:
            (B, T, 38) logits, and (B,) nats that the loss adds to the cross-entropy, 0 for most networks.
        """
        raise NotImplementedError

    def draw(self, drums: Tensor, conditions: Tensor, temperature: float) -> Tensor:
        """(B, T) classes of one bass line for each drum part."""
        return most_likely(self(drums, conditions, None)[0])


def most_likely(logits: Tensor) -> Tensor:
    """(...) classes for logits (..., 38): the likeliest of start, rest and hold, and of a start the likeliest pitch.

    The likeliest of all classes would hardly ever be a start: its probability is shared by 36 pitches.
    """
    start = logits[..., :PITCHES].logsumexp(dim=-1)
    kind = torch.stack([start, logits[..., REST], logits[..., HOLD]], dim=-1).argmax(dim=-1)
    pitch = logits[..., :PITCHES].argmax(dim=-1)
    return torch.where(kind == 0, pitch, PITCHES - 1 + kind)


def along(conditions: Tensor, steps: int) -> Tensor:
    """(B, T, C) conditions (B, C) at each step."""
    return conditions[:, None].expand(-1, steps, -1)


def dense_layers(widths: list[int], dropout: float) -> nn.Sequential:
    """Linear layers between these widths, with ReLU and dropout after each but the last."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers[:-2])
