"""How varied a set of pieces is: self-BLEU, distinct n-grams, the Vendi score. Knows nothing of quality.

A letter of an n-gram is a note: its interval from the note before, chords read upwards, and the time since then in
half octaves of grid steps. Key, tempo by small factors, register, velocity and duration are not heard; drums are left
out. All of these depend on the number of pieces: compare sets of one size.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mgen.arrays import Floats, divide
from mgen.music import ngrams
from mgen.notes import Notes
from mgen.stats.intervals import Interval, bootstrap, resamples
from mgen.stats.replicates import REPLICATES, Works, joint_resamples, moved, nothing, works_of

ORDER = 4
"""Longest n-gram of BLEU."""

CLIP = 8.0
"""Deviations of real music beyond which a feature says no more: one odd feature must not drown the others."""

Integers = NDArray[np.int64]

Letters = tuple[NDArray[np.int32], NDArray[np.int64]]
"""(M,) piece of each letter, rising, and the letter."""


def letters(notes: Notes) -> Letters:
    """The letters of B pieces: one for each note but a piece's first."""
    notes = notes.pitched()
    to = np.flatnonzero(ngrams.complete(notes.piece, 2))
    step = np.diff(notes.pitch, prepend=np.int32(0))[to].astype(np.int64)
    gap = np.diff(notes.onset, prepend=np.int32(0))[to]
    time = np.where(gap > 0, 1 + np.rint(2 * np.log2(np.maximum(gap, 1))), 0).astype(np.int64)
    return notes.piece[to], (step + 128) * 64 + time


