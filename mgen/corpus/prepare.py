"""Music files to a corpus: every file is read in a worker process and ends in exactly one of pieces.parquet
and rejected.csv.

All is written to a folder beside the one asked for and renamed when it is whole. Tokens go through a spool
on the disk, because only the pieces that were kept can be split; so memory does not grow with the music.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mgen.corpus.clean import ON_GRID, RECIPES, Recipe, clean, grid_strength, out_of_range
from mgen.corpus.scan import Source
from mgen.corpus.shards import (
    IDS,
    MANIFEST,
    PIECES,
    REJECTED,
    TOKENIZER,
    TOKENS,
    VERSION,
    GroupWriter,
    ShardWriter,
)
from mgen.corpus.split import SPLITS, assign_splits
from mgen.corpus.workers import Lost, in_workers
from mgen.encoding.remi import Remi
from mgen.errors import MgenError, RejectedFile
from mgen.midi import read_midi
from mgen.notes import Notes

MIN_NOTES = 16
TIMEOUT = 20.0

_SPOOL = pa.schema(
    [
        *((name, pa.string()) for name in ("path", "style", "collection", "work", "artist")),
        ("on_grid", pa.bool_()),
        ("grid_strength", pa.float32()),
        *((name, pa.int32()) for name in ("n_programs", "n_notes", "n_bars", "n_tokens", "dropped_notes")),
        ("ids", IDS),
    ]
)


@dataclass(frozen=True, slots=True)
class Piece:
    """What a worker makes of a file: token ids (L,) and what the tables say of it."""

    ids: NDArray[np.uint16]
    on_grid: bool
    grid_strength: float
    n_programs: int
    n_notes: int
    n_bars: int
    n_tokens: int
    dropped_notes: int


@dataclass(frozen=True, slots=True)
class Rules:
    """What every file goes by.

    Attributes:
        recipe: `piano` makes one instrument of all; `band` keeps programs and drums.
        styles: names of the styles that get a token.
        min_notes: a piece with fewer is rejected.
        on_grid_only: reject pieces that were not written on the beat grid of their file.
    """

    recipe: Recipe
    styles: tuple[str, ...]
    min_notes: int = MIN_NOTES
    on_grid_only: bool = False

    def remi(self) -> Remi:
        return _remi(self.styles, self.recipe == "band")


@lru_cache(maxsize=4)
def _remi(styles: tuple[str, ...], multi: bool) -> Remi:
    return Remi.build(styles, multi)


def read_piece(source: Source, rules: Rules) -> Piece | Lost:
    """One file to one piece, or why not: the function that workers run."""
    try:
        written = Notes.from_scores([read_midi(source.file)])
        notes = clean(written, rules.recipe)
        strength = grid_strength(notes)
        if len(notes) < rules.min_notes:
            return Lost("too few notes", f"{len(notes)}, at least {rules.min_notes} make a piece")
        if rules.on_grid_only and strength < ON_GRID:
            return Lost("off grid", f"grid strength {strength:.2f}, at least {ON_GRID} is on the grid")
        (ids,) = rules.remi().encode(notes)
        return Piece(
            ids=ids.astype(np.uint16),
            on_grid=strength >= ON_GRID,
            grid_strength=strength,
            n_programs=len(np.unique(notes.program)),
            n_notes=len(notes),
            n_bars=len(notes.bars.onset),
            n_tokens=len(ids),
            dropped_notes=out_of_range(written, rules.recipe),
        )
    except RejectedFile as error:
        return Lost(error.reason, error.detail)


def prepare(
    sources: Sequence[Source],
    out: Path,
    recipe: Recipe = "piano",
    min_notes: int = MIN_NOTES,
    on_grid_only: bool = False,
    workers: int | None = None,
    timeout: float = TIMEOUT,
    overwrite: bool = False,
    options: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Write the corpus of `sources`; the same for any number of workers.

    Args:
        sources: files, as `scan` gives them.
        out: folder of the corpus; it is not there, empty, or with `overwrite` holds a corpus, which stays
            until the new one is whole.
        recipe: `piano` makes one instrument of all; `band` keeps programs and drums.
        min_notes: a piece with fewer is rejected.
        on_grid_only: reject pieces that were not written on the beat grid of their file.
        workers: processes; as many as there are cores if None.
        timeout: seconds that one file may take.
        options: stored in the manifest as they are.
        progress: is told after each file how many were kept and rejected.

    Returns:
        The manifest, as in corpus.json.

    Raises:
        MgenError: The recipe does not exist, `out` is in use, a style is left without pieces in a split, or
            nothing can be written.
    """
    if recipe not in RECIPES:
        raise MgenError(f"recipe '{recipe}': expected one of {', '.join(RECIPES)}")
    out = Path(os.path.realpath(out))
    _put_back(out)
    check_free(out, overwrite)
    rules = Rules(recipe, tuple(sorted({source.style for source in sources})), min_notes, on_grid_only)
    remi = rules.remi()
    with _staged(out, overwrite) as folder:
        spool = folder / "spool.parquet"
        reader = partial(read_piece, rules=rules)
        with closing(in_workers(reader, sources, workers or os.cpu_count() or 1, timeout)) as outcomes:
            rejected = _write_spool(outcomes, spool, folder / REJECTED, progress)
        pieces = pq.read_table(spool, columns=[name for name in _SPOOL.names if name != "ids"]).to_pandas()
        if len(pieces) + rejected.total() != len(sources):
            raise AssertionError(f"{len(sources)} scanned, {len(pieces)} kept, {rejected.total()} rejected")
        if not len(pieces):
            reasons = ", ".join(f"{reason} {count}" for reason, count in rejected.most_common())
            raise MgenError(f"none of {len(sources)} files could be kept ({reasons})")
        pieces.insert(5, "split", assign_splits(pieces, rules.styles))
        pieces.to_parquet(folder / PIECES)
        fingerprint, shards = _write_shards(pieces, spool, folder / TOKENS)
        spool.unlink()
        remi.save_pretrained(folder / TOKENIZER)
        manifest = {
            "version": VERSION,
            "fingerprint": fingerprint,
            "recipe": recipe,
            "tokenizer": remi.fingerprint,
            "scanned": len(sources),
            "kept": len(pieces),
            "rejected": dict(sorted(rejected.items())),
            "pieces": _sums(pieces.assign(one=1), "style", "one"),
            "works": {style: int(rows["work"].nunique()) for style, rows in pieces.groupby("style")},
            "tokens": _sums(pieces, "style", "n_tokens"),
            "collections": _sums(pieces.assign(one=1), "collection", "one"),
            "shards": shards,
            "options": dict(options or {}),
        }
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return manifest


