"""Tab events as classes, and as vectors for a network.

Every event is one of 1,806 symbols (129 pitches or rests, 14 note values). A preparation gives each symbol a vector, so
that a window is prepared by one lookup: features are not computed again for each of its notes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import embedding

from mgen.encoding.tab_events import COLUMNS

N_DURATIONS = 14  # note values, from the whole note: 2 * dur_log + dotted
N_SYMBOLS = 129 * N_DURATIONS


@dataclass(frozen=True, slots=True)
class Feature:
    """A class of an event: a sum of its columns."""

    size: int  # number of classes
    weights: tuple[int, int, int, int]  # of semitone, octave, dur_log and dotted

    def of(self, events: Any) -> Any:
        """(...) classes of events (..., 4), an array or tensor of integers, of the same type."""
        used = [(column, weight) for column, weight in enumerate(self.weights) if weight]
        parts = [events[..., column] * weight if weight > 1 else events[..., column] for column, weight in used]
        return sum(parts[1:], parts[0])


FEATURES: dict[str, Feature] = {
    "semitone": Feature(13, (1, 0, 0, 0)),  # 0 is a rest
    "octave": Feature(11, (0, 1, 0, 0)),
    "dur_log": Feature(7, (0, 0, 1, 0)),
    "dotted": Feature(2, (0, 0, 0, 1)),
    "pitch": Feature(129, (1, 12, 0, 0)),  # 0 is a rest, above it MIDI pitch + 1
    "duration": Feature(N_DURATIONS, (0, 0, 2, 1)),
}

VARIANTS: dict[str, tuple[str, ...]] = {
    "semitone_octave_dur_dotted": ("semitone", "octave", "dur_log", "dotted"),
    "semitone_dur": ("semitone", "dur_log"),
    "pitch_duration": ("pitch", "duration"),
    "pitch_dotted": ("pitch", "dotted"),
}
"""What a network reads of an event; only the first and third tell all events apart."""

TARGETS: dict[str, Feature] = {
    "note": FEATURES["semitone"],
    "pitch": FEATURES["pitch"],
    "duration": FEATURES["duration"],
    "dotted": FEATURES["dotted"],
}
"""What is predicted of the next event."""

_NOTES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
_VALUES = ("whole", "half", "quarter", "8th", "16th", "32nd", "64th")
CLASS_NAMES: dict[str, tuple[str, ...]] = {
    "note": ("rest", *_NOTES),
    "pitch": ("rest", *(f"{_NOTES[pitch % 12]}{pitch // 12 - 1}" for pitch in range(128))),
    "duration": tuple(f"{dot}{value}" for value in _VALUES for dot in ("", "dotted ")),
    "dotted": ("plain", "dotted"),
}

PREPARATIONS = ("one_hot", "embedding", "skip_gram", "autoencoder")
PRETRAINED = ("skip_gram", "autoencoder")


def log2_quarters() -> Tensor:
    """(14,) base-2 logarithm of the note values in quarters."""
    value = torch.arange(N_DURATIONS)
    logarithm: Tensor = 2.0 - value // 2 + (value % 2) * float(np.log2(1.5))
    return logarithm


def symbol_of(events: Tensor) -> Tensor:
    """(...) int32 symbols, 0..1805, of events (..., 4)."""
    pitch, duration = (FEATURES[name].of(events).to(torch.int32) for name in ("pitch", "duration"))
    symbol: Tensor = pitch * N_DURATIONS + duration
    return symbol


def all_symbols() -> NDArray[np.uint8]:
    """(1806, 4) the event of each symbol."""
    pitch, duration = np.divmod(np.arange(N_SYMBOLS), N_DURATIONS)
    sounds = pitch > 0
    octave = np.where(sounds, (pitch - 1) // 12, 0)
    columns = (pitch - 12 * octave, octave, duration // 2, duration % 2)
    assert len(columns) == len(COLUMNS)
    return np.stack(columns, axis=1).astype(np.uint8)


def feature_classes(variant: str) -> NDArray[np.int64]:
    """(1806, F) class of each symbol in each feature of a variant."""
    symbols = all_symbols().astype(np.int64)
    return np.stack([FEATURES[name].of(symbols) for name in VARIANTS[variant]], axis=1)


def words(variant: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The different events under a variant: (M, F) their classes, and (1806,) the word of each symbol."""
    classes, word = np.unique(feature_classes(variant), axis=0, return_inverse=True)
    return classes, word.reshape(-1)


class EventVectors(nn.Module):
    """Vectors of D numbers for all symbols.

    - `one_hot`: the one-hot features side by side through a dense layer. Its product with a one-hot vector is one row
      of its weights, so the sum of one row per feature and the bias is the same and needs no one-hot vectors.
    - `embedding`: one embedding per feature, side by side.
    - `skip_gram`, `autoencoder`: one vector per word, trained beforehand (`mgen.training.event_vectors`).

    Args:
        variant: key of `VARIANTS`.
        preparation: one of `PREPARATIONS`.
        width: D, at least the number of features for `embedding`.
        freeze: vectors trained beforehand stay as they are.
    """

    def __init__(self, variant: str, preparation: str, width: int, freeze: bool = False) -> None:
        super().__init__()
        self.preparation = preparation
        sizes = [FEATURES[name].size for name in VARIANTS[variant]]
        if preparation in PRETRAINED:
            classes, word = words(variant)
            index, shape = word[:, None], (len(classes), width)
        else:
            begins = np.cumsum([0, *sizes[:-1]]) if preparation == "one_hot" else np.zeros(len(sizes), np.int64)
            index, shape = feature_classes(variant) + begins, (sum(sizes), width)
        self.register_buffer("index", torch.from_numpy(index.astype(np.int64)))  # (1806, F) rows of the weights
        if preparation == "embedding":
            widths = [width // len(sizes) + (i < width % len(sizes)) for i in range(len(sizes))]
            self.tables = nn.ModuleList(nn.Embedding(*pair) for pair in zip(sizes, widths, strict=True))
            return
        scale = sum(sizes) ** -0.5 if preparation == "one_hot" else 1.0  # of a dense layer
        self.weight = nn.Parameter(torch.randn(shape) * scale, requires_grad=not freeze)
        if preparation == "one_hot":
            self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, events: Tensor) -> Tensor:
        """(B, W, D) vectors of events (B, W, 4)."""
        return embedding(symbol_of(events), self.table())

    def table(self) -> Tensor:
        """(1806, D) vectors of all symbols."""
        index: Tensor = self.get_buffer("index")
        if self.preparation == "embedding":
            return torch.cat([table(index[:, i]) for i, table in enumerate(self.tables)], dim=1)
        if self.preparation == "one_hot":
            return embedding(index, self.weight).sum(dim=1) + self.bias
        return self.weight[index[:, 0]]

    @torch.no_grad()
    def load(self, vectors: Tensor) -> None:
        """Sets the vectors (M, D) of the words."""
        self.weight.copy_(vectors)
