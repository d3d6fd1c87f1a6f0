"""Hard negatives: the format of real music with the music broken.

What a style critic has to call bad whoever wrote the file. Each takes pieces and a generator and returns as many, as
if read from files; timing, loudness and lengths are mostly those of real pieces, so that format tells nothing.
A change may find nothing to break (no swing, no note outside the scale): see
`mgen.transforms.format_augmentations.changed_pieces`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from mgen.encoding.remi import PITCH_RANGE
from mgen.music.metrics import SCALE
from mgen.notes import Notes
from mgen.transforms.corruptions import CORRUPTIONS
from mgen.transforms.format_augmentations import Change, finished, relaid, straight_eighths


def in_major(notes: Notes, rng: Generator) -> Notes:
    """Every pitch moved to the nearest of the major scale that holds most of the piece's notes, of two as near the
    lower: chromatic music made plain. Draws nothing; rhythm and contour stay, and two notes of a chord may become one.
    """
    sounding = notes.program >= 0
    count = np.bincount(notes.piece[sounding] * 12 + notes.pitch[sounding] % 12, minlength=notes.n_pieces * 12)
    scales = np.add.outer(np.arange(12), SCALE) % 12
    root = count.reshape(-1, 12)[:, scales].sum(axis=2).argmax(axis=1)
    degree = np.arange(12)
    distance = np.array([0, -1, 1])
    shift = distance[np.isin((degree[:, None] + distance) % 12, SCALE).argmax(axis=1)]
    pitch = notes.pitch + shift[(notes.pitch - root[notes.piece]) % 12]
    pitch = np.where(pitch < PITCH_RANGE[0], notes.pitch + 1, np.where(pitch > PITCH_RANGE[1], notes.pitch - 1, pitch))
    return _repitched(notes, pitch)


def pitches_permuted(notes: Notes, rng: Generator) -> Notes:
    """Each piece's own pitches in random order; rhythm stays."""
    rows = np.flatnonzero(notes.program >= 0)
    pitch = notes.pitch.copy()
    pitch[rows] = notes.pitch[rows][np.lexsort((rng.random(len(rows)), notes.piece[rows]))]
    return _repitched(notes, pitch)


def chords_of_others(notes: Notes, rng: Generator) -> Notes:
    """The pitches of each onset exchanged with those of an onset of as many notes, anywhere in the batch.

    Rhythm, voicings and thickness stay; melody and harmony go. A batch of one piece exchanges within it.
    """
    rows = np.flatnonzero(notes.program >= 0)
    key = np.stack([notes.piece[rows], notes.onset[rows]])
    first = np.flatnonzero(np.append(True, (np.diff(key) != 0).any(axis=0))[: len(rows)])
    size = np.diff(np.append(first, len(rows)))
    order = np.lexsort((notes.pitch[rows], notes.onset[rows], notes.piece[rows]))  # programs may interleave pitches
    by_size = np.argsort(size, kind="stable")
    source = np.empty_like(by_size)
    source[by_size] = np.lexsort((rng.random(len(size)), size))
    within = np.arange(len(rows)) - np.repeat(first, size)
    pitch = notes.pitch.copy()
    pitch[rows[order]] = notes.pitch[rows[order]][np.repeat(first[source], size) + within]
    return _repitched(notes, pitch)


def rhythm_of_others(notes: Notes, rng: Generator) -> Notes:
    """The pitches of each piece, in their order and again from the first, at the times of another piece of the batch.

    A batch of one piece, and a piece whose partner is empty, stays as it is.
    """
    partner = _partner(notes, rng)
    timed = notes.pieces(partner)
    own, count = notes.starts[:-1], notes.counts
    rank = np.arange(len(timed)) - timed.starts[timed.piece]
    pitch = notes.pitch[own[timed.piece] + rank % np.maximum(count, 1)[timed.piece]] if len(notes) else timed.pitch
    return _repitched(timed, pitch)


def gaps_permuted(notes: Notes, rng: Generator) -> Notes:
    """The times from onset to onset of each piece in random order; chords, pitches and their order stay."""
    key = np.stack([notes.piece, notes.onset])
    fresh = np.append(True, (np.diff(key) != 0).any(axis=0))[: len(notes)]
    at = np.flatnonzero(fresh)
    piece, onset = notes.piece[at], notes.onset[at]
    begins = np.append(True, np.diff(piece) != 0)[: len(piece)]
    gap = np.where(begins, onset, np.diff(onset, prepend=0))
    inner = np.flatnonzero(~begins)
    gap[inner] = gap[inner][np.lexsort((rng.random(len(inner)), piece[inner]))]
    total = np.cumsum(gap)
    before = np.where(begins, total - gap, 0)
    moved = total - np.maximum.accumulate(before)
    return relaid(_untold(notes), moved[np.cumsum(fresh) - 1].astype(np.int32))


HARD_NEGATIVES: dict[str, Change] = {
    "straight_eighths": straight_eighths,
    "in_major": in_major,
    **CORRUPTIONS,
    "gaps_permuted": gaps_permuted,
    "rhythm_of_others": rhythm_of_others,
    "chords_of_others": chords_of_others,
    "pitches_permuted": pitches_permuted,
}
"""Name -> change that keeps the format and breaks the music."""


def _partner(notes: Notes, rng: Generator) -> NDArray[np.int64]:
    """(B,) another piece for each, no piece taken twice; itself where there is no other with notes."""
    some = np.flatnonzero(notes.counts > 0)
    partner = np.arange(notes.n_pieces)
    order = rng.permutation(some)
    partner[order] = np.roll(order, 1)
    return partner


def _repitched(notes: Notes, pitch: NDArray[np.integer]) -> Notes:
    return finished(_untold(replace(notes, pitch=np.where(notes.program < 0, notes.pitch, pitch).astype(np.int32))))


def _untold(notes: Notes) -> Notes:
    """With no memory of tokens."""
    none, whole = np.zeros(notes.n_pieces, np.int32), np.zeros(len(notes), np.int32)
    return replace(notes, token=whole - 1, broken=whole, n_tokens=none, n_broken=none)
