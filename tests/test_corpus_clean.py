from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
import symusic
from hypothesis import given
from hypothesis import strategies as st

from mgen.corpus.clean import (
    RECIPES,
    clean,
    clean_and_count,
    count_voices,
    drop_short_notes,
    normalise,
    rank_velocities,
)
from mgen.encoding.remi import PITCH_RANGE, Kind, Remi
from mgen.notes import MAX_DURATION, Notes

pytestmark = pytest.mark.slow

COLUMNS = ("onset", "duration", "bar", "pitch", "velocity", "program")


def score_of(*notes, tpq=24, tracks=None, signatures=()):
    """A score of (onset, duration, pitch, velocity, program) in 24 steps a quarter, written at `tpq`."""
    scale = tpq / 24
    score = symusic.Score(tpq)
    for onset, beats in signatures:
        score.time_signatures.append(symusic.TimeSignature(round(onset * scale), beats, 4))
    for number, (onset, duration, pitch, velocity, program) in enumerate(notes):
        name = f"track {tracks[number] if tracks else program}"
        found = [track for track in score.tracks if track.name == name and track.is_drum == (program < 0)]
        found = [track for track in found if track.is_drum or track.program == program]
        if not found:
            score.tracks.append(symusic.Track(name, max(program, 0), program < 0))
        track = found[0] if found else score.tracks[-1]
        track.notes.append(symusic.Note(round(onset * scale), round(duration * scale), pitch, velocity))
    return score


def gridded(score, recipe):
    """The score as it is written, cleaned: its beats are not doubted."""
    return clean(Notes.from_scores([score]), recipe)


def table(notes, *columns):
    return list(zip(*(getattr(notes, column).tolist() for column in columns), strict=True))


def assert_same(first, second):
    for column in COLUMNS:
        np.testing.assert_array_equal(getattr(first, column), getattr(second, column), err_msg=column)
    for field in fields(first.bars):
        np.testing.assert_array_equal(getattr(first.bars, field.name), getattr(second.bars, field.name))


note_lists = st.lists(
    st.tuples(
        st.integers(0, 400),
        st.integers(1, 500),
        st.integers(15, 115),
        st.integers(1, 127),
        st.sampled_from((-1, 0, 0, 32)),
    ),
    min_size=1,
    max_size=25,
)
signature_lists = st.lists(
    st.tuples(st.integers(0, 12).map(lambda beat: 24 * beat), st.integers(1, 7)), max_size=3, unique_by=lambda s: s[0]
)


@pytest.mark.parametrize("recipe", RECIPES)
@given(notes=note_lists, signatures=signature_lists)
def test_normalising_again_changes_nothing(recipe, notes, signatures):
    once = gridded(score_of(*notes, signatures=signatures), recipe)
    assert_same(clean(once, recipe), once)
    if len(once):
        assert_same(gridded(once.to_score(0), recipe), once)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
@given(notes=note_lists, data=st.data())
def test_format_changes_nothing(recipe, notes, data):
    plain = gridded(score_of(*notes), recipe)
    tracks = data.draw(st.lists(st.integers(0, 3), min_size=len(notes), max_size=len(notes)))
    score = score_of(*notes, tpq=data.draw(st.sampled_from((48, 96, 120, 480, 960))), tracks=tracks)
    for onset in data.draw(st.lists(st.integers(0, 2000), max_size=4)):
        score.tempos.append(symusic.Tempo(onset, data.draw(st.integers(20, 300))))
    for track in score.tracks:
        track.name = data.draw(st.text(max_size=5))
        track.controls.append(symusic.ControlChange(0, 64, 127))
        track.pedals.append(symusic.Pedal(0, 5000))
    score.tracks.append(symusic.Track("empty", 5))
    assert_same(gridded(score, recipe), plain)


@pytest.mark.parametrize("recipe", RECIPES)
@given(notes=note_lists, data=st.data())
def test_only_the_order_of_velocities_counts(recipe, notes, data):
    levels = sorted({velocity for *_, velocity, _ in notes})
    others = sorted(data.draw(st.sets(st.integers(1, 127), min_size=len(levels), max_size=len(levels))))
    rescaled = dict(zip(levels, others, strict=True))
    moved = [(*rest, rescaled[velocity], program) for *rest, velocity, program in notes]
    assert_same(gridded(score_of(*moved), recipe), gridded(score_of(*notes), recipe))


