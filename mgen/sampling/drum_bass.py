"""Draws bass lines for drum parts."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mgen.arrays import Floats
from mgen.corpus.pairs import PairSet
from mgen.encoding.drum_bass import Bass, canonical
from mgen.models.baselines.drum_bass import DrumBassModel
from mgen.sampling.bass_policy import BassPolicy

ROWS_AT_ONCE = 512

Writer = DrumBassModel | BassPolicy
"""What writes bass lines to drums."""


@torch.inference_mode()
def sample(
    model: Writer, drums: Tensor, conditions: Tensor, n: int = 1, temperature: float = 1.0, seed: int = 0
) -> Bass:
    """Draws n bass lines for each drum part.

    Args:
        drums: (B, T, 14) bool.
        conditions: (B, 4), columns `mgen.corpus.pairs.CONDITIONS`.
        temperature: of the classes (`seq2seq`), the tokens (a policy) or the latent vector (`cvae`); 0: the likeliest
            line. Networks without a distribution over lines give n equal ones.
        seed: the same one gives the same lines.

    Returns:
        (n, B, T) classes; a hold without a note is a rest.
    """
    was_training = model.training
    model.eval()
    distinct = n if model.random and temperature else 1
    lines = []
    with torch.random.fork_rng(enabled=True):
        torch.manual_seed(seed)
        for _ in range(distinct):
            parts = [
                model.draw(some.to(model.device), known.to(model.device), temperature).cpu()
                for some, known in zip(
                    torch.split(drums, ROWS_AT_ONCE), torch.split(conditions, ROWS_AT_ONCE), strict=True
                )
            ]
            lines.append(torch.cat(parts) if parts else drums.new_zeros(drums.shape[:2], dtype=torch.int64))
    model.train(was_training)
    return canonical(np.stack([line.numpy() for line in lines])[np.arange(n) % distinct])


@torch.inference_mode()
def nats_of(model: Writer, pairs: PairSet) -> Floats:
    """(N,) nats of the true bass of each window, see `nats` of the model."""
    was_training = model.training
    model.eval()
    found = []
    for begin in range(0, len(pairs), ROWS_AT_ONCE):
        batch = pairs.__getitems__(range(begin, min(begin + ROWS_AT_ONCE, len(pairs))))
        found.append(model.nats(**{name: of.to(model.device) for name, of in batch.items()}).double().cpu().numpy())
    model.train(was_training)
    return np.concatenate(found)
