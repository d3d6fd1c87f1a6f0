"""Networks that give one bass line for a drum part: fully connected, convolutional, and with an LSTM encoder."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from mgen.encoding.drum_bass import BAR_STEPS, CLASSES, N_DRUMS
from mgen.models.baselines.drum_bass_layers import Network, along, dense_layers

CODE = 64  # values that the LSTM encoder leaves of a drum part


class Dense(Network):
    """Fully connected layers from all cells of the window, and the conditions, to all its steps."""

    def __init__(self, config: Any, conditions: int) -> None:
        super().__init__(config, conditions)
        read = config.steps * N_DRUMS + conditions
        self.layers = dense_layers([read, *[2 * config.width] * config.layers, config.steps * CLASSES], config.dropout)

    def forward(self, drums: Tensor, conditions: Tensor, bass: Tensor | None) -> tuple[Tensor, Tensor]:
        """See `Network`."""
        logits = self.layers(torch.cat([drums.flatten(1), conditions], dim=1))
        return logits.unflatten(1, (self.config.steps, CLASSES)), logits.new_zeros(len(drums))


class Conv(Network):
    """Residual convolutions over time, whose reach doubles with each layer; the step's place is an input."""

    def __init__(self, config: Any, conditions: int) -> None:
        super().__init__(config, conditions)
        self.widen = nn.Conv1d(N_DRUMS + conditions + BAR_STEPS + config.steps // BAR_STEPS, config.width, 1)
        self.layers = nn.ModuleList(
            nn.Conv1d(config.width, config.width, 5, padding=2 * 2**layer, dilation=2**layer)
            for layer in range(config.layers)
        )
        self.norms = nn.ModuleList(nn.BatchNorm1d(config.width) for _ in range(config.layers))
        self.head = nn.Conv1d(config.width, CLASSES, 1)

    def forward(self, drums: Tensor, conditions: Tensor, bass: Tensor | None) -> tuple[Tensor, Tensor]:
        """See `Network`."""
        steps = drums.shape[1]
        at = torch.arange(steps, device=drums.device)
        step, bar = one_hot(at % BAR_STEPS, BAR_STEPS), one_hot(at // BAR_STEPS, steps // BAR_STEPS)
        place = torch.cat([step, bar], dim=1).to(drums).expand(len(drums), -1, -1)
        hidden = self.widen(torch.cat([drums, along(conditions, steps), place], dim=2).transpose(1, 2))
        for layer, norm in zip(self.layers, self.norms, strict=True):
            change = nn.functional.dropout(torch.relu(layer(norm(hidden))), self.config.dropout, self.training)
            hidden = hidden + change
        return self.head(hidden).transpose(1, 2), hidden.new_zeros(len(drums))


class Lstm(Network):
    """An LSTM that reads the drums into 64 values, and five dense layers that write the whole bass line.

    Tempo and instrument as numbers make these 66 values. The third layer reads the conditions a second time.
    """

    def __init__(self, config: Any, conditions: int) -> None:
        super().__init__(config, conditions)
        self.encoder = nn.LSTM(N_DRUMS, CODE, batch_first=True)
        wide = 2 * config.width
        self.first = nn.Sequential(dense_layers([CODE + conditions, wide, wide], config.dropout), nn.ReLU())
        self.last = dense_layers(
            [wide + conditions, wide, wide, config.steps * CLASSES], config.dropout
        )  # the third to the fifth

    def forward(self, drums: Tensor, conditions: Tensor, bass: Tensor | None) -> tuple[Tensor, Tensor]:
        """See `Network`."""
        code = self.encoder(drums)[0][:, -1]
        hidden = self.first(torch.cat([code, conditions], dim=1))
        logits = self.last(torch.cat([hidden, conditions], dim=1))
        return logits.unflatten(1, (self.config.steps, CLASSES)), logits.new_zeros(len(drums))
