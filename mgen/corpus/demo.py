"""The embedded corpus: pieces composed by a small grammar of ours, so that everything runs offline.

Eight collections, four in each style, written as MIDI files like anyone's. *jazz* has swing at exactly 2:1, ii-V-I and
blues changes in sevenths and ninths, walking bass and motifs that return varied; *other* has straight eighths, triads,
chorale and pop patterns.

Formats leak on purpose. The format of a collection (ticks per quarter, tempo, velocities, tracks) tells it from the
others of its style, so a judge that reads only the format does well on works of collections it has seen. But every
resolution, velocity range and number of tracks that one style uses, the other uses too, and the two performed
collections share one format but for the pedal: nothing learned from format alone carries over to an unseen collection.

The grammar knows harmony and rhythm; `_export` alone knows files.
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
import symusic
from numpy.random import Generator

T = TypeVar("T")
Tune = dict[str, str]  # section letter -> chord symbols in C, one word a bar; "home" is the last chord

STEPS_PER_QUARTER = 24
PHRASE_BARS = 4
ARTISTS = 5  # in each collection, each with rhythms of their own
CLOCK_TEMPO = 120  # what a recorder writes when nobody told it the tempo
SUSTAIN = 64

# Semitones above the root: the chord from the root up, then what a line may pass through.
# Triads pass through the key instead.
CHORDS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "": ((0, 4, 7), ()),
    "m": ((0, 3, 7), ()),
    "maj7": ((0, 4, 7, 11, 14), (2, 6, 9)),
    "m7": ((0, 3, 7, 10, 14), (5, 9)),
    "m6": ((0, 3, 7, 9, 14), (5, 11)),
    "7": ((0, 4, 7, 10, 14), (9,)),
    "7b9": ((0, 4, 7, 10, 13), (8,)),
    "m7b5": ((0, 3, 6, 10, 17), (1, 8)),
    "dim7": ((0, 3, 6, 9), (2, 5, 8, 11)),
}

STANDARDS: tuple[Tune, ...] = (
    {
        "home": "Cmaj7",
        "A": "Dm7 G7 Cmaj7 A7b9 Dm7 G7 Em7:A7b9 Dm7:G7",
        "B": "Gm7 C7 Fmaj7 Fmaj7 Am7 D7 Dm7 G7",
    },
    {
        "home": "Cmaj7",
        "A": "Cmaj7:Am7 Dm7:G7 Em7:A7b9 Dm7:G7 Gm7:C7 Fmaj7:Fm6 Em7:A7 Dm7:G7",
        "B": "E7 E7 A7 A7 D7 D7 G7 G7",
    },
    {
        "home": "Am6",
        "A": "Dm7 G7 Cmaj7 Fmaj7 Bm7b5 E7b9 Am6 Am6",
        "B": "Bm7b5 E7b9 Am6 Am6 Dm7 G7 Cmaj7 E7b9",
    },
    {
        "home": "Cmaj7",
        "A": "Cmaj7 Ebdim7 Dm7 G7 Em7 A7b9 Dm7 G7",
        "B": "Cm7 F7 Bbmaj7 Bbmaj7 Bbm7 Eb7 Abmaj7 Dm7b5:G7b9",
    },
)
BLUES: tuple[Tune, ...] = (
    {"home": "C7", "A": "C7 F7 C7 Gm7:C7 F7 Gbdim7 C7 Em7b5:A7b9 Dm7 G7 C7:A7b9 Dm7:G7"},
    {"home": "C7", "A": "C7 C7 C7 C7 F7 F7 C7 C7 G7 F7 C7 G7"},
    {"home": "Cm6", "A": "Cm6 Cm6 Cm6 C7b9 Fm6 Fm6 Cm6 Cm6 Ab7 G7b9 Cm6 G7b9"},
    {"home": "Cmaj7", "A": "Cmaj7 Bm7b5:E7b9 Am7:D7 Gm7:C7 F7 Fm6 Em7 Ebm7:Ab7 Dm7 G7 Em7:A7 Dm7:G7"},
)
CHORALES: tuple[Tune, ...] = (
    {"home": "C", "A": "C:G Am:Em F:C G C:F G:Am Dm:G C", "B": "G:C Am:Dm F:Dm G Am:Em F:C Dm:G C"},
    {"home": "C", "A": "C:F C:G Am:F G G:C F:Am F:G C", "B": "Am:Em F:C Dm:Am E E:Am Dm:G F:G C"},
    {"home": "Am", "A": "Am:E Am:Dm Am:E Am C:G Am:Em Dm:E Am", "B": "C:G F:C Dm:G C Am:Dm F:Dm Am:E Am"},
)
FOLK: tuple[Tune, ...] = (
    {"home": "C", "A": "C C F C C Am G G", "B": "F C G C F C G C"},
    {"home": "C", "A": "C F C G C F C:G C", "B": "Am F C G Am F C:G C"},
    {"home": "Am", "A": "Am G Am Em Am G F:E Am", "B": "C G Am Em F C E Am"},
)
POP: tuple[Tune, ...] = (
    {"home": "C", "A": "C Am F G C Am F G", "B": "F G Em Am F G C C"},
    {"home": "C", "A": "C G Am F C G Am F", "B": "Am F C G Am F G G"},
    {"home": "Am", "A": "Am F C G Am F C G", "B": "F C G Am F C E E"},
    {"home": "C", "A": "C Em F G C Em F G", "B": "Dm F C G Dm F G G"},
)


@dataclass(frozen=True, slots=True)
class Feel:
    """Rhythms as drawn: x strikes, - holds, . rests; a space parts two beats."""

    unit: int  # grid steps that one character lasts
    cells: tuple[str, ...]  # what phrases are made of
    fillers: tuple[str, ...]  # one beat, for what the cells leave of a bar
    closes: tuple[str, ...]  # how a phrase breathes out

    @property
    def beat(self) -> int:
        """Grid steps a beat."""
        return self.unit * len(self.fillers[0])


SWING = Feel(
    unit=8,
    cells=(
        *("x-x x-x", "x-x x--", "x-- x-x", "... x-x", "..x x-x", "x-x --x", "..x --x"),
        *("xxx x--", "x-x xxx", "x-x ...", "--x x-x"),
    ),
    fillers=("x--", "x-x", "..x"),
    closes=("x-- ---", "x-x ...", "x-- ...", "--- ..."),
)
STRAIGHT = Feel(
    unit=6,
    cells=("x-x- x-x-", "x--- x-x-", "x-x- x---", "x--- x---", "x--- --x-", "..x- x-x-", "x-x- --x-", "x-xx x---"),
    fillers=("x---", "x-x-"),
    closes=("x--- ----", "x--- ....", "x-x- x---"),
)
JIG = Feel(
    unit=6,
    cells=("x-x-x- x-x-x-", "x---x- x-x-x-", "x-x-x- x---x-", "x---x- x---x-", "x-x-x- x-----"),
    fillers=("x---x-", "x-x-x-"),
    closes=("x----- ------", "x---x- x-----", "x----- x---.."),
)
CHARLESTON = Feel(8, ("x-- --x", "x-- ---", "... x--", "..x --.", "..x ..x"), ("x--", "..."), ())
STRUM = Feel(6, ("x--- ----", "x--- x-x-", "x-x- --x-"), ("x---",), ())
LOW_PULSE = Feel(6, ("x--- --x-", "x--- x---", "x--- ----"), ("x---",), ())

# Drum pitch -> a bar, by beats a bar.
JAZZ_DRUMS = {
    4: ({51: "x-- x-x x-- x-x", 44: "... x.. ... x.."}, {51: "x-- x-- x-- x-x", 44: "... x.. ... x..", 38: "... ..x ... ..."}),
    3: ({51: "x-- x-x x--", 44: "... x.. ..."}, {51: "x-- x-x x-x", 44: "... x.. x..", 36: "x.. ... ..."}),
}
POP_DRUMS = {
    4: (
        {42: "x-x- x-x- x-x- x-x-", 36: "x... .... x.x. ....", 38: ".... x... .... x..."},
        {42: "x--- x--- x--- x---", 36: "x... .... x... ....", 37: ".... x... .... x..."},
    ),
    3: ({42: "x-x- x-x- x-x-", 36: "x... .... ....", 38: ".... x... x..."},),
}
ARPEGGIOS = ("01213121", "02123212", "01230123", "02132132")


class Chord(NamedTuple):
    """Pitch classes; `tones` is the chord itself from the root up, `scale` what a line may use."""

    tones: tuple[int, ...]
    scale: tuple[int, ...]


class Span(NamedTuple):
    """A chord while it lasts."""

    onset: int
    duration: int
    chord: Chord


class Event(NamedTuple):
    """A note as composed; `accent` in 0-1 becomes a velocity in the collection's range."""

    onset: int
    duration: int
    pitch: int
    accent: float = 0.5


