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
import shutil
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mgen.corpus.clean import RECIPES, STEPS
from mgen.corpus.duplicates import (
    N_HASHES,
    Pairs,
    Shingles,
    collection_overlap,
    joined,
    largest_overlap,
    near_duplicates,
    same,
)
from mgen.corpus.journal import COLUMNS, Journal, Stamp, stamp
from mgen.corpus.ray_workers import in_ray
from mgen.corpus.reading import Reading, Rules, read_source
from mgen.corpus.scan import Source, work_key
from mgen.corpus.shards import MANIFEST, PIECES, REJECTED, TOKENIZER, TOKENS, VERSION, ShardWriter
from mgen.corpus.split import SPLITS, assign_splits, splits_before
from mgen.corpus.tab_tables import TAB_EVENTS, write_tab_events
from mgen.corpus.workers import Limits, Lost, in_workers
from mgen.encoding.remi import Remi
from mgen.errors import MgenError

READ = "read"
"""Folder of the journal in a corpus: what was read, for the next time. It may be deleted."""

NAMED = ("style", "collection", "work", "artist")

Outcomes = Generator[tuple[Source, Reading | Lost]]
Engine = Callable[[Callable[[Source], Reading], Iterable[Source], int, Limits], Outcomes]
ENGINES: dict[str, Engine] = {"local": in_workers, "ray": in_ray}

SPLIT_BY = ("work", "artist")
NEAR = ("join", "drop", "ignore")


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
        resume: use what an interrupted run, or the corpus in `out`, has read of files that are as they were; pieces
            that had a split keep it.
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
            or nothing can be written.
    """
    rules = rules or Rules()
    _check_words(rules, engine, split_by, near)
    out = Path(os.path.realpath(out))
    _put_back(out)
    check_free(out, overwrite or resume)
    styles = tuple(sorted({source.style for source in sources}))
    remi = Remi.build(styles, rules.recipe == "band")
    stamps = [stamp(source.file) for source in sources]
    with _staged(out, overwrite, resume) as folder:
        journal = Journal(folder / READ, rules.fingerprint)
        if resume:
            journal.adopt(out / READ)
        read = partial(read_source, rules=rules)
        known = journal.known()
        todo = [i for i, source in enumerate(sources) if known.get(source.path) != stamps[i]]
        outcomes = ENGINES[engine](read, [sources[i] for i in todo], workers or os.cpu_count() or 1, limits or Limits())
        _note(journal, outcomes, [stamps[i] for i in todo], len(sources), progress)
        rows = _named(journal.rows(sources, stamps), sources)
        if rows["source"].nunique() != len(sources):
            raise AssertionError(f"{len(sources)} scanned, {rows['source'].nunique()} read")
        found = rows
        rows = rows if "duplicates" in rules.skip else _without_copies(rows, journal)
        exact = _n_pieces(found) - _n_pieces(rows)
        rows, kin = _without_kin(rows, journal, near)
        pieces = rows[rows["number"] >= 0].reset_index(drop=True)
        rejected = _rejected(rows, sources)
        if len(rejected) + pieces["source"].nunique() != len(sources):
            raise AssertionError(f"{len(sources)} scanned, {pieces['source'].nunique()} kept, {len(rejected)} rejected")
        reasons = Counter(reason for _, reason, _ in rejected)
        if not len(pieces):
            why = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
            raise MgenError(f"none of {len(sources)} files could be kept ({why})")
        pieces["group"] = _groups(pieces, kin, split_by)
        before = splits_before(pieces["group"].tolist(), _splits_of(out, pieces) if resume else [""] * len(pieces))
        pieces["split"] = assign_splits(pieces, styles, by="group", before=before)
        relations = _relations(pieces, kin, exact)
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
            **_counts(found, {"duplicate": exact, "near duplicate": _n_pieces(found) - exact - len(pieces)}),
            "pieces": _sums(pieces.assign(one=1), "style", "one"),
            "works": {style: int(own["group"].nunique()) for style, own in pieces.groupby("style")},
            "tokens": _sums(pieces, "style", "n_tokens"),
            "collections": _sums(pieces.assign(one=1), "collection", "one"),
            **relations,
            "shards": shards,
            "options": dict(options or {}),
        }
        text = json.dumps(manifest, indent=1, ensure_ascii=False)
        (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")
    written: dict[str, Any] = json.loads(text)
    return written


def check_free(out: Path, replace: bool) -> None:
    """Raise unless a corpus may be written to the folder `out`."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / MANIFEST).is_file():
        raise MgenError(f"{out}: holds something else than a corpus; choose another --out")
    if not replace:
        raise MgenError(
            f"{out}: holds a corpus already; give --resume to bring it up to date, --overwrite to make it anew, or "
            "choose another --out"
        )


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


# ------------------------------------------------------------------- the folder


def _beside(out: Path, suffix: str) -> Path:
    return out.with_name(f".{out.name}.{suffix}")


