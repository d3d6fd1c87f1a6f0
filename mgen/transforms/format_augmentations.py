"""Format augmentations: the same music as another file format, player or transcription would keep it.

Each transform returns as many pieces. A critic of music, and not of formats, hardly moves under them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.random import Generator

from mgen.arrays import Floats, Longs, max_of, ranges, run_starts
from mgen.encoding.remi import PITCH_RANGE
from mgen.notes import MAX_DURATION, STEPS_PER_QUARTER, STEPS_PER_WHOLE, Ints, Notes
from mgen.transforms.rebuild import (
    Transform,
    apply_where,
    distinct,
    next_onset,
    resolve_overlaps,
    sort_notes,
    usual_metre,
    with_onsets,
    with_onsets_in_bars,
)

GRIDS = (1, 1, 3, 4, 6, 8)  # grids of `retime`, in steps: unchanged (twice as often), 8, 6, 4 and 3 onsets per quarter
UNEVEN = 0.2  # deviation of a duration's logarithm, for each step of spread of the onsets

SPREADS = (0.0, 0.0, 1.0, 2.0)
"""Deviations of `retime`, in steps: none (half of the pieces), 21 and 42 ms at 120 quarters per minute."""

SWAY = 0.08  # largest amplitude, in log tempo, of each of the three waves of `rubato`


def flat_velocities(notes: Notes, rng: Generator) -> Notes:
    """Makes all notes equally loud."""
    return sort_notes(replace(notes, velocity=np.full_like(notes.velocity, 64)))


def reshape_velocities(notes: Notes, rng: Generator) -> Notes:
    """Maps the loudness of each piece to its own range and curve, with noise; louder notes mostly stay louder."""
    n = notes.n_pieces
    low, range_ = rng.uniform(1, 90, n), rng.uniform(10, 126, n)
    bend, uneven = np.exp(rng.normal(0, 0.6, n)), rng.uniform(0, 8, n)
    at = notes.piece
    level = ((notes.velocity - 1) / 126).clip(0, 1) ** bend[at]
    velocity = low[at] + range_[at] * level + uneven[at] * rng.normal(0, 1, len(notes))
    return sort_notes(replace(notes, velocity=np.rint(velocity).clip(1, 127).astype(np.int32)))


def tritone_away(notes: Notes, rng: Generator) -> Notes:
    """Transposes each piece by six semitones: up, or down where it would leave the range."""
    highest = max_of(notes.pitch, notes.piece, notes.n_pieces)
    shift = np.where(highest + 6 <= PITCH_RANGE[1], 6, -6)[notes.piece]
    return replace(notes, pitch=np.clip(notes.pitch + shift, *PITCH_RANGE).astype(np.int32))


def transpose(notes: Notes, rng: Generator) -> Notes:
    """Transposes each piece by -5 to 6 semitones, drawn evenly among those that keep it in range; drums stay."""
    sounding = notes.program >= 0
    low, high = np.full(notes.n_pieces, PITCH_RANGE[1]), np.full(notes.n_pieces, PITCH_RANGE[0])
    np.minimum.at(low, notes.piece[sounding], notes.pitch[sounding])
    np.maximum.at(high, notes.piece[sounding], notes.pitch[sounding])
    down, up = np.clip(PITCH_RANGE[0] - low, -5, 0), np.clip(PITCH_RANGE[1] - high, 0, 6)
    shift = rng.integers(down, up + 1)[notes.piece]
    return replace(notes, pitch=np.where(sounding, notes.pitch + shift, notes.pitch).astype(np.int32))


def retime(notes: Notes, rng: Generator) -> Notes:
    """Moves the onsets of each piece to a coarser grid or not, and plays them unevenly or not.

    Half of real jazz is performed and most of the rest is notated, so a critic of exact timing learns who made the
    file. Grid and spread are drawn for each piece, from `GRIDS` and `SPREADS`.
    """
    grid, spread = rng.choice(GRIDS, notes.n_pieces), rng.choice(SPREADS, notes.n_pieces)
    return _requantise(notes, grid[notes.piece], spread[notes.piece], rng)


def humanise(notes: Notes, rng: Generator) -> Notes:
    """Moves every onset a little, with a deviation of 1.5 steps (31 ms at 120 quarters per minute)."""
    return _requantise(notes, np.ones(len(notes), np.int64), np.full(len(notes), 1.5), rng)


def sixteenths(notes: Notes, rng: Generator) -> Notes:
    """Moves every onset to the nearest sixteenth."""
    return _requantise(notes, np.full(len(notes), STEPS_PER_QUARTER // 4), np.zeros(len(notes)), rng)


def other_tempo(notes: Notes, rng: Generator) -> Notes:
    """Plays each piece twice or half as fast, or by a factor from 2/3 to 3/2, against the same clock.

    Bars keep their usual length, so they are no longer those of the music.
    """
    n = notes.n_pieces
    between = np.exp(rng.uniform(np.log(2 / 3), np.log(3 / 2), n))
    return scale_time(notes, np.where(rng.random(n) < 0.5, rng.choice((0.5, 2.0), n), between))


def scale_time(notes: Notes, factor: Floats) -> Notes:
    """Multiplies all times by `factor` (B,), in new bars; chords stay together."""
    onset, end = (np.rint(time * factor[notes.piece]) for time in (notes.onset, notes.onset + notes.duration))
    return with_onsets(replace(notes, duration=np.maximum(end - onset, 1).astype(np.int32)), onset)


def rubato(notes: Notes, rng: Generator) -> Notes:
    """Plays each piece in a tempo that sways by up to a quarter, over 4 to 32 beats, against bars of a clock."""
    last = max_of(notes.onset + notes.duration, notes.piece, notes.n_pieces)
    beats = last // STEPS_PER_QUARTER + 2
    first = np.cumsum(beats) - beats
    beat, owner = ranges(np.zeros_like(beats), beats)
    size = (3, notes.n_pieces)
    period, turn, depth = rng.uniform(4, 32, size), rng.uniform(0, 1, size), rng.uniform(0, SWAY, size)
    wave = np.sin(2 * np.pi * (beat / period[:, owner] + turn[:, owner]))
    length = STEPS_PER_QUARTER * np.exp((depth[:, owner] * wave).sum(axis=0))
    begin = np.cumsum(length) - length
    begin -= begin[first[owner]]

    def warp(time: Ints) -> Ints:
        number, step = np.divmod(time, STEPS_PER_QUARTER)
        at = first[notes.piece] + number
        when: Ints = np.rint(begin[at] + length[at] * step / STEPS_PER_QUARTER).astype(np.int32)
        return when

    onset, end = warp(notes.onset), warp(notes.onset + notes.duration)
    return with_onsets(replace(notes, duration=np.maximum(end - onset, 1)), onset)


def other_bar_phase(notes: Notes, rng: Generator) -> Notes:
    """Moves the bar lines of each piece: it begins 1 to 3 beats (of 4) later in its first bar."""
    beats, unit = usual_metre(notes)
    later = rng.integers(1, np.maximum(beats, 2)) * (beats > 1) * (STEPS_PER_WHOLE // unit)
    return with_onsets(notes, notes.onset + later[notes.piece])


def articulate(notes: Notes, rng: Generator) -> Notes:
    """Changes the durations of each piece: up to the next onset (legato), to a part of that (staccato), up to a bar
    longer (pedal), or by a factor.
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
    return resolve_overlaps(replace(notes, duration=np.clip(np.rint(held), 1, MAX_DURATION).astype(np.int32)))


