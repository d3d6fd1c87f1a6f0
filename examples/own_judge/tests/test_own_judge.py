"""The judge keeps mgen's contract, and gives what paper and pencil give."""

from __future__ import annotations

import numpy as np
import symusic
from own_judge import SmallLeaps

from mgen.notes import Notes
from mgen.testing import check_judge


def test_the_contract_of_judges():
    check_judge(SmallLeaps, transposition_invariant=True)


def test_one_leap_in_three_intervals():
    score = symusic.Score(24)
    score.tracks.append(symusic.Track("piano", 0, False))
    for place, pitch in enumerate([60, 62, 74, 72]):  # intervals of 2, 12 and 2 semitones
        score.tracks[0].notes.append(symusic.Note(24 * place, 24, pitch, 64))
    judgement = SmallLeaps(largest=7)(Notes.from_scores([score]))
    np.testing.assert_allclose(judgement.score, [-2 / 3], rtol=1e-6)
    np.testing.assert_allclose(judgement.credit, [0, 0, -2 / 3, 0], rtol=1e-6)
    assert SmallLeaps(largest=12)(Notes.from_scores([score])).score[0] == 0
