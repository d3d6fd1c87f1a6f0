"""What the scores of Guitar Pro 6 to 8 have that older ones lack; the rest is in test_formats_guitar_pro.py."""

from __future__ import annotations

import pytest
from gpif_files import file_system, gpif, packed, zipped
from hypothesis import given, settings
from hypothesis import strategies as st
from test_formats_guitar_pro import C, O, tab

from mgen.errors import RejectedFile
from mgen.formats import gpif as module
from mgen.formats.gpx import unpack
from mgen.formats.guitar_pro import parse_guitar_pro
from mgen.formats.xml_files import MAX_XML


def read(xml, *changes):
    """(onset, duration, pitch) of the first track's notes, after changes of the XML, each of a text that is there."""
    for old, new in changes:
        assert old in xml
        xml = xml.replace(old, new)
    return [(note.time, note.duration, note.pitch) for note in parse_guitar_pro(zipped(xml)).tracks[0].notes]


def fact(name, tag, value):
    return f'<Property name="{name}"><{tag}>{value}</{tag}></Property>'


@pytest.mark.parametrize(
    ("kind", "node", "pitch"),
    [
        ("Artificial", "12", 67 + 12),  # above the fretted G4
        ("Artificial", "7.0", 67 + 19),
        ("Tap", "5", 67 + 24),
        ("Pinch", "19", 67 + 19),
        ("Natural", "3.2", 64 + 31),  # above the open string
        ("Natural", "2.700000", 64 + 34),
        ("Semi", "12", 67),
        ("NoHarmonic", "", 67),
    ],
)
def test_harmonics_sound_where_their_node_is(kind, node, pitch):
    string = fact("String", "String", 5)
    harmonic = fact("HarmonicType", "HType", kind) + fact("HarmonicFret", "HFret", node)
    assert read(gpif(tab("1 3/1")), (string, string + harmonic)) == [(0, 3840, pitch)]


@pytest.mark.parametrize(
    ("dots", "tuplet", "lengths"),
    [
        ('<AugmentationDot count="2"/>', "", [1680, 1680]),  # 1 + 1/2 + 1/4 of a quarter
        ("", '<PrimaryTuplet num="11" den="6"/>', [524, 523]),  # 523.6 each
        ("", '<PrimaryTuplet num="3" den="2"/><SecondaryTuplet num="3" den="2"/>', [427, 426]),
    ],
)
def test_rhythms_that_older_versions_lack(dots, tuplet, lengths):
    value = "<NoteValue>Quarter</NoteValue>"
    notes = read(gpif(tab("4 0/1, 4 1/1")), (value, value + dots + tuplet))
    assert [duration for _, duration, _ in notes] == lengths


def test_grace_notes_share_at_most_half_of_a_beat():
    xml = gpif(tab("8 0/1, 16 1/1, 8 2/2, 4 3/1"))
    before, on = "<GraceNotes>BeforeBeat</GraceNotes>", "<GraceNotes>OnBeat</GraceNotes>"
    second, third = '<Beat id="1">', '<Beat id="2">'
    # a sixteenth and an eighth share half of the eighth before them, also on another string than the note they lead to
    first = [(0, 240, 64), (240, 80, 65), (320, 160, 61), (480, 960, 67)]
    assert read(xml, (second, second + before), (third, third + before)) == first
    # an eighth takes half of the quarter that it delays
    assert read(xml, (third, third + on))[2:] == [(720, 480, 61), (1200, 480, 67)]


def test_a_simile_mark_repeats_bars():
    marks = ["", "", "FirstOfDouble", "SecondOfDouble", "Simple"]
    xml = gpif(tab("1 0/1", "1 1/1", "1 r", "1 r", "1 r"))
    for number, mark in enumerate(marks):
        xml = xml.replace(f'<Bar id="{number}">', f'<Bar id="{number}"><SimileMark>{mark}</SimileMark>')
    assert [pitch for _, _, pitch in read(xml)] == [64, 65, 64, 65, 65]


def test_an_upbeat_ends_at_the_first_bar_line():
    xml = gpif(tab(("8 0/1, 8 1/1", "4 0/6"), "1 2/1"))
    notes = read(xml, ("<MasterTrack>", "<MasterTrack><Anacrusis/>"))
    assert notes == [(2880, 960, 40), (2880, 480, 64), (3360, 480, 65), (3840, 3840, 66)]


def test_the_staves_of_a_piano_are_one_track():
    xml = gpif(tab("4 0/1, 4 ~/1, 2 1/1"), 6)
    for fret, octave, tone in ((0, 5, 4), (1, 3, 5)):  # instead of a string and a fret
        old = fact("String", "String", 5) + fact("Fret", "Fret", fret)
        xml = xml.replace(old, fact("Octave", "Number", octave) + fact("Tone", "Step", tone))
    changes = (("<GeneralMidi", '<Instrument ref="a-piano-gs"/><GeneralMidi'), ("<Bars>0</Bars>", "<Bars>0 0</Bars>"))
    assert read(xml, *changes) == [(0, 1920, 64)] * 2 + [(1920, 1920, 41)] * 2


def test_a_partial_capo_is_left_to_the_pitch_of_the_notes():
    string, tuning = fact("String", "String", 5), '<Property name="Tuning">'
    changes = (string, fact("Midi", "Number", 69) + string), (tuning, fact("PartialCapoFret", "Fret", 2) + tuning)
    assert read(gpif(tab("1 3/1")), *changes) == [(0, 3840, 69)]


