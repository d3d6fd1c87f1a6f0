"""Writes songs of PyGuitarPro as scores of Guitar Pro 6 and 7, for tests of how mgen reads them."""

from __future__ import annotations

import io
import struct
import zipfile
from fractions import Fraction
from xml.sax.saxutils import escape

from guitarpro import models

VALUES = {1: "Whole", 2: "Half", 4: "Quarter", 8: "Eighth", 16: "16th", 32: "32nd", 64: "64th"}
DYNAMICS = ("PPP", "PP", "P", "MP", "MF", "F", "FF", "FFF")
FEELS = ("NoTripletFeel", "Triplet8th", "Triplet16th")


def gpif(song, version=7):
    """The XML of a song of one track or more; each beat, note and rhythm is written once for each use."""
    tables = {name: [] for name in ("Bars", "Voices", "Beats", "Notes", "Rhythms")}
    tempos = [(0, Fraction(0), song.tempo)]

    def add(table, content, tag=None):
        tables[table].append(f'<{tag or table[:-1]} id="{len(tables[table])}">{content}</{tag or table[:-1]}>')
        return str(len(tables[table]) - 1)

    def note(track, note):
        effect = note.effect
        facts = {"String": ("String", len(track.strings) - note.string), "Fret": ("Fret", note.value)}
        if isinstance(effect.harmonic, models.NaturalHarmonic):
            facts["HarmonicType"], facts["HarmonicFret"] = ("HType", "Natural"), ("HFret", f"{note.value}.000000")
        if note.type is models.NoteType.dead:
            facts["Muted"] = ("Enable", "")
        if track.isPercussionTrack and version == 6:
            facts = {"Element": ("Element", {36: 0, 38: 1, 42: 10}[note.value]), "Variation": ("Variation", 0)}
        content = '<Tie origin="false" destination="true"/>' * (note.type is models.NoteType.tie)
        content += "<Accent>1</Accent>" * effect.staccato
        if track.isPercussionTrack and version > 6:
            content += f"<InstrumentArticulation>{note.value - 30}</InstrumentArticulation>"
        return add("Notes", content + properties(facts))

    def beat(track, notes, value, dotted=False, tuplet=(1, 1), grace=""):
        rhythm = f"<NoteValue>{VALUES[value]}</NoteValue>" + '<AugmentationDot count="1"/>' * dotted
        rhythm += f'<PrimaryTuplet num="{tuplet[0]}" den="{tuplet[1]}"/>' if tuplet != (1, 1) else ""
        content = f'{grace}<Rhythm ref="{add("Rhythms", rhythm)}"/>'
        if notes:
            content += f"<Dynamic>{DYNAMICS[(notes[0].velocity - 15) // 16]}</Dynamic>"
            content += f"<Notes>{' '.join(note(track, one) for one in notes)}</Notes>"
        return add("Beats", content)

    def voice(track, bar, beats):
        ids, now = [], Fraction(0)
        for one in beats:
            graces = [(one_note, one_note.effect.grace) for one_note in one.notes if one_note.effect.grace]
            if graces:
                when = "OnBeat" if graces[0][1].isOnBeat else "BeforeBeat"
                notes = [models.Note(one, value=grace.fret, string=main.string, velocity=grace.velocity,
                                     type=models.NoteType.normal) for main, grace in graces]  # fmt: skip
                ids.append(beat(track, notes, graces[0][1].duration, grace=f"<GraceNotes>{when}</GraceNotes>"))
            tuplet = (one.duration.tuplet.enters, one.duration.tuplet.times)
            ids.append(beat(track, one.notes, one.duration.value, one.duration.isDotted, tuplet))
            mix = one.effect.mixTableChange
            if mix and mix.tempo:
                length = Fraction(bar.header.timeSignature.numerator, bar.header.timeSignature.denominator.value)
                tempos.append((bar.header.number - 1, now / length, mix.tempo.value))
            now += Fraction(one.duration.time) / 3840
        return add("Voices", f"<Beats>{' '.join(ids)}</Beats>") if ids else "-1"

    def bar(track, measure):
        ids = [voice(track, measure, one.beats) for one in measure.voices]
        return add("Bars", f"<Voices>{' '.join(ids)}</Voices>")

    rows = [[bar(track, track.measures[at]) for track in song.tracks] for at in range(len(song.measureHeaders))]
    master_bars = "".join(map(master_bar, song.measureHeaders, rows))
    automations = "".join(
        f"<Automation><Type>Tempo</Type><Bar>{at}</Bar><Position>{float(part)}</Position><Value>{tempo} 2</Value>"
        "</Automation>"
        for at, part, tempo in tempos
    )
    order = " ".join(str(at) for at in range(len(song.tracks)))
    return (
        f'<?xml version="1.0" encoding="utf-8"?><GPIF><GPVersion>{version}</GPVersion><MasterTrack>'
        f"<Tracks>{order}</Tracks><Automations>{automations}</Automations></MasterTrack><Tracks>"
        + "".join(one_track(at, track, version) for at, track in enumerate(song.tracks))
        + f"</Tracks><MasterBars>{master_bars}</MasterBars>"
        + "".join(f"<{name}>{''.join(entries)}</{name}>" for name, entries in tables.items())
        + "</GPIF>"
    )


