from __future__ import annotations

import struct

import numpy as np
import pretty_midi
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgen import midi
from mgen.corpus.demo import COLLECTIONS, compose
from mgen.errors import RejectedFile
from mgen.midi import parse_midi


def delta(ticks):
    """A time in MIDI's seven-bit bytes."""
    out = [ticks & 127]
    while ticks := ticks >> 7:
        out.insert(0, ticks & 127 | 128)
    return bytes(out)


def note(wait, length, pitch=60, channel=0):
    return delta(wait) + bytes([0x90 | channel, pitch, 64]) + delta(length) + bytes([0x80 | channel, pitch, 0])


def tempo(microseconds, wait=0):
    return delta(wait) + b"\xff\x51\x03" + microseconds.to_bytes(3, "big")


def midi_file(*events, kind=1, division=480):
    track = b"".join(events) + b"\x00\xff\x2f\x00"
    return struct.pack(">4sIHHH4sI", b"MThd", 6, kind, 1, division, b"MTrk", len(track)) + track


def rmid(data):
    chunks = b"RMIDINFO\x03\x00\x00\x00abc\x00data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(chunks)) + chunks


GOOD = midi_file(tempo(500_000), *[note(0, 480, pitch) for pitch in range(60, 72)])
HOUR = 3600 * 960  # ticks at 480 a quarter, 120 quarters a minute


@pytest.mark.parametrize(
    ("data", "reason", "says"),
    [
        (b"", "unknown format", "empty file"),
        (b"MThe rest is text\n", "unknown format", "b'MThe'"),
        (GOOD[:10], "broken", "after 10 bytes"),
        (GOOD[:40], "broken", "chunk length"),
        (GOOD.replace(b"\x90\x3c\x40", b"\x90\x3c\xb0"), "broken", "velocity=176"),
        (b"RIFF\x04\x00\x00\x00RMID", "broken", "without a data chunk"),
        (midi_file(note(0, 480), kind=2), "type 2", "independent"),
        (midi_file(note(0, 480), division=0), "zero division", "0 ticks"),
        (midi_file(note(0, 480), division=0xE728), "SMPTE time", "video frames"),  # -25 frames, 40 ticks each
        (midi_file(tempo(0), note(0, 480)), "tempo", "0 microseconds"),
        (midi_file(tempo(16_777_215), note(0, 480)), "tempo", "3.6 quarter notes"),
        (midi_file(tempo(1000), note(0, 480)), "tempo", "60000.0 quarter notes"),
        (midi_file(tempo(500_000)), "no notes", "tracks"),
        (midi_file(note(0, 480, channel=9)), "only drums", "1 notes"),
        (midi_file(note(0, 480), note(0, 2 * HOUR)), "long note", "7200 seconds"),
        (midi_file(note(0, 480), note(480 * 30_000, 480)), "too long", "30001 quarter notes"),
        (midi_file(*[note(delta_, 480) for delta_ in [2**28 - 1] * 10]), "broken", "32 bits"),
    ],
)
def test_what_is_wrong_is_named(data, reason, says):
    with pytest.raises(RejectedFile) as caught:
        parse_midi(data)
    assert caught.value.reason == reason
    assert says in caught.value.detail
    assert "\n" not in str(caught.value)


def test_a_note_is_long_in_seconds_not_in_ticks():
    ticks = 480 * 1000  # quarters: 500 s at 120 a minute, 1000 s at 60
    assert parse_midi(midi_file(tempo(500_000), note(0, ticks))).note_num() == 1
    # 400 quarters at 120 are 200 s, then 600 at 60 are 600 s: 800 s together
    held = delta(0) + b"\x90\x3c\x40" + tempo(1_000_000, wait=480 * 400) + delta(480 * 600) + b"\x80\x3c\x00"
    with pytest.raises(RejectedFile, match="800 seconds"):
        parse_midi(midi_file(tempo(500_000), held))


def test_a_riff_file_holds_the_same_music():
    plain, wrapped = parse_midi(GOOD), parse_midi(rmid(GOOD))
    assert plain.note_num() == 12
    assert [list(track.notes) for track in plain.tracks] == [list(track.notes) for track in wrapped.tracks]


@pytest.mark.parametrize("collection", COLLECTIONS)
def test_reads_the_notes_that_pretty_midi_reads(tmp_path, collection):
    path = tmp_path / "piece.mid"
    compose(collection, 0).dump_midi(path)
    other = pretty_midi.PrettyMIDI(str(path))
    tracks = parse_midi(path.read_bytes()).tracks
    ours = sorted((note.pitch, note.velocity, track.is_drum) for track in tracks for note in track.notes)
    theirs = sorted((note.pitch, note.velocity, part.is_drum) for part in other.instruments for note in part.notes)
    assert ours == theirs


@given(st.data())
def test_a_mutated_file_is_read_or_rejected(data):
    broken = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 8))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    try:
        score = parse_midi(bytes(broken[: data.draw(st.integers(0, len(broken)))]))
    except RejectedFile:
        return
    onset = np.concatenate([track.notes.numpy()["time"] for track in score.tracks])
    assert onset.min() >= 0 and onset.max() / score.ticks_per_quarter <= midi.MAX_QUARTERS


def many_tracks(count):
    chunk = note(0, 480) + b"\x00\xff\x2f\x00"
    track = struct.pack(">4sI", b"MTrk", len(chunk)) + chunk
    return struct.pack(">4sIHHH", b"MThd", 6, 1, count, 480) + track * count


@pytest.mark.slow
def test_five_thousand_tracks_are_read():
    score = parse_midi(many_tracks(5000))
    assert len(score.tracks) == score.note_num() == 5000


def test_a_million_notes_are_read_or_too_long():
    # 60 notes a quarter are dense but within the length; one an eighth is not: 500,000 quarters
    assert parse_midi(midi_file(note(0, 8) * 1_000_000)).note_num() == 1_000_000
    with pytest.raises(RejectedFile, match="too long: 500000 quarter notes"):
        parse_midi(midi_file(note(0, 240) * 1_000_000))


def test_a_note_of_a_day_is_long():
    with pytest.raises(RejectedFile, match="long note: 86400 seconds"):
        parse_midi(midi_file(note(0, 480), note(0, 24 * HOUR)))


def test_a_note_of_a_day_in_ticks_is_not_long_when_they_are_short():
    # 82,944,000 ticks at 32,767 a quarter and 2000 quarters a minute are 76 seconds
    assert parse_midi(midi_file(tempo(30_000), note(0, 24 * HOUR), division=32_767)).note_num() == 1
