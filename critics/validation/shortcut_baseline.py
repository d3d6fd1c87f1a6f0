"""The shortcut baseline of a style critic: how well format alone separates two collections.

A classifier that gets the loudness, onset phase, durations, density and length of a piece, and no pitch or order, is
trained to separate two collections at several stages between the source files and the input of a critic. What it can
learn, a critic can learn instead of music. Density and rhythm are music as well as format, so compare the parts with
the total.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from critics.style.excerpts import Excerpts, excerpt_starts
from critics.validation.leave_one_out import MIN_PIECES, collection_pairs, collection_parts
from mgen.arrays import Floats, Longs, Mask, max_of, mean_of, run_starts, shares
from mgen.errors import RejectedFile
from mgen.formats.files import read_music
from mgen.notes import STEPS_PER_QUARTER, Notes
from mgen.stats.intervals import Interval
from mgen.stats.two_sample import FOLDS, assign_folds, auc_interval, held_out_ranks
from mgen.transforms.format_augmentations import augment
from mgen.transforms.format_invariant import format_invariant_view
from mgen.transforms.rebuild import take_excerpts

LOUDNESS_BINS = 16
DURATIONS = np.array([1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 16, 18, 20, 23, 24, 25, 32, 36, 48, 72, 96, 144, 192])
"""Upper edges, in grid steps, of the bins of durations; each notated value has its own bin."""


def _shares(owner: NDArray[np.integer], bins: NDArray[np.integer], size: int, n: int) -> Floats:
    """(n, size) share of each bin among a piece's values; 0 for a piece without any."""
    return np.nan_to_num(shares(owner, bins, size, n))


