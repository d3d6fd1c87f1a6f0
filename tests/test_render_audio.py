from __future__ import annotations

import base64
import io
import math
import sys

import numpy as np
import pretty_midi
import pytest
import soundfile
from symusic import core

from mgen.errors import MgenError
from mgen.render import audio


def score_of(*notes, program=0, drums=False):
    """Notes of (onset and duration in quarters, pitch, velocity) at 120 quarters a minute: half a second each."""
    score = core.ScoreTick(24)
    score.tempos.append(core.TempoTick(0, qpm=120))
    track = core.TrackTick("", program, drums)
    for onset, duration, pitch, velocity in notes:
        track.notes.append(core.NoteTick(int(24 * onset), int(24 * duration), pitch, velocity))
    score.tracks.append(track)
    return score


def loudest_frequency(sound, sample_rate):
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound))))
    return np.fft.rfftfreq(len(sound), 1 / sample_rate)[spectrum.argmax()]


@pytest.fixture
def without_fluidsynth(monkeypatch):
    monkeypatch.setitem(sys.modules, "fluidsynth", None)


def test_the_synthesiser_is_named_by_what_can_be_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, "fluidsynth", None)
    assert audio.synthesiser() == "pretty_midi"
    monkeypatch.setitem(sys.modules, "fluidsynth", io)  # anything that imports
    assert audio.synthesiser() == "FluidSynth"


def test_fluidsynth_plays_where_it_is_installed(monkeypatch):
    asked = []

    def fluidsynth(self, fs):
        asked.append(fs)
        return np.sin(np.arange(4 * fs) * 0.1)

    monkeypatch.setattr(audio, "synthesiser", lambda: "FluidSynth")
    monkeypatch.setattr(pretty_midi.PrettyMIDI, "fluidsynth", fluidsynth)
    sound = audio.synthesise(score_of((0, 2, 69, 80)), 8000)
    assert asked == [8000]
    assert len(sound) == int(1.8 * 8000)  # a second of music, 0.8 of ringing
    assert sound[-1] == 0 and np.abs(sound[-20:]).max() < 0.01  # 1/120 of the fade


@pytest.mark.skipif(audio.synthesiser() != "FluidSynth", reason="pyfluidsynth or its library is not installed")
def test_fluidsynth_itself_plays_in_tune_and_at_the_level_of_every_clip():
    sound = audio.synthesise(score_of((0, 4, 69, 90)))
    assert loudest_frequency(sound, audio.SAMPLE_RATE) == pytest.approx(440, rel=0.01)
    assert audio.loudness(sound) == pytest.approx(audio.TARGET_LUFS, abs=0.1) and sound[-1] == 0


@pytest.mark.parametrize(("pitch", "hertz"), [(57, 220.0), (69, 440.0), (81, 880.0)])
def test_a_note_sounds_at_its_pitch(without_fluidsynth, pitch, hertz):
    sound = audio.synthesise(score_of((0, 4, pitch, 90)))
    assert loudest_frequency(sound, audio.SAMPLE_RATE) == pytest.approx(hertz, rel=0.01)


def test_the_highest_note_does_not_alias(without_fluidsynth):
    # C8, 4186 Hz: its third harmonic, 12558 Hz, would fold to 9492 Hz at this sample rate.
    sound = audio.synthesise(score_of((0, 2, 108, 90)))
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound))))
    frequency = np.fft.rfftfreq(len(sound), 1 / audio.SAMPLE_RATE)
    folded = spectrum[(frequency > 9300) & (frequency < 9700)].max()
    assert folded < 0.01 * spectrum.max()


def test_a_note_sounds_when_it_is_written(without_fluidsynth):
    sound = audio.synthesise(score_of((2, 2, 60, 90)))  # from 1 s to 2 s
    assert not sound[: int(0.99 * audio.SAMPLE_RATE)].any()
    assert np.abs(sound[audio.SAMPLE_RATE : int(1.2 * audio.SAMPLE_RATE)]).max() > 0.05


def test_loudness_does_not_depend_on_velocity_and_never_clips(without_fluidsynth):
    tune = [(i, 1, 60 + 2 * i, 1) for i in range(8)]
    soft = audio.synthesise(score_of(*tune))
    loud = audio.synthesise(score_of(*[(*note[:3], 127) for note in tune]))
    np.testing.assert_allclose(soft, loud, atol=1e-5)
    cluster = audio.synthesise(score_of(*[(0, 8, pitch, 127) for pitch in range(40, 100)]))
    assert 0.1 < np.abs(cluster).max() <= 0.9


# ---------------------------------------------------------------- loudness


def test_the_weighting_at_48_khz_is_the_one_that_the_standard_prints():
    # ITU-R BS.1770-4, annex 1, tables 1 and 2: b0, b1, b2, a0, a1, a2
    shelf = [1.53512485958697, -2.69169618940638, 1.19839281085285, 1, -1.69065929318241, 0.73248077421585]
    high_pass = [1, -2, 1, 1, -1.99004745483398, 0.99007225036621]
    found = [[*stage.b, *stage.a] for stage in audio._meter(48000)._filters.values()]
    np.testing.assert_allclose(found, [shelf, high_pass], rtol=0, atol=1e-10)


@pytest.mark.parametrize(("sample_rate", "within"), [(22050, 0.06), (44100, 0.03), (48000, 0.03)])
def test_a_full_scale_sine_of_997_hz(sample_rate, within):
    sine = np.sin(2 * np.pi * 997 * np.arange(5 * sample_rate) / sample_rate)
    assert audio.loudness(sine, sample_rate) == pytest.approx(-3.01, abs=within)  # stated by the standard
    both = np.stack([sine, sine], axis=1)
    assert audio.loudness(both, sample_rate) == pytest.approx(0.0, abs=within)


