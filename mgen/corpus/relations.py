"""Relations between the pieces of a corpus: copies, near duplicates, works, and overlap of the splits.

Works on the journal's rows; `duplicates` does the comparison and knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from mgen.corpus.duplicates import (
    N_HASHES,
    Pairs,
    Shingles,
    collection_overlap,
    connected_groups,
    largest_overlap,
    name_pairs,
    near_duplicates,
)
from mgen.corpus.journal import Journal
from mgen.corpus.scan import work_key
from mgen.corpus.shards import MANIFEST, PIECES
from mgen.errors import MgenError

NEAR_DUPLICATE_ACTIONS = ("join", "drop", "ignore")  # values of the option `near_duplicates`
SPLIT_BY = ("work", "artist")


@dataclass(frozen=True, slots=True)
class PreviousSplits:
    """The splits in the corpus that is updated, by path and by content; a renamed file is found by its notes."""

    by_path: dict[str, str]
    by_content: dict[str, str]

    @classmethod
    def of(cls, corpus: Path | None) -> PreviousSplits:
        """The splits of the corpus in a folder; empty for None and for a folder without a corpus.

        Raises:
            MgenError: The corpus has a table of pieces that cannot be read.
        """
        if corpus is None or not (corpus / MANIFEST).is_file():
            return cls({}, {})
        try:
            old = pd.read_parquet(corpus / PIECES, columns=["path", "content", "split"])
        except (OSError, ValueError, pa.ArrowInvalid) as error:
            raise MgenError(
                f"{corpus / PIECES}: cannot be read, so its splits would be lost; --overwrite assigns new ones"
            ) from error
        columns = {name: old[name].tolist() for name in old}
        by_path, by_content = (dict(zip(columns[name], columns["split"], strict=True)) for name in ("path", "content"))
        return cls(by_path, by_content)

    def splits(self, rows: pd.DataFrame) -> list[str]:
        """The split of each row's piece before, empty for a new piece."""
        pairs = zip(rows["path"].tolist(), rows["content"].tolist(), strict=True)
        return [self.by_path.get(path) or self.by_content.get(content, "") for path, content in pairs]


@dataclass(frozen=True, slots=True)
class Relations:
    """Near duplicates among P pieces, and their shingles without the common ones."""

    pairs: Pairs
    shingles: Shingles


def drop_exact_copies(rows: pd.DataFrame, previous: PreviousSplits) -> pd.DataFrame:
    """Drops pieces with the same notes as another: the first is kept, or the one already in the corpus."""
    pieces = np.flatnonzero(rows["number"] >= 0)
    codes, _ = pd.factorize(rows["content"].to_numpy(dtype=object)[pieces])
    new = ~rows["path"].iloc[pieces].isin(previous.by_path).to_numpy()
    rank = pieces + np.where(new, len(rows), 0)
    first = pd.Series(rank).groupby(codes).transform("min").to_numpy() % len(rows)
    copies = first != pieces
    return _drop_pieces(rows, pieces[copies], first[copies], "duplicate", "same notes as")


def find_near_duplicates(rows: pd.DataFrame, journal: Journal, action: str) -> tuple[pd.DataFrame, Relations]:
    """Finds near duplicates; with the action `drop`, keeps one row of each group of them."""
    pieces = np.flatnonzero(rows["number"] >= 0)
    work, _ = pd.factorize(np.array(_work_keys(rows.iloc[pieces]), dtype=object))
    signatures, table = _sketches(rows.iloc[pieces], journal)
    table = table.drop_common(work=work)
    none = Pairs(np.zeros((0, 2), np.int64), np.zeros(0), np.zeros(0, np.int64))
    if action == "ignore":
        return rows, Relations(none, table)
    pairs = near_duplicates(signatures, table, work)
    if action == "join":
        return rows, Relations(pairs, table)
    group = connected_groups(len(pieces), pairs.pieces)
    first = pd.Series(np.arange(len(pieces))).groupby(group).transform("min").to_numpy()
    kept = first == np.arange(len(pieces))
    rows = _drop_pieces(rows, pieces[~kept], pieces[first[~kept]], "near duplicate", "in one group with")
    return rows, Relations(none, table.pieces(np.flatnonzero(kept)))


def split_groups(pieces: pd.DataFrame, relations: Relations, split_by: str) -> NDArray[np.object_]:
    """(P,) group of each piece: the first work, by name, of those that must share a split."""
    pairs = [relations.pairs.pieces, name_pairs(_work_keys(pieces))]
    if split_by == "artist":
        pairs.append(name_pairs(pieces["artist"].to_numpy(dtype=str)))
    group = connected_groups(len(pieces), *pairs)
    first: NDArray[np.object_] = pieces["work"].groupby(group).transform("min").to_numpy(dtype=object)
    return first


def summarise_relations(pieces: pd.DataFrame, relations: Relations, exact: int) -> dict[str, Any]:
    """Manifest entries: counts of duplicates, overlap of collections, largest overlap of a train and a test piece."""
    train, test = (np.flatnonzero(pieces["split"] == split) for split in ("train", "test"))
    names, share = collection_overlap(relations.pairs, pieces["collection"].to_numpy(dtype=str))
    out: dict[str, Any] = {
        "duplicates": {
            "exact": exact,
            "near_pairs": len(relations.pairs),
            "largest_group": int(pieces["group"].value_counts().max()),
            "pieces": len(pieces),
        },
        "collection_overlap": {"names": names, "share": np.round(share, 4).tolist()},
    }
    worst = largest_overlap(relations.shingles.pieces(train), relations.shingles.pieces(test)).largest
    if worst is not None:
        paths = pieces["path"].to_numpy()
        out["overlap"] = {
            "train": str(paths[train[worst[0]]]),
            "test": str(paths[test[worst[1]]]),
            "containment": round(worst[2], 4),
        }
    return out


def _work_keys(pieces: pd.DataFrame) -> list[str]:
    # A name without letters and digits is its own key.
    return [work_key(work) or work for work in pieces["work"]]


def _sketches(pieces: pd.DataFrame, journal: Journal) -> tuple[NDArray[np.uint32], Shingles]:
    """Signatures (P, K) and shingles of the pieces."""
    signatures = np.zeros((len(pieces), N_HASHES), np.uint32)
    for position, arrays in journal.arrays(pieces, ["signature"]):
        signatures[position] = arrays["signature"]

    def grams() -> Iterator[tuple[int, NDArray[np.uint32]]]:
        return ((position, arrays["shingles"]) for position, arrays in journal.arrays(pieces, ["shingles"]))

    return signatures, Shingles.from_stream(grams, pieces["n_shingles"].to_numpy().astype(np.int64))


def _drop_pieces(
    rows: pd.DataFrame, which: NDArray[np.intp], like: NDArray[np.intp], reason: str, words: str
) -> pd.DataFrame:
    """Drops rows `which`, duplicates of rows `like`; a file without other pieces keeps a row with the reason."""
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
