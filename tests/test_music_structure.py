from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from evaluation_pieces import demo, line, nothing, piece, random_piece, solos
from hypothesis import given, settings
from hypothesis import strategies as st

from mgen.music import structure
from mgen.music.half_bars import HalfBars
from mgen.music.structure import LONG, MID, SHORT, structureness
from mgen.notes import Notes
from mgen.transforms.corruptions import CORRUPTIONS

SCALES = (SHORT, MID, LONG)


def si(notes: Notes, half_bars: int) -> float:
    (value,) = structureness(notes, half_bars)
    return float(value)


def by_sets(notes: Notes, length: int) -> float:
    """SI of one piece as its docstring says it, with sets."""
    windows = HalfBars.of(notes).onset.tolist()
    rows = sorted(zip(notes.onset.tolist(), notes.pitch.tolist(), strict=True))
    slots: dict[tuple[int, int], list[int]] = {}
    for onset, pitch in rows:
        window = max(i for i, begin in enumerate(windows) if begin <= onset + 6)
        slots.setdefault((window, min((onset + 6 - windows[window]) // 12, 5)), []).append(pitch)
    half_bars: list[set[tuple[int, int]]] = [set() for _ in windows]
    before = None
    for (window, slot), pitches in sorted(slots.items()):
        if before is not None:
            half_bars[window] |= {(slot, (pitch - before) % 12) for pitch in pitches}
        before = max(pitches)
    segments = [
        {(k, *note) for k in range(length) for note in half_bars[i + k]} for i in range(len(windows) - length + 1)
    ]
    best = []
    for i, a in enumerate(segments):
        others = [b for j, b in enumerate(segments) if abs(i - j) >= length]
        if a and others:
            best.append(max(2 * len(a & b) / (len(a) + len(b)) for b in others))
    return float(np.mean(best)) if best else np.nan


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    bars=st.integers(1, 14),
    beats=st.sampled_from([1, 2, 3, 4, 5]),
    length=st.sampled_from([1, 2, 4, 8]),
    cells=st.sampled_from([1, 100, 500, 1 << 19]),
)
def test_equals_a_search_through_sets(seed, bars, beats, length, cells):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 8 * bars + 1))
    rows = zip(
        rng.integers(0, 24 * beats * bars, count).tolist(),
        [9] * count,
        rng.integers(60, 66, count).tolist(),
        strict=True,
    )
    notes = piece(*rows, beats=beats)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(structure, "_CELLS", cells)
        np.testing.assert_allclose(si(notes, length), by_sets(notes, length), rtol=1e-6)


def test_by_hand():
    # Quarters, one half bar each two: c d, e f, c d, e g, d d. Intervals from the note before, by half bar and beat:
    # (-, +2) (+2, +1) (-5, +2) (+2, +3) (-5, 0); the first note has none. In segments of one half bar the best
    # matches are: 1st {+2} with 3rd {-5, +2}: 2/3; 2nd with 4th: one of two, 2/4; 3rd with 1st 2/3; 4th with the
    # 2nd 1/2; 5th with 3rd: -5, 1/2.
    notes = line([60, 62, 64, 65, 60, 62, 64, 67, 62, 62])
    assert si(notes, 1) == pytest.approx((2 / 3 + 1 / 2 + 2 / 3 + 1 / 2 + 1 / 2) / 5)


@pytest.mark.parametrize("length", SCALES)
def test_a_loop_is_all_structure_also_when_it_climbs(length):
    rng = np.random.default_rng(0)
    figure = rng.integers(60, 72, 16)  # two bars of eighths
    loop = line(np.tile(figure, 12), step=12)
    climbing = line(np.concatenate([figure + k for k in range(12)]), step=12)
    assert si(loop, length) > 0.99
    assert si(climbing, length) > 0.99
    assert si(line(rng.integers(60, 72, 16 * 12), step=12), length) < 0.45


@pytest.mark.parametrize("length", SCALES)
def test_falls_when_bars_are_shuffled_or_pitches_drawn_and_rises_in_a_loop(length):
    real = demo("folk_tunes", "pop_band", "lead_sheets", works=8)
    value = structureness(real, length)
    for way, sign in (("bars_shuffled", -1), ("markov_pitches", -1), ("random_pitches", -1), ("two_bar_loop", 1)):
        change = structureness(CORRUPTIONS[way](real, np.random.default_rng(0)), length) - value
        change = change[~np.isnan(change)]
        assert sign * change.mean() > 4 * change.std() / np.sqrt(len(change)), way


def test_swung_and_straight_eighths_are_the_same_figures():
    swung = solos(4)
    straight = replace(swung, onset=swung.onset - swung.onset % 24 // 16 * 4)
    assert (straight.onset % 12 == 0).all() and (swung.onset % 24 == 16).any()
    np.testing.assert_array_equal(structureness(swung, SHORT), structureness(straight, SHORT))


def test_undefined_for_a_piece_of_less_than_two_segments():
    assert np.isnan(si(nothing(), SHORT))
    assert np.isnan(si(piece(*((12 * i, 12, 36 + i % 5) for i in range(200)), drums=True), SHORT))
    for length in SCALES:
        bars = length // 2
        assert np.isnan(si(line(range(40, 40 + 4 * (2 * bars - 1))), length))  # one bar less than two segments
        assert np.isfinite(si(line([60 + i % 12 for i in range(8 * bars)]), length))


def test_the_last_rows_find_what_the_first_began():
    # Of 57 half bars the last 27 are the first 27 again: 42 segments of 16, of which the first and the last 12 return.
    # In blocks of 32 rows the last one is shorter than a segment.
    figure = np.random.default_rng(1).integers(60, 70, 60)
    notes = line([*figure, *figure[:54]])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(structure, "_CELLS", 32 * 57)
        assert si(notes, LONG) == pytest.approx(by_sets(notes, LONG), rel=1e-6)


def test_a_stray_note_days_later_is_not_waited_for():
    notes = random_piece(np.random.default_rng(0))
    far = piece(*zip(notes.onset.tolist(), notes.duration.tolist(), notes.pitch.tolist(), strict=True), (10**7, 1, 60))
    assert si(far, SHORT) == pytest.approx(si(notes, SHORT), abs=0.1)


def test_many_half_bars_take_no_more_than_their_share():
    # 700 half bars: one block of rows, or four
    notes = line(np.random.default_rng(1).integers(60, 70, 1400))
    several = [si(notes, length) for length in SCALES]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(structure, "_CELLS", 1 << 17)
        np.testing.assert_allclose([si(notes, length) for length in SCALES], several, rtol=1e-12)
