"""Scores to sound: one clip a piece, short, mono, as loud as the next.

Where pyfluidsynth and its library are installed, FluidSynth plays with the sound font inside `pretty_midi`;
otherwise `pretty_midi` synthesises a plucked tone of ours. Nothing here knows models or reports.
"""

from __future__ import annotations

import base64
import io
import math
from typing import cast

import numpy as np
import pretty_midi
import soundfile
from numpy.typing import ArrayLike, NDArray
from symusic import core

from mgen.errors import MgenError

SAMPLE_RATE = 22050
MAX_SECONDS = 20.0

_TAIL = 0.8  # seconds of ringing kept after the last note
_FADE = 0.3  # seconds
_LOUDNESS = 0.12  # root mean square of the sounding part, about -18 dB of full scale
_PEAK = 0.89  # 1 dB below full scale: Vorbis overshoots a little
_PARTIALS = (1.0, 0.5, 0.28, 0.16, 0.09, 0.05)  # amplitudes of the harmonics of the plucked tone
_DAMPING = 2.5e-4  # of amplitude per radian: 440 Hz falls to 1/e in 1.4 s, its k-th harmonic k times faster
_DRUM_GAIN = 60.0  # MIDI velocities, as pretty_midi scales its tones
_KICKS, _HATS = (35, 36), (42, 44, 46)


def synthesiser() -> str:
    """What `synthesise` will play with: `FluidSynth` or `pretty_midi`."""
    try:
        import fluidsynth  # noqa: F401
    except (ImportError, OSError, AttributeError):  # the package, its library, or a library too old for it
        return "pretty_midi"
    return "FluidSynth"


def synthesise(
    score: core.ScoreTick, sample_rate: int = SAMPLE_RATE, max_seconds: float = MAX_SECONDS
) -> NDArray[np.float32]:
    """Play the first `max_seconds` of a score.

    Returns:
        (S,) mono samples within -1..1, equally loud for every score and faded out at the end; a quarter of a
        second of silence for a score without notes.
    """
    midi = _pretty(score, max_seconds)
    if not midi.instruments:
        return np.zeros(sample_rate // 4, np.float32)
    if synthesiser() == "FluidSynth":
        sound = midi.fluidsynth(fs=sample_rate)
    else:
        tones = midi.synthesize(fs=sample_rate, wave=_plucked, normalize=False) * len(midi.instruments) * 2**15
        sound = _mix(tones, _drums(midi, sample_rate))
    end = min(midi.get_end_time() + _TAIL, max_seconds)
    sound = sound[: int(end * sample_rate)]
    return _fade(_level(sound, sample_rate), sample_rate).astype(np.float32)


def ogg(samples: ArrayLike, sample_rate: int = SAMPLE_RATE) -> bytes:
    """Mono samples (S,) within -1..1 as OGG/Vorbis.

    Raises:
        MgenError: The samples are not one channel of finite numbers.
    """
    sound = np.asarray(samples, np.float32)
    if sound.ndim != 1 or not len(sound) or not np.isfinite(sound).all():
        raise MgenError(
            f"ogg: expected (S,) finite samples, got shape {sound.shape}; mix down and check the synthesiser"
        )
    out = io.BytesIO()
    with soundfile.SoundFile(out, "w", sample_rate, 1, format="OGG", subtype="VORBIS") as file:
        for block in np.split(sound, range(sample_rate, len(sound), sample_rate)):
            file.write(block)  # libsndfile overflows its stack on long blocks of Vorbis
    return out.getvalue()


def data_uri(ogg_bytes: bytes) -> str:
    """OGG bytes as a `data:` address, for a page that stands alone."""
    return f"data:audio/ogg;base64,{base64.b64encode(ogg_bytes).decode('ascii')}"


def _pretty(score: core.ScoreTick, max_seconds: float) -> pretty_midi.PrettyMIDI:
    midi = pretty_midi.PrettyMIDI()
    for track in cast(core.ScoreSecond, score.to("second")).tracks:
        notes = [
            pretty_midi.Note(note.velocity, note.pitch, note.time, min(note.time + note.duration, max_seconds))
            for note in track.notes
            if note.time < max_seconds
        ]
        if notes:
            instrument = pretty_midi.Instrument(track.program, track.is_drum)
            instrument.notes = notes
            midi.instruments.append(instrument)
    return midi


def _plucked(phase: NDArray[np.float64]) -> NDArray[np.float64]:
    """A string-like tone over the phase (S,) in radians: the higher a harmonic, the shorter; none aliases."""
    step = float(phase[1]) if len(phase) > 1 else np.pi
    decay = np.exp(-_DAMPING * phase)
    tone = np.zeros_like(phase)
    for k, amplitude in enumerate(_PARTIALS, 1):
        if k * step < np.pi:
            tone += amplitude * decay**k * np.sin(k * phase)
    return tone


def _drums(midi: pretty_midi.PrettyMIDI, sample_rate: int) -> NDArray[np.float64]:
    """What pretty_midi's synthesis leaves out: a thump for kicks, noise for the rest, short for hi-hats."""
    out = np.zeros(int((midi.get_end_time() + 1) * sample_rate))
    time = np.arange(sample_rate // 2) / sample_rate
    noise = np.random.default_rng(0).uniform(-1, 1, len(time))
    hits = {
        "kick": 2 * np.sin(2 * np.pi * 55 * time) * np.exp(-time / 0.09),
        "hat": 0.5 * noise * np.exp(-time / 0.02),
        "other": noise * np.exp(-time / 0.07),
    }
    for note in (note for instrument in midi.instruments if instrument.is_drum for note in instrument.notes):
        name = "kick" if note.pitch in _KICKS else "hat" if note.pitch in _HATS else "other"
        start = int(note.start * sample_rate)
        room = out[start : start + len(time)]
        room += _DRUM_GAIN / 100 * note.velocity * hits[name][: len(room)]
    return out


def _mix(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    out = np.zeros(max(len(first), len(second)))
    out[: len(first)] += first
    out[: len(second)] += second
    return out


def _level(sound: NDArray[np.float64], sample_rate: int) -> NDArray[np.float64]:
    """Scaled to one loudness: the mean power of 0.4 s blocks, those 10 dB below the mean left out.

    Gated as in ITU-R BS.1770, without its frequency weighting. The peak has the last word.
    """
    peak = np.abs(sound).max(initial=0)
    if not peak:
        return sound
    size = min(int(0.4 * sample_rate), len(sound))
    power = np.square(sound[: len(sound) // size * size].reshape(-1, size)).mean(axis=1)
    sounding = float(power[power >= power.mean() / 10].mean())
    return sound * min(_LOUDNESS / math.sqrt(sounding), _PEAK / float(peak))


def _fade(sound: NDArray[np.float64], sample_rate: int) -> NDArray[np.float64]:
    size = min(int(_FADE * sample_rate), len(sound))
    return np.concatenate([sound[: len(sound) - size], sound[len(sound) - size :] * np.linspace(1, 0, size)])
