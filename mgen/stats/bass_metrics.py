"""How a bass line compares with the true one and with its drum part; intervals by resampling whole works.

Every metric but the AUC is a function of sums over windows, so that a resample of works is a weighted sum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mgen.arrays import Floats, Longs, divide, entropy
from mgen.encoding.drum_bass import BAR_STEPS, KICK, LOWEST, PITCHES, STEP, canonical, cut_pieces, to_notes
from mgen.music.keys import scale_of
from mgen.stats.graded import graded
from mgen.stats.intervals import REPLICATES, Interval, percentile_interval, resamples, undefined_interval

MAX_N = 4  # longest n-gram of BLEU
AUC_NOTES = 12  # that most windows of four bars have
METRICS = {
    "note_f1": "F1 of note starts with their pitch, 0..1",
    "onset_f1": "F1 of note starts, 0..1",
    "bleu": "BLEU-4 over bars, 0..1",
    "perplexity": "per step, 1 upwards; an upper bound for cvae",
    "pitch_entropy": "bits of the pitches of all starts, 0..5.2",
    "diversity": "share of steps in which two lines for one drum part differ, 0..1",
    "distinct": "share of the lines for one drum part that differ from all before them, 0..1",
    "kicks_with_bass": "share of kicks with a bass note start, 0..1",
    "bass_on_kicks": "share of bass note starts on a kick, 0..1",
    "in_key": "share of bass note starts in the scale of the piece's key, 0..1",
    "auc": f"of new classifiers between real basses and these by {AUC_NOTES} notes, 0.5..1",
}
"""Metric -> what it is, with unit and range."""

PLAIN = tuple(name for name in METRICS if name != "auc")  # functions of sums over windows

Sums = dict[str, Floats]  # name -> (N,) or (N, K)


@dataclass(frozen=True, slots=True, eq=False)
class Played:
    """What a system made of N windows.

    `drums` (N, T, 14), `truth` (N, T) and `bass` (N, T) as in `mgen.encoding.drum_bass`; `key` (N,) that of the piece;
    `nats` (N,) negative log-likelihood of the true bass, None without a likelihood; `others` (K, N, T) lines for the
    same drum parts, at least two, for diversity; None without.
    """

    drums: NDArray[np.bool_]
    truth: NDArray[np.integer]
    bass: NDArray[np.integer]
    key: Longs
    nats: Floats | None = None
    others: NDArray[np.integer] | None = None


def bass_scores(played: Played, work: NDArray[np.generic]) -> dict[str, Interval]:
    """All of METRICS, with 95 % intervals by resampling works (N,); undefined ones are NaN."""
    names, group = np.unique(work, return_inverse=True)
    sums = {name: _by_group(of, group, len(names)) for name, of in _sums(played).items()}
    blocks = list(resamples(np.arange(len(names)), REPLICATES, seed=0))
    whole, found = np.ones((1, len(names))), {}
    for name in PLAIN:
        value = float(_metric(name, sums, whole)[0])
        draws = np.concatenate([_metric(name, sums, weights) for weights in blocks])
        found[name] = undefined_interval() if np.isnan(value) else percentile_interval(value, draws)
    return found | {"auc": bass_auc(played.truth, played.bass, work)}


def bass_auc(truth: NDArray[np.integer], made: NDArray[np.integer], work: NDArray[np.generic]) -> Interval:
    """The graded two-sample test of `mgen.stats.graded` between bass lines (N, T); NaN with too few long enough.

    Cannot see: the drums, and so whether a line belongs to its drum part.
    """
    real, ours = (
        cut_pieces(to_notes(None, line, np.arange(len(line)) * line.shape[1] * STEP), len(line), line.shape[1] * STEP)
        for line in (truth, made)
    )
    if len(set(work.tolist())) < 2:
        return undefined_interval()
    return graded(real, ours, work, work, lengths=(AUC_NOTES,)).auc[AUC_NOTES]


def bass_values(played: Played) -> dict[str, float]:
    """The metrics without intervals."""
    sums = {name: _by_group(of, np.zeros(len(of), np.int64), 1) for name, of in _sums(played).items()}
    return {name: float(_metric(name, sums, np.ones((1, 1)))[0]) for name in PLAIN}


def pair_distance(lines: NDArray[np.integer]) -> Floats:
    """(N,) mean share of steps in which two of the K lines (K, N, T) of a drum part differ, over all pairs."""
    count = len(lines)
    pairs = [(lines[i] != lines[j]).mean(axis=1) for i in range(count) for j in range(i)]
    out: Floats = np.mean(pairs, axis=0)
    return out


def distinct_lines(lines: NDArray[np.integer]) -> Floats:
    """(N,) share of the K lines (K, N, T) of a drum part that differ from all before them."""
    new = np.ones(lines.shape[:2])
    for i in range(len(lines)):
        new[i] = ~(lines[:i] == lines[i]).all(axis=2).any(axis=0)
    out: Floats = new.mean(axis=0)
    return out


def repeats_of_drums(drums: NDArray[np.bool_], bass: NDArray[np.integer], piece: Longs) -> tuple[Floats, Longs]:
    """Diversity of real basses: windows of one piece with equal drums.

    Returns:
        (D,) mean share of steps in which their lines differ, for each drum part that occurs more than once in a piece;
        (D,) a window of each.
    """
    packed = np.packbits(drums.reshape(len(drums), -1), axis=1)
    table = np.column_stack([packed.view(np.uint8), piece.astype(np.int64).view(np.uint8).reshape(len(piece), -1)])
    _, first, number = np.unique(table, axis=0, return_index=True, return_inverse=True)
    number = number.reshape(-1)
    again = np.flatnonzero(np.bincount(number) > 1)
    values = [float(pair_distance(bass[number == one][:, None])[0]) for one in again]
    return np.array(values), first[again].astype(np.int64)


def _by_group(values: Floats, group: Longs, count: int) -> Floats:
    """(G, K) sums of (N,) or (N, K) values."""
    rows = values.reshape(len(values), -1)
    out = np.zeros((count, rows.shape[1]))
    np.add.at(out, group, rows)
    return out


def _sums(played: Played) -> Sums:
    made, true = canonical(played.bass), canonical(played.truth)
    starts, wanted = made < PITCHES, true < PITCHES
    kicks = played.drums[:, :, KICK]
    counts = np.zeros((len(made), PITCHES))
    window, step = np.nonzero(starts)
    np.add.at(counts, (window, made[window, step]), 1)
    scale = scale_of(played.key)  # (N, 12)
    named = scale.any(axis=1)
    inside = np.take_along_axis(scale, (LOWEST + made.astype(np.int64)) % 12, axis=1) & starts
    found = {
        "starts": starts.sum(axis=1),
        "wanted": wanted.sum(axis=1),
        "right_onsets": (starts & wanted).sum(axis=1),
        "right_notes": (starts & (made == true)).sum(axis=1),
        "kicks": kicks.sum(axis=1),
        "both": (kicks & starts).sum(axis=1),
        "named": starts.sum(axis=1) * named,
        "inside": inside.sum(axis=1) * named,
        "pitches": counts,
        **_ngram_sums(made, true),
    }
    if played.nats is not None:
        found |= {"nats": played.nats, "steps": np.full(len(made), made.shape[1])}
    if played.others is not None:
        found |= {"distance": pair_distance(played.others), "distinct": distinct_lines(played.others)}
        found |= {"windows": np.ones(len(made))}
    return {name: np.asarray(of, np.float64) for name, of in found.items()}


def _ngram_sums(made: NDArray[np.integer], true: NDArray[np.integer]) -> dict[str, Longs]:
    """`matches` and `ngrams` (N, 4): of each length the n-grams of a bar that its true bar has too, and all of them.

    A bar is a sentence of 16 tokens, the classes of its steps; an n-gram counts as often as the true bar has it.
    """
    shape = (-1, BAR_STEPS)
    lines, models = made.reshape(shape).astype(np.int64), true.reshape(shape).astype(np.int64)
    matches = np.zeros((len(lines), MAX_N), np.int64)
    for n in range(1, MAX_N + 1):
        (ours, theirs) = (_codes(of, n) for of in (lines, models))
        # the k-th time that a bar has an n-gram matches the k-th time that the true bar has it
        matches[:, n - 1] = (_ranked(ours)[:, :, None] == _ranked(theirs)[:, None, :]).any(axis=2).sum(axis=1)
    ngrams = np.broadcast_to(BAR_STEPS + 1 - np.arange(1, MAX_N + 1), matches.shape)
    per_window = (len(made), -1, MAX_N)
    return {"matches": matches.reshape(per_window).sum(axis=1), "ngrams": ngrams.reshape(per_window).sum(axis=1)}


def _codes(lines: Longs, n: int) -> Longs:
    """(M, 17 - n) a number for each n-gram of bars (M, 16)."""
    code = np.zeros((len(lines), lines.shape[1] + 1 - n), np.int64)
    for shift in range(n):
        code = code * 64 + lines[:, shift : lines.shape[1] + 1 - n + shift]
    return code


def _ranked(codes: Longs) -> Longs:
    """(M, K) numbers that also say the how many-th of its code in its row each is."""
    before = np.tril(codes[:, :, None] == codes[:, None, :], -1).sum(axis=2)
    out: Longs = codes * 32 + before
    return out


def _metric(name: str, sums: Sums, weights: Floats) -> Floats:
    """(R,) values under weights (R, G) of the groups."""
    ratios: dict[str, tuple[Sequence[str], Sequence[str], float]] = {
        "note_f1": (("right_notes",), ("starts", "wanted"), 2.0),
        "onset_f1": (("right_onsets",), ("starts", "wanted"), 2.0),
        "diversity": (("distance",), ("windows",), 1.0),
        "distinct": (("distinct",), ("windows",), 1.0),
        "kicks_with_bass": (("both",), ("kicks",), 1.0),
        "bass_on_kicks": (("both",), ("starts",), 1.0),
        "in_key": (("inside",), ("named",), 1.0),
    }
    if name in ratios:
        above, below, factor = ratios[name]
        if above[0] not in sums:
            return np.full(len(weights), np.nan)
        total = [sum(weights @ sums[one][:, 0] for one in names) for names in (above, below)]
        return factor * divide(*total)
    others: dict[str, Callable[[], Floats]] = {
        "bleu": lambda: _bleu(weights @ sums["matches"], weights @ sums["ngrams"]),
        "pitch_entropy": lambda: entropy(weights @ sums["pitches"]),
        "perplexity": lambda: _perplexity(sums, weights),
    }
    return others[name]()


def _bleu(matches: Floats, ngrams: Floats) -> Floats:
    """(R,) geometric mean of the precisions (R, 4); bars are equally long, so there is no brevity penalty.

    Source: Papineni et al. 2002.
    """
    with np.errstate(divide="ignore"):
        out: Floats = np.exp(np.log(divide(matches, ngrams)).mean(axis=1))
    return out


def _perplexity(sums: Sums, weights: Floats) -> Floats:
    if "nats" not in sums:
        return np.full(len(weights), np.nan)
    return np.exp(divide(weights @ sums["nats"][:, 0], weights @ sums["steps"][:, 0]))
