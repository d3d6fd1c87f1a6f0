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

from mgen.formats.midi_container import ChannelEvent

CHANNELS = range(16)
DRUM_CHANNEL = 9  # channel 10 in the count of musicians
_DRUMS = 128  # added to the program of drums in a code

System = Literal["gm", "gs", "xg"]
Longs = NDArray[np.int64]

_UNIVERSAL_RESET = re.compile(rb"\x7e.\x09[\x01-\x03]", re.DOTALL)  # General MIDI 1 on, off, 2 on
_GS_WRITE = re.compile(rb"\x41.\x42\x12([\x00-\x7f]{3})([\x00-\x7f]+)", re.DOTALL)
_XG_WRITE = re.compile(rb"\x43[\x10-\x1f]\x4c([\x00-\x7f]{3})([\x00-\x7f]+)", re.DOTALL)
_RESETS = {"gs": {b"\x40\x00\x7f", b"\x00\x00\x7f"}, "xg": {b"\x00\x00\x7e", b"\x00\x00\x7f"}}  # addresses
_PART_MODE = {"gs": 0x15, "xg": 0x07}  # last byte of the address of a part's mode, which is 0 for melody, else drums
_PROGRAM, _PART = 128, 129  # kinds of a change, after the controllers
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

    def obey(self, change: _Change, system: System) -> None:
        high, low = self.parameter
        if change.kind == _PROGRAM:
            self._select_program(change.value, system)
        elif change.kind == _PART:
            self.drums = self.drum_part = change.value > 0
        elif change.kind == 0:
            self.bank = change.value
            self.drums |= change.at_once and _has_drums(change.value, system)
        elif change.kind != 6:  # a choice of a parameter; 98 and 99 choose others than registered ones
            self.parameter = {100: (high, change.value), 101: (change.value, low)}.get(change.kind, (127, 127))

    def _select_program(self, program: int, system: System) -> None:
        """Makes the program and the bank take effect.

        In XG a bank of voices makes a part melodic; files give bank 0 to the drums of channel 10 all the same.
        """
        self.program, self.has_program = program, True
        voices = system == "xg" and self.bank is not None and self.number != DRUM_CHANNEL
        self.drums = (self.drum_part and self.bank != 121 and not voices) or _has_drums(self.bank, system)


def _has_drums(bank: int | None, system: System) -> bool:
    """Whether a bank is of drums: 120 in General MIDI 2, 126 and 127 in XG; in GS these are of the MT-32."""
    return bank == 120 or (bank in (126, 127) and system != "gs")


@dataclass(slots=True)
class _Port:
    """A synthesiser of 16 channels."""

    system: System
    channels: list[_Channel] = field(default_factory=lambda: [_Channel(number) for number in CHANNELS])
    zones: dict[int, int] = field(default_factory=dict)  # manager channel, 0 or 15: number of members

    def code(self, number: int) -> int:
        """The program of a channel, and `_DRUMS` more for drums. A zone has none, and the program of its manager."""
        channel = self.channels[number]
        if 1 <= number <= self.zones.get(0, 0):
            manager = self.channels[0]
        elif 15 - self.zones.get(15, 0) <= number < 15:
            manager = self.channels[15]
        else:
            return channel.program + _DRUMS * channel.drums
        return (channel if channel.has_program else manager).program

    def obey(self, change: _Change) -> bool:
        """Changes the state; returns whether other channels than that of the message may have changed."""
        if change.reset:
            self.channels = [_Channel(number) for number in CHANNELS]
            self.system, self.zones = self.system if change.reset == "gm" else change.reset, {}
            return True
        channel = self.channels[change.channel]
        channel.obey(change, self.system)
        if change.kind == 6 and channel.parameter == _ZONE and channel.number in (0, 15):
            self.zones[channel.number] = min(change.value, 15)  # the newer zone takes channels from the older
            other = 15 - channel.number
            self.zones[other] = max(min(self.zones.get(other, 0), 14 - change.value), 0)
        return bool(self.zones)


@dataclass(slots=True)
class _Change:
    """What one message changes."""

    tick: int
    track: int
    port: int
    channel: int = -1
    kind: int = -1  # number of a controller, `_PROGRAM` or `_PART`; -1 for a reset
    value: int = 0
    reset: System | None = None
    at_once: bool = False  # of a bank: no program change follows it


def _change_of(event: ChannelEvent) -> _Change | None:
    """What a message changes; None for nothing here."""
    change = _Change(event.tick, event.track, event.port, event.status & 15)
    if event.status < 0xC0:
        change.kind, change.value = event.data
    elif event.status < 0xF0:
        change.kind, change.value = _PROGRAM, event.data[0]
    elif _UNIVERSAL_RESET.match(event.data):
        change.reset = "gm"
    elif gs := _GS_WRITE.match(event.data):
        return _written(change, "gs", gs[1], gs[2][:-1])  # the last byte is a checksum
    elif xg := _XG_WRITE.match(event.data):
        return _written(change, "xg", xg[1], xg[2])
    else:
        return None
    return change


