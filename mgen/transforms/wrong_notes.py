"""Music with wrong notes, wrong times or foreign parts: what a judge of shares and means passes most easily.

Each transform is one of `mgen.transforms.hard_negatives.HARD_NEGATIVES`. Added notes make no piece longer: it keeps
its number of notes, and what is too much is cut off at the end. Drums are treated like other notes in time, and keep
their pitches.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from mgen.arrays import Longs, Mask, median_of, ranges, rank_within, run_starts
from mgen.encoding.remi import PITCH_RANGE
from mgen.notes import STEPS_PER_QUARTER, Notes
from mgen.transforms.rebuild import (
    onsets_from_gaps,
    rearrange_bars,
    resolve_overlaps,
    with_onsets,
    with_onsets_in_bars,
    with_pitches,
    without_tokens,
)

MANY = 8
"""Bars from which on a repeat is form, and not a loop."""


def semitone_errors(notes: Notes, rng: Generator, share: float = 0.2) -> Notes:
    """Moves each note with probability `share` up or down by a semitone; rhythm stays."""
    step = rng.choice((-1, 1), len(notes)) * (rng.random(len(notes)) < share)
    return resolve_overlaps(with_pitches(notes, np.clip(notes.pitch + step, *PITCH_RANGE)))


def late_hand(notes: Notes, rng: Generator, beats: float = 1.4) -> Notes:
    """Plays the notes below the median pitch of each piece, or those above, `beats` later against the others."""
    late = _lower(notes) ^ (rng.random(notes.n_pieces) < 0.5)[notes.piece]
    return _in_bars(notes, notes.onset + late * round(beats * STEPS_PER_QUARTER))


def hand_of_others(notes: Notes, rng: Generator) -> Notes:
    """Replaces the notes below the median pitch of each piece with those of another piece of the batch."""
    lower, partner = _lower(notes), _partners(notes, rng)
    other = notes.select(lower).pieces(partner)
    return _together(notes.select(~lower), other, notes)


def superpose(notes: Notes, rng: Generator) -> Notes:
    """Plays each piece together with another piece of the batch."""
    return _together(notes, notes.pieces(_partners(notes, rng)), notes)


def jitter(notes: Notes, rng: Generator, beats: float = 0.3) -> Notes:
    """Moves every onset by up to `beats`, earlier or later; notes of one onset stay together.

    That is three times what `mgen.transforms.format_augmentations.humanise` moves them.
    """
    first, onset_of = _onsets(notes)
    moved = notes.onset[first] + np.rint(STEPS_PER_QUARTER * rng.uniform(-beats, beats, len(first))).astype(np.int64)
    return _in_bars(notes, np.maximum(moved, 0)[onset_of])


def random_gaps(notes: Notes, rng: Generator) -> Notes:
    """Draws every time from onset to onset evenly, in its logarithm, between a third and three times the median."""
    first, onset_of = _onsets(notes)
    begins = run_starts(notes.piece[first])
    gap = _gaps(notes, first)
    usual = np.nan_to_num(median_of(gap[~begins], notes.piece[first][~begins], notes.n_pieces))[notes.piece[first]]
    drawn = np.maximum(np.rint(usual * 3.0 ** rng.uniform(-1, 1, len(gap))), 1)
    onset = onsets_from_gaps(np.where(begins, gap, drawn), begins)
    return with_onsets(without_tokens(notes), onset[onset_of])


def collage(notes: Notes, rng: Generator, onsets: tuple[int, int] = (3, 12)) -> Notes:
    """Joins fragments of `onsets` onsets, least and most, drawn from all pieces of the batch, with their own rhythm."""
    if not len(notes):
        return without_tokens(notes)
    first, _ = _onsets(notes)
    size = np.diff(np.append(first, len(notes)))
    count = len(first)
    gap = np.maximum(np.where(run_starts(notes.piece[first]), STEPS_PER_QUARTER, _gaps(notes, first)), 1)
    length = rng.integers(onsets[0], onsets[1] + 1, count)  # of more fragments than are needed
    begin = np.repeat(rng.integers(count, size=count), length)[:count]
    inside = (np.arange(count) - np.repeat(np.cumsum(length) - length, length)[:count]) % count
    source = (begin + inside) % count  # (count,) onset that is played at each onset of the batch
    piece = notes.piece[first]
    onset = onsets_from_gaps(np.where(run_starts(piece), 0, gap[source]), run_starts(piece))
    row, target = ranges(first[source], first[source] + size[source])
    joined = replace(notes.select(row), piece=piece[target], bar=np.zeros(len(row), np.int32))
    return _as_many(with_onsets(without_tokens(joined), onset[target]), notes)


def pedal_walk(notes: Notes, rng: Generator) -> Notes:
    """Keeps the rhythm and plays a chromatic walk in it, over one bass note at every other onset."""
    first, _ = _onsets(notes)
    first = first[notes.program[first] >= 0]
    piece = notes.piece[first]
    begins = run_starts(piece)
    turn = np.where(rng.random(len(first)) < 0.25, -1, 1)
    way = np.cumprod(turn) if len(turn) else turn
    walk = onsets_from_gaps(np.where(begins, 0, way), begins)
    start = rng.integers(60, 76, notes.n_pieces)
    span = 24  # semitones in which the walk turns back
    pitch = start[piece] - span // 2 + span - np.abs((walk + span // 2) % (2 * span) - span)
    bass = np.flatnonzero(rank_within(piece, notes.n_pieces) % 2 == 0)
    rows = np.append(first, first[bass])
    played = replace(
        notes.select(rows),
        pitch=np.append(pitch, (start - rng.integers(20, 32, notes.n_pieces))[piece[bass]]).astype(np.int32),
    )
    return _as_many(resolve_overlaps(without_tokens(played)), notes)


def approach_notes(notes: Notes, rng: Generator) -> Notes:
    """Inserts a note a semitone below the top note of every third onset, half way from the onset before."""
    first, onset_of = _onsets(notes)
    piece = notes.piece[first]
    top = np.full(len(first), -1)
    np.maximum.at(top, onset_of, np.where(notes.program >= 0, notes.pitch, -1))
    rank = rank_within(piece, notes.n_pieces)
    gap = _gaps(notes, first)
    some = np.flatnonzero((rank % 3 == 2) & (top > PITCH_RANGE[0]) & (gap >= 2))
    before = gap[some] // 2
    rows = first[some]
    onset = notes.onset[rows] - before
    added = replace(
        notes.select(rows),
        onset=onset.astype(np.int32),
        duration=np.maximum(before, 1).astype(np.int32),
        pitch=(top[some] - 1).astype(np.int32),
        program=np.maximum(notes.program[rows], 0).astype(np.int32),
    )
    both = _joined(notes, added)
    return _as_many(with_onsets_in_bars(without_tokens(both), both.onset), notes)


def loop_bars(notes: Notes, rng: Generator) -> Notes:
    """Repeats the first one to four bars of each piece, drawn at random, at least twice."""
    bars = np.diff(notes.bar_starts)
    return _repeat(notes, np.minimum(rng.integers(1, 5, notes.n_pieces), bars // 3), np.ones(notes.n_pieces, bool))


def repeat_section(notes: Notes, rng: Generator) -> Notes:
    """Repeats the first half of each piece that has `MANY` bars in it instead of the second half. Not random.

    That is form and no damage: critics learn that such a piece is intact.
    """
    half = (np.diff(notes.bar_starts) + 1) // 2
    return _repeat(notes, half, half >= MANY)


def _repeat(notes: Notes, period: Longs, some: Mask) -> Notes:
    """Repeats the first `period` (B,) bars of `some` (B,) pieces; one of no bars leaves a piece as it is."""
    owner = notes.bars.piece
    number = np.arange(len(owner)) - notes.bar_starts[owner]
    period = np.where(some & (period > 0), period, np.maximum(np.diff(notes.bar_starts), 1))
    return _as_many(rearrange_bars(notes, notes.bar_starts[owner] + number % period[owner]), notes)


def _lower(notes: Notes) -> Mask:
    """(N,) whether a note lies below the median pitch of its piece."""
    sounding = notes.program >= 0
    middle = median_of(notes.pitch[sounding], notes.piece[sounding], notes.n_pieces)
    return sounding & (notes.pitch < np.nan_to_num(middle)[notes.piece])


def _partners(notes: Notes, rng: Generator) -> Longs:
    """(B,) another piece with notes for each of them; a piece alone has itself."""
    order = rng.permutation(np.flatnonzero(notes.counts > 0))
    partner = np.arange(notes.n_pieces)
    partner[order] = np.roll(order, 1)
    return partner


def _together(notes: Notes, other: Notes, like: Notes) -> Notes:
    """Both at once, in the bars of `like` and with as many notes."""
    both = _joined(notes, other)
    bars = like.bars
    last = like.bar_starts[1:] - 1
    end = np.where(np.diff(like.bar_starts) > 0, (bars.onset + bars.length)[last], 0) if len(bars.piece) else last
    both = both.select(both.onset < end[both.piece])
    return _as_many(with_onsets_in_bars(without_tokens(both), both.onset), like)


def _joined(notes: Notes, other: Notes) -> Notes:
    """The notes of both (B pieces each), unsorted except by piece, in the bars of the first."""
    names = ("piece", "onset", "duration", "bar", "pitch", "velocity", "program", "token", "broken")
    order = np.argsort(np.append(notes.piece, other.piece), kind="stable")
    columns: dict[str, Any] = {name: np.append(getattr(notes, name), getattr(other, name))[order] for name in names}
    return replace(notes, **columns)


def _in_bars(notes: Notes, onset: NDArray[np.integer]) -> Notes:
    """Moves the notes to `onset` (N,), and leaves out those that would begin after the piece's last bar."""
    bars = notes.bars
    last = notes.bar_starts[1:][notes.piece] - 1
    kept = onset < bars.onset[last] + bars.length[last]
    return with_onsets_in_bars(without_tokens(notes.select(kept)), onset[kept])


def _onsets(notes: Notes) -> tuple[Longs, Longs]:
    """(M,) first note of each onset of a piece, and (N,) number of the onset of each note."""
    begins = run_starts(notes.piece, notes.onset)
    return np.flatnonzero(begins), np.cumsum(begins) - 1


def _gaps(notes: Notes, first: Longs) -> Longs:
    """(M,) grid steps from onset to onset; a piece's first counts from 0."""
    onset = notes.onset[first].astype(np.int64)
    return np.where(run_starts(notes.piece[first]), onset, np.diff(onset, prepend=0))


def _as_many(notes: Notes, like: Notes) -> Notes:
    """The first notes of each piece, as many as it has in `like`."""
    return notes.select(rank_within(notes.piece, notes.n_pieces) < like.counts[notes.piece])
