"""The control of a style critic: how far do two collections differ in nothing but format?

A classifier that gets loudness, onset phase, durations, density and length of a piece, and no pitch or order, is asked
to tell two collections, on the music at several stages of its way into a critic. What it can tell there, a critic can
learn instead of music. Density and rhythm are music as well as format: no stage can take the one without the other, so
read the parts beside the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from critics.style.excerpts import Collected, cut, starts
from critics.validation.leave_one_out import FEWEST, pairs_of, rows_of
from mgen.arrays import Floats, divide, mean_of
from mgen.errors import RejectedFile
from mgen.files import read_music
from mgen.notes import STEPS_PER_QUARTER, Notes
from mgen.stats.intervals import Interval
from mgen.stats.two_sample import FOLDS, auc_interval, folds_of, held_out_ranks

LOUDNESS_BINS = 16
DURATIONS = np.array([1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 16, 18, 20, 23, 24, 25, 32, 36, 48, 72, 96, 144, 192])
"""Upper edges, in grid steps, of the bins of durations; the values that notation knows have bins of their own."""


def _share(owner: NDArray[np.integer], bins: NDArray[np.integer], size: int, n: int) -> Floats:
    """(n, size) share of each bin among a piece's notes; 0 for a piece of none."""
    count = np.bincount(owner.astype(np.int64) * size + bins, minlength=n * size).reshape(n, size)
    return np.nan_to_num(divide(count, count.sum(axis=1, keepdims=True)))


