"""The bytes of small MIDI files, event by event."""

from __future__ import annotations

import struct
from itertools import pairwise

END = b"\xff\x2f\x00"


def delta(ticks):
    """A time in MIDI's seven-bit bytes."""
    out = [ticks & 127]
    while ticks := ticks >> 7:
        out.insert(0, ticks & 127 | 128)
    return bytes(out)


def note(tick, length=240, pitch=60, channel=0):
    """The two events of a note, as every function here: (tick, bytes)."""
    return [(tick, bytes([0x90 | channel, pitch, 64])), (tick + length, bytes([0x80 | channel, pitch, 0]))]


def program(number, channel=0, tick=0):
    return [(tick, bytes([0xC0 | channel, number]))]


def control(number, value, channel=0, tick=0):
    return [(tick, bytes([0xB0 | channel, number, value]))]


def sysex(text, tick=0):
    """A system exclusive message of hexadecimal digits, without F0 and F7."""
    data = bytes.fromhex(text) + b"\xf7"
    return [(tick, b"\xf0" + delta(len(data)) + data)]


def meta(kind, data, tick=0):
    return [(tick, bytes([0xFF, kind]) + delta(len(data)) + data)]


def tempo(microseconds, tick=0):
    return meta(0x51, microseconds.to_bytes(3, "big"), tick)


def signature(numerator, denominator, tick=0):
    return meta(0x58, bytes([numerator, denominator.bit_length() - 1, 24, 8]), tick)


def track(*parts, end=END):
    """The events of a track, in the order of their ticks; those of one tick as given."""
    events = sorted((event for part in parts for event in part), key=lambda event: event[0])
    ticks = [0, *(tick for tick, _ in events)]
    waits = [after - before for before, after in pairwise(ticks)]
    body = b"".join(delta(wait) + data for wait, (_, data) in zip(waits, events, strict=True))
    return body + (b"\x00" + end if end else b"")


def chunk(body, length=None, kind=b"MTrk"):
    return kind + struct.pack(">I", len(body) if length is None else length) + body


def header(count, kind=1, division=480):
    return struct.pack(">4sIHHH", b"MThd", 6, kind, count, division & 0xFFFF)


def midi_file(*tracks, kind=1, division=480):
    return header(len(tracks), kind, division) + b"".join(map(chunk, tracks))
