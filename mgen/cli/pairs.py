"""Write a corpus of drum parts, each followed by its bass, for a policy that writes a bass to drums.

    mgen pairs corpus --out pairs

Reads a corpus that `mgen prepare --config band` wrote. Prompts drawn from the new corpus are drum parts.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from mgen.cli.options import Output, parse
from mgen.errors import MgenError
from mgen.options import option
from mgen.workflows.baseline_drum_bass_results import left_out_line
from mgen.workflows.pairs import PairsConfig, pairs


@dataclass
class OutputConfig(Output):
    """Options of the command alone."""

    out: str = option("", "Folder of the new corpus.")


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the corpus; returns the exit code."""
    arguments = {"corpus": {"metavar": "DIR", "help": "folder written by mgen prepare with the recipe band"}}
    options, output, words = parse(argv, PairsConfig, OutputConfig, doc=__doc__, arguments=arguments)
    if not output.out:
        raise MgenError("mgen pairs: needs --out, the folder of the new corpus")
    result = pairs(words.corpus, output.out, **asdict(options))
    if output.json:
        print(json.dumps(result.counts))
        return 0
    for split, counts in result.counts.items():
        if counts:
            print(left_out_line(split, counts))
    merges = result.corpus.manifest["merges"]
    print(f"{output.out}: {merges['learned']} merges, {merges['base_per_token']:.1f} base tokens per token")
    return 0