def drop_voices(notes: Notes, rng: Generator) -> Notes:
    """Thins the chords of each piece: it keeps the highest 1-3 notes of an onset, or the highest and the lowest, or
    drops each note below the highest with a probability of 20 to 60 %. Drums stay.
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
    """Keeps the highest note of each onset, and drums."""
    return notes.select((_ranks(notes)[0] == 0) | (notes.program < 0))


def bass_line(notes: Notes, rng: Generator) -> Notes:
    """Keeps the lowest note of each onset, and drums."""
    return notes.select((_ranks(notes)[1] == 0) | (notes.program < 0))


def transcription_errors(notes: Notes, rng: Generator) -> Notes:
    """Adds the errors of an automatic transcription, at rates drawn for each piece.

    Onsets move with a deviation of up to 1.5 steps and durations of up to half an octave; up to 6 % of the notes are
    missing, 3 % doubled in the octave and 3 % repeated.
    """
    n = notes.n_pieces
    at = notes.piece
    keep = rng.random(len(notes)) >= rng.uniform(0, 0.06, n)[at]
    keep[notes.starts[:-1][notes.counts > 0]] = True
    doubled = keep & (rng.random(len(notes)) < rng.uniform(0, 0.03, n)[at]) & (notes.program >= 0)
    twice = keep & (rng.random(len(notes)) < rng.uniform(0, 0.03, n)[at]) & (notes.duration >= 6)
    rows = np.concatenate([np.flatnonzero(mask) for mask in (keep, doubled, twice)])
    added = np.repeat([0, 1, 2], [keep.sum(), doubled.sum(), twice.sum()])
    noisy = notes.select(rows)
    octave = np.where(noisy.pitch + 12 <= PITCH_RANGE[1], 12, -12)
    half = np.where(added == 2, noisy.duration // 2, 0)
    at = noisy.piece
    onset = noisy.onset + half + np.rint(rng.normal(0, 1, len(rows)) * rng.uniform(0, 1.5, n)[at]).astype(np.int32)
    held = (noisy.duration - half) * np.exp2(rng.normal(0, 1, len(rows)) * rng.uniform(0, 0.5, n)[at])
    return with_onsets_in_bars(
        replace(
            noisy,
            duration=np.clip(np.rint(held), 1, MAX_DURATION).astype(np.int32),
            pitch=(noisy.pitch + np.where(added == 1, octave, 0)).astype(np.int32),
        ),
        onset,
    )


FORMAT_AUGMENTATIONS: dict[str, Transform] = {
    "flat_velocities": flat_velocities,
    "reshaped_velocities": reshape_velocities,
    "transposed": transpose,
    "retimed": retime,
    "humanised": humanise,
    "sixteenths": sixteenths,
    "other_tempo": other_tempo,
    "rubato": rubato,
    "other_bar_phase": other_bar_phase,
    "articulated": articulate,
    "voices_dropped": drop_voices,
    "skyline": skyline,
    "bass_line": bass_line,
    "transcribed": transcription_errors,
}
"""Name -> transform that keeps the music; `skyline` and `bass_line` keep one line of it."""

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
"""The transforms of `augment` in order, with the probability of each."""


def augment(notes: Notes, rng: Generator) -> Notes:
    """Sends each piece through its own random chain of format augmentations, `CHAIN`."""
    for name, chance in CHAIN.items():
        notes = apply_where(notes, FORMAT_AUGMENTATIONS[name], rng.random(notes.n_pieces) < chance, rng)
    return notes


def _ranks(notes: Notes) -> tuple[Longs, Longs]:
    """(N,) number of pitched notes of the same onset above each note, and below it; drums do not count."""
    order = np.lexsort((notes.pitch, notes.program < 0, notes.onset, notes.piece))
    first = np.flatnonzero(run_starts(notes.piece[order], notes.onset[order], notes.program[order] < 0))
    size = np.diff(np.append(first, len(notes)))
    below = np.arange(len(notes)) - np.repeat(first, size)
    above, out = np.repeat(size, size) - 1 - below, np.empty((2, len(notes)), np.int64)
    out[:, order] = above, below
    return out[0], out[1]


def _requantise(notes: Notes, grid: Longs, spread: Floats, rng: Generator) -> Notes:
    """Moves onsets to `grid` (N,), then by noise of deviation `spread` (N,), the same for notes of one onset.

    Durations follow with separate noise. A note stays in its bar; of two that then share onset and pitch, the first
    stays.
    """
    when = notes.piece.astype(np.int64) * (int(notes.onset.max(initial=0)) + 1) + notes.onset
    _, chord = np.unique(when, return_inverse=True)
    noise = rng.normal(0, 1, int(chord.max(initial=-1)) + 1)[chord]
    start, length = notes.bars.onset[notes.bar_row], notes.bars.length[notes.bar_row]
    position = np.rint(np.rint((notes.onset - start) / grid) * grid + spread * noise)
    onset = start + np.clip(position, 0, length - 1)
    held = notes.duration * np.exp(UNEVEN * spread * rng.normal(0, 1, len(notes)))
    duration = np.maximum(np.rint(held / grid), 1) * grid
    return distinct(sort_notes(replace(notes, onset=onset.astype(np.int32), duration=duration.astype(np.int32))))