def _grams(text: Letters, n: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Piece and number of each n-gram; equal ones have one number, 0 upwards."""
    piece, letter = text
    ends = np.flatnonzero(ngrams.complete(piece, n))
    code = np.zeros(len(ends), np.int64)
    for back in range(n - 1, -1, -1):
        both = code * (1 << 14) + letter[ends - back]
        code = np.unique(both, return_inverse=True)[1]
    return piece[ends], code


def bleu_of_each(notes: Notes, works: Works, order: int = ORDER) -> Floats:
    """(B,) BLEU of each piece against the pieces of other works; NaN for one with no letter, or without such pieces.

    The geometric mean of the shares of its n-grams, n = 1..order, that some such piece has as often (as many of them
    as it has), times exp(1 - r/c) where r, the length among theirs that is nearest to its own c, is above c. A share
    of 0 counts as half an n-gram; an order of which a piece has no n-gram is left out.
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
    """(M,) the most times that a piece of another work has the n-gram of each row."""
    bound = int(gram.max(initial=-1)) + 1
    order = np.lexsort((-count, work, gram))
    fresh = np.append(True, (np.diff(gram[order]) != 0) | (np.diff(work[order]) != 0))[: len(order)]
    best = order[fresh]  # the most of each n-gram in each work
    best = best[np.lexsort((-count[best], gram[best]))]
    head = np.flatnonzero(np.append(True, np.diff(gram[best]) != 0)[: len(best)])
    most, second, owner = np.zeros(bound, np.int64), np.zeros(bound, np.int64), np.full(bound, -1)
    most[gram[best[head]]], owner[gram[best[head]]] = count[best[head]], work[best[head]]
    after = head[head + 1 < len(best)]
    after = after[gram[best[after + 1]] == gram[best[after]]]
    second[gram[best[after]]] = count[best[after + 1]]
    return np.where(owner[gram] == work, second[gram], most[gram])


def self_bleu(notes: Notes, works: ArrayLike | None = None, seed: int = 0) -> Interval:
    """Mean BLEU-4 of each piece against those of other works, 0..1; lower is more varied, real music's own is the aim.

    Works, because excerpts of one real work overlap, and completions of one prompt do not. The interval is over pieces
    by work, with the references as they are. Grows with the number of pieces, since one match among them is enough.

    Cannot see: a set whose every piece is another kind of noise, which is as varied as can be. Undefined (NaN, and
    counted): a piece of fewer than two notes; all, in a set of one work.
    Source: Zhu et al. 2018 (Texygen), arXiv:1802.01886; BLEU of Papineni et al. 2002.
    """
    names = works_of(works, notes.n_pieces, "other")
    return bootstrap(bleu_of_each(notes, names), names, seed=seed)


def distinct(notes: Notes, n: int, works: ArrayLike | None = None, seed: int = 0) -> Interval:
    """Share of different n-grams among all n-grams of the set, 0..1; real music's own is the aim.

    Each n-gram counts one over the times that the set has it, so that the share is a mean over n-grams; the interval
    resamples the works of these.

    Cannot see: order beyond n notes; noise has the most. Excerpts of one real work overlap and completions do not, so
    of many excerpts of few works real music has less than a model by that alone. Undefined (NaN, and counted): a piece
    of no n-gram.
    Source: Li et al. 2016, arXiv:1510.03055.
    """
    names = works_of(works, notes.n_pieces, "real")
    piece, code = _grams(letters(notes), n)
    once = 1 / np.bincount(code)[code] if len(code) else np.zeros(0)
    different, total = (np.bincount(piece, w, minlength=notes.n_pieces) for w in (once, np.ones(len(piece))))
    undefined = int((total == 0).sum())
    if not total.any():
        return nothing(undefined)
    draws = np.concatenate([divide(w @ different, w @ total) for w in resamples(names, REPLICATES, seed)])
    return moved(float(different.sum() / total.sum()), draws, undefined, 0, 1)


# ------------------------------------------------------------- Vendi


def standardised(real: Floats, other: Floats) -> tuple[Floats, Floats]:
    """Both tables (B, D), (C, D) with the real one's mean and deviation, within `CLIP` deviations.

    A column in which real music does not vary has the deviation of both together, and is 0 if that is 0 too.
    """
    centre, spread = real.mean(axis=0), real.std(axis=0)
    both = np.concatenate([real, other]).std(axis=0)
    spread = np.where(spread > 1e-9, spread, both)
    flat = spread <= 1e-9
    scale = np.where(flat, 0.0, 1 / np.where(flat, 1.0, spread))
    first, second = (np.clip((table - centre) * scale, -CLIP, CLIP) for table in (real, other))
    return first, second


def vendi(unit: Floats, weights: Floats) -> float:
    """Vendi score of rows of length 1 (B, D), each counting `weights` (B,): how many different pieces there are.

    exp of the entropy, in nats, of the eigenvalues of the cosine similarities divided by the number of pieces: 1 for
    equal pieces, B for pieces at right angles. Rows beyond D add nothing to D.
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
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Interval:
    """Vendi score of `other` over that of as many real pieces: 1 is best, below it is less varied.

    Similarity is the cosine of two pieces' features after standardising by real music. Of the larger set, as many
    pieces as the smaller has are drawn once.

    Cannot see: what the features do not hold; that the variety is of noise. Real excerpts of one work overlap, so many
    of few works are less varied than as many completions by that alone. Rows with a NaN are left out and counted;
    NaN with fewer than two rows a side.
    Source: Friedman and Dieng 2023, arXiv:2210.02410.

    Args:
        real: (B, D) features of real pieces.
        other: (C, D).
    """
    groups = works_of(works_real, len(real), "real"), works_of(works_other, len(other), "other")
    known = [np.isfinite(table).all(axis=1) for table in (real, other)]
    undefined = int(sum((~mask).sum() for mask in known))
    n = min(int(mask.sum()) for mask in known)
    if n < 2:
        return nothing(undefined)
    first, second = standardised(real[known[0]], other[known[1]])
    rng = np.random.default_rng(seed)
    picks = [np.sort(rng.permutation(len(table))[:n]) if len(table) > n else np.arange(n) for table in (first, second)]
    units = [_unit(table[pick]) for table, pick in zip((first, second), picks, strict=True)]
    drawn = [group[mask][pick] for group, mask, pick in zip(groups, known, picks, strict=True)]
    ones = np.ones(n)
    value = vendi(units[1], ones) / vendi(units[0], ones)
    draws = [
        vendi(units[1], w[1]) / vendi(units[0], w[0]) for w in joint_resamples(drawn[0], drawn[1], replicates, seed)
    ]
    return moved(value, draws, undefined, 0)


def _unit(table: Floats) -> Floats:
    """Rows of length 1; one that is all 0, the mean of real music, gets a direction that no other has much of."""
    length = np.linalg.norm(table, axis=1, keepdims=True)
    flat = length[:, 0] < 1e-9
    out = table / np.where(flat[:, None], 1.0, length)
    out[flat] = 1 / np.sqrt(max(table.shape[1], 1))
    return out
