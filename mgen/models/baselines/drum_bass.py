"""Networks that turn a drum part into a bass line, as models of `transformers`.

Importing this module registers its classes, so that the Auto classes load a folder of it and run no code of the folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

from mgen.corpus.pairs import CONDITIONS
from mgen.encoding.drum_bass import BASS_PROGRAMS, PITCHES
from mgen.models.baselines.drum_bass_adversarial import Pix2Pix
from mgen.models.baselines.drum_bass_layers import Network, most_likely
from mgen.models.baselines.drum_bass_networks import Conv, Dense, Lstm
from mgen.models.baselines.drum_bass_sequence import Cvae, Seq2Seq
from mgen.music.keys import KEYS

NETWORKS: dict[str, type[Network]] = {
    "dense": Dense,
    "conv": Conv,
    "lstm": Lstm,
    "seq2seq": Seq2Seq,
    "pix2pix": Pix2Pix,
    "cvae": Cvae,
}
MODELS = tuple(NETWORKS)
STEPS = (32, 64)
MEAN_TEMPO, TEMPO_SPAN = 120.0, 0.7  # a tempo is a number: log2 of its ratio to 120, 0 at 120 and 1.4 an octave above


@strict
class DrumBassConfig(PreTrainedConfig):  # type: ignore[misc]
    """Configuration of a drum-to-bass model.

    Attributes:
        model: one of `MODELS`.
        steps: T, 16th notes of a window, 32 or 64.
        conditions: what the network reads besides the drums, of `CONDITIONS`.
        genres: names, of training; another one is unknown.
        programs, keys: those of training; another one is unknown.
        width, layers, dropout: of the network; `lstm` has its own number of layers.
        latent: `cvae`: width of the latent vector.
        kl_weight: `cvae`: of the divergence from the prior in training.
        kl_warm_up: `cvae`: training steps over which this weight rises from 0.
        free_bits: `cvae`: nats of each latent number that cost nothing in training.
        adversarial_weight: `pix2pix`: of the discriminator's judgement.
        condition_dropout: share of the conditions that training replaces by unknown.
        transpose: training moves bass and key together to a random key, if the key is read and known.
    """

    model_type = "mgen_drum_bass"

    model: str = "lstm"
    steps: int = 64
    conditions: list[str] | tuple[str, ...] = CONDITIONS
    genres: list[str] | tuple[str, ...] = ()
    programs: list[int] | tuple[int, ...] = tuple(BASS_PROGRAMS)
    keys: list[int] | tuple[int, ...] = tuple(range(KEYS))
    width: int = 128
    layers: int = 3
    dropout: float = 0.1
    latent: int = 32
    kl_weight: float = 1.0
    kl_warm_up: int = 300
    free_bits: float = 0.1
    adversarial_weight: float = 0.1
    condition_dropout: float = 0.1
    transpose: bool = True

    def __post_init__(self, **kwargs: Any) -> None:
        for name in ("conditions", "genres", "programs", "keys"):
            setattr(self, name, list(getattr(self, name)))
        if self.model not in MODELS:
            raise ValueError(f"model '{self.model}': expected one of {', '.join(MODELS)}")
        if self.steps not in STEPS:
            raise ValueError(f"steps ({self.steps}): expected one of {', '.join(map(str, STEPS))}")
        for name in self.conditions:
            if name not in CONDITIONS:
                raise ValueError(f"conditions '{name}': expected one of {', '.join(CONDITIONS)}")
        if len(set(self.conditions)) < len(self.conditions):
            raise ValueError(f"conditions ({' '.join(self.conditions)}): expected each at most once")
        super().__post_init__(**kwargs)

    @property
    def condition_sizes(self) -> dict[str, int]:
        """Numbers of each condition that is read: one for tempo and instrument, one-hot with unknown for the others."""
        sizes = {"tempo": 1, "instrument": 1, "genre": len(self.genres) + 1, "key": KEYS + 1}
        return {name: sizes[name] for name in CONDITIONS if name in self.conditions}


@dataclass
class DrumBassOutput(ModelOutput):  # type: ignore[misc]
    """Loss, if labels were given, and logits (B, T, 38)."""

    loss: Tensor | None = None
    logits: Tensor | None = None


class DrumBassModel(PreTrainedModel):  # type: ignore[misc]
    """A drum part and conditions to classes of a bass line, see `mgen.encoding.drum_bass`.

    The loss is in nats per step: the cross-entropy, and what the network adds (the divergence of `cvae`, the game of
    `pix2pix`).
    """

    config_class = DrumBassConfig
    main_input_name = "drums"

    def __init__(self, config: DrumBassConfig) -> None:
        super().__init__(config)
        self.network = NETWORKS[config.model](config, sum(config.condition_sizes.values()))
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Weights stay as PyTorch's layers initialise them."""

    def forward(self, drums: Tensor, conditions: Tensor, labels: Tensor | None = None) -> DrumBassOutput:
        """Predicts.

        Args:
            drums: (B, T, 14) bool.
            conditions: (B, 4), columns `CONDITIONS`; those that are not read may be anything.
            labels: (B, T) int64 classes of the bass.
        """
        if labels is not None and self.training and self.config.transpose and "key" in self.config.conditions:
            conditions, labels = transpose(conditions, labels)
        known = self.condition_numbers(conditions)
        logits, extra = self.network(drums.to(known), known, labels)
        if labels is None:
            return DrumBassOutput(None, logits)
        nats = _nats(logits, labels).sum(dim=1) + extra
        return DrumBassOutput(nats.mean() / self.config.steps, logits)

    def nats(self, drums: Tensor, conditions: Tensor, labels: Tensor) -> Tensor:
        """(B,) negative log-likelihood of each window, for `cvae` an upper bound of it by one sample."""
        known = self.condition_numbers(conditions)
        logits, extra = self.network(drums.to(known), known, labels)
        found: Tensor = _nats(logits, labels).sum(dim=1) + extra
        return found

    def draw(self, drums: Tensor, conditions: Tensor, temperature: float = 1.0) -> Tensor:
        """(B, T) classes, one bass line for each drum part, from the random state of torch.

        Networks without a distribution over lines (dense, conv, lstm) give the likeliest class of each step.
        """
        known = self.condition_numbers(conditions)
        line: Tensor = self.network.draw(drums.to(known), known, temperature)
        return line

    @property
    def random(self) -> bool:
        """Whether one drum part can have several bass lines."""
        return self.network.random

    @staticmethod
    def predict(logits: Tensor) -> Tensor:
        """(B, T) classes for logits."""
        return most_likely(logits)

    def condition_numbers(self, conditions: Tensor) -> Tensor:
        """(B, C) what the network reads. In training, a random share of the conditions is unknown.

        Unknown are a tempo of 0 or less, and an instrument, genre or key that training did not have: 0 for numbers,
        the last class for the others.
        """
        config, parts = self.config, []
        for name, size in config.condition_sizes.items():
            column = conditions[:, CONDITIONS.index(name)]
            if name == "tempo":
                known = column > 0
                number = torch.log2(column.clamp(min=1.0) / MEAN_TEMPO) / TEMPO_SPAN
            elif name == "instrument":
                known = torch.isin(column, column.new_tensor(config.programs))
                number = (column - BASS_PROGRAMS.start) / (len(BASS_PROGRAMS) - 1) - 0.5
            else:
                allowed = range(size - 1) if name == "genre" else config.keys
                known = torch.isin(column, column.new_tensor(list(allowed))) & (column < size - 1)
                number = column
            if self.training and config.condition_dropout:
                known = known & (torch.rand_like(column) >= config.condition_dropout)
            if size == 1:
                parts.append(torch.where(known, number, 0.0)[:, None])
            else:
                label = torch.where(known, number, size - 1).long()
                parts.append(nn.functional.one_hot(label, size).to(column))
        return torch.cat([conditions[:, :0], *parts], dim=1)


def transpose(conditions: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Moves key and bass up by 0 to 11 semitones, at random for each row with a known key; octaves are folded."""
    column = CONDITIONS.index("key")
    key = conditions[:, column]
    known = (key >= 0) & (key < KEYS)
    shift = torch.where(known, torch.randint(12, key.shape, device=key.device), 0)
    moved = conditions.clone()
    moved[:, column] = torch.where(known, 12 * (key // 12) + (key + shift) % 12, key)
    higher = labels + shift[:, None] - 12 * (shift[:, None] > 6)  # the nearer way
    higher = torch.where(higher < 0, higher + 12, torch.where(higher >= PITCHES, higher - 12, higher))
    return moved, torch.where(labels < PITCHES, higher, labels)


def _nats(logits: Tensor, labels: Tensor) -> Tensor:
    """(B, T) nats of each step's class."""
    return nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none")


AutoConfig.register(DrumBassConfig.model_type, DrumBassConfig)
AutoModel.register(DrumBassConfig, DrumBassModel)
