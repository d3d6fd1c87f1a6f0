"""Converts the bytes of a MusicXML file to a `symusic.Score`, as it is performed.

music21 reads the notation, unrolls repeats, joins tied notes and transposes instruments to their sounding pitch.
Unpitched notes become the drum that their instrument names. A grace note takes a 32nd before its note; one at the start
of the piece is left out. Ignored: cue notes, ornaments, arpeggios, pedal marks, changes of instrument within a part.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from music21 import harmony, repeat, stream, tempo, volume
from music21.musicxml.xmlToM21 import MusicXMLImporter
from symusic import core

from mgen.errors import RejectedFile
from mgen.formats.mending import MAX_QUARTERS, check_notes
from mgen.formats.mxl import read_score
from mgen.formats.xml_files import check_xml

TICKS = 960  # ticks per quarter note of the result of `parse_musicxml`

MAX_WRITTEN = 100_000  # notes; music21 reads a thousand in a second
MAX_PLAYED = 100_000  # bars of all parts, times the most passes of a repeat
MAX_PASSES = 32
_MOST = {"beats": 64, "beat-type": 64, "staves": 16, "octave": 12, "actual-notes": 999, "normal-notes": 999}
"""Largest value of elements: music21 makes a list of beats, and counts on sound values elsewhere."""

_GRACE = Fraction(1, 8)  # quarter notes
_DRUM_CHANNEL = "10"
_STEPS, _SHARPS = "CCDDEFFGGAAB", (1, 3, 6, 8, 10)  # of the twelve pitches of an octave
_SNARE = 38  # drum of an instrument that names none


def parse_musicxml(data: bytes) -> core.ScoreTick:
    """Parses MusicXML, plain or in a zip file (.mxl).

    Returns:
        A track for each staff, 960 ticks per quarter note, with at least one note that is not of drums.

    Raises:
        RejectedFile: with one of the reasons `broken`, `too large`, `too long`, or of `mending.check_notes`.
    """
    text = read_score(data)
    check_xml(text, "the score", doctype=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an exception says more than music21's warning of where it was raised
            score = _convert(ElementTree.fromstring(text))
    except RejectedFile:
        raise
    except Exception as error:  # music21 raises anything: AttributeError, KeyError, its own classes
        raise RejectedFile("broken", f"music21: {type(error).__name__}: {' '.join(str(error).split())}") from error
    check_notes(score)
    return score


def _convert(root: Element) -> core.ScoreTick:
    if root.tag == "score-timewise":
        _order_by_part(root)
    _check_bounds(root)
    _silence_cues(root)
    drums = _name_drums(root)
    importer = MusicXMLImporter()
    importer.xmlRootToScore(root, importer.stream)
    written = importer.stream
    drum_parts = [importer.m21PartObjectsById.get(key) for key in drums]
    are_drums = [any(part is one for one in drum_parts) for part in written.parts]
    with suppress(repeat.ExpanderException):  # repeats that contradict each other are read as written
        written = written.expandRepeats()
    played = written.toSoundingPitch().stripTies(matchByPitch=True)
    score = core.ScoreTick(TICKS)
    for part, is_drum in zip(played.parts, are_drums, strict=True):
        instrument = part.getInstrument(returnDefault=True)
        track = core.TrackTick(part.partName or "", 0 if is_drum else instrument.midiProgram or 0, is_drum)
        volume.realizeVolume(part)
        for onset, length, pitch, velocity in _notes(part):
            if onset + length > MAX_QUARTERS:
                raise RejectedFile("too long", f"{float(onset):.0f} quarter notes, at most {MAX_QUARTERS} are read")
            start, end = round(onset * TICKS), round((onset + length) * TICKS)
            track.notes.append(core.NoteTick(start, end - start, pitch, velocity))
        track.notes.sort()
        score.tracks.append(track)
    for mark in played.flatten().getElementsByClass(tempo.MetronomeMark):
        if quarters := mark.getQuarterBPM():
            score.tempos.append(core.TempoTick(round(mark.offset * TICKS), qpm=quarters))
    for part in played.parts[:1]:
        for onset, numerator, denominator in _signatures(part):
            score.time_signatures.append(core.TimeSignatureTick(round(onset * TICKS), numerator, denominator))
    return score


def _order_by_part(root: Element) -> None:
    """Makes a score of measures with parts one of parts with measures."""
    parts: dict[str, Element] = {}
    for measure in root.findall("measure"):
        root.remove(measure)
        for part in measure.findall("part"):
            key = part.get("id", "")
            if key not in parts:
                parts[key] = ElementTree.SubElement(root, "part", id=key)
            bar = ElementTree.SubElement(parts[key], "measure", measure.attrib)
            bar.extend(part)
    root.tag = "score-partwise"


def _check_bounds(root: Element) -> None:
    notes = sum(1 for _ in root.iter("note"))
    if notes > MAX_WRITTEN:
        raise RejectedFile("too long", f"{notes} notes, at most {MAX_WRITTEN} are read")
    passes = max((int(sign.get("times", "2")) for sign in root.iter("repeat")), default=1)
    for tag, most in _MOST.items():
        for element in root.iter(tag):
            if any(int(number) > most for number in re.findall(r"\d{1,9}", element.text or "")):
                raise RejectedFile("broken", f"{tag} {(element.text or '').strip()[:20]}, at most {most} is read")
    bars = sum(1 for _ in root.iter("measure")) * passes
    if bars > MAX_PLAYED or passes > MAX_PASSES:
        found = f"{bars} bars of all parts in {passes} passes"
        raise RejectedFile("too long", f"{found}, at most {MAX_PLAYED} and {MAX_PASSES} are read")


def _silence_cues(root: Element) -> None:
    """Makes rests of cue notes, which music21 takes for notes."""
    for bar in root.iter("measure"):
        for note in bar.findall("note"):
            if note.find("cue") is None:
                continue
            if note.find("chord") is not None or note.find("grace") is not None:
                bar.remove(note)
            for pitch in note.findall("pitch") + note.findall("unpitched"):
                pitch.tag = "rest"
                pitch[:] = []


def _name_drums(root: Element) -> set[str]:
    """Writes unpitched notes as notes of their drum's pitch; returns the ids of the parts of drums."""
    pitches, drums = {}, set()
    for part in root.iterfind("part-list/score-part"):
        for midi in part.iterfind("midi-instrument"):
            if midi.findtext("midi-channel", "").strip() == _DRUM_CHANNEL:
                drums.add(part.get("id", ""))
            if drum := midi.findtext("midi-unpitched"):
                pitches[midi.get("id")] = int(drum) - 1
    for part in root.iterfind("part"):
        for note in part.iter("note"):
            unpitched, instrument = note.find("unpitched"), note.find("instrument")
            if unpitched is None:
                continue
            drums.add(part.get("id", ""))
            pitch = pitches.get(None if instrument is None else instrument.get("id"), _SNARE)
            unpitched.tag = "pitch"
            unpitched[:] = []
            step, is_sharp = _STEPS[pitch % 12], pitch % 12 in _SHARPS
            for tag, value in (("step", step), ("alter", int(is_sharp)), ("octave", pitch // 12 - 1)):
                ElementTree.SubElement(unpitched, tag).text = str(value)
    return drums


def _notes(part: Any) -> Iterator[tuple[Fraction, Fraction, int, int]]:
    """Onset and duration in quarter notes, pitch and velocity of the notes of a part."""
    graces: list[Any] = []
    for note in part.flatten().notes:
        if isinstance(note, harmony.Harmony):  # a chord symbol
            continue
        if note.duration.isGrace:
            graces.append(note)
            continue
        onset = Fraction(note.offset)
        for number, grace in enumerate(reversed(graces), 1):
            if onset >= number * _GRACE:
                yield from _sounds(grace, onset - number * _GRACE, _GRACE)
        graces.clear()
        yield from _sounds(note, onset, Fraction(note.quarterLength))


def _sounds(note: Any, onset: Fraction, length: Fraction) -> Iterator[tuple[Fraction, Fraction, int, int]]:
    loudness = note.volume.cachedRealized if note.volume.cachedRealized is not None else note.volume.realized
    for pitch in note.pitches:
        yield onset, length, int(pitch.midi), min(max(round(127 * loudness), 1), 127)


def _signatures(part: Any) -> Iterator[tuple[Fraction, int, int]]:
    """Onset in quarter notes, numerator and denominator where the length of the bars changes.

    An upbeat, or another bar that is shorter than its time signature, has that of its length.
    """
    bars = list(part.getElementsByClass(stream.Measure))
    written, current = (4, 4), None
    for bar, following in zip(bars, [*bars[1:], None], strict=True):
        if bar.timeSignature is not None:
            written = (bar.timeSignature.numerator, bar.timeSignature.denominator)
        onset, now = Fraction(bar.offset), written
        if following is not None:
            length = (Fraction(following.offset) - onset) / 4
            if 0 < length < Fraction(*written) and length.denominator <= 64:
                now = (length.numerator * max(4 // length.denominator, 1), max(length.denominator, 4))
        if now != current:
            yield onset, *now
        current = now
