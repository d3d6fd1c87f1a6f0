"""Finds pieces that are the same music in another key, tempo or arrangement, and the overlap of sets of pieces.

A worker reduces a piece to a hash and a few numbers (`content_hash`, `shingles`, `signature`); the parent process
compares pieces by these alone, never all pairs. Knows nothing of files, splits or names of works.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from datasketch import MinHash
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from mgen.arrays import ranges, run_starts
from mgen.notes import Notes

N_INTERVALS = 6
MIN_DISTINCT = 4
"""Intervals per shingle, and how many of them must differ: scales, trills and three-note ostinati have no shingles."""

CHORD_SPANS = (0.15, 0.35, 0.7)
"""Onsets closer than this share of the piece's median duration form a chord. Three spans, because loose playing splits
chords at a narrow span, and fast notes merge into chords at a wide one.
"""

MAX_SHINGLES = 1024
"""Shingles kept per piece. A longer piece keeps its smallest hashes: a uniform sample, consistent between pieces."""

MAX_TOTAL_SHINGLES = 3 << 23  # shingles kept over all pieces; of more, a uniform sample, to bound memory
MIN_CONTAINMENT = 0.2
MIN_RARE_CONTAINMENT = 0.06
MIN_SHARED = 16
MANY_SHARED = 64
NEARLY_WHOLE = 0.9
"""Two pieces are near duplicates if they share at least MIN_SHARED rare shingles and their containment is at least
MIN_CONTAINMENT (by rare shingles alone: MIN_RARE_CONTAINMENT). Without rare ones they need a containment of
MIN_CONTAINMENT and MANY_SHARED shared shingles, or a containment of NEARLY_WHOLE and half of MANY_SHARED.

