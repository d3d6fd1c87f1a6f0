"""Converts the bytes of a Guitar Pro tab, version 3 to 8, to a `symusic.Score`, as it is performed.

PyGuitarPro decodes versions 3 to 5, `gpif` the later ones; this module interprets their notation in time. Repeats,
alternative endings and directions (Da Capo, Segno, Coda, Fine) are unrolled. A bar is as long as its time signature;
notes past its end are left out. Supported: tuning, capo, ties, grace notes, staccato, duration in percent, triplet
feel, and the pitch of natural, artificial and tapped harmonics, and of pinch harmonics from version 6 on, which stores
it. Ignored: dead notes (no pitch), mutes, let ring, bends, slides, trills, tremolo picking, accents, other harmonics
(read as fretted), changes of instrument within a track, gradual tempo changes (applied at once). Muted tracks are read
like the others.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from guitarpro import models
from guitarpro.io import getVersionAndGPFile
from numpy.typing import NDArray
from symusic import core

from mgen.errors import RejectedFile
from mgen.formats.gpif import MAX_BARS, N_STRINGS, NODES, GraceBeat, Tempos, read_gpif
from mgen.formats.gpx import is_gp, is_gpx, read_score
from mgen.formats.mending import MAX_QUARTERS, check_notes

TICKS = 960  # ticks per quarter note of the result of `parse_guitar_pro`

MAX_BYTES = 1 << 20
"""Largest tab read, except zip files: decoding can take 300 times its size in memory. The largest real one has 0.3 MB.
"""

MAX_NOTES = 1_000_000  # most notes with repeats unrolled; the largest real piece seen has 20,000
_FINE = 45_045  # parts per tick: 9 * 5 * 7 * 11 * 13, so that every tuplet of Guitar Pro is a whole number
_WHOLE = 4 * TICKS * _FINE

_HARMONICS = (12, 19, 24, 28, 31, 34, 36)
"""Semitones above a string of the tones that touching it can give: its second to eighth harmonic."""

_SWING_UNITS = (-1, _WHOLE // 8, _WHOLE // 16)
"""Length of the notes that a triplet feel lengthens and shortens alternately, by number of the feel."""


def parse_guitar_pro(data: bytes, unroll: bool = True) -> core.ScoreTick:
    """Parses a Guitar Pro file of version 3 to 8.

    Args:
        data: the whole file.
        unroll: unroll repeats, endings and directions; otherwise every bar appears once, as written.

    Returns:
        A track for each track of the file, 960 ticks per quarter note, with at least one note that is not of drums.

    Raises:
        RejectedFile: with one of the reasons `unsupported version`, `too large`, `broken` (cut off or malformed; with
            track and bar if PyGuitarPro gives them), `too long`, or of `mending.check_notes`.
    """
    song, changes = _decode(data)
    lengths = [_bar_length(header) for header in song.measureHeaders]
    order = _play_order(song.measureHeaders) if unroll else range(len(lengths))
    starts = np.concatenate([[0], np.cumsum([lengths[bar] for bar in order], dtype=np.int64)])
    if starts[-1] > MAX_QUARTERS * TICKS * _FINE:
        quarters = starts[-1] // (TICKS * _FINE)
        raise RejectedFile("too long", f"{quarters} quarter notes, at most {MAX_QUARTERS} are read")
    score = core.ScoreTick(TICKS)
    tempos = [
        {round(part * length): tempo for part, tempo in bar.items()}
        for bar, length in zip(changes, lengths, strict=True)
    ]
    room = MAX_NOTES
    for track in song.tracks:
        bars = _read_track(track, lengths, tempos)
        room -= sum(len(bars[bar].notes) for bar in order)
        if room < 0:
            raise RejectedFile("too long", f"over {MAX_NOTES} notes, with repeats unrolled")
        score.tracks.append(_unroll_track(track, bars, order, starts))
    _add_tempos(score, song.tempo, tempos, order, starts)
    _add_time_signatures(score, song.measureHeaders, order, starts)
    check_notes(score)
    return score


class _Bounded:
    """Protects PyGuitarPro's readers against crafted files: endless bars, and searches with quadratic cost."""

    def readMeasureHeaders(self, song: Any, count: int, *directions: Any) -> None:
        """Reads the bars, one byte of the file each."""
        if count > MAX_BARS:
            raise RejectedFile("too long", f"{count} bars, at most {MAX_BARS} are read")
        super().readMeasureHeaders(song, count, *directions)  # type: ignore[misc]

    def getBeat(self, voice: Any, start: Any) -> Any:
        """The beat at `start`, which can only be the last one: beats are in order."""
        if voice.beats and voice.beats[-1].start == start:
            return voice.beats[-1]
        beat = models.Beat(voice)
        beat.start = start
        voice.beats.append(beat)
        return beat

    def readHarmonic(self, note: Any) -> Any:
        """A harmonic; of version 4, PyGuitarPro swaps the codes 15 and 17, the nodes 5 and 7 frets above the note."""
        harmonic = super().readHarmonic(note)  # type: ignore[misc]
        if self.versionTuple < (5,) and isinstance(harmonic, models.ArtificialHarmonic):  # type: ignore[attr-defined]
            if harmonic.octave is models.Octave.quindicesima:
                return models.ArtificialHarmonic(models.PitchClass(note.realValue + 7), models.Octave.ottava)
            if harmonic.pitch.value != note.realValue % 12:
                return models.ArtificialHarmonic(models.PitchClass(note.realValue), models.Octave.quindicesima)
        return harmonic

    def getTiedNoteValue(self, note: Any) -> int:
        """No fret: `_read_track` finds the previous note."""
        return 0


