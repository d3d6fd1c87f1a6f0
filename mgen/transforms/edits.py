"""Drafts: pieces that are easy to change, and the changes of which a stress search is made.

A draft is one piece in common time as an int array (N, 4) of onset, pitch, duration, velocity; time in grid steps.
Nothing here knows judges.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from mgen.encoding.remi import PITCH_RANGE
from mgen.notes import STEPS_PER_QUARTER, Bars, Notes

Draft = NDArray[np.int64]
"""(N, 4): onset, pitch, duration, velocity."""

Edit = Callable[[Draft, Generator], Draft]
"""A changed copy of a draft with at least one note; it may leave the limits."""

ONSET, PITCH, DURATION, VELOCITY = range(4)
BEATS = 4
BAR = BEATS * STEPS_PER_QUARTER
GRIDS = (3, 4, 6, 8, 12, 24)
"""Grids in steps: 8, 6, 4, 3, 2 and 1 onsets a quarter."""

_INTERVALS = (-12, -7, -5, -4, -3, -2, -1, 1, 2, 3, 4, 5, 7, 12)


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a draft has to be and may be: a judge that is fooled by less music is fooled by its length alone.

    Attributes:
        notes, bars: least and most.
    """

    notes: tuple[int, int]
    bars: tuple[int, int]

    @classmethod
    def of(cls, real: Notes, shares: tuple[float, float] = (0.05, 0.95)) -> Limits:
        """As nine tenths of real pieces are."""
        low, high = (
            [max(1, int(q)) for q in np.quantile(size, shares)] for size in (real.counts, np.diff(real.bar_starts))
        )
        return cls((low[0], low[1]), (high[0], high[1]))

    def keep(self, draft: Draft) -> Draft:
        """In order, on the piano, one note a pitch and onset, and not too long."""
        draft = draft.copy()
        draft[:, PITCH] = np.clip(draft[:, PITCH], *PITCH_RANGE)
        draft[:, DURATION] = np.clip(draft[:, DURATION], 1, BAR)
        draft[:, VELOCITY] = np.clip(draft[:, VELOCITY], 1, 127)
        draft = draft[(draft[:, ONSET] >= 0) & (draft[:, ONSET] < self.bars[1] * BAR)]
        draft = draft[np.lexsort((draft[:, PITCH], draft[:, ONSET]))]
        fresh = np.append(True, (np.diff(draft[:, :2], axis=0) != 0).any(axis=1))[: len(draft)]
        kept: Draft = draft[fresh][: self.notes[1]]
        return kept

    def long_enough(self, draft: Draft) -> bool:
        """Whether a kept draft is not too short."""
        return len(draft) >= self.notes[0] and int(draft[-1, ONSET]) // BAR + 1 >= self.bars[0]


def drafts_of(notes: Notes) -> list[Draft]:
    """Every piece, its bar lines replaced by common time."""
    table = np.stack([notes.onset, notes.pitch, notes.duration, notes.velocity], axis=1).astype(np.int64)
    return np.split(table, notes.starts[1:-1]) if notes.n_pieces else []


def notes_of(drafts: Sequence[Draft]) -> Notes:
    """A piano piece of each draft in order, as if read from a file (no tokens); a draft's notes have to be sorted."""
    size = np.array([len(draft) for draft in drafts], np.int64)
    rows = np.concatenate([*drafts, np.zeros((0, 4), np.int64)]).astype(np.int32)
    piece = np.repeat(np.arange(len(drafts), dtype=np.int32), size)
    bar = rows[:, ONSET] // BAR
    bars = np.zeros(len(drafts), np.int64)
    np.maximum.at(bars, piece, bar)
    owner = np.repeat(np.arange(len(drafts), dtype=np.int32), bars + 1)
    number = np.arange(len(owner)) - (np.cumsum(bars + 1) - bars - 1)[owner]
    none, whole = np.zeros(len(drafts), np.int32), np.zeros(len(rows), np.int32)
    return Notes(
        n_pieces=len(drafts),
        piece=piece,
        onset=rows[:, ONSET],
        duration=rows[:, DURATION],
        bar=bar,
        pitch=rows[:, PITCH],
        velocity=rows[:, VELOCITY],
        program=whole,
        token=whole - 1,
        broken=whole,
        bars=Bars(owner, (number * BAR).astype(np.int32), np.full(len(owner), BEATS, np.int32)),
        n_tokens=none,
        n_broken=none,
    )


# ------------------------------------------------------------ changes


def _some(draft: Draft, rng: Generator) -> NDArray[np.bool_]:
    """(N,) a few notes or many: the share is drawn first; at least one."""
    chosen = rng.random(len(draft)) < 2.0 ** -rng.integers(1, 7)
    chosen[rng.integers(len(draft))] = True
    return chosen


