"""Tab events of a corpus on disk: a `.npy` of (T, 4) for each chunk, and the same in one Parquet file a split."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mgen.corpus.journal import Journal
from mgen.corpus.split import SPLITS

TAB_EVENTS = "tab_events"
AT_ONCE = 1 << 12  # chunks in a row group

SCHEMA = pa.schema(
    [
        ("piece", pa.int32()),
        *((name, pa.string()) for name in ("instrument", "song")),
        *((name, pa.int32()) for name in ("track", "chunk")),
        ("events", pa.list_(pa.list_(pa.uint8(), 4))),
    ]
)


def write_tab_events(pieces: pd.DataFrame, journal: Journal, folder: Path) -> None:
    """Write `folder/<instrument>/<song>/<track>/<chunk>.npy` and `folder/<split>.parquet`.

    Args:
        pieces: rows of pieces.parquet, with the place of their arrays in the journal. Songs of one name in several
            files are told apart by a mark of their paths.
    """
    folder.mkdir(parents=True)
    for split in SPLITS:
        own = pieces[pieces["split"] == split]
        with pq.ParquetWriter(folder / f"{split}.parquet", SCHEMA, compression="zstd") as writer:
            rows: list[dict[str, object]] = []
            for position, arrays in journal.arrays(own, ["events"]):
                events = arrays["events"].reshape(-1, 4)
                row = own.iloc[position]
                names = {name: row[name] for name in ("instrument", "song", "track", "chunk")}
                place = folder / _slug(row["instrument"]) / song_folder(row["song"], row["path"]) / str(row["track"])
                place.mkdir(parents=True, exist_ok=True)
                np.save(place / f"{row['chunk']}.npy", events)
                rows.append({"piece": int(own.index[position]), **names, "events": events.tolist()})
                if len(rows) == AT_ONCE:
                    writer.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))
                    rows = []
            writer.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))


def song_folder(song: str, path: str) -> str:
    """Name of a song's folder: its own name and a mark of the file's path."""
    return f"{_slug(song)}-{hashlib.sha256(path.encode()).hexdigest()[:6]}"


def _slug(name: str) -> str:
    return re.sub(r"[^\w\-]+", "_", name).strip("_")[:80] or "_"
