"""A corpus of tab events for tests: only the files that the next-note baseline reads."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mgen.corpus.tab_tables import SCHEMA

SPLITS = ("train", "valid", "test")


def write_tabs(folder, **splits):
    """Writes chunks (song, instrument, events) for each split; a split that is not given has those of `train`."""
    (folder / "tab_events").mkdir(parents=True)
    for split in SPLITS:
        rows = [
            {"piece": i, "instrument": instrument, "song": song, "track": 0, "chunk": i, "events": events.tolist()}
            for i, (song, instrument, events) in enumerate(splits.get(split, splits["train"]))
        ]
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), folder / "tab_events" / f"{split}.parquet")
    return folder


def walk(seed, notes):
    """(notes, 4) events in which the next note follows from the last: a minor third higher, modulo 12.

    The durations alternate likewise: after a quarter an 8th, after an 8th a dotted 8th, then a quarter.
    """
    rng = np.random.default_rng(seed)
    step = np.arange(notes) + rng.integers(12)
    semitone = 1 + (3 * step) % 12
    duration = np.array([(2, 0), (3, 0), (3, 1)])[step % 3]
    return np.column_stack([semitone, np.full(notes, 5), duration]).astype(np.uint8)


def learnable(folder, chunks=8, notes=60):
    """A corpus in which everything about the next note follows from the last."""
    songs = {
        split: [(f"{split} {i}", "Guitar" if i % 2 else "Bass", walk(7 * i + len(split), notes)) for i in range(chunks)]
        for split in SPLITS
    }
    return write_tabs(folder, **songs)
