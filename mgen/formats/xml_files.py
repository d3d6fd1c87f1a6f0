"""XML inside zip files, read within bounds: of size, and without the entities that a document type may declare."""

from __future__ import annotations

import io
import zipfile
from xml.parsers import expat

from mgen.errors import RejectedFile
from mgen.formats.archives import ZIP_FAULTS, unpack

MAX_XML = 16 << 20  # bytes of an XML file unpacked; the largest real score seen has 6.6 MB


def is_zip(data: bytes) -> bool:
    """Whether a file begins as a zip file does."""
    return data[:4] == b"PK\x03\x04"


def read_member(data: bytes, name: str, most: int = MAX_XML) -> bytes:
    """A file inside a zip file.

    Raises:
        RejectedFile: with one of the reasons `broken` (no such file, damaged, encrypted), `too large`.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            member = archive.getinfo(name)
            check_size(member.file_size, name, most)
            return unpack(archive, member)
    except KeyError as error:
        raise RejectedFile("broken", f"a zip file without {name}") from error
    except ZIP_FAULTS as error:
        raise RejectedFile("broken", " ".join(f"{name} cannot be unpacked: {error}".split())) from error


def member_names(data: bytes) -> list[str]:
    """Names of the files inside a zip file; none if it is damaged."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return archive.namelist()
    except ZIP_FAULTS:
        return []


def check_size(size: int, name: str, most: int = MAX_XML) -> None:
    """Raises `RejectedFile` (`too large`) if a packed file has more than `most` bytes."""
    if size > most:
        raise RejectedFile("too large", f"{name} has {size / 2**20:.1f} MiB, at most {most >> 20} are read")


def check_xml(data: bytes, name: str, doctype: bool = False) -> None:
    """Raises unless a file is well-formed XML that declares nothing.

    Args:
        data: the file, in any encoding.
        name: for the error.
        doctype: the document type may be named, as MusicXML does; it may declare nothing, and is not read.

    Raises:
        RejectedFile: `broken`.
    """

    def refuse(_name: str, _system: str | None, _public: str | None, declares: int) -> None:
        if declares or not doctype:
            raise RejectedFile("broken", f"{name} declares a document type, which is not read")

    check_size(len(data), name)
    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, ValueError, LookupError) as error:  # LookupError: of an encoding
        raise RejectedFile("broken", f"{name} is not well-formed XML: {error}") from error
