"""The self-reinforcement curve: how likely a bar is after 0 to 8 copies of it, under a model and in real music.

A model that finds each copy likelier than the one before loops under greedy decoding. Real music is the reference: of
the bars that were played j times in a row, the share that is played once more.

Source: Xu et al. 2022, arXiv:2206.02369 (section 2), with bars for sentences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from mgen.arrays import Longs
from mgen.corpus.repetition import pitch_tokens, runs_of_bars
from mgen.corpus.shards import TokenTable
from mgen.corpus.windows import collate
from mgen.encoding.remi import Kind, Remi
from mgen.stats.intervals import Interval, bootstrap

COPIES = 8  # most copies before the bar
Curve = tuple[Interval, ...]  # one value after each number of copies, from 0


@dataclass(frozen=True)
class SelfReinforcement:
    """How likely a bar is after 0..8 copies of it under a model, means over bars of real music."""

    nats_per_token: Curve  # log-likelihood of its tokens
    nats_per_note: Curve  # log-likelihood of the bar over its number of notes
    probability: Curve  # of the whole bar, velocities aside

    def to_json(self) -> dict[str, Any]:
        return {name: [point.to_json() for point in curve] for name, curve in vars(self).items()}


@dataclass(frozen=True)
class RepeatedBars:
    """N sequences: real music up to a bar, then that bar `COPIES` + 1 times."""

    ids: list[Longs]  # N rows of ids
    period: Longs  # (N,) tokens of the bar
    work: NDArray[np.str_]  # (N,)


def draw_repeated_bars(table: TokenTable, remi: Remi, n: int, context: int, rng: np.random.Generator) -> RepeatedBars:
    """Draws a piece uniformly, then one of its bars that have a note and fit into `context` tokens with all copies.

    Fewer than `n` rows if few pieces have such a bar.
    """
    has_pitch, room = pitch_tokens(remi), context - 2
    rows, period, work = [], [], []
    for piece in rng.permutation(np.resize(rng.permutation(len(table)), n)).tolist() if len(table) else []:
        ids = table[piece].astype(np.int64)
        start = np.flatnonzero(ids == remi.bar_id)
        notes = np.append(0, np.cumsum(has_pitch[ids]))
        size = np.diff(start)
        fits = np.flatnonzero((notes[start[1:]] > notes[start[:-1]]) & (size * (COPIES + 1) <= room))
        if not len(fits):
            continue
        bar = rng.choice(fits)
        copies = np.tile(ids[start[bar] : start[bar + 1]], COPIES + 1)
        earliest = start[np.searchsorted(start, start[bar] + len(copies) - room)]
        head = [remi.bos_id, remi.style_ids[table.rows["style"].iloc[piece]]]
        rows.append(np.concatenate([head, ids[earliest : start[bar]], copies]))
        period.append(size[bar])
        work.append(str(table.rows["work"].iloc[piece]))
    return RepeatedBars(rows, np.array(period, np.int64), np.array(work, str))


@torch.no_grad()
def self_reinforcement(
    model: PreTrainedModel, remi: Remi, bars: RepeatedBars, batch_size: int = 16
) -> SelfReinforcement:
    """The curve of a model; `model` is in evaluation mode."""
    tokens, notes, probability = [], [], []
    has_pitch, velocity = pitch_tokens(remi), remi.kind == Kind.VELOCITY
    for begin in range(0, len(bars.ids), batch_size):
        rows = bars.ids[begin : begin + batch_size]
        batch = collate([{"input_ids": row, "index": np.array(0)} for row in rows], remi.pad_id)["input_ids"]
        batch = batch.to(model.device)
        logprobs = model(input_ids=batch).logits[:, :-1].float().log_softmax(-1)
        found = logprobs.gather(-1, batch[:, 1:, None])[..., 0].double().cpu().numpy()
        for row, of_row, period in zip(rows, found, bars.period[begin:], strict=False):
            last = len(row) - 1
            nats = of_row[last - period * (COPIES + 1) : last].reshape(COPIES + 1, period)
            bar = row[-period:]
            tokens.append(nats.mean(1))
            notes.append(nats.sum(1) / has_pitch[bar].sum())
            probability.append(np.exp(nats[:, ~velocity[bar]].sum(1)))
    return SelfReinforcement(*(_curve(values, bars.work) for values in (tokens, notes, probability)))


def real_repetition(table: TokenTable, remi: Remi) -> Curve:
    """Share of bars that real music plays once more, after j equal bars in a row; undefined for j = 0."""
    works = table.rows["work"].to_numpy(str)
    runs = [runs_of_bars(table[piece], remi) for piece in range(len(table))]
    shares = []
    for copies in range(COPIES + 1):
        again = [played_again[run == copies] for run, played_again in runs]
        owner = np.repeat(works, [len(part) for part in again])
        shares.append(bootstrap(np.concatenate([*again, np.zeros(0)]), owner))
    return tuple(shares)


def _curve(values: Sequence[NDArray[np.float64]], work: NDArray[np.str_]) -> Curve:
    """Means over rows; `values` are N arrays of (`COPIES` + 1,)."""
    columns = np.array(values).reshape(-1, COPIES + 1).T
    return tuple(bootstrap(column, work) for column in columns)
