"""Parses the bytes of a MIDI file to a `symusic.Score`; every fault is a `RejectedFile` with a short reason.

Checks the header, because symusic accepts type 2 files and a division of zero; symusic reads the events.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from symusic import core

from mgen.errors import RejectedFile

MAX_QUARTERS = 20_000  # latest onset in quarter notes, four times the longest album seen; bounds the table of bars

MAX_NOTE_SECONDS = 600.0
"""Longest note; a longer one has lost its end. The longest organ pedals seen last five minutes."""

TEMPO_RANGE = (4.0, 2000.0)  # quarter notes per minute; real files are within 7 and 420
_DEFAULT_TEMPO = 500_000  # microseconds per quarter of a file without a tempo


def parse_midi(data: bytes) -> core.ScoreTick:
    """Parses a MIDI file of type 0 or 1, also inside a RIFF (.rmi).

    Returns:
        The score in the ticks of the file, with at least one note that is not of drums.

    Raises:
        RejectedFile: with one of the reasons `unknown format`, `broken` (cut off or malformed), `type 2`, `SMPTE
            time`, `zero division`, or of `check_notes`.
    """
    score = _parse(_unwrap(data))
    check_notes(score)
    return score


def _unwrap(data: bytes) -> bytes:
    """The MIDI file inside a RIFF file of type RMID; other data unchanged."""
    if data[:4] != b"RIFF" or data[8:12] != b"RMID":
        return data
    at = 12
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        if data[at : at + 4] == b"data":
            return data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2
    raise RejectedFile("broken", "a RIFF file without a data chunk")


def _parse(data: bytes) -> core.ScoreTick:
    if data[:4] != b"MThd":
        raise RejectedFile("unknown format", f"begins with {data[:4]!r}, not b'MThd'" if data else "empty file")
    if len(data) < 14:
        raise RejectedFile("broken", f"ends inside the header, after {len(data)} bytes")
    kind, division = (int.from_bytes(data[at : at + 2], "big") for at in (8, 12))
    if kind == 2:
        raise RejectedFile("type 2", "holds independent sequences; export them as files of type 0 or 1")
    if division == 0:
        raise RejectedFile("zero division", "0 ticks per quarter note")
    if division & 0x8000:
        raise RejectedFile("SMPTE time", "ticks count video frames, so there are no beats")
    try:
        score = core.ScoreTick.from_midi(data)
    except RuntimeError as error:  # the only error of symusic over 12,000 broken files
        raise RejectedFile("broken", " ".join(str(error).split())) from error
    return score


def check_notes(score: core.ScoreTick) -> None:
    """Raises unless a score, of any format, has music.

    Raises:
        RejectedFile: with one of the reasons `no notes`, `only drums`, `tempo`, `long note`, `too long`, `broken` (a
            time overflows).
    """
    tracks = [track for track in score.tracks if len(track.notes)]
    if not tracks:
        raise RejectedFile("no notes", f"{len(score.tracks)} tracks")
    if all(track.is_drum for track in tracks):
        raise RejectedFile("only drums", f"{score.note_num()} notes")
    columns = [track.notes.numpy() for track in tracks]
    onset, duration = (
        np.concatenate([notes[name] for notes in columns]).astype(np.int64) for name in ("time", "duration")
    )
    if onset.min() < 0 or duration.min() < 0:
        raise RejectedFile("broken", "times overflow 32 bits")
    tempos = score.tempos.numpy()
    _check_tempos(tempos["mspq"])
    longest = float(_seconds(tempos, score.ticks_per_quarter, onset, onset + duration).max())
    if longest > MAX_NOTE_SECONDS:
        raise RejectedFile("long note", f"{longest:.0f} seconds, at most {MAX_NOTE_SECONDS:.0f} are accepted")
    last = int(onset.max()) / score.ticks_per_quarter
    if last > MAX_QUARTERS:
        raise RejectedFile("too long", f"{last:.0f} quarter notes, at most {MAX_QUARTERS} are read")


def _check_tempos(mspq: NDArray[np.int32]) -> None:
    if not len(mspq):
        return
    if mspq.min() <= 0:
        raise RejectedFile("tempo", "0 microseconds per quarter note")
    slow, fast = 6e7 / float(mspq.max()), 6e7 / float(mspq.min())
    low, high = TEMPO_RANGE
    if slow < low or fast > high:
        raise RejectedFile(
            "tempo", f"{slow if slow < low else fast:.1f} quarter notes per minute, expected {low:g} to {high:g}"
        )


def _seconds(
    tempos: dict[str, NDArray[np.int32]], ticks_per_quarter: int, onset: NDArray[np.int64], end: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(N,) seconds from `onset` to `end`, both in ticks, by the tempo map."""
    order = np.argsort(tempos["time"], kind="stable")
    pace = np.concatenate([[_DEFAULT_TEMPO], tempos["mspq"][order]]) / ticks_per_quarter / 1e6
    ticks = np.maximum.accumulate(np.concatenate([[0], tempos["time"][order].astype(np.int64), [end.max()]]))
    clock = np.concatenate([[0.0], np.cumsum(np.diff(ticks) * pace)])
    seconds: NDArray[np.float64] = np.interp(end, ticks, clock) - np.interp(onset, ticks, clock)
    return seconds
