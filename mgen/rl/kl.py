"""KL of a fine-tuned policy: what a change cost, the least that it could have cost, and a budget in nats per piece."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field


def least_kl(before: float, after: float) -> float:
    """The least KL, in nats, that takes the probability of an event from `before` to `after`, each within 0..1.

    after log(after / before) + (1 - after) log((1 - after) / (1 - before)): that of the policy which is the reference
    in each of the two cases and only weighs them differently.
    """
    parts = ((after, before), (1 - after, 1 - before))
    return sum(own * math.log(own / other) if other > 0 else math.inf for own, other in parts if own > 0)


def kl_efficiency(before: float, after: float, kl: float) -> float:
    """Share of the KL spent, 0..1, that the change of a probability needed at least; NaN without KL to speak of.

    Only as exact as the two probabilities are: where they are measured on n pieces, `least_kl` is off by about 1 / n.
    """
    return least_kl(before, after) / kl if kl > 1e-3 else math.nan


@dataclass
class KlBudget:
    """A weight of KL for each prompt type that rises while its KL is above a target, and returns below it.

    Attributes:
        least: weight below which none falls: that of the objective.
        targets: prompt type -> nats per piece; a type without one keeps the weight `least`.
        weights: prompt type -> present weight.
    """

    least: float
    targets: Mapping[str, float] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)

    def weight(self, prompt_type: str) -> float:
        """Nats of return per nat of KL."""
        return self.weights.get(prompt_type, self.least)

    def update(self, kl: Mapping[str, float]) -> None:
        """Multiplies each weight by exp(KL / target - 1), within 0.8 and 1.25.

        Args:
            kl: prompt type -> measured KL in nats per piece.
        """
        for prompt_type, nats in kl.items():
            target = self.targets.get(prompt_type, 0.0)
            if target > 0:
                factor = math.exp(min(max(nats / target - 1, math.log(0.8)), math.log(1.25)))
                start = max(self.weight(prompt_type), 0.05 if nats > target else 0.0)  # a weight of 0 has to rise too
                self.weights[prompt_type] = max(start * factor, self.least)