def _put_back(out: Path) -> None:
    """Restore the corpus of a run that was killed after it moved the old one away and before the new one came."""
    old = _beside(out, "old")
    if old.exists() and not out.exists():
        old.rename(out)


@contextmanager
def _staged(out: Path, overwrite: bool, resume: bool) -> Iterator[Path]:
    """A folder beside `out` that takes its place when all went well. A run that is interrupted leaves its journal
    there; after an error all is gone.
    """
    aside, old = _beside(out, "part"), _beside(out, "old")
    if aside.exists() and any((aside / READ).glob("*.parquet")) and not (overwrite or resume):
        raise MgenError(
            f"{out}: an interrupted run has read files for it; give --resume to go on with them, or --overwrite to "
            "begin anew"
        )
    try:
        shutil.rmtree(old, ignore_errors=True)
        for left_over in aside.glob("*"):
            if not (resume and left_over.name == READ):
                _remove(left_over)
        aside.mkdir(parents=True, exist_ok=True)
        yield aside
        check_free(out, overwrite or resume)
        if out.exists():
            out.rename(old)
        try:
            aside.rename(out)
        finally:
            _put_back(out)
    except OSError as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise MgenError(
            f"{out}: cannot be written ({error.strerror or error}); free some space or choose another --out"
        ) from error
    except Exception:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    finally:
        if out.exists():
            shutil.rmtree(old, ignore_errors=True)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


# ------------------------------------------------------------- from files to rows


