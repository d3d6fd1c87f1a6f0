"""Excerpts of every collection of a corpus, as many and as long of each: what critics are compared on.

An excerpt begins on a bar line and has so many notes, no more and no fewer: its length tells nothing. All splits of
the corpus take part, because whole collections are held out. Knows nothing of critics.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from mgen.corpus.shards import Corpus
from mgen.corpus.split import SPLITS
from mgen.errors import MgenError
from mgen.notes import Bars, Notes
from mgen.stats.two_sample import in_turns

PIECES = 150
"""Pieces drawn of a collection, of each kind."""


@dataclass(frozen=True, slots=True, eq=False)
class Collected:
    """B excerpts of real music and where each came from."""

    notes: Notes
    positive: NDArray[np.bool_]  # (B,) of the style that is the yes
    collection: NDArray[np.str_]  # (B,) as the corpus names it
    on_grid: NDArray[np.bool_]  # (B,) False where it was performed against a clock
    work: NDArray[np.str_]  # (B,) excerpts of one work are not independent
    title: NDArray[np.str_]  # (B,) letters and digits of the song's name: a song may recur in other collections
    path: NDArray[np.str_]  # (B,) the source file
    start: NDArray[np.int64]  # (B,) the bar of the piece that it begins with

    def __len__(self) -> int:
        return len(self.positive)

    def rows(self, index: NDArray[np.integer] | NDArray[np.bool_]) -> Collected:
        """The excerpts of `index`, in that order, or those where it is True."""
        number = np.arange(len(self))[index]
        rest = {f.name: getattr(self, f.name)[number] for f in fields(self) if f.name != "notes"}
        return Collected(self.notes.pieces(number), **rest)


def collected(
    corpus: Corpus,
    positive: str,
    n_notes: int,
    pieces: int = PIECES,
    each: int = 1,
    seed: int = 0,
    splits: Collection[str] = SPLITS,
) -> Collected:
    """Excerpts of all collections of a corpus.

    Args:
        positive: the style that is the yes.
        n_notes: notes of an excerpt; shorter pieces are left out.
        pieces: at most so many of a collection, of each kind (performed, on the grid), in turns of its works.
        each: excerpts of a piece, from bars drawn at random; they may overlap.
        seed: of what is drawn.
        splits: parts of the corpus that take part.

    Raises:
        MgenError: The corpus has no such style, or one side has no piece of so many notes.
    """
    styles = corpus.remi.style_ids
    if positive not in styles:
        raise MgenError(f"positive '{positive}': the corpus has {', '.join(styles)}")
    table = corpus.pieces
    long = table[(table["n_notes"] >= n_notes) & table["split"].isin(list(splits))]
    long = long.rename_axis("piece").reset_index()
    rng = np.random.default_rng([seed, n_notes])
    chosen: list[int] = []
    for _, rows in long.groupby(["style", "collection", "on_grid"]):
        kept = in_turns(rows["group"].to_numpy(str), min(pieces, len(rows)), rng)
        chosen += rows["piece"].to_numpy()[kept].tolist()
    parts: list[Collected] = []
    for split in splits:
        tokens = corpus.table(split)
        numbers = tokens.rows["piece"].to_numpy()
        held = np.flatnonzero(np.isin(numbers, chosen))
        for some in np.array_split(held, max(1, len(held) // 200)):  # whole pieces are long: not all at once
            if not len(some):
                continue
            whole = Notes.from_ids([tokens[row] for row in some.tolist()], corpus.remi)
            piece, bar = starts(whole, n_notes, each, rng)
            info = tokens.rows.iloc[some[piece]]
            parts.append(
                Collected(
                    cut(whole, piece, bar, n_notes),
                    info["style"].to_numpy(str) == positive,
                    info["collection"].to_numpy(str),
                    info["on_grid"].to_numpy(bool),
                    info["group"].to_numpy(str),
                    np.array([title(name) for name in info["song"].astype(str)], str),
                    info["path"].to_numpy(str),
                    bar,
                )
            )
    sides = {bool(side) for part in parts for side in part.positive}
    if len(sides) < 2:
        raise MgenError(
            f"{corpus.folder}: no piece that is {'not ' if True in sides else ''}{positive} has {n_notes} notes; "
            "lower --notes or add longer pieces"
        )
    return joined(parts)


def joined(parts: list[Collected]) -> Collected:
    """All excerpts of `parts`, in order."""
    rest = {
        f.name: np.concatenate([getattr(part, f.name) for part in parts])
        for f in fields(Collected)
        if f.name != "notes"
    }
    return Collected(Notes.concat([part.notes for part in parts]), **rest)


def title(name: str) -> str:
    """What a song's name says without its collection's or player's prefix, as letters and digits; may be empty."""
    return re.sub(r"[^a-z0-9]", "", name.rsplit("__", 1)[-1].lower())


def starts(
    notes: Notes, n_notes: int, each: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Piece and bar (E,) at which excerpts may begin: bars with a note and `n_notes` notes to come.

    `each` of a piece, drawn evenly, with as few repeats as can be; none of a piece that is too short.
    """
    first = _first_note(notes)
    piece = notes.bars.piece
    fits = (np.diff(first) > 0) & (notes.starts[piece + 1] - first[:-1] >= n_notes)
    able = np.flatnonzero(fits)
    able = able[np.lexsort((rng.random(len(able)), piece[able]))]
    count = np.bincount(piece[able], minlength=notes.n_pieces)
    begin = np.cumsum(count) - count
    some = np.flatnonzero(count)
    turn = np.arange(each)[None, :] % count[some][:, None]
    rows = able[(begin[some][:, None] + turn).reshape(-1)]
    owner = piece[rows].astype(np.int64)
    return owner, rows - notes.bar_starts[owner]


def cut(notes: Notes, piece: NDArray[np.integer], bar: NDArray[np.integer], n_notes: int) -> Notes:
    """Excerpts of `n_notes` notes from `bar` (E,) of `piece` (E,) on, with the bars up to their last note.

    The pieces must have as many notes left; see `starts`.
    """
    row = notes.bar_starts[piece] + bar
    first = _first_note(notes)[row]
    at = (first[:, None] + np.arange(n_notes)).reshape(-1)
    owner = np.repeat(np.arange(len(row), dtype=np.int32), n_notes)
    last = notes.bar_starts[piece] + notes.bar[first + n_notes - 1]
    size = last - row + 1
    bar_owner = np.repeat(np.arange(len(row), dtype=np.int32), size)
    bars = np.arange(size.sum()) - (np.cumsum(size) - size)[bar_owner] + row[bar_owner]
    begin = notes.bars.onset[row]
    none, whole = np.zeros(len(row), np.int32), np.zeros(len(at), np.int32)
    return Notes(
        n_pieces=len(row),
        piece=owner,
        onset=notes.onset[at] - begin[owner],
        duration=notes.duration[at],
        bar=(notes.bar[at] - bar[owner]).astype(np.int32),
        pitch=notes.pitch[at],
        velocity=notes.velocity[at],
        program=notes.program[at],
        token=whole - 1,
        broken=whole,
        bars=Bars(bar_owner, notes.bars.onset[bars] - begin[bar_owner], notes.bars.beats[bars]),
        n_tokens=none,
        n_broken=none,
    )


def _first_note(notes: Notes) -> NDArray[np.int64]:
    """(M + 1,) row of the first note in or after each bar; the last entry is N."""
    of_note = notes.bar_starts[notes.piece] + notes.bar
    return np.searchsorted(of_note, np.arange(len(notes.bars.piece) + 1))
