"""Tab events of a corpus on disk: a `.npy` of (T, 4) per chunk, and the same in one Parquet file per split."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mgen.corpus.journal import Journal
from mgen.corpus.split import SPLITS

TAB_EVENTS = "tab_events"
GROUP_EVENTS = 1 << 18  # events per row group, approximately

SCHEMA = pa.schema(
    [
        ("piece", pa.int32()),
        *((name, pa.string()) for name in ("instrument", "song")),
        *((name, pa.int32()) for name in ("track", "chunk")),
        ("events", pa.list_(pa.list_(pa.uint8(), 4))),
    ]
)


def write_tab_events(pieces: pd.DataFrame, journal: Journal, folder: Path) -> None:
    """Writes `folder/<instrument>/<song>/<track>/<chunk>.npy` and `folder/<split>.parquet`.

    Args:
        pieces: rows of pieces.parquet, with the location of their arrays in the journal. A hash of the path
            distinguishes songs with the same name.
    """
    folder.mkdir(parents=True)
    for split in SPLITS:
        own = pieces[pieces["split"] == split]
        with pq.ParquetWriter(folder / f"{split}.parquet", SCHEMA, compression="zstd") as writer:
            held: list[tuple[int, NDArray[np.uint8]]] = []
            for position, arrays in journal.arrays(own, ["events"]):
                events = arrays["events"].reshape(-1, 4)
                row = own.iloc[position]
                place = folder / _slug(row["instrument"]) / song_folder(row["song"], row["path"]) / str(row["track"])
                place.mkdir(parents=True, exist_ok=True)
                np.save(place / f"{row['chunk']}.npy", events)
                held.append((position, events))
                if sum(len(table) for _, table in held) >= GROUP_EVENTS:
                    writer.write_table(_table(own, held))
                    held = []
            writer.write_table(_table(own, held))


def _table(pieces: pd.DataFrame, held: list[tuple[int, NDArray[np.uint8]]]) -> pa.Table:
    rows = pieces.iloc[[position for position, _ in held]]
    offsets = np.cumsum([0] + [len(events) for _, events in held]).astype(np.int32)
    values = np.concatenate([np.zeros((0, 4), np.uint8), *(events for _, events in held)])
    events = pa.ListArray.from_arrays(pa.array(offsets), pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), 4))
    columns = [pa.array(rows.index.to_numpy(np.int32))]
    columns += [pa.array(rows[name].tolist(), SCHEMA.field(name).type) for name in SCHEMA.names[1:-1]]
    return pa.Table.from_arrays([*columns, events.cast(SCHEMA.field("events").type)], schema=SCHEMA)


def song_folder(song: str, path: str) -> str:
    """Folder name of a song: its name and a hash of the file's path."""
    return f"{_slug(song)}-{hashlib.sha256(path.encode()).hexdigest()[:12]}"


def _slug(name: str) -> str:
    return re.sub(r"[^\w\-]+", "_", name).strip("_")[:80] or "_"
