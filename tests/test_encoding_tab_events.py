from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pretty_midi
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgen.encoding.tab_events import COLUMNS, MAX_LAG, TICKS_PER_QUARTER, check_events, decode, encode
from mgen.errors import MgenError

UNIT = 30  # ticks of a 1/128 note, at 960 a quarter
UNITS = {(log, dot): 128 // 2**log * (2 + dot) // 2 for log in range(7) for dot in (0, 1)}


@st.composite
def event_tables(draw):
    rows = []
    for pitch, value in draw(st.lists(st.tuples(st.integers(-40, 127), st.sampled_from(list(UNITS))), max_size=30)):
        rows.append((pitch % 12 + 1, pitch // 12, *value) if pitch >= 0 else (0, 0, *value))
    return np.array(rows, np.uint8).reshape(-1, 4)


# Ticks at 96 a quarter, 3 to a 1/128 note: chords, overlaps, gaps of any size, spread chords.
ragged = st.lists(st.tuples(st.integers(0, 700), st.integers(0, 900), st.integers(0, 127)), min_size=1, max_size=40)


def notes_of(score):
    (track,) = score.tracks
    columns = track.notes.numpy()
    return [
        tuple(row)
        for row in np.stack([columns[name] for name in ("time", "duration", "pitch")], 1).astype(int).tolist()
    ]


def encode_notes(notes, ticks_per_quarter=TICKS_PER_QUARTER, voice="top"):
    onset, duration, pitch = np.array(notes, np.int64).reshape(-1, 3).T
    return encode(onset, duration, pitch, ticks_per_quarter, voice)


def rows_of(*notes, tpq=TICKS_PER_QUARTER, voice="top"):
    return [tuple(row) for row in encode_notes(notes, tpq, voice)[0].tolist()]


def loss_of(*notes, tpq=TICKS_PER_QUARTER, voice="top"):
    loss = encode_notes(notes, tpq, voice)[1]
    return {name: getattr(loss, name) for name in loss.__slots__ if getattr(loss, name) and name != "notes"}


def in_units(events):
    """Runs of rests as one number of units, notes as they are: all that a list of notes says, but the last rests."""
    out, rest = [], 0
    for semitone, octave, dur_log, dotted in events.tolist():
        if semitone:
            out += [rest, (semitone, octave, dur_log, dotted)]
            rest = 0
        else:
            rest += UNITS[dur_log, dotted]
    return out


def test_a_bar_worked_by_hand():
    # At 480: a quarter C4, an 8th rest, a dotted 8th B4, a 16th C5 and a half note C-1 (pitch 0).
    notes = [(0, 480, 60), (720, 360, 71), (1080, 120, 72), (1200, 960, 0)]
    assert rows_of(*notes, tpq=480) == [(1, 5, 2, 0), (0, 0, 3, 0), (12, 5, 3, 1), (1, 6, 4, 0), (1, 0, 1, 0)]
    assert loss_of(*notes, tpq=480) == {}


@pytest.mark.parametrize(
    ("quarters", "value"),
    [
        (6, (0, 1)),
        (4, (0, 0)),
        (3, (1, 1)),
        (2, (1, 0)),
        (1.5, (2, 1)),
        (1, (2, 0)),
        (0.75, (3, 1)),
        (0.5, (3, 0)),
        (0.375, (4, 1)),
        (0.25, (4, 0)),
        (0.1875, (5, 1)),
        (0.125, (5, 0)),
        (0.09375, (6, 1)),
        (0.0625, (6, 0)),
    ],
)
def test_the_14_values(quarters, value):
    ticks = int(quarters * 960)
    assert rows_of((0, ticks, 60), (2 * ticks, ticks, 62)) == [(1, 5, *value), (0, 0, *value), (3, 5, *value)]
    assert notes_of(decode([(0, 0, *value), (1, 5, *value)])) == [(ticks, ticks, 60)]


def test_pitches_have_the_names_that_pretty_midi_gives_them():
    for pitch in range(128):
        ((semitone, octave, _, _),) = rows_of((0, 960, pitch))
        name = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")[semitone - 1]
        assert f"{name}{octave - 1}" == pretty_midi.note_number_to_name(pitch)


@pytest.mark.parametrize(
    ("units", "rests"),
    [
        (2, [(6, 0)]),
        (5, [(6, 1), (6, 0)]),  # 3 + 2, as 4 would leave less than a 1/64 note
        (9, [(5, 1), (6, 1)]),  # 6 + 3
        (20, [(3, 0), (5, 0)]),  # an 8th and a 32nd
        (80, [(1, 0), (3, 0)]),  # a half and an 8th
        (193, [(0, 0), (2, 1), (4, 1), (6, 1), (6, 0)]),  # 128 + 48 + 12 + 3 + 2
        (384, [(0, 1), (0, 1)]),
        (577, [(0, 1), (0, 1), (0, 0), (2, 1), (4, 1), (6, 1), (6, 0)]),
    ],
)
def test_a_gap_becomes_rests_longest_first(units, rests):
    expected = [(0, 0, *rest) for rest in rests]
    assert rows_of((units * UNIT, 960, 60)) == [*expected, (1, 5, 2, 0)]
    assert rows_of((0, 960, 60), (960 + units * UNIT, 960, 60)) == [(1, 5, 2, 0), *expected, (1, 5, 2, 0)]


def test_triplets_stay_three_notes_without_rests():
    # Quarter triplets are 21 1/3 units each, written as 24 + 16 + 24; 8th triplets 10 2/3, as 12 + 8 + 12.
    quarters = [(n * 640, 640, 60) for n in range(3)]
    eighths = [(1920 + n * 320, 320, 62) for n in range(3)]
    rows = rows_of(*quarters, *eighths, (2880, 960, 64))
    assert [row[2:] for row in rows] == [(3, 1), (3, 0), (3, 1), (4, 1), (4, 0), (4, 1), (2, 0)]
    assert loss_of(*quarters, *eighths, (2880, 960, 64)) == {"rounded": 6, "moved": 4}


def test_longer_triplets_are_filled_up_with_rests():
    # Half-note triplets start at 0, 43, 85, 128 units; 48 would be 5 units too long, more than a note may move.
    rows = rows_of(*[(n * 1280, 1280, 60) for n in range(3)], (3840, 3840, 60))
    lengths = [UNITS[row[2], row[3]] * (1 if row[0] else -1) for row in rows]
    assert lengths == [32, -8, -3, 32, -8, -2, 32, -8, -3, 128]


def test_detached_triplets_end_on_the_beat():
    # 8th triplets held for half their time: 5 1/3 units sound, then 5 1/3 are silent. Starts: 0, 11, 21, 32.
    rows = rows_of(*[(n * 320, 160, 60) for n in range(3)], (960, 960, 60))
    lengths = [(bool(row[0]), UNITS[row[2], row[3]]) for row in rows]
    assert lengths == [
        (True, 4),
        *[(False, 4), (False, 3)],
        (True, 4),
        (False, 6),
        (True, 6),
        (False, 3),
        (False, 2),
        (True, 32),
    ]


def test_of_a_chord_one_note_stays():
    chord = [(0, 960, 60), (0, 1920, 67), (0, 480, 67), (960, 960, 64), (960, 480, 55), (960, 960, 55)]
    assert rows_of(*chord) == [(8, 5, 2, 0), (5, 5, 2, 0)]  # G4, which E4 ends, and E4
    assert loss_of(*chord) == {"chord_notes": 4, "cut": 1}
    assert rows_of(*chord, voice="bottom") == [(1, 5, 2, 0), (8, 4, 2, 0)]
    assert loss_of(*chord, voice="bottom") == {"chord_notes": 4}


def test_a_spread_chord_is_one():
    # Four starts within 3 units: a chord reaches less than a 1/64 note, 2 units, from its first note.
    notes = [(0, 960, 50), (UNIT, 930, 60), (2 * UNIT, 900, 40), (3 * UNIT, 870, 72)]
    assert rows_of(*notes) == [(1, 5, 6, 0), (1, 6, 2, 0)]
    assert loss_of(*notes) == {"chord_notes": 2, "cut": 1, "rounded": 1}


@pytest.mark.parametrize(
    ("notes", "lengths", "loss"),
    [
        ([(0, 960, 60), (480, 960, 62)], [16, 32], {"cut": 1}),
        ([(0, 14 * UNIT, 60), (960, 960, 62)], [12, -16, -4, 32], {"rounded": 1}),  # 12 is as near as 16
        ([(0, 15 * UNIT, 60), (960, 960, 62)], [16, -16, 32], {"rounded": 1}),
        ([(0, 0, 60), (960, 960, 62)], [2, -24, -6, 32], {"rounded": 1}),
        ([(0, 2400, 60), (2400, 960, 62)], [64, -16, 32], {"rounded": 1}),  # a half tied to an 8th
        ([(0, 7680, 60), (7680, 960, 62)], [192, -64, 32], {"long": 1}),
        ([(0, 9600, 60)], [192], {"long": 1}),
        ([(0, 31 * UNIT, 60), (960, 960, 62)], [32, 32], {"rounded": 1, "gaps": 1}),  # a silence of a 1/128 note
        ([(0, 11 * UNIT, 60), (13 * UNIT, 960, 62)], [12, 32], {"rounded": 1, "moved": 1, "gaps": 1}),
        ([(UNIT, 960, 60)], [32], {"moved": 1}),  # nothing is short enough to stand before it
        ([(0, 960, 60), (970, 950, 62)], [32, 32], {}),  # less than half a unit late
    ],
)
def test_what_is_lost_is_counted(notes, lengths, loss):
    assert [UNITS[row[2], row[3]] * (1 if row[0] else -1) for row in rows_of(*notes)] == lengths
    assert loss_of(*notes) == loss


def test_no_notes():
    events, loss = encode([], [], [], 480)
    assert events.shape == (0, 4) and events.dtype == np.uint8 and loss.notes == 0
    score = decode(events)
    assert score.ticks_per_quarter == 960 and notes_of(score) == []


def test_a_score_has_the_program_and_tempo_asked_for():
    score = decode([(1, 5, 2, 0)], program=24, tempo=90)
    assert score.tracks[0].program == 24 and not score.tracks[0].is_drum
    assert score.tempos[0].qpm == pytest.approx(90)


@given(event_tables())
def test_events_come_back_from_their_score(events):
    again, loss = encode_notes(notes_of(decode(events)))
    assert in_units(again) == in_units(events)
    assert loss_of(*notes_of(decode(events))) == {} and loss.notes == (events[:, 0] > 0).sum()
    # Written by `encode`, rests too come back as they are.
    np.testing.assert_array_equal(encode_notes(notes_of(decode(again)))[0], again)


@given(
    st.lists(
        st.tuples(
            st.one_of(st.just(0), st.integers(2, 500)), st.sampled_from(list(UNITS.values())), st.integers(0, 127)
        ),
        max_size=30,
    ),
    st.integers(1, 4),
)
def test_notes_come_back_from_their_events(steps, scale):
    """One voice of the 14 values, with any silences of a 1/64 note or more."""
    notes, now = [], 0
    for silence, units, pitch in steps:
        notes.append(((now + silence) * UNIT, units * UNIT, pitch))
        now += silence + units
    written = [(onset * scale, duration * scale, pitch) for onset, duration, pitch in notes]
    assert notes_of(decode(encode_notes(written, 960 * scale)[0])) == notes


@given(ragged, st.sampled_from(["top", "bottom"]))
def test_any_notes_become_one_voice_that_keeps_time(notes, voice):
    events, loss = encode_notes(notes, 96, voice)
    out = notes_of(decode(events))
    # An independent walk over the starts: a chord takes in what starts less than 2 units after its first note.
    starts = []
    for start in sorted({round(onset / 3) for onset, _, _ in notes}):
        if not starts or start - starts[-1] >= 2:
            starts.append(start)
    chords = [[n for n in notes if round(n[0] / 3) in (start, start + 1)] for start in starts]
    best = max if voice == "top" else min
    assert [pitch for _, _, pitch in out] == [best(pitch for _, _, pitch in chord) for chord in chords]
    assert np.abs(np.array([onset / UNIT for onset, _, _ in out]) - starts).max() <= MAX_LAG
    assert all(onset + duration <= after for (onset, duration, _), (after, _, _) in pairwise(out))
    assert loss.notes == len(notes) and loss.chord_notes == len(notes) - len(chords)


@given(ragged, st.randoms(use_true_random=False))
def test_the_order_of_notes_is_of_no_matter(notes, random):
    mixed = random.sample(notes, len(notes))
    np.testing.assert_array_equal(encode_notes(mixed, 96)[0], encode_notes(notes, 96)[0])


@given(ragged, st.integers(-127, 127))
def test_transposed_notes_differ_in_pitch_only(notes, by):
    moved = [(onset, duration, pitch + by) for onset, duration, pitch in notes if 0 <= pitch + by <= 127]
    if len(moved) == len(notes):
        was, now = (encode_notes(some, 96)[0].astype(int) for some in (notes, moved))
        np.testing.assert_array_equal(was[:, 2:], now[:, 2:])
        sounds = was[:, 0] > 0
        np.testing.assert_array_equal(((now - was) @ [1, 12, 0, 0])[sounds], by)


@pytest.mark.parametrize("parts", [3, 5, 7, 9, 11])
def test_errors_do_not_add_up(parts):
    """4,000 tuplets: the last one starts as near to its place as the first."""
    onset = np.arange(4000 * parts) * 960 * 7 // parts
    events, _ = encode(onset, np.diff(onset, append=onset[-1] + 960), np.full(len(onset), 60), 960 * 7)
    out = np.array([start for start, _, _ in notes_of(decode(events))])
    assert np.abs(out - onset / 7).max() <= (MAX_LAG + 0.5) * UNIT


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ((13, 4, 2, 0), "semitone 13, octave 4, dur_log 2, dotted 0.*: semitone is not"),
        ((-1, 4, 2, 0), "semitone is not 0"),
        ((3, 11, 2, 0), "octave is not 0 to 10"),
        ((9, 10, 2, 0), "pitch is above 127"),
        ((1, 4, 7, 0), "dur_log is not 0"),
        ((1, 4, 2, 2), "dotted is not 0 or 1"),
        ((0, 3, 2, 0), "octave of a rest is not 0"),
    ],
)
def test_a_row_that_is_no_event_is_named(row, says):
    good = [(8, 10, 6, 1), (0, 0, 0, 0)]
    assert len(check_events(good)) == 2
    for read in (check_events, decode):
        with pytest.raises(MgenError, match=f"^events, row 2 .*{says}") as caught:
            read([*good, row, (99, 99, 99, 99)])
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("events", "says"),
    [
        (np.zeros((3, 3), int), r"rows of semitone, octave, dur_log, dotted, got an array of shape \(3, 3\)"),
        (np.zeros(4, int), r"shape \(4,\)"),
        (np.zeros((2, 4)), "whole numbers, got float64"),
        (np.broadcast_to(np.array([0, 0, 0, 1], np.uint8), (400_000, 4)), "split them"),
    ],
)
def test_a_table_that_is_none(events, says):
    with pytest.raises(MgenError, match=says):
        decode(events)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (([0, 1], [1], [60], 480), r"of one length, got onset \(2,\), duration \(1,\)"),
        (([[0]], [[1]], [[60]], 480), "of one length"),
        (([0.5], [1], [60], 480), "onset: expected whole numbers, got float64"),
        (([0, -1], [1, 1], [60, 60], 480), "note 1: onset -1, expected at least 0"),
        (([0], [-2], [60], 480), "note 0: duration -2"),
        (([0], [1], [128], 480), "note 0: pitch 128, expected 0 to 127"),
        (([0], [1], [60], 0), r"ticks_per_quarter \(0\) must be at least 1"),
        (([0], [1], [60], 480, "middle"), "expected top or bottom, got 'middle'"),
        (([0], [2**62], [60], 480), "are its times ticks"),
        (([2**62], [2**62], [60], 480), "are its times ticks"),
    ],
)
def test_notes_that_are_none(words, says):
    with pytest.raises(MgenError, match=says) as caught:
        encode(*words)
    assert "\n" not in str(caught.value)


def test_the_columns_are_named():
    assert COLUMNS == ("semitone", "octave", "dur_log", "dotted")
    assert Counter(UNITS.values()).most_common(1)[0][1] == 1  # no two values are of one length
