"""Lists music files with their style, collection, work and artist, from a CSV or from their paths."""

from __future__ import annotations

import csv
import difflib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mgen.corpus.search import GENERATED, INDEX, PassedOver, extension, find_music
from mgen.errors import MgenError
from mgen.formats.files import EXTENSIONS

DEFAULT_STYLE = "other"  # style of files without one
_TAKE_MARK = r"live|copy|alt|alternate|(?:(?:alternate|alt) )?take ?\d*|v\d+|ver(?:sion)? ?\d+"
_TAKE = re.compile(rf"[ (\[]+(?:\d+\)|(?:{_TAKE_MARK})[)\]]?)$")
_NUMBER = re.compile(r" \d{1,2}$")


@dataclass(frozen=True, slots=True)
class Source:
    """A file that may become a piece."""

    file: Path
    path: str  # its name in tables, as the caller gave it
    style: str
    collection: str  # source of the file, such as a dataset
    work: str  # the composition; all its files go to one split
    artist: str = ""  # performer, empty if unknown

    @property
    def song(self) -> str:
        """The file name without the extension of music."""
        file = Path(self.file.stem) if self.file.suffix.lower() == ".gz" else self.file
        return _text(file.stem if file.suffix.lower() in EXTENSIONS else file.name)  # `Sonata No. 5` has none


@dataclass(frozen=True, slots=True)
class Scan:
    """The files to read, sorted by path, and the numbers of those that are not."""

    sources: list[Source]
    passed_over: PassedOver


def scan(
    sources: Sequence[Path] = (),
    styles: Sequence[tuple[str, Path]] = (),
    metadata: Path | None = None,
    collections: Sequence[str] = (),
) -> Scan:
    """Lists all files to read.

    Args:
        sources: folders and zip archives, searched by content (`search.find_music`), and files. Without metadata the
            collection is the top folder below the source (for files directly in it, the source itself), and the work is
            the file name without case, separators and suffixes of a take: `(1)`, `take 3`, `live`, `v2`, and `_2` if
            the name without it exists too.
        styles: (name, folder or file), which are sources too: files there have that style; if nested, that of the
            innermost folder.
        metadata: CSV with the column `path` (relative to the CSV) and any of style, collection, work, artist; empty
            cells are filled as above. It then determines the files to read, within `sources` if there are any. A path
            has to stay in the CSV's folder or a source, links followed: a CSV from elsewhere names no other file.
        collections: read only these.

    Raises:
        MgenError: A source or a column is missing, a file is listed twice or lies elsewhere, a style or a collection
            has no file, or there is nothing to read.
    """
    styles = [(name.strip().lower(), folder) for name, folder in styles]
    roots = [*sources, *(folder for _, folder in styles)]
    for root in roots:
        if not root.exists():
            raise MgenError(f"{root}: no such file or folder; give folders of MIDI files, or the files")
    found, passed_over = _read_metadata(metadata, sources, roots) if metadata else _search_folders(roots)
    why = f" ({passed_over.line})" if passed_over.line else ""
    if not found:
        places = ", ".join(map(str, [metadata] if metadata else roots)) or "no source given"
        raise MgenError(f"{places}: no music to read{why}; give folders of MIDI or Guitar Pro files")
    found = _set_styles(found, styles)
    missing = {name for name, _ in styles} - {source.style for source in found}
    if missing:
        raise MgenError(f"style '{min(missing)}' has no file{why}; check what --style and --metadata say")
    if collections:
        found = _select_collections(found, collections)
    return Scan(sorted(_set_works(found), key=lambda source: source.path), passed_over)


def parse_style(word: str) -> tuple[str, Path]:
    """Splits `jazz=music/jazz` into name and path.

    Raises:
        MgenError: The form differs.
    """
    name, equals, folder = word.partition("=")
    if not (name and equals and folder):
        raise MgenError(f"--style: expected NAME=SRC, such as jazz=music/jazz, got '{word}'")
    return name, Path(folder)


def work_name(name: str) -> str:
    """A file name without case, separators and suffixes of a take."""
    plain = " ".join(re.split(r"[\s_.\-]+", unicodedata.normalize("NFKC", name).casefold())).strip()
    while (shorter := _TAKE.sub("", plain).strip()) and shorter != plain:
        plain = shorter
    return plain


def work_key(work: str) -> str:
    """A work's name independent of spelling: equal for `In a Mellow Tone (live)` and `InAMellowTone`."""
    return re.sub(r"[\W_]+", "", work_name(work))


