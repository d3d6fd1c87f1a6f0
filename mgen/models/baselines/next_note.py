"""Networks that predict the next note of a tab from a window of notes, as models of `transformers`.

Importing this module registers its classes, so that the Auto classes load a folder of it and run no code of the folder.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

from mgen.models.baselines.event_vectors import PREPARATIONS, PRETRAINED, TARGETS, VARIANTS, EventVectors
from mgen.models.baselines.note_losses import LOSSES, check_losses, head_loss, head_size, predicted_class

MODELS = ("last_note", "feed_forward", "lstm", "stacked_lstm", "attention")


@strict
class NextNoteConfig(PreTrainedConfig):  # type: ignore[misc]
    """Configuration of a next-note model.

    Attributes:
        features: what is read of an event, a key of `VARIANTS`.
        preparation: how events become vectors, one of `PREPARATIONS`.
        freeze: vectors trained beforehand stay as they are.
        model: one of `MODELS`; `lstm` has one layer, `last_note` reads the last event of the window only.
        loss: one of `LOSSES`.
        targets: what is predicted, keys of `TARGETS`.
        window: W, events that are read.
        event_width: D, width of an event's vector.
        width: width of the layers.
    """

    model_type = "mgen_next_note"

    features: str = "semitone_octave_dur_dotted"
    preparation: str = "one_hot"
    freeze: bool = False
    model: str = "feed_forward"
    loss: str = "cross_entropy"
    targets: list[str] | tuple[str, ...] = ("note", "duration")
    window: int = 16
    event_width: int = 16
    width: int = 64
    layers: int = 2
    dropout: float = 0.0
    confidence_penalty: float = 0.0
    label_smoothing: float = 0.0

    def __post_init__(self, **kwargs: Any) -> None:
        self.targets = list(self.targets)
        known = {"features": VARIANTS, "preparation": PREPARATIONS, "model": MODELS, "loss": LOSSES}
        for name, words in known.items():
            if getattr(self, name) not in words:
                raise ValueError(f"{name} '{getattr(self, name)}': expected one of {', '.join(words)}")
        for target in self.targets:
            if target not in TARGETS:
                raise ValueError(f"targets '{target}': expected one of {', '.join(TARGETS)}")
        check_losses(self.loss, self.targets, self.confidence_penalty, self.label_smoothing)
        if self.freeze and self.preparation not in PRETRAINED:
            raise ValueError(f"freeze is for {' and '.join(PRETRAINED)}; {self.preparation} is not trained beforehand")
        if self.model == "stacked_lstm" and self.layers < 2:
            raise ValueError(f"layers ({self.layers}) must be at least 2 for stacked_lstm; use --model lstm for one")
        if self.event_width < len(VARIANTS[self.features]):
            raise ValueError(f"event_width ({self.event_width}) must be at least the number of features of an event")
        super().__post_init__(**kwargs)


@dataclass
class NextNoteOutput(ModelOutput):  # type: ignore[misc]
    """Loss, if labels were given, and logits (B, numbers of all heads, in the order of the targets)."""

    loss: Tensor | None = None
    logits: Tensor | None = None


class NextNoteModel(PreTrainedModel):  # type: ignore[misc]
    """Events of a window to a prediction per target.

    Heads are rows of one linear layer. With loss `weighted`, counts of the classes in all training batches so far are
    kept with the weights, and evaluation uses them as they are.
    """

    config_class = NextNoteConfig
    main_input_name = "events"

    def __init__(self, config: NextNoteConfig) -> None:
        super().__init__(config)
        self.vectors = EventVectors(config.features, config.preparation, config.event_width, config.freeze)
        self.encoder = _ENCODERS[config.model](config)
        self.sizes = [head_size(config.loss, target) for target in config.targets]
        self.head = nn.Linear(config.width, sum(self.sizes))
        counted = [TARGETS[target].size for target in config.targets] if config.loss == "weighted" else []
        self.register_buffer("class_counts", torch.zeros(len(counted), max(counted, default=0)))
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Weights stay as PyTorch's layers initialise them."""

    def forward(self, events: Tensor, labels: Tensor | None = None) -> NextNoteOutput:
        """Predicts.

        Args:
            events: (B, W, 4) integers, rows of `mgen.encoding.tab_events`.
            labels: (B, 4) the next event.
        """
        hidden = self.encoder(self.vectors(events))
        logits = self.head(nn.functional.dropout(hidden, self.config.dropout, self.training))
        return NextNoteOutput(None if labels is None else self._loss(logits, labels), logits)

    def predict(self, logits: Tensor) -> Tensor:
        """(B, targets) int64 classes for logits."""
        parts = torch.split(logits, self.sizes, dim=1)
        return torch.stack([predicted_class(self.config.loss, part) for part in parts], dim=1)

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Sum over the heads."""
        config, total = self.config, logits.new_zeros(())
        regularisation = config.confidence_penalty, config.label_smoothing
        for i, (target, part) in enumerate(zip(config.targets, torch.split(logits, self.sizes, dim=1), strict=True)):
            classes = TARGETS[target].of(labels).long()
            counts = self.class_counts[i, : TARGETS[target].size] if config.loss == "weighted" else self.class_counts
            if self.training and config.loss == "weighted":
                counts += torch.bincount(classes, minlength=len(counts))  # in place: a view of the buffer
            total = total + head_loss(config.loss, part, classes, counts, *regularisation)
        return total


class _Dense(nn.Module):
    """Hidden layers over the vectors of `notes` events at the end of the window, side by side."""

    def __init__(self, config: NextNoteConfig, notes: int) -> None:
        super().__init__()
        self.notes = notes
        widths = [notes * config.event_width, *[config.width] * config.layers]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.ReLU(), nn.Dropout(config.dropout)]
        self.layers = nn.Sequential(*layers[:-1])  # the last dropout is that of the model

    def forward(self, vectors: Tensor) -> Tensor:
        """(B, W, D) to (B, width)."""
        hidden: Tensor = self.layers(vectors[:, -self.notes :].flatten(1))
        return hidden


class _Lstm(nn.Module):
    def __init__(self, config: NextNoteConfig, layers: int) -> None:
        super().__init__()
        between = config.dropout if layers > 1 else 0.0
        self.lstm = nn.LSTM(config.event_width, config.width, layers, batch_first=True, dropout=between)

    def forward(self, vectors: Tensor) -> Tensor:
        """(B, W, D) to (B, width)."""
        states: Tensor = self.lstm(vectors)[0]
        return states[:, -1]


class _Attention(nn.Module):
    """Transformer layers with learned positions and up to four heads, read at the last note."""

    def __init__(self, config: NextNoteConfig) -> None:
        super().__init__()
        self.widen = nn.Linear(config.event_width, config.width)
        self.positions = nn.Parameter(torch.randn(config.window, config.width) * 0.02)
        heads, inner = math.gcd(config.width, 4), 2 * config.width
        layer = nn.TransformerEncoderLayer(
            config.width, heads, inner, config.dropout, batch_first=True, norm_first=True
        )
        norm = nn.LayerNorm(config.width)
        self.layers = nn.TransformerEncoder(layer, config.layers, norm, enable_nested_tensor=False)

    def forward(self, vectors: Tensor) -> Tensor:
        """(B, W, D) to (B, width)."""
        states: Tensor = self.layers(self.widen(vectors) + self.positions)
        return states[:, -1]


_ENCODERS = {
    "last_note": lambda config: _Dense(config, 1),
    "feed_forward": lambda config: _Dense(config, config.window),
    "lstm": lambda config: _Lstm(config, 1),
    "stacked_lstm": lambda config: _Lstm(config, config.layers),
    "attention": _Attention,
}

AutoConfig.register(NextNoteConfig.model_type, NextNoteConfig)
AutoModel.register(NextNoteConfig, NextNoteModel)
