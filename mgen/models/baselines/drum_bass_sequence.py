"""Networks that give many bass lines for one drum part: an autoregressive one, and one with a latent vector."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mgen.encoding.drum_bass import CLASSES, N_DRUMS
from mgen.models.baselines.drum_bass_layers import Network, along, most_likely


class Seq2Seq(Network):
    """A GRU over the drums in both directions, and a GRU that writes the bass step by step and attends to the first.

    Queries and keys have the same learned positions, so that attention finds the step at hand from the start.
    """

    random = True

    def __init__(self, config: Any, conditions: int) -> None:
        super().__init__(config, conditions)
        width = config.width
        self.encoder = nn.GRU(N_DRUMS, width // 2, batch_first=True, bidirectional=True)
        self.before = nn.Embedding(CLASSES + 1, width)  # the class of the step before; the last one: the beginning
        self.decoder = nn.GRU(width + conditions, width, batch_first=True)
        self.begin = nn.Linear(width + conditions, width)
        self.positions = nn.Parameter(torch.randn(config.steps, width))
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.head = nn.Sequential(
            nn.Linear(2 * width + conditions, width), nn.ReLU(), nn.Dropout(config.dropout), nn.Linear(width, CLASSES)
        )

    def forward(self, drums: Tensor, conditions: Tensor, bass: Tensor | None) -> tuple[Tensor, Tensor]:
        """See `Network`; each step reads the right classes before it. Without them, those it finds likeliest."""
        if bass is None:
            bass = self.draw(drums, conditions, 0.0)
        memory, keys, state = self._encode(drums, conditions)
        earlier = torch.cat([torch.full_like(bass[:, :1], CLASSES), bass[:, :-1]], dim=1)
        logits = self._decode(earlier, conditions, memory, keys, state, 0)[0]
        return logits, logits.new_zeros(len(drums))

    def draw(self, drums: Tensor, conditions: Tensor, temperature: float) -> Tensor:
        """(B, T) classes, step by step; the likeliest at temperature 0."""
        memory, keys, state = self._encode(drums, conditions)
        line = [torch.full((len(drums), 1), CLASSES, device=drums.device)]
        for step in range(drums.shape[1]):
            logits, state = self._decode(line[-1], conditions, memory, keys, state, step)
            if temperature:
                line.append(torch.multinomial((logits[:, 0] / temperature).softmax(dim=1), 1))
            else:
                line.append(most_likely(logits))
        return torch.cat(line[1:], dim=1)

    def _encode(self, drums: Tensor, conditions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, T, D) states of the drums, (B, T, D) their keys, and (1, B, D) the decoder's first state."""
        memory, last = self.encoder(drums)
        begin = torch.tanh(self.begin(torch.cat([last[0], last[1], conditions], dim=1)))
        return memory, self.key(memory) + self.positions, begin[None].contiguous()

    def _decode(
        self, earlier: Tensor, conditions: Tensor, memory: Tensor, keys: Tensor, state: Tensor, first: int
    ) -> tuple[Tensor, Tensor]:
        """(B, S, 38) logits of the S steps from `first`, and the state after them."""
        steps = earlier.shape[1]
        given = along(conditions, steps)
        hidden, state = self.decoder(torch.cat([self.before(earlier), given], dim=2), state)
        query = self.query(hidden) + self.positions[first : first + steps]
        found = nn.functional.scaled_dot_product_attention(query, keys, memory)
        return self.head(torch.cat([hidden, found, given], dim=2)), state


class Cvae(Network):
    """A conditional variational autoencoder: drums and bass to a latent vector, and it and the drums to a bass.

    The prior is N(0, 1), whatever the drums. The decoder is a GRU in both directions over the drums, which reads the
    latent vector at every step and nothing of the bass, so that what distinguishes lines has to be in the vector. In
    training the weight of the divergence rises from 0, and the first nats of each latent number cost nothing: without
    these the decoder learns to ignore the vector. In evaluation the divergence counts whole.

    Source: Sohn et al. 2015 (CVAE); Bowman et al. 2016, arXiv:1511.06349 (rising weight); Kingma et al. 2016,
    arXiv:1606.04934 (free bits).
    """

    random = True

    def __init__(self, config: Any, conditions: int) -> None:
        super().__init__(config, conditions)
        width, latent = config.width, config.latent
        self.reader = nn.GRU(N_DRUMS + CLASSES, width, batch_first=True, bidirectional=True)
        self.posterior = nn.Linear(2 * width + conditions, 2 * latent)
        self.mix = nn.Linear(N_DRUMS + latent + conditions, width)
        self.writer = nn.GRU(width, width, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(2 * width, CLASSES)
        self.register_buffer("trained", torch.zeros((), dtype=torch.int64))  # training steps so far
        self.trained: Tensor

    def forward(self, drums: Tensor, conditions: Tensor, bass: Tensor | None) -> tuple[Tensor, Tensor]:
        """See `Network`; without a bass the latent vector is the prior's mean."""
        if bass is None:
            latent = drums.new_zeros(len(drums), self.config.latent)
            return self.decode(drums, conditions, latent), drums.new_zeros(len(drums))
        mean, log_variance = self.encode(drums, conditions, bass)
        divergence = 0.5 * (mean**2 + log_variance.exp() - log_variance - 1)  # (B, latent) from N(0, 1), nats
        noise = torch.randn_like(mean) if self.training else self._fixed_noise(mean)
        logits = self.decode(drums, conditions, mean + noise * (log_variance / 2).exp())
        if not self.training:
            return logits, divergence.sum(dim=1)
        self.trained += 1
        weight = self.config.kl_weight * (self.trained / max(self.config.kl_warm_up, 1)).clamp(max=1.0)
        cost = divergence.mean(dim=0).clamp(min=self.config.free_bits).sum()  # free bits hold for a batch's mean
        return logits, (weight * cost).expand(len(drums))

    def encode(self, drums: Tensor, conditions: Tensor, bass: Tensor) -> tuple[Tensor, Tensor]:
        """(B, latent) mean and log-variance of the posterior."""
        classes = nn.functional.one_hot(bass, CLASSES).to(drums)
        last = self.reader(torch.cat([drums, classes], dim=2))[1]
        found = self.posterior(torch.cat([last[0], last[1], conditions], dim=1))
        mean, log_variance = found.chunk(2, dim=1)
        return mean, log_variance.clamp(-10.0, 10.0)

    def decode(self, drums: Tensor, conditions: Tensor, latent: Tensor) -> Tensor:
        """(B, T, 38) logits for latent vectors (B, latent)."""
        known = along(torch.cat([latent, conditions], dim=1), drums.shape[1])
        hidden = self.writer(torch.relu(self.mix(torch.cat([drums, known], dim=2))))[0]
        logits: Tensor = self.head(self.dropout(hidden))
        return logits

    def draw(self, drums: Tensor, conditions: Tensor, temperature: float) -> Tensor:
        """(B, T) likeliest classes for a latent vector from N(0, `temperature`^2)."""
        noise = torch.randn(len(drums), self.config.latent, device=drums.device)
        return most_likely(self.decode(drums, conditions, temperature * noise))

    @staticmethod
    def _fixed_noise(mean: Tensor) -> Tensor:
        """Noise that is the same in each evaluation, so that their losses can be compared."""
        return torch.randn(mean.shape, generator=torch.Generator().manual_seed(0)).to(mean)
