"""Scores to sound: one short mono clip per piece, all equally loud.

Where pyfluidsynth and its library are installed, FluidSynth plays with the sound font inside `pretty_midi`;
otherwise `pretty_midi` synthesises our plucked tone.
"""

from __future__ import annotations

import base64
import io
import math
import wave
from typing import cast

import numpy as np
import pretty_midi
import pyloudnorm
import soundfile
from numpy.typing import ArrayLike, NDArray
from symusic import core

from mgen.errors import MgenError

SAMPLE_RATE = 22050
MAX_SECONDS = 20.0
TARGET_LUFS = -23.0  # of every clip, as in EBU R 128

_TAIL = 0.8  # seconds of ringing kept after the last note
_FADE = 0.3  # seconds
_PEAK = 0.84  # 1.5 dB below full scale: Vorbis overshoots a little
_KNEE = 0.7  # above it, peaks are limited
_ROUNDS, _NEAR = 60, 0.02  # of levelling, and LU from the target at which it ends
_BLOCK = 0.4  # seconds over which loudness is measured
_PARTIALS = (1.0, 0.5, 0.28, 0.16, 0.09, 0.05)  # amplitudes of the harmonics of the plucked tone
_DAMPING = 2.5e-4  # of amplitude per radian: 440 Hz falls to 1/e in 1.4 s, its k-th harmonic k times faster
_DRUM_GAIN = 60.0  # MIDI velocities, as pretty_midi scales its tones
_KICKS, _HATS = (35, 36), (42, 44, 46)


def synthesiser() -> str:
    """Name of the synthesiser that `synthesise` uses: `FluidSynth` or `pretty_midi`."""
    try:
        import fluidsynth  # noqa: F401
    except (ImportError, OSError, AttributeError):  # the package, its library, or a library too old for it
        return "pretty_midi"
    return "FluidSynth"


def synthesise(
    score: core.ScoreTick, sample_rate: int = SAMPLE_RATE, max_seconds: float = MAX_SECONDS
) -> NDArray[np.float32]:
    """Renders the first `max_seconds` of a score.

    Returns:
        (S,) mono samples within -1..1, faded out at the end, of a `loudness` within 0.1 LU of `TARGET_LUFS`
        whatever the score; a quarter of a second of silence for a score without notes.
    """
    midi = _pretty(score, max_seconds)
    if not midi.instruments:
        return np.zeros(sample_rate // 4, np.float32)
    if synthesiser() == "FluidSynth":
        sound = midi.fluidsynth(fs=sample_rate)
    else:
        tones = midi.synthesize(fs=sample_rate, wave=_plucked, normalize=False) * len(midi.instruments) * 2**15
        drums = _drums(midi, sample_rate)
        sound = np.zeros(max(len(tones), len(drums)))
        sound[: len(tones)] += tones
        sound[: len(drums)] += drums
    end = min(midi.get_end_time() + _TAIL, max_seconds)
    sound = sound[: int(end * sample_rate)]
    return _level(_fade(sound, sample_rate), sample_rate).astype(np.float32)


def loudness(samples: ArrayLike, sample_rate: int = SAMPLE_RATE) -> float:
    """Measures the gated loudness in LUFS (pyloudnorm).

    A full-scale sine of 997 Hz in one channel is -3.01 LUFS. A sound shorter than 0.4 s is one block. Loudness is
    weighted power, not annoyance: a shrill and a mellow tone of one loudness may differ in that.

    Args:
        samples: (S,), or (S, 2) whose channels' powers add up; full scale is 1.
        sample_rate: in Hz; at 22,050 the result is 0.05 LU above that at 48,000.

    Returns:
        LUFS; minus infinity where every block of 0.4 s is below -70 LUFS.

    Raises:
        MgenError: The samples are not one or two channels of finite numbers.

    Source: ITU-R BS.1770-4, annex 1; filters of De Man, which are those of the standard.
    """
    sound = np.asarray(samples, np.float64)
    if sound.ndim not in (1, 2) or not 1 <= sound[:1].size <= 2 or not np.isfinite(sound).all():
        raise MgenError(f"loudness: expected (S,) or (S, 2) finite samples, got shape {sound.shape}; mix down first")
    size, hop = round(_BLOCK * sample_rate), round(_BLOCK * sample_rate / 4)
    if len(sound) < size:
        block = (len(sound) - 0.5) / sample_rate  # half a sample less, as pyloudnorm compares seconds
    else:
        block, sound = _BLOCK, sound[: len(sound) - (len(sound) - size) % hop]  # or the last block is cut short
    return float(_meter(sample_rate, block).integrated_loudness(sound))


def _meter(sample_rate: int, block: float = _BLOCK) -> pyloudnorm.Meter:
    return pyloudnorm.Meter(sample_rate, filter_class="DeMan", block_size=block)


def ogg(samples: ArrayLike) -> bytes:
    """Encodes mono samples (S,) within -1..1 as OGG/Vorbis.

    Raises:
        MgenError: The samples are not one channel of finite numbers.
    """
    sound = np.asarray(samples, np.float32)
    if sound.ndim != 1 or not len(sound) or not np.isfinite(sound).all():
        problem = f"ogg: expected (S,) finite samples, got shape {sound.shape}"
        raise MgenError(f"{problem}; mix down and check the synthesiser")
    out = io.BytesIO()
    with soundfile.SoundFile(out, "w", SAMPLE_RATE, 1, format="OGG", subtype="VORBIS") as file:
        for block in np.split(sound, range(SAMPLE_RATE, len(sound), SAMPLE_RATE)):
            file.write(block)  # libsndfile overflows its stack on long blocks of Vorbis
    return out.getvalue()


def wav(samples: ArrayLike) -> bytes:
    """Encodes mono samples (S,) within -1..1 as a WAV file of 16 bits."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((np.clip(np.asarray(samples), -1, 1) * 32767).round().astype("<i2").tobytes())
    return out.getvalue()


def data_uri(ogg_bytes: bytes) -> str:
    """OGG bytes as a `data:` address, for a page without other files."""
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
    """Drums, which pretty_midi's synthesis leaves out: a thump for kicks, noise for the rest, short for hi-hats."""
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


def _level(sound: NDArray[np.float64], sample_rate: int) -> NDArray[np.float64]:
    """Scales to `TARGET_LUFS` and limits peaks to `_PEAK`.

    Music keeps its shape: its peaks are 12 to 16 dB above its loudness. Single clicks are limited, which lowers
    loudness, so gain and limit alternate until both hold.
    """
    if not sound.any():
        return sound
    sound = sound / np.abs(sound).max()
    out: NDArray[np.float64] = sound
    gain = 0.0
    for _ in range(_ROUNDS):
        off = TARGET_LUFS - loudness(out, sample_rate)
        if abs(off) < _NEAR or not math.isfinite(off):
            break
        gain += off
        out = _limit(sound * 10 ** (gain / 20))
    return out


def _limit(sound: NDArray[np.float64]) -> NDArray[np.float64]:
    """Leaves samples up to `_KNEE` as they are and compresses larger ones smoothly towards `_PEAK`."""
    size, room = np.abs(sound), _PEAK - _KNEE
    limited = np.sign(sound) * (_KNEE + room * np.tanh((size - _KNEE) / room))
    return np.where(size > _KNEE, limited, sound)


def _fade(sound: NDArray[np.float64], sample_rate: int) -> NDArray[np.float64]:
    size = min(int(_FADE * sample_rate), len(sound))
    return np.concatenate([sound[: len(sound) - size], sound[len(sound) - size :] * np.linspace(1, 0, size)])
