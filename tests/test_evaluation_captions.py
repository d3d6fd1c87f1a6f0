"""What a caption claims of a piece is true of its notes."""

from __future__ import annotations

from dataclasses import replace

from evaluation_pieces import line, piece
from hypothesis import given
from hypothesis import strategies as st

from mgen.evaluation.captions import describe_piece, most_repeated_bar
from mgen.notes import Notes


def test_a_loop_is_called_one():
    # 8 bars of c e g c, four to the bar: 32 notes, 29 4-grams of which 4 are different
    words = describe_piece(line([60, 64, 67, 72] * 8), "jazz", 0.8)
    assert words == (
        "jazz probability 0.80 by the judge; 100 % of the notes are one figure again and again; "
        "one bar 8 times; 86 % of four-note figures return; 32 notes, then cut"
    )


def test_a_line_without_repetition_that_ends():
    assert describe_piece(line(range(40, 72)), ends=True) == "no bar twice; 0 % of four-note figures return; ends"


def test_silence_is_named_and_no_notes_are():
    slow = piece(*((96 * i, 24, 60 + i) for i in range(8)))  # a quarter at the start of each bar of four
    assert "75 % of the beats are silent" in describe_piece(slow)
    assert describe_piece(line(range(0)), "jazz", 0.0) == "no notes"


def test_what_the_judge_does_not_say_is_not_said():
    assert "judge" not in describe_piece(line(range(40, 72)))
    assert describe_piece(line(range(40, 72)), "jazz", 0.02).startswith("jazz probability 0.02 by the judge")


@given(st.lists(st.sampled_from([(60, 64, 67, 72), (61, 62, 63, 64), (50, 52, 53, 55)]), min_size=1, max_size=9))
def test_the_most_repeated_bar_is_counted(bars):
    notes = line([pitch for bar in bars for pitch in bar])
    assert most_repeated_bar(notes) == max(bars.count(bar) for bar in bars)


def test_bars_of_other_instruments_differ():
    notes = line([60, 64, 67, 72] * 2)
    other = notes.program.copy()
    other[4:] = 32
    assert most_repeated_bar(replace(notes, program=other)) == 1 == most_repeated_bar(line([60]))
    assert most_repeated_bar(Notes.concat([line(range(0))])) == 0
