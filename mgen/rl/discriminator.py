"""The discriminator: a realism critic trained between the policy's steps.

Two forms are sound, and they weigh KL differently. *Reference*: the critic learns real music against samples of the
frozen reference, before the first step, and is then left alone; its logit is log p_real / p_ref, and KL to the
reference is paid at the same weight. *Current*: it goes on learning, against what the policy plays now; its logit is
log p_real / p_policy, small steps hold the policy, and KL to the reference is paid little or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, Protocol

from mgen.judgement import Judgement
from mgen.notes import Notes

AGAINST = ("current", "reference")

HELD_OUT = 5
"""Against the reference, one round in so many calibrates and is not learned from."""


def fixed_point(against: str, weight: float, kl_weight: float) -> tuple[float, float]:
    """Where a policy comes to rest under weight * logit - kl_weight * KL(policy, reference), with a perfect critic.

    It is p proportional to p_ref^a p_real^b; further judges tilt it.

    Reference: the reward w log(p_real / p_ref) is fixed, so p = p_ref exp(reward / k), hence b = w / k, a = 1 - b.
    Current: the mean of w log(p_real / p) over p is -w KL(p, p_real), so p is the mean of both in the exponent: b = w /
    (w + k), a = k / (w + k).

    Args:
        against: `current` or `reference`.
        weight: w, of the critic's logit, above 0.
        kl_weight: k, at least 0; above 0 against the reference.

    Returns:
        (a, b).

    Source: the optimum of KL-regularised reward, Korbak et al. 2022, arXiv:2205.11275.
    """
    real = weight / (kl_weight if against == "reference" else kl_weight + weight)
    return 1 - real, real


def check_weights(against: str, weight: float, kl_weight: float) -> None:
    """Refuse the mixtures of both forms.

    Raises:
        ValueError: Against the reference, the optimum is not real music: its two weights differ. Against current
            samples, KL counts as much as the critic or more, as in the other form: the reference would hold half of the
            fixed point.
    """
    if against not in AGAINST:
        raise ValueError(f"against '{against}': expected one of {', '.join(AGAINST)}")
    if weight <= 0:
        raise ValueError(f"the weight of realism ({weight:g}) must be above 0; leave it out of the judges instead")
    if against == "reference" and weight != kl_weight:
        raise ValueError(
            f"kl_weight ({kl_weight:g}) must be the weight of realism ({weight:g}) where the critic is trained against "
            f"the reference, for the optimum is reference * (real / reference)^(realism / kl_weight); try kl_weight "
            f"{weight:g}, or against current samples a smaller one"
        )
    if against == "current" and kl_weight >= weight:
        raise ValueError(
            f"kl_weight ({kl_weight:g}) must be below the weight of realism ({weight:g}) where the critic is trained "
            "against current samples, or the reference holds half of the fixed point and more; try "
            f"{weight / 2:g} or 0, or train it against the reference with kl_weight {weight:g}"
        )


class Learner(Protocol):
    """A judge that can be trained: score = calibrated log p_real / p_generated, in nats."""

    def __call__(self, notes: Notes) -> Judgement: ...
    def update(self, real: Notes, generated: Notes) -> dict[str, float]: ...
    def calibrate(self, pairs: Iterable[tuple[Notes, Notes]]) -> dict[str, float]: ...
    def watch(self, real: Notes, generated: Notes) -> dict[str, float]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


Draw = Callable[[int, int], Notes]
"""Number of pieces, number of the batch -> pieces; the same batch is drawn alike every time, and by every process."""


class DiscriminatorTrainer:
    """Feeds a learner.

    Args:
        learner: the critic, which is also one of the judges.
        real: draws real music, decoded as completions are.
        against: `current` or `reference`, see the module.
    """

    def __init__(self, learner: Learner, real: Draw, against: str = "current") -> None:
        if against not in AGAINST:
            raise ValueError(f"against '{against}': expected one of {', '.join(AGAINST)}")
        self.learner, self.real, self.against = learner, real, against
        self.batches = 0  # drawn so far

    def warm_up(self, reference: Draw, rounds: int, pieces: int) -> dict[str, float]:
        """Train on samples of the frozen policy.

        A critic that is then left alone is calibrated on rounds that it did not learn from, the last fifth.

        Returns:
            Held-out numbers: of the last round, or means over those that calibrated.

        Raises:
            ValueError: There are no rounds to learn from and to calibrate on, and the critic is left alone after.
        """
        held = max(rounds // HELD_OUT, 1) if self.against == "reference" else 0
        if held and rounds < 2:
            raise ValueError(f"warm-up ({rounds}) must be at least 2 rounds against the reference; try {4 * HELD_OUT}")
        numbers = range(self.batches, self.batches + rounds)
        self.batches += rounds
        pairs = ((self.real(pieces, number), reference(pieces, number)) for number in numbers)
        metrics: dict[str, float] = {}
        for real, played in islice(pairs, rounds - held):
            metrics = self.learner.update(real, played)
        return self.learner.calibrate(pairs) if held else metrics

    def step(self, generated: Notes) -> dict[str, float]:
        """After a step of the policy: learn from its completions, or (`reference`) only watch how well the critic, as
        it is, still tells them from real music.
        """
        if not generated.n_pieces:
            return {}
        self.batches += 1
        real = self.real(generated.n_pieces, self.batches)
        return (self.learner.watch if self.against == "reference" else self.learner.update)(real, generated)

    def state_dict(self) -> dict[str, Any]:
        """All that an exact resume needs."""
        return {"learner": self.learner.state_dict(), "batches": self.batches}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self.learner.load_state_dict(state["learner"])
        self.batches = state["batches"]
