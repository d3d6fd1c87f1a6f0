from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from rewards_pieces import melodies

from mgen.music.metrics import repeated_ngrams
from mgen.music.ngrams import complete, longest_run, repeat_share, repeated, repeats, run_length


def test_a_repeat_ends_where_the_same_ngram_ended_before():
    #                 a b a b a | a b: the second piece knows nothing of the first
    piece = np.array([0, 0, 0, 0, 0, 1, 1])
    values = np.array([5, 7, 5, 7, 5, 5, 7])
    np.testing.assert_array_equal(repeated(piece, values, 2), [False, False, False, True, True, False, False])
    np.testing.assert_array_equal(complete(piece, 2), [False, True, True, True, True, False, True])


@given(
    rows=st.lists(st.tuples(st.integers(0, 3), st.sampled_from([-2, 0, 1, 10**9])), max_size=60),
    n=st.integers(1, 12),
)
def test_repeats_equal_a_search_through_a_set(rows, n):
    rows = sorted(rows, key=lambda row: row[0])
    piece, values = (np.array([row[i] for row in rows], dtype=np.int64) for i in (0, 1))
    seen: set[tuple[tuple[int, int], ...]] = set()
    expected = []
    for i in range(len(rows)):
        gram = tuple(rows[max(i - n + 1, 0) : i + 1])  # with the piece of each row
        whole = len(gram) == n and gram[0][0] == gram[-1][0]
        expected.append(whole and gram in seen)
        if whole:
            seen.add(gram)
    np.testing.assert_array_equal(repeated(piece, values, n), np.array(expected, dtype=bool))


def test_ngrams_beyond_64_bits_are_not_confused():
    # Five digits of 16 bits: the first, 1 or 2, would fall off the end of 64 bits.
    values = np.array([0, 2**16 - 1, 1, 7, 7, 7, 7, 2, 7, 7, 7, 7, 1, 7, 7, 7, 7])
    np.testing.assert_array_equal(np.flatnonzero(repeated(np.zeros(17, int), values, 5)), [16])


def test_share_of_pitches_and_of_intervals():
    # C D E F# twice has six 3-grams, of which CDE and DEF# return, and steps 2 2 2 -6 2 2 2, whose pairs
    # are 22 22 2-6 -62 22 22: three return. With the second time on B flat no pitches return, but steps do.
    notes = melodies([60, 62, 64, 66, 60, 62, 64, 66], [60, 62, 64, 66, 70, 72, 74, 76], [60, 62], [])
    np.testing.assert_array_equal(repeat_share(notes.piece, notes.pitch, 3, 4), [2 / 6, 0, np.nan, np.nan])
    np.testing.assert_array_equal(repeated_ngrams(notes, 3), [2 / 6, 0, np.nan, np.nan])
    np.testing.assert_array_equal(repeated_ngrams(notes, 2, "interval"), [3 / 6, 3 / 6, np.nan, np.nan])


def test_an_interval_needs_two_notes_of_one_piece():
    notes = melodies([60, 62, 64], [66, 68])
    ended, whole = repeats(notes.piece, notes.pitch, 1, "interval")
    np.testing.assert_array_equal(whole, [False, True, True, False, True])
    np.testing.assert_array_equal(ended, [False, False, True, False, False])


def test_runs():
    notes = melodies([60, 60, 62, 60, 60, 60], [60, 64], [])
    np.testing.assert_array_equal(run_length(notes.piece, notes.pitch), [1, 2, 1, 1, 2, 3, 1, 1])
    np.testing.assert_array_equal(longest_run(notes), [3, 1, 0])
