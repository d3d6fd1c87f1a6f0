"""The sequence classifier of the two-sample test: a small network that reads the notes in order.

Its input describes each note by how it follows its leader, its surroundings, and whether the figure that it completes
occurred earlier, but not by key, register, velocity or instrument. It scores every note, and the piece by all of its
notes: so it learns from each bar line, not only from whole pieces. Budget and sizes are constants of the protocol.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor, nn
from torch.nn import functional

from mgen.arrays import Floats
from mgen.music import ngrams
from mgen.music.onset_clusters import OnsetClusters
from mgen.music.voices import followers, leaders
from mgen.notes import STEPS_PER_QUARTER, Ints, Notes

# The budget: channels, passes over the training pieces, pieces per step, and the settings of AdamW.
WIDTH = 32
EPOCHS = 8
BATCH = 16
PEAK_RATE = 5e-3
DECAY = 0.05
DROPOUT = 0.1
DECIMALS = 4  # of a logit: further ones are rounding noise that would rank equal pieces
MAX_LEAP = 14  # semitones beyond which an interval is a leap of that size

LENGTHS = np.array([2, 4, 7, 10, 14, 20, 28, 44, 60, 84, 132])
"""Lower edges, in grid steps, of the classes of a duration or a time between onsets."""

SLOT = 4  # grid steps of a place in the bar that are one class
SLOTS = 7 * STEPS_PER_QUARTER // SLOT

AGO = np.array([1, 5, 13, 33, 65])
"""Lower edges, in notes, of the classes of how long ago a figure occurred; the class below is never."""

GRAMS = (2, 3, 4, 8)  # notes in the figures whose earlier occurrence is an input
OVER = 4  # ways to continue: inside a bar, over a bar line before an odd bar, over one before an even bar, farther


@dataclass(frozen=True)
class NoteFeatures:
    """The input of the network: the N pitched notes of B pieces, sorted by piece, onset and pitch."""

    n: int  # B
    piece: Ints  # (N,) rising
    classes: NDArray[np.int64]  # (N, K) int64, the class in each of K classifications; no two columns share a number
    values: NDArray[np.float32]  # (N, C) float32 numbers of about 0 to 1
    n_classes: int  # number of classes of all columns


_Column = tuple[NDArray[np.integer], int]  # (N,) classes 0..size - 1, and size


def note_features(notes: Notes) -> NoteFeatures:
    """Computes the input of the network; equal for a piece and its transposition."""
    music = OnsetClusters(notes, gap=0)
    line = music.piece, music.onset, music.pitch
    sides = (_moves(music, leaders(*line), 1), _moves(music, followers(*line), -1))
    columns = [column for side, _ in sides for column in side]
    columns += [*_places(music), *_recurrence(music)]
    sizes = np.array([size for _, size in columns])
    classes = np.stack([classes for classes, _ in columns], axis=1) + np.cumsum(sizes) - sizes
    values = np.concatenate([*(values for _, values in sides), _surroundings(music)], axis=1).astype(np.float32)
    return NoteFeatures(notes.n_pieces, music.piece, classes, values, int(sizes.sum()))


def _length(steps: NDArray[np.integer]) -> NDArray[np.int64]:
    return np.searchsorted(LENGTHS, steps, side="right")


def _moves(music: OnsetClusters, row: NDArray[np.int64], way: int) -> tuple[list[_Column], Floats]:
    """How a note continues from its leader (`way` 1), or to its follower (-1).

    Args:
        row: (N,) the other note, -1 where there is none.

    Returns:
        Classes of interval and bar line together, of the time between, and of the silence between; and
        (N, 3 * OVER) size of the interval in half octaves, whether it is a step, and whether it is a unison, for each
        way to continue. (A class learns slowly from few notes; a size learns from all.)
    """
    alone, row = row < 0, np.maximum(row, 0)
    interval = music.pitch - music.pitch[row]
    bars, later = np.abs(music.bar - music.bar[row]), np.maximum(music.bar, music.bar[row])
    over = np.where(bars > 1, OVER - 1, bars * (2 - later % 2))
    leaps = 2 * MAX_LEAP + 2
    leap = np.where(alone, leaps - 1, np.clip(way * interval, -MAX_LEAP, MAX_LEAP) + MAX_LEAP)
    first, second = (music.onset[row], music.onset) if way > 0 else (music.onset, music.onset[row])
    silence = second - first - (music.duration[row] if way > 0 else music.duration)
    held = np.searchsorted([-STEPS_PER_QUARTER, -2, 3, STEPS_PER_QUARTER], silence, side="right")
    lengths = len(LENGTHS) + 2
    columns: list[_Column] = [
        (leap + leaps * np.where(alone, 0, over), OVER * leaps),
        (np.where(alone, lengths - 1, _length(second - first)), lengths),
        (np.where(alone, 5, held), 6),
    ]
    size = np.abs(interval)
    values = np.stack([np.minimum(size, 24) / 6, (size == 1) | (size == 2), size == 0], axis=1)
    here = (over[:, None] == np.arange(OVER)) & ~alone[:, None]
    return columns, (values[:, None, :] * here[:, :, None]).reshape(len(row), 3 * OVER)


def _places(music: OnsetClusters) -> list[_Column]:
    """Notes in the chord, place and interval in it from below, place in the bar, duration, time since an onset."""
    lowest = music.first[music.cluster]
    size = music.size[music.cluster]
    before = np.maximum(lowest - 1, 0)
    pause = np.where(music.piece[before] == music.piece, music.onset - music.onset[before], 0)
    return [
        (np.minimum(size, 6) - 1, 6),
        (np.minimum(np.arange(len(music.pitch)) - lowest, 5), 6),
        ((music.pitch - music.pitch[lowest]) % 12, 12),
        (np.clip(music.notes.position[music.row] // SLOT, 0, SLOTS - 1), SLOTS),
        (_length(music.duration), len(LENGTHS) + 1),
        (_length(pause), len(LENGTHS) + 1),
    ]


def _recurrence(music: OnsetClusters) -> list[_Column]:
    """How long ago the pitches, the intervals and the rhythm that end here last occurred in the piece."""
    within = ngrams.complete(music.piece, 2)
    step = np.where(within, np.diff(music.pitch, prepend=0), 0)
    gap = np.where(within, np.diff(music.onset, prepend=0), 0)
    size = len(AGO) + 1
    views = (music.pitch, step, gap)
    every = (ago for values in views for ago in last_occurrence(music.piece, values))
    return [(np.searchsorted(AGO, ago, side="right"), size) for ago in every]


def last_occurrence(piece: Ints, values: NDArray[np.integer]) -> list[NDArray[np.int64]]:
    """For each n of `GRAMS` (N,): how many notes ago the n-gram of values that ends here last ended, 0 for never.

    Args:
        piece: (N,) rising.
        values: (N,) any integers.
    """

    def join(first: NDArray[np.integer], second: NDArray[np.integer], by: int) -> NDArray[np.int64]:
        """Numbers the n-grams that end here from the numbers of their two parts; equal ones have equal numbers."""
        pair = second.astype(np.int64) * (len(first) + 1)
        pair[by:] += first[: len(first) - by] + 1
        return np.unique(pair, return_inverse=True)[1]

    one = np.unique(values, return_inverse=True)[1]
    two = join(one, one, 1)
    four = join(two, two, 2)
    numbers = {2: two, 3: join(two, one, 1), 4: four, 8: join(four, four, 4)}
    out = []
    for n in GRAMS:
        ends = np.flatnonzero(ngrams.complete(piece, n))
        order = ends[np.lexsort((ends, numbers[n][ends], piece[ends]))]
        again = (np.diff(numbers[n][order]) == 0) & (np.diff(piece[order]) == 0)
        ago = np.zeros(len(piece), np.int64)
        ago[order[1:][again]] = np.diff(order)[again]
        out.append(ago)
    return out


def _surroundings(music: OnsetClusters) -> Floats:
    """(N, 60) pitch classes from the note's upwards: of its bar, the two before, the next, and the last beat.

    Each of the five vectors has length 1 (0 for a bar without notes); a note counts the root of its duration.
    """
    owner, row = music.notes.bars.piece, music.notes.bar_starts[music.piece] + music.bar
    weight = np.sqrt(np.maximum(music.duration, 0))
    bars = np.zeros((len(owner), 12))
    np.add.at(bars, (row, music.pitch % 12), weight)
    bars /= np.maximum(np.linalg.norm(bars, axis=1, keepdims=True), 1e-9)
    parts = []
    for by in (0, 1, 2, -1):
        shifted = np.zeros_like(bars)
        same = np.zeros(len(owner), bool)
        if by >= 0:
            shifted[by:], same[by:] = bars[: len(bars) - by], owner[by:] == owner[: len(owner) - by]
        else:
            shifted[:by], same[:by] = bars[-by:], owner[:by] == owner[-by:]
        parts.append((shifted * same[:, None])[row])
    parts.append(_last_beat(music, weight))
    turned = (music.pitch[:, None] + np.arange(12)) % 12
    return np.concatenate([np.take_along_axis(part, turned, axis=1) for part in parts], axis=1)


def _last_beat(music: OnsetClusters, weight: Floats) -> Floats:
    """(N, 12) pitch classes of notes that began in the beat before each note."""
    key = music.piece.astype(np.int64) * (int(music.onset.max(initial=0)) + 4 * STEPS_PER_QUARTER) + music.onset
    running = np.zeros((len(music.pitch) + 1, 12))
    running[np.arange(len(music.pitch)) + 1, music.pitch % 12] = weight
    running = np.cumsum(running, axis=0)
    found = running[np.searchsorted(key, key)] - running[np.searchsorted(key, key - STEPS_PER_QUARTER)]
    out: Floats = found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9)
    return out


class Network(nn.Module):
    """Reads B pieces of T notes: a logit of each note, and one of the piece."""

    def __init__(self, n_classes: int, values: int) -> None:
        super().__init__()
        self.classes = nn.EmbeddingBag(n_classes, WIDTH, mode="sum")
        nn.init.normal_(self.classes.weight, std=0.2)
        self.values = nn.Linear(values, WIDTH)
        self.mix = nn.Linear(WIDTH, WIDTH)
        self.near = nn.Conv1d(WIDTH, WIDTH, 3, padding=1)
        self.far = nn.Conv1d(WIDTH, WIDTH, 3, padding=4, dilation=4)
        self.note = nn.Linear(WIDTH, 1)
        self.piece = nn.Linear(2 * WIDTH, 1)

    def forward(self, classes: Tensor, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T) logits of notes and (B,) of pieces; `mask` (B, T) is True for notes."""
        shape = mask.shape
        hidden = self.classes(classes.flatten(0, 1)).view(*shape, WIDTH) + self.values(values)
        hidden = functional.gelu(hidden)
        hidden = functional.gelu(self.mix(functional.dropout(hidden, DROPOUT, self.training))) * mask[..., None]
        across = hidden.transpose(1, 2)
        across = across + functional.gelu(self.near(across)) * mask[:, None]
        across = across + functional.gelu(self.far(across)) * mask[:, None]
        across = functional.dropout(across, DROPOUT, self.training)
        count = mask.sum(1).clamp(min=1)[:, None]
        mean = across.sum(2) / count
        most = across.masked_fill(~mask[:, None], -1e4).amax(2) * mask.any(1)[:, None]
        return self.note(across.transpose(1, 2))[..., 0], self.piece(torch.cat([mean, most], dim=1))[:, 0]


