"""Tabs are built with PyGuitarPro's own model and written by it; the expected notes were worked out by hand.

Ticks: a quarter note has 960, an eighth 480, a 4/4 bar 3840. Open strings 1 to 6: 64, 59, 55, 50, 45, 40.
"""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path

import guitarpro
import numpy as np
import pytest
from gpif_files import file_system, gpif, packed, zipped
from guitarpro import models
from hypothesis import given
from hypothesis import strategies as st

from mgen.errors import RejectedFile
from mgen.formats import guitar_pro
from mgen.formats.guitar_pro import parse_guitar_pro
from mgen.formats.mending import mend

VERSIONS = {"gp3": (3, 0, 0), "gp4": (4, 0, 6), "gp5": (5, 1, 0)}  # that PyGuitarPro writes
TUPLETS = {"t": (3, 2), "q": (5, 4), "s": (7, 4)}
KINDS = {"~": models.NoteType.tie, "x": models.NoteType.dead}


def tab(*bars, signature=(4, 4), signs=None, drums=False, tempo=120, capo=0, tuning=(64, 59, 55, 50, 45, 40)):
    """A song of one track. A bar is `beat, beat, ...` or two voices of it; a beat is `length notes`.

    `8. 3/1+5/2` is a dotted eighth with fret 3 on string 1 and fret 5 on string 2, `8t` a triplet eighth, `r` a rest,
    `~/1` a tie and `x/1` a dead note on string 1. `signs` has attributes of the bars' headers by number from 0.
    """
    song = models.Song(tempo=tempo, tracks=[], measureHeaders=[])
    strings = [models.GuitarString(number, pitch) for number, pitch in enumerate(tuning, 1)]
    track = models.Track(song, strings=strings, measures=[], offset=capo, isPercussionTrack=drums, name="Solo")
    track.channel = models.MidiChannel(channel=9 if drums else 0, effectChannel=9 if drums else 1, instrument=26)
    song.tracks.append(track)
    for number, bar in enumerate(bars):
        header = models.MeasureHeader(number=number + 1)
        values = (signs or {}).get(number, {})
        upper, lower = values.get("signature", signature)
        header.timeSignature = models.TimeSignature(upper, models.Duration(lower))
        for name, value in values.items():
            if name != "signature":
                setattr(header, name, value)
        song.addMeasureHeader(header)
        measure = models.Measure(track, header)
        track.measures.append(measure)
        for voice, beats in zip(measure.voices, (bar,) if isinstance(bar, str) else bar, strict=False):
            voice.beats = [beat(voice, text) for text in beats.split(",") if text.strip()]
    return song


def beat(voice, text):
    length, notes = text.split()
    value = int(length.rstrip(".tqs"))
    tuplet = models.Tuplet(*TUPLETS.get(length[-1], (1, 1)))
    out = models.Beat(voice, duration=models.Duration(value, "." in length, tuplet), status=models.BeatStatus.normal)
    if notes == "r":
        out.status = models.BeatStatus.rest
        return out
    for fret, string in (note.split("/") for note in notes.split("+")):
        kind = KINDS.get(fret, models.NoteType.normal)
        out.notes.append(models.Note(out, value=int(fret) if fret.isdigit() else 0, string=int(string), type=kind))
    return out


def beats(song, track=0):
    return [beat for bar in song.tracks[track].measures for voice in bar.voices for beat in voice.beats]


def note(song, at):
    """The first note of a beat, to be given an effect."""
    return beats(song)[at].notes[0]


def write(song, version="gp5"):
    if version == "gp6":
        return packed(file_system(gpif(song, 6)))
    if version == "gp7":
        return zipped(gpif(song))
    stream = io.BytesIO()
    guitarpro.write(song, stream, version=VERSIONS[version])
    return stream.getvalue()


def played(song, version="gp5", unroll=True):
    """(onset, duration, pitch) of the first track's notes."""
    score = parse_guitar_pro(write(song, version), unroll=unroll)
    return [(note.time, note.duration, note.pitch) for note in score.tracks[0].notes]


every_version = pytest.mark.parametrize("version", [*VERSIONS, "gp6", "gp7"])