@pytest.mark.parametrize("recipe", RECIPES)
@given(notes=note_lists, signatures=signature_lists)
def test_what_comes_out_can_be_written(recipe, notes, signatures):
    raw = Notes.from_scores([score_of(*notes, signatures=signatures)])
    piece, counts = clean_and_count(raw, recipe)
    low, high = PITCH_RANGE
    expected = {
        (onset, pitch, program if recipe == "band" else 0)
        for onset, _, pitch, _, program in notes
        if low <= pitch <= high and (program >= 0 or recipe == "band")
    }
    assert counts["pitches"] == sum(
        not low <= pitch <= high and (program >= 0 or recipe == "band") for _, _, pitch, _, program in notes
    )
    if not expected:
        assert len(piece) == 0
        return
    shift = min(onset for onset, *_ in expected) - int(piece.onset.min())
    assert {(o + shift, p, g) for o, p, g in table(piece, "onset", "pitch", "program")} == expected
    assert len(piece) == len(expected)
    assert piece.bar.min() == 0 and piece.bar.max() == len(piece.bars.onset) - 1 and piece.bars.onset[0] == 0
    assert piece.duration.min() >= 1 and piece.duration.max() <= MAX_DURATION
    for _, _, rows in by_key(piece):
        onset, end = piece.onset[rows], piece.onset[rows] + piece.duration[rows]
        assert (np.diff(np.sort(onset)) > 0).all() and (end[np.argsort(onset)][:-1] <= np.sort(onset)[1:]).all()
    remi = Remi.build(("jazz", "other"), multi=recipe == "band")
    back = remi.decode(remi.encode(piece))
    assert int(back.n_broken[0]) == 0
    assert table(back, "onset", "pitch", "program", "bar") == table(piece, "onset", "pitch", "program", "bar")


def by_key(notes):
    return [
        (program, pitch, np.flatnonzero((notes.program == program) & (notes.pitch == pitch)))
        for program in set(notes.program.tolist())
        for pitch in set(notes.pitch.tolist())
    ]


def test_the_piano_recipe_makes_one_instrument():
    score = score_of((0, 24, 60, 90, 0), (0, 48, 60, 50, 32), (24, 24, 40, 64, -1), (36, 12, 60, 70, 32))
    piano, band = gridded(score, "piano"), gridded(score, "band")
    # the two at 0 are one: as loud as the louder (90), as long as the longer (48) until it is struck again at 36
    assert table(piano, "onset", "duration", "pitch", "velocity", "program") == [
        (0, 36, 60, 96, 0),  # ranks of 70 < 90: middles 1/4 and 3/4 of the piece, 1 + 126 x 0.75 = 95.5, to even
        (36, 12, 60, 32, 0),
    ]
    assert table(band, "onset", "duration", "pitch", "program") == [
        (0, 24, 60, 0),
        (0, 36, 60, 32),
        (24, 24, 40, -1),
        (36, 12, 60, 32),
    ]


def test_velocities_become_quantiles_and_equal_ones_share_the_middle():
    # middles of the ranks of 10, 20 20, 90: 0.5, 2, 3.5 of 4, so 1 + 126 x (0.125, 0.5, 0.875)
    np.testing.assert_array_equal(rank_velocities(np.array([20, 10, 90, 20], np.int32)), [64, 17, 111, 64])
    np.testing.assert_array_equal(rank_velocities(np.full(5, 100, np.int32)), [64] * 5)
    assert rank_velocities(np.zeros(0, np.int32)).shape == (0,)


def test_empty_bars_at_the_ends_go_and_those_inside_stay():
    # 3/4: bars begin at 0, 72, 144, 216, 288; notes in the second and the fourth, a drum in the fifth
    score = score_of((80, 5, 60, 64, 0), (220, 5, 60, 64, 0), (290, 5, 40, 64, -1), signatures=[(0, 3)])
    piano, band = gridded(score, "piano"), gridded(score, "band")
    assert table(piano, "onset", "bar") == [(8, 0), (148, 2)]
    assert piano.bars.onset.tolist() == [0, 72, 144] and piano.bars.beats.tolist() == [3, 3, 3]
    assert table(band, "onset", "bar") == [(8, 0), (148, 2), (218, 3)]


def test_a_piece_without_playable_notes_is_empty():
    piece = gridded(score_of((0, 24, 10, 64, 0)), "piano")
    assert len(piece) == 0 and piece.n_pieces == 1 and piece.bars.beats.tolist() == [4]


def test_the_longest_duration_is_the_vocabulary_s():
    remi = Remi.build(("jazz", "other"))
    assert int(remi.value[remi.kind == Kind.DURATION].max()) == MAX_DURATION
    assert gridded(score_of((0, 5000, 60, 64, 0)), "piano").duration.tolist() == [MAX_DURATION]
    jig = score_of((0, 5000, 60, 64, 0))
    jig.time_signatures.append(symusic.TimeSignature(0, 6, 8))
    notes, counts = clean_and_count(Notes.from_scores([jig]), "piano")
    assert notes.duration.tolist() == [13 * 12] and counts["long_notes"] == 1
    assert Notes.from_ids(remi.encode(notes), remi).duration.tolist() == [13 * 12]