class _PaddedBatch(NamedTuple):
    classes: Tensor  # (B, T, K)
    values: Tensor  # (B, T, C)
    mask: Tensor  # (B, T)


def _pad(notes: NoteFeatures) -> _PaddedBatch:
    count = np.bincount(notes.piece, minlength=notes.n)
    place = np.arange(len(notes.piece)) - (np.cumsum(count) - count)[notes.piece]
    size = max(int(count.max(initial=0)), 1)
    padded = []
    for of_notes in (notes.classes, notes.values, np.ones(len(notes.piece), bool)):
        out = np.zeros((notes.n, size, *of_notes.shape[1:]), of_notes.dtype)
        out[notes.piece, place] = of_notes
        padded.append(torch.from_numpy(out))
    return _PaddedBatch(*padded)


def _fit(data: _PaddedBatch, label: Tensor, rows: Tensor, n_classes: int) -> Network:
    network = Network(n_classes, data.values.shape[2])
    optimizer = torch.optim.AdamW(network.parameters(), lr=PEAK_RATE, weight_decay=DECAY)
    steps = EPOCHS * -(-len(rows) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=max(steps, 2), pct_start=0.2)
    for _ in range(EPOCHS):
        for batch in torch.split(rows[torch.randperm(len(rows))], BATCH):
            mask, wanted = data.mask[batch], label[batch]
            of_notes, of_piece = network(data.classes[batch], data.values[batch], mask)
            target = wanted[:, None].expand_as(of_notes)
            each = functional.binary_cross_entropy_with_logits(of_notes, target, reduction="none")
            loss = (each * mask).sum() / mask.sum().clamp(min=1)
            loss = loss + functional.binary_cross_entropy_with_logits(of_piece, wanted)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return network.eval()


