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


@pytest.mark.parametrize(("signature", "beats"), [((6, 8), 3), ((12, 8), 6), ((2, 2), 4), ((3, 4), 3), ((5, 4), 5)])
def test_metre_is_written_in_quarters(signature, beats):
    onsets, lengths = bar_lines([(0, *signature)], 300)
    assert lengths.tolist() == [beats] * len(lengths)
    assert np.diff(onsets).tolist() == [24 * beats] * (len(onsets) - 1)


@pytest.mark.parametrize("signature", [(7, 8), (3, 8), (9, 8), (8, 4), (0, 4), (4, 0)])
def test_metre_that_quarters_cannot_write_is_refused(signature):
    with pytest.raises(RejectedFile, match=f"{signature[0]}/{signature[1]}"):
        bar_lines([(0, *signature)], 300)


def test_a_pickup_bar_keeps_its_length():
    # A quarter of pickup written as 1/4, then 3/4.
    onsets, lengths = bar_lines([(0, 1, 4), (24, 3, 4)], 100)
    assert onsets.tolist() == [0, 24, 96] and lengths.tolist() == [1, 3, 3]


def test_a_change_inside_a_bar_ends_it_if_quarters_are_left():
    assert [column.tolist() for column in bar_lines([(0, 4, 4), (48, 3, 4)], 130)] == [
        [0, 48, 120],
        [2, 3, 3],
    ]
    # 50 steps are no whole quarters: the bar is finished first
    assert [column.tolist() for column in bar_lines([(0, 4, 4), (50, 3, 4)], 130)] == [[0, 96], [4, 3]]


def test_bars_hold_their_notes(demo_pieces):
    notes = Notes.from_scores(demo_pieces)
    assert (notes.position >= 0).all()
    lengths = notes.bars.beats[notes.bar_starts[notes.piece] + notes.bar] * 24
    assert (notes.position < lengths).all()


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
