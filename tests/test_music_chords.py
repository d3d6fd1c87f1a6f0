from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from evaluation_pieces import demo, nothing, piece, random_piece
from hypothesis import given
from hypothesis import strategies as st

from mgen.music.chords import chord_irregularity, half_bar_chords
from mgen.music.half_bars import HalfBars
from mgen.notes import Notes

C, A_MINOR, D_MINOR, G = 0, 19, 5, 14  # 2 * root + minor
TRIADS = [(60, 64, 67), (57, 60, 64), (62, 65, 69), (55, 59, 62)]
SEVENTHS = [(48, 64, 67, 71), (45, 60, 64, 67), (50, 60, 65, 69), (43, 59, 62, 65)]  # Cmaj7 Am7 Dm7 G7


def chords(*voicings: tuple[int, ...], beats: int = 4) -> Notes:
    """A chord every half bar of two beats."""
    return piece(*((48 * i, 48, pitch) for i, pitches in enumerate(voicings) for pitch in pitches), beats=beats)


def chord_numbers(notes: Notes) -> list[int]:
    return half_bar_chords(notes)[1].tolist()


def cpi(notes: Notes, n: int = 3) -> float:
    (value,) = chord_irregularity(notes, n)
    return float(value)


@pytest.mark.parametrize("voicings", [TRIADS, SEVENTHS])
def test_one_six_two_five(voicings):
    assert chord_numbers(chords(*voicings)) == [C, A_MINOR, D_MINOR, G]
    # I VI II V twice: trigrams 162 625 251 516 162 625, of which four are different
    assert cpi(chords(*voicings, *voicings)) == pytest.approx(4 / 6)
    # once: 162 625
    assert cpi(chords(*voicings)) == 1
    # a progression of four over and over has four trigrams; of two chords, two
    assert cpi(chords(*voicings * 10)) == pytest.approx(4 / 38)
    assert cpi(chords(*voicings[:2] * 10)) == pytest.approx(2 / 18)
    # transposed by a tone the second time, with the same chord where they meet: nothing comes back
    higher = [tuple(pitch + 2 for pitch in pitches) for pitches in voicings]
    assert cpi(chords(*voicings, *higher)) == 1


