"""Drum parts and bass lines in steps of a 16th note: windows of whole 4/4 bars in which both play.

A drum part is a roll (T, 14), True where an instrument is struck. A bass line is a class for each of T steps: the start
of one of 36 pitches, a rest, or a hold of the note before. Onsets and ends are rounded to the nearest step, halves up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mgen.arrays import Longs, Mask, ranges
from mgen.notes import STEPS_PER_QUARTER, STEPS_PER_WHOLE, Bars, Notes, sort_order

STEP = STEPS_PER_QUARTER // 4  # grid steps in a 16th
BAR_STEPS = 16  # steps in a bar of 4/4
LOWEST, PITCHES = 28, 36  # E1 and the three octaves from it; other pitches are moved there by octaves
REST, HOLD = PITCHES, PITCHES + 1
CLASSES = PITCHES + 2  # of a step: pitch - LOWEST where a note starts, REST, HOLD
BASS_PROGRAMS = range(32, 40)
DEFAULT_PROGRAM = 33

INSTRUMENTS = {
    "kick": (36, 35),
    "snare": (38, 40),
    "rim shot, clap": (37, 39),
    "closed hi-hat": (42,),
    "open hi-hat": (46,),
    "pedal hi-hat": (44,),
    "low tom": (43, 41),
    "mid tom": (47, 45),
    "high tom": (50, 48),
    "crash": (49, 57),
    "ride": (51, 59),
    "ride bell, china, splash": (53, 52, 55),
    "cowbell, tambourine": (56, 54),
    "other percussion": (70,),  # and all pitches of no other instrument
}
"""Instrument -> its General MIDI pitches, first the one that it is written as."""

N_DRUMS = len(INSTRUMENTS)
KICK = 0
KICK_PITCHES = INSTRUMENTS["kick"]
_WRITTEN = np.array([pitches[0] for pitches in INSTRUMENTS.values()])
_INSTRUMENT = np.full(128, N_DRUMS - 1)
for _number, _pitches in enumerate(INSTRUMENTS.values()):
    _INSTRUMENT[list(_pitches)] = _number
_DRUM_VELOCITY, _BASS_VELOCITY = 90, 96

Drums = NDArray[np.bool_]  # (W, T, 14)
Bass = NDArray[np.uint8]  # (W, T), below CLASSES


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """W windows of T steps of one piece, and how many there are for each reason not to use one."""

    start: Longs  # (W,) grid steps
    drums: Drums  # (W, T, 14)
    bass: Bass  # (W, T)
    program: Longs  # (W,) the bass's with the most notes there, of equal ones the lowest
    left_out: Counter[str]


def fold(pitch: ArrayLike) -> Longs:
    """Pitches moved by octaves into LOWEST..LOWEST + PITCHES - 1; those inside stay."""
    given = np.asarray(pitch, np.int64)
    low = LOWEST + (given - LOWEST) % 12
    high = LOWEST + PITCHES - 12 + (given - LOWEST) % 12
    return np.where(given < LOWEST, low, np.where(given >= LOWEST + PITCHES, high, given))


def is_bass(notes: Notes) -> Mask:
    """(N,) whether a note is one of a bass: programs 32 to 39."""
    return (notes.program >= BASS_PROGRAMS.start) & (notes.program < BASS_PROGRAMS.stop)


def place_windows(bars: Bars, steps: int, whole: bool = True, first_bar: int = 0) -> tuple[Longs, Counter[str]]:
    """Divides each run of 4/4 bars of one piece into windows.

    Args:
        steps: T, a multiple of 16.
        whole: leave out what is left at the end of a run; False: a window may reach over the end.
        first_bar: bar of a run that its first window begins with.

    Returns:
        (W,) their starts in grid steps; and the windows left out: `other metre`, and `end of a section`.
    """
    size = steps // BAR_STEPS
    common = (bars.beats == 4) & (bars.unit == 4)
    edges = np.flatnonzero(np.diff(common)) + 1
    begin, end = np.append(0, edges), np.append(edges, len(common))
    begin = np.minimum(begin + first_bar, end)
    number = (end - begin) // size if whole else -(-(end - begin) // size)
    left_out: Counter[str] = Counter()
    if not len(common):
        return np.zeros(0, np.int64), left_out
    inside = common[end - 1]
    left_out["other metre"] = int((-(-(end - begin) // size))[~inside].sum())
    left_out["end of a section"] = int(((end - begin)[inside] % size > 0).sum()) if whole else 0
    rank, run = ranges(np.zeros(inside.sum(), np.int64), number[inside])
    first = begin[inside][run] + rank * size
    return bars.onset[first].astype(np.int64), +left_out


def drum_rolls(notes: Notes, start: Longs, steps: int) -> Drums:
    """(W, T, 14) the drums of one piece in windows from `start` (W,), sorted and not overlapping."""
    hits = notes.program < 0
    window, step = _locate((notes.onset[hits] + STEP // 2) // STEP, start, steps)
    found = window >= 0
    roll = np.zeros((len(start), steps, N_DRUMS), np.bool_)
    roll[window[found], step[found], _INSTRUMENT[notes.pitch[hits][found]]] = True
    return roll


def bass_lines(notes: Notes, start: Longs, steps: int) -> tuple[Bass, Longs]:
    """The bass of one piece in windows, as one voice.

    Of notes that start at one step the lowest counts; a note ends where the next one starts. A note that began before
    the window is a rest there.

    Returns:
        (W, T) classes, and (W,) program with the most notes in the window.
    """
    own = notes.select(is_bass(notes))
    at = (own.onset + STEP // 2) // STEP
    until = np.maximum((own.onset + own.duration + STEP // 2) // STEP, at + 1)
    window, step = _locate(at, start, steps)
    inside = window >= 0
    count = np.zeros((len(start), len(BASS_PROGRAMS)), np.int64)
    np.add.at(count, (window[inside], own.program[inside] - BASS_PROGRAMS.start), 1)
    order = np.lexsort((own.pitch, at))
    order = order[inside[order]]
    order = order[np.append(True, np.diff(at[order]) != 0)[: len(order)]]  # the lowest of those that start together
    window, step, until = window[order], step[order], until[order] - at[order]
    line = np.full((len(start), steps), REST, np.uint8)
    room = np.append(np.where(np.diff(window) == 0, np.diff(step), steps), steps)[: len(step)]
    held, owner = ranges(step + 1, np.minimum(step + np.minimum(until, room), steps))
    line[window[owner], held] = HOLD
    line[window, step] = fold(own.pitch[order]) - LOWEST
    return line, BASS_PROGRAMS.start + count.argmax(axis=1)


def cut_windows(
    notes: Notes,
    steps: int = 64,
    least_hits: int = 8,
    least_notes: int = 4,
    tempo_changes: ArrayLike = (),
    first_bar: int = 0,
) -> Windows:
    """Windows of one piece in which drums and a bass play.

    Args:
        steps: T, 16th notes of a window; a multiple of 16.
        least_hits, least_notes: struck cells of drums, and starts of bass notes; windows with fewer are left out.
        tempo_changes: (K,) grid steps at which the tempo changes; windows with one inside are left out.
        first_bar: see `place_windows`.

    Returns:
        The windows, and those left out: `other metre`, `end of a section`, `tempo change`, `few drums`, `few bass
        notes`, in this order.
    """
    start, left_out = place_windows(notes.bars, steps, first_bar=first_bar)
    changes = np.asarray(tempo_changes, np.int64).reshape(-1)
    steady = np.searchsorted(np.sort(changes), start, "right") == np.searchsorted(
        np.sort(changes), start + steps * STEP, "left"
    )
    left_out["tempo change"] = int((~steady).sum())
    start = start[steady]
    drums = drum_rolls(notes, start, steps)
    line, program = bass_lines(notes, start, steps)
    struck = drums.sum(axis=(1, 2)) >= least_hits
    plays = (line < PITCHES).sum(axis=1) >= least_notes
    left_out["few drums"], left_out["few bass notes"] = int((~struck).sum()), int((struck & ~plays).sum())
    kept = struck & plays
    return Windows(start[kept], drums[kept], line[kept], program[kept], +left_out)


def canonical(bass: NDArray[np.integer]) -> Bass:
    """Classes (..., T) with rests where a hold follows a rest or nothing."""
    line: Bass = np.array(bass, np.uint8)
    for step in range(line.shape[-1]):
        sounds = line[..., step - 1] != REST if step else np.zeros(line.shape[:-1], np.bool_)
        line[..., step][(line[..., step] == HOLD) & ~sounds] = REST
    return line


def bass_roll(bass: NDArray[np.integer]) -> NDArray[np.bool_]:
    """(..., T, 36) of classes (..., T): True where a pitch starts."""
    roll: Drums = np.asarray(bass)[..., None] == np.arange(PITCHES)
    return roll


def to_notes(
    drums: Drums | None,
    bass: NDArray[np.integer] | None,
    start: ArrayLike = 0,
    program: int = DEFAULT_PROGRAM,
    bass_after: int = 0,
) -> Notes:
    """Writes windows as one piece in 4/4.

    Args:
        drums: (W, T, 14); None for none. A struck cell is one step long.
        bass: (W, T) classes; None for none. Holds that follow no note are rests.
        start: (W,) grid steps, or that of the first window, which the others follow.
        program: of the bass.
        bass_after: grid steps by which a bass starts after its drums.
    """
    given = drums if drums is not None else bass
    assert given is not None
    begin = np.asarray(start, np.int64)
    begin = begin if begin.ndim else begin + np.arange(len(given)) * given.shape[1] * STEP
    parts: list[tuple[NDArray[Any], ...]] = []
    if drums is not None:
        window, step, instrument = np.nonzero(drums)
        parts.append(_columns(begin[window] + step * STEP, 1, _WRITTEN[instrument], _DRUM_VELOCITY, -1))
    if bass is not None:
        line = canonical(bass)
        window, step = np.nonzero(line < PITCHES)
        ends = line != HOLD
        ahead = np.full(ends.shape, ends.shape[1])
        ahead[ends] = np.nonzero(ends)[1]
        after = np.minimum.accumulate(ahead[:, ::-1], axis=1)[:, ::-1]  # the next step that is no hold, itself included
        following = np.append(after, np.full((len(after), 1), after.shape[1]), axis=1)[window, step + 1]
        pitch = LOWEST + line[window, step].astype(np.int64)
        onset = begin[window] + step * STEP + bass_after
        parts.append(_columns(onset, following - step, pitch, _BASS_VELOCITY, program))
    return _piece(parts, int((begin + given.shape[1] * STEP + bass_after).max(initial=STEPS_PER_WHOLE)))


def cut_pieces(notes: Notes, count: int, length: int) -> Notes:
    """Cuts one piece in 4/4 into `count` pieces of `length` grid steps, a multiple of a bar."""
    piece = (notes.onset // length).astype(np.int32)
    onset = (notes.onset - piece * length).astype(np.int32)
    each = length // STEPS_PER_WHOLE
    lines = np.tile(np.arange(each, dtype=np.int32) * STEPS_PER_WHOLE, count)
    fours, none = np.full_like(lines, 4), np.zeros(count, np.int32)
    return replace(
        notes,
        n_pieces=count,
        piece=piece,
        onset=onset,
        bar=onset // STEPS_PER_WHOLE,
        bars=Bars(np.repeat(np.arange(count, dtype=np.int32), each), lines, fours, fours),
        n_tokens=none,
        n_broken=none,
    )


def _locate(at: NDArray[np.integer], start: Longs, steps: int) -> tuple[Longs, Longs]:
    """(N,) window of each step of the piece, -1 outside all of them, and (N,) its step there."""
    if not len(start):
        return np.full(len(at), -1), np.zeros(len(at), np.int64)
    first = start // STEP
    window = np.searchsorted(first, at, side="right") - 1
    step = at - first[np.maximum(window, 0)]
    return np.where((window >= 0) & (step < steps), window, -1), step.astype(np.int64)


def _columns(onset: Longs, length: ArrayLike, pitch: Longs, velocity: int, program: int) -> tuple[NDArray[Any], ...]:
    rest = (np.asarray(length) * STEP, pitch, velocity, program)
    return tuple(np.broadcast_to(column, onset.shape).astype(np.int32) for column in (onset, *rest))


def _piece(parts: Sequence[tuple[NDArray[Any], ...]], end: int) -> Notes:
    """One piece of columns onset, duration, pitch, velocity and program, in bars of 4/4 up to grid step `end`."""
    onset, duration, pitch, velocity, program = (np.concatenate(column) for column in zip(*parts, strict=True))
    piece, none = np.zeros_like(onset), np.zeros(1, np.int32)
    order = sort_order(piece, onset, program, pitch, duration, velocity)
    lines = np.arange(-(-end // STEPS_PER_WHOLE), dtype=np.int32) * STEPS_PER_WHOLE
    fours = np.full_like(lines, 4)
    return Notes(
        n_pieces=1,
        piece=piece,
        onset=onset[order],
        duration=duration[order],
        bar=onset[order] // STEPS_PER_WHOLE,
        pitch=pitch[order],
        velocity=velocity[order],
        program=program[order],
        token=np.full_like(onset, -1),
        broken=np.zeros_like(onset),
        bars=Bars(np.zeros_like(lines), lines, fours, fours),
        n_tokens=none,
        n_broken=none,
    )
