"""Instruments by their General MIDI names and families: what plays in a score, which programs a config's words mean.

The names are pretty_midi's. Nothing here reads files.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass

import pretty_midi
from symusic import core

from mgen.errors import MgenError

DRUMS = -1
"""Program of a drum track, as in `Notes`."""

DRUMS_NAME = "Drums"
PROGRAMS = range(128)


@dataclass(frozen=True, slots=True)
class Instrument:
    """One program in a score, with all tracks that play it."""

    program: int  # 0-127, -1 for drums
    name: str
    family: str
    tracks: tuple[str, ...]  # names of the tracks with notes, in the order of the score, those without one left out
    n_notes: int


def instrument_name(program: int) -> str:
    """`Electric Bass (finger)` for 33, `Drums` for -1.

    Raises:
        MgenError: There is no such program.
    """
    _check(program)
    name: str = DRUMS_NAME if program == DRUMS else pretty_midi.program_to_instrument_name(program)
    return name


def instrument_family(program: int) -> str:
    """`Bass` for 33, `Drums` for -1.

    Raises:
        MgenError: There is no such program.
    """
    _check(program)
    family: str = DRUMS_NAME if program == DRUMS else pretty_midi.program_to_instrument_class(program)
    return family


def instruments_of(score: core.ScoreTick) -> list[Instrument]:
    """What plays at least one note: most notes first, of two alike the lower program, and drums last."""
    tracks: dict[int, list[core.TrackTick]] = {}
    for track in score.tracks:
        if len(track.notes):
            tracks.setdefault(DRUMS if track.is_drum else track.program, []).append(track)
    found = [
        Instrument(
            program,
            instrument_name(program),
            instrument_family(program),
            tuple(track.name for track in of_program if track.name),
            sum(len(track.notes) for track in of_program),
        )
        for program, of_program in tracks.items()
    ]
    return sorted(found, key=lambda one: (one.program == DRUMS, -one.n_notes, one.program))


def select(words: Iterable[str | int]) -> frozenset[int]:
    """The programs that words mean, -1 for drums.

    Args:
        words: names (`Electric Bass (finger)`), families (`guitar`), numbers (`24`), ranges with both ends (`24-31`),
            `drums`. Case, blanks and punctuation in names are of no matter.

    Raises:
        MgenError: A word is none of these; the nearest is said.
    """
    named = _by_name()
    found: set[int] = set()
    for word in map(str, words):
        text = word.strip()
        if numbers := re.fullmatch(r"(\d+)(?:\s*-\s*(\d+))?", text):
            first, last = int(numbers[1]), int(numbers[2] or numbers[1])
            if not first <= last < len(PROGRAMS):
                raise MgenError(f"instruments: '{word}' is no program or range of programs; they go from 0 to 127")
            found.update(range(first, last + 1))
        elif text == str(DRUMS):
            found.add(DRUMS)
        elif (name := _plain(text)) in named:
            found |= named[name][1]
        else:
            near = difflib.get_close_matches(name, named, n=1)
            hint = f"did you mean '{named[near[0]][0]}'?" if near else "give a General MIDI name, family or program"
            raise MgenError(f"instruments: no instrument or family is called '{word}'; {hint}")
    return frozenset(found)


def _by_name() -> dict[str, tuple[str, set[int]]]:
    """Plain name -> how it is written, and the programs of that instrument or family."""
    named: dict[str, tuple[str, set[int]]] = {}
    for program in (DRUMS, *PROGRAMS):
        for name in {instrument_name(program), instrument_family(program)}:
            named.setdefault(_plain(name), (name, set()))[1].add(program)
    return named


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold())


def _check(program: int) -> None:
    if program != DRUMS and program not in PROGRAMS:
        raise MgenError(f"program {program}: expected 0 to 127, or -1 for drums")
