"""Two folders of music files compared: excerpts of equal number and length from both, measured like completions.

Files are cleaned as in a corpus; unreadable ones are counted by reason.
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
from mgen.evaluation.measure import Measurements, MetricOptions, PieceSet, measure
from mgen.notes import Bars, Notes
from mgen.stats.intervals import bootstrap

EXCERPT_NOTES = 128
"""Notes of an excerpt."""


@dataclass(frozen=True)
class MusicFolder:
    """The pieces of a folder.

    Attributes:
        notes: P pieces, cleaned.
        work: (P,) normalised file name of each; equal names in two folders count as one work.
        scanned: number of files.
        rejected: reason -> number of files.
    """

    notes: Notes
    work: NDArray[np.str_]
    scanned: int
    rejected: dict[str, int]


@dataclass(frozen=True)
class FolderComparison:
    """A folder compared with a reference; of every pair the reference is first.

    Attributes:
        names: of the folders, as rows are called.
        folders: their pieces.
        excerpts: of equal number and length.
        measurements: of the excerpts. For the reference, metrics that compare two sets compare its halves.
        length: notes of an excerpt; 0 for complete pieces.
    """

    names: tuple[str, str]
    folders: tuple[MusicFolder, MusicFolder]
    excerpts: tuple[PieceSet, PieceSet]
    measurements: tuple[Measurements, Measurements]
    length: int

    @property
    def remarks(self) -> dict[str, str]:
        """Remarks on single numbers and on rejected files."""
        out = dict(self.measurements[1].remarks)
        for name, folder in zip(self.names, self.folders, strict=True):
            if folder.rejected:
                why = ", ".join(f"{reason} {count}" for reason, count in folder.rejected.items())
                out[f"files of {name}"] = f"{sum(folder.rejected.values())} of {folder.scanned} left out ({why})"
        return out

    def to_json(self) -> dict[str, Any]:
        """The content of metrics.json: the folder's metrics by name, the reference's under `real`, and the counts."""
        real, own = (part.to_json() for part in self.measurements)
        files = {
            key: {"name": name, "scanned": folder.scanned, "rejected": folder.rejected}
            for key, name, folder in zip(("reference", "midi"), self.names, self.folders, strict=True)
        }
        about = {**files, "n": self.excerpts[1].notes.n_pieces, "excerpt_notes": self.length, "remarks": self.remarks}
        return {**about, **own, "real": real}


def compare_folders(
    midi: Path,
    reference: Path,
    options: MetricOptions,
    *,
    n: int = 1024,
    length: int = EXCERPT_NOTES,
    recipe: Recipe = "piano",
    workers: int | None = None,
    seed: int = 0,
) -> FolderComparison:
    """Compares a folder of music files with real music in another.

    Args:
        midi: the music to be evaluated.
        reference: real music.
        options: which metrics are computed.
        n: excerpts per side, at most; both sides have equally many.
        length: notes of an excerpt; 0 takes complete pieces, which differ in length.
        recipe: how files are cleaned, as in `mgen prepare`.
        workers: processes that read files; None for one per core.
        seed: of the excerpts.

    Raises:
        MgenError: A folder has no readable music, or none that is long enough.
    """
    paths = (reference, midi)
    folders = tuple(read_folder(path, recipe, workers) for path in paths)
    drawn = tuple(draw_excerpts(folder, n, length, np.random.default_rng(seed)) for folder in folders)
    n = min(part.notes.n_pieces for part in drawn)
    real, own = (part.first(n) for part in drawn)
    measurements = []
    for folder, part in zip(folders, (real, own), strict=True):
        found = measure(part, real, options)
        lost = sum(folder.rejected.values())
        readable = bootstrap(np.repeat([1.0, 0.0], [folder.scanned - lost, lost]))
        measurements.append(replace(found, metrics={**found.metrics, "valid": readable}))
    names = _row_names(*(path.resolve().name for path in paths))
    return FolderComparison(names, (folders[0], folders[1]), (real, own), (measurements[0], measurements[1]), length)


def _row_names(reference: str, other: str) -> tuple[str, str]:
    """Names of the two rows, made different where the folders have one name."""
    return reference, other if other != reference else f"{other} (evaluated)"


def read_folder(folder: Path, recipe: Recipe = "piano", workers: int | None = None) -> MusicFolder:
    """Reads every music file below a folder as `mgen prepare` does.

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
    return MusicFolder(without_tokens(notes), np.array(works), len(sources), dict(rejected))


def without_tokens(notes: Notes) -> Notes:
    """Drops the links from notes to tokens: files have no grammar errors."""
    none = np.zeros(notes.n_pieces, np.int32)
    return replace(notes, token=np.full(len(notes), -1, np.int32), n_tokens=none, n_broken=none)


def draw_excerpts(folder: MusicFolder, n: int, length: int, rng: np.random.Generator) -> PieceSet:
    """Draws at most n excerpts of exactly `length` notes, each beginning with a bar; complete pieces with `length` 0.

    One excerpt is drawn from every file before a second one is drawn from any.

    Raises:
        MgenError: No file is long enough.
    """
    notes = folder.notes
    if not length:
        chosen = rng.permutation(notes.n_pieces)[:n]
        return PieceSet(notes.pieces(chosen), folder.work[chosen], np.zeros(len(chosen), np.int64))
    first, owner = _starts(notes, length)
    if not len(first):
        raise MgenError(
            f"excerpts of {length} notes were requested, the longest piece has {int(notes.counts.max(initial=0))} "
            "from a bar line on; request fewer with --excerpt_notes"
        )
    place = rng.permutation(len(first))  # random within a file, then round-robin over files
    turn = np.empty(len(first), np.int64)
    order = place[np.argsort(owner[place], kind="stable")]
    heads = np.searchsorted(owner[order], np.arange(notes.n_pieces))
    turn[order] = np.arange(len(order)) - heads[owner[order]]
    chosen = np.lexsort((rng.random(len(first)), turn))[:n]
    cut = Notes.concat([_excerpt(notes, int(first[i]), int(owner[i]), length) for i in chosen.tolist()])
    return PieceSet(cut, folder.work[owner[chosen]], np.zeros(len(chosen), np.int64))


def _starts(notes: Notes, length: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First note and piece of each non-overlapping excerpt of `length` notes that begins with a bar."""
    key = notes.bar_starts[notes.piece] + notes.bar
    bar_heads = np.flatnonzero(np.diff(key, prepend=-1))  # the first note of each bar
    end = notes.starts[notes.piece[bar_heads] + 1]
    bar_heads = bar_heads[bar_heads + length <= end]
    chosen: list[int] = []
    free, piece = 0, -1
    for row in bar_heads.tolist():  # a few thousand bars at most
        if notes.piece[row] != piece or row >= free:
            chosen.append(row)
            free, piece = row + length, notes.piece[row]
    first = np.array(chosen, np.int64)
    return first, notes.piece[first].astype(np.int64)


def _excerpt(notes: Notes, first: int, piece: int, length: int) -> Notes:
    """`length` notes from row `first` on as one piece; its time 0 is the start of the first note's bar."""
    source = notes.pieces([piece])
    row = np.arange(len(source)) + int(notes.starts[piece])
    one = source.select((row >= first) & (row < first + length))
    begin, end = int(one.bar[0]), int(one.bar[-1]) + 1
    onset = int(one.bars.onset[begin])
    bars = Bars(one.bars.piece[begin:end], one.bars.onset[begin:end] - onset, one.bars.beats[begin:end])
    return replace(one, onset=one.onset - onset, bar=one.bar - begin, bars=bars)
