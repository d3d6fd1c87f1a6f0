from __future__ import annotations

import struct

import numpy as np
import pretty_midi
import pytest
from hypothesis import given
from hypothesis import strategies as st
from midi_bytes import chunk, control, delta, header, meta, midi_file, note, signature, sysex, tempo, track

from mgen.corpus.demo import COLLECTIONS, compose
from mgen.errors import RejectedFile
from mgen.formats.mending import MAX_QUARTERS, mend
from mgen.formats.midi import parse_midi

TUNE = track(tempo(500_000), *(note(480 * i, 480, 60 + i) for i in range(12)))
GOOD = midi_file(TUNE)
DUO = midi_file(track(note(0, 480, 60)), track(note(480, 480, 72)))


def rmid(data, size):
    chunks = b"RMIDINFO\x03\x00\x00\x00abc\x00data" + struct.pack("<I", size) + data
    return b"RIFF" + struct.pack("<I", len(chunks)) + chunks


def notes_of(score):
    return sorted((n.time, n.duration, n.pitch) for part in score.tracks for n in part.notes)


@pytest.mark.parametrize(
    ("data", "reason", "says"),
    [
        (b"", "unknown format", "empty file"),
        (b"MThe rest is text\n", "unknown format", "b'MThe'"),
        (GOOD[:10], "broken", "after 10 bytes"),
        (GOOD[:40], "broken", "chunk length"),
        (GOOD.replace(b"\x90\x3c\x40", b"\x90\x3c\xb0"), "broken", "velocity=176"),
        (b"RIFF\x04\x00\x00\x00RMID", "broken", "without a data chunk"),
        (midi_file(TUNE, TUNE, kind=2), "type 2", "independent"),
        (midi_file(TUNE, division=0), "zero division", "0 ticks per quarter"),
        (midi_file(TUNE, division=0xE800), "zero division", "0 ticks per frame"),
        (midi_file(TUNE, division=0xFFC0), "SMPTE time", "1 frames per second, expected 24, 25, 29, 30"),
        (midi_file(track(tempo(500_000))), "no notes", "tracks"),
        (midi_file(track(note(0, channel=9))), "only drums", "1 notes"),
    ],
)
def test_what_is_wrong_is_named(data, reason, says):
    with pytest.raises(RejectedFile) as caught:
        parse_midi(data)
    assert caught.value.reason == reason
    assert says in caught.value.detail
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("tracks", "held"),
    [
        ([signature(3, 4), signature(4, 4)], [(0, 3, 4)]),  # a default in the track of notes
        ([signature(3, 4), signature(4, 4, 1920)], [(0, 3, 4)]),
        ([[], signature(3, 4), signature(4, 4)], [(0, 3, 4)]),
        ([signature(4, 4) + signature(6, 8) + signature(7, 8, 960)], [(0, 6, 8), (960, 7, 8)]),
        ([signature(0, 4), signature(5, 4)], [(0, 5, 4)]),  # of an impossible one nothing is known
        # symusic's own list of more than 24 is in no order at one tick
        (
            [[event for tick in range(0, 960, 24) for n in (2, 3) for event in signature(n, 4, tick)]],
            [(tick, 3, 4) for tick in range(0, 960, 24)],
        ),
    ],
)
def test_time_signatures_are_the_conductor_s_and_at_one_tick_the_later(tracks, held):
    score, _ = parse_midi(midi_file(*(track(note(0, 12), events) for events in tracks)))
    assert [(one.time, one.numerator, one.denominator) for one in score.time_signatures] == held


@pytest.mark.parametrize("wrong_by", [0, -20, 1000])
def test_a_riff_file_holds_the_same_music(wrong_by):
    wrapped = rmid(GOOD, len(GOOD) + wrong_by) + b"LIST\x04\x00\x00\x00abcd"
    score, repairs = parse_midi(wrapped)
    assert notes_of(score) == notes_of(parse_midi(GOOD)[0]) and not repairs


