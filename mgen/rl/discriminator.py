"""The discriminator: the realism critic, trained between the policy's steps.

It separates real music from samples of one of two policies, which decides the weight of KL:

- `reference`: it is trained on samples of the frozen reference, before the first step, and is then fixed. Its logit is
  log p_real / p_ref, and KL to the reference has the same weight as the logit.
- `current`: it is trained on the current samples of the policy, after every step. Its logit is log p_real / p_policy,
  and KL to the reference has a smaller weight or none, because small steps hold the policy.

"Critic" means a learned judge here, not a value function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from mgen.judgement import Judgement
from mgen.notes import Notes
from mgen.progress import Progress, counted, silent

AGAINST = ("current", "reference")

GATE_DECAY = 0.3  # weight of the last step in the moving average that the gate is on
CALIBRATION_EVERY = 5  # against the reference, one in 5 rounds is held out from training and used for calibration


def fixed_point(against: str, weight: float, kl_weight: float) -> tuple[float, float]:
    """The optimum of weight * logit - kl_weight * KL(policy, reference), with a perfect discriminator.

    The optimal policy is proportional to p_ref^a p_real^b; other judges shift it.

    Reference: the reward w log(p_real / p_ref) is fixed, so p = p_ref exp(reward / k), hence b = w / k, a = 1 - b.
    Current: the mean of w log(p_real / p) over p is -w KL(p, p_real), so b = w / (w + k), a = k / (w + k).

    Args:
        against: `current` or `reference`.
        weight: w, of the logit, above 0.
        kl_weight: k, at least 0; above 0 against the reference.

    Returns:
        (a, b).

    Source: the optimum of KL-regularised reward, Korbak et al. 2022, arXiv:2205.11275.
    """
    real = weight / (kl_weight if against == "reference" else kl_weight + weight)
    return 1 - real, real


def check_weights(against: str, weight: float, kl_weight: float) -> None:
    """Raises unless the weights fit the policy that the discriminator is trained against.

    Raises:
        ValueError: Against the reference, the weights differ, so real music is not the optimum. Against current
            samples, `kl_weight` is at least `weight`, so the reference has half of the fixed point or more.
    """
    if against not in AGAINST:
        raise ValueError(f"against '{against}': expected one of {', '.join(AGAINST)}")
    if weight <= 0:
        raise ValueError(f"the weight of realism ({weight:g}) must be above 0; leave it out of the judges instead")
    if against == "reference" and weight != kl_weight:
        raise ValueError(
            f"kl_weight ({kl_weight:g}) must be the weight of realism ({weight:g}) with realism_against reference: the "
            f"optimum is reference * (real / reference)^(realism / kl_weight); try kl_weight {weight:g}, or a smaller "
            "one with realism_against current"
        )
    if against == "current" and kl_weight >= weight:
        raise ValueError(
            f"kl_weight ({kl_weight:g}) must be below the weight of realism ({weight:g}) with realism_against current, "
            f"or the reference has half of the fixed point or more; try {weight / 2:g} or 0, or realism_against "
            f"reference with kl_weight {weight:g}"
        )


class Discriminator(Protocol):
    """A judge that is trained during the run: score = calibrated log p_real / p_generated, in nats.

    `works` (R,) names the works of the real pieces.
    """

    def __call__(self, notes: Notes) -> Judgement: ...
    def update(self, real: Notes, generated: Notes, works: ArrayLike) -> dict[str, float]: ...
    def calibrate(self, batches: Iterable[tuple[Notes, Notes, ArrayLike]]) -> dict[str, float]: ...
    def watch(self, real: Notes, generated: Notes, works: ArrayLike) -> dict[str, float]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


Draw = Callable[[int, int], Notes]
"""(number of pieces, number of the batch) -> pieces; a batch is the same at every call and on every process."""

DrawReal = Callable[[int, int], tuple[Notes, ArrayLike]]
"""As `Draw`, with the name of the work of each piece."""


class DiscriminatorTrainer:
    """Trains the discriminators of a run on the same real and generated pieces.

    Args:
        discriminators: name -> discriminator, which is also one of the judges.
        real: draws real music, decoded as completions are.
        against: `current` or `reference`, see the module.
        gate: against current samples, after the warm-up: train only where the moving average of the probability of real
            that the discriminators give the completions is above it, so that the policy is never far behind; 0: always.
            After Wu et al. 2025 (GAPT), arXiv:2511.17879, whose gate is on the reward.
    """

    def __init__(
        self,
        discriminators: Mapping[str, Discriminator],
        real: DrawReal,
        against: str = "current",
        gate: float = 0.0,
    ) -> None:
        if against not in AGAINST:
            raise ValueError(f"against '{against}': expected one of {', '.join(AGAINST)}")
        self.discriminators, self.real, self.against = dict(discriminators), real, against
        self.gate, self.believed = gate, 0.0  # moving average of the probability of real
        self.batches = 0  # drawn so far

    def warm_up(self, reference: Draw, rounds: int, pieces: int, progress: Progress = silent) -> dict[str, float]:
        """Trains on samples of the frozen policy.

        Against the reference, this is the only training, and the last fifth of the rounds is held out for calibration.

        Args:
            reference: draws samples of the frozen policy.
            rounds: number of batches.
            pieces: in a batch, of each side.
            progress: takes the count of the batches.

        Returns:
            Held-out metrics as `NAME/METRIC`: of the last round, or means over the calibration rounds.

        Raises:
            ValueError: Against the reference, there are fewer than 2 rounds.
        """
        held_out = max(rounds // CALIBRATION_EVERY, 1) if self.against == "reference" else 0
        if held_out and rounds < 2:
            raise ValueError(f"warm-up ({rounds}) must be at least 2 rounds against the reference; try 20")
        numbers = range(self.batches, self.batches + rounds)
        self.batches += rounds
        metrics: dict[str, float] = {}
        last = []
        for number in counted(progress, "batches: warm-up of the discriminator", numbers):
            real, works = self.real(pieces, number)
            batch = real, reference(pieces, number), works
            if held_out and number >= numbers.stop - held_out:
                last.append(batch)
            else:
                metrics = self._each("update", *batch)
        return self._each("calibrate", last) if held_out else metrics

    def step(self, generated: Notes) -> dict[str, float]:
        """Trains on the completions of a step of the policy, or (`reference`, gate) only measures the accuracy."""
        if not generated.n_pieces:
            return {}
        self.batches += 1
        real, works = self.real(generated.n_pieces, self.batches)
        if not self.gate:
            return self._each("watch" if self.against == "reference" else "update", real, generated, works)
        believed = float(np.mean([expit(one(generated).score).mean() for one in self.discriminators.values()]))
        self.believed += GATE_DECAY * (believed - self.believed)
        trains = self.believed > self.gate
        metrics = self._each("update" if trains else "watch", real, generated, works)
        return metrics | {"discriminator/believed": self.believed, "discriminator/trained": float(trains)}

    def _each(self, method: str, *batch: Any) -> dict[str, float]:
        """Calls a method of all discriminators; returns their metrics as `NAME/METRIC`."""
        found = {name: getattr(one, method)(*batch) for name, one in self.discriminators.items()}
        return {f"{name}/{key}": value for name, metrics in found.items() for key, value in metrics.items()}

    def state_dict(self) -> dict[str, Any]:
        """The state for an exact resume."""
        own = {"batches": self.batches, "believed": self.believed}
        return {name: one.state_dict() for name, one in self.discriminators.items()} | own

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the state of `state_dict`."""
        for name, one in self.discriminators.items():
            one.load_state_dict(state[name])
        self.batches, self.believed = state["batches"], state["believed"]
