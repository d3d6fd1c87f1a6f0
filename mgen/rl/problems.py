"""What is wrong with a run, from its metrics so far: one line for each problem, and nothing to remember."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mgen.rl.credit import dominant_reward

DOMINANT_STEPS = 5  # steps in a row after which a dominant reward is reported
EQUAL_STEPS = 3  # steps after which rewards that never differ within a group are an error
BLIND = 0.03  # AUC by which a new classifier of another make may beat the discriminator

EQUAL = "all completions of a prompt have equal rewards, so only KL is trained on"

Step = Mapping[str, float]
"""The metrics of a step."""


def new_problems(steps: Sequence[Step], dominant_share: float) -> list[str]:
    """Lines about problems that the last step has and the one before had not."""
    before = problems(steps[:-1], dominant_share)
    return [line for key, line in problems(steps, dominant_share).items() if key not in before]


def problems(steps: Sequence[Step], dominant_share: float) -> dict[str, str]:
    """Problem -> a line about it, as of the last step.

    Args:
        steps: metrics of all steps so far.
        dominant_share: share of the advantage above which a judge is reported.
    """
    if not steps:
        return {}
    found, last = {}, steps[-1]
    shares = [{key[6:]: step[key] for key in step if key.startswith("share/")} for step in steps[-DOMINANT_STEPS:]]
    dominant = dominant_reward(shares, dominant_share) if len(shares) == DOMINANT_STEPS else None
    if dominant is not None and len(shares[-1]) > 2:
        found[f"share/{dominant}"] = (
            f"dominant reward: {dominant} has {shares[-1][dominant]:.2f} of the advantage, and more than "
            f"{dominant_share:g} for {DOMINANT_STEPS} steps; the others have little effect. Lower "
            + ("kl_weight" if dominant == "kl" else f"the weight of {dominant}")
        )
    if len(steps) >= EQUAL_STEPS and all(step.get("groups/equal") == 1 for step in steps[-EQUAL_STEPS:]):
        found["equal"] = f"{EQUAL}, for {EQUAL_STEPS} steps"
    if last.get("realism_tokens/running_away", 0) >= 1:
        found["running_away"] = (
            "realism_tokens is too strong: it separates nearly all completions from real music and pauses its "
            "training, and the policy does not catch up. Give it fewer steps, a lower learning rate or a gradient "
            "penalty"
        )
    if last.get("realism_tokens/starved", 0) >= 1:
        found["starved"] = (
            "realism_tokens sees no difference, though it takes twice its steps: there is none, or it learns too "
            "little. Give it more steps or a higher learning rate"
        )
    fresh = last.get("realism/fresh_auc")
    if fresh is not None and fresh > last["realism/auc"] + BLIND:
        found["blind"] = (
            f"realism misses what new boosted trees see: AUC {last['realism/auc']:.2f} against {fresh:.2f} on the same "
            "pieces. Lower realism_regularisation, or add judges"
        )
    return found


def never_differed(steps: Sequence[Step]) -> bool:
    """Whether rewards were equal in every group of every one of at least `EQUAL_STEPS` steps."""
    return len(steps) >= EQUAL_STEPS and all(step.get("groups/equal") == 1 for step in steps)
