"""Audio of a pair of clips with equal length, loudness and format, so that only the music differs."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from symusic import core

from mgen.errors import MgenError, RejectedFile
from mgen.formats.files import read_bytes, read_music
from mgen.listen.clips import ClipFile
from mgen.render.audio import SAMPLE_RATE, loudness, synthesise, wav

Samples = NDArray[np.float32]

MIN_AFTER_PROMPT = 6.0  # seconds played of both, even if one has ended: the rest of it is silence
_FADE = 0.3  # seconds
_CACHED = 24  # pairs in memory; a pair of 20 s takes 1.8 MB


@dataclass(frozen=True, slots=True)
class PairAudio:
    """Audio of both clips of a pair."""

    first: bytes  # WAV, 16 bits, mono
    second: bytes  # likewise, of equal size
    seconds: float  # length of either
    prompt_seconds: float  # length of the beginning that both share


class PairAudioCache:
    """Renders the pairs of a study on demand, and caches the latest.

    Args:
        pairs: the two clip files of each pair.
        seconds: longest playing time.
    """

    def __init__(self, pairs: Sequence[tuple[ClipFile, ClipFile]], seconds: float) -> None:
        self._pairs = pairs
        self._seconds = seconds
        self._made: OrderedDict[int, Future[PairAudio]] = OrderedDict()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="audio")

    def __call__(self, pair: int) -> PairAudio:
        """Returns the audio of a pair; waits until it is rendered.

        Raises:
            MgenError: A file cannot be read.
        """
        return self._future(pair).result()

    def prefetch(self, pair: int) -> None:
        """Starts to render a pair in the background."""
        self._future(pair)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _future(self, pair: int) -> Future[PairAudio]:
        with self._lock:
            future = self._made.get(pair)
            if future is None or (future.done() and future.exception() is not None):
                future = self._pool.submit(render_pair, *self._pairs[pair], self._seconds)
                self._made[pair] = future
            self._made.move_to_end(pair)
            while len(self._made) > _CACHED:
                self._made.popitem(last=False)
            return future


def render_pair(first: ClipFile, second: ClipFile, seconds: float) -> PairAudio:
    """Synthesises two clips with equal length and loudness.

    Args:
        seconds: longest playing time, though at least `MIN_AFTER_PROMPT` after the prompt.

    Raises:
        MgenError: A file cannot be read.
    """
    shared = min(first.prompt_seconds, second.prompt_seconds)
    longest = max(seconds, shared + MIN_AFTER_PROMPT)
    sounds = [synthesise(read_clip(one), sample_rate=SAMPLE_RATE, max_seconds=longest) for one in (first, second)]
    one, two = match_pair(sounds[0], sounds[1], shared + MIN_AFTER_PROMPT)
    length = len(one) / SAMPLE_RATE
    return PairAudio(wav(one), wav(two), length, min(shared, length))


def match_pair(first: Samples, second: Samples, min_seconds: float) -> tuple[Samples, Samples]:
    """Gives two sounds equal length and loudness.

    Both are cut to the shorter one, with a fade, but not below `min_seconds`, up to which the shorter one is padded
    with silence. The louder one is attenuated to the loudness of the other; silence stays silence.
    """
    size = max(min(len(first), len(second)), min(int(min_seconds * SAMPLE_RATE), max(len(first), len(second))))
    cut = [_with_length(sound, size) for sound in (first, second)]
    levels = [loudness(sound) for sound in cut]
    if all(math.isfinite(level) for level in levels):
        cut = [sound * 10 ** ((min(levels) - level) / 20) for sound, level in zip(cut, levels, strict=True)]
    return cut[0].astype(np.float32), cut[1].astype(np.float32)


def _with_length(sound: Samples, size: int) -> Samples:
    if len(sound) <= size:
        return np.pad(sound, (0, size - len(sound)))
    fade = min(int(_FADE * SAMPLE_RATE), size)
    out = sound[:size].copy()
    out[size - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
    return out


def read_clip(clip_file: ClipFile) -> core.ScoreTick:
    """Reads the music of a clip; a clip without notes, or with drums alone, is valid: a model may generate one.

    Raises:
        MgenError: The file cannot be read.
    """
    try:
        return read_music(clip_file.path).score
    except RejectedFile as error:
        if error.reason in {"no notes", "only drums"}:
            with suppress(RuntimeError):  # a tab of drums alone
                return core.ScoreTick.from_midi(read_bytes(clip_file.path))
        raise MgenError(f"{clip_file.path}: {error}; repair it or leave it out") from error
