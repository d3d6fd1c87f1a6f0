"""Sample MIDI files from a model.

mgen generate --model runs/tuned/model --out pieces --n 8 --style jazz --prompt theme.mid
mgen generate --model runs/base/model --out pieces --style jazz --best_of 8 --critic runs/critic/model
mgen generate --baseline runs/roll --out pieces --threshold 0.3
"""

from __future__ import annotations

from collections.abc import Sequence

from mgen.cli.options import Output, parse, print_result
from mgen.workflows.generate import GenerateConfig, run_generate


def main(argv: Sequence[str] | None = None) -> int:
    """Generate; returns the exit code."""
    config, output = parse(argv, GenerateConfig, Output, doc=__doc__)
    result = run_generate(config)
    if config.baseline:
        lines, form = [], "{notes} notes, {steps} steps, {density:.1%} of cells sound"
    else:
        lines, form = [result.facts["speed"]], "{notes} notes, {bars} bars, {broken_tokens} broken tokens"
    lines += [f"{result.folder / piece['file']}: {form.format(**piece)}" for piece in result.facts["pieces"]]
    return print_result("\n".join(lines), result.facts, output.json)
