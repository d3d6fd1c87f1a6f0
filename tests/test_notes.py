"""Notes: reading scores, metre, and the table's own operations."""

from __future__ import annotations

import numpy as np
import pytest
import symusic

from mgen.errors import RejectedFile
from mgen.notes import Notes, bar_lines


def score(notes, signatures=((0, 4, 4),), tpq=480):
    out = symusic.Score(tpq)
    out.time_signatures = [symusic.TimeSignature(*signature) for signature in signatures]
    track = symusic.Track()
    track.notes = [symusic.Note(*note) for note in notes]
    out.tracks.append(track)
    return out


def test_onsets_go_to_the_nearest_step():
    # 480 ticks are 24 steps: 20 ticks a step. 29 ticks are 1.45 steps, 31 are 1.55.
    notes = Notes.from_scores([score([(29, 20, 60, 64), (31, 5, 61, 64)])])
    assert notes.onset.tolist() == [1, 2]
    assert notes.duration.tolist() == [1, 1]  # 20 ticks, and 5 ticks raised to the least step


def bars_of(signatures, last):
    bars = bar_lines(signatures, last)
    assert bars.length[:-1].tolist() == np.diff(bars.onset).tolist()
    return bars.onset.tolist(), [f"{beats}/{unit}" for beats, unit in zip(bars.beats, bars.unit, strict=True)]


@pytest.mark.parametrize("signature", ["1/8", "3/8", "5/8", "6/8", "7/8", "9/8", "12/8", "1/4", "3/4", "5/4", "7/4"])
def test_quarters_and_eighths_keep_their_time_signature(signature):
    beats, unit = map(int, signature.split("/"))
    onsets, metres = bars_of([(0, beats, unit)], 300)
    assert set(metres) == {signature}
    assert onsets == list(range(0, 301, beats * 96 // unit))


@pytest.mark.parametrize(
    ("signature", "written"),
    [
        ((2, 2), ["4/4"]), ((3, 2), ["6/4"]), ((1, 1), ["4/4"]), ((6, 16), ["3/8"]), ((12, 16), ["6/8"]),
        ((8, 4), ["4/4", "4/4"]), ((9, 4), ["6/4", "3/4"]), ((13, 8), ["7/8", "6/8"]), ((15, 8), ["9/8", "6/8"]),
    ],
)  # fmt: skip
def test_other_bars_are_written_as_the_same_time_in_quarters_or_eighths(signature, written):
    _, metres = bars_of([(0, *signature)], 24 * 40)
    assert metres[: 2 * len(written)] == 2 * written


def test_bars_that_eighths_cannot_write_are_refused():
    with pytest.raises(RejectedFile, match="5/16"):
        bar_lines([(0, 5, 16)], 300)


def test_an_impossible_time_signature_means_nothing():
    for impossible in ((0, 4), (4, 0), (4, 3)):
        notes = Notes.from_scores([score([(0, 9600, 60, 64)], ((0, 3, 4), (0, *impossible), (480, *impossible)))])
        assert notes.bars.beats.tolist() == [3]


def test_a_pickup_bar_keeps_its_length():
    # A quarter of pickup written as 1/4, then 3/4; an eighth written as 1/8, then 6/8.
    assert bars_of([(0, 1, 4), (24, 3, 4)], 100) == ([0, 24, 96], ["1/4", "3/4", "3/4"])
    assert bars_of([(0, 1, 8), (12, 6, 8)], 100) == ([0, 12, 84], ["1/8", "6/8", "6/8"])


def test_a_change_inside_a_bar_ends_it_if_eighths_are_left():
    assert bars_of([(0, 4, 4), (48, 3, 4)], 130) == ([0, 48, 120], ["2/4", "3/4", "3/4"])
    assert bars_of([(0, 4, 4), (60, 3, 4)], 130) == ([0, 60], ["5/8", "3/4"])
    assert bars_of([(0, 7, 4), (156, 3, 4)], 160) == ([0, 84, 156], ["7/8", "6/8", "3/4"])
    # 50 steps are no whole eighths: the bar is finished first
    assert bars_of([(0, 4, 4), (50, 3, 4)], 130) == ([0, 96], ["4/4", "3/4"])


def test_bars_hold_their_notes(demo_pieces):
    notes = Notes.from_scores(demo_pieces)
    assert (notes.position >= 0).all()
    assert (notes.position < notes.bars.length[notes.bar_row]).all()


def test_pieces_taken_out_are_the_pieces_put_in(demo_pieces):
    together = Notes.from_scores(demo_pieces)
    index = [2, 0, 2]
    taken = together.pieces(index)
    for place, piece in enumerate(index):
        alone = Notes.from_scores([demo_pieces[piece]])
        one = taken.pieces([place])
        for column in ("onset", "duration", "bar", "pitch", "velocity", "program"):
            np.testing.assert_array_equal(getattr(one, column), getattr(alone, column))
        np.testing.assert_array_equal(one.bars.onset, alone.bars.onset)


def test_a_score_made_of_notes_reads_back_as_the_same_notes(demo_pieces):
    notes = Notes.from_scores(demo_pieces)
    back = Notes.from_scores([notes.to_score(i) for i in range(notes.n_pieces)])
    for column in ("piece", "onset", "duration", "bar", "pitch", "velocity", "program"):
        np.testing.assert_array_equal(getattr(back, column), getattr(notes, column))


def test_a_score_without_notes_is_an_empty_piece():
    notes = Notes.from_scores([symusic.Score(480), score([(0, 480, 60, 64)])])
    assert notes.counts.tolist() == [0, 1]


def test_a_score_keeps_its_metres():
    metres = [(0, 3, 4), (72, 6, 8), (144, 7, 8), (228, 7, 4)]
    notes = Notes.from_scores(
        [score([(0, 5000, 60, 64), (6000, 10, 62, 64)], [(20 * on, *metre) for on, *metre in metres])]
    )
    assert [(sign.time, sign.numerator, sign.denominator) for sign in notes.to_score(0).time_signatures] == metres
    assert Notes.concat([notes, notes]).pieces([1]).bars.changes() == metres
