"""Notes stand where pitch and time put them, and the prompt differs from what follows."""

from __future__ import annotations

import numpy as np
import pytest
import symusic

from mgen.errors import MgenError
from mgen.notes import Notes
from mgen.render.pianoroll_image import pianoroll_image

PAPER, GIVEN_PAPER = (252, 251, 248), (236, 233, 226)


def piece(*notes, program=0):
    """Notes (onset, duration, pitch) in grid steps, two bars of 4/4, as loud as can be."""
    score = symusic.Score(24)
    score.time_signatures.append(symusic.TimeSignature(0, 4, 4))
    track = symusic.Track("", program)
    track.notes.extend([symusic.Note(onset, duration, pitch, 127) for onset, duration, pitch in notes])
    score.tracks.append(track)
    return Notes.from_scores([score])


def where(picture, colour):
    """Rows and columns that have a colour."""
    return np.nonzero((picture == np.array(colour)).all(axis=2))


def test_later_is_further_right_and_higher_is_further_up():
    low_first = pianoroll_image(piece((0, 24, 48), (96, 96, 72)), 0, prompt_end=96)
    given_row, given_column = where(low_first, (125, 122, 114))
    new_row, new_column = where(low_first, (11, 110, 117))
    # 192 steps from pixel 44 to 1190: the second bar begins in the middle, at 617
    assert given_column.min() == 44 and given_column.max() == pytest.approx(44 + 1146 / 8, abs=2)
    assert new_column.min() == pytest.approx(617, abs=2) and new_column.max() == pytest.approx(1189, abs=2)
    assert new_row.max() < given_row.min()
    shaded = where(low_first, GIVEN_PAPER)[1]
    assert shaded.min() >= 44 and shaded.max() == pytest.approx(617, abs=2)


def test_without_a_prompt_nothing_is_shaded():
    picture = pianoroll_image(piece((0, 24, 60)), 0)
    assert not len(where(picture, GIVEN_PAPER)[0]) and not len(where(picture, (125, 122, 114))[0])
    assert picture.shape == (300, 1200, 3) and picture.dtype == np.uint8


def test_softer_is_paler():
    score = symusic.Score(24)
    track = symusic.Track("")
    track.notes.extend([symusic.Note(0, 48, 60, 127), symusic.Note(48, 48, 60, 20)])
    score.tracks.append(track)
    picture = pianoroll_image(Notes.from_scores([score]), 0).astype(int)
    row = int(np.median(where(picture, (11, 110, 117))[0]))
    loud, soft = picture[row, 44 + 200].sum(), picture[row, 44 + 800].sum()
    assert loud < soft < sum(PAPER)


def test_no_notes_is_a_picture_too():
    picture = pianoroll_image(Notes.from_scores([symusic.Score(24)]), 0, prompt_end=None)
    assert picture.shape == (300, 1200, 3)


@pytest.mark.parametrize(("change", "message"), [({"piece": 1}, "piece 1 of 1"), ({"width": 20}, "too few")])
def test_mistakes_are_one_line(change, message):
    with pytest.raises(MgenError, match=message):
        pianoroll_image(**{"notes": piece((0, 24, 60)), "piece": 0} | change)
