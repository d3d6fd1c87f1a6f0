"""The grammar gate: does a piece keep the grammar of its encoding?"""

from __future__ import annotations

import numpy as np

from mgen.errors import MgenError
from mgen.judgement import Judgement
from mgen.notes import Notes


class GrammarGate:
    """0 for a piece without a broken token, -10 for one, half a nat less for each further one, -20 at worst.

    A hard gate in nats: with a KL weight of 1 the optimum is p_ref(x) exp(reward), so -10 conditions the reference on
    valid grammar up to a factor of e**-10. The first broken token costs more than any three band rules can (-3 each);
    the slope gives a gradient to a policy that still breaks every piece. Many band rules at full weight, or a critic
    with a range of more than 10 nats, can outweigh the gate: lower their weights.

    A piece of fewer than `fewest` notes is not `defined` and gets the worst score, -20, because silence breaks no
    grammar. Credit falls on the first note that is completed after a broken token (on the last note if none is), in
    equal parts for each broken token; on all notes equally in a piece of too few notes.

    Known reward hacking: `fewest` notes of anything; pair with the band rules.
    Source: `Notes.n_broken`, as the encoding counts it; in `REWARDS`, `fewest` is half the number of notes
    that nine of ten real excerpts have.
    """

    first, each, worst = -10.0, -0.5, -20.0

    def __init__(self, fewest: int) -> None:
        if fewest < 1:
            raise MgenError(f"grammar: fewest ({fewest}) must be at least 1 note")
        self.fewest = fewest

    def __call__(self, notes: Notes) -> Judgement:
        defined = notes.counts >= self.fewest
        broken = np.maximum(self.first + self.each * (notes.n_broken - 1.0), self.worst)
        score = np.where(notes.n_broken > 0, broken, 0.0)
        score = np.where(defined, score, self.worst)
        weight = np.where(defined[notes.piece], notes.broken, 1)
        total = np.bincount(notes.piece, weights=weight, minlength=notes.n_pieces)
        credit = score[notes.piece] * weight / np.maximum(total, 1)[notes.piece]
        return Judgement(score.astype(np.float32), credit.astype(np.float32), defined)
