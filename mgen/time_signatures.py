"""Which time signature holds when: one answer for the bars and for the tables of a corpus."""

from __future__ import annotations

from symusic import core

Signature = tuple[int, int, int]  # tick, numerator, denominator


def signatures_in_effect(score: core.ScoreTick) -> list[Signature]:
    """(tick, numerator, denominator) of the time signatures of a score, in order, one at a tick.

    Of several at one tick the last in the score holds. Impossible ones (0/4, 4/3) mean nothing.
    """
    held = {
        one.time: (one.time, one.numerator, one.denominator)
        for one in sorted(score.time_signatures, key=lambda one: one.time)
        if one.numerator > 0 and one.denominator > 0 and one.denominator & (one.denominator - 1) == 0
    }
    return list(held.values())
