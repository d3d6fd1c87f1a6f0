"""Drafts of pieces: to notes and back, and edits that stay what they say they are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mgen.notes import Notes
from mgen.transforms import edits
from mgen.transforms.edits import (
    BAR,
    DURATION,
    EDIT_OPERATORS,
    ONSET,
    PITCH,
    SizeLimits,
    constructions,
    crossover,
    noise,
    note_arrays,
    notes_from_arrays,
)

LIMITS = SizeLimits((8, 40), (2, 6))


def scale(count=16, step=12):
    """A chromatic scale from C4 in even eighths."""
    at = np.arange(count)
    return np.stack([at * step, 60 + at, np.full(count, step), np.full(count, 80)], axis=1)


def test_a_draft_and_its_notes_are_one_piece():
    one, two = scale(), scale(20, 24)
    notes = notes_from_arrays([one, np.zeros((0, 4), np.int64), two])
    assert notes.counts.tolist() == [16, 0, 20]
    assert np.diff(notes.bar_starts).tolist() == [2, 1, 5]  # 16 eighths, nothing, 20 quarters
    assert notes.position.tolist() == [12 * (i % 8) for i in range(16)] + [24 * (i % 4) for i in range(20)]
    for draft, again in zip((one, np.zeros((0, 4)), two), note_arrays(notes), strict=True):
        np.testing.assert_array_equal(draft, again)
    assert notes_from_arrays([]).n_pieces == 0 and note_arrays(Notes.concat([])) == []


def test_notes_of_drafts_are_what_a_file_of_them_would_give():
    notes = notes_from_arrays([scale()])
    read = Notes.from_scores([notes.to_score(0)])
    for name in ("onset", "pitch", "duration", "velocity", "bar", "program", "token"):
        np.testing.assert_array_equal(getattr(read, name), getattr(notes, name))


def test_limits_cut_sort_and_drop_what_is_there_twice():
    draft = np.array([[48, 130, 500, 200], [0, 60, 0, 0], [0, 60, 12, 80], [-1, 60, 12, 80], [6 * BAR, 60, 12, 80]])
    np.testing.assert_array_equal(LIMITS.keep(draft), [[0, 60, 1, 1], [48, 108, BAR, 127]])
    assert len(LIMITS.keep(scale(100, 3))) == 40
    assert LIMITS.long_enough(LIMITS.keep(scale(16)))
    assert not LIMITS.long_enough(LIMITS.keep(scale(7)))  # notes
    assert not LIMITS.long_enough(LIMITS.keep(scale(8)))  # bars
    assert not LIMITS.long_enough(np.zeros((0, 4), np.int64))


def test_limits_are_those_of_nine_tenths_of_real_pieces():
    notes = notes_from_arrays([scale(count) for count in range(1, 102)])
    assert SizeLimits.of(notes) == SizeLimits((6, 96), (1, 12))


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 30))
def test_every_edit_can_be_kept_and_leaves_its_draft_alone(seed, count):
    rng = np.random.default_rng(seed)
    draft = scale(count, int(rng.choice(edits.GRIDS)))
    before = draft.copy()
    for edit in EDIT_OPERATORS.values():
        kept = LIMITS.keep(edit(draft, rng))
        np.testing.assert_array_equal(draft, before)
        assert kept.dtype == np.int64 and len(kept) <= 40
        assert (np.diff(kept[:, ONSET]) >= 0).all() and (kept[:, DURATION] >= 1).all()
        again = edit(draft, np.random.default_rng(seed))
        np.testing.assert_array_equal(again, edit(draft, np.random.default_rng(seed)))
    assert len(LIMITS.keep(crossover(draft, scale(9), rng))) > 0


def test_edits_do_what_they_say():
    rng = np.random.default_rng(0)
    draft = scale(32)
    assert len(np.unique(edits.few_pitches(draft, rng)[:, PITCH])) <= 4
    assert sorted(edits.shuffle_pitches(draft, rng)[:, PITCH]) == sorted(draft[:, PITCH])
    shuffled = edits.shuffle_bars(draft, rng)
    assert sorted(map(tuple, shuffled[:, [PITCH, DURATION]])) == sorted(map(tuple, draft[:, [PITCH, DURATION]]))
    np.testing.assert_array_equal(shuffled[:, ONSET] % BAR, draft[:, ONSET] % BAR)
    assert (np.diff(edits.even_onsets(draft, rng)[:, ONSET], n=2) == 0).all()
    loop = LIMITS.keep(edits.repeat_bars(draft, rng))
    assert len(np.unique(loop[:, PITCH])) in (8, 16, 24, 32)
    assert len(edits.leave_out(draft, rng)) < 32 and len(edits.double(draft, rng)) > 32
    with_both = edits.copy_range(draft, rng)
    assert set(map(tuple, with_both[: len(with_both) // 2])) <= set(map(tuple, draft))


@pytest.mark.parametrize("pattern", [{60}, {60, 67}, {60, 64, 67}])
def test_constructions_hold_what_anyone_would_try_first(pattern):
    assert any(set(draft[:, PITCH].tolist()) == pattern for draft in constructions(LIMITS))


def test_noise_is_as_long_as_music():
    rng = np.random.default_rng(0)
    sizes = [len(noise(LIMITS, rng)) for _ in range(50)]
    assert min(sizes) < 20 and max(sizes) <= 40
