"""Music damaged on purpose: what every metric, reward and critic has to tell from real music.

Each transform returns as many pieces, as if read from files (no tokens). Drums keep their pitches.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.random import Generator

from mgen.arrays import median_of
from mgen.notes import Notes
from mgen.transforms.rebuild import Transform, rearrange_bars, with_pitches, without_tokens


def shuffle_segments(notes: Notes, rng: Generator, bars: int = 2) -> Notes:
    """Puts segments of `bars` bars (8 beats in common time) in random order; a remainder at the end is shorter."""
    owner = notes.bars.piece
    number = np.arange(len(owner)) - notes.bar_starts[owner]
    first = number % bars == 0
    segment = np.cumsum(first) - 1
    return rearrange_bars(notes, np.lexsort((number, rng.random(int(first.sum()))[segment], owner)))


def shuffle_bars(notes: Notes, rng: Generator) -> Notes:
    """Puts the bars of each piece in random order."""
    return shuffle_segments(notes, rng, bars=1)


def bars_of_others(notes: Notes, rng: Generator) -> Notes:
    """Replaces every bar with a bar drawn from all pieces of the batch."""
    return rearrange_bars(notes, rng.integers(max(len(notes.bars.piece), 1), size=len(notes.bars.piece)))


def two_bar_loop(notes: Notes, rng: Generator) -> Notes:
    """Repeats two neighbouring bars of each piece, drawn among pairs of bars that both have notes if there are any."""
    owner, starts = notes.bars.piece, notes.bar_starts
    full = np.bincount(notes.bar_row, minlength=len(owner)) > 0
    both = np.append(full[:-1] & full[1:] & (np.diff(owner) == 0), False)[: len(owner)]
    lead = np.lexsort((rng.random(len(owner)), ~both, owner))[starts[:-1]]
    begin = np.clip(lead, starts[:-1], np.maximum(starts[1:] - 2, starts[:-1]))  # (B,) the loop's first bar
    number = np.arange(len(owner)) - starts[owner]
    return rearrange_bars(notes, begin[owner] + number % np.minimum(np.diff(starts), 2)[owner])


def markov_pitches(notes: Notes, rng: Generator) -> Notes:
    """Draws pitches from the order-1 Markov chain of the batch, from each piece's first pitch on; rhythm stays.

    In chords the chain runs through the notes in table order.
    """
    sounding = np.flatnonzero(notes.program >= 0)
    piece, pitch = notes.piece[sounding], notes.pitch[sounding].astype(np.int64)
    same = piece[1:] == piece[:-1]
    moves = np.zeros((128, 128))
    np.add.at(moves, (pitch[:-1][same], pitch[1:][same]), 1)
    moves[moves.sum(axis=1) == 0] = np.bincount(pitch, minlength=128)  # pitches that nothing ever follows
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
    return with_pitches(notes, chain)


def random_pitches(notes: Notes, rng: Generator) -> Notes:
    """Draws every pitch evenly from the range of its piece; rhythm stays."""
    sounding = notes.program >= 0
    low, high = np.full(notes.n_pieces, 127), np.zeros(notes.n_pieces, np.int64)
    np.minimum.at(low, notes.piece[sounding], notes.pitch[sounding])
    np.maximum.at(high, notes.piece[sounding], notes.pitch[sounding])
    span = np.maximum(high - low, 0)[notes.piece]
    return with_pitches(notes, low[notes.piece] + np.floor(rng.random(len(notes)) * (span + 1)).astype(np.int64))


def one_pitch(notes: Notes, rng: Generator) -> Notes:
    """Puts every note on the median pitch of its piece; rhythm stays. Not random."""
    sounding = notes.program >= 0
    middle = median_of(notes.pitch[sounding], notes.piece[sounding], notes.n_pieces)
    return with_pitches(notes, np.nan_to_num(middle).astype(np.int32)[notes.piece])


CORRUPTIONS: dict[str, Transform] = {
    "segments_shuffled": shuffle_segments,
    "bars_shuffled": shuffle_bars,
    "bars_of_others": bars_of_others,
    "markov_pitches": markov_pitches,
    "random_pitches": random_pitches,
    "two_bar_loop": two_bar_loop,
    "one_pitch": one_pitch,
}
"""Name -> corruption, from the subtlest to the crudest."""


def drop_notes(notes: Notes, rng: Generator, share: float = 1 / 3) -> Notes:
    """Leaves out each note with probability `share`, except the first of each piece."""
    keep = rng.random(len(notes)) >= share
    keep[notes.starts[:-1][notes.counts > 0]] = True
    return without_tokens(notes.select(keep))


def insert_invalid_tokens(notes: Notes, rng: Generator, share: float = 0.05) -> Notes:
    """Keeps the music and counts an invalid token before each note with probability `share`, and before the first.

    Pieces without tokens stay as they are.
    """
    invalid = rng.random(len(notes)) < share
    invalid[notes.starts[:-1][notes.counts > 0]] = True
    invalid &= (notes.n_tokens > 0)[notes.piece]
    added = np.bincount(notes.piece[invalid], minlength=notes.n_pieces).astype(np.int32)
    return replace(
        notes,
        broken=(notes.broken + invalid).astype(np.int32),
        n_tokens=notes.n_tokens + added,
        n_broken=notes.n_broken + added,
    )


EXTRA_CORRUPTIONS: dict[str, Transform] = {"thinned": drop_notes, "misspelt": insert_invalid_tokens}
"""Further rows of the corruption table, for metrics that none of `CORRUPTIONS` changes. No judge is trained on them."""
