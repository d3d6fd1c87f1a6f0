"""Training on preference pairs: two continuations of one prompt, the preferred one first.

Reads pairs, holds some prompts out, and trains on the others with the losses of TRL. Knows nothing of how the votes
were collected.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel
from trl import DPOTrainer, RewardTrainer

from mgen.encoding.remi import Remi
from mgen.errors import MgenError
from mgen.runs.checkpoints import VerifiedCheckpoints

TokenRow = list[int]  # token ids of one sequence
MIN_PAIRS = 16
MIN_PROMPTS = 8
"""With fewer pairs or prompts, the held-out accuracy has no useful interval."""

_TEXTS = ("prompt", "chosen", "rejected")


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """N pairs of completions, as token ids.

    Attributes:
        prompt: N rows of ids that begin with BOS and the style token, as the completions were sampled from them.
        chosen, rejected: N rows of ids; the last is EOS if the completion ended before its greatest length.
        group: (N,) pairs of one prompt share a number.
        equal: number of pairs of two equal completions, which are not among the N.
    """

    prompt: list[TokenRow]
    chosen: list[TokenRow]
    rejected: list[TokenRow]
    group: NDArray[np.int64]
    equal: int = 0

    def __len__(self) -> int:
        return len(self.prompt)

    @property
    def n_prompts(self) -> int:
        return len(np.unique(self.group))

    def take(self, index: NDArray[np.int64]) -> Pairs:
        """Selects the pairs of `index`, in that order."""
        prompt, chosen, rejected = ([column[i] for i in index] for column in (self.prompt, self.chosen, self.rejected))
        return Pairs(prompt, chosen, rejected, self.group[index])

    def for_policy(self) -> Dataset:
        """The dataset of token ids that `DPOTrainer` reads."""
        return Dataset.from_dict({"prompt_ids": self.prompt, "chosen_ids": self.chosen, "rejected_ids": self.rejected})

    def for_reward(self, eos_id: int) -> Dataset:
        """The dataset of token ids that `RewardTrainer` reads; see `reward_inputs`."""
        columns = {"chosen_ids": self.chosen, "rejected_ids": self.rejected}
        return Dataset.from_dict({name: reward_inputs(self.prompt, rows, eos_id) for name, rows in columns.items()})


def reward_inputs(prompts: Sequence[TokenRow], completions: Sequence[TokenRow], eos_id: int) -> list[TokenRow]:
    """Joins prompt and completion to what a reward model reads: one row, without an EOS at its end.

    TRL passes a completion to a reward model as text without special tokens, so training must not show an EOS either.
    """
    return [
        prompt + (completion[:-1] if completion[-1] == eos_id else completion)
        for prompt, completion in zip(prompts, completions, strict=True)
    ]


def read_pairs(path: Path | str, remi: Remi, context: int) -> Pairs:
    """Reads the file that `mgen votes --export` writes.

    Each line is a JSON object with `prompt`, `chosen` and `rejected`: names of tokens without space between them. Other
    keys are ignored.

    Args:
        context: largest number of tokens of prompt and completion together. Nothing is truncated.

    Raises:
        MgenError: The file cannot be read; a pair (named by its line) is no such object, has tokens of another
            vocabulary, or is too long; or there are too few pairs or prompts.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise MgenError(f"{path}: {reason}; give the file that mgen votes --export wrote") from error
    columns: dict[str, list[TokenRow]] = {name: [] for name in _TEXTS}
    equal = 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        texts = _texts(line, where)
        rows = [_ids(text, remi, f"{where}, {key}") for key, text in texts.items()]
        prompt, chosen, rejected = rows
        longest = len(prompt) + max(len(chosen), len(rejected))
        if longest > context:
            raise MgenError(
                f"{where}: {longest} tokens of prompt and completion, of which the policy reads at most {context}; "
                "give a --policy with a longer context, or pairs of shorter pieces"
            )
        if chosen == rejected:
            equal += 1
            continue
        for name, row in zip(_TEXTS, rows, strict=True):
            columns[name].append(row)
    number_of: dict[tuple[int, ...], int] = {}
    group = np.array([number_of.setdefault(tuple(row), len(number_of)) for row in columns["prompt"]], np.int64)
    if len(group) < MIN_PAIRS or len(number_of) < MIN_PROMPTS:
        raise MgenError(
            f"{path}: {len(group)} pairs of {len(number_of)} prompts; expected at least {MIN_PAIRS} pairs of "
            f"{MIN_PROMPTS} prompts, vote on more"
        )
    return Pairs(**columns, group=group, equal=equal)


def _texts(line: str, where: str) -> dict[str, str]:
    try:
        pair = json.loads(line)
    except json.JSONDecodeError as error:
        raise MgenError(f"{where}: not JSON ({error}); expected one object a line") from error
    if not isinstance(pair, dict):
        raise MgenError(f"{where}: expected an object with {', '.join(_TEXTS)}, found {type(pair).__name__}")
    for key in _TEXTS:
        if not isinstance(pair.get(key), str) or not pair[key].strip():
            found = f"{type(pair[key]).__name__} {pair[key]!r:.40}" if key in pair else "none"
            raise MgenError(f"{where}: expected '{key}' as names of tokens, found {found}")
    return {key: pair[key] for key in _TEXTS}


