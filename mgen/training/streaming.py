"""Training windows of a corpus that does not fit into memory: its shards are read one by one, a row group at a time.

Windows are defined in `mgen.corpus.windows`; this module orders them and distributes them to processes and workers.
`Corpus.pieces` and `Corpus.table`, which load a whole split, are not used.
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

from mgen.corpus.repetition import PseudoRepetitions
from mgen.corpus.shards import PIECES, SCHEMA, TOKENS, Corpus, TokenTable
from mgen.corpus.windows import item_rng, training_item, training_sequence, window_counts
from mgen.errors import MgenError

BUFFER = 1 << 14  # windows in the shuffle buffer: 25 to 60 MB at a context of 512, more if pieces are long
ROWS = 256  # pieces read from the stream, and windows added to the buffer, at a time
EVALUATION_TOKENS = 1 << 24  # tokens of a split that evaluation keeps in memory: 32 MB
SPLIT = "train"


class StreamedPiece(NamedTuple):
    """A row of a shard."""

    number: int  # in pieces.parquet
    style: str
    ids: NDArray[np.uint16]  # (L,)


class WindowPlace(NamedTuple):
    """A window in the buffer, not yet cut: the windows of a piece share its ids."""

    piece: NDArray[np.uint16]  # (L,)
    style_id: int
    number: int  # of the window in its piece


@dataclass(frozen=True)
class StreamedWindows(IterableDataset[dict[str, NDArray[np.int64]]]):
    """Training sequences as `Windows` makes them, streamed from the split `train` in the order of training.

    An epoch reads every piece once: the shards in random order, their windows through a shuffle buffer. Item i depends
    on `seed`, `buffer` and i alone, not on the number of workers or the start of the stream, so a resumed run reads the
    same items as an uninterrupted one. Only the buffer and a row group are in memory.

    Attributes:
        length: number of items of all epochs and processes; a multiple of `batch * ranks`.
        batch: items in a batch of one process; the batch size of the `DataLoader`.
        style_dropout: share of sequences without their style token.
        repetitions: items that repeat their bars instead of going on; None: no item does.
        buffer: size of the shuffle buffer, in windows.
        rank, ranks: number of this process and of all processes: batch i of the stream goes to process `i % ranks`.
        begin: number of the first item, a multiple of `batch * ranks`; earlier ones are skipped without being cut.

    Raises:
        MgenError: Shards are missing or damaged, or the split has no piece.
        ValueError: `length` or `begin` is not a multiple of `batch * ranks`.
    """

    corpus: Corpus
    context: int
    length: int
    batch: int
    seed: int = 0
    transpose: bool = True
    style_dropout: float = 0.1
    repetitions: PseudoRepetitions | None = None
    buffer: int = BUFFER
    rank: int = 0
    ranks: int = 1
    begin: int = 0

    def __post_init__(self) -> None:
        for name, value in (("length", self.length), ("begin", self.begin)):
            if value % self.global_batch:
                raise ValueError(
                    f"{name} ({value}) must be a multiple of batch ({self.batch}) times ranks ({self.ranks})"
                )
        if not self.epoch_length:
            raise MgenError(f"{self.corpus.folder}: no pieces in {SPLIT}; add music and prepare again")
        _check(self.shards, self.n_pieces)

    @property
    def global_batch(self) -> int:
        """Items in a batch of all processes together."""
        return self.batch * self.ranks

    @property
    def shards(self) -> list[Path]:
        return _shards(self.corpus, SPLIT)

    @cached_property
    def _counts(self) -> tuple[int, int]:
        path = self.corpus.folder / PIECES
        pieces = windows = 0
        try:
            for rows in pq.ParquetFile(path).iter_batches(columns=["split", "n_tokens"]):
                n_tokens = rows.filter(pc.equal(rows["split"], SPLIT))["n_tokens"].to_numpy()
                pieces += len(n_tokens)
                windows += int(window_counts(n_tokens, self.context, self.corpus.remi).sum())
        except (OSError, pa.ArrowInvalid) as error:
            raise MgenError(f"{path}: cannot be read ({error}); prepare it again") from error
        return pieces, windows

    @property
    def n_pieces(self) -> int:
        return self._counts[0]

    @property
    def epoch_length(self) -> int:
        """Windows in an epoch, over all processes."""
        return self._counts[1]

    def __len__(self) -> int:
        return self.length // self.ranks

    def __iter__(self) -> Iterator[dict[str, NDArray[np.int64]]]:
        worker = get_worker_info()
        workers, own = (worker.num_workers, worker.id) if worker else (1, 0)
        for index, window in islice(self._windows(), self.begin % self.epoch_length, None):
            if index >= self.length:
                return
            # A DataLoader takes batches from its workers in turn.
            turn, place = divmod(index - self.begin, self.global_batch)
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
                repeated_bars=self.repetitions.bars_of(index) if self.repetitions else 0,
            )
            yield training_item(ids, index, self.corpus.remi, self.repetitions)

    def _windows(self) -> Iterator[tuple[int, WindowPlace]]:
        """Yields numbered windows without end, from the start of the epoch that contains `begin`."""
        for epoch in count(self.begin // self.epoch_length):
            # Disjoint from the keys of the items and of the epochs of `Windows`.
            rng = np.random.Generator(np.random.Philox(key=[self.seed, epoch + (2 << 32)]))
            windows, n = self._in_order(rng), self.epoch_length
            yield from zip(range(epoch * n, (epoch + 1) * n), _shuffle(windows, self.buffer, rng), strict=True)

    def _in_order(self, rng: np.random.Generator) -> Iterator[WindowPlace]:
        shards = self.shards
        seen = 0
        for piece in _pieces([shards[i] for i in rng.permutation(len(shards))]):
            windows = int(window_counts(np.array(len(piece.ids)), self.context, self.corpus.remi))
            seen += windows
            if seen > self.epoch_length:
                break
            for number in range(windows):
                yield WindowPlace(piece.ids, self.corpus.remi.style_ids[piece.style], number)
        if seen != self.epoch_length:
            raise MgenError(f"{self.corpus.folder / TOKENS}: lengths in {SPLIT} differ from {PIECES}; prepare it again")


def evaluation_table(corpus: Corpus, split: str, n_tokens: int = EVALUATION_TOKENS) -> TokenTable:
    """Reads the first pieces of a split, up to about `n_tokens` tokens (the last piece is read completely).

    The pieces of a split are in random order over its shards, so the first ones are a random sample. Of a split with
    fewer tokens, the table equals `Corpus.table`, except that `rows` has only the columns piece and style.

    Raises:
        MgenError: A shard is missing or damaged.
    """
    pieces, read = [], 0
    for piece in _pieces(_shards(corpus, split)):
        pieces.append(piece)
        read += len(piece.ids)
        if read >= n_tokens:
            break
    pieces.sort(key=lambda piece: piece.number)
    offsets = np.cumsum([0, *(len(piece.ids) for piece in pieces)])
    ids = np.concatenate([np.empty(0, np.uint16), *(piece.ids for piece in pieces)])
    rows = pd.DataFrame({"piece": [piece.number for piece in pieces], "style": [piece.style for piece in pieces]})
    return TokenTable(ids, offsets, rows)


def _shards(corpus: Corpus, split: str) -> list[Path]:
    return [
        corpus.folder / TOKENS / str(entry["file"]) for entry in corpus.manifest["shards"] if entry["split"] == split
    ]


def _shuffle(windows: Iterator[WindowPlace], size: int, rng: np.random.Generator) -> Iterator[WindowPlace]:
    """Yields each window once, drawn from a buffer of `size`."""
    buffer = list(islice(windows, size))
    while drawn := list(islice(windows, ROWS)):
        for place, window in zip(rng.integers(len(buffer), size=len(drawn)).tolist(), drawn, strict=True):
            yield buffer[place]
            buffer[place] = window
    for place in rng.permutation(len(buffer)).tolist():
        yield buffer[place]


def _pieces(shards: list[Path]) -> Iterator[StreamedPiece]:
    """Yields the pieces in the order of the shards.

    Raises:
        MgenError: A shard cannot be read.
    """
    if not shards:
        return
    files = [glob.escape(str(path.absolute())) for path in shards]  # load_dataset reads patterns
    try:
        with TemporaryDirectory() as cache:  # or a lock file would stay in the user's cache
            stream = load_dataset("parquet", data_files=files, split="train", streaming=True, cache_dir=cache)
        for rows in stream.with_format("arrow").iter(batch_size=ROWS):
            yield from _rows(rows)
    except (OSError, ValueError) as error:  # pyarrow's errors are one of these
        first = str(error).strip().splitlines()[:1]
        raise MgenError(f"{shards[0].parent}: a shard cannot be read ({''.join(first)}); prepare it again") from error


def _rows(rows: pa.Table) -> Iterator[StreamedPiece]:
    ids = rows["ids"].combine_chunks()
    pieces = np.split(ids.flatten().to_numpy(), np.cumsum(pc.list_value_length(ids).to_numpy())[:-1])
    for number, style, piece in zip(rows["piece"].to_pylist(), rows["style"].to_pylist(), pieces, strict=True):
        # A copy: a view would keep the row group in memory as long as one of its pieces is in the buffer.
        yield StreamedPiece(number, style, piece.copy())


def _check(shards: list[Path], n_pieces: int) -> None:
    """Checks the footers of all shards before training.

    Raises:
        MgenError: A shard is missing, truncated or has other columns, or the shards do not have `n_pieces` rows.
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
