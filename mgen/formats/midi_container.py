"""Walks the chunks and events of a MIDI file, mends its container, finds time signatures and what sets channels' sound.

Real files have longer headers, wrong numbers of tracks and chunks a few bytes too long or too short; players shrug. The
walk skips runs of notes with one regular expression each, so it costs little. Knows nothing of what the events mean.
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from mgen.errors import RejectedFile
from mgen.time_signatures import Signature

HEADER_BYTES = 14
_MAX_TRACKS = 0xFFFF
_MAX_EVENTS = 1 << 16  # messages of a file that may set the sound of channels; real files have a few hundred

_SOUND_CONTROLLERS = (0, 6, 98, 99, 100, 101)  # bank select, data entry, and the choice of a parameter
# A delta time of at most four bytes; a data byte; the number of a controller that is none of these, or not bank select;
# a short meta event that is none of those below.
_PARTS = {
    b"T": rb"[\x80-\xff]{0,3}+[\x00-\x7f]",
    b"D": rb"[\x00-\x7f]",
    b"N": rb"[\x01-\x05\x07-\x61\x66-\x7f]",
    b"O": rb"[\x01-\x7f]",
    b"M": rb"\xff[^\x03\x21\x2f\x58](?:\x00|\x01.|\x02.{2}|\x03.{3}|\x04.{4}|\x05.{5})",
}


def _pattern(text: bytes) -> re.Pattern[bytes]:
    """A regular expression in which the names of `_PARTS` are replaced."""
    return re.compile(re.sub(rb"[TDNOM]", lambda found: _PARTS[found[0]], text), re.DOTALL)


# Runs of messages with one status, and meta events. A run of controllers only if none sets the sound: parameters matter
# on the channels 1 and 16 alone, which set zones.
_SKIPPED = _pattern(
    rb"(?:T[\x80-\xaf\xe0-\xef]DD(?:TDD)*+|TM|T[\xb1-\xbe]OD(?:TOD)*+(?!TD)|T[\xb0\xbf]ND(?:TND)*+(?!TD))*+"
)
_STATUS = _pattern(rb"T(?:M|([\x80-\xbf\xe0-\xef])DD(?:TDD)*+)")
_DELTA, _ONE, _TWO = _pattern(rb"T"), _pattern(rb"(T)(D)"), _pattern(rb"(T)(D)(D)")
_DELTAS = _pattern(rb"(T)(?:M|[\x80-\xef]?DD)")
_LENGTH = _pattern(rb"T")
_EMPTY_TEXT = b"\xff\x01\x00"  # in place of a system exclusive message

_END, _NAME, _PORT, _SIGNATURE = 0x2F, 0x03, 0x21, 0x58  # types of meta events


class ChannelEvent(NamedTuple):
    """A message that may set the sound of channels."""

    tick: int
    track: int
    port: int
    status: int  # 0xB0 or 0xC0 and the channel, or 0xF0 for a system exclusive message
    data: bytes  # what follows the status; without the length of a system exclusive message


@dataclass(slots=True)
class MidiTrack:
    """A track without its end-of-track event.

    In `body` program changes select the number of their channel, names are texts, and system exclusive messages are
    empty texts.
    """

    body: bytes
    name: str = ""
    port: int = 0  # each has 16 channels; tracks that do not say are on the lowest
    events: list[ChannelEvent] = field(default_factory=list)
    signatures: list[Signature] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class MidiFile:
    """The header, the tracks and the number of faults of each kind that were mended."""

    kind: int  # 0, 1 or 2
    division: int
    tracks: list[MidiTrack]
    repairs: Counter[str]

    @property
    def signatures(self) -> list[Signature]:
        """The time signatures that hold: those of the first track with any, the conductor's; the last at each tick.

        Programs write a default into tracks of notes, which says nothing.
        """
        conductor = next((track.signatures for track in self.tracks if track.signatures), [])
        return list({signature[0]: signature for signature in conductor}.values())

    def labelled(self, division: int, end: bytes = b"") -> bytes:
        """The file with tracks named by their number, in which the program of every note is its channel.

        Args:
            division: of the header.
            end: events to put at the end of every track.
        """
        programs = b"".join(bytes([0, 0xC0 | channel, channel]) for channel in range(16))
        parts = [struct.pack(">4sIHHH", b"MThd", 6, int(len(self.tracks) > 1), len(self.tracks), division)]
        for number, track in enumerate(self.tracks):
            name = str(number).encode()
            body = b"".join((b"\x00\xff\x03", bytes([len(name)]), name, programs, track.body, end, b"\x00\xff\x2f\x00"))
            parts += (b"MTrk", struct.pack(">I", len(body)), body)
        return b"".join(parts)


class UnreadableTrackError(ValueError):
    """The header or the events of a track cannot be followed to the end."""


def read_midi_file(data: bytes) -> MidiFile:
    """Reads the header and all tracks of a file.

    Chunks of other types are left out, and so is what follows a second header.

    Raises:
        RejectedFile: `unknown format` without a header, `broken` if it is cut off.
        UnreadableTrackError: Events are malformed or cut off.
    """
    if data[:4] != b"MThd":
        raise RejectedFile("unknown format", f"begins with {data[:4]!r}, not b'MThd'" if data else "empty file")
    if len(data) < HEADER_BYTES:
        raise RejectedFile("broken", f"ends inside the header, after {len(data)} bytes")
    size, kind, declared, division = struct.unpack(">IHHH", data[4:HEADER_BYTES])
    repairs: Counter[str] = Counter()
    at = 8 + size
    if size < 6 or not (_is_chunk(data, at) or at == len(data)):
        at = _next_track(data, HEADER_BYTES)
        if HEADER_BYTES not in (8 + size, at):
            raise UnreadableTrackError("the length of the header is wrong")
    repairs["header length"] += (8 + size, at) != (HEADER_BYTES, HEADER_BYTES)
    tracks: list[MidiTrack] = []
    n_events = 0
    # Beyond the number of tracks, only what follows without a gap: disks leave parts of older files behind others.
    while at + 8 <= len(data) and data[at : at + 4] != b"MThd":
        start, stop = at + 8, at + 8 + int.from_bytes(data[at + 4 : at + 8], "big")
        if data[at : at + 4] != b"MTrk":
            if _is_chunk(data, at) and stop <= len(data):
                at = stop
                continue
            if len(tracks) >= declared:
                break
            at = _next_track(data, at)
            repairs["chunk length"] += at < len(data)
            continue
        if len(tracks) == _MAX_TRACKS:
            raise RejectedFile("broken", f"more than {_MAX_TRACKS} tracks")
        track, at = _read_track(data, start, stop, len(tracks), repairs)
        tracks.append(track)
        n_events += len(track.events)
        if n_events > _MAX_EVENTS:
            raise UnreadableTrackError(f"more than {_MAX_EVENTS} messages that set the sound")
    if at < len(data) and b"MTrk".startswith(data[at : at + 4]):
        raise UnreadableTrackError("the last chunk is cut off")
    repairs["track count"] += declared != len(tracks)
    repairs["file type"] += kind > 2
    lowest = min((track.port for track in tracks if track.port >= 0), default=0)
    for track in tracks:
        if track.port < 0:
            track.port = lowest
            track.events = [event._replace(port=lowest) for event in track.events]
    return MidiFile(kind, division, tracks, +repairs)


def _is_chunk(data: bytes, at: int) -> bool:
    return at + 8 <= len(data) and data[at : at + 4].isalnum()


def _next_track(data: bytes, at: int) -> int:
    """Where the next track starts, or the file ends."""
    found = data.find(b"MTrk", at)
    return found if found >= 0 else len(data)


def _read_track(data: bytes, start: int, stop: int, number: int, repairs: Counter[str]) -> tuple[MidiTrack, int]:
    """Reads the track of the chunk with content from `start` to, as it says, `stop`; returns where the next one is.

    The end-of-track event overrules the length of the chunk, if the next track or the end of the file follows it.
    """

    def follows(at: int) -> bool:
        return at == len(data) or data.startswith(b"MTrk", at)

    try:
        if stop > len(data):
            raise UnreadableTrackError("the chunk is longer than the file")
        walk = _Walk(data, stop, number).run(start)
        if not (walk.ended or follows(stop) or _is_chunk(data, stop)):
            raise UnreadableTrackError("the chunk ends between events")
    except UnreadableTrackError:
        limit = _next_track(data, start)
        walk = _Walk(data, limit, number).run(start)
        if not (walk.ended or limit < len(data)) or not follows(walk.at):
            raise
    repairs["running status"] += walk.ran_on
    repairs["end of track"] += not walk.ended
    if walk.at != stop and (follows(walk.at) or not (follows(stop) or _is_chunk(data, stop))):
        repairs["chunk length"] += 1
        stop = walk.at
    return walk.track(start), stop


class _Walk:
    """Goes through the events of a track up to byte `limit` of `data`."""

    def __init__(self, data: bytes, limit: int, number: int) -> None:
        self.data, self.limit, self.number = data, limit, number
        self.at = 0
        self.ended = False  # by an end-of-track event
        self.ran_on = 0  # number of events without a status byte after the running status has ended
        self.name, self.port, self.tick, self.status, self.sysex = "", -1, 0, 0, b""
        self.found: list[tuple[int, int, bytes]] = []  # tick, status, data
        self.signatures: list[Signature] = []
        self.waits: list[bytes] = []  # delta times since `tick`
        self.skipped: list[tuple[int, int]] = []  # from and to, since `tick`
        self.since: list[tuple[int, int]] = []  # skipped since `status` was set
        self.edits: list[tuple[int, int, bytes]] = []  # what to put in place of some bytes
        self.last = 0  # end of the last event before an end of track

    def run(self, start: int) -> _Walk:
        self.at = start
        while not self.ended and self.at < self.limit:
            if (end := self._match(_SKIPPED).end()) > self.at:
                self.skipped.append((self.at, end))
                self.since.append((self.at, end))
                self.at = end
            if self.at < self.limit:
                self.last = self.at
                self._event()
        self.last = self.last if self.ended else self.at
        return self

    def track(self, start: int) -> MidiTrack:
        parts: list[bytes] = []
        done = start
        for begin, end, new in self.edits:
            parts += (self.data[done:begin], new)
            done = end
        body = b"".join((*parts, self.data[done : self.last]))
        events = [ChannelEvent(tick, self.number, self.port, status, data) for tick, status, data in self.found]
        return MidiTrack(body, self.name, self.port, events, self.signatures)

    def _match(self, pattern: re.Pattern[bytes]) -> re.Match[bytes]:
        found = pattern.match(self.data, self.at, self.limit)
        if found is None:
            raise UnreadableTrackError(f"no event at byte {self.at}")
        return found

    def _byte(self) -> int:
        if self.at >= self.limit:
            raise UnreadableTrackError("the last event is cut off")
        self.at += 1
        return self.data[self.at - 1]

    def _event(self) -> None:
        start, delta = self.at, self._match(_DELTA)
        self.at = delta.end()
        status = self._byte()
        if status == 0xFF or status in (0xF0, 0xF7):
            self.waits.append(delta[0])
            kind = self._byte() if status == 0xFF else 0
            if kind == _END and (self.at < self.limit or self.limit == len(self.data)):  # its length may be cut off
                self.ended, self.at = True, min(self.at + 1, self.limit)
                return
            length = self._match(_LENGTH)
            end = length.end() + _ticks(length[0])
            if end > self.limit:
                raise UnreadableTrackError("the last event is cut off")
            content, self.at = self.data[length.end() : end], end
            if status == 0xFF:
                self._meta(kind, content, delta.end())
            else:
                self.sysex = content if status == 0xF0 else self.sysex + content
                self.edits.append((delta.end(), end, _EMPTY_TEXT))
                self._add(0xF0, self.sysex)
            return
        if status > 0xF0:
            raise UnreadableTrackError(f"status {status:#x} at byte {self.at - 1}")
        if status >= 0x80:
            self.status = status
            self.at = delta.end() + 1
        else:  # runs on after a meta event or a system exclusive message, which should have ended it
            self.ran_on += 1
            self.status = self._running_status()
            self.at = delta.end()
        self.since.clear()
        self._channel_run(delta[0], start)

    def _meta(self, kind: int, content: bytes, at: int) -> None:
        if kind == _NAME:
            self.name = content.decode("utf-8", "replace")
            self.edits.append((at + 1, at + 2, b"\x01"))
        elif kind == _PORT and content:
            self.port = content[0]
        elif kind == _SIGNATURE and len(content) >= 2 and content[0] and content[1] < 8:
            self.signatures.append((self._now(), content[0], 1 << content[1]))

    def _running_status(self) -> int:
        for begin, end in self.since:
            for run in _STATUS.finditer(self.data, begin, end):
                self.status = run[1][0] if run[1] else self.status
        if not self.status:
            raise UnreadableTrackError(f"no status at byte {self.at - 1}")
        return self.status

    def _channel_run(self, delta: bytes, start: int) -> None:
        """Reads channel messages that share a status, the first from its data bytes on."""
        kind, size = self.status & 0xF0, 1 if self.status & 0xE0 == 0xC0 else 2
        pattern, end = (_ONE, _TWO)[size - 1], self.at + size
        data = self.data[self.at : end]
        if end > self.limit or max(data) > 0x7F:
            raise UnreadableTrackError(f"data bytes at byte {self.at}")
        while True:
            self.waits.append(delta)
            if kind == 0xC0:
                self.edits.append((end - 1, end, bytes([self.status & 0x0F])))
            if kind == 0xC0 or (kind == 0xB0 and data[0] in _SOUND_CONTROLLERS):
                self._add(self.status, data)
            found = pattern.match(self.data, end, self.limit)
            if found is None:
                break
            delta, end = found[1], found.end()
            data = self.data[end - size : end]
        self.at = end

    def _add(self, status: int, data: bytes) -> None:
        if len(self.found) == _MAX_EVENTS:
            raise UnreadableTrackError(f"more than {_MAX_EVENTS} messages that set the sound")
        self.found.append((self._now(), status, data))

    def _now(self) -> int:
        """Tick of the event that was read last."""
        for begin, end in self.skipped:
            self.waits += _DELTAS.findall(self.data, begin, end)
        self.tick += _ticks(b"".join(self.waits))
        self.skipped.clear()
        self.waits.clear()
        return self.tick


def _ticks(deltas: bytes) -> int:
    """Sum of delta times, each of seven bits a byte, all bytes but its last above 127."""
    if len(deltas) <= 8:  # as a few bytes mostly are
        total = time = 0
        for byte in deltas:
            time = time << 7 | byte & 127
            if byte < 128:
                total, time = total + time, 0
        return total
    values = np.frombuffer(deltas, np.uint8)
    shift, going_on = np.zeros(len(values), np.int64), values > 127
    for _ in range(3):  # a byte counts seven bits more for each byte that follows in its delta time
        shift += going_on
        going_on[:-1] &= going_on[1:]
        going_on[-1] = False
    return int(((values & 127).astype(np.int64) << 7 * shift).sum())
