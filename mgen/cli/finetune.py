"""Fine-tune a policy against rewards and critics.

    mgen finetune --config configs/finetune/laptop.yaml --policy runs/base/model
    --critic runs/critic/model --corpus corpus --out runs/tuned

Several processes: `accelerate launch scripts/finetune.py` with the same options.

Differs from GRPO as published (`mgen grpo`): rewards per bar, no division by the deviation of the group, KL in the
return, a learning rate that follows the measured KL of a step.
"""

from __future__ import annotations

from collections.abc import Sequence

from mgen.cli.options import Output, parse, print_result
from mgen.cli.progress import ProgressDisplay
from mgen.cli.tuned_summary import describe
from mgen.workflows.finetune import FinetuneConfig, run_finetune


def main(argv: Sequence[str] | None = None) -> int:
    """Fine-tune; returns the exit code."""
    config, output = parse(argv, FinetuneConfig, Output, doc=__doc__)
    with ProgressDisplay(output.json) as progress:
        result = run_finetune(config, progress)
    return print_result(describe(result), result.facts, output.json)