Measured on 5733 real pieces and 760 altered copies (transposed, at another speed, loosely played, revoiced, cut to a
third, and combinations of two): 98 % of the copies are found, 100 % of the transposed, rescaled, revoiced or cut ones,
92 % of those both loosely played and revoiced. Of the 83 pairs found among the real pieces most are versions of one
work by name or number.
"""

MAX_RARE_WORKS = 4
"""Most works that may share a rare shingle. So a formula used by a whole collection does not join its pieces into one
chain.
"""

MAX_COMMON_WORKS = 64
MAX_COMMON_SHARE = 0.001
"""A shingle in more works than this number, and than this share of all works, is common."""

N_HASHES = 256
MIN_MATCHES = 4
"""Hashes per signature, and how many must match before the shingles of two pieces are compared."""

_NEIGHBOURS = 16  # pieces with an equal hash that each piece is compared with
_PIECES_AT_A_TIME = 1 << 11  # pieces whose neighbours are counted at a time
_MAX_HASH = np.iinfo(np.uint32).max
_BLOCK_SIZE = 1 << 22  # numbers in memory at a time

Integers = NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True)
class Shingles:
    """The shingles of P pieces, concatenated."""

    hashes: NDArray[np.uint32]  # (S,) sorted within a piece
    starts: NDArray[np.int64]  # (P + 1,) index of each piece's first; the last entry is S
    complete_up_to: NDArray[np.uint32]  # (P,) all shingles of the piece up to this hash are kept

    def __len__(self) -> int:
        return len(self.complete_up_to)

    @property
    def counts(self) -> NDArray[np.int64]:
        """(P,) shingles of each piece."""
        return np.diff(self.starts)

    @property
    def owner(self) -> NDArray[np.int64]:
        """(S,) piece of each shingle."""
        return np.repeat(np.arange(len(self)), self.counts)

    @classmethod
    def from_stream(
        cls,
        pieces: Callable[[], Iterable[tuple[int, NDArray[np.uint32]]]],
        counts: ArrayLike,
        most: int = MAX_TOTAL_SHINGLES,
    ) -> Shingles:
        """The table of the results of `shingles` for each piece, read one piece at a time, in two passes.

        Args:
            pieces: returns an iterator over the number and the shingles of every piece, in any order.
            counts: (P,) number of shingles of each piece.
            most: of more in total, a uniform sample of about this size is kept.
        """
        whole = np.asarray(counts, np.int64)
        limit = min(int(_MAX_HASH), int(_MAX_HASH) * most // max(int(whole.sum()), 1))
        kept, complete_up_to = whole.copy(), np.full(len(whole), limit, np.uint32)
        if limit < _MAX_HASH:
            for number, piece in pieces():
                kept[number] = np.searchsorted(piece, limit, side="right")
        starts = np.append(0, np.cumsum(kept))
        hashes = np.empty(starts[-1], np.uint32)
        for number, piece in pieces():
            hashes[starts[number] : starts[number + 1]] = piece[: kept[number]]
            if whole[number] == MAX_SHINGLES:
                complete_up_to[number] = min(limit, int(piece[-1]))
        return cls(hashes, starts, complete_up_to)

    def pieces(self, index: ArrayLike) -> Shingles:
        """The pieces of `index`, in that order; a piece may be repeated."""
        taken = np.asarray(index, np.int64)
        rows, _ = ranges(self.starts[taken], self.starts[taken + 1])
        return Shingles(self.hashes[rows], np.append(0, np.cumsum(self.counts[taken])), self.complete_up_to[taken])

    def drop_common(self, most: int | None = None, work: Integers | None = None) -> Shingles:
        """The same pieces without the shingles that more than `most` works share.

        Common figures would make a short piece look like part of a long one.

        Args:
            most: the larger of `MAX_COMMON_WORKS` and `MAX_COMMON_SHARE` of the works, if None.
            work: (P,) number of each piece's work, as far as known, because the riff of a song is in many of its parts.
                Each piece is a work if None.
        """
        work = np.arange(len(self)) if work is None else work
        most = max(MAX_COMMON_WORKS, int(MAX_COMMON_SHARE * len(np.unique(work)))) if most is None else most
        keep = np.ones(len(self.hashes), bool)
        part = self.hashes.astype("<u4", copy=False).view(np.uint8)[3::4] >> 2  # the highest six bits
        left = self.counts
        for number in range(64):  # one part of the hashes at a time, to limit the size of each sort
            rows = np.flatnonzero(part == number)
            owner = np.searchsorted(self.starts, rows, side="right") - 1
            common = _is_common(self.hashes[rows], work[owner], most)
            keep[rows[common]] = False
            left = left - np.bincount(owner[common], minlength=len(self))
        return Shingles(self.hashes[keep], np.append(0, np.cumsum(left)), self.complete_up_to)


def _is_common(hashes: NDArray[np.uint32], work: Integers, most: int) -> NDArray[np.bool_]:
    """(S,) which shingles more than `most` works share."""
    key = np.sort(_keys(hashes, work.astype(np.uint32)))
    user = (key[run_starts(key)] >> np.uint64(32)).astype(np.uint32)  # each work once
    first = np.flatnonzero(run_starts(user))
    crowded = user[first[np.diff(np.append(first, len(user))) > most]]
    if not len(crowded):
        return np.zeros(len(hashes), bool)
    found: NDArray[np.bool_] = crowded[np.minimum(np.searchsorted(crowded, hashes), len(crowded) - 1)] == hashes
    return found


@dataclass(frozen=True, slots=True)
class Pairs:
    """M pairs of pieces and what they share."""

    pieces: NDArray[np.int64]  # (M, 2) the lower number first
    containment: NDArray[np.float64]  # (M,) shared shingles / shingles of the smaller piece, 0..1
    shared: NDArray[np.int64]  # (M,) shingles

    def __len__(self) -> int:
        return len(self.shared)

    def where(self, keep: NDArray[np.bool_]) -> Pairs:
        """The pairs for which `keep` (M,) is True."""
        return Pairs(self.pieces[keep], self.containment[keep], self.shared[keep])


@dataclass(frozen=True, slots=True)
class Overlap:
    """For each of P test pieces, the training piece with the largest overlap."""

    train_piece: NDArray[np.int64]  # (P,) -1 if none shares `MIN_SHARED` shingles
    containment: NDArray[np.float64]  # (P,) 0..1
    shared: NDArray[np.int64]  # (P,)

    @property
    def largest(self) -> tuple[int, int, float] | None:
        """Training piece, test piece and containment of the largest overlap; None without any."""
        found = np.flatnonzero(self.train_piece >= 0)
        if not len(found):
            return None
        test = found[np.lexsort((-self.shared[found], -self.containment[found]))[0]]
        return int(self.train_piece[test]), int(test), float(self.containment[test])


def content_hash(notes: Notes) -> bytes:
    """16 bytes that are equal for pieces with the same onsets, durations, pitches and programs.

    Velocities, bar lines and metre are ignored: the same notes with other velocities, or in another metre, are exact
    duplicates. `notes` is one piece, as `clean` returns it.

    Raises:
        ValueError: `notes` has not exactly one piece.
    """
    _check_one_piece(notes)
    table = np.stack([notes.onset, notes.duration, notes.pitch, notes.program])
    return hashlib.blake2b(table.astype("<i4").tobytes(), digest_size=16).digest()


def shingles(notes: Notes) -> NDArray[np.uint32]:
    """Hashes (S,) of short melodic sequences in the highest and the lowest voice, sorted and unique.

    A shingle is `N_INTERVALS` consecutive intervals, in semitones, between the top (or the bottom) notes of chords. So
    it is invariant to key, to tempo as far as the grid represents it, and to inner voices; cutting a piece removes only
    the shingles of the part cut off. Loosely played, added or missing notes break the shingles that contain them. Drums
    are ignored.

    Returns:
        At most `MAX_SHINGLES`; none for a piece with fewer than seven chords.

    Raises:
        ValueError: `notes` has not exactly one piece.
    """
    _check_one_piece(notes)
    pitched = notes.program >= 0
    onset, pitch = notes.onset[pitched], notes.pitch[pitched]
    if not len(onset):
        return np.zeros(0, np.uint32)
    gap = np.diff(onset)
    duration = float(np.median(notes.duration[pitched]))
    found = []
    for span in CHORD_SPANS:
        first = np.append(0, np.flatnonzero(gap > span * duration) + 1)
        found += [
            _interval_hashes(line.reduceat(pitch, first), salt) for salt, line in enumerate((np.maximum, np.minimum))
        ]
    return np.unique(np.concatenate(found))[:MAX_SHINGLES]


def _check_one_piece(notes: Notes) -> None:
    if notes.n_pieces != 1:
        raise ValueError(f"expected one piece, got {notes.n_pieces}; take one with notes.pieces([number])")


def _interval_hashes(pitch: Integers, salt: int) -> NDArray[np.uint32]:
    """Hashes of each `N_INTERVALS` consecutive intervals of which `MIN_DISTINCT` differ."""
    interval = np.diff(pitch)
    if len(interval) < N_INTERVALS:
        return np.zeros(0, np.uint32)
    window = np.lib.stride_tricks.sliding_window_view(interval, N_INTERVALS)
    distinct = 1 + (np.diff(np.sort(window, axis=1), axis=1) != 0).sum(axis=1)
    digits = (window[distinct >= MIN_DISTINCT] + 128).astype(np.uint64)  # an interval fits a byte
    code = digits @ (np.uint64(1) << np.arange(0, 8 * N_INTERVALS, 8, dtype=np.uint64))
    return _mix(code + (np.uint64(salt) << np.uint64(56)))


def _mix(code: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """Hashes that are uniformly distributed, so that the smallest ones are a uniform sample.

    Source: the finaliser of SplitMix64, Steele et al. 2014, doi:10.1145/2660193.2660195.
    """
    code = (code ^ (code >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    code = (code ^ (code >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (code >> np.uint64(32)).astype(np.uint32)


def signature(piece: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """MinHash (N_HASHES,) of one piece's shingles: the share of equal hashes of two estimates their Jaccard index."""
    sketch = MinHash(N_HASHES, hashfunc=int, permutations=_PERMUTATIONS, scheme="affine32")
    sketch.update_batch(piece)
    return np.asarray(sketch.hashvalues, np.uint32)