def _ids(text: str, remi: Remi, where: str) -> TokenRow:
    try:
        ids: TokenRow = remi.read(text).tolist()
    except MgenError as error:
        raise MgenError(f"{where}: {error}; export votes on models of the policy's vocabulary") from error
    return ids


def split_pairs(pairs: Pairs, valid_share: float, seed: int) -> tuple[Pairs, Pairs]:
    """Splits pairs into train and valid, with all pairs of a prompt on one side.

    Args:
        valid_share: share of the prompts that go to valid; each side has at least two. Prompts with many pairs, such as
            the empty one, stay in train, so that no single prompt dominates valid.
        seed: of the draw.
    """
    groups, count = np.unique(pairs.group, return_counts=True)
    shuffled = np.random.default_rng(seed).permutation(len(groups))
    few = shuffled[np.argsort(count[shuffled] > 2 * np.median(count), kind="stable")]
    held_out = groups[few[: min(max(2, round(valid_share * len(groups))), len(groups) - 2)]]
    is_valid = np.isin(pairs.group, held_out)
    return pairs.take(np.flatnonzero(~is_valid)), pairs.take(np.flatnonzero(is_valid))


class _PairTrainer(VerifiedCheckpoints):
    """A trainer on pairs that checks its loss."""

    def _init_training_state(self, *args: Any) -> Any:
        begin = super()._init_training_state(*args)
        # TRL does not store the count that it logs.
        counts = (line["num_tokens"] for line in reversed(self.state.log_history) if "num_tokens" in line)
        self._total_train_tokens = next(counts, 0)
        return begin

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        loss = super().compute_loss(model, inputs, *args, **kwargs)
        self.check_loss(loss[0] if isinstance(loss, tuple) else loss, range(len(inputs["input_ids"]) // 2))
        return loss


class PolicyPreferences(_PairTrainer, DPOTrainer):  # type: ignore[misc]
    """`DPOTrainer` over `Pairs.for_policy`.

    Differs from TRL's: completions stay as they were sampled. TRL appends EOS to each, and a completion that reached
    the greatest length would teach the policy to stop there.
    """

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset


class RewardPreferences(_PairTrainer, RewardTrainer):  # type: ignore[misc]
    """`RewardTrainer` over `Pairs.for_reward`.

    The loss is -log sigmoid(logit_chosen - logit_rejected) (Bradley-Terry), so a difference of logits is the
    log-odds, in nats, that one piece is preferred to the other.
    """


@torch.no_grad()
def policy_margins(
    policy: PreTrainedModel, reference: PreTrainedModel, pairs: Pairs, pad_id: int, batch_size: int = 16
) -> NDArray[np.float64]:
    """Measures how far training moved a policy towards the chosen and away from the rejected pieces.

    The margin is log pi(chosen) / ref(chosen) - log pi(rejected) / ref(rejected), all given the prompt. The beta of DPO
    times the margin is the log-odds of the preference under the policy. It is 0 where the policy equals the reference.

    Returns:
        (N,) margins in nats.

    Source: Rafailov et al. 2023, arXiv:2305.18290.
    """
    chosen, rejected = (
        completion_nats(policy, pairs.prompt, rows, pad_id, batch_size)
        - completion_nats(reference, pairs.prompt, rows, pad_id, batch_size)
        for rows in (pairs.chosen, pairs.rejected)
    )
    return chosen - rejected


@torch.no_grad()
def completion_nats(
    model: PreTrainedModel,
    prompts: Sequence[TokenRow],
    completions: Sequence[TokenRow],
    pad_id: int,
    batch_size: int = 16,
) -> NDArray[np.float64]:
    """Computes the log-probability of each completion given its prompt: (N,), in nats."""
    was_training = model.training
    model.eval()
    out = np.zeros(len(prompts))
    for begin in range(0, len(prompts), batch_size):
        end = min(begin + batch_size, len(prompts))
        rows = [prompts[i] + completions[i] for i in range(begin, end)]
        ids = pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=pad_id).to(model.device)
        # No attention mask: under a causal mask no token attends to padding on its right.
        logprobs = model(input_ids=ids).logits[:, :-1].float().log_softmax(-1)
        taken = logprobs.gather(-1, ids[:, 1:, None])[..., 0].double().cpu()
        at = torch.arange(1, ids.shape[1])
        first = torch.tensor([len(prompts[i]) for i in range(begin, end)])
        last = torch.tensor([len(row) for row in rows])
        counts = (at >= first[:, None]) & (at < last[:, None])
        out[begin:end] = (taken * counts).sum(1).numpy()
    model.train(was_training)
    return out
