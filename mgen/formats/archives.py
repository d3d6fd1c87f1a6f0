"""Zip archives and gzip files, read in memory within bounds: nothing is unpacked to disk.

An archive is read like a folder: a file in it has a path such as `music.zip/jazz/song.mid`.
"""

from __future__ import annotations

import gzip
import io
import re
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path, PurePosixPath

from mgen.errors import RejectedFile

MAX_FILES = 200_000  # in an archive; the largest collection on the web, of 178,561 files, fits
MAX_UNPACKED = 16 << 30  # bytes of all its files together
GZIP = b"\x1f\x8b"
ZIP = (b"PK\x03\x04", b"PK\x05\x06")  # the second begins an empty archive

ZIP_FAULTS = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, ValueError, RuntimeError, OverflowError)


def split_path(path: Path) -> tuple[Path, str] | None:
    """The archive and the file in it that a path names, or None if it leads through no file."""
    for parent in path.parents:
        if parent.is_file():
            return parent, path.relative_to(parent).as_posix()
    return None


def files_in(archive: Path) -> Mapping[str, zipfile.ZipInfo]:
    """The files of a zip archive by name, without `..` and the root; of equal names the later ones are numbered.

    Raises:
        RejectedFile: with one of the reasons `broken`, `encrypted` (all files), `too large`.
    """
    return _open(archive, archive.stat().st_mtime_ns)[1]


def read_file(archive: Path, name: str, limit: int, first: int | None = None) -> bytes:
    """The content of a file in an archive, or its `first` bytes.

    Raises:
        RejectedFile: with one of the reasons of `files_in`, or `missing`, `too large` (above `limit` bytes).
    """
    try:
        opened, files = _open(archive, archive.stat().st_mtime_ns)
        if name not in files:
            raise RejectedFile("missing", f"no such file in {archive.name}")
        info = files[name]
        if info.flag_bits & 1:
            raise RejectedFile("encrypted", "needs a password")
        if first is None and info.file_size > limit:
            raise RejectedFile("too large", f"{info.file_size / 2**20:.1f} MiB, at most {limit >> 20} are read")
        return unpack(opened, info, first)
    except ZIP_FAULTS as error:
        raise _broken(error) from error


def unpack(archive: zipfile.ZipFile, info: zipfile.ZipInfo, first: int | None = None) -> bytes:
    """The content of a file in an open archive, or its `first` bytes, in no more memory than its size in the list.

    Raises:
        RejectedFile: `broken`, for a compression other than deflate: Python unpacks the others without a bound.
        Exception: one of `ZIP_FAULTS`.
    """
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise RejectedFile("broken", f"zip compression method {info.compress_type} is not read; deflate is")
    with archive.open(info) as file:
        return file.read(info.file_size if first is None else first)


def gunzip(data: bytes, limit: int) -> bytes:
    """The content of gzip data.

    Raises:
        RejectedFile: with one of the reasons `broken`, `too large` (above `limit` bytes).
    """
    try:
        content = gzip.GzipFile(fileobj=io.BytesIO(data)).read(limit + 1)
    except ZIP_FAULTS as error:
        raise RejectedFile("broken", f"damaged gzip data ({error})") from error
    if len(content) > limit:
        raise RejectedFile("too large", f"unpacks to over {limit >> 20} MiB")
    return content


def gunzip_start(data: bytes, size: int) -> bytes:
    """Up to `size` bytes of the content of gzip data that may be cut; empty if it is damaged."""
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(data, size)
    except zlib.error:
        return b""


@lru_cache(maxsize=2)  # listing a large archive takes a second
def _open(archive: Path, modified: int) -> tuple[zipfile.ZipFile, Mapping[str, zipfile.ZipInfo]]:
    try:
        opened = zipfile.ZipFile(archive)
    except ZIP_FAULTS as error:
        raise _broken(error) from error
    listed = [info for info in opened.infolist() if not info.filename.endswith("/")]  # `is_dir` fails on an empty name
    if len(listed) > MAX_FILES or sum(info.file_size for info in listed) > MAX_UNPACKED:
        raise RejectedFile("too large", f"an archive of over {MAX_FILES} files or {MAX_UNPACKED >> 30} GiB; unpack it")
    if listed and all(info.flag_bits & 1 for info in listed):
        raise RejectedFile("encrypted", "an archive with a password; unpack it")
    files: dict[str, zipfile.ZipInfo] = {}
    copies: Counter[str] = Counter()
    for info in listed:
        parts = [part for part in re.split(r"[/\\]", info.filename) if part not in ("", ".", "..")]
        name = plain = PurePosixPath(*parts or ["unnamed"])
        while str(name) in files:
            copies[str(plain)] += 1
            name = plain.with_stem(f"{plain.stem} ({copies[str(plain)] + 1})")
        files[str(name)] = info
    return opened, files


def _broken(error: Exception) -> RejectedFile:
    return RejectedFile("broken", f"a damaged zip archive ({' '.join(str(error).split())})")
