"""Search options of a command with Optuna: a run per trial, one table, the importance of each option.

    mgen tune --config configs/tune/pretrain_laptop.yaml --corpus corpus --out runs/search

The same command continues a study, and may run on several machines that share --storage and --out.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mgen.cli.options import Output, config_as, parse, print_result
from mgen.cli.progress import ProgressDisplay
from mgen.workflows.tune import Search, TuneConfig, run_tune, table


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the trials; returns the exit code."""
    words = config_as("search", argv, "tune")  # the file of `--config` is the search, not the options of this command
    config, output = parse(words, TuneConfig, Output, doc=__doc__)
    with ProgressDisplay(output.json) as progress:
        results = run_tune(config, progress)
    shown = table(results, Search.read(config.search))
    return print_result(f"{shown}\n{Path(config.out) / 'study.md'}", results, output.json)
