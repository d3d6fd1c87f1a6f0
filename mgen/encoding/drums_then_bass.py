"""Pairs of drums and bass as one REMI sequence: all bars of the drums, then the same number of bars of bass.

A causal model that has learned such sequences writes a bass line to a whole drum part: the prompt is all bars of the
drums, and the completion opens the first bar of bass. The bass is transposed to C major or A minor and has one program,
as the classes of `mgen.encoding.drum_bass` have none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mgen.arrays import Longs
from mgen.encoding.drum_bass import BAR_STEPS, STEP, Bass, Drums, bass_lines, cut_pieces, to_notes
from mgen.encoding.remi import Remi
from mgen.notes import Notes


def encode_pairs(drums: Drums, bass: Bass, semitones: Longs, remi: Remi) -> tuple[list[Longs], Longs]:
    """Base tokens of pairs.

    Args:
        drums: (N, T, 14); at least one cell of each is struck.
        bass: (N, T), transposed by `semitones` (N,), see `mgen.music.keys.semitones_to_c`.
        remi: a vocabulary with programs.

    Returns:
        The tokens of each pair, without BOS and EOS; and (N,) how many of them are given: those of the drums.
    """
    length = drums.shape[1] * STEP
    begin = 2 * length * np.arange(len(drums))
    notes = cut_pieces(to_notes(drums, bass, begin, bass_after=length), len(drums), 2 * length)
    moved = np.where(notes.program < 0, 0, semitones[notes.piece])
    notes = replace(notes, pitch=(notes.pitch + moved).astype(np.int32))
    ids = remi.base.encode(notes)
    bar = drums.shape[1] // BAR_STEPS  # the first of bass
    given = [int(np.flatnonzero(row == remi.bar_id)[bar]) for row in ids]
    return ids, np.array(given, np.int64)


def encode_drums(drums: Drums, remi: Remi) -> list[Longs]:
    """Tokens of the given part of each drum part (N, T, 14), in the vocabulary with its merges."""
    any_bass = np.zeros(drums.shape[:2], np.uint8)  # a note in the first bar of bass, so that it is written
    ids, given = encode_pairs(drums, any_bass, np.zeros(len(drums), np.int64), remi)
    return [remi.merge(row[:count]) for row, count in zip(ids, given, strict=True)]


def decode_bass(
    prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]], semitones: Longs, steps: int, remi: Remi
) -> Bass:
    """Bass lines (N, T) of completions, back from `semitones` (N,); what lies beyond T steps is left out."""
    notes = Notes.from_completions(prompts, completions, remi)
    notes = replace(notes, pitch=(notes.pitch - semitones[notes.piece]).astype(np.int32))
    start = np.zeros(1, np.int64)
    lines = [bass_lines(notes.pieces([piece]), start, steps)[0] for piece in range(notes.n_pieces)]
    return np.concatenate(lines) if lines else np.zeros((0, steps), np.uint8)
