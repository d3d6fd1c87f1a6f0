from __future__ import annotations

import numpy as np
import pytest
import symusic
from hypothesis import given
from hypothesis import strategies as st

from mgen.corpus.chunks import silent_share, split_into_chunks


def score_of(*tracks, tpq=480):
    """A score whose tracks are lists of (onset, duration) in quarters, or of (onset, duration, pitch)."""
    score = symusic.Score(tpq)
    score.time_signatures.append(symusic.TimeSignature(0, 3, 4))
    for number, notes in enumerate(tracks):
        track = symusic.Track(f"part {number}", number)
        for onset, duration, *pitch in notes:
            track.notes.append(symusic.Note(round(onset * tpq), round(duration * tpq), *(pitch or [60]), 64))
        score.tracks.append(track)
    return score


def line(first, n, step=1.0):
    return [(first + step * i, step) for i in range(n)]


def onsets(chunk):
    (track,) = chunk.score.tracks
    return [note.time / chunk.score.ticks_per_quarter for note in track.notes]


def test_a_track_is_split_at_long_rests_and_keeps_its_time_and_bars():
    # ends at 10, and again at 27.9: rests of 8 and 7.9 quarters
    score = score_of([*line(0, 10), *line(18, 10, 0.99), *line(27.9 + 7.9, 10)])
    found, counts = split_into_chunks(score, min_notes=5)
    assert [onsets(chunk)[0] for chunk in found] == [0, 18]
    assert [len(onsets(chunk)) for chunk in found] == [10, 20]
    assert counts == {"found": 2, "rests": 1}
    assert found[1].score.time_signatures[0].numerator == 3 and found[1].score.tracks[0].name == "part 0"
    whole, _ = split_into_chunks(score, min_notes=5, skip=["rests", "silence"])
    assert [len(onsets(chunk)) for chunk in whole] == [30]


def test_a_held_note_is_no_rest():
    # a pedal point sounds through what looks like a gap between onsets
    held = score_of([(0, 40, 36), *line(0, 6), *line(30, 6)])
    assert len(split_into_chunks(held, min_notes=2)[0]) == 1


def test_chunks_are_cut_but_not_inside_a_chord():
    chords = [(i, 1, pitch) for i in range(10) for pitch in (60, 64, 67)]
    found, counts = split_into_chunks(score_of(chords), min_notes=1, max_notes=10)
    assert [len(onsets(chunk)) for chunk in found] == [9, 9, 9, 3]
    assert counts == {"found": 4, "cut": 3}
    assert len(split_into_chunks(score_of(chords), min_notes=1, max_notes=10, skip=["cut"])[0]) == 1
    thick = score_of([(0, 1, pitch) for pitch in range(30, 55)])  # one chord of more notes than a chunk may have
    assert [len(onsets(chunk)) for chunk in split_into_chunks(thick, min_notes=1, max_notes=10)[0]] == [10, 10, 5]


def test_short_chunks_and_those_that_mostly_rest_are_dropped_and_counted():
    sparse = [(4 * i, 1) for i in range(20)]  # rests 3/4 of the time
    score = score_of(line(0, 4), sparse, line(0, 20))
    found, counts = split_into_chunks(score, min_notes=5)
    assert [(chunk.track, chunk.number) for chunk in found] == [(2, 0)]
    assert counts == {"found": 3, "short chunk": 1, "mostly rests": 1}
    assert [chunk.track for chunk in split_into_chunks(score, min_notes=5, skip=["silence"])[0]] == [1, 2]


def test_melodic_tracks_of_any_instrument_but_no_drums():
    score = score_of(line(0, 5), line(0, 5), line(0, 5))
    score.tracks[1].is_drum = True
    score.tracks.append(symusic.Track("empty"))
    found, _ = split_into_chunks(score, min_notes=5)
    assert [(chunk.track, chunk.score.tracks[0].program) for chunk in found] == [(0, 0), (2, 2)]


def test_silence_is_the_share_of_time_without_a_note():
    def share(*notes):
        onset, end = (np.array(column) for column in zip(*notes, strict=True))
        return silent_share(onset, end)

    assert share((0, 10), (10, 20)) == 0
    assert share((0, 10), (30, 40)) == 0.5
    assert share((0, 40), (10, 20), (30, 40)) == 0  # under a held note nothing rests
    assert share((5, 5)) == 0


@given(
    notes=st.lists(st.tuples(st.integers(0, 60), st.integers(1, 8), st.integers(40, 80)), min_size=1, max_size=60),
    most=st.integers(1, 20),
    rest=st.integers(1, 10),
)
def test_every_note_is_in_one_chunk(notes, most, rest):
    found, counts = split_into_chunks(score_of(notes, tpq=12), 1, most, rest, max_silence=1.0)
    taken = [
        (note.time / 12, note.duration / 12, note.pitch) for chunk in found for note in chunk.score.tracks[0].notes
    ]
    assert sorted(taken) == sorted(notes)
    assert counts["found"] == len(found) and max(len(onsets(chunk)) for chunk in found) <= most
    assert [chunk.number for chunk in found] == list(range(len(found)))


def test_a_silent_score_has_no_chunks():
    assert split_into_chunks(score_of([])) == ([], {})


@pytest.mark.parametrize("least", [1, 60])
def test_the_score_given_is_as_it_was(least):
    score = score_of(line(0, 80))
    before = score.copy()
    split_into_chunks(score, least)
    assert score == before
