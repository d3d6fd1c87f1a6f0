"""Bars that are repeated at once: how often real music does so, and sequences made by repeating bars of real music.

Pseudo-repetitions are for training against loops and for measuring them (Xu et al. 2022, DITTO, arXiv:2206.02369):
real music up to a bar, then that bar, or a few, again and again to the end of the context.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mgen.arrays import Longs, Mask
from mgen.encoding.remi import Kind, Remi

FEWEST_COPIES = 4  # of the repeated bars that a pseudo-repetition must have room for


@dataclass(frozen=True, slots=True)
class ItemShare:
    """Some items of a training set, evenly spread, so that each batch has as many.

    Attributes:
        share: of the items from `begin` on.
        begin: number of the first item that may be one.
        block: items that are chosen together; with the size of a batch, some batches have no others.
    """

    share: float
    begin: int
    block: int = 1

    def has(self, index: int) -> bool:
        """Whether item `index` is one of them."""
        place = index // self.block
        return index >= self.begin and math.floor((place + 1) * self.share) > math.floor(place * self.share)


@dataclass(frozen=True, slots=True)
class PseudoRepetitions(ItemShare):
    """Items that are pseudo-repetitions.

    Attributes:
        bars: most bars that are repeated together.
    """

    bars: int = 1

    def bars_of(self, index: int) -> int:
        """Most bars that item `index` may repeat; 0 if it is real music."""
        return self.bars if self.has(index) else 0


def repeat_bars(music: Longs, length: int, bars: int, remi: Remi, rng: np.random.Generator) -> Longs:
    """Real music up to the end of a bar, then the last bar, or the last few, repeated up to `length` tokens.

    Args:
        music: (L,) ids that start on a bar.
        length: of the result; at most half of it is before the bars that are repeated.
        bars: most bars that are repeated together; drawn from 1 upwards.

    Returns:
        (length,) ids; none if no such bars have a note and can be repeated `FEWEST_COPIES` times.
    """
    starts = np.flatnonzero(music == remi.bar_id)
    notes = np.append(0, np.cumsum(pitch_tokens(remi)[music]))
    choices = []
    for n in range(1, min(bars, len(starts) - 1) + 1):
        first, end = starts[:-n], starts[n:]
        room = np.minimum(length // 2 - first, length - FEWEST_COPIES * (end - first) - first)
        places = np.flatnonzero((notes[end] > notes[first]) & (room >= 0))
        if len(places):
            choices.append((first[places], end[places]))
    if not choices:
        return music[:0]
    first, end = choices[rng.integers(len(choices))]
    place = rng.integers(len(first))
    unit = music[first[place] : end[place]]
    return np.concatenate([music[: first[place]], np.resize(unit, length - first[place])])


def copies_at_end(ids: Longs, bars: int, remi: Remi) -> tuple[Longs, int]:
    """Finds the repetition that a sequence ends with, in any encoding where each bar begins with a token.

    Args:
        ids: (T,) ids; the last copy may be incomplete.
        bars: most bars that are repeated together.

    Returns:
        (T,) number of the copy that each token belongs to, from 1, and 0 before the repetition; and the tokens of a
        copy. Without a repetition all are 0.
    """
    copies = np.zeros(len(ids), np.int64)
    starts = np.flatnonzero(remi.opens_bar[ids])
    for n in range(1, min(bars, len(starts) - 1) + 1):
        period = int(starts[-1] - starts[-1 - n])
        differs = np.flatnonzero(ids[period:] != ids[:-period])
        same_from = period + int(differs[-1]) + 1 if len(differs) else period
        second = starts[(starts >= same_from) & (starts >= period)]
        if len(second) and len(ids) - second[0] >= period:
            begin = int(second[0]) - period
            copies[begin:] = np.arange(len(ids) - begin) // period + 1
            return copies, period
    return copies, 0


def pitch_tokens(remi: Remi) -> Mask:
    """(V,) whether a token is, or contains, a pitch."""
    return remi.count_in(Kind.PITCH) > 0


def runs_of_bars(ids: NDArray[np.integer], remi: Remi) -> tuple[Longs, Mask]:
    """How often each bar with notes has been played in a row, and whether it is played once more.

    Two bars are equal if their tokens are, velocities aside: pitches, onsets, durations and metre.

    Args:
        ids: (L,) a piece.

    Returns:
        (N,) number of equal bars in a row up to each bar, at least 1, and (N,) whether the next bar equals it; without
        the last bar of the piece and bars without notes.
    """
    has_pitch, counts = pitch_tokens(remi), remi.kind[ids] != Kind.VELOCITY
    cuts = np.flatnonzero(ids == remi.bar_id)
    bars = [(part, kept) for part, kept in zip(np.split(ids, cuts), np.split(counts, cuts), strict=True)][1:]
    keys = [part[kept].tobytes() for part, kept in bars]
    again = np.array([left == right for left, right in pairwise(keys)], bool)
    run = np.ones(len(again), np.int64)
    for bar in range(1, len(again)):
        run[bar] += run[bar - 1] * again[bar - 1]
    plays = np.array([has_pitch[part].any() for part, _ in bars[:-1]], bool)
    return run[plays], again[plays]
