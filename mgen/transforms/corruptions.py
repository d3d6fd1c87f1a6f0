"""Music broken on purpose: what every metric, reward and critic has to tell from real music.

Each takes the pieces and a generator and returns as many broken pieces, as if read from files (no tokens).
Drums keep their pitches.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from mgen.arrays import median_of
from mgen.notes import STEPS_PER_QUARTER, Bars, Notes, sort_order

Corruption = Callable[[Notes, Generator], Notes]

_COLUMNS = ("piece", "onset", "duration", "bar", "pitch", "velocity", "program", "token", "broken")
_FAR = 1 << 40


def _bar_of(notes: Notes) -> NDArray[np.int64]:
    """(N,) row in `notes.bars` of each note."""
    return notes.bar_starts[notes.piece] + notes.bar


def _rearranged(notes: Notes, source: NDArray[np.int64]) -> Notes:
    """Bar m (a row of `notes.bars`) replaced, notes and length, by the bar `source[m]` (M,).

    A note that ended before the next bar's first note does so again: overlaps that a soloist cannot play would
    tell the broken piece from a real one by that alone.
    """
    first = np.searchsorted(_bar_of(notes), np.arange(len(source) + 1))
    size = np.diff(first)[source]
    place = np.concatenate([[0], np.cumsum(size)])
    bar = np.repeat(np.arange(len(source)), size)
    row = np.arange(len(bar)) - place[bar] + first[source][bar]
    beats = notes.bars.beats[source]
    steps = np.concatenate([[0], np.cumsum(beats, dtype=np.int64)]) * STEPS_PER_QUARTER
    bar_onset = steps[:-1] - steps[notes.bar_starts[notes.bars.piece]]
    piece = notes.bars.piece[bar]
    onset = (bar_onset[bar] + notes.position[row]).astype(np.int32)
    room = _next_onset(notes.bars.piece[source], first[source + 1], notes.piece, notes.onset)[bar]
    free = notes.onset[row] + notes.duration[row] <= room
    room = np.where(free, _next_onset(notes.bars.piece, place[1:], piece, onset)[bar] - onset, _FAR)
    return _untold(
        replace(
            _taken(notes, row),
            piece=piece,
            onset=onset,
            duration=np.clip(notes.duration[row], 1, np.maximum(room, 1)).astype(np.int32),
            bar=(bar - notes.bar_starts[piece]).astype(np.int32),
            bars=Bars(notes.bars.piece, bar_onset.astype(np.int32), beats),
        )
    )


def _next_onset(
    bar_piece: NDArray[np.int32], end: NDArray[np.int64], piece: NDArray[np.int32], onset: NDArray[np.int32]
) -> NDArray[np.int64]:
    """(M,) onset of the first note after each bar, whose notes stop at row `end`; far away where the piece is over."""
    piece, onset = np.append(piece, -1), np.append(onset, 0)
    return np.where(piece[end] == bar_piece, onset[end], _FAR)


def _taken(notes: Notes, row: NDArray[np.integer]) -> Notes:
    """Rows of the table, in any order, any of them more than once."""
    return replace(notes, **{name: getattr(notes, name)[row] for name in _COLUMNS})


def _untold(notes: Notes) -> Notes:
    """Sorted, and with no memory of tokens."""
    order = sort_order(notes.piece, notes.onset, notes.program, notes.pitch, notes.duration, notes.velocity)
    none, whole = np.zeros(notes.n_pieces, np.int32), np.zeros(len(notes), np.int32)
    return replace(_taken(notes, order), token=whole - 1, broken=whole, n_tokens=none, n_broken=none)


def _repitched(notes: Notes, pitch: NDArray[np.integer]) -> Notes:
    return _untold(replace(notes, pitch=np.where(notes.program < 0, notes.pitch, pitch).astype(np.int32)))


def segments_shuffled(notes: Notes, rng: Generator, bars: int = 2) -> Notes:
    """Segments of `bars` bars (8 beats in common time) in random order; an odd last one is shorter."""
    owner = notes.bars.piece
    number = np.arange(len(owner)) - notes.bar_starts[owner]
    fresh = number % bars == 0
    segment = np.cumsum(fresh) - 1
    return _rearranged(notes, np.lexsort((number, rng.random(int(fresh.sum()))[segment], owner)))


def bars_shuffled(notes: Notes, rng: Generator) -> Notes:
    """The bars of each piece in random order."""
    return segments_shuffled(notes, rng, bars=1)


def bars_of_others(notes: Notes, rng: Generator) -> Notes:
    """Every bar replaced by a bar drawn from all pieces of the batch."""
    return _rearranged(notes, rng.integers(max(len(notes.bars.piece), 1), size=len(notes.bars.piece)))


def two_bar_loop(notes: Notes, rng: Generator) -> Notes:
    """Two neighbouring bars, drawn among those of which both have notes if there are any, again and again."""
    owner, starts = notes.bars.piece, notes.bar_starts
    full = np.bincount(_bar_of(notes), minlength=len(owner)) > 0
    both = np.append(full[:-1] & full[1:] & (np.diff(owner) == 0), False)[: len(owner)]
    lead = np.lexsort((rng.random(len(owner)), ~both, owner))[starts[:-1]]
    begin = np.clip(lead, starts[:-1], np.maximum(starts[1:] - 2, starts[:-1]))  # (B,) the loop's first bar
    number = np.arange(len(owner)) - starts[owner]
    return _rearranged(notes, begin[owner] + number % np.minimum(np.diff(starts), 2)[owner])


def markov_pitches(notes: Notes, rng: Generator) -> Notes:
    """Pitches from the order-1 chain of the whole batch, from each piece's first pitch; rhythm stays.

    In chords the chain runs through the notes in their order. A batch of one piece has that piece's own chain.
    """
    sounding = np.flatnonzero(notes.program >= 0)
    piece, pitch = notes.piece[sounding], notes.pitch[sounding].astype(np.int64)
    same = piece[1:] == piece[:-1]
    moves = np.zeros((128, 128))
    np.add.at(moves, (pitch[:-1][same], pitch[1:][same]), 1)
    moves[moves.sum(axis=1) == 0] = np.bincount(pitch, minlength=128)  # where the music never went on, anywhere
    reached = np.cumsum(moves, axis=1)
    count = np.bincount(piece, minlength=notes.n_pieces)
    first = np.cumsum(count) - count
    out = pitch.copy()
    for step in range(1, int(count.max(initial=0))):
        at = first[count > step] + step
        rows = reached[out[at - 1]]
        out[at] = (rows > rng.random(len(at))[:, None] * rows[:, -1:]).argmax(axis=1)
    chain = notes.pitch.copy()
    chain[sounding] = out
    return _repitched(notes, chain)


def random_pitches(notes: Notes, rng: Generator) -> Notes:
    """Every pitch drawn evenly from the range of its piece; rhythm stays."""
    sounding = notes.program >= 0
    low, high = np.full(notes.n_pieces, 127), np.zeros(notes.n_pieces, np.int64)
    np.minimum.at(low, notes.piece[sounding], notes.pitch[sounding])
    np.maximum.at(high, notes.piece[sounding], notes.pitch[sounding])
    span = np.maximum(high - low, 0)[notes.piece]
    return _repitched(notes, low[notes.piece] + np.floor(rng.random(len(notes)) * (span + 1)).astype(np.int64))


def one_pitch(notes: Notes, rng: Generator) -> Notes:
    """Every note on the median pitch of its piece; rhythm stays. Draws nothing."""
    sounding = notes.program >= 0
    middle = median_of(notes.pitch[sounding], notes.piece[sounding], notes.n_pieces)
    return _repitched(notes, np.nan_to_num(middle).astype(np.int32)[notes.piece])


CORRUPTIONS: dict[str, Corruption] = {
    "segments_shuffled": segments_shuffled,
    "bars_shuffled": bars_shuffled,
    "bars_of_others": bars_of_others,
    "markov_pitches": markov_pitches,
    "random_pitches": random_pitches,
    "two_bar_loop": two_bar_loop,
    "one_pitch": one_pitch,
}
"""Name -> corruption, from the subtlest to the crudest."""


def thinned(notes: Notes, rng: Generator, share: float = 1 / 3) -> Notes:
    """Every note left out by a chance of `share`, but for each piece's first."""
    keep = rng.random(len(notes)) >= share
    keep[notes.starts[:-1][notes.counts > 0]] = True
    return _untold(notes.select(keep))


def misspelt(notes: Notes, rng: Generator, share: float = 0.05) -> Notes:
    """The music as it was, with a token that breaks the grammar before every note by a chance of `share`, and before
    each piece's first; a piece without tokens stays without.
    """
    broken = rng.random(len(notes)) < share
    broken[notes.starts[:-1][notes.counts > 0]] = True
    broken &= (notes.n_tokens > 0)[notes.piece]
    added = np.bincount(notes.piece[broken], minlength=notes.n_pieces).astype(np.int32)
    return replace(
        notes,
        broken=(notes.broken + broken).astype(np.int32),
        n_tokens=notes.n_tokens + added,
        n_broken=notes.n_broken + added,
    )


FURTHER: dict[str, Corruption] = {"thinned": thinned, "misspelt": misspelt}
"""Rows of the corruption table alone: for metrics that hear none of `CORRUPTIONS`. No judge is trained on them."""
