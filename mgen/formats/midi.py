"""Parses the bytes of a MIDI file to a `symusic.Score`; every fault is a `RejectedFile` with a short reason.

symusic reads the notes. `midi_container` mends the file before, and `midi_channels` says what the notes sound like:
symusic takes each track for itself, so it does not know a program that another track sets, or drums on other channels.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from typing import Any

import numpy as np
from symusic import core

from mgen.errors import RejectedFile
from mgen.formats.mending import check_notes
from mgen.formats.midi_channels import ChannelSounds, program_of
from mgen.formats.midi_container import MidiFile, UnreadableTrackError, read_midi_file
from mgen.notes import select_notes

SUSTAIN, RESET = 64, 121  # controllers: the pedal, and the release of all
_PEDAL = re.compile(rb"[\xb0-\xbf](?:[\x00-\x7f]{2}[\x80-\xff]{0,3}[\x00-\x7f]){0,8}?\x40[\x40-\x7f]")  # goes down

_MOST_WITH_PEDAL = 1000  # tracks of a file in which the pedal of a channel is looked for in all of them

_SMPTE_SECONDS = {24: (24, 1_000_000), 25: (25, 1_000_000), 29: (30, 1_001_000), 30: (30, 1_000_000)}
"""Number of frames that are counted as a second, and its microseconds, by the frame rate in the header."""


def parse_midi(data: bytes) -> tuple[core.ScoreTick, Counter[str]]:
    """Parses a MIDI file of type 0 or 1, also inside a RIFF (.rmi).

    Returns:
        The score in the ticks of the file, with at least one note that is not of drums, and the number of repairs by
        kind. SMPTE time becomes 120 quarter notes per minute, without time signatures.

    Raises:
        RejectedFile: with one of the reasons `unknown format`, `broken` (cut off or malformed), `type 2`, `SMPTE
            time` (of an unknown frame rate), `zero division`, or of `check_notes`.
    """
    data = _unwrap(data)
    try:
        file = read_midi_file(data)
    except UnreadableTrackError as error:
        score, repairs = _read_as_it_is(data, str(error)), Counter({"unread events": 1})
    else:
        score, repairs = _read_mended(file), file.repairs
    check_notes(score)
    return score, repairs


def _read_mended(file: MidiFile) -> core.ScoreTick:
    _check_header(file.kind if len(file.tracks) > 1 else 0, file.division)
    if not file.division & 0x8000:
        return _read_labelled(file, file.division)
    frames, microseconds = _SMPTE_SECONDS[256 - (file.division >> 8)]
    score = _read_labelled(file, frames * (file.division & 0xFF))
    file.repairs["SMPTE time"] += 1
    return _halve_quarters(score, microseconds // 2)


def _read_labelled(file: MidiFile, division: int) -> core.ScoreTick:
    return _set_sounds(_share_pedals(_score_of(file.labelled(division)), file, division), file)


def _read_as_it_is(data: bytes, fault: str) -> core.ScoreTick:
    """Leaves a file that cannot be followed to symusic, whose error says more; programs and drums are its guess."""
    kind, division = (int.from_bytes(data[at : at + 2], "big") for at in (8, 12))
    _check_header(kind, division)
    if division & 0x8000:
        raise RejectedFile("broken", fault)
    return _score_of(data)


def _check_header(kind: int, division: int) -> None:
    if kind == 2:
        raise RejectedFile("type 2", "holds independent sequences; export them as files of type 0 or 1")
    rate = 256 - (division >> 8)
    if division & 0x8000 and rate not in _SMPTE_SECONDS:
        raise RejectedFile("SMPTE time", f"{rate} frames per second, expected {', '.join(map(str, _SMPTE_SECONDS))}")
    if division == 0 or (division & 0x8000 and not division & 0xFF):
        raise RejectedFile("zero division", f"0 ticks per {'frame' if division else 'quarter note'}")


def _score_of(data: bytes) -> core.ScoreTick:
    try:
        return core.ScoreTick.from_midi(data)
    except RuntimeError as error:  # the only error of symusic over 12,000 broken files
        raise RejectedFile("broken", " ".join(str(error).split())) from error


def _set_sounds(score: core.ScoreTick, file: MidiFile) -> core.ScoreTick:
    """Sets time signatures of a labelled file, and name, program and drums of its tracks.

    A track whose program changes under notes is split.
    """
    signatures: Any = [core.TimeSignatureTick(*signature) for signature in file.signatures]
    score.time_signatures = signatures
    sounds = ChannelSounds(event for track in file.tracks for event in track.events)
    tracks: list[core.TrackTick] = []
    for track in score.tracks:
        number, channel = int(track.name), track.program
        track.name = file.tracks[number].name
        ticks, codes = sounds.changes(number, file.tracks[number].port, channel)
        columns = track.notes.numpy()
        of_note = np.searchsorted(ticks, columns["time"], side="right") - 1
        first = int(of_note.min()) if len(of_note) else 0
        played = np.unique(codes[of_note]) if (codes[first:] != codes[first]).any() else codes[first : first + 1]
        for code in played.tolist():
            part = track
            if len(played) > 1:  # what is not a note goes with each part
                part = track.copy()
                part.notes = select_notes(columns, codes[of_note] == code)
            part.program, part.is_drum = program_of(code)
            tracks.append(part)
    if len(tracks) > len(score.tracks):
        split: Any = tracks
        score.tracks = split
    return score


def _share_pedals(score: core.ScoreTick, file: MidiFile, division: int) -> core.ScoreTick:
    """Gives the pedal of a channel to all its tracks of a labelled file, as a synthesiser does.

    It may be in a track without notes, which symusic leaves out, so the file is read once more with a note everywhere.
    """
    if not 1 < len(file.tracks) <= _MOST_WITH_PEDAL or not any(_PEDAL.search(track.body) for track in file.tracks):
        return score
    notes = b"".join(bytes([0, 0x90 | channel, 60, 1, 1, 0x80 | channel, 60, 0]) for channel in range(16))
    pedals: dict[tuple[int, int], list[Any]] = defaultdict(list)
    for track in _score_of(file.labelled(division, notes)).tracks:
        pedals[file.tracks[int(track.name)].port, track.program] += filter(_is_pedal, track.controls)
    for track in score.tracks:
        others: Any = [control for control in track.controls if not _is_pedal(control)]
        others += pedals[file.tracks[int(track.name)].port, track.program]
        track.controls = others
        track.controls.sort()
    return score


def _is_pedal(control: Any) -> bool:
    return control.number in (SUSTAIN, RESET)


def _halve_quarters(score: core.ScoreTick, microseconds: int) -> core.ScoreTick:
    """Makes two quarter notes out of each, of a tempo in microseconds, without time signatures."""
    ticks = score.ticks_per_quarter
    score = score.resample(2 * ticks, 0)  # the half of an odd number of ticks is between two
    score.ticks_per_quarter = ticks
    tempos: Any = [core.TempoTick(0, mspq=microseconds)]
    signatures: Any = []
    score.tempos, score.time_signatures = tempos, signatures
    return score


def _unwrap(data: bytes) -> bytes:
    """The MIDI file inside a RIFF file of type RMID, with the chunks after it; other data unchanged."""
    if data[:4] != b"RIFF" or data[8:12] != b"RMID":
        return data
    at = 12
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        if data[at : at + 4] == b"data":
            return data[at + 8 :]
        at += 8 + size + size % 2
    raise RejectedFile("broken", "a RIFF file without a data chunk")