def _note(
    journal: Journal,
    outcomes: Outcomes,
    stamps: Sequence[Stamp],
    n_sources: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Write what becomes of each file that is read now; `stamps` are those files'."""
    done, without = n_sources - len(stamps), 0
    if progress:
        progress(done, without)
    with journal, closing(outcomes):
        for stamped, (source, outcome) in zip(stamps, outcomes, strict=True):
            journal.write(source, stamped, outcome)
            done += 1
            without += isinstance(outcome, Lost) or not outcome.pieces
            if progress:
                progress(done, without)


def _named(rows: pd.DataFrame, sources: Sequence[Source]) -> pd.DataFrame:
    """The journal's rows with what is told of their files."""
    at = rows["source"].to_numpy()
    for name in NAMED:
        rows[name] = np.array([getattr(source, name) for source in sources], dtype=object)[at]
    rows["song"] = np.array([source.path.rsplit("/", 1)[-1].rsplit(".", 1)[0] for source in sources], dtype=object)[at]
    return rows


def _n_pieces(rows: pd.DataFrame) -> int:
    return int((rows["number"] >= 0).sum())


def _counts(rows: pd.DataFrame, copies: Mapping[str, int]) -> dict[str, Any]:
    """What the cleaning did, over all files: notes and files for each step, and what became of chunks.

    `copies` tells how many pieces were dropped later, by reason.
    """
    notes: Counter[str] = Counter()
    files: Counter[str] = Counter()
    chunks: Counter[str] = Counter()
    for text in rows["notes"]:
        found = json.loads(text or "{}")
        notes.update(found)
        files.update(found.keys())
    for text in rows["parts"]:
        chunks.update(json.loads(text or "{}"))
    out: dict[str, Any] = {"cleaning": {step: {"notes": notes[step], "files": files[step]} for step in sorted(notes)}}
    if chunks:
        n_found = chunks.pop("found")
        split = {name: chunks.pop(name, 0) for name in ("rests", "cut")}
        chunks.update({reason: n for reason, n in copies.items() if n})
        kept = _n_pieces(rows) - sum(copies.values())
        if n_found != kept + chunks.total():
            raise AssertionError(f"{n_found} chunks found, {kept} kept, {chunks.total()} dropped")
        out["chunks"] = {"found": n_found, "kept": kept, "dropped": dict(sorted(chunks.items())), "split": split}
    return out


def _without_copies(rows: pd.DataFrame, journal: Journal) -> pd.DataFrame:
    """The rows without pieces of the same notes as one before."""
    pieces = np.flatnonzero(rows["number"] >= 0)
    content = np.empty(len(pieces), dtype=object)
    for position, arrays in journal.arrays(rows.iloc[pieces], ["content"]):
        content[position] = arrays["content"]
    codes, _ = pd.factorize(content)
    first = pd.Series(pieces).groupby(codes).transform("min").to_numpy()
    copies = first != pieces
    return _dropped(rows, pieces[copies], first[copies], "duplicate", "same notes as")


def _without_kin(rows: pd.DataFrame, journal: Journal, near: str) -> tuple[pd.DataFrame, _Kin]:
    """The rows and what their pieces have in common; with `drop`, only the first of pieces that are near duplicates."""
    pieces = np.flatnonzero(rows["number"] >= 0)
    work, _ = pd.factorize(np.array([work_key(name) for name in rows["work"].iloc[pieces]], dtype=object))
    signatures, table = _sketches(rows.iloc[pieces], journal)
    table = table.uncommon(work=work)
    none = Pairs(np.zeros((0, 2), np.int64), np.zeros(0), np.zeros(0, np.int64))
    if near == "ignore":
        return rows, _Kin(none, table)
    pairs = near_duplicates(signatures, table, work)
    if near == "join":
        return rows, _Kin(pairs, table)
    group = joined(len(pieces), pairs.pieces)
    first = pd.Series(np.arange(len(pieces))).groupby(group).transform("min").to_numpy()
    kept = first == np.arange(len(pieces))
    rows = _dropped(rows, pieces[~kept], pieces[first[~kept]], "near duplicate", "much of it is in")
    return rows, _Kin(none, table.pieces(np.flatnonzero(kept)))


def _sketches(pieces: pd.DataFrame, journal: Journal) -> tuple[NDArray[np.uint32], Shingles]:
    """Signatures (P, K) and shingles of the pieces."""
    starts = np.append(0, np.cumsum(pieces["n_shingles"].to_numpy().astype(np.int64)))
    hashes = np.zeros(starts[-1], np.uint32)
    signatures = np.zeros((len(pieces), N_HASHES), np.uint32)
    for position, arrays in journal.arrays(pieces, ["shingles", "signature"]):
        hashes[starts[position] : starts[position + 1]] = arrays["shingles"]
        signatures[position] = arrays["signature"]
    return signatures, Shingles.of(hashes, starts)


def _dropped(
    rows: pd.DataFrame, which: NDArray[np.intp], like: NDArray[np.intp], reason: str, words: str
) -> pd.DataFrame:
    """The rows without those at `which`, because of those at `like`; a file that is left without pieces says so."""
    if not len(which):
        return rows
    number = rows["number"].to_numpy().copy()
    number[which] = -2
    left = pd.Series(number >= 0).groupby(rows["source"].to_numpy()).transform("any").to_numpy()
    number[which[~left[which]]] = -1
    reasons, details = (rows[name].to_numpy(dtype=object).copy() for name in ("reason", "detail"))
    reasons[which] = reason
    details[which] = [f"{words} {path}" for path in rows["path"].to_numpy()[like]]
    keep = (number >= 0) | ((number == -1) & ~rows["source"].duplicated().to_numpy())
    left_over: pd.DataFrame = rows.assign(number=number, reason=reasons, detail=details)[keep].reset_index(drop=True)
    return left_over


def _rejected(rows: pd.DataFrame, sources: Sequence[Source]) -> list[tuple[str, str, str]]:
    """Path, reason and detail of each file without pieces."""
    without = rows[rows["number"] == -1]
    return [
        (sources[source].path, reason, detail)
        for source, reason, detail in zip(without["source"], without["reason"], without["detail"], strict=True)
    ]


# ----------------------------------------------------------- what belongs together


@dataclass(frozen=True, slots=True)
class _Kin:
    """What P pieces have in common: near duplicates, and the shingles that are no commonplaces."""

    pairs: Pairs
    shingles: Shingles


def _groups(pieces: pd.DataFrame, kin: _Kin, split_by: str) -> NDArray[np.object_]:
    """(P,) for each piece the first work, by name, of those that have to go to one split."""
    relations = [kin.pairs.pieces, same([work_key(work) for work in pieces["work"]])]
    if split_by == "artist":
        relations.append(same(pieces["artist"].to_numpy(dtype=str)))
    group = joined(len(pieces), *relations)
    first: NDArray[np.object_] = pieces["work"].groupby(group).transform("min").to_numpy(dtype=object)
    return first


def _relations(pieces: pd.DataFrame, kin: _Kin, exact: int) -> dict[str, Any]:
    """How many pieces are alike, how far collections overlap, and the largest overlap of a train and a test piece."""
    train, test = (np.flatnonzero(pieces["split"] == split) for split in ("train", "test"))
    names, share = collection_overlap(kin.pairs, pieces["collection"].to_numpy(dtype=str))
    out: dict[str, Any] = {
        "duplicates": {
            "exact": exact,
            "near_pairs": len(kin.pairs),
            "largest_group": int(pieces["group"].value_counts().max()),
            "pieces": len(pieces),
        },
        "collection_overlap": {"names": names, "share": np.round(share, 4).tolist()},
    }
    worst = largest_overlap(kin.shingles.pieces(train), kin.shingles.pieces(test)).largest
    if worst is not None:
        paths = pieces["path"].to_numpy()
        out["overlap"] = {
            "train": str(paths[train[worst[0]]]),
            "test": str(paths[test[worst[1]]]),
            "containment": round(worst[2], 4),
        }
    return out


def _splits_of(out: Path, pieces: pd.DataFrame) -> list[str]:
    """The split that each piece's file has in the corpus in `out`, empty where it has none."""
    try:
        old = pd.read_parquet(out / PIECES, columns=["path", "split"])
    except (OSError, ValueError):
        return [""] * len(pieces)
    known = dict(zip(old["path"], old["split"], strict=True))
    return [known.get(path, "") for path in pieces["path"]]


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
