"""Which instruments play in music files.

for report in mgen.workflows.instruments.list_instruments(["music/jazz", "song.mid"]):
print(report.line)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mgen.corpus.scan import scan
from mgen.errors import RejectedFile
from mgen.formats.files import read_music
from mgen.instruments import DRUMS, Instrument, instruments_of

ONE, SEVERAL, PERCUSSION, UNREAD = ANSWERS = ("one instrument", "several", "percussion only", "not read")
"""Answers to whether a file has more than one instrument."""


@dataclass(frozen=True, slots=True)
class FileInstruments:
    """The instruments of one file, or the reason why it cannot be read."""

    path: str
    instruments: list[Instrument]
    several: bool  # more than one instrument; drums count as one
    percussion_only: bool
    reason: str = ""  # of a file that cannot be read
    detail: str = ""

    @property
    def answer(self) -> str:
        """One of `ANSWERS`."""
        if self.reason:
            return UNREAD
        return PERCUSSION if self.percussion_only else SEVERAL if self.several else ONE

    @property
    def line(self) -> str:
        if self.reason:
            return f"{self.path}: {self.reason}{': ' if self.detail else ''}{self.detail}"
        if self.percussion_only:
            return f"{self.path}: percussion only{f' ({self.detail})' if self.detail else ''}"
        count = f"{len(self.instruments)} instruments" if self.several else "one instrument"
        return f"{self.path}: {count}: {', '.join(f'{one.name} {one.n_notes}' for one in self.instruments)}"


def list_instruments(
    files: Sequence[str | Path], note: Callable[[str], None] | None = None
) -> Iterator[FileInstruments]:
    """Reads music files one by one.

    Args:
        files: files, and folders to search. A path that does not exist is reported like an unreadable file.
        note: takes a line about files in the folders that are not music, if there are any.

    Raises:
        MgenError: The folders hold no music.
    """
    given = [Path(file) for file in files]
    existing = [path for path in given if path.exists()]
    found = scan(existing) if existing else None
    for source in found.sources if found else []:
        yield read_instruments(source.file, source.path)
    for path in given:
        if path not in existing:
            yield read_instruments(path, os.fsencode(path).decode("utf-8", "backslashreplace"))
    if note and found and found.passed_over.line:
        note(found.passed_over.line)


def read_instruments(file: Path, path: str) -> FileInstruments:
    """The instruments of `file`, which the report names `path`."""
    try:
        # Neither tempos nor durations say what plays, so none of their faults rejects the file.
        instruments = instruments_of(read_music(file, used=lambda track: False).score)
    except RejectedFile as error:
        if error.reason == "only drums":
            return FileInstruments(path, [], several=False, percussion_only=True, detail=error.detail)
        return FileInstruments(path, [], several=False, percussion_only=False, reason=error.reason, detail=error.detail)
    only = all(one.program == DRUMS for one in instruments)
    return FileInstruments(path, instruments, several=len(instruments) > 1, percussion_only=only)
