"""Music files to a corpus: worker processes read every file, and each file ends in exactly one of pieces.parquet and
rejected.csv.

The corpus is written to a folder next to the target and renamed when it is complete. Everything read goes to a journal
on disk first, because duplicates and splits depend on all pieces: so memory does not grow with the corpus, and a
killed run continues where it stopped.

Columns of pieces.parquet, one row per piece: `path` of its file; `style`, `collection`, `work`, `artist` from the
metadata or the path; `song`, the file name; `group`, the first work of those that must share a split; `split`; then the
columns of `reading.Piece` and `reading.FileFacts`.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mgen.corpus.clean import CLEANING_STEPS, RECIPES
from mgen.corpus.journal import COLUMNS, COUNTS, Journal, cast_to_schema, file_stamp
from mgen.corpus.ray_workers import run_on_ray
from mgen.corpus.reading import Reading, Rules, read_source
from mgen.corpus.relations import (
    NEAR_DUPLICATE_ACTIONS,
    SPLIT_BY,
    PreviousSplits,
    drop_exact_copies,
    find_near_duplicates,
    split_groups,
    summarise_relations,
)
from mgen.corpus.scan import Source
from mgen.corpus.search import PassedOver
from mgen.corpus.shards import MANIFEST, PIECES, REJECTED, TOKENIZER, TOKENS, VERSION, Corpus, ShardWriter
from mgen.corpus.split import assign_splits, splits_of_groups, sums_by_split
from mgen.corpus.staging import JOURNAL, folder_of_rejected, stage_corpus
from mgen.corpus.tab_tables import TAB_EVENTS, write_tab_events
from mgen.corpus.workers import Failure, Limits, run_in_processes
from mgen.encoding.remi import LEARNING_TOKENS, Remi
from mgen.errors import MgenError
from mgen.formats.files import require_readers
from mgen.progress import Progress, count, silent

SOURCE_COLUMNS = ("style", "collection", "work", "artist", "song")

Outcomes = Generator[tuple[Source, Reading | Failure]]
ENGINES: dict[str, Callable[..., Outcomes]] = {"local": run_in_processes, "ray": run_on_ray}


def prepare_corpus(
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
    near_duplicates: str = "join",
    merges: int = 0,
    options: Mapping[str, Any] | None = None,
    passed_over: PassedOver | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Writes the corpus of `sources`; the result does not depend on the number of workers or the engine.

    Args:
        sources: files, as `scan` returns them.
        out: folder of the corpus; must not exist or be empty, or, with `overwrite` or `resume`, hold a corpus, which
            stays until the new one is complete.
        rules: how every file is read.
        workers: number of processes; one per core if None.
        limits: time and memory per file.
        engine: `local` processes, or `ray` for several machines.
        resume: update the corpus in `out`: read only files that are new or changed, and keep pieces in their splits,
            unless new music joins two of their works. What an interrupted run has read is reused in any case.
        split_by: `work`: pieces of one work share a split; `artist`: pieces of one artist too.
        near_duplicates: pieces that share much of their music become one work (`join`), are dropped but for the first
            (`drop`), or are not searched for (`ignore`).
        merges: merged tokens to learn from train, see `mgen.encoding.merges`; 0 for none. With `resume` those of the
            corpus in `out` are kept, if they were as many.
        options: stored in the manifest unchanged.
        passed_over: what `scan` did not take as music, for the manifest.
        progress: takes the count of the files, first before one is read, with those of this run that have no piece.

    Returns:
        The manifest, as in corpus.json.

    Raises:
        MgenError: An option has an unknown value, `out` is in use, a style has no pieces left for a split (what was
            rejected is named, and rejected.csv is kept), writing fails, or an extra that reads a format is not
            installed.
    """
    rules = rules or Rules()
    _check_options(rules, engine, split_by, near_duplicates)
    require_readers(source.file for source in sources)  # before any file is read
    out = Path(os.path.realpath(out))
    styles = tuple(sorted({source.style for source in sources}))
    remi = Remi.build(styles, rules.recipe == "band", rules.velocity)
    with stage_corpus(out, overwrite, resume) as folder:
        journal = Journal(folder / JOURNAL, rules.fingerprint)
        if resume:
            journal.link_parts(out / JOURNAL)
        run = partial(ENGINES[engine], workers=workers or os.cpu_count() or 1, limits=limits or Limits())
        rows = _read(journal, sources, rules, run, progress)
        previous = PreviousSplits.of(out if resume else None)
        cleaning, repairs = _count_by_kind(rows["notes"], "notes"), _count_by_kind(rows["repairs"], "faults")
        chunks = _sum(_counts(rows["parts"]))
        n_read = _n_pieces(rows)
        rows = rows.drop(columns=list(COUNTS))
        rows = rows if "duplicates" in rules.skip else drop_exact_copies(rows, previous)
        n_exact = n_read - _n_pieces(rows)
        rows, relations = find_near_duplicates(rows, journal, near_duplicates)
        pieces = cast_to_schema(rows[rows["number"] >= 0].reset_index(drop=True))
        rejected = _rejected(rows, sources)
        del rows
        if len(rejected) + pieces["source"].nunique() != len(sources):
            raise AssertionError(f"{len(sources)} scanned, {pieces['source'].nunique()} kept, {len(rejected)} rejected")
        reasons = Counter(reason for _, reason, _ in rejected)
        try:
            if not len(pieces):
                raise MgenError(f"none of {len(sources)} files could be kept")
            before = previous.splits(pieces)
            pieces["group"] = split_groups(pieces, relations, split_by)
            known = splits_of_groups(pieces["group"].tolist(), before)
            pieces["split"] = assign_splits(pieces, styles, by="group", previous=known)
        except MgenError as error:
            counts = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common()) or "none"
            place = _write_rejected(rejected, folder_of_rejected(folder, out))
            raise MgenError(f"{error}; {len(rejected)} files were rejected ({counts}), see {place}") from error
        n_moved = sum(bool(old) and old != new for old, new in zip(before, pieces["split"], strict=True))
        relation_counts = summarise_relations(pieces, relations, n_exact)
        del relations  # it is large
        fingerprint, shards = _write_shards(pieces, journal, folder / TOKENS, len(styles))
        if merges:
            remi = (_kept_merges(out, remi, merges) if resume else None) or _learn_merges(folder, shards, remi, merges)
            fingerprint = hashlib.sha256((fingerprint + remi.fingerprint).encode()).hexdigest()[:16]
        pieces[["path", *SOURCE_COLUMNS, "group", "split", *COLUMNS]].to_parquet(folder / PIECES)
        _write_rejected(rejected, folder)
        if rules.tab_events:
            write_tab_events(pieces, journal, folder / TAB_EVENTS)
        remi.save_pretrained(folder / TOKENIZER)
        manifest = {
            "version": VERSION,
            "fingerprint": fingerprint,
            "recipe": rules.recipe,
            "rules": asdict(rules),
            "tokenizer": remi.fingerprint,
            "merges": {"asked": merges, "learned": remi.merges, "base_per_token": round(remi.base_per_token, 4)},
            "scanned": len(sources),
            "kept": int(pieces["source"].nunique()),
            "rejected": dict(sorted(reasons.items())),
            "passed_over": asdict(passed_over or PassedOver()),
            "repairs": repairs,
            "cleaning": cleaning,
            **_chunk_counts(chunks, n_exact, n_read - n_exact - len(pieces), len(pieces)),
            "pieces": sums_by_split(pieces.assign(one=1), "style", "one"),
            "works": {style: int(own["group"].nunique()) for style, own in pieces.groupby("style")},
            "tokens": sums_by_split(pieces, "style", "n_tokens"),
            "collections": sums_by_split(pieces.assign(one=1), "collection", "one"),
            **relation_counts,
            "moved": n_moved,
            "shards": shards,
            "options": dict(options or {}),
        }
        journal.delete_other_rules()
        text = json.dumps(manifest, indent=1, ensure_ascii=False)
        (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")
    written: dict[str, Any] = json.loads(text)
    return written


def _check_options(rules: Rules, engine: str, split_by: str, near_duplicates: str) -> None:
    for name, value, known in (
        ("recipe", rules.recipe, RECIPES),
        ("engine", engine, tuple(ENGINES)),
        ("split_by", split_by, SPLIT_BY),
        ("near_duplicates", near_duplicates, NEAR_DUPLICATE_ACTIONS),
        *(("skip", step, tuple(CLEANING_STEPS)) for step in rules.skip),
    ):
        if value not in known:
            raise MgenError(f"{name} '{value}': expected one of {', '.join(known)}")
    if rules.tab_events and rules.recipe != "tabs":
        raise MgenError(f"tab_events: the recipe {rules.recipe} has several voices; use --recipe tabs")


def _read(
    journal: Journal, sources: Sequence[Source], rules: Rules, run: Callable[..., Outcomes], progress: Progress
) -> pd.DataFrame:
    """Reads the files that the journal does not have; returns its rows for all `sources`, with `SOURCE_COLUMNS`."""
    stamps = [file_stamp(source.file) for source in sources]
    known = journal.known()
    todo = [i for i, source in enumerate(sources) if (source.path, stamps[i]) not in known]
    done, without = len(sources) - len(todo), 0
    count(progress, "files", done, len(sources))
    with journal, closing(run(partial(read_source, rules=rules), [sources[i] for i in todo])) as outcomes:
        for i, (source, outcome) in zip(todo, outcomes, strict=True):
            journal.write(source, stamps[i], outcome)
            done += 1
            without += isinstance(outcome, Failure) or not outcome.pieces
            count(progress, "files", done, len(sources), f"{without} without a piece")
    rows = journal.rows(sources, stamps)
    if rows["source"].nunique() != len(sources):
        raise AssertionError(f"{len(sources)} scanned, {rows['source'].nunique()} read")
    at = rows["source"].to_numpy()
    for name in SOURCE_COLUMNS:
        rows[name] = np.array([getattr(source, name) for source in sources], dtype=object)[at]
    return rows


def _n_pieces(rows: pd.DataFrame) -> int:
    return int((rows["number"] >= 0).sum())


def _counts(column: Iterable[str]) -> Iterator[dict[str, int]]:
    """The counts of each file, of a column of the journal."""
    return (json.loads(text) for text in column if text)


def _sum(counts: Iterable[dict[str, int]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for some in counts:
        total.update(some)
    return total


def _count_by_kind(column: Iterable[str], unit: str) -> dict[str, dict[str, int]]:
    """The sum of each count over all files, as `unit`, and the number of files that have it."""
    sums, files = _sum(_counts(column)), _sum(dict.fromkeys(counts, 1) for counts in _counts(column))
    return {kind: {unit: sums[kind], "files": files[kind]} for kind in sorted(sums)}


def _chunk_counts(chunks: Counter[str], exact: int, near: int, kept: int) -> dict[str, Any]:
    """The manifest's entry `chunks` of the recipe `tabs`; empty for other recipes."""
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


def _write_shards(
    pieces: pd.DataFrame, journal: Journal, folder: Path, styles: int
) -> tuple[str, list[dict[str, str | int]]]:
    """Writes the tokens of all pieces to the shards of their splits.

    Returns:
        A hash of everything a model can learn from, and the shards.
    """
    digests = np.zeros(len(pieces), "V32")
    labels = list(pieces[["split", "style", "collection", "work"]].itertuples(index=False, name=None))
    splits, owners = (pieces[name].to_numpy(dtype=str) for name in ("split", "style"))
    with ShardWriter(folder, splits, owners, pieces["n_tokens"].to_numpy(np.int64)) as shards:
        for piece, arrays in journal.arrays(pieces, ["ids"]):
            ids = arrays["ids"] + np.uint16(styles)  # the journal's vocabulary has no styles
            text = "\0".join(labels[piece]).encode() + b"\n" + ids.astype("<u2").tobytes()
            digests[piece] = np.void(hashlib.sha256(text).digest())
            shards.write(piece, ids)
    return hashlib.sha256(digests.tobytes()).hexdigest()[:16], shards.shards


def _kept_merges(out: Path, remi: Remi, count: int) -> Remi | None:
    """The vocabulary of the corpus that is updated, if it is of the same kind: models of it can be used on."""
    try:
        old = Corpus.open(out)
    except MgenError:
        return None
    asked = old.manifest.get("merges", {}).get("asked")
    return old.remi if asked == count and old.remi.base.fingerprint == remi.fingerprint else None


def _learn_merges(folder: Path, shards: list[dict[str, str | int]], remi: Remi, count: int) -> Remi:
    """The vocabulary with merges learned from train, in the random order of its shards."""
    pieces: list[NDArray[np.uint16]] = []
    held = 0
    for _, rows in Corpus(folder, {"shards": shards}, remi).token_batches(["train"], 256):
        pieces += [row.values.to_numpy() for row in rows["ids"]]
        held += sum(map(len, pieces[-len(rows) :]))
        if held >= LEARNING_TOKENS:
            break
    return remi.learn_merges(pieces, count)


def _write_rejected(rejected: Sequence[tuple[str, str, str]], folder: Path) -> Path:
    path = folder / REJECTED
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", "reason", "detail"])
        writer.writerows(rejected)
    return path
