"""Fine-tune a policy by GRPO as published, with the unchanged trainer of TRL: the comparison for mgen finetune.

    mgen grpo --config configs/grpo/laptop.yaml --policy runs/base/model
    --critic runs/critic/model --corpus corpus --out runs/grpo

Several processes: `accelerate launch scripts/grpo.py` with the same options.
"""

from __future__ import annotations

from collections.abc import Sequence

from mgen.cli.options import Output, parse, print_result
from mgen.cli.progress import ProgressDisplay
from mgen.cli.tuned_summary import describe
from mgen.workflows.grpo import GrpoConfig, run_grpo


def main(argv: Sequence[str] | None = None) -> int:
    """Fine-tune; returns the exit code."""
    config, output = parse(argv, GrpoConfig, Output, doc=__doc__)
    with ProgressDisplay(output.json) as progress:
        result = run_grpo(config, progress)
    return print_result(describe(result), result.facts, output.json)
