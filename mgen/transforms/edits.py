"""Edit operators: small random edits of one piece, for the reward-hacking search.

A piece is a `NoteArray` in 4/4, which is quicker to edit than `Notes`. Nothing here knows judges.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from mgen.arrays import Longs, Mask, max_of, run_starts
from mgen.encoding.remi import PITCH_RANGE
from mgen.notes import STEPS_PER_QUARTER, Notes
from mgen.transforms.rebuild import equal_bars

NoteArray = NDArray[np.int64]  # (N, 4): onset, pitch, duration, velocity; time in grid steps

EditOperator = Callable[[NoteArray, Generator], NoteArray]
"""A piece with at least one note to an edited copy, which may exceed the `SizeLimits`."""

ONSET, PITCH, DURATION, VELOCITY = range(4)
BEATS = 4
BAR = BEATS * STEPS_PER_QUARTER
GRIDS = (3, 4, 6, 8, 12, 24)
"""Grids in steps: 8, 6, 4, 3, 2 and 1 onsets per quarter."""

_INTERVALS = (-12, -7, -5, -4, -3, -2, -1, 1, 2, 3, 4, 5, 7, 12)


@dataclass(frozen=True, slots=True)
class SizeLimits:
    """Least and greatest size of a piece in a search, so that its length alone cannot fool a judge."""

    notes: tuple[int, int]  # least and greatest number
    bars: tuple[int, int]  # likewise

    @classmethod
    def of(cls, real: Notes, shares: tuple[float, float] = (0.05, 0.95)) -> SizeLimits:
        """The sizes between two quantiles of real pieces."""
        low, high = (
            [max(1, int(q)) for q in np.quantile(size, shares)] for size in (real.counts, np.diff(real.bar_starts))
        )
        return cls((low[0], low[1]), (high[0], high[1]))

    def keep(self, piece: NoteArray) -> NoteArray:
        """Sorts the notes, limits them to the piano, drops duplicates, and cuts the piece to its greatest size."""
        piece = piece.copy()
        piece[:, PITCH] = np.clip(piece[:, PITCH], *PITCH_RANGE)
        piece[:, DURATION] = np.clip(piece[:, DURATION], 1, BAR)
        piece[:, VELOCITY] = np.clip(piece[:, VELOCITY], 1, 127)
        piece = piece[(piece[:, ONSET] >= 0) & (piece[:, ONSET] < self.bars[1] * BAR)]
        piece = piece[np.lexsort((piece[:, PITCH], piece[:, ONSET]))]
        kept: NoteArray = piece[run_starts(*piece[:, :2].T)][: self.notes[1]]
        return kept

    def long_enough(self, piece: NoteArray) -> bool:
        """Whether a piece from `keep` has the least size."""
        return len(piece) >= self.notes[0] and int(piece[-1, ONSET]) // BAR + 1 >= self.bars[0]


def note_arrays(notes: Notes) -> list[NoteArray]:
    """The array of each piece; its bar lines are lost."""
    table = np.stack([notes.onset, notes.pitch, notes.duration, notes.velocity], axis=1).astype(np.int64)
    return np.split(table, notes.starts[1:-1]) if notes.n_pieces else []


def notes_from_arrays(arrays: Sequence[NoteArray]) -> Notes:
    """A piano piece from each array, whose notes are sorted, as if read from a file (no tokens)."""
    size = np.array([len(array) for array in arrays], np.int64)
    rows = np.concatenate([*arrays, np.zeros((0, 4), np.int64)]).astype(np.int32)
    piece = np.repeat(np.arange(len(arrays), dtype=np.int32), size)
    bar = rows[:, ONSET] // BAR
    none, zero = np.zeros(len(arrays), np.int32), np.zeros(len(rows), np.int32)
    return Notes(
        n_pieces=len(arrays),
        piece=piece,
        onset=rows[:, ONSET],
        duration=rows[:, DURATION],
        bar=bar,
        pitch=rows[:, PITCH],
        velocity=rows[:, VELOCITY],
        program=zero,
        token=zero - 1,
        broken=zero,
        bars=equal_bars(max_of(bar, piece, len(arrays)) + 1, *np.full((2, len(arrays)), BEATS)),  # of quarters
        n_tokens=none,
        n_broken=none,
    )


def _some(piece: NoteArray, rng: Generator) -> Mask:
    """(N,) a random choice of notes, at least one; the share is drawn first."""
    chosen = rng.random(len(piece)) < 2.0 ** -rng.integers(1, 7)
    chosen[rng.integers(len(piece))] = True
    return chosen


def _range(piece: NoteArray, rng: Generator) -> slice:
    """A random range of notes."""
    begin = int(rng.integers(len(piece)))
    return slice(begin, begin + int(rng.integers(1, max(2, len(piece) // 2 + 1))))


def move_pitches(piece: NoteArray, rng: Generator) -> NoteArray:
    """Moves some notes up or down, each by its own interval."""
    piece, some = piece.copy(), _some(piece, rng)
    piece[some, PITCH] += rng.choice(_INTERVALS, int(some.sum()))
    return piece


def few_pitches(piece: NoteArray, rng: Generator) -> NoteArray:
    """Replaces all pitches with one to four of them, at random or in turn."""
    piece, kept = piece.copy(), rng.choice(piece[:, PITCH], rng.integers(1, 5))
    turn = np.arange(len(piece)) if rng.random() < 0.5 else rng.integers(len(kept), size=len(piece))
    piece[:, PITCH] = kept[turn % len(kept)]
    return piece


def shuffle_pitches(piece: NoteArray, rng: Generator) -> NoteArray:
    """Shuffles the pitches of a range of notes."""
    piece, where = piece.copy(), _range(piece, rng)
    piece[where, PITCH] = rng.permutation(piece[where, PITCH])
    return piece


def random_pitches(piece: NoteArray, rng: Generator) -> NoteArray:
    """Draws the pitches of a range of notes from the whole piano."""
    piece, where = piece.copy(), _range(piece, rng)
    piece[where, PITCH] = rng.integers(PITCH_RANGE[0], PITCH_RANGE[1] + 1, len(piece[where]))
    return piece


def leave_out(piece: NoteArray, rng: Generator) -> NoteArray:
    """Leaves out some notes."""
    kept = ~_some(piece, rng)
    kept[rng.integers(len(piece))] = True
    return piece[kept]


def truncate(piece: NoteArray, rng: Generator) -> NoteArray:
    """Keeps the beginning only."""
    return piece[: int(rng.integers(1, len(piece) + 1))]


def copy_range(piece: NoteArray, rng: Generator) -> NoteArray:
    """Copies a range of notes to another beat, transposed or not, over the notes there or instead of them."""
    part = piece[_range(piece, rng)].copy()
    last = int(piece[-1, ONSET]) // STEPS_PER_QUARTER + BEATS
    shift = int(rng.integers(-last, last + 1)) * STEPS_PER_QUARTER
    part[:, ONSET] += shift
    part[:, PITCH] += rng.choice((0, *_INTERVALS))
    if rng.random() < 0.5:
        begin, end = part[0, ONSET], part[-1, ONSET]
        piece = piece[(piece[:, ONSET] < begin) | (piece[:, ONSET] > end)]
    return np.concatenate([piece, part])


def insert(piece: NoteArray, rng: Generator) -> NoteArray:
    """Adds a few notes anywhere, with pitches and lengths like the piece's."""
    count = int(rng.integers(1, 9))
    new = piece[rng.integers(len(piece), size=count)].copy()
    new[:, ONSET] = rng.integers(int(piece[-1, ONSET]) + BAR, size=count)
    new[:, PITCH] += rng.choice(_INTERVALS, count)
    return np.concatenate([piece, new])


