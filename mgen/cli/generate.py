"""Sample MIDI files from a model.

mgen generate --model runs/tuned/model --out pieces --n 8 --style jazz --prompt theme.mid
mgen generate --model runs/base/model --out pieces --style jazz --best_of 8 --critic runs/critic/model
"""

from __future__ import annotations

from collections.abc import Sequence

from mgen.cli.options import Output, parse, print_result
from mgen.workflows.generate import GenerateConfig, run_generate


def main(argv: Sequence[str] | None = None) -> int:
    """Generate; returns the exit code."""
    config, output = parse(argv, GenerateConfig, Output, doc=__doc__)
    result = run_generate(config)
    lines = [result.facts["speed"]]
    lines += [
        f"{result.folder / piece['file']}: {piece['notes']} notes, {piece['bars']} bars, "
        f"{piece['broken_tokens']} broken tokens"
        for piece in result.facts["pieces"]
    ]
    return print_result("\n".join(lines), result.facts, output.json)
