"""Measure the speed of mgen next to that of another library, in one process.

    mgen bench pretrain --size mini --json

`ratio` above 1: ours is faster. `limit` is the least ratio, or without a comparable reference the least value of ours.
`machine` has the measured rates of matrix products; `bound` is the speed that those of the weights alone would allow.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from mgen.cli.options import Output, parse
from mgen.cli.progress import ProgressDisplay
from mgen.workflows.bench import BENCHES, BenchConfig, bench


def main(argv: Sequence[str] | None = None) -> int:
    """Measures; returns the exit code."""
    arguments = {"what": {"help": ", ".join(BENCHES)}}
    config, output, words = parse(argv, BenchConfig, Output, doc=__doc__, arguments=arguments)
    with ProgressDisplay(output.json) as progress:
        result = bench(words.what, progress=progress, **asdict(config))
    print(json.dumps(result) if output.json else "\n".join(f"{key:10} {value}" for key, value in result.items()))
    return 0
