"""Windows of drums and bass: what a cell means, what is left out, and the way back to notes."""

from __future__ import annotations

import numpy as np
import pytest
from band_corpus import TICKS, band, track
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from symusic import core

from mgen.encoding.drum_bass import (
    CLASSES,
    HOLD,
    INSTRUMENTS,
    LOWEST,
    N_DRUMS,
    PITCHES,
    REST,
    bass_lines,
    bass_roll,
    canonical,
    cut_windows,
    drum_rolls,
    fold,
    place_windows,
    to_notes,
)
from mgen.notes import Notes

BAR = 96  # grid steps
LINES = arrays(np.uint8, (3, 32), elements=st.integers(0, CLASSES - 1))
ROLLS = arrays(np.bool_, (3, 32, N_DRUMS))


def notes_of(*tracks, signatures=((0, 4, 4),)):
    score = core.ScoreTick(TICKS)
    for signature in signatures:
        score.time_signatures.append(core.TimeSignatureTick(*signature))
    score.tracks.extend(tracks)
    return Notes.from_scores([score])


def test_the_pitches_of_a_window_by_hand():
    bass = [(0, 2, 40), (2, 4, 43), (2, 1, 52), (8, 1, 20), (9, 1, 100), (10, 30, 64)]
    notes = notes_of(track("b", 38, bass), track("other", 40, [(4, 1, 40)]))
    line, program = bass_lines(notes, np.array([0]), 32)
    expected = np.full(32, REST)
    expected[[0, 1]] = 40 - LOWEST, HOLD
    expected[2:6] = [43 - LOWEST, HOLD, HOLD, HOLD]  # the lowest of two; the violin is no bass
    expected[8], expected[9], expected[10] = 32 - LOWEST, 52 - LOWEST, 52 - LOWEST  # by octaves into E1..D#4
    expected[11:32] = HOLD  # to the end of the window
    np.testing.assert_array_equal(line[0], expected)
    assert program.tolist() == [38]


def test_a_note_held_into_a_window_is_a_rest_there_and_a_new_note_cuts_it():
    notes = notes_of(track("b", 33, [(30, 8, 40), (36, 2, 41)]))
    line, _ = bass_lines(notes, np.array([0, 2 * BAR]), 32)
    assert line[0, 30:].tolist() == [40 - LOWEST, HOLD]
    assert line[1, :7].tolist() == [REST] * 4 + [41 - LOWEST, HOLD, REST]


def test_onsets_go_to_the_nearest_16th_also_over_the_edge_of_a_window():
    drums = core.TrackTick("d", 0, True)
    for tick in (0, 50, 70, 3830):  # 120 ticks a 16th; 3840 is the third bar
        drums.notes.append(core.NoteTick(tick, 10, 36, 80))
    rolls = drum_rolls(notes_of(drums, track("x", 0, [(40, 1, 60)])), np.array([0, 2 * BAR]), 32)
    assert np.argwhere(rolls[0, :, 0]).ravel().tolist() == [0, 1]
    assert np.argwhere(rolls[1, :, 0]).ravel().tolist() == [0]


def test_every_percussion_pitch_has_one_instrument():
    pitches = [pitch for own in INSTRUMENTS.values() for pitch in own]
    assert len(set(pitches)) == len(pitches) and len(INSTRUMENTS) == N_DRUMS == 14
    events = [(2 * i, 1, pitch) for i, pitch in enumerate((36, 40, 39, 42, 46, 44, 41, 45, 48, 57, 59, 55, 54, 81))]
    roll = drum_rolls(notes_of(track("d", 0, events, drums=True)), np.array([0]), 32)[0]
    assert np.argwhere(roll).tolist() == [[2 * i, i] for i in range(14)]


def test_windows_start_with_each_run_of_common_time():
    bar = 4 * TICKS
    signatures = ((0, 4, 4), (5 * bar, 3, 4), (5 * bar + 3 * TICKS, 4, 4))
    notes = notes_of(track("b", 33, [(16 * 8, 1, 40)]), signatures=signatures)
    assert len(notes.bars.onset) == 9
    start, left_out = place_windows(notes.bars, 32)
    assert start.tolist() == [0, 2 * BAR, 5 * BAR + 72]
    assert left_out == {"other metre": 1, "end of a section": 2}
    assert place_windows(notes.bars, 32, whole=False)[0].tolist() == [0, 192, 384, 552, 744]


