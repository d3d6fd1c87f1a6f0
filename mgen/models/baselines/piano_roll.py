"""A network that predicts the next step of a piano-roll: causal convolutions over time, a GRU, a logit per pitch.

Importing this module registers its classes, so that the Auto classes load a folder of it and run no code of the folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

from mgen.encoding.piano_roll import PITCHES, Rate
from mgen.models.baselines.roll_losses import LOSSES, cell_loss

State = tuple[Tensor, ...]
"""What the network keeps of earlier steps: (B, C, kernel - 1) inputs of each convolution, then (layers, B, width)."""


@strict
class PianoRollConfig(PreTrainedConfig):  # type: ignore[misc]
    """Configuration of a piano-roll model.

    Attributes:
        channels: width of the convolutions.
        kernel: steps that a convolution reads: this one and those before it.
        convolutions: number of convolutions; 0 for a GRU alone.
        width, layers: of the GRU.
        skip: logits also read the last step directly, through a linear layer that begins at 0.
        loss: one of `LOSSES`.
        positive_weight: of a sounding cell, for `weighted`.
        gamma, alpha: of `focal`.
        window: steps of training.
        steps_per_beat, steps_per_second: length of a step, as in `mgen.encoding.piano_roll.Rate`.
    """

    model_type = "mgen_piano_roll"
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["state"]

    channels: int = 64
    kernel: int = 5
    convolutions: int = 1
    width: int = 128
    layers: int = 1
    skip: bool = True
    dropout: float = 0.0
    loss: str = "bce"
    positive_weight: float = 1.0
    gamma: float = 2.0
    alpha: float = 0.25
    window: int = 128
    steps_per_beat: int = 4
    steps_per_second: float = 0.0

    def __post_init__(self, **kwargs: Any) -> None:
        if self.loss not in LOSSES:
            raise ValueError(f"loss '{self.loss}': expected one of {', '.join(LOSSES)}")
        super().__post_init__(**kwargs)

    @property
    def rate(self) -> Rate:
        """How long a step is."""
        return Rate(self.steps_per_beat, self.steps_per_second)


@dataclass
class PianoRollOutput(ModelOutput):  # type: ignore[misc]
    """Loss, if labels were given, logits (B, T, 84) of the step after each, and the state after the last step."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    state: State | None = None


class PianoRollModel(PreTrainedModel):  # type: ignore[misc]
    """Steps of a piano-roll to logits of the step after each."""

    config_class = PianoRollConfig
    main_input_name = "roll"

    def __init__(self, config: PianoRollConfig) -> None:
        super().__init__(config)
        widths = [PITCHES, *[config.channels] * config.convolutions]
        self.convolutions = nn.ModuleList([nn.Conv1d(before, config.channels, config.kernel) for before in widths[:-1]])
        between = config.dropout if config.layers > 1 else 0.0
        self.gru = nn.GRU(widths[-1], config.width, config.layers, batch_first=True, dropout=between)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.width, PITCHES)
        self.skip = nn.Linear(PITCHES, PITCHES, bias=False) if config.skip else None
        if self.skip is not None:
            nn.init.zeros_(self.skip.weight)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Weights stay as PyTorch's layers initialise them."""

    def forward(
        self, roll: Tensor, labels: Tensor | None = None, mask: Tensor | None = None, state: State | None = None
    ) -> PianoRollOutput:
        """Predicts.

        Args:
            roll: (B, T, 84) steps, 0 or 1.
            labels: (B, T, 84) the step after each.
            mask: (B, T) which steps count in the loss, a mean over their cells; all by default.
            state: after the steps before; silence by default.
        """
        state = self.silence(len(roll)) if state is None else state
        steps = roll.to(self.dtype)
        hidden = steps.transpose(1, 2)
        after: list[Tensor] = []
        for convolution, before in zip(self.convolutions, state, strict=False):
            hidden = torch.cat([before, hidden], dim=2)
            after.append(hidden[:, :, hidden.shape[2] - before.shape[2] :])
            hidden = nn.functional.relu(convolution(hidden))
        hidden, last = self.gru(self.dropout(hidden.transpose(1, 2)), state[-1])
        logits = self.head(self.dropout(hidden))
        if self.skip is not None:
            logits = logits + self.skip(steps)
        loss = None if labels is None else self._loss(logits, labels, mask)
        return PianoRollOutput(loss, logits, (*after, last))

    def silence(self, batch: int) -> State:
        """The state before the first step."""
        like = self.head.weight
        config = self.config
        widths = [PITCHES, *[config.channels] * config.convolutions]
        past = [like.new_zeros(batch, width, config.kernel - 1) for width in widths[:-1]]
        return *past, like.new_zeros(config.layers, batch, config.width)

    def cell_loss(self, logits: Tensor, truth: Tensor) -> Tensor:
        """The loss of each cell; truth is 0 or 1, a float."""
        config = self.config
        return cell_loss(config.loss, logits, truth, config.positive_weight, config.gamma, config.alpha)

    def _loss(self, logits: Tensor, labels: Tensor, mask: Tensor | None) -> Tensor:
        losses = self.cell_loss(logits, labels.to(logits))
        if mask is None:
            return losses.mean()
        return (losses.mean(dim=2) * mask).sum() / mask.sum().clamp(min=1)


AutoConfig.register(PianoRollConfig.model_type, PianoRollConfig)
AutoModel.register(PianoRollConfig, PianoRollModel)
