"""Style features: a piece as numbers of harmony, melody, rhythm and texture, the same in all file formats.

All are shares and means over onset clusters (`mgen/music/onset_clusters.py`), so they do not depend on key, register,
tempo, loudness, durations or bars; only the group `bar_lines` uses bars. Evaluation uses other features
(`mgen/music/features.py`), so that it does not share the blind spots of what gives the reward.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mgen.arrays import Floats, Longs, divide, mean_of, median_of, run_starts, shares, windows
from mgen.music import ngrams
from mgen.music.onset_clusters import OnsetClusters
from mgen.notes import Notes

_STEPS = np.array([-8, -4, -2, -1, 0, 1, 2, 3, 5, 8])  # edges, in semitones, of 11 classes of a melodic interval
_RATIOS = np.array([-1.2, -0.75, -0.25, 0.25, 0.75, 1.2])  # edges, in octaves, of 7 classes of a ratio of gaps
_PERIODS = np.array([1 / 2, 1, 3 / 2, 2, 3, 4])  # in median gaps
_SPANS = np.array([1, 5, 8, 13, 20, 28])  # edges, in semitones, from the lowest to the highest note of a cluster

SCALES = {
    "major": (0, 4, 7),
    "minor": (0, 3, 7),
    "seventh": (0, 4, 7, 10),
    "major_seventh": (0, 4, 7, 11),
    "minor_seventh": (0, 3, 7, 10),
    "half_diminished": (0, 3, 6, 10),
    "diminished": (0, 3, 6, 9),
    "augmented": (0, 4, 8),
    "diatonic": (0, 2, 4, 5, 7, 9, 11),
    "pentatonic": (0, 2, 4, 7, 9),
    "whole_tone": (0, 2, 4, 6, 8, 10),
    "octatonic": (0, 1, 3, 4, 6, 7, 9, 10),
    "blues": (0, 3, 5, 6, 7, 10),
    "harmonic_minor": (0, 2, 3, 5, 7, 8, 11),
}
"""Chords and scales, in semitones above their root, that windows of notes are compared with."""

MAJOR_KEY = np.array([6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88])
MINOR_KEY = np.array([6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17])
"""How well each pitch class fits a key, from the tonic up. Source: Krumhansl and Kessler 1982."""

_FIFTHS = np.arange(12) * 7 % 12
_SETS = np.arange(1 << 12)
_NORMAL_FORM = np.min([(_SETS >> k | _SETS << 12 - k) & 0xFFF for k in range(12)], axis=0)
"""(4096,) each set of pitch classes in a normal form that all its transpositions share."""


def _templates() -> Floats:
    """(12, S * 12) pitch classes of every scale on every root."""
    out = np.zeros((12, len(SCALES), 12))
    for number, tones in enumerate(SCALES.values()):
        for root in range(12):
            out[np.add(tones, root) % 12, number, root] = 1
    return out.reshape(12, -1)


def _set_classes(size: int) -> tuple[Longs, int]:
    """(4096,) class of each set of `size` pitch classes, the same for all transpositions; and the number of classes."""
    known = np.unique(_NORMAL_FORM[np.bitwise_count(_SETS) == size])
    return np.searchsorted(known, np.clip(_NORMAL_FORM, known[0], known[-1])), len(known)


_TEMPLATES = _templates()
_TRICHORDS, _TETRACHORDS = _set_classes(3), _set_classes(4)


def _means(values: NDArray[Any], owner: NDArray[np.integer[Any]], n: int) -> Floats:
    """(n, K) means of the columns of `values` (R, K) or (R,)."""
    columns = values if values.ndim == 2 else values[:, None]
    return np.stack([mean_of(column, owner, n) for column in columns.T], axis=1)


def _melody(m: OnsetClusters) -> list[Floats]:
    """Intervals of the top line, their pairs, and pitch classes 2 to 4 clusters apart."""
    interval, pairs = m.top.interval, m.after(2)
    step = np.searchsorted(_STEPS, interval, side="right")
    out = [
        shares(m.cluster_piece[m.after(1)], np.clip(interval, -12, 12)[m.after(1)] + 12, 25, m.n),
        shares(m.cluster_piece[pairs], (step * 11 + np.roll(step, 1))[pairs], 121, m.n),
    ]
    for lag in (2, 3, 4):
        at = np.flatnonzero(m.after(lag))
        out.append(shares(m.cluster_piece[at], (m.top.pitch[at] - m.top.pitch[at - lag]) % 12, 12, m.n))
    return out


def _chords(m: OnsetClusters) -> list[Floats]:
    """Set classes of chords of three and four pitch classes, intervals of two, and intervals above the lowest note."""
    size = np.bitwise_count(m.pitch_classes)
    out = []
    for count, (set_class, n_classes) in ((3, _TRICHORDS), (4, _TETRACHORDS)):
        at = np.flatnonzero(size == count)
        out.append(shares(m.cluster_piece[at], set_class[m.pitch_classes[at]], n_classes, m.n))
    two = np.flatnonzero(size == 2)
    out.append(shares(m.cluster_piece[two], (m.top.pitch - m.low.pitch)[two] % 12, 12, m.n))
    above = m.pitch - m.low.pitch[m.cluster]
    upper = above > 0
    return [*out, shares(m.piece[upper], above[upper] % 12, 12, m.n)]


def _harmony(m: OnsetClusters) -> list[Floats]:
    """Fit of windows of 5, 8 and 16 notes to chords and scales, and the interval classes in them.

    For windows of 16 also the distance in fifths from the best diatonic scale to that of the next window.
    """
    out = []
    for size in (5, 8, 16):
        window, owner = windows(m.piece, m.n, size)
        counts = np.bincount(window * 12 + m.pitch % 12, minlength=len(owner) * 12).reshape(-1, 12).astype(float)
        present = counts > 0
        fits = (counts @ _TEMPLATES).reshape(-1, len(SCALES), 12)
        between = np.stack([(present & np.roll(present, -k, axis=1)).sum(axis=1) for k in range(1, 7)], axis=1)
        out += [
            _means(present.sum(axis=1), owner, m.n),
            _means(fits.max(axis=2) / counts.sum(axis=1, keepdims=True), owner, m.n),
            _means(between / np.maximum(between.sum(axis=1, keepdims=True), 1), owner, m.n),
        ]
    fit = fits[:, list(SCALES).index("diatonic"), _FIFTHS]
    best = fit == fit.max(axis=1, keepdims=True)
    follows = np.flatnonzero(owner[1:] == owner[:-1])
    one, other = best[follows], best[follows + 1]
    near = np.stack([((np.roll(one, k, 1) | np.roll(one, -k, 1)) & other).any(axis=1) for k in range(7)], axis=1)
    return [*out, shares(owner[follows], near.argmax(axis=1), 7, m.n)]


def _key(m: OnsetClusters) -> list[Floats]:
    """Pitch classes relative to the best major key, the fit of the best keys, and pitch-class shares by size."""
    classes = shares(m.piece, m.pitch % 12, 12, m.n)
    centred = classes - 1 / 12
    length = np.linalg.norm(centred, axis=1)
    fits = []
    for profile in (MAJOR_KEY, MINOR_KEY):
        shape = profile - profile.mean()
        keys = np.stack([np.roll(shape, k) for k in range(12)], axis=1)
        fits.append(centred @ keys / np.maximum(length * np.linalg.norm(shape), 1e-9)[:, None])
    tonic = np.nan_to_num(fits[0], nan=-1).argmax(axis=1)
    relative = np.take_along_axis(classes, (tonic[:, None] + np.arange(12)) % 12, axis=1)
    return [relative, *(fit.max(axis=1, keepdims=True) for fit in fits), np.sort(classes, axis=1)]


def _bass(m: OnsetClusters) -> list[Floats]:
    """Interval classes of the lowest note from cluster to cluster, and over windows of 4 and 8 clusters."""
    after = m.after(1)
    out = [shares(m.cluster_piece[after], m.low.interval[after] % 12, 12, m.n)]
    for size in (4, 8):
        window, owner = windows(m.cluster_piece, m.n, size)
        lowest = np.full(len(owner), 127)
        np.minimum.at(lowest, window, m.low.pitch)
        follows = owner[1:] == owner[:-1]
        out.append(shares(owner[1:][follows], (np.diff(lowest) % 12)[follows], 12, m.n))
    return out


def _rhythm(m: OnsetClusters) -> list[Floats]:
    """Ratios of times between clusters, their pairs, alternations of long and short, gaps relative to the median."""
    ratio = m.log_ratio
    ratio_class = np.searchsorted(_RATIOS, ratio, side="right")
    one, two, three = (np.flatnonzero(m.after(k)) for k in (1, 2, 3))
    last, before = ratio[three], ratio[three - 1]
    uneven = (np.abs(last) > 0.25) & (np.abs(last) < 1.6)
    swings = (np.sign(last) != np.sign(before)) & uneven & (np.abs(last + before) < 0.35)
    even = (np.abs(last) < 0.25) & (np.abs(before) < 0.25)
    usual = median_of(m.log_gap[one], m.cluster_piece[one], m.n)
    relative = np.clip(np.rint(2 * (m.log_gap[one] - usual[m.cluster_piece[one]])), -5, 7)
    return [
        shares(m.cluster_piece[two], np.clip(np.rint(4 * ratio[two]), -8, 8).astype(np.int64) + 8, 17, m.n),
        shares(m.cluster_piece[three], ratio_class[three] * 7 + ratio_class[three - 1], 49, m.n),
        _means(np.stack([swings, even], axis=1), m.cluster_piece[three], m.n),
        shares(m.cluster_piece[one], relative.astype(np.int64) + 5, 13, m.n),
    ]


def _texture(m: OnsetClusters) -> list[Floats]:
    """Cluster sizes, and pairs of them; spans and spacing; pitches around the median; hands together and alone."""
    pairs = np.flatnonzero(m.after(1))
    few = np.minimum(m.size, 3) - 1
    inside = np.flatnonzero(np.diff(m.cluster) == 0) + 1
    middle = median_of(m.pitch, m.piece, m.n)
    height = np.rint((m.pitch - middle[m.piece]) / 4)
    span = np.searchsorted(_SPANS, m.top.pitch - m.low.pitch, side="right")
    left, right = m.low.pitch < middle[m.cluster_piece] - 5, m.top.pitch > middle[m.cluster_piece] + 2
    return [
        shares(m.cluster_piece, np.minimum(m.size, 6) - 1, 6, m.n),
        shares(m.cluster_piece[pairs], few[pairs] * 3 + few[pairs - 1], 9, m.n),
        shares(m.cluster_piece, span, len(_SPANS) + 1, m.n),
        shares(m.piece[inside], np.minimum(np.diff(m.pitch)[inside - 1], 15), 16, m.n),
        shares(m.piece, np.clip(height, -8, 8).astype(np.int64) + 8, 17, m.n),
        _means(np.stack([left, right, left & right], axis=1), m.cluster_piece, m.n),
    ]


def _repetition(m: OnsetClusters) -> list[Floats]:
    """Repeated n-grams of pitches, of the top line, of its intervals, of set classes and of chords."""
    after = m.after(1)
    views = (
        (m.piece, m.pitch),
        (m.cluster_piece, m.top.pitch),
        (m.cluster_piece[after], m.top.interval[after]),
        (m.cluster_piece, _NORMAL_FORM[m.pitch_classes]),
        (m.cluster_piece, m.pitch_classes),
    )
    sizes = (2, 3, 4, 6, 12)
    return [ngrams.repeat_share(owner, values, size, m.n)[:, None] for size in sizes for owner, values in views]


def _rhythm_repetition(m: OnsetClusters) -> list[Floats]:
    """Repeated n-grams of time ratios."""
    known = m.after(2)
    ratio_class = np.searchsorted(_RATIOS, m.log_ratio, side="right")[known]
    return [ngrams.repeat_share(m.cluster_piece[known], ratio_class, size, m.n)[:, None] for size in (3, 4, 6, 8)]


def _voice_leading(m: OnsetClusters) -> list[Floats]:
    """Leaps from each note's leading note, and the similarity of neighbouring windows of notes."""
    led, leap, _ = _leaps(m)
    out = [shares(m.piece[led], np.minimum(leap[led], 12), 13, m.n), _means(~led, m.piece, m.n)]
    for size in (8, 24):
        window, owner = windows(m.piece, m.n, size)
        unit, height = _content(m, window, len(owner))
        for lag in (1, 2, 4):
            at = np.flatnonzero(owner[lag:] == owner[:-lag])
            out.append(_means(_change(unit, height, at, at + lag), owner[at], m.n))
    return out


