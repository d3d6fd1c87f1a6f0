"""How a critic of tokens is trained: its data and its trainer.

It learns from windows of real music decoded as completions are, half of them after a prompt, so in the middle of a bar.
Knows nothing of calibration or files.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import Dataset, Sampler, SequentialSampler
from transformers import Trainer, TrainingArguments

from critics.sequence import SequenceCritic, TokenRow
from critics.style.excerpts import LabelledPieces
from mgen.corpus.shards import Corpus, TokenTable
from mgen.corpus.windows import sample_windows
from mgen.encoding.remi import Remi
from mgen.errors import MgenError
from mgen.notes import Notes
from mgen.runs.checkpoints import VerifiedCheckpoints
from mgen.transforms.corruptions import CORRUPTIONS
from mgen.transforms.format_augmentations import FORMAT_AUGMENTATIONS

NEGATIVES = ("random_pitches", "markov_pitches", "one_pitch", "two_bar_loop")
"""Names of the `CORRUPTIONS` of positive excerpts that join the other side."""

BLOCK = 256  # excerpts drawn at a time


@dataclass(frozen=True)
class TokenWindows:
    """The pieces of two sides, the positive style and all others, to draw excerpts from."""

    tables: dict[tuple[str, str], TokenTable]  # (style, collection) -> its pieces
    remi: Remi  # without merges: excerpts are cut in base tokens
    positive: str  # the positive style
    prompt_tokens: int  # tokens of a prompt before half of the excerpts

    @classmethod
    def of(cls, corpus: Corpus, split: str, positive: str, prompt_tokens: int) -> TokenWindows:
        """The pieces of a split of a corpus.

        Raises:
            MgenError: The corpus does not have the style.
        """
        styles = corpus.remi.style_ids
        if positive not in styles:
            raise MgenError(f"positive '{positive}': the corpus has {', '.join(styles)}")
        tables = {
            (style, str(name)): _take(table, np.asarray(rows, np.int64))
            for style in styles
            for table in [corpus.table(split, style)]
            for name, rows in table.rows.groupby("collection").indices.items()
        }
        return cls(tables, corpus.remi.base, positive, prompt_tokens)

    def draw(
        self, n: int, tokens: int, rng: np.random.Generator, transpose: bool = False, retime: bool = False
    ) -> LabelledPieces:
        """Draws n excerpts of `tokens` tokens, in random order.

        Both sides are equally frequent, and so are the collections of a side and the pieces of a collection. A
        collection whose pieces are all too short is skipped.

        Raises:
            MgenError: One side has no piece that is long enough.
        """
        needed = tokens + self.prompt_tokens
        ids: list[TokenRow] = []
        positive, collection, work = [], [], []
        for yes in (True, False):
            own = {key: table for key, table in self.tables.items() if (key[0] == self.positive) == yes}
            able = [key for key, table in own.items() if np.diff(table.offsets).max(initial=0) >= needed]
            if not able:
                side = self.positive if yes else f"not {self.positive}"
                problem = f"no piece that is {side} has the {needed} tokens of a prompt and an excerpt"
                raise MgenError(f"{problem}; lower max_tokens or prompt_tokens, or add longer pieces")
            half = n // 2 if yes else n - n // 2
            share = np.bincount(np.arange(half) % len(able), minlength=len(able))[rng.permutation(len(able))]
            for key, count in zip(able, share.tolist(), strict=True):
                if not count:
                    continue
                windows, piece = sample_windows(self.tables[key], self.remi, count, needed, rng, transpose)
                ids += list(windows)
                positive += [yes] * count
                collection += [key[1]] * count
                work += self.tables[key].rows["group"].to_numpy(str)[piece].tolist()
        prompted = rng.random(len(ids)) < 0.5
        rows = [row if after else row[:tokens] for row, after in zip(ids, prompted, strict=True)]
        notes = Notes.from_ids(rows, self.remi, start=np.where(prompted, self.prompt_tokens, 0))
        if retime:
            notes = FORMAT_AUGMENTATIONS["retimed"](notes, rng)
        order = rng.permutation(len(ids))
        labels = np.array(positive, bool), np.array(collection, str), np.array(work, str)
        return LabelledPieces(notes.pieces(order), *(values[order] for values in labels))


def with_negatives(excerpts: LabelledPieces, share: float, rng: np.random.Generator) -> LabelledPieces:
    """Replaces `share` of the other side with corrupted copies of positive excerpts, by `NEGATIVES` in turn.

    A copy has the timing and format of its piece, so the network must learn pitches to tell them apart.
    """
    yes, no = np.flatnonzero(excerpts.positive), np.flatnonzero(~excerpts.positive)
    count = min(round(share * len(no)), len(yes))
    parts = [part for part in np.array_split(yes[:count], len(NEGATIVES)) if len(part)]
    named = zip(NEGATIVES, parts, strict=False)
    corrupted = [CORRUPTIONS[name](excerpts.notes.pieces(part), rng) for name, part in named]
    pieces = np.arange(len(excerpts.positive))
    pieces[no[:count]] = len(pieces) + np.arange(count)
    return replace(excerpts, notes=Notes.concat([excerpts.notes, *corrupted]).pieces(pieces))


def _take(table: TokenTable, rows: NDArray[np.int64]) -> TokenTable:
    return replace(
        table,
        ids=np.concatenate([table[row] for row in rows]),
        offsets=np.concatenate([[0], np.cumsum(np.diff(table.offsets)[rows])]).astype(np.int64),
        rows=table.rows.iloc[rows],
    )


class StyleDataset(Dataset[tuple[TokenRow, float]]):
    """Training items: the token row of an excerpt, and its label 1 or 0.

    Item i is a function of `seed` and i alone, so that resuming is exact. Excerpts are drawn in blocks of one
    length between `min_tokens` and the network's longest: length tells nothing about the style, and padding is rare.
    """

    def __init__(
        self,
        windows: TokenWindows,
        network: SequenceCritic,
        min_tokens: int,
        length: int,
        transpose: bool = True,
        retime: bool = True,
        corrupted: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.windows, self.network, self.min_tokens = windows, network, min_tokens
        self.length, self.seed = length, seed
        self.transpose, self.retime, self.corrupted = transpose, retime, corrupted
        self._block: tuple[int, list[TokenRow], NDArray[np.bool_]] | None = None

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[TokenRow, float]:
        if not 0 <= index < self.length:
            raise IndexError(index)
        number, place = divmod(index, BLOCK)
        if self._block is None or self._block[0] != number:
            rng = np.random.Generator(np.random.Philox(key=[self.seed, number]))
            tokens = int(rng.integers(self.min_tokens, self.network.max_tokens + 1))
            excerpts = self.windows.draw(BLOCK, tokens, rng, self.transpose, self.retime)
            excerpts = with_negatives(excerpts, self.corrupted, rng)
            self._block = number, self.network.rows(excerpts.notes), excerpts.positive
        return self._block[1][place], float(self._block[2][place])


class StyleTrainer(VerifiedCheckpoints, Trainer):  # type: ignore[misc]
    """`Trainer` with binary cross-entropy on the one logit; the stock model with one label would regress.

    Args:
        network: is trained in place.
        train: items in training order.
        valid: excerpts of every evaluation.
    """

    control: Any

    def __init__(
        self, network: SequenceCritic, args: TrainingArguments, train: StyleDataset, valid: LabelledPieces, **rest: Any
    ) -> None:
        self.network, self.valid = network, valid
        super().__init__(
            model=network.model,
            args=args,
            train_dataset=train,
            eval_dataset=train,  # unused, but required by Trainer
            data_collator=self._collate,
            processing_class=network.remi.tokenizer(),
            **rest,
        )
        self.model_accepts_loss_kwargs = False  # the loss is a mean over the batch

    def _collate(self, items: list[tuple[TokenRow, float]]) -> dict[str, torch.Tensor]:
        rows, labels = zip(*items, strict=True)
        return {"input_ids": self.network.pad(rows).cpu(), "labels": torch.tensor(labels, dtype=torch.float32)}

    def _get_train_sampler(self, *_: Any) -> Sampler[int]:
        return SequentialSampler(self.train_dataset)

    def compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, **_: Any) -> Any:
        outputs = model(input_ids=inputs["input_ids"])
        loss = binary_cross_entropy_with_logits(outputs.logits[:, 0].float(), inputs["labels"])
        first = self.state.global_step * self.args.train_batch_size
        self.check_loss(loss, range(first, first + len(inputs["labels"])))
        return (loss, outputs) if return_outputs else loss

    def evaluate(self, *_: Any, metric_key_prefix: str = "eval", **__: Any) -> dict[str, float]:
        """Cross-entropy in nats and AUC on the valid excerpts."""
        network = self.network
        logits = torch.from_numpy(network.logits(self.valid.notes, self.args.eval_batch_size))
        labels = torch.from_numpy(self.valid.positive)
        metrics = {
            f"{metric_key_prefix}_loss": float(binary_cross_entropy_with_logits(logits, labels.float())),
            f"{metric_key_prefix}_auc": float(roc_auc_score(labels, logits)),
        }
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics
