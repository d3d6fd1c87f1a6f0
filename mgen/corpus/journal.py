"""The journal of a corpus: the result of reading each file, so that no file is read twice.

A folder of Parquet parts. Each is written to a temporary file, flushed and renamed, so a killed run loses only what it
read since its last part, a few seconds of work. A part has one row per piece, or one row for a file without pieces.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mgen.corpus.reading import FileFacts, Piece, Reading
from mgen.corpus.scan import Source
from mgen.corpus.workers import Failure
from mgen.errors import MgenError
from mgen.formats.archives import split_path

PART_SECONDS = 3.0
PART_TOKENS = 1 << 22
PART_ROWS = 1 << 12
"""Limits at which the buffered rows are written as a part."""

_TYPES = {"str": pa.string(), "int": pa.int32(), "float": pa.float32(), "bool": pa.bool_()}
_PLAIN = [field for field in fields(Piece) if str(field.type) in _TYPES]
COLUMNS = [field.name for field in _PLAIN] + [field.name for field in fields(FileFacts)]
"""Columns of a piece, without its arrays."""

COUNTS = ("notes", "parts", "repairs")  # counts of a file, see `Reading`

ARRAYS = {
    "ids": pa.list_(pa.uint16()),
    "shingles": pa.list_(pa.uint32()),
    "signature": pa.list_(pa.uint32()),
    "events": pa.list_(pa.uint8()),
}

_FILE = pa.schema(
    [
        ("path", pa.string()),
        ("size", pa.int64()),
        ("modified", pa.int64()),
        ("number", pa.int32()),  # of the piece in its file; -1: a file without pieces
        ("reason", pa.string()),
        ("detail", pa.string()),
        *((name, pa.string()) for name in COUNTS),  # as JSON, with the file's first row
    ]
)
SCHEMA = pa.schema(
    [
        *_FILE,
        *((field.name, _TYPES[str(field.type)]) for field in (*_PLAIN, *fields(FileFacts))),
        ("n_shingles", pa.int32()),
        *ARRAYS.items(),
    ]
)

Stamp = tuple[int, int]

RETRY_REASONS = frozenset({"timeout", "out of memory", "worker died", "internal error", "unreadable", "not installed"})
"""Reasons that may be the fault of the machine or of mgen: such a file is read again by the next run."""


def file_stamp(file: Path) -> Stamp:
    """Size and modification time, of a file in an archive those of the archive; (-1, -1) for a missing file."""
    try:
        status = os.stat(file)
    except OSError:
        place = split_path(file)
        return file_stamp(place[0]) if place else (-1, -1)
    return status.st_size, status.st_mtime_ns


class Journal:
    """The journal in `folder` for one set of rules; each set of rules has its own subfolder.

    Args:
        folder: created if missing.
        rules: fingerprint of the rules.

    Attributes:
        parts: the parts, oldest first.
    """

    def __init__(self, folder: Path, rules: str) -> None:
        self.folder = folder / rules
        self.folder.mkdir(parents=True, exist_ok=True)
        for left_over in self.folder.glob("*.part"):
            left_over.unlink()
        self.parts = _parts(self.folder)
        self._clear()

    def link_parts(self, folder: Path) -> None:
        """Takes over the parts of another journal, by hard links where possible."""
        for path in _parts(folder / self.folder.name):
            own = self.folder / path.name
            if not own.exists():
                try:
                    os.link(path, own)
                except OSError:
                    own.write_bytes(path.read_bytes())
                self.parts.append(own)
        self.parts.sort()

    def delete_other_rules(self) -> None:
        """Deletes the parts of all other rules, once the corpus is complete."""
        for other in self.folder.parent.iterdir():
            if other != self.folder:
                shutil.rmtree(other, ignore_errors=True)

    def _clear(self) -> None:
        self._rows: list[dict[str, Any]] = []
        self._tokens = 0
        self._since = time.monotonic()

    def write(self, source: Source, stamp: Stamp, outcome: Reading | Failure) -> None:
        """Adds the result of a file; it is safe once its part is written."""
        if isinstance(outcome, Failure):
            outcome = Reading(reason=outcome.reason, detail=outcome.detail)
        head = {"path": source.path, "size": stamp[0], "modified": stamp[1]}
        counts = {name: json.dumps(getattr(outcome, name)) for name in COUNTS}
        if not outcome.pieces:
            self._rows.append({**head, **counts, "number": -1, "reason": outcome.reason, "detail": outcome.detail})
        for number, piece in enumerate(outcome.pieces):
            arrays = {name: getattr(piece, name).ravel() for name in ARRAYS}
            plain = {field.name: getattr(piece, field.name) for field in _PLAIN}
            plain["n_shingles"] = len(piece.shingles)
            self._rows.append({**head, **counts, "number": number, **plain, **asdict(piece.facts), **arrays})
            self._tokens += len(piece.ids)
            counts = dict.fromkeys(COUNTS, "")  # counts per file are in its first row
        waited = time.monotonic() - self._since > PART_SECONDS
        if waited or self._tokens >= PART_TOKENS or len(self._rows) >= PART_ROWS:
            self.flush()

    def flush(self) -> None:
        if not self._rows:
            self._clear()
            return
        columns = [_column([row.get(field.name) for row in self._rows], field.type) for field in SCHEMA]
        last = int(self.parts[-1].stem) if self.parts else 0
        path = self.folder / f"{max(time.time_ns(), last + 1):020d}.parquet"  # the clock may have been set back
        aside = path.with_suffix(".part")
        with aside.open("wb") as file:
            pq.write_table(pa.Table.from_arrays(columns, schema=SCHEMA), file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())
        aside.rename(path)
        self.parts.append(path)
        self._clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()  # also after an error: keep what was read

    def known(self) -> set[tuple[str, Stamp]]:
        """Path and stamp of each file read, except files with one of `RETRY_REASONS`."""
        seen: set[tuple[str, Stamp]] = set()
        for part in self.parts:
            table = _read(part, ["path", "size", "modified", "reason"])
            rows = zip(*(table[name].to_pylist() for name in table.column_names), strict=True)
            seen.update(
                (path, (size, modified)) for path, size, modified, reason in rows if reason not in RETRY_REASONS
            )
        return seen

    def rows(self, sources: Sequence[Source], stamps: Sequence[Stamp]) -> pd.DataFrame:
        """Rows of the files of `sources`, their pieces in order.

        Returns:
            All columns but the arrays, and `source` (index in `sources`), `part` and `row` (location of the arrays).
            The last reading of a file counts, and one with one of `RETRY_REASONS` only without another; readings of a
            changed file, and files not in `sources`, are left out.
        """
        place = pd.DataFrame(
            {
                "path": [source.path for source in sources],
                "size": [size for size, _ in stamps],
                "modified": [modified for _, modified in stamps],
                "source": np.arange(len(sources), dtype=np.int32),
            }
        )
        names = [name for name in SCHEMA.names if name not in ARRAYS]
        frames = [_read(part, names).to_pandas() for part in self.parts]
        for number, frame in enumerate(frames):
            frame["part"], frame["row"] = np.int32(number), np.arange(len(frame), dtype=np.int32)
        if not frames:
            raise MgenError(f"{self.folder}: nothing was read")
        together = pd.concat(frames, ignore_index=True).merge(place, on=["path", "size", "modified"])
        rank = together["part"] + len(frames) * ~together["reason"].isin(RETRY_REASONS)
        last = rank.groupby(together["source"]).transform("max") == rank
        in_order: pd.DataFrame = together[last].sort_values(["source", "number"], ignore_index=True)
        return in_order

    def arrays(self, rows: pd.DataFrame, columns: Collection[str]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Arrays of the pieces in `rows`, one part of the journal at a time, so not in order.

        Yields:
            The position in `rows`, and the arrays by name.
        """
        part, row = rows["part"].to_numpy(), rows["row"].to_numpy()
        for number in np.unique(part).tolist():
            table = _read(self.parts[number], list(columns))
            whole = {name: table[name].combine_chunks() for name in columns}
            for position in np.flatnonzero(part == number).tolist():
                yield position, {name: _value(column, int(row[position])) for name, column in whole.items()}


