"""Folders of music files as sets of excerpts that can be compared: as many and as long on both sides.

Files go through the same cleaning as a corpus; what cannot be read is counted by its reason. Nothing here measures.
"""

from __future__ import annotations

import os
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mgen.corpus.clean import Recipe
from mgen.corpus.reading import Rules, read_source, vocabulary
from mgen.corpus.scan import scan
from mgen.corpus.workers import Failure, Limits, run_in_processes
from mgen.errors import MgenError
from mgen.evaluation.measure import Beside, Numbers, Pieces, measure
from mgen.notes import Bars, Notes
from mgen.stats.intervals import bootstrap

EXCERPT_NOTES = 128
"""Notes of an excerpt; what a file has beyond its last whole one is left out."""


@dataclass(frozen=True)
class Folder:
    """What a folder holds.

    Attributes:
        notes: P pieces, cleaned.
        work: (P,) normalised file name of each: equal names in two folders are taken as one work.
        scanned: files found.
        rejected: reason -> files.
    """

    notes: Notes
    work: NDArray[np.str_]
    scanned: int
    rejected: dict[str, int]


@dataclass(frozen=True)
class Compared:
    """A folder beside a reference; of every pair the reference is first.

    Attributes:
        names: of the folders, as rows are called.
        folders: what they hold.
        pieces: the excerpts, as many and as long on both sides.
        numbers: of the excerpts. Those of the reference that compare two sets are between its halves.
        length: notes of an excerpt; 0 for whole pieces.
    """

    names: tuple[str, str]
    folders: tuple[Folder, Folder]
    pieces: tuple[Pieces, Pieces]
    numbers: tuple[Numbers, Numbers]
    length: int

    @property
    def remarks(self) -> dict[str, str]:
        """What has to be said with the numbers."""
        out = dict(self.numbers[1].remarks)
        for name, folder in zip(self.names, self.folders, strict=True):
            if folder.rejected:
                why = ", ".join(f"{reason} {count}" for reason, count in folder.rejected.items())
                out[f"files of {name}"] = f"{sum(folder.rejected.values())} of {folder.scanned} left out ({why})"
        return out

    def to_json(self) -> dict[str, Any]:
        """The folder's numbers by name, those of the reference under `real`, and what was compared."""
        real, own = ({name: cell.to_json() for name, cell in part.cells.items()} for part in self.numbers)
        files = {
            key: {"name": name, "scanned": folder.scanned, "rejected": folder.rejected}
            for key, name, folder in zip(("reference", "midi"), self.names, self.folders, strict=True)
        }
        about = {**files, "n": self.pieces[1].notes.n_pieces, "excerpt_notes": self.length, "remarks": self.remarks}
        return {**about, **own, "real": real}


def compare_folders(
    midi: Path,
    reference: Path,
    beside: Beside,
    *,
    n: int = 1024,
    length: int = EXCERPT_NOTES,
    recipe: Recipe = "piano",
    workers: int | None = None,
    seed: int = 0,
) -> Compared:
    """Every number of a folder of music files beside real music in another.

    Args:
        midi: the music to be judged.
        reference: real music.
        beside: which sets and tests take part.
        n: at most so many excerpts a side; equally many of both.
        length: notes of an excerpt; 0 takes whole pieces, whose lengths then differ.
        recipe: how files are cleaned, as in `mgen prepare`.
        workers: processes that read files; as many as there are cores if None.
        seed: of the excerpts.

    Raises:
        MgenError: A folder has no music that can be read, or none that is long enough.
    """
    paths = (reference, midi)
    folders = tuple(read_folder(path, recipe, workers) for path in paths)
    drawn = tuple(excerpts(folder, n, length, np.random.default_rng(seed)) for folder in folders)
    n = min(part.notes.n_pieces for part in drawn)
    real, own = (part.first(n) for part in drawn)
    numbers = []
    for folder, part in zip(folders, (real, own), strict=True):
        found = measure(part, real, beside)
        read = np.repeat([1.0, 0.0], [folder.scanned - sum(folder.rejected.values()), sum(folder.rejected.values())])
        numbers.append(replace(found, cells={**found.cells, "valid": bootstrap(read)}))
    names = distinct(*(path.resolve().name for path in paths))
    return Compared(names, (folders[0], folders[1]), (real, own), (numbers[0], numbers[1]), length)


def distinct(reference: str, other: str) -> tuple[str, str]:
    """Two names that differ."""
    return reference, other if other != reference else f"{other} (judged)"


