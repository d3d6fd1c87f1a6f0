"""All metrics that compare a set of pieces with real music, in one call."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike
from threadpoolctl import threadpool_limits

from mgen.errors import MgenError
from mgen.music.features import features
from mgen.notes import Notes
from mgen.stats.distributions import mgeval
from mgen.stats.diversity import distinct, self_bleu, vendi_ratio
from mgen.stats.frechet import Embedder, frechet_ratio
from mgen.stats.intervals import Interval, work_names
from mgen.stats.memorisation import CopyIndex
from mgen.stats.mmd import mmd_ratio

FEWEST = 2  # fewest pieces per side


def set_metrics(
    real: Notes,
    other: Notes,
    works_real: ArrayLike | None = None,
    works_other: ArrayLike | None = None,
    *,
    train: CopyIndex | None = None,
    embedders: Mapping[str, Embedder] | None = None,
    seed: int = 0,
) -> dict[str, Interval]:
    """Computes every metric that compares a set with real music.

    `oa`, `kld` and those of each feature (`distributions.mgeval`); `self_bleu`, `distinct2`, `distinct4`,
    `vendi_ratio` (`diversity`); `frechet` in the space of features and `frechet_<name>` in that of each embedder, over
    the distance between halves of real music (`frechet.frechet_ratio`), `mmd` likewise (`mmd.mmd_ratio`); with an index
    of the training set also `copy_rate` and `copied_run`, the mean longest copied run in notes (`memorisation`).

    Both sides should be equal in number and length of pieces: all but `oa` depend on it. The aim of `self_bleu`,
    `distinct` and `copied_run` is real music's value: see `single_set_metrics`. Intervals resample works, a work in
    both sets at once. To take a few seconds for 512 against 512 pieces, those of mgeval and Vendi come from 200
    resamples (mgeval's of at most 128 groups of works), and those of `frechet` and `mmd` from 100 half-samples.

    Args:
        real: B pieces.
        other: C pieces; real music itself for its row of a table.
        works_real, works_other: their works; None: each piece is a work.
        train: index of the training set.
        embedders: name -> further spaces.
        seed: of resamples.

    Raises:
        MgenError: A set is empty or of one piece, an embedder gives another number of rows, or works and pieces
            differ in number.
    """
    for side, notes in (("real", real), ("other", other)):
        if notes.n_pieces < FEWEST:
            raise MgenError(f"sets: expected at least {FEWEST} {side} pieces, found {notes.n_pieces}; give more")
    names = work_names(works_real, real.n_pieces, "real"), work_names(works_other, other.n_pieces, "other")
    with threadpool_limits(1):  # matrices this small gain nothing from a second thread
        tables = features(real), features(other)
        for table, notes in zip(tables, (real, other), strict=True):
            table[notes.counts == 0] = np.nan  # the features of an empty piece are 0
        cells = mgeval(real, other, *names, seed=seed)
        cells |= single_set_metrics(other, names[1], train=train, seed=seed)
        cells["vendi_ratio"] = vendi_ratio(*tables, *names, seed=seed)
        cells["frechet"] = frechet_ratio(*tables, *names, seed=seed)
        cells["mmd"] = mmd_ratio(*tables, *names, seed=seed)
        for name, embed in (embedders or {}).items():
            spaces = _embed(name, embed, real), _embed(name, embed, other)
            cells[f"frechet_{name}"] = frechet_ratio(*spaces, *names, seed=seed)
    return cells


def single_set_metrics(
    notes: Notes, works: ArrayLike | None = None, *, train: CopyIndex | None = None, seed: int = 0
) -> dict[str, Interval]:
    """The metrics of `set_metrics` that need no second set: `self_bleu`, `distinct2`, `distinct4`, copies.

    Compare them with those of real music.
    """
    cells = {
        "self_bleu": self_bleu(notes, works, seed),
        "distinct2": distinct(notes, 2, works, seed),
        "distinct4": distinct(notes, 4, works, seed),
    }
    if train is not None:
        cells |= {"copy_rate": train.copy_rate(notes, works, seed), "copied_run": train.mean_run(notes, works, seed)}
    return cells


def _embed(name: str, embed: Embedder, notes: Notes) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    table = np.asarray(embed(notes), np.float64)
    if table.ndim != 2 or len(table) != notes.n_pieces:
        raise MgenError(f"embedder '{name}': expected ({notes.n_pieces}, D) numbers, found {table.shape}; correct it")
    return table