@pytest.mark.parametrize("by", range(-6, 7))
def test_transposing_moves_the_roots_and_nothing_else(by):
    notes = Notes.concat([demo("combo_charts", works=2), random_piece(np.random.default_rng(0)), chords(*SEVENTHS)])
    moved = replace(notes, pitch=notes.pitch + by)
    before, after = half_bar_chords(notes)[1], half_bar_chords(moved)[1]
    np.testing.assert_array_equal(after, (before // 2 + by) % 12 * 2 + before % 2)
    np.testing.assert_array_equal(chord_irregularity(moved), chord_irregularity(notes))


def test_a_tie_goes_to_the_root_nearest_above_the_bass_then_to_major():
    assert chord_numbers(chords((57, 60, 64, 67))) == [A_MINOR]  # A C E G
    assert chord_numbers(chords((60, 64, 67, 69))) == [C]  # C E G A
    assert chord_numbers(chords((64, 67))) == [2 * 4 + 1]  # E G: E minor, not C
    assert chord_numbers(chords((62,))) == [2 * 2]  # D alone
    assert chord_numbers(chords((59, 62, 65, 69))) == [D_MINOR]  # a half diminished B is D minor: three of four notes


def test_notes_count_as_long_as_they_sound_in_the_half_bar():
    # C E G for a beat, then F A C for 23 steps: C major; for 25 steps, F major. Bass C throughout.
    for steps, root in ((23, 0), (25, 5)):
        notes = [(0, 24, 48), (0, 24, 64), (0, 24, 67), (24 - (steps - 24), steps, 65), (24 - (steps - 24), steps, 69)]
        assert chord_numbers(piece(*notes))[0] == 2 * root
    # held over the line between half bars, and then over a bar line: a chord on both sides, and past the last bar
    assert chord_numbers(piece((0, 72, 60), (0, 72, 64), (0, 72, 67))) == [C, C]
    assert chord_numbers(piece((24, 500, 60), (96, 1, 60))) == [C] * 4
    # silence is no chord
    assert chord_numbers(piece((0, 24, 60), (96, 24, 67))) == [C, G]


def test_half_bars_follow_the_bar_lines():
    def onsets(beats: int, unit: int = 4) -> list[int]:
        two_bars = piece(*((96 * beat // unit, 12, 60) for beat in range(2 * beats)), beats=beats, unit=unit)
        return HalfBars.of(two_bars).onset.tolist()

    assert onsets(4) == [0, 48, 96, 144]
    assert onsets(3) == [0, 72]
    assert onsets(5) == [0, 48, 120, 168]  # 2 + 3
    assert onsets(1) == [0, 24]
    assert onsets(6, 8) == [0, 36, 72, 108]
    assert onsets(7, 8) == [0, 36, 84, 120]  # 3 + 4 eighths
    assert onsets(5, 8) == [0, 60]
    assert HalfBars.of(nothing(2)).piece.tolist() == [0, 0, 1, 1]


def test_undefined_for_fewer_than_three_changes():
    assert np.isnan(cpi(nothing()))
    assert np.isnan(cpi(chords(*TRIADS[:2])))
    assert np.isnan(cpi(chords(*[TRIADS[0]] * 20)))  # one chord, held on
    assert cpi(chords(TRIADS[0], TRIADS[0], *TRIADS[1:3])) == 1
    assert np.isnan(cpi(piece(*((24 * i, 12, 36 + i) for i in range(40)), drums=True)))


@given(seed=st.integers(0, 10_000), count=st.integers(1, 60), beats=st.sampled_from([2, 3, 4, 5]))
def test_equals_a_search_through_all_triads(seed, count, beats):
    rng = np.random.default_rng(seed)
    rows = zip(
        rng.integers(0, 700, count).tolist(),
        rng.integers(1, 150, count).tolist(),
        rng.integers(36, 80, count).tolist(),
        strict=True,
    )
    notes = piece(*rows, beats=beats)
    windows = HalfBars.of(notes)
    ends = [*windows.onset[1:].tolist(), 10**9]
    expected = []
    for begin, end in zip(windows.onset.tolist(), ends, strict=True):
        weight: dict[int, int] = {}
        low = 128
        for onset, duration, pitch in zip(
            notes.onset.tolist(), notes.duration.tolist(), notes.pitch.tolist(), strict=True
        ):
            steps = min(onset + duration, end) - max(onset, begin)
            if steps > 0:
                weight[pitch % 12] = weight.get(pitch % 12, 0) + steps
                low = min(low, pitch)
        if weight:
            candidates = [
                (-sum(weight.get((root + tone) % 12, 0) for tone in tones), (root - low) % 12, minor, 2 * root + minor)
                for root in range(12)
                for minor, tones in enumerate([(0, 4, 7), (0, 3, 7)])
            ]
            expected.append(min(candidates)[3])
    assert chord_numbers(notes) == expected
    changes = [chord for i, chord in enumerate(expected) if i == 0 or chord != expected[i - 1]]
    trigrams = list(zip(changes, changes[1:], changes[2:], strict=False))
    answer = len(set(trigrams)) / len(trigrams) if trigrams else np.nan
    np.testing.assert_allclose(cpi(notes), answer)


def test_written_progressions_are_more_regular_than_chance():
    charts = demo("pop_band", works=6)
    rng = np.random.default_rng(0)
    noise = Notes.concat([random_piece(rng, 400) for _ in range(6)])
    assert np.nanmean(chord_irregularity(charts)) < 0.8 < np.nanmean(chord_irregularity(noise))