@pytest.mark.parametrize("collection", COLLECTIONS)
def test_reads_the_notes_that_pretty_midi_reads(tmp_path, collection):
    path = tmp_path / "piece.mid"
    compose(collection, 0).dump_midi(path)
    other = pretty_midi.PrettyMIDI(str(path))
    score, repairs = parse_midi(path.read_bytes())
    ours = sorted((note.pitch, note.velocity, part.is_drum) for part in score.tracks for note in part.notes)
    theirs = sorted((note.pitch, note.velocity, part.is_drum) for part in other.instruments for note in part.notes)
    assert ours == theirs and not repairs


def lengths(*offsets):
    """A file of chunks whose lengths are wrong by `offsets`."""
    bodies = (TUNE, track(note(0, 480, 40)))
    return header(2) + b"".join(chunk(body, len(body) + by) for body, by in zip(bodies, offsets, strict=True))


MENDED = [
    ("8-byte header", DUO[:4] + struct.pack(">I", 8) + DUO[8:14] + b"\0\0" + DUO[14:], DUO, {"header length": 1}),
    ("bytes after the header", DUO[:14] + b"\0\0" + DUO[14:], DUO, {"header length": 1}),
    ("header of length 0", DUO[:4] + struct.pack(">I", 0) + DUO[8:], DUO, {"header length": 1}),
    ("too few tracks declared", header(1) + DUO[14:], DUO, {"track count": 1}),
    ("no track declared", header(0) + DUO[14:], DUO, {"track count": 1}),
    ("too many tracks declared", header(7) + DUO[14:], DUO, {"track count": 1}),
    ("type 7", header(2, kind=7) + DUO[14:], DUO, {"file type": 1}),
    ("a track of type 2", midi_file(TUNE, kind=2), GOOD, {}),
    *((f"a chunk {by:+}", lengths(by, 0), lengths(0, 0), {"chunk length": 1}) for by in (-9, -3, -1, 1, 3, 60, 10**6)),
    *((f"the last chunk {by:+}", lengths(0, by), lengths(0, 0), {"chunk length": 1}) for by in (-9, -1, 1, 10**6)),
    ("chunks of length 0", lengths(-len(TUNE), 0), lengths(0, 0), {"chunk length": 1}),
    ("no end of track", midi_file(track(note(0), end=b""), TUNE), midi_file(track(note(0)), TUNE), {"end of track": 1}),
    ("an end cut off", GOOD[:-1], GOOD, {"chunk length": 1}),
    ("other chunks", DUO[:14] + chunk(b"abcd", kind=b"XFIH") + DUO[14:] + chunk(b"x", kind=b"JUNK"), DUO, {}),
    ("zeros at the end", DUO + bytes(100), DUO, {}),
    # the end of an older, longer file that stayed on the disk
    ("an older file behind", DUO + b"\x40\x00\x81" + chunk(track(note(0, 480, 90))), DUO, {}),
    ("a second file behind", DUO + GOOD, DUO, {}),
    (
        "a status that ran on over a text",
        midi_file(track([(0, b"\x90\x3c\x40"), (10, b"\xff\x01\x01a"), (20, b"\x3c\x00")])),
        midi_file(track(note(0, 20))),
        {"running status": 1},
    ),
    (
        "a status that ran on over system exclusive",
        midi_file(track([(0, b"\x90\x3c\x40")], sysex("7e7f0901", tick=10), [(20, b"\x3c\x00")])),
        midi_file(track(note(0, 20))),
        {"running status": 1},
    ),
]


@pytest.mark.parametrize(("data", "sound", "repairs"), [case[1:] for case in MENDED], ids=[case[0] for case in MENDED])
def test_a_container_is_mended_and_the_faults_counted(data, sound, repairs):
    score, found = parse_midi(data)
    expected, none = parse_midi(sound)
    assert notes_of(score) == notes_of(expected) and not none
    assert dict(found) == repairs


