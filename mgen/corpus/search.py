"""Finds the music below a folder or in a zip archive by content, and tells apart what is not music.

Links to folders are followed, and what is reached twice is found once.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mgen.errors import MgenError, RejectedFile
from mgen.formats.archives import ZIP, files_in
from mgen.formats.files import EXTENSIONS, ZIP_ARCHIVE, file_format, read_bytes, read_start

MAX_EXTENSIONS = 8  # named in a line
GENERATED = (".ogg", ".svg")  # that mgen generate writes next to a music file, with its name
INDEX = "index.json"  # that it writes next to all of them


@dataclass(frozen=True, slots=True)
class Found:
    """A file of a search.

    Attributes:
        file: its path; of a file in an archive, a path below the archive.
        real: the same without links.
        kind: `music`, also if it has to be rejected; `other`; or `link`, to a file or folder that is found already.
    """

    file: Path
    real: str
    kind: Literal["music", "other", "link"]


@dataclass(frozen=True, slots=True)
class PassedOver:
    """Numbers of the files that are not read, so that none is passed over in silence."""

    not_music: dict[str, int] = field(default_factory=dict)  # by extension
    links: int = 0  # to files and folders found already

    @property
    def line(self) -> str:
        """In words: `3 files are not music: 2 .jpg, 1 .txt`; empty if there are none."""
        by_number = sorted(self.not_music.items(), key=lambda entry: (-entry[1], entry[0]))
        parts = []
        if n := sum(self.not_music.values()):
            named = [f"{count} {extension}" for extension, count in by_number[:MAX_EXTENSIONS]]
            if rest := sum(count for _, count in by_number[MAX_EXTENSIONS:]):
                named.append(f"{rest} others")
            parts.append(f"{n} {'file is' if n == 1 else 'files are'} not music: {', '.join(named)}")
        if self.links:
            parts.append(f"{self.links} {'link leads' if self.links == 1 else 'links lead'} to what is read already")
        return "; ".join(parts)


def find_music(root: Path) -> Iterator[Found]:
    """Lists the files below a folder or in a zip archive, or the one file, in no order.

    Args:
        root: folder or file; a file that is named is `music`, whatever it holds.

    Raises:
        MgenError: A folder cannot be read.
    """
    named, seen = root.is_file(), set[str]()
    for file, real in [(root, os.path.realpath(root))] if named else _files_below(root, seen):
        if real in seen:
            yield Found(file, real, "link")
            continue
        seen.add(real)
        kind = _kind(file)
        members = _members(file) if kind == "archive" else {}
        if any(members.values()):
            for name, is_music in members.items():
                yield Found(file / name, os.path.join(real, name), "music" if is_music else "other")
        else:
            yield Found(file, real, "music" if named or kind == "music" else "other")


def extension(name: str) -> str:
    """The extension of a file name as it is counted: `.jpg`, `.tar.gz`, or `no extension`."""
    found = re.search(r"\.\w{1,8}(\.gz)?$", name)
    return found[0].lower() if found else "no extension"


def _members(archive: Path) -> dict[str, bool]:
    """Whether each file in a zip archive is music; a zip archive in it is, to be rejected by name."""
    kinds = {name: _kind(archive / name) for name in files_in(archive)}
    return {name: kind == "music" or (kind, name[-4:].lower()) == ("archive", ".zip") for name, kind in kinds.items()}


def _kind(file: Path) -> str:
    """`music`, `archive` (a sound zip archive) or `other`, by content; a file that cannot be opened is `music`."""
    suffix = file.suffix.lower()
    inner = Path(file.stem).suffix.lower() if suffix == ".gz" else suffix
    if inner in EXTENSIONS and not file.name.startswith("."):  # `._song.mid` is a leftover of macOS
        return "music"
    try:
        start = read_start(file)
        file_format(read_bytes(file) if start.startswith(ZIP) else start)
    except RejectedFile as error:
        if error.detail == ZIP_ARCHIVE and suffix != ".gz":
            return "archive"
        if error.reason == "unknown format" and suffix != ".zip":
            return "other"
    return "music"


def _files_below(root: Path, seen: set[str]) -> Iterator[tuple[Path, str]]:
    """Files below a folder and their real paths; links are last, so that a file is found by its own name.

    The real paths of folders are added to `seen`; a folder that is reached again is listed like a file.
    """
    folders, links = deque([(str(root), os.path.realpath(root))]), deque[str]()
    while folders or links:
        if folders:
            path, real = folders.popleft()
        else:
            path = links.popleft()
            real = os.path.realpath(path)
        if not os.path.isdir(path) or real in seen:
            yield Path(path), real
            continue
        seen.add(real)
        try:
            with os.scandir(path) as entries:
                inside = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            raise MgenError(f"{path}: {error.strerror}; make it readable, or give folders without it") from error
        for entry in inside:
            if entry.is_symlink():
                links.append(entry.path)
            elif entry.is_dir():
                folders.append((entry.path, os.path.join(real, entry.name)))
            else:
                yield Path(entry.path), os.path.join(real, entry.name)
