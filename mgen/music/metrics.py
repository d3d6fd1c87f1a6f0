"""Metrics of single pieces: each (B,) float64, NaN where undefined.

Metrics of pitch leave drums out; metrics of onsets include them.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from mgen.arrays import Floats, divide, entropy, mean_of, median_of, run_starts
from mgen.music import ngrams
from mgen.music.chords import chord_irregularity
from mgen.music.structure import LONG, MID, SHORT, structureness
from mgen.notes import STEPS_PER_QUARTER, Notes

Metric = Callable[[Notes], Floats]

LOOP = 0.6  # share of repeated pitch 4-grams above which a piece counts as a loop; real solos stay below 0.3
LONGEST_FIGURE = 256  # notes in the longest figure of `longest_loop`
SLOTS = 64  # slots of a bar in the grooving pattern, as in MusDr


def onsets(notes: Notes) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Piece and grid step of every different onset, in order; drums included."""
    starts = run_starts(notes.piece, notes.onset)
    return notes.piece[starts], notes.onset[starts]


def onset_steps(notes: Notes) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """Piece of every different onset, grid step where its beat begins, and its step in that beat, 0..23.

    Beats are quarters, counted from the bar line: in 7/8 the fourth is an eighth.
    """
    starts = run_starts(notes.piece, notes.onset)
    step = notes.position[starts] % STEPS_PER_QUARTER
    return notes.piece[starts], notes.onset[starts] - step, step


def pitch_class_entropy(notes: Notes, bars: int) -> Floats:
    """Entropy of the pitch classes in a window of `bars` bars, mean over a window from every bar.

    H = -sum p_c log2 p_c over the 12 pitch classes of the notes that begin in the window: 0 (one pitch class)
    to 3.58 bits. Windows without notes are left out; a piece shorter than a window is one window.

    Cannot see: order, register, duration, rhythm. Random notes score high. NaN: no pitched notes.
    Source: Wu and Yang 2020, The Jazz Transformer, arXiv:2008.01307, and its code (MusDr).
    """
    notes = notes.pitched()
    first, last = notes.bar_starts[:-1], notes.bar_starts[1:]
    row = first[notes.piece] + notes.bar
    owner = notes.bars.piece
    classes = np.bincount(row * 12 + notes.pitch % 12, minlength=12 * len(owner)).reshape(-1, 12)
    before = np.concatenate([np.zeros((1, 12), np.int64), classes.cumsum(axis=0)])
    at = np.arange(len(owner))
    begins = at[at <= np.maximum(last - bars, first)[owner]]
    ends = np.minimum(begins + bars, last[owner[begins]])
    return mean_of(entropy(before[ends] - before[begins]), owner[begins], notes.n_pieces)


def grooving_similarity(notes: Notes) -> Floats:
    """How alike the rhythms of a piece's bars are, 0..1.

    GS = 1 - the share of 64 slots of a bar in which one of two bars has an onset and the other has none, mean
    over all pairs of bars. A bar is divided evenly, whatever its length, and a bar without onsets counts.

    Cannot see: pitch, duration, the order of bars. Sparse music scores higher than dense music by that alone.
    NaN: fewer than two bars, or no notes.
    Source: Wu and Yang 2020, arXiv:2008.01307; theirs draws 1000 pairs at random, this counts all of them.
    """
    row = notes.bar_row
    slot = notes.position * SLOTS // notes.bars.length[row]
    strikes = np.zeros((len(notes.bars.piece) + 1, SLOTS), np.int64)
    strikes[row + 1, np.clip(slot, 0, SLOTS - 1)] = 1
    struck = np.diff(strikes.cumsum(axis=0)[notes.bar_starts], axis=0)  # (B, 64) bars that strike a slot
    bars = np.diff(notes.bar_starts)
    different = (struck * (bars[:, None] - struck)).sum(axis=1)
    pairs = bars * (bars - 1) / 2
    return 1 - divide(different, SLOTS * pairs * (notes.counts > 0))


