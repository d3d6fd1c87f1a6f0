"""A corpus on disk: `corpus.json`, `pieces.parquet`, `tokens/<split>-00000.parquet`, `rejected.csv`,
`tokenizer/`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mgen.corpus.split import SPLITS
from mgen.encoding.remi import Remi
from mgen.errors import MgenError

VERSION = 1
MANIFEST = "corpus.json"
PIECES = "pieces.parquet"
TOKENS = "tokens"
TOKENIZER = "tokenizer"
REJECTED = "rejected.csv"

GROUP_TOKENS = 1 << 20
"""Tokens in a row group: what a writer holds in memory."""

SHARD_TOKENS = 1 << 26
"""Tokens in a file, after which the next one begins."""

IDS = pa.list_(pa.uint16())
SCHEMA = pa.schema([("piece", pa.int32()), ("ids", IDS)])


@dataclass(frozen=True, slots=True, eq=False)
class TokenTable:
    """The tokens of P pieces, L in all, without BOS, EOS and style tokens.

    `table[i]` is the ids of piece i, a view.
    """

    ids: NDArray[np.uint16]  # (L,)
    offsets: NDArray[np.int64]  # (P + 1,) where each piece begins; the last entry is L
    rows: pd.DataFrame  # P rows of pieces.parquet; `piece` is their number there

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> NDArray[np.uint16]:
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        return self.ids[self.offsets[index] : self.offsets[index + 1]]


@dataclass(frozen=True)
class Corpus:
    """A corpus that `mgen prepare` wrote. Build with `Corpus.open`."""

    folder: Path
    manifest: dict[str, Any]
    remi: Remi

    @classmethod
    def open(cls, folder: Path | str) -> Corpus:
        """Open a corpus; its tokens are read when asked for.

        Raises:
            MgenError: The folder is no corpus, was written by another version, or its tokenizer is not the
                one it was written with.
        """
        folder = Path(folder)
        path = folder / MANIFEST
        if not path.is_file():
            raise MgenError(f"{folder}: expected a corpus, found no {MANIFEST}; write one with mgen prepare")
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
            version, tokenizer = manifest["version"], manifest["tokenizer"]
        except (json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError) as error:
            raise MgenError(f"{path}: not the manifest of a corpus ({error}); prepare it again") from error
        if version != VERSION:
            raise MgenError(f"{path}: is of version {version}, this mgen reads {VERSION}; prepare it again")
        remi = Remi.from_pretrained(folder / TOKENIZER)
        if remi.fingerprint != tokenizer:
            raise MgenError(
                f"{folder / TOKENIZER}: vocabulary {remi.fingerprint}, the corpus was written with "
                f"{tokenizer}; prepare it again"
            )
        return cls(folder, manifest, remi)

    @property
    def fingerprint(self) -> str:
        """A hash of the pieces' tokens, works, styles and splits."""
        return str(self.manifest["fingerprint"])

    @cached_property
    def pieces(self) -> pd.DataFrame:
        """A row a piece: path, style, collection, work, artist, split, on_grid, grid_strength, n_programs,
        n_notes, n_bars, n_tokens, dropped_notes (those whose pitch no token writes).
        """
        try:
            return pd.read_parquet(self.folder / PIECES)
        except (OSError, pa.ArrowInvalid) as error:
            raise MgenError(f"{self.folder / PIECES}: cannot be read ({error}); prepare it again") from error

    def table(self, split: str, style: str | None = None) -> TokenTable:
        """The tokens of a split, of all styles or of one; reads the split's shards only.

        Raises:
            MgenError: There is no such split or style, or shards are missing or damaged.
        """
        if split not in SPLITS:
            raise MgenError(f"split '{split}': expected one of {', '.join(SPLITS)}")
        if style is not None and style not in self.remi.style_ids:
            raise MgenError(f"style '{style}': the corpus has {', '.join(self.remi.style_ids)}")
        wanted = self.pieces["split"] == split
        if style is not None:
            wanted &= self.pieces["style"] == style
        rows = self.pieces[wanted].rename_axis("piece").reset_index()
        offsets = np.concatenate([[0], np.cumsum(rows["n_tokens"].to_numpy(np.int64))])
        ids = np.empty(int(offsets[-1]), np.uint16)
        read = 0
        for shard in [entry for entry in self.manifest["shards"] if entry["split"] == split]:
            path = self.folder / TOKENS / str(shard["file"])
            try:
                for batch in pq.ParquetFile(path).iter_batches():
                    values = (
                        batch.filter(pa.array(wanted.to_numpy()[batch["piece"].to_numpy()]))["ids"].flatten().to_numpy()
                    )
                    if read + len(values) > len(ids):
                        raise MgenError(f"{path}: more tokens than {PIECES} counts; prepare it again")
                    ids[read : read + len(values)] = values
                    read += len(values)
            except (OSError, pa.ArrowInvalid) as error:
                raise MgenError(f"{path}: cannot be read ({error}); prepare it again") from error
        if read != len(ids):
            raise MgenError(
                f"{self.folder / TOKENS}: {split} has {read} tokens, {PIECES} counts {len(ids)}; prepare it again"
            )
        return TokenTable(ids, offsets, rows)


