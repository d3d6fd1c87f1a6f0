"""Bass lines for drums, as `mgen generate --baseline` writes them, on the listening page and as piano-rolls."""

from __future__ import annotations

import json

import numpy as np
import pytest
from band_corpus import band
from symusic import Score

from mgen.listen.pair_audio import read_clip, render_pair
from mgen.notes import Notes
from mgen.render.audio import SAMPLE_RATE, synthesise
from mgen.render.pianoroll import pianoroll_svg
from mgen.workflows.listen import ListenConfig, collect_clips, make_study, name_runs

PROMPT = "songs/band.mid"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two runs' lines for the same drums: files of a drum track and a bass track, and index.json."""
    root = tmp_path_factory.mktemp("lines")
    for name, seed in (("cvae", 1), ("lstm", 2)):
        (root / name).mkdir()
        for i in range(3):
            score = band(seed, bars=2, chords=False)
            score.tracks[1] = band(0, bars=2, chords=False).tracks[1]  # the drums of the prompt
            score.dump_midi(root / name / f"{i:04d}.mid")
        (root / name / "index.json").write_text(json.dumps({"baseline": name, "prompt": PROMPT, "pieces": []}))
    return root


def share_above(sound, hertz):
    power = np.abs(np.fft.rfft(sound)) ** 2
    return power[np.fft.rfftfreq(len(sound), 1 / SAMPLE_RATE) > hertz].sum() / power.sum()


def test_two_folders_of_lines_are_a_study_with_drums(folders):
    runs = name_runs([f"VAE={folders / 'cvae'}", str(folders / "lstm")])
    clips, _ = collect_clips(runs, ListenConfig(pairs=3), print)
    study, pairs = make_study(clips, None, ListenConfig(pairs=3))
    assert set(study.systems) == {"VAE", "lstm"} and len(pairs) == 3
    assert all(first.clip.prompt == second.clip.prompt for first, second in pairs)
    assert all(first.clip.prompt.endswith("of band.mid") for first, _ in pairs)
    score = read_clip(pairs[0][0])
    assert sorted((track.is_drum, track.program) for track in score.tracks) == [(False, 33), (True, 0)]
    audio = render_pair(*pairs[0], 20)
    assert audio.seconds > 4 and len(audio.first) == len(audio.second) and audio.first != audio.second
    without = score.copy()
    without.tracks = [track for track in score.tracks if not track.is_drum]
    high, low = (share_above(synthesise(one), 3000) for one in (score, without))
    assert high > 10 * low  # hi-hats are above every bass


def test_drums_have_lanes_below_the_bass(folders):
    notes = Notes.from_scores([Score(folders / "cvae" / "0000.mid")])
    drawing = pianoroll_svg(notes, 0)
    assert drawing.count("pr-note") == len(notes)
    assert "electric bass (finger)" in drawing and "drums" in drawing
