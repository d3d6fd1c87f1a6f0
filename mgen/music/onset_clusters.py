"""A piece as moments and their pitches: what a critic of traits hears, without what only tells the file.

Free performances spread a chord over tens of milliseconds, transcriptions keep a comb of their frames, pedals and
exporters decide how long a note is written. So notes that begin almost together are one moment, durations and
velocities are not heard at all, and no time is told but as a ratio of times.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mgen.arrays import Longs
from mgen.music import ngrams
from mgen.music.voices import leaders
from mgen.notes import Notes

TOGETHER = 2
"""Grid steps from a moment's first note within which a note belongs to it: 42 ms at 120 quarters a minute, as far as
the notes of a played chord lie apart, and less than a thirty-second note.
"""

_PACE = 12
"""Grid steps that a moment counts when leaders are looked for: half a beat, whatever the tempo."""


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """One pitch a moment, of B pieces."""

    piece: Longs  # (M,) rising
    pitch: Longs  # (M,)

    @property
    def interval(self) -> Longs:
        """(M,) semitones from the moment before; read it where there is one in the piece."""
        return np.diff(self.pitch, prepend=np.int64(0))


class OnsetClusters:
    """The pitched notes of B pieces as M moments; drums are not heard.

    Attributes:
        n: pieces, B.
        piece: (N,) piece of each note; notes are sorted by piece, moment, pitch.
        pitch: (N,) MIDI note number.
        moment: (N,) moment of each note.
        first: (M,) row of each moment's lowest note.
        onset: (M,) grid steps of its first note.
        bar: (M,) number of its bar in the piece.
    """

    def __init__(self, notes: Notes) -> None:
        notes = notes.select(notes.program >= 0)
        order = np.lexsort((notes.onset, notes.piece))
        piece, onset = notes.piece[order].astype(np.int64), notes.onset[order].astype(np.int64)
        self.n = notes.n_pieces
        fresh = _moments(piece, onset)
        self.moment: Longs = np.cumsum(fresh) - 1
        self.first: Longs = np.flatnonzero(fresh)
        pitch = notes.pitch[order].astype(np.int64)
        self.pitch: Longs = pitch[np.lexsort((pitch, self.moment))]
        self.piece: Longs = piece
        self.onset: Longs = onset[self.first]
        self.bar: Longs = notes.bar[order].astype(np.int64)[self.first]

    @cached_property
    def owner(self) -> Longs:
        """(M,) piece of each moment."""
        return self.piece[self.first]

    @cached_property
    def size(self) -> Longs:
        """(M,) notes of each moment."""
        return np.diff(np.append(self.first, len(self.piece)))

    @cached_property
    def top(self) -> Line:
        """The highest note of each moment."""
        return Line(self.owner, self.pitch[self.first + self.size - 1])

    @cached_property
    def low(self) -> Line:
        """The lowest note of each moment."""
        return Line(self.owner, self.pitch[self.first])

    @cached_property
    def classes(self) -> Longs:
        """(M,) pitch classes of each moment, a bit for each."""
        if not len(self.first):
            return np.zeros(0, np.int64)
        return np.bitwise_or.reduceat(np.int64(1) << self.pitch % 12, self.first)

    @cached_property
    def leader(self) -> Longs:
        """(N,) row of the note that most likely leads to each (`mgen.music.voices`), -1 where there is none."""
        return leaders(self.piece, _PACE * self.moment, self.pitch)

    def after(self, moments: int) -> NDArray[np.bool_]:
        """(M,) whether so many moments of the piece came before."""
        return ngrams.complete(self.owner, moments + 1)

    @cached_property
    def log_gap(self) -> NDArray[np.float64]:
        """(M,) log2 of the grid steps since the moment before; read it where `after(1)`."""
        return np.log2(np.maximum(np.diff(self.onset, prepend=np.int64(0)), 1))

    @cached_property
    def log_ratio(self) -> NDArray[np.float64]:
        """(M,) log2 of the last gap over the one before; read it where `after(2)`."""
        return np.diff(self.log_gap, prepend=0.0)


def _moments(piece: Longs, onset: Longs) -> NDArray[np.bool_]:
    """(N,) whether each note begins a moment: it lies further than `TOGETHER` from the first note of the one before.

    Args:
        piece, onset: (N,) sorted.
    """
    fresh = np.append(True, np.diff(piece) != 0)[: len(piece)]
    if not len(piece):
        return fresh
    time = onset + piece * (np.ptp(onset) + TOGETHER + 1)  # rising, and pieces lie apart
    later = np.searchsorted(time, time + TOGETHER, side="right")  # where the next moment begins, if one begins here
    later = np.append(later, len(piece))
    begins = np.append(fresh, True)
    while True:  # a moment leads to the next, then two at a time, then four
        found = begins.copy()
        found[later[begins]] = True
        if (found == begins).all():
            return begins[:-1]
        begins, later = found, later[later]


def windows(owner: NDArray[np.integer[Any]], n: int, size: int) -> tuple[Longs, Longs]:
    """Each row's window (R,), and each window's piece.

    A window has `size` rows of one piece; a piece's last one may have up to twice as many, and its only one fewer.

    Args:
        owner: (R,) piece of each row, rising.
        n: pieces.
    """
    count = np.bincount(owner, minlength=n)
    rank = np.arange(len(owner)) - (np.cumsum(count) - count)[owner]
    number = np.where(count > 0, np.maximum(count // size, 1), 0)
    window = (np.cumsum(number) - number)[owner] + np.minimum(rank // size, number[owner] - 1)
    return window, np.repeat(np.arange(n), number)
