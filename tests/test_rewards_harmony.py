from __future__ import annotations

import numpy as np
import pytest
from rewards_pieces import melodies, played, value_of

from mgen.music.chords import SEVENTHS
from rewards.batch import batch_features
from rewards.harmony import BarLines, ChordTones, PitchEntropy, ScaleFit, VoiceLeading
from rewards.rule import Band

ANY = Band(0, 1)
MAJOR = [60, 62, 64, 65, 67, 69, 71, 72]


def _half_bars(*chords: list[int]) -> list[tuple[int, int, int]]:
    """Each chord two quarters long."""
    return [(48 * i, 48, pitch) for i, chord in enumerate(chords) for pitch in chord]


def test_chords_are_heard_with_their_neighbours():
    dm7, g7, cmaj7, bm7b5 = [62, 65, 69, 72], [55, 59, 62, 65], [60, 64, 67, 71], [59, 62, 65, 69]
    for chord, root, kind in ((dm7, 2, (0, 3, 7, 10)), (g7, 7, (0, 4, 7, 10)), (cmaj7, 0, (0, 4, 7, 11))):
        music = batch_features(played(_half_bars(chord, chord, chord)))
        roots, kinds = music.chords
        assert (roots % 12 == root).all()
        assert all(SEVENTHS[k] == kind for k in kinds)
        assert music.in_chord.all()
    # B half-diminished has the notes of D minor sixth: it is the chord on its lowest note
    assert batch_features(played(_half_bars(bm7b5, bm7b5))).chords[0].tolist() == [11, 11]
    # a half bar of C# E# among G7 sounds half as long as what is around it: G7 remains, in a silent half bar too
    music = batch_features(played(_half_bars(g7, [61, 65], g7)))
    assert music.chords[0].tolist() == [7, 7, 7, 7]
    assert music.in_chord.tolist() == [True] * 4 + [False, True] + [True] * 4


def test_a_half_bar_on_its_own_side_of_two_pieces():
    """The neighbour of a piece's last half bar is not the next piece's first."""
    g7, f_sharp = [55, 59, 62, 65], [54, 58, 61, 64]
    music = batch_features(played(_half_bars(g7, g7), _half_bars(f_sharp, f_sharp)))
    assert music.chords[0].tolist() == [7, 7, 6, 6]


def test_chord_tones_count_on_strong_beats_alone():
    # C major seventh held in the left hand; above it C# on the first beat, E on the third, D# between
    held = [(0, 96, 48), (0, 96, 52), (0, 96, 55), (0, 96, 59)]
    notes = played([*held, (0, 12, 73), (24, 12, 75), (48, 12, 76)])
    # six notes on strong beats, five of them of the chord
    assert value_of(ChordTones(ANY), notes) == pytest.approx([5 / 6])
    below = ChordTones(Band(0.9, 1.0))(notes)  # two thirds of a width
    np.testing.assert_allclose(below.score, [-2 / 3], rtol=1e-6)
    assert notes.pitch[below.credit < 0].tolist() == [73]
    above = ChordTones(Band(0.5, 0.75))(notes)  # a third of a width, on the five
    np.testing.assert_allclose(above.credit[notes.pitch != 73][:4], [-1 / 15] * 4, rtol=1e-5)


def test_a_note_just_before_the_beat_is_on_it():
    notes = played([(0, 40, 60), (46, 48, 64), (96, 24, 67)])
    assert batch_features(notes).strong.tolist() == [True, True, True]
    assert batch_features(notes).half_bar.tolist() == [0, 1, 2]


def test_without_a_note_on_a_strong_beat_chords_are_undefined():
    judged = ChordTones(ANY)(played([(12, 12, 60), (36, 12, 64)]))
    assert not judged.defined[0] and judged.score[0] == -3


def test_scale_fit_is_the_share_in_the_best_major_scale():
    assert value_of(ScaleFit(ANY), melodies(MAJOR, [p + 5 for p in MAJOR], range(60, 72))) == pytest.approx(
        [1, 1, 7 / 12]
    )
    notes = melodies([*MAJOR, 61, 63])  # eight of ten
    judged = ScaleFit(Band(0.9, 1.0))(notes)
    np.testing.assert_allclose(judged.score, [-1], rtol=1e-6)
    np.testing.assert_allclose(judged.credit, [0] * 8 + [-0.5] * 2, rtol=1e-6)
    plain = ScaleFit(Band(0.6, 0.8))(melodies(MAJOR))  # a width too plain: all notes share
    np.testing.assert_allclose(plain.credit, [-1 / 8] * 8, rtol=1e-5)


def test_scales_change_from_window_to_window():
    """32 notes of C and 32 of F#: each window has a scale of its own."""
    assert value_of(ScaleFit(ANY), melodies([*MAJOR * 4, *[p + 6 for p in MAJOR] * 4])) == pytest.approx([1])


def test_pitch_entropy_in_bits():
    two, twelve = [60, 67] * 8, list(range(48, 72))
    assert value_of(PitchEntropy(ANY), melodies([60, 72, 48], two, twelve)) == pytest.approx([0, 1, np.log2(12)])
    # two windows of 32: one pitch, then two by turns
    assert value_of(PitchEntropy(ANY), melodies([60] * 32 + [60, 67] * 16)) == pytest.approx([0.5])


def test_voices_are_led_from_the_nearest_note():
    # C-E-G to C-F-A: the voices go 0, 1 and 2 semitones
    notes = played(_half_bars([60, 64, 67], [60, 65, 69]))
    assert value_of(VoiceLeading(ANY), notes) == pytest.approx([1])
    judged = VoiceLeading(Band(0.2, 0.8))(notes)  # a third of a width, on those that went further than 0.8
    np.testing.assert_allclose(judged.credit, [0, 0, 0, 0, -1 / 6, -1 / 6], rtol=1e-5)
    low = VoiceLeading(Band(1.5, 2.5))(notes)  # half a width, on those that went less than 1.5
    np.testing.assert_allclose(low.credit, [0, 0, 0, -0.25, -0.25, 0], rtol=1e-5)


def test_bar_lines_hear_only_what_crosses_them():
    notes = melodies([60, 61, 62, 63, 70, 71, 72, 73])  # 63 to 70 crosses the bar line
    assert value_of(BarLines(ANY), notes) == pytest.approx([7])
    assert value_of(VoiceLeading(ANY), notes) == pytest.approx([13 / 7])
    judged = BarLines(Band(1, 3))(notes)
    np.testing.assert_allclose(judged.credit, [0, 0, 0, 0, -2, 0, 0, 0])
    assert np.isnan(value_of(BarLines(ANY), melodies([60, 62, 64]))).all()
