"""Windows of piano-rolls with the step that follows each step, over the pieces of a split.

Rolls are drawn from the tokens of a prepared corpus: the split, the works and the cleaning are those of all other
models, and no file is read again. Steps of a beat are exact; for steps in seconds a piece has one tempo, the one that
its file begins with, or 120 quarters per minute. All steps are one array of 11 bytes per step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from mgen.arrays import Longs, rank_within
from mgen.corpus.shards import Corpus
from mgen.encoding.piano_roll import DEFAULT_TEMPO, PITCHES, Rate, of_notes
from mgen.errors import MgenError
from mgen.notes import Notes

Batch = dict[str, Tensor]  # roll and labels (B, W, 84) uint8, mask (B, W) bool

_PIECES = 128  # drawn at a time, to bound memory


@dataclass(frozen=True, slots=True)
class Rolls:
    """The rolls of P pieces of a split, S steps in all; one silent step is before each piece."""

    bits: NDArray[np.uint8]  # (S, 11) cells, packed
    begins: Longs  # (P + 1,) the silent step of each piece, then S
    work: NDArray[np.str_]  # (P,)

    @property
    def steps(self) -> Longs:
        """(P,) steps of each piece, without the silent one."""
        return np.diff(self.begins) - 1

    @property
    def density(self) -> float:
        """Share of cells that sound."""
        on = int(np.bitwise_count(self.bits).sum())
        return on / max(int(self.steps.sum()) * PITCHES, 1)

    def transitions(self) -> NDArray[np.int64]:
        """(P, 2, 2) cells of each piece by their state in the step before and in the step itself, off or on."""
        found = np.zeros((len(self.work), 2, 2), np.int64)
        for piece, (begin, end) in enumerate(zip(self.begins[:-1], self.begins[1:], strict=True)):
            last, here = self.bits[begin : end - 1], self.bits[begin + 1 : end]
            on, kept, before = (int(np.bitwise_count(bits).sum()) for bits in (here, here & last, last))
            cells = len(here) * PITCHES
            found[piece] = [[cells - on - before + kept, on - kept], [before - kept, kept]]
        return found


def read_rolls(
    corpus: Corpus, split: str, rate: Rate, style: str = "", share: float = 1.0, seed: int = 0
) -> tuple[Rolls, dict[str, int]]:
    """Draws the rolls of a split.

    Args:
        style: only pieces of it; empty for all.
        share: of the works, at least one; drawn from `seed`.

    Returns:
        The rolls, and counts: pieces, those without a note in range, those used, their works, and those used that have
        no tempo, for steps in seconds.

    Raises:
        MgenError: The split or style has no piece with a note of pitch 24 to 107.
    """
    table = corpus.table(split, style or None)
    works = table.rows["work"].to_numpy(str)
    tempo = table.rows["tempo"].to_numpy(np.float64)
    known = np.isfinite(tempo) & (tempo > 0)
    chosen = np.arange(len(works))
    if share < 1:
        names = np.unique(works)
        drawn = np.random.default_rng(seed).permutation(names)[: math.ceil(share * len(names))]
        chosen = np.flatnonzero(np.isin(works, drawn))
    bits, sizes = [], []
    for begin in range(0, len(chosen), _PIECES):
        rows = chosen[begin : begin + _PIECES]
        notes = Notes.from_ids([table[row] for row in rows.tolist()], corpus.remi)
        roll, lengths = of_notes(notes, rate, np.where(known, tempo, DEFAULT_TEMPO)[rows])
        first = np.cumsum(lengths) - lengths
        bits.append(np.packbits(np.insert(roll, first[lengths > 0], False, axis=0), axis=1))
        sizes.append(lengths)
    length = np.concatenate([np.zeros(0, np.int64), *sizes])
    used = chosen[length > 0]
    where = f"{corpus.folder}, {split}{f', {style}' if style else ''}"
    if not len(used):
        found = f"none of {len(chosen)} pieces has one" if len(chosen) else "there is no piece"
        raise MgenError(
            f"{where}: expected a piece with a note of pitch 24 to 107, {found}; add music and prepare again"
        )
    begins = np.append(0, np.cumsum(length[length > 0] + 1)).astype(np.int64)
    counts = {
        "pieces": len(works),
        "no notes in range": len(chosen) - len(used),
        "used": len(used),
        "works": len(np.unique(works[used])),
    }
    if rate.per_second:
        counts["without tempo"] = int((~known[used]).sum())
    return Rolls(np.concatenate(bits), begins, works[used]), counts


class RollWindows(Dataset[Batch]):
    """Windows of W steps of every piece; they begin every `hop` steps, and the last one may end after its piece.

    `roll` of an item is the steps before those in `labels`; `mask` tells which of these are steps of the piece. With
    hop W each step of a piece is a label once. A `DataLoader` calls `__getitems__` with the numbers of a batch and gets
    the whole batch; collate with `as_batch`.
    """

    def __init__(self, rolls: Rolls, window: int, hop: int) -> None:
        self.rolls, self.window = rolls, window
        count = 1 + np.maximum(-(-(rolls.steps - window) // hop), 0)  # as mgen.encoding.piano_roll.windows
        self.piece = np.repeat(np.arange(len(count)), count)  # (N,) of each item
        self._first = rolls.begins[self.piece] + hop * rank_within(self.piece, len(count))
        # (S, 84) cells would be 8 times as large: a batch is unpacked when it is read.
        self._offsets = np.arange(window + 1)

    def __len__(self) -> int:
        return len(self.piece)

    def __getitem__(self, index: int) -> Batch:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return {name: of[0] for name, of in self.__getitems__([index]).items()}

    def __getitems__(self, indices: Sequence[int] | Longs) -> Batch:
        items = np.asarray(indices, np.int64)
        rows = self._first[items][:, None] + self._offsets
        end = self.rolls.begins[self.piece[items] + 1][:, None]
        inside = rows < end
        bits = self.rolls.bits[np.minimum(rows, end - 1)] * inside[:, :, None]
        cells = torch.from_numpy(np.unpackbits(bits, axis=2, count=PITCHES))
        return {"roll": cells[:, :-1], "labels": cells[:, 1:], "mask": torch.from_numpy(inside[:, 1:])}


def as_batch(items: Batch | Sequence[Batch]) -> Batch:
    """What `__getitems__` returned, or the same from single items."""
    if isinstance(items, Mapping):
        return dict(items)
    return {name: torch.stack([item[name] for item in items]) for name in items[0]}
