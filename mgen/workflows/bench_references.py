"""Other libraries that `mgen bench` compares with. Imports nothing heavy, because worker processes import it."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from miditok import REMI

from mgen.corpus.scan import Source
from mgen.encoding.remi import Remi
from mgen.extras import import_extra
from mgen.notes import STEPS_PER_QUARTER, Notes


def miditok_ids(source: Source) -> int:
    """Encodes a file with MidiTok's encoder; returns the number of ids."""
    return len(_miditok()(source.file).ids)


@lru_cache(maxsize=1)  # built once in each worker
def _miditok() -> REMI:
    return Remi.build(("target", "other")).miditok


def parse_tab(source: Source) -> Any:
    """Parses a Guitar Pro file with pyguitarpro; returns the song, or the error of a file that cannot be read."""
    guitarpro = import_extra("guitarpro", "tabs", "mgen bench tabs")
    try:
        return guitarpro.parse(str(source.file))
    except Exception as error:  # many kinds
        return error


def muspy_music(notes: Notes, piece: int) -> Any:
    """Converts a piece to a muspy Music with 24 steps per quarter and a track per program.

    Raises:
        MgenError: muspy is not installed.
    """
    muspy = _muspy()
    one = notes.pieces([piece])
    columns = zip(
        *(column.tolist() for column in (one.program, one.onset, one.pitch, one.duration, one.velocity)), strict=True
    )
    tracks = {
        program: muspy.Track(program=max(program, 0), is_drum=program < 0)
        for program in np.unique(one.program).tolist()
    }
    for program, *note in columns:
        tracks[program].notes.append(muspy.Note(*note))
    return muspy.Music(resolution=STEPS_PER_QUARTER, tracks=list(tracks.values()))


def muspy_metrics() -> list[Callable[[Any], float]]:
    """Returns muspy's metrics that apply to pitched music; bars are assumed to have four quarters."""
    muspy = _muspy()
    names = (
        *("n_pitches_used", "n_pitch_classes_used", "pitch_range", "pitch_entropy", "pitch_class_entropy"),
        *("scale_consistency", "polyphony", "polyphony_rate", "empty_beat_rate"),
    )
    return [getattr(muspy, name) for name in names] + [lambda music: muspy.groove_consistency(music, 96)]


def _muspy() -> Any:
    return import_extra("muspy", "dev", "mgen bench metrics")
