"""What sounds on a channel, worked by hand from the specifications."""

from __future__ import annotations

import pytest
from midi_bytes import control, meta, midi_file, note, program, sysex, track

from mgen.formats.midi import parse_midi

GM_ON, GM2_ON = "7e7f0901", "7e7f0903"
GS_RESET = "4110421240007f0041"
XG_ON = "43104c00007e00"
DRUMS = -1


def gs_part(block, value):
    return f"41104212401{block:x}15{value:02x}{(0x40 - 0x25 - block - value) % 128:02x}"


def xg_part(channel, value):
    return f"43104c08{channel:02x}07{value:02x}"


def bank(number, channel, tick=0):
    return control(0, number, channel, tick)


def zone(members, manager=0, tick=0):
    """The configuration of an MPE zone: registered parameter 6."""
    return [*control(101, 0, manager, tick), *control(100, 6, manager, tick), *control(6, members, manager, tick)]


def sounds(*tracks):
    """Program of each note, -1 for drums, by onset; notes must not start together."""
    score, _ = parse_midi(midi_file(*map(track, tracks)))
    found = {note.time: DRUMS if part.is_drum else part.program for part in score.tracks for note in part.notes}
    assert len(found) == score.note_num()
    return [found[time] for time in sorted(found)]


def beats(n, channel=0, first=0):
    """`n` notes, one each 480 ticks."""
    return [event for i in range(n) for event in note(480 * (first + i), 240, 60, channel)]


PORT_0 = meta(0x21, b"\x00")
PIANO = meta(0x21, b"\x07") + beats(1, first=40)  # on another port, so that no file is of drums alone

