"""Windows of a corpus that does not fit into memory: its shards are read one behind the other, a row group at a time.

What a window is, `mgen.corpus.windows` says; here they are only put in order and dealt out to processes and workers.
`Corpus.pieces` and `Corpus.table`, which hold what they read, are not used.
"""

from __future__ import annotations

import glob
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import count, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets import load_dataset
from numpy.typing import NDArray
from torch.utils.data import IterableDataset, get_worker_info

from mgen.corpus.shards import PIECES, SCHEMA, TOKENS, Corpus, TokenTable
from mgen.corpus.windows import item_rng, training_sequence, window_counts
from mgen.errors import MgenError

BUFFER = 1 << 14
"""Windows that wait for their turn: 25 to 60 MB at a context of 512, more where pieces are long."""

ROWS = 256
"""Pieces taken from the stream, and windows put into the buffer, at a time."""

HELD_TOKENS = 1 << 24
"""Tokens of a split that are held in memory for evaluation: 32 MB."""

SPLIT = "train"


class Piece(NamedTuple):
    """A row of a shard."""

    number: int  # in pieces.parquet
    style: str
    ids: NDArray[np.uint16]  # (L,)


class Uncut(NamedTuple):
    """A window that waits: the windows of a piece share its ids, and nothing is cut that is not asked for."""

    piece: NDArray[np.uint16]  # (L,)
    style_id: int
    number: int  # of the window in its piece


