"""Diversity of a set of pieces, whatever its quality: self-BLEU, distinct n-grams, the Vendi score.

A letter of an n-gram is a note: its interval from the note before, chords read upwards, and the time since then in
half octaves of grid steps. Key, small changes of tempo, register, velocity and duration make no difference; drums are
left out. All of these depend on the number of pieces: compare sets of one size.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mgen.arrays import Floats, divide, run_starts
from mgen.music import ngrams
from mgen.notes import Notes
from mgen.stats.intervals import (
    SET_REPLICATES,
    Interval,
    Works,
    bootstrap,
    centred_interval,
    joint_resamples,
    resamples,
    undefined_interval,
    work_names,
)

ORDER = 4  # longest n-gram of BLEU
CLIP = 8.0  # standard deviations of real music at which features are clipped, so that no outlier dominates
Integers = NDArray[np.int64]

Letters = tuple[NDArray[np.int32], NDArray[np.int64]]  # (M,) piece of each letter, rising, and the letter


def letters(notes: Notes) -> Letters:
    """The letters of B pieces: one for each note except a piece's first."""
    notes = notes.pitched()
    to = np.flatnonzero(ngrams.complete(notes.piece, 2))
    step = np.diff(notes.pitch, prepend=np.int32(0))[to].astype(np.int64)
    gap = np.diff(notes.onset, prepend=np.int32(0))[to]
    time = np.where(gap > 0, 1 + np.rint(2 * np.log2(np.maximum(gap, 1))), 0).astype(np.int64)
    return notes.piece[to], (step + 128) * 64 + time


