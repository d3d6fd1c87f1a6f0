"""Say which instruments play in music files, one line a file.

    mgen instruments music/jazz song.mid

A file that cannot be read gets its reason on its line.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mgen.cli.options import parse
from mgen.corpus.scan import scan
from mgen.errors import MgenError, RejectedFile
from mgen.files import read_music
from mgen.instruments import DRUMS, Instrument, instruments_of


@dataclass
class InstrumentsConfig:
    """Options of `mgen instruments`."""

    json: bool = field(default=False, metadata={"help": "Print one JSON object instead of lines."})


@dataclass(frozen=True, slots=True)
class FileReport:
    """What plays in one file, or why it cannot be read."""

    path: str
    instruments: list[Instrument]
    several: bool  # more than one instrument; drums are one
    percussion_only: bool
    reason: str = ""  # of a file that cannot be read
    detail: str = ""

    @property
    def line(self) -> str:
        if self.reason:
            return f"{self.path}: {self.reason}{': ' if self.detail else ''}{self.detail}"
        if self.percussion_only:
            return f"{self.path}: percussion only{f' ({self.detail})' if self.detail else ''}"
        count = f"{len(self.instruments)} instruments" if self.several else "one instrument"
        return f"{self.path}: {count}: {', '.join(f'{one.name} {one.n_notes}' for one in self.instruments)}"


def main(argv: Sequence[str] | None = None) -> int:
    """Report the instruments of files; returns the exit code, 2 if none could be read."""

    def positional(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("files", nargs="+", metavar="FILE", help="music files, or folders of them")

    config, words = parse(
        argv,
        InstrumentsConfig,
        program="mgen instruments",
        example="mgen instruments music/jazz song.mid",
        positional=positional,
    )
    reports = []
    for file, path in _files([Path(word) for word in words.files]):
        reports.append(inspect(file, path))
        if not config.json:
            print(reports[-1].line, flush=True)
    if config.json:
        print(json.dumps(_as_json(reports)))
    if all(report.reason for report in reports):
        raise MgenError("no file could be read; the reason of each is in the lines above")
    return 0


def inspect(file: Path, path: str) -> FileReport:
    """What plays in `file`, which the report calls `path`."""
    try:
        instruments = instruments_of(read_music(file).score)
    except RejectedFile as error:
        if error.reason == "only drums":
            return FileReport(path, [], several=False, percussion_only=True, detail=error.detail)
        return FileReport(path, [], several=False, percussion_only=False, reason=error.reason, detail=error.detail)
    only = all(one.program == DRUMS for one in instruments)
    return FileReport(path, instruments, several=len(instruments) > 1, percussion_only=only)


def _files(given: Sequence[Path]) -> list[tuple[Path, str]]:
    """Files and how they are called: those that were given and do not exist too, for they get a line."""
    missing = [(path, os.fsencode(path).decode("utf-8", "backslashreplace")) for path in given if not path.exists()]
    there = [path for path in given if path.exists()]
    found = [(source.file, source.path) for source in scan(there)] if there else []
    return found + missing


def _as_json(reports: Sequence[FileReport]) -> dict[str, Any]:
    unread = sum(bool(report.reason) for report in reports)
    return {"read": len(reports) - unread, "unread": unread, "files": [asdict(report) for report in reports]}
