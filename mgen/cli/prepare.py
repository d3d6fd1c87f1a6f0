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
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, cast

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from mgen.cli.options import parse
from mgen.corpus.chunks import LEAST_NOTES, LONG_REST, MOST_NOTES, MOST_SILENCE
from mgen.corpus.clean import STEPS, Recipe
from mgen.corpus.prepare import prepare
from mgen.corpus.reading import MIN_NOTES, Rules
from mgen.corpus.scan import parse_style, scan
from mgen.corpus.split import SPLITS
from mgen.corpus.staging import check_free
from mgen.corpus.workers import Limits
from mgen.encoding.remi import PITCH_RANGE
from mgen.encoding.tab_events import Voice
from mgen.instruments import select


@dataclass
class PrepareConfig:
    """Options of `mgen prepare`."""

    out: str = field(default="", metadata={"help": "Folder of the corpus."})
    metadata: str = field(
        default="",
        metadata={"help": "CSV with the column path (from its folder) and any of style,collection,work,artist."},
    )
    recipe: str = field(
        default="piano",
        metadata={
            "help": "piano: one instrument of all; band: keep programs and drums; tabs: each melodic track by itself, "
            "in chunks."
        },
    )
    collections: list[str] = field(default_factory=list, metadata={"help": "Read only these collections."})
    instruments: list[str] = field(
        default_factory=list,
        metadata={"help": "Keep only these: General MIDI names, families (guitar), programs (24-31), drums."},
    )
    on_grid_only: bool = field(
        default=False, metadata={"help": "Reject what was not written on the beat grid of its file."}
    )
    min_notes: int = field(
        default=0, metadata={"help": f"Fewest notes of a piece; 0: {MIN_NOTES}, or {LEAST_NOTES} in the recipe tabs."}
    )
    max_notes: int = field(
        default=0,
        metadata={
            "help": f"Most notes of a piece; tabs cuts there. 0: any number, or {MOST_NOTES} in the recipe tabs."
        },
    )
    min_voices: int = field(default=0, metadata={"help": "Fewest notes that sound together where a piece is thick."})
    max_voices: int = field(default=0, metadata={"help": "Most of them; 0: any number."})
    lowest_pitch: int = field(default=PITCH_RANGE[0], metadata={"help": "Notes below are dropped."})
    highest_pitch: int = field(default=PITCH_RANGE[1], metadata={"help": "Notes above are dropped."})
    long_rest: float = field(
        default=LONG_REST, metadata={"help": "tabs: quarter notes of silence at which a track is split."}
    )
    max_silence: float = field(
        default=MOST_SILENCE, metadata={"help": "tabs: drop chunks that rest for a larger share of their time."}
    )
    skip: list[str] = field(default_factory=list, metadata={"help": f"Steps to leave out, of: {', '.join(STEPS)}."})
    tab_events: bool = field(
        default=False, metadata={"help": "tabs: write each chunk as (semitone, octave, dur_log, dotted) too."}
    )
    chord_note: str = field(
        default="top", metadata={"help": "tab_events: the note of a chord that stays, top or bottom."}
    )
    near_duplicates: str = field(
        default="join",
        metadata={
            "help": "Pieces that share much of their music: join (one work, one split), drop (all but the first) or "
            "ignore."
        },
    )
    split_by: str = field(
        default="work", metadata={"help": "work, or artist: all works of an artist go to one split too."}
    )
    workers: int = field(default=0, metadata={"help": "Processes that read files; 0: one a core."})
    timeout: float = field(default=Limits().seconds, metadata={"help": "Seconds of processor time a file may take."})
    memory: int = field(default=Limits().memory, metadata={"help": "MiB that a file may take."})
    engine: str = field(
        default="local", metadata={"help": "local processes, or ray: on a Ray cluster (RAY_ADDRESS), paths shared."}
    )
    resume: bool = field(
        default=False,
        metadata={
            "help": "Go on after an interruption, or bring the corpus in --out up to date: read only what is new."
        },
    )
    overwrite: bool = field(
        default=False, metadata={"help": "Replace the corpus that is in --out, when the new one is whole."}
    )
    json: bool = field(default=False, metadata={"help": "Print the manifest as one JSON object."})
    seed: int = field(default=0, metadata={"help": "Of no effect: nothing here is drawn by chance."})

    def __post_init__(self) -> None:
        if not self.out:
            raise ValueError("expected --out, got none; see --help")
        for name in ("workers", "min_notes", "max_notes", "min_voices", "max_voices", "long_rest", "max_silence"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} ({getattr(self, name)}) must be at least 0")
        for name, unit in (("timeout", "seconds"), ("memory", "MiB")):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} ({getattr(self, name)}) must be above 0 {unit}")
        rules = self.rules()
        for name, least, most in (
            ("notes", rules.min_notes, rules.max_notes),
            ("voices", rules.min_voices, rules.max_voices),
        ):
            if least > most > 0:
                raise ValueError(f"min_{name} ({least}) must not be above max_{name} ({most})")
        least, most = PITCH_RANGE
        if not least <= self.lowest_pitch <= self.highest_pitch <= most:
            raise ValueError(
                f"lowest_pitch ({self.lowest_pitch}) and highest_pitch ({self.highest_pitch}) must be within "
                f"{least} to {most}, the piano's keys"
            )
        if self.chord_note not in ("top", "bottom"):
            raise ValueError(f"chord_note '{self.chord_note}': expected top or bottom")

    def rules(self) -> Rules:
        """What every file goes by."""
        tabs = self.recipe == "tabs"
        return Rules(
            recipe=cast(Recipe, self.recipe),
            skip=tuple(sorted(self.skip)),
            min_notes=self.min_notes or (LEAST_NOTES if tabs else MIN_NOTES),
            max_notes=self.max_notes or (MOST_NOTES if tabs and "cut" not in self.skip else 0),
            min_voices=self.min_voices,
            max_voices=self.max_voices,
            programs=tuple(sorted(select(self.instruments))),
            pitches=(self.lowest_pitch, self.highest_pitch),
            on_grid_only=self.on_grid_only,
            long_rest=self.long_rest,
            max_silence=self.max_silence,
            tab_events=self.tab_events,
            chord_note=cast(Voice, self.chord_note),
        )


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
    out, rules = Path(config.out), config.rules()
    check_free(out, config.overwrite or config.resume)
    began = time.monotonic()
    sources = scan(
        [Path(word) for word in words.sources],
        [parse_style(word) for word in words.style],
        Path(config.metadata) if config.metadata else None,
        config.collections,
    )
    with _Bar(len(sources)) as progress:
        manifest = prepare(
            sources,
            out,
            rules,
            workers=config.workers or None,
            limits=Limits(config.timeout, config.memory),
            engine=config.engine,
            overwrite=config.overwrite,
            resume=config.resume,
            split_by=config.split_by,
            near=config.near_duplicates,
            # Where the music lay and how it was read is not the corpus: the same music gives the same manifest.
            options={"collections": config.collections, "instruments": config.instruments},
            progress=progress,
        )
    if config.json:
        print(json.dumps(manifest))
    else:
        _summary(manifest, out, time.monotonic() - began, progress.before)
    return 0


