"""Reads music files; the content determines the format, not the file name.

`midi.py` and `guitar_pro.py` parse the bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from symusic import core

from mgen.errors import MgenError, RejectedFile
from mgen.extras import import_extra
from mgen.gpx import gp_version, is_gp, is_gpx
from mgen.midi import parse_midi

MAX_BYTES = 16 << 20  # largest file read; the largest real one seen, an album, has 0.5 MB
MIDI_EXTENSIONS = frozenset({".mid", ".midi", ".kar", ".rmi"})
READABLE_TAB_EXTENSIONS = frozenset({".gp3", ".gp4", ".gp5", ".gpx", ".gp"})
TAB_EXTENSIONS = READABLE_TAB_EXTENSIONS | {".gtp"}
EXTENSIONS = MIDI_EXTENSIONS | TAB_EXTENSIONS
"""Extensions that folders are searched for, in lower case; `.gtp` is found to be listed as rejected."""


@dataclass(frozen=True, slots=True)
class Music:
    """The content of a music file."""

    score: core.ScoreTick
    """In the ticks of the file, with at least one note that is not of drums."""

    format: str
    """`midi`, or `gp3` to `gp8`."""


def check_new_folder(out: Path | str) -> Path:
    """The path of an output folder; raises `MgenError` if it exists and is not empty."""
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise MgenError(f"{out}: not empty; choose another --out")
    return out


def write_atomically(path: Path, text: str) -> None:
    """Writes to a temporary file and renames it, so that no file is incomplete.

    Raises:
        MgenError: The file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.part")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise MgenError(f"{path}: cannot be written ({error.strerror or error}); choose another --out") from error
    finally:
        temporary.unlink(missing_ok=True)


def read_music(path: Path | str) -> Music:
    """Reads a MIDI or Guitar Pro 3 to 8 file of any name.

    Raises:
        RejectedFile: with one of the reasons `missing`, `unreadable` (no rights, no file), `too large`, `unknown
            format`, `unsupported version`, or of `parse_midi` or `parse_guitar_pro`.
        MgenError: It is a Guitar Pro file, and the extra `tabs` is not installed.
    """
    data = read_bytes(path)
    found = file_format(data)
    if found == "midi":
        return Music(parse_midi(data), found)
    require_tab_reader(path)
    from mgen.guitar_pro import parse_guitar_pro

    return Music(parse_guitar_pro(data), found)


def require_tab_reader(path: Path | str) -> None:
    """Checks that Guitar Pro files can be read.

    Args:
        path: of one of them, for the error line.

    Raises:
        MgenError: The extra `tabs` is not installed.
    """
    import_extra("guitarpro", "tabs", str(path), "leave Guitar Pro files out")


def read_bytes(path: Path | str) -> bytes:
    """The content of a file.

    Raises:
        RejectedFile: with one of the reasons `missing`, `unreadable` (no rights, no file), `too large`.
    """
    path = Path(path)
    try:
        if not path.exists():
            raise RejectedFile("missing", "no such file")
        if not path.is_file():
            raise RejectedFile("unreadable", "not a regular file")
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise RejectedFile("too large", f"{size / 2**20:.1f} MiB, at most {MAX_BYTES >> 20} are read")
        return path.read_bytes()
    except OSError as error:
        raise RejectedFile("unreadable", error.strerror or str(error)) from error


def file_format(data: bytes) -> str:
    """The format of a file by its first bytes: `midi`, or `gp3` to `gp8`.

    Raises:
        RejectedFile: `unsupported version` for another version of Guitar Pro, else `unknown format`.
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
    raise RejectedFile(
        "unknown format", f"begins with {data[:8]!r}; MIDI and Guitar Pro are read" if data else "empty file"
    )
