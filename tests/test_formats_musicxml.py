"""A trumpet in B flat and drums: three quarters a bar, two of them repeated, then one of four quarters."""

from __future__ import annotations

import io
import sys
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mgen.errors import MgenError, RejectedFile
from mgen.formats.files import file_format, read_music

pytest.importorskip("music21", reason="the extra musicxml is not installed")
from mgen.formats import musicxml
from mgen.formats.musicxml import parse_musicxml

HEAD = '<?xml version="1.0" encoding="UTF-8"?>'
DOCTYPE = '<!DOCTYPE score-partwise PUBLIC "-//Recordare//DTD MusicXML 4.0 Partwise//EN" "http://x/partwise.dtd">'
PARTS = """<part-list>
<score-part id="P1"><part-name>Trumpet in Bb</part-name>
<score-instrument id="I1"><instrument-name>Trumpet</instrument-name></score-instrument>
<midi-instrument id="I1"><midi-channel>3</midi-channel><midi-program>57</midi-program></midi-instrument></score-part>
<score-part id="P2"><part-name>Kit</part-name>
<score-instrument id="K"><instrument-name>Kick</instrument-name></score-instrument>
<score-instrument id="S"><instrument-name>Snare</instrument-name></score-instrument>
<midi-instrument id="K"><midi-channel>10</midi-channel><midi-unpitched>37</midi-unpitched></midi-instrument>
<midi-instrument id="S"><midi-channel>10</midi-channel><midi-unpitched>39</midi-unpitched></midi-instrument>
</score-part></part-list>"""


def signature(beats):
    return f"<divisions>2</divisions><time><beats>{beats}</beats><beat-type>4</beat-type></time>"


def repeat(direction):
    side = "left" if direction == "forward" else "right"
    return f'<barline location="{side}"><repeat direction="{direction}"/></barline>'


def note(pitch, duration, before="", after=""):
    pitch = f"<pitch><step>{pitch[0]}</step><alter>{pitch.count('#')}</alter><octave>{pitch[-1]}</octave></pitch>"
    length = f"<duration>{duration}</duration>" if duration else ""
    return f"<note>{before}{pitch}{length}{after}</note>"


def drum(instrument, duration, before=""):
    pitch = "<unpitched><display-step>F</display-step><display-octave>4</display-octave></unpitched>"
    return f'<note>{before}{pitch}<duration>{duration}</duration><instrument id="{instrument}"/></note>'


TRANSPOSE = "<transpose><diatonic>-1</diatonic><chromatic>-2</chromatic></transpose>"
TRUMPET = [
    f"<attributes>{signature(3)}{TRANSPOSE}</attributes>{repeat('forward')}"
    '<sound tempo="90"/>'
    + note("D5", 4)
    + note("E5", 0, before="<grace/>")
    + note("F#5", 2, after='<tie type="start"/><notations><tied type="start"/></notations>'),
    note("F#5", 6, after='<tie type="stop"/><notations><tied type="stop"/></notations>') + repeat("backward"),
    f'<attributes>{signature(4)}</attributes><sound tempo="120"/>'
    + note("C5", 8)
    + "<backup><duration>8</duration></backup>"
    + note("C6", 8, before="<cue/>")
    + note("E6", 8, before="<cue/><chord/>"),
]
KIT = [
    f"<attributes>{signature(3)}</attributes>{repeat('forward')}"
    + drum("K", 2)
    + drum("S", 2, before="<chord/>")
    + drum("S", 2)
    + drum("unknown", 2),
    f"<note><rest/><duration>6</duration></note>{repeat('backward')}",
    f"<attributes>{signature(4)}</attributes><note><rest/><duration>8</duration></note>",
]


def score(trumpet=TRUMPET, kit=KIT, head=HEAD + DOCTYPE):
    def part(name, bars):
        content = "".join(f'<measure number="{number}">{bar}</measure>' for number, bar in enumerate(bars, 1))
        return f'<part id="{name}">{content}</part>'

    return f'{head}<score-partwise version="4.0">{PARTS}{part("P1", trumpet)}{part("P2", kit)}</score-partwise>'


def timewise():
    bars = (
        f'<measure number="{number}"><part id="P1">{trumpet}</part><part id="P2">{kit}</part></measure>'
        for number, (trumpet, kit) in enumerate(zip(TRUMPET, KIT, strict=True), 1)
    )
    return f'{HEAD}<score-timewise version="4.0">{PARTS}{"".join(bars)}</score-timewise>'


def mxl(content, name="score.xml"):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        entry = f'<container><rootfiles><rootfile full-path="{name}"/></rootfiles></container>'
        archive.writestr("META-INF/container.xml", entry)
        archive.writestr(name, content)
    return stream.getvalue()


def sounds(track):
    return [(note.time / 960, note.duration / 960, note.pitch) for note in track.notes]