def _decode(data: bytes) -> tuple[Any, Tempos]:
    """PyGuitarPro's song, with texts in Latin-1, which decodes any bytes; and the tempo changes outside its beats."""
    if not is_gp(data) and len(data) > MAX_BYTES:
        raise RejectedFile("too large", f"{len(data) / 2**20:.1f} MiB, at most {MAX_BYTES >> 20} are read of a tab")
    song, changes = read_gpif(read_score(data)) if is_gp(data) or is_gpx(data) else _decode_older(data)
    if not song.measureHeaders:
        raise RejectedFile("no notes", "no bars")
    return song, changes


def _decode_older(data: bytes) -> tuple[Any, Tempos]:
    """The song of versions 3 to 5."""
    header = data[1 : 1 + min(data[0], 30)].decode("latin-1") if data else ""
    try:
        version, reader = getVersionAndGPFile(header)
    except models.GPException as error:
        raise RejectedFile("unsupported version", f"{header!r}; export it as Guitar Pro 5 (.gp5)") from error
    stream = io.BytesIO(data)
    stream.seek(31)
    bounded = type("BoundedReader", (_Bounded, reader), {})  # of GP3File, GP4File or GP5File
    try:
        song = bounded(stream, "latin-1", version=header, versionTuple=version).readSong()
    except RejectedFile:
        raise
    except Exception as error:  # broken bytes raise anything: ValueError, struct.error, UnboundLocalError, ...
        raise RejectedFile("broken", _what_broke(error)) from error
    return song, [{} for _ in song.measureHeaders]


def _what_broke(error: Exception) -> str:
    """One line; PyGuitarPro's own errors have the form `reading track 1, measure 2, ..., got ...`."""
    where, cause = "", error
    if isinstance(error, models.GPException):
        where, cause = str(error).partition(", got ")[0].removeprefix("reading "), error.__cause__ or error
    if isinstance(cause, struct.error):
        return f"ends inside {where or 'its header'}"
    return " ".join(f"{where + ': ' if where else ''}{type(cause).__name__}: {cause}".split())