@contextmanager
def one_thread() -> Iterator[None]:
    """Networks this small gain nothing from a second thread, and sums must not depend on the number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def sequence_ranks(notes: Notes, label: NDArray[np.integer], fold: NDArray[np.integer], seed: int) -> Floats:
    """(B,) mean rank, 0..1 within its fold, that networks trained on the other folds give each piece.

    Deterministic for a seed on one machine. A piece without pitched notes counts as silence.

    Args:
        label: (B,) 0 and 1.
        fold: (B,) from 0 on.
        seed: of weights, batches and dropout; torch's global generator is left as it was.
    """
    inputs = note_features(notes)
    data = _pad(inputs)
    wanted = torch.from_numpy(label.astype(np.float32))
    score = np.zeros(inputs.n)
    with torch.random.fork_rng(devices=[]), one_thread():
        torch.manual_seed(seed)
        for number in range(int(fold.max()) + 1):
            held = np.flatnonzero(fold == number)
            network = _fit(data, wanted, torch.from_numpy(np.flatnonzero(fold != number)), inputs.n_classes)
            with torch.no_grad():
                mask = data.mask[held]
                of_notes, of_piece = network(data.classes[held], data.values[held], mask)
                mean = (of_notes * mask).sum(1) / mask.sum(1).clamp(min=1)
            for logit in (mean, of_piece):
                rank = rankdata(np.round(logit.double().numpy(), DECIMALS))
                score[held] += (rank - 0.5) / len(held) / 2
    return score