def test_a_score_is_read_as_it_sounds():
    trumpet, kit = (found := parse_musicxml(score().encode())).tracks
    # a tone lower than written; the tie is one note; a grace note has a 32nd, the cue note nothing
    once = [(0, 2, 72), (1.875, 0.125, 74), (2, 4, 76)]
    again = [(onset + 6, length, pitch) for onset, length, pitch in once]
    assert (trumpet.name, trumpet.program, trumpet.is_drum) == ("Trumpet in Bb", 56, False)
    assert sounds(trumpet) == [*once, *again, (12, 4, 70)]
    assert kit.is_drum
    hits = [(0, 1, 36), (0, 1, 38), (1, 1, 38), (2, 1, 38)]  # a snare also where no drum is named
    assert sounds(kit) == [*hits, *((onset + 6, length, pitch) for onset, length, pitch in hits)]
    assert [(one.time / 960, round(one.qpm)) for one in found.tempos] == [(0, 90), (6, 90), (12, 120)]
    signatures = [(one.time / 960, one.numerator, one.denominator) for one in found.time_signatures]
    assert signatures == [(0, 3, 4), (12, 4, 4)]


def test_an_upbeat_has_the_signature_of_its_length():
    bars = [f"<attributes>{signature(4)}</attributes>{note('D5', 1)}", note("D5", 8), note("D5", 8)]
    found = parse_musicxml(score(bars, ["", "", ""]).encode())
    signatures = [(one.time / 960, one.numerator, one.denominator) for one in found.time_signatures]
    assert signatures == [(0, 1, 8), (0.5, 4, 4)]


SCORE = score()
FORMS = {
    "score.musicxml": SCORE.encode(),
    "score.xml": score(head=HEAD).encode(),
    "utf-16.xml": SCORE.replace("UTF-8", "UTF-16").encode("utf-16"),
    "timewise.xml": timewise().encode(),
    "score.mxl": mxl(SCORE),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_of_a_score_is_the_same_music(tmp_path, name):
    (tmp_path / name).write_bytes(FORMS[name])
    music = read_music(tmp_path / name)
    assert music.format == "musicxml"
    assert sounds(music.score.tracks[0])[-1] == (12, 4, 70)
    assert music.score.note_num() == 15


@pytest.mark.parametrize(
    "data", [b"<html><!-- score-partwise --></html>", b"score-partwise", mxl("<package/>", "book.opf")]
)
def test_other_files_are_no_music(data):
    with pytest.raises(RejectedFile):
        file_format(data)


ENTITY = '<!DOCTYPE score-partwise [<!ENTITY a "Trumpet"><!ENTITY b "&a;&a;">]>'


@pytest.mark.parametrize(
    ("data", "reason", "says"),
    [
        (score(head=HEAD + ENTITY).encode(), "broken", "declares a document type"),
        (SCORE[:-20].encode(), "broken", "not well-formed XML"),
        (SCORE.replace("<step>D</step>", "<step>H</step>").encode(), "broken", "music21: "),
        (
            SCORE.replace('"backward"', '"backward" times="99"').encode(),
            "too long",
            "594 bars of all parts in 99 passes",
        ),
        (SCORE.replace("<duration>8<", "<duration>99999<").encode(), "too long", "at most 20000 are read"),
        (SCORE.replace("<beats>4", "<beats>99999999999").encode(), "broken", "beats 99999999999, at most 64"),
        (score(["", "", ""]).encode(), "only drums", ""),
        (mxl(SCORE)[:-30], "broken", "a damaged zip archive"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, data, reason, says):
    (tmp_path / "score").write_bytes(data)
    with pytest.raises(RejectedFile) as caught:
        read_music(tmp_path / "score")
    assert (caught.value.reason, says in caught.value.detail) == (reason, True), str(caught.value)
    assert "\n" not in str(caught.value)


def test_notes_are_counted_before_they_are_read(monkeypatch):
    monkeypatch.setattr(musicxml, "MAX_WRITTEN", 5)
    with pytest.raises(RejectedFile, match="too long: 13 notes, at most 5"):
        parse_musicxml(SCORE.encode())


@settings(max_examples=10)
@given(st.data())
def test_a_mutated_score_is_read_or_rejected(data):
    broken = bytearray(SCORE.encode())
    for _ in range(data.draw(st.integers(1, 3))):
        new = st.one_of(st.integers(0, 255), st.sampled_from(b"0123456789"))
        broken[data.draw(st.integers(len(HEAD), len(broken) - 1))] = data.draw(new)
    try:
        parse_musicxml(bytes(broken))
    except RejectedFile:
        return


def test_the_extra_is_named_if_it_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "music21", None)
    (tmp_path / "score.mxl").write_bytes(mxl(SCORE))
    with pytest.raises(MgenError, match=r"music21 is not installed; .* 'mgen-music\[musicxml\]', or leave MusicXML"):
        read_music(tmp_path / "score.mxl")
