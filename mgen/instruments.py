"""Instruments by General MIDI name and family: those of a score, and the programs that options select.

The names are those of pretty_midi. Reads no files.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass

import pretty_midi
from symusic import core

from mgen.errors import MgenError

DRUMS = -1  # program of a drum track, as in `Notes`
DRUMS_NAME = "Drums"
PROGRAMS = range(128)


@dataclass(frozen=True, slots=True)
class Instrument:
    """One program in a score, with all its tracks."""

    program: int  # 0-127, -1 for drums
    name: str
    family: str
    tracks: tuple[str, ...]  # names of the tracks with notes, in order, without empty names
    n_notes: int


def instrument_name(program: int) -> str:
    """`Electric Bass (finger)` for 33, `Drums` for -1.

    Raises:
        MgenError: The program does not exist.
    """
    _check(program)
    name: str = DRUMS_NAME if program == DRUMS else pretty_midi.program_to_instrument_name(program)
    return name


def instrument_family(program: int) -> str:
    """`Bass` for 33, `Drums` for -1.

    Raises:
        MgenError: The program does not exist.
    """
    _check(program)
    family: str = DRUMS_NAME if program == DRUMS else pretty_midi.program_to_instrument_class(program)
    return family


def instruments_of(score: core.ScoreTick) -> list[Instrument]:
    """Instruments with at least one note: most notes first, of equal ones the lower program first, drums last."""
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
    """The programs that words select, -1 for drums.

    Args:
        words: names (`Electric Bass (finger)`), families (`guitar`), numbers (`24`), inclusive ranges (`24-31`),
            `drums`. Case, blanks and punctuation in names are ignored.

    Raises:
        MgenError: A word is none of these; the message names the nearest.
    """
    named = _by_name()
    found: set[int] = set()
    for word in map(str, words):
        text = word.strip()
        if numbers := re.fullmatch(r"(\d+)(?:\s*-\s*(\d+))?", text):
            first, last = int(numbers[1]), int(numbers[2] or numbers[1])
            if not first <= last < len(PROGRAMS):
                raise MgenError(f"instruments: '{word}' is not a program or a range of programs; they go from 0 to 127")
            found.update(range(first, last + 1))
        elif text == str(DRUMS):
            found.add(DRUMS)
        elif (name := _plain(text)) in named:
            found |= named[name][1]
        else:
            near = difflib.get_close_matches(name, named, n=1)
            hint = f"did you mean '{named[near[0]][0]}'?" if near else "give a General MIDI name, family or program"
            raise MgenError(f"instruments: there is no instrument or family '{word}'; {hint}")
    return frozenset(found)


def _by_name() -> dict[str, tuple[str, set[int]]]:
    """Plain name -> its spelling, and the programs of that instrument or family."""
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
