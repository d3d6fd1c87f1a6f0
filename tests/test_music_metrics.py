from __future__ import annotations

import warnings
import zlib
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
from evaluation_pieces import demo, each, line, nothing, piece, random_piece, same, solos
from hypothesis import given
from hypothesis import strategies as st

from mgen.arrays import median_of
from mgen.corpus.demo import compose
from mgen.encoding.remi import Remi
from mgen.music.metrics import METRICS
from mgen.notes import Notes
from mgen.transforms.corruptions import CORRUPTIONS

PITCHED = {
    *("loop_rate", "rep4", "rep8", "rep_interval4", "interval_rep8", "longest_loop", "longest_run", "same_pitch"),
    *("repeated_bars", "compression", "H1", "H4", "CPI", "SI", "SI_short", "SI_mid", "SI_long", "scale_consistency"),
    *("mean_interval", "polyphony", "pitch_range"),
}
WINDOWED = {"H1", "H4", "CPI", "SI", "SI_short", "SI_mid", "SI_long"}
"""Metrics over all bars of a piece, those without pitched notes too."""

NAN = float("nan")
TOKENS = {"valid", "broken_tokens"}


def value(name: str, notes: Notes) -> float:
    (number,) = METRICS[name](notes)
    return float(number)


# ------------------------------------------------------------- by hand


def test_repeated_ngrams():
    # c d e f c d e f: of five 4-grams the last is the first again; twelve times over it is a loop
    assert value("rep4", line([60, 62, 64, 65] * 2)) == pytest.approx(1 / 5)
    assert value("loop_rate", line([60, 62, 64, 65] * 2)) == 0
    assert value("rep4", line([60, 62, 64, 65] * 12)) == pytest.approx(41 / 45)
    assert value("loop_rate", line([60, 62, 64, 65] * 12)) == 1
    # Nine notes, then the same a whole tone higher: ten 8-grams of intervals, the last of them again; of pitches, none
    figure = np.array([60, 62, 65, 61, 70, 69, 63, 66, 60])
    assert value("interval_rep8", line([*figure, *(figure + 2)])) == pytest.approx(1 / 10)
    assert value("rep8", line([*figure, *(figure + 2)])) == 0


def test_longest_loop_is_the_longest_stretch_that_returns_at_once():
    assert value("longest_loop", line([60, 62, 64, 60, 62, 64, 60, 65])) == pytest.approx(7 / 8)
    assert value("longest_loop", line([60, 62, 64, 60, 62, 65])) == 0  # c d returns, but not at once
    assert value("longest_loop", line([60, 62, 62, 64, 65])) == pytest.approx(2 / 5)
    assert value("longest_loop", line([60] * 9)) == 1
    far = np.random.default_rng(0).permutation(100)
    for size, share in ((256, 1), (257, 0)):  # a figure of more than 256 notes is not looked for
        figure = np.concatenate([far, far[::2], far[1::2], far[:57], far[:57]])[:size] + 10
        looped = value("longest_loop", line([*figure, *figure]))
        assert looped == share if share else looped < 0.3


