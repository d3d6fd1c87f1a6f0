"""Music changed in one respect: what a critic should not hear, and swing taken out.

Each takes pieces and a generator and returns as many pieces; bars stay as they are.
"""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from mgen.encoding.remi import PITCH_RANGE
from mgen.notes import STEPS_PER_QUARTER, Notes, sort_order

GRIDS = (1, 1, 3, 4, 6, 8)
"""Grids of `retimed`, in steps: as it was (twice as often), 8, 6, 4 and 3 onsets a quarter."""

UNEVEN = 0.2
"""Deviation of a duration's logarithm, for each step of spread of the onsets."""

SPREADS = (0.0, 0.0, 1.0, 2.0)
"""Deviations of `retimed`, in steps: none (half of the pieces), 21 and 42 ms at 120 quarters a minute."""


def flat_velocities(notes: Notes, rng: Generator) -> Notes:
    """All notes equally loud. A critic must not hear it."""
    return _sorted(replace(notes, velocity=np.full_like(notes.velocity, 64)))


def tritone_away(notes: Notes, rng: Generator) -> Notes:
    """Each piece six semitones up, or down where it would leave the range. A critic should hardly hear it."""
    highest = np.zeros(notes.n_pieces, np.int32)
    np.maximum.at(highest, notes.piece, notes.pitch)
    shift = np.where(highest + 6 <= PITCH_RANGE[1], 6, -6)[notes.piece]
    return replace(notes, pitch=np.clip(notes.pitch + shift, *PITCH_RANGE).astype(np.int32))


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
    moved = _sorted(replace(notes, onset=onset.astype(np.int32), duration=duration.astype(np.int32)))
    keys = np.stack([moved.piece, moved.onset, moved.program, moved.pitch])
    return moved.select(np.append(True, (np.diff(keys) != 0).any(axis=0))[: len(moved)])


def _late(step: NDArray[np.int32]) -> NDArray[np.bool_]:
    return (step >= 14) & (step <= 19)


def _sorted(notes: Notes) -> Notes:
    order = sort_order(notes.piece, notes.onset, notes.program, notes.pitch, notes.duration, notes.velocity)
    columns = {field.name for field in fields(notes)} - {"n_pieces", "bars", "n_tokens", "n_broken"}
    return replace(notes, **{name: getattr(notes, name)[order] for name in columns})
