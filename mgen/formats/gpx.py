"""Finds the score, an XML file, in the files of Guitar Pro 6 (.gpx: BCFZ or BCFS) and 7 and 8 (.gp: zip).

BCFS is a file system in sectors of 4096 bytes. BCFZ compresses it. A bit 1 begins a copy of bytes already unpacked: 4
bits for the width of the two numbers that follow, how far back and how many. A bit 0 begins up to three bytes: 2 bits
for how many. Numbers are written from their lowest bit, the width and the bytes from their highest. Source: alphaTab.
"""

from __future__ import annotations

import re

from mgen.errors import RejectedFile
from mgen.formats.xml_files import check_size, is_zip, member_names, read_member

ZIP_SCORE = "Content/score.gpif"
_SCORE = b"score.gpif"
_SECTOR = 0x1000
_FILE = 2  # type of a sector that describes a file
_NAME, _SIZE, _SECTORS = 0x04, 0x8C, 0x94  # offsets inside such a sector


def is_gpx(data: bytes) -> bool:
    """Whether a file begins as those of Guitar Pro 6 do."""
    return data[:4] in (b"BCFZ", b"BCFS")


def is_gp(data: bytes) -> bool:
    """Whether a file is a zip with a score of Guitar Pro 7 or 8."""
    # A damaged one has no list of names; an archive of such files has the name inside these.
    return is_zip(data) and (ZIP_SCORE in names if (names := member_names(data)) else ZIP_SCORE.encode() in data)


def gp_version(data: bytes) -> int:
    """The version of Guitar Pro that wrote a .gp file: 7, or 8 and later."""
    try:
        found = re.search(rb"<GPVersion>(\d{1,3})", read_member(data, ZIP_SCORE)[:1000])
    except RejectedFile:
        return 7
    return max(7, int(found[1])) if found else 7


def read_score(data: bytes) -> bytes:
    """The XML of a score.

    Args:
        data: a .gpx or .gp file.

    Raises:
        RejectedFile: with one of the reasons `broken`, `too large`.
    """
    if is_gpx(data):
        return _find_file(unpack(data) if data[:4] == b"BCFZ" else data, _SCORE)
    return read_member(data, ZIP_SCORE)


def unpack(data: bytes) -> bytes:
    """Decompresses BCFZ, as far as it goes: real files lack the last byte of their padding.

    Raises:
        RejectedFile: with one of the reasons `broken` (a copy from before the start), `too large`.
    """
    size = int.from_bytes(data[4:8], "little")
    check_size(size, "the file unpacked")
    bits = bin(int.from_bytes(b"\x01" + data[8:], "big"))[3:]  # without "0b1"; a text is quickly sliced
    out = bytearray()
    at = 0
    while len(out) < size and at + 5 < len(bits):
        if bits[at] == "1":
            width = int(bits[at + 1 : at + 5], 2)
            middle, end = at + 5 + width, at + 5 + 2 * width
            back, count = (int("0" + bits[slice(*part)][::-1], 2) for part in ((at + 5, middle), (middle, end)))
            if not 0 < back <= len(out):
                raise RejectedFile("broken", f"a copy of bytes {back} back after {len(out)} bytes")
            start = len(out) - back
            out += out[start : start + min(back, count)]
        else:
            count = int(bits[at + 1 : at + 3][::-1], 2)
            end = at + 3 + 8 * count
            out += int("0" + bits[at + 3 : end], 2).to_bytes(count, "big")
        at = end
    return bytes(out)


def _find_file(data: bytes, name: bytes) -> bytes:
    """A file of the file system BCFS."""
    data = data[4:]  # sectors are counted from here; the first one describes no file

    def read(at: int, size: int) -> bytes:
        if at >= len(data):
            raise RejectedFile("broken", "ends inside the packed files")
        return data[at : at + size]

    def number(at: int) -> int:
        return int.from_bytes(read(at, 4), "little")

    for sector in range(_SECTOR, len(data), _SECTOR):
        if number(sector) == _FILE and data[sector + _NAME : sector + _SIZE].split(b"\0", 1)[0] == name:
            size = number(sector + _SIZE)
            check_size(size, name.decode())
            content = bytearray()
            at = sector + _SECTORS
            while len(content) < size and (start := number(at) * _SECTOR):
                content += read(start, _SECTOR)
                at += 4
            return bytes(content[:size])
    raise RejectedFile("broken", f"no {name.decode()} in it")
