from __future__ import annotations

import numpy as np
import pytest
import symusic
from hypothesis import given
from hypothesis import strategies as st

from mgen.corpus.beats import (
    BEAT_STEPS,
    CLOCK_TICKS,
    MIN_GRID_STRENGTH,
    MIN_OFFSET,
    grid_offset,
    grid_strength,
    lengthen_odd_bars,
    merge_partial_bars,
    remove_offset,
    repair_beats,
    replace_metre,
    retime_to_seconds,
)
from mgen.corpus.demo import COLLECTIONS, compose
from mgen.errors import MgenError, RejectedFile
from mgen.notes import STEPS_PER_QUARTER, Notes

ON_PAPER = [name for name, where in COLLECTIONS.items() if not where.performed]
PERFORMED = [name for name, where in COLLECTIONS.items() if where.performed]
C, F, G = (36, 60, 64, 67), (41, 60, 65, 69), (43, 59, 62, 67)  # bass and chord


def score_of(notes, tpq=100, signatures=(), tempos=()):
    """A piano score of (onset, duration, pitch), all in quarter notes but the pitch."""
    score = symusic.Score(tpq)
    for onset, *signature in signatures:
        score.time_signatures.append(symusic.TimeSignature(round(onset * tpq), *signature))
    for onset, qpm in tempos:
        score.tempos.append(symusic.Tempo(round(onset * tpq), qpm))
    score.tracks.append(symusic.Track("piano", 0, False))
    for onset, duration, pitch in notes:
        score.tracks[0].notes.append(symusic.Note(round(onset * tpq), round(duration * tpq), pitch, 64))
    return score


def song(beats, bars=16, late=0.0):
    """A bass note and a chord a bar, changing every bar, over a tune of eighths; a rest ends each bar of the tune."""
    notes = []
    for bar in range(bars):
        start = late + bar * beats
        bass, *chord = (C, F, G, C)[bar % 4]
        notes += [(start, beats, pitch) for pitch in (bass, *chord)]
        notes += [(start + eighth / 2, 0.5, 72 + (3 * bar + 2 * eighth) % 7) for eighth in range(2 * beats - 1)]
    return notes


def onsets(score):
    """All onsets in quarter notes, sorted."""
    return np.sort(np.concatenate([track.notes.numpy()["time"] for track in score.tracks])) / score.ticks_per_quarter


def signatures(score):
    return [(s.time / score.ticks_per_quarter, s.numerator, s.denominator) for s in score.time_signatures]


def assert_same(first, second):
    assert first.ticks_per_quarter == second.ticks_per_quarter
    assert signatures(first) == signatures(second)
    assert [(tempo.time, tempo.mspq) for tempo in first.tempos] == [(tempo.time, tempo.mspq) for tempo in second.tempos]
    for one, other in zip(first.tracks, second.tracks, strict=True):
        for name, column in one.notes.numpy().items():
            np.testing.assert_array_equal(column, other.notes.numpy()[name], err_msg=name)


def delayed(score, ticks):
    """A copy with all notes later."""
    score = score.copy()
    for track in score.tracks:
        for note in track.notes:
            note.time += ticks
    return score


def test_notes_that_all_come_late_by_the_same_come_back_to_the_beat():
    score = score_of(song(4, late=0.13), signatures=[(0, 4, 4)])
    moved, beats = repair_beats(score)
    assert beats.offset == 0.13 and beats.metre == "" and beats.on_grid and beats.strength == 1
    np.testing.assert_array_equal(onsets(moved), onsets(score_of(song(4))))
    assert onsets(score)[0] == 0.13  # the caller's score stays


def test_the_offset_is_that_of_most_notes_not_the_mean():
    notes = song(4, late=0.13)
    swayed = [(onset + 0.06 * (pitch > 74), duration, pitch) for onset, duration, pitch in notes]
    assert grid_offset(score_of(swayed)) == 0.13


