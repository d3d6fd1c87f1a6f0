from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from evaluation_pieces import line, nothing, piece, solos
from hypothesis import given, settings
from hypothesis import strategies as st

from mgen.music.onset_clusters import OnsetClusters
from mgen.notes import Notes
from mgen.stats.memorisation import LEVELS, CopyIndex


def steps(pitches: list[int]) -> list[int]:
    """Semitone steps of a line, a repeated note once."""
    kept = [pitches[0], *(b for a, b in pairwise(pitches) if a != b)]
    return [b - a for a, b in pairwise(kept)]


def longest_shared(text: list[int], others: list[list[int]]) -> int:
    """Longest run of `text` that stands in another, by looking everywhere."""
    best = 0
    for other in others:
        for i in range(len(text)):
            for j in range(len(other)):
                k = 0
                while i + k < len(text) and j + k < len(other) and text[i + k] == other[j + k]:
                    k += 1
                best = max(best, k)
    return best


lines = st.lists(st.integers(60, 63), min_size=1, max_size=25)


@settings(max_examples=60)
@given(train=st.lists(lines, min_size=1, max_size=4), asked=st.lists(lines, min_size=1, max_size=3))
def test_runs_are_those_of_brute_force(train, asked):
    index = CopyIndex.of(Notes.concat([line(one) for one in train]), nothing())
    found = index.copied_run(Notes.concat([line(one) for one in asked]))
    known = [steps(one) for one in train]
    expected = [1 + longest_shared(steps(one), known) if len(one) > 1 else np.nan for one in asked]
    np.testing.assert_array_equal(found, expected)


def test_the_top_line_is_compared():
    notes = piece((0, 24, 60), (0, 96, 48), (0, 24, 64), (24, 24, 55), (48, 12, 72))
    assert OnsetClusters(notes, gap=0).top.pitch.tolist() == [64, 55, 72]


def test_a_planted_copy_is_found_in_another_key_tempo_and_accompaniment():
    train = solos(40)
    index = CopyIndex.of(train, solos(60, seed=3))
    honest = solos(20, seed=4)
    assert np.nansum(index.copied(honest)) <= 1
    stolen = train.pieces([7])
    stolen = stolen.select(np.arange(len(stolen)) < 60)
    stolen = replace(stolen, pitch=stolen.pitch + 5, onset=2 * stolen.onset, duration=2 * stolen.duration)
    run = 1 + len(steps(stolen.pitch.tolist()))
    alone = replace(
        line(range(60, 90, 2)),
        n_pieces=1,
    )
    bass = piece(*((48 * i, 48, 30) for i in range(20)))
    both = Notes.concat([stolen, alone])
    assert index.copied_run(both)[0] == run
    assert index.copied(both).tolist()[0] == 1
    onset = np.concatenate([stolen.onset, bass.onset])
    order = np.argsort(onset, kind="stable")
    columns = ("onset", "duration", "bar", "pitch", "velocity", "program", "token", "broken")
    joined = replace(
        stolen,
        piece=np.zeros(len(order), np.int32),
        **{name: np.concatenate([getattr(stolen, name), getattr(bass, name)])[order] for name in columns},
    )
    assert index.copied_run(joined)[0] >= run / 3  # the bass is the top line where the melody rests, and cuts the run


@pytest.mark.slow
def test_the_training_set_copies_itself_and_held_out_music_sets_the_threshold():
    train, held_out = solos(30), solos(200, seed=5)
    index = CopyIndex.of(train, held_out)
    assert index.threshold == np.quantile(index.copied_run(held_out), 0.99)
    assert index.copy_rate(train).value == 1
    rate = index.copy_rate(solos(200, seed=6))
    assert rate.value < 0.06 and rate.low <= rate.value <= rate.high


def test_long_copies_count_as_the_longest_that_is_told():
    rng = np.random.default_rng(0)
    long = line(rng.integers(40, 90, 3 << LEVELS), step=3)
    index = CopyIndex.of(long, nothing())
    assert index.copied_run(long) == [1 << LEVELS]


def test_repeated_notes_are_no_ones():
    index = CopyIndex.of(line([60] * 50), line([60, 62]))
    assert index.copied_run(line([70] * 40)) == [1]


def test_bad_input():
    empty = CopyIndex.of(Notes.concat([]), solos(5))
    assert empty.copied_run(solos(2)).tolist() == [1, 1]
    index = CopyIndex.of(solos(3), nothing(2))  # nothing to set a threshold by
    assert np.isnan(index.threshold)
    rate = index.copy_rate(solos(4, seed=1))
    assert np.isnan(rate.value) and rate.undefined == 4
    some = CopyIndex.of(solos(3), solos(9, seed=1)).copy_rate(Notes.concat([solos(2), nothing(2), line([60])]))
    assert some.undefined == 3
    drums = piece(*((12 * i, 6, 38) for i in range(30)), drums=True)
    assert np.isnan(index.copied_run(drums)).all()
    assert index.copied_run(Notes.concat([])).shape == (0,)


@pytest.mark.parametrize("pieces", [1, 3])
def test_runs_never_cross_pieces(pieces):
    # up and down by turns in one piece; the same steps in two, cut in the middle
    whole = [60, 65, 61, 69, 62, 70, 63, 71]
    index = CopyIndex.of(Notes.concat([line(whole[:4]), line(whole[4:])] * pieces), nothing())
    assert index.copied_run(line(whole)) == [4]
