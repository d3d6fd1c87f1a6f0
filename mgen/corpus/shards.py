"""A corpus on disk: `corpus.json`, `pieces.parquet`, `tokens/<split>-00000.parquet`, `rejected.csv`, `tokenizer/`.

Shards hold base tokens, which are transposed before they are merged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mgen.arrays import ranges
from mgen.corpus.split import SPLITS
from mgen.encoding.remi import Remi
from mgen.errors import MgenError
from mgen.stored import explain_damage, read_json

VERSION = 2
MANIFEST = "corpus.json"
PIECES = "pieces.parquet"
TOKENS = "tokens"
TOKENIZER = "tokenizer"
REJECTED = "rejected.csv"
GIVEN = "given_tokens"  # column of corpora of pairs: base tokens of the part that prompts consist of
REMEDY = "prepare it again"

GROUP_TOKENS = 1 << 20  # tokens per row group, which a writer holds in memory
SHARD_TOKENS = 1 << 24  # tokens per file; one file is sorted in memory
IDS = pa.list_(pa.uint16())
SCHEMA = pa.schema([("piece", pa.int32()), ("style", pa.string()), ("ids", IDS)])


@dataclass(frozen=True, slots=True, eq=False)
class TokenTable:
    """The tokens of P pieces, L in all, without BOS, EOS and style tokens: base tokens, unless stated otherwise.

    `table[i]` is the ids of piece i, a view.
    """

    ids: NDArray[np.uint16]  # (L,)
    offsets: NDArray[np.int64]  # (P + 1,) start of each piece; the last entry is L
    rows: pd.DataFrame  # P rows of pieces.parquet; `piece` is their row number

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
        """Opens a corpus without reading its tokens.

        Raises:
            MgenError: The folder is no corpus, is of another version, or has another tokenizer than that it was
                written with.
        """
        folder = Path(folder)
        path = folder / MANIFEST
        if not path.is_file():
            raise MgenError(f"{folder}: expected a corpus, found no {MANIFEST}; write one with mgen prepare")
        manifest = read_json(path, REMEDY)
        with explain_damage(path, REMEDY):
            version = manifest["version"]
            if version != VERSION:
                raise MgenError(f"{path}: is of version {version}, this mgen reads {VERSION}; {REMEDY}")
            tokenizer, fingerprint = manifest["tokenizer"], manifest["fingerprint"]
            files = [shard["file"] for shard in manifest["shards"] if shard["split"] in SPLITS]
            if not isinstance(fingerprint, str) or any(Path(file).name != file for file in files):
                raise ValueError("fingerprint is no text, or a shard not a file of tokens/")
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

    @property
    def has_given(self) -> bool:
        """Whether each piece has a given part, which is its prompt (`mgen.corpus.pair_corpus`)."""
        return GIVEN in self.pieces

    @cached_property
    def pieces(self) -> pd.DataFrame:
        """One row per piece, sorted by file; `mgen.corpus.prepare` documents the columns."""
        with explain_damage(self.folder / PIECES, REMEDY):
            pieces = pd.read_parquet(self.folder / PIECES)
            whole = pieces["split"].isin(SPLITS) & pieces["style"].notna() & (pieces["n_tokens"] >= 0)
            if not whole.all():
                raise ValueError("a piece has no split, style or number of tokens")
            return pieces

    def table(self, split: str, style: str | None = None) -> TokenTable:
        """Reads the base tokens of a split, of all styles or of one.

        Raises:
            MgenError: The split or style does not exist, or shards are missing or damaged.
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
        with explain_damage(self.folder / PIECES, REMEDY):
            ids = np.empty(int(offsets[-1]), np.uint16)
        begins = np.full(len(self.pieces), -1, np.int64)
        begins[rows["piece"]] = offsets[:-1]
        sizes = self.pieces["n_tokens"].to_numpy(np.int64)
        read = 0
        for path, batch in self.token_batches([split]):
            found = batch["piece"].to_numpy()
            length = pc.list_value_length(batch["ids"]).to_numpy(zero_copy_only=False)
            known = (found >= 0) & (found < len(sizes))
            if not known.all() or not np.array_equal(length, sizes[found]):
                raise MgenError(f"{path}: lengths differ from what {PIECES} counts; prepare it again")
            own = begins[found] >= 0
            values = batch["ids"].flatten().to_numpy()[np.repeat(own, length)]
            if values.max(initial=0) >= self.remi.base_size:
                raise MgenError(f"{path}: has tokens that are not in the vocabulary; prepare it again")
            into, _ = ranges(begins[found[own]], begins[found[own]] + length[own])
            ids[into] = values
            read += len(values)
        if read != len(ids):
            raise MgenError(
                f"{self.folder / TOKENS}: {split} has {read} tokens, {PIECES} counts {len(ids)}; prepare it again"
            )
        return TokenTable(ids, offsets, rows)

    def merged_table(self, split: str, style: str | None = None) -> TokenTable:
        """As `table`, but in tokens of the vocabulary with its merges, as a policy reads untransposed music."""
        if not self.remi.merges:
            return self.table(split, style)
        if (split, style) not in self._merged:
            table = self.table(split, style)
            rows = [self.remi.merge(table[piece]).astype(np.uint16) for piece in range(len(table))]
            offsets = np.cumsum([0, *map(len, rows)])
            self._merged[split, style] = TokenTable(np.concatenate([table.ids[:0], *rows]), offsets, table.rows)
        return self._merged[split, style]

    def given_sizes(self, table: TokenTable) -> NDArray[np.int64]:
        """(P,) tokens of the given part of each piece of a `merged_table` of a corpus of pairs."""
        base = table.rows[GIVEN].to_numpy(np.int64)
        if not self.remi.merges:
            return base
        # A token belongs to the given part if its base tokens end in it: no merge reaches over the start of a word.
        ends = np.cumsum(self.remi.base_in[table.ids])
        owner = np.repeat(np.arange(len(table)), np.diff(table.offsets))
        begins = np.append(0, ends)[table.offsets[:-1]]
        found: NDArray[np.int64] = np.bincount(owner[ends - begins[owner] <= base[owner]], minlength=len(table))
        return found

    @cached_property
    def _merged(self) -> dict[tuple[str, str | None], TokenTable]:
        """Merged tables that were asked for: prompts are drawn from one many times."""
        return {}

    def token_batches(self, splits: Sequence[str], size: int = 1 << 16) -> Iterator[tuple[Path, pa.RecordBatch]]:
        """Yields the path and at most `size` rows of the shards of the splits; `MgenError` for a damaged shard."""
        for shard in self.manifest["shards"]:
            if shard["split"] in splits:
                path = self.folder / TOKENS / str(shard["file"])
                with explain_damage(path, REMEDY):
                    shard_file = pq.ParquetFile(path)
                    piece, ids = (shard_file.schema_arrow.field(name).type for name in ("piece", "ids"))
                    if not pa.types.is_list(ids) or not all(map(pa.types.is_integer, (piece, ids.value_type))):
                        raise ValueError(f"expected integers and lists of them, found {piece} and {ids}")
                    for batch in shard_file.iter_batches(size):
                        yield path, batch


