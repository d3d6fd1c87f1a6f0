"""Speed of mgen next to that of another library, measured alternately in one process: on a shared machine only their
ratio is meaningful.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from mgen.errors import MgenError
from mgen.options import from_keywords
from mgen.progress import Progress, silent
from mgen.workflows.bench_judges import bench_critic, bench_rewards
from mgen.workflows.bench_measure import PROGRESS, BenchConfig, machine, with_bound
from mgen.workflows.bench_models import bench_evaluate, bench_pretrain, bench_rl, bench_rollout
from mgen.workflows.bench_music import bench_metrics, bench_prepare, bench_tabs, bench_tokenize
from mgen.workflows.bench_next_note import bench_next_note
from mgen.workflows.bench_pairs import bench_pairs
from mgen.workflows.bench_piano_roll import bench_piano_roll

__all__ = ["BENCHES", "BenchConfig", "bench"]

BENCHES: dict[str, Callable[[BenchConfig], dict[str, Any]]] = {
    "tokenize": bench_tokenize,
    "pretrain": bench_pretrain,
    "rollout": bench_rollout,
    "rewards": bench_rewards,
    "critic": bench_critic,
    "rl": bench_rl,
    "evaluate": bench_evaluate,
    "metrics": bench_metrics,
    "prepare": bench_prepare,
    "tabs": bench_tabs,
    "next_note": bench_next_note,
    "piano_roll": bench_piano_roll,
    "pairs": bench_pairs,
}

OWN_DEFAULTS = {
    "rollout": (256, 3),
    "rl": (256, 1),
    "evaluate": (256, 1),
    "next_note": (4096, 5),
    "piano_roll": (32, 5),
}
"""Batch and repeats of the figures where they are not 16 and 5."""


def bench(what: str, *, progress: Progress = silent, **options: Any) -> dict[str, Any]:
    """Measures one speed of mgen and of its reference.

    Args:
        what: a key of `BENCHES`.
        progress: takes the count of the measurements.
        options: fields of `BenchConfig`.

    Returns:
        `what` with its unit, `ours`, `rival` (the reference), `ratio` (above 1: ours is faster), `machine` (rates of
        matrix products measured now) and, where one is set, `limit`: the least ratio, or without a comparable reference
        the least value of ours. Figures of a model have `operations` of its weights per token, and `bound`, the speed
        that these alone would allow, with `share_of_bound`.

    Raises:
        MgenError: There is no such figure, an option is invalid, or the source has no suitable files.
    """
    if what not in BENCHES:
        raise MgenError(f"mgen bench {what}: expected one of {', '.join(BENCHES)}")
    config = from_keywords(BenchConfig, "bench", options)
    batch, repeats = OWN_DEFAULTS.get(what, (16, 5))
    rates = machine()
    PROGRESS.set(progress)
    result = BENCHES[what](replace(config, batch=config.batch or batch, repeats=config.repeats or repeats))
    return with_bound(result, rates)
