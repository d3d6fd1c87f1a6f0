"""The style critic: how surely is this piece jazz?

Says log P(style | piece), whatever the prompt was. Knows nothing of how it was trained
(`critics/training.py`).
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from critics.calibration import Calibration
from critics.sequence import SequenceCritic
from mgen.encoding.remi import Remi
from mgen.errors import MgenError
from mgen.judgement import Judgement
from mgen.notes import Notes

WORST = float(np.log(1e-4))
MIN_NOTES = 16


class StyleCritic:
    """log P(style | piece) in nats, between `worst` and 0, both styles equally likely beforehand.

    The score ends at `worst`, log 1e-4: a calibration fitted on a few hundred excerpts says nothing of odds
    beyond some thousands to one, and a log-probability without end would let one confident network shout down
    all other judges. A piece of fewer than `min_notes` notes is not `defined` and gets `worst`. No credit per
    note: the network hears a piece as a whole.

    Known exploit: it hears timing long before it hears pitch, so uneven rhythm under any pitches may please
    it; the rows `broken` of its card say how much.

    Args:
        network: hears a piece as one raw logit.
        calibration: from that logit to nats.
        positive: name of the style.
    """

    def __init__(
        self,
        network: SequenceCritic,
        calibration: Calibration,
        positive: str,
        min_notes: int = MIN_NOTES,
        worst: float = WORST,
    ) -> None:
        self.network, self.calibration, self.positive = network, calibration, positive
        self.min_notes, self.worst = min_notes, worst

    def __call__(self, notes: Notes) -> Judgement:
        defined = notes.counts >= self.min_notes
        score = np.full(notes.n_pieces, self.worst, np.float32)
        if defined.any():
            logits = self.network.logits(notes.pieces(np.flatnonzero(defined)))
            score[defined] = np.maximum(self.calibration.log_probability(logits), self.worst)
        return Judgement(score=score, credit=None, defined=defined)

    def save_pretrained(self, folder: Path | str, **facts: Any) -> None:
        """Write the network, the tokenizer, and critic.json with the calibration and `facts`."""
        self.network.save_pretrained(
            folder,
            kind="style",
            positive=self.positive,
            score="log P(positive | piece), nats, both styles equally likely beforehand",
            calibration=asdict(self.calibration),
            min_notes=self.min_notes,
            worst=self.worst,
            **facts,
        )

    @classmethod
    def from_pretrained(cls, folder: Path | str, remi: Remi | None = None) -> StyleCritic:
        """What `save_pretrained` wrote.

        Args:
            remi: the encoding of the music to be judged, if it has to be the critic's own.

        Raises:
            MgenError: The folder holds no style critic, or one of another vocabulary.
        """
        network, facts = SequenceCritic.from_pretrained(folder, remi)
        if facts.get("kind") != "style":
            raise MgenError(
                f"{folder}: expected a style critic, found '{facts.get('kind')}'; train one with mgen critic"
            )
        calibration = Calibration(**facts["calibration"])
        return cls(network, calibration, facts["positive"], facts["min_notes"], facts["worst"])
