"""Splits the tracks of a score into chunks at long rests, for music whose parts are learned separately."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from symusic import core

from mgen.notes import select_notes

LONG_REST = 8.0  # quarter notes of silence at which a track is split
MIN_CHUNK_NOTES, MAX_CHUNK_NOTES = 60, 1000  # number of notes of a chunk
MAX_SILENCE = 0.5  # largest share of its time that a chunk may be silent


@dataclass(frozen=True, slots=True)
class Chunk:
    """A section of a track, with the times and bars of its score."""

    track: int  # number of the track in its score
    number: int  # number of the chunk in its track, counting dropped chunks
    score: core.ScoreTick  # one track with the chunk's notes


def split_into_chunks(
    score: core.ScoreTick,
    min_notes: int = MIN_CHUNK_NOTES,
    max_notes: int = MAX_CHUNK_NOTES,
    long_rest: float = LONG_REST,
    max_silence: float = MAX_SILENCE,
    skip: Collection[str] = (),
) -> tuple[list[Chunk], Counter[str]]:
    """Splits all melodic tracks into chunks.

    Args:
        min_notes: chunks with fewer notes are dropped.
        max_notes: chunks are cut after this number of notes, but not inside a chord.
        long_rest: quarter notes of silence at which a track is split.
        max_silence: chunks that are silent for a larger share of their time are dropped.
        skip: of `rests`, `cut` and `silence`, the steps to leave out.

    Returns:
        The chunks in order, and counts: chunks `found`, chunks dropped as `short chunk` and as `mostly rests`, and
        splits by `rests` and by `cut`.
    """
    out: list[Chunk] = []
    counts: Counter[str] = Counter()
    frame = core.ScoreTick(score.ticks_per_quarter)
    frame.tempos, frame.time_signatures = score.tempos, score.time_signatures
    rest = None if "rests" in skip else long_rest * score.ticks_per_quarter
    most = None if "cut" in skip else max_notes
    for number, track in enumerate(score.tracks):
        if track.is_drum or not len(track.notes):
            continue
        columns = track.notes.numpy()
        order = np.lexsort((columns["pitch"], columns["time"]))
        onset = columns["time"][order].astype(np.int64)
        end = onset + columns["duration"][order]
        for place, rows in enumerate(_chunk_slices(onset, end, rest, most, counts)):
            counts["found"] += 1
            if len(onset[rows]) < min_notes:
                counts["short chunk"] += 1
            elif "silence" not in skip and silent_share(onset[rows], end[rows]) > max_silence:
                counts["mostly rests"] += 1
            else:
                part = frame.copy()
                alone = core.TrackTick(track.name, track.program, False)
                alone.notes = select_notes(columns, order[rows])
                part.tracks.append(alone)
                out.append(Chunk(number, place, part))
    return out, +counts


def silent_share(onset: NDArray[np.int64], end: NDArray[np.int64]) -> float:
    """Share of the time from the first onset to the last end without a sounding note; notes sorted by onset."""
    until = np.maximum.accumulate(end)
    whole = int(until[-1] - onset[0])
    return float(np.maximum(onset[1:] - until[:-1], 0).sum() / whole) if whole else 0.0


def _chunk_slices(
    onset: NDArray[np.int64], end: NDArray[np.int64], rest: float | None, most: int | None, counts: Counter[str]
) -> Iterator[slice]:
    """Rows of each chunk of a track whose notes are sorted by onset; `rest` in ticks."""
    edges = [0, len(onset)]
    if rest is not None:
        at = np.flatnonzero(onset[1:] - np.maximum.accumulate(end)[:-1] >= rest) + 1
        counts["rests"] += len(at)
        edges = [0, *at.tolist(), len(onset)]
    for first, last in pairwise(edges):
        while most is not None and last - first > most:
            # Back to the start of the chord; a chord with more than `most` notes is cut.
            begin = int(np.searchsorted(onset, onset[first + most]))
            cut = begin if begin > first else first + most
            counts["cut"] += 1
            yield slice(first, cut)
            first = cut
        yield slice(first, last)