def _leaps(m: OnsetClusters) -> tuple[NDArray[np.bool_], Longs, Longs]:
    """(N,) whether another note leads to each note, semitones from it, and bar lines between the two."""
    by = np.maximum(m.leader, 0)
    bar = m.cluster_bar[m.cluster]
    return m.leader >= 0, np.abs(m.pitch - m.pitch[by]), bar - bar[by]


def _content(m: OnsetClusters, window: Longs, n: int) -> tuple[Floats, Floats]:
    """(n, 12) pitch classes of each window as a unit vector, and (n,) its mean pitch; 0 for an empty window."""
    counts = np.bincount(window * 12 + m.pitch % 12, minlength=n * 12).reshape(-1, 12).astype(float)
    unit = counts / np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1e-9)
    return unit, np.nan_to_num(mean_of(m.pitch, window, n))


def _change(unit: Floats, height: Floats, first: Longs, second: Longs) -> Floats:
    """(K, 2) cosine similarity of the pitch classes of two windows, and the distance of their mean pitches."""
    return np.stack([(unit[first] * unit[second]).sum(axis=1), np.abs(height[second] - height[first])], axis=1)


def _bar_lines(m: OnsetClusters) -> list[Floats]:
    """Leaps and changes across bar lines compared with those inside bars; even and odd bar lines apart, lower first.

    Where the bars are not those of the music, the two are alike; in music that was cut at bar lines they are not.
    """
    led, leap, lines = _leaps(m)
    bar = m.cluster_bar[m.cluster]
    views = np.stack([leap, leap <= 2, leap == 0], axis=1)
    inside = _means(views[led & (lines == 0)], m.piece[led & (lines == 0)], m.n)
    over = [led & (lines == 1) & (bar % 2 == turn) for turn in (0, 1)]
    turns = np.stack([_means(views[some], m.piece[some], m.n) for some in over])

    # halves of bars: the first half to the second, and that to the first half of the next bar
    new = run_starts(m.cluster_piece, m.cluster_bar)
    begin = np.flatnonzero(new)
    row = np.cumsum(new) - 1
    size = np.diff(np.append(begin, len(new)))
    rank = np.arange(len(new)) - begin[row]
    half = 2 * row + (2 * rank >= size[row])
    unit, height = _content(m, half[m.cluster], 2 * len(begin))
    owner, number = m.cluster_piece[begin], m.cluster_bar[begin]
    both = np.flatnonzero(size >= 2)
    within = _means(_change(unit, height, 2 * both, 2 * both + 1), owner[both], m.n)
    adjacent = np.flatnonzero((np.diff(owner) == 0) & (np.diff(number) == 1) & (size[:-1] >= 2) & (size[1:] >= 2))
    change = _change(unit, height, 2 * adjacent + 1, 2 * adjacent + 2)
    odd = number[adjacent] % 2 == 1
    by_turns = np.stack([_means(change[some], owner[adjacent][some], m.n) for some in (~odd, odd)])
    out = []
    for reference, each in ((inside, turns), (within, by_turns)):
        low, high = each.min(axis=0), each.max(axis=0)
        out += [reference, low - reference, high - reference, high - low]
    return out


