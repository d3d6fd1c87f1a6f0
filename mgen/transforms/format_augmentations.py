"""Music in another format: what keeps the piece and changes how a file would have kept it.

Each change takes pieces and a generator and returns as many pieces, all bars in place. A critic that hears music
hardly moves under them; `straight_eighths` alone is no such change and stands here for the critic's card. What keeps
the format and breaks the music is in `mgen.transforms.hard_negatives`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from mgen.encoding.remi import PITCH_RANGE
from mgen.notes import MAX_BEATS, MAX_DURATION, STEPS_PER_QUARTER, Bars, Notes, sort_order

Change = Callable[[Notes, Generator], Notes]

GRIDS = (1, 1, 3, 4, 6, 8)
"""Grids of `retimed`, in steps: as it was (twice as often), 8, 6, 4 and 3 onsets a quarter."""

UNEVEN = 0.2
"""Deviation of a duration's logarithm, for each step of spread of the onsets."""

SPREADS = (0.0, 0.0, 1.0, 2.0)
"""Deviations of `retimed`, in steps: none (half of the pieces), 21 and 42 ms at 120 quarters a minute."""

SWAY = 0.08
"""Largest amplitude, in log tempo, of each of the three waves of `rubato`."""


# ------------------------------------------------------------ loudness


def flat_velocities(notes: Notes, rng: Generator) -> Notes:
    """All notes equally loud. A critic must not hear it."""
    return _sorted(replace(notes, velocity=np.full_like(notes.velocity, 64)))


def reshaped_velocities(notes: Notes, rng: Generator) -> Notes:
    """Louder notes stay louder, but each piece has its own range, bend and unevenness of loudness."""
    n = notes.n_pieces
    low, range_ = rng.uniform(1, 90, n), rng.uniform(10, 126, n)
    bend, uneven = np.exp(rng.normal(0, 0.6, n)), rng.uniform(0, 8, n)
    at = notes.piece
    level = ((notes.velocity - 1) / 126).clip(0, 1) ** bend[at]
    velocity = low[at] + range_[at] * level + uneven[at] * rng.normal(0, 1, len(notes))
    return _sorted(replace(notes, velocity=np.rint(velocity).clip(1, 127).astype(np.int32)))


# ------------------------------------------------------------ pitch


def tritone_away(notes: Notes, rng: Generator) -> Notes:
    """Each piece six semitones up, or down where it would leave the range. A critic should hardly hear it."""
    highest = np.zeros(notes.n_pieces, np.int32)
    np.maximum.at(highest, notes.piece, notes.pitch)
    shift = np.where(highest + 6 <= PITCH_RANGE[1], 6, -6)[notes.piece]
    return replace(notes, pitch=np.clip(notes.pitch + shift, *PITCH_RANGE).astype(np.int32))


def transposed(notes: Notes, rng: Generator) -> Notes:
    """Each piece 5 semitones down to 6 up, each as likely as the range of pitches lets it; drums stay."""
    sounding = notes.program >= 0
    low, high = np.full(notes.n_pieces, PITCH_RANGE[1]), np.full(notes.n_pieces, PITCH_RANGE[0])
    np.minimum.at(low, notes.piece[sounding], notes.pitch[sounding])
    np.maximum.at(high, notes.piece[sounding], notes.pitch[sounding])
    down, up = np.clip(PITCH_RANGE[0] - low, -5, 0), np.clip(PITCH_RANGE[1] - high, 0, 6)
    shift = rng.integers(down, up + 1)[notes.piece]
    return replace(notes, pitch=np.where(sounding, notes.pitch + shift, notes.pitch).astype(np.int32))


# ------------------------------------------------------------ time


