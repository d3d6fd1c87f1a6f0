"""What fine-tuning has changed, in one small table: training before and after, held-out checks, what was kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from rich.table import Table

from mgen.cli.tables import as_text
from mgen.rl.guard import best_check
from mgen.runs.metrics import METRICS_FILE, read_metrics
from mgen.runs.run import TrainingResult

WINDOW = 5  # steps that the last numbers are means of
MOST_JUDGES = 6  # that have a row, where there are no held-out checks
TRAINED = {
    "reward": "reward, weighted sum of all judges",
    "probability/style": "probability of the style, by the critic",
}
CHECKED = {
    "continuation/style": "held-out, share of the style: same style",
    "transfer/style": "held-out, share of the style: other styles",
    "continuation/auc": "held-out, AUC of real music above: same style",
    "transfer/auc": "held-out, AUC of real music above: other styles",
    "continuation/whole": "held-out, share without broken tokens",
    "continuation/greedy_loops": "held-out, share of loops, decoded greedily",
}
"""Metric of `guard/` -> its row. Prompts are of the same style, or of other styles."""

Metrics = Sequence[Mapping[str, float]]


def describe(result: TrainingResult) -> str:
    """The main numbers of a run of `mgen finetune` or `mgen grpo`, at its start and of the weights that it kept."""
    state = "was finished before" if result.already_finished else "finished"
    logged = read_metrics(result.folder)
    steps = [line for line in logged if "reward" in line]
    checks = [line for line in logged if any(key.startswith("guard/") for key in line)]
    kept = best_check(checks)
    last = int(checks[kept]["step"]) if kept is not None else result.steps
    table = Table("", "start", f"step {last}", title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    end = [line for line in steps if line["step"] <= last][-WINDOW:]
    for key, name in TRAINED.items():
        _add(table, name, steps[:1], end, key)
    if not checks:
        scores = [key for key in (end or [{}])[-1] if key.startswith("rewards/") and key.endswith("/mean")]
        for key in scores[:MOST_JUDGES]:
            _add(table, f"score of {key.split('/')[1]}", steps[:1], end, key)
    _add(table, "KL to the start, nats per piece", [], end, "policy/kl" if "policy/kl" in (end or [{}])[-1] else "kl")
    if checks and kept is not None:
        for key, name in CHECKED.items():
            _add(table, name, checks[:1], [checks[kept]], f"guard/{key}")
    which = f"those of step {last}, the best held-out check" if kept is not None else "those of the last step"
    return "\n".join(
        [
            f"{result.folder} {state}: {result.steps} steps, {result.seconds:.0f} s",
            as_text(table),
            f"weights kept: {which}: {result.model}",
            f"all numbers of all steps: {result.folder / METRICS_FILE}",
        ]
    )


def _add(table: Table, name: str, before: Metrics, after: Metrics, key: str) -> None:
    cells = [_mean(before, key), _mean(after, key)]
    if cells[1]:
        table.add_row(name, *cells)


def _mean(lines: Metrics, key: str) -> str:
    values = [line[key] for line in lines if line.get(key) is not None]
    return f"{np.mean(values):.3f}" if values else ""
