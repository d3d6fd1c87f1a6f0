from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
from evaluation_pieces import demo, each, line, nothing, piece, random_piece, solos

from mgen.errors import MgenError
from mgen.music.features import FEATURE_NAMES, FORMAT_FREE, GROUPS, feature_names, features
from mgen.notes import Notes


@pytest.fixture(scope="module")
def mixed() -> Notes:
    rng = np.random.default_rng(0)
    odd = [nothing(), line([60]), line([60, 64]), piece((0, 24, 36), (24, 24, 38), drums=True)]
    return Notes.concat([random_piece(rng), *odd, solos(3), demo("lead_sheets", "pop_takes", works=1)])


def of(name: str, notes: Notes) -> float:
    (row,) = features(notes)
    return float(row[FEATURE_NAMES.index(name)])


# ------------------------------------------------------------- by hand


def test_intervals_and_contour():
    notes = line([60, 62, 64, 76, 71])  # up 2, up 2, up 12, down 5
    assert of("interval_mean", notes) == pytest.approx(21 / 4)
    # edges -11 -7 -6 -4 -3 -2 -1 0 1 2 3 4 5 7 8 12: 2 is in bin 10, 12 in bin 16, -5 (from -6 up) in bin 3
    assert [of(f"interval_{k}", notes) for k in (10, 16, 3)] == [2 / 4, 1 / 4, 1 / 4]
    # step up, step up | step up, leap up | leap up, leap down; classes: leap down 0 .. leap up 4
    assert [of(f"contour_{k}", notes) for k in (3 * 5 + 3, 3 * 5 + 4, 4 * 5 + 0)] == pytest.approx([1 / 3] * 3)
    # two apart: 4, 14 = 2, 7 = 5
    assert [of(f"interval_class_lag_2_{k}", notes) for k in (4, 2, 5)] == pytest.approx([1 / 3] * 3)


def test_rhythm_is_ratios_of_times_between_onsets():
    # times 24 24 12 24, ratios 1, 1/2, 2; the last note ends when it likes
    notes = piece((0, 24, 60), (24, 12, 60), (48, 12, 60), (60, 24, 60), (84, 24, 60))
    # edges -1.75 -1.25 -.75 -.25 .25 .75 1.25 1.75 octaves: 0 is bin 4, -1 bin 2, 1 bin 6
    assert [of(f"ratio_{k}", notes) for k in (4, 2, 6)] == pytest.approx([1 / 3] * 3)
    # held for all, half, all, all of the time to the next: bins from a quarter octave below to a tenth above, and below
    assert [of(f"legato_{k}", notes) for k in range(4)] == pytest.approx([0, 1 / 4, 3 / 4, 0])
    # against the usual 24: durations 24 12 12 24 24 and times 24 24 12 24
    assert [of(f"duration_{k}", notes) for k in (3, 1)] == pytest.approx([3 / 5, 2 / 5])
    assert [of(f"gap_{k}", notes) for k in (3, 1)] == pytest.approx([3 / 4, 1 / 4])


def test_chords():
    notes = piece((0, 24, 48), (0, 24, 60), (0, 24, 64), (24, 24, 50), (48, 24, 52), (48, 24, 67))
    assert [of(f"chord_size_{k}", notes) for k in range(5)] == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0, 0])
    # inside chords: an octave (0), a third (4), and an octave and a minor third (3)
    assert [of(f"chord_interval_{k}", notes) for k in (0, 4, 3)] == pytest.approx([1 / 3] * 3)
    assert of("chord_span", notes) == pytest.approx((16 + 15) / 2)
    assert of("polyphony", notes) == pytest.approx(6 / 3)
    # the top goes 64 50 67, the bass 48 50 52
    assert of("interval_mean", notes) == pytest.approx((14 + 17) / 2)
    assert of("bass_interval_class_2", notes) == 1