def _stretch(draft: Draft, rng: Generator) -> slice:
    """Some notes in a row."""
    begin = int(rng.integers(len(draft)))
    return slice(begin, begin + int(rng.integers(1, max(2, len(draft) // 2 + 1))))


def move_pitches(draft: Draft, rng: Generator) -> Draft:
    """Some notes up or down, each by its own interval."""
    draft, some = draft.copy(), _some(draft, rng)
    draft[some, PITCH] += rng.choice(_INTERVALS, int(some.sum()))
    return draft


def few_pitches(draft: Draft, rng: Generator) -> Draft:
    """All notes from one to four of the piece's pitches, drawn for each or in turn."""
    draft, kept = draft.copy(), rng.choice(draft[:, PITCH], rng.integers(1, 5))
    turn = np.arange(len(draft)) if rng.random() < 0.5 else rng.integers(len(kept), size=len(draft))
    draft[:, PITCH] = kept[turn % len(kept)]
    return draft


def shuffle_pitches(draft: Draft, rng: Generator) -> Draft:
    """The pitches of a stretch in another order."""
    draft, where = draft.copy(), _stretch(draft, rng)
    draft[where, PITCH] = rng.permutation(draft[where, PITCH])
    return draft


def random_pitches(draft: Draft, rng: Generator) -> Draft:
    """The pitches of a stretch drawn from the whole piano."""
    draft, where = draft.copy(), _stretch(draft, rng)
    draft[where, PITCH] = rng.integers(PITCH_RANGE[0], PITCH_RANGE[1] + 1, len(draft[where]))
    return draft


def leave_out(draft: Draft, rng: Generator) -> Draft:
    """Without some notes."""
    kept = ~_some(draft, rng)
    kept[rng.integers(len(draft))] = True
    return draft[kept]


def truncate(draft: Draft, rng: Generator) -> Draft:
    """The beginning only."""
    return draft[: int(rng.integers(1, len(draft) + 1))]


def copy_stretch(draft: Draft, rng: Generator) -> Draft:
    """A stretch once more, some beats later or earlier, transposed or not, in place of what is there or with it."""
    part = draft[_stretch(draft, rng)].copy()
    last = int(draft[-1, ONSET]) // STEPS_PER_QUARTER + BEATS
    shift = int(rng.integers(-last, last + 1)) * STEPS_PER_QUARTER
    part[:, ONSET] += shift
    part[:, PITCH] += rng.choice((0, *_INTERVALS))
    if rng.random() < 0.5:
        begin, end = part[0, ONSET], part[-1, ONSET]
        draft = draft[(draft[:, ONSET] < begin) | (draft[:, ONSET] > end)]
    return np.concatenate([draft, part])


def insert(draft: Draft, rng: Generator) -> Draft:
    """A few notes anywhere, of pitches and lengths like the piece's."""
    count = int(rng.integers(1, 9))
    new = draft[rng.integers(len(draft), size=count)].copy()
    new[:, ONSET] = rng.integers(int(draft[-1, ONSET]) + BAR, size=count)
    new[:, PITCH] += rng.choice(_INTERVALS, count)
    return np.concatenate([draft, new])


def double(draft: Draft, rng: Generator) -> Draft:
    """Some notes become chords: the same interval above or below each."""
    new = draft[_some(draft, rng)].copy()
    new[:, PITCH] += rng.choice(_INTERVALS)
    return np.concatenate([draft, new])


def repeat_bars(draft: Draft, rng: Generator) -> Draft:
    """One to four bars again and again, as long as the piece was."""
    bars = int(draft[-1, ONSET]) // BAR + 1
    size = min(int(rng.integers(1, 5)), bars)
    begin = int(rng.integers(bars - size + 1)) * BAR
    part = draft[(draft[:, ONSET] >= begin) & (draft[:, ONSET] < begin + size * BAR)]
    if not len(part):
        return draft
    times = np.repeat(np.arange(-(-bars // size)), len(part))
    out = np.tile(part, (-(-bars // size), 1))
    out[:, ONSET] += times * size * BAR - begin
    return out


def shuffle_bars(draft: Draft, rng: Generator) -> Draft:
    """The bars in another order."""
    draft, bars = draft.copy(), int(draft[-1, ONSET]) // BAR + 1
    draft[:, ONSET] += (rng.permutation(bars)[draft[:, ONSET] // BAR] - draft[:, ONSET] // BAR) * BAR
    return draft


def move_onsets(draft: Draft, rng: Generator) -> Draft:
    """Some notes earlier or later, by up to a quarter."""
    draft, some = draft.copy(), _some(draft, rng)
    draft[some, ONSET] += rng.integers(-STEPS_PER_QUARTER, STEPS_PER_QUARTER + 1, int(some.sum()))
    return draft


def quantise(draft: Draft, rng: Generator) -> Draft:
    """Every onset on a coarse grid."""
    draft, grid = draft.copy(), int(rng.choice(GRIDS))
    draft[:, ONSET] = np.rint(draft[:, ONSET] / grid) * grid
    return draft


def even_onsets(draft: Draft, rng: Generator) -> Draft:
    """One note after the other at one distance, each as long as that; pitches stay in their order."""
    draft, grid = draft.copy(), int(rng.choice(GRIDS))
    draft[:, ONSET], draft[:, DURATION] = np.arange(len(draft)) * grid, grid
    return draft


def random_onsets(draft: Draft, rng: Generator) -> Draft:
    """Every onset drawn anew."""
    draft = draft.copy()
    draft[:, ONSET] = rng.integers(int(draft[-1, ONSET]) + 1, size=len(draft))
    return draft


def change_durations(draft: Draft, rng: Generator) -> Draft:
    """Some notes as long as a grid's step, or twice or half as long as they were."""
    draft, some = draft.copy(), _some(draft, rng)
    scaled = np.maximum(draft[some, DURATION] * float(rng.choice((0.5, 2.0))), 1).astype(np.int64)
    draft[some, DURATION] = rng.choice((1, *GRIDS, BAR)) if rng.random() < 0.5 else scaled
    return draft


def change_pace(draft: Draft, rng: Generator) -> Draft:
    """Everything twice or half as fast."""
    draft, faster = draft.copy(), rng.random() < 0.5
    draft[:, ONSET] = draft[:, ONSET] // 2 if faster else draft[:, ONSET] * 2
    return draft


def change_velocities(draft: Draft, rng: Generator) -> Draft:
    """All notes equally loud, or each at random."""
    draft = draft.copy()
    draft[:, VELOCITY] = rng.integers(1, 128) if rng.random() < 0.5 else rng.integers(1, 128, len(draft))
    return draft


EDITS: tuple[Edit, ...] = (
    move_pitches,
    few_pitches,
    shuffle_pitches,
    random_pitches,
    leave_out,
    truncate,
    copy_stretch,
    insert,
    double,
    repeat_bars,
    shuffle_bars,
    move_onsets,
    quantise,
    even_onsets,
    random_onsets,
    change_durations,
    change_pace,
    change_velocities,
)


def crossed(one: Draft, other: Draft, rng: Generator) -> Draft:
    """The beginning of one draft and the end of another, or the rhythm of one with the pitches of the other."""
    if rng.random() < 0.5:
        at = int(rng.integers(1, max(int(one[-1, ONSET]), int(other[-1, ONSET])) // BAR + 2)) * BAR
        return np.concatenate([one[one[:, ONSET] < at], other[other[:, ONSET] >= at]])
    out = one.copy()
    out[:, PITCH] = np.resize(other[:, PITCH], len(one))
    return out


# ------------------------------------------------------------ beginnings


def noise(limits: Limits, rng: Generator) -> Draft:
    """Notes drawn evenly: pitches from the whole piano, onsets from all steps, any length up to two quarters."""
    count = int(rng.integers(limits.notes[0], limits.notes[1] + 1))
    columns = (
        rng.integers(limits.bars[1] * BAR, size=count),
        rng.integers(PITCH_RANGE[0], PITCH_RANGE[1] + 1, count),
        rng.integers(1, 2 * STEPS_PER_QUARTER + 1, count),
        rng.integers(1, 128, count),
    )
    return limits.keep(np.stack(columns, axis=1))


def constructions(limits: Limits) -> list[Draft]:
    """What anyone would try first: one pitch, two in turn, the chromatic and a major scale, a triad broken and struck,
    in even quarters, eighths and sixteenths.
    """
    patterns = ((60,), (60, 67), (60, 61), range(48, 84), (60, 62, 64, 65, 67, 69, 71, 72), (60, 64, 67))
    out = []
    for grid in (24, 12, 6):
        count = min(limits.notes[1], limits.bars[1] * BAR // grid)
        onset = np.arange(count) * grid
        for pattern in patterns:
            out.append(_even(onset, np.resize(np.array(pattern), count), grid))
        out.append(_even(np.repeat(onset, 3)[:count], np.resize(np.array((60, 64, 67)), count), grid))
    return [limits.keep(draft) for draft in out]


def _even(onset: NDArray[np.int64], pitch: NDArray[np.int64], length: int) -> Draft:
    return np.stack([onset, pitch, np.full(len(onset), length), np.full(len(onset), 80)], axis=1)