def _written(change: _Change, system: System, address: bytes, values: bytes) -> _Change | None:
    """What bytes written to an address change."""
    if address in _RESETS[system]:
        change.reset = system
        return change
    group, part, first = address
    mode = _PART_MODE[system]
    is_part = (group == 0x40 and part >> 4 == 1) if system == "gs" else (group == 0x08 and part in CHANNELS)
    if not is_part or not first <= mode < first + len(values):
        return None
    block = part & 15
    change.kind, change.value = _PART, values[mode - first]
    # GS numbers its blocks as the channels from 1 to 16, but with block 0 for channel 10.
    change.channel = block if system == "xg" or block > 9 else block - 1 if block else DRUM_CHANNEL
    return change


class ChannelSounds:
    """The program of every channel, and whether it is of drums, at every tick.

    Args:
        events: of all tracks, those of each in the order of the file.
    """

    def __init__(self, events: Iterable[ChannelEvent]) -> None:
        changes = [change for event in events if (change := _change_of(event))]
        changes.sort(key=lambda change: change.tick)
        _mark_banks_without_program(changes)
        self._codes: dict[tuple[int, int], dict[int, int]] = defaultdict(dict)  # port, channel: tick: code
        self._arrays: dict[tuple[int, int], tuple[Longs, Longs]] = {}  # port, channel: ticks and codes, once asked for
        self._own: dict[tuple[int, int, int], dict[int, int]] = defaultdict(dict)  # track, port, channel: tick: code
        # XG tells voices apart by the low byte of the bank, GS by the high byte; many files begin without a reset.
        has_gs_banks = any(change.kind == 0 and 0 < change.value < 64 for change in changes)
        ports: dict[int, _Port] = defaultdict(lambda: _Port("gs" if has_gs_banks else "gm"))
        for tick, some in groupby(changes, lambda change: change.tick):
            self._follow(tick, list(some), ports)

    def _follow(self, tick: int, changes: list[_Change], ports: dict[int, _Port]) -> None:
        """Makes the changes of one tick: of the tracks that reset a port first, else in the order of the file."""
        resets = {change.track for change in changes if change.reset}
        if resets:
            changes.sort(key=lambda change: change.track not in resets)
        changed: set[tuple[int, int]] = set()
        own: dict[tuple[int, int], dict[int, list[_Change]]] = defaultdict(dict)  # port, channel: track: changes
        for change in changes:
            everywhere = ports[change.port].obey(change)
            changed.update((change.port, number) for number in (CHANNELS if everywhere else (change.channel,)))
            if change.kind not in (-1, _PART):
                own[change.port, change.channel].setdefault(change.track, []).append(change)
        for number, channel in changed:
            self._codes[number, channel][tick] = ports[number].code(channel)
        for (number, channel), tracks in own.items():
            port = ports[number]
            merged = port.channels[channel]
            for track in tracks if len(tracks) > 1 else ():
                port.channels[channel] = replace(merged)
                for change in tracks[track]:
                    port.channels[channel].obey(change, port.system)
                self._own[track, number, channel][tick] = port.code(channel)
            port.channels[channel] = merged

    def changes(self, track: int, port: int, channel: int) -> tuple[Longs, Longs]:
        """(C,) ticks from which, for the notes of a track on a channel, each of the (C,) codes of a sound holds."""
        ticks, codes = self._of_channel(port, channel)
        if own := self._own.get((track, port, channel)):
            codes = codes.copy()
            codes[np.searchsorted(ticks, list(own))] = list(own.values())
        return ticks, codes

    def _of_channel(self, port: int, channel: int) -> tuple[Longs, Longs]:
        """The changes for the notes of a track without messages."""
        if (port, channel) not in self._arrays:
            codes = {-1: _DRUMS * (channel == DRUM_CHANNEL)} | self._codes.get((port, channel), {})
            columns = (np.fromiter(column, np.int64, len(codes)) for column in (codes, codes.values()))
            self._arrays[port, channel] = (next(columns), next(columns))
        return self._arrays[port, channel]


def program_of(code: int) -> tuple[int, bool]:
    """The program of a code, and whether it is of drums."""
    return code % _DRUMS, code >= _DRUMS


def _mark_banks_without_program(changes: Sequence[_Change]) -> None:
    """Marks the choices of a bank without a program change after them, before the next choice on their channel."""
    followed: set[tuple[int, int]] = set()
    for change in reversed(changes):
        channel = (change.port, change.channel)
        if change.kind == _PROGRAM:
            followed.add(channel)
        elif change.kind == 0:
            change.at_once = channel not in followed
            followed.discard(channel)
