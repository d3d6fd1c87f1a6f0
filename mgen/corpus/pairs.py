"""Pairs of a drum part and the bass line played with it, over a split of a corpus, with their conditions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from mgen.arrays import Floats, Longs
from mgen.corpus.shards import REMEDY, Corpus
from mgen.corpus.tempo_map import read_tempo_map
from mgen.encoding.drum_bass import Bass, Drums, Windows, cut_windows, is_bass
from mgen.errors import MgenError
from mgen.music.keys import UNKNOWN_KEY, key_of
from mgen.notes import Notes
from mgen.stored import explain_damage

CONDITIONS = ("tempo", "instrument", "genre", "key")
"""Columns of the conditions: quarters per minute; program; number of the genre; key of `mgen.music.keys`."""

PREPARE = "mgen prepare --config configs/prepare/band.yaml MUSIC --out CORPUS writes it"
PIECES_AT_ONCE = 16  # decoded together: few enough that their arrays stay in the cache

Batch = dict[str, Tensor]  # drums (B, T, 14) bool, conditions (B, 4) float32, labels (B, T) int64


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """N windows of T steps, in the order of the split's pieces."""

    where: str  # corpus and split, for messages
    drums: Drums  # (N, T, 14)
    bass: Bass  # (N, T)
    conditions: NDArray[np.float32]  # (N, 4), columns `CONDITIONS`; genres as numbers of `genres`, -1 for another
    piece: Longs  # (N,) number in the split
    work: NDArray[np.str_]  # (N,)

    def __len__(self) -> int:
        return len(self.drums)

    def select(self, rows: NDArray[np.bool_] | Longs) -> Pairs:
        """Only these."""
        parts = self.bass[rows], self.conditions[rows], self.piece[rows], self.work[rows]
        return Pairs(self.where, self.drums[rows], *parts)


class NoPairs(MgenError):
    """No window of a split can be used."""


def keys_of(pairs: Pairs) -> Longs:
    """(N,) key of each window's piece."""
    return pairs.conditions[:, CONDITIONS.index("key")].astype(np.int64)


def genre_column(pieces: pd.DataFrame) -> str:
    """The column that is the genre: `style` if the corpus has several, otherwise `collection`."""
    return "style" if pieces["style"].nunique() > 1 else "collection"


def genres_of(corpus: Corpus) -> list[str]:
    """The genres of the training pieces, sorted."""
    train = corpus.pieces[corpus.pieces["split"] == "train"]
    return sorted(set(train[genre_column(corpus.pieces)].astype(str)))


