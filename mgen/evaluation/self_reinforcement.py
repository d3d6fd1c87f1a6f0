"""The self-reinforcement curve: how likely a bar is after 0 to 8 copies of it, under a model and in real music.

A model that finds each copy likelier than the one before loops under greedy decoding. Real music is the reference: of
the bars that were played j times in a row, the share that is played once more.

Source: Xu et al. 2022, arXiv:2206.02369 (section 2), with bars for sentences.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from mgen.arrays import Floats, Longs
from mgen.corpus.repetition import runs_of_bars
from mgen.corpus.shards import Corpus, TokenTable
from mgen.corpus.windows import collate
from mgen.encoding.remi import Kind, Remi
from mgen.models.transformer import context_length
from mgen.stats.intervals import Interval, bootstrap, undefined_interval

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
    """Draws bars with a note whose copies fit into `context` tokens: as many of each piece as possible.

    No rows if no piece has such a bar.
    """
    room = context - 2
    fitting = {}  # piece -> starts and ends of its bars
    for piece in range(len(table)):
        start = np.flatnonzero(remi.opens_bar[table[piece]])
        notes = np.append(0, np.cumsum(remi.notes_in[table[piece]]))
        fits = (np.diff(notes[start]) > 0) & (np.diff(start) * (COPIES + 1) <= room)
        if fits.any():
            fitting[piece] = start, np.flatnonzero(fits)
    rows, period = [], []
    pieces = np.resize(rng.permutation(list(fitting)), n if fitting else 0).astype(np.int64)
    for piece in pieces.tolist():
        start, bars = fitting[piece]
        bar, ids = rng.choice(bars), table[piece].astype(np.int64)
        copies = np.tile(ids[start[bar] : start[bar + 1]], COPIES + 1)
        earliest = start[np.searchsorted(start, start[bar] + len(copies) - room)]
        head = [remi.bos_id, remi.style_ids[table.rows["style"].iloc[piece]]]
        rows.append(np.concatenate([head, ids[earliest : start[bar]], copies]))
        period.append(start[bar + 1] - start[bar])
    return RepeatedBars(rows, np.array(period, np.int64), table.rows["work"].to_numpy(str)[pieces])


@torch.no_grad()
def self_reinforcement(
    model: PreTrainedModel, remi: Remi, bars: RepeatedBars, batch_size: int = 16
) -> SelfReinforcement:
    """The curve of a model; `model` is in evaluation mode."""
    tokens, notes, probability = [], [], []
    velocity = np.append(remi.kind == Kind.VELOCITY, np.zeros(remi.merges, bool))
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
            notes.append(nats.sum(1) / remi.notes_in[bar].sum())
            probability.append(np.exp(nats[:, ~velocity[bar]].sum(1)))
    return SelfReinforcement(*(_curve(values, bars.work) for values in (tokens, notes, probability)))


def real_repetition(table: TokenTable, remi: Remi) -> Curve:
    """Share of bars that real music plays once more, after j equal bars in a row; undefined for j = 0."""
    runs = [runs_of_bars(table[piece], remi) for piece in range(len(table))]
    work = table.rows["work"].to_numpy(str)
    curve = [undefined_interval()]
    for copies in range(1, COPIES + 1):
        bars = np.array([(run == copies).sum() for run, _ in runs], np.float64)
        again = np.array([(played_again & (run == copies)).sum() for run, played_again in runs], np.float64)
        some = bars > 0
        curve.append(_share(again[some], bars[some], work[some]))
    return tuple(curve)


def _share(part: Floats, whole: Floats, work: NDArray[np.str_]) -> Interval:
    """Sum of `part` over sum of `whole`, (P,) of pieces."""
    return bootstrap(part, work, lambda values, weights: (weights @ values) / (weights @ whole))


@dataclass(frozen=True)
class RepetitionCurves:
    """The curves of models, and what real music does."""

    real: Curve  # share of bars that are played once more, after j equal bars in a row
    models: Mapping[str, SelfReinforcement]  # by name
    n: int  # bars of real music that the curves of models are means over

    def to_json(self) -> dict[str, Any]:
        models = {name: curve.to_json() for name, curve in self.models.items()}
        return {"bars": self.n, "real": [point.to_json() for point in self.real], "models": models}


def repetition_curves(
    corpus: Corpus, models: Mapping[str, PreTrainedModel], n: int, rng: np.random.Generator
) -> RepetitionCurves:
    """Curves over the same `n` bars of the test split for all models; those of real music over the training set."""
    context = min((context_length(model.config) for model in models.values()), default=0)
    bars = draw_repeated_bars(corpus.merged_table("test"), corpus.remi, n, context, rng)
    curves = {name: self_reinforcement(model, corpus.remi, bars) for name, model in models.items()}
    return RepetitionCurves(real_repetition(corpus.table("train"), corpus.remi), curves, len(bars.ids))


def _curve(values: Sequence[NDArray[np.float64]], work: NDArray[np.str_]) -> Curve:
    """Means over rows; `values` are N arrays of (`COPIES` + 1,)."""
    columns = np.array(values).reshape(-1, COPIES + 1).T
    return tuple(bootstrap(column, work) for column in columns)
