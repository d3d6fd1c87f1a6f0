"""The self-check of the two-sample test on a corpus.

`mgen.workflows.selfcheck.check_two_sample_test("corpus")`
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mgen.corpus.shards import Corpus
from mgen.corpus.split import SPLITS
from mgen.errors import MgenError
from mgen.evaluation.measure import PieceSet
from mgen.evaluation.self_check import SelfCheck, bar_excerpts, self_check
from mgen.files import check_new_folder
from mgen.notes import Notes
from mgen.options import check_required, from_keywords, option, target_style
from mgen.progress import Progress, silent
from mgen.stats.two_sample import MAX_NOTES, QUOTABLE

FILE = "selfcheck.json"


@dataclass
class SelfcheckConfig:
    """Options of `mgen selfcheck`."""

    corpus: str = option("", "Folder written by mgen prepare; all its splits are used.")
    style: str = option("", "Style of the corpus; may be left out if it has one style and `other`.")
    collections: list[str] = option([], "Only these collections, if any.")
    n: int = option(QUOTABLE, "Pieces per side, at most; requirements are judged at 512.", least=8, most=QUOTABLE)
    per_work: int = option(4, "Excerpts of a piece, at most.", least=1)
    splits: int = option(100, "Random splits, real against real, feature model.", least=0)
    sequence_splits: int = option(20, "The same for the sequence model, 10 s each.", least=0)
    out: str = option("", f"Folder for {FILE}; must be new or empty.")
    seed: int = option(0, "Of splits and corruptions.")

    def __post_init__(self) -> None:
        check_required(self, "corpus")


@dataclass(frozen=True)
class SelfcheckResult:
    """The self-check, and the content of selfcheck.json."""

    check: SelfCheck
    facts: dict[str, Any]


def check_two_sample_test(corpus: Path | str, *, progress: Progress | None = None, **options: Any) -> SelfcheckResult:
    """Checks that the two-sample test detects corrupted music and no difference between real and real music.

    Args:
        corpus: folder written by `mgen prepare`.
        progress: takes a line after each test.
        options: other fields of `SelfcheckConfig`.

    Raises:
        MgenError: An option does not exist or is out of range, the corpus has too little such music, or `out` is not
            empty.
    """
    return run_selfcheck(from_keywords(SelfcheckConfig, "selfcheck", {"corpus": str(corpus), **options}), progress)


def run_selfcheck(config: SelfcheckConfig, progress: Progress | None = None) -> SelfcheckResult:
    """As `check_two_sample_test`, for options that are a `SelfcheckConfig` already."""
    out = check_new_folder(config.out) if config.out else None
    started = time.monotonic()
    real = read_excerpts(Corpus.open(config.corpus), config)
    check = self_check(
        real,
        n=config.n,
        splits=config.splits,
        sequence_splits=config.sequence_splits,
        seed=config.seed,
        progress=progress or silent,
    )
    facts = {**check.to_json(), "excerpts": len(real.work), "notes": MAX_NOTES}
    facts["seconds"] = round(time.monotonic() - started, 1)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / FILE).write_text(json.dumps(facts, indent=1), encoding="utf-8")
    return SelfcheckResult(check, facts)


def read_excerpts(corpus: Corpus, config: SelfcheckConfig) -> PieceSet:
    """Excerpts of the style's pieces of all splits; at most 4 n pieces of each split are read."""
    style = target_style(config.style, corpus.remi.style_ids, "style")
    parts, works = [], []
    for split in SPLITS:
        table = corpus.table(split, style)
        collection = table.rows["collection"].to_numpy(str)
        chosen = np.isin(collection, config.collections) if config.collections else np.ones(len(table), bool)
        rows = np.random.default_rng(config.seed).permutation(np.flatnonzero(chosen))[: 4 * config.n]
        if len(rows):
            parts.append(Notes.from_ids([table[i].astype(np.int64) for i in rows.tolist()], corpus.remi))
            works.append(table.rows["group"].to_numpy(str)[rows])
    if not parts:
        names = ", ".join(config.collections) or "any collection"
        raise MgenError(f"{corpus.folder}: has no {style} of {names}; choose another --style or --collections")
    return bar_excerpts(Notes.concat(parts), np.concatenate(works), config.per_work)