def test_a_syncopated_piece_keeps_its_beat_unless_its_file_knows_no_bars():
    # of three notes a beat two come after it, lasting 1/2 each, and one on it, lasting 3/4: shares of 1/3 and 2/3 of
    # the onsets, 3/7 and 4/7 of the durations, of the low ones too; 0.62 in all
    notes = [(beat + part, length, 60) for beat in range(32) for part, length in ((0, 0.75), (0.5, 0.5), (0.5, 0.5))]
    assert grid_offset(score_of(notes, signatures=[(0, 4, 4)])) == 0
    assert grid_offset(score_of(notes, signatures=[(0, 6, 8)])) == 0
    assert grid_offset(score_of(notes, signatures=[(0, 1, 4)])) == 0.5


def test_early_music_moves_on_and_an_upbeat_never_falls_before_time_0():
    score = score_of([(3.75, 0.25, 72), *song(4, late=4)], signatures=[(0, 4, 4), (36, 3, 4)], tempos=[(0, 90)])
    early = delayed(score, -13)
    moved, beats = repair_beats(early)
    assert beats.offset == -0.13
    assert_same(moved, score)
    # the upbeat is 0.05 after time 0 and 0.3 late, so all comes a bar later, and so does the change of metre
    moved, beats = repair_beats(delayed(score, -370))
    assert beats.offset == 0.3
    np.testing.assert_allclose(onsets(moved), onsets(score))
    assert signatures(moved) == [(0, 4, 4), (40, 3, 4)]


def test_tempo_markers_and_pedal_move_with_the_notes():
    score = score_of(song(4, late=0.13), tempos=[(0, 100), (8.13, 80)])
    score.markers.append(symusic.TextMeta(813, "chord"))
    score.tracks[0].controls.append(symusic.ControlChange(5, 64, 0))
    score.tracks[0].controls.append(symusic.ControlChange(413, 64, 127))
    score.tracks[0].pedals.append(symusic.Pedal(413, 50))
    moved, _ = repair_beats(score)
    assert [(tempo.time, round(tempo.qpm)) for tempo in moved.tempos] == [(0, 100), (800, 80)]
    assert [marker.time for marker in moved.markers] == [800]
    assert [control.time for control in moved.tracks[0].controls] == [0, 400]
    assert [(pedal.time, pedal.duration) for pedal in moved.tracks[0].pedals] == [(400, 50)]


@pytest.mark.parametrize("name", ON_PAPER)
def test_any_offset_of_a_written_piece_is_found(name):
    for index, part in enumerate((0.03, 0.05, 0.1, 1 / 7, 0.2, 0.3, 0.41, 0.49, 0.6, 0.9)):
        score = compose(name, index)
        tpq = score.ticks_per_quarter
        ticks = round(part * tpq)
        found = grid_offset(delayed(score, ticks))
        want = ticks / tpq - (part > 0.5)
        assert abs(found - want) * tpq <= 1, f"{name} {index}: {ticks} of {tpq} ticks late, found {found}"


@pytest.mark.parametrize("name", ON_PAPER)
def test_a_written_piece_stays_as_it_is(name):
    for index in range(6):
        score = compose(name, index)
        same, beats = repair_beats(score)
        assert_same(same, score)
        assert (beats.offset, beats.metre, beats.on_grid) == (0.0, "", True)


@pytest.mark.parametrize("name", PERFORMED)
def test_a_performance_has_no_offset_and_gets_a_clock(name):
    kept = 0
    for index in range(8):
        score = compose(name, index)
        played, beats = repair_beats(score)
        assert (beats.offset, beats.metre) == (0.0, "")
        assert beats.on_grid == (beats.strength >= MIN_GRID_STRENGTH)
        kept += beats.on_grid
        if beats.on_grid:
            continue
        assert signatures(played) == [(0, 4, 4)] and [tempo.qpm for tempo in played.tempos] == [120]
        np.testing.assert_array_equal(onsets(played), onsets(score))  # its ticks were seconds already
    assert kept <= 1  # a tempo near the clock's may stay on the grid by chance