def double(piece: NoteArray, rng: Generator) -> NoteArray:
    """Adds the same interval above or below to some notes."""
    new = piece[_some(piece, rng)].copy()
    new[:, PITCH] += rng.choice(_INTERVALS)
    return np.concatenate([piece, new])


def repeat_bars(piece: NoteArray, rng: Generator) -> NoteArray:
    """Repeats one to four bars over the length of the piece."""
    bars = int(piece[-1, ONSET]) // BAR + 1
    size = min(int(rng.integers(1, 5)), bars)
    begin = int(rng.integers(bars - size + 1)) * BAR
    part = piece[(piece[:, ONSET] >= begin) & (piece[:, ONSET] < begin + size * BAR)]
    if not len(part):
        return piece
    times = np.repeat(np.arange(-(-bars // size)), len(part))
    out = np.tile(part, (-(-bars // size), 1))
    out[:, ONSET] += times * size * BAR - begin
    return out


def shuffle_bars(piece: NoteArray, rng: Generator) -> NoteArray:
    """Shuffles the bars."""
    piece, bars = piece.copy(), int(piece[-1, ONSET]) // BAR + 1
    piece[:, ONSET] += (rng.permutation(bars)[piece[:, ONSET] // BAR] - piece[:, ONSET] // BAR) * BAR
    return piece


def move_onsets(piece: NoteArray, rng: Generator) -> NoteArray:
    """Moves some notes by up to a quarter."""
    piece, some = piece.copy(), _some(piece, rng)
    piece[some, ONSET] += rng.integers(-STEPS_PER_QUARTER, STEPS_PER_QUARTER + 1, int(some.sum()))
    return piece


def quantise(piece: NoteArray, rng: Generator) -> NoteArray:
    """Moves every onset to a coarse grid."""
    piece, grid = piece.copy(), int(rng.choice(GRIDS))
    piece[:, ONSET] = np.rint(piece[:, ONSET] / grid) * grid
    return piece


def even_onsets(piece: NoteArray, rng: Generator) -> NoteArray:
    """Puts the notes one after the other at one distance, each as long as that."""
    piece, grid = piece.copy(), int(rng.choice(GRIDS))
    piece[:, ONSET], piece[:, DURATION] = np.arange(len(piece)) * grid, grid
    return piece


def random_onsets(piece: NoteArray, rng: Generator) -> NoteArray:
    """Draws every onset at random."""
    piece = piece.copy()
    piece[:, ONSET] = rng.integers(int(piece[-1, ONSET]) + 1, size=len(piece))
    return piece


def change_durations(piece: NoteArray, rng: Generator) -> NoteArray:
    """Makes some notes as long as a grid step, or twice or half as long as before."""
    piece, some = piece.copy(), _some(piece, rng)
    scaled = np.maximum(piece[some, DURATION] * float(rng.choice((0.5, 2.0))), 1).astype(np.int64)
    piece[some, DURATION] = rng.choice((1, *GRIDS, BAR)) if rng.random() < 0.5 else scaled
    return piece


def change_pace(piece: NoteArray, rng: Generator) -> NoteArray:
    """Plays everything twice or half as fast."""
    piece, faster = piece.copy(), rng.random() < 0.5
    piece[:, ONSET] = piece[:, ONSET] // 2 if faster else piece[:, ONSET] * 2
    return piece


def change_velocities(piece: NoteArray, rng: Generator) -> NoteArray:
    """Makes all notes equally loud, or each at random."""
    piece = piece.copy()
    piece[:, VELOCITY] = rng.integers(1, 128) if rng.random() < 0.5 else rng.integers(1, 128, len(piece))
    return piece


EDIT_OPERATORS: dict[str, EditOperator] = {
    operator.__name__: operator
    for operator in (
        move_pitches, few_pitches, shuffle_pitches, random_pitches, leave_out, truncate, copy_range, insert,
        double, repeat_bars, shuffle_bars, move_onsets, quantise, even_onsets, random_onsets, change_durations,
        change_pace, change_velocities,
    )
}  # fmt: skip
"""Name -> operator."""


def crossover(one: NoteArray, other: NoteArray, rng: Generator) -> NoteArray:
    """Joins the beginning of one piece and the end of another, or the rhythm of one and the pitches of the other."""
    if rng.random() < 0.5:
        at = int(rng.integers(1, max(int(one[-1, ONSET]), int(other[-1, ONSET])) // BAR + 2)) * BAR
        return np.concatenate([one[one[:, ONSET] < at], other[other[:, ONSET] >= at]])
    out = one.copy()
    out[:, PITCH] = np.resize(other[:, PITCH], len(one))
    return out


def noise(limits: SizeLimits, rng: Generator) -> NoteArray:
    """Draws notes evenly: pitches from the whole piano, onsets from all steps, lengths up to two quarters."""
    count = int(rng.integers(limits.notes[0], limits.notes[1] + 1))
    columns = (
        rng.integers(limits.bars[1] * BAR, size=count),
        rng.integers(PITCH_RANGE[0], PITCH_RANGE[1] + 1, count),
        rng.integers(1, 2 * STEPS_PER_QUARTER + 1, count),
        rng.integers(1, 128, count),
    )
    return limits.keep(np.stack(columns, axis=1))


def constructions(limits: SizeLimits) -> list[NoteArray]:
    """Simple patterns in even quarters, eighths and sixteenths: one pitch, two in alternation, the chromatic and a
    major scale, a triad as arpeggio and as chords.
    """
    patterns = ((60,), (60, 67), (60, 61), range(48, 84), (60, 62, 64, 65, 67, 69, 71, 72), (60, 64, 67))
    out = []
    for grid in (24, 12, 6):
        count = min(limits.notes[1], limits.bars[1] * BAR // grid)
        onset = np.arange(count) * grid
        for pattern in patterns:
            out.append(even_notes(onset, np.resize(np.array(pattern), count), grid))
        out.append(even_notes(np.repeat(onset, 3)[:count], np.resize(np.array((60, 64, 67)), count), grid))
    return [limits.keep(piece) for piece in out]


def even_notes(onset: Longs, pitch: Longs, length: int) -> NoteArray:
    """Notes of one length and loudness at the onsets and pitches (N,)."""
    return np.stack([onset, pitch, np.full(len(onset), length), np.full(len(onset), 80)], axis=1)
