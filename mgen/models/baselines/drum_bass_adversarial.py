"""A network that is trained against a discriminator: pix2pix, from the picture of a drum part to that of a bass."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mgen.encoding.drum_bass import CLASSES, N_DRUMS
from mgen.models.baselines.drum_bass_layers import Network, along, most_likely

DEPTH = 4  # halvings of time: 64 steps to 4
NOISE = 0.5  # dropout of the deepest layers, which is the only source of variety


class Pix2Pix(Network):
    """A U-Net over time that writes the bass, and a discriminator that judges patches of drums with a bass.

    The generator's loss is the reconstruction (cross-entropy, in place of the distance of colours) and its mistake of
    the discriminator; both networks are in one model and take their steps at once: the generator is judged by a copy of
    the discriminator that gets no gradient, and the discriminator sees a bass that passes none back. The discriminator
    reads probabilities of classes. Dropout in the deepest layers also at sampling is what makes lines differ.

    Source: Isola et al. 2017, arXiv:1611.07004, with time as the one dimension of the convolutions.
    """

    random = True

    def __init__(self, config: Any, conditions: int) -> None:
        super().__init__(config, conditions)
        widths = [N_DRUMS + conditions, *(config.width // 2 * min(2**level, 4) for level in range(DEPTH))]
        self.down = nn.ModuleList(nn.Conv1d(before, after, 4, 2, 1) for before, after in pairwise(widths))
        self.up = nn.ModuleList()
        below = widths[-1]
        for level in range(DEPTH - 1, 0, -1):
            self.up.append(nn.ConvTranspose1d(below, widths[level], 4, 2, 1))
            below = 2 * widths[level]  # with the layer of the same length on the way down
        self.up.append(nn.ConvTranspose1d(below, config.width, 4, 2, 1))
        self.head = nn.Conv1d(config.width + widths[0], CLASSES, 1)
        self.discriminator = nn.Sequential(
            nn.Conv1d(N_DRUMS + CLASSES + conditions, config.width // 2, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv1d(config.width // 2, config.width, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv1d(config.width, 1, 3, 1, 1),  # a judgement for each 4 steps, of the 18 around them
        )

    def forward(self, drums: Tensor, conditions: Tensor, bass: Tensor | None) -> tuple[Tensor, Tensor]:
        """See `Network`; the losses of the game are added in training."""
        logits = self.generate(drums, conditions, noisy=self.training)
        if bass is None or not self.training:
            return logits, logits.new_zeros(len(drums))
        made = logits.softmax(dim=2)
        real = nn.functional.one_hot(bass, CLASSES).to(made)
        frozen = {name: of.detach() for name, of in self.discriminator.named_parameters()}
        fooled = functional_call(self.discriminator, frozen, (_stack(drums, conditions, made),))
        seen = self.discriminator(_stack(drums, conditions, made.detach()))
        known = self.discriminator(_stack(drums, conditions, real))
        steps = drums.shape[1]
        generator = steps * _surprise(fooled, True)
        judge = steps * (_surprise(known, True) + _surprise(seen, False)) / 2
        return logits, self.config.adversarial_weight * generator + judge

    def generate(self, drums: Tensor, conditions: Tensor, noisy: bool) -> Tensor:
        """(B, T, 38) logits; with dropout in the deepest layers if `noisy`."""
        first = torch.cat([drums, along(conditions, drums.shape[1])], dim=2).transpose(1, 2)
        levels = [first]
        for layer in self.down:
            levels.append(nn.functional.leaky_relu(layer(levels[-1]), 0.2))
        hidden = nn.functional.dropout(levels.pop(), NOISE, noisy)
        for number, layer in enumerate(self.up):
            hidden = torch.relu(layer(hidden))
            if number < 2:
                hidden = nn.functional.dropout(hidden, NOISE, noisy)
            hidden = torch.cat([hidden, levels.pop()], dim=1)
        logits: Tensor = self.head(hidden).transpose(1, 2)
        return logits

    def draw(self, drums: Tensor, conditions: Tensor, temperature: float) -> Tensor:
        """(B, T) likeliest classes under random dropout; without it at temperature 0."""
        return most_likely(self.generate(drums, conditions, noisy=temperature > 0))


def _stack(drums: Tensor, conditions: Tensor, bass: Tensor) -> Tensor:
    """(B, channels, T) what the discriminator reads, for a bass (B, T, 38) of probabilities."""
    return torch.cat([drums, bass, along(conditions, drums.shape[1])], dim=2).transpose(1, 2)


def _surprise(judged: Tensor, real: bool) -> Tensor:
    """(B,) mean nats of the judgement of patches (B, 1, P) that are all real or all made."""
    wanted = torch.full_like(judged, float(real))
    return nn.functional.binary_cross_entropy_with_logits(judged, wanted, reduction="none").mean(dim=(1, 2))