class _Bar:
    """A bar on stderr; called with how many files were read, and how many of them gave no piece.

    Attributes:
        before: how many had been read by an earlier run.
    """

    def __init__(self, total: int) -> None:
        self.before: int | None = None
        columns = (
            TextColumn("reading"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}"),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=Console(stderr=True))
        self._task = self._bar.add_task("", total=total, state="")

    def __call__(self, done: int, without: int) -> None:
        if self.before is None:
            self.before = done
        self._bar.update(self._task, completed=done, state=f"{without} without a piece")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()


def _summary(manifest: dict[str, Any], out: Path, seconds: float, before: int | None) -> None:
    console = Console(file=sys.stdout)

    def say(text: str) -> None:
        console.print(text, soft_wrap=True, highlight=False, markup=False)

    scanned, rejected = manifest["scanned"], sum(manifest["rejected"].values())
    fresh = scanned - (before or 0)
    earlier = f"{before} of them read before, " if before else ""
    say(
        f"{out}: {scanned} files scanned, {manifest['kept']} kept, {rejected} rejected, {earlier}"
        f"{seconds:.0f} s ({fresh / max(seconds, 1e-9):.0f} files/s)"
    )
    if chunks := manifest.get("chunks"):
        dropped = ", ".join(f"{count:,} {reason}" for reason, count in sorted(chunks["dropped"].items()))
        say(f"{chunks['found']:,} chunks found, {chunks['kept']:,} kept; dropped: {dropped or 'none'}")
    if rejected:
        reasons = sorted(manifest["rejected"].items(), key=lambda entry: -entry[1])
        _table(("rejected because", "files"), reasons, console)
    done = [(step.replace("_", " "), count["notes"], count["files"]) for step, count in manifest["cleaning"].items()]
    _table(("cleaned", "notes", "files"), done, console)
    rows = [
        (style, split, pieces[split], manifest["tokens"][style][split])
        for style, pieces in manifest["pieces"].items()
        for split in SPLITS
    ]
    _table(("style", "split", "pieces", "tokens"), rows, console)
    if manifest["moved"]:
        say(f"{manifest['moved']:,} pieces changed their split, because new music shows works to be one")
    copies, overlap = manifest["duplicates"], manifest.get("overlap")
    say(
        f"{copies['near_pairs']:,} pairs of near duplicates; the largest group that goes to one split has "
        f"{copies['largest_group']:,} of {copies['pieces']:,} pieces"
    )
    if overlap:
        say(
            f"largest overlap of a train and a test piece: {overlap['containment']:.2f} ({overlap['train']} and "
            f"{overlap['test']})"
        )


def _table(names: Sequence[str], rows: Sequence[Sequence[str | int]], console: Console) -> None:
    if not rows:
        return
    table = Table(*names)
    for column, value in zip(table.columns, rows[0], strict=True):
        column.justify = "left" if isinstance(value, str) else "right"
    for row in rows:
        table.add_row(*(value if isinstance(value, str) else f"{value:,}" for value in row))
    console.print(table)