def test_windows_are_left_out_by_reason():
    notes = Notes.from_scores([band(bars=16)])
    assert len(cut_windows(notes, 64).start) == 4 and not cut_windows(notes, 64).left_out
    changed = cut_windows(notes, 64, tempo_changes=[4 * BAR, 9 * BAR])  # the first is between two windows
    assert changed.start.tolist() == [0, 4 * BAR, 12 * BAR] and changed.left_out == {"tempo change": 1}
    assert cut_windows(notes, 64, least_hits=1000).left_out == {"few drums": 4}
    assert cut_windows(notes, 64, least_notes=60).left_out == {"few bass notes": 4}
    waltz = Notes.from_scores([band(signatures=((0, 3, 4),))])
    assert len(cut_windows(waltz).start) == 0 and set(cut_windows(waltz).left_out) == {"other metre"}


@given(ROLLS, LINES)
def test_windows_survive_the_way_to_notes_and_back(drums, bass):
    line = canonical(bass)
    notes = to_notes(drums, line, program=36)
    start = np.arange(3) * 2 * BAR
    np.testing.assert_array_equal(drum_rolls(notes, start, 32), drums)
    back, program = bass_lines(notes, start, 32)
    np.testing.assert_array_equal(back, line)
    sounds = (line < PITCHES).any(axis=1)
    assert (program[sounds] == 36).all()
    np.testing.assert_array_equal(bass_roll(back).sum(axis=2), line < PITCHES)
    assert set(np.unique(notes.program)) <= {-1, 36}


@given(LINES)
def test_canonical_lines_stay_and_holds_follow_a_note(bass):
    line = canonical(bass)
    np.testing.assert_array_equal(canonical(line), line)
    np.testing.assert_array_equal(bass_roll(line), bass_roll(bass))
    assert not ((line[:, 1:] == HOLD) & (line[:, :-1] == REST)).any() and (line[:, 0] != HOLD).all()


@given(st.integers(0, 127))
def test_folding_keeps_the_pitch_class_and_what_is_inside(pitch):
    found = int(fold(pitch))
    assert LOWEST <= found < LOWEST + PITCHES and (found - pitch) % 12 == 0
    assert found == pitch or not LOWEST <= pitch < LOWEST + PITCHES
    assert int(fold(found)) == found


@given(st.integers(0, 5), st.integers(-3, 3))
def test_other_instruments_and_velocities_change_nothing_and_transposing_moves_classes(seed, shift):
    score = band(seed)
    plain = cut_windows(Notes.from_scores([score]), 64)
    moved = score.copy()
    for note in moved.tracks[1].notes:
        note.pitch += shift
        note.velocity = 1
    del moved.tracks[0]
    found = cut_windows(Notes.from_scores([moved]), 64)
    np.testing.assert_array_equal(found.drums, plain.drums)
    starts = plain.bass < PITCHES
    pitch = LOWEST + plain.bass[starts].astype(int) + shift
    np.testing.assert_array_equal(LOWEST + found.bass[starts].astype(int), fold(pitch))
    np.testing.assert_array_equal(found.bass[~starts], plain.bass[~starts])


def test_a_midi_file_gives_back_its_window(tmp_path):
    windows = cut_windows(Notes.from_scores([band(3)]), 64)
    path = tmp_path / "x.mid"
    to_notes(windows.drums, windows.bass).to_score(0).dump_midi(str(path))
    back = cut_windows(Notes.from_scores([core.ScoreTick.from_file(str(path))]), 64)
    np.testing.assert_array_equal(back.drums, windows.drums)
    np.testing.assert_array_equal(back.bass, windows.bass)


@pytest.mark.parametrize("steps", [32, 64])
def test_no_music_has_no_window(steps):
    empty = Notes.from_scores([core.ScoreTick(TICKS)])
    assert len(cut_windows(empty, steps).start) == 0
    assert len(to_notes(np.zeros((0, steps, N_DRUMS), bool), np.zeros((0, steps), int))) == 0
