"""What the runs of a grid of `mgen baseline drum-bass` are compared by, next to systems that are not trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mgen.stats.bass_metrics import METRICS
from mgen.workflows.baseline_drum_bass_results import ANOTHER, MAJORITY, REAL, ROOTS
from mgen.workflows.grid import Axes

DRUM_BASS_COLUMNS = {
    **{name: name.replace("_", " ") for name in METRICS},
    "eval_loss": "loss on valid, nats per step",
    "seconds": "seconds",
}
"""Metrics -> heading of the column."""

DRUM_BASS_AXES = Axes("learning curves", "F1 of note starts on valid", "step", "step", "eval_onset_f1")


def untrained_drum_bass(facts: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """System without training -> its metrics on test, from the facts of a run."""
    return {
        system: {name: one["value"] for name, one in facts["test"][system].items() if one["value"] is not None}
        for system in (REAL, ANOTHER, ROOTS, MAJORITY)
    }