# onset, duration, pitch, velocity, program: struck again at 12 before it ended; too low; endless; a drum
MESSY = ((0, 24, 60, 64, 0), (12, 24, 60, 64, 0), (24, 24, 10, 64, 0), (48, 999, 62, 64, 0), (48, 6, 40, 64, -1))


def test_each_step_counts_the_notes_that_it_changed():
    _, counts = clean_and_count(Notes.from_scores([score_of(*MESSY, (48, 30, 62, 64, 0))]), "piano")
    assert counts == {"percussion": 1, "pitches": 1, "doubled": 1, "overlaps": 1, "long_notes": 1}
    assert clean_and_count(Notes.from_scores([score_of((0, 24, 60, 64, 0))]), "piano")[1] == {}


@pytest.mark.parametrize(
    ("skip", "durations"),
    [
        ((), [12, 24, MAX_DURATION]),
        (("overlaps",), [24, 24, MAX_DURATION]),
        (("long_notes",), [12, 24, 999]),
        (("overlaps", "long_notes"), [24, 24, 999]),
    ],
)
def test_a_step_that_is_left_out_changes_nothing_and_counts_nothing(skip, durations):
    notes, counts = clean_and_count(Notes.from_scores([score_of(*MESSY)]), "piano", skip)
    assert notes.duration.tolist() == durations
    assert not counts.keys() & set(skip)


def test_empty_bars_stay_if_that_step_is_left_out():
    written = Notes.from_scores([score_of((100, 5, 60, 64, 0))])
    assert clean_and_count(written, "piano")[0].bar.tolist() == [0]
    kept, _ = clean_and_count(written, "piano", ["empty_bars"])
    assert kept.bar.tolist() == [1] and kept.onset.tolist() == [100] and kept.bars.onset.tolist() == [0, 96]


def test_the_range_of_pitches_can_be_narrowed_but_not_beyond_the_vocabulary():
    written = Notes.from_scores([score_of(*((24 * i, 6, pitch, 64, 0) for i, pitch in enumerate((10, 30, 60, 90))))])
    narrow, counts = clean_and_count(written, "piano", pitches=(31, 80))
    assert narrow.pitch.tolist() == [60] and counts["pitches"] == 3
    assert clean_and_count(written, "piano", ["pitches"], (31, 80))[0].pitch.tolist() == [30, 60, 90]


def test_short_notes_go_unless_they_are_most_of_the_music():
    # 480 ticks a quarter: the shortest note that counts has 5 ticks; drums are as short as they like
    score = symusic.Score(480)
    for drum in (False, True):
        track = symusic.Track("a", 0, drum)
        for i, duration in enumerate((4, 5, 480, 240)):
            track.notes.append(symusic.Note(480 * i, duration, 60 + i, 64))
        score.tracks.append(track)
    kept, dropped = drop_short_notes(score)
    assert dropped == 1 and [note.duration for note in kept.tracks[0].notes] == [5, 480, 240]
    assert len(kept.tracks[1].notes) == 4 and len(score.tracks[0].notes) == 4  # the score given is as it was
    for note in score.tracks[0].notes:
        note.duration = 1
    assert drop_short_notes(score)[1] == 0


def test_voices_are_counted_where_a_piece_is_thick():
    def count(*notes):
        return count_voices(Notes.from_scores([score_of(*notes)]))

    assert count(*((24 * i, 24, 60, 64, 0) for i in range(8))) == 1  # one ends where the next begins
    assert count((0, 96, 40, 64, 0), (24, 24, 60, 64, 0), (48, 24, 62, 64, 0)) == 2
    assert count((0, 24, 60, 64, 0), (0, 24, 64, 64, 0), (0, 24, 67, 64, 0), (0, 24, 35, 64, -1)) == 3
    assert count((0, 24, 35, 64, -1)) == 0


def test_a_performance_gets_a_clock_and_written_music_keeps_its_beats():
    rng = np.random.default_rng(0)
    played = score_of(
        *((int(onset), 5, 60, 64, 0) for onset in np.sort(rng.integers(0, 2000, 80))), signatures=[(0, 3)]
    )
    written = score_of(*((24 * i, 24, 60, 64, 0) for i in range(24)), signatures=[(0, 3)])
    for score in (played, written):
        score.tempos.append(symusic.Tempo(0, 60))
    assert set(normalise(played, "piano").bars.beats.tolist()) == {4}
    assert set(normalise(written, "piano").bars.beats.tolist()) == {3}
    # a quarter of 1 second becomes two of the clock's half seconds
    before, after = gridded(played, "piano"), normalise(played, "piano")
    np.testing.assert_allclose(np.diff(after.onset), 2 * np.diff(before.onset), atol=1)
