"""The embedded corpus: pieces composed by a small grammar, so that everything runs offline.

Eight collections, four per style, written as MIDI files. *jazz* has swing at exactly 2:1, ii-V-I and blues changes in
sevenths and ninths, walking bass and motifs that return varied; *other* has straight eighths, triads, chorale and pop
patterns.

File formats are shortcuts on purpose. The format of a collection (ticks per quarter, tempo, velocities, tracks)
identifies it, so a critic of formats is right about unseen works of known collections. But both styles use every
resolution, velocity range and number of tracks, and the two performed collections differ in format by the pedal only:
on an unseen collection such a critic guesses or is misled.

The grammar knows harmony and rhythm; only the last part of the module knows ticks and files.
"""

from __future__ import annotations

import csv
import itertools
import re
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from symusic import core

from mgen.notes import STEPS_PER_QUARTER

T = TypeVar("T")

PHRASE = 4  # bars
ARTISTS = 5  # per collection, each with different rhythms
CLOCK_TEMPO = 120  # quarters per minute that a recorder without a tempo writes
SUSTAIN = 64
EIGHTH = STEPS_PER_QUARTER // 2

# Semitones above the root: the chord from the root up, then what a line may pass through
# (for a triad, the key).
CHORDS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "": ((0, 4, 7), ()),
    "m": ((0, 3, 7), ()),
    "maj7": ((0, 4, 7, 11, 14), (2, 6, 9)),
    "m7": ((0, 3, 7, 10, 14), (5, 9)),
    "6": ((0, 4, 7, 9, 14), (11,)),
    "m6": ((0, 3, 7, 9, 14), (5, 11)),
    "7": ((0, 4, 7, 10, 14), (9,)),
    "7b9": ((0, 4, 7, 10, 13), (8,)),
    "m7b5": ((0, 3, 6, 10, 17), (1, 8)),
    "dim7": ((0, 3, 6, 9), (2, 5, 8, 11)),
}

# Tunes in C: the chord that ends it | section A | section B; a word is a bar, a colon splits it.
STANDARDS = (
    "Cmaj7 | Dm7 G7 Cmaj7 A7b9 Dm7 G7 Em7:A7b9 Dm7:G7 | Gm7 C7 Fmaj7 Fmaj7 Am7 D7 Dm7 G7",
    "C6 | C6:Am7 Dm7:G7 Em7:A7b9 Dm7:G7 Gm7:C7 Fmaj7:Fm6 Em7:A7 Dm7:G7 | E7 E7 A7 A7 D7 D7 G7 G7",
    "C6 | Cmaj7 Ebdim7 Dm7 G7 Em7 A7b9 Dm7 G7 | Cm7 F7 Bbmaj7 Bbmaj7 Bbm7 Eb7 Abmaj7 Dm7b5:G7b9",
    "Am6 | Dm7 G7 Cmaj7 Fmaj7 Bm7b5 E7b9 Am6 Am6 | Bm7b5 E7b9 Am6 Am6 Dm7 G7 Cmaj7 E7b9",
)
BLUES = (
    "C7 | C7 F7 C7 Gm7:C7 F7 Gbdim7 C7 Em7b5:A7b9 Dm7 G7 C7:A7b9 Dm7:G7",
    "C7 | C7 C7 C7 C7 F7 F7 C7 C7 G7 F7 C7 G7",
    "Cm6 | Cm6 Cm6 Cm6 C7b9 Fm6 Fm6 Cm6 Cm6 Ab7 G7b9 Cm6 G7b9",
    "C6 | Cmaj7 Bm7b5:E7b9 Am7:D7 Gm7:C7 F7 Fm6 Em7 Ebm7:Ab7 Dm7 G7 Em7:A7 Dm7:G7",
)
CHORALES = (
    "C | C:G Am:Em F:C G C:F G:Am Dm:G C | G:C Am:Dm F:Dm G Am:Em F:C Dm:G C",
    "C | C:F C:G Am:F G G:C F:Am F:G C | Am:Em F:C Dm:Am E E:Am Dm:G F:G C",
    "Am | Am:E Am:Dm Am:E Am C:G Am:Em Dm:E Am | C:G F:C Dm:G C Am:Dm F:Dm Am:E Am",
)
FOLK = (
    "C | C C F C C Am G G | F C G C F C G C",
    "C | C F C G C F C:G C | Am F C G Am F C:G C",
    "Am | Am G Am Em Am G F:E Am | C G Am Em F C E Am",
)
POP = (
    "C | C Am F G C Am F G | F G Em Am F G C C",
    "C | C G Am F C G Am F | Am F C G Am F G G",
    "Am | Am F C G Am F C G | F C G Am F C E E",
    "C | C Em F G C Em F G | Dm F C G Dm F G G",
)