def _loudness(notes: Notes) -> Floats:
    """Histogram of velocities, and how many different ones a piece has."""
    share = _share(
        notes.piece, np.minimum(notes.velocity * LOUDNESS_BINS // 128, LOUDNESS_BINS - 1), LOUDNESS_BINS, notes.n_pieces
    )
    different = (_share(notes.piece, np.clip(notes.velocity, 0, 127), 128, notes.n_pieces) > 0).sum(axis=1)
    return np.column_stack([share, different])


def _fresh(notes: Notes) -> NDArray[np.bool_]:
    """(N,) whether a note is the first of its onset."""
    return np.append(True, (np.diff(notes.onset) != 0) | (np.diff(notes.piece) != 0))[: len(notes)]


def _phase(notes: Notes) -> Floats:
    """Share of onsets at each step of a quarter, and on each beat of the bar."""
    fresh = _fresh(notes)
    owner, onset, position = notes.piece[fresh], notes.onset[fresh], notes.position[fresh]
    step = _share(owner, onset % STEPS_PER_QUARTER, STEPS_PER_QUARTER, notes.n_pieces)
    beat = _share(owner, np.clip(position // STEPS_PER_QUARTER, 0, 7), 8, notes.n_pieces)
    return np.column_stack([step, beat])


def _durations(notes: Notes) -> Floats:
    """Histogram of durations."""
    return _share(notes.piece, np.searchsorted(DURATIONS, notes.duration), len(DURATIONS) + 1, notes.n_pieces)


def _density(notes: Notes) -> Floats:
    """Onsets a quarter."""
    last = np.zeros(notes.n_pieces)
    np.maximum.at(last, notes.piece, notes.onset)
    onsets = np.bincount(notes.piece[_fresh(notes)], minlength=notes.n_pieces)
    return (np.maximum(onsets - 1, 0) * STEPS_PER_QUARTER / np.maximum(last, 1))[:, None]


def _texture(notes: Notes) -> Floats:
    """Histogram of notes an onset, 1 to 6, and the mean, which with the density gives notes a quarter."""
    fresh = _fresh(notes)
    size = np.bincount(np.cumsum(fresh) - 1, minlength=int(fresh.sum()))
    owner = notes.piece[fresh]
    mean = np.nan_to_num(mean_of(size, owner, notes.n_pieces))
    return np.column_stack([_share(owner, np.minimum(size, 6) - 1, 6, notes.n_pieces), mean])


def _length(notes: Notes) -> Floats:
    """Notes of a piece."""
    return notes.counts[:, None].astype(np.float64)


MARGINALS: dict[str, Callable[[Notes], Floats]] = {
    "loudness": _loudness,
    "phase": _phase,
    "durations": _durations,
    "density": _density,
    "length": _length,
    "texture": _texture,
}
"""Part of the control -> (B, F) numbers of each piece."""

FORMAT = ("loudness", "phase", "durations", "density", "length")
"""The parts that the format decides. How many notes an onset has is in `all` too; it is part of every music."""

WHOLE = {"format": FORMAT, "all": tuple(MARGINALS)}
"""What is told from several parts together."""


def marginals(notes: Notes) -> Floats:
    """(B, F) everything that the control gets of a piece."""
    return np.concatenate([part(notes) for part in MARGINALS.values()], axis=1)


# ------------------------------------------------------------ stages


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """The music of all excerpts at one place on its way.

    Attributes:
        notes: one piece for each excerpt.
        known: (B,) False where the music is not to be had at this stage (a source file that is gone).
    """

    notes: Notes
    known: NDArray[np.bool_]


def stage(notes: Notes) -> Stage:
    """A stage at which all music is known."""
    return Stage(notes, np.ones(notes.n_pieces, bool))


def raw(excerpts: Collected, n_notes: int, seed: int = 0) -> Stage:
    """Excerpts of as many notes of the source files as they are, before any cleaning: from a random bar on.

    A file that is gone or cannot be put in bars without being repaired is not `known`.
    """
    rng = np.random.default_rng([seed, n_notes])
    found: list[Notes] = []
    known = np.zeros(len(excerpts), bool)
    for place, path in enumerate(excerpts.path.tolist()):
        try:
            whole = Notes.from_scores([read_music(path).score])
        except RejectedFile:
            continue
        piece, bar = starts(whole, n_notes, 1, rng)
        if len(piece):
            found.append(cut(whole, piece, bar, n_notes))
            known[place] = True
    some = np.flatnonzero(known)
    notes = Notes.concat([*found, excerpts.notes.pieces([0]).select(np.zeros(n_notes, bool))])
    row = np.full(len(excerpts), len(some))
    row[some] = np.arange(len(some))
    return Stage(notes.pieces(row), known)


# ------------------------------------------------------------ the control


@dataclass(frozen=True, slots=True)
class Control:
    """What format tells of one pair of collections.

    Attributes:
        kind: as of `transfer.Pair`.
        auc: stage -> `format`, `all` or a part of the control -> cross-validated AUC by work; chance is 0.5.
        missing: stage -> excerpts of the pair that were not to be had.
    """

    positive: str
    other: str
    kind: str
    auc: dict[str, dict[str, Interval]]
    missing: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """All fields."""
        cells = {at: {part: found.to_json() for part, found in parts.items()} for at, parts in self.auc.items()}
        return {
            "positive": self.positive,
            "other": self.other,
            "kind": self.kind,
            "auc": cells,
            "missing": self.missing,
        }


def format_control(
    excerpts: Collected,
    stages: Mapping[str, Stage],
    seed: int = 0,
    fewest: int = FEWEST,
    parts: bool = False,
    same_kind: bool = False,
) -> list[Control]:
    """Cross-validated AUC of boosting and logistic regression on `MARGINALS` alone, for every pair and stage.

    Args:
        stages: name -> music of the excerpts at this stage.
        parts: each part of the control by itself too.
        same_kind: only pairs of one kind.

    Raises:
        MgenError: At a stage one side of a pair has fewer than two works.
    """
    tables = {name: {part: count(at.notes) for part, count in MARGINALS.items()} for name, at in stages.items()}
    out = []
    for a, b, kind in pairs_of(rows_of(excerpts, fewest)):
        if same_kind and a.on_grid != b.on_grid:
            continue
        both = a.member | b.member
        found: dict[str, dict[str, Interval]] = {}
        for name, at in stages.items():
            rows = np.flatnonzero(both & at.known)
            wanted = {whole: np.concatenate([tables[name][k] for k in of], axis=1) for whole, of in WHOLE.items()}
            if parts:
                wanted |= tables[name]
            found[name] = {part: _told(table[rows], excerpts, rows, seed) for part, table in wanted.items()}
        missing = {name: int((both & ~at.known).sum()) for name, at in stages.items()}
        out.append(Control(a.name, b.name, kind, found, missing))
    return out


def _told(table: Floats, excerpts: Collected, rows: NDArray[np.int64], seed: int) -> Interval:
    """AUC by cross-validation, whole works held out; 0.5 exactly where the table says the same of all."""
    label, work = excerpts.positive[rows].astype(np.int64), excerpts.work[rows]
    if not len(rows) or (table == table[:1]).all():
        return Interval(0.5, 0.5, 0.5)
    score = held_out_ranks(table, label, folds_of(work, label, FOLDS, seed), seed)
    return auc_interval(score, label, work, seed)


def summary(controls: Sequence[Control]) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """Kind of pair -> stage -> part -> `mean` and `highest` AUC over the pairs."""
    out: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for kind in dict.fromkeys(control.kind for control in controls):
        own = [control.auc for control in controls if control.kind == kind]
        out[kind] = {
            name: {
                part: {"mean": float(np.mean(values)), "highest": float(np.max(values))}
                for part in parts
                for values in [[auc[name][part].value for auc in own]]
            }
            for name, parts in own[0].items()
        }
    return out