def _search_folders(roots: Sequence[Path]) -> tuple[list[Source], PassedOver]:
    music: dict[str, Source] = {}
    others: dict[str, str] = {}
    links: set[Path] = set()
    # The innermost source determines the collection of a file, so it is last.
    for root in sorted(roots, key=lambda root: len(Path(os.path.abspath(root)).parts)):
        for one in find_music(root):
            if one.kind == "music":
                known = music.get(one.real)
                if known and os.path.abspath(known.file) == one.real != os.path.abspath(one.file):
                    links.add(one.file)  # a link to a file of another source
                else:
                    music[one.real] = _source_at(one.file, root)
            elif one.kind == "other":
                others[one.real] = extension(one.file.name)
            else:
                links.add(one.file)
    generated = {os.path.splitext(real)[0] + suffix for real in music for suffix in GENERATED}
    generated |= {os.path.join(os.path.dirname(real), INDEX) for real in music}
    not_music = Counter(kind for real, kind in others.items() if real not in music and real not in generated)
    return list(music.values()), PassedOver(dict(sorted(not_music.items())), len(links))


def _source_at(file: Path, root: Path) -> Source:
    """A file below a source, or the source itself, with the collection from its path."""
    inside = Path(os.path.relpath(file, root)).parts
    if not inside or inside[0] == os.pardir:
        collection = Path(os.path.abspath(file.parent)).name
    else:
        collection = inside[0] if len(inside) > 1 else Path(os.path.abspath(root)).name
    return Source(file, _text(file), "", _text(collection), "")


def _read_metadata(metadata: Path, sources: Sequence[Path], roots: Sequence[Path]) -> tuple[list[Source], PassedOver]:
    try:
        with metadata.open(encoding="utf-8-sig", newline="") as text:
            table = csv.DictReader(text)
            if "path" not in (table.fieldnames or ()):
                names = " ".join(", ".join(table.fieldnames or ["nothing"]).split())
                raise MgenError(f"{metadata}: expected a column 'path', found {names:.80}")
            rows = list(table)
    except OSError as error:
        raise MgenError(f"--metadata {metadata}: {error.strerror}; give a CSV with a column path") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise MgenError(f"--metadata {metadata}: not a CSV in UTF-8 ({error})") from error
    found: dict[str, Source] = {}
    within = [os.path.abspath(source) for source in sources]
    known = [os.path.realpath(folder) for folder in (metadata.parent, *roots)]
    for number, row in enumerate(rows, start=2):
        given = {name: (row.get(name) or "").strip() for name in ("path", "style", "collection", "work", "artist")}
        if not given["path"] or "\0" in given["path"]:
            raise MgenError(f"{metadata}, row {number}: no path")
        file = metadata.parent / given.pop("path")
        place = os.path.abspath(file)
        if within and not any(_is_within(place, source) for source in within):
            continue
        if not any(_is_within(os.path.realpath(file), folder) for folder in known):
            remedy = f"move it into {metadata.parent}, or give its folder as SRC"
            raise MgenError(f"{metadata}, row {number}: the path leads out of the CSV's folder; {remedy}")
        if place in found:
            raise MgenError(f"{metadata}, row {number}: {file} is listed twice; list each file once")
        plain = _source_at(file, metadata.parent)
        work = " ".join(given["work"].casefold().split())
        found[place] = replace(
            plain,
            style=given["style"].lower(),
            collection=given["collection"] or plain.collection,
            work=work,
            artist=given["artist"],
        )
    return list(found.values()), PassedOver()


def _set_styles(found: Sequence[Source], styles: Sequence[tuple[str, Path]]) -> list[Source]:
    """Sets styles by folder where the metadata has none; the innermost folder decides."""
    places = sorted(((os.path.abspath(folder), name) for name, folder in styles), key=lambda place: -len(place[0]))
    owner: dict[str, str] = {}
    for place, name in places:
        if owner.setdefault(place, name) != name:
            raise MgenError(f"{place}: given two styles, {owner[place]} and {name}; give it one")

    def style(source: Source) -> str:
        file = os.path.abspath(source.file)
        return source.style or next((name for place, name in places if _is_within(file, place)), DEFAULT_STYLE)

    return [replace(source, style=style(source)) for source in found]


def _select_collections(found: Sequence[Source], collections: Sequence[str]) -> list[Source]:
    known = sorted({source.collection for source in found})
    for name in collections:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(known[:12])}"
            raise MgenError(f"--collections: no collection is called '{name}'; {hint}")
    return [source for source in found if source.collection in collections]


def _set_works(found: Sequence[Source]) -> list[Source]:
    names = [source.work or work_name(source.song) for source in found]
    there = {(source.collection, name) for source, name in zip(found, names, strict=True)}

    def work(source: Source, name: str) -> str:
        base = _NUMBER.sub("", name)
        return base if not source.work and (source.collection, base) in there else name

    return [replace(source, work=work(source, name)) for source, name in zip(found, names, strict=True)]


def _is_within(place: str, folder: str) -> bool:
    return place == folder or place.startswith(folder.rstrip(os.sep) + os.sep)


def _text(path: Path | str) -> str:
    """A path as text that can be stored: bytes that are not UTF-8 are escaped."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
