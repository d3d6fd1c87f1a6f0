"""What a change of a policy costs in KL, and the least that it could have cost."""

from __future__ import annotations

import math


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
