"""Windows of notes with the note that follows, over all tab events of a split.

All events of a split are one array of 4 bytes per event; a window is a number, and a batch is read in one step.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from mgen.arrays import ranges
from mgen.corpus.tab_tables import TAB_EVENTS
from mgen.encoding.tab_events import check_events
from mgen.errors import MgenError
from mgen.options import nearest
from mgen.stored import explain_damage

REMEDY = "mgen prepare --config configs/prepare/tabs.yaml MUSIC --out CORPUS writes it"

Batch = dict[str, Tensor]  # events (B, W, 4) and labels (B, 4), uint8
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Tabs:
    """The tab events of a split: C chunks with E events in all."""

    where: str  # corpus and split, for messages
    events: NDArray[np.uint8]  # (E, 4)
    begins: Ints  # (C + 1,) first event of each chunk, then E
    song: NDArray[np.str_]  # (C,)
    instrument: NDArray[np.str_]  # (C,)

    @property
    def sizes(self) -> Ints:
        """(C,) events of each chunk."""
        return np.diff(self.begins)

    def select(self, chunks: NDArray[np.bool_]) -> Tabs:
        """Only these chunks (C,)."""
        rows = ranges(self.begins[:-1][chunks], self.begins[1:][chunks])[0]
        begins = np.append(0, np.cumsum(self.sizes[chunks])).astype(np.int64)
        parts = self.song[chunks], self.instrument[chunks]
        return Tabs(self.where, self.events[rows], begins, *parts)


def read_tabs(corpus: Path | str, split: str) -> Tabs:
    """Reads the events of a split.

    Raises:
        MgenError: The corpus has none, or they are damaged.
    """
    path = Path(corpus) / TAB_EVENTS / f"{split}.parquet"
    if not path.is_file():
        raise MgenError(f"{corpus}: has no {TAB_EVENTS}/{split}.parquet; {REMEDY}")
    with explain_damage(path, REMEDY):
        table = pq.read_table(path, columns=["song", "instrument", "events"])
        lists = table.column("events").combine_chunks()
        begins = lists.offsets.to_numpy().astype(np.int64)
        events = check_events(lists.values.values.to_numpy().reshape(-1, 4)[begins[0] : begins[-1]])
        names = [np.array(table.column(name).to_pylist(), str) for name in ("song", "instrument")]
        return Tabs(f"{corpus}, {split}", np.ascontiguousarray(events), begins - begins[0], names[0], names[1])


def tabs_fingerprint(corpus: Path | str, splits: Sequence[str]) -> str:
    """A hash of the files that `read_tabs` reads."""
    found = hashlib.sha256()
    for split in splits:
        found.update((Path(corpus) / TAB_EVENTS / f"{split}.parquet").read_bytes())
    return found.hexdigest()[:16]


def choose_chunks(
    tabs: Tabs,
    window: int,
    instrument: str = "",
    notes: tuple[int, int] = (1, 10**9),
    share: float = 1.0,
    seed: int = 0,
) -> tuple[Tabs, dict[str, int]]:
    """Selects chunks.

    Args:
        window: events of a window; chunks without an event after one are left out.
        instrument: only chunks of it; empty for all.
        notes: least and most events of a chunk.
        share: of the songs that are left, at least one; drawn from `seed`.

    Returns:
        The chunks, and how many were left out for each reason.

    Raises:
        MgenError: None is left; the line says why.
    """
    chunks = np.ones(len(tabs.song), np.bool_)
    if instrument:
        known = sorted(set(tabs.instrument.tolist()))
        if instrument not in known:
            end = nearest(instrument, known).replace("see --help", f"it has {', '.join(known) or 'no chunk'}")
            raise MgenError(f"{tabs.where}: no chunk of instrument '{instrument}'{end}")
        chunks &= tabs.instrument == instrument
    counts = {"chunks": int(chunks.sum())}
    long_enough = (tabs.sizes >= notes[0]) & (tabs.sizes <= notes[1])
    counts["outside chunk_notes"] = int((chunks & ~long_enough).sum())
    if chunks.any() and not (chunks & long_enough).any():
        sizes = tabs.sizes[chunks]
        between = f"its chunks have {sizes.min()} to {sizes.max()}"
        raise MgenError(f"{tabs.where}: no chunk of {notes[0]} to {notes[1]} events ({between}); widen --chunk_notes")
    chunks &= long_enough
    counts["too short"] = int((chunks & (tabs.sizes <= window)).sum())
    if not (chunks & (tabs.sizes > window)).any():
        longest = int(tabs.sizes[chunks].max(initial=0))
        found = f"the longest of {chunks.sum()} chunks has {longest}" if chunks.any() else "there is no chunk"
        remedy = f"lower --window to {longest - 1}" if longest > 10 else "add longer melodic tracks and prepare again"
        raise MgenError(f"{tabs.where}: window {window} needs chunks of {window + 1} events, {found}; {remedy}")
    chunks &= tabs.sizes > window
    songs = np.unique(tabs.song[chunks])
    if share < 1:
        drawn = np.random.default_rng(seed).permutation(songs)[: math.ceil(share * len(songs))]
        chosen = np.isin(tabs.song, drawn)
        counts["other songs"] = int((chunks & ~chosen).sum())
        chunks &= chosen
        songs = drawn
    return tabs.select(chunks), {**counts, "used": int(chunks.sum()), "songs": len(songs)}


class NoteWindows(Dataset[Batch]):
    """Every window of W events in a chunk, and the event after it.

    Item i has the i-th window (W, 4) as `events` and the event after it (4,) as `labels`. A `DataLoader` calls
    `__getitems__` with the numbers of a batch and gets the whole batch; collate with `as_batch`.

    Args:
        tabs: chunks of more than W events.
        window: W.
        favour_long: exponent p: a window of a chunk of n events has a share proportional to n^p. Item i is then the
            window at quantile (i + 1/2) / items: those of long chunks are repeated, of short ones skipped.
    """

    def __init__(self, tabs: Tabs, window: int, favour_long: float = 0.0) -> None:
        if len(tabs.sizes) == 0 or tabs.sizes.min() <= window:
            raise MgenError(f"{tabs.where}: window {window} needs chunks of at least {window + 1} events")
        self.tabs, self.window = tabs, window
        self._ends = np.cumsum(tabs.sizes - window)  # cumulative number of windows
        weights = (tabs.sizes - window) * (tabs.sizes / tabs.sizes.max()) ** favour_long
        self._mass = np.cumsum(weights) / weights.sum() if favour_long else None
        # A row of 4 bytes is one number, so that a window is one run of memory.
        rows = np.ascontiguousarray(tabs.events).view(np.uint32)[:, 0]
        self._rows = sliding_window_view(rows, window + 1)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> Batch:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return {name: of[0] for name, of in self.__getitems__([index]).items()}

    def __getitems__(self, indices: Sequence[int] | Ints) -> Batch:
        first = self.place(np.asarray(indices, np.int64))[1]
        found = torch.from_numpy(self._rows[first].view(np.uint8).reshape(len(first), self.window + 1, 4))
        return {"events": found[:, :-1], "labels": found[:, -1]}

    def place(self, items: Ints) -> tuple[Ints, Ints]:
        """(B,) chunk of each item, and (B,) the first event of its window in `tabs.events`."""
        if self._mass is not None:
            items = self._by_quantile(items)
        chunk = np.searchsorted(self._ends, items, side="right")
        before = self._ends[chunk] - (self.tabs.sizes[chunk] - self.window)
        return chunk, self.tabs.begins[chunk] + items - before

    def all_labels(self) -> tuple[Ints, Ints, Ints]:
        """(N,) number of the song, (N, 4) the last event and (N, 4) the next event of every item."""
        chunk, first = self.place(np.arange(len(self)))
        song = np.unique(self.tabs.song, return_inverse=True)[1]
        last = first + self.window
        events = self.tabs.events.astype(np.int64)
        return song[chunk], events[last - 1], events[last]

    def _by_quantile(self, items: Ints) -> Ints:
        """(B,) number of the window that each item is."""
        assert self._mass is not None
        quantile = (items + 0.5) / len(self)
        chunk = np.minimum(np.searchsorted(self._mass, quantile, side="right"), len(self._ends) - 1)
        count = self.tabs.sizes[chunk] - self.window
        before = np.where(chunk > 0, self._mass[chunk - 1], 0.0)
        within = (quantile - before) / (self._mass[chunk] - before) * count
        number: Ints = self._ends[chunk] - count + np.clip(within.astype(np.int64), 0, count - 1)
        return number


def as_batch(items: Batch | Sequence[Batch]) -> Batch:
    """What `__getitems__` returned, or the same from single items."""
    if isinstance(items, Mapping):
        return dict(items)
    return {name: torch.stack([item[name] for item in items]) for name in items[0]}