CASES = {
    "default": ((beats(1), beats(1, 9, first=1)), [0, DRUMS]),
    "in a set-up track": ((program(56) + program(32, 1), beats(2), beats(1, 1, first=2)), [56, 56, 32]),
    "in a set-up track at the end": ((beats(2), program(56)), [56, 56]),
    "in mid-track": ((program(5) + beats(3) + program(9, tick=480),), [5, 9, 9]),
    "in mid-track, by another track": ((program(5) + beats(3), program(9, tick=700)), [5, 5, 9]),
    "under a note": ((program(5) + note(0, 900) + program(9, tick=100) + beats(1, first=2),), [5, 9]),
    "kept by the channel": ((program(5) + beats(1), beats(2, first=1)), [5, 5, 5]),
    # more than 16 parts share channels, and each part sets its own program
    "each track its own": ((program(5) + beats(1), program(9) + beats(1, first=1)), [5, 9]),
    "ports are apart": (
        (meta(0x21, b"\x00") + program(5) + beats(2), meta(0x21, b"\x01") + program(9, tick=10) + beats(1, first=2)),
        [5, 5, 9],
    ),
    "a kit is no melody": ((program(25, 9) + beats(2, 9),), [DRUMS, DRUMS]),
    # GS
    "GS drums on 11": ((sysex(GS_RESET) + sysex(gs_part(0xA, 2), 1) + beats(2, 10, first=1),), [DRUMS, DRUMS]),
    "GS block 1 is channel 1": ((sysex(gs_part(1, 1)) + beats(1) + beats(1, 1, first=1),), [DRUMS, 0]),
    "GS block 0 is channel 10": ((sysex(gs_part(0, 0)) + beats(1, 9) + beats(1, 8, first=1),), [0, 0]),
    "GS block 9 is channel 9": ((sysex(gs_part(9, 1)) + beats(1, 8) + beats(1, 9, first=1),), [DRUMS, DRUMS]),
    "GS block F is channel 16": ((sysex(gs_part(0xF, 1)) + beats(1, 15),), [DRUMS]),
    "GS drums off again": ((sysex(gs_part(2, 1)) + sysex(gs_part(2, 0), 400) + beats(2, 1),), [DRUMS, 0]),
    "GS drums until a reset": ((sysex(gs_part(2, 1)) + sysex(GS_RESET, 400) + beats(2, 1),), [DRUMS, 0]),
    "GS drums whatever the bank": (
        (sysex(GS_RESET) + sysex(gs_part(2, 1), 1) + bank(0, 1, 2) + program(8, 1, 3) + beats(1, 1, first=1),),
        [DRUMS],
    ),
    "GS bank 127 is melody": ((sysex(GS_RESET) + bank(127, 1, 1) + program(8, 1, 2) + beats(1, 1, first=1),), [8]),
    "GS without a reset": ((bank(8, 2) + program(4, 2) + bank(127, 1) + program(8, 1) + beats(1, 1),), [8]),
    "GS of another device": ((sysex("41114212401a150100") + beats(1, 10),), [DRUMS]),
    # XG
    "XG bank 127": ((sysex(XG_ON) + bank(127, 10, 1) + program(0, 10, 2) + beats(2, 10, first=1),), [DRUMS, DRUMS]),
    "XG bank 126": ((sysex(XG_ON) + bank(126, 10, 1) + program(0, 10, 2) + beats(1, 10, first=1),), [DRUMS]),
    "XG bank 127 without a reset": ((bank(127, 10) + program(0, 10) + beats(1, 10),), [DRUMS]),
    "XG bank 127 from another track": ((beats(1, 10), bank(127, 10) + program(0, 10)), [DRUMS]),
    "XG bank 127 without a program": ((sysex(XG_ON) + bank(127, 10, 1) + beats(1, 10, first=1),), [DRUMS]),
    "XG bank 127 waits for the program": ((bank(127, 10) + program(0, 10, 400) + beats(2, 10),), [0, DRUMS]),
    "XG bank 0 is melody again": (
        (bank(127, 10) + program(0, 10) + bank(0, 10, 400) + program(7, 10, 400) + beats(2, 10),),
        [DRUMS, 7],
    ),
    "XG bank 0 on channel 10 is drums": (
        (sysex(XG_ON) + bank(0, 9, 1) + program(0, 9, 2) + beats(1, 9, first=1),),
        [DRUMS],
    ),
    "XG bank 64 is effects": ((sysex(XG_ON) + bank(64, 3, 1) + program(17, 3, 2) + beats(1, 3, first=1),), [17]),
    "XG part mode": ((sysex(XG_ON) + sysex(xg_part(4, 2), 1) + program(0, 4, 2) + beats(1, 4, first=1),), [DRUMS]),
    "XG part of melody on 10": ((sysex(xg_part(9, 0)) + program(40, 9) + beats(1, 9),), [40]),
    "XG part of drums with a bank of voices": (
        (sysex(XG_ON) + sysex(xg_part(0, 1), 1) + bank(0, 0, 2) + program(3, 0, 3) + beats(1, first=1),),
        [3],
    ),
    # General MIDI 2
    "GM2 bank 120": ((sysex(GM2_ON) + bank(120, 3, 1) + program(0, 3, 2) + beats(1, 3, first=1),), [DRUMS]),
    "GM2 melody on 10": ((sysex(GM2_ON) + bank(121, 9, 1) + program(40, 9, 2) + beats(1, 9, first=1),), [40]),
    "GM2 bank 121 waits for the program": ((bank(121, 9) + beats(2, 9) + program(40, 9, 400),), [DRUMS, 40]),
    "GM2 drums until General MIDI on": ((bank(120, 3) + program(5, 3) + sysex(GM_ON, 400) + beats(2, 3),), [DRUMS, 0]),
    "GM2 melody on 10 until XG on": ((bank(121, 9) + program(5, 9) + sysex(XG_ON, 400) + beats(2, 9),), [5, DRUMS]),
    "a reset before the programs of its tick": ((program(7) + beats(1), sysex(GM_ON)), [7]),
    "a reset in another track forgets programs": ((program(7) + beats(2), sysex(GM_ON, 400)), [7, 0]),
    # MPE
    "MPE lower zone": ((zone(15) + beats(1, 9) + beats(1, 1, first=1),), [0, 0]),
    "MPE lower zone of 8": ((zone(8) + beats(1, 8) + beats(1, 9, first=1),), [0, DRUMS]),
    "MPE lower zone of 9": ((zone(9) + beats(1, 9),), [0]),
    "MPE upper zone of 6": ((zone(6, 15) + beats(1, 9) + beats(1, 8, first=1),), [0, 0]),
    "MPE upper zone of 5": ((zone(5, 15) + beats(1, 9),), [DRUMS]),
    "MPE zone begins": ((beats(2, 9) + zone(15, tick=400),), [DRUMS, 0]),
    "MPE zone ends": ((zone(15) + beats(2, 9) + zone(0, tick=400),), [0, DRUMS]),
    "MPE zones share channels": (
        (zone(15) + zone(3, 15, 100) + beats(2, 9) + zone(10, 15, 400) + beats(1, 1, first=2),),
        [0, 0, 0],
    ),
    "MPE zone taken by a newer one": ((zone(15) + zone(7, 15, 10) + zone(0, 15, 400) + beats(2, 9),), [0, DRUMS]),
    "MPE members follow the manager": ((zone(15) + program(40, 0) + beats(1, 9),), [40]),
    "MPE members with programs": ((zone(15) + program(40, 0) + program(41, 9) + beats(1, 9),), [41]),
    "MPE zone never drums": ((zone(15) + bank(127, 9) + program(5, 9) + beats(1, 9),), [5]),
    "parameter 6 without registration": ((control(99, 0) + control(98, 6) + control(6, 15) + beats(1, 9),), [DRUMS]),
    "parameter 6 on another channel": ((zone(15, manager=3) + beats(1, 9),), [DRUMS]),
    "pitch bend range": ((control(101, 0) + control(100, 0) + control(6, 12) + beats(1, 9),), [DRUMS]),
}


