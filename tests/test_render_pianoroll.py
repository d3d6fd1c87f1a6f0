from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import pytest
from symusic import core

from mgen.errors import MgenError
from mgen.notes import Notes
from mgen.render.pianoroll import last_step, note_name, pianoroll_svg


def score_of(*tracks, beats=4):
    """A score of 24 ticks a quarter: a track is (program, is_drum, notes of onset, duration, pitch, velocity)."""
    score = core.ScoreTick(24)
    score.time_signatures.append(core.TimeSignatureTick(0, beats, 4))
    for program, drums, notes in tracks:
        track = core.TrackTick("", program, drums)
        for note in notes:
            track.notes.append(core.NoteTick(*note))
        score.tracks.append(track)
    return score


SCALE = [(24 * i, 24, 60 + i, 64) for i in range(8)]  # two bars of quarters, C4 to G4


@pytest.fixture
def notes():
    bass = (32, False, [(0, 96, 36, 100)])
    drums = (0, True, [(0, 6, 36, 100), (24, 6, 38, 100), (48, 6, 36, 100)])
    return Notes.from_scores([score_of((0, False, SCALE)), score_of((0, False, SCALE), bass, drums)])


def drawn(svg):
    return ElementTree.fromstring(svg)


def rects(svg, name="pr-note"):
    return [rect for rect in drawn(svg).iter("rect") if name in rect.get("class").split()]


def texts(svg):
    return ["".join(text.itertext()) for text in drawn(svg).iter("text")]


@pytest.mark.parametrize(("pitch", "name"), [(60, "C4"), (69, "A4"), (21, "A0"), (108, "C8"), (70, "B♭4")])
def test_note_names(pitch, name):
    assert note_name(pitch) == name


def test_last_step_is_the_end_of_the_last_bar_or_of_a_longer_note():
    assert last_step(Notes.from_scores([score_of((0, False, SCALE[:5]))]), 0) == 192
    assert last_step(Notes.from_scores([score_of((0, False, [(0, 500, 60, 64)]))]), 0) == 500


@pytest.mark.parametrize(("piece", "count"), [(0, 8), (1, 12)])
def test_every_note_is_drawn_once(notes, piece, count):
    assert len(rects(pianoroll_svg(notes, piece))) == count


def test_time_runs_right_and_pitch_up_in_equal_steps(notes):
    found = rects(pianoroll_svg(notes, 0))
    x, y = ([float(rect.get(key)) for rect in found] for key in ("x", "y"))
    across = [b - a for a, b in pairwise(x)]
    up = [a - b for a, b in pairwise(y)]
    assert across == pytest.approx([across[0]] * 7, abs=0.11) and across[0] > 0
    assert up == pytest.approx([up[0]] * 7, abs=0.11) and up[0] > 0


def test_position_in_the_drawing_follows_data_left_and_data_step(notes):
    svg = drawn(pianoroll_svg(notes, 0, width=1000))
    left, step = float(svg.get("data-left")), float(svg.get("data-step"))
    x = [float(rect.get("x")) for rect in svg.iter("rect")]
    assert x == pytest.approx([left + note[0] * step for note in SCALE], abs=0.06)
    assert left + 192 * step <= 1000


def test_everything_stays_inside_the_drawing(notes):
    for rect in rects(pianoroll_svg(notes, 1, width=500, height=120)):
        x, y, width, height = (float(rect.get(key)) for key in ("x", "y", "width", "height"))
        assert x >= 0 and y >= 0 and x + width <= 500 and y + height <= 120


def test_notes_before_the_end_of_the_prompt_are_given_and_their_ground_is_shaded(notes):
    svg = pianoroll_svg(notes, 0, prompt_end=96)
    assert len(rects(svg, "pr-given")) == 4 and len(rects(svg, "pr-p0")) == 4
    (shade,) = rects(svg, "pr-prompt")
    step = float(drawn(svg).get("data-step"))
    assert float(shade.get("width")) == pytest.approx(96 * step, abs=0.06)
    assert "prompt" in texts(svg)


@pytest.mark.parametrize("prompt_end", [None, 0])
def test_without_a_prompt_nothing_is_shaded(notes, prompt_end):
    svg = pianoroll_svg(notes, 0, prompt_end=prompt_end)
    assert not rects(svg, "pr-prompt") and not rects(svg, "pr-given") and "prompt" not in texts(svg)


def test_bars_are_lined_and_numbered_and_the_cs_are_named(notes):
    svg = pianoroll_svg(notes, 0)
    assert sum(line.get("class") == "pr-bar" for line in drawn(svg).iter("line")) == 2
    assert {"1", "2", "C4"} <= set(texts(svg))


def test_numbers_thin_out_where_bars_are_narrow():
    long = Notes.from_scores([score_of((0, False, [(96 * i, 24, 60, 64) for i in range(200)]))])
    numbers = [int(text) for text in texts(pianoroll_svg(long, 0)) if text.isdigit()]
    assert numbers[:2] == [1, 9]  # 200 bars on 920 units: 4.6 a bar, 8 bars give the 24 that a number needs


def test_instruments_have_colours_and_names_and_drums_lie_lowest(notes):
    svg = pianoroll_svg(notes, 1)
    piano, bass, drums = (rects(svg, f"pr-p{i}") for i in range(3))
    assert (len(piano), len(bass), len(drums)) == (8, 1, 3)
    assert min(float(rect.get("y")) for rect in drums) > max(float(rect.get("y")) for rect in piano + bass)
    (legend,) = (text for text in texts(svg) if "■" in text)
    assert [legend.index(name) for name in ("piano", "bass", "drums")] == sorted(
        legend.index(name) for name in ("piano", "bass", "drums")
    )


def test_louder_is_more_opaque():
    svg = pianoroll_svg(Notes.from_scores([score_of((0, False, [(0, 24, 60, 20), (24, 24, 60, 120)]))]), 0)
    soft, loud = (float(rect.get("fill-opacity")) for rect in rects(svg))
    assert 0 < soft < loud <= 1


def test_two_drawings_with_the_same_room_share_their_axes(notes):
    high = Notes.from_scores([score_of((0, False, [(24, 24, 84, 64)]))])
    room = {"steps": 400, "pitches": (60, 84)}
    first, second = (drawn(pianoroll_svg(part, 0, **room)) for part in (notes, high))
    assert first.get("data-step") == second.get("data-step")
    tops = [[line.get("y1") for line in svg.iter("line") if line.get("class") == "pr-c"] for svg in (first, second)]
    assert tops[0] == tops[1] and len(tops[0]) >= 3


def test_a_piece_without_notes_is_drawn_empty():
    svg = pianoroll_svg(Notes.from_scores([score_of()]), 0, prompt_end=96)
    assert not rects(svg) and "0 notes" in drawn(svg).get("aria-label")


def test_it_is_described_in_words_and_names_are_escaped(notes):
    svg = pianoroll_svg(notes, 0, prompt_end=96, title='<script> & "Co"')
    assert "<script>" not in svg
    assert drawn(svg).get("role") == "img"
    assert drawn(svg).get("aria-label") == (
        'Piano-roll of <script> & "Co": 8 notes, from C4 to G4, 2 bars, the first 4 notes given as the prompt'
    )


def test_a_piece_that_is_not_there_is_an_error(notes):
    with pytest.raises(MgenError, match="piece 2 of 2"):
        pianoroll_svg(notes, 2)