def repeated_ngrams(notes: Notes, n: int, view: ngrams.View = "pitch") -> Floats:
    """Share of a piece's n-grams that occurred earlier in it: 1 - different n-grams / n-grams, 0..1.

    An n-gram is n pitches, or n intervals in semitones (n + 1 notes), of consecutive notes in the order of `Notes`: by
    onset, program, pitch, so chords are read upwards and several instruments as one line. Drums are left out.

    Cannot see: rhythm; a loop with one changed note in n (pitches), transposed (pitches, not intervals), or
    under a changing accompaniment. Grows with the length of the piece: compare pieces of one length.
    NaN: no n-gram.
    Source: the repetition measure of text generation (Welleck et al. 2019, arXiv:1908.04319), on pitches.
    """
    notes = notes.pitched()
    again, whole = ngrams.repeats(notes.piece, notes.pitch, n, view)
    return mean_of(again[whole], notes.piece[whole], notes.n_pieces)


def loop_rate(notes: Notes) -> Floats:
    """1 for a piece with more than 0.6 of its pitch 4-grams repeated, else 0; the mean is the loop rate.

    Cannot see: what `repeated_ngrams` cannot. NaN: fewer than four notes. Source: evaluation protocol.
    """
    share = repeated_ngrams(notes, 4)
    return np.where(np.isnan(share), np.nan, share > LOOP)


def longest_loop(notes: Notes) -> Floats:
    """Share of a piece's notes in its longest loop, an immediate repetition of one figure of pitches, 0..1.

    A loop is k repetitions of a figure of p notes in the order of `Notes`, k at least 2 and not necessarily an integer
    (c d e c d e c is a loop of 7 notes), p at most 256; one repeated pitch is a figure of one note. 0: no loop. Drums
    are left out.

    Cannot see: rhythm; a loop that changes one note in each repetition, is transposed, or is longer than 256 notes.
    NaN: fewer than two pitched notes. Source: ours.
    """
    notes = notes.pitched()
    return np.where(notes.counts > 1, divide(ngrams.longest_loop(notes, LONGEST_FIGURE), notes.counts), np.nan)


def same_pitch(notes: Notes) -> Floats:
    """Share of a piece's notes, from its second on, with the pitch of the note before, 0..1, in the order of `Notes`.

    Cannot see: repetition of more than one note. Drums are left out. NaN: fewer than two pitched notes. Source: ours.
    """
    notes = notes.pitched()
    two = ngrams.complete(notes.piece, 2)
    return mean_of(np.diff(notes.pitch, prepend=0)[two] == 0, notes.piece[two], notes.n_pieces)


def mean_interval(notes: Notes) -> Floats:
    """Mean size, in semitones, of the interval between neighbours in the order of `Notes`, 0..127.

    Cannot see: direction. In polyphony most neighbours are of one chord. Drums are left out.
    NaN: fewer than two pitched notes. Source: ours.
    """
    notes = notes.pitched()
    two = ngrams.complete(notes.piece, 2)
    return mean_of(np.abs(np.diff(notes.pitch, prepend=0)[two]), notes.piece[two], notes.n_pieces)


def compression(notes: Notes) -> Floats:
    """Length of a piece's pitches when compressed over their length, above 0; small: regular, about 0.73: random.

    The bytes are the pitches in the order of `Notes`, as semitones above the lowest (so that the key has no effect),
    compressed by zlib at level 9. Drums are left out.

    Cannot see: rhythm. Short pieces score higher because of zlib's header of 8 bytes and its empty window, up to 9 for
    one note: compare pieces of one length. NaN: no pitched notes.
    Source: normalised compression length (Li et al. 2004, The similarity metric) on pitches, zlib of RFC 1950.
    """
    notes = notes.pitched()
    out = np.full(notes.n_pieces, np.nan)
    starts = notes.starts
    for piece in np.flatnonzero(notes.counts):
        own = notes.pitch[starts[piece] : starts[piece + 1]]
        out[piece] = len(zlib.compress((own - own.min()).astype(np.uint8).tobytes(), 9)) / len(own)
    return out


def repeated_bars(notes: Notes) -> Floats:
    """Share of a piece's bars with pitched notes that equal, note for note, an earlier bar of it, 0..1.

    Equal bars have the same onsets, pitches and instruments; durations and velocities may differ.

    Cannot see: a bar that is one grid step or one note off, as most bars of a performance are; transposed bars.
    Grows with the length of the piece. Drums are left out. NaN: no pitched notes. Source: ours.
    """
    notes = notes.pitched()
    bar = notes.bar_starts[notes.piece] + notes.bar
    note = (notes.position.astype(np.int64) * 129 + notes.program + 1) * 128 + notes.pitch
    head = np.flatnonzero(np.diff(bar, prepend=-1))
    whole = np.append(head, len(bar))
    seen: set[tuple[int, bytes]] = set()
    owner, again = notes.piece[head], np.zeros(len(head), bool)
    for at, piece in enumerate(owner.tolist()):
        key = (piece, note[whole[at] : whole[at + 1]].tobytes())
        again[at] = key in seen
        seen.add(key)
    return mean_of(again, owner, notes.n_pieces)