def _bar_length(header: Any) -> int:
    """Length of a bar in parts of a tick."""
    numerator, denominator = header.timeSignature.numerator, header.timeSignature.denominator.value
    if not 1 <= numerator <= 64 or denominator not in (1, 2, 4, 8, 16, 32, 64):
        raise RejectedFile("broken", f"measure {header.number} has the time signature {numerator}/{denominator}")
    return int(numerator * _WHOLE // denominator)


# Order of bars


@dataclass(slots=True)
class _Repeat:
    """Bars from a repeat start to its last repeat end."""

    opening: int
    is_written: bool = True  # False for the implicit repeat start of the piece
    closes: list[int] = field(default_factory=list)
    endings: int = 0  # all alternative endings, bit 0 for the first
    is_marked: bool = True  # False if an end without a number is the first ending

    @property
    def lowest(self) -> int:
        """Bit of the ending that is played first."""
        return (self.endings & -self.endings).bit_length() - 1 if self.endings and self.is_marked else 0


def _play_order(headers: Sequence[Any]) -> list[int]:
    """Bar numbers in playing order.

    A repeat end goes back to its start: the innermost one that is still open, or else the last one, whose earlier ends
    are then repeated again (A :| B :| is A A B A A B, as in other software). An alternative ending extends to its
    repeat end or to the next sign. Each direction is followed once; after it repeats are skipped, and of the endings
    played before only the last is played, until a coda.

    Raises:
        RejectedFile: `too long`, over 10,000 bars.
    """
    repeats, endings = _repeat_signs(headers)
    signs = {header.direction.name: bar for bar, header in enumerate(headers) if header.direction}
    order: list[int] = []
    played: set[int] = set()
    passes: dict[int, int] = {}  # of each repeat that was entered at its start
    rounds: dict[int, int] = {}  # of each repeat end
    taken: set[int] = set()
    until = ""  # after a direction: where it ends (Coda, Double Coda, Fine or End)
    ending_is_open = False
    bar = steps = 0
    jumped_back = False
    while bar < len(headers):
        if (steps := steps + 1) > 4 * MAX_BARS or len(order) > MAX_BARS:
            raise RejectedFile("too long", f"over {MAX_BARS} bars, with repeats unrolled")
        header, repeat, ending = headers[bar], repeats[bar], endings[bar]
        if bar == repeat.opening:
            ending_is_open = False
            if not jumped_back and not until:
                passes[bar] = 0
                rounds.update(dict.fromkeys(repeat.closes, 0))
        jumped_back = False
        number = passes.get(repeat.opening, max(repeat.endings.bit_length() - 1, 0))
        is_played = (
            not ending
            or bool(ending >> number & 1)
            or (ending_is_open and bar > max(repeat.closes[-1:], default=-1))  # cannot be reached later
            or (until != "" and bar not in played)
        )
        if is_played:
            order.append(bar)
            played.add(bar)
            ending_is_open |= bool(header.repeatAlternative)
        closes = header.repeatClose > 0 and repeat.opening in passes
        if closes and (is_played or ending_is_open):
            # the count of a repeat end and the endings often disagree: the greater one holds
            later = ending and repeat.endings >> (number + 1)
            if later or (number if ending else rounds[bar]) < header.repeatClose:
                passes[repeat.opening] += 1
                rounds[bar] += 1
                rounds.update(dict.fromkeys(repeat.closes[: repeat.closes.index(bar)], 0))
                bar, jumped_back = repeat.opening, True
                continue
            ending_is_open = False
        if is_played and header.fromDirection and until in ("", "End") and bar not in taken:
            target, until_next = _direction(header.fromDirection.name)
            if target in signs or target == "":
                taken.add(bar)
                passes.clear()
                bar, until = signs.get(target, 0), until_next
                continue
        if is_played and until == "Fine" and signs.get("Fine") == bar:
            break
        if is_played and header.fromDirection and header.fromDirection.name == f"Da {until}" and until in signs:
            bar, until = signs[until], ""
            continue
        bar += 1
    return order


def _repeat_signs(headers: Sequence[Any]) -> tuple[list[_Repeat], list[int]]:
    """Repeat and alternative endings (bit 0 for the first, 0 for none) of each bar."""
    open_repeats = [_Repeat(0, is_written=False)]  # only the last one may have an end already
    repeats, endings = [], []
    ending = 0
    for bar, header in enumerate(headers):
        if header.isRepeatOpen:
            if open_repeats[-1].closes or not open_repeats[-1].is_written:
                open_repeats.pop()
            open_repeats.append(_Repeat(bar))
            ending = 0
        ending = header.repeatAlternative or ending
        is_close = header.repeatClose > 0
        if is_close and open_repeats[-1].closes and not ending and len(open_repeats) > 1:
            open_repeats.pop()
        repeat = open_repeats[-1]
        if ending and not repeat.endings:
            repeat.is_marked = not repeat.closes
        repeat.endings |= ending
        repeats.append(repeat)
        endings.append(ending)
        if is_close:
            repeat.closes.append(bar)
            ending = 0
    # some files number endings through the piece: the lowest is then the first of its repeat
    for bar, repeat in enumerate(repeats):
        endings[bar] >>= repeat.lowest
    for repeat in {repeat.opening: repeat for repeat in repeats}.values():
        repeat.endings >>= repeat.lowest
    return repeats, endings


def _direction(name: str) -> tuple[str, str]:
    """Target of a direction such as `Da Segno al Coda`: a sign ("" for the start, "?" for none), and where it ends."""
    where, _, until = name.removeprefix("Da ").partition(" al ")
    return {"Capo": "", "Segno": "Segno", "Segno Segno": "Segno Segno"}.get(where, "?"), until or "End"


# Notes of a bar


@dataclass(slots=True)
class _Bar:
    """Notes of one track in one bar, as rows of onset, end, pitch, velocity and string.

    Times are in parts of a tick from the start of the bar; `string` combines voice and string.
    """

    notes: list[list[int]] = field(default_factory=list)
    held: list[list[int]] = field(default_factory=list)  # ties to a note before the bar
    last: dict[int, int] = field(default_factory=dict)  # string -> its last note in `notes`; -1 for a dead note


@dataclass(slots=True)
class _Strings:
    """State of a track that is carried from bar to bar."""

    open_pitch: dict[int, int]  # of each string with capo; 0 for drums, whose frets are pitches
    capo: int = 0
    written: dict[int, int] = field(default_factory=dict)
    """Pitch of the last note on each string of each voice, in file order; -1 for a dead note."""

    before: dict[int, int] = field(default_factory=dict)  # length of the last beat of each voice


def _read_track(track: Any, lengths: Sequence[int], tempos: Sequence[dict[int, float]]) -> list[_Bar]:
    """Reads the bars of a track as written; adds tempo changes to `tempos`, {time in the bar: quarters per minute}."""
    is_drum = _is_drum(track)
    open_pitch = {string.number: 0 if is_drum else string.value + track.offset for string in track.strings}
    strings = _Strings(open_pitch, capo=track.offset)
    bars = []
    for measure, length, changes in zip(track.measures, lengths, tempos, strict=False):
        bar = _Bar()
        swung = _SWING_UNITS[measure.header.tripletFeel.value]
        for voice, beats in enumerate(part.beats for part in measure.voices):
            now = 0
            graces: list[GraceBeat] = []
            for beat in beats:
                if now >= length:
                    break
                if isinstance(beat, GraceBeat):
                    graces.append(beat)
                    continue
                mix = beat.effect.mixTableChange
                if mix is not None and mix.tempo is not None:
                    changes[now] = mix.tempo.value
                if beat.status is models.BeatStatus.empty:
                    continue
                lasts = _beat_length(beat)
                start, end = now, now + lasts
                if lasts == swung:
                    start, end = _swing(start, swung)
                if graces:
                    start = _read_grace_beats(bar, graces, start, min(end, length), voice, strings)
                    graces = []
                if beat.notes:
                    _read_beat(bar, beat.notes, start, min(end, length), voice, strings)
                strings.before[voice] = lasts
                now += lasts
        for _, _, pitch, _, _ in bar.notes:
            if not 0 <= pitch <= 127:
                where = f"track {track.number}, measure {measure.number}"
                raise RejectedFile("broken", f"{where}: a pitch of {pitch}, expected 0 to 127")
        bars.append(bar)
    return bars


def _read_beat(bar: _Bar, notes: Iterable[Any], start: int, end: int, voice: int, strings: _Strings) -> None:
    """Adds the notes of one beat to its bar."""
    written = strings.written
    for note in notes:
        string = voice * N_STRINGS + note.string
        kind = note.type
        if kind is models.NoteType.tie:
            at = bar.last.get(string)
            if at is None:
                if written.get(string, -1) >= 0:
                    bar.held.append([start, end, written[string], _velocity(note), string])
            elif at >= 0:
                bar.notes[at][1] = max(bar.notes[at][1], end)
            continue
        if kind is models.NoteType.dead:
            bar.last[string] = written[string] = -1
        if kind is not models.NoteType.normal:
            continue
        effect = note.effect
        pitch = strings.open_pitch[note.string] + note.value
        if effect.harmonic is not None:
            pitch += _harmonic_semitones(effect.harmonic, note.value, pitch, strings.capo)
        onset = start
        if effect.grace is not None and not effect.grace.isDead and effect.grace.fret <= 99:
            onset = _read_grace(bar, effect.grace, start, end, string, strings)
        sounding = end - onset
        if effect.staccato:
            sounding //= 2
        if note.durationPercent != 1 and 0 < note.durationPercent <= 8:
            sounding = round(sounding * note.durationPercent)
        bar.last[string] = len(bar.notes)
        written[string] = pitch
        bar.notes.append([onset, onset + sounding, pitch, _velocity(note), string])


def _read_grace(bar: _Bar, grace: Any, start: int, end: int, string: int, strings: _Strings) -> int:
    """Adds a grace note, which takes at most half of the beat it shortens; returns the onset of its main note."""
    length = _WHOLE // grace.duration
    before = strings.before.get(string // N_STRINGS, 0)
    pitch, velocity = strings.open_pitch[string % N_STRINGS] + grace.fret, _velocity(grace)
    if grace.isOnBeat or not before:
        onset = start + min(length, (end - start) // 2)
        bar.notes.append([start, onset, pitch, velocity, string])
        return int(onset)
    length = min(length, before // 2)
    bar.notes.append([start - length, start, pitch, velocity, string])
    return start


def _read_grace_beats(
    bar: _Bar, graces: Sequence[GraceBeat], start: int, end: int, voice: int, strings: _Strings
) -> int:
    """Adds grace notes that have their own beats, at most half of the beat they shorten; returns the main onset."""
    ends = np.cumsum([_beat_length(grace) for grace in graces])
    before = strings.before.get(voice, 0)
    is_on_beat = graces[0].is_on_beat or not before
    total = min(int(ends[-1]), (end - start if is_on_beat else before) // 2)
    first = start if is_on_beat else start - total
    edges = [first, *(first + int(at) * total // int(ends[-1]) for at in ends)]
    for grace, onset, until in zip(graces, edges, edges[1:], strict=False):
        _read_beat(bar, grace.notes, onset, until, voice, strings)
    return max(start, edges[-1])


def _beat_length(beat: Any) -> int:
    """Parts of a tick."""
    duration, tuplet = beat.duration, beat.duration.tuplet
    return _length(duration.value, duration.isDotted, tuplet.enters, tuplet.times)


@lru_cache
def _length(value: int, is_dotted: bool, enters: int, times: int) -> int:
    """Parts of a tick: `value` 4 is a quarter note, `enters` notes last as long as `times`."""
    plain = _WHOLE // value
    return (plain + plain // 2 * int(is_dotted)) * times // enters


def _swing(start: int, unit: int) -> tuple[int, int]:
    """Onset and end of a note in triplet feel: the first of two lasts 2/3 of both, the second 1/3."""
    within = start % (2 * unit)
    onset = start + unit // 3 if within == unit else start
    return onset, start + unit * 4 // 3 if within == 0 else start + unit


def _harmonic_semitones(harmonic: Any, fret: int, pitch: int, capo: int) -> int:
    """Semitones from the fretted pitch to that of a harmonic."""
    if isinstance(harmonic, models.NaturalHarmonic):
        return NODES.get(fret, fret) - fret
    if isinstance(harmonic, models.ArtificialHarmonic):
        if harmonic.pitch is None or harmonic.octave is None:
            return 12
        octaves, stored = 12 * harmonic.octave.value, harmonic.pitch.value
        # some files store the pitch without the capo
        possible = {octaves + (stored - fretted) % 12 for fretted in (pitch, pitch - capo)}
        return min(possible.intersection(_HARMONICS), default=12)
    if isinstance(harmonic, models.TappedHarmonic) and harmonic.fret is not None:
        return NODES.get(harmonic.fret - fret, 12)
    return 0


def _velocity(note: Any) -> int:
    return int(min(max(note.velocity, 1), 127))


def _is_drum(track: Any) -> bool:
    return bool(track.isPercussionTrack or track.channel.isPercussionChannel)


# Bars in playing order


def _unroll_track(track: Any, bars: Sequence[_Bar], order: Sequence[int], starts: NDArray[np.int64]) -> core.TrackTick:
    """The notes of a track in playing order."""
    notes: list[list[int]] = []
    sounding: dict[int, tuple[int, int]] = {}  # string -> its last note, and the index of the bar in playing order
    for played, (number, start) in enumerate(zip(order, starts.tolist(), strict=False)):
        bar = bars[number]
        for onset, end, pitch, velocity, string in bar.held:
            at, last_bar = sounding.get(string, (-1, -1))
            if at >= 0 and notes[at][2] == pitch and played - last_bar <= 1:
                notes[at][1] = start + end
            else:
                at = len(notes)
                notes.append([start + onset, start + end, pitch, velocity, string])
            sounding[string] = (at, played)
        for string, at in bar.last.items():
            sounding[string] = (len(notes) + at if at >= 0 else -1, played)
        notes += [[start + onset, start + end, *others] for onset, end, *others in bar.notes]
    name = _text(track.name)
    if not 0 <= track.channel.instrument <= 127:
        raise RejectedFile("broken", f"track {track.number} has the program {track.channel.instrument}, not 0 to 127")
    out = core.TrackTick(name, 0 if _is_drum(track) else track.channel.instrument, _is_drum(track))
    if notes:
        out.notes = _note_list(np.array(notes, np.int64).T)
    return out


def _note_list(columns: NDArray[np.int64]) -> Any:
    """Sorts notes, (5, N) onset, end, pitch, velocity, string, and rounds them to ticks.

    A note ends at the next one on its string, which may be a grace note; other strings ring on, as in Guitar Pro.
    """
    onset, end, _, _, string = columns = columns[:, np.lexsort((columns[0], columns[4]))]
    follows = (string[1:] == string[:-1]) & (onset[1:] > onset[:-1])
    end[:-1][follows] = np.minimum(end[:-1], onset[1:])[follows]
    columns[:2] = (columns[:2] + _FINE // 2) // _FINE
    onset, end, pitch, velocity, _ = columns[:, np.lexsort((columns[2], columns[0]))]
    return core.NoteTickList.from_numpy(
        onset.astype(np.int32), (end - onset).astype(np.int32), pitch.astype(np.int8), velocity.astype(np.int8)
    )


def _text(latin: str) -> str:
    """Decodes a text: as UTF-8 if valid, else as Windows-1252."""
    data = latin.encode("latin-1")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def _add_tempos(
    score: core.ScoreTick,
    first: float,
    changes: Sequence[dict[int, float]],
    order: Sequence[int],
    starts: NDArray[np.int64],
) -> None:
    """Adds tempos in playing order: a bar starts with the last tempo written before it, also after a jump."""
    at_start, now = [], first
    for change in changes:
        at_start.append(now)
        if change:
            now = change[max(change)]
    current = None
    for number, start in zip(order, starts.tolist(), strict=False):
        for time, tempo in sorted({0: at_start[number], **changes[number]}.items()):
            if tempo <= 0:
                raise RejectedFile("tempo", f"measure {number + 1} has {tempo:g} quarter notes per minute")
            if tempo != current:
                score.tempos.append(core.TempoTick((start + time) // _FINE, mspq=round(6e7 / tempo)))
            current = tempo


def _add_time_signatures(
    score: core.ScoreTick, headers: Sequence[Any], order: Sequence[int], starts: NDArray[np.int64]
) -> None:
    current = None
    for number, start in zip(order, starts.tolist(), strict=False):
        signature = headers[number].timeSignature
        now = (signature.numerator, signature.denominator.value)
        if now != current:
            score.time_signatures.append(core.TimeSignatureTick(start // _FINE, *now))
        current = now
