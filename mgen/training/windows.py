"""Windows of pieces: what the model trains on, continues, and is compared with. Every window starts on a bar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from mgen.corpus.shards import TokenTable
from mgen.encoding.remi import PITCH_RANGE, Kind, Remi
from mgen.errors import MgenError

MAX_TRANSPOSITION = 6
"""Semitones up or down: with 5 down and 6 up every key is reached once."""


def sample_windows(
    table: TokenTable, remi: Remi, n: int, length: int, rng: np.random.Generator, transpose: bool = False
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Windows of exactly `length` tokens: a piece drawn evenly among those long enough, then one of its bars.

    Returns:
        (n, length) token ids and (n,) the piece (row of `table`) that each came from.

    Raises:
        MgenError: No piece has `length` tokens.
    """
    bars = np.flatnonzero(table.ids == remi.bar_id)
    owner = np.searchsorted(table.offsets, bars, side="right") - 1
    fits = table.offsets[owner + 1] - bars >= length
    bars, owner = bars[fits], owner[fits]
    if not len(bars):
        longest = int(np.diff(table.offsets).max(initial=0))
        raise MgenError(
            f"windows of {length} tokens were asked for, the longest piece has {longest}; ask for fewer tokens"
        )
    pieces, first, count = np.unique(owner, return_index=True, return_counts=True)
    choice = rng.integers(len(pieces), size=n)
    start = bars[first[choice] + rng.integers(count[choice])]
    windows = table.ids[start[:, None] + np.arange(length)].astype(np.int64)
    if transpose:
        windows = np.stack([_transposed(window, remi, rng) for window in windows])
    return windows, pieces[choice]


def _transposed(ids: NDArray[np.int64], remi: Remi, rng: np.random.Generator) -> NDArray[np.int64]:
    """The ids in a key drawn evenly among the 12, as far as the range of pitches allows. Music with drums stays as
    it is.
    """
    if remi.multi:
        return ids
    pitch = remi.value[ids[remi.kind[ids] == Kind.PITCH]]
    if not len(pitch):
        return ids
    low = max(1 - MAX_TRANSPOSITION, PITCH_RANGE[0] - int(pitch.min()))
    high = min(MAX_TRANSPOSITION, PITCH_RANGE[1] - int(pitch.max()))
    return remi.transpose(ids, int(rng.integers(low, high + 1)))


@dataclass(frozen=True)
class Windows(Dataset[dict[str, NDArray[np.int64]]]):
    """Training sequences of at most `context` tokens: BOS, style, then a window of a piece that starts on a bar.

    Item i is a function of `seed` and i alone, so a run that is taken up again sees what the uninterrupted one would
    have seen. An epoch goes once through all pieces, in windows cut afresh each time; where a piece ends, EOS follows.

    Attributes:
        length: number of items, over all epochs.
        style_dropout: share of sequences without their style token, for guidance and for music of no stated style.
    """

    table: TokenTable
    remi: Remi
    context: int
    length: int
    seed: int = 0
    transpose: bool = True
    style_dropout: float = 0.1

    @cached_property
    def bars(self) -> NDArray[np.int64]:
        """Index in `table.ids` of every bar token."""
        return np.flatnonzero(self.table.ids == self.remi.bar_id)

    @cached_property
    def cells(self) -> NDArray[np.int64]:
        """(W, 2) piece and number of each window of an epoch."""
        count = np.maximum(np.ceil(np.diff(self.table.offsets) / self.body), 1).astype(np.int64)
        piece = np.repeat(np.arange(len(count)), count)
        return np.stack([piece, np.arange(len(piece)) - (np.cumsum(count) - count)[piece]], axis=1)

    @property
    def body(self) -> int:
        """Tokens of music in a window."""
        return self.context - 2

    @property
    def epoch_length(self) -> int:
        return len(self.cells)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, NDArray[np.int64]]:
        if not 0 <= index < self.length:
            raise IndexError(index)
        epoch, place = divmod(index, self.epoch_length)
        piece, number = self.cells[_permutation(self.epoch_length, self.seed, epoch)[place]]
        rng = np.random.Generator(np.random.Philox(key=[self.seed, index]))
        begin, end = int(self.table.offsets[piece]), int(self.table.offsets[piece + 1])
        # Windows are laid out from a random point, then moved back to the bar that they fall in.
        wanted = begin + max(int(number * self.body - rng.integers(self.body)) if number else 0, 0)
        start = int(self.bars[np.searchsorted(self.bars, wanted, side="right") - 1])
        start = max(start, begin)
        music = self.table.ids[start : min(start + self.body, end)].astype(np.int64)
        if self.transpose:
            music = _transposed(music, self.remi, rng)
        head = [self.remi.bos_id]
        if rng.random() >= self.style_dropout:
            head.append(self.remi.style_ids[str(self.table.rows["style"].iloc[piece])])
        tail = [self.remi.eos_id] if start + len(music) == end else []
        ids = np.concatenate([head, music, tail]).astype(np.int64)[: self.context]
        return {"input_ids": ids, "index": np.array(index)}


@lru_cache(maxsize=2)
def _permutation(n: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.Generator(np.random.Philox(key=[seed, epoch + (1 << 32)])).permutation(n)


def collate(
    items: Sequence[dict[str, NDArray[np.int64]]], pad_id: int, pad_to: int | None = None
) -> dict[str, torch.Tensor]:
    """Right-padded batch: `input_ids` (B, T), `labels` with -100 where padded, `index` (B,) the items' numbers.

    There is no attention mask: behind a causal mask nothing attends to padding on the right, and without one the
        fast attention
    kernels serve. `pad_to` fixes T (a compiled model wants one shape).
    """
    width = pad_to or max(len(item["input_ids"]) for item in items)
    ids = torch.full((len(items), width), pad_id)
    labels = torch.full((len(items), width), -100)
    for row, item in enumerate(items):
        tokens = torch.from_numpy(item["input_ids"])
        ids[row, : len(tokens)] = tokens
        labels[row, : len(tokens)] = tokens
    return {"input_ids": ids, "labels": labels, "index": torch.tensor([int(item["index"]) for item in items])}
