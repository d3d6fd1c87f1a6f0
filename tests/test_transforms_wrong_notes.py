"""Wrong notes, wrong times and foreign parts: by hand, and by what has to stay."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from critics_music import STRAIGHT, toy
from evaluation_pieces import demo, piece

from mgen.notes import Notes
from mgen.transforms.rebuild import is_changed
from mgen.transforms.wrong_notes import (
    approach_notes,
    collage,
    hand_of_others,
    jitter,
    late_hand,
    loop_bars,
    pedal_walk,
    random_gaps,
    repeat_section,
    semitone_errors,
    superpose,
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_one_note_in_five_is_a_semitone_off():
    notes = toy(STRAIGHT, 40, rng(), 4)
    notes = replace(notes, pitch=(60 + 2 * (np.arange(len(notes)) % 12)).astype(np.int32))  # no note meets another
    wrong = semitone_errors(notes, rng())
    step = wrong.pitch - notes.pitch
    assert set(step.tolist()) == {-1, 0, 1} and (step != 0).mean() == pytest.approx(0.2, abs=0.03)
    np.testing.assert_array_equal(wrong.onset, notes.onset)


def test_a_late_hand_is_late_by_the_same_time_in_the_whole_piece():
    one = piece(*((24 * k, 12, pitch) for k in range(8) for pitch in (40, 70)))
    seen = set()
    for seed in range(8):
        late = late_hand(one, rng(seed))
        for pitch in (40, 70):
            onset = late.onset[late.pitch == pitch].tolist()
            moved = onset[0]
            seen.add((pitch, moved))
            # 1.4 beats are 34 steps; what would begin after the last bar is left out
            assert moved in (0, 34) and onset == [24 * k + moved for k in range(8) if 24 * k + moved < 192]
    assert seen == {(40, 0), (40, 34), (70, 0), (70, 34)}


def test_the_lower_hand_is_that_of_another_piece():
    one = piece(*((24 * k, 12, pitch) for k in range(4) for pitch in (40, 70)))
    other = piece(*((12 * k, 12, pitch) for k in range(8) for pitch in (45, 76)))
    mixed = hand_of_others(Notes.concat([one, other]), rng())
    first, second = mixed.pieces([0]), mixed.pieces([1])
    # the first eight notes of both hands together: bass in eighths, melody in quarters
    assert list(zip(first.onset.tolist(), first.pitch.tolist(), strict=True)) == [
        (0, 45), (0, 70), (12, 45), (24, 45), (24, 70), (36, 45), (48, 45), (48, 70),
    ]  # fmt: skip
    assert second.onset[second.pitch == 40].tolist() == [0, 24, 48, 72] and second.counts.tolist() == [12]


def test_superposed_pieces_sound_together_and_no_longer():
    one, other = (piece(*((24 * k, 12, pitch) for k in range(8))) for pitch in (50, 70))
    both = superpose(Notes.concat([one, other]), rng())
    assert both.counts.tolist() == [8, 8]
    for part in (0, 1):
        own = both.pieces([part])
        assert own.onset.tolist() == [0, 0, 24, 24, 48, 48, 72, 72] and own.pitch.tolist() == [50, 70] * 4


def test_jitter_moves_onsets_by_up_to_a_part_of_a_beat_and_chords_stay_together():
    notes = piece(*((48 * k, 12, pitch) for k in range(400) for pitch in (50, 70)))
    moved = jitter(notes, rng())
    low, high = (moved.onset[moved.pitch == pitch] for pitch in (50, 70))
    np.testing.assert_array_equal(low, high)
    by = low - 48 * np.arange(400)
    assert (by[1:].min(), by.max()) == (-7, 7) and by.std() == pytest.approx(7.2 / np.sqrt(3), rel=0.1)


def test_random_gaps_lie_within_a_third_and_three_times_the_median():
    notes = piece(*((12 * k, 6, 60 + k % 5) for k in range(300)))
    drawn = np.diff(random_gaps(notes, rng()).onset)
    assert drawn.min() >= 4 and drawn.max() <= 36 and np.log(drawn / 12).mean() == pytest.approx(0, abs=0.1)
    assert len(set(drawn.tolist())) > 20


def test_a_collage_is_of_fragments():
    rising = [piece(*((12 * k, 12, first + k % 20) for k in range(60))) for first in (40, 70)]
    notes = Notes.concat(rising)
    joined = collage(notes, rng())
    assert joined.counts.tolist() == [60, 60]
    breaks = np.mean(np.diff(joined.pitch[joined.piece == 0]) != 1)
    assert 1 / 12 < breaks < 1 / 2 and np.ptp(joined.pitch[joined.piece == 0]) > 40  # of both pieces
    assert (np.diff(joined.onset[joined.piece == 0]) > 0).all()


def test_a_walk_goes_by_semitones_over_one_bass_note():
    notes = piece(*((12 * k, 12, 60 + 5 * (k % 3)) for k in range(100)))
    walk = pedal_walk(notes, rng())
    bass = walk.pitch == walk.pitch.min()
    assert walk.counts.tolist() == [100] and walk.onset[bass].tolist() == list(range(0, 12 * 2 * bass.sum(), 24))
    assert set(np.abs(np.diff(walk.pitch[~bass])).tolist()) == {1} and len(set(walk.pitch[~bass].tolist())) > 6


def test_approach_notes_lie_a_semitone_below_and_half_way_before_every_third_onset():
    notes = piece(*((24 * k, 24, 60 + 2 * k) for k in range(9)))
    found = approach_notes(notes, rng())
    played = list(zip(found.onset.tolist(), found.pitch.tolist(), strict=True))
    assert played == [(0, 60), (24, 62), (36, 63), (48, 64), (72, 66), (96, 68), (108, 69), (120, 70), (144, 72)]


def test_looped_bars_repeat_and_a_section_of_eight_bars_is_repeated_once():
    notes = piece(*((96 * bar, 24, 40 + bar) for bar in range(20)))
    periods = set()
    for seed in range(20):
        bars = (loop_bars(notes, rng(seed)).pitch - 40).tolist()
        period = max(bars) + 1
        assert bars == [bar % period for bar in range(20)]
        periods.add(period)
    assert periods == {1, 2, 3, 4}
    assert (repeat_section(notes, rng()).pitch - 40).tolist() == [*range(10), *range(10)]
    short = notes.select(notes.bar < 8)
    few = replace(short, bars=notes.bars.select(np.arange(20) < 8))
    assert not is_changed(few, repeat_section(few, rng())).any()


@pytest.mark.parametrize("change", [hand_of_others, superpose, collage, approach_notes, pedal_walk, loop_bars])
def test_no_piece_becomes_longer(change):
    notes = demo("lead_sheets", "blues_piano", works=6)
    changed = change(notes, rng())
    assert (changed.counts <= notes.counts).all() and (changed.counts > 0.5 * notes.counts).all()
