"""Prepare a corpus: music files to tokens.

    mgen prepare --style jazz=music/jazz --style other=music/classical --out corpus

Every file ends in exactly one of pieces.parquet and rejected.csv, with a reason. Splits keep each work (all
performances of a composition) together; without --metadata a work is known by its file's name only.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from mgen.cli.options import parse
from mgen.corpus.clean import RECIPES, Recipe
from mgen.corpus.prepare import MIN_NOTES, TIMEOUT, check_free, prepare
from mgen.corpus.scan import parse_style, scan
from mgen.corpus.split import SPLITS


@dataclass
class PrepareConfig:
    """Options of `mgen prepare`."""

    out: str = field(default="", metadata={"help": "Folder of the corpus."})
    metadata: str = field(
        default="",
        metadata={"help": "CSV with the column path (from its folder) and any of style,collection,work,artist."},
    )
    recipe: str = field(
        default="piano", metadata={"help": "piano: one instrument of all; band: keep programs and drums."}
    )
    collections: list[str] = field(default_factory=list, metadata={"help": "Read only these collections."})
    on_grid_only: bool = field(
        default=False, metadata={"help": "Reject what was not written on the beat grid of its file."}
    )
    min_notes: int = field(default=MIN_NOTES, metadata={"help": "Reject pieces with fewer notes."})
    workers: int = field(default=0, metadata={"help": "Processes that read files; 0: one a core."})
    timeout: float = field(default=TIMEOUT, metadata={"help": "Seconds that one file may take."})
    overwrite: bool = field(
        default=False, metadata={"help": "Replace the corpus that is in --out, when the new one is whole."}
    )
    json: bool = field(default=False, metadata={"help": "Print the manifest as one JSON object."})
    seed: int = field(default=0, metadata={"help": "Of no effect: nothing here is drawn by chance."})

    def __post_init__(self) -> None:
        if not self.out:
            raise ValueError("expected --out, got none; see --help")
        if self.recipe not in RECIPES:
            raise ValueError(f"recipe '{self.recipe}': expected one of {', '.join(RECIPES)}")
        for name, least in (("workers", 0), ("min_notes", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} ({getattr(self, name)}) must be at least {least}")
        if self.timeout <= 0:
            raise ValueError(f"timeout ({self.timeout}) must be above 0 seconds")


def main(argv: Sequence[str] | None = None) -> int:
    """Prepare a corpus; returns the exit code."""

    def positional(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("sources", nargs="*", metavar="SRC", help="folders of music, or files")
        parser.add_argument(
            "--style",
            action="append",
            default=[],
            metavar="NAME=SRC",
            help="music of a style (without: other); repeat",
        )

    config, words = parse(
        argv,
        PrepareConfig,
        program="mgen prepare",
        example="mgen prepare --style jazz=music/jazz --style other=music/classical --out corpus",
        positional=positional,
    )
    out = Path(config.out)
    check_free(out, config.overwrite)
    began = time.monotonic()
    sources = scan(
        [Path(word) for word in words.sources],
        [parse_style(word) for word in words.style],
        Path(config.metadata) if config.metadata else None,
        config.collections,
    )
    # Where the music lay and how it was read is not the corpus: the same music gives the same manifest.
    used = {name: getattr(config, name) for name in ("recipe", "collections", "on_grid_only", "min_notes")}
    with _progress(len(sources)) as progress:
        manifest = prepare(
            sources,
            out,
            cast(Recipe, config.recipe),
            config.min_notes,
            config.on_grid_only,
            config.workers or None,
            config.timeout,
            config.overwrite,
            used,
            progress,
        )
    if config.json:
        print(json.dumps(manifest))
    else:
        _summary(manifest, out, time.monotonic() - began)
    return 0


@contextmanager
def _progress(total: int) -> Iterator[Any]:
    """A bar on stderr; the callback takes how many were kept and rejected."""
    columns = (
        TextColumn("reading"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[state]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=total, state="")
        yield lambda kept, rejected: bar.update(task, completed=kept + rejected, state=f"{rejected} rejected")


def _summary(manifest: dict[str, Any], out: Path, seconds: float) -> None:
    console = Console(file=sys.stdout)
    scanned, rejected = manifest["scanned"], sum(manifest["rejected"].values())
    console.print(
        f"{out}: {scanned} files scanned, {manifest['kept']} kept, {rejected} rejected, "
        f"{seconds:.0f} s ({scanned / max(seconds, 1e-9):.0f} files/s)",
        soft_wrap=True,
        highlight=False,
    )
    if rejected:
        table = Table("rejected because", "files")
        table.columns[1].justify = "right"
        for reason, count in sorted(manifest["rejected"].items(), key=lambda entry: -entry[1]):
            table.add_row(reason, f"{count:,}")
        console.print(table)
    table = Table("style", "split", "pieces", "tokens")
    for column in table.columns[2:]:
        column.justify = "right"
    for style, pieces in manifest["pieces"].items():
        table.add_section()
        tokens = manifest["tokens"][style]
        for split in SPLITS:
            table.add_row(style, split, f"{pieces[split]:,}", f"{tokens[split]:,}")
    console.print(table)