def _loudness(notes: Notes) -> Floats:
    """Histogram of velocities, and the number of distinct ones."""
    loudness = np.minimum(notes.velocity * LOUDNESS_BINS // 128, LOUDNESS_BINS - 1)
    share = _shares(notes.piece, loudness, LOUDNESS_BINS, notes.n_pieces)
    distinct = (_shares(notes.piece, np.clip(notes.velocity, 0, 127), 128, notes.n_pieces) > 0).sum(axis=1)
    return np.column_stack([share, distinct])


def _phase(notes: Notes) -> Floats:
    """Share of onsets at each step of a quarter, and on each beat of the bar."""
    first = run_starts(notes.piece, notes.onset)
    owner, position = notes.piece[first], notes.position[first]
    step = _shares(owner, position % STEPS_PER_QUARTER, STEPS_PER_QUARTER, notes.n_pieces)
    beat = _shares(owner, np.clip(position // STEPS_PER_QUARTER, 0, 7), 8, notes.n_pieces)
    return np.column_stack([step, beat])


def _durations(notes: Notes) -> Floats:
    """Histogram of durations."""
    return _shares(notes.piece, np.searchsorted(DURATIONS, notes.duration), len(DURATIONS) + 1, notes.n_pieces)


def _density(notes: Notes) -> Floats:
    """Onsets per quarter."""
    last = max_of(notes.onset, notes.piece, notes.n_pieces)
    onsets = np.bincount(notes.piece[run_starts(notes.piece, notes.onset)], minlength=notes.n_pieces)
    return (np.maximum(onsets - 1, 0) * STEPS_PER_QUARTER / np.maximum(last, 1))[:, None]


def _texture(notes: Notes) -> Floats:
    """Histogram of notes per onset, 1 to 6, and their mean."""
    first = run_starts(notes.piece, notes.onset)
    size = np.bincount(np.cumsum(first) - 1, minlength=int(first.sum()))
    owner = notes.piece[first]
    mean = np.nan_to_num(mean_of(size, owner, notes.n_pieces))
    return np.column_stack([_shares(owner, np.minimum(size, 6) - 1, 6, notes.n_pieces), mean])


def _length(notes: Notes) -> Floats:
    """Number of notes."""
    return notes.counts[:, None].astype(np.float64)


MARGINALS: dict[str, Callable[[Notes], Floats]] = {
    "loudness": _loudness,
    "phase": _phase,
    "durations": _durations,
    "density": _density,
    "length": _length,
    "texture": _texture,
}
"""Part of the baseline -> (B, F) numbers of each piece."""

FORMAT = ("loudness", "phase", "durations", "density", "length")
"""The parts that the format decides. `all` also has the notes per onset, which are part of any music."""

UNIONS = {"format": FORMAT, "all": tuple(MARGINALS)}  # classifiers of several parts together


def marginals(notes: Notes) -> Floats:
    """(B, F) all parts of each piece."""
    return np.concatenate([part(notes) for part in MARGINALS.values()], axis=1)


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """The music of all excerpts at one stage."""

    notes: Notes  # one piece for each excerpt
    known: Mask  # (B,) False where the music is missing at this stage


def _complete(view: Callable[[Notes, np.random.Generator], Notes]) -> Callable[[Excerpts, int, int], Stage]:
    """A stage at which nothing is missing."""

    def make(excerpts: Excerpts, n_notes: int, seed: int) -> Stage:
        return Stage(view(excerpts.notes, np.random.default_rng([seed, 3])), np.ones(len(excerpts), bool))

    return make


def from_source_files(excerpts: Excerpts, n_notes: int, seed: int = 0) -> Stage:
    """Excerpts of `n_notes` notes of the source files before cleaning, from a random bar on.

    A file that is gone, or that cannot be put in bars without repairs, is not `known`.
    """
    rng = np.random.default_rng([seed, n_notes])
    found: list[Notes] = []
    known = np.zeros(len(excerpts), bool)
    for number, path in enumerate(excerpts.path.tolist()):
        try:
            piece = Notes.from_scores([read_music(path).score])
        except RejectedFile:
            continue
        owner, bar = excerpt_starts(piece, n_notes, 1, rng)
        if len(owner):
            found.append(take_excerpts(piece, owner, bar, np.full(len(owner), n_notes)))
            known[number] = True
    some = np.flatnonzero(known)
    notes = Notes.concat([*found, excerpts.notes.pieces([0]).select(np.zeros(n_notes, bool))])
    row = np.full(len(excerpts), len(some))
    row[some] = np.arange(len(some))
    return Stage(notes.pieces(row), known)


STAGES: dict[str, Callable[[Excerpts, int, int], Stage]] = {
    "files": from_source_files,
    "corpus": _complete(lambda notes, rng: notes),
    "augmented": _complete(augment),
    "format-invariant": _complete(lambda notes, rng: format_invariant_view(notes)),
    "format-invariant, contour": _complete(lambda notes, rng: format_invariant_view(notes, "contour")),
    "format-invariant, no rhythm": _complete(lambda notes, rng: format_invariant_view(notes, "none")),
}
"""Name -> music from excerpts, their number of notes and a seed: source files, corpus, training set, views."""


@dataclass(frozen=True, slots=True)
class ShortcutResult:
    """How well format separates a pair of collections."""

    positive: str
    other: str
    type: str  # as in `leave_one_out.PairResult`
    # Stage -> `format`, `all` or a part -> cross-validated AUC by work; chance is 0.5.
    auc: dict[str, dict[str, Interval]]
    missing: dict[str, int]  # stage -> excerpts of the pair without music

    def to_json(self) -> dict[str, Any]:
        auc = {stage: {part: value.to_json() for part, value in parts.items()} for stage, parts in self.auc.items()}
        return {**asdict(self), "auc": auc}


def shortcut_baseline(
    excerpts: Excerpts,
    stages: Mapping[str, Stage],
    seed: int = 0,
    min_pieces: int = MIN_PIECES,
    parts: bool = False,
    same_type: bool = False,
) -> list[ShortcutResult]:
    """Cross-validated AUC of boosting and logistic regression on `MARGINALS` alone, for every pair and stage.

    Args:
        stages: name -> music of the excerpts at this stage.
        parts: also for each part alone.
        same_type: only pairs that are both performed or both on grid.

    Raises:
        MgenError: At a stage one side of a pair has fewer than two works.
    """
    tables = {name: {part: count(at.notes) for part, count in MARGINALS.items()} for name, at in stages.items()}
    results = []
    for a, b, pair_type in collection_pairs(collection_parts(excerpts, min_pieces)):
        if same_type and a.on_grid != b.on_grid:
            continue
        both = a.member | b.member
        values: dict[str, dict[str, Interval]] = {}
        for name, at in stages.items():
            rows = np.flatnonzero(both & at.known)
            inputs = {union: np.concatenate([tables[name][k] for k in of], axis=1) for union, of in UNIONS.items()}
            if parts:
                inputs |= tables[name]
            values[name] = {part: _auc(table[rows], excerpts, rows, seed) for part, table in inputs.items()}
        missing = {name: int((both & ~at.known).sum()) for name, at in stages.items()}
        results.append(ShortcutResult(a.name, b.name, pair_type, values, missing))
    return results


def _auc(table: Floats, excerpts: Excerpts, rows: Longs, seed: int) -> Interval:
    """AUC by cross-validation with whole works held out; exactly 0.5 where all rows are equal."""
    label, work = excerpts.positive[rows].astype(np.int64), excerpts.work[rows]
    if not len(rows) or (table == table[:1]).all():
        return Interval(0.5, 0.5, 0.5)
    score = held_out_ranks(table, label, assign_folds(work, label, FOLDS, seed), seed)
    return auc_interval(score, label, work, seed)


def summarise(results: Sequence[ShortcutResult]) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """Pair type -> stage -> part -> `mean` and `highest` AUC over the pairs."""
    out: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for pair_type in dict.fromkeys(result.type for result in results):
        own = [result.auc for result in results if result.type == pair_type]
        out[pair_type] = {
            name: {
                part: {"mean": float(np.mean(values)), "highest": float(np.max(values))}
                for part in parts
                for values in [[auc[name][part].value for auc in own]]
            }
            for name, parts in own[0].items()
        }
    return out
