"""Prepare a corpus: music files to tokens.

    mgen prepare --style jazz=music/jazz --style other=music/classical --out corpus

Every file ends in exactly one of pieces.parquet and rejected.csv, with a reason. Splits keep each work (all
performances of a composition) together; without --metadata the file name is the work.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from mgen.cli.options import parse
from mgen.cli.progress import ProgressDisplay
from mgen.corpus.scan import parse_style
from mgen.corpus.search import PassedOver
from mgen.corpus.split import SPLITS
from mgen.options import check_required, option
from mgen.workflows.prepare import PrepareConfig, prepare


@dataclass
class OutputConfig:
    """Options of the command alone."""

    out: str = option("", "Folder of the corpus.")
    json: bool = option(False, "Print the manifest as one JSON object.")
    seed: int = option(0, "Has no effect: nothing here is random.")

    def __post_init__(self) -> None:
        check_required(self, "out")


def main(argv: Sequence[str] | None = None) -> int:
    """Prepares a corpus; returns the exit code."""
    arguments: dict[str, dict[str, Any]] = {
        "sources": {"nargs": "*", "metavar": "SRC", "help": "folders, zip archives and files"},
        "--style": {
            "action": "append",
            "default": [],
            "metavar": "NAME=SRC",
            "help": "music of a style (default style: other); repeat for each",
        },
    }
    options, output, words = parse(argv, PrepareConfig, OutputConfig, doc=__doc__, arguments=arguments)
    began = time.monotonic()
    styles = [parse_style(word) for word in words.style]
    try:
        with ProgressDisplay(output.json) as progress:
            result = prepare(words.sources, output.out, styles=styles, progress=progress, **dataclasses.asdict(options))
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"{output.out}: stopped; with --resume true the same command goes on") from None
    if output.json:
        print(json.dumps(result.corpus.manifest))
    else:
        _print_summary(result.corpus.manifest, Path(output.out), time.monotonic() - began, progress.first["files"])
    return 0


def _print_summary(manifest: dict[str, Any], out: Path, seconds: float, read_before: int) -> None:
    console = Console(file=sys.stdout)

    def line(text: str) -> None:
        console.print(text, soft_wrap=True, highlight=False, markup=False)

    def table(names: Sequence[str], rows: Sequence[Sequence[str | int]]) -> None:
        grid = Table(*names)
        for row in rows:
            grid.add_row(*(value if isinstance(value, str) else f"{value:,}" for value in row))
        for column, value in zip(grid.columns, rows[0] if rows else (), strict=False):
            column.justify = "left" if isinstance(value, str) else "right"
        if rows:
            console.print(grid)

    scanned, rejected = manifest["scanned"], sum(manifest["rejected"].values())
    reused = f"{read_before} of them read before, " if read_before else ""
    rate = (scanned - read_before) / max(seconds, 1e-9)
    line(
        f"{out}: {scanned} files scanned, {manifest['kept']} kept, {rejected} rejected, {reused}"
        f"{seconds:.0f} s ({rate:.0f} files/s)"
    )
    if passed_over := PassedOver(**manifest["passed_over"]).line:
        line(passed_over)
    if chunks := manifest.get("chunks"):
        dropped = ", ".join(f"{count:,} {reason}" for reason, count in sorted(chunks["dropped"].items()))
        line(f"{chunks['found']:,} chunks found, {chunks['kept']:,} kept; dropped: {dropped or 'none'}")
    if len(manifest["pieces"]) == 1:
        (style,) = manifest["pieces"]
        line(
            f"one style only, {style}: a critic has nothing to distinguish it from; give each its folder, such as "
            "--style jazz=music/jazz --style other=music/other"
        )
    table(("rejected because", "files"), Counter(manifest["rejected"]).most_common())
    repairs = manifest["repairs"].items()
    table(("mended", "faults", "files"), [(fault, n["faults"], n["files"]) for fault, n in repairs])
    cleaning = manifest["cleaning"].items()
    table(("cleaning", "notes", "files"), [(step.replace("_", " "), n["notes"], n["files"]) for step, n in cleaning])
    rows = [
        (style, split, pieces[split], manifest["tokens"][style][split])
        for style, pieces in manifest["pieces"].items()
        for split in SPLITS
    ]
    table(("style", "split", "pieces", "tokens"), rows)
    if merges := manifest["merges"]["asked"]:
        learned, base_per_token = (manifest["merges"][name] for name in ("learned", "base_per_token"))
        fewer = "" if learned == merges else f" of {merges:,}, because no pair of tokens is left to merge"
        line(f"{learned:,} merges learned{fewer}: a policy's token is {base_per_token:.2f} of the tokens above")
    if manifest["moved"]:
        line(f"{manifest['moved']:,} pieces changed their split, because new music joins works")
    copies, overlap = manifest["duplicates"], manifest.get("overlap")
    line(
        f"{copies['near_pairs']:,} pairs of near duplicates; the largest group in one split has "
        f"{copies['largest_group']:,} of {copies['pieces']:,} pieces"
    )
    if overlap:
        line(
            f"largest overlap of a train and a test piece: {overlap['containment']:.2f} ({overlap['train']} and "
            f"{overlap['test']})"
        )
