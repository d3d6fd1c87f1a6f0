"""Run a grid of runs, with seeds as a dimension: one table, one figure.

    mgen ablate --config configs/ablations/laptop.yaml --policy runs/base/model
    --critic runs/critic/model --corpus corpus --out runs/ablation

    mgen ablate --config configs/ablations/architecture.yaml --corpus corpus --out runs/architecture

The same command resumes, and may run on several machines that share the output folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mgen.cli.options import Output, config_as, parse, print_result
from mgen.cli.progress import ProgressDisplay
from mgen.workflows.ablate import AblationConfig, run_ablation
from mgen.workflows.grid import table


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the grid; returns the exit code."""
    words = config_as("grid", argv, "ablate")  # the file of `--config` is the grid, not the options of this command
    config, output = parse(words, AblationConfig, Output, doc=__doc__)
    with ProgressDisplay(output.json) as progress:
        results = run_ablation(config, progress)
    shown = table(results, results["columns"])
    return print_result(f"{shown}\n{Path(config.out) / 'table.md'}", results, output.json)