def test_returns_say_how_long_ago():
    # c d e, then two notes, c d e: 5 notes ago. Six 3-grams in all.
    assert of("return_pitch_0", line([60, 62, 64, 70, 71, 60, 62, 64])) == pytest.approx(1 / 6)
    filler = [70 + 2 * i for i in range(10)]  # the same after 13 notes: 14 3-grams
    far = line([60, 62, 64, *filler, 60, 62, 64])
    assert [of(f"return_pitch_{k}", far) for k in range(3)] == pytest.approx([0, 1 / 14, 0])


def test_windows_of_eight_notes():
    # c d c d c d c d | c e g c e g c e: one bit and log2(3) less a little; neighbours share c alone
    first, second = [60, 62] * 4, [60, 64, 67, 60, 64, 67, 60, 64]
    notes = line(first + second)
    share = np.array([3, 3, 2]) / 8
    assert of("entropy_pitch_class_8", notes) == pytest.approx((1 - (share * np.log2(share)).sum()) / 2)
    assert of("alike_1", notes) == pytest.approx(4 * 3 / (np.sqrt(4**2 + 4**2) * np.sqrt(3**2 + 3**2 + 2**2)))
    assert of("drift_1", notes) == pytest.approx(np.mean(second) - np.mean(first))


def test_metre():
    notes = piece((0, 24, 60), (24, 24, 62), (84, 12, 64), (96, 24, 76))
    assert [of(f"phase_{k}", notes) for k in (0, 6)] == [3 / 4, 1 / 4]
    assert [of(f"beat_{k}", notes) for k in range(4)] == [2 / 4, 1 / 4, 0, 1 / 4]
    assert of("interval_across_bars", notes) == 12
    assert of("interval_within_bars", notes) == 2


def test_how_notes_go_on_over_bar_lines():
    # a bar: 60 62 | 67 67 | 72 74: up 2; up 5 into bar 1, which is odd; the same; up 5 into bar 2; up 2
    notes = piece((0, 48, 60), (48, 48, 62), (96, 48, 67), (144, 48, 67), (192, 48, 72), (240, 48, 74))
    assert [of(f"leap_{over}", notes) for over in ("within", "over_odd", "over_even")] == pytest.approx([4 / 3, 5, 5])
    assert [of(f"step_{over}", notes) for over in ("within", "over_odd", "over_even")] == pytest.approx([2 / 3, 0, 0])
    assert of("same_within", notes) == pytest.approx(1 / 3)
    assert of("leap_odd_beside_within", notes) == pytest.approx(5 - 4 / 3)
    assert of("since_within", notes) == pytest.approx(np.log2(48))
    assert of("unled", notes) == pytest.approx(1 / 6)  # the first note
    # two lines at once, each a step apart from itself: the top goes on from the top
    lines = piece((0, 96, 48), (0, 96, 72), (96, 96, 50), (96, 96, 71))
    assert of("leap_over_odd", lines) == pytest.approx(3 / 2)


def test_seams():
    # quarters: c c e e | e e g g | c, an octave up
    pitches = [60, 60, 64, 64, 64, 64, 67, 67, 72]
    notes = line(pitches)
    # before bar 1: e e to e e; before bar 2: g g to c alone
    assert [of(f"seam_{name}_odd", notes) for name in ("alike", "height", "top")] == pytest.approx([1, 0, 0])
    assert [of(f"seam_{name}_even", notes) for name in ("alike", "height", "notes")] == pytest.approx([0, 5, 1])
    # inside: beat 1 (c to c e), 2 (c c to e e), 3 (c e to e e), 5 (e e to e g), 6 (e e to g g), 7 (e g to g c)
    height = [2, 4, 2, 1.5, 3, 69.5 - 65.5]
    assert of("seam_height_within", notes) == pytest.approx(np.mean(height))
    assert of("seam_height_even_beside_within", notes) == pytest.approx(5 - np.mean(height))
    half = np.sqrt(1 / 2)
    assert of("seam_alike_within", notes) == pytest.approx(np.mean([half, 0, half, half, 0, 1 / 2]))
    # the first beat alone before beat 1: one note, then two
    assert of("seam_notes_within", notes) == pytest.approx(1 / 6)
    assert of("seam_length_odd", notes) == 0
    chords = piece((0, 96, 40), (0, 96, 70), (96, 48, 43), (96, 48, 68))
    assert [of(f"seam_{name}_odd", chords) for name in ("top", "bass", "length")] == [0, 0, 0]  # a bar's rest
    close = piece((48, 48, 40), (48, 48, 70), (96, 24, 43), (96, 24, 68))
    assert [of(f"seam_{name}_odd", close) for name in ("top", "bass", "length")] == [2, 3, 1]