@every_version
@pytest.mark.parametrize(
    ("bars", "expected"),
    [
        pytest.param(
            ["4 0/1, 8 1/1, 8 2/1, 2 3/1"],
            [(0, 960, 64), (960, 480, 65), (1440, 480, 66), (1920, 1920, 67)],
            id="plain",
        ),
        pytest.param(
            ["4. 0/6, 8. 3/5, 16 2/4, 1 r"],
            [(0, 1440, 40), (1440, 720, 48), (2160, 240, 52)],
            id="dots",
        ),
        pytest.param(
            ["8t 0/1, 8t 1/1, 8t 2/1, 16q 0/2, 16q 1/2, 16q 2/2, 16q 3/2, 16q 4/2, 4 0/3"],
            [
                *[(0, 320, 64), (320, 320, 65), (640, 320, 66)],
                *[(960 + 192 * step, 192, 59 + step) for step in range(5)],
                (1920, 960, 55),
            ],
            id="triplet and quintuplet",
        ),
        pytest.param(
            # 4/7 of an eighth are 274 2/7 ticks; seven of them are two quarters, with no drift
            ["8s 0/1, 8s 0/2, 8s 0/1, 8s 0/2, 8s 0/1, 8s 0/2, 8s 0/1, 4 3/1"],
            [
                *[(0, 274, 64), (274, 275, 59), (549, 274, 64), (823, 274, 59)],
                *[(1097, 274, 64), (1371, 275, 59), (1646, 274, 64), (1920, 960, 67)],
            ],
            id="septuplet",
        ),
        pytest.param(
            ["4 r, 4 0/1+1/2+0/3, 2 r"],
            [(960, 960, 55), (960, 960, 60), (960, 960, 64)],
            id="rests and a chord",
        ),
        pytest.param(["4 5/1, 4 ~/1, 2 5/1"], [(0, 1920, 69), (1920, 1920, 69)], id="tie inside a bar"),
        pytest.param(
            ["2 r, 2 5/1", "2 ~/1, 2 7/1", "1 ~/1", "1 ~/1"],
            [(1920, 3840, 69), (5760, 1920 + 2 * 3840, 71)],
            id="ties across bars",
        ),
        pytest.param(
            ["4 5/1+3/2, 4 ~/1+4/2, 2 r"], [(0, 960, 62), (0, 1920, 69), (960, 960, 63)], id="one tied of two"
        ),
        pytest.param(["4 5/1, 4 r, 4 ~/1, 4 r"], [(0, 2880, 69)], id="tie over a rest"),
        pytest.param(["4 5/1, 2. r", "1 r", "1 ~/1"], [(0, 960, 69), (7680, 3840, 69)], id="tie over a bar of rest"),
        pytest.param(["4 ~/1, 4 5/1, 2 r"], [(960, 960, 69)], id="tie to nothing"),
        pytest.param(["4 5/1, 4 x/1, 4 ~/1, 4 5/1"], [(0, 960, 69), (2880, 960, 69)], id="dead note and a tie to it"),
        pytest.param(["4 1/1, 4 2/1", "4 3/1"], [(0, 960, 65), (960, 960, 66), (3840, 960, 67)], id="under-full"),
        pytest.param(
            # the second half note lasts to the bar line, the quarter after it is left out, the next bar is in time
            ["2. 1/1, 2 2/1, 4 3/1", "4 4/2"],
            [(0, 2880, 65), (2880, 960, 66), (3840, 960, 63)],
            id="over-full",
        ),
    ],
)
def test_bars_are_heard_as_written(version, bars, expected):
    assert played(tab(*bars), version) == expected


@every_version
@pytest.mark.parametrize(
    ("signature", "bars", "expected"),
    [
        ((6, 8), ["4. 0/1, 8 2/1, 8 3/1, 8 5/1", "4. 7/1"], [0, 1440, 1920, 2400, 2880]),
        ((7, 8), ["4 0/1, 4 2/1, 4. 3/1", "8 5/1"], [0, 960, 1920, 3360]),
        ((3, 4), ["2 0/1", "4 2/1"], [0, 2880]),
    ],
)
def test_a_bar_is_as_long_as_its_time_signature(version, signature, bars, expected):
    song = tab(*bars, signature=signature)
    assert [onset for onset, _, _ in played(song, version)] == expected
    (found,) = parse_guitar_pro(write(song, version)).time_signatures
    assert (found.time, found.numerator, found.denominator) == (0, *signature)