@dataclass(frozen=True, slots=True)
class Feel:
    """Rhythms as strings: x strikes, - holds, . rests; a space separates beats."""

    unit: int  # grid steps that one character lasts
    cells: list[str]  # two beats, the units of phrases
    fillers: list[str]  # one beat, for the rest of a bar
    closes: list[str]  # two beats that end a phrase

    @property
    def beat(self) -> int:
        """Grid steps per beat."""
        return self.unit * len(self.fillers[0])


def _cells(drawn: str) -> list[str]:
    return drawn.split(" | ")


SWING = Feel(
    8,
    _cells("x-x x-x | x-x x-- | x-- x-x | ... x-x | ..x x-x | x-x --x | ..x --x | xxx x--")
    + _cells("x-x xxx | x-x ... | --x x-x"),
    _cells("x-- | x-x | ..x"),
    _cells("x-- --- | x-x ... | x-- ... | --- ..."),
)
STRAIGHT = Feel(
    6,
    _cells("x-x- x-x- | x--- x-x- | x-x- x--- | x--- x--- | x--- --x- | ..x- x-x- | x-x- --x-") + _cells("x-xx x---"),
    _cells("x--- | x-x-"),
    _cells("x--- ---- | x--- .... | x-x- x---"),
)
JIG = Feel(
    6,
    _cells("x-x-x- x-x-x- | x---x- x-x-x- | x-x-x- x---x- | x---x- x---x- | x-x-x- x-----"),
    _cells("x---x- | x-x-x-"),
    _cells("x----- ------ | x---x- x----- | x----- x---.."),
)
COMPING = Feel(8, _cells("x-- --x | x-- --- | ... x-- | ..x --. | ... ..."), _cells("x-- | ..."), [])
STRUM = Feel(6, _cells("x--- ---- | x--- ---- | x--- --x-"), ["x---"], [])
PULSE = Feel(6, _cells("x--- --x- | x--- x--- | x--- ----"), ["x---"], [])

# Beats per bar -> patterns, each drum pitch -> rhythm of a bar.
JAZZ_DRUMS = {
    4: (
        {51: "x-- x-x x-- x-x", 44: "... x.. ... x.."},
        {51: "x-- x-- x-- x-x", 44: "... x.. ... x..", 38: "... ..x ... ..."},
    ),
    3: ({51: "x-- x-x x--", 44: "... x.. ..."}, {51: "x-- x-x x-x", 44: "... x.. x..", 36: "x.. ... ..."}),
}
POP_DRUMS = {
    4: (
        {42: "x-x- x--- x-x- x---", 36: "x... .... x.x. ....", 38: ".... x... .... x..."},
        {42: "x--- x--- x--- x---", 36: "x... .... x... ....", 37: ".... x... .... x..."},
    ),
    3: ({42: "x-x- x-x- x-x-", 36: "x... .... ....", 38: ".... x... x..."},),
}
ARPEGGIOS = ("01213121", "02123212", "01230123", "02132132")  # root below, then the triad


class Chord(NamedTuple):
    """Pitch classes; `tones` is the chord from the root up, `scale` the notes a line may use."""

    tones: tuple[int, ...]
    scale: tuple[int, ...]

    def voiced(self, degrees: Iterable[int], low: int) -> list[int]:
        """Each degree within one octave of `low`: common tones stay, the others step."""
        return sorted({low + (self.tones[degree] - low) % 12 for degree in degrees})