def longest_run(notes: Notes) -> Floats:
    """Notes in the longest run of one pitch, in the order of `Notes`, 1 upwards; drums are left out.

    Cannot see: a trill, a repeated chord. NaN: no pitched notes. Source: ours.
    """
    notes = notes.pitched()
    return np.where(notes.counts > 0, ngrams.longest_run(notes), np.nan)


def swing(notes: Notes) -> Floats:
    """Median ratio of the first to the second eighth of a beat: 1 straight, 2 triplet swing, 0.5..5.

    Over the beats (quarters) with exactly two onsets, the first at most two grid steps after the beat and the
    second, s, at 8..20 of 24 steps: s / (24 - s), which assumes the first on the beat. Other beats are left out.

    Cannot see: swing where a beat has three onsets or one, where the grid's beats are not the music's (free
    performances), or in sixteenths. NaN: no such beat.
    Source: beat-upbeat ratio, Dittmar et al. 2015; Corcoran and Frieler 2021.
    """
    piece, beat, step = onset_steps(notes)
    start = np.flatnonzero(run_starts(piece, beat))
    pair = start[np.diff(np.append(start, len(beat))) == 2]
    second = step[pair + 1]
    keep = (step[pair] <= 2) & (second >= 8) & (second <= 20)
    ratio = second[keep] / (STEPS_PER_QUARTER - second[keep])
    return median_of(ratio, piece[pair[keep]], notes.n_pieces)