@given(st.lists(st.integers(60, 62), min_size=2, max_size=40))
def test_longest_loop_equals_a_search_through_all_stretches(pitches):
    n = len(pitches)
    longest = max(
        (
            end - begin
            for begin in range(n)
            for end in range(begin + 2, n + 1)
            for size in range(1, (end - begin) // 2 + 1)
            if pitches[begin + size : end] == pitches[begin : end - size]
        ),
        default=0,
    )
    assert value("longest_loop", line(pitches)) == pytest.approx(longest / n)


def test_compression_is_zlibs():
    rng = np.random.default_rng(0)
    noise, loop = rng.integers(48, 85, 500), np.tile(rng.integers(48, 85, 16), 31)
    for pitches, low, high in ((noise, 0.68, 0.78), (loop, 0, 0.1)):
        theirs = len(zlib.compress(bytes(pitches.tolist()))) / len(pitches)
        assert value("compression", line(pitches)) == pytest.approx(theirs, abs=0.02)
        assert low < theirs < high
    moved = Notes.concat([line(noise + by) for by in range(-40, 41)])
    assert len(set(METRICS["compression"](moved).tolist())) == 1


def test_neighbours_and_bars_that_are_the_same():
    # 60 60 64 | 60 60 64 | 60 60 64 a grid step late | 60 64: of four bars one is a bar before
    bars = [(0, 60), (24, 60), (48, 64), (96, 60), (120, 60), (144, 64), (193, 60), (217, 60), (241, 64)]
    notes = piece(*((onset, 9, pitch) for onset, pitch in [*bars, (288, 60), (312, 64)]))
    assert METRICS["repeated_bars"](Notes.concat([notes, notes])).tolist() == [1 / 4, 1 / 4]
    assert value("same_pitch", notes) == pytest.approx(3 / 10)
    assert value("mean_interval", notes) == pytest.approx(4 * 7 / 10)
    other = replace(notes, program=np.where(notes.bar == 1, 5, 0).astype(np.int32))
    assert value("repeated_bars", other) == 0  # another instrument
    assert value("repeated_bars", replace(notes, duration=notes.duration + notes.bar, velocity=notes.bar + 1)) == 1 / 4


def test_scale_consistency():
    major = [60, 62, 64, 65, 67, 69, 71]
    assert value("scale_consistency", line(major)) == 1
    assert value("scale_consistency", line([pitch - 5 for pitch in major])) == 1
    assert value("scale_consistency", line([57, 59, 60, 62, 64, 65, 67])) == 1  # a minor
    assert value("scale_consistency", line([57, 59, 60, 62, 64, 65, 68])) == pytest.approx(6 / 7)  # harmonic minor
    assert value("scale_consistency", line([*major, 66])) == pytest.approx(7 / 8)
    assert value("scale_consistency", line(range(60, 72))) == pytest.approx(7 / 12)


def test_entropy_of_bars_and_of_four_bars():
    # bar 0: c c e g; bar 1 is empty and left out; bar 2: one c. Five notes in the only window of four bars: c c c e g.
    notes = piece((0, 24, 60), (24, 24, 72), (48, 24, 64), (72, 24, 67), (192, 24, 48))
    assert value("H1", notes) == pytest.approx((scipy.stats.entropy([2, 1, 1], base=2) + 0) / 2)
    assert value("H4", notes) == pytest.approx(scipy.stats.entropy([3, 1, 1], base=2))


def test_entropy_slides_bar_by_bar():
    # five bars of one pitch each, c d e f g: windows c-f and d-g, two bits each; then c c c c d
    assert value("H4", line([60, 62, 64, 65, 67], step=96)) == pytest.approx(2)
    assert value("H4", line([60, 60, 60, 60, 62], step=96)) == pytest.approx(scipy.stats.entropy([3, 1], base=2) / 2)


def test_grooving_similarity_counts_slots_that_differ():
    # bars {0}, {0, 48}, {}: pairs differ in 1, 1 and 2 of 64 slots
    notes = piece((0, 24, 60), (96, 24, 60), (144, 24, 60), (288, 24, 60))
    notes = notes.select(notes.onset < 288)  # three of the four bars have notes; the last two are empty or sounding
    assert notes.bars.piece.tolist() == [0, 0, 0, 0]
    # patterns {0}, {0, 48}, {}, {}: pairs differ in 1, 1, 1, 2, 2, 0
    assert value("GS", notes) == pytest.approx(1 - (7 / 6) / 64)
    assert np.isnan(value("GS", line([60])))


def test_grooving_is_the_mean_over_all_pairs():
    rng = np.random.default_rng(3)
    notes = random_piece(rng, 80)
    slots = np.zeros((len(notes.bars.piece), 64), bool)
    slots[notes.bar, notes.position * 64 // 96] = True
    pairs = [np.mean(a != b) for i, a in enumerate(slots) for b in slots[i + 1 :]]
    assert value("GS", notes) == pytest.approx(1 - np.mean(pairs))


def test_swing_is_the_ratio_of_the_eighths():
    triplet = [(24 * beat + step, 4, 60) for beat in range(4) for step in (0, 16)]
    assert value("swing", piece(*triplet)) == pytest.approx(2)
    straight = [(24 * beat + step, 4, 60) for beat in range(4) for step in (0, 12)]
    assert value("swing", piece(*straight)) == pytest.approx(1)
    # a beat of three onsets, one without its downbeat, and pairs whose second is too early or too late say nothing
    onsets = [96, 104, 112, 126, 136, 144, 150, 168, 190]
    others = [(onset, 4, 60) for onset in onsets]
    chord = [(72, 4, 64), (88, 4, 64)]  # is one onset
    assert value("swing", piece(*triplet, *chord)) == pytest.approx(2)
    assert value("swing", piece(*triplet, *others)) == pytest.approx(2)
    assert np.isnan(value("swing", piece(*others)))


def test_beats_begin_at_the_bar_line_and_bars_may_have_half_quarters():
    # 7/8 is three quarters, swung here, and an eighth, so that every second bar begins between quarters of the piece
    swung = [(84 * bar + 24 * beat + step, 4, 60) for bar in range(4) for beat in range(3) for step in (0, 16)]
    notes = piece(*swung, beats=7, unit=8)
    assert value("swing", notes) == pytest.approx(2)
    assert value("triplet_share", notes) == pytest.approx(1 / 2)
    assert value("density", notes) == pytest.approx(24 / 14)
    assert value("GS", notes) == 1


def test_triplet_share():
    onsets = [0, 8, 16, 36, 39, 41, 47]  # of these 8, 16, 39 = 24 + 15 and 41 = 24 + 17 are near a third
    assert value("triplet_share", piece(*((onset, 2, 60) for onset in onsets))) == pytest.approx(4 / 7)
    even = piece(*((onset, 1, 60) for onset in range(96)))
    assert value("triplet_share", even) == pytest.approx(1 / 4)


def test_counts():
    notes = piece((0, 30, 60), (0, 24, 64), (96, 24, 55), (100, 2, 55), beats=3)  # two bars of three
    assert value("density", notes) == pytest.approx(4 / 6)
    assert value("pitch_range", notes) == 9
    assert value("longest_run", notes) == 2
    # beats 0 (both), 1 (the long one's end), 4 (two notes): 2, 3, 5 are silent
    assert value("empty_beats", notes) == pytest.approx(3 / 6)


@given(seed=st.integers(0, 10_000), notes=st.integers(1, 40))
def test_polyphony_and_empty_beats_equal_a_piano_roll(seed, notes):
    one = random_piece(np.random.default_rng(seed), notes)
    end = int((one.onset + one.duration).max())
    roll = np.zeros(end, int)
    for onset, duration in zip(one.onset.tolist(), one.duration.tolist(), strict=True):
        roll[onset : onset + duration] += 1
    assert value("polyphony", one) == pytest.approx(roll[roll > 0].mean())
    beats = int(one.bars.beats.sum())
    whole = np.pad(roll, (0, max(beats * 24 - end, 0)))[: beats * 24].reshape(beats, 24)
    assert value("empty_beats", one) == pytest.approx((whole.sum(axis=1) == 0).mean())


def test_validity_reads_broken_tokens():
    remi = Remi.build(("jazz", "other"))
    bar = [remi.bar_id, remi.names.index("TimeSig_4/4")]
    notes = Notes.from_ids([bar, [*bar, bar[1]], []], remi)
    np.testing.assert_array_equal(METRICS["valid"](notes), [1, 0, np.nan])
    np.testing.assert_allclose(METRICS["broken_tokens"](notes), [0, 1 / 3, np.nan])


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-5, 5)), max_size=30))
def test_median_is_numpys(rows):
    owner, values = (np.array([row[i] for row in rows], dtype=np.int64) for i in (0, 1))
    expected = [np.median(values[owner == i]) if (owner == i).any() else np.nan for i in range(4)]
    np.testing.assert_array_equal(median_of(values, owner, 4), expected)


