"""Pairs of drums and bass as one REMI sequence: all bars of the drums, then the same number of bars of bass.

A causal model that has learned such sequences writes a bass line to a whole drum part: the prompt is all bars of the
drums, and the completion opens the first bar of bass. The bass is transposed to C major or A minor and has one program,
as the classes of `mgen.encoding.drum_bass` have none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mgen.arrays import Longs, ranges
from mgen.encoding.drum_bass import BAR_STEPS, STEP, Bass, Drums, bass_lines, to_notes
from mgen.encoding.remi import Remi
from mgen.music.keys import semitones_to_c
from mgen.notes import STEPS_PER_WHOLE, Bars, Notes, sort_order


def encode_pairs(drums: Drums, bass: Bass, key: Longs, remi: Remi) -> tuple[list[Longs], Longs]:
    """Base tokens of pairs.

    Args:
        drums: (N, T, 14); at least one cell of each is struck.
        bass: (N, T) in the keys `key` (N,) of `mgen.music.keys`.
        remi: a vocabulary with programs.

    Returns:
        The tokens of each pair, without BOS and EOS; and (N,) how many of them are given: those of the drums.
    """
    steps = drums.shape[1]
    length = steps * STEP
    begin = 2 * length * np.arange(len(drums))
    parts = [to_notes(drums, None, begin), to_notes(None, bass, begin + length)]
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _COLUMNS}
    piece = (columns["onset"] // (2 * length)).astype(np.int32)
    columns["pitch"] = columns["pitch"] + np.where(columns["program"] < 0, 0, semitones_to_c(key)[piece])
    onset = (columns["onset"] - begin[piece]).astype(np.int32)
    order = sort_order(piece, onset, *(columns[name] for name in ("program", "pitch", "duration", "velocity")))
    bars_each = 2 * steps // BAR_STEPS
    number, owner = ranges(np.zeros(len(drums), np.int64), np.full(len(drums), bars_each))
    fours = np.full(len(owner), 4, np.int32)
    notes = replace(
        parts[0],
        n_pieces=len(drums),
        bars=Bars(owner.astype(np.int32), (number * STEPS_PER_WHOLE).astype(np.int32), fours, fours),
        n_tokens=np.zeros(len(drums), np.int32),
        n_broken=np.zeros(len(drums), np.int32),
        **{
            name: column[order].astype(np.int32)
            for name, column in (columns | {"piece": piece, "onset": onset}).items()
        },
        bar=(onset // STEPS_PER_WHOLE).astype(np.int32)[order],
    )
    ids = remi.base.encode(notes)
    bar = bars_each // 2  # the first of bass
    given = [int(np.flatnonzero(row == remi.bar_id)[bar]) for row in ids]
    return ids, np.array(given, np.int64)


def encode_drums(drums: Drums, remi: Remi) -> list[Longs]:
    """Tokens of the given part of each drum part (N, T, 14), in the vocabulary with its merges."""
    any_bass = np.zeros(drums.shape[:2], np.uint8)  # a note in the first bar of bass, so that it is written
    ids, given = encode_pairs(drums, any_bass, np.zeros(len(drums), np.int64), remi)
    return [remi.merge(row[:count]) for row, count in zip(ids, given, strict=True)]


def decode_bass(
    prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]], key: Longs, steps: int, remi: Remi
) -> Bass:
    """Bass lines (N, T) of completions, in the keys `key` (N,); what lies beyond T steps is left out."""
    notes = Notes.from_completions(prompts, completions, remi)
    notes = replace(notes, pitch=(notes.pitch - semitones_to_c(key)[notes.piece]).astype(np.int32))
    start = np.zeros(1, np.int64)
    lines = [bass_lines(notes.pieces([piece]), start, steps)[0] for piece in range(notes.n_pieces)]
    return np.concatenate(lines) if lines else np.zeros((0, steps), np.uint8)


_COLUMNS = ("onset", "duration", "pitch", "velocity", "program", "token", "broken")