def test_time_signatures_are_said_where_they_change_as_played():
    signs = {0: {"isRepeatOpen": True}, 1: {"signature": (3, 4), "repeatClose": 1}, 2: {"signature": (3, 4)}}
    score = parse_guitar_pro(write(tab("1 0/1", "2. 1/1", "2. 2/1", signs=signs)))
    assert [(sign.time, sign.numerator) for sign in score.time_signatures] == [(0, 4), (3840, 3), (6720, 4), (10560, 3)]
    assert [note.time for note in score.tracks[0].notes] == [0, 3840, 6720, 10560, 13440]


def test_two_voices_keep_their_own_time_and_ties():
    song = tab(("2 0/1, 2 3/1", "4. 0/5, 8 2/5, 2 r"), ("2 ~/1, 2 5/1", "4 ~/5, 2. 3/5"))
    assert played(song) == [
        (0, 1440, 45),
        (0, 1920, 64),
        (1440, 3360, 47),  # an eighth, a half rest and a tied quarter in the next bar: held until 4800
        (1920, 3840, 67),
        (4800, 2880, 48),
        (5760, 1920, 69),
    ]


def test_two_voices_on_one_string_hold_their_own_notes():
    assert played(tab(("2 0/1, 2 3/1", "4 5/1, 4 ~/1, 2 r"))) == [(0, 1920, 64), (0, 1920, 69), (1920, 1920, 67)]
    assert played(tab(("2 0/1, 2 r", "2. r, 4 ~/1"))) == [(0, 1920, 64)]  # the second voice has nothing to hold


O = {"isRepeatOpen": True}  # noqa: E741 - |:


def C(times, ending=0):  # :|, so many times in all
    return {"repeatClose": times - 1, "repeatAlternative": ending}


def E(*numbers):  # an alternative ending
    return {"repeatAlternative": sum(1 << number - 1 for number in numbers)}


def to(name):
    return {"fromDirection": models.DirectionSign(name)}


def sign(name):
    return {"direction": models.DirectionSign(name)}