@pytest.mark.parametrize("beats", [3, 4])
@pytest.mark.parametrize("wait", [0, 1, 2, 3])
def test_bars_of_one_beat_become_bars_that_begin_with_the_harmony(beats, wait):
    moved, found = repair_beats(score_of(song(beats, late=wait), signatures=[(0, 1, 4)]))
    assert found.metre == f"1/4 -> {beats}/4" and signatures(moved) == [(0, beats, 4)]
    assert onsets(moved)[0] % beats == 0 and found.offset == 0
    np.testing.assert_array_equal(np.diff(onsets(moved)), np.diff(onsets(score_of(song(beats)))))


def test_offset_and_bars_are_found_together():
    moved, found = repair_beats(score_of(song(4, late=2.37), signatures=[(0, 2, 4)], tpq=480))
    assert found.metre == "2/4 -> 4/4" and found.offset == pytest.approx(0.37, abs=1 / 480)
    np.testing.assert_allclose(onsets(moved) - onsets(moved)[0], onsets(score_of(song(4))))
    assert onsets(moved)[0] % 4 == 0


@pytest.mark.parametrize(
    "stated",
    [
        [(0, 4, 4)], [(0, 3, 4)], [(0, 2, 4)], [(0, 6, 8)], [(0, 5, 4)], [(0, 1, 4), (1, 4, 4)], [],
        [(0, 7, 8)], [(0, 3, 8)], [(0, 4, 4), (16, 7, 8), (19.5, 4, 4)], [(0, 0, 4)], [(0, 4, 3)],
    ],
)  # fmt: skip
def test_bars_that_a_file_can_mean_stay(stated):
    score = score_of(song(4, late=1), signatures=stated)
    same, beats = repair_beats(score)
    assert_same(same, score)
    assert beats.metre == ""


def test_an_odd_end_does_not_make_a_metre_of_one_beat():
    score = score_of(song(4, late=1), signatures=[(40, 1, 4)])  # before it, 4/4 as in any file
    assert_same(repair_beats(score)[0], score)


@pytest.mark.parametrize("stated", [[(0, 4, 4), (0, 1, 4)], [(0, 1, 4), (40, 2, 4), (44, 1, 4)], [(0, 2, 8)]])
def test_time_signatures_that_mean_nothing_are_replaced(stated):
    moved, beats = replace_metre(score_of(song(4), signatures=stated))
    assert signatures(moved) == [(0, 4, 4)]
    assert beats.endswith("-> 4/4")


def test_upbeats_written_as_bars_of_eighths_become_part_of_bars_that_stay():
    repeat = [(0, 1, 8), (0.5, 3, 4), (24.5, 5, 8), (27, 1, 8), (27.5, 3, 4)]
    score = score_of([(0, 0.5, 79), *song(3, late=0.5)], signatures=repeat)
    moved, metre = merge_partial_bars(score)
    assert metre == "1/8 3/4 5/8 -> 3/4" and signatures(moved) == [(0, 3, 4)]
    np.testing.assert_array_equal(onsets(moved), onsets(score) + 2.5)  # the first whole bar begins at 3
    # not upbeats: bars of four after them, and a single bar of seven eighths that moves all the bars of four after it
    for other in ([(0, 1, 8), (0.5, 3, 4), (24.5, 7, 8), (28, 4, 4)], [(0, 4, 4), (28, 7, 8), (31.5, 4, 4)]):
        torn = score_of(song(3, late=0.5), signatures=other)
        assert merge_partial_bars(torn) == (torn, "")


def test_an_odd_bar_lasts_until_the_next_eighth_and_the_music_after_it_keeps_its_beats():
    written = [*song(4), *((onset + 35.75, length, pitch) for onset, length, pitch in song(4))]
    score = score_of(written, 480, [(0, 4, 4), (32, 15, 16), (35.75, 4, 4)])
    moved, beats = repair_beats(score)
    assert beats.metre == "15/16 -> 8/8" and signatures(moved) == [(0, 4, 4), (32, 8, 8), (36, 4, 4)]
    expected = [onset if onset < 35.75 else onset + 0.25 for onset, *_ in written]
    np.testing.assert_array_equal(np.sort(onsets(moved)), np.sort(expected))
    assert_same(repair_beats(moved)[0], moved)


