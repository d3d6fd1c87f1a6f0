"""Features of a piece for a classifier: free of key, tempo, register and velocity.

They describe how a piece repeats itself, moves, divides time and voices chords. Only the groups `METRIC` depend on the
metre. Where the grid's beats are not the music's, these reveal the file format: leave them out (`FORMAT_FREE`) to
compare music across collections.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mgen.arrays import Floats, Longs, Mask, entropy, mean_of, median_of, shares, windows
from mgen.errors import MgenError
from mgen.music import metrics, ngrams
from mgen.music.onset_clusters import OnsetClusters
from mgen.music.voices import leaders
from mgen.notes import STEPS_PER_QUARTER, Ints, Notes

Named = Iterator[tuple[str, Floats]]
"""Name of one feature with (B,) values, or of several with (B, K); NaN where undefined."""

# Lower edges, in semitones, of the classes of a melodic interval; the octave and beyond is one class.
_STEPS = np.array([-11, -7, -6, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 7, 8, 12])
_CONTOUR = np.array([-2, 0, 1, 3])  # leap down | step down | same | step up | leap up
_RATIOS = np.array([-1.75, -1.25, -0.75, -0.25, 0.25, 0.75, 1.25, 1.75])  # octaves
_LENGTHS = np.array([-1.75, -0.75, -0.25, 0.25, 0.75, 1.75])  # octaves
_LEGATO = np.array([-1.25, -0.25, 0.1])  # octaves: staccato | half | to the next onset | beyond it


def _interval_class(semitones: Ints) -> Ints:
    """0 unison or octave .. 6 tritone."""
    folded = np.abs(semitones) % 12
    out: Ints = np.minimum(folded, 12 - folded)
    return out


def _spread(values: Floats, owner: NDArray[np.integer], n: int) -> Floats:
    """(n,) standard deviation; NaN for an owner of none."""
    centre = mean_of(values, owner, n)
    return np.sqrt(mean_of((values - centre[owner]) ** 2, owner, n))


def _returns(piece: Ints, values: NDArray[np.integer], pieces: int) -> Floats:
    """(B, 3) share of 3-grams that last occurred 1 to 8 notes ago, 9 to 32, and longer ago."""
    ends = np.flatnonzero(ngrams.complete(piece, 3))
    letter = values.astype(np.int64) + 128
    code = ((piece[ends] * np.int64(256) + letter[ends - 2]) * 256 + letter[ends - 1]) * 256 + letter[ends]
    order = np.argsort(code, kind="stable")
    again = code[order][1:] == code[order][:-1]
    since = np.diff(ends[order])[again]
    back = np.full(len(ends), 3)
    back[order[1:][again]] = np.searchsorted([8, 32], since)
    return shares(piece[ends], back, 4, pieces)[:, :3]


def _ratio_class(music: OnsetClusters) -> Longs:
    """(M,) ratio of the last gap to the one before in half octaves, -6..6; meaningful where `after(2)`."""
    return np.clip(np.rint(2 * music.log_ratio), -6, 6).astype(np.int64)


def _repetition(music: OnsetClusters) -> Named:
    def share(piece: Ints, values: NDArray[np.integer], n: int) -> Floats:
        return ngrams.repeat_share(piece, values, n, music.n)

    within = ngrams.complete(music.piece, 2)
    step = np.diff(music.pitch, prepend=np.int32(0))
    for n in range(2, 9):
        yield f"repeat_pitch_{n}", share(music.piece, music.pitch, n)
        yield f"repeat_interval_{n}", share(music.piece[within], step[within], n)
    owner, top, timed, ratio = music.cluster_piece, music.top, music.after(2), _ratio_class(music)
    moved, interval = owner[music.follows], top.interval[music.follows]
    for n in (3, 5, 8):
        yield f"repeat_top_pitch_{n}", share(owner, top.pitch, n)
        yield f"repeat_top_interval_{n}", share(moved, interval, n)
        yield f"repeat_rhythm_{n}", share(owner[timed], ratio[timed], n)
    both = top.interval * np.int64(16) + ratio
    for n in (2, 4, 6):
        yield f"repeat_figure_{n}", share(owner[timed], both[timed], n)
    yield "return_pitch", _returns(owner, top.pitch, music.n)
    yield "return_interval", _returns(moved, interval, music.n)
    yield "log_longest_run", np.log2(metrics.longest_run(music.notes))


def _melody(music: OnsetClusters) -> Named:
    owner, top = music.cluster_piece, music.top
    piece, interval = owner[music.follows], top.interval[music.follows]
    steps = np.searchsorted(_STEPS, interval, side="right")
    yield "interval", shares(piece, steps, len(_STEPS) + 1, music.n)
    yield "interval_mean", mean_of(np.abs(interval), piece, music.n)
    yield "interval_spread", _spread(interval.astype(np.float64), piece, music.n)
    two = np.flatnonzero(music.after(2))
    contour = np.searchsorted(_CONTOUR, top.interval, side="right")
    yield "contour", shares(owner[two], contour[two - 1] * 5 + contour[two], 25, music.n)
    for lag in (2, 3):
        at = np.flatnonzero(music.after(lag))
        classes = _interval_class(top.pitch[at] - top.pitch[at - lag])
        yield f"interval_class_lag_{lag}", shares(owner[at], classes, 7, music.n)
    classes = _interval_class(music.low.interval[music.follows])
    yield "bass_interval_class", shares(piece, classes, 7, music.n)


def _voicing(music: OnsetClusters) -> Named:
    size, piece = music.size, music.cluster_piece
    yield "chord_size", shares(piece, np.minimum(size, 5) - 1, 5, music.n)
    yield "chord_size_spread", _spread(size.astype(np.float64), piece, music.n)
    inside = np.flatnonzero(music.cluster[1:] == music.cluster[:-1]) + 1
    gap = music.pitch[inside] - music.pitch[inside - 1]
    yield "chord_interval", shares(music.piece[inside], gap % 12, 12, music.n)
    several = size > 1
    span = music.top.pitch - music.low.pitch
    yield "chord_span", mean_of(span[several], piece[several], music.n)
    yield "polyphony", metrics.polyphony(music.notes)


def _rhythm(music: OnsetClusters) -> Named:
    timed = music.after(2)
    classes = np.searchsorted(_RATIOS, music.log_ratio[timed], side="right")
    yield "ratio", shares(music.cluster_piece[timed], classes, len(_RATIOS) + 1, music.n)
    piece, gap = music.cluster_piece[music.follows], music.log_gap[music.follows]
    usual = median_of(gap, piece, music.n)
    classes = np.searchsorted(_LENGTHS, gap - usual[piece], side="right")
    yield "gap", shares(piece, classes, len(_LENGTHS) + 1, music.n)
    has_gap = ~np.isnan(usual[music.piece])
    length = np.log2(np.maximum(music.duration[has_gap], 1)) - usual[music.piece[has_gap]]
    classes = np.searchsorted(_LENGTHS, length, side="right")
    yield "duration", shares(music.piece[has_gap], classes, len(_LENGTHS) + 1, music.n)
    before = music.duration[music.first[1:] - 1]  # of the top note of the chord before
    legato = np.log2(np.maximum(before, 1))[music.follows[1:]] - gap
    yield "legato", shares(piece, np.searchsorted(_LEGATO, legato, side="right"), 4, music.n)


def _entropies(music: OnsetClusters) -> Named:
    top = music.top
    views: dict[str, tuple[Mask, NDArray[np.integer], int]] = {
        "pitch_class": (music.after(0), top.pitch % 12, 12),
        "interval": (music.follows, np.searchsorted(_STEPS, top.interval, side="right"), len(_STEPS) + 1),
        "rhythm": (music.after(2), _ratio_class(music) + 6, 13),
    }
    for size in (8, 32):
        window, owner = windows(music.cluster_piece, music.n, size)
        for name, (known, values, bins) in views.items():
            bits = entropy(
                np.bincount(window[known] * bins + values[known], minlength=len(owner) * bins).reshape(-1, bins)
            )
            some = ~np.isnan(bits)
            yield f"entropy_{name}_{size}", mean_of(bits, owner, music.n)
            yield f"entropy_{name}_{size}_spread", _spread(bits[some], owner[some], music.n)


def _continuity(music: OnsetClusters) -> Named:
    top, follows = music.top, music.follows
    window, owner = windows(music.cluster_piece, music.n, 8)
    count = len(owner)
    classes = shares(window, top.pitch % 12, 12, count)
    unit = classes / np.linalg.norm(classes, axis=1, keepdims=True)
    height = mean_of(top.pitch, window, count)
    pace = mean_of(music.log_gap[follows], window[follows], count)
    for lag in (1, 2, 4):
        at = np.flatnonzero(owner[lag:] == owner[:-lag])
        yield f"alike_{lag}", mean_of((unit[at] * unit[at + lag]).sum(axis=1), owner[at], music.n)
        yield f"drift_{lag}", mean_of(np.abs(height[at + lag] - height[at]), owner[at], music.n)
        yield f"pace_{lag}", mean_of(np.abs(pace[at + lag] - pace[at]), owner[at], music.n)


def _metre(music: OnsetClusters) -> Named:
    notes, owner = music.notes, music.cluster_piece
    piece, _, step = metrics.onset_steps(notes)
    yield "phase", shares(piece, step // 2, 12, music.n)
    beat = np.minimum(notes.position // 24, 4)
    yield "beat", shares(notes.piece, np.maximum(beat, 0), 5, music.n)
    yield "density", metrics.density(notes)
    yield "grooving", metrics.grooving_similarity(notes)
    yield "swing", metrics.swing(notes)
    yield "empty_beats", metrics.empty_beats(notes)
    bar = music.bar[music.first + music.size - 1]  # of the top note: a note may lie beyond the end of its bar
    crossing = np.diff(bar, prepend=np.int32(0)) != 0
    leap = np.abs(music.top.interval)
    for name, where in (("across", music.follows & crossing), ("within", music.follows & ~crossing)):
        yield f"interval_{name}_bars", mean_of(leap[where], owner[where], music.n)
        yield f"gap_{name}_bars", mean_of(music.log_gap[where], owner[where], music.n)


def _voices(music: OnsetClusters) -> Named:
    """How notes continue from their leaders inside bars, and over odd and even bar lines."""
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


def _seams(music: OnsetClusters) -> Named:
    """How music changes from two beats to the next two: inside bars, and over odd and even bar lines."""
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
    bars = music.notes.bars
    number = np.arange(len(bars.piece)) - music.notes.bar_starts[bars.piece]
    place = np.zeros(size, np.int64)  # 0 inside a bar, 1 before an odd bar, 2 before an even one
    beat = bars.onset // STEPS_PER_QUARTER
    within = beat <= last[bars.piece]
    place[(first[bars.piece] + beat)[within]] = 2 - number[within] % 2
    place, owner = place[some], owner[some]
    for name, values in changes.items():
        inside, odd, even = (mean_of(values[place == k], owner[place == k], music.n) for k in range(3))
        yield from ((f"seam_{name}_within", inside), (f"seam_{name}_odd", odd), (f"seam_{name}_even", even))
        yield from (
            (f"seam_{name}_odd_beside_within", odd - inside),
            (f"seam_{name}_even_beside_within", even - inside),
        )


GROUPS: dict[str, Callable[[OnsetClusters], Named]] = {
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

METRIC = ("metre", "voices", "seams")  # the groups that depend on where the beats are
FORMAT_FREE = tuple(name for name in GROUPS if name not in METRIC)  # the groups that do not


def _table(notes: Notes, groups: Collection[str]) -> tuple[tuple[str, ...], Floats]:
    """Names, and (B, F) features with NaN where undefined."""
    unknown = sorted(set(groups) - set(GROUPS))
    if unknown:
        raise MgenError(f"features: no group '{unknown[0]}'; expected some of {', '.join(GROUPS)}")
    music = OnsetClusters(notes, gap=0)
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

    A feature that is undefined for a piece (all are for a piece without notes) is 0, and the last column is the share
    of undefined features. Transposition, velocity, program and token numbers change nothing; drums count in the group
    `metre` alone. Without the groups `METRIC`, playing everything twice as slowly changes nothing either.

    Args:
        notes: the pieces. Repetition grows with length: compare pieces of one length.
        groups: some of `GROUPS`.

    Raises:
        MgenError: There is no such group.
    """
    values = _table(notes, groups)[1]
    missing = np.isnan(values)
    return np.concatenate([np.where(missing, 0.0, values), missing.mean(axis=1, keepdims=True)], axis=1)


FEATURE_NAMES = feature_names()  # names of all features; their number is F