@pytest.mark.parametrize("name", CASES)
def test_what_sounds(name):
    tracks, expected = CASES[name]
    assert sounds(*(PORT_0 + events for events in tracks), PIANO) == [*expected, 0]


def test_tracks_that_name_no_port_are_on_the_lowest():
    assert sounds(program(5) + program(9, 1), meta(0x21, b"\x02") + beats(1) + beats(1, 1, first=1)) == [5, 9]


def test_a_track_is_split_where_its_program_changes():
    name, pedal = meta(3, b"solo"), control(64, 127) + control(64, 0, tick=900)
    score, _ = parse_midi(midi_file(track(name + program(5) + pedal + beats(3) + program(9, tick=480))))
    assert [(part.name, part.program, len(part.notes), len(part.pedals)) for part in score.tracks] == [
        ("solo", 5, 1, 1),
        ("solo", 9, 2, 1),
    ]


def test_running_status_and_long_waits_keep_the_time():
    """A hand-made track: a bend, two notes and a program change in running status, 200,000 ticks apart."""
    wait = b"\x8c\x9a\x40"  # 12 << 14 | 26 << 7 | 64 = 200,000
    body = b"".join(
        [
            b"\x00\xc0\x05" + wait + b"\x07",  # at 200,000 to program 7
            b"\x00\xe0\x00\x40" + wait + b"\x00\x41",
            b"\x00\x90\x3c\x40" + wait + b"\x3c\x00" + wait + b"\x3e\x40\x01\x3e\x00",  # notes at 400,000 and 800,000
            b"\x00\xff\x2f\x00",
        ]
    )
    for tick, expected in ((799_999, [9, 9]), (800_000, [7, 9]), (800_001, [7, 7])):
        other = track(program(9, tick=400_000 if tick < 800_000 else tick))
        score, _ = parse_midi(midi_file(body, other))
        found = {note.time: part.program for part in score.tracks for note in part.notes}
        assert [found[400_000], found[800_000]] == expected