class GroupWriter:
    """Writes rows with token ids to one Parquet file, a row group at a time, to bound memory."""

    def __init__(self, path: Path, schema: pa.Schema, group_tokens: int | None = None) -> None:
        self.schema = schema
        self._group_tokens = group_tokens or GROUP_TOKENS
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
        if self._held >= self._group_tokens or len(self._ids) >= 1 << 14:
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

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is None:
            self.flush()
        self._writer.close()


class ShardWriter:
    """Writes the token shards of all splits, each split in a fixed random order, so that a sequential reader gets
    shuffled music.

    Pieces may be written in any order: each goes to a temporary file of its shard; shards are sorted at the end, one
    in memory at a time.

    Args:
        folder: created here.
        split, style, n_tokens: (P,) of each piece.
    """

    def __init__(
        self, folder: Path, split: NDArray[np.str_], style: NDArray[np.str_], n_tokens: NDArray[np.int64]
    ) -> None:
        self.folder = folder
        self.shards: list[dict[str, str | int]] = []
        self._split, self._style = split, style
        self._rank = np.random.default_rng(0).permutation(len(split))
        self._shard = np.zeros(len(split), np.int64)  # of its split
        for name in SPLITS:
            own = np.flatnonzero(split == name)
            own = own[np.argsort(self._rank[own])]
            begins = np.cumsum(n_tokens[own]) - n_tokens[own]
            self._shard[own] = begins // SHARD_TOKENS
        self._open: dict[str, GroupWriter] = {}
        folder.mkdir(parents=True)

    def write(self, piece: int, ids: NDArray[np.uint16]) -> None:
        name = f"{self._split[piece]}-{self._shard[piece]:05d}.parquet"
        if name not in self._open:
            # Many are open at a time, so each has a small buffer.
            self._open[name] = GroupWriter(self.folder / f"{name}.part", SCHEMA, GROUP_TOKENS // 16)
        self._open[name].write({"piece": piece, "style": str(self._style[piece])}, ids)

    def _sort_shard(self, name: str) -> None:
        aside = self.folder / f"{name}.part"
        table = pq.read_table(aside)
        pieces = table["piece"].to_numpy()
        order = np.argsort(self._rank[pieces])
        starts = np.concatenate([[0], np.cumsum(pc.list_value_length(table["ids"]).to_numpy())])
        ids = pc.list_flatten(table["ids"]).to_numpy()
        with GroupWriter(self.folder / name, SCHEMA) as writer:
            for row in order.tolist():
                piece = int(pieces[row])
                labels = {"piece": piece, "style": str(self._style[piece])}
                writer.write(labels, ids[starts[row] : starts[row + 1]])
        aside.unlink()
        self.shards.append({"file": name, "split": name.split("-")[0], "tokens": writer.n_tokens})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        for writer in self._open.values():
            writer.__exit__(kind, error, trace)
        if error is None:
            for name in sorted(self._open, key=lambda name: (SPLITS.index(name.split("-")[0]), name)):
                self._sort_shard(name)
