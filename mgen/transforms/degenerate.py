"""Degenerate inputs, hardly music: what a judge must not score as good.

Each transform takes real pieces and returns as many pieces, most of about their length.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from mgen.arrays import Longs, rank_within
from mgen.encoding.remi import PITCH_RANGE, Remi
from mgen.notes import STEPS_PER_QUARTER, Notes
from mgen.transforms.edits import SizeLimits, even_notes, noise, notes_from_arrays
from mgen.transforms.rebuild import Transform


def empty(notes: Notes, rng: Generator) -> Notes:
    """No notes."""
    return notes_from_arrays([np.zeros((0, 4), np.int64)] * notes.n_pieces)


def single_note(notes: Notes, rng: Generator) -> Notes:
    """One quarter note."""
    pitch = rng.integers(PITCH_RANGE[0], PITCH_RANGE[1] + 1, notes.n_pieces)
    return notes_from_arrays([even_notes(np.zeros(1, np.int64), np.array([p]), STEPS_PER_QUARTER) for p in pitch])


def first_notes_only(notes: Notes, rng: Generator) -> Notes:
    """The first 16 notes of each piece, then silence."""
    return notes.select(rank_within(notes.piece, notes.n_pieces) < 16)


def random_notes(notes: Notes, rng: Generator) -> Notes:
    """Pitches, onsets and durations drawn evenly."""
    limits = SizeLimits.of(notes)
    return notes_from_arrays([noise(limits, rng) for _ in range(notes.n_pieces)])


def held_note(notes: Notes, rng: Generator) -> Notes:
    """One pitch in even eighths."""
    return _even_eighths(notes, lambda count: np.full(count, rng.integers(36, 84)))


def alternating(notes: Notes, rng: Generator) -> Notes:
    """Two pitches in alternation, in even eighths."""
    return _even_eighths(
        notes, lambda count: np.resize(rng.integers(36, 84) + np.array([0, rng.integers(1, 13)]), count)
    )


def chromatic_scale(notes: Notes, rng: Generator) -> Notes:
    """Three octaves up, repeated, in even eighths."""
    return _even_eighths(notes, lambda count: np.resize(rng.integers(36, 60) + np.arange(36), count))


def _even_eighths(notes: Notes, pitches: Callable[[int], Longs]) -> Notes:
    """Eighths without a rest, as many as the piece has notes."""
    eighth = STEPS_PER_QUARTER // 2
    return notes_from_arrays([even_notes(np.arange(count) * eighth, pitches(count), eighth) for count in notes.counts])


def random_tokens(notes: Notes, rng: Generator, remi: Remi, tokens: int) -> Notes:
    """Decodes tokens drawn evenly from the vocabulary; most break the grammar."""
    return remi.decode(list(rng.integers(remi.vocab_size, size=(notes.n_pieces, tokens))))


DEGENERATE_INPUTS: dict[str, Transform] = {
    "empty": empty,
    "single_note": single_note,
    "cut_short": first_notes_only,
    "held_note": held_note,
    "alternating": alternating,
    "chromatic_scale": chromatic_scale,
    "random_notes": random_notes,
}
"""Name -> input; `random_tokens` also needs a vocabulary."""