def cast_to_schema(pieces: pd.DataFrame) -> pd.DataFrame:
    """Casts each column to its type in `SCHEMA`: rows without a piece have made floats of integers."""
    types = {pa.int32(): np.int32, pa.float32(): np.float32, pa.bool_(): bool}
    wanted = {name: types[SCHEMA.field(name).type] for name in COLUMNS if SCHEMA.field(name).type in types}
    typed: pd.DataFrame = pieces.astype(wanted)
    return typed


def _parts(folder: Path) -> list[Path]:
    """The parts in a folder, oldest first."""
    return sorted(path for path in folder.glob("*.parquet") if path.stem.isdecimal() and _is_complete(path))


def _is_complete(path: Path) -> bool:
    """Whether a part has the schema of this journal, by its footer."""
    try:
        return bool(pq.read_schema(path).names == SCHEMA.names)
    except (OSError, pa.ArrowInvalid):
        return False


def _read(part: Path, columns: list[str]) -> pa.Table:
    try:
        return pq.read_table(part, columns=columns)
    except (OSError, pa.ArrowInvalid) as error:
        why = " ".join(str(error).split())
        raise MgenError(f"{part}: a damaged part of the journal ({why}); delete it and give --resume") from error


def _column(values: list[Any], kind: pa.DataType) -> pa.Array:
    if not pa.types.is_list(kind):
        return pa.array(values, kind)
    arrays = [np.zeros(0, kind.value_type.to_pandas_dtype()) if value is None else value for value in values]
    offsets = np.cumsum([0] + [len(array) for array in arrays]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.concatenate(arrays), kind.value_type))


def _value(column: Any, row: int) -> Any:
    # A view would keep the whole part in memory.
    return column[row].values.to_numpy().copy() if pa.types.is_list(column.type) else column[row].as_py()