@pytest.mark.parametrize(
    "parts",
    [
        [(20, -23.0)],
        [(10, -36.0), (60, -23.0), (10, -36.0)],
        [(10, -72.0), (10, -36.0), (60, -23.0), (10, -36.0), (10, -72.0)],
        [(20, -26.0), (20.1, -20.0), (20, -26.0)],
    ],
)
def test_the_signals_of_ebu_tech_3341(parts):
    # cases 1, 3, 4 and 5: a stereo sine of 1 kHz at levels of its peak in dBFS; all are -23.0 LUFS within 0.1
    level = np.concatenate([np.full(int(seconds * 48000), 10 ** (dbfs / 20)) for seconds, dbfs in parts])
    sine = level * np.sin(2 * np.pi * 1000 * np.arange(len(level)) / 48000)
    assert audio.loudness(np.stack([sine, sine], axis=1), 48000) == pytest.approx(-23.0, abs=0.1)


def test_silence_has_no_loudness_and_a_short_sound_has():
    assert audio.loudness(np.zeros(22050)) == -math.inf
    short = np.sin(2 * np.pi * 997 * np.arange(2205) / 22050)
    assert audio.loudness(short) == pytest.approx(-3.0, abs=0.3)


@pytest.mark.parametrize("bad", [np.zeros((10, 3)), np.zeros(0), np.array([0.0, np.nan])])
def test_loudness_refuses_what_is_not_one_or_two_channels_of_numbers(bad):
    with pytest.raises(MgenError, match="expected"):
        audio.loudness(bad)


ODD = {
    "one note": score_of((0, 1, 60, 90)),
    "the lowest key, as short as can be": score_of((0, 1 / 24, 21, 90)),
    "the highest key": score_of((0, 0.1, 108, 90)),
    "a cluster": score_of(*[(0, 8, pitch, 127) for pitch in range(40, 100)]),
    "a hi-hat": score_of((0, 1, 42, 100), drums=True),
    "a kick": score_of((0, 1, 36, 100), drums=True),
    "two clicks far apart": score_of((0, 0.1, 60, 90), (30, 0.1, 90, 90)),
    "from soft to loud": score_of((0, 1, 60, 1), (20, 1, 60, 127)),
}


@pytest.mark.slow
def test_any_two_takes_are_within_half_a_unit_also_after_coding(without_fluidsynth, demo_pieces):
    found = []
    for score in [*ODD.values(), *demo_pieces]:
        sound = audio.synthesise(score)
        assert np.abs(sound).max() <= 0.84
        decoded, _ = soundfile.read(io.BytesIO(audio.ogg(sound)))
        found += [audio.loudness(sound), audio.loudness(decoded)]
    assert max(found) - min(found) < 0.5
    assert np.mean(found) == pytest.approx(audio.TARGET_LUFS, abs=0.1)


def test_levelling_leaves_the_shape_of_music_alone(without_fluidsynth, monkeypatch, demo_pieces):
    levelled = audio.synthesise(demo_pieces[0])
    monkeypatch.setattr(audio, "_level", lambda sound, sample_rate: sound)
    plain = audio.synthesise(demo_pieces[0])
    np.testing.assert_allclose(levelled / np.abs(levelled).max(), plain / np.abs(plain).max(), atol=1e-6)


def test_the_end_fades_to_silence_even_where_the_clip_is_cut(without_fluidsynth):
    sound = audio.synthesise(score_of((0, 100, 60, 90)), max_seconds=3)
    assert len(sound) == 3 * audio.SAMPLE_RATE
    assert sound[-1] == 0 and np.abs(sound[-100:]).max() < 0.02


def test_notes_after_the_cut_are_left_out(without_fluidsynth):
    short = audio.synthesise(score_of((0, 1, 60, 90), (30, 1, 90, 90)), max_seconds=10)
    alone = audio.synthesise(score_of((0, 1, 60, 90)), max_seconds=10)
    np.testing.assert_array_equal(short, alone)


def test_drums_are_heard_and_a_kick_is_lower_than_a_hi_hat(without_fluidsynth):
    kick, hat = (audio.synthesise(score_of((0, 1, pitch, 100), drums=True)) for pitch in (36, 42))
    assert loudest_frequency(kick, audio.SAMPLE_RATE) < 80
    assert np.abs(np.fft.rfft(hat))[: len(hat) // 20].sum() < 0.2 * np.abs(np.fft.rfft(hat)).sum()


def test_a_score_without_notes_is_short_silence(without_fluidsynth):
    sound = audio.synthesise(score_of())
    assert 0 < len(sound) < audio.SAMPLE_RATE and not sound.any()


def test_ogg_is_vorbis_of_the_same_length_and_sound(without_fluidsynth):
    sound = audio.synthesise(score_of(*[(i, 1, 60 + i, 90) for i in range(12)]))
    back, rate = soundfile.read(io.BytesIO(audio.ogg(sound)))
    assert rate == audio.SAMPLE_RATE and back.shape == sound.shape
    assert np.corrcoef(back, sound)[0, 1] > 0.98
    assert soundfile.info(io.BytesIO(audio.ogg(sound))).subtype == "VORBIS"


@pytest.mark.parametrize("bad", [np.zeros((10, 2)), np.zeros(0), np.array([0.0, np.nan])])
def test_ogg_refuses_what_is_not_one_channel_of_numbers(bad):
    with pytest.raises(MgenError, match="expected"):
        audio.ogg(bad)


def test_data_uri_gives_the_bytes_back():
    kind, _, text = audio.data_uri(b"OggS\x00\xff").partition(",")
    assert kind == "data:audio/ogg;base64"
    assert base64.b64decode(text, validate=True) == b"OggS\x00\xff"
