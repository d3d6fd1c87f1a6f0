from __future__ import annotations

import io
import time
import wave

import numpy as np
import pytest
from symusic import core

from mgen.corpus.demo import COLLECTIONS, compose
from mgen.errors import MgenError
from mgen.listen.clips import ClipFile
from mgen.listen.pair_audio import MIN_AFTER_PROMPT, PairAudioCache, match_pair, read_clip, render_pair
from mgen.listen.vote_store import StudyClip
from mgen.render.audio import SAMPLE_RATE, loudness, wav


def clip_file(path, score, prompt_seconds=0.0):
    score.dump_midi(path)
    return ClipFile(StudyClip("x", "p", "", ""), path, prompt_seconds)


def tune(*notes, drums=False):
    """Notes of (onset and duration in quarters, pitch, velocity) at 120 quarters a minute."""
    score = core.ScoreTick(24)
    score.tempos.append(core.TempoTick(0, qpm=120))
    track = core.TrackTick("", 0, drums)
    for onset, duration, pitch, velocity in notes:
        track.notes.append(core.NoteTick(int(24 * onset), int(24 * duration), pitch, velocity))
    score.tracks.append(track)
    return score


def samples_of(data):
    """A WAV file's samples, within -1..1."""
    with wave.open(io.BytesIO(data)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, SAMPLE_RATE)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768


SOFT_HIGH = [(i, 0.5, 90, 12) for i in range(30)]
LOUD_LOW = [(i / 2, 2, 36 + i % 12, 127) for i in range(24)]
ONE_NOTE = [(0, 1, 60, 64)]
CLICKS = [(2 * i, 0.05, 100, 127) for i in range(12)]


@pytest.mark.parametrize(
    ("one", "other"),
    [(SOFT_HIGH, LOUD_LOW), (LOUD_LOW, ONE_NOTE), (CLICKS, LOUD_LOW), (ONE_NOTE, SOFT_HIGH), (CLICKS, SOFT_HIGH)],
)
def test_two_clips_differ_in_nothing_but_the_music(tmp_path, one, other):
    """One size, one format, one loudness: from the notes to the bytes that are served."""
    pair = render_pair(clip_file(tmp_path / "1.mid", tune(*one)), clip_file(tmp_path / "2.mid", tune(*other)), 20)
    assert len(pair.first) == len(pair.second) and pair.first[:44] == pair.second[:44] and pair.first != pair.second
    first, second = samples_of(pair.first), samples_of(pair.second)
    assert len(first) / SAMPLE_RATE == pytest.approx(pair.seconds)
    assert abs(loudness(first) - loudness(second)) < 0.1  # LU; 0.5 is asked for
    assert max(np.abs(first).max(), np.abs(second).max()) < 0.95
    assert abs(first[-1]) < 1e-3 and abs(second[-1]) < 1e-3


@pytest.mark.slow
def test_all_demo_music_against_each_other(tmp_path):
    pieces = [clip_file(tmp_path / f"{i}.mid", compose(name, i)) for i, name in enumerate(COLLECTIONS)]
    for one, other in zip(pieces, [*pieces[1:], pieces[0]], strict=True):
        pair = render_pair(one, other, 8)
        assert abs(loudness(samples_of(pair.first)) - loudness(samples_of(pair.second))) < 0.1
        assert len(pair.first) == len(pair.second) == 44 + 2 * 8 * SAMPLE_RATE