@pytest.mark.parametrize(
    ("signs", "expected"),
    [
        pytest.param([{}, O, C(2), {}], "012123", id="once more"),
        pytest.param([O | C(3), {}], "0001", id="one bar three times"),
        pytest.param([{}, C(2), {}], "01012", id="from the start without a sign"),
        pytest.param([O, C(2), O, C(2)], "01012323", id="back to back"),
        pytest.param([O | C(2), O | C(3), {}], "001112", id="bar by bar"),
        pytest.param([O, O, C(2), {}, C(2), {}], "01212340121234" + "5", id="nested"),
        pytest.param([O, {}, O, C(2), {}], "0123234", id="an opening that is never closed"),
        pytest.param(
            [{}, O, C(2), {}, {}, C(2), {}, O, C(2), {}], "0" + "12123451212345" + "6" + "7878" + "9", id="two closes"
        ),
        pytest.param([O, C(2, 1), E(2), {}], "01023", id="first and second ending"),
        pytest.param([O, C(2, 1), C(2, 2), {}], "01023", id="a close on the last ending"),
        pytest.param([O, C(3, 3), E(3), {}], "01010" + "23", id="endings 1+2, 3"),
        pytest.param([O, C(2, 3), E(3), {}], "01010" + "23", id="endings say more often than the close"),
        pytest.param([O, E(1), C(2), E(2), {}, {}], "012034" + "5", id="endings of two bars"),
        pytest.param([O, C(4, 5), E(2), C(4), E(4)], "010230104", id="endings 1+3, 2, 4"),
        pytest.param(
            [O, E(1), C(2, 2), O, E(1), C(4, 14), {}], "0102" + "34353535" + "6", id="a close on the last alone"
        ),
        pytest.param([O, C(2, 1), E(2), O, C(2, 1), E(2)], "0102" + "3435", id="endings twice"),
        pytest.param([O, C(2, 1), E(2), {}, E(4)], "01" + "0234", id="an ending that no pass comes to"),
        pytest.param([O, C(2, 1), E(2), O, C(2, 4), E(4)], "0102" + "3435", id="endings counted on"),
        pytest.param([O, C(2), E(2), {}], "0101" + "23", id="a second ending alone"),
        pytest.param([O, O, C(2, 1), C(2, 2), {}, C(2)], "0121345" * 2, id="endings inside a repeat"),
        pytest.param([O, C(3, 1), {}], "0102", id="a first ending alone"),
        pytest.param([O, C(2), to("Da Capo"), {}], "01012" + "0123", id="da capo"),
        pytest.param([O, to("Da Capo"), C(2, 1), E(2)], "01" + "0123", id="da capo before an ending was played"),
        pytest.param([sign("Segno"), to("Da Segno"), to("Da Capo")], "01" + "012" + "012", id="two directions"),
        pytest.param([O, C(2), sign("Fine"), to("Da Capo al Fine"), {}], "010123" + "012", id="da capo al fine"),
        pytest.param(
            [{}, to("Da Coda"), to("Da Capo al Coda"), sign("Coda"), {}], "012" + "01" + "34", id="da capo al coda"
        ),
        pytest.param([{}, sign("Segno"), O | C(2), to("Da Segno"), {}], "01223" + "1234", id="dal segno"),
        pytest.param(
            [{}, sign("Segno"), to("Da Coda"), {}, to("Da Segno al Coda"), {}, sign("Coda"), O | C(2)],
            "01234" + "12" + "677",
            id="dal segno al coda",
        ),
        pytest.param(
            [sign("Segno Segno"), to("Da Double Coda"), to("Da Segno Segno al Double Coda"), sign("Double Coda")],
            "012" + "01" + "3",
            id="double coda",
        ),
        pytest.param([{}, to("Da Segno al Coda"), {}], "012", id="no segno"),
        pytest.param([{}, sign("Segno"), to("Da Segno al Coda"), {}], "012" + "123", id="no coda"),
        pytest.param(
            [sign("Segno"), O, C(2, 1), E(2), to("Da Coda"), to("Da Segno al Coda"), sign("Coda")],
            "012" + "1345" + "0134" + "6",
            id="the last ending after a direction",
        ),
        pytest.param(
            [{}, sign("Segno"), O | C(2), to("Da Coda"), {}, to("Da Segno al Coda"), {}, sign("Coda"), C(2), O | C(2)],
            "0122345" + "123" + "7899",
            id="a close after a coda whose opening was left",
        ),
        pytest.param([sign("Coda"), to("Da Coda"), to("Da Capo al Coda")], "012" + "01" + "012", id="a coda behind"),
    ],
)
def test_bars_are_played_in_order(signs, expected):
    """The fret says which bar it is. Most of the orders are those of other players too."""
    bars = [f"1 {number}/1" for number in range(len(signs))]
    song = tab(*bars, signs=dict(enumerate(signs)))
    notes = played(song)
    assert played(song, "gp7") == notes
    assert "".join(str(pitch - 64) for _, _, pitch in notes) == expected
    assert [onset for onset, _, _ in notes] == [3840 * played for played in range(len(expected))]


@pytest.mark.parametrize("version", ["gp3", "gp4"])
def test_older_versions_write_repeats_in_their_own_way(version):
    signs = [O, C(3, 3), E(3), O | C(2)]
    notes = played(tab("1 0/1", "1 1/1", "1 2/1", "1 3/1", signs=dict(enumerate(signs))), version)
    assert "".join(str(pitch - 64) for _, _, pitch in notes) == "01010233"


def test_each_bar_is_there_once_when_not_unrolled():
    song = tab("1 0/1", "1 1/1", "1 2/1", signs={0: O, 1: C(9), 2: to("Da Capo")})
    assert [pitch for _, _, pitch in played(song, unroll=False)] == [64, 65, 66]


@pytest.mark.parametrize(
    ("bars", "signs", "expected"),
    [
        pytest.param(
            # the whole note is held into bar 1; played again, bar 1 follows fret 7 and strikes fret 5 again
            ["1 5/1", "2 ~/1, 2 7/1", "1 0/2"],
            {1: O | C(2)},
            [(0, 5760, 69), (5760, 1920, 71), (7680, 1920, 69), (9600, 1920, 71), (11520, 3840, 59)],
            id="tie into a repeat",
        ),
        pytest.param(
            # both endings hold the note before them
            ["1 5/1", "2 ~/1, 2 7/1", "4 ~/1, 2. r"],
            {0: O, 1: C(2, 1), 2: E(2)},
            [(0, 5760, 69), (5760, 1920, 71), (7680, 3840, 69), (11520, 960, 71)],
            id="tie into endings",
        ),
        pytest.param(
            # in the file the second ending is tied to fret 5 of bar 0 by way of a first ending that holds it too
            ["1 5/1", "1 ~/1", "1 ~/1"],
            {0: O, 1: C(2, 1), 2: E(2)},
            [(0, 7680, 69), (7680, 7680, 69)],
            id="tie over the first ending",
        ),
    ],
)
def test_a_tie_holds_the_note_played_before(bars, signs, expected):
    assert played(tab(*bars, signs=signs)) == expected


