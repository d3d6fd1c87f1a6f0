"""Windows of pieces, for training, as prompts and as references. Every window starts on a bar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from mgen.arrays import ranges
from mgen.corpus.repetition import PseudoRepetitions, copies_at_end, repeat_bars
from mgen.corpus.shards import TokenTable
from mgen.encoding.remi import Remi
from mgen.errors import MgenError

NOT_TRAINED = -100  # label of a token that the next-token loss leaves out, as in torch
SLACK = 1.5  # base tokens read for a window with merges, over the mean number that fills it: pieces differ


def sample_windows(
    table: TokenTable,
    remi: Remi,
    n: int,
    length: int,
    rng: np.random.Generator,
    transpose: bool = False,
    prompt: int = 0,
    ends: bool = False,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Samples windows of `length` tokens: a piece uniformly among those long enough, then one of its bars.

    Args:
        table: of base tokens, or of merged ones (`Corpus.merged_table`); the windows have the same.
        transpose: to a random key, base tokens only.
        prompt: tokens at the start of each window that are continued. A vocabulary with merges continues from the start
            of a word, so there a word starts behind them.
        ends: a piece may end inside its window, anywhere behind the prompt, as it may inside a completion; padding
            follows. Otherwise every window is full.

    Returns:
        (n, length) token ids and (n,) the piece (row of `table`) of each window.

    Raises:
        MgenError: No piece has as many tokens.
    """
    bars = np.flatnonzero(remi.opens_bar[table.ids])
    owner = np.searchsorted(table.offsets, bars, side="right") - 1
    least = prompt + 1 if ends else length
    fits = table.offsets[owner + 1] - bars >= least
    if remi.merges and prompt:
        opens = np.append(remi.opens_word[table.ids], True)
        opens[table.offsets] = True  # as the end of a piece does
        fits &= opens[np.minimum(bars + prompt, len(table.ids))]
    bars, owner = bars[fits], owner[fits]
    if not len(bars):
        longest = int(np.diff(table.offsets).max(initial=0))
        raise MgenError(f"windows of {least} tokens: the longest piece has {longest}; choose shorter windows")
    pieces, first, count = np.unique(owner, return_index=True, return_counts=True)
    choice = rng.integers(len(pieces), size=n)
    start = bars[first[choice] + rng.integers(count[choice])]
    place = start[:, None] + np.arange(length)
    inside = place < table.offsets[pieces[choice] + 1][:, None]
    windows = np.where(inside, table.ids[np.where(inside, place, 0)], remi.pad_id).astype(np.int64)
    if transpose:
        windows = np.stack([_random_transposition(window, remi, rng) for window in windows])
    return windows, pieces[choice]


def _random_transposition(ids: NDArray[np.int64], remi: Remi, rng: np.random.Generator) -> NDArray[np.int64]:
    """Transposes ids to a random key, uniform among the 12 as far as the pitch range allows. Music with drums stays
    unchanged.
    """
    keys = remi.keys(ids)
    return ids if len(keys) == 1 else remi.transpose(ids, int(rng.integers(keys.start, keys.stop)))


def window_counts(n_tokens: NDArray[np.int64], context: int, remi: Remi) -> NDArray[np.int64]:
    """(P,) windows per epoch of pieces with (P,) `n_tokens` base tokens."""
    return np.maximum(np.ceil(n_tokens / _base_tokens(context, remi)), 1).astype(np.int64)


def _base_tokens(context: int, remi: Remi) -> int:
    """Mean number of base tokens in a window of `context` tokens, of which BOS and the style token take two."""
    return int((context - 2) * remi.base_per_token)


def item_rng(seed: int, index: int) -> np.random.Generator:
    """Random generator of item `index` of a run, independent of all other items."""
    return np.random.Generator(np.random.Philox(key=[seed, index]))


def training_sequence(
    piece: NDArray[np.uint16],
    number: int,
    style_id: int,
    remi: Remi,
    context: int,
    rng: np.random.Generator,
    *,
    transpose: bool,
    style_dropout: float,
    repeated_bars: int = 0,
) -> NDArray[np.int64]:
    """At most `context` tokens: BOS, an optional style token, window `number` of a piece, EOS where the piece ends.

    Windows follow each other from a random offset, then move back to the start of their bar. They are cut and
    transposed in base tokens and then merged, and hold as much music as fills them.

    Args:
        piece: (L,) base tokens, without BOS, EOS and style.
        style_dropout: probability that the style token is left out.
        repeated_bars: most bars that are repeated to the end of the context; 0: real music only.
    """
    body = _base_tokens(context, remi)
    wanted = max(int(number * body - rng.integers(body)) if number else 0, 0)
    bars = np.flatnonzero(piece[: wanted + 1] == remi.bar_id)
    start = int(bars[-1]) if len(bars) else 0
    most = int(body * SLACK) if remi.merges else body
    music = remi.beginning(piece[start : start + most + 1].astype(np.int64), most)
    ends = start + len(music) == len(piece)
    if repeated_bars and len(repeated := repeat_bars(music, most, repeated_bars, remi, rng)):
        music, ends = repeated, False
    if transpose:
        music = _random_transposition(music, remi, rng)
    music = remi.merge(music)
    ends &= len(music) <= context - 2
    head = [remi.bos_id]
    if rng.random() >= style_dropout:
        head.append(style_id)
    tail = [remi.eos_id] if ends else []
    return np.concatenate([head, music[: context - 2], tail]).astype(np.int64)[:context]


