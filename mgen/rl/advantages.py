"""From judges to the advantages of a batch: what each judge, and KL, adds to the advantage of each token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from mgen.arrays import Floats, Longs
from mgen.judgement import Judge, Judgement, PrefixJudge, judged
from mgen.notes import Notes
from mgen.rl.batch import Batch
from mgen.rl.credit import group_advantages, returns_to_go
from mgen.rl.rewards import Beginnings, beginnings, end_rewards, gain_rewards, predicted_scores, quantile_rewards


@dataclass(frozen=True)
class Quantile:
    """What the quantile reward needs."""

    n: int  # its optimum is the best of n samples
    samples: Mapping[str, Notes]  # prompt type -> samples of the reference policy


@dataclass(frozen=True, eq=False)
class Scored:
    """A batch of completions and what each judge says of them."""

    notes: Notes
    judgements: Mapping[str, Judgement]

    @classmethod
    def by(cls, judges: Mapping[str, Judge], notes: Notes) -> Scored:
        """Calls all judges."""
        return cls(notes, {name: judged(name, judge, notes) for name, judge in judges.items()})

    def total(self, weights: Mapping[str, float]) -> Floats:
        """(B,) weighted sums of the scores."""
        scores = [weights[name] * one.score.astype(np.float64) for name, one in self.judgements.items()]
        total: Floats = np.sum(scores, axis=0)
        return total


def token_advantages(
    judges: Mapping[str, Judge],
    weights: Mapping[str, float],
    scored: Scored,
    batch: Batch,
    kl_rewards: Tensor,
    closes_bar: NDArray[np.bool_],
    *,
    causal: bool = True,
    cold_judges: Sequence[str] = (),
    quantile: Floats | None = None,
) -> dict[str, Tensor]:
    """Splits the advantage of each token into the terms of the judges and of KL; their sum is the advantage.

    The advantage of a completion at temperature t is multiplied by t, because the gradient of log softmax(logits / t)
    has a factor 1 / t.

    Args:
        judges, weights: by name.
        scored: what they say of the batch.
        kl_rewards: (B, T) minus the weighted log ratio to the reference; counts at temperature 1 only.
        closes_bar: (V,) tokens that close a bar.
        causal: whether judges that can judge beginnings reward the tokens that close bars; else the last token.
        cold_judges: those that judge completions below temperature 1, and no others.
        quantile: (B,) rewards that take the place of those of all judges at temperature 1.

    Returns:
        Judge or `quantile`, and `kl`, -> (B, T) in nats.
    """
    ids, mask, lengths = batch.completion_ids.cpu(), batch.mask.cpu(), batch.mask.sum(1).cpu()
    begun = None
    if causal and quantile is None and any(isinstance(judge, PrefixJudge) for judge in judges.values()):
        begun = beginnings(scored.notes, closes_bar[ids.numpy()] & mask.numpy())

    def advantages(rewards: Tensor, rows: Tensor) -> Tensor:
        rewards = pad(rewards, (0, mask.shape[1] - rewards.shape[1]))  # a compiled model's batch is wider
        out = torch.zeros_like(rewards)
        if rows.any():
            out[rows] = group_advantages(returns_to_go(rewards[rows], mask[rows]), group[rows])
        return (out * batch.temperature.cpu()[:, None]).to(batch.ids.device)

    group, warm = batch.group.cpu(), batch.warm.cpu()
    parts = {}
    for name, judge in judges.items():
        rows = ~warm if name in cold_judges else warm
        if quantile is not None and name not in cold_judges:
            continue
        rewards = weights[name] * token_rewards(judge, scored.judgements[name], begun, lengths, group.numpy())
        parts[name] = advantages(rewards, rows)
    if quantile is not None:
        parts["quantile"] = advantages(end_rewards(quantile, lengths), warm)
    return parts | {"kl": advantages(kl_rewards.cpu(), warm)}


def token_rewards(
    judge: Judge, judgement: Judgement, begun: Beginnings | None, lengths: Tensor, group: Longs
) -> Tensor:
    """(B, T) rewards of a judge: by bars if it can judge beginnings and these are given, else on the last token.

    Args:
        lengths: (B,) tokens in each completion.
        group: (B,) completions of one prompt share a number.
    """
    if begun is None or not isinstance(judge, PrefixJudge):
        return end_rewards(judgement.score, lengths)
    scores = predicted_scores(judge.prefix_scores(begun.notes), begun, judgement.score, group)
    return gain_rewards(judgement, scores, begun, lengths)


def quantile_scores(
    judges: Mapping[str, Judge], weights: Mapping[str, float], scored: Scored, types: Sequence[str], quantile: Quantile
) -> Floats:
    """(B,) quantile rewards; the reference samples are judged again, as a discriminator has changed since.

    Args:
        types: prompt type of each completion.
    """
    total, rewards = scored.total(weights), np.zeros(len(types))
    for prompt_type, notes in quantile.samples.items():
        rows = np.flatnonzero([one == prompt_type for one in types])
        if len(rows):
            reference = Scored.by(judges, notes).total(weights)
            rewards[rows] = quantile_rewards(total[rows], reference, quantile.n)
    return rewards
