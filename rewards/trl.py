"""Judges as reward functions of plain TRL: ids -> `Notes` -> a number for each completion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mgen.encoding.remi import Remi
from mgen.errors import MgenError
from mgen.judgement import Judge, Judgement, judged
from mgen.notes import Notes


class Decoder:
    """Decodes prompts as text and completions as ids to `Notes`; the last batch is kept for further judges.

    Tokens after the first EOS of a completion are cut. The EOS and all tokens before it stay, as the policy sampled
    them: an end inside a note, or padding sampled in place of music, is broken grammar and not silence.
    """

    def __init__(self, remi: Remi) -> None:
        self._remi = remi
        self._batch: tuple[list[str], list[list[int]]] | None = None
        self._notes: Notes | None = None

    def __call__(self, prompts: Sequence[str], completion_ids: Sequence[Sequence[int]]) -> Notes:
        """Notes of the completions; time 0 is the bar in which a completion begins.

        Args:
            prompts: B prompts as text, names of tokens with or without space between them.
            completion_ids: B completions, of any lengths.

        Raises:
            MgenError: A prompt is not text, or has something other than tokens.
        """
        for prompt in prompts:
            if not isinstance(prompt, str):
                raise MgenError(f"prompt: expected REMI tokens as text, got {type(prompt).__name__}")
        batch = (list(prompts), [list(row) for row in completion_ids])  # copies: a caller may reuse its lists
        if self._notes is None or batch != self._batch:
            ids = {prompt: self._prompt_ids(prompt) for prompt in dict.fromkeys(batch[0])}
            heads = [ids[prompt] for prompt in batch[0]]
            rows = [np.concatenate([head, self._cut(row)]) for head, row in zip(heads, batch[1], strict=True)]
            start = np.array([len(head) for head in heads], dtype=np.int64)
            self._notes = self._remi.decode(rows, start)
            self._batch = batch
        return self._notes

    def _prompt_ids(self, prompt: str) -> NDArray[np.int64]:
        try:
            return self._remi.read(prompt)
        except MgenError as error:
            raise MgenError(f"prompt '{prompt[:60]}': expected only REMI tokens ({error})") from error

    def _cut(self, row: list[int]) -> NDArray[np.int64]:
        """The completion up to and including its first EOS."""
        eos = self._remi.eos_id
        return np.array(row[: row.index(eos) + 1] if eos in row else row, dtype=np.int64)


class TrlReward:
    """One judge as a `reward_funcs` entry of `trl.GRPOTrainer`.

    Args:
        judge: a rule or a critic.
        remi: the policy's encoding, or a `Decoder` that several rewards share.
        name: name in TRL's logs.

    Attributes:
        last: judgement of the last batch, with the credit per note that TRL's interface does not take.
        last_notes: the notes of that batch; their `token` is the index of each in its completion.
    """

    def __init__(self, judge: Judge, remi: Remi | Decoder, name: str) -> None:
        self.judge = judge
        self.decode = remi if isinstance(remi, Decoder) else Decoder(remi)
        self.__name__ = name
        self.last: Judgement | None = None
        self.last_notes: Notes | None = None

    def __call__(
        self, prompts: Sequence[str], completions: Any, completion_ids: Sequence[Sequence[int]], **_: Any
    ) -> list[float]:
        """Score of each completion. The text `completions` is not used: it lacks special tokens.

        Raises:
            MgenError: The judge fails, or its judgement breaks a rule: TRL would take NaN as 0.
        """
        self.last_notes = self.decode(prompts, completion_ids)
        self.last = judged(self.__name__, self.judge, self.last_notes)
        return [float(score) for score in self.last.score]


def trl_rewards(judges: Mapping[str, Judge], remi: Remi) -> list[TrlReward]:
    """Builds a `reward_funcs` list in the order of `judges`; a batch is decoded once for all of them."""
    decoder = Decoder(remi)
    return [TrlReward(judge, decoder, name) for name, judge in judges.items()]