def training_item(
    ids: NDArray[np.int64], index: int, remi: Remi, repetitions: PseudoRepetitions | None
) -> dict[str, NDArray[np.int64]]:
    """Item `index` of a training set for `collate`: (T,) ids, and with `repetitions` the copy of each token."""
    item = {"input_ids": ids, "index": np.array(index)}
    if repetitions is None:
        return item
    copies, period = copies_at_end(ids, repetitions.bars_of(index), remi)
    return {**item, "copies": copies, "period": np.array(period)}


@dataclass(frozen=True)
class Windows(Dataset[dict[str, NDArray[np.int64]]]):
    """Training sequences of at most `context` tokens: BOS, style, then a window of a piece that starts on a bar.

    Item i depends on `seed` and i alone, so a resumed run sees the same items as an uninterrupted one. An epoch covers
    all pieces once, with new window offsets; EOS follows the end of a piece.

    Attributes:
        length: number of items, over all epochs.
        style_dropout: share of sequences without their style token, for guidance and for music without a style.
        repetitions: items that repeat their bars instead of going on; None: no item does.
    """

    table: TokenTable
    remi: Remi
    context: int
    length: int
    seed: int = 0
    transpose: bool = True
    style_dropout: float = 0.1
    repetitions: PseudoRepetitions | None = None

    @cached_property
    def cells(self) -> NDArray[np.int64]:
        """(W, 2) piece and number of each window of an epoch."""
        count = window_counts(np.diff(self.table.offsets), self.context, self.remi)
        number, piece = ranges(np.zeros_like(count), count)
        return np.stack([piece, number], axis=1)

    @cached_property
    def style_ids(self) -> NDArray[np.int64]:
        """(P,) id of the style token of each piece."""
        return np.array([self.remi.style_ids[style] for style in self.table.rows["style"]], np.int64)

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
        ids = training_sequence(
            self.table[piece],
            number,
            self.style_ids[piece],
            self.remi,
            self.context,
            item_rng(self.seed, index),
            transpose=self.transpose,
            style_dropout=self.style_dropout,
            repeated_bars=self.repetitions.bars_of(index) if self.repetitions else 0,
        )
        return training_item(ids, index, self.remi, self.repetitions)


@lru_cache(maxsize=2)
def _permutation(n: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.Generator(np.random.Philox(key=[seed, epoch + (1 << 32)])).permutation(n)


def collate(
    items: Sequence[dict[str, NDArray[np.int64]]], pad_id: int, pad_to: int | None = None
) -> dict[str, torch.Tensor]:
    """Right-padded batch: `input_ids` (B, T), `labels`, `index` (B,) the items' numbers.

    Labels are `NOT_TRAINED` where padded. Items with copies add `copies` (B, T), the copy that a token belongs to, and
    `period` (B,), the tokens of a copy; from the second copy on they have no labels.

    There is no attention mask: under a causal mask nothing attends to padding on the right, and fast attention kernels
    need none. `pad_to` fixes T (a compiled model needs one shape).
    """
    width = pad_to or max(len(item["input_ids"]) for item in items)
    ids = torch.full((len(items), width), pad_id)
    labels = torch.full((len(items), width), NOT_TRAINED)
    for row, item in enumerate(items):
        tokens = torch.from_numpy(item["input_ids"])
        ids[row, : len(tokens)] = tokens
        labels[row, : len(tokens)] = tokens
    batch = {"input_ids": ids, "labels": labels, "index": _numbers(items, "index")}
    if "copies" not in items[0]:
        return batch
    copies = torch.zeros_like(ids)
    for row, item in enumerate(items):
        copies[row, : len(item["copies"])] = torch.from_numpy(item["copies"])
    labels[copies > 1] = NOT_TRAINED
    return {**batch, "copies": copies, "period": _numbers(items, "period")}


def _numbers(items: Sequence[dict[str, NDArray[np.int64]]], name: str) -> torch.Tensor:
    return torch.tensor([int(item[name]) for item in items])
