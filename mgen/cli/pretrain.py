"""Pretrain a policy: next-token training on a corpus.

    mgen pretrain --config configs/pretrain/laptop.yaml --corpus corpus --out runs/base

Several processes: `accelerate launch scripts/pretrain.py` with the same options.
With `--init` and `--style` a pretrained policy is trained further on one style alone: the low-cost baseline of
reinforcement learning.
"""

from __future__ import annotations

from collections.abc import Sequence

from mgen.cli.options import Output, parse, print_result
from mgen.cli.progress import ProgressDisplay
from mgen.workflows.pretrain import PretrainConfig, run_pretrain


def main(argv: Sequence[str] | None = None) -> int:
    """Pretrain; returns the exit code."""
    config, output = parse(argv, PretrainConfig, Output, doc=__doc__)
    with ProgressDisplay(output.json) as progress:
        result = run_pretrain(config, progress)
    facts = result.facts
    state = "was finished before" if result.already_finished else "finished"
    text = (
        f"{result.folder} {state}: {facts['parameters']:,} parameters, {result.steps} steps ({facts['epochs']} "
        f"epochs), {facts['nats_per_token']:.3f} nats per token, {facts['nats_per_note']:.3f} nats per note on valid, "
        f"{result.seconds:.0f} s"
    )
    return print_result(text, facts, output.json)