def tempo_at(song, at, tempo):
    beats(song)[at].effect.mixTableChange = models.MixTableChange(tempo=models.MixTableItem(tempo))
    return song


@every_version
def test_tempo_changes_inside_a_bar_and_returns_with_a_repeat(version):
    song = tempo_at(tab("4 0/1, 4 1/1, 2 2/1", "1 0/1", signs={0: O, 1: C(2)}), 2, 60)
    score = parse_guitar_pro(write(song, version))
    assert [(tempo.time, tempo.mspq) for tempo in score.tempos] == [
        *[(0, 500_000), (1920, 1_000_000)],
        *[(7680, 500_000), (9600, 1_000_000)],
    ]


@every_version
def test_capo_and_tuning_are_heard(version):
    drop_d = (64, 59, 55, 50, 45, 38)
    assert played(tab("4 0/6, 4 2/6, 2 0/1", tuning=drop_d), version) == [
        (0, 960, 38),
        (960, 960, 40),
        (1920, 1920, 64),
    ]
    assert played(tab("4 0/6, 4 2/6, 2 0/1", capo=3), version) == [(0, 960, 43), (960, 960, 45), (1920, 1920, 67)]


@every_version
def test_a_drum_has_the_pitch_of_its_fret(version):
    kit = tab("8 36/6+42/1, 8 42/1, 8 38/5+42/1, 8 42/1", drums=True, capo=2)
    song = tab("1 0/1")
    kit.tracks[0].song = song
    song.tracks.append(kit.tracks[0])
    guitar, drums = parse_guitar_pro(write(song, version)).tracks
    assert not guitar.is_drum and guitar.program == 26
    kick = 35 if version == "gp6" else 36  # version 6 has an element, whose kick is the acoustic one
    assert drums.is_drum and [note.pitch for note in drums.notes] == [kick, 42, 42, 38, 42, 42]


@every_version
def test_a_grace_note_takes_its_time_from_the_beat_before(version):
    song = tab("4 0/1+0/2, 4 5/1, 2 7/1", "4 9/1")
    note(song, 1).effect.grace = models.GraceEffect(fret=4, duration=32)
    note(song, 3).effect.grace = models.GraceEffect(fret=8, duration=16)
    # a 32nd has 120 ticks, a 16th 240; the one of bar 2 comes before the bar line
    assert played(song, version) == [
        *[(0, 960, 59), (0, 840, 64), (840, 120, 68), (960, 960, 69)],  # string 2 rings on
        *[(1920, 1680, 71), (3600, 240, 72), (3840, 960, 73)],
    ]


def test_a_grace_note_takes_half_of_a_short_beat():
    song = tab("32 0/1, 2 5/1")
    note(song, 1).effect.grace = models.GraceEffect(fret=4, duration=16)
    assert played(song) == [(0, 60, 64), (60, 60, 68), (120, 1920, 69)]


def test_a_grace_note_on_the_beat_delays_its_note():
    song = tab("4 5/1+3/2, 32 7/1, 2 0/1")
    note(song, 0).effect.grace = models.GraceEffect(fret=4, duration=16, isOnBeat=True)
    note(song, 1).effect.grace = models.GraceEffect(fret=6, duration=16, isOnBeat=True)  # takes half of a 32nd
    assert played(song) == [
        *[(0, 960, 62), (0, 240, 68), (240, 720, 69)],
        *[(960, 60, 70), (1020, 60, 71), (1080, 1920, 64)],
    ]


def test_before_the_first_beat_there_is_no_time_for_a_grace_note():
    song = tab("2 5/1, 2 0/2", signs={0: O | C(2)})
    note(song, 0).effect.grace = models.GraceEffect(fret=4, duration=32)
    once = [(0, 120, 68), (120, 1800, 69), (1920, 1920, 59)]
    assert played(song) == once + [(onset + 3840, duration, pitch) for onset, duration, pitch in once]