# ------------------------------------------------------------- properties


def test_names_are_the_columns_and_never_nan(mixed):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = features(mixed)
        assert features(Notes.concat([])).shape == (0, len(FEATURE_NAMES))
    assert table.shape == (mixed.n_pieces, len(FEATURE_NAMES))
    assert len(set(FEATURE_NAMES)) == len(FEATURE_NAMES)
    assert np.isfinite(table).all()
    # A piece without pitched notes has nothing but the indicator, and (with drums) the metre.
    np.testing.assert_array_equal(table[1], [0.0] * (len(FEATURE_NAMES) - 1) + [1.0])
    assert 0 < table[2, -1] < 1 and table[0, -1] < 0.05


def test_each_piece_alone_and_the_same_every_time(mixed):
    table = features(mixed)
    np.testing.assert_array_equal(table, features(mixed))
    alone = np.concatenate([features(one) for one in each(mixed)])
    np.testing.assert_allclose(table, alone, atol=1e-9)


def test_key_register_velocity_and_program_change_nothing(mixed):
    for semitones in (-12, -5, 1, 12):
        moved = replace(
            mixed,
            pitch=mixed.pitch + semitones,
            velocity=127 - mixed.velocity,
            program=np.where(mixed.program < 0, -1, 50).astype(np.int32),
            token=mixed.token + 7,
        )
        np.testing.assert_allclose(features(moved), features(mixed), atol=1e-9)


def test_tempo_changes_nothing_outside_the_metre(mixed):
    slower = replace(
        mixed,
        onset=2 * mixed.onset,
        duration=2 * mixed.duration,
        bars=replace(mixed.bars, onset=2 * mixed.bars.onset),
    )
    np.testing.assert_allclose(features(slower, FORMAT_FREE), features(mixed, FORMAT_FREE), atol=1e-9)
    assert not np.allclose(features(slower, ["metre"]), features(mixed, ["metre"]))


def test_the_place_in_the_bar_changes_nothing_outside_the_metre():
    notes = solos(3)
    late = replace(notes, onset=notes.onset + 24 + 5)
    late = replace(late, bar=(late.onset // 96).astype(np.int32))
    keep = late.bar < np.bincount(notes.bars.piece)[late.piece]
    late, notes = late.select(keep), notes.select(keep)
    np.testing.assert_allclose(features(late, FORMAT_FREE), features(notes, FORMAT_FREE), atol=1e-9)
    assert not np.allclose(features(late, ["metre"]), features(notes, ["metre"]))


def test_groups_can_be_left_out(mixed):
    parts = [features(mixed, [group])[:, :-1] for group in GROUPS]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), features(mixed)[:, :-1])
    assert sum(len(feature_names([group])) - 1 for group in GROUPS) == len(FEATURE_NAMES) - 1
    assert "phase_0" in FEATURE_NAMES and "phase_0" not in feature_names(FORMAT_FREE)
    with pytest.raises(MgenError, match=r"no group 'meter'; expected some of .*metre"):
        features(mixed, ["meter"])


def test_drums_are_heard_in_the_metre_alone():
    drums = piece(*((12 * i, 6, 38) for i in range(16)), drums=True)
    assert (features(drums, FORMAT_FREE)[0, :-1] == 0).all()
    assert of("phase_6", drums) == pytest.approx(1 / 2)
