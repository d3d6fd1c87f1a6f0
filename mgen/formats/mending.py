"""Mends a score by the notes that are used, or rejects it for them; what is wrong with the others has no effect.

How long a drum hit lasts means nothing, so drums count by their onsets alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from symusic import core

from mgen.errors import RejectedFile
from mgen.notes import select_notes

MAX_QUARTERS = 20_000  # latest onset in quarter notes, four times the longest album seen; bounds the table of bars

MAX_NOTE_SECONDS = 600.0
"""Longest note; a longer one has lost its end. The longest organ pedals seen last five minutes."""

MAX_LONG_SHARE = 0.1
"""Largest share of notes that may have lost their ends: with more of them the file has no meaningful durations."""

TEMPO_RANGE = (4.0, 2000.0)  # quarter notes per minute; real files are within 7 and 420
_DEFAULT_TEMPO = 500_000  # microseconds per quarter of a file without a tempo

Longs = NDArray[np.int64]
Mask = NDArray[np.bool_]
Columns = dict[str, NDArray[Any]]
Tempos = tuple[Longs, Longs]  # ticks and microseconds per quarter, sorted by tick, those of one tick as in the file


def check_notes(score: core.ScoreTick) -> None:
    """Raises unless a score, of any format, has music.

    Raises:
        RejectedFile: with the reason `no notes` or `only drums`.
    """
    tracks = [track for track in score.tracks if len(track.notes)]
    if not tracks:
        raise RejectedFile("no notes", f"{len(score.tracks)} tracks")
    if all(track.is_drum for track in tracks):
        raise RejectedFile("only drums", f"{score.note_num()} notes")


def mend(
    score: core.ScoreTick, used: Callable[[core.TrackTick], bool] = lambda track: True
) -> tuple[core.ScoreTick, Counter[str]]:
    """Mends single notes and tempos.

    Args:
        score: in the ticks of its file; not modified.
        used: whether the notes of a track are used.

    Returns:
        The score and the number of repairs. A `stray note`, out of bounds but not used, is dropped. A `long note` gets
        the median duration of the others: its start was played, only its end was lost. A `tempo` outside `TEMPO_RANGE`
        under which nothing sounds is dropped.

    Raises:
        RejectedFile: with one of the reasons `tempo`, `long note`, `too long`, `broken` (a time overflows).
    """
    repairs: Counter[str] = Counter()
    drums, melody, changed = [], {}, {}
    for number, track in enumerate(score.tracks):
        columns = track.notes.numpy()
        if not used(track):
            inside = _is_inside(columns, score.ticks_per_quarter)
            if not inside.all():
                changed[number] = select_notes(columns, inside)
                repairs["stray note"] += int((~inside).sum())
        elif len(track.notes):
            _check_bounds(columns, score.ticks_per_quarter)
            if track.is_drum:
                drums.append(columns["time"].astype(np.int64))
            else:
                melody[number] = columns
    tempos = score.tempos.numpy()
    order = np.argsort(tempos["time"], kind="stable")
    when, pace = (tempos[name][order].astype(np.int64) for name in ("time", "mspq"))
    low, high = TEMPO_RANGE
    absurd = (pace * low > 6e7) | (pace * high < 6e7)
    onset, duration = (_joined(columns[name] for columns in melody.values()) for name in ("time", "duration"))
    seconds = _seconds((when[~absurd], pace[~absurd]), score.ticks_per_quarter, onset, onset + duration)
    if (seconds > MAX_NOTE_SECONDS).any():
        duration = _shorten(duration, seconds)
        ends = np.cumsum([len(columns["time"]) for columns in melody.values()])[:-1]
        for (number, columns), lengths in zip(melody.items(), np.split(duration, ends), strict=True):
            changed[number] = select_notes(columns | {"duration": lengths.astype(np.int32)}, np.arange(len(lengths)))
        repairs["long note"] = int((seconds > MAX_NOTE_SECONDS).sum())
    if absurd.any():
        _check_silence((when, pace), absurd, _joined(drums), onset, onset + np.maximum(duration, 1))
        repairs["tempo"] = int(absurd.sum())
    if repairs:
        score = score.copy()
        for number, notes in changed.items():
            score.tracks[number].notes = notes
        plausible = zip(when[~absurd].tolist(), pace[~absurd].tolist(), strict=True)
        kept: Any = [core.TempoTick(time, mspq=mspq) for time, mspq in plausible]
        score.tempos = kept
    return score, repairs


def _joined(columns: Iterable[NDArray[Any]]) -> Longs:
    return np.concatenate([np.zeros(0, np.int64), *columns], dtype=np.int64)


def _is_inside(columns: Columns, ticks_per_quarter: int) -> Mask:
    """(N,) whether notes are within the bounds of time."""
    inside: Mask = (columns["time"] >= 0) & (columns["duration"] >= 0)
    return inside & (columns["time"] <= MAX_QUARTERS * ticks_per_quarter)


def _check_bounds(columns: Columns, ticks_per_quarter: int) -> None:
    if columns["time"].min() < 0 or columns["duration"].min() < 0:
        raise RejectedFile("broken", "times overflow 32 bits")
    last = int(columns["time"].max()) / ticks_per_quarter
    if last > MAX_QUARTERS:
        raise RejectedFile("too long", f"{last:.0f} quarter notes, at most {MAX_QUARTERS} are read")


def _shorten(duration: Longs, seconds: NDArray[np.float64]) -> Longs:
    """(N,) durations with the median for those that last too many seconds."""
    long = seconds > MAX_NOTE_SECONDS
    if long.mean() > MAX_LONG_SHARE:
        raise RejectedFile("long note", f"{seconds.max():.0f} seconds, at most {MAX_NOTE_SECONDS:.0f} are accepted")
    return np.where(long, int(np.median(duration[~long])), duration)


def _check_silence(tempos: Tempos, absurd: Mask, hits: Longs, onset: Longs, end: Longs) -> None:
    """Raises if something sounds under an absurd tempo; a tempo holds until the next begins."""
    when, pace = tempos
    start, stop = when[absurd], np.append(when[1:], np.iinfo(np.int64).max)[absurd]
    begun, ended = np.sort(np.append(hits, onset)), np.sort(np.append(hits + 1, end))
    sounding = (stop > start) & (np.searchsorted(begun, stop) > np.searchsorted(ended, start, side="right"))
    if sounding.any():
        tempo = int(pace[absurd][sounding][0])
        found = f"{6e7 / tempo:.1f} quarter notes per minute" if tempo > 0 else "0 microseconds per quarter note"
        raise RejectedFile("tempo", f"{found}, expected {TEMPO_RANGE[0]:g} to {TEMPO_RANGE[1]:g} quarter notes")


def _seconds(tempos: Tempos, ticks_per_quarter: int, onset: Longs, end: Longs) -> NDArray[np.float64]:
    """(N,) seconds from `onset` to `end`, both in ticks, by the tempo map."""
    when, microseconds = tempos
    pace = np.concatenate([[_DEFAULT_TEMPO], microseconds]) / ticks_per_quarter / 1e6
    ticks = np.maximum.accumulate(np.concatenate([[0], when, [end.max(initial=0)]]))
    clock = np.concatenate([[0.0], np.cumsum(np.diff(ticks) * pace)])
    seconds: NDArray[np.float64] = np.interp(end, ticks, clock) - np.interp(onset, ticks, clock)
    return seconds