_PERMUTATIONS = MinHash(N_HASHES, scheme="affine32").permutations  # drawn once, always the same


def near_duplicates(
    signatures: NDArray[np.uint32],
    table: Shingles,
    work: Integers | None = None,
    min_containment: float = MIN_CONTAINMENT,
    many_shared: int = MANY_SHARED,
    min_rare_containment: float = MIN_RARE_CONTAINMENT,
    min_shared: int = MIN_SHARED,
    min_matches: int = MIN_MATCHES,
) -> Pairs:
    """Pairs of pieces that share much of their music, proposed by signatures and confirmed by shingles.

    Memory grows with the number of matching pairs, not with the square of the number of pieces. If more than 17 pieces
    have an equal hash, each is compared with its neighbours only: not every pair of a group of copies is returned, but
    enough to connect them. Pass one piece per `content_hash`, or the shingles of exact copies count as common.

    Args:
        signatures: (P, K) one `signature` per row.
        table: shingles of the same P pieces, preferably without the common ones, see `Shingles.drop_common`.
        work: (P,) number of each piece's work, as far as known; a shingle of few works is rare.
        min_containment: containment, 0..1, that suffices with `many_shared` shared shingles, or half that number if
            they are `NEARLY_WHOLE` of a piece, or `min_shared` rare ones.
        min_rare_containment: containment by rare shingles alone that suffices.
        min_shared: fewest shared shingles, so that a short piece does not match by chance.
        min_matches: fewest hashes, of K, in which two signatures agree.

    Returns:
        Sorted pairs, with what they share in `table`.

    Raises:
        ValueError: Signatures and shingles differ in their number of pieces.
    """
    if len(signatures) != len(table):
        raise ValueError(f"{len(signatures)} signatures, but shingles of {len(table)} pieces; give both of each piece")
    able = np.flatnonzero(table.counts >= min_shared)
    found = compare(table, able[_candidate_pairs(signatures[able], min_matches)])
    found = found.where(
        (found.containment >= min(min_rare_containment, min_containment)) & (found.shared >= min_shared)
    )
    rare = compare(table.drop_common(MAX_RARE_WORKS, work), found.pieces).shared
    alone = found.containment * rare / np.maximum(found.shared, 1)
    enough = (found.shared >= many_shared) | ((found.containment >= NEARLY_WHOLE) & (2 * found.shared >= many_shared))
    near = (found.containment >= min_containment) & (enough | (rare >= min_shared))
    return found.where(near | ((alone >= min_rare_containment) & (rare >= min_shared)))