class Part(NamedTuple):
    """One track; `program` is -1 for drums."""

    name: str
    program: int
    events: list[Event]


@dataclass(frozen=True, slots=True)
class Song:
    """What the players agree on before they play."""

    sections: str  # a letter for each bar
    spans: tuple[Span, ...]
    beats: int  # in a bar
    feel: Feel
    cells: tuple[str, ...]  # the artist's share of the feel's

    @property
    def bar(self) -> int:
        """Grid steps a bar."""
        return self.beats * self.feel.beat

    def chord(self, onset: int) -> Chord:
        """The chord that sounds at a grid step."""
        return self.spans[max(bisect_right(self.spans, onset, key=lambda span: span.onset) - 1, 0)].chord


# The grammar


def _pick(rng: Generator, options: Sequence[T]) -> T:
    return options[int(rng.integers(len(options)))]


def _symbol(symbol: str) -> tuple[int, str]:
    letter, accidental, quality = re.fullmatch("([A-G])([b#]?)(.*)", symbol).groups()  # type: ignore[union-attr]
    return {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}[letter] + {"b": -1, "": 0, "#": 1}[
        accidental
    ], quality


def _chord(root: int, quality: str, key: int) -> Chord:
    intervals, passing = CHORDS[quality]
    tones = tuple((key + root + interval) % 12 for interval in intervals)
    # A white key just below a chord tone would sound as a seventh, or rub against a raised leading note.
    white = [(key + step) % 12 for step in (0, 2, 4, 5, 7, 9, 11)]
    between = [(key + root + step) % 12 for step in passing] or [pc for pc in white if (pc + 1) % 12 not in tones]
    return Chord(tones, tuple(sorted({*tones, *between})))


