"""Test the two-sample test on real music: does it find what is broken, and nothing where nothing is?

    mgen selfcheck --corpus corpus --style jazz --out runs/selfcheck

Real excerpts against excerpts of other works with their bars shuffled, with their segments of two bars shuffled, and
with the pitches of an order-1 chain; then real against real, over random splits of the works. What is required is
required at 512 pieces a side; with fewer it is measured and not judged. The exit code is 1 if a requirement is not met.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from mgen.cli.options import parse
from mgen.corpus.shards import Corpus
from mgen.corpus.split import SPLITS
from mgen.errors import MgenError
from mgen.evaluation.self_check import HALF, INCLUDED, Excerpts, SelfCheck, bar_excerpts, self_check
from mgen.notes import Notes
from mgen.sampling.prompts import check_style
from mgen.stats.intervals import Interval
from mgen.stats.two_sample import MAX_NOTES, QUOTABLE

FILE = "selfcheck.json"


@dataclass
class SelfcheckConfig:
    """Options of `mgen selfcheck`."""

    corpus: str = field(default="", metadata={"help": "Folder written by mgen prepare; all its splits are used."})
    style: str = field(default="jazz", metadata={"help": "Style of the corpus."})
    collections: list[str] = field(default_factory=list, metadata={"help": "Only these collections, if any."})
    n: int = field(default=QUOTABLE, metadata={"help": "Pieces a side, at most; requirements are judged at 512."})
    a_work: int = field(default=4, metadata={"help": "Excerpts of a piece, at most."})
    splits: int = field(default=100, metadata={"help": "Random splits, real against real, feature model."})
    sequence_splits: int = field(default=20, metadata={"help": "The same for the sequence model, 10 s each."})
    out: str = field(default="", metadata={"help": f"Folder for {FILE}; must be new or empty."})
    seed: int = field(default=0, metadata={"help": "Of splits and of what is broken how."})
    json: bool = field(default=False, metadata={"help": "Print one JSON object and nothing else."})

    def __post_init__(self) -> None:
        if not self.corpus:
            raise ValueError("expected --corpus, got none; see --help")
        for name, least in (("n", 8), ("a_work", 1), ("splits", 0), ("sequence_splits", 0), ("seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} ({getattr(self, name)}) must be at least {least}")
        if self.n > QUOTABLE:
            raise ValueError(f"n ({self.n}) must be at most {QUOTABLE}: the test uses no more")


def main(argv: Sequence[str] | None = None) -> int:
    """Check; returns the exit code."""
    (config,) = parse(
        argv,
        SelfcheckConfig,
        program="mgen selfcheck",
        example="mgen selfcheck --corpus corpus --style jazz --out runs/selfcheck",
    )
    out = Path(config.out) if config.out else None
    if out and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise MgenError(f"{out}: not empty; choose another --out")
    began = time.monotonic()
    real = excerpts(Corpus.open(config.corpus), config)
    console = Console(stderr=True, soft_wrap=True)
    with console.status("excerpts are read") as status:
        found = self_check(
            real,
            n=config.n,
            splits=config.splits,
            sequence_splits=config.sequence_splits,
            seed=config.seed,
            tell=status.update,
        )
    result = {**found.to_json(), "excerpts": len(real.work), "notes": MAX_NOTES}
    result["seconds"] = round(time.monotonic() - began, 1)
    if out:
        out.mkdir(parents=True, exist_ok=True)
        (out / FILE).write_text(json.dumps(result, indent=1), encoding="utf-8")
    if config.json:
        print(json.dumps(result))
    else:
        _print(found, time.monotonic() - began)
    return 1 if found.met is False else 0


def excerpts(corpus: Corpus, config: SelfcheckConfig) -> Excerpts:
    """Excerpts of the style's pieces of all splits, of at most four times as many pieces as are asked for."""
    check_style(config.style, corpus.remi)
    parts, works = [], []
    for split in SPLITS:
        table = corpus.table(split, config.style)
        known = table.rows["collection"].to_numpy(str)
        rows = np.flatnonzero(np.isin(known, config.collections)) if config.collections else np.arange(len(table))
        rows = np.random.default_rng(config.seed).permutation(rows)[: 4 * config.n]
        if len(rows):
            parts.append(Notes.from_ids([table[i].astype(np.int64) for i in rows.tolist()], corpus.remi))
            works.append(table.rows["group"].to_numpy(str)[rows])
    if not parts:
        names = ", ".join(config.collections) or "any collection"
        raise MgenError(f"{corpus.folder}: has no {config.style} of {names}; choose another --style or --collections")
    return bar_excerpts(Notes.concat(parts), np.concatenate(works), config.a_work)


_MET = {True: "met", False: "NOT MET", None: f"not judged below {QUOTABLE} a side"}


def _print(found: SelfCheck, seconds: float) -> None:
    console = Console(soft_wrap=True)
    title = f"real against broken, {found.n} excerpts a side of {found.works} works, {MAX_NOTES} notes"
    table = Table("", "features", "sequence", "required of the larger", "", title=title, title_justify="left")
    for name, check in found.checks.items():
        sequence = check.found.sequence
        table.add_row(
            name,
            _cell(check.found.feature),
            _cell(sequence) if sequence else "",
            f"{check.required}",
            _MET[check.met],
        )
    console.print(table)
    title = f"real against real, intervals that include {HALF}"
    table = Table("", "share", "splits", "mean AUC", "required", "", title=title, title_justify="left")
    for name, part in found.splits.items():
        if part.intervals:
            values = [interval.value for interval in part.intervals]
            mean = f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"
            table.add_row(name, f"{part.share:.2f}", f"{len(values)}", mean, f"{INCLUDED}", _MET[part.met])
    if table.row_count:
        console.print(table)
    verdict = {True: "all requirements are met", False: "a requirement is NOT MET", None: "not all could be judged"}
    console.print(f"{verdict[found.met]}; {seconds:.0f} s", highlight=False)


def _cell(interval: Interval) -> str:
    return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"
