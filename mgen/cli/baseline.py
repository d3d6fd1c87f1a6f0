"""Train a simple predictor that people know from tutorials, next to systems that are not trained.

    mgen baseline tabs --config configs/baselines/tabs_laptop.yaml --corpus corpus --out runs/tabs

The first word is the kind. tabs: the next note of a guitar tab from a window of notes; piano-roll: the next step of a
piano-roll; drum-bass: a bass line for drums; bass-policy: the same from a policy, which is measured only.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from mgen.cli.options import Output, parse, print_result
from mgen.cli.progress import ProgressDisplay
from mgen.errors import MgenError

KINDS = {
    "tabs": ("mgen.workflows.baseline_tabs", "TabsConfig", "run_tabs"),
    "piano-roll": ("mgen.workflows.baseline_piano_roll", "RollConfig", "run_piano_roll"),
    "drum-bass": ("mgen.workflows.baseline_drum_bass", "DrumBassOptions", "run_drum_bass"),
    "bass-policy": ("mgen.workflows.bass_policy", "BassPolicyOptions", "run_bass_policy"),
}
"""Kind -> module, which is imported when it is asked for, its options and its call."""


def main(argv: Sequence[str] | None = None) -> int:
    """Trains and evaluates; returns the exit code."""
    kind, *words = list(sys.argv[1:] if argv is None else argv) or [""]
    if kind in ("--help", "-h", "--help-all"):
        parse([kind], Output, doc=__doc__, arguments={"kind": {"help": ", ".join(KINDS)}})
    if kind not in KINDS:
        found = f"'{kind}'" if kind else "none"
        raise MgenError(f"mgen baseline: expected a kind first, one of {', '.join(KINDS)}; found {found}")
    name, options, call = KINDS[kind]
    module = importlib.import_module(name)
    config, output = parse(words, getattr(module, options), Output, doc=module.__doc__, program=f"mgen baseline {kind}")
    with ProgressDisplay(output.json) as progress:
        result = getattr(module, call)(config, progress)
    state = "was finished before" if result.already_finished else "finished"
    table = result.folder / "table.md"
    text = table.read_text(encoding="utf-8") + "\n" if table.is_file() else ""
    text += f"{result.folder} {state}: {result.steps} steps, {result.seconds:.0f} s"
    return print_result(text, result.facts, output.json)
