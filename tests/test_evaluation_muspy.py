"""Where muspy has a metric, ours is the same number, or differs as its docstring says."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import symusic
from evaluation_pieces import demo, each

from mgen.cli import bench
from mgen.corpus.demo import COLLECTIONS, compose
from mgen.errors import MgenError, RejectedFile
from mgen.music.metrics import METRICS, grooving_similarity, pitch_class_entropy
from mgen.notes import STEPS_PER_QUARTER, Notes
from mgen.workflows.bench_references import muspy_music

pytestmark = pytest.mark.slow

REAL_MUSIC = os.environ.get("MGEN_REAL_MUSIC", "")


@pytest.fixture(scope="module", autouse=True)
def muspy():
    """Imported by the first test of this file: it takes a second, which no other file has to wait for."""
    return pytest.importorskip("muspy", reason="muspy, a development dependency, is not installed")


def real_pieces() -> Notes:
    """200 pieces, evenly over the files of the folder that MGEN_REAL_MUSIC names."""
    paths = sorted(Path(REAL_MUSIC).rglob("*.mid"))
    found: list[Notes] = []
    for path in paths[:: max(len(paths) // 240, 1)]:
        try:
            notes = Notes.from_scores([symusic.Score(path)])
        except (RejectedFile, RuntimeError):
            continue
        notes = notes.select(np.arange(len(notes)) < 2000)
        if len(notes) and len(found) < 200:
            found.append(notes)
    assert len(found) == 200
    return Notes.concat(found)


@pytest.fixture(
    scope="module",
    params=[
        "demo",
        pytest.param(
            "real", marks=pytest.mark.skipif(not REAL_MUSIC, reason="MGEN_REAL_MUSIC names no folder of MIDI files")
        ),
    ],
)
def pieces(request: pytest.FixtureRequest) -> Notes:
    return demo(*COLLECTIONS, works=2) if request.param == "demo" else real_pieces()


def test_the_same_number(pieces, muspy):
    music = [muspy_music(pieces, piece) for piece in range(pieces.n_pieces)]
    pairs = {
        muspy.pitch_range: METRICS["pitch_range"](pieces),
        muspy.scale_consistency: METRICS["scale_consistency"](pieces),
        muspy.pitch_class_entropy: pitch_class_entropy(pieces, bars=1 << 20),  # one window: the whole piece
    }
    for theirs, ours in pairs.items():
        pitched = ~np.isnan(ours)  # where muspy's range of drums alone is -127
        expected = np.array([theirs(one) for one in music])
        np.testing.assert_allclose(ours[pitched], expected[pitched], rtol=1e-9, err_msg=theirs.__name__)
        assert pitched.mean() > 0.9


def test_polyphony_is_muspys_but_where_one_pitch_sounds_twice(pieces, muspy):
    ours = METRICS["polyphony"](pieces)
    theirs = np.array([muspy.polyphony(muspy_music(pieces, piece)) for piece in range(pieces.n_pieces)])
    doubled = []
    for one in each(pieces):
        one = one.select(one.program >= 0)
        order = np.lexsort((one.onset, one.pitch))
        pitch, onset, end = one.pitch[order], one.onset[order], (one.onset + one.duration)[order]
        doubled.append(bool(((pitch[1:] == pitch[:-1]) & (onset[1:] < end[:-1])).any()))
    alone = ~np.array(doubled)
    np.testing.assert_allclose(ours[alone], theirs[alone], rtol=1e-9)
    assert alone.sum() >= 4
    several = ~alone & ~np.isnan(ours)
    assert (ours[several] >= theirs[several] - 1e-9).all()


def test_empty_beats_are_muspys_but_for_notes_that_end_on_a_beat(pieces, muspy):
    for one, ours in zip(each(pieces), METRICS["empty_beats"](pieces), strict=True):
        beats = int(one.bars.beats.sum())
        # Two steps for one, and the last of a note's left out, no note ends on a beat. muspy also looks at the beat
        # after the end, and stops at the last that sounds; a note may outlast the last bar, whose beats are ours.
        end = np.minimum(one.onset + one.duration, beats * STEPS_PER_QUARTER)
        fine = replace(one, onset=2 * one.onset, duration=2 * (end - one.onset) - 1)
        music = muspy_music(fine, 0)
        music.resolution = 2 * STEPS_PER_QUARTER
        looked = int((fine.onset + fine.duration).max()) // (2 * STEPS_PER_QUARTER) + 1
        silent = muspy.empty_beat_rate(music) * looked + beats - looked
        assert silent == pytest.approx(ours * beats, abs=1e-6)


def test_grooving_of_two_bars_is_muspys_on_another_grid(pieces, muspy):
    # muspy compares neighbouring bars, in 96 slots; we all pairs, in 64. Of two bars there is one pair, and onsets at
    # multiples of three steps fall into slots of their own.
    done = 0
    for one in each(pieces):
        if len(one.bars.piece) < 2 or (one.bars.beats[:2] != 4).any():
            continue
        head = one.select((one.bar < 2) & (one.onset % 3 == 0))
        if not (head.bar == 1).any():
            continue
        two = Notes.from_scores([head.to_score(0)])
        (ours,) = grooving_similarity(two)
        struck = replace(two, duration=np.ones_like(two.duration))  # so that muspy sees no third bar
        theirs = muspy.groove_consistency(muspy_music(struck, 0), 96)
        assert (1 - ours) * 64 == pytest.approx((1 - theirs) * 96)
        done += 1
    assert done >= 8


def test_bench_measures_our_speed_and_muspys(capsys, tmp_path):
    assert bench.main(["metrics", "--json", "--repeats", "1", "--files", "80"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert min(result["ours"], result["rival"], result["ratio"]) > 0 and f"all {len(METRICS)} metrics" in result["what"]
    compose("folk_tunes", 0).dump_midi(tmp_path / "short.mid")
    with pytest.raises(MgenError, match="no piece of 500 notes"):
        bench.main(["metrics", "--source", str(tmp_path)])