def _variety(m: OnsetClusters) -> list[Floats]:
    """Shares of distinct pitches, chords and gaps, and the longest runs without change."""
    out = []
    after = m.after(1)
    gap = np.rint(4 * m.log_gap[after]).astype(np.int64)
    for owner, values in ((m.piece, m.pitch), (m.cluster_piece, m.pitch_classes), (m.cluster_piece[after], gap)):
        again = ngrams.repeated(owner, values, 1)
        out.append(_means(~again, owner, m.n))
        run = ngrams.run_length(owner, values)
        longest = np.zeros(m.n)
        np.maximum.at(longest, owner, run)
        out.append(np.log2(np.maximum(longest, 1))[:, None])
        out.append(_means(run > 1, owner, m.n))
    return out


def _pulse(m: OnsetClusters) -> list[Floats]:
    """Ratios of gaps 2 to 4 apart and of neighbouring spans, and how well onsets fit periods of the median gap.

    The fit to a period is the mean cosine of the phases between clusters up to 8 apart: an autocorrelation of onsets.
    """
    out = []
    onset = m.cluster_onset.astype(np.int64)
    for lag in (2, 3, 4):
        at = np.flatnonzero(m.after(lag + 1))
        out.append(_ratio_shares(m, at, m.log_gap[at] - m.log_gap[at - lag]))
        at = np.flatnonzero(m.after(2 * lag))
        now, before = onset[at] - onset[at - lag], onset[at - lag] - onset[at - 2 * lag]
        out.append(_ratio_shares(m, at, np.log2(np.maximum(now, 1) / np.maximum(before, 1))))
    one = np.flatnonzero(m.after(1))
    unit = np.nan_to_num(median_of(m.gap[one], m.cluster_piece[one], m.n), nan=1.0)
    turn = 2 * np.pi / (np.maximum(unit, 1)[m.cluster_piece][:, None] * _PERIODS)
    for lags in ((1, 2, 3, 4), (5, 6, 7, 8)):
        total, count = np.zeros(turn.shape), np.zeros(len(onset))
        for lag in lags:
            at = np.flatnonzero(m.after(lag))
            total[at] += np.cos((onset[at] - onset[at - lag])[:, None] * turn[at])
            count[at] += 1
        sums = [np.bincount(m.cluster_piece, column, m.n) for column in (*total.T, count)]
        fit = np.stack([divide(one, sums[-1]) for one in sums[:-1]], axis=1)
        out.append(fit.round(9))  # the square root of a rounding error is no small number
    return out


