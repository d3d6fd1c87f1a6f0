from __future__ import annotations

import pytest
from instrument_scores import score_of
from miditok.constants import INSTRUMENT_CLASSES, MIDI_INSTRUMENTS

from mgen.errors import MgenError
from mgen.instruments import Instrument, instrument_family, instrument_name, instruments_of, select

LETTERS = str.maketrans("", "", " -_()&,.:+12345678")


def test_names_and_families_worked_by_hand():
    assert [instrument_name(p) for p in (0, 33, 127, -1)] == [
        "Acoustic Grand Piano",
        "Electric Bass (finger)",
        "Gunshot",
        "Drums",
    ]
    assert [instrument_family(p) for p in (0, 24, 31, 32, -1)] == ["Piano", "Guitar", "Guitar", "Bass", "Drums"]


def test_families_are_miditoks_too():
    """Two libraries give the same 16 blocks of programs."""
    for program in range(128):
        (theirs,) = [row["name"] for row in INSTRUMENT_CLASSES if program in row["program_range"]]
        assert [p for p in range(128) if instrument_family(p) == instrument_family(program)] == list(
            next(row["program_range"] for row in INSTRUMENT_CLASSES if row["name"] == theirs)
        )


def test_every_name_selects_its_program_and_every_family_its_eight():
    for program in range(128):
        assert select([instrument_name(program)]) == {program}
        first = program - program % 8
        assert select([instrument_family(program)]) == set(range(first, first + 8))
    assert len({instrument_name(program) for program in range(-1, 128)}) == 129
    same = sum(
        instrument_name(p).lower().translate(LETTERS) == MIDI_INSTRUMENTS[p]["name"].lower().translate(LETTERS)
        for p in range(128)
    )
    assert same > 100  # miditok spells a few in another way


@pytest.mark.parametrize("program", [-2, 128, 1000])
def test_no_such_program(program):
    for function in (instrument_name, instrument_family):
        with pytest.raises(MgenError, match=f"program {program}: expected 0 to 127, or -1 for drums"):
            function(program)


def test_instruments_of_a_score():
    score = score_of(
        (33, False, "bass", 3),
        (0, True, "kit", 9),
        (25, False, "rhythm", 2),
        (25, False, "", 1),
        (25, False, "solo", 4),
        (0, False, "silent", 0),
        (0, True, "more kit", 1),
        (24, False, "also three", 3),
    )
    assert instruments_of(score) == [
        Instrument(25, "Acoustic Guitar (steel)", "Guitar", ("rhythm", "solo"), 7),
        Instrument(24, "Acoustic Guitar (nylon)", "Guitar", ("also three",), 3),
        Instrument(33, "Electric Bass (finger)", "Bass", ("bass",), 3),
        Instrument(-1, "Drums", "Drums", ("kit", "more kit"), 10),
    ]
    assert instruments_of(score_of()) == []
    # A drum track has a program too, which means nothing.
    assert [one.program for one in instruments_of(score_of((40, True, "", 1), (40, False, "", 1)))] == [40, -1]


@pytest.mark.parametrize(
    ("words", "programs"),
    [
        ([], set()),
        (["guitar"], set(range(24, 32))),
        (["GUITAR", "Bass"], set(range(24, 40))),
        (["Electric Bass (finger)"], {33}),
        (["electric_bass finger"], {33}),
        (["24"], {24}),
        ([24, 0], {0, 24}),
        (["24-31"], set(range(24, 32))),
        (["126 - 127", "127"], {126, 127}),
        (["piano", "drums"], {*range(8), -1}),
        (["-1"], {-1}),
        ([-1], {-1}),
        ([" synth lead "], set(range(80, 88))),
    ],
)
def test_words_select_programs(words, programs):
    assert select(words) == programs and isinstance(select(words), frozenset)


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("guitr", "there is no instrument or family 'guitr'; did you mean 'Guitar'?"),
        ("electric bass (fingr)", "did you mean 'Electric Bass (finger)'?"),
        ("drum", "did you mean 'Drums'?"),
        ("qqq", "give a General MIDI name, family or program"),
        ("", "there is no instrument or family ''"),
        ("128", "'128' is not a program or a range of programs"),
        ("31-24", "'31-24' is not a program or a range"),
        ("120-128", "they go from 0 to 127"),
    ],
)
def test_a_word_that_means_nothing(word, says):
    with pytest.raises(MgenError) as caught:
        select(["piano", word])
    assert says in str(caught.value) and "\n" not in str(caught.value)
