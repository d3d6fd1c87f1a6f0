"""A page about a corpus: what is in it, and what in it gives the style away.

    mgen insight runs/jazz/corpus

Reads a corpus that `mgen prepare` wrote and writes insight.html into it, one file that needs no other.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from mgen.cli.options import parse
from mgen.corpus.insight import SAMPLE, Insight, insight
from mgen.corpus.insight_page import lead, render_insight
from mgen.corpus.shards import Corpus
from mgen.errors import MgenError

PAGE = "insight.html"


@dataclass
class InsightConfig:
    """Options of `mgen insight`."""

    out: str = field(default="", metadata={"help": "The page; insight.html in the corpus if not given."})
    sample: int = field(default=SAMPLE, metadata={"help": "Pieces of each style whose notes are read, at most."})
    json: bool = field(default=False, metadata={"help": "Print all that was measured as one JSON object."})
    seed: int = field(default=0, metadata={"help": "Of the sample and of the guessing."})

    def __post_init__(self) -> None:
        if self.sample < 1:
            raise ValueError(f"sample ({self.sample}) must be at least 1")
        if self.seed < 0:
            raise ValueError(f"seed ({self.seed}) must be at least 0")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure a corpus and write the page; returns the exit code."""

    def positional(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("corpus", metavar="DIR", help="folder written by mgen prepare")

    config, words = parse(
        argv, InsightConfig, program="mgen insight", example="mgen insight runs/jazz/corpus", positional=positional
    )
    began = time.monotonic()
    corpus = Corpus.open(words.corpus)
    out = Path(config.out) if config.out else corpus.folder / PAGE
    _check_out(out)
    found = insight(corpus, config.sample, config.seed)
    _write(out, render_insight(found))
    if config.json:
        print(json.dumps(found.to_json(), ensure_ascii=False))
    else:
        _summary(found, out, time.monotonic() - began)
    return 0


def _check_out(out: Path) -> None:
    """Raise before the work if the page cannot be written."""
    if out.is_dir():
        raise MgenError(f"--out {out}: is a folder; give the path of a file, such as {out / PAGE}")
    if not out.parent.is_dir():
        raise MgenError(f"--out {out}: there is no folder {out.parent}; make it or choose another --out")


def _write(out: Path, page: str) -> None:
    """Write aside, then rename: a page is whole or not there."""
    aside = out.with_name(f".{out.name}.part")
    try:
        aside.write_text(page, encoding="utf-8")
        os.replace(aside, out)
    except OSError as error:
        raise MgenError(f"{out}: cannot be written ({error.strerror or error}); choose another --out") from error
    finally:
        aside.unlink(missing_ok=True)


def _summary(found: Insight, out: Path, seconds: float) -> None:
    console = Console(file=sys.stdout)
    for line in [*lead(found), f"{out}: written in {seconds:.0f} s"]:
        console.print(line, soft_wrap=True, highlight=False, markup=False)
