"""Music changed in one respect, by hand and by what may not change."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import symusic
from critics_music import SWUNG, toy
from scipy.stats import spearmanr

from mgen.notes import MAX_DURATION, Notes
from mgen.transforms.format_augmentations import (
    CHAIN,
    FORMAT_AUGMENTATIONS,
    GRIDS,
    SWAY,
    articulate,
    augment,
    bass_line,
    drop_voices,
    flat_velocities,
    humanise,
    other_bar_phase,
    reshape_velocities,
    retime,
    rubato,
    scale_time,
    sixteenths,
    skyline,
    transcription_errors,
    transpose,
    tritone_away,
)
from mgen.transforms.hard_negatives import straighten_eighths
from mgen.transforms.rebuild import apply_where, is_changed, next_onset, usual_metre

RNG = np.random.default_rng(0)


def columns(notes, *onsets_and_durations):
    onset, duration = (np.array(column, np.int32) for column in zip(*onsets_and_durations, strict=True))
    return replace(notes.select(np.arange(len(notes)) < len(onset)), onset=onset, duration=duration)


def test_straight_eighths_by_hand():
    one = toy(SWUNG, 1, np.random.default_rng(0), 2)
    swung = columns(one, (0, 16), (16, 8), (24, 8), (32, 8), (40, 8), (48, 6), (54, 30))
    changed = straighten_eighths(swung, RNG)
    # Beat 0 swings: its late eighth comes at 12, and the first ends there. Beat 1 is a triplet and stays. Beat 2 has a
    # sixteenth and stays; what sounds from it into beat 3 ends at 84, which is no swung beat.
    assert changed.onset.tolist() == [0, 12, 24, 32, 40, 48, 54]
    assert changed.duration.tolist() == [12, 12, 8, 8, 8, 6, 30]


def test_straight_eighths_leave_no_swing_and_nothing_else_changes():
    notes = toy(SWUNG, 5, np.random.default_rng(1), 3)
    changed = straighten_eighths(notes, RNG)
    assert set((notes.onset % 24).tolist()) == {0, 16} and set((changed.onset % 24).tolist()) == {0, 12}
    for name in ("piece", "bar", "pitch", "velocity"):
        np.testing.assert_array_equal(getattr(changed, name), getattr(notes, name))


def test_a_tritone_away_every_interval_is_the_same():
    notes = Notes.concat([toy(SWUNG, 1, np.random.default_rng(i), 2) for i in range(3)])
    high = replace(notes, pitch=np.where(notes.piece == 1, notes.pitch + 25, notes.pitch).astype(np.int32))
    high = replace(high, pitch=(high.pitch + np.where(high.piece == 1, 108 - high.pitch.max(), 0)).astype(np.int32))
    moved = tritone_away(high, RNG).pitch - high.pitch
    assert [set(moved[high.piece == i].tolist()) for i in range(3)] == [{6}, {-6}, {6}]


def test_sixteenths_by_hand():
    one = toy(SWUNG, 1, np.random.default_rng(0), 2)
    played = columns(one, (1, 16), (16, 8), (22, 2), (49, 40), (95, 9))
    changed = sixteenths(replace(played, pitch=np.array([60, 61, 62, 63, 64], np.int32)), RNG)
    # 22 is nearer to 24 than to 18; 95 would round to 96, the next bar, and stays in its own.
    assert changed.onset.tolist() == [0, 18, 24, 48, 95]
    assert changed.duration.tolist() == [18, 6, 6, 42, 12]  # 16/6 rounds to 3, 8/6 to 1, at least 1, 7, 9/6 to 2


def test_of_two_notes_that_come_to_fall_together_on_one_pitch_one_stays():
    one = toy(SWUNG, 1, np.random.default_rng(0), 1)
    close = replace(columns(one, (0, 6), (2, 6), (2, 6)), pitch=np.array([60, 60, 64], np.int32))
    changed = sixteenths(close, RNG)
    assert list(zip(changed.onset.tolist(), changed.pitch.tolist(), strict=True)) == [(0, 60), (0, 64)]


@pytest.mark.parametrize("change", [retime, humanise, sixteenths])
def test_retiming_keeps_every_note_in_its_bar_and_piece(change):
    notes = toy(SWUNG, 40, np.random.default_rng(1), 3)
    changed = change(notes, np.random.default_rng(2))
    assert len(changed) > 0.9 * len(notes) and changed.n_pieces == notes.n_pieces
    assert (changed.position >= 0).all() and (changed.position < 96).all() and (changed.duration >= 1).all()
    assert set(zip(changed.piece.tolist(), changed.bar.tolist(), changed.pitch.tolist(), strict=True)) == set(
        zip(notes.piece.tolist(), notes.bar.tolist(), notes.pitch.tolist(), strict=True)
    )
    order = np.lexsort((changed.pitch, changed.onset, changed.piece))
    np.testing.assert_array_equal(order, np.arange(len(changed)))
    assert len(change(notes.select(np.zeros(len(notes), bool)), RNG)) == 0


def test_retiming_uses_every_grid_and_leaves_chords_together():
    notes = toy(SWUNG, 300, np.random.default_rng(1), 2)
    chords = Notes.concat([notes])
    chords = replace(chords, onset=(chords.onset // 48 * 48).astype(np.int32))
    chords = replace(chords, pitch=(50 + np.arange(len(chords)) % 16).astype(np.int32))
    changed = retime(chords, np.random.default_rng(0))
    onsets = [np.unique(changed.onset[changed.piece == i]) for i in range(300)]
    assert all(len(found) <= 4 for found in onsets)  # 4 half notes of chords in two bars
    played = retime(notes, np.random.default_rng(0))
    finest = {int(np.gcd.reduce(played.onset[played.piece == i])) for i in range(300)}
    assert finest >= {6, 8} and 1 in finest and set(GRIDS) == {1, 3, 4, 6, 8}


# ------------------------------------------------------------ every change of format


def assert_valid(notes: Notes) -> None:
    """The table as every module expects it: in order, bars without gaps, each note in its bar, lengths and pitches
    that the vocabulary can write.
    """
    order = np.lexsort((notes.velocity, notes.duration, notes.pitch, notes.program, notes.onset, notes.piece))
    np.testing.assert_array_equal(order, np.arange(len(notes)))
    lines, starts = notes.bars, notes.bar_starts
    assert (np.diff(starts) >= 1).all() and (lines.onset[starts[:-1]] == 0).all()
    ends = lines.onset + lines.length
    inside = np.diff(lines.piece) == 0
    np.testing.assert_array_equal(lines.onset[1:][inside], ends[:-1][inside])
    row = starts[notes.piece] + notes.bar
    assert (row < starts[notes.piece + 1]).all()
    assert (notes.onset >= lines.onset[row]).all() and (notes.onset < ends[row]).all()
    assert (notes.duration >= 1).all() and (notes.duration <= MAX_DURATION).all()
    assert (notes.velocity >= 1).all() and (notes.velocity <= 127).all()
    assert ((notes.pitch >= 21) & (notes.pitch <= 108))[notes.program >= 0].all()
    assert notes.n_tokens.shape == notes.n_broken.shape == (notes.n_pieces,)
    assert all(
        getattr(notes, f.name).dtype == np.int32 for f in fields(notes) if f.name not in {"n_pieces", "bars", "given"}
    )


@pytest.fixture(scope="module")
def music(demo_pieces):
    return Notes.concat([Notes.from_scores(demo_pieces), toy(SWUNG, 3, np.random.default_rng(0))])


@pytest.mark.parametrize("change", [*FORMAT_AUGMENTATIONS.values(), augment])
def test_every_format_augmentation_gives_a_valid_table(change, music):
    changed = change(music, np.random.default_rng(1))
    assert_valid(changed)
    assert changed.n_pieces == music.n_pieces and (changed.counts > 0).all()
    again = change(music, np.random.default_rng(1))
    for name in ("onset", "duration", "pitch", "velocity"):
        np.testing.assert_array_equal(getattr(changed, name), getattr(again, name))
    empty = music.select(np.zeros(len(music), bool))
    assert len(change(empty, np.random.default_rng(0))) == 0
    assert len(change(Notes.concat([]), np.random.default_rng(0))) == 0


def test_every_change_of_format_is_in_the_chain_or_is_one_of_its_parts():
    assert set(FORMAT_AUGMENTATIONS) - set(CHAIN) == {"humanised", "sixteenths"}  # `retime` does both


def written(onsets, pitches, duration=6):
    """One piece of 4/4."""
    track = symusic.Track("toy", 0, False)
    track.notes = symusic.Note.from_numpy(
        np.array(onsets, np.int32),
        np.full(len(onsets), duration, np.int32),
        np.array(pitches, np.int8),
        np.full(len(onsets), 64, np.int8),
    )
    score = symusic.Score(24)
    score.tracks.append(track)
    return Notes.from_scores([score])


def test_twice_as_slow_and_twice_as_fast_by_hand():
    one = written([0, 0, 13, 48, 95], [60, 64, 62, 65, 67])
    slow, fast = (scale_time(one, np.array([factor])) for factor in (2.0, 0.5))
    assert slow.onset.tolist() == [0, 0, 26, 96, 190] and slow.duration.tolist() == [12] * 5
    assert slow.bars.onset.tolist() == [0, 96] and slow.bar.tolist() == [0, 0, 0, 1, 1]
    assert fast.onset.tolist() == [0, 0, 6, 24, 48] and fast.bars.onset.tolist() == [0]  # 6.5 to even, 47.5 to 48
    assert_valid(slow)


def test_bar_lines_move_by_whole_beats(music):
    changed = other_bar_phase(music, np.random.default_rng(0))
    later = changed.onset - music.onset
    for piece in range(music.n_pieces):
        (moved,) = set(later[music.piece == piece].tolist())
        beats = usual_metre(music)[0][piece]
        assert moved in {24 * k for k in range(1, beats)}
        assert set(changed.bars.beats[changed.bars.piece == piece].tolist()) == {beats}


def test_new_bars_have_the_usual_metre_of_the_piece():
    jig = symusic.Score(24)
    jig.time_signatures.extend([symusic.TimeSignature(0, 3, 4), symusic.TimeSignature(72, 6, 8)])
    jig.tracks.append(symusic.Track())
    jig.tracks[0].notes.extend([symusic.Note(12 * i, 12, 60 + i, 80) for i in range(24)])
    notes = Notes.from_scores([jig])
    assert notes.bars.changes() == [(0, 3, 4), (72, 6, 8)]
    moved = other_bar_phase(notes, np.random.default_rng(0))
    assert moved.bars.changes() == [(0, 6, 8)]
    assert int(moved.onset[0]) in {12 * k for k in range(1, 6)}


def test_views_of_a_chord_by_hand():
    one = written([0, 0, 0, 0, 24, 24, 48], [48, 60, 64, 67, 50, 72, 55])
    assert skyline(one, RNG).pitch.tolist() == [67, 72, 55]
    assert bass_line(one, RNG).pitch.tolist() == [48, 50, 55]
    left = {tuple(drop_voices(one, np.random.default_rng(seed)).pitch.tolist()) for seed in range(60)}
    for whole in [(67, 72, 55), (64, 67, 50, 72, 55), (60, 64, 67, 50, 72, 55), (48, 67, 50, 72, 55)]:
        assert whole in left
    assert all({67, 72, 55} <= set(kept) for kept in left)


def test_transposition_keeps_intervals_and_range(music):
    many = music.select(music.program >= 0).pieces(np.repeat(np.arange(music.n_pieces), 40))
    moved = transpose(many, np.random.default_rng(0)).pitch - many.pitch
    shifts = [set(moved[many.piece == piece].tolist()) for piece in range(many.n_pieces)]
    assert all(len(shift) == 1 for shift in shifts)
    assert set.union(*shifts) == set(range(-5, 7))
    edge = written([0, 24], [21, 108])
    assert transpose(edge, np.random.default_rng(0)).pitch.tolist() == [21, 108]


def test_louder_notes_stay_louder_in_a_range_of_the_piece_s_own():
    one = written(24 * np.arange(100), np.full(100, 60))
    loud = replace(one, velocity=np.arange(1, 101, dtype=np.int32)).pieces([0] * 50)
    changed = reshape_velocities(loud, np.random.default_rng(0))
    ranks = [spearmanr(np.arange(100), changed.velocity[changed.piece == piece]).statistic for piece in range(50)]
    assert np.median(ranks) > 0.9
    assert np.std([changed.velocity[changed.piece == piece].mean() for piece in range(50)]) > 10


def test_rubato_sways_by_at_most_a_quarter():
    one = written(24 * np.arange(100), np.full(100, 60), 24)
    played = rubato(one.pieces([0] * 20), np.random.default_rng(0))
    assert played.counts.tolist() == [100] * 20 and (played.onset[played.starts[:-1]] == 0).all()
    for piece in range(20):
        own = played.pieces([piece])
        gap = np.diff(own.onset)
        assert 24 * np.exp(-3 * SWAY) - 1 <= gap.min() < gap.max() <= 24 * np.exp(3 * SWAY) + 1
        np.testing.assert_array_equal(own.duration[:-1], gap)  # what touched still does


def test_a_machine_misses_doubles_and_repeats_some_notes():
    one = written(24 * np.arange(400), np.full(400, 60), 20).pieces([0] * 30)
    noisy = transcription_errors(one, np.random.default_rng(0))
    octaves = np.bincount(noisy.piece[noisy.pitch == 72], minlength=30) / 400
    assert 0.005 < octaves.mean() < 0.025 and octaves.max() < 0.06
    counts = noisy.counts / 400
    assert counts.min() < 0.98 and 0.97 < counts.mean() < 1.02
    near = noisy.onset - 24 * np.rint(noisy.onset / 24)
    assert 0.2 < np.mean(near == 0) < 0.9 and np.abs(near).max() <= 12


def test_legato_reaches_the_next_onset_and_no_note_is_longer_than_its_pitch_waits():
    one = written([0, 0, 20, 50, 90], [60, 64, 62, 60, 66])
    assert next_onset(one).tolist() == [20, 20, 50, 90, 96]
    many = articulate(one.pieces([0] * 200), np.random.default_rng(0))
    first = (many.onset == 0) & (many.pitch == 60)
    assert many.duration[first].max() == 50 and many.duration[first].min() < 6


def test_only_the_pieces_asked_for_change(music):
    where = np.arange(music.n_pieces) % 2 == 0
    changed = apply_where(music, tritone_away, where, RNG)
    moved = changed.pitch != music.pitch
    np.testing.assert_array_equal(np.bincount(music.piece, moved) > 0, where)
    np.testing.assert_array_equal(is_changed(music, changed), where)
    assert not is_changed(music, flat_velocities(music, RNG)).any()


def test_a_chain_leaves_no_two_copies_alike(music):
    copies = augment(music.pieces([0] * 20), np.random.default_rng(0))
    known = {copies.pieces([k]).onset.tobytes() + copies.pieces([k]).duration.tobytes() for k in range(20)}
    assert len(known) >= 18
