"""Piano-rolls: round trips, transposition, windows, rates, and files that have no roll."""

from __future__ import annotations

import mido
import numpy as np
import pretty_midi
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mgen.encoding.piano_roll import (
    LOWEST,
    PITCHES,
    Rate,
    draw,
    fit,
    notes_in,
    of_midi,
    of_notes,
    read_midi,
    to_midi,
    transpose,
    windows,
)
from mgen.errors import RejectedFile
from mgen.notes import Notes

ROLLS = arrays(np.bool_, st.tuples(st.integers(0, 20), st.just(PITCHES)), elements=st.booleans())
RATES = st.sampled_from([Rate(4), Rate(3), Rate(per_second=8.0), Rate(per_second=12.5)])


def same(found, wanted):
    """Equal up to silence at the end."""
    steps = max(len(found), len(wanted))
    np.testing.assert_array_equal(fit(found, steps), fit(wanted, steps))


@given(ROLLS, RATES)
def test_a_roll_survives_the_way_to_midi_and_back(roll, rate):
    same(of_midi(to_midi(roll, rate, 100.0), rate), roll)


@given(ROLLS)
def test_notes_on_the_grid_survive(roll):
    onset, end, pitch = notes_in(roll)
    same(draw(onset, end, pitch), roll)
    assert (end > onset).all() and len(onset) == np.sum(np.diff(roll.astype(int), axis=0, prepend=0) == 1)


@given(ROLLS, st.integers(-90, 90))
def test_transposition_moves_columns(roll, semitones):
    moved = transpose(roll, semitones)
    for column in range(PITCHES):
        source = column - semitones
        wanted = roll[:, source] if 0 <= source < PITCHES else np.zeros(len(roll), bool)
        np.testing.assert_array_equal(moved[:, column], wanted)


@given(ROLLS, st.integers(1, 9), st.integers(1, 9))
def test_windows_are_the_roll_from_every_hop(roll, steps, hop):
    found = windows(roll, steps, hop)
    for number, window in enumerate(found):
        np.testing.assert_array_equal(window, fit(roll[number * hop :], steps))
    if hop <= steps:  # nothing is left out, and no window has only padding
        assert (len(found) - 1) * hop + steps >= len(roll)
        assert len(found) == 1 or (len(found) - 2) * hop + steps < len(roll)


def test_a_roll_worked_by_hand():
    # a note fills at least one step; 5.4 ends at 5; pitches outside 24..107 are left out
    roll = draw([0, 2, 2, 3], [0.2, 5.4, 4, 9], [24, 107, 60, 108])
    assert roll.shape == (5, PITCHES)
    assert list(zip(*np.nonzero(roll), strict=True)) == [(0, 0), (2, 36), (2, 83), (3, 36), (3, 83), (4, 83)]
    assert draw([], [], []).shape == (0, PITCHES)


def test_an_empty_roll():
    empty = np.zeros((0, PITCHES), bool)
    assert not to_midi(empty, Rate()).instruments[0].notes
    assert windows(empty, 128).shape == (1, 128, PITCHES) and not windows(empty, 128).any()
    assert of_midi(pretty_midi.PrettyMIDI(), Rate()).shape == (0, PITCHES)


def test_beats_follow_every_change_of_tempo(tmp_path):
    file = mido.MidiFile(ticks_per_beat=480)
    track = mido.MidiTrack()
    file.tracks.append(track)
    for tempo, pitch in ((120, 60), (60, 62), (90, 64)):
        track.append(mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(tempo)))
        track.append(mido.Message("note_on", note=pitch, velocity=64, time=0))
        track.append(mido.Message("note_off", note=pitch, time=480))
    file.save(tmp_path / "a.mid")
    roll, tempo = read_midi(tmp_path / "a.mid", Rate(1))
    assert tempo == 120 and list(zip(*np.nonzero(roll), strict=True)) == [(0, 36), (1, 38), (2, 40)]
    # 0.5, 1 and 0.667 seconds
    assert read_midi(tmp_path / "a.mid", Rate(per_second=6.0))[0].sum(axis=0)[[36, 38, 40]].tolist() == [3, 6, 4]


def test_notes_and_midi_give_the_same_roll(demo_pieces, tmp_path):
    for piece in demo_pieces[:3]:
        notes = Notes.from_scores([piece]).pitched()
        path = tmp_path / "piece.mid"
        notes.to_score(0, 100.0).dump_midi(path)
        for rate in (Rate(4), Rate(per_second=8.0)):
            found, tempo = read_midi(path, rate)
            assert abs(tempo - 100) < 0.01
            wanted, length = of_notes(notes, rate, 100.0)
            assert length[0] == len(wanted)
            steps = max(len(found), len(wanted))
            found, wanted = fit(found, steps), fit(wanted, steps)
            # seconds are floats: an onset midway between two steps may round either way
            assert (found != wanted).sum() <= (0.02 * wanted.sum() if rate.per_second else 0)


def midi_file(path, pitches=(), drums=(), tempo=None):
    file = mido.MidiFile()
    track = mido.MidiTrack()
    file.tracks.append(track)
    if tempo:
        track.append(mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(tempo)))
    for channel, numbers in ((0, pitches), (9, drums)):
        for number in numbers:
            track.append(mido.Message("note_on", channel=channel, note=number, velocity=64, time=0))
            track.append(mido.Message("note_off", channel=channel, note=number, time=480))
    file.save(path)
    return path


def test_a_file_without_tempo_has_120_a_minute(tmp_path):
    roll, tempo = read_midi(midi_file(tmp_path / "a.mid", [60, 62]), Rate(2))
    assert tempo == 120 and list(zip(*np.nonzero(roll), strict=True)) == [(0, 36), (1, 36), (2, 38), (3, 38)]
    assert read_midi(midi_file(tmp_path / "b.mid", [60, 62], tempo=60), Rate(per_second=1.0))[0].sum() == 2


@pytest.mark.parametrize(
    ("kind", "file"),
    [
        ("unreadable", None),
        ("empty", {}),
        ("empty", {"drums": [36]}),
        ("no notes in range", {"pitches": [LOWEST - 1, LOWEST + PITCHES]}),
    ],
)
def test_a_file_without_a_roll_is_rejected(kind, file, tmp_path):
    path = tmp_path / "a.mid"
    if file is None:
        path.write_bytes(b"MThd nothing")
    else:
        midi_file(path, **file)
    with pytest.raises(RejectedFile) as caught:
        read_midi(path, Rate())
    assert caught.value.reason == kind and "\n" not in str(caught.value)