def _candidate_pairs(signatures: NDArray[np.uint32], min_matches: int) -> NDArray[np.int64]:
    """(M, 2) sorted pairs of rows that are equal in `min_matches` columns, the lower row first."""
    n = len(signatures)
    order = np.empty(signatures.shape[::-1], np.int32)
    for column, into in zip(signatures.T, order, strict=True):
        into[:] = np.argsort(column, kind="stable")
    pairs = []
    for first in range(0, n, _PIECES_AT_A_TIME):  # the lower row is in first..first + _PIECES_AT_A_TIME
        codes = [np.zeros(0, np.int64)]
        for column, row in zip(signatures.T, order, strict=True):
            value = column[row]
            at = np.flatnonzero((row >= first) & (row < first + _PIECES_AT_A_TIME))
            for back in range(1, min(_NEIGHBOURS, n - 1) + 1):
                at = at[at + back < n]
                at = at[value[at + back] == value[at]]  # the column is sorted: further neighbours differ too
                codes.append(row[at].astype(np.int64) * n + row[at + back])
        code, count = np.unique(np.concatenate(codes), return_counts=True)
        pairs.append(np.stack(np.divmod(code[count >= min_matches], n), axis=1))
    return np.concatenate([np.zeros((0, 2), np.int64), *pairs])


