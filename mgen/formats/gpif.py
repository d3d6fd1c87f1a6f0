"""Reads the XML score of Guitar Pro 6, 7 and 8 (score.gpif) into PyGuitarPro's song, which `guitar_pro` interprets.

The XML has a table each of bars, voices, beats, notes and rhythms, which refer to each other by id. A note of the song
has its sounding pitch as fret, on an open string of pitch 0: tuning, capo, harmonics and the articulations of drums are
resolved here. The facts about the format are those of alphaTab's reader.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from guitarpro import models

from mgen.errors import RejectedFile
from mgen.formats.xml_files import check_xml

MAX_BARS = 10_000  # most bars with repeats unrolled; the longest real piece seen has 400
MAX_WRITTEN = 200_000  # bars of all tracks, beats and notes as written; the largest real score seen has 25,000
MAX_ENTRY = 20_000  # bytes of what may be used many times; the largest real one seen has 800
N_STRINGS = 256  # numbers of strings; a note without one has the number 128 + its pitch
_NO_STRING = 128
_REPEATED = ("Bars", "Voices", "Beats", "Notes", "Rhythms")  # tables whose entries may be used many times
_MAX_VOICES = 32  # of a track; a staff has 4

NODES = {
    **{2: 36, 2.4: 36, 2.7: 34, 3: 31, 3.2: 31, 4: 28, 5: 24, 5.8: 34, 7: 19, 8: 36, 8.2: 36, 9: 28, 9.6: 34, 10: 34},
    **{12: 12, 14: 34, 14.7: 34, 15: 34, 16: 28, 17: 36, 19: 19, 21: 34, 21.7: 34, 22: 34, 24: 24},
}
"""Frets from the open or fretted end of a string to a node, of older versions the nearest whole fret -> semitones above
the string of the harmonic there, its second to eighth.
"""

_NOTE_VALUES = ("Whole", "Half", "Quarter", "Eighth", "16th", "32nd", "64th", "128th", "256th")
_DYNAMICS = ("PPP", "PP", "P", "MP", "MF", "F", "FF", "FFF")
_TEMPO_UNITS = ("", 1 / 2, 1, 3 / 2, 2, 3)  # quarter notes of what a tempo counts, by number
_FEELS = {"Triplet8th": models.TripletFeel.eighth, "Triplet16th": models.TripletFeel.sixteenth}
_STACCATO = 1  # flag of an accent

_DRUM_KIT = (
    *[(35,), (38, 38, 37), (56,), (56,), (56,), (43,), (45,), (47,), (48,), (50,), (42, 46, 46), (44,), (57,), (49,)],
    *[(55,), (51, 51, 53), (52,)],
)
"""Drums in General MIDI of the elements of a drum kit of version 6, by variation."""

Tempos = list[dict[Fraction, float]]  # of each bar: part of the bar -> quarter notes per minute


class GraceBeat(models.Beat):  # type: ignore[misc]
    """Grace notes, which take their time from the beat before, or from the one that they ornament."""

    is_on_beat = False


def read_gpif(data: bytes) -> tuple[Any, Tempos]:
    """Reads a score.

    Returns:
        PyGuitarPro's song, and the tempo changes of each of its bars.

    Raises:
        RejectedFile: with one of the reasons `broken`, `too large`, `too long`.
    """
    check_xml(data, "score.gpif")
    try:
        return _Score(ElementTree.fromstring(data)).song()
    except RejectedFile:
        raise
    except Exception as error:  # broken values raise anything: ValueError, IndexError, ZeroDivisionError, ...
        raise RejectedFile("broken", f"score.gpif: {type(error).__name__}: {' '.join(str(error).split())}") from error


@dataclass(frozen=True, slots=True)
class _Staff:
    """What gives the notes of a staff their pitch."""

    tuning: Sequence[int]  # pitch of each string, from the lowest, with capo; none if pitches are written
    drums: Sequence[int] | None  # notes of the articulations; None if it has no drums


class _Score:
    """The tables of a score."""

    def __init__(self, root: Element) -> None:
        self.root = root
        self.tables = {
            name: {entry.get("id", ""): entry for entry in root.iterfind(f"{name}/*")}
            for name in ("Tracks", *_REPEATED)
        }
        for name in _REPEATED:
            for key, entry in self.tables[name].items():
                if sum(20 + len(part.text or "") for part in entry.iter()) > MAX_ENTRY:
                    raise RejectedFile(
                        "broken", f"score.gpif has an entry {key[:20]!r} of {name} of over {MAX_ENTRY} bytes"
                    )
        self.room = MAX_WRITTEN

    def song(self) -> tuple[Any, Tempos]:
        """The song and its tempos."""
        master_bars = self.root.findall("MasterBars/MasterBar")
        if len(master_bars) > MAX_BARS:
            raise RejectedFile("too long", f"{len(master_bars)} bars, at most {MAX_BARS} are read")
        song = models.Song(tracks=[], measureHeaders=[])
        song.measureHeaders = [_header(number, bar) for number, bar in enumerate(master_bars, 1)]
        rows = [_words(bar, "Bars") for bar in master_bars]  # of each bar, its parts: the staves of all tracks
        first = 0
        for number, key in enumerate(dict.fromkeys(_words(self.root, "MasterTrack/Tracks")), 1):
            element = self._find("Tracks", key)
            instrument = element.find("Instrument")  # of version 6, whose pianos (such as a-piano-gs) have two staves
            is_grand = instrument is not None and instrument.get("ref", "").endswith("-gs")
            staves = element.findall("Staves/Staff") or [element] * (1 + is_grand)
            last = first + len(staves)
            song.tracks.append(self._track(song, number, element, staves, [row[first:last] for row in rows]))
            first = last
        if self.root.find("MasterTrack/Anacrusis") is not None:
            _move_upbeat(song)
        tempos = self._tempos(len(master_bars))
        song.tempo = tempos[0].get(Fraction(0), 120) if tempos else 120
        return song, tempos

    def _find(self, table: str, key: str) -> Element:
        """An entry of a table, which counts as written."""
        self.room -= 1
        if self.room < 0:
            raise RejectedFile("too long", f"over {MAX_WRITTEN} bars, beats and notes as written")
        if key not in self.tables[table]:
            raise RejectedFile("broken", f"score.gpif refers to {key[:20]!r} of {table}, which is not there")
        return self.tables[table][key]

    def _tempos(self, bars: int) -> Tempos:
        tempos: Tempos = [{} for _ in range(bars)]
        for change in self.root.iterfind("MasterTrack/Automations/Automation[Type='Tempo']"):
            bar = int(change.findtext("Bar", "0"))
            if 0 <= bar < bars:
                value, *unit = _words(change, "Value")
                at = min(max(Fraction(change.findtext("Position", "0")), Fraction(0)), Fraction(1))
                tempos[bar][at] = float(value) * float(_TEMPO_UNITS[int(unit[0]) if unit else 2])
        return tempos

    def _track(
        self, song: Any, number: int, element: Element, staves: Sequence[Element], rows: Sequence[list[str]]
    ) -> Any:
        """A track; its staves, whose bars are in `rows`, are voices."""
        is_drum = _is_drum(element)
        track = models.Track(song, number=number, measures=[], isPercussionTrack=is_drum)
        track.strings = [models.GuitarString(string, 0) for string in range(N_STRINGS)]
        track.name = element.findtext("Name", "").encode().decode("latin-1")  # as PyGuitarPro decodes them here
        track.channel = models.MidiChannel(channel=9 if is_drum else 0, instrument=_program(element))
        parts = [_staff(element, staff, is_drum) for staff in staves]
        played: list[list[str]] = [[] for _ in staves]  # ids of the bars so far
        for header, row in zip(song.measureHeaders, rows, strict=True):
            measure = models.Measure(track, header, voices=[])
            for staff, before, key in zip(parts, played, row, strict=False):
                bar = self._find("Bars", key)
                back = {"Simple": 1, "FirstOfDouble": 2, "SecondOfDouble": 2}.get(bar.findtext("SimileMark", ""), 0)
                if 0 < back <= len(before):
                    bar = self._find("Bars", key := before[-back])
                before.append(key)
                measure.voices += [self._voice(measure, voice, staff) for voice in _words(bar, "Voices")]
            if len(measure.voices) > _MAX_VOICES:
                raise RejectedFile(
                    "broken", f"track {number}, measure {header.number} has {len(measure.voices)} voices"
                )
            track.measures.append(measure)
        return track

    def _voice(self, measure: Any, key: str, staff: _Staff) -> Any:
        voice = models.Voice(measure)
        if key != "-1":
            voice.beats = [self._beat(voice, beat, staff) for beat in _words(self._find("Voices", key), "Beats")]
        return voice

    def _beat(self, voice: Any, key: str, staff: _Staff) -> Any:
        element = self._find("Beats", key)
        grace, notes = element.findtext("GraceNotes"), _words(element, "Notes")
        beat = (GraceBeat if grace else models.Beat)(voice)
        beat.is_on_beat = grace == "OnBeat"
        rhythm = element.find("Rhythm")
        beat.duration = _duration(_rhythm(self._find("Rhythms", rhythm.get("ref", "") if rhythm is not None else "")))
        beat.status = models.BeatStatus.normal if notes else models.BeatStatus.rest
        velocity = models.Velocities.default
        if (dynamic := element.findtext("Dynamic")) in _DYNAMICS:
            step = _DYNAMICS.index(dynamic)
            velocity = models.Velocities.minVelocity + models.Velocities.velocityIncrement * step
        for key in notes:
            if (note := _note(beat, self._find("Notes", key), staff)) is not None:
                note.velocity = velocity
                beat.notes.append(note)
        return beat


def _words(element: Element, path: str) -> list[str]:
    return (element.findtext(path) or "").split()


def _header(number: int, element: Element) -> Any:
    upper, lower = (int(word) for word in element.findtext("Time", "4/4").split("/"))
    header = models.MeasureHeader(number=number)
    header.timeSignature = models.TimeSignature(upper, models.Duration(lower))
    repeat = element.find("Repeat")
    if repeat is not None:
        header.isRepeatOpen = repeat.get("start") == "true"
        if repeat.get("end") == "true":
            header.repeatClose = int(repeat.get("count", "2")) - 1
    endings = [int(word) for word in _words(element, "AlternateEndings")]
    if any(not 1 <= ending <= 32 for ending in endings):
        raise RejectedFile("broken", f"measure {number} has an alternate ending beyond 32")
    header.repeatAlternative = sum(1 << ending - 1 for ending in set(endings))
    header.tripletFeel = _FEELS.get(element.findtext("TripletFeel", ""), models.TripletFeel.none)
    header.direction = _direction(element.findtext("Directions/Target"))
    header.fromDirection = _direction(element.findtext("Directions/Jump"))
    return header


def _direction(name: str | None) -> Any:
    """`DaSegnoAlCoda` is `Da Segno al Coda` in PyGuitarPro."""
    if not name:
        return None
    return models.DirectionSign(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).replace(" Al ", " al "))


def _is_drum(track: Element) -> bool:
    midi = track.find("GeneralMidi")
    channels = (track.findtext("MidiConnection/PrimaryChannel"), track.findtext("GeneralMidi/PrimaryChannel"))
    return (
        str(models.MidiChannel.DEFAULT_PERCUSSION_CHANNEL) in channels
        or track.findtext("InstrumentSet/Type") == "drumKit"
        or (midi is not None and midi.get("table") == "Percussion")
    )


def _program(track: Element) -> int:
    """The program that a track begins with."""
    written = track.findtext("GeneralMidi/Program")  # version 6
    if written is not None:
        return int(written)
    programs = {
        ";".join(sound.findtext(part, "") for part in ("Path", "Name", "Role")): int(
            sound.findtext("MIDI/Program", "0")
        )
        for sound in track.iterfind("Sounds/Sound")
    }
    changes = track.findall("Automations/Automation[Type='Sound']")
    first = min(changes, key=lambda change: float(change.findtext("Bar", "0")), default=None)
    name = "" if first is None else first.findtext("Value", "")
    return programs.get(name, next(iter(programs.values()), models.MidiChannel().instrument))


def _staff(track: Element, staff: Element, is_drum: bool) -> _Staff:
    properties = _properties(staff)
    capo = int(_number(properties, "CapoFret", "0"))
    partial = int(_number(properties, "PartialCapoFret", "0"))
    tuning = [int(pitch) + capo for pitch in _words(properties.get("Tuning", Element("none")), "Pitches")]
    numbers = [articulation.findtext("OutputMidiNumber", "-1") for articulation in track.iter("Articulation")]
    # which strings a partial capo leaves out is not resolved: then the notes say their pitch
    return _Staff(() if partial else tuning, [int(number or -1) for number in numbers] if is_drum else None)


def _properties(element: Element) -> dict[str, Element]:
    return {entry.get("name", ""): entry for entry in element.iterfind("Properties/Property")}


def _number(properties: dict[str, Element], name: str, default: str = "-1") -> str:
    """The only value of a property."""
    entry = properties.get(name)
    return default if entry is None else "".join(entry.itertext()).strip() or default


def _rhythm(element: Element) -> Fraction:
    """The length of a rhythm in whole notes."""
    value = Fraction(1, 1 << _NOTE_VALUES.index(element.findtext("NoteValue", "Quarter")))
    dots = element.find("AugmentationDot")
    value *= 2 - Fraction(1, 1 << min(int(dots.get("count", "1")), 8)) if dots is not None else 1
    for name in ("PrimaryTuplet", "SecondaryTuplet"):
        if (tuplet := element.find(name)) is not None:
            num, den = (int(tuplet.get(part, "1")) for part in ("num", "den"))
            if not (0 < num <= 1000 and 0 < den <= 1000):
                raise RejectedFile("broken", f"a tuplet of {num} notes in the time of {den}")
            value *= Fraction(den, num)
    return value


def _duration(whole_notes: Fraction) -> Any:
    return models.Duration(1, False, models.Tuplet(whole_notes.denominator, whole_notes.numerator))


def _note(beat: Any, element: Element, staff: _Staff) -> Any:
    """A note, or None if it has no pitch."""
    properties = _properties(element)
    string, fret = int(_number(properties, "String")), int(_number(properties, "Fret"))
    is_fretted = staff.drums is None and fret >= 0 and 0 <= string < len(staff.tuning)
    pitch = staff.tuning[string] + fret if is_fretted else _written_pitch(element, properties, staff)
    if not is_fretted and not 0 < pitch <= 127:
        return None
    kind = _number(properties, "HarmonicType", "")
    if kind == "Natural" and is_fretted:
        pitch += _harmonic(properties, fret) - fret
    elif kind in ("Artificial", "Pinch", "Tap"):  # a semi harmonic sounds with its string, a feedback one later
        pitch += _harmonic(properties, 12)
    note = models.Note(beat, value=pitch, string=string + 1 if is_fretted else _NO_STRING + pitch)
    tie = element.find("Tie")
    if "Muted" in properties:
        note.type = models.NoteType.dead
    elif tie is not None and tie.get("destination") == "true":
        note.type = models.NoteType.tie
    else:
        note.type = models.NoteType.normal
    note.effect.staccato = bool(int(element.findtext("Accent") or 0) & _STACCATO)
    return note


def _written_pitch(element: Element, properties: dict[str, Element], staff: _Staff) -> int:
    """The pitch of a note without a fret, or of a drum; -1 if it has none."""
    midi = int(_number(properties, "Midi"))
    if staff.drums is None:
        return midi if midi >= 0 else 12 * int(_number(properties, "Octave")) + int(_number(properties, "Tone", "0"))
    articulation = int(element.findtext("InstrumentArticulation") or -1)
    if 0 <= articulation < len(staff.drums):
        return staff.drums[articulation]
    drum, variation = int(_number(properties, "Element")), int(_number(properties, "Variation", "0"))
    if 0 <= drum < len(_DRUM_KIT):
        return _DRUM_KIT[drum][variation if 0 <= variation < len(_DRUM_KIT[drum]) else 0]
    return midi


def _harmonic(properties: dict[str, Element], fret: int) -> int:
    """Semitones of a harmonic above the string that it divides; `fret` if the node is not written."""
    node = round(float(_number(properties, "HarmonicFret", str(fret))), 1)
    return NODES.get(node, fret)


def _move_upbeat(song: Any) -> None:
    """Moves the notes of an upbeat to the end of the first bar, which has the length of a whole bar here."""
    if not song.measureHeaders:
        return
    signature = song.measureHeaders[0].timeSignature
    bar = Fraction(signature.numerator, max(signature.denominator.value, 1))
    voices = [voice for track in song.tracks for voice in track.measures[0].voices if voice.beats]
    rest = bar - max((_length(voice.beats) for voice in voices), default=bar)
    for voice in voices if rest > 0 else ():
        voice.beats.insert(0, models.Beat(voice, duration=_duration(rest), status=models.BeatStatus.rest))


def _length(beats: Iterable[Any]) -> Fraction:
    """Whole notes."""
    tuplets = (beat.duration.tuplet for beat in beats if not isinstance(beat, GraceBeat))
    return sum((Fraction(tuplet.times, tuplet.enters) for tuplet in tuplets), Fraction(0))
