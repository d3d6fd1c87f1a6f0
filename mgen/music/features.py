"""A piece as numbers that a classifier reads: free of key, tempo, register and velocity.

The numbers say how a piece repeats itself, moves, divides time and voices chords. They know nothing of files,
and nothing of the metre but in the groups `METRIC`, which are music where the grid's beats are the music's and
tell the file format where they are not: leave them out (`FORMAT_FREE`) to compare music across collections.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mgen.arrays import Floats, divide, entropy, mean_of, median_of
from mgen.errors import MgenError
from mgen.music import metrics, ngrams
from mgen.music.voices import leaders
from mgen.notes import STEPS_PER_QUARTER, Ints, Notes

Named = Iterator[tuple[str, Floats]]
"""Name of one feature with (B,) values, or of several with (B, K); NaN where undefined."""

# Lower edges, in semitones, of the classes of a melodic interval; the octave and beyond is one class.
_STEPS = np.array([-11, -7, -6, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 7, 8, 12])
_CONTOUR = np.array([-2, 0, 1, 3])  # leap down | step down | same | step up | leap up
_RATIOS = np.array([-1.75, -1.25, -0.75, -0.25, 0.25, 0.75, 1.25, 1.75])  # octaves
_LENGTHS = np.array([-1.75, -0.75, -0.25, 0.25, 0.75, 1.75])  # octaves
_HELD = np.array([-1.25, -0.25, 0.1])  # octaves: staccato | half | to the next onset | beyond it


@dataclass(frozen=True)
class _Line:
    """One note an onset, L in all: the top or the lowest line of B pieces."""

    n: int
    piece: Ints  # (L,) rising
    pitch: Ints
    onset: Ints
    bar: Ints

    @cached_property
    def together(self) -> NDArray[np.bool_]:
        """(L,) whether the note before is of the same piece."""
        return ngrams.complete(self.piece, 2)

    @cached_property
    def interval(self) -> Ints:
        """(L,) semitones from the note before; read it where `together`."""
        return np.diff(self.pitch, prepend=np.int32(0))

    @cached_property
    def log_gap(self) -> Floats:
        """(L,) log2 of the grid steps since the note before; read it where `together`."""
        return np.log2(np.where(self.together, np.diff(self.onset, prepend=np.int32(0)), 1))

    @cached_property
    def ratio(self) -> tuple[NDArray[np.bool_], Floats]:
        """(L,) whether there are two notes before, and log2 of the last gap over the one before."""
        return ngrams.complete(self.piece, 3), np.diff(self.log_gap, prepend=0.0)

    @cached_property
    def ratio_class(self) -> NDArray[np.int64]:
        """(L,) the ratio in half octaves, -6..6."""
        return np.clip(np.rint(2 * self.ratio[1]), -6, 6).astype(np.int64)

    def windows(self, size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Each note's window (L,), and each window's piece.

        A window has `size` notes; a piece's last one may have up to twice as many, and its only one fewer.
        """
        count = np.bincount(self.piece, minlength=self.n)
        rank = np.arange(len(self.piece)) - (np.cumsum(count) - count)[self.piece]
        windows = np.where(count > 0, np.maximum(count // size, 1), 0)
        window = (np.cumsum(windows) - windows)[self.piece] + np.minimum(rank // size, windows[self.piece] - 1)
        return window, np.repeat(np.arange(self.n), windows)


class _Music:
    """The pitched notes of B pieces by piece, onset and pitch, and the lines in them."""

    def __init__(self, notes: Notes) -> None:
        self.all = notes
        self.notes = notes = metrics.pitched(notes)
        self.n = notes.n_pieces
        order = np.lexsort((notes.pitch, notes.onset, notes.piece))
        self.piece, self.onset, self.pitch, self.duration, self.bar = (
            column[order] for column in (notes.piece, notes.onset, notes.pitch, notes.duration, notes.bar)
        )
        fresh = np.ones(len(order), bool)
        fresh[1:] = (np.diff(self.onset) != 0) | (np.diff(self.piece) != 0)
        self.chord = np.cumsum(fresh) - 1  # (N,) number of the onset that each note belongs to
        self.low_at = np.flatnonzero(fresh)
        self.top_at = np.append(self.low_at[1:], len(order)) - 1 if len(order) else self.low_at
        self.low, self.top = (
            _Line(self.n, self.piece[at], self.pitch[at], self.onset[at], self.bar[at])
            for at in (self.low_at, self.top_at)
        )


def _histogram(owner: NDArray[np.integer], bins: NDArray[np.integer], size: int, n: int) -> Floats:
    """(n, size) share of each bin among an owner's values; NaN for an owner of none."""
    counts = np.bincount(owner * np.int64(size) + bins, minlength=n * size).reshape(n, size)
    return divide(counts, counts.sum(axis=1, keepdims=True))


def _interval_class(semitones: Ints) -> Ints:
    """0 unison or octave .. 6 tritone."""
    folded = np.abs(semitones) % 12
    out: Ints = np.minimum(folded, 12 - folded)
    return out


def _spread(values: Floats, owner: NDArray[np.integer], n: int) -> Floats:
    """(n,) standard deviation; NaN for an owner of none."""
    centre = mean_of(values, owner, n)
    return np.sqrt(mean_of((values - centre[owner]) ** 2, owner, n))


def _repeated(piece: Ints, values: NDArray[np.integer], n: int, pieces: int) -> Floats:
    whole = ngrams.complete(piece, n)
    return mean_of(ngrams.repeated(piece, values, n)[whole], piece[whole], pieces)


def _returns(piece: Ints, values: NDArray[np.integer], pieces: int) -> Floats:
    """(B, 3) share of 3-grams last heard 1 to 8 notes ago, 9 to 32, and longer ago."""
    ends = np.flatnonzero(ngrams.complete(piece, 3))
    letter = values.astype(np.int64) + 128
    code = ((piece[ends] * np.int64(256) + letter[ends - 2]) * 256 + letter[ends - 1]) * 256 + letter[ends]
    order = np.argsort(code, kind="stable")
    again = code[order][1:] == code[order][:-1]
    since = np.diff(ends[order])[again]
    back = np.full(len(ends), 3)
    back[order[1:][again]] = np.searchsorted([8, 32], since)
    return _histogram(piece[ends], back, 4, pieces)[:, :3]


def _repetition(music: _Music) -> Named:
    moved = ngrams.complete(music.piece, 2)
    step = np.diff(music.pitch, prepend=np.int32(0))
    for n in range(2, 9):
        yield f"repeat_pitch_{n}", _repeated(music.piece, music.pitch, n, music.n)
        yield f"repeat_interval_{n}", _repeated(music.piece[moved], step[moved], n, music.n)
    top = music.top
    moved, (timed, _) = top.together, top.ratio
    both = top.interval * np.int64(16) + top.ratio_class
    for n in (3, 5, 8):
        yield f"repeat_top_pitch_{n}", _repeated(top.piece, top.pitch, n, music.n)
        yield f"repeat_top_interval_{n}", _repeated(top.piece[moved], top.interval[moved], n, music.n)
        yield f"repeat_rhythm_{n}", _repeated(top.piece[timed], top.ratio_class[timed], n, music.n)
    for n in (2, 4, 6):
        yield f"repeat_figure_{n}", _repeated(top.piece[timed], both[timed], n, music.n)
    yield "return_pitch", _returns(top.piece, top.pitch, music.n)
    yield "return_interval", _returns(top.piece[moved], top.interval[moved], music.n)
    yield "log_longest_run", np.log2(metrics.longest_run(music.notes))


def _melody(music: _Music) -> Named:
    top = music.top
    piece, interval = top.piece[top.together], top.interval[top.together]
    yield (
        "interval",
        _histogram(piece, np.searchsorted(_STEPS, interval, side="right"), len(_STEPS) + 1, music.n),
    )
    yield "interval_mean", mean_of(np.abs(interval), piece, music.n)
    yield "interval_spread", _spread(interval.astype(np.float64), piece, music.n)
    two = np.flatnonzero(ngrams.complete(top.piece, 3))
    contour = np.searchsorted(_CONTOUR, top.interval, side="right")
    yield "contour", _histogram(top.piece[two], contour[two - 1] * 5 + contour[two], 25, music.n)
    for lag in (2, 3):
        at = np.flatnonzero(ngrams.complete(top.piece, lag + 1))
        classes = _interval_class(top.pitch[at] - top.pitch[at - lag])
        yield f"interval_class_lag_{lag}", _histogram(top.piece[at], classes, 7, music.n)
    low = music.low
    classes = _interval_class(low.interval[low.together])
    yield "bass_interval_class", _histogram(low.piece[low.together], classes, 7, music.n)


def _voicing(music: _Music) -> Named:
    size = np.bincount(music.chord, minlength=len(music.low_at))
    piece = music.piece[music.low_at]
    yield "chord_size", _histogram(piece, np.minimum(size, 5) - 1, 5, music.n)
    yield "chord_size_spread", _spread(size.astype(np.float64), piece, music.n)
    inside = np.flatnonzero(music.chord[1:] == music.chord[:-1]) + 1
    gap = music.pitch[inside] - music.pitch[inside - 1]
    yield "chord_interval", _histogram(music.piece[inside], gap % 12, 12, music.n)
    several = size > 1
    span = music.pitch[music.top_at] - music.pitch[music.low_at]
    yield "chord_span", mean_of(span[several], piece[several], music.n)
    yield "polyphony", metrics.polyphony(music.notes)


def _rhythm(music: _Music) -> Named:
    top = music.top
    timed, ratio = top.ratio
    classes = np.searchsorted(_RATIOS, ratio[timed], side="right")
    yield "ratio", _histogram(top.piece[timed], classes, len(_RATIOS) + 1, music.n)
    piece, gap = top.piece[top.together], top.log_gap[top.together]
    usual = median_of(gap, piece, music.n)
    classes = np.searchsorted(_LENGTHS, gap - usual[piece], side="right")
    yield "gap", _histogram(piece, classes, len(_LENGTHS) + 1, music.n)
    has_gap = ~np.isnan(usual[music.piece])
    length = np.log2(np.maximum(music.duration[has_gap], 1)) - usual[music.piece[has_gap]]
    classes = np.searchsorted(_LENGTHS, length, side="right")
    yield "duration", _histogram(music.piece[has_gap], classes, len(_LENGTHS) + 1, music.n)
    held = np.log2(np.maximum(music.duration[music.top_at[:-1]], 1))[top.together[1:]] - gap
    yield "legato", _histogram(piece, np.searchsorted(_HELD, held, side="right"), 4, music.n)


def _entropies(music: _Music) -> Named:
    top = music.top
    views: dict[str, tuple[NDArray[np.bool_], NDArray[np.integer], int]] = {
        "pitch_class": (np.ones(len(top.piece), bool), top.pitch % 12, 12),
        "interval": (top.together, np.searchsorted(_STEPS, top.interval, side="right"), len(_STEPS) + 1),
        "rhythm": (top.ratio[0], top.ratio_class + 6, 13),
    }
    for size in (8, 32):
        window, owner = top.windows(size)
        for name, (known, values, bins) in views.items():
            bits = entropy(
                np.bincount(window[known] * bins + values[known], minlength=len(owner) * bins).reshape(-1, bins)
            )
            some = ~np.isnan(bits)
            yield f"entropy_{name}_{size}", mean_of(bits, owner, music.n)
            yield f"entropy_{name}_{size}_spread", _spread(bits[some], owner[some], music.n)


def _continuity(music: _Music) -> Named:
    top = music.top
    window, owner = top.windows(8)
    count = len(owner)
    classes = _histogram(window, top.pitch % 12, 12, count)
    unit = classes / np.linalg.norm(classes, axis=1, keepdims=True)
    height = mean_of(top.pitch, window, count)
    pace = mean_of(top.log_gap[top.together], window[top.together], count)
    for lag in (1, 2, 4):
        at = np.flatnonzero(owner[lag:] == owner[:-lag])
        yield f"alike_{lag}", mean_of((unit[at] * unit[at + lag]).sum(axis=1), owner[at], music.n)
        yield f"drift_{lag}", mean_of(np.abs(height[at + lag] - height[at]), owner[at], music.n)
        yield f"pace_{lag}", mean_of(np.abs(pace[at + lag] - pace[at]), owner[at], music.n)


def _metre(music: _Music) -> Named:
    notes, top = music.all, music.top
    piece, onset = metrics.onsets(notes)
    yield "phase", _histogram(piece, onset % 24 // 2, 12, music.n)
    beat = np.minimum(notes.position // 24, 4)
    yield "beat", _histogram(notes.piece, np.maximum(beat, 0), 5, music.n)
    yield "density", metrics.density(notes)
    yield "grooving", metrics.grooving_similarity(notes)
    yield "swing", metrics.swing(notes)
    yield "empty_beats", metrics.empty_beats(notes)
    crossing = np.diff(top.bar, prepend=np.int32(0)) != 0
    leap = np.abs(top.interval)
    for name, where in (("across", top.together & crossing), ("within", top.together & ~crossing)):
        yield f"interval_{name}_bars", mean_of(leap[where], top.piece[where], music.n)
        yield f"gap_{name}_bars", mean_of(top.log_gap[where], top.piece[where], music.n)


def _voices(music: _Music) -> Named:
    """How notes go on from the ones that lead to them inside bars, and over bar lines, every second one apart."""
    leader = leaders(music.piece, music.onset, music.pitch)
    led, by = leader >= 0, np.maximum(leader, 0)
    line = music.bar - music.bar[by]
    over = (
        ("within", line == 0),
        ("over_odd", (line == 1) & (music.bar % 2 == 1)),
        ("over_even", (line == 1) & (music.bar % 2 == 0)),
    )
    leap, since = np.abs(music.pitch - music.pitch[by]), np.log2(np.maximum(music.onset - music.onset[by], 1))
    means: dict[str, list[Floats]] = {"leap": [], "step": [], "same": [], "since": []}
    for name, where in over:
        some = led & where
        owner = music.piece[some]
        for key, values in (("leap", leap), ("step", (leap == 1) | (leap == 2)), ("same", leap == 0), ("since", since)):
            means[key].append(mean_of(values[some], owner, music.n))
            yield f"{key}_{name}", means[key][-1]
    for key, (inside, odd, even) in means.items():
        yield f"{key}_odd_beside_within", odd - inside
        yield f"{key}_even_beside_within", even - inside
    yield "unled", mean_of(~led, music.piece, music.n)


def _seams(music: _Music) -> Named:
    """How music changes from two beats to the next two: inside bars, and over bar lines, every second one apart."""
    last = np.full(music.n, -1)
    np.maximum.at(last, music.piece, music.onset // STEPS_PER_QUARTER)
    first = np.cumsum(last + 4) - last - 1  # three beats of silence before each piece, which no four beats span
    size = int((last + 4).sum()) + 2
    at = first[music.piece] + music.onset // STEPS_PER_QUARTER
    owner = np.append(np.repeat(np.arange(music.n), last + 4), [0, 0])

    struck = np.bincount(at, minlength=size)
    around = struck[:-1] + struck[1:]
    some = np.flatnonzero((around[:-2] > 0) & (around[2:] > 0)) + 2  # beats with notes on both sides

    def two(values: NDArray[np.generic], join: np.ufunc = np.add) -> NDArray[Any]:
        """(2, S, ...) of the two beats before and the two from each beat of `some` on."""
        pair = join(values[:-1], values[1:])
        return np.stack([pair[some - 2], pair[some]])

    count = two(struck)
    height = two(np.bincount(at, weights=music.pitch, minlength=size)) / count
    length = two(np.bincount(at, weights=np.log2(np.maximum(music.duration, 1)), minlength=size)) / count
    beats, highest, lowest = np.zeros((size, 12)), np.full(size, -1), np.full(size, 128)
    np.add.at(beats, (at, music.pitch % 12), 1)
    np.maximum.at(highest, at, music.pitch)
    np.minimum.at(lowest, at, music.pitch)
    classes = two(beats)
    classes /= np.linalg.norm(classes, axis=2, keepdims=True)
    changes = {
        "alike": (classes[0] * classes[1]).sum(axis=1),
        "height": np.abs(height[1] - height[0]),
        "top": np.abs(np.subtract(*two(highest, np.maximum))),
        "bass": np.abs(np.subtract(*two(lowest, np.minimum))),
        "notes": np.abs(np.log2(count[1] / count[0])),
        "length": np.abs(length[1] - length[0]),
    }
    bars = music.all.bars
    number = np.arange(len(bars.piece)) - music.all.bar_starts[bars.piece]
    kind = np.zeros(size, np.int64)  # 0 inside a bar, 1 before an odd bar, 2 before an even one
    beat = bars.onset // STEPS_PER_QUARTER
    heard = beat <= last[bars.piece]
    kind[(first[bars.piece] + beat)[heard]] = 2 - number[heard] % 2
    kind, owner = kind[some], owner[some]
    for name, values in changes.items():
        inside, odd, even = (mean_of(values[kind == k], owner[kind == k], music.n) for k in range(3))
        yield from ((f"seam_{name}_within", inside), (f"seam_{name}_odd", odd), (f"seam_{name}_even", even))
        yield from (
            (f"seam_{name}_odd_beside_within", odd - inside),
            (f"seam_{name}_even_beside_within", even - inside),
        )


GROUPS: dict[str, Callable[[_Music], Named]] = {
    "repetition": _repetition,
    "melody": _melody,
    "voicing": _voicing,
    "rhythm": _rhythm,
    "entropies": _entropies,
    "continuity": _continuity,
    "metre": _metre,
    "voices": _voices,
    "seams": _seams,
}

METRIC = ("metre", "voices", "seams")
"""The groups that know where the beats are."""

FORMAT_FREE = tuple(name for name in GROUPS if name not in METRIC)
"""The groups that do not."""


def _table(notes: Notes, groups: Collection[str]) -> tuple[tuple[str, ...], Floats]:
    """Names, and (B, F) features with NaN where undefined."""
    unknown = sorted(set(groups) - set(GROUPS))
    if unknown:
        raise MgenError(f"features: no group '{unknown[0]}'; expected some of {', '.join(GROUPS)}")
    music = _Music(notes)
    names: list[str] = []
    columns: list[Floats] = []
    for group in GROUPS:
        if group in groups:
            for name, values in GROUPS[group](music):
                names += [name] if values.ndim == 1 else [f"{name}_{k}" for k in range(values.shape[1])]
                columns.append(values[:, None] if values.ndim == 1 else values)
    return tuple(names), np.concatenate(columns, axis=1)


def feature_names(groups: Collection[str] = tuple(GROUPS)) -> tuple[str, ...]:
    """Names of the columns of `features`; bins of a histogram are numbered from its low end."""
    return (*_table(Notes.concat([]), groups)[0], "undefined")


def features(notes: Notes, groups: Collection[str] = tuple(GROUPS)) -> Floats:
    """(B, F) numbers of each piece, never NaN.

    A feature that a piece leaves undefined (a piece without notes leaves all of them) is 0, and the last column says
    which share of them that was. Transposition, velocity, program and token numbers change nothing; drums are heard
    in the group `metre` alone. Without the groups `METRIC`, playing everything twice as slowly changes nothing either.

    Args:
        notes: the pieces. Repetition grows with length: compare pieces of one length.
        groups: some of `GROUPS`.

    Raises:
        MgenError: There is no such group.
    """
    values = _table(notes, groups)[1]
    missing = np.isnan(values)
    return np.concatenate([np.where(missing, 0.0, values), missing.mean(axis=1, keepdims=True)], axis=1)


FEATURE_NAMES = feature_names()
"""Names of all features; their number is F."""
