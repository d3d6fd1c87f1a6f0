"""Excerpts of all collections of a corpus: what the style critic learns from and critics are compared on.

An excerpt begins on a bar line and has an exact number of notes, so that its length tells nothing. Knows no critic.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from mgen.arrays import Longs, Mask
from mgen.corpus.shards import Corpus
from mgen.corpus.split import SPLITS
from mgen.errors import MgenError
from mgen.notes import Notes
from mgen.stats.two_sample import choose_evenly
from mgen.transforms.rebuild import first_notes_of_bars, take_excerpts

PIECES_AT_ONCE = 200  # whole pieces decoded at a time, to limit memory


@dataclass(frozen=True, slots=True, eq=False)
class LabelledPieces:
    """B pieces or excerpts of real music, with their labels."""

    notes: Notes
    positive: Mask  # (B,) of the positive style
    collection: NDArray[np.str_]  # (B,)
    work: NDArray[np.str_]  # (B,) excerpts of one work are not independent

    def __len__(self) -> int:
        return len(self.positive)


@dataclass(frozen=True, slots=True, eq=False)
class Excerpts(LabelledPieces):
    """B excerpts of real music and where they are from."""

    on_grid: Mask  # (B,) False where the music was performed against a clock
    title: NDArray[np.str_]  # (B,) key of the song's name, which may recur in other collections
    path: NDArray[np.str_]  # (B,) source file
    start: Longs  # (B,) first bar, within the piece

    def rows(self, index: NDArray[np.integer] | Mask) -> Excerpts:
        """The excerpts of `index`, in that order, or those where a mask is True."""
        number = np.arange(len(self))[index]
        return Excerpts(self.notes.pieces(number), *(getattr(self, name)[number] for name in _LABELS))

    @classmethod
    def concat(cls, parts: Sequence[Excerpts]) -> Excerpts:
        """All excerpts of `parts`, in order."""
        labels = (np.concatenate([getattr(part, name) for part in parts]) for name in _LABELS)
        return cls(Notes.concat([part.notes for part in parts]), *labels)


_LABELS = [field.name for field in fields(Excerpts) if field.name != "notes"]


def draw_excerpts(
    corpus: Corpus,
    positive: str,
    n_notes: int,
    pieces: int,
    each: int = 1,
    seed: int = 0,
    splits: Collection[str] = SPLITS,
) -> Excerpts:
    """Draws excerpts of all collections of a corpus.

    Args:
        positive: the positive style.
        n_notes: notes of an excerpt; shorter pieces are left out.
        pieces: at most this many of a collection, of performed and of on-grid pieces each, in turns of its works.
        each: excerpts of a piece, from bars drawn at random; they may overlap.
        seed: of all draws.
        splits: of the corpus; all by default, for tests that hold out whole collections.

    Raises:
        MgenError: The corpus does not have the style, or one side has no piece with that many notes.
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
        kept = choose_evenly(rows["group"].to_numpy(str), min(pieces, len(rows)), rng)
        chosen += rows["piece"].to_numpy()[kept].tolist()
    parts: list[Excerpts] = []
    for split in splits:
        tokens = corpus.table(split)
        held = np.flatnonzero(np.isin(tokens.rows["piece"].to_numpy(), chosen))
        for some in np.array_split(held, max(1, len(held) // PIECES_AT_ONCE)):
            if not len(some):
                continue
            complete = Notes.from_ids([tokens[row] for row in some.tolist()], corpus.remi)
            piece, bar = excerpt_starts(complete, n_notes, each, rng)
            info = tokens.rows.iloc[some[piece]]
            parts.append(
                Excerpts(
                    notes=take_excerpts(complete, piece, bar, np.full(len(piece), n_notes)),
                    positive=info["style"].to_numpy(str) == positive,
                    collection=info["collection"].to_numpy(str),
                    work=info["group"].to_numpy(str),
                    on_grid=info["on_grid"].to_numpy(bool),
                    title=np.array([title_key(name) for name in info["song"].astype(str)], str),
                    path=info["path"].to_numpy(str),
                    start=bar,
                )
            )
    sides = {bool(side) for part in parts for side in part.positive}
    if len(sides) < 2:
        problem = f"no piece that is {'not ' if True in sides else ''}{positive} has {n_notes} notes"
        raise MgenError(f"{corpus.folder}: {problem}; lower --notes or add longer pieces")
    return Excerpts.concat(parts)


def title_key(name: str) -> str:
    """Letters and digits of a song's name without the prefix of its collection or performer; may be empty."""
    return re.sub(r"[^a-z0-9]", "", name.rsplit("__", 1)[-1].lower())


def excerpt_starts(notes: Notes, n_notes: int, each: int, rng: np.random.Generator) -> tuple[Longs, Longs]:
    """Draws where excerpts begin, evenly among bars with a note and `n_notes` notes to come.

    Returns:
        (E,) piece and (E,) bar: `each` per piece, with as few repeats as possible; none of a piece that is too short.
    """
    first = first_notes_of_bars(notes)
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
