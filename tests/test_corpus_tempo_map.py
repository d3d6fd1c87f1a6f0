"""The tempo map of a prepared piece."""

from __future__ import annotations

import pytest
from band_corpus import TICKS, band, prepare_songs
from symusic import core

from mgen.corpus.shards import Corpus
from mgen.corpus.tempo_map import read_tempo_map, write_tempo_map


def score_of(*tempos):
    score = core.ScoreTick(TICKS)
    for tick, tempo in tempos:
        score.tempos.append(core.TempoTick(tick, tempo))
    return score


@pytest.mark.parametrize(
    ("tempos", "options", "text"),
    [
        ([], {}, "0:120"),
        ([(0, 90)], {}, "0:90"),
        ([(480, 90)], {}, "0:120 24:90"),
        ([(480, 90), (960, 90)], {}, "0:120 24:90"),
        ([(0, 90), (480, 100), (960, 110)], {"shift": 24}, "0:100 24:110"),
        ([(0, 90), (480, 100), (960, 110)], {"last": 30}, "0:90 24:100"),
        ([(960, 110), (0, 90)], {}, "0:90 48:110"),
    ],
)
def test_tempos_in_grid_steps(tempos, options, text):
    assert write_tempo_map(score_of(*tempos), **options) == text
    steps, quarters = read_tempo_map(text)
    assert [f"{step}:{tempo:g}" for step, tempo in zip(steps, quarters, strict=True)] == text.split()


@pytest.mark.parametrize("text", ["", "24:100", "0:100 0:90", "x", "0:y"])
def test_what_is_no_tempo_map(text):
    with pytest.raises(ValueError, match=r"STEP:TEMPO|unpack|convert"):
        read_tempo_map(text)


def test_a_corpus_counts_from_its_first_bar(tmp_path):
    late = band(tempos=((0, 100.0), (16 * 4, 80.0)))  # changes at the beginning of the fifth bar
    late = late.shift_time(4 * TICKS * 2)  # two empty bars before
    late.tempos.append(core.TempoTick(0, 60.0))
    songs = {"amber": late, "birch": band(1), "cedar": band(2), "delta": band(3, tempos=())}
    pieces = Corpus.open(prepare_songs(tmp_path, songs)).pieces.set_index("song")
    assert pieces.loc["amber", "tempo_map"] == "0:100 384:80"
    assert pieces.loc["birch", "tempo_map"] == "0:120" == pieces.loc["delta", "tempo_map"]