def properties(facts):
    entries = (f'<Property name="{name}"><{tag}>{value}</{tag}></Property>' for name, (tag, value) in facts.items())
    return f"<Properties>{''.join(entries)}</Properties>"


def one_track(number, track, version):
    tuning = " ".join(str(string.value) for string in reversed(track.strings))
    facts = properties({"CapoFret": ("Fret", track.offset), "Tuning": ("Pitches", tuning)})
    channel, program = track.channel.channel, track.channel.instrument
    content = f"<Name>{escape(track.name)}</Name>"
    if version == 6:
        table = "Percussion" if track.isPercussionTrack else "Instrument"
        content += f'<GeneralMidi table="{table}"><Program>{program}</Program></GeneralMidi>{facts}'
    else:
        drums = "".join(
            f"<Articulation><OutputMidiNumber>{30 + at}</OutputMidiNumber></Articulation>" for at in range(20)
        )
        content += f"<InstrumentSet><Elements><Element>{drums}</Element></Elements></InstrumentSet>"
        content += f"<Sounds><Sound><MIDI><Program>{program}</Program></MIDI></Sound></Sounds>"
        content += f"<MidiConnection><PrimaryChannel>{channel}</PrimaryChannel></MidiConnection>"
        content += f"<Staves><Staff>{facts}</Staff></Staves>"
    return f'<Track id="{number}">{content}</Track>'


def master_bar(header, bars):
    signature = header.timeSignature
    content = f"<Time>{signature.numerator}/{signature.denominator.value}</Time><Bars>{' '.join(bars)}</Bars>"
    start, end = str(header.isRepeatOpen).lower(), str(header.repeatClose > 0).lower()
    content += f'<Repeat start="{start}" end="{end}" count="{header.repeatClose + 1}"/>'
    endings = [str(bit + 1) for bit in range(8) if header.repeatAlternative >> bit & 1]
    content += f"<AlternateEndings>{' '.join(endings)}</AlternateEndings>" if endings else ""
    content += f"<TripletFeel>{FEELS[header.tripletFeel.value]}</TripletFeel>"
    signs = (("Target", header.direction), ("Jump", header.fromDirection))
    words = "".join(f"<{tag}>{sign.name.title().replace(' ', '')}</{tag}>" for tag, sign in signs if sign)
    return f"<MasterBar>{content}<Directions>{words}</Directions></MasterBar>"


def zipped(xml, name="Content/score.gpif"):
    """A .gp file."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, xml)
    return stream.getvalue()


def file_system(xml, name=b"score.gpif"):
    """BCFS with one file: a sector of nothing, one that describes the file, and its content."""
    data = xml.encode() if isinstance(xml, str) else xml
    count = -(-len(data) // 0x1000)
    head = struct.pack("<I", 2) + name.ljust(0x88, b"\0") + struct.pack("<II", len(data), 0)
    head += struct.pack(f"<{count}I", *range(2, 2 + count))
    return b"BCFS" + bytes(0x1000) + head.ljust(0x1000, b"\0") + data.ljust(count * 0x1000, b"\0")


def packed(data):
    """BCFZ: copies of the bytes before where they repeat, else up to three bytes as they are."""
    low = lambda number, width: format(number, f"0{width}b")[::-1]  # noqa: E731
    bits, at, seen = [], 0, {}
    while at < len(data):
        back = at - seen.get(data[at : at + 8], at)
        count = 0
        while 0 < count + 1 <= min(back, 500, len(data) - at) and data[at - back + count] == data[at + count]:
            count += 1
        if count >= 8 and back < 1 << 15:
            bits.append(f"1{15:04b}{low(back, 15)}{low(count, 15)}")
        else:
            count = min(3, len(data) - at)
            bits.append("0" + low(count, 2) + "".join(format(byte, "08b") for byte in data[at : at + count]))
        for start in range(at, at + count):
            seen[data[start : start + 8]] = start
        at += count
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return b"BCFZ" + struct.pack("<I", len(data)) + int(text, 2).to_bytes(len(text) // 8, "big")
