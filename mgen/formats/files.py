"""Reads music files; the content determines the format, not the file name.

`midi.py`, `guitar_pro.py` and `musicxml.py` parse the bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from symusic import core

from mgen.errors import RejectedFile
from mgen.extras import import_extra
from mgen.formats.archives import GZIP, ZIP, files_in, gunzip, gunzip_start, read_file, split_path
from mgen.formats.gpx import gp_version, is_gp, is_gpx
from mgen.formats.mending import mend
from mgen.formats.midi import parse_midi
from mgen.formats.mxl import is_musicxml, is_mxl

MAX_BYTES = 16 << 20  # largest file read; the largest real one seen, an album, has 0.5 MB
MIDI_EXTENSIONS = frozenset({".mid", ".midi", ".smf", ".kar", ".rmi"})
READABLE_TAB_EXTENSIONS = frozenset({".gp3", ".gp4", ".gp5", ".gpx", ".gp"})
TAB_EXTENSIONS = READABLE_TAB_EXTENSIONS | {".gtp"}
MUSICXML_EXTENSIONS = frozenset({".musicxml", ".mxl"})
EXTENSIONS = MIDI_EXTENSIONS | TAB_EXTENSIONS | MUSICXML_EXTENSIONS
"""Extensions of music, in lower case; files of other names are recognised by their first bytes."""

_READERS = {  # extra: module, extensions, name
    "tabs": ("guitarpro", READABLE_TAB_EXTENSIONS, "Guitar Pro"),
    "musicxml": ("music21", MUSICXML_EXTENSIONS, "MusicXML"),
}
START_BYTES = 512  # enough for `file_format` to tell a format from another
ZIP_ARCHIVE = "zip; unpack it"
_ARCHIVES = (  # first bytes, their place, name
    (b"Rar!", 0, "RAR"),
    (b"7z\xbc\xaf", 0, "7-Zip"),
    (b"BZh", 0, "bzip2"),
    (b"\xfd7zXZ", 0, "xz"),
    (b"\x28\xb5\x2f\xfd", 0, "Zstandard"),
    (b"ustar", 257, "tar"),
)


@dataclass(frozen=True, slots=True)
class Music:
    """The content of a music file."""

    score: core.ScoreTick
    """In the ticks of the file, with at least one note that is not of drums."""

    format: str
    """`midi`, `gp3` to `gp8`, or `musicxml`."""

    repairs: Mapping[str, int] = field(default_factory=dict)
    """Number of faults that were mended, by kind."""


def read_music(path: Path | str, used: Callable[[core.TrackTick], bool] = lambda track: True) -> Music:
    """Reads a MIDI, Guitar Pro 3 to 8 or MusicXML file of any name, and mends it.

    Args:
        path: of the file.
        used: whether the notes of a track are used; faults of other tracks are dropped.

    Raises:
        RejectedFile: with one of the reasons `missing`, `unreadable` (no rights, no file), `too large`, `unknown
            format`, `unsupported version`, or of `parse_midi`, `parse_guitar_pro`, `parse_musicxml` or `mend`.
        MgenError: The extra `tabs` or `musicxml` that reads the format is not installed.
    """
    music = _parse(path)
    score, repairs = mend(music.score, used)
    return Music(score, music.format, dict(music.repairs) | repairs)


def _parse(path: Path | str) -> Music:
    data = read_bytes(path)
    found = file_format(data)
    if found == "midi":
        score, repairs = parse_midi(data)
        return Music(score, found, repairs)
    if found == "musicxml":
        _import_reader("musicxml", path)
        from mgen.formats.musicxml import parse_musicxml

        return Music(parse_musicxml(data), found)
    _import_reader("tabs", path)
    from mgen.formats.guitar_pro import parse_guitar_pro

    return Music(parse_guitar_pro(data), found)


def require_readers(files: Iterable[Path]) -> None:
    """Checks that the extras for files, by their extensions, are installed.

    Raises:
        MgenError: One is not.
    """
    first: dict[str, Path] = {}
    for file in files:
        first.setdefault(file.suffix.lower(), file)
    for extra, (_, extensions, _) in _READERS.items():
        for suffix in sorted(extensions & first.keys()):
            _import_reader(extra, first[suffix])


def _import_reader(extra: str, path: Path | str) -> None:
    module, _, name = _READERS[extra]
    import_extra(module, extra, str(path), f"leave {name} files out")


def read_bytes(path: Path | str) -> bytes:
    """The content of a file, also of one in a zip archive (`music.zip/song.mid`), and of gzip data what it unpacks to.

    Raises:
        RejectedFile: with one of the reasons `missing`, `unreadable` (no rights, no file), `too large`, or of
            `archives.read_file` and `archives.gunzip`.
    """
    path = Path(path)
    try:
        if place := _place(path):
            data = read_file(*place, MAX_BYTES)
        else:
            size, zipped = path.stat().st_size, _start_of(path).startswith(ZIP)
            if zipped:
                files_in(path)  # a damaged archive is named as one
            if size > MAX_BYTES:
                too_large = f"{size / 2**20:.1f} MiB, at most {MAX_BYTES >> 20} are read"
                raise RejectedFile(*("archive", ZIP_ARCHIVE) if zipped else ("too large", too_large))
            data = path.read_bytes()
    except OSError as error:
        raise RejectedFile("unreadable", error.strerror or str(error)) from error
    return gunzip(data, MAX_BYTES) if data.startswith(GZIP) else data


def read_start(path: Path | str) -> bytes:
    """Up to `START_BYTES` bytes of what `read_bytes` gives, or fewer.

    Raises:
        RejectedFile: as `read_bytes`.
    """
    path = Path(path)
    try:
        place = _place(path)
        data = read_file(*place, MAX_BYTES, START_BYTES) if place else _start_of(path)
    except OSError as error:
        raise RejectedFile("unreadable", error.strerror or str(error)) from error
    return gunzip_start(data, START_BYTES) if data.startswith(GZIP) else data


def _place(path: Path) -> tuple[Path, str] | None:
    """The archive that a path leads into and the file there; None for a file on disk."""
    if path.exists():
        if not path.is_file():
            raise RejectedFile("unreadable", "not a regular file")
        return None
    if place := split_path(path):
        return place
    raise RejectedFile("missing", "no such file")


def _start_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(START_BYTES)


def file_format(data: bytes) -> str:
    """The format of a file by its first bytes: `midi`, `gp3` to `gp8`, or `musicxml`.

    Raises:
        RejectedFile: `unsupported version` for another version of Guitar Pro, `archive`, else `unknown format`.
    """
    if data[:4] == b"MThd" or (data[:4] == b"RIFF" and data[8:12] == b"RMID"):
        return "midi"
    header = data[1 : 1 + min(data[0], 30)] if data else b""
    if header.startswith((b"FICHIER GUITAR PRO ", b"FICHIER GUITARE PRO ")):
        version = header.rsplit(b" ", 1)[1].decode("ascii", "replace")  # such as v5.10, and L4.06
        if version[1:2] in ("3", "4", "5"):
            return f"gp{version[1]}"
        program = f"Guitar Pro {version.lstrip('vL')} (.gtp)"
        raise RejectedFile("unsupported version", f"{program}; export it as Guitar Pro 5 (.gp5)")
    if is_gpx(data):
        return "gp6"
    if is_gp(data):
        return f"gp{gp_version(data)}"
    if is_musicxml(data) or is_mxl(data):
        return "musicxml"
    if data.startswith(ZIP):
        raise RejectedFile("archive", ZIP_ARCHIVE)
    if kind := next((kind for magic, at, kind in _ARCHIVES if data[at : at + len(magic)] == magic), ""):
        raise RejectedFile("archive", f"{kind}; unpack it")
    raise RejectedFile(
        "unknown format", f"begins with {data[:8]!r}; MIDI, Guitar Pro and MusicXML are read" if data else "empty file"
    )