@dataclass(frozen=True)
class StreamedWindows(IterableDataset[dict[str, NDArray[np.int64]]]):
    """Training sequences as `Windows` makes them, in the order in which they are trained on, of the split `train`.

    An epoch goes once through all pieces: the shards in an order of its own, their windows through a buffer from which
    a random one is taken each time. Item i is a function of `seed`, `buffer` and i alone, whatever the number of
    workers and wherever the stream begins, so a run that is taken up again sees what the uninterrupted one would have
    seen. Nothing but the buffer and a row group is held.

    Attributes:
        length: number of items over all epochs and processes; a multiple of `batch * ranks`.
        batch: items of a batch of one process; the `DataLoader` must take as many.
        style_dropout: share of sequences without their style token.
        buffer: windows among which the next one is drawn.
        rank, ranks: number of this process, and how many there are: batch i of the stream goes to process `i % ranks`.
        begin: number of the first item, a multiple of `batch * ranks`; those before it are passed over uncut.

    Raises:
        MgenError: Shards are missing or damaged, or there is no piece.
        ValueError: `length` or `begin` is not a multiple of `batch * ranks`.
    """

    corpus: Corpus
    context: int
    length: int
    batch: int
    seed: int = 0
    transpose: bool = True
    style_dropout: float = 0.1
    buffer: int = BUFFER
    rank: int = 0
    ranks: int = 1
    begin: int = 0

    def __post_init__(self) -> None:
        for name, value in (("length", self.length), ("begin", self.begin)):
            if value % self.dealt:
                raise ValueError(
                    f"{name} ({value}) must be a multiple of batch ({self.batch}) times ranks ({self.ranks})"
                )
        if not self.epoch_length:
            raise MgenError(f"{self.corpus.folder}: no pieces in {SPLIT}; add music and prepare again")
        _check(self.shards, self.n_pieces)

    @property
    def dealt(self) -> int:
        """Items of a batch of every process."""
        return self.batch * self.ranks

    @property
    def shards(self) -> list[Path]:
        return _shards(self.corpus, SPLIT)

    @cached_property
    def _counted(self) -> tuple[int, int]:
        path = self.corpus.folder / PIECES
        pieces = windows = 0
        try:
            for rows in pq.ParquetFile(path).iter_batches(columns=["split", "n_tokens"]):
                n_tokens = rows.filter(pc.equal(rows["split"], SPLIT))["n_tokens"].to_numpy()
                pieces += len(n_tokens)
                windows += int(window_counts(n_tokens, self.context).sum())
        except (OSError, pa.ArrowInvalid) as error:
            raise MgenError(f"{path}: cannot be read ({error}); prepare it again") from error
        return pieces, windows

    @property
    def n_pieces(self) -> int:
        return self._counted[0]

    @property
    def epoch_length(self) -> int:
        """Windows of an epoch, of all processes."""
        return self._counted[1]

    def __len__(self) -> int:
        return self.length // self.ranks

    def __iter__(self) -> Iterator[dict[str, NDArray[np.int64]]]:
        worker = get_worker_info()
        workers, own = (worker.num_workers, worker.id) if worker else (1, 0)
        for index, window in islice(self._windows(), self.begin % self.epoch_length, None):
            if index >= self.length:
                return
            # A DataLoader takes its batches from the workers in turn.
            turn, place = divmod(index - self.begin, self.dealt)
            if turn % workers != own or place // self.batch != self.rank:
                continue
            ids = training_sequence(
                window.piece,
                window.number,
                window.style_id,
                self.corpus.remi,
                self.context,
                item_rng(self.seed, index),
                transpose=self.transpose,
                style_dropout=self.style_dropout,
            )
            yield {"input_ids": ids, "index": np.array(index)}

    def _windows(self) -> Iterator[tuple[int, Uncut]]:
        """All windows with their numbers, from the first one of the epoch in which `begin` lies, without an end."""
        for epoch in count(self.begin // self.epoch_length):
            # Above the keys of the items, and those of Windows' epochs.
            rng = np.random.Generator(np.random.Philox(key=[self.seed, epoch + (2 << 32)]))
            windows, n = self._in_order(rng), self.epoch_length
            yield from zip(range(epoch * n, (epoch + 1) * n), _shuffled(windows, self.buffer, rng), strict=True)

    def _in_order(self, rng: np.random.Generator) -> Iterator[Uncut]:
        shards = self.shards
        seen = 0
        for piece in _pieces([shards[i] for i in rng.permutation(len(shards))]):
            windows = int(window_counts(np.array(len(piece.ids)), self.context))
            seen += windows
            if seen > self.epoch_length:
                break
            for number in range(windows):
                yield Uncut(piece.ids, self.corpus.remi.style_ids[piece.style], number)
        if seen != self.epoch_length:
            raise MgenError(
                f"{self.corpus.folder / TOKENS}: other lengths in {SPLIT} than {PIECES} counts; prepare it again"
            )


def held_table(corpus: Corpus, split: str, n_tokens: int = HELD_TOKENS) -> TokenTable:
    """What `Corpus.table` reads of a split with up to `n_tokens` tokens; of a larger one so many, or a piece more.

    The pieces of a split lie in a random order over its shards: the first ones speak for all. `rows` has the columns
    piece and style.

    Raises:
        MgenError: A shard is missing or damaged.
    """
    found, held = [], 0
    for piece in _pieces(_shards(corpus, split)):
        found.append(piece)
        held += len(piece.ids)
        if held >= n_tokens:
            break
    found.sort(key=lambda piece: piece.number)
    offsets = np.cumsum([0, *(len(piece.ids) for piece in found)])
    ids = np.concatenate([np.empty(0, np.uint16), *(piece.ids for piece in found)])
    rows = pd.DataFrame({"piece": [piece.number for piece in found], "style": [piece.style for piece in found]})
    return TokenTable(ids, offsets, rows)


def _shards(corpus: Corpus, split: str) -> list[Path]:
    return [
        corpus.folder / TOKENS / str(entry["file"]) for entry in corpus.manifest["shards"] if entry["split"] == split
    ]


def _shuffled(windows: Iterator[Uncut], size: int, rng: np.random.Generator) -> Iterator[Uncut]:
    """Each window once: the next one is drawn among `size` that wait."""
    waiting = list(islice(windows, size))
    while drawn := list(islice(windows, ROWS)):
        for place, window in zip(rng.integers(len(waiting), size=len(drawn)).tolist(), drawn, strict=True):
            yield waiting[place]
            waiting[place] = window
    for place in rng.permutation(len(waiting)).tolist():
        yield waiting[place]


def _pieces(shards: list[Path]) -> Iterator[Piece]:
    """The pieces in the order of the shards.

    Raises:
        MgenError: A shard cannot be read.
    """
    if not shards:
        return
    files = [glob.escape(str(path.absolute())) for path in shards]  # they are read as patterns
    try:
        with TemporaryDirectory() as aside:  # a lock file of no further use would stay in the user's cache
            stream = load_dataset("parquet", data_files=files, split="train", streaming=True, cache_dir=aside)
        for rows in stream.with_format("arrow").iter(batch_size=ROWS):
            yield from _rows(rows)
    except (OSError, ValueError) as error:  # what pyarrow raises is one of these
        first = str(error).strip().splitlines()[:1]
        raise MgenError(f"{shards[0].parent}: a shard cannot be read ({''.join(first)}); prepare it again") from error


def _rows(rows: pa.Table) -> Iterator[Piece]:
    ids = rows["ids"].combine_chunks()
    pieces = np.split(ids.flatten().to_numpy(), np.cumsum(pc.list_value_length(ids).to_numpy())[:-1])
    for number, style, piece in zip(rows["piece"].to_pylist(), rows["style"].to_pylist(), pieces, strict=True):
        # A copy, for a view would hold the row group as long as one of its pieces waits.
        yield Piece(number, style, piece.copy())


def _check(shards: list[Path], n_pieces: int) -> None:
    """Look at the ends of all files before the first step, not hours later.

    Raises:
        MgenError: A shard is missing, cut off or of other columns, or all of them have not `n_pieces` rows.
    """
    found = 0
    for path in shards:
        try:
            with pq.ParquetFile(path) as file:
                found += file.metadata.num_rows
                if not file.schema_arrow.equals(SCHEMA):
                    raise MgenError(
                        f"{path}: expected the columns {', '.join(SCHEMA.names)}, found "
                        f"{', '.join(file.schema_arrow.names)}; prepare it again"
                    )
        except (OSError, pa.ArrowInvalid) as error:
            raise MgenError(f"{path}: cannot be read ({error}); prepare it again") from error
    if found != n_pieces:
        raise MgenError(
            f"{shards[0].parent if shards else TOKENS}: {SPLIT} has {found} pieces, {PIECES} counts {n_pieces}; "
            "prepare it again"
        )