def check_free(out: Path, overwrite: bool) -> None:
    """Raise unless a corpus may be written to the folder `out`."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / MANIFEST).is_file():
        raise MgenError(f"{out}: holds something else than a corpus; choose another --out")
    if not overwrite:
        raise MgenError(f"{out}: holds a corpus already; give --overwrite to replace it, or choose another --out")


def _beside(out: Path, suffix: str) -> Path:
    return out.with_name(f".{out.name}.{suffix}")


def _put_back(out: Path) -> None:
    """Restore the corpus of a run that was killed after it moved the old one away and before the new one came."""
    old = _beside(out, "old")
    if old.exists() and not out.exists():
        old.rename(out)


@contextmanager
def _staged(out: Path, overwrite: bool) -> Iterator[Path]:
    """A folder beside `out` that takes its place when all went well, and is gone otherwise."""
    aside, old = _beside(out, "part"), _beside(out, "old")
    try:
        for left_over in (aside, old):
            shutil.rmtree(left_over, ignore_errors=True)
        aside.mkdir(parents=True)
        yield aside
        check_free(out, overwrite)
        if out.exists():
            out.rename(old)
        try:
            aside.rename(out)
        finally:
            _put_back(out)
    except OSError as error:
        raise MgenError(
            f"{out}: cannot be written ({error.strerror or error}); free some space or choose another --out"
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        if out.exists():
            shutil.rmtree(old, ignore_errors=True)


def _write_spool(
    outcomes: Iterable[tuple[Source, Piece | Lost]],
    spool: Path,
    table: Path,
    progress: Callable[[int, int], None] | None,
) -> Counter[str]:
    """Kept pieces to `spool`, the others to the CSV `table`; how many were rejected, by reason."""
    rejected: Counter[str] = Counter()
    kept = 0
    with GroupWriter(spool, _SPOOL) as writer, table.open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(["path", "reason", "detail"])
        for source, outcome in outcomes:
            if isinstance(outcome, Lost):
                rejected[outcome.reason] += 1
                lines.writerow([source.path, outcome.reason, outcome.detail])
            else:
                kept += 1
                named = {name: getattr(source, name) for name in ("path", "style", "collection", "work", "artist")}
                writer.write({**named, **asdict(outcome)}, outcome.ids)
            if progress:
                progress(kept, rejected.total())
    return rejected


def _write_shards(pieces: pd.DataFrame, spool: Path, folder: Path) -> tuple[str, list[dict[str, str | int]]]:
    """The spool's tokens, sorted into the shards of the splits; a hash of all that a model can learn from,
    and the shards.
    """
    digest = hashlib.sha256()
    rows = pieces[["split", "style", "collection", "work"]].itertuples(index=False, name=None)
    with ShardWriter(folder) as shards, pq.ParquetFile(spool) as file:
        piece = 0
        for group in range(file.metadata.num_row_groups):
            for ids in file.read_row_group(group, columns=["ids"])["ids"]:
                named = next(rows)
                tokens = ids.values.to_numpy().copy()  # a view would keep its whole row group in memory
                digest.update("\0".join(named).encode() + b"\n" + tokens.astype("<u2").tobytes())
                shards.write(named[0], piece, tokens)
                piece += 1
    return digest.hexdigest()[:16], shards.shards


def _sums(pieces: pd.DataFrame, by: str, column: str) -> dict[str, dict[str, int]]:
    """Sum of a column for each value of `by` and each split."""
    table = pieces.pivot_table(index=by, columns="split", values=column, aggfunc="sum", fill_value=0)
    return {str(name): {split: int(row.get(split, 0)) for split in SPLITS} for name, row in table.iterrows()}