# ------------------------------------------------------------- contracts of every metric


@pytest.fixture(scope="module")
def mixed() -> Notes:
    rng = np.random.default_rng(0)
    drums = piece(*((18 * i, 12, 36 + i % 3) for i in range(70)), drums=True)
    parts = [random_piece(rng), nothing(), line([60, 64]), solos(2), demo("pop_band", works=1), line([61]), drums]
    return Notes.concat(parts)


@pytest.mark.parametrize("name", METRICS)
def test_each_piece_is_measured_alone(name, mixed):
    together = METRICS[name](mixed)
    assert together.dtype == np.float64 and together.shape == (mixed.n_pieces,)
    np.testing.assert_allclose(together, np.concatenate([METRICS[name](one) for one in each(mixed)]), rtol=1e-12)


@pytest.mark.parametrize("name", METRICS)
def test_transposition_and_velocity_change_nothing(name, mixed):
    moved = replace(mixed, pitch=mixed.pitch + 5, velocity=np.full_like(mixed.velocity, 3))
    np.testing.assert_allclose(METRICS[name](moved), METRICS[name](mixed), rtol=1e-12)


@pytest.mark.parametrize("name", METRICS)
def test_a_piece_without_notes_is_undefined(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(METRICS[name](nothing(2))).all()
        assert METRICS[name](Notes.concat([])).shape == (0,)


@pytest.mark.parametrize("name", sorted(PITCHED))
def test_drums_have_no_pitch(name):
    beat = piece(*((24 * i, 12, 36) for i in range(40)), drums=True)
    assert np.isnan(value(name, beat))
    tune = random_piece(np.random.default_rng(1))
    columns = ("onset", "duration", "bar", "pitch", "velocity", "program", "token", "broken")
    order = np.argsort(np.concatenate([tune.onset, beat.onset]), kind="stable")
    both = replace(
        tune,
        bars=beat.bars if len(beat.bars.piece) > len(tune.bars.piece) else tune.bars,
        piece=np.zeros(len(order), np.int32),
        **{name: np.concatenate([getattr(tune, name), getattr(beat, name)])[order] for name in columns},
    )
    if name not in WINDOWED:  # there are more bars now
        assert value(name, both) == value(name, tune)


# What a piece says that is too small for most metrics: one note, one bar of three notes, drums alone.
SMALL = {
    "valid": (NAN, NAN, NAN),
    "broken_tokens": (NAN, NAN, NAN),
    "loop_rate": (NAN, NAN, NAN),
    "rep4": (NAN, NAN, NAN),
    "rep8": (NAN, NAN, NAN),
    "rep_interval4": (NAN, NAN, NAN),
    "interval_rep8": (NAN, NAN, NAN),
    "longest_loop": (NAN, 0, NAN),
    "longest_run": (1, 1, NAN),
    "same_pitch": (NAN, 0, NAN),
    "repeated_bars": (0, 0, NAN),
    "compression": (9, 11 / 3, NAN),  # zlib stores what it cannot shorten, and adds 8 bytes
    "H1": (0, np.log2(3), NAN),
    "H4": (0, np.log2(3), NAN),
    "GS": (NAN, NAN, 1),
    "CPI": (NAN, NAN, NAN),
    "SI": (NAN, NAN, NAN),
    "SI_short": (NAN, NAN, NAN),
    "SI_mid": (NAN, NAN, NAN),
    "SI_long": (NAN, NAN, NAN),
    "swing": (NAN, NAN, NAN),
    "triplet_share": (0, 0, 0),
    "scale_consistency": (1, 1, NAN),
    "mean_interval": (NAN, 2, NAN),
    "polyphony": (1, 1, NAN),
    "density": (1 / 4, 3 / 4, 1),
    "pitch_range": (0, 4, NAN),
    "empty_beats": (3 / 4, 1 / 4, 0),
}


@pytest.mark.parametrize("name", METRICS)
def test_small_pieces_have_a_stated_answer(name):
    drums = piece(*((24 * beat, 12, 36) for beat in range(40)), drums=True)
    pieces = Notes.concat([line([60]), line([60, 62, 64]), drums])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_allclose(METRICS[name](pieces), SMALL[name], rtol=1e-12)


@pytest.mark.parametrize("name", METRICS)
def test_the_order_in_which_a_file_lists_notes_and_tracks_is_not_heard(name):
    rng = np.random.default_rng(0)
    scores = [compose("pop_band", 0), compose("combo_charts", 1)]
    mixed_up = []
    for score in scores:
        other = score.copy()
        other.tracks.clear()
        for track in (score.tracks[i] for i in rng.permutation(len(score.tracks))):
            shuffled = track.copy()
            shuffled.notes.clear()
            for i in rng.permutation(len(track.notes)).tolist():
                shuffled.notes.append(track.notes[i])
            other.tracks.append(shuffled)
        mixed_up.append(other)
    np.testing.assert_array_equal(METRICS[name](Notes.from_scores(mixed_up)), METRICS[name](Notes.from_scores(scores)))


@pytest.mark.parametrize("name", METRICS)
def test_a_tick_off_the_grid_is_not_heard(name):
    # Ticks of 480 a quarter are 20 to a grid step: 9 of them are no error of a metric's.
    score = compose("combo_charts", 2).resample(24).resample(480)
    rng = np.random.default_rng(0)
    late = score.copy()
    for track in late.tracks:
        for note in track.notes:
            note.time = max(note.time + int(rng.integers(-9, 10)), 0)
    np.testing.assert_array_equal(METRICS[name](Notes.from_scores([late])), METRICS[name](Notes.from_scores([score])))


# ------------------------------------------------------------- broken music

# What each way of breaking music does to the mean of a metric: the signs of a table measured on 420 real solos.
TABLE = {
    "segments_shuffled": "rep8- GS=",
    "bars_shuffled": "rep4- rep8- rep_interval4- compression+ mean_interval+ H1= GS= scale_consistency=",
    "bars_of_others": "rep4- rep8- compression+ H4+ SI_short-",
    "markov_pitches": "rep4- rep8- compression+ H4+ GS= SI_short- SI_mid- SI_long-",
    "random_pitches": "rep4- rep8- interval_rep8- compression+ mean_interval+ H1+ H4+ GS= SI- CPI+ pitch_range=",
    "two_bar_loop": "rep4+ rep8+ interval_rep8+ loop_rate+ longest_loop+ repeated_bars+ compression- H4- GS+ CPI- "
    "SI_short+ SI_mid+ SI_long+",
    "one_pitch": "rep4+ rep8+ loop_rate+ longest_loop+ same_pitch+ compression- H1- H4- GS= longest_run+ pitch_range-",
}


@pytest.mark.parametrize("way", CORRUPTIONS)
def test_metrics_react_to_broken_music(way):
    real = Notes.concat([solos(30), solos(30, seed=1)])
    broken = CORRUPTIONS[way](real, np.random.default_rng(0))
    for word in TABLE[way].split():
        name, sign = word[:-1], word[-1]
        change = np.nanmean(METRICS[name](broken)) - np.nanmean(METRICS[name](real))
        spread = np.nanstd(METRICS[name](real)) / np.sqrt(real.n_pieces)
        match sign:
            case "+":
                assert change > 2 * spread, name
            case "-":
                assert change < -2 * spread, name
            case _:
                assert abs(change) < 1e-9, name


@pytest.mark.parametrize("way", CORRUPTIONS)
def test_broken_music_keeps_its_shape(way):
    real = Notes.concat([demo("combo_charts", works=3), nothing(), solos(3), line([64])])
    broken = CORRUPTIONS[way](real, np.random.default_rng(1))
    assert broken.n_pieces == real.n_pieces
    assert (np.diff(broken.piece) >= 0).all() and (broken.duration >= 1).all()
    assert (broken.position >= 0).all()
    assert (broken.position < 24 * broken.bars.beats[broken.bar_starts[broken.piece] + broken.bar]).all()
    np.testing.assert_array_equal(broken.bars.piece, real.bars.piece)
    assert (broken.token == -1).all() and not broken.broken.any() and not broken.n_tokens.any()
    again = CORRUPTIONS[way](real, np.random.default_rng(1))
    assert same(broken, again)
    if way != "bars_of_others":
        drums = real.program < 0
        assert (drums.sum() == 0) == ((broken.program < 0).sum() == 0)


def test_shuffled_bars_are_the_same_bars():
    real = Notes.concat([demo("lead_sheets", works=2), solos(2)])
    broken = CORRUPTIONS["bars_shuffled"](real, np.random.default_rng(2))

    def contents(notes: Notes) -> list[list[tuple[tuple[int, int], ...]]]:
        return [
            sorted(
                tuple(
                    sorted(zip(one.position[one.bar == bar].tolist(), one.pitch[one.bar == bar].tolist(), strict=True))
                )
                for bar in range(len(one.bars.piece))
            )
            for one in each(notes)
        ]

    assert contents(broken) == contents(real)
    assert not same(broken, real)


def test_a_shuffled_solo_is_still_one_line():
    # Every second bar starts late, and the note before it is held until then. No two notes may sound together
    # where such a bar comes to stand before one that starts on its line.
    onsets = [96 * bar + 12 * (bar % 2) + 24 * beat for bar in range(12) for beat in range(4)]
    held = piece(*((onset, end - onset, 60) for onset, end in zip(onsets, [*onsets[1:], 1160], strict=True)))
    for seed in range(5):
        broken = CORRUPTIONS["bars_shuffled"](held, np.random.default_rng(seed))
        assert value("polyphony", broken) == 1


def test_the_chain_makes_only_moves_that_the_music_makes():
    real = solos(10)
    chain = CORRUPTIONS["markov_pitches"](real, np.random.default_rng(0))

    def moves(notes: Notes) -> set[tuple[int, int]]:
        return {(int(a), int(b)) for one in each(notes) for a, b in zip(one.pitch, one.pitch[1:], strict=False)}

    assert moves(chain) <= moves(real)
    np.testing.assert_array_equal(chain.onset, real.onset)
    np.testing.assert_array_equal(chain.pitch[chain.starts[:-1]], real.pitch[real.starts[:-1]])