def test_what_pretty_midi_reads_of_a_mended_file(tmp_path):
    """pretty_midi reads the file with an extra track and a chunk of another type too."""
    (tmp_path / "a.mid").write_bytes(header(1) + DUO[14:] + chunk(b"abcd", kind=b"XFIH"))
    (tmp_path / "b.mid").write_bytes(DUO)
    other = pretty_midi.PrettyMIDI(str(tmp_path / "b.mid"))
    theirs = sorted((round(n.start * 960), n.pitch) for part in other.instruments for n in part.notes)
    score, _ = parse_midi((tmp_path / "a.mid").read_bytes())
    assert [(time, pitch) for time, _, pitch in notes_of(score)] == theirs


@pytest.mark.parametrize("cut", [1, 2, 3, 7, 11, 14])
def test_a_file_cut_off_is_broken(cut):
    with pytest.raises(RejectedFile, match="broken"):
        parse_midi(DUO[: -4 - cut])


def test_events_that_cannot_be_followed_are_left_to_symusic():
    """A tune request, F6, has no place in a file."""
    score, repairs = parse_midi(midi_file(track(note(0), [(300, b"\xf6")], note(480, channel=9))))
    assert [(part.is_drum, len(part.notes)) for part in score.tracks] == [(False, 1), (True, 1)]
    assert dict(repairs) == {"unread events": 1}


@pytest.mark.parametrize(
    ("frames", "ticks", "mspq"), [(24, 1, 500_000), (25, 40, 500_000), (29, 4, 500_500), (30, 80, 500_000)]
)
def test_smpte_time_is_seconds(frames, ticks, mspq):
    """Two notes of a second; a tempo and a time signature of the file mean nothing."""
    second = (30 if frames == 29 else frames) * ticks
    ignored = (tempo(900_000), meta(0x58, b"\x03\x02\x18\x08"))
    body = track(*ignored, note(second, second, 60), note(3 * second, second, 62))
    score, repairs = parse_midi(midi_file(body, division=(256 - frames) << 8 | ticks))
    quarter = score.ticks_per_quarter
    assert notes_of(score) == [(2 * quarter, 2 * quarter, 60), (6 * quarter, 2 * quarter, 62)]
    assert [(one.time, one.mspq) for one in score.tempos] == [(0, mspq)] and not len(score.time_signatures)
    assert dict(repairs) == {"SMPTE time": 1}


@given(st.data())
def test_a_mutated_file_is_read_or_rejected(data):
    broken = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 8))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    try:
        score, _ = mend(parse_midi(bytes(broken[: data.draw(st.integers(0, len(broken)))]))[0])
    except RejectedFile:
        return
    onset = np.concatenate([part.notes.numpy()["time"] for part in score.tracks])
    assert onset.min() >= 0 and onset.max() / score.ticks_per_quarter <= MAX_QUARTERS


@pytest.mark.slow
def test_five_thousand_tracks_are_read():
    score, _ = parse_midi(midi_file(*[track([(0, b"\xc0\x05")], note(0))] * 5000))
    assert len(score.tracks) == score.note_num() == 5000


def test_a_million_notes_are_read_or_too_long():
    # 60 notes a quarter are dense but within the length; one an eighth is not: 500,000 quarters
    def file(length):
        return midi_file((b"\x00\x90\x3c\x40" + delta(length) + b"\x80\x3c\x00") * 1_000_000 + b"\x00\xff\x2f\x00")

    assert mend(parse_midi(file(8))[0])[0].note_num() == 1_000_000
    with pytest.raises(RejectedFile, match="too long: 500000 quarter notes"):
        mend(parse_midi(file(240))[0])


def test_the_pedal_of_a_channel_is_that_of_all_its_tracks():
    """Also if it is in a track without notes; the pedal of another channel is not."""
    down, up = control(64, 127, tick=10), control(64, 0, tick=900)
    left, right, other = (
        track(note(0)),
        track(note(240), note(0, channel=1)),
        track(control(64, 90, 1), up, tempo(10**6)),
    )
    score, _ = parse_midi(midi_file(left, right, track(control(7, 100), down), other))
    found = [[(one.time, one.value) for one in part.controls if one.number == 64] for part in score.tracks]
    assert [part.notes[0].time for part in score.tracks] == [0, 240, 0]
    assert found == [[(10, 127), (900, 0)], [(10, 127), (900, 0)], [(0, 90)]]
    assert score.note_num() == 3