def test_how_long_a_note_sounds_may_differ_from_its_length():
    song = tab("4 0/1, 4 0/2, 4 0/3, 4 0/3", "4 0/1")
    note(song, 0).effect.staccato = True
    note(song, 1).durationPercent = 0.75
    note(song, 2).durationPercent = 4.0  # until its string sounds again
    note(song, 3).durationPercent = 4.0
    assert played(song) == [(0, 480, 64), (960, 720, 59), (1920, 960, 55), (2880, 3840, 55), (3840, 960, 64)]


NODES = [
    (12, 76),
    (7, 83),
    (19, 83),
    (5, 88),
    (4, 92),
    (9, 92),
    (3, 95),
    (10, 98),
    (15, 98),
    (2, 100),
    (8, 100),
    (11, 75),
]


@every_version
@pytest.mark.parametrize(("fret", "pitch"), NODES)
def test_natural_harmonics_sound_where_their_node_is(version, fret, pitch):
    song = tab(f"1 {fret}/1")  # on the open E, 64; near fret 11 there is no node
    note(song, 0).effect.harmonic = models.NaturalHarmonic()
    assert played(song, version) == [(0, 3840, pitch)]


def test_other_harmonics():
    song = tab("4 2/1, 4 2/1, 4 2/1, 4 2/1")
    note(song, 0).effect.harmonic = models.ArtificialHarmonic(models.PitchClass(6), models.Octave.ottava)
    note(song, 1).effect.harmonic = models.TappedHarmonic(9)  # 7 above the fretted one
    note(song, 2).effect.harmonic = models.TappedHarmonic(14)
    note(song, 3).effect.harmonic = models.PinchHarmonic()
    assert [pitch for _, _, pitch in played(song)] == [78, 66 + 19, 78, 66]


@pytest.mark.parametrize("capo", [0, 2])
@pytest.mark.parametrize("stored_capo", [0, 2])
@pytest.mark.parametrize(
    ("stored", "octave", "semitones"),
    [(7, 1, 12), (2, 1, 19), (7, 2, 24), (11, 2, 28), (2, 2, 31), (0, 0, 12)],  # the last one: not set
)
def test_artificial_harmonics_sound_at_their_stored_pitch(stored, octave, semitones, capo, stored_capo):
    song = tab("1 3/1", capo=capo)  # G4; the file may store the pitch with or without the capo
    pitch = models.PitchClass(stored + min(stored_capo, capo) * (octave > 0))
    note(song, 0).effect.harmonic = models.ArtificialHarmonic(pitch, models.Octave(octave))
    assert played(song) == [(0, 3840, 67 + capo + semitones)]


@pytest.mark.parametrize(("code", "semitones"), [(15, 24), (17, 19), (22, 12)])
def test_artificial_harmonics_of_version_4_name_their_fret(code, semitones):
    """Code 15 is the node 5 frets above the fretted one, 17 that of 7 frets, 22 that of 12 (TuxGuitar, alphaTab)."""
    song = tab("1 3/1")
    note(song, 0).effect.harmonic = models.ArtificialHarmonic(models.PitchClass(7), models.Octave.ottava)
    data = write(song, "gp4")
    assert data.count(b"\x10\x16") == 1  # the flag of a harmonic and code 22
    score = parse_guitar_pro(data.replace(b"\x10\x16", bytes([0x10, code])))
    assert [note.pitch for note in score.tracks[0].notes] == [67 + semitones]


@pytest.mark.parametrize(
    ("feel", "bar", "expected"),
    [
        ("none", "8 0/1, 8 1/1, 4 2/1", [(0, 480), (480, 480), (960, 960)]),
        ("eighth", "8 0/1, 8 1/1, 4 2/1, 8 r, 8 3/1", [(0, 640), (640, 320), (960, 960), (2560, 320)]),
        ("eighth", "4. 0/1, 8 1/1, 16 2/1, 16 3/1", [(0, 1440), (1600, 320), (1920, 240), (2160, 240)]),
        ("sixteenth", "16 0/1, 16 1/1, 8 2/1", [(0, 320), (320, 160), (480, 480)]),
    ],
)
def test_triplet_feel(feel, bar, expected):
    song = tab(bar, signs={0: {"tripletFeel": models.TripletFeel[feel]}})
    assert [(onset, duration) for onset, duration, _ in played(song)] == expected


