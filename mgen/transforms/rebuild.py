"""What keeps a table of notes valid when notes change: order, bars, overlaps, tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from mgen.arrays import Longs, Mask, max_of, ranges, run_starts
from mgen.notes import MAX_BEATS, MAX_DURATION, STEPS_PER_WHOLE, Bars, Ints, Notes, sort_order

Transform = Callable[[Notes, Generator], Notes]
"""B pieces and a random generator to B changed pieces, in the same order."""

FAR = 1 << 40  # an onset after every piece


def sort_notes(notes: Notes) -> Notes:
    """Restores the order that every `Notes` table has."""
    return notes.select(
        sort_order(notes.piece, notes.onset, notes.program, notes.pitch, notes.duration, notes.velocity)
    )


def without_tokens(notes: Notes) -> Notes:
    """Forgets the tokens that the notes were decoded from, as if they were read from files."""
    none, zero = np.zeros(notes.n_pieces, np.int32), np.zeros(len(notes), np.int32)
    return replace(notes, token=zero - 1, broken=zero, n_tokens=none, n_broken=none)


def with_pitches(notes: Notes, pitch: NDArray[np.integer]) -> Notes:
    """Gives the notes the pitches (N,), drums excepted, and forgets their tokens."""
    kept = np.where(notes.program < 0, notes.pitch, pitch).astype(np.int32)
    return without_tokens(sort_notes(replace(notes, pitch=kept)))


def distinct(notes: Notes) -> Notes:
    """Keeps the first of neighbours in the table with the same onset, program and pitch."""
    return notes.select(run_starts(notes.piece, notes.onset, notes.program, notes.pitch))


def resolve_overlaps(notes: Notes) -> Notes:
    """Sorts the notes and leaves them as corpus cleaning does.

    Of notes with the same onset and pitch the first stays. A note ends where its pitch begins again, and after
    `MAX_DURATION` at the latest.
    """
    notes = distinct(sort_notes(notes))
    order = np.lexsort((notes.onset, notes.pitch, notes.program, notes.piece))
    again = ~run_starts(notes.piece[order], notes.program[order], notes.pitch[order])[1:]
    room = np.full(len(notes), MAX_DURATION)
    room[order[:-1][again]] = np.diff(notes.onset[order])[again]
    return sort_notes(replace(notes, duration=np.minimum(notes.duration, room).astype(np.int32)))


def next_onset(notes: Notes) -> Ints:
    """(N,) the next later onset of the piece; for notes at its last onset, their own end."""
    order = np.lexsort((notes.onset, notes.piece))
    piece, onset = notes.piece[order], notes.onset[order]
    start = run_starts(piece, onset)
    after = np.append(np.flatnonzero(start)[1:], len(notes))[np.cumsum(start) - 1]
    piece_after, onset_after = np.append(piece, -1)[after], np.append(onset, 0)[after]
    out = np.empty(len(notes), np.int32)
    out[order] = np.where(piece_after == piece, onset_after, onset + notes.duration[order])
    return out


def onsets_from_gaps(gap: NDArray[np.number], begins: Mask) -> Longs:
    """(K,) onsets in grid steps from the time before each (K,), which counts from 0 where a piece `begins`."""
    total = np.cumsum(gap)
    onsets: Longs = (total - np.maximum.accumulate(np.where(begins, total - gap, 0))).astype(np.int64)
    return onsets


def first_notes_of_bars(notes: Notes) -> Longs:
    """(M + 1,) row of the first note in or after each bar; the last entry is N."""
    return np.searchsorted(notes.bar_row, np.arange(len(notes.bars.piece) + 1))


def usual_metre(notes: Notes) -> tuple[Longs, Longs]:
    """(B,) beats and (B,) unit of most of a piece's bars; of two equally frequent metres quarters, then fewer beats."""
    units, most = sorted(MAX_BEATS), max(MAX_BEATS.values()) + 1
    width = len(units) * most
    kind = np.searchsorted(units, notes.bars.unit) * most + notes.bars.beats
    count = np.bincount(notes.bars.piece * width + kind, minlength=notes.n_pieces * width)
    unit, beats = np.divmod(count.reshape(-1, width).argmax(axis=1), most)
    return beats, np.array(units)[unit]


