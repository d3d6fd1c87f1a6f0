"""Inputs that are no music, or hardly any: what a judge must not call good.

Each takes real pieces and a generator and returns as many pieces of about their length.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from mgen.encoding.remi import PITCH_RANGE, Remi
from mgen.notes import STEPS_PER_QUARTER, Notes
from mgen.transforms.edits import Draft, Limits, noise, notes_of

Senseless = Callable[[Notes, Generator], Notes]


def empty(notes: Notes, rng: Generator) -> Notes:
    """No notes."""
    return notes_of([np.zeros((0, 4), np.int64)] * notes.n_pieces)


def single_note(notes: Notes, rng: Generator) -> Notes:
    """One quarter note."""
    pitch = rng.integers(PITCH_RANGE[0], PITCH_RANGE[1] + 1, notes.n_pieces)
    return notes_of([np.array([[0, p, STEPS_PER_QUARTER, 80]], np.int64) for p in pitch.tolist()])


def cut_short(notes: Notes, rng: Generator) -> Notes:
    """The first sixteen notes of each piece, then nothing."""
    number = np.arange(len(notes)) - notes.starts[notes.piece]
    return notes.select(number < 16)


def random_notes(notes: Notes, rng: Generator) -> Notes:
    """Pitches, onsets and durations drawn evenly."""
    limits = Limits.of(notes)
    return notes_of([noise(limits, rng) for _ in range(notes.n_pieces)])


def held_note(notes: Notes, rng: Generator) -> Notes:
    """One pitch in even eighths."""
    return _even(notes, lambda count: np.full(count, rng.integers(36, 84)))


def alternating(notes: Notes, rng: Generator) -> Notes:
    """Two pitches in turn, in even eighths."""
    return _even(notes, lambda count: np.resize(rng.integers(36, 84) + np.array([0, rng.integers(1, 13)]), count))


def chromatic_scale(notes: Notes, rng: Generator) -> Notes:
    """Up three octaves, again and again, in even eighths."""
    return _even(notes, lambda count: np.resize(rng.integers(36, 60) + np.arange(36), count))


def _even(notes: Notes, pitches: Callable[[int], NDArray[np.int64]]) -> Notes:
    """Eighths without a rest, as many as the piece has notes."""
    eighth = STEPS_PER_QUARTER // 2

    def one(count: int) -> Draft:
        onset = np.arange(count) * eighth
        return np.stack([onset, pitches(count), np.full(count, eighth), np.full(count, 80)], axis=1).astype(np.int64)

    return notes_of([one(int(count)) for count in notes.counts])


def random_tokens(notes: Notes, rng: Generator, remi: Remi, tokens: int) -> Notes:
    """Any tokens of the vocabulary, drawn evenly, decoded; most break the grammar."""
    return remi.decode(list(rng.integers(remi.vocab_size, size=(notes.n_pieces, tokens))))


DEGENERATE_INPUTS: dict[str, Senseless] = {
    "empty": empty,
    "single_note": single_note,
    "cut_short": cut_short,
    "held_note": held_note,
    "alternating": alternating,
    "chromatic_scale": chromatic_scale,
    "random_notes": random_notes,
}
"""Name -> input; `random_tokens` needs a vocabulary besides."""
