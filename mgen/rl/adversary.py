"""The adversary: a realism critic trained between the policy's steps.

Two forms are sound, and they weigh KL differently. *Reference*: the critic learns real music against samples of the
frozen reference, before the first step, and is then left alone; its logit is log p_real / p_ref. *Current*: it goes
on learning, against what the policy plays now; its logit is log p_real / p_policy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from mgen.judgement import Judgement
from mgen.notes import Notes

AGAINST = ("current", "reference")


class Learner(Protocol):
    """A judge that can be trained: score = calibrated log p_real / p_generated, in nats."""

    def __call__(self, notes: Notes) -> Judgement: ...
    def update(self, real: Notes, generated: Notes) -> dict[str, float]: ...
    def warm_up(self, real: Sequence[Notes], generated: Sequence[Notes]) -> dict[str, float]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


Draw = Callable[[int, int], Notes]
"""Number of pieces, number of the batch -> pieces; the same batch is drawn alike every time, and by every process."""


class Adversary:
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
        """Train on samples of the frozen policy; returns the last round's metrics.

        A critic that is then left alone is calibrated on rounds that it did not learn from.
        """
        numbers = range(self.batches, self.batches + rounds)
        pairs = [(self.real(pieces, number), reference(pieces, number)) for number in numbers]
        self.batches += rounds
        if self.against == "reference":
            return self.learner.warm_up([real for real, _ in pairs], [played for _, played in pairs])
        metrics: dict[str, float] = {}
        for real, played in pairs:
            metrics = self.learner.update(real, played)
        return metrics

    def step(self, generated: Notes) -> dict[str, float]:
        """After a step of the policy: learn from its completions, or (`reference`) leave the critic as it is."""
        if self.against == "reference" or not generated.n_pieces:
            return {}
        self.batches += 1
        return self.learner.update(self.real(generated.n_pieces, self.batches), generated)

    def state_dict(self) -> dict[str, Any]:
        """All that an exact resume needs."""
        return {"learner": self.learner.state_dict(), "batches": self.batches}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self.learner.load_state_dict(state["learner"])
        self.batches = state["batches"]