def triplet_share(notes: Notes) -> Floats:
    """Share of onsets within one grid step (1/24 of a beat) of a third or two thirds of a beat, 0..1.

    Cannot see: the triplet's first note, which is on the beat; whether a swung eighth is written as a triplet.
    Evenly spread onsets, as in free performances, give 0.25. NaN: no notes.
    Source: ours, after the share of triplet divisions in the Weimar Jazz Database.
    """
    piece, _, step = onset_steps(notes)
    third = STEPS_PER_QUARTER // 3
    triplet = (step > 1) & (np.abs((step + third // 2) % third - third // 2) <= 1) & (step < STEPS_PER_QUARTER - 1)
    return mean_of(triplet, piece, notes.n_pieces)


SCALE = (0, 2, 4, 5, 7, 9, 11)
"""Semitones of the major scale above its root; the natural minor scale of another root has the same pitch classes."""


def scale_consistency(notes: Notes) -> Floats:
    """Share of a piece's notes in the major or natural minor scale that holds most of them, 7/12 upwards to 1.

    Cannot see: a change of key, harmonic minor and other modes. Chromatic music and random notes score low alike;
    drums are left out. NaN: no pitched notes.
    Source: muspy.scale_consistency, Dong et al. 2020, arXiv:2008.01951; Mogren 2016, arXiv:1611.09904.
    """
    notes = notes.pitched()
    classes = np.bincount(notes.piece * 12 + notes.pitch % 12, minlength=12 * notes.n_pieces).reshape(-1, 12)
    scales = np.add.outer(np.arange(12), SCALE) % 12
    return divide(classes[:, scales].sum(axis=2).max(axis=1, initial=0), notes.counts)


def polyphony(notes: Notes) -> Floats:
    """Mean number of notes that sound, over the time in which any does: 1 upwards; drums are left out.

    Sum of durations / length of their union. Two notes of one pitch at once count twice (in muspy, once).

    Cannot see: silence, pedal. NaN: no pitched notes.
    Source: muspy.polyphony, Dong et al. 2020, arXiv:2008.01951.
    """
    notes = notes.pitched()
    total = np.bincount(notes.piece, weights=notes.duration, minlength=notes.n_pieces)
    end = notes.onset.astype(np.int64) + notes.duration
    # All pieces on one time axis, one after the other, for a single running maximum.
    shift = notes.piece * np.int64(end.max(initial=0) + 1)
    ended = np.maximum.accumulate(np.append(0, end + shift))
    added = np.maximum(ended[1:] - np.maximum(ended[:-1], notes.onset + shift), 0)
    union = np.bincount(notes.piece, weights=added, minlength=notes.n_pieces)
    return divide(total, union)


def quarters(notes: Notes) -> Floats:
    """(B,) length of the bars of each piece in quarter notes."""
    steps = np.bincount(notes.bars.piece, weights=notes.bars.length, minlength=notes.n_pieces)
    return steps / STEPS_PER_QUARTER


def density(notes: Notes) -> Floats:
    """Notes per quarter note, from the first bar line to the end of the last bar; drums count. 0 upwards.

    Cannot see: where the notes are; tempo. An incomplete last bar counts as a complete bar.
    NaN: no notes. Source: ours.
    """
    return divide(notes.counts, quarters(notes) * (notes.counts > 0))


def pitch_range(notes: Notes) -> Floats:
    """Highest minus lowest pitch in semitones, 0..127; drums are left out.

    Cannot see: the pitches between. One outlier decides. NaN: no pitched notes. Source: muspy.pitch_range.
    """
    notes = notes.pitched()
    high, low = np.full(notes.n_pieces, -1), np.full(notes.n_pieces, 128)
    np.maximum.at(high, notes.piece, notes.pitch)
    np.minimum.at(low, notes.piece, notes.pitch)
    return np.where(high >= low, high - low, np.nan)


def empty_beats(notes: Notes) -> Floats:
    """Share of silent beats (quarters), to the end of the last bar, 0..1; drums count.

    Cannot see: rests within a beat. NaN: no notes.
    Source: muspy.empty_beat_rate, except that there a note that ends on a beat counts as sounding in it.
    """
    beats = np.ceil(quarters(notes)).astype(np.int64)
    first = np.cumsum(beats) - beats
    offset, limit = first[notes.piece], beats[notes.piece]
    begin = np.minimum(notes.onset // STEPS_PER_QUARTER, limit)
    end = np.clip((notes.onset.astype(np.int64) + notes.duration - 1) // STEPS_PER_QUARTER + 1, begin, limit)
    size = int(beats.sum()) + 1
    change = np.bincount(offset + begin, minlength=size) - np.bincount(offset + end, minlength=size)
    silent = np.cumsum(change)[:-1] == 0
    owner = np.repeat(np.arange(notes.n_pieces), beats)
    return np.where(notes.counts > 0, mean_of(silent, owner, notes.n_pieces), np.nan)


def valid(notes: Notes) -> Floats:
    """1 for a piece without a token that broke the grammar, else 0.

    Cannot see: the music. NaN: no tokens, as for a piece read from a file.
    Source: `Notes.n_broken`.
    """
    return np.where(notes.n_tokens > 0, notes.n_broken == 0, np.nan)


def broken_tokens(notes: Notes) -> Floats:
    """Share of a piece's tokens that broke the grammar, 0..1.

    Cannot see: the music. NaN: no tokens, as for a piece read from a file.
    Source: `Notes.n_broken`.
    """
    return divide(notes.n_broken, notes.n_tokens)


METRICS: dict[str, Metric] = {
    "valid": valid,
    "broken_tokens": broken_tokens,
    "loop_rate": loop_rate,
    "rep4": partial(repeated_ngrams, n=4),
    "rep8": partial(repeated_ngrams, n=8),
    "interval_rep8": partial(repeated_ngrams, n=8, view="interval"),
    "rep_interval4": partial(repeated_ngrams, n=4, view="interval"),
    "longest_loop": longest_loop,
    "longest_run": longest_run,
    "same_pitch": same_pitch,
    "repeated_bars": repeated_bars,
    "compression": compression,
    "H1": partial(pitch_class_entropy, bars=1),
    "H4": partial(pitch_class_entropy, bars=4),
    "GS": grooving_similarity,
    "CPI": chord_irregularity,
    "SI": partial(structureness, half_bars=MID),
    "SI_short": partial(structureness, half_bars=SHORT),
    "SI_mid": partial(structureness, half_bars=MID),
    "SI_long": partial(structureness, half_bars=LONG),
    "swing": swing,
    "triplet_share": triplet_share,
    "scale_consistency": scale_consistency,
    "mean_interval": mean_interval,
    "polyphony": polyphony,
    "density": density,
    "pitch_range": pitch_range,
    "empty_beats": empty_beats,
}
"""Name -> metric of each piece; for means with NaN left out see `mgen.stats.intervals.bootstrap`."""
