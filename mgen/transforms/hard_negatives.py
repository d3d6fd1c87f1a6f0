"""Hard negatives: the format of real music with the music damaged.

A style critic must reject these whoever made the file. Timing, loudness and lengths are mostly those of real pieces,
so the format gives nothing away. Each transform returns as many pieces, as if read from files. It may find nothing to
change (no swing, no note outside the scale): see `mgen.transforms.rebuild.is_changed`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.random import Generator

from mgen.arrays import Mask, rank_within, run_starts
from mgen.encoding.remi import PITCH_RANGE
from mgen.music.metrics import SCALE
from mgen.notes import STEPS_PER_QUARTER, Ints, Notes
from mgen.transforms.corruptions import CORRUPTIONS
from mgen.transforms.rebuild import (
    Transform,
    onsets_from_gaps,
    resolve_overlaps,
    sort_notes,
    with_onsets,
    with_pitches,
    without_tokens,
)
from mgen.transforms.wrong_notes import (
    approach_notes,
    collage,
    hand_of_others,
    jitter,
    late_hand,
    loop_bars,
    pedal_walk,
    random_gaps,
    semitone_errors,
    superpose,
)


def straighten_eighths(notes: Notes, rng: Generator) -> Notes:
    """Takes out the swing; the rest of the rhythm stays.

    In beats with onsets only at step 0 and at steps 14-19 of 24, the late onsets and note ends move to step 12.
    """
    beats = int(notes.onset.max(initial=0)) // STEPS_PER_QUARTER + 1
    late = notes.bars.onset[notes.bar_row] % STEPS_PER_QUARTER  # a bar after one of 7/8 begins between quarters
    beat = notes.piece.astype(np.int64) * beats + (notes.onset - late) // STEPS_PER_QUARTER
    step = (notes.onset - late) % STEPS_PER_QUARTER
    swung = np.zeros(notes.n_pieces * beats, bool)
    swung[beat[_is_late(step)]] = True
    swung[beat[~_is_late(step) & (step > 0)]] = False

    def straight(time: Ints) -> Ints:
        number, step = np.divmod(time - late, STEPS_PER_QUARTER)
        inside = np.minimum(number, beats - 1) + notes.piece.astype(np.int64) * beats
        moved = swung[inside] & (number < beats) & _is_late(step)
        return np.where(moved, time - step + STEPS_PER_QUARTER // 2, time).astype(np.int32)

    onset, end = straight(notes.onset), straight(notes.onset + notes.duration)
    return sort_notes(replace(notes, onset=onset, duration=np.maximum(end - onset, 1)))


def _is_late(step: Ints) -> Mask:
    return (step >= 14) & (step <= 19)


def in_major(notes: Notes, rng: Generator) -> Notes:
    """Moves every pitch to the nearest one (of two the lower) in the major scale that fits the piece best.

    Rhythm and contour stay; two notes of a chord may become one. Not random.
    """
    sounding = notes.program >= 0
    count = np.bincount(notes.piece[sounding] * 12 + notes.pitch[sounding] % 12, minlength=notes.n_pieces * 12)
    scales = np.add.outer(np.arange(12), SCALE) % 12
    root = count.reshape(-1, 12)[:, scales].sum(axis=2).argmax(axis=1)
    degree = np.arange(12)
    distance = np.array([0, -1, 1])
    shift = distance[np.isin((degree[:, None] + distance) % 12, SCALE).argmax(axis=1)]
    pitch = notes.pitch + shift[(notes.pitch - root[notes.piece]) % 12]
    pitch = np.where(pitch < PITCH_RANGE[0], notes.pitch + 1, np.where(pitch > PITCH_RANGE[1], notes.pitch - 1, pitch))
    return resolve_overlaps(with_pitches(notes, pitch))


def permute_pitches(notes: Notes, rng: Generator) -> Notes:
    """Puts each piece's pitches in random order; rhythm stays."""
    rows = np.flatnonzero(notes.program >= 0)
    pitch = notes.pitch.copy()
    pitch[rows] = notes.pitch[rows][np.lexsort((rng.random(len(rows)), notes.piece[rows]))]
    return resolve_overlaps(with_pitches(notes, pitch))


def chords_of_others(notes: Notes, rng: Generator) -> Notes:
    """Exchanges the pitches of each onset with those of an onset with as many notes, anywhere in the batch.

    Rhythm, voicings and thickness stay; melody and harmony go.
    """
    rows = np.flatnonzero(notes.program >= 0)
    first = np.flatnonzero(run_starts(notes.piece[rows], notes.onset[rows]))
    size = np.diff(np.append(first, len(rows)))
    order = np.lexsort((notes.pitch[rows], notes.onset[rows], notes.piece[rows]))  # programs may interleave pitches
    by_size = np.argsort(size, kind="stable")
    source = np.empty_like(by_size)
    source[by_size] = np.lexsort((rng.random(len(size)), size))
    within = np.arange(len(rows)) - np.repeat(first, size)
    pitch = notes.pitch.copy()
    pitch[rows[order]] = notes.pitch[rows[order]][np.repeat(first[source], size) + within]
    return resolve_overlaps(with_pitches(notes, pitch))


def rhythm_of_others(notes: Notes, rng: Generator) -> Notes:
    """Puts the pitches of each piece, in their order and cyclically, at the times of another piece of the batch.

    An empty piece, and the only piece with notes, stay as they are.
    """
    order = rng.permutation(np.flatnonzero(notes.counts > 0))
    partner = np.arange(notes.n_pieces)
    partner[order] = np.roll(order, 1)
    timed = notes.pieces(partner)
    own, count = notes.starts[:-1], notes.counts
    rank = rank_within(timed.piece, timed.n_pieces)
    pitch = notes.pitch[own[timed.piece] + rank % np.maximum(count, 1)[timed.piece]] if len(notes) else timed.pitch
    return resolve_overlaps(with_pitches(timed, pitch))


def permute_gaps(notes: Notes, rng: Generator) -> Notes:
    """Puts the times from onset to onset of each piece in random order; chords and the order of pitches stay."""
    first = run_starts(notes.piece, notes.onset)
    piece, onset = notes.piece[first], notes.onset[first]
    begins = run_starts(piece)
    gap = np.where(begins, onset, np.diff(onset, prepend=0))
    inner = np.flatnonzero(~begins)
    gap[inner] = gap[inner][np.lexsort((rng.random(len(inner)), piece[inner]))]
    return with_onsets(without_tokens(notes), onsets_from_gaps(gap, begins)[np.cumsum(first) - 1])


HARD_NEGATIVES: dict[str, Transform] = {
    "straight_eighths": straighten_eighths,
    "in_major": in_major,
    **CORRUPTIONS,
    "gaps_permuted": permute_gaps,
    "rhythm_of_others": rhythm_of_others,
    "chords_of_others": chords_of_others,
    "pitches_permuted": permute_pitches,
    "semitone_errors": semitone_errors,
    "late_hand": late_hand,
    "hand_of_others": hand_of_others,
    "superposed": superpose,
    "jittered": jitter,
    "random_gaps": random_gaps,
    "collage": collage,
    "pedal_walk": pedal_walk,
    "approach_notes": approach_notes,
    "bars_looped": loop_bars,
}
"""Name -> transform that keeps the format and damages the music."""