class GroupWriter:
    """Writes rows that end in token ids to one Parquet file, a row group at a time, so that memory stays
    flat.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.schema = schema
        self.n_tokens = 0
        self._writer = pq.ParquetWriter(path, schema, compression="zstd")
        self._clear()

    def _clear(self) -> None:
        self._columns: dict[str, list[Any]] = {name: [] for name in self.schema.names if name != "ids"}
        self._ids: list[NDArray[np.uint16]] = []
        self._held = 0

    def write(self, row: dict[str, Any], ids: NDArray[np.uint16]) -> None:
        for name, column in self._columns.items():
            column.append(row[name])
        self._ids.append(ids)
        self._held += len(ids)
        self.n_tokens += len(ids)
        if self._held >= GROUP_TOKENS or len(self._ids) >= 1 << 14:
            self.flush()

    def flush(self) -> None:
        if not self._ids:
            return
        offsets = np.concatenate([[0], np.cumsum([len(ids) for ids in self._ids])]).astype(np.int32)
        ids = pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.concatenate(self._ids)))
        columns = [pa.array(self._columns[name], self.schema.field(name).type) for name in self._columns]
        self._writer.write_table(pa.Table.from_arrays([*columns, ids], schema=self.schema))
        self._clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.flush()
        self._writer.close()


class ShardWriter:
    """Writes the token shards of all splits, in the order of the pieces."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shards: list[dict[str, str | int]] = []
        self._open: dict[str, GroupWriter] = {}
        self._count: dict[str, int] = {}
        folder.mkdir(parents=True)

    def write(self, split: str, piece: int, ids: NDArray[np.uint16]) -> None:
        if split not in self._open:
            self._open[split] = GroupWriter(self.folder / self._name(split), SCHEMA)
        writer = self._open[split]
        writer.write({"piece": piece}, ids)
        if writer.n_tokens >= SHARD_TOKENS:
            self._finish(split)

    def _name(self, split: str) -> str:
        return f"{split}-{self._count.get(split, 0):05d}.parquet"

    def _finish(self, split: str) -> None:
        writer = self._open.pop(split)
        with writer:
            pass
        self.shards.append({"file": self._name(split), "split": split, "tokens": writer.n_tokens})
        self._count[split] = self._count.get(split, 0) + 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            for split in _in_order(self._open):
                self._finish(split)
        for writer in self._open.values():
            writer.__exit__(kind, error, trace)


def _in_order(splits: Sequence[str] | dict[str, GroupWriter]) -> list[str]:
    return [split for split in SPLITS if split in splits]
