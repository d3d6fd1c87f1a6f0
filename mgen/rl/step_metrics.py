"""The metrics of a step of policy gradient."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mgen.judgement import Judge
from mgen.rl.advantages import Scored
from mgen.rl.batch import Batch
from mgen.rl.credit import advantage_shares, advantage_sizes, equal_groups
from mgen.rl.kl import kl_efficiency


def step_metrics(
    judges: Mapping[str, Judge],
    weights: Mapping[str, float],
    batch: Batch,
    scored: Scored,
    log_ratio: Tensor,
    parts: Mapping[str, Tensor],
    steps: Sequence[Mapping[str, float]],
) -> dict[str, float]:
    """What the completions of a step say, before the update.

    Args:
        log_ratio: (B, T) of the policy to the reference.
        parts: advantages of each judge and of KL.
        steps: metrics of the steps before.

    Returns:
        `reward`, mean weighted sum of the scores; `rewards/JUDGE/mean` and `/std`; `undefined/JUDGE`, share of
        completions that it could not judge; `share/JUDGE`, its share of the advantage; `probability/JUDGE`, mean
        probability of a judge that has one, and `kl_efficiency/JUDGE`, the share of the KL that its change since the
        first step needed at least; `policy/kl`, nats per piece at temperature 1; `groups/equal`, share of the groups
        with equal rewards; `completions/tokens` and `completions/ended`, mean length and share with an end.
    """
    mask, warm = batch.mask, batch.warm
    total = torch.from_numpy(scored.total(weights))
    group_size = int((batch.group == 0).sum())
    kl = float(log_ratio[warm].sum(1).mean())
    found = {
        "reward": float(total.mean()),
        "policy/kl": kl,
        "groups/equal": equal_groups(total, group_size),
        "completions/tokens": float(mask.sum(1).float().mean()),
        "completions/notes": float(scored.notes.counts.mean()),
    }
    for name, judgement in scored.judgements.items():
        found[f"rewards/{name}/mean"] = float(judgement.score.mean())
        found[f"rewards/{name}/std"] = float(judgement.score.std())
        found[f"undefined/{name}"] = float(1 - judgement.defined.mean())
    shares = advantage_shares(advantage_sizes(parts, mask)).tolist()
    found |= {f"share/{name}": share for name, share in zip(parts, shares, strict=True)}
    for name, judge in judges.items():
        if not hasattr(judge, "probability"):
            continue
        key = f"probability/{name}"
        found[key] = float(judge.probability(scored.notes).mean())
        before = steps[0].get(key, found[key]) if steps else found[key]
        if not math.isnan(efficiency := kl_efficiency(before, found[key], kl)):
            found[f"kl_efficiency/{name}"] = efficiency
    return found
