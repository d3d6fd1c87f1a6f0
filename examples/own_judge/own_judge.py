"""A judge for mgen from another package: melodies that move in small steps.

mgen finetune ... --judges own_judge:SmallLeaps=1 style=1
"""

from __future__ import annotations

import numpy as np

from mgen.errors import MgenError
from mgen.judgement import Judgement
from mgen.notes import Notes


class SmallLeaps:
    """-2 times the share of melodic intervals that are larger than `largest` semitones.

    The melody is the highest note at each onset, without drums. 0 where all its intervals are small. The credit of a
    large interval falls on the note that it leads to. A piece whose melody has fewer than two notes is not `defined`
    and gets the worst score, -2.

    Known reward hacking: one repeated pitch; pair with `pitch_entropy` or `repetition_pitch`.

    Args:
        largest: semitones that still count as small.

    Raises:
        MgenError: `largest` is below 0.
    """

    worst = -2.0

    def __init__(self, largest: int = 7) -> None:
        if largest < 0:
            raise MgenError(f"SmallLeaps: largest ({largest}) must be at least 0 semitones")
        self.largest = largest

    def __call__(self, notes: Notes) -> Judgement:
        pitched = np.flatnonzero(notes.program >= 0)
        # The last of the notes of one piece and onset, in rising order of pitch, is the melody's.
        order = pitched[np.lexsort((notes.pitch[pitched], notes.onset[pitched], notes.piece[pitched]))]
        same_time = (np.diff(notes.piece[order]) == 0) & (np.diff(notes.onset[order]) == 0)
        melody = order[np.append(~same_time, True)[: len(order)]]
        same_piece = np.diff(notes.piece[melody]) == 0
        leap = np.abs(np.diff(notes.pitch[melody])) > self.largest
        target, piece = melody[1:][same_piece], notes.piece[melody[1:][same_piece]]
        intervals = np.bincount(piece, minlength=notes.n_pieces)
        defined = intervals > 0
        credit = np.zeros(len(notes))
        credit[target] = np.where(leap[same_piece], self.worst / intervals[piece], 0.0)
        undefined = ~defined[notes.piece]
        credit[undefined] = (self.worst / np.maximum(notes.counts, 1))[notes.piece[undefined]]
        score = np.where(defined, np.bincount(notes.piece, credit, notes.n_pieces), self.worst)
        return Judgement(score.astype(np.float32), credit.astype(np.float32), defined)