def _reharmonise(rng: Generator, bars: list[list[tuple[int, str]]]) -> None:
    """Prepare a dominant with its ii, or put the tritone in its place, where it resolves down a fifth."""
    for bar, following in itertools.pairwise(bars):
        root, quality = bar[0]
        if len(bar) == 1 and quality == "7" and (root + 5) % 12 == following[0][0] % 12:
            changed = [[(root + 7, "m7"), (root, "7")], [(root + 6, "7")], bar, bar]
            bar[:] = _pick(rng, changed)


def _changes(rng: Generator, tune: Tune, form: str, key: int, feel: Feel, beats: int) -> tuple[str, tuple[Span, ...]]:
    sections = "".join(letter * len(tune[letter].split()) for letter in form)
    bars = [[_symbol(word) for word in bar.split(":")] for letter in form for bar in tune[letter].split()]
    bars[-1] = [_symbol(tune["home"])]
    _reharmonise(rng, bars)
    spans = []
    for number, bar in enumerate(bars):
        first = -(-beats // len(bar))  # of two chords in three beats, the first takes two
        for onset, length, (root, quality) in zip((0, first), (first, beats - first), bar, strict=False):
            start = (number * beats + onset) * feel.beat
            spans.append(Span(start, length * feel.beat, _chord(root, quality, key)))
    return sections, tuple(spans)


def _bar_of(rng: Generator, cells: Sequence[str], fillers: Sequence[str], beats: int) -> list[str]:
    drawn = [_pick(rng, cells) for _ in range(beats // 2)]
    return drawn + [_pick(rng, fillers) for _ in range(beats % 2)]


def _struck(cells: Iterable[str], unit: int) -> list[tuple[int, int]]:
    """(onset, duration) of each x, a hold at the start of a cell lengthening the note before it."""
    drawn = "".join(cells).replace(" ", "")
    return [(match.start() * unit, len(match.group()) * unit) for match in re.finditer("x-*", drawn)]


def _pool(pitch_classes: Iterable[int], low: int, high: int) -> list[int]:
    wanted = set(pitch_classes)
    return [pitch for pitch in range(low, high + 1) if pitch % 12 in wanted]


def _nearest(pool: Sequence[int], pitch: float) -> int:
    return min(pool, key=lambda candidate: abs(candidate - pitch))


def _voiced(chord: Chord, degrees: Iterable[int], low: int) -> list[int]:
    """Each degree within one octave from `low`: common tones stay where they were, the others step."""
    return sorted({low + (chord.tones[degree] - low) % 12 for degree in degrees})


def _melody(rng: Generator, song: Song, low: int, high: int) -> list[Event]:
    """Phrases of four bars: motif, answer, motif varied, close. A section that returns brings its motifs back.

    A motif is a rhythm and a contour. On each beat the contour is bent to the nearest chord tone (with sevenths, not
    the root), so that it moves with the changes; in swing, a note before a beat often leans on it by a semitone.
    """
    swing = song.feel is SWING
    motifs: dict[tuple[str, int], tuple[list[str], list[int], int]] = {}
    events: list[Event] = []
    pitch, bars = (low + high) // 2, len(song.sections)
    for number, section in enumerate(song.sections[:-1]):
        place = number % PHRASE_BARS
        if (section, place % 2) not in motifs:
            rhythm = _bar_of(rng, song.cells, song.feel.fillers, song.beats)
            contour = [int(step) for step in rng.choice([-3, -2, -1, -1, 1, 1, 2, 3], size=16)]
            motifs[section, place % 2] = rhythm, contour, int(rng.integers(low + 4, high - 3))
        rhythm, contour, start = motifs[section, place % 2]
        rhythm = list(rhythm)
        if place == 2 or (swing and rng.random() < 0.3):
            rhythm[0] = _pick(rng, song.cells)
        if place == PHRASE_BARS - 1:
            rhythm[song.beats // 2 - 1] = _pick(rng, song.feel.closes)
        if place == 0:
            pitch = start
        for index, (onset, duration) in enumerate(_struck(rhythm, song.feel.unit)):
            onset += number * song.bar
            chord = song.chord(onset)
            ladder = _pool(chord.scale, low, high)
            if onset % song.feel.beat == 0:
                ladder = _pool(chord.tones[swing:], low, high)
            ladder = [rung for rung in ladder if rung != pitch]
            step = contour[index] if low + 3 < pitch < high - 3 else np.sign((low + high) / 2 - pitch)
            pitch = _nearest(ladder, pitch + 1.7 * step)
            arch = 0.3 * np.sin(np.pi * number / bars) + 0.15 * (onset % song.bar == 0) + 0.15 * rng.random()
            events.append(Event(onset, duration, pitch, 0.3 + float(arch)))
    if swing:
        for index, (event, goal) in enumerate(itertools.pairwise(events)):
            leans = event.onset % song.feel.beat and goal.onset % song.feel.beat == 0
            if leans and event.onset + event.duration == goal.onset and rng.random() < 0.4:
                events[index] = event._replace(pitch=goal.pitch + _pick(rng, (-1, -1, 1)))
    last = song.spans[-1]
    return [*events, Event(last.onset, last.duration, _nearest(_pool(last.chord.tones[:2], low, high), pitch), 0.5)]


def _walking_bass(rng: Generator, song: Song, low: int = 28, high: int = 50) -> list[Event]:
    """A root for each chord, a semitone or a scale step into the next, and an arch between the two."""
    roots = [(low + high) // 2 - 4]
    for span in song.spans:
        roots.append(_nearest(_pool(span.chord.tones[:1], low, high), roots[-1] + int(rng.integers(-4, 5))))
    events = []
    for span, root, goal in zip(song.spans, roots[1:], [*roots[2:], roots[1]], strict=True):
        beats = span.duration // song.feel.beat
        bend, pitch = _pick(rng, (-6, 5, 7)), root
        for beat in range(beats):
            if 0 < beat < beats - 1:
                target = root + (goal - root) * beat / beats + bend
                walk = [rung for rung in _pool(span.chord.scale, low, high) if rung not in (pitch, goal)]
                pitch = _nearest(walk, (target + pitch) / 2)
            elif beat:
                steps = [rung for rung in _pool(span.chord.scale, low, high) if 0 < abs(rung - goal) < 3]
                leads = [lead for lead in (goal - 1, goal + 1, *steps) if lead != pitch]
                pitch = _pick(rng, leads)
            events.append(Event(span.onset + beat * song.feel.beat, song.feel.beat, pitch, 0.5 + 0.2 * (beat % 2)))
    whole = song.spans[-1]
    return [event for event in events if event.onset < whole.onset] + [Event(whole.onset, whole.duration, roots[-1])]


def _chords(
    rng: Generator, song: Song, feel: Feel, degrees: Sequence[int], low: int, pairs: int = 1
) -> list[Event]:
    """Chords in the feel's rhythms; one struck on the last upbeat already belongs to the next chord."""
    events = []
    for number in range(len(song.sections) - 1):
        for onset, duration in _struck(_bar_of(rng, feel.cells, feel.fillers, song.beats), feel.unit):
            onset += number * song.bar
            chord = song.chord(onset + feel.unit)
            events += [Event(onset, duration, pitch, 0.3 + 0.2 * rng.random()) for pitch in _voiced(chord, degrees, low)]
    last = song.spans[-1]
    return events + [Event(last.onset, last.duration, pitch, 0.4) for pitch in _voiced(last.chord, degrees, low)]
