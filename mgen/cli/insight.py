"""Write a page about a corpus: what it contains, and which shortcuts reveal the style.

    mgen insight runs/jazz/corpus

Reads a corpus written by `mgen prepare` and writes insight.html into it, a self-contained page.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from mgen.cli.options import parse
from mgen.cli.progress import ProgressDisplay
from mgen.corpus.insight_page import summary_lines
from mgen.options import option
from mgen.workflows.insight import InsightConfig, insight


@dataclass
class OutputConfig:
    """Options of the command alone."""

    out: str = option("", "Path of the page; default: insight.html in the corpus.")
    json: bool = option(False, "Print all measurements as one JSON object.")


def main(argv: Sequence[str] | None = None) -> int:
    """Measures a corpus and writes the page; returns the exit code."""
    arguments = {"corpus": {"metavar": "DIR", "help": "folder written by mgen prepare"}}
    options, output, words = parse(argv, InsightConfig, OutputConfig, doc=__doc__, arguments=arguments)
    began = time.monotonic()
    with ProgressDisplay(output.json) as progress:
        result = insight(words.corpus, output.out, progress=progress, **asdict(options))
    if output.json:
        print(json.dumps(asdict(result.insight), ensure_ascii=False))
    else:
        seconds = time.monotonic() - began
        print(*summary_lines(result.insight), f"{result.page}: written in {seconds:.0f} s", sep="\n")
    return 0
