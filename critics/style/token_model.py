"""P(style | piece) from tokens: one network, calibrated. What plain TRL can load, and the critic that hears formats."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from critics.sequence import SequenceCritic
from mgen.arrays import Floats
from mgen.notes import Notes
from mgen.stats.calibration import Calibration


@dataclass(frozen=True, eq=False)
class TokenModel:
    """log P(style | piece) in nats, both styles being equally likely beforehand. It takes itself to know every piece.

    Attributes:
        network: hears a piece as one raw logit.
        calibration: from that logit to nats.
    """

    network: SequenceCritic
    calibration: Calibration

    hears = "tokens"

    @property
    def parameters(self) -> int:
        """Weights of the network."""
        return int(self.network.model.num_parameters())

    def hear(self, notes: Notes) -> tuple[Floats, NDArray[np.bool_]]:
        """(B,) log-probability, and (B,) True."""
        said = self.calibration.log_probability(self.network.logits(notes))
        return said, np.ones(notes.n_pieces, bool)

    def save(self, folder: Path) -> dict[str, Any]:
        """Write network and tokenizer; returns the rest as plain values."""
        self.network.save_pretrained(folder)
        return {"calibration": asdict(self.calibration), "max_tokens": self.network.max_tokens}