class Event(NamedTuple):
    """A note as composed; `accent` in 0-1 becomes a velocity in the collection's range."""

    onset: int
    duration: int
    pitch: int
    accent: float


class Span(NamedTuple):
    """A chord with its time."""

    onset: int
    duration: int
    chord: Chord

    def held(self, pitches: Iterable[int], accent: float = 0.4) -> list[Event]:
        """Notes as long as the chord."""
        return [Event(self.onset, self.duration, pitch, accent) for pitch in pitches]


class Part(NamedTuple):
    """One track; `program` is -1 for drums."""

    name: str
    program: int
    events: list[Event]


@dataclass(frozen=True, slots=True)
class Song:
    """The plan of a piece, shared by its parts."""

    sections: str  # a letter for each bar
    spans: list[Span]  # the last is a whole bar of the home chord
    beats: int  # in a bar
    feel: Feel
    cells: list[str]  # the artist's share of the feel's

    @property
    def bar(self) -> int:
        """Grid steps per bar."""
        return self.beats * self.feel.beat

    def chord(self, onset: int) -> Chord:
        """The chord that sounds at a grid step."""
        return self.spans[bisect_right(self.spans, onset, key=lambda span: span.onset) - 1].chord


# The grammar


def _pick(rng: Generator, options: Sequence[T]) -> T:
    return options[int(rng.integers(len(options)))]


def _symbol(symbol: str) -> tuple[int, str]:
    """Semitones from C to the root, and the quality."""
    root, accidental, quality = re.findall("([A-G])([b#]?)(.*)", symbol)[0]
    return "C-D-EF-G-A-B".index(root) + {"b": -1, "": 0, "#": 1}[accidental], quality


def _chord(root: int, quality: str, key: int) -> Chord:
    tones, passing = ([(key + root + step) % 12 for step in intervals] for intervals in CHORDS[quality])
    # A white key just below a chord tone would sound as a seventh, or rub against a raised one.
    white = [(key + step) % 12 for step in (0, 2, 4, 5, 7, 9, 11)]
    between = passing or [tone for tone in white if (tone + 1) % 12 not in tones]
    return Chord(tuple(tones), tuple({*tones, *between}))


def _reharmonise(rng: Generator, bars: list[list[tuple[int, str]]]) -> None:
    """Prepares dominants that resolve by a fifth with their ii, or replaces them by their tritone substitute."""
    for bar, following in itertools.pairwise(bars):
        root, quality = bar[0]
        if len(bar) == 1 and quality == "7" and (root + 5 - following[0][0]) % 12 == 0:
            bar[:] = _pick(rng, [bar, bar, [(root + 7, "m7"), (root, "7")], [(root + 6, "7")]])


