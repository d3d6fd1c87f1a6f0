"""Run the recipe `demo` on the embedded corpus, in minutes.

mgen demo --out runs/demo
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mgen.cli.options import parse
from mgen.cli.recipe import run_pipeline
from mgen.corpus.demo import write_demo_corpus
from mgen.options import option


@dataclass
class DemoConfig:
    """Options of `mgen demo`."""

    out: str = option("runs/demo", "Folder for the music, the runs and report.html.")
    works: int = option(80, "Pieces composed in each collection.", least=1)
    seed: int = option(0, "Of the composer.")


def main(argv: Sequence[str] | None = None) -> int:
    """Compose the corpus, then run the recipe; returns the exit code."""
    (config,) = parse(argv, DemoConfig, doc=__doc__)
    out = Path(config.out)
    metadata = out / "music" / "metadata.csv"
    if not metadata.is_file():
        metadata = write_demo_corpus(out / "music", config.works, config.seed)
    return run_pipeline("demo", ["--metadata", str(metadata)], out, target="jazz")
