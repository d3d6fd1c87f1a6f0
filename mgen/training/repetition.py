"""Penalties on runaway repetition, next to the next-token loss of real music.

Real music repeats a bar at once now and then, hardly ever more than a few times, so a model trained on real music alone
learns that what was repeated goes on, and never that it ends. `CopyPenalty` lowers the probability of repeated bars of
real music, `OwnPenalty` that of repetitions in the model's own greedy completions. Only pitches are judged: metre,
rhythm and loudness may stay the same for a whole piece.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import PreTrainedModel

from mgen.arrays import Longs, Mask
from mgen.corpus.repetition import ItemShare, pitch_tokens
from mgen.corpus.windows import NOT_TRAINED
from mgen.encoding.remi import Kind, Remi
from mgen.sampling.decoding import Decoding
from mgen.sampling.rollout import sample

LEAST = 1e-6  # of 1 - |p - target|, so that its logarithm is finite
N = 4  # pitches in an n-gram, as in the metric `loop_rate`


@dataclass(frozen=True)
class CopyPenalty:
    """DITTO on the pseudo-repetitions of a batch, which has `copies` and `period`; see `copy_loss`."""

    weight: float
    remi: Remi
    free: int  # copies that are not judged
    ratio: float  # wanted ratio of the probabilities of a token in a copy and in the one before

    def prepare(
        self, model: PreTrainedModel, batch: dict[str, Any], dtype: torch.dtype | None = None
    ) -> Callable[[Tensor], Tensor]:
        copies = batch.pop("copies")
        judged = torch.from_numpy(pitch_tokens(self.remi)).to(copies.device)
        return partial(
            copy_loss,
            ids=batch["input_ids"],
            copies=copies,
            period=batch.pop("period"),
            judged=judged,
            free=self.free,
            ratio=self.ratio,
        )


@dataclass(frozen=True)
class OwnPenalty:
    """Unlikelihood on repeated pitch 4-grams of the model's own greedy completions, which are the end of some rows.

    Source: Welleck et al. 2019, arXiv:1908.04319, section 5.2 (there without `free`).
    """

    weight: float
    remi: Remi
    free: int  # times that an n-gram may occur
    items: ItemShare  # that end with a completion
    prompt: int  # tokens of real music before the completion
    new: int  # most tokens of the completion

    def collate(self, items: list[dict[str, Any]], collator: Callable[[list[dict[str, Any]]], Any]) -> Any:
        """A batch in which the items that are to be completed have been cut."""
        cut = [
            {**item, "input_ids": item["input_ids"][: self.prompt]} if self.items.has(int(item["index"])) else item
            for item in items
        ]
        return collator(cut)

    def prepare(
        self, model: PreTrainedModel, batch: dict[str, Any], dtype: torch.dtype | None = None
    ) -> Callable[[Tensor], Tensor]:
        wider = (0, max(self.prompt + self.new - batch["input_ids"].shape[1], 0))
        ids = pad(batch["input_ids"], wider, value=self.remi.pad_id)
        labels = pad(batch["labels"], wider, value=NOT_TRAINED)
        complete = (labels[:, : self.prompt] != NOT_TRAINED).all(1).tolist()
        rows = [row for row, item in enumerate(batch["index"].tolist()) if self.items.has(item) and complete[row]]
        penalised = torch.zeros_like(ids, dtype=torch.bool)
        if rows:
            greedy = Decoding(temperature=0, max_new_tokens=self.new)
            ends = self.remi.eos_id, self.remi.pad_id
            drawn = sample(model, ids[rows, : self.prompt].tolist(), greedy, *ends, dtype=dtype).token_ids
            ids[rows, self.prompt : self.prompt + drawn.shape[1]] = drawn
            found = [repeated_pitches(row, self.remi, self.free) for row in ids[rows].cpu().numpy()]
            penalised[rows] = torch.from_numpy(np.stack(found)).to(ids.device)
            penalised[:, : self.prompt] = False
        batch |= {"input_ids": ids, "labels": labels}
        return partial(unlikelihood_loss, ids=ids, penalised=penalised)


def repeated_pitches(ids: Longs, remi: Remi, free: int, n: int = N) -> Mask:
    """(T,) whether a pitch in the token ends an n-gram of consecutive pitches that occurred `free` times before."""
    token = [at for at, id_ in enumerate(ids) for part in remi.parts[id_] if remi.kind[part] == Kind.PITCH]
    pitch = [part for id_ in ids for part in remi.parts[id_] if remi.kind[part] == Kind.PITCH]
    out, seen = np.zeros(len(ids), bool), Counter[tuple[int, ...]]()
    for last in range(n - 1, len(pitch)):
        gram = tuple(pitch[last - n + 1 : last + 1])
        out[token[last]] |= seen[gram] >= free
        seen[gram] += 1
    return out


def copy_loss(
    logits: Tensor, ids: Tensor, copies: Tensor, period: Tensor, judged: Tensor, free: int, ratio: float
) -> Tensor:
    """Sums -log(1 - |p_k - ratio p_(k-1)|) over the judged tokens of all copies k above `free`.

    p_k is the probability of a token in copy k, and p_(k-1) that of the same token one copy earlier, without gradient.

    Args:
        logits: (B, T, V) of the next token.
        ids: (B, T).
        copies: (B, T) number of the copy that a token belongs to, from 1; 0: real music.
        period: (B,) tokens of a copy.
        judged: (V,) bool, tokens that the loss looks at.
        free: copies that are not judged, at least 1.
        ratio: wanted ratio of the probabilities of a token in a copy and in the one before, 0..1; 0: unlikelihood.

    Returns:
        A scalar in nats.

    Source: Xu et al. 2022 (DITTO), arXiv:2206.02369, equation 2.
    """
    row, place = ((copies > free) & judged[ids]).nonzero(as_tuple=True)
    with torch.no_grad():
        before = _probability(logits, ids, row, place - period[row])
    return _unlike(_probability(logits, ids, row, place) - ratio * before)


def unlikelihood_loss(logits: Tensor, ids: Tensor, penalised: Tensor) -> Tensor:
    """Sums -log(1 - p) over the tokens of `ids` (B, T) where `penalised` (B, T) is True; p from logits (B, T, V)."""
    return _unlike(_probability(logits, ids, *penalised.nonzero(as_tuple=True)))


def _unlike(excess: Tensor) -> Tensor:
    return -torch.log((1 - excess.abs()).clamp(min=LEAST)).sum()


def _probability(logits: Tensor, ids: Tensor, row: Tensor, place: Tensor) -> Tensor:
    """(N,) probability of the tokens at (N,) rows and places, from the logits one place earlier."""
    scores = logits[row, place - 1].float()
    return (scores.gather(-1, ids[row, place, None])[:, 0] - scores.logsumexp(-1)).exp()