def read_folder(folder: Path, recipe: Recipe = "piano", workers: int | None = None) -> Folder:
    """Every music file below a folder, read as `mgen prepare` reads it.

    Raises:
        MgenError: There is no such folder, no music file in it, or none that can be read.
    """
    sources = scan([folder])
    rejected: Counter[str] = Counter()
    ids: list[NDArray[np.uint16]] = []
    works: list[str] = []
    rules = Rules(recipe=recipe, min_notes=1)
    workers = min(workers or os.cpu_count() or 1, len(sources))
    outcomes = run_in_processes(partial(read_source, rules=rules), sources, workers, Limits())
    with closing(outcomes):
        for source, outcome in outcomes:
            if isinstance(outcome, Failure) or not outcome.pieces:
                rejected[outcome.reason] += 1
                continue
            ids += [piece.ids for piece in outcome.pieces]
            works += [source.work] * len(outcome.pieces)
    if not ids:
        why = ", ".join(f"{reason} {count}" for reason, count in rejected.most_common())
        raise MgenError(f"{folder}: none of {len(sources)} files could be read ({why}); give a folder of MIDI files")
    notes = Notes.from_ids(ids, vocabulary(recipe == "band"))
    return Folder(untold(notes), np.array(works), len(sources), dict(rejected))


def untold(notes: Notes) -> Notes:
    """Without memory of tokens: grammar is no property of a file."""
    none = np.zeros(notes.n_pieces, np.int32)
    return replace(notes, token=np.full(len(notes), -1, np.int32), n_tokens=none, n_broken=none)


def excerpts(folder: Folder, n: int, length: int, rng: np.random.Generator) -> Pieces:
    """At most n excerpts of exactly `length` notes, each from a bar line on: one of every file, then a second of
    every file, and so on. With `length` 0 whole pieces.

    Raises:
        MgenError: No file has so many notes.
    """
    notes = folder.notes
    if not length:
        chosen = rng.permutation(notes.n_pieces)[:n]
        return Pieces(notes.pieces(chosen), folder.work[chosen], np.zeros(len(chosen), np.int64))
    first, owner = _starts(notes, length)
    if not len(first):
        raise MgenError(
            f"excerpts of {length} notes were asked for, the longest piece has {int(notes.counts.max(initial=0))} "
            "from a bar line on; ask for fewer with --excerpt_notes"
        )
    place = rng.permutation(len(first))  # random within a file; then by turn of the files
    turn = np.empty(len(first), np.int64)
    order = place[np.argsort(owner[place], kind="stable")]
    heads = np.searchsorted(owner[order], np.arange(notes.n_pieces))
    turn[order] = np.arange(len(order)) - heads[owner[order]]
    chosen = np.lexsort((rng.random(len(first)), turn))[:n]
    cut = Notes.concat([_cut(notes, int(first[i]), int(owner[i]), length) for i in chosen.tolist()])
    return Pieces(cut, folder.work[owner[chosen]], np.zeros(len(chosen), np.int64))


def _starts(notes: Notes, length: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First note and piece of excerpts that begin with a bar, are `length` notes long and do not overlap."""
    key = notes.bar_starts[notes.piece] + notes.bar
    fresh = np.flatnonzero(np.diff(key, prepend=-1))  # the first note of each bar
    end = notes.starts[notes.piece[fresh] + 1]
    fresh = fresh[fresh + length <= end]
    taken: list[int] = []
    free, piece = 0, -1
    for row in fresh.tolist():  # a few thousand bars at most
        if notes.piece[row] != piece or row >= free:
            taken.append(row)
            free, piece = row + length, notes.piece[row]
    first = np.array(taken, np.int64)
    return first, notes.piece[first].astype(np.int64)


def _cut(notes: Notes, first: int, piece: int, length: int) -> Notes:
    """`length` notes from row `first` on as a piece of its own whose time 0 is the first one's bar."""
    whole = notes.pieces([piece])
    row = np.arange(len(whole)) + int(notes.starts[piece])
    one = whole.select((row >= first) & (row < first + length))
    begin, end = int(one.bar[0]), int(one.bar[-1]) + 1
    onset = int(one.bars.onset[begin])
    bars = Bars(one.bars.piece[begin:end], one.bars.onset[begin:end] - onset, one.bars.beats[begin:end])
    return replace(one, onset=one.onset - onset, bar=one.bar - begin, bars=bars)