def _ratio_shares(m: OnsetClusters, at: Longs, octaves: Floats) -> Floats:
    """(n, 11) shares of classes, a quarter octave wide, of ratios at the clusters `at`."""
    return shares(m.cluster_piece[at], np.clip(np.rint(4 * octaves), -5, 5).astype(np.int64) + 5, 11, m.n)


def _counterpoint(m: OnsetClusters) -> list[Floats]:
    """Top notes above the bass and against the chord that were last played, and where the hands fall in time."""
    recent = 6
    top, low = m.top.pitch, m.low.pitch
    bass, chord = np.full(len(top), -1), np.full(len(top), -1)
    for back in reversed(range(recent)):
        at = np.flatnonzero(m.after(back))
        deep = at[low[at - back] <= top[at] - 7]
        bass[deep] = low[deep - back]
        thick = at[(m.size[at - back] >= 3) & (back > 0)]
        chord[thick] = m.pitch_classes[thick - back]
    above = np.flatnonzero(bass >= 0)
    out = [shares(m.cluster_piece[above], (top[above] - bass[above]) % 12, 12, m.n)]
    over = np.flatnonzero((chord >= 0) & (m.size < 3))
    inside = [chord[over] >> ((top[over] + step) % 12) & 1 for step in (0, -1, 1)]
    out.append(_means(np.stack([*inside, sum(inside) == 0], axis=1), m.cluster_piece[over], m.n))
    middle = median_of(m.pitch, m.piece, m.n)[m.cluster_piece]
    lower, upper = low < middle, top >= middle
    for one, other in ((lower, upper), (upper, lower)):
        number = np.arange(len(one))
        before = np.maximum.accumulate(np.where(other, number, -1))
        after = np.minimum.accumulate(np.where(other, number, len(one))[::-1])[::-1]
        after = np.append(after[1:], len(one))[: len(one)]
        at = np.flatnonzero(one & (before >= 0) & (after < len(one)))
        at = at[
            (m.cluster_piece[before[at]] == m.cluster_piece[at]) & (m.cluster_piece[after[at]] == m.cluster_piece[at])
        ]
        start, end = m.cluster_onset[before[at]], m.cluster_onset[after[at]]
        phase = np.rint(8 * (m.cluster_onset[at] - start) / np.maximum(end - start, 1)).astype(np.int64) % 8
        out.append(shares(m.cluster_piece[at], phase, 8, m.n))
    return out