@every_version
def test_velocity_comes_from_dynamics(version):
    song = tab("4 0/1, 4 0/1, 4 0/1")
    for at, velocity in enumerate((models.Velocities.pianoPianissimo, models.Velocities.mezzoForte, 127)):
        note(song, at).velocity = velocity
    score = parse_guitar_pro(write(song, version))
    assert [note.velocity for note in score.tracks[0].notes] == [15, 79, 127]


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
def test_names_in_both_usual_encodings(encoding):
    song = tab("1 0/1")
    song.tracks[0].name = "Chœur électrique"
    stream = io.BytesIO()
    guitarpro.write(song, stream, version=(5, 1, 0), encoding=encoding)
    assert parse_guitar_pro(stream.getvalue()).tracks[0].name == "Chœur électrique"


def test_a_text_in_no_encoding_does_not_matter():
    data = write(tab("1 0/1"))
    assert b"Solo" in data
    with pytest.raises(guitarpro.GPException, match="UnicodeDecodeError"):  # 0x9d stands for nothing in cp1252
        guitarpro.parse(io.BytesIO(data.replace(b"Solo", b"So\x9do")))
    assert parse_guitar_pro(data.replace(b"Solo", b"So\x9do")).note_num() == 1


GOOD = write(tab("4 0/1, 4 1/1, 2 2/1", "1 3/1"))


@pytest.mark.parametrize(
    ("data", "reason", "says"),
    [
        pytest.param(GOOD[:20], "unsupported version", "FICHIER", id="cut in the header"),
        pytest.param(b"", "unsupported version", "''", id="empty"),
        pytest.param(GOOD[:200], "broken", "ends inside its header", id="cut in the texts"),
        pytest.param(GOOD[:-12], "broken", "ends inside track 1, measure 2, voice 1, beat 1", id="cut in a bar"),
        pytest.param(GOOD + bytes(3 << 19), "too large", "1.5 MiB", id="large"),
        pytest.param(
            # the bars of a crafted file take a byte each, and a hundred times that in memory
            GOOD.replace(struct.pack("<ii", 2, 1), struct.pack("<ii", 500_000, 1)),
            "too long",
            "500000 bars",
            id="crafted",
        ),
        pytest.param(
            # the program of the first MIDI channel
            GOOD.replace(struct.pack("<i", 26), struct.pack("<i", 300), 1),
            "broken",
            "track 1 has the program 300",
            id="program",
        ),
        pytest.param(GOOD.replace(b"v5.10", b"v2.20"), "unsupported version", "v2.20", id="version"),
        pytest.param(write(tab("1 0/1", signature=(0, 4))), "broken", "measure 1 has the time signature 0/4", id="0/4"),
        pytest.param(write(tab("1 0/1", signature=(4, 3))), "broken", "4/3", id="4/3"),
        pytest.param(write(tab("1 99/1")), "broken", "track 1, measure 1: a pitch of 163", id="pitch"),
        pytest.param(write(tab("1 0/1", tempo=0)), "tempo", "measure 1 has 0 quarter", id="tempo 0"),
        pytest.param(write(tab("1 0/1", tempo=9999)), "tempo", "9998", id="tempo 9999"),
        pytest.param(write(tempo_at(tab("1 0/1"), 0, 1)), "tempo", "1.0 quarter notes", id="tempo 1"),
        pytest.param(write(tab("1 r", "1 x/1")), "no notes", "1 tracks", id="no notes"),
        pytest.param(write(tab("1 36/1", drums=True)), "only drums", "1 notes", id="drums"),
        pytest.param(write(tab(*["1 0/1"] * 90, signs={0: O, 89: C(120)})), "too long", "10000 bars", id="bars"),
        pytest.param(
            write(tab("1 0/1", signature=(63, 1), signs={0: O | C(120)})), "too long", "30240 quarter", id="quarters"
        ),
    ],
)
def test_what_is_wrong_is_named(data, reason, says):
    with pytest.raises(RejectedFile) as caught:
        mend(parse_guitar_pro(data))
    assert (caught.value.reason, says in caught.value.detail) == (reason, True), str(caught.value)
    assert "\n" not in str(caught.value)


def test_notes_are_counted_with_their_repeats(monkeypatch):
    song = tab("1 0/1", "1 1/1", signs={1: O | C(4)})
    monkeypatch.setattr(guitar_pro, "MAX_NOTES", 5)
    assert len(played(song)) == 5
    monkeypatch.setattr(guitar_pro, "MAX_NOTES", 4)
    with pytest.raises(RejectedFile, match="too long: over 4 notes"):
        played(song)


