"""Cleaning: removes what reveals the file format and keeps the music.

Removed are ticks per quarter, tempo map, number and names of tracks, pedal, the range of velocities, and empty bars at
both ends; in the recipes `piano` and `tabs` also instruments and drums. Every step has a name, can be left out, and
counts the notes that it changed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from symusic import core

from mgen.corpus.beats import repair_beats
from mgen.encoding.remi import PITCH_RANGE
from mgen.notes import MAX_DURATION, STEPS_PER_QUARTER, Bars, Ints, Notes, select_notes, sort_order

Recipe = Literal["piano", "band", "tabs"]
RECIPES: tuple[Recipe, ...] = get_args(Recipe)

MIN_QUARTERS = 1 / 96
"""Shortest duration in quarter notes, 5 ms at 120 per minute: shorter notes are errors of playing or export. Real
collections have up to 1 % of them.
"""

CLEANING_STEPS = {
    "offset": "a constant offset of all notes from the beat grid is removed",
    "metre": "a time signature that is an artefact of the exporter is replaced, a bar like 15/16 made whole eighths",
    "clock": "performed music gets bars of two seconds, regardless of the beats of its file",
    "short_notes": f"notes shorter than 1/{round(1 / MIN_QUARTERS)} of a quarter are dropped",
    "rests": "tabs: a track is split at long rests",
    "cut": "tabs: a chunk is cut at the maximum number of notes",
    "silence": "tabs: chunks that are mostly rests are dropped",
    "pitches": "notes outside the range of pitches are dropped",
    "overlaps": "a note ends where its pitch is repeated",
    "long_notes": f"notes longer than {MAX_DURATION // STEPS_PER_QUARTER} quarters (in eighth metres, eighths) are cut",
    "empty_bars": "empty bars at both ends are dropped",
    "duplicates": "pieces with the same notes as an earlier one are dropped",
}
"""Steps that can be left out, in order. The recipe decides about drums, and notes that start together on one pitch are
always merged, because the grammar cannot write them.
"""


def normalise(score: core.ScoreTick, recipe: Recipe) -> Notes:
    """Cleans one piece with all steps that apply to whole pieces.

    Raises:
        RejectedFile: A bar is not a whole number of eighth notes.
    """
    score, _ = repair_beats(score)
    score, _ = drop_short_notes(score)
    return clean(Notes.from_scores([score]), recipe)


def clean(notes: Notes, recipe: Recipe) -> Notes:
    """`clean_and_count` with every step, without the counts. Idempotent."""
    return clean_and_count(notes, recipe)[0]


def clean_and_count(
    notes: Notes, recipe: Recipe, skip: Collection[str] = (), pitches: tuple[int, int] = PITCH_RANGE
) -> tuple[Notes, Counter[str]]:
    """Cleans one piece that is on the grid already.

    Args:
        notes: one piece. `Notes` has no pedal: durations are those of the keys, because longer notes under a held
            pedal would reveal the files that have one; `pedal.hold_pedal` lengthens them all the same, if asked for.
        recipe: `piano` and `tabs` drop the drums and set program 0; `band` keeps programs and drums.
        skip: names of `CLEANING_STEPS` to leave out.
        pitches: lowest and highest pitch kept, within the piano's range.

    Returns:
        The piece and the number of notes that each step dropped or changed. Notes that start together on one pitch and
        program are merged, with the longest duration and the highest velocity; a note ends where its pitch is repeated
        and is no longer than the longest duration token. Velocities are the piece's own quantiles, evenly on 1..127.
        The first and the last bar have a note, and time 0 is the start of the first bar.
    """
    counts: Counter[str] = Counter()
    kept = np.ones(len(notes), bool) if recipe == "band" else notes.program >= 0
    counts["percussion"] = int((~kept).sum())
    low, high = PITCH_RANGE if "pitches" in skip else pitches
    inside = (notes.pitch >= max(low, PITCH_RANGE[0])) & (notes.pitch <= min(high, PITCH_RANGE[1]))
    counts["pitches"] = int((kept & ~inside).sum())
    notes = notes.select(kept & inside)
    program = notes.program if recipe == "band" else np.zeros_like(notes.program)
    keep, duration, velocity = _merge_unisons(program, notes)
    onset, pitch, program, bar = (column[keep] for column in (notes.onset, notes.pitch, program, notes.bar))
    counts["doubled"] = len(notes) - len(onset)
    if "overlaps" not in skip:
        room = _steps_to_repeat(program, pitch, onset)
        counts["overlaps"] = int((duration > room).sum())
        duration = np.minimum(duration, room)
    if "long_notes" not in skip:
        limit = MAX_DURATION * 4 // notes.bars.unit[notes.bar_row][keep]
        counts["long_notes"] = int((duration > limit).sum())
        duration = np.minimum(duration, limit)
    velocity = rank_velocities(velocity)
    bars, first = (notes.bars, 0) if "empty_bars" in skip else _trim_bars(notes.bars, bar)
    piece = np.zeros_like(onset)
    start = notes.bars.onset[first]
    order = sort_order(piece, onset, program, pitch, duration, velocity)
    whole = replace(
        notes,
        piece=piece,
        onset=(onset - start)[order],
        duration=duration[order].astype(np.int32),
        bar=(bar - first)[order],
        pitch=pitch[order],
        velocity=velocity[order],
        program=program[order],
        token=np.full(len(order), -1, np.int32),
        broken=np.zeros(len(order), np.int32),
        bars=bars,
    )
    return whole, +counts


def drop_short_notes(score: core.ScoreTick) -> tuple[core.ScoreTick, int]:
    """Drops notes shorter than `MIN_QUARTERS`, except drums; returns the score and the number of notes dropped.

    If they are the majority, the file has no meaningful durations, and they are kept.
    """
    least = MIN_QUARTERS * score.ticks_per_quarter
    columns = [None if track.is_drum else track.notes.numpy() for track in score.tracks]
    keep = [None if notes is None else notes["duration"] >= least for notes in columns]
    total = sum(len(mask) for mask in keep if mask is not None)
    dropped = total - sum(int(mask.sum()) for mask in keep if mask is not None)
    if not dropped or 2 * dropped > total:
        return score, 0
    score = score.copy()
    for track, notes, mask in zip(score.tracks, columns, keep, strict=True):
        if notes is not None and mask is not None and not mask.all():
            track.notes = select_notes(notes, mask)
    return score, dropped


def rank_velocities(velocity: Ints) -> Ints:
    """Replaces velocities (N,) by their quantiles, evenly on 1..127: only their order is kept.

    Equal velocities share their mean rank, so a piece with a single velocity gets 64.
    """
    level, count = np.unique(velocity, return_counts=True)
    middle = (np.cumsum(count) - count / 2) / max(len(velocity), 1)
    return np.rint(1 + 126 * middle).astype(np.int32)[np.searchsorted(level, velocity)]


def count_voices(notes: Notes) -> int:
    """Number of simultaneous notes of one piece: the 95th percentile over its onsets, without drums."""
    pitched = notes.program >= 0
    onset = notes.onset[pitched]
    if not len(onset):
        return 0
    at = np.unique(onset)
    end = np.sort(onset + notes.duration[pitched])
    sounding = np.searchsorted(onset, at, side="right") - np.searchsorted(end, at, side="right")
    return int(np.percentile(sounding, 95, method="higher"))


def _merge_unisons(program: Ints, notes: Notes) -> tuple[NDArray[np.intp], Ints, Ints]:
    """Rows to keep, one per onset, pitch and program, by program, pitch, onset; their durations and velocities."""
    order = np.lexsort((notes.onset, notes.pitch, program))
    if not len(order):
        return order, notes.duration, notes.velocity
    key = np.stack([column[order] for column in (program, notes.pitch, notes.onset)])
    head = np.flatnonzero(np.append(True, (np.diff(key) != 0).any(axis=0)))
    duration, velocity = (np.maximum.reduceat(column[order], head) for column in (notes.duration, notes.velocity))
    return order[head], duration, velocity


def _steps_to_repeat(program: Ints, pitch: Ints, onset: Ints) -> NDArray[np.int64]:
    """(N,) grid steps from each note to the next of its program and pitch; notes sorted as by `_merge_unisons`."""
    room = np.full(len(onset), np.iinfo(np.int32).max, np.int64)
    again = (np.diff(program) == 0) & (np.diff(pitch) == 0)
    room[:-1][again] = np.diff(onset)[again]
    return room


def _trim_bars(bars: Bars, used: Ints) -> tuple[Bars, int]:
    """The bars from the first to the last one used, starting at time 0, and the number of the first."""
    first, last = (int(used.min()), int(used.max())) if len(used) else (0, 0)
    kept = bars.select(slice(first, last + 1))
    return replace(kept, onset=kept.onset - kept.onset[0]), first
