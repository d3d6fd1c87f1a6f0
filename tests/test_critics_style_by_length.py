"""ByLength: medians and interpolation by hand."""

from __future__ import annotations

import numpy as np
import pytest

from critics.style.by_length import ByLength


def test_each_length_has_the_statistic_of_its_pieces():
    found = ByLength.measure([24, 24, 24, 96], [1.0, 2.0, 9.0, 5.0], lambda values: float(np.median(values)))
    assert found.notes.tolist() == [24, 96] and found.values.tolist() == [2, 5]


def test_lengths_that_are_nearly_equal_are_one():
    found = ByLength.measure([50, 51, 52, 400], [1.0, 3.0, 8.0, 0.0], lambda values: float(np.median(values)))
    assert found.notes.tolist() == [51, 400] and found.values.tolist() == [3, 0]


def test_between_lengths_the_logarithm_of_the_notes_counts_and_beyond_them_the_nearest():
    medians = ByLength(np.array([16.0, 64.0, 256.0]), np.array([0.0, 4.0, 2.0]))
    assert medians.at([16, 32, 64, 128, 0, 1000]) == pytest.approx([0, 2, 4, 3, 0, 2])


def test_written_and_read_it_is_the_same():
    medians = ByLength(np.array([16.0, 64.0]), np.array([0.5, 4.25]))
    again = ByLength.from_json(medians.to_json())
    assert again.to_json() == medians.to_json() == [[16, 0.5], [64, 4.25]]


@pytest.mark.parametrize("pairs", [[[64, 1.0], [16, 2.0]], [[0, 1.0]], [[16, float("nan")]], [["a", 1.0]], [], [[1]]])
def test_other_content_is_refused(pairs):
    with pytest.raises((TypeError, ValueError)):
        ByLength.from_json(pairs)