def compare(table: Shingles, pairs: Integers) -> Pairs:
    """What each of `pairs` (M, 2) shares; 0 if a piece has no shingles.

    Long pieces are sampled, so both are compared up to the last hash of the shorter sample: an unbiased estimate, exact
    for pieces with fewer than `MAX_SHINGLES`.
    """
    pairs = np.asarray(pairs, np.int64).reshape(-1, 2)
    step = max(1, _BLOCK_SIZE // (2 * int(table.counts.max(initial=1))))
    found = [(np.zeros(0, np.int64), np.zeros(0))]
    found += [_compare_block(table, pairs[first : first + step]) for first in range(0, len(pairs), step)]
    shared, containment = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return Pairs(pairs, containment, shared)


def _compare_block(table: Shingles, pairs: Integers) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    index, place = np.unique(pairs, return_inverse=True)
    part = table.pieces(index)
    place = place.reshape(-1, 2)
    key = _keys(part.owner, part.hashes)
    # Look up the shingles of the smaller piece in those of the other.
    few = np.where((part.counts[place[:, 0]] <= part.counts[place[:, 1]])[:, None], place, place[:, ::-1])
    asked = part.pieces(few[:, 0])
    wanted = _keys(few[:, 1][asked.owner], asked.hashes)
    at = np.searchsorted(key, wanted)
    hit = np.append(key, np.uint64(0))[at] == wanted
    shared = np.bincount(asked.owner[hit], minlength=len(few))
    return shared, shared / np.maximum(_smaller_size(part, part, place), 1)


def _smaller_size(one: Shingles, other: Shingles, pairs: Integers) -> NDArray[np.int64]:
    """(M,) shingles of the smaller piece of each pair (one of each table), as far as both are complete."""
    complete_up_to = np.minimum(one.complete_up_to[pairs[:, 0]], other.complete_up_to[pairs[:, 1]])
    return np.minimum(_count_up_to(one, pairs[:, 0], complete_up_to), _count_up_to(other, pairs[:, 1], complete_up_to))


def _count_up_to(table: Shingles, index: Integers, complete_up_to: NDArray[np.uint32]) -> NDArray[np.int64]:
    """(M,) number of hashes of piece `index` (M,) that are at most `complete_up_to` (M,)."""
    taken, place = np.unique(index, return_inverse=True)
    part = table.pieces(taken)
    end = np.searchsorted(_keys(part.owner, part.hashes), _keys(place, complete_up_to), side="right")
    return end - part.starts[place]


def _keys(piece: Integers, hashes: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """Piece and hash as one number that sorts by both."""
    return (piece.astype(np.uint64) << np.uint64(32)) | hashes


def name_pairs(names: Iterable[str | bytes]) -> NDArray[np.int64]:
    """Pairs (M, 2) that connect all pieces with the same name; an empty name connects nothing.

    Args:
        names: work, artist or content hash of each piece.
    """
    number, _ = pd.factorize(np.array([name or None for name in names], dtype=object))
    order = np.argsort(number, kind="stable")
    order = order[number[order] >= 0]
    alike = number[order[1:]] == number[order[:-1]]
    return np.stack([order[:-1][alike], order[1:][alike]], axis=1)


def connected_groups(n_pieces: int, *relations: Integers) -> NDArray[np.int64]:
    """Connected component (P,) of each piece, numbered from 0; a component goes to one split.

    Watch `np.bincount(group).max()`: a chain of pairs can connect half a corpus.

    Args:
        n_pieces: P.
        relations: arrays of pairs (M, 2) of pieces that belong together.
    """
    pairs = np.concatenate([np.zeros((0, 2), np.int64), *relations])
    graph = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), (n_pieces, n_pieces))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)