def straight_eighths(notes: Notes, rng: Generator) -> Notes:
    """Swing taken out; the rest of the rhythm stays, so the score should fall.

    Where a beat has no onsets but on it and at 14-19 of its 24 steps, the late ones come at 12, and notes
    that end there end at 12.
    """
    beats = int(notes.onset.max(initial=0)) // STEPS_PER_QUARTER + 1
    beat = notes.piece.astype(np.int64) * beats + notes.onset // STEPS_PER_QUARTER
    step = notes.onset % STEPS_PER_QUARTER
    swung = np.zeros(notes.n_pieces * beats, bool)
    swung[beat[_late(step)]] = True
    swung[beat[~_late(step) & (step > 0)]] = False

    def straight(time: NDArray[np.int32]) -> NDArray[np.int32]:
        number, step = np.divmod(time, STEPS_PER_QUARTER)
        inside = np.minimum(number, beats - 1) + notes.piece.astype(np.int64) * beats
        moved = swung[inside] & (number < beats) & _late(step)
        return np.where(moved, time - step + STEPS_PER_QUARTER // 2, time).astype(np.int32)

    onset, end = straight(notes.onset), straight(notes.onset + notes.duration)
    return _sorted(replace(notes, onset=onset, duration=np.maximum(end - onset, 1)))


def retimed(notes: Notes, rng: Generator) -> Notes:
    """Each piece as another format would have kept it: on a coarser grid or not, and played unevenly or not.

    Half of real jazz was played and most of the rest was typed in, so a critic that hears timing to the step
    learns who wrote the file. Grid and spread are drawn for each piece, from `GRIDS` and `SPREADS`.
    """
    grid, spread = rng.choice(GRIDS, notes.n_pieces), rng.choice(SPREADS, notes.n_pieces)
    return _moved(notes, grid[notes.piece], spread[notes.piece], rng)


def humanised(notes: Notes, rng: Generator) -> Notes:
    """Every onset a little early or late, by 1.5 steps (31 ms at 120 quarters a minute)."""
    return _moved(notes, np.ones(len(notes), np.int64), np.full(len(notes), 1.5), rng)


def sixteenths(notes: Notes, rng: Generator) -> Notes:
    """Every onset on the nearest sixteenth."""
    return _moved(notes, np.full(len(notes), STEPS_PER_QUARTER // 4), np.zeros(len(notes)), rng)


def other_tempo(notes: Notes, rng: Generator) -> Notes:
    """Each piece at another tempo under the same clock: twice or half as fast, or between 2/3 and 3/2.

    Bars are as long as the piece's usual ones and begin at 0, so after the first they are not the music's.
    """
    n = notes.n_pieces
    between = np.exp(rng.uniform(np.log(2 / 3), np.log(3 / 2), n))
    return _stretched(notes, np.where(rng.random(n) < 0.5, rng.choice((0.5, 2.0), n), between))


def _stretched(notes: Notes, factor: NDArray[np.float64]) -> Notes:
    """All times multiplied by `factor` (B,), chords together, in new bars."""
    onset, end = (np.rint(time * factor[notes.piece]) for time in (notes.onset, notes.onset + notes.duration))
    return relaid(replace(notes, duration=np.maximum(end - onset, 1).astype(np.int32)), onset.astype(np.int32))


def rubato(notes: Notes, rng: Generator) -> Notes:
    """Each piece played with a tempo that sways by up to a quarter, over 4 to 32 beats, against bars of a clock."""
    last = np.zeros(notes.n_pieces, np.int64)
    np.maximum.at(last, notes.piece, notes.onset + notes.duration)
    beats = last // STEPS_PER_QUARTER + 2
    first = np.cumsum(beats) - beats
    owner = np.repeat(np.arange(notes.n_pieces), beats)
    beat = np.arange(len(owner)) - first[owner]
    size = (3, notes.n_pieces)
    period, turn, depth = rng.uniform(4, 32, size), rng.uniform(0, 1, size), rng.uniform(0, SWAY, size)
    wave = np.sin(2 * np.pi * (beat / period[:, owner] + turn[:, owner]))
    length = STEPS_PER_QUARTER * np.exp((depth[:, owner] * wave).sum(axis=0))
    begin = np.cumsum(length) - length
    begin -= begin[first[owner]]

    def played(time: NDArray[np.int32]) -> NDArray[np.int32]:
        number, step = np.divmod(time, STEPS_PER_QUARTER)
        at = first[notes.piece] + number
        when: NDArray[np.int32] = np.rint(begin[at] + length[at] * step / STEPS_PER_QUARTER).astype(np.int32)
        return when

    onset, end = played(notes.onset), played(notes.onset + notes.duration)
    return relaid(replace(notes, duration=np.maximum(end - onset, 1)), onset)


def other_bar_phase(notes: Notes, rng: Generator) -> Notes:
    """The bar lines of each piece moved by some beats: it begins 1 to 3 beats (of 4) later in its first bar.

    Bars are as long as the piece's usual ones.
    """
    beats = usual_beats(notes)
    later = rng.integers(1, np.maximum(beats, 2)) * (beats > 1)
    return relaid(notes, (notes.onset + STEPS_PER_QUARTER * later[notes.piece]).astype(np.int32))


# ------------------------------------------------------------ durations


def articulated(notes: Notes, rng: Generator) -> Notes:
    """Durations of each piece reshaped: up to the next onset (legato), a part of that (staccato), up to a bar longer
    (pedal), or in proportion to what they were.
    """
    room = next_onset(notes) - notes.onset
    at, kind = notes.piece, rng.integers(4, size=notes.n_pieces)
    amount, wide = rng.uniform(0, 1, notes.n_pieces)[at], rng.uniform(0, 1, len(notes))
    held = np.select(
        [(kind == 0)[at], (kind == 1)[at], (kind == 2)[at]],
        [
            room * (0.8 + 0.25 * amount),
            room * (0.15 + 0.5 * amount),
            notes.duration + 4 * STEPS_PER_QUARTER * amount * wide,
        ],
        notes.duration * np.exp(1.4 * (amount - 0.5)),
    )
    return finished(replace(notes, duration=np.clip(np.rint(held), 1, MAX_DURATION).astype(np.int32)))


# ------------------------------------------------------------ what is written of the sound


def voices_dropped(notes: Notes, rng: Generator) -> Notes:
    """Chords of each piece made thinner: all but the highest 1-3 notes of an onset go, or all but the highest and the
    lowest, or every note below the highest by a chance of 20 to 60 %. Drums stay.
    """
    above, below = _ranks(notes)
    kind, share = rng.integers(5, size=notes.n_pieces)[notes.piece], rng.uniform(0.2, 0.6, notes.n_pieces)[notes.piece]
    keep = np.select(
        [kind < 3, kind == 3],
        [above <= kind, (above == 0) | (below == 0)],
        (above == 0) | (rng.random(len(notes)) > share),
    )
    return notes.select(keep | (notes.program < 0))


def skyline(notes: Notes, rng: Generator) -> Notes:
    """The highest note of each onset, and drums."""
    return notes.select((_ranks(notes)[0] == 0) | (notes.program < 0))


def bass_line(notes: Notes, rng: Generator) -> Notes:
    """The lowest note of each onset, and drums."""
    return notes.select((_ranks(notes)[1] == 0) | (notes.program < 0))


def transcribed(notes: Notes, rng: Generator) -> Notes:
    """Each piece as a machine would have heard it, by its own rates.

    Onsets note by note up to 1.5 steps astray (deviation), durations by up to half an octave, up to 6 % of the notes
    missing, 3 % doubled in the octave and 3 % struck twice.
    """
    n = notes.n_pieces
    at = notes.piece
    keep = rng.random(len(notes)) >= rng.uniform(0, 0.06, n)[at]
    keep[notes.starts[:-1][notes.counts > 0]] = True
    doubled = keep & (rng.random(len(notes)) < rng.uniform(0, 0.03, n)[at]) & (notes.program >= 0)
    twice = keep & (rng.random(len(notes)) < rng.uniform(0, 0.03, n)[at]) & (notes.duration >= 6)
    rows = np.concatenate([np.flatnonzero(mask) for mask in (keep, doubled, twice)])
    added = np.repeat([0, 1, 2], [keep.sum(), doubled.sum(), twice.sum()])
    heard = _taken(notes, rows)
    octave = np.where(heard.pitch + 12 <= PITCH_RANGE[1], 12, -12)
    half = np.where(added == 2, heard.duration // 2, 0)
    at = heard.piece
    onset = heard.onset + half + np.rint(rng.normal(0, 1, len(rows)) * rng.uniform(0, 1.5, n)[at]).astype(np.int32)
    held = (heard.duration - half) * np.exp2(rng.normal(0, 1, len(rows)) * rng.uniform(0, 0.5, n)[at])
    return in_own_bars(
        replace(
            heard,
            duration=np.clip(np.rint(held), 1, MAX_DURATION).astype(np.int32),
            pitch=(heard.pitch + np.where(added == 1, octave, 0)).astype(np.int32),
        ),
        onset,
    )


# ------------------------------------------------------------ all of them


FORMAT_CHANGES: dict[str, Change] = {
    "flat_velocities": flat_velocities,
    "reshaped_velocities": reshaped_velocities,
    "transposed": transposed,
    "retimed": retimed,
    "humanised": humanised,
    "sixteenths": sixteenths,
    "other_tempo": other_tempo,
    "rubato": rubato,
    "other_bar_phase": other_bar_phase,
    "articulated": articulated,
    "voices_dropped": voices_dropped,
    "skyline": skyline,
    "bass_line": bass_line,
    "transcribed": transcribed,
}
"""Name -> change that keeps the music. `skyline` and `bass_line` keep a line of it."""

CHAIN: dict[str, float] = {
    "voices_dropped": 0.15,
    "skyline": 0.05,
    "bass_line": 0.02,
    "other_tempo": 0.35,
    "rubato": 0.25,
    "transcribed": 0.35,
    "articulated": 0.5,
    "other_bar_phase": 0.3,
    "retimed": 0.6,
    "transposed": 1.0,
    "reshaped_velocities": 0.6,
    "flat_velocities": 0.15,
}
"""The order in which `augmented` changes a piece, and by what chance it makes each change."""


def augmented(notes: Notes, rng: Generator) -> Notes:
    """Each piece through its own random chain of changes of format: `CHAIN`."""
    for name, chance in CHAIN.items():
        notes = changed_where(notes, FORMAT_CHANGES[name], rng.random(notes.n_pieces) < chance, rng)
    return notes


def changed_where(notes: Notes, change: Change, where: NDArray[np.bool_], rng: Generator) -> Notes:
    """The pieces for which `where` (B,) is True changed, the others as they were, all in their places."""
    rest, some = np.flatnonzero(~where), np.flatnonzero(where)
    if not len(some):
        return notes
    parts = [notes.pieces(rest), change(notes.pieces(some), rng)]
    return Notes.concat(parts).pieces(np.argsort(np.concatenate([rest, some])))


def changed_pieces(before: Notes, after: Notes) -> NDArray[np.bool_]:
    """(B,) whether a piece has other onsets, pitches or number of notes; a change may have found nothing to do."""
    differs: NDArray[np.bool_] = before.counts != after.counts
    same = ~differs
    a, b = before.select(same[before.piece]), after.select(same[after.piece])
    np.logical_or.at(differs, a.piece, (a.onset != b.onset) | (a.pitch != b.pitch))
    return differs


# ------------------------------------------------------------ tables that stay valid


def usual_beats(notes: Notes) -> NDArray[np.int64]:
    """(B,) the commonest length of a piece's bars, in quarters; of two as common the shorter."""
    width = MAX_BEATS + 1
    count = np.bincount(notes.bars.piece * width + notes.bars.beats, minlength=notes.n_pieces * width)
    beats: NDArray[np.int64] = count.reshape(-1, width).argmax(axis=1)
    return beats


def relaid(notes: Notes, onset: NDArray[np.int32]) -> Notes:
    """The notes at `onset` (N,), in bars of each piece's usual length from 0 to its last onset."""
    steps = usual_beats(notes) * STEPS_PER_QUARTER
    bar = onset // steps[notes.piece]
    count = np.ones(notes.n_pieces, np.int64)
    np.maximum.at(count, notes.piece, bar + 1)
    owner = np.repeat(np.arange(notes.n_pieces), count)
    number = np.arange(len(owner)) - (np.cumsum(count) - count)[owner]
    bars = Bars(*(c.astype(np.int32) for c in (owner, number * steps[owner], steps[owner] // STEPS_PER_QUARTER)))
    return finished(replace(notes, onset=onset.astype(np.int32), bar=bar.astype(np.int32), bars=bars))


def in_own_bars(notes: Notes, onset: NDArray[np.int32]) -> Notes:
    """The notes at `onset` (N,), not before 0 and not after the piece's last bar, in the bars that are there."""
    bars, starts = notes.bars, notes.bar_starts
    last = starts[1:] - 1
    end = bars.onset[last] + STEPS_PER_QUARTER * bars.beats[last]
    onset = np.clip(onset, 0, end[notes.piece] - 1).astype(np.int32)
    far = np.int64(end.max(initial=0)) + 1
    row = np.searchsorted(bars.piece * far + bars.onset, notes.piece * far + onset, side="right") - 1
    return finished(replace(notes, onset=onset, bar=(row - starts[notes.piece]).astype(np.int32)))


def finished(notes: Notes) -> Notes:
    """In order; of notes that begin together on one pitch the first stays, a note ends where its pitch is struck again,
    and none is longer than the vocabulary's longest: as cleaning leaves music.
    """
    notes = _distinct(_sorted(notes))
    order = np.lexsort((notes.onset, notes.pitch, notes.program, notes.piece))
    column = np.stack([notes.piece[order], notes.program[order], notes.pitch[order]])
    again = (np.diff(column) == 0).all(axis=0)
    room = np.full(len(notes), MAX_DURATION)
    room[order[:-1][again]] = np.diff(notes.onset[order])[again]
    duration = np.minimum(np.minimum(notes.duration, room), MAX_DURATION)
    return _sorted(replace(notes, duration=duration.astype(np.int32)))


def next_onset(notes: Notes) -> NDArray[np.int32]:
    """(N,) the piece's next later onset; for notes of its last one, their own end."""
    order = np.lexsort((notes.onset, notes.piece))
    key = np.stack([notes.piece[order], notes.onset[order]])
    ends = np.flatnonzero(np.append((np.diff(key) != 0).any(axis=0), True)) if len(notes) else np.zeros(0, np.int64)
    group = np.repeat(np.arange(len(ends)), np.diff(ends, prepend=-1))
    after = np.minimum(ends + 1, max(len(notes) - 1, 0))[group]
    same = (key[0][after] == key[0]) & (key[1][after] > key[1])
    out = np.empty(len(notes), np.int32)
    out[order] = np.where(same, key[1][after], key[1] + notes.duration[order])
    return out


def _ranks(notes: Notes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(N,) how many pitched notes of the same onset lie above each note, and how many below; drums count for none."""
    order = np.lexsort((notes.pitch, notes.program < 0, notes.onset, notes.piece))
    key = np.stack([notes.piece[order], notes.onset[order], notes.program[order] < 0])
    fresh = np.append(True, (np.diff(key) != 0).any(axis=0))[: len(notes)]
    first = np.flatnonzero(fresh)
    size = np.diff(np.append(first, len(notes)))
    below = np.arange(len(notes)) - np.repeat(first, size)
    above, out = np.repeat(size, size) - 1 - below, np.empty((2, len(notes)), np.int64)
    out[:, order] = above, below
    return out[0], out[1]


def _moved(notes: Notes, grid: NDArray[np.int64], spread: NDArray[np.float64], rng: Generator) -> Notes:
    """Onsets on `grid` (N,), then moved by noise of deviation `spread` (N,), alike for what sounds together.

    Durations likewise: on the grid after noise of their own. A note stays in its bar; of two on one pitch that come
    to fall together, the first stays.
    """
    when = notes.piece.astype(np.int64) * (int(notes.onset.max(initial=0)) + 1) + notes.onset
    _, chord = np.unique(when, return_inverse=True)
    noise = rng.normal(0, 1, int(chord.max(initial=-1)) + 1)[chord]
    start, beats = (
        column[notes.bar_starts[notes.piece] + notes.bar] for column in (notes.bars.onset, notes.bars.beats)
    )
    position = np.rint(np.rint((notes.onset - start) / grid) * grid + spread * noise)
    onset = start + np.clip(position, 0, beats * STEPS_PER_QUARTER - 1)
    held = notes.duration * np.exp(UNEVEN * spread * rng.normal(0, 1, len(notes)))
    duration = np.maximum(np.rint(held / grid), 1) * grid
    return _distinct(_sorted(replace(notes, onset=onset.astype(np.int32), duration=duration.astype(np.int32))))


def _late(step: NDArray[np.int32]) -> NDArray[np.bool_]:
    return (step >= 14) & (step <= 19)


def _distinct(notes: Notes) -> Notes:
    """Of neighbours in the table on one onset, program and pitch, the first."""
    keys = np.stack([notes.piece, notes.onset, notes.program, notes.pitch])
    return notes.select(np.append(True, (np.diff(keys) != 0).any(axis=0))[: len(notes)])


def _taken(notes: Notes, rows: NDArray[np.integer]) -> Notes:
    """Rows of the table, in any order, any of them more than once."""
    columns = {field.name for field in fields(notes)} - {"n_pieces", "bars", "n_tokens", "n_broken"}
    return replace(notes, **{name: getattr(notes, name)[rows] for name in columns})


def _sorted(notes: Notes) -> Notes:
    return _taken(
        notes, sort_order(notes.piece, notes.onset, notes.program, notes.pitch, notes.duration, notes.velocity)
    )
