"""Onset clusters: by hand, and by one pass of a plain loop."""

from __future__ import annotations

import numpy as np
import pytest
from evaluation_pieces import line, nothing, piece
from hypothesis import given
from hypothesis import strategies as st

from mgen.arrays import windows
from mgen.music.onset_clusters import TOGETHER, OnsetClusters, cluster_starts
from mgen.notes import Notes


def two_chords():
    """C E G, E a step late; a bar on G' and, two steps later, B; F alone three steps after that."""
    return piece((0, 24, 60), (1, 24, 64), (0, 24, 67), (96, 24, 79), (98, 24, 71), (101, 24, 65))


def test_notes_that_begin_nearly_together_are_one_cluster():
    m = OnsetClusters(two_chords())
    assert m.n == 1 and m.cluster.tolist() == [0, 0, 0, 1, 1, 2]
    assert m.pitch.tolist() == [60, 64, 67, 71, 79, 65]  # from the bottom up
    assert m.first.tolist() == [0, 3, 5] and m.size.tolist() == [3, 2, 1]
    assert m.cluster_onset.tolist() == [0, 96, 101] and m.cluster_bar.tolist() == [0, 1, 1]
    assert m.top.pitch.tolist() == [67, 79, 65] and m.low.pitch.tolist() == [60, 71, 65]
    assert m.top.interval[1:].tolist() == [12, -14]
    # C E G are the bits 0, 4 and 7; B and G are 11 and 7; F is 5
    assert m.pitch_classes.tolist() == [1 + 16 + 128, 128 + 2048, 32]
    assert m.after(1).tolist() == [False, True, True] and m.after(2).tolist() == [False, False, True]
    np.testing.assert_allclose(m.log_gap[1:], np.log2([96, 5]))
    np.testing.assert_allclose(m.log_ratio[2], np.log2(5 / 96))


def test_a_cluster_ends_beyond_its_span():
    """A roll of notes one step apart is several clusters: each spans `TOGETHER` steps from its own first note."""
    m = OnsetClusters(piece(*((step, 4, 60 + step) for step in range(8))))
    assert TOGETHER == 2 and m.cluster.tolist() == [0, 0, 0, 1, 1, 1, 2, 2]
    assert m.cluster_onset.tolist() == [0, 3, 6]


def test_clusters_end_with_their_piece():
    late, early = piece((4, 8, 60)), piece((5, 8, 62))
    m = OnsetClusters(Notes.concat([nothing(), late, early, nothing(2)]))
    assert m.n == 5 and m.cluster_piece.tolist() == [1, 2] and m.cluster.tolist() == [0, 1]
    assert not m.after(1).any()
    chord = piece((0, 8, 60), (1, 8, 64), (2, 8, 67))
    assert OnsetClusters(Notes.concat([piece((0, 8, 60)), chord, chord])).cluster.tolist() == [0, 1, 1, 1, 2, 2, 2]


def test_drums_are_left_out_and_no_notes_are_survived():
    notes = Notes.concat([two_chords(), piece((0, 12, 36), (12, 12, 38), drums=True)])
    with_drums, without = OnsetClusters(notes), OnsetClusters(two_chords())
    assert with_drums.n == 2 and with_drums.cluster.tolist() == without.cluster.tolist()
    empty = OnsetClusters(nothing(3))
    for values in (empty.first, empty.size, empty.pitch_classes, empty.log_ratio, empty.top.interval, empty.leader):
        assert values.shape == (0,)
    assert OnsetClusters(Notes.concat([])).n == 0


def test_leaders_are_found_in_clusters_and_not_in_time():
    """However slow, a line leads on: the bass from the bass, and the top from the top."""
    slow = [(400 * k, 24, pitch) for k in range(3) for pitch in (40 + k, 80 - k)]
    assert OnsetClusters(piece(*slow)).leader.tolist() == [-1, -1, 0, 1, 2, 3]


def plain(rows: list[tuple[int, int]], gap: int, span: int | None) -> list[int]:
    """Clusters of (piece, onset) by the definition, note by note."""
    out: list[int] = []
    began = before = (-1, 0)
    for owner, now in rows:
        apart = now - before[1] > gap or (span is not None and now - began[1] > span)
        starts = owner != before[0] or apart
        before = (owner, now)
        began = before if starts else began
        out.append((out[-1] + starts) if out else 0)
    return out


@pytest.mark.parametrize(("gap", "span"), [(0, None), (2, 2), (2, None), (2, 4), (1, 5), (3, 0)])
@given(rows=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30)), max_size=40))
def test_clusters_are_those_of_a_loop(gap, span, rows):
    rows = sorted(rows)
    piece_, onset = (np.array([row[k] for row in rows], np.int32) for k in (0, 1))
    starts = cluster_starts(piece_, onset, gap, span)
    assert (np.cumsum(starts) - 1).tolist() == plain(rows, gap, span)
    notes = Notes.concat([piece(*((t, 4, 60) for owner, t in rows if owner == number)) for number in range(4)])
    assert OnsetClusters(notes, gap, span).cluster.tolist() == plain(rows, gap, span)


def test_a_long_roll():
    """One note per step: a third as many clusters."""
    pitches = (60 + np.arange(9600) % 12).tolist()
    assert OnsetClusters(line(pitches, 1)).cluster.tolist() == (np.arange(9600) // 3).tolist()


@pytest.mark.parametrize(
    ("count", "size", "expected"),
    [
        (0, 4, []),
        (3, 4, [0, 0, 0]),  # the only one is shorter
        (8, 4, [0] * 4 + [1] * 4),
        (11, 4, [0] * 4 + [1] * 7),  # the last one is longer
    ],
)
def test_windows_of_one_piece(count, size, expected):
    window, owner = windows(np.zeros(count, np.int64), 1, size)
    assert window.tolist() == expected and owner.tolist() == [0] * (max(expected) + 1 if expected else 0)


def test_windows_do_not_cross_pieces():
    window, owner = windows(np.repeat([0, 2, 3], [5, 2, 4]), 5, 2)
    assert window.tolist() == [0, 0, 1, 1, 1, 2, 2, 3, 3, 4, 4] and owner.tolist() == [0, 0, 2, 3, 3]
