"""Measure a corpus and write a page about it.

mgen.workflows.insight.insight("runs/jazz/corpus")
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mgen.corpus.insight import SAMPLE, Insight, measure_corpus
from mgen.corpus.insight_page import render_insight
from mgen.corpus.shards import Corpus
from mgen.errors import MgenError
from mgen.files import write_atomically
from mgen.options import from_keywords, option
from mgen.progress import Progress, silent

PAGE = "insight.html"


@dataclass
class InsightConfig:
    """Options of `mgen insight`."""

    sample: int = option(SAMPLE, "Pieces of each style whose notes are read, at most.", least=1)
    seed: int = option(0, "Seed of the sample and of the classifiers.")


@dataclass(frozen=True)
class InsightResult:
    """The page and the numbers on it."""

    page: Path
    insight: Insight


def insight(
    corpus: Corpus | str | Path, out: str | Path = "", *, progress: Progress = silent, **options: Any
) -> InsightResult:
    """Measures a corpus and writes a page about it.

    Args:
        corpus: an open corpus, or its folder.
        out: path of the page; insight.html in the corpus if empty.
        progress: takes the count of the classifiers.
        options: fields of `InsightConfig`.

    Raises:
        MgenError: The corpus is missing or damaged, an option is out of range, or the page cannot be written.
    """
    config = from_keywords(InsightConfig, "insight", options)
    corpus = corpus if isinstance(corpus, Corpus) else Corpus.open(corpus)
    page = Path(out) if out else corpus.folder / PAGE
    if page.is_dir():
        raise MgenError(f"--out {page}: is a folder; give the path of a file, such as {page / PAGE}")
    if not page.parent.is_dir():
        raise MgenError(f"--out {page}: there is no folder {page.parent}; make it or choose another --out")
    measured = measure_corpus(corpus, config.sample, config.seed, progress)
    write_atomically(page, render_insight(measured))
    return InsightResult(page, measured)