def _grams(text: Letters, n: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Piece and number of each n-gram; equal n-grams share a number, 0 upwards."""
    piece, letter = text
    ends = np.flatnonzero(ngrams.complete(piece, n))
    code = np.zeros(len(ends), np.int64)
    for back in range(n - 1, -1, -1):
        both = code * (1 << 14) + letter[ends - back]
        code = np.unique(both, return_inverse=True)[1]
    return piece[ends], code


def bleu_of_each(notes: Notes, works: Works, order: int = ORDER) -> Floats:
    """(B,) BLEU of each piece with the pieces of other works as references; NaN without a letter or a reference.

    The geometric mean of its n-gram precisions, n = 1..order (counts clipped to the most of any one reference), times
    the brevity penalty exp(1 - r/c) where r, the reference length nearest to its length c, is above c. A precision of
    0 counts as half an n-gram; an order without n-grams is left out.
    """
    text, n_pieces = letters(notes), notes.n_pieces
    length = np.bincount(text[0], minlength=n_pieces)
    work = np.unique(works, return_inverse=True)[1].astype(np.int64)
    logs, orders = np.zeros(n_pieces), np.zeros(n_pieces)
    for n in range(1, order + 1):
        piece, code = _grams(text, n)
        total = np.bincount(piece, minlength=n_pieces)
        key, count = np.unique(code * np.int64(max(n_pieces, 1)) + piece, return_counts=True)
        gram, owner = np.divmod(key, max(n_pieces, 1))
        hits = np.bincount(owner, np.minimum(count, _elsewhere(gram, work[owner], count)), minlength=n_pieces)
        some = total > 0
        logs[some] += np.log(np.maximum(hits[some], 0.5) / total[some])
        orders += some
    apart = np.abs(length[:, None] - length).astype(np.float64)
    apart[(work[:, None] == work) | (length == 0)] = np.inf
    known = (length > 0) & np.isfinite(apart.min(axis=1, initial=np.inf))
    nearest = length[apart.argmin(axis=1)] if n_pieces else length
    short = np.minimum(1 - divide(nearest, length), 0)
    return np.where(known, np.exp(divide(logs, orders) + short), np.nan)


def _elsewhere(gram: Integers, work: Integers, count: Integers) -> Integers:
    """(M,) the most occurrences of each row's n-gram in one piece of another work."""
    bound = int(gram.max(initial=-1)) + 1
    order = np.lexsort((-count, work, gram))
    best = order[run_starts(gram[order], work[order])]  # the most of each n-gram in each work
    best = best[np.lexsort((-count[best], gram[best]))]
    head = np.flatnonzero(run_starts(gram[best]))
    most, second, owner = np.zeros(bound, np.int64), np.zeros(bound, np.int64), np.full(bound, -1)
    most[gram[best[head]]], owner[gram[best[head]]] = count[best[head]], work[best[head]]
    after = head[head + 1 < len(best)]
    after = after[gram[best[after + 1]] == gram[best[after]]]
    second[gram[best[after]]] = count[best[after + 1]]
    return np.where(owner[gram] == work, second[gram], most[gram])


def self_bleu(notes: Notes, works: ArrayLike | None = None, seed: int = 0) -> Interval:
    """Mean BLEU-4 of each piece against those of other works, 0..1; lower is more varied, the aim is real music's.

    Other works, because excerpts of one real work overlap. The interval is over pieces by work, with fixed references.
    Grows with the number of pieces, since one match among them is enough.

    Cannot see: quality; noise is the most varied. Undefined (NaN, and counted): a piece of fewer than two notes; all
    pieces of a set of one work.
    Source: Zhu et al. 2018 (Texygen), arXiv:1802.01886; BLEU of Papineni et al. 2002.
    """
    names = work_names(works, notes.n_pieces, "other")
    return bootstrap(bleu_of_each(notes, names), names, seed=seed)


def distinct(notes: Notes, n: int, works: ArrayLike | None = None, seed: int = 0) -> Interval:
    """Share of different n-grams among all n-grams of the set, 0..1; the aim is real music's.

    Each n-gram counts 1 / its occurrences in the set, so that the share is a mean over n-grams, which the interval
    resamples by work.

    Cannot see: order beyond n notes; noise has the most. Excerpts of one real work overlap and completions do not,
    which lowers the share of many excerpts of few works. Undefined (NaN, and counted): a piece without an n-gram.
    Source: Li et al. 2016, arXiv:1510.03055.
    """
    names = work_names(works, notes.n_pieces, "real")
    piece, code = _grams(letters(notes), n)
    once = 1 / np.bincount(code)[code] if len(code) else np.zeros(0)
    different, total = (np.bincount(piece, w, minlength=notes.n_pieces) for w in (once, np.ones(len(piece))))
    undefined = int((total == 0).sum())
    if not total.any():
        return undefined_interval(undefined)
    draws = np.concatenate([divide(w @ different, w @ total) for w in resamples(names, SET_REPLICATES, seed)])
    return centred_interval(float(different.sum() / total.sum()), draws, undefined, 0, 1)


def defined_rows(
    real: Floats, other: Floats, works_real: ArrayLike | None, works_other: ArrayLike | None
) -> tuple[tuple[Floats, Floats], tuple[Works, Works], int]:
    """Rows of both tables without a NaN, their works, and the number of rows with one."""
    groups = work_names(works_real, len(real), "real"), work_names(works_other, len(other), "other")
    first, second = (np.isfinite(table).all(axis=1) for table in (real, other))
    undefined = int((~first).sum() + (~second).sum())
    return (real[first], other[second]), (groups[0][first], groups[1][second]), undefined


def standardise(real: Floats, other: Floats) -> tuple[Floats, Floats]:
    """Standardises (B, D) and (C, D) by the mean and deviation of `real`, clipped to `CLIP` deviations.

    A column in which `real` does not vary is divided by the deviation of both tables, or is 0 if that is 0 too.
    """
    centre, spread = real.mean(axis=0), real.std(axis=0)
    both = np.concatenate([real, other]).std(axis=0)
    spread = np.where(spread > 1e-9, spread, both)
    flat = spread <= 1e-9
    scale = np.where(flat, 0.0, 1 / np.where(flat, 1.0, spread))
    first, second = (np.clip((table - centre) * scale, -CLIP, CLIP) for table in (real, other))
    return first, second


def vendi(unit: Floats, weights: Floats) -> float:
    """Vendi score of unit vectors (B, D) with `weights` (B,): the effective number of different pieces.

    exp of the entropy, in nats, of the eigenvalues of the cosine similarities divided by the number of pieces: 1 for
    equal pieces, B for orthogonal ones, D at most.
    """
    share = np.sqrt(weights / weights.sum())
    scaled = unit * share[:, None]
    small = scaled.T @ scaled if unit.shape[1] <= len(unit) else scaled @ scaled.T
    values = np.linalg.eigvalsh(small)
    values = values[values > 1e-12]
    return float(np.exp(-(values * np.log(values)).sum()))


def vendi_ratio(
    real: Floats,
    other: Floats,
    works_real: ArrayLike | None = None,
    works_other: ArrayLike | None = None,
    replicates: int = SET_REPLICATES,
    seed: int = 0,
) -> Interval:
    """Vendi score of `other` over that of as many real pieces: 1 is best, below 1 is less varied.

    Similarity is the cosine of two pieces' features after standardising by real music. The larger set is subsampled
    once to the size of the smaller.

    Cannot see: properties outside the features; that the variety is noise. Real excerpts of one work overlap, which
    lowers the score of many excerpts of few works. Rows with a NaN are left out and counted; NaN with fewer than two
    rows per side.
    Source: Friedman and Dieng 2023, arXiv:2210.02410.

    Args:
        real: (B, D) features of real pieces.
        other: (C, D).
    """
    tables, groups, undefined = defined_rows(real, other, works_real, works_other)
    n = min(map(len, tables))
    if n < 2:
        return undefined_interval(undefined)
    tables = standardise(*tables)
    rng = np.random.default_rng(seed)
    picks = [np.sort(rng.permutation(len(table))[:n]) if len(table) > n else np.arange(n) for table in tables]
    units = [_unit(table[pick]) for table, pick in zip(tables, picks, strict=True)]
    drawn = [group[pick] for group, pick in zip(groups, picks, strict=True)]
    ones = np.ones(n)
    value = vendi(units[1], ones) / vendi(units[0], ones)
    weights = joint_resamples(drawn[0], drawn[1], replicates, seed)
    draws = [vendi(units[1], w[1]) / vendi(units[0], w[0]) for w in weights]
    return centred_interval(value, draws, undefined, 0)


def _unit(table: Floats) -> Floats:
    """Scales rows to length 1; a row of zeros, the mean of real music, becomes the diagonal direction."""
    length = np.linalg.norm(table, axis=1, keepdims=True)
    flat = length[:, 0] < 1e-9
    out = table / np.where(flat[:, None], 1.0, length)
    out[flat] = 1 / np.sqrt(max(table.shape[1], 1))
    return out
