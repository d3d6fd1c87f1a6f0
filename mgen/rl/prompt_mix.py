"""The prompts that a policy is fine-tuned on, with the real and the sampled music that follows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from transformers import PreTrainedModel

from mgen.corpus.shards import Corpus
from mgen.corpus.windows import sample_windows
from mgen.notes import Notes
from mgen.sampling.prompts import Prompts, draw_prompts, text
from mgen.sampling.systems import sample_completions


@dataclass(frozen=True, slots=True)
class PromptMix:
    """Prompts from train in given shares of types and lengths.

    The draws depend on `seed` and the arguments of a method alone, so they are the same on every process and after a
    resume.

    Attributes:
        corpus: source of the prompts.
        target: style that is asked for.
        transfer_share: share of prompts of the type `transfer`, 0..1; the others are `continuation`.
        prompt_tokens: tokens of music in a prompt; the lengths take turns.
        completion_tokens: longest completion.
        seed: of all draws.
    """

    corpus: Corpus
    target: str
    transfer_share: float
    prompt_tokens: Sequence[int]
    completion_tokens: int
    seed: int

    def batch(self, n: int, number: int) -> tuple[list[list[int]], list[str]]:
        """n prompts as token ids, and their types; different ones for each number of a batch."""
        drawn = self._draw(n, self._rng(0, number))
        return (
            [ids for prompts in drawn for ids in prompts.lists(self.corpus.remi)],
            [prompts.prompt_type for prompts in drawn for _ in prompts.ids],
        )

    def dataset(self, n: int) -> Dataset:
        """n prompts in random order, as TRL reads them."""
        ids, types = self.batch(n, 0)
        rows = [
            {"prompt": text(one, self.corpus.remi), "prompt_type": prompt_type}
            for one, prompt_type in zip(ids, types, strict=True)
        ]
        return Dataset.from_list([rows[i] for i in self._rng(0).permutation(len(rows))])

    def real_target(self, n: int, *batch: int) -> tuple[Notes, NDArray[np.str_], NDArray[np.bool_]]:
        """The real continuations of n prompts of the target style, of the longest prompt length.

        Args:
            batch: a number, for other ones.

        Returns:
            Notes, (n,) works, and (n,) whether each is of a piece on the beat grid.
        """
        table, remi, prompt = self.corpus.merged_table("train", self.target), self.corpus.remi, max(self.prompt_tokens)
        if self.corpus.has_given:
            lengths = prompt, self.completion_tokens
            drawn = draw_prompts(
                self.corpus, "train", "continuation", n, *lengths, self.target, self._rng(1, *batch), given=True
            )
            return drawn.real(remi), drawn.work, np.ones(n, bool)
        length = prompt + self.completion_tokens
        windows, piece = sample_windows(table, remi, n, length, self._rng(1, *batch), prompt=prompt)
        rows = table.rows.iloc[piece]
        notes = Notes.from_ids(list(windows), remi, start=prompt)
        return notes, rows["group"].to_numpy(str), rows["on_grid"].to_numpy(bool)

    def real(self, n: int, batch: int) -> tuple[Notes, NDArray[np.str_]]:
        """The real continuations of n prompts of the target style and (n,) their works, others for each batch number.

        Prompts of other styles are to be continued in the target style too, so how they really go on is no example.
        """
        drawn = replace(self, transfer_share=0.0)._draw(n, self._rng(2, batch))
        notes = Notes.concat([prompts.real(self.corpus.remi) for prompts in drawn])
        return notes, np.concatenate([prompts.work for prompts in drawn])

    def sampled(self, policy: PreTrainedModel, n: int, batch: int, dtype: torch.dtype | None = None) -> Notes:
        """A policy's completions of n prompts, different ones for each number of a batch; `dtype` as in `sample`."""
        remi = self.corpus.remi
        ids = [row for prompts in self._draw(n, self._rng(3, batch)) for row in prompts.lists(remi)]
        completions = sample_completions(policy, ids, self.completion_tokens, remi, self.seed + batch, dtype)
        return Notes.from_completions(ids, completions, remi)

    def sampled_by_type(self, policy: PreTrainedModel, n: int, dtype: torch.dtype | None = None) -> dict[str, Notes]:
        """Prompt type -> a policy's completions of n prompts of that type, for each type in the mix."""
        shares = {"continuation": 0.0, "transfer": 1.0}
        return {
            prompt_type: replace(self, transfer_share=share).sampled(policy, n, 2_000_000, dtype)
            for prompt_type, share in shares.items()
            if self.transfer_share != 1 - share
        }

    def _rng(self, *use: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, *use])

    def _draw(self, n: int, rng: np.random.Generator) -> list[Prompts]:
        transfers = round(n * self.transfer_share)
        counts = {
            (prompt_type, length): (count + place) // len(self.prompt_tokens)
            for prompt_type, count in (("continuation", n - transfers), ("transfer", transfers))
            for place, length in enumerate(self.prompt_tokens)
        }
        most, target = self.completion_tokens, self.target
        return [
            draw_prompts(
                *(self.corpus, "train", prompt_type, count, length, most, target, rng),
                ends=prompt_type == "continuation",
                given=True,
            )
            for (prompt_type, length), count in counts.items()
            if count
        ]