def test_the_longer_is_cut_to_the_shorter_and_fades(tmp_path):
    long, short = (tune(*[(i, 1, 60 + i % 5, 80) for i in range(n)]) for n in (60, 20))
    pair = render_pair(clip_file(tmp_path / "1.mid", long), clip_file(tmp_path / "2.mid", short), 20)
    assert pair.seconds == pytest.approx(10.8, abs=0.01)  # twenty half seconds, and 0.8 of ringing
    first = samples_of(pair.first)
    assert np.abs(first[-200:]).max() < 0.02 and np.abs(first[-SAMPLE_RATE : -SAMPLE_RATE // 2]).max() > 0.02


def test_an_early_end_is_heard_as_silence_not_told_by_length(tmp_path):
    """Both last as far as the prompt and some seconds, even where one stopped with the prompt."""
    long, short = (tune(*[(i, 1, 60 + i % 5, 80) for i in range(n)]) for n in (60, 8))
    made = [clip_file(tmp_path / f"{i}.mid", score, 4.0) for i, score in enumerate((long, short))]
    pair = render_pair(made[0], made[1], 20)
    assert (pair.seconds, pair.prompt_seconds) == (pytest.approx(4 + MIN_AFTER_PROMPT, abs=0.01), 4.0)
    assert len(pair.first) == len(pair.second)
    assert not samples_of(pair.second)[int(5 * SAMPLE_RATE) :].any()


def test_no_more_than_asked_for_but_enough_after_the_prompt(tmp_path):
    long = [clip_file(tmp_path / f"{i}.mid", tune(*[(j, 1, 60 + i, 80) for j in range(60)]), 8.0) for i in range(2)]
    for asked, seconds in ((5, 8 + MIN_AFTER_PROMPT), (16, 16)):
        pair = render_pair(long[0], long[1], asked)
        assert (pair.seconds, pair.prompt_seconds) == (seconds, 8.0)


def test_the_louder_is_turned_down():
    time_ = np.arange(3 * SAMPLE_RATE) / SAMPLE_RATE
    loud, soft = (np.float32(level) * np.sin(2 * np.pi * 440 * time_, dtype=np.float32) for level in (0.5, 0.05))
    one, other = match_pair(loud, soft, 1.0)
    np.testing.assert_allclose(other, soft)
    np.testing.assert_allclose(one, soft, atol=1e-4)


def test_silence_stays_silence(tmp_path):
    empty = clip_file(tmp_path / "1.mid", core.ScoreTick(24))
    pair = render_pair(empty, clip_file(tmp_path / "2.mid", tune(*LOUD_LOW)), 20)
    assert not samples_of(pair.first).any() and np.abs(samples_of(pair.second)).max() > 0.1
    assert pair.seconds == pytest.approx(MIN_AFTER_PROMPT)
    two = render_pair(empty, empty, 20)
    assert len(two.first) == len(two.second) > 44 and not samples_of(two.first).any()


def test_drums_alone_are_played(tmp_path):
    drums = clip_file(tmp_path / "1.mid", tune((0, 1, 36, 100), (1, 1, 42, 100), drums=True))
    assert read_clip(drums).note_num() == 2


def test_a_file_that_cannot_be_played(tmp_path):
    broken = ClipFile(StudyClip("x", "p", "", ""), tmp_path / "broken.mid")
    with pytest.raises(MgenError, match=r"broken\.mid: missing"):
        read_clip(broken)
    broken.path.write_bytes(b"MThd and no more")
    with pytest.raises(MgenError, match=r"broken\.mid: .*leave it out"):
        PairAudioCache([(broken, broken)], 5)(0)


def test_wav_rounds_and_never_wraps():
    np.testing.assert_allclose(
        samples_of(wav(np.array([0, 0.5, -1, 3, -3], np.float32))), [0, 0.5, -1, 1, -1], atol=1e-4
    )


def test_sounds_are_made_once_ahead_and_kept(tmp_path, monkeypatch):
    made = []

    def slow(first, second, seconds):
        made.append((first, second))
        time.sleep(0.05)
        return f"{first} {second} {seconds}"

    monkeypatch.setattr("mgen.listen.pair_audio.render_pair", slow)
    monkeypatch.setattr("mgen.listen.pair_audio._CACHED", 3)
    sounds = PairAudioCache([(i, -i) for i in range(10)], 5)
    sounds.prefetch(1)
    assert sounds(0) == "0 0 5" and sounds(1) == "1 -1 5" and sounds(1) == "1 -1 5"
    assert made == [(1, -1), (0, 0)]
    for i in (2, 3, 0):
        sounds(i)
    assert made[2:] == [(2, -2), (3, -3), (0, 0)]
    sounds.close()