def test_a_piece_in_sixteenths_is_written_in_eighths():
    score = score_of(song(3), 480, [(0, 9, 16)], [(0, 50), (8, 60)])
    moved, beats = repair_beats(score)
    assert beats.metre == "9/16 -> 9/8" and signatures(moved) == [(0, 9, 8)]
    np.testing.assert_array_equal(onsets(moved), 2 * onsets(score))
    assert [(tempo.time / 480, round(tempo.qpm)) for tempo in moved.tempos] == [(0, 100), (16, 120)]
    assert Notes.from_scores([moved]).bars.changes() == [(0, 9, 8)]
    assert_same(repair_beats(moved)[0], moved)
    # this share of odd bars is no accident
    score = score_of(song(4), 480, [(0, 15, 16), (15, 4, 4)])
    assert_same(lengthen_odd_bars(score)[0], score)
    with pytest.raises(RejectedFile, match="15/16"):
        Notes.from_scores([score])


def test_the_clock_by_hand():
    # 60 a minute for two quarters, then 240: quarters fall at 0, 1, 2, 2.25, 2.5 seconds, two clock quarters each
    score = score_of(
        [(0, 1, 60), (1, 0.5, 62), (2, 1, 64), (3, 2, 65)],
        signatures=[(0, 7, 8), (2, 1, 4)],
        tempos=[(0, 60), (2, 240)],
    )
    score.tracks[0].pedals.append(symusic.Pedal(100, 150))  # to 2.5 quarters, which is 2.125 seconds
    clocked = retime_to_seconds(score)
    assert clocked.ticks_per_quarter == CLOCK_TICKS
    assert onsets(clocked).tolist() == [0, 2, 4, 4.5]
    assert [(pedal.time, pedal.duration) for pedal in clocked.tracks[0].pedals] == [(960, 1080)]
    assert (clocked.tracks[0].notes.numpy()["duration"] / CLOCK_TICKS).tolist() == [2, 1, 0.5, 1]
    assert signatures(clocked) == [(0, 4, 4)]
    assert [(tempo.time, tempo.qpm) for tempo in clocked.tempos] == [(0, 120)]
    # before the first tempo event it is 120
    score = score_of([(2, 1, 60), (4, 1, 60), (6, 1, 60)], tempos=[(2, 60), (5, 30)])
    assert onsets(retime_to_seconds(score)).tolist() == [2, 6, 12]
    # a note of one tick at 960 a minute is an eighth of a tick of the clock
    blip = retime_to_seconds(score_of([(0, 1 / 480, 60)], 480, tempos=[(0, 960)]))
    assert blip.tracks[0].notes[0].duration == 1


def test_beats_of_half_a_second_are_found_whatever_the_file_calls_a_beat():
    # at 24 a minute a quarter lasts five beats of half a second: the file's own beats are none of the music's
    written = [(onset / 5, duration / 5, pitch) for onset, duration, pitch in song(4)]
    moved, beats = repair_beats(score_of(written, 480, [(0, 1, 4)], [(0, 24)]))
    assert beats.on_grid and beats.strength == 1 and signatures(moved) == [(0, 4, 4)]
    np.testing.assert_array_equal(onsets(moved), onsets(score_of(song(4))))


def test_a_performance_loses_its_nominal_tempo_and_metre():
    rng = np.random.default_rng(3)
    notes = [(onset, 0.4, 60) for onset in np.cumsum(rng.uniform(0.1, 1.9, 200))]
    score = score_of(notes, tpq=480, signatures=[(0, 3, 4)], tempos=[(0, 100)])
    moved, beats = repair_beats(score)
    assert not beats.on_grid and signatures(moved) == [(0, 4, 4)]
    np.testing.assert_allclose(onsets(moved), onsets(score) * 1.2, atol=1 / CLOCK_TICKS)


