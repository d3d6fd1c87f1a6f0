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
from mgen.midi import read_midi


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
        (b"", "not MIDI", "empty file"),
        (b"MThe rest is text\n", "not MIDI", "b'MThe'"),
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
def test_what_is_wrong_is_named(tmp_path, data, reason, says):
    path = tmp_path / "file.mid"
    path.write_bytes(data)
    with pytest.raises(RejectedFile) as caught:
        read_midi(path)
    assert caught.value.reason == reason
    assert says in caught.value.detail
    assert "\n" not in str(caught.value)


def test_what_is_no_readable_file_is_named(tmp_path, monkeypatch):
    (tmp_path / "good.mid").write_bytes(GOOD)
    monkeypatch.setattr(midi, "MAX_BYTES", len(GOOD) - 1)
    for name, reason in (("none.mid", "missing"), (".", "unreadable"), ("good.mid", "too large")):
        with pytest.raises(RejectedFile) as caught:
            read_midi(tmp_path / name)
        assert caught.value.reason == reason


def test_a_note_is_long_in_seconds_not_in_ticks(tmp_path):
    path = tmp_path / "file.mid"
    ticks = 480 * 1000  # quarters: 500 s at 120 a minute, 1000 s at 60
    path.write_bytes(midi_file(tempo(500_000), note(0, ticks)))
    assert read_midi(path).note_num() == 1
    # 400 quarters at 120 are 200 s, then 600 at 60 are 600 s: 800 s together
    held = delta(0) + b"\x90\x3c\x40" + tempo(1_000_000, wait=480 * 400) + delta(480 * 600) + b"\x80\x3c\x00"
    path.write_bytes(midi_file(tempo(500_000), held))
    with pytest.raises(RejectedFile, match="800 seconds"):
        read_midi(path)


def test_a_riff_file_holds_the_same_music(tmp_path):
    (tmp_path / "a.mid").write_bytes(GOOD)
    (tmp_path / "a.rmi").write_bytes(rmid(GOOD))
    plain, wrapped = (read_midi(tmp_path / name) for name in ("a.mid", "a.rmi"))
    assert plain.note_num() == 12
    assert [list(track.notes) for track in plain.tracks] == [list(track.notes) for track in wrapped.tracks]


@pytest.mark.parametrize("collection", COLLECTIONS)
def test_reads_the_notes_that_pretty_midi_reads(tmp_path, collection):
    path = tmp_path / "piece.mid"
    compose(collection, 0).dump_midi(path)
    other = pretty_midi.PrettyMIDI(str(path))
    ours = sorted(
        (note.pitch, note.velocity, track.is_drum) for track in read_midi(path).tracks for note in track.notes
    )
    theirs = sorted((note.pitch, note.velocity, part.is_drum) for part in other.instruments for note in part.notes)
    assert ours == theirs


@given(st.data())
def test_a_mutated_file_is_read_or_rejected(tmp_path_factory, data):
    broken = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 8))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "mutated.mid"
    path.write_bytes(broken[: data.draw(st.integers(0, len(broken)))])
    try:
        score = read_midi(path)
    except RejectedFile:
        return
    onset = np.concatenate([track.notes.numpy()["time"] for track in score.tracks])
    assert onset.min() >= 0 and onset.max() / score.ticks_per_quarter <= midi.MAX_QUARTERS
