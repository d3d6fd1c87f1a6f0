"""Finds the score, an XML file, in the files of MusicXML: plain (.musicxml, .xml) or in a zip file (.mxl)."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from mgen.errors import RejectedFile
from mgen.formats.xml_files import check_xml, is_zip, read_member

_CONTAINER = "META-INF/container.xml"
_ROOT = re.compile(rb"<(!DOCTYPE\s+)?score-(partwise|timewise)\b")
_START = 512  # bytes in which the document type or the root is named


def is_musicxml(data: bytes) -> bool:
    """Whether a file begins as plain MusicXML does, in an encoding of one or two bytes per character."""
    start = data[: 2 * _START].replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n")
    return start.startswith(b"<") and _ROOT.search(start[:_START]) is not None


def is_mxl(data: bytes) -> bool:
    """Whether a file is a zip that names a file of MusicXML as its content; other formats use the same container."""
    try:
        return is_zip(data) and _CONTAINER.encode() in data and is_musicxml(read_score(data))
    except RejectedFile:
        return False


def read_score(data: bytes) -> bytes:
    """The XML of a score.

    Raises:
        RejectedFile: with one of the reasons `broken`, `too large`.
    """
    if not is_zip(data):
        return data
    container = read_member(data, _CONTAINER)
    check_xml(container, _CONTAINER)
    for entry in ElementTree.fromstring(container).iter():
        if entry.tag.rpartition("}")[2] == "rootfile":
            return read_member(data, entry.get("full-path", ""))
    raise RejectedFile("broken", f"{_CONTAINER} names no file")
