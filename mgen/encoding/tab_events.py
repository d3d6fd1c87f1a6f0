"""Tab events: one voice as rows of four small numbers, one row for each note and each rest.

A row is `(semitone, octave, dur_log, dotted)`, as in a tab, without bars, velocity or tempo. Time is the sum of the
previous rows. Converts arrays to events and events to a score; knows nothing of files or models.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from symusic import Note, core

from mgen.arrays import ranges
from mgen.errors import MgenError

COLUMNS = ("semitone", "octave", "dur_log", "dotted")
"""The columns of a table of events.

semitone: 0 for a rest, 1-12 for C to B. octave: pitch // 12, so 0-10; 0 for a rest. dur_log: 0-6 for a whole, half,
quarter, 8th, 16th, 32nd and 1/64 note. dotted: 0 or 1.
"""

TICKS_PER_QUARTER = 960  # resolution of a decoded score
UNITS_PER_QUARTER = 32  # time unit: a 1/128 note, in which all 14 note values are integers

MAX_LAG = 3
"""Units that a note may start early or late, so that three quarters in the time of two are 24 + 16 + 24 units
and not three notes each followed by a rest."""

Events = NDArray[np.uint8]
Ints = NDArray[np.int64]
Voice = Literal["top", "bottom"]

_VALUES = np.array([(dur_log, dotted) for dur_log in range(6, -1, -1) for dotted in (0, 1)], np.uint8)
"""(14, 2) `dur_log` and `dotted`, shortest first."""

_LENGTHS = (64 >> _VALUES[:, 0].astype(np.int64)) * (2 + _VALUES[:, 1])  # (14,) units
_SHORTEST, _LONGEST = int(_LENGTHS[0]), int(_LENGTHS[-1])
_NEAREST = np.abs(np.arange(_LONGEST + 1)[:, None] - _LENGTHS).argmin(axis=1)  # of two the shorter
_MAX_TICKS = int(np.iinfo(np.int32).max)
_TICKS_PER_UNIT = TICKS_PER_QUARTER // UNITS_PER_QUARTER


@dataclass(frozen=True, slots=True)
class Loss:
    """Number of notes that a table of events does not represent exactly.

    All but `notes` and `chord_notes` are counted after rounding times to 1/128 notes.
    """

    notes: int  # read
    chord_notes: int  # left out: another note of the voice starts within a 1/64 note
    cut: int  # ended by the next note
    rounded: int  # written with another duration
    long: int  # longer than a dotted whole note; shortened to it, rests follow
    moved: int  # start moved by up to `MAX_LAG` units
    gaps: int  # followed by a silence without a rest


def encode(
    onset: ArrayLike, duration: ArrayLike, pitch: ArrayLike, ticks_per_quarter: int, voice: Voice = "top"
) -> tuple[Events, Loss]:
    """Encodes notes as events.

    Notes that start less than a 1/64 note after the first of them form a chord, of which one note is kept. A note ends
    at the latest where the next one starts. Each gets the note value nearest to its duration (of two the shorter), and
    the time left until the next note becomes rests, the longest first: any gap of a 1/64 note or more is exact.

    Errors do not accumulate, because a rest extends to the start of the next note in the source. If notes follow each
    other without a gap and no note value lasts until the next one, its start may move by up to `MAX_LAG` units; the
    following note returns to its own time. So no chord is more than `MAX_LAG` + 1/2 units (0.11 quarters) from its
    first note in the source.

    There are no ties: a note longer than a dotted whole note is followed by rests. A rest before the first note is
    written, one after the last is not.

    Args:
        onset: (N,) ticks, in any order.
        duration: (N,) ticks.
        pitch: (N,) MIDI note numbers.
        ticks_per_quarter: ticks in a quarter note.
        voice: the note kept of a chord; of equal pitches the longest.

    Returns:
        (T, 4) events, and what they do not represent.

    Raises:
        MgenError: The arrays are not of one length or not whole numbers, or a value is out of range.
    """
    if voice not in ("top", "bottom"):
        raise MgenError(f"voice: expected top or bottom, got '{voice}'")
    begins, ends, all_pitches = _units(onset, duration, pitch, ticks_per_quarter)
    if not len(begins):
        return np.zeros((0, len(COLUMNS)), np.uint8), Loss(0, 0, 0, 0, 0, 0, 0)
    start, end, pitches = _one_voice(begins, ends, all_pitches, voice)
    # After the last note any value fits.
    span = np.append(np.diff(start), max(int(end[-1] - start[-1]), 0) + 2 * _LONGEST)
    length = np.clip(end - start, 0, span)
    value, lag, gap = _lay_out(span, length, first=int(start[0]))
    gap[-1] = 0
    lead = start[:1] if start[0] >= _SHORTEST else np.zeros(1, np.int64)
    # The rest before the first note follows a dummy note, which is then removed.
    events = _rows(np.append(0, pitches), np.append(0, value), np.append(lead, gap))[1:]
    long = length > _LONGEST
    return events, Loss(
        notes=len(begins),
        chord_notes=len(begins) - len(start),
        cut=int((end - start > span).sum()),
        rounded=int(((_LENGTHS[value] != length) & ~long).sum()),
        long=int(long.sum()),
        moved=int((lag != 0).sum()),
        gaps=int(((gap == 0) & (length < span))[:-1].sum()),
    )


def decode(events: ArrayLike, program: int = 0, tempo: float = 120.0) -> core.ScoreTick:
    """Decodes events to a score of 960 ticks per quarter with one track, at `tempo` quarters per minute.

    `encode` of the notes gives the same events again, except for rests at the end and the way the time between two
    notes is split into rests.

    Raises:
        MgenError: A row is not an event, or the total time overflows MIDI ticks.
    """
    table = check_events(events)
    semitone, octave, dur_log, dotted = table.T.astype(np.int64)
    ticks = _LENGTHS[2 * (6 - dur_log) + dotted] * _TICKS_PER_UNIT
    end = np.cumsum(ticks)
    if len(end) and end[-1] > _MAX_TICKS:
        raise MgenError(f"{len(table)} events last {end[-1]} ticks, at most {_MAX_TICKS} fit into a score; split them")
    sounds = semitone > 0
    score = core.ScoreTick(TICKS_PER_QUARTER)
    score.tempos.append(core.TempoTick(0, qpm=tempo))
    track = core.TrackTick("tab", program, False)
    notes: Any = Note.from_numpy(
        (end - ticks)[sounds].astype(np.int32),
        ticks[sounds].astype(np.int32),
        (12 * octave + semitone - 1)[sounds].astype(np.int8),
        np.full(int(sounds.sum()), 80, np.int8),
    )
    track.notes = notes
    score.tracks.append(track)
    return score


def check_events(events: ArrayLike) -> Events:
    """Checks events and casts them to (T, 4) uint8.

    Raises:
        MgenError: The shape is wrong, values are not integers, or a row is not an event (the message gives the row).
    """
    table = np.asarray(events)
    if table.ndim != 2 or table.shape[1] != len(COLUMNS):
        raise MgenError(f"events: expected rows of {', '.join(COLUMNS)}, got an array of shape {table.shape}")
    if not len(table):
        return np.zeros(table.shape, np.uint8)
    if table.dtype.kind not in "iu":
        raise MgenError(f"events: expected whole numbers, got {table.dtype}")
    semitone, octave, dur_log, dotted = table.T
    rest = semitone == 0
    faults = (
        ((semitone < 0) | (semitone > 12), "semitone is not 0 (a rest) to 12 (B)"),
        (rest & (octave != 0), "the octave of a rest is not 0"),
        ((octave < 0) | (octave > 10), "octave is not 0 to 10"),
        (~rest & (octave == 10) & (semitone > 8), "pitch is above 127 (octave 10, semitone 8)"),
        ((dur_log < 0) | (dur_log > 6), "dur_log is not 0 (whole) to 6 (1/64)"),
        ((dotted < 0) | (dotted > 1), "dotted is not 0 or 1"),
    )
    row, text = min(((int(bad.argmax()), text) for bad, text in faults if bad.any()), default=(-1, ""))
    if text:
        named = ", ".join(f"{name} {number}" for name, number in zip(COLUMNS, table[row].tolist(), strict=True))
        raise MgenError(f"events, row {row} ({named}): {text}")
    return table.astype(np.uint8)


def _units(onset: ArrayLike, duration: ArrayLike, pitch: ArrayLike, ticks_per_quarter: int) -> tuple[Ints, Ints, Ints]:
    """Start and end (N,) of the notes in units, and their pitch (N,)."""
    if ticks_per_quarter < 1:
        raise MgenError(f"ticks_per_quarter ({ticks_per_quarter}) must be at least 1")
    columns = {"onset": np.asarray(onset), "duration": np.asarray(duration), "pitch": np.asarray(pitch)}
    shapes = ", ".join(f"{name} {column.shape}" for name, column in columns.items())
    if len({column.shape for column in columns.values()}) > 1 or columns["onset"].ndim != 1:
        raise MgenError(f"expected onset, duration and pitch of one length, got {shapes}")
    for name, column in columns.items():
        if not len(column):
            break
        if column.dtype.kind not in "iu":
            raise MgenError(f"{name}: expected whole numbers, got {column.dtype}")
        bad = column < 0 if name != "pitch" else (column < 0) | (column > 127)
        if bad.any():
            expected = "0 to 127" if name == "pitch" else "at least 0"
            raise MgenError(f"note {bad.argmax()}: {name} {column[bad.argmax()]}, expected {expected}")
    scale = UNITS_PER_QUARTER / ticks_per_quarter
    last = float((columns["onset"] * scale + columns["duration"] * scale).max(initial=0.0))
    if last * _TICKS_PER_UNIT > _MAX_TICKS:
        raise MgenError(f"the last note ends after {last / UNITS_PER_QUARTER:.0f} quarters; are its times ticks?")
    begin, length, pitches = (column.astype(np.int64) for column in columns.values())
    return np.rint(begin * scale).astype(np.int64), np.rint((begin + length) * scale).astype(np.int64), pitches


def _one_voice(begin: Ints, end: Ints, pitch: Ints, voice: Voice) -> tuple[Ints, Ints, Ints]:
    """Start, end and pitch (M,) of the note kept of each chord; starts are at least a 1/64 note apart."""
    starts = np.unique(begin)
    # In a run of starts one unit apart, every second one starts a chord.
    run = np.flatnonzero(np.diff(starts, prepend=starts[0] - _SHORTEST) > 1)
    in_run = np.arange(len(starts)) - np.repeat(run, np.diff(run, append=len(starts)))
    opening = starts[in_run % 2 == 0]
    chord = np.searchsorted(opening, begin, side="right") - 1
    order = np.lexsort((end, pitch if voice == "top" else -pitch, chord))
    kept = order[np.flatnonzero(np.diff(chord[order], append=len(opening)))]
    return opening, end[kept], pitch[kept]


def _lay_out(span: Ints, length: Ints, first: int) -> tuple[NDArray[np.intp], Ints, Ints]:
    """Chooses note values for notes with a duration of `length` (N,) of the `span` (N,) units to the next note.

    Returns:
        (N,) index of each note value, delay of its start in units, and rest after it in units.
    """
    # The delay of a note depends on the previous notes. There are only 7 possible delays, so all are computed at once.
    lags = np.arange(-MAX_LAG, MAX_LAG + 1)
    left = span[:, None] - lags
    legato = (span - length < _SHORTEST)[:, None]
    wanted = np.where(legato, left, length[:, None])
    fits = np.searchsorted(_LENGTHS, left + MAX_LAG, side="right") - 1
    value = np.minimum(_NEAREST[np.clip(wanted, 0, _LONGEST)], fits)
    gap = left - _LENGTHS[value]
    rest = np.where(gap > np.where(legato, MAX_LAG, _SHORTEST - 1), gap, 0)
    way = MAX_LAG - (first if first < _SHORTEST else 0)
    ways = []
    for after in (rest - gap + MAX_LAG).tolist():
        ways.append(way)
        way = after[way]
    taken = np.arange(len(span)), np.array(ways)
    return value[taken], lags[taken[1]], rest[taken]


def _rows(pitch: Ints, value: NDArray[np.integer], gap: Ints) -> Events:
    """(T, 4) one row for each note, followed by the rows of a rest of `gap` units."""
    longest = gap // _LONGEST - (gap % _LONGEST == 1)  # one unit is not a note value
    remainder = gap - longest * _LONGEST
    count = 1 + longest + _REST_COUNTS[remainder]
    place, note = ranges(np.zeros_like(count), count)
    at = place - 1 - longest[note]
    rest = np.where(at < 0, len(_LENGTHS) - 1, _RESTS[remainder[note], np.maximum(at, 0)])
    sounds = place == 0
    events = np.zeros((len(note), len(COLUMNS)), np.uint8)
    events[sounds, 0] = pitch % 12 + 1
    events[sounds, 1] = pitch // 12
    events[:, 2:] = _VALUES[np.where(sounds, value[note], rest)]
    return events


def _rests() -> tuple[Ints, Ints]:
    """Note values of the rests in a gap of g units, the longest first, and their number, for every g up to a dotted
    whole rest. No gap of one unit may remain.
    """
    written: list[list[int]] = []
    for gap in range(_LONGEST + 2):
        row, left = [], gap
        while left >= _SHORTEST:
            row.append(int(np.flatnonzero((left == _LENGTHS) | (left - _LENGTHS >= _SHORTEST))[-1]))
            left -= int(_LENGTHS[row[-1]])
        written.append(row)
    table = np.zeros((len(written), max(map(len, written))), np.int64)
    for gap, row in enumerate(written):
        table[gap, : len(row)] = row
    return table, np.array([len(row) for row in written])


_RESTS, _REST_COUNTS = _rests()