def _surroundings(m: OnsetClusters) -> list[Floats]:
    """How often the pitch class of a note, and those a semitone away, occur among its 16 neighbours.

    A note that is alone with its pitch class among many a semitone away is a passing note or a wrong one: its leap from
    the leading note tells.
    """
    same, near = np.zeros((2, len(m.pitch)), np.int64)
    number = np.arange(len(m.pitch))
    for back in range(1, 9):
        together = number[back:][m.piece[back:] == m.piece[:-back]] if back < len(number) else number[:0]
        step = (m.pitch[together] - m.pitch[together - back]) % 12
        for side in (together, together - back):
            same[side] += step == 0
            near[side] += (step == 1) | (step == 11)
    kind = np.minimum(same, 3) * 4 + np.minimum(near, 3)
    led, leap, _ = _leaps(m)
    alone = led & (same == 0) & (near >= 2)
    return [
        shares(m.piece, kind, 16, m.n),
        _means(np.stack([alone & (leap == size) for size in range(4)] + [alone & (leap > 3)], axis=1), m.piece, m.n),
    ]


GROUPS: dict[str, Callable[[OnsetClusters], list[Floats]]] = {
    "melody": _melody,
    "chords": _chords,
    "harmony": _harmony,
    "key": _key,
    "bass": _bass,
    "repetition": _repetition,
    "voice_leading": _voice_leading,
    "bar_lines": _bar_lines,
    "rhythm": _rhythm,
    "rhythm_repetition": _rhythm_repetition,
    "texture": _texture,
    "variety": _variety,
    "pulse": _pulse,
    "counterpoint": _counterpoint,
    "surroundings": _surroundings,
}