def test_each_step_can_be_left_out():
    score = score_of(song(4, late=2.17), signatures=[(0, 1, 4)])
    assert_same(repair_beats(score, ())[0], score)
    only_offset, beats = repair_beats(score, ("offset",))
    assert beats.offset == 0.17 and beats.metre == "" and signatures(only_offset) == [(0, 1, 4)]
    assert repair_beats(score, ("metre",))[1].metre == ""  # there are no beats to count before the offset is gone
    played = delayed(compose(PERFORMED[0], 0), 0)
    played.tempos[0].qpm = 90
    assert_same(repair_beats(played, ("offset", "metre"))[0], played)
    with pytest.raises(MgenError, match="steps names grid; the repairs are offset, metre, clock"):
        repair_beats(score, ("grid",))


def test_next_to_nothing_is_survived():
    empty = symusic.Score(480)
    assert repair_beats(empty)[1].strength == 0
    drums = symusic.Score(480)
    drums.tracks.append(symusic.Track("drums", 0, True))
    drums.tracks[0].notes.append(symusic.Note(100, 10, 36, 90))
    assert not repair_beats(drums)[1].on_grid
    for onset in (0, 0.13, 5):
        score, beats = repair_beats(score_of([(onset, 1, 60)], signatures=[(0, 1, 4)]))
        assert beats.offset == 0 and score.note_num() == 1 and signatures(score) == [(0, 4, 4)]


@pytest.mark.parametrize("name", COLLECTIONS)
def test_strength_is_that_of_the_notes(name):
    for index in range(3):
        score, beats = repair_beats(delayed(compose(name, index), 13))
        notes = Notes.from_scores([score])
        assert beats.strength == pytest.approx(grid_strength(notes.onset[notes.program >= 0]))


def test_grid_strength_of_known_rhythms():
    def strength(step):
        return grid_strength(np.arange(0, 96, step))

    assert strength(24) == strength(12) == strength(8) == strength(6) == pytest.approx(1)
    assert strength(5) == pytest.approx(0, abs=0.1)


rhythms = st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 900), st.integers(21, 108)), min_size=0, max_size=60)


@given(
    notes=rhythms,
    step=st.sampled_from((1, 40, 120)),
    late=st.integers(0, 500),
    stated=st.sampled_from(([], [(0, 1, 4)], [(0, 2, 4)], [(0, 1, 8), (0.5, 4, 4)], [(0, 3, 4)], [(0, 6, 8)])),
    tempo=st.sampled_from((120, 71)),
)
def test_repairing_twice_changes_nothing_and_no_note_is_lost(notes, step, late, stated, tempo):
    # the same notes on no grid, on a grid, or off it
    written = [((onset // step * step + late) / 480, duration / 480, pitch) for onset, duration, pitch in notes]
    score = score_of(written, 480, stated, [(0, tempo)])
    before = {name: column.copy() for name, column in score.tracks[0].notes.numpy().items()}
    once, beats = repair_beats(score)
    after = once.tracks[0].notes.numpy()
    for name, column in score.tracks[0].notes.numpy().items():
        np.testing.assert_array_equal(column, before[name])
    np.testing.assert_array_equal(after["pitch"], before["pitch"])
    assert after["time"].min(initial=0) >= 0
    if beats.on_grid and once.ticks_per_quarter == 480 and tempo == 120:
        np.testing.assert_array_equal(after["duration"], before["duration"])
        if len(notes):
            assert len(np.unique(after["time"].astype(int) - before["time"])) == 1
    assert_same(repair_beats(once)[0], once)


def test_steps_are_named_in_their_order():
    assert BEAT_STEPS == ("offset", "metre", "clock")
    assert remove_offset(score_of([(1, 1, 60)]), 0.25).tracks[0].notes[0].time == 75
    assert STEPS_PER_QUARTER * MIN_OFFSET == 0.5
