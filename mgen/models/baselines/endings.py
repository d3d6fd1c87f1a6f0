"""How prompts end, so that a baseline without a network can continue in the same bar, and in the same note."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mgen.encoding.remi import PITCH_RANGE, Kind, Remi
from mgen.errors import MgenError

Array = NDArray[np.int64]

OPEN_NOTE = (Kind.POSITION, Kind.PROGRAM, Kind.PITCH, Kind.VELOCITY)
"""Last tokens that the grammar lets only the rest of a note follow."""


@dataclass(frozen=True, slots=True)
class Endings:
    """The ends of B prompts."""

    kind: Array  # (B,) `Kind` of the last token; SPECIAL where the prompt has no music
    beats: Array  # (B,) beats in the last bar; 0 where there is none
    unit: Array  # (B,) their note value, 4 or 8; 4 where there is no bar
    position: Array  # (B,) grid steps of the last position in the last bar; -1 where it has none
    program: Array  # (B,) of the unfinished note, as far as it has one
    pitch: Array  # (B,) likewise
    velocity: Array  # (B,) likewise
    least: Array  # (B,) lowest pitch that keeps a chord rising, if the prompt ends with another note's program

    @property
    def open_note(self) -> NDArray[np.bool_]:
        """(B,) whether the prompt ends inside a note."""
        return np.isin(self.kind, OPEN_NOTE)

    @classmethod
    def of(cls, prompts: Array, remi: Remi) -> Endings:
        """Reads the ends of prompts (B, P).

        Raises:
            MgenError: A prompt is empty, or ends with EOS.
        """
        if prompts.ndim != 2 or not prompts.shape[1]:
            raise MgenError(f"prompts: expected (B, P) token ids with P at least 1, got shape {prompts.shape}")
        kind, value = remi.kind[prompts].astype(np.int64), remi.value[prompts].astype(np.int64)
        if (kind[:, -1] == Kind.END).any():
            raise MgenError("prompts: one ends with EOS, which nothing follows; cut it off")

        def last(wanted: Kind) -> Array:
            """(B,) index of the last token of a kind; -1 where there is none."""
            at: Array = np.where(kind == wanted, np.arange(kind.shape[1]), -1).max(axis=1)
            return at

        def value_at(at: Array, otherwise: int) -> Array:
            return np.where(at >= 0, value[np.arange(len(at)), at], otherwise)

        bar, position, metre = last(Kind.BAR), last(Kind.POSITION), last(Kind.TIME_SIGNATURE)
        unit = np.where(metre >= 0, remi.unit[prompts][np.arange(len(prompts)), metre], 4).astype(np.int64)
        chord = (kind[:, -1] == Kind.PROGRAM) & (kind[:, -2:-1] == Kind.DURATION).any(axis=1)
        above = np.minimum(value_at(last(Kind.PITCH), 0) + 1, PITCH_RANGE[1])  # at the top it is another program's
        return cls(
            kind=kind[:, -1],
            beats=np.where(bar >= 0, value_at(metre, 4), 0),
            unit=unit,
            position=value_at(np.where(position > bar, position, -1), -1) * 4 // unit,
            program=value_at(last(Kind.PROGRAM), 0),
            pitch=value_at(last(Kind.PITCH), 0),
            velocity=value_at(last(Kind.VELOCITY), 64),
            least=np.where(chord, above, 0),
        )