def read_pairs(
    corpus: Corpus,
    split: str,
    genres: Sequence[str],
    steps: int = 64,
    least_hits: int = 8,
    least_notes: int = 4,
    first_bar: int = 0,
) -> tuple[Pairs, dict[str, int]]:
    """Cuts all pieces of a split.

    Args:
        genres: names that are numbered.
        steps, least_hits, least_notes, first_bar: see `cut_windows`.

    Returns:
        The pairs; and `pieces`, the pieces left out as `pieces off grid`, `pieces without bass`, `pieces without
        drums`, the windows left out by reason, and `windows`, those that are there.

    Raises:
        NoPairs: No window is left; the line says why.
        MgenError: The corpus has another recipe, is of an older mgen, or is damaged.
    """
    recipe = corpus.manifest.get("recipe")
    if recipe != "band":
        raise MgenError(f"{corpus.folder}: has the recipe {recipe}, which keeps no drums; {PREPARE}")
    if "tempo_map" not in corpus.pieces:
        raise MgenError(f"{corpus.folder}: has no tempo_map, it is of an older mgen; {REMEDY}")
    table = corpus.table(split)
    rows, counts = table.rows, Counter({"pieces": len(table)})
    usable = np.flatnonzero(rows["on_grid"].to_numpy(np.bool_))
    counts["pieces off grid"] = len(table) - len(usable)
    numbers = {name: number for number, name in enumerate(genres)}
    genre = rows[genre_column(corpus.pieces)].astype(str).map(numbers).fillna(-1).to_numpy(np.float32)
    found: list[tuple[int, Windows, NDArray[np.float32]]] = []
    for begin in range(0, len(usable), PIECES_AT_ONCE):
        batch = usable[begin : begin + PIECES_AT_ONCE]
        notes = Notes.from_ids([table[i] for i in batch], corpus.remi)
        for i, piece, key in zip(batch.tolist(), range(len(batch)), key_of(notes).tolist(), strict=True):
            one = notes.pieces([piece])
            if not (one.program < 0).any() or not is_bass(one).any():
                counts["pieces without bass" if (one.program < 0).any() else "pieces without drums"] += 1
                continue
            with explain_damage(corpus.folder, REMEDY):
                at, tempo = read_tempo_map(str(rows["tempo_map"].iloc[i]))
            windows = cut_windows(one, steps, least_hits, least_notes, at[1:], first_bar)
            counts.update(windows.left_out)
            if len(windows.start):
                found.append((i, windows, _conditions(windows, at, tempo, float(genre[i]), key)))
    where = f"{corpus.folder}, {split}"
    if not found:
        reasons = ", ".join(f"{reason} {n}" for reason, n in counts.items() if n and reason != "pieces") or "no piece"
        raise NoPairs(
            f"{where}: no window of {steps} steps in 4/4 has {least_hits} drum hits and {least_notes} bass notes "
            f"({counts['pieces']} pieces; {reasons}); add music with drums and bass (programs 32-39) on its beat grid"
        )
    sizes = [len(windows.start) for _, windows, _ in found]
    counts["windows"] = sum(sizes)
    owner = np.repeat(np.array([i for i, *_ in found], np.int64), sizes)
    pairs = Pairs(
        where,
        np.concatenate([windows.drums for _, windows, _ in found]),
        np.concatenate([windows.bass for _, windows, _ in found]),
        np.concatenate([conditions for *_, conditions in found]),
        owner,
        rows["group"].to_numpy(str)[owner],
    )
    return pairs, dict(+counts)


def _conditions(windows: Windows, at: Longs, tempo: Floats, genre: float, key: int) -> NDArray[np.float32]:
    in_force = tempo[np.searchsorted(at, windows.start, side="right") - 1]
    columns = np.broadcast_arrays(in_force, windows.program, genre, key)
    return np.column_stack(columns).astype(np.float32)


def unseen(conditions: NDArray[np.float32], known: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """How many rows (N, 4) have a condition that is not `known`; a network takes these as unknown."""
    columns = {name: conditions[:, CONDITIONS.index(name)] for name in known}
    return {name: int((~np.isin(columns[name], [*numbers])).sum()) for name, numbers in known.items()}


class PairSet(Dataset[Batch]):
    """Pairs as tensors. A `DataLoader` calls `__getitems__` and gets the whole batch; collate with `as_batch`."""

    def __init__(self, pairs: Pairs) -> None:
        self.pairs = pairs
        self._columns = {
            "drums": torch.from_numpy(pairs.drums),
            "conditions": torch.from_numpy(pairs.conditions),
            "labels": torch.from_numpy(pairs.bass.astype(np.int64)),
        }

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Batch:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return {name: of[index] for name, of in self._columns.items()}

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        rows = torch.as_tensor(indices)
        return {name: of[rows] for name, of in self._columns.items()}


def as_batch(items: Batch | Sequence[Batch]) -> Batch:
    """What `__getitems__` returned, or the same from single items."""
    if isinstance(items, Mapping):
        return dict(items)
    return {name: torch.stack([item[name] for item in items]) for name in items[0]}


def known_conditions(conditions: NDArray[np.float32]) -> dict[str, list[int]]:
    """The numbers of `instrument`, `genre` and `key` that training (N, 4) has, sorted.

    Other keys of a mode that it has are known too, because networks write the same music in every key alike.
    """
    found = {
        name: {int(value) for value in conditions[:, CONDITIONS.index(name)]} - {-1}
        for name in ("instrument", "genre", "key")
    }
    modes = {key // 12 for key in found["key"] - {UNKNOWN_KEY}}
    found["key"] |= {12 * mode + semitone for mode in modes for semitone in range(12)}
    return {name: sorted(numbers) for name, numbers in found.items()}
