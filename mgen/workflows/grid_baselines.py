"""What the runs of a grid of baselines are compared by: metrics of each run, next to systems without training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mgen.workflows.baseline_piano_roll_results import OFF
from mgen.workflows.baseline_piano_roll_results import REPEAT as REPEAT_STEP
from mgen.workflows.baseline_tabs_results import MAJORITY, REPEAT
from mgen.workflows.grid import Axes

TABS_COLUMNS = {
    **{
        f"{target}/{name}": f"{target}, {name.replace('_', ' ')}"
        for target in ("note", "pitch", "duration", "dotted")
        for name in ("balanced_accuracy", "accuracy")
    },
    "eval_loss": "loss on valid",
    "seconds": "seconds",
}
"""Metrics of `mgen baseline tabs` -> heading of the column."""

TABS_AXES = Axes("learning curves", "balanced accuracy on valid", "step", "step", "eval_balanced_accuracy")

ROLL_COLUMNS = {
    "average_precision": "average precision",
    "f1": "F1",
    "precision": "precision",
    "recall": "recall",
    "density_ratio": "density, sampled / real",
    "steps_to_target": "steps to the target",
    "gradient_norm": "gradient norm",
    "eval_average_precision": "average precision on valid",
    "eval_loss": "loss on valid",
    "seconds": "seconds",
}
"""Metrics of `mgen baseline piano-roll` -> heading of the column. Losses of different kinds do not compare."""

ROLL_AXES = Axes("learning curves", "average precision on valid", "step", "step", "eval_average_precision")


def untrained_tabs(facts: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """System without training -> its metrics on test, from the facts of a run of `mgen baseline tabs`."""
    return {
        system: {
            f"{target}/{name}": one["value"]
            for target, of in facts["test"][system].items()
            for name, one in of.items()
            if one["value"] is not None
        }
        for system in (MAJORITY, REPEAT)
    }


def untrained_rolls(facts: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """System without training -> its metrics on test, from the facts of a run of `mgen baseline piano-roll`."""
    return {
        system: {name: one["value"] for name, one in facts["test"][system].items() if one["value"] is not None}
        for system in (OFF, REPEAT_STEP)
    }
