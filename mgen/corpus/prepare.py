"""Music files to a corpus: every file is read in a worker process and ends in exactly one of pieces.parquet
and rejected.csv.

All is written to a folder beside the one asked for and renamed when it is whole. What was read goes to a journal on
the disk first, because only all pieces together say which are duplicates and what belongs to which split; so
memory does not grow with the music, and a run that was killed goes on where it was.

Columns of pieces.parquet, a row a piece: `path` of its file; `style`, `collection`, `work`, `artist` as told; `song`,
the file's name; `group`, the first work of those that belong together; `split`; then those of `reading.Piece` and
`reading.Facts`.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mgen.corpus.clean import RECIPES, STEPS
from mgen.corpus.journal import COLUMNS, Journal, of_schema, stamp
from mgen.corpus.ray_workers import in_ray
from mgen.corpus.reading import Reading, Rules, read_source
from mgen.corpus.relations import NEAR, SPLIT_BY, Earlier, groups, summary, without_copies, without_kin
from mgen.corpus.scan import Source
from mgen.corpus.shards import MANIFEST, PIECES, REJECTED, TOKENIZER, TOKENS, VERSION, ShardWriter
from mgen.corpus.split import SPLITS, assign_splits, splits_before
from mgen.corpus.staging import READ, staged
from mgen.corpus.tab_tables import TAB_EVENTS, write_tab_events
from mgen.corpus.workers import Limits, Lost, in_workers
from mgen.encoding.remi import Remi
from mgen.errors import MgenError
from mgen.files import require_tab_reader

NAMED = ("style", "collection", "work", "artist")

Outcomes = Generator[tuple[Source, Reading | Lost]]
ENGINES: dict[str, Callable[..., Outcomes]] = {"local": in_workers, "ray": in_ray}


def prepare(
    sources: Sequence[Source],
    out: Path,
    rules: Rules | None = None,
    *,
    workers: int | None = None,
    limits: Limits | None = None,
    engine: str = "local",
    overwrite: bool = False,
    resume: bool = False,
    split_by: str = "work",
    near: str = "join",
    options: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Write the corpus of `sources`; the same for any number of workers and any engine.

    Args:
        sources: files, as `scan` gives them.
        out: folder of the corpus; it is not there, empty, or with `overwrite` or `resume` holds a corpus, which stays
            until the new one is whole.
        rules: what every file goes by.
        workers: processes; as many as there are cores if None.
        limits: what one file may take.
        engine: `local` processes, or `ray` for several machines.
        resume: bring the corpus in `out` up to date: read only files that are new or were changed, and leave pieces in
            the splits they had, unless new music shows two of their works to be one. What an interrupted run has
            read is used in any case.
        split_by: `work`: pieces of one work go to one split; `artist`: pieces of one artist too.
        near: pieces that share much of their music are joined to one work (`join`), all but the first are dropped
            (`drop`), or not looked for (`ignore`).
        options: stored in the manifest as they are.
        progress: is told how many files were read, and how many of those that this run read gave no piece; first before
            it reads one.

    Returns:
        The manifest, as in corpus.json.

    Raises:
        MgenError: A word among the options does not exist, `out` is in use, a style is left without pieces in a split,
            nothing can be written, or there are Guitar Pro files and the extra `tabs` is not installed.
    """
    rules = rules or Rules()
    _check_words(rules, engine, split_by, near)
    tab = next((source.file for source in sources if source.file.suffix.lower() in {".gp3", ".gp4", ".gp5"}), None)
    if tab is not None:  # before any file is read
        require_tab_reader(tab)
    out = Path(os.path.realpath(out))
    styles = tuple(sorted({source.style for source in sources}))
    remi = Remi.build(styles, rules.recipe == "band")
    with staged(out, overwrite, resume) as folder:
        journal = Journal(folder / READ, rules.fingerprint)
        if resume:
            journal.adopt(out / READ)
        run = partial(ENGINES[engine], workers=workers or os.cpu_count() or 1, limits=limits or Limits())
        rows = _read(journal, sources, rules, run, progress)
        earlier = Earlier.of(out if resume else None)
        (cleaning, chunks), n_read = _tally(rows), _n_pieces(rows)
        rows = rows.drop(columns=["notes", "parts"])
        rows = rows if "duplicates" in rules.skip else without_copies(rows, earlier)
        exact = n_read - _n_pieces(rows)
        rows, kin = without_kin(rows, journal, near)
        pieces = of_schema(rows[rows["number"] >= 0].reset_index(drop=True))
        rejected = _rejected(rows, sources)
        del rows
        if len(rejected) + pieces["source"].nunique() != len(sources):
            raise AssertionError(f"{len(sources)} scanned, {pieces['source'].nunique()} kept, {len(rejected)} rejected")
        reasons = Counter(reason for _, reason, _ in rejected)
        if not len(pieces):
            why = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
            raise MgenError(f"none of {len(sources)} files could be kept ({why})")
        pieces["group"] = groups(pieces, kin, split_by)
        had = earlier.splits(pieces)
        before = splits_before(pieces["group"].tolist(), had)
        pieces["split"] = assign_splits(pieces, styles, by="group", before=before)
        moved = sum(bool(old) and old != new for old, new in zip(had, pieces["split"], strict=True))
        relations = summary(pieces, kin, exact)
        del kin  # it is large
        fingerprint, shards = _write_shards(pieces, journal, folder / TOKENS, len(styles))
        _write_tables(pieces, rejected, folder)
        if rules.tab_events:
            write_tab_events(pieces, journal, folder / TAB_EVENTS)
        remi.save_pretrained(folder / TOKENIZER)
        manifest = {
            "version": VERSION,
            "fingerprint": fingerprint,
            "recipe": rules.recipe,
            "rules": asdict(rules),
            "tokenizer": remi.fingerprint,
            "scanned": len(sources),
            "kept": int(pieces["source"].nunique()),
            "rejected": dict(sorted(reasons.items())),
            "cleaning": cleaning,
            **_chunk_counts(chunks, exact, n_read - exact - len(pieces), len(pieces)),
            "pieces": _sums(pieces.assign(one=1), "style", "one"),
            "works": {style: int(own["group"].nunique()) for style, own in pieces.groupby("style")},
            "tokens": _sums(pieces, "style", "n_tokens"),
            "collections": _sums(pieces.assign(one=1), "collection", "one"),
            **relations,
            "moved": moved,
            "shards": shards,
            "options": dict(options or {}),
        }
        journal.finish()
        text = json.dumps(manifest, indent=1, ensure_ascii=False)
        (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")
    written: dict[str, Any] = json.loads(text)
    return written


def _check_words(rules: Rules, engine: str, split_by: str, near: str) -> None:
    for name, word, known in (
        ("recipe", rules.recipe, RECIPES),
        ("engine", engine, tuple(ENGINES)),
        ("split_by", split_by, SPLIT_BY),
        ("near_duplicates", near, NEAR),
        *(("skip", step, tuple(STEPS)) for step in rules.skip),
    ):
        if word not in known:
            raise MgenError(f"{name} '{word}': expected one of {', '.join(known)}")
    if rules.tab_events and rules.recipe != "tabs":
        raise MgenError(f"tab_events: the recipe {rules.recipe} has several voices; use --recipe tabs")


# ------------------------------------------------------------- from files to rows


def _read(
    journal: Journal,
    sources: Sequence[Source],
    rules: Rules,
    run: Callable[..., Outcomes],
    progress: Callable[[int, int], None] | None,
) -> pd.DataFrame:
    """Read what the journal does not have; its rows for all `sources`, with what is told of their files."""
    stamps = [stamp(source.file) for source in sources]
    known = journal.known()
    todo = [i for i, source in enumerate(sources) if known.get(source.path) != stamps[i]]
    done, without = len(sources) - len(todo), 0
    if progress:
        progress(done, without)
    with journal, closing(run(partial(read_source, rules=rules), [sources[i] for i in todo])) as outcomes:
        for i, (source, outcome) in zip(todo, outcomes, strict=True):
            journal.write(source, stamps[i], outcome)
            done += 1
            without += isinstance(outcome, Lost) or not outcome.pieces
            if progress:
                progress(done, without)
    rows = _named(journal.rows(sources, stamps), sources)
    if rows["source"].nunique() != len(sources):
        raise AssertionError(f"{len(sources)} scanned, {rows['source'].nunique()} read")
    return rows


def _named(rows: pd.DataFrame, sources: Sequence[Source]) -> pd.DataFrame:
    """The journal's rows with what is told of their files."""
    at = rows["source"].to_numpy()
    for name in NAMED:
        rows[name] = np.array([getattr(source, name) for source in sources], dtype=object)[at]
    rows["song"] = np.array([source.song for source in sources], dtype=object)[at]
    return rows


def _n_pieces(rows: pd.DataFrame) -> int:
    return int((rows["number"] >= 0).sum())


def _tally(rows: pd.DataFrame) -> tuple[dict[str, dict[str, int]], Counter[str]]:
    """What the cleaning did, over all files: notes and files for each step; and what became of chunks."""
    notes: Counter[str] = Counter()
    files: Counter[str] = Counter()
    chunks: Counter[str] = Counter()
    for text in rows["notes"]:
        found = json.loads(text or "{}")
        notes.update(found)
        files.update(found.keys())
    for text in rows["parts"]:
        chunks.update(json.loads(text or "{}"))
    return {step: {"notes": notes[step], "files": files[step]} for step in sorted(notes)}, chunks


def _chunk_counts(chunks: Counter[str], exact: int, near: int, kept: int) -> dict[str, Any]:
    """The manifest's entry of the recipe `tabs`; empty for other recipes."""
    if not chunks:
        return {}
    n_found = chunks.pop("found")
    split = {name: chunks.pop(name, 0) for name in ("rests", "cut")}
    chunks.update({reason: n for reason, n in {"duplicate": exact, "near duplicate": near}.items() if n})
    if n_found != kept + chunks.total():
        raise AssertionError(f"{n_found} chunks found, {kept} kept, {chunks.total()} dropped")
    return {"chunks": {"found": n_found, "kept": kept, "dropped": dict(sorted(chunks.items())), "split": split}}


def _rejected(rows: pd.DataFrame, sources: Sequence[Source]) -> list[tuple[str, str, str]]:
    """Path, reason and detail of each file without pieces."""
    without = rows[rows["number"] == -1]
    return [
        (sources[source].path, reason, detail)
        for source, reason, detail in zip(without["source"], without["reason"], without["detail"], strict=True)
    ]


# --------------------------------------------------------------- from rows to files


def _write_shards(
    pieces: pd.DataFrame, journal: Journal, folder: Path, styles: int
) -> tuple[str, list[dict[str, str | int]]]:
    """The tokens of all pieces, to the shards of their splits; a hash of all that a model can learn from, and the
    shards.
    """
    digests = np.zeros(len(pieces), "V32")
    named = list(pieces[["split", "style", "collection", "work"]].itertuples(index=False, name=None))
    splits, owners = (pieces[name].to_numpy(dtype=str) for name in ("split", "style"))
    with ShardWriter(folder, splits, owners, pieces["n_tokens"].to_numpy(np.int64)) as shards:
        for piece, arrays in journal.arrays(pieces, ["ids"]):
            ids = arrays["ids"] + np.uint16(styles)  # the journal's vocabulary is without styles
            words = "\0".join(named[piece]).encode() + b"\n" + ids.astype("<u2").tobytes()
            digests[piece] = np.void(hashlib.sha256(words).digest())
            shards.write(piece, ids)
    return hashlib.sha256(digests.tobytes()).hexdigest()[:16], shards.shards


def _write_tables(pieces: pd.DataFrame, rejected: Sequence[tuple[str, str, str]], folder: Path) -> None:
    names = ["path", *NAMED, "song", "group", "split", *COLUMNS]
    pieces[names].to_parquet(folder / PIECES)
    with (folder / REJECTED).open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(["path", "reason", "detail"])
        lines.writerows(rejected)


def _sums(pieces: pd.DataFrame, by: str, column: str) -> dict[str, dict[str, int]]:
    """Sum of a column for each value of `by` and each split."""
    table = pieces.pivot_table(index=by, columns="split", values=column, aggfunc="sum", fill_value=0)
    return {str(name): {split: int(row.get(split, 0)) for split in SPLITS} for name, row in table.iterrows()}