RICH = [write(tab("8t 0/1, 8t ~/1, 8t x/2, 16 3/3+2/2, 2 5/1", "4. ~/1, 8 1/4, 2 r", "1 3/5", capo=1,
                  signs={0: O, 1: C(3, 1), 2: E(2, 3)}), version) for version in VERSIONS]  # fmt: skip


@given(st.data())
def test_a_mutated_tab_is_read_or_rejected(data):
    broken = bytearray(data.draw(st.sampled_from(RICH)))
    # the last bytes are the bars, the first the header and the texts
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.one_of(st.integers(0, len(broken) - 1), st.integers(len(broken) - 200, len(broken) - 1)))
        broken[at] = data.draw(st.integers(0, 255))
    try:
        score = parse_guitar_pro(bytes(broken[: data.draw(st.sampled_from([len(broken), len(broken) // 2]))]))
    except RejectedFile:
        return
    notes = [track.notes.numpy() for track in score.tracks]
    assert all((columns["time"] >= 0).all() and (columns["duration"] >= 0).all() for columns in notes)
    assert max(columns["time"].max(initial=0) for columns in notes) <= 20_000 * 960


@given(
    st.lists(st.sampled_from(["1", "2.", "4.", "4", "8", "8.", "16", "8t", "16q", "8s", "32"]), min_size=1, max_size=8)
)
def test_notes_start_where_pyguitarpro_has_their_beat(lengths):
    song = tab(", ".join(f"{length} {fret}/1" for fret, length in enumerate(lengths)), signature=(16, 4))
    data = write(song)
    starts = [beat.start - 960 for beat in beats(guitarpro.parse(io.BytesIO(data))) if beat.notes]
    found = [note.time for note in parse_guitar_pro(data).tracks[0].notes]
    assert len(found) == min(sum(start < 16 * 960 for start in starts), len(starts))
    np.testing.assert_allclose(found, [float(start) for start in starts[: len(found)]], atol=0.5)


REAL = os.environ.get("MGEN_REAL_TABS")


def plain_notes(track):
    """(onset, end, pitch) of the notes that no effect, tie or over-full bar changes, by PyGuitarPro's own times."""
    is_drum = track.isPercussionTrack or track.channel.isPercussionChannel
    plain = {}
    for voice in range(2):
        last, graces = {}, set()
        for measure in track.measures:
            for beat in measure.voices[voice].beats:
                for note in beat.notes if beat.status is models.BeatStatus.normal else ():
                    effect, string = note.effect, (voice, note.string)
                    if note.type is models.NoteType.tie:
                        plain.pop(last.get(string), None)
                    else:
                        last[string] = (beat.start, string)
                    if effect.grace:
                        graces.add(beat.start)
                    changed = effect.grace or effect.harmonic or effect.staccato or note.durationPercent != 1
                    end = beat.start + beat.duration.time
                    changed = changed or end > measure.end or measure.tripletFeel is not models.TripletFeel.none
                    if note.type is models.NoteType.normal and not changed:
                        pitch = note.value if is_drum else note.realValue + track.offset
                        plain[beat.start, string] = (beat.start - 960, end - 960, pitch)
        plain = {key: times for key, times in plain.items() if key[1][0] != voice or times[1] + 960 not in graces}
    return {tuple(int(value + 0.5) for value in times) for times in plain.values()}


@pytest.mark.skipif(not REAL, reason="set MGEN_REAL_TABS to a folder of tabs")
def test_plain_notes_of_real_tabs_are_where_pyguitarpro_has_them():
    plain = total = 0
    for path in sorted(Path(REAL).rglob("*.gp[345]")):
        try:
            score = parse_guitar_pro(path.read_bytes(), unroll=False)
        except RejectedFile:
            continue
        song = guitarpro.parse(str(path), encoding="latin-1")
        for track, ours in zip(song.tracks, score.tracks, strict=True):
            expected = plain_notes(track)
            found = {(note.time, note.end, note.pitch) for note in ours.notes}
            assert expected <= found, f"{path.name}, track {track.number}: {sorted(expected - found)[:5]}"
            plain, total = plain + len(expected), total + len(found)
    assert plain > 0.8 * total > 0
