"""Train on votes: a policy on preference pairs (DPO), or a reward model that predicts the preferred piece.

    mgen prefer --config configs/prefer/laptop.yaml --method dpo --policy runs/tuned/model
    --pairs pairs.jsonl --out runs/preferred

`mgen votes votes.sqlite --export pairs.jsonl` writes the pairs; `--method reward` trains the reward model.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence

from mgen.cli.options import Output, parse, print_result
from mgen.cli.progress import ProgressDisplay
from mgen.workflows.prefer import options_of, run_prefer


def main(argv: Sequence[str] | None = None) -> int:
    """Train and measure; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    method = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    method.add_argument("--method", nargs="?", default="dpo")  # determines which options there are
    config, output = parse(words, options_of(method.parse_known_args(words)[0].method or ""), Output, doc=__doc__)
    with ProgressDisplay(output.json) as progress:
        result = run_prefer(config, progress)
    facts, state = result.facts, "was finished before" if result.already_finished else "finished"
    pairs, prompts = facts["pairs"], facts["prompts"]
    text = (
        f"{result.folder} {state}: {result.steps} steps on {pairs['train']} pairs of {prompts['train']} prompts, "
        f"{result.seconds:.0f} s; on {pairs['valid']} pairs of {prompts['valid']} held-out prompts: accuracy "
        f"{_interval(facts['accuracy'])}, margin {_interval(facts['margin'])} nats (95 % intervals by prompt)"
    )
    return print_result(text, facts, output.json)


def _interval(number: Mapping[str, float]) -> str:
    return f"{number['value']:.2f} ({number['low']:.2f} to {number['high']:.2f})"
