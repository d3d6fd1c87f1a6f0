"""Two folders of music files compared: excerpts of equal number and length from both, measured like completions.

Files are cleaned as in a corpus; unreadable ones are counted by reason.
"""

from __future__ import annotations

import os
from collections import Counter
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mgen.arrays import rank_within, run_starts
from mgen.corpus.clean import Recipe
from mgen.corpus.reading import Rules, read_source, vocabulary
from mgen.corpus.scan import Scan, scan
from mgen.corpus.search import PassedOver
from mgen.corpus.workers import Failure, Limits, run_in_processes
from mgen.errors import MgenError
from mgen.evaluation.measure import Measurements, MetricOptions, PieceSet, measure
from mgen.notes import Notes
from mgen.progress import Progress, counted, silent
from mgen.stats.intervals import bootstrap
from mgen.transforms.rebuild import take_excerpts, without_tokens

EXCERPT_NOTES = 128  # notes of an excerpt


@dataclass(frozen=True)
class MusicFolder:
    """The pieces of a folder."""

    notes: Notes  # P pieces, cleaned
    work: NDArray[np.str_]  # (P,) normalised file name of each; equal names in two folders count as one work
    scanned: int  # number of files
    rejected: dict[str, int]  # reason -> number of files
    passed_over: PassedOver = field(default_factory=PassedOver)  # what is not music
    drums: int = 0  # notes of drums that the recipe leaves out


