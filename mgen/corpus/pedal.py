"""Lengthens the notes that the sustain pedal holds.

An option, because only some files have a pedal: longer notes then reveal the collection, and not the style.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from symusic import Note, core

from mgen.formats.midi import RESET, SUSTAIN

HELD = 64  # lowest value of a pedal that is down


def hold_pedal(score: core.ScoreTick) -> tuple[core.ScoreTick, int]:
    """Lengthens each note that ends while the pedal of its track is down until the pedal goes up or the pitch repeats.

    A note that ends as the pedal goes down is not held. A pedal that never goes up holds until the last note ends.
    Drums are left as they are.

    Returns:
        The score and the number of notes lengthened.
    """
    spans = [None if track.is_drum else _spans(track, score.end()) for track in score.tracks]
    if not any(spans):
        return score, 0
    score, lengthened = score.copy(), 0
    for track, held in zip(score.tracks, spans, strict=True):
        if held:
            notes = track.notes.numpy()
            duration = _hold(notes, *(np.array(times, np.int64) for times in zip(*held, strict=True)))
            lengthened += int((duration > notes["duration"]).sum())
            track.notes = _with_duration(notes, duration)
    return score, lengthened


def _spans(track: core.TrackTick, last: int) -> list[tuple[int, int]]:
    """When the pedal of a track is down."""
    spans: list[tuple[int, int]] = []
    down: int | None = None
    changes = [
        (one.time, one.number == SUSTAIN and one.value >= HELD)
        for one in track.controls
        if one.number in (SUSTAIN, RESET)
    ]
    for time, is_down in sorted(changes, key=lambda change: change[0]):
        if is_down and down is None:
            down = time
        elif not is_down and down is not None:
            spans.append((down, time))
            down = None
    return spans if down is None else [*spans, (down, max(down, last))]


def _hold(notes: dict[str, NDArray[Any]], downs: NDArray[np.int64], ups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Durations (N,) of notes under the pedal."""
    onset, pitch = notes["time"].astype(np.int64), notes["pitch"]
    end = onset + notes["duration"]
    span = np.searchsorted(downs, end, side="left") - 1  # the last one that begins before the end
    until = np.where(span >= 0, ups[span], end)
    order = np.lexsort((onset, pitch))
    again = np.flatnonzero((np.diff(pitch[order]) == 0) & (np.diff(onset[order]) > 0))
    until[order[again]] = np.minimum(until[order[again]], onset[order[again + 1]])
    duration: NDArray[np.int64] = np.maximum(until, end) - onset
    return duration


def _with_duration(notes: dict[str, NDArray[Any]], duration: NDArray[np.int64]) -> Any:
    return Note.from_numpy(notes["time"], duration.astype(np.int32), notes["pitch"], notes["velocity"])