def equal_bars(count: NDArray[np.integer], beats: NDArray[np.integer], unit: NDArray[np.integer]) -> Bars:
    """`count` (B,) bars for each piece, all of its `beats` (B,) of its `unit` (B,)."""
    number, piece = ranges(np.zeros_like(count), count)
    onset = number * (beats * STEPS_PER_WHOLE // unit)[piece]
    return Bars(*(column.astype(np.int32) for column in (piece, onset, beats[piece], unit[piece])))


def with_onsets(notes: Notes, onset: NDArray[np.integer]) -> Notes:
    """Moves the notes to `onset` (N,), in new bars of each piece's usual metre from 0 to its last onset."""
    beats, unit = usual_metre(notes)
    bar = onset // (beats * STEPS_PER_WHOLE // unit)[notes.piece]
    count = max_of(bar, notes.piece, notes.n_pieces) + 1
    moved = replace(notes, onset=onset.astype(np.int32), bar=bar.astype(np.int32), bars=equal_bars(count, beats, unit))
    return resolve_overlaps(moved)


def with_onsets_in_bars(notes: Notes, onset: NDArray[np.integer]) -> Notes:
    """Moves the notes to `onset` (N,), limited to the piece's own bars, which stay."""
    bars, starts = notes.bars, notes.bar_starts
    last = starts[1:] - 1
    end = bars.onset[last] + bars.length[last]
    inside: Ints = np.clip(onset, 0, end[notes.piece] - 1).astype(np.int32)
    far = np.int64(end.max(initial=0)) + 1
    row = np.searchsorted(bars.piece * far + bars.onset, notes.piece * far + inside, side="right") - 1
    return resolve_overlaps(replace(notes, onset=inside, bar=(row - starts[notes.piece]).astype(np.int32)))


def rearrange_bars(notes: Notes, source: Longs) -> Notes:
    """Replaces bar m (a row of `notes.bars`), notes and length, with the bar `source[m]` (M,).

    A note that ended before the first note after its bar does so again: overlaps that a soloist cannot play would
    give the rearrangement away.
    """
    first = first_notes_of_bars(notes)
    row, bar = ranges(first[source], first[source + 1])
    bars = notes.bars.select(source)
    steps = np.concatenate([[0], np.cumsum(bars.length, dtype=np.int64)])
    bar_onset = steps[:-1] - steps[notes.bar_starts[notes.bars.piece]]
    piece = notes.bars.piece[bar]
    onset = (bar_onset[bar] + notes.position[row]).astype(np.int32)
    room = _onset_after(notes.bars.piece[source], first[source + 1], notes.piece, notes.onset)[bar]
    free = notes.onset[row] + notes.duration[row] <= room
    end = np.searchsorted(bar, np.arange(len(source)), side="right")
    room = np.where(free, _onset_after(notes.bars.piece, end, piece, onset)[bar] - onset, FAR)
    rearranged = replace(
        notes.select(row),
        piece=piece,
        onset=onset,
        duration=np.clip(notes.duration[row], 1, np.maximum(room, 1)).astype(np.int32),
        bar=(bar - notes.bar_starts[piece]).astype(np.int32),
        bars=replace(bars, piece=notes.bars.piece, onset=bar_onset.astype(np.int32)),
    )
    return without_tokens(sort_notes(rearranged))


def _onset_after(bar_piece: Ints, end: Longs, piece: Ints, onset: Ints) -> Longs:
    """(M,) onset of the first note after each bar, whose notes stop at row `end`; `FAR` after the piece's last."""
    piece, onset = np.append(piece, -1), np.append(onset, 0)
    return np.where(piece[end] == bar_piece, onset[end], FAR)


def take_excerpts(
    notes: Notes,
    piece: NDArray[np.integer],
    bar: NDArray[np.integer],
    n_notes: NDArray[np.integer],
    n_bars: NDArray[np.integer] | None = None,
) -> Notes:
    """Cuts E excerpts: `n_notes` (E,) notes of `piece` (E,) from `bar` (E,) on, in `n_bars` (E,) bars.

    Without `n_bars` an excerpt ends with the bar of its last note.
    Every excerpt needs at least one note, and its piece that many notes from the bar on.
    """
    begin = notes.bar_starts[piece] + bar
    first = first_notes_of_bars(notes)[begin]
    end = begin + n_bars if n_bars is not None else notes.bar_starts[piece] + notes.bar[first + n_notes - 1] + 1
    row, owner = ranges(first, first + n_notes)
    bar_rows, bar_owner = ranges(begin, end)
    start = notes.bars.onset[begin]
    bars = notes.bars.select(bar_rows)
    excerpts = replace(
        notes.select(row),
        n_pieces=len(begin),
        piece=owner.astype(np.int32),
        onset=notes.onset[row] - start[owner],
        bar=(notes.bar[row] - bar[owner]).astype(np.int32),
        bars=replace(bars, piece=bar_owner.astype(np.int32), onset=bars.onset - start[bar_owner]),
    )
    return without_tokens(excerpts)


def apply_where(notes: Notes, transform: Transform, where: Mask, rng: Generator) -> Notes:
    """Changes the pieces for which `where` (B,) is True; all pieces keep their places."""
    rest, some = np.flatnonzero(~where), np.flatnonzero(where)
    if not len(some):
        return notes
    parts = [notes.pieces(rest), transform(notes.pieces(some), rng)]
    return Notes.concat(parts).pieces(np.argsort(np.concatenate([rest, some])))


def is_changed(before: Notes, after: Notes) -> Mask:
    """(B,) whether a piece has other onsets, pitches or number of notes: a transform may find nothing to change."""
    changed: Mask = before.counts != after.counts
    same = ~changed
    a, b = before.select(same[before.piece]), after.select(same[after.piece])
    np.logical_or.at(changed, a.piece, (a.onset != b.onset) | (a.pitch != b.pitch))
    return changed