@dataclass(frozen=True)
class FolderComparison:
    """A folder compared with a reference; of every pair the reference is first.

    For the reference, metrics that compare two sets compare its halves.
    """

    names: tuple[str, str]  # of the folders, as rows are called
    folders: tuple[MusicFolder, MusicFolder]  # their pieces
    excerpts: tuple[PieceSet, PieceSet]  # of equal number and length
    measurements: tuple[Measurements, Measurements]  # of the excerpts
    length: int  # notes of an excerpt; 0 for complete pieces

    @property
    def remarks(self) -> dict[str, str]:
        """Remarks on single numbers and on rejected files."""
        out = dict(self.measurements[1].remarks)
        for name, folder in zip(self.names, self.folders, strict=True):
            if folder.rejected:
                why = ", ".join(f"{reason} {count}" for reason, count in folder.rejected.items())
                out[f"files of {name}"] = f"{sum(folder.rejected.values())} of {folder.scanned} left out ({why})"
            if folder.drums:
                out[f"drums of {name}"] = f"{folder.drums:,} notes left out; --recipe band keeps them"
            if folder.passed_over.line:
                out[f"other files of {name}"] = folder.passed_over.line
        return out

    def to_json(self) -> dict[str, Any]:
        """The content of metrics.json: the folder's metrics by name, the reference's under `real`, and the counts."""
        real, own = (part.to_json() for part in self.measurements)
        files = {
            key: {
                "name": name,
                "scanned": folder.scanned,
                "rejected": folder.rejected,
                "passed_over": asdict(folder.passed_over),
            }
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
    progress: Progress = silent,
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
        progress: takes the count of the files.

    Raises:
        MgenError: A folder has no readable music, or none that is long enough.
    """
    paths = (reference, midi)
    scans = [scan([path]) for path in paths]  # a folder without music is an error before the other is read
    folders = tuple(
        read_folder(path, recipe, workers, files, progress) for path, files in zip(paths, scans, strict=True)
    )
    drawn = tuple(draw_excerpts(folder, n, length, np.random.default_rng(seed)) for folder in folders)
    n = min(part.notes.n_pieces for part in drawn)
    real, own = (part.first(n) for part in drawn)
    measurements = []
    for folder, part in zip(folders, (real, own), strict=True):
        found = measure(part, real, options)
        lost = sum(folder.rejected.values())
        readable = bootstrap(np.repeat([1.0, 0.0], [folder.scanned - lost, lost]))
        measurements.append(replace(found, metrics={**found.metrics, "valid": readable}))
    first, second = (path.resolve().name for path in paths)
    names = first, second if second != first else f"{second} (evaluated)"
    return FolderComparison(names, (folders[0], folders[1]), (real, own), (measurements[0], measurements[1]), length)


def read_folder(
    folder: Path,
    recipe: Recipe = "piano",
    workers: int | None = None,
    found: Scan | None = None,
    progress: Progress = silent,
) -> MusicFolder:
    """Reads every music file below a folder as `mgen prepare` does.

    Args:
        found: the files of the folder, if it has been scanned.
        progress: takes the count of the files.

    Raises:
        MgenError: There is no such folder, no music file in it, or none that can be read.
    """
    found = found or scan([folder])
    sources = found.sources
    rejected: Counter[str] = Counter()
    ids: list[NDArray[np.uint16]] = []
    works: list[str] = []
    drums = 0
    rules = Rules(recipe=recipe, min_notes=1)
    workers = min(workers or os.cpu_count() or 1, len(sources))
    outcomes = run_in_processes(partial(read_source, rules=rules), sources, workers, Limits())
    with closing(outcomes):
        for source, outcome in counted(progress, f"files of {folder.name}", outcomes, len(sources)):
            drums += 0 if isinstance(outcome, Failure) else outcome.notes.get("percussion", 0)
            if isinstance(outcome, Failure) or not outcome.pieces:
                rejected[outcome.reason] += 1
                continue
            ids += [piece.ids for piece in outcome.pieces]
            works += [source.work] * len(outcome.pieces)
    if not ids:
        why = ", ".join(f"{reason} {count}" for reason, count in rejected.most_common())
        raise MgenError(f"{folder}: none of {len(sources)} files could be read ({why}); give a folder of MIDI files")
    notes = Notes.from_ids(ids, vocabulary(recipe == "band"))
    return MusicFolder(without_tokens(notes), np.array(works), len(sources), dict(rejected), found.passed_over, drums)


def draw_excerpts(folder: MusicFolder, n: int, length: int, rng: np.random.Generator) -> PieceSet:
    """Draws at most n excerpts of exactly `length` notes, each beginning with a bar; complete pieces with `length` 0.

    One excerpt is drawn from every file before a second one is drawn from any.

    Raises:
        MgenError: No file is long enough.
    """
    notes = folder.notes
    if not length:
        chosen = rng.permutation(notes.n_pieces)[:n]
        return PieceSet.of_seeds([notes.pieces(chosen)], [folder.work[chosen]])
    first = _starts(notes, length)
    if not len(first):
        longest = int(notes.counts.max(initial=0))
        remedy = f"--excerpt_notes {longest // 2}" if longest >= 4 else "longer pieces"
        raise MgenError(
            f"excerpts of {length} notes were requested, the longest piece has {longest} from a bar line on; "
            f"try {remedy}"
        )
    owner = notes.piece[first]
    place = rng.permutation(len(first))  # random within a file, then round-robin over files
    order = place[np.argsort(owner[place], kind="stable")]
    turn = np.empty(len(first), np.int64)
    turn[order] = rank_within(owner[order], notes.n_pieces)
    chosen = first[np.lexsort((rng.random(len(first)), turn))[:n]]
    cut = take_excerpts(notes, notes.piece[chosen], notes.bar[chosen], np.full(len(chosen), length))
    return PieceSet.of_seeds([cut], [folder.work[notes.piece[chosen]]])


def _starts(notes: Notes, length: int) -> NDArray[np.int64]:
    """First note of each non-overlapping excerpt of `length` notes that begins with a bar."""
    bar_heads = np.flatnonzero(run_starts(notes.piece, notes.bar))
    bar_heads = bar_heads[bar_heads + length <= notes.starts[notes.piece[bar_heads] + 1]]
    chosen: list[int] = []
    free, piece = 0, -1
    for row in bar_heads.tolist():  # a few thousand bars at most
        if notes.piece[row] != piece or row >= free:
            chosen.append(row)
            free, piece = row + length, notes.piece[row]
    return np.array(chosen, np.int64)