def _changes(rng: Generator, tune: str, form: str, key: int, beats: int, beat: int) -> tuple[str, list[Span]]:
    """Section letter of each bar, and the chords of a form (AABA) that ends on the tonic."""
    home, *parts = (part.split() for part in tune.split("|"))
    words = dict(zip("AB", parts, strict=False))
    bars = [[_symbol(word) for word in bar.split(":")] for letter in form for bar in words[letter]]
    bars[-1] = [_symbol(home[0])]
    _reharmonise(rng, bars)
    spans, onset = [], 0
    for bar in bars:
        first = -(-beats // len(bar))  # of two chords in three beats, the first has two
        for (root, quality), length in zip(bar, (first, beats - first), strict=False):
            spans.append(Span(onset, length * beat, _chord(root, quality, key)))
            onset += length * beat
    return "".join(letter * len(words[letter]) for letter in form), spans


def _rhythm(rng: Generator, cells: Sequence[str], fillers: Sequence[str], beats: int) -> list[str]:
    drawn = [_pick(rng, cells) for _ in range(beats // 2)]
    return drawn + [_pick(rng, fillers) for _ in range(beats % 2)]


def _strikes(rhythm: Iterable[str], unit: int) -> list[tuple[int, int]]:
    """(onset, duration) of each x; a cell that starts with a hold lengthens the previous note."""
    drawn = "".join(rhythm).replace(" ", "")
    return [(hit.start() * unit, len(hit.group()) * unit) for hit in re.finditer("x-*", drawn)]


def _pool(tones: Iterable[int], low: int, high: int) -> list[int]:
    """All pitches of these pitch classes from low to high."""
    wanted = set(tones)
    return [pitch for pitch in range(low, high + 1) if pitch % 12 in wanted]


def _nearest(pool: Iterable[int], pitch: float) -> int:
    return min(pool, key=lambda candidate: abs(candidate - pitch))


def _melody(rng: Generator, song: Song, low: int, high: int) -> list[Event]:
    """Phrases of motif, answer, varied motif, close; a repeated section repeats its motifs.

    A motif is a rhythm and a contour. On each beat the contour bends to the nearest chord tone (in jazz not to the
    root), so that a motif moves with the changes; in swing, a note before a beat often leans on it by a semitone.
    """
    swing, beat = song.feel is SWING, song.feel.beat
    motifs: dict[tuple[str, int], tuple[list[str], list[int], int]] = {}
    events: list[Event] = []
    pitch = 0
    for bar, section in enumerate(song.sections[:-1]):
        place = bar % PHRASE
        motif = section, place % 2
        if motif not in motifs:
            runs = np.repeat(rng.choice([-2, -1, -1, 1, 1, 2], 12), rng.integers(1, 4, 12))
            drawn = _rhythm(rng, song.cells, song.feel.fillers, song.beats)
            motifs[motif] = drawn, runs.tolist(), int(rng.integers(low + 5, high - 4))
        rhythm, contour, start = motifs[motif]
        rhythm, pitch = list(rhythm), pitch if place else start
        if place == 2 or (swing and rng.random() < 0.2):
            rhythm[0] = _pick(rng, song.cells)
        if place == PHRASE - 1:
            rhythm[song.beats // 2 - 1] = _pick(rng, song.feel.closes)
        for (within, duration), step in zip(_strikes(rhythm, song.feel.unit), contour, strict=False):
            onset = bar * song.bar + within
            chord = song.chord(onset)
            ladder = _pool(chord.scale if within % beat else chord.tones[swing:], low, high)
            if not low + 3 < pitch < high - 3:
                step = 1 if pitch < (low + high) / 2 else -1
            pitch = _nearest((rung for rung in ladder if rung != pitch), pitch + 1.7 * step)
            arch = 0.3 * float(np.sin(np.pi * bar / len(song.sections)))
            events.append(Event(onset, duration, pitch, 0.3 + arch + 0.2 * (within == 0)))
    for index, (event, goal) in enumerate(itertools.pairwise(events) if swing else ()):
        if event.onset % beat and event.onset + event.duration == goal.onset and not goal.onset % beat:
            lean = goal.pitch + _pick(rng, (-1, -1, 1))
            events[index] = event._replace(pitch=lean if rng.random() < 0.4 else event.pitch)
    last = song.spans[-1]
    return events + last.held([_nearest(_pool(last.chord.tones[:2], low, high), pitch)])


def _walking_bass(rng: Generator, song: Song, low: int = 28, high: int = 50) -> list[Event]:
    """A root for each chord, a step into the next, and an arch between the two."""
    beat, root, events = song.feel.beat, 36, []
    for span, following in itertools.pairwise(song.spans):
        root = _nearest(_pool(span.chord.tones[:1], low, high), root)
        goals = _pool(following.chord.tones[:1], low, high)
        goal = _nearest(goals, root + int(rng.integers(-5, 6)))
        ladder = [rung for rung in _pool(span.chord.scale, low, high) if rung != goal]
        leads = [goal - 1, goal + 1, *(rung for rung in ladder if abs(rung - goal) < 3)]
        beats, bend, pitch = span.duration // beat, _pick(rng, (-6, 5, 7)), root
        for number in range(beats):
            if number == beats - 1 > 0:
                pitch = _pick(rng, [lead for lead in leads if lead != pitch])
            elif number:
                target = (pitch + root + (goal - root) * number / beats + bend) / 2
                pitch = _nearest((rung for rung in ladder if rung != pitch), target)
            accent = 0.5 + 0.2 * (number % 2)
            events.append(Event(span.onset + number * beat, beat, pitch, accent))
        root = goal
    return events + song.spans[-1].held([root])


def _chords(rng: Generator, song: Song, feel: Feel, degrees: Sequence[int], low: int) -> list[Event]:
    """Chords in the feel's rhythms; on the last upbeat the next chord is already there."""
    events = []
    for bar in range(len(song.sections) - 1):
        rhythm = _rhythm(rng, feel.cells, feel.fillers, song.beats)
        for within, duration in _strikes(rhythm, feel.unit):
            onset, accent = bar * song.bar + within, 0.3 + 0.2 * rng.random()
            pitches = song.chord(onset + feel.unit).voiced(degrees, low)
            events += [Event(onset, duration, pitch, accent) for pitch in pitches]
    last = song.spans[-1]
    return events + last.held(last.chord.voiced(degrees, low))


def _over_root(chord: Chord, low: int) -> list[int]:
    return chord.voiced([0], low - 12) + chord.voiced([0, 1, 2], low)


def _held_chords(song: Song, low: int) -> list[Event]:
    return [event for span in song.spans for event in span.held(_over_root(span.chord, low), 0.2)]


def _arpeggios(rng: Generator, song: Song, low: int) -> list[Event]:
    """Broken triads in eighths, one pattern for each section."""
    patterns = {section: _pick(rng, ARPEGGIOS) for section in sorted(set(song.sections))}
    events = []
    for span in song.spans[:-1]:
        pattern, voices = (patterns[song.sections[span.onset // song.bar]], _over_root(span.chord, low))
        for onset, voice in zip(range(0, span.duration, EIGHTH), pattern, strict=False):
            events.append(Event(span.onset + onset, EIGHTH, voices[int(voice)], 0.3 - onset / 999))
    return events + song.spans[-1].held(_over_root(song.spans[-1].chord, low))


def _drums(rng: Generator, song: Song) -> list[Event]:
    """One pattern for each section, with a crash at the start of a section and on the last bar."""
    drawn = (JAZZ_DRUMS if song.feel is SWING else POP_DRUMS)[song.beats]
    patterns = {section: _pick(rng, drawn) for section in sorted(set(song.sections))}
    events = [Event(song.spans[-1].onset, song.feel.beat, 49, 0.9)]
    for bar, section in enumerate(song.sections[:-1]):
        if section != song.sections[bar - 1]:
            events.append(Event(bar * song.bar, song.feel.beat, 49, 0.8))
        for pitch, rhythm in patterns[section].items():
            for onset, duration in _strikes([rhythm], song.feel.unit):
                accent = 0.4 + 0.3 * rng.random()
                events.append(Event(bar * song.bar + onset, duration, pitch, accent))
    return events


def _four_voices(rng: Generator, song: Song) -> list[list[Event]]:
    """Soprano to bass; of all voicings within reach, the one with the lowest cost.

    Thirds are filled with passing eighths, except at the end of a phrase.
    """
    ranges, reach = ((60, 80), (55, 73), (48, 67), (38, 60)), (5, 5, 5, 7)  # semitones
    voices: tuple[int, ...] = (69, 64, 57, 45)
    voicings = []
    for span in song.spans:
        phrase = span.onset / song.bar % PHRASE / PHRASE
        target = 68 + 5 * np.sin(np.pi * phrase) + rng.normal(0, 2)
        bass = span.chord.tones[: 1 if span is song.spans[-1] else 2]
        pools = (
            _pool(tones, max(low, voice - leap), min(high, voice + leap))
            for tones, (low, high), voice, leap in zip(
                (*[span.chord.tones] * 3, bass), ranges, voices, reach, strict=True
            )
        )
        costs = {new: _voicing_cost(voices, new, bass[0], target) for new in itertools.product(*pools)}
        voices = min(costs, key=costs.__getitem__)
        voicings.append(voices)
    parts: list[list[Event]] = [[], [], [], []]
    for span, here, there in zip(song.spans, voicings, [*voicings[1:], voices], strict=True):
        ends_phrase = span.onset // song.bar % PHRASE == PHRASE - 1
        for part, pitch, goal in zip(parts, here, there, strict=True):
            between = _pool(span.chord.scale, min(pitch, goal) + 1, max(pitch, goal) - 1)
            passes = not ends_phrase and len(between) == 1 and rng.random() < 0.7
            part.append(Event(span.onset, span.duration - EIGHTH * passes, pitch, 0.6))
            if passes:
                part.append(Event(span.onset + span.duration - EIGHTH, EIGHTH, between[0], 0.4))
    return parts


def _voicing_cost(old: tuple[int, ...], new: tuple[int, ...], root: int, target: float) -> float:
    """Semitones moved and the soprano's distance from its target, plus penalties.

    For crossed or distant voices, missing tones, an inversion, a soprano that stays, and parallel fifths and octaves.
    """
    cost = sum(abs(after - before) for before, after in zip(old, new, strict=True))
    cost += 30 * sum(upper <= lower for upper, lower in itertools.pairwise(new))
    cost += 10 * sum(upper - lower > 12 for upper, lower in itertools.pairwise(new[:3]))
    cost += 15 * (3 - len({pitch % 12 for pitch in new})) + 3 * (new[3] % 12 != root)
    for high, low in itertools.combinations(range(4), 2):
        open_before, open_after = (old[high] - old[low]) % 12, (new[high] - new[low]) % 12
        cost += 20 * (open_before == open_after in (0, 7) and old[high] != new[high])
    return cost + 4 * (old[0] == new[0]) + 1.5 * abs(new[0] - target)


# Ensembles


def _soloist_and_bass(rng: Generator, song: Song) -> list[Part]:
    low = _pick(rng, (50, 55, 60))
    solo = Part("Solo", _pick(rng, (0, 26, 56, 65, 66)), _melody(rng, song, low, low + 24))
    return [solo, Part("Walking Bass", 32, _walking_bass(rng, song))]


def _two_hands_swing(rng: Generator, song: Song) -> list[Part]:
    low = _pick(rng, (60, 65))
    comping = _chords(rng, song, COMPING, (1, 3, -1), 48)
    return [Part("Piano", 0, _melody(rng, song, low, low + 22) + comping)]


def _swing_combo(rng: Generator, song: Song) -> list[Part]:
    low = _pick(rng, (50, 55, 60))
    return [
        Part("Tenor Sax", 66, _melody(rng, song, low, low + 20)),
        Part("Piano", 0, _chords(rng, song, COMPING, (1, 3), 50)),
        Part("Acoustic Bass", 32, _walking_bass(rng, song)),
        Part("Drumset", -1, _drums(rng, song)),
    ]


def _choir(rng: Generator, song: Song) -> list[Part]:
    programs = _pick(rng, ((52, 52, 52, 52), (40, 40, 41, 42), (68, 69, 71, 70)))
    names = ("Soprano", "Alto", "Tenor", "Bass")
    return [Part(*part) for part in zip(names, programs, _four_voices(rng, song), strict=True)]


def _tune_over_chords(rng: Generator, song: Song) -> list[Part]:
    low = _pick(rng, (57, 60, 65))
    tune = Part("Melody", _pick(rng, (21, 22, 40, 73)), _melody(rng, song, low, low + 19))
    return [tune, Part("Chords", _pick(rng, (21, 24, 25)), _held_chords(song, 50))]


def _two_hands_straight(rng: Generator, song: Song) -> list[Part]:
    low = _pick(rng, (62, 67))
    return [Part("Piano", 0, _melody(rng, song, low, low + 17) + _arpeggios(rng, song, 48))]


def _pop_band(rng: Generator, song: Song) -> list[Part]:
    low = _pick(rng, (55, 60, 65))
    return [
        Part("Voice", _pick(rng, (53, 54, 80)), _melody(rng, song, low, low + 15)),
        Part("Guitar", _pick(rng, (25, 27)), _chords(rng, song, STRUM, (1, 2), 52)),
        Part("Bass", 33, _chords(rng, song, PULSE, (0,), 31)),
        Part("Drums", -1, _drums(rng, song)),
    ]


@dataclass(frozen=True, slots=True)
class Collection:
    """A collection: its music and its file format."""

    style: Literal["jazz", "other"]
    band: Callable[[Generator, Song], list[Part]]
    tunes: tuple[str, ...]
    forms: str  # sections of a tune in order; one word is sampled, as in meters
    meters: str
    tpq: int  # ticks per quarter
    tempo: tuple[int, int]  # quarters per minute, lowest and highest
    velocity: tuple[int, int]  # lowest and highest
    performed: bool = False  # ticks carry seconds at a nominal tempo, and onsets are off the grid
    pedal: bool = False  # sustain, changed with the chords


MIXED = "4/4 4/4 4/4 3/4"
COLLECTIONS: dict[str, Collection] = {
    "lead_sheets": Collection("jazz", _soloist_and_bass, STANDARDS, "AABA", MIXED, 480, (110, 210), (60, 105)),
    "blues_piano": Collection("jazz", _two_hands_swing, BLUES, "AA AA AAA", "4/4", 120, (76, 132), (80, 80)),
    "club_takes": Collection("jazz", _two_hands_swing, STANDARDS, "AABA ABA", "4/4", 384, (120, 230), (30, 112), True),
    "combo_charts": Collection("jazz", _swing_combo, STANDARDS, "ABA BAA", MIXED, 960, (100, 220), (70, 110)),
    "chorales": Collection("other", _choir, CHORALES, "AAB ABA", MIXED, 480, (66, 100), (80, 80)),
    "folk_tunes": Collection("other", _tune_over_chords, FOLK, "AABB AABA", MIXED + " 6/8", 960, (90, 180), (60, 105)),
    "pop_takes": Collection(
        "other", _two_hands_straight, POP, "ABAB AAB", "4/4", 384, (70, 140), (30, 112), True, True
    ),
    "pop_band": Collection("other", _pop_band, POP, "ABA AAB", MIXED, 120, (80, 160), (70, 110)),
}


# Pieces and files


def compose(collection: str, index: int, seed: int = 0) -> core.ScoreTick:
    """Composes one piece in its collection's format; it does not depend on the other pieces.

    Keys follow the circle of fifths; artists alternate.
    """
    where, name = COLLECTIONS[collection], zlib.crc32(collection.encode())
    rng = np.random.default_rng([seed, name, index, 0])
    artist = np.random.default_rng([seed, name, index % ARTISTS, 1])
    meter, key = _pick(rng, where.meters.split()), (name + 7 * index) % 12
    beats = {"4/4": 4, "3/4": 3, "6/8": 2}[meter]
    feel = SWING if where.style == "jazz" else JIG if meter == "6/8" else STRAIGHT
    tune, form = _pick(rng, where.tunes), _pick(rng, where.forms.split())
    sections, spans = _changes(rng, tune, form, key, beats, feel.beat)
    cells = artist.permutation(feel.cells)[2:].tolist()
    song = Song(sections, spans, beats, feel, cells)
    parts = where.band(rng, song)

    score = core.ScoreTick(where.tpq)
    tempo = int(rng.integers(where.tempo[0], where.tempo[1] + 1))
    score.tempos.append(core.TempoTick(0, qpm=CLOCK_TEMPO if where.performed else tempo))
    score.time_signatures.append(core.TimeSignatureTick(0, *map(int, meter.split("/"))))
    if not where.performed:
        score.key_signatures.append(core.KeySignatureTick(0, (7 * key + 5) % 12 - 5, 0))
    clock = _clock(rng, where, song, tempo)
    for part in parts:
        score.tracks.append(_track(rng, where, part, clock))
    if where.pedal:
        controls = score.tracks[0].controls
        for tick in _ticks(clock, [span.onset for span in spans]).astype(int).tolist():
            controls.append(core.ControlChangeTick(tick, SUSTAIN, 0))
            controls.append(core.ControlChangeTick(tick + where.tpq // 16, SUSTAIN, 127))
        controls.append(core.ControlChangeTick(int(clock[-1]), SUSTAIN, 0))
    return score


def _clock(rng: Generator, where: Collection, song: Song, tempo: int) -> NDArray[np.float64]:
    """Ticks of each quarter: evenly spaced, or, if performed, the seconds of a drifting pulse."""
    quarters = np.arange(len(song.sections) * song.bar // STEPS_PER_QUARTER + 1, dtype=np.float64)
    if not where.performed:
        return quarters * where.tpq
    drift = 1 + 0.03 * np.sin(quarters / rng.uniform(8, 24)) + rng.normal(0, 0.01, len(quarters))
    onset_seconds = rng.uniform(0.3, 2.0) + np.cumsum(drift) * 60 / tempo
    return onset_seconds * CLOCK_TEMPO / 60 * where.tpq


def _ticks(clock: NDArray[np.float64], steps: Sequence[int]) -> NDArray[np.float64]:
    return np.interp(steps, np.arange(len(clock)) * STEPS_PER_QUARTER, clock)


def _track(rng: Generator, where: Collection, part: Part, clock: NDArray[np.float64]) -> core.TrackTick:
    """A track with ticks and velocities; a note ends before its pitch is repeated."""
    events = list({(event.pitch, event.onset): event for event in part.events}.values())
    events.sort(key=lambda event: (event.pitch, event.onset))
    start = _ticks(clock, [event.onset for event in events])
    end = _ticks(clock, [event.onset + event.duration for event in events])
    accent = np.array([event.accent for event in events]) + rng.normal(0, 0.12, len(events))
    if where.performed:
        end -= rng.uniform(0, 0.25, len(events)) * (end - start)
        start += rng.normal(0, 0.012, len(events)) * CLOCK_TEMPO / 60 * where.tpq
    pitch, onset = np.array([event.pitch for event in events]), np.rint(start)
    again = np.append(np.where(np.diff(pitch) == 0, np.diff(onset), np.inf), np.inf)
    duration = np.clip(np.rint(end) - onset, 1, again)
    low, high = where.velocity
    velocity = np.rint(low + np.clip(accent, 0, 1) * (high - low))
    track = core.TrackTick(part.name, max(part.program, 0), part.program < 0)
    track.notes = core.NoteTickList.from_numpy(
        onset.astype(np.int32), duration.astype(np.int32), pitch.astype(np.int8), velocity.astype(np.int8)
    )
    track.notes.sort()
    return track


def write_demo_corpus(folder: Path, works_per_collection: int = 40, seed: int = 0) -> Path:
    """Writes `<style>/<collection>/<work>.mid` in a folder, and its `metadata.csv`.

    Returns:
        Path of the metadata, one line per file: path (relative to the CSV), style, collection, work, artist.
    """
    folder.mkdir(parents=True, exist_ok=True)
    metadata = folder / "metadata.csv"
    with metadata.open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(["path", "style", "collection", "work", "artist"])
        for name, where in COLLECTIONS.items():
            (folder / where.style / name).mkdir(parents=True, exist_ok=True)
            for index in range(works_per_collection):
                work, artist = f"{name}_{index:03d}", f"{name} artist {index % ARTISTS}"
                path = f"{where.style}/{name}/{work}.mid"
                compose(name, index, seed).dump_midi(folder / path)
                lines.writerow([path, where.style, name, work, artist])
    return metadata
