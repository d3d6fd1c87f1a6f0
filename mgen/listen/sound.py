"""Two takes as two sounds that differ in nothing but the music: one length, one loudness, one format."""

from __future__ import annotations

import io
import math
import threading
import wave
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from symusic import core

from mgen.errors import MgenError, RejectedFile
from mgen.files import read_bytes
from mgen.listen.takes import Recording
from mgen.midi import parse_midi
from mgen.render.audio import SAMPLE_RATE, loudness, synthesise

Samples = NDArray[np.float32]

LEAST_AFTER_PROMPT = 6.0  # seconds that are kept of both, even where one has ended: an early end is heard as silence
_FADE = 0.3  # seconds
_KEPT = 24  # pairs in memory; a pair of 20 s takes 1.8 MB


@dataclass(frozen=True, slots=True)
class PairSound:
    """The two takes of a pair.

    Attributes:
        first, second: WAV files of one size: 16 bits, mono.
        seconds: of either.
        prompt_seconds: how long both are the same music.
    """

    first: bytes
    second: bytes
    seconds: float
    prompt_seconds: float


class Sounds:
    """The pairs of a study as sounds, made when they are asked for and kept while there is room.

    Args:
        pairs: the two recordings of each pair.
        seconds: most that is played.
    """

    def __init__(self, pairs: Sequence[tuple[Recording, Recording]], seconds: float) -> None:
        self._pairs = pairs
        self._seconds = seconds
        self._made: OrderedDict[int, Future[PairSound]] = OrderedDict()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="sound")

    def __call__(self, pair: int) -> PairSound:
        """The sounds of a pair; waits until they are made.

        Raises:
            MgenError: A file cannot be read.
        """
        return self._future(pair).result()

    def ahead(self, pair: int) -> None:
        """Begin to make a pair that will be asked for."""
        self._future(pair)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _future(self, pair: int) -> Future[PairSound]:
        with self._lock:
            future = self._made.get(pair)
            if future is None or (future.done() and future.exception() is not None):
                future = self._pool.submit(pair_sound, *self._pairs[pair], self._seconds)
                self._made[pair] = future
            self._made.move_to_end(pair)
            while len(self._made) > _KEPT:
                self._made.popitem(last=False)
            return future


def pair_sound(
    first: Recording,
    second: Recording,
    seconds: float,
    play: Callable[..., NDArray[np.float32]] = synthesise,
) -> PairSound:
    """Play two recordings, alike in length and loudness.

    Args:
        seconds: most that is played, though never less than `LEAST_AFTER_PROMPT` after the prompt.

    Raises:
        MgenError: A file cannot be read.
    """
    shared = min(first.prompt_seconds, second.prompt_seconds)
    most = max(seconds, shared + LEAST_AFTER_PROMPT)
    sounds = [play(score_of(one), sample_rate=SAMPLE_RATE, max_seconds=most) for one in (first, second)]
    one, two = alike(sounds[0], sounds[1], shared + LEAST_AFTER_PROMPT)
    length = len(one) / SAMPLE_RATE
    return PairSound(wav(one), wav(two), length, min(shared, length))


def alike(first: Samples, second: Samples, least: float, sample_rate: int = SAMPLE_RATE) -> tuple[Samples, Samples]:
    """Two sounds of one length and one loudness.

    Both are cut to the shorter, though not below `least` seconds, up to which the shorter gets silence. What was cut is
    faded out, and the louder is turned down to the quieter; silence stays silence.
    """
    size = max(min(len(first), len(second)), min(int(least * sample_rate), max(len(first), len(second))))
    cut = [_fitted(sound, size, sample_rate) for sound in (first, second)]
    levels = [loudness(sound, sample_rate) for sound in cut]
    if all(math.isfinite(level) for level in levels):
        cut = [sound * 10 ** ((min(levels) - level) / 20) for sound, level in zip(cut, levels, strict=True)]
    return cut[0].astype(np.float32), cut[1].astype(np.float32)


def wav(samples: Samples, sample_rate: int = SAMPLE_RATE) -> bytes:
    """Mono samples (S,) within -1..1 as a WAV file of 16 bits."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes((np.clip(samples, -1, 1) * 32767).round().astype("<i2").tobytes())
    return out.getvalue()


def _fitted(sound: Samples, size: int, sample_rate: int) -> Samples:
    if len(sound) <= size:
        return np.pad(sound, (0, size - len(sound)))
    fade = min(int(_FADE * sample_rate), size)
    out = sound[:size].copy()
    out[size - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
    return out


def score_of(recording: Recording) -> core.ScoreTick:
    """The music of a recording; a model may have written no note, or drums alone, and then that is what is heard.

    Raises:
        MgenError: The file cannot be read.
    """
    try:
        data = read_bytes(recording.file)
        try:
            return parse_midi(data)
        except RejectedFile as error:
            if error.reason not in {"no notes", "only drums"}:
                raise
            return core.ScoreTick.from_midi(data)
    except RejectedFile as error:
        raise MgenError(f"{recording.file}: {error}; mend it or leave it out") from error