def test_the_sound_of_the_first_bar_is_the_program():
    sound = "<Sounds><Sound><Path>a</Path><Name>b</Name><Role>c</Role><MIDI><Program>40</Program></MIDI></Sound>"
    change = "<Automation><Type>Sound</Type><Bar>{}</Bar><Value>{}</Value></Automation>"
    changes = f"<Automations>{change.format(2, 'x;y;z')}{change.format(0, 'a;b;c')}</Automations>"
    xml = gpif(tab("1 0/1")).replace("<Sounds>", sound).replace("<Staves>", changes + "<Staves>")
    assert parse_guitar_pro(zipped(xml)).tracks[0].program == 40


def test_a_tempo_counts_its_own_note_values_anywhere_in_a_bar():
    change = "<Automation><Type>Tempo</Type><Bar>0</Bar><Position>0.1</Position><Value>60.5 3</Value></Automation>"
    end = "</Automations></MasterTrack>"
    tempos = parse_guitar_pro(zipped(gpif(tab("1 0/1")).replace(end, change + end))).tempos
    assert [(tempo.time, round(tempo.qpm, 2)) for tempo in tempos] == [(0, 120), (384, 90.75)]  # dotted quarters


def test_copies_and_plain_bytes_are_unpacked():
    data = b"BCFS" + bytes(range(256)) * 8 + b"end"
    assert unpack(packed(data)) == data
    assert len(packed(data)) < len(data) // 4


XML = gpif(tab("4 0/1+2/2, 8t ~/1, 8t x/2, 8t 3/1", "1 5/1", signs={0: O, 1: C(2, 1)}))
BOMB = '<!DOCTYPE GPIF [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>'
EXTERNAL = '<!DOCTYPE GPIF SYSTEM "file:///etc/hostname">'


def encrypted(data):
    """The flag of encryption is set, in the file and in the directory."""
    data = bytearray(data)
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "reason", "says"),
    [
        pytest.param(zipped(XML.replace("?>", "?>" + BOMB, 1)), "broken", "declares a document type", id="entities"),
        pytest.param(zipped(XML.replace("?>", "?>" + EXTERNAL, 1)), "broken", "document type", id="external"),
        pytest.param(
            zipped(XML.replace("utf-8", "utf-16").replace("?>", "?>" + BOMB, 1).encode("utf-16")),
            *("broken", "declares a document type"),
            id="entities in UTF-16",
        ),
        pytest.param(zipped(" " * (MAX_XML + 1)), "too large", "score.gpif has 16.0 MiB, at most 16", id="zip bomb"),
        pytest.param(b"BCFZ" + b"\xff" * 20, "too large", "4096.0 MiB", id="BCFZ bomb"),
        pytest.param(b"BCFZ\xff\0\0\0\0\0", "broken", "no score.gpif", id="BCFZ of nothing"),
        pytest.param(b"BCFZ\xff\0\0\0" + b"\xff" * 9, "broken", "a copy of bytes 32767 back", id="BCFZ from before"),
        pytest.param(file_system(XML, b"other"), "broken", "no score.gpif in it", id="another file"),
        pytest.param(file_system(XML)[:0x2010], "broken", "ends inside the packed files", id="cut file system"),
        pytest.param(zipped(XML)[:-30], "broken", "score.gpif cannot be unpacked", id="cut zip"),
        pytest.param(encrypted(zipped(XML)), "broken", "encrypted", id="encrypted"),
        pytest.param(zipped("<GPIF>"), "broken", "not well-formed XML", id="XML"),
        pytest.param(zipped("<GPIF/>"), "no notes", "no bars", id="empty"),
        pytest.param(
            zipped(XML.replace("</MasterBars>", "<MasterBar/>" * 10_000 + "</MasterBars>")),
            *("too long", "10002 bars, at most 10000"),
            id="bars",
        ),
        pytest.param(
            zipped(XML.replace('<Note id="0">', '<Note id="x">')), "broken", "refers to '0' of Notes", id="id"
        ),
        pytest.param(
            zipped(XML.replace("<Beats>", "<Beats>" + " " * 20_000)), "broken", "entry '0' of Voices", id="size"
        ),
        pytest.param(zipped(XML.replace("Quarter", "Fifth")), "broken", "ValueError", id="value"),
        pytest.param(zipped(XML.replace('num="3"', 'num="0"')), "broken", "a tuplet of 0 notes", id="tuplet"),
        pytest.param(zipped(XML.replace("4/4", "4/0")), "broken", "time signature 4/0", id="4/0"),
        pytest.param(zipped(XML.replace("120 2", "0 2")), "tempo", "0 quarter", id="tempo"),
        pytest.param(zipped(XML.replace("0 -1", "0 " * 33)), "broken", "measure 1 has 33 voices", id="voices"),
    ],
)
def test_what_is_wrong_is_named(data, reason, says):
    with pytest.raises(RejectedFile) as caught:
        parse_guitar_pro(data)
    assert (caught.value.reason, says in caught.value.detail) == (reason, True), str(caught.value)
    assert "\n" not in str(caught.value)


def test_references_multiply_within_bounds(monkeypatch):
    monkeypatch.setattr(module, "MAX_WRITTEN", 100)
    xml = XML.replace("<Beats>4</Beats>", f"<Beats>{'4 ' * 100}</Beats>")
    assert xml != XML
    with pytest.raises(RejectedFile, match="too long: over 100 bars, beats and notes"):
        parse_guitar_pro(zipped(xml))


WHOLE = (XML.encode(), file_system(XML), packed(file_system(XML)))


@settings(max_examples=40)
@given(st.data())
def test_a_mutated_score_is_read_or_rejected(data):
    whole = data.draw(st.sampled_from(WHOLE))
    broken = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        new = st.one_of(st.integers(0, 255), st.sampled_from(b"0123456789<-"))
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(new)
    try:
        parse_guitar_pro(zipped(bytes(broken)) if whole == WHOLE[0] else bytes(broken))
    except RejectedFile:
        return
