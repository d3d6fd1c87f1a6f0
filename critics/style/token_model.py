"""log P(style | piece) from tokens: one network, calibrated. Plain TRL can load it; it depends on file formats."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from critics.sequence import SequenceCritic
from mgen.arrays import Floats, Mask
from mgen.notes import Notes
from mgen.stats.calibration import Calibration


@dataclass(frozen=True, eq=False)
class TokenModel:
    """log P(style | piece) in nats, both styles equally likely beforehand. It never abstains.

    Attributes:
        network: gives the raw logit of a piece.
        calibration: from that logit to nats.
    """

    network: SequenceCritic
    calibration: Calibration

    input = "tokens"

    @property
    def parameters(self) -> int:
        """Weights of the network."""
        return int(self.network.model.num_parameters())

    def predict(self, notes: Notes) -> tuple[Floats, Mask]:
        """(B,) log-probability, and (B,) True."""
        return self.calibration.log_probability(self.network.logits(notes)), np.ones(notes.n_pieces, bool)

    def save(self, folder: Path) -> dict[str, Any]:
        """Writes network and tokenizer; returns the rest as plain values."""
        self.network.save_pretrained(folder)
        return {"calibration": asdict(self.calibration), "max_tokens": self.network.max_tokens}
