"""Which program, and drums or not, sounds on a MIDI channel at each time.

Follows the messages of all tracks in the order of time, as a synthesiser does. Programs and banks: General MIDI 1 and
2, Roland GS (Sound Canvas SC-88 manual), Yamaha XG (XG Specifications 1.26); zones: MIDI Polyphonic Expression 1.0.
Where these leave a choice, it is that of TiMidity++.

Messages of one tick take effect before its notes, a system reset first. For the notes of a track that has messages for
their channel at a tick itself, these come last: the standard gives simultaneous tracks no order, and writers with more
than 16 parts let tracks share a channel.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mgen.midi_container import ChannelEvent

CHANNELS = range(16)
DRUM_CHANNEL = 9  # channel 10 in the count of musicians
_DRUMS = 128  # added to the program of drums in a code

System = Literal["gm", "gs", "xg"]

_UNIVERSAL_RESET = re.compile(rb"\x7e.\x09[\x01-\x03]", re.DOTALL)  # General MIDI 1 on, off, 2 on
_GS_WRITE = re.compile(rb"\x41.\x42\x12([\x00-\x7f]{3})([\x00-\x7f]+)", re.DOTALL)
_XG_WRITE = re.compile(rb"\x43[\x10-\x1f]\x4c([\x00-\x7f]{3})([\x00-\x7f]+)", re.DOTALL)
_GS_RESETS, _XG_RESETS = {b"\x40\x00\x7f", b"\x00\x00\x7f"}, {b"\x00\x00\x7e", b"\x00\x00\x7f"}  # addresses
_GS_MODE, _XG_MODE = 0x15, 0x07  # last byte of the address of a part's mode: 0 melody, else drums
_ZONE = (0, 6)  # registered parameter of the zones


@dataclass(slots=True)
class _Channel:
    """What a channel plays, and what was chosen but waits for a program change."""

    number: int
    program: int = 0
    has_program: bool = False  # since the last reset
    drums: bool = False
    drum_part: bool = False  # drums unless a bank says otherwise
    bank: int | None = None  # high byte
    parameter: tuple[int, int] = (127, 127)  # registered parameter that data entry sets; (127, 127) for none

    def __post_init__(self) -> None:
        self.drums = self.drum_part = self.number == DRUM_CHANNEL

    def set_part(self, drums: bool) -> None:
        self.drums = self.drum_part = drums

    def select_bank(self, bank: int, at_once: bool, system: System | None) -> None:
        self.bank = bank
        self.drums |= at_once and _has_drums(bank, system)

    def select_program(self, program: int, system: System | None) -> None:
        """Makes the program and the bank take effect. Bank 121 is melody, and in XG every bank that is not of drums."""
        self.program, self.has_program = program, True
        melody = self.bank == 121 or (self.bank is not None and system == "xg")
        self.drums = (self.drum_part and not melody) or (self.bank is not None and _has_drums(self.bank, system))

    def select_parameter(self, number: int, value: int) -> None:
        high, low = self.parameter
        self.parameter = {100: (high, value), 101: (value, low)}.get(number, (127, 127))


def _has_drums(bank: int, system: System | None) -> bool:
    """Whether a bank is of drums: 120 in General MIDI 2, 126 and 127 in XG; in GS the last two are of the MT-32."""
    return bank == 120 or (bank in (126, 127) and system != "gs")


@dataclass(slots=True)
class _Port:
    """A synthesiser of 16 channels."""

    channels: list[_Channel] = field(default_factory=lambda: [_Channel(number) for number in CHANNELS])
    system: System | None = None
    zones: dict[int, int] = field(default_factory=dict)  # manager channel, 0 or 15: number of members

    def code(self, channel: _Channel) -> int:
        """The program of a channel, and `_DRUMS` more for drums. A zone has none, and the program of its manager."""
        if 1 <= channel.number <= self.zones.get(0, 0):
            manager = 0
        elif 15 - self.zones.get(15, 0) <= channel.number < 15:
            manager = 15
        else:
            return channel.program + _DRUMS * channel.drums
        return (channel if channel.has_program else self.channels[manager]).program

    def obey(self, event: ChannelEvent, at_once: bool) -> None:
        """Changes the state by a message; a bank of drums `at_once` if no program change follows it."""
        if event.status == 0xF0:
            self._exclusive(event.data)
            return
        channel = self.channels[event.status & 15]
        _obey(channel, event, at_once, self.system)
        if event.data[0] == 6 and channel.parameter == _ZONE and channel.number in (0, 15):
            members, other = event.data[1], 15 - channel.number
            self.zones[channel.number] = min(members, 15)  # the newer zone takes channels from the older
            self.zones[other] = max(min(self.zones.get(other, 0), 14 - members), 0)

    def _exclusive(self, data: bytes) -> None:
        if system := _reset_of(data):
            self.channels = [_Channel(number) for number in CHANNELS]
            self.system, self.zones = system, {}
        elif gs := _GS_WRITE.match(data):
            (group, block, first), values = gs[1], gs[2][:-1]  # the last byte is a checksum
            if group == 0x40 and block >> 4 == 1 and first <= _GS_MODE < first + len(values):
                number = (block & 15) - (block & 15 < 10) if block & 15 else DRUM_CHANNEL
                self.channels[number].set_part(values[_GS_MODE - first] > 0)
        elif xg := _XG_WRITE.match(data):
            (group, part, first), values = xg[1], xg[2]
            if group == 0x08 and part in CHANNELS and first <= _XG_MODE < first + len(values):
                self.channels[part].set_part(values[_XG_MODE - first] > 0)


def _obey(channel: _Channel, event: ChannelEvent, at_once: bool, system: System | None) -> None:
    number = event.data[0]
    if event.status < 0xC0 and number == 0:
        channel.select_bank(event.data[1], at_once, system)
    elif event.status >= 0xC0:
        channel.select_program(number, system)
    elif number != 6:
        channel.select_parameter(number, event.data[1])


def _reset_of(data: bytes) -> System | None:
    """The system to which a system exclusive message resets a synthesiser; None if it does not."""
    if _UNIVERSAL_RESET.match(data):
        return "gm"
    if (gs := _GS_WRITE.match(data)) and gs[1] in _GS_RESETS:
        return "gs"
    return "xg" if (xg := _XG_WRITE.match(data)) and xg[1] in _XG_RESETS else None


class ChannelSounds:
    """The program of every channel, and whether it is of drums, at every tick.

    Args:
        events: of all tracks, those of each in the order of the file.
    """

    def __init__(self, events: Iterable[ChannelEvent]) -> None:
        ordered = sorted(events, key=lambda event: event.tick)
        self._codes: dict[tuple[int, int], dict[int, int]] = defaultdict(dict)  # port, channel: tick: code
        self._own: dict[tuple[int, int, int], dict[int, int]] = defaultdict(dict)  # track, port, channel: tick: code
        ports: dict[int, _Port] = defaultdict(_Port)
        for tick, some in groupby(zip(ordered, _takes_effect_at_once(ordered), strict=True), lambda one: one[0].tick):
            self._obey(tick, list(some), ports)

    def _obey(self, tick: int, batch: list[tuple[ChannelEvent, bool]], ports: dict[int, _Port]) -> None:
        resets = {event.track for event, _ in batch if event.status == 0xF0 and _reset_of(event.data)}
        writers: dict[tuple[int, int], set[int]] = defaultdict(set)  # port and channel: the tracks that set it
        for event, at_once in sorted(batch, key=lambda one: one[0].track not in resets):
            ports[event.port].obey(event, at_once)
            everywhere = event.status == 0xF0 or event.data[0] == 6 or ports[event.port].zones
            for number in CHANNELS if everywhere else (event.status & 15,):
                writers[event.port, number] |= {event.track} if event.status < 0xF0 else set()
        for (port, number), tracks in writers.items():
            channel = ports[port].channels[number]
            self._codes[port, number][tick] = ports[port].code(channel)
            for track in tracks if len(tracks) > 1 else ():
                own = replace(channel)
                for event, at_once in batch:
                    if event.track == track and event.status & 15 == number and event.status < 0xF0:
                        _obey(own, event, at_once, ports[port].system)
                self._own[track, port, number][tick] = ports[port].code(own)

    def changes(self, track: int, port: int, channel: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(C,) ticks from which, for the notes of a track on a channel, each of the (C,) codes of a sound holds."""
        start = {-1: _DRUMS * (channel == DRUM_CHANNEL)}
        codes = start | self._codes.get((port, channel), {}) | self._own.get((track, port, channel), {})
        return np.fromiter(codes, np.int64, len(codes)), np.fromiter(codes.values(), np.int64, len(codes))


def program_of(code: int) -> tuple[int, bool]:
    """The program of a code, and whether it is of drums."""
    return code % _DRUMS, code >= _DRUMS


def _takes_effect_at_once(events: Sequence[ChannelEvent]) -> list[bool]:
    """(E,) whether a choice of a bank has no program change after it, before the next choice on its channel."""
    out, has_program = [False] * len(events), set()
    for i in range(len(events) - 1, -1, -1):
        channel = (events[i].port, events[i].status & 15)
        if events[i].status & 0xF0 == 0xC0:
            has_program.add(channel)
        elif events[i].status < 0xC0 and events[i].data[0] == 0:
            out[i] = channel not in has_program
            has_program.discard(channel)
    return out
