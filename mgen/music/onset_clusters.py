"""Onset clusters: notes that begin together, or nearly.

Performers spread a chord over tens of milliseconds and transcriptions round its notes to different frames. Readers that
must not depend on the file format therefore treat notes with nearly equal onsets as one event.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mgen.arrays import Floats, Longs, Mask
from mgen.music import ngrams
from mgen.music.voices import leaders
from mgen.notes import Ints, Notes

Integers = NDArray[np.integer[Any]]

TOGETHER = 2
"""Grid steps between notes that still begin together: 42 ms at 120 quarter notes per minute, the spread of a played
chord, and less than a thirty-second note.
"""

_PACE = 12  # grid steps that one cluster counts in the search for leaders: half a beat, whatever the tempo


def cluster_starts(piece: Integers, onset: Integers, gap: int = 0, span: int | None = None) -> Mask:
    """(N,) whether each note starts an onset cluster.

    A cluster continues while the next note of the piece begins at most `gap` steps after the note before it and at
    most `span` steps after the cluster's first note.

    Args:
        piece, onset: (N,) sorted by piece, then onset.
        gap: grid steps; 0 groups equal onsets only.
        span: grid steps; None sets no limit, so that a slow roll is one cluster.
    """
    starts = np.ones(len(piece), bool)
    starts[1:] = (np.diff(onset) > gap) | (piece[1:] != piece[:-1])
    if span is None or span <= gap == 0 or not len(piece):
        return starts
    # One time axis on which the groups separated by `gap` lie more than `span` apart.
    time = onset + (np.cumsum(starts) - 1) * (int(np.ptp(onset)) + span + 1)
    following = np.append(np.searchsorted(time, time + span, side="right"), len(piece))
    found = np.append(starts, True)
    while True:  # mark the next cluster of each start, then the one two further, four further, ...
        more = found.copy()
        more[following[found]] = True
        if (more == found).all():
            return more[:-1]
        found, following = more, following[following]


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """One pitch per cluster."""

    pitch: Ints  # (M,)

    @property
    def interval(self) -> Ints:
        """(M,) semitones from the cluster before; meaningful where there is one in the piece."""
        return np.diff(self.pitch, prepend=np.int32(0))


class OnsetClusters:
    """The N pitched notes of B pieces, grouped into M onset clusters; drums are left out.

    Rules in use: (`gap`, `span`) is (0, any) for written music, the default (2, 2) for style features, which must not
    depend on how wide a performer rolls chords, (2, None) for rewards, which credit all notes of a roll at once, and
    (2, 4) in `mgen.transforms.format_invariant`, which rewrites performed chords as a score would have them.

    Args:
        notes: the batch.
        gap, span: see `cluster_starts`.
        upwards: sort the notes of a cluster by pitch; False keeps the order of `notes`.

    Attributes:
        n: B.
        row: (N,) row of each note in `notes`.
        piece, onset, duration, pitch, bar: (N,) columns of the notes, by piece and cluster.
        cluster: (N,) cluster of each note, rising.
        first: (M,) first note of each cluster.
        cluster_piece, cluster_onset, cluster_bar: (M,) of each cluster's earliest note.
    """

    def __init__(self, notes: Notes, gap: int = TOGETHER, span: int | None = TOGETHER, *, upwards: bool = True) -> None:
        self.notes, self.n = notes, notes.n_pieces
        row = np.flatnonzero(notes.program >= 0)
        starts = cluster_starts(notes.piece[row], notes.onset[row], gap, span)
        self.cluster: Longs = np.cumsum(starts) - 1
        self.first: Longs = np.flatnonzero(starts)
        self.cluster_piece, self.cluster_onset, self.cluster_bar = (
            column[row[self.first]] for column in (notes.piece, notes.onset, notes.bar)
        )
        self.row: Longs = row[np.lexsort((notes.pitch[row], self.cluster))] if upwards else row
        self.piece, self.onset, self.duration, self.pitch, self.bar = (
            column[self.row] for column in (notes.piece, notes.onset, notes.duration, notes.pitch, notes.bar)
        )

    @cached_property
    def size(self) -> Longs:
        """(M,) notes in each cluster."""
        return np.diff(np.append(self.first, len(self.piece)))

    @cached_property
    def top(self) -> Line:
        """The highest note of each cluster."""
        return Line(np.maximum.reduceat(self.pitch, self.first) if len(self.first) else self.pitch)

    @cached_property
    def low(self) -> Line:
        """The lowest note of each cluster."""
        return Line(np.minimum.reduceat(self.pitch, self.first) if len(self.first) else self.pitch)

    @cached_property
    def pitch_classes(self) -> Longs:
        """(M,) pitch classes of each cluster, one bit each."""
        if not len(self.first):
            return np.zeros(0, np.int64)
        return np.bitwise_or.reduceat(np.int64(1) << self.pitch % 12, self.first)

    @cached_property
    def leader(self) -> Longs:
        """(N,) note that most likely leads to each note (`mgen.music.voices`), -1 for none; time counts in clusters."""
        return leaders(self.piece, _PACE * self.cluster, self.pitch)

    def after(self, clusters: int) -> Mask:
        """(M,) whether at least `clusters` clusters of the piece precede each cluster."""
        return ngrams.complete(self.cluster_piece, clusters + 1)

    @cached_property
    def follows(self) -> Mask:
        """(M,) whether the cluster before is of the same piece."""
        return self.after(1)

    @cached_property
    def gap(self) -> Ints:
        """(M,) grid steps since the cluster before; meaningful where `follows`."""
        return np.diff(self.cluster_onset, prepend=np.int32(0))

    @cached_property
    def log_gap(self) -> Floats:
        """(M,) log2 of `gap`; meaningful where `follows`."""
        return np.log2(np.maximum(self.gap, 1))

    @cached_property
    def log_ratio(self) -> Floats:
        """(M,) log2 of the gap over the gap before it; meaningful where `after(2)`."""
        return np.diff(self.log_gap, prepend=0.0)
