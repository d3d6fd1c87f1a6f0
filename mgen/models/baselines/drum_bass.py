"""Networks that turn a drum part into a bass line, as models of `transformers`.

Importing this module registers its classes, so that the Auto classes load a folder of it and run no code of the folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

from mgen.corpus.pairs import CONDITIONS
from mgen.encoding.drum_bass import BASS_PROGRAMS, CLASSES, LOWEST, PITCHES
from mgen.models.baselines.drum_bass_adversarial import Pix2Pix
from mgen.models.baselines.drum_bass_layers import Network, most_likely
from mgen.models.baselines.drum_bass_networks import Conv, Dense, Lstm
from mgen.models.baselines.drum_bass_sequence import Cvae, Seq2Seq
from mgen.music.keys import KEYS, UNKNOWN_KEY

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
    `pix2pix`). Where the key is read and known, the network's own pitches are those above the tonic, see `above`.
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
        nats, logits = self._predict(drums, conditions, labels)
        return DrumBassOutput(None if nats is None else nats.mean() / self.config.steps, logits)

    def nats(self, drums: Tensor, conditions: Tensor, labels: Tensor) -> Tensor:
        """(B,) negative log-likelihood of each window, for `cvae` an upper bound of it by one sample."""
        found = self._predict(drums, conditions, labels)[0]
        assert found is not None
        return found

    def _predict(self, drums: Tensor, conditions: Tensor, labels: Tensor | None) -> tuple[Tensor | None, Tensor]:
        """(B,) nats of each window with what the network adds, if there are labels, and (B, T, 38) logits."""
        known = self.known(conditions)
        tonic, numbers = self.tonic(known), self.condition_numbers(known)
        relative = None if labels is None else above(labels, tonic[:, None])
        logits, extra = self.network(drums.to(numbers), numbers, relative)
        nats = None
        if relative is not None:
            nats = cross_entropy(logits.transpose(1, 2), relative, reduction="none").sum(dim=1) + extra
        places = above(torch.arange(CLASSES, device=logits.device), tonic[:, None])  # (B, 38)
        return nats, logits.gather(2, places[:, None].expand(logits.shape))

    def draw(self, drums: Tensor, conditions: Tensor, temperature: float = 1.0) -> Tensor:
        """(B, T) classes, one bass line for each drum part, from the random state of torch.

        Networks without a distribution over lines (dense, conv, lstm) give the likeliest class of each step.
        """
        known = self.known(conditions)
        numbers = self.condition_numbers(known)
        line: Tensor = self.network.draw(drums.to(numbers), numbers, temperature)
        return above(line, -self.tonic(known)[:, None])

    @property
    def random(self) -> bool:
        """Whether one drum part can have several bass lines."""
        return self.network.random

    @staticmethod
    def predict(logits: Tensor) -> Tensor:
        """(B, T) classes for logits."""
        return most_likely(logits)

    def known(self, conditions: Tensor) -> Tensor:
        """(B, 4) conditions with 0 for a tempo, and -1 for the others, where they are unknown or not read.

        Unknown are a tempo of 0 or less, and an instrument, genre or key that training did not have. In training, a
        random share of the conditions is unknown as well.
        """
        config, columns = self.config, []
        allowed = {"instrument": config.programs, "genre": range(len(config.genres)), "key": config.keys}
        for name, column in zip(CONDITIONS, conditions.unbind(dim=1), strict=True):
            if name not in config.conditions:
                known = torch.zeros_like(column, dtype=torch.bool)
            elif name == "tempo":
                known = column > 0
            else:
                known = torch.isin(column, column.new_tensor([*allowed[name]])) & (column != UNKNOWN_KEY)
            if self.training and config.condition_dropout:
                known = known & (torch.rand_like(column) >= config.condition_dropout)
            columns.append(torch.where(known, column, 0.0 if name == "tempo" else -1.0))
        return torch.stack(columns, dim=1)

    def condition_numbers(self, known: Tensor) -> Tensor:
        """(B, C) what the network reads of conditions (B, 4) from `known`.

        A number is 0 where it is unknown; of the others the last class is unknown.
        """
        parts = [known[:, :0]]
        for name, size in self.config.condition_sizes.items():
            column = known[:, CONDITIONS.index(name)]
            if name == "tempo":
                number = torch.log2(column.clamp(min=1.0) / MEAN_TEMPO) / TEMPO_SPAN
                parts.append(torch.where(column > 0, number, 0.0)[:, None])
            elif name == "instrument":
                number = (column - BASS_PROGRAMS.start) / (len(BASS_PROGRAMS) - 1) - 0.5
                parts.append(torch.where(column >= 0, number, 0.0)[:, None])
            else:
                parts.append(one_hot(torch.where(column >= 0, column, size - 1).long(), size).to(known))
        return torch.cat(parts, dim=1)

    @staticmethod
    def tonic(known: Tensor) -> Tensor:
        """(B,) semitones from E up to the tonic, for conditions from `known`; 0 where the key is unknown."""
        key = known[:, CONDITIONS.index("key")].long()
        return torch.where(key >= 0, (key - LOWEST) % 12, 0)


def above(classes: Tensor, tonic: Tensor) -> Tensor:
    """Pitches as semitones above the tonic, 0 to 11, in their octave from E to D#; rests and holds stay.

    So a network writes the same music in every key alike. With minus the tonic, the way back.
    """
    moved = 12 * (classes // 12) + (classes % 12 - tonic) % 12
    return torch.where(classes < PITCHES, moved, classes)


AutoConfig.register(DrumBassConfig.model_type, DrumBassConfig)
AutoModel.register(DrumBassConfig, DrumBassModel)