VIEWS: dict[str, tuple[str, ...]] = {
    "pitch": ("melody", "chords", "harmony", "key", "bass", "repetition", "voice_leading"),
    "rhythm": ("rhythm", "rhythm_repetition"),
    "bar_free": tuple(name for name in GROUPS if name not in ("bar_lines", "pulse", "counterpoint", "surroundings")),
    "transitions": (
        *("melody", "repetition", "voice_leading", "bar_lines", "rhythm", "rhythm_repetition", "variety"),
        *("pulse", "counterpoint", "surroundings"),
    ),
    "all": tuple(GROUPS),
}
"""Name -> groups of features that a member of an ensemble gets: pitches and their order, rhythm, all but the bars, how
notes and bars follow each other, everything.

Only some formats have the bars of the music, so members that classify style must not get them.
"""


def style_features(notes: Notes) -> Floats:
    """(B, F) style features of each piece; an undefined one is 0.

    Shares enter as their square roots (Hellinger 1909), so that differences among rare values count.
    Repetition features grow with length: compare pieces of similar length, or add the length.
    """
    clusters = OnsetClusters(notes)
    table = np.concatenate([part for group in GROUPS.values() for part in group(clusters)], axis=1)
    out: Floats = np.nan_to_num(np.sign(table) * np.sqrt(np.abs(table)))
    return out


@cache
def feature_columns() -> Mapping[str, slice]:
    """Group -> its columns in `style_features`."""
    empty = OnsetClusters(Notes.concat([]))
    width = [sum(part.shape[1] for part in group(empty)) for group in GROUPS.values()]
    end = np.cumsum(width).tolist()
    return MappingProxyType({name: slice(b - w, b) for name, w, b in zip(GROUPS, width, end, strict=True)})