def largest_overlap(train: Shingles, test: Shingles, min_shared: int = MIN_SHARED) -> Overlap:
    """The training piece nearest to each test piece, by containment and then by number of shared shingles.

    Compares all training pieces, without signatures. Memory holds the test pieces and a block of training pieces.

    Args:
        train: shingles of the training pieces, preferably without those common in the whole corpus.
        test: shingles of the test pieces, likewise.
        min_shared: pairs that share fewer are ignored.
    """
    owner = test.owner[np.argsort(test.hashes, kind="stable")]
    hashes, count = np.unique(test.hashes, return_counts=True)
    begin = np.cumsum(count) - count
    best = Overlap(np.full(len(test), -1), np.zeros(len(test)), np.zeros(len(test), np.int64))
    if not len(hashes):
        return best
    for block in _weighted_runs(train.counts, _BLOCK_SIZE >> 2):
        found = train.pieces(block)
        at = np.minimum(np.searchsorted(hashes, found.hashes), len(hashes) - 1)
        hit = np.flatnonzero(hashes[at] == found.hashes)
        piece, at = found.owner[hit], at[hit]
        weight = np.bincount(piece, count[at], len(block)).astype(np.int64)
        for run in _weighted_runs(weight, _BLOCK_SIZE):
            rows = slice(*np.searchsorted(piece, [run[0], run[-1] + 1]))
            match, shingle = ranges(begin[at[rows]], begin[at[rows]] + count[at[rows]])
            codes, shared = np.unique(piece[rows][shingle] * len(test) + owner[match], return_counts=True)
            near = shared >= min_shared
            pairs = np.stack(np.divmod(codes[near], len(test)), axis=1)
            containment = shared[near] / np.maximum(_smaller_size(found, test, pairs), 1)
            best = _keep_nearest(best, block[pairs[:, 0]], pairs[:, 1], containment, shared[near])
    return best


def _weighted_runs(weight: NDArray[np.int64], most: int) -> Iterator[NDArray[np.int64]]:
    """The numbers 0..P-1 in runs with a total weight of at most `most`; a heavier one is a run by itself."""
    total = np.append(0, np.cumsum(weight))
    first = 0
    while first < len(weight):
        last = max(first + 1, int(np.searchsorted(total, total[first] + most, side="right")) - 1)
        yield np.arange(first, last)
        first = last


def _keep_nearest(
    best: Overlap,
    train: NDArray[np.int64],
    test: NDArray[np.int64],
    containment: NDArray[np.float64],
    shared: NDArray[np.int64],
) -> Overlap:
    """For each test piece the better of `best` and the new pairs; of equal ones the first."""
    every = np.arange(len(best.shared))
    train, test = np.append(best.train_piece, train), np.append(every, test)
    containment, shared = np.append(best.containment, containment), np.append(best.shared, shared)
    order = np.lexsort((-shared, -containment, test))
    first = order[np.searchsorted(test[order], every)]
    return Overlap(train[first], containment[first], shared[first])


def collection_overlap(pairs: Pairs, collection: ArrayLike) -> tuple[list[str], NDArray[np.float64]]:
    """Overlap of each collection with each other one, and with itself.

    Args:
        pairs: near duplicates among P pieces.
        collection: (P,) name of each piece's collection.

    Returns:
        C sorted names, and (C, C) the share of the row's pieces that have a near duplicate, other than themselves, in
        the column.
    """
    names, number = np.unique(np.asarray(collection, dtype=str), return_inverse=True)
    both = np.concatenate([pairs.pieces, pairs.pieces[:, ::-1]])
    piece, column = np.unique(np.stack([both[:, 0], number[both[:, 1]]]), axis=1)
    out = np.zeros((len(names), len(names)))
    np.add.at(out, (number[piece], column), 1.0)
    return names.tolist(), out / np.bincount(number, minlength=len(names))[:, None]
