"""Music is found by content, in folders, links and archives; what is not music is counted."""

from __future__ import annotations

import gzip
import io
import os
import sys
import zipfile
from pathlib import Path

import pytest
from instrument_scores import score_of

from mgen.corpus.reading import Rules, read_source
from mgen.corpus.scan import scan
from mgen.corpus.search import PassedOver, find_music
from mgen.errors import MgenError, RejectedFile
from mgen.formats import archives, files
from mgen.formats.files import read_music

SONG = score_of((0, False, "", 5)).dumps_midi()


def zipped(members, method=zipfile.ZIP_DEFLATED):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return stream.getvalue()


def locked(archive):
    """The archive with the mark of encryption on every file."""
    out, at = bytearray(archive), 0
    while (at := out.find(b"PK\1\2", at)) >= 0:
        out[at + 8] |= 1
        at += 4
    return bytes(out)


def understated(archive):
    """The archive with a size of 100 bytes on every file."""
    out, at = bytearray(archive), 0
    while (at := out.find(b"PK\1\2", at)) >= 0:
        out[at + 24 : at + 28] = (100).to_bytes(4, "little")
        at += 4
    return bytes(out)


def kinds(root):
    return {one.file.relative_to(root).as_posix(): one.kind for one in find_music(root)}


def named(value):
    """The name of a parameter; compressed bytes hold the time, and each worker must collect the same names."""
    return "" if isinstance(value, bytes) else value


def reason(path):
    with pytest.raises(RejectedFile) as caught:
        read_music(path)
    assert "\n" not in str(caught.value)
    return caught.value.reason


@pytest.mark.parametrize("name", ["song 0", "No. 5 in C", "a.smf", "a.KAR", "a.mid.gz", "a.bak", "._a.mid", "a.xyz.gz"])
def test_music_is_found_by_content_whatever_its_name(tmp_path, name):
    (tmp_path / name).write_bytes(gzip.compress(SONG) if name.endswith(".gz") else SONG)
    assert kinds(tmp_path) == {name: "music"}
    assert read_music(tmp_path / name).score.note_num() == 5


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("cover.jpg", b"\xff\xd8\xff\xe0"),
        ("README", b"MThe piece"),
        ("._a.mid", b"\0\5\x16\7"),
        ("empty", b""),
        ("text.gz", gzip.compress(b"text")),
        ("torn.gz", b"\x1f\x8b\x08"),
        ("letter.docx", zipped([("word/document.xml", "")])),
        ("pictures.zip", zipped([("a.png", b"\x89PNG"), ("b.png", b"\x89PNG")])),
    ],
    ids=named,
)
def test_what_is_not_music_is_passed_over_and_rejected_when_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert kinds(tmp_path) == {name: "other"}
    (named,) = find_music(tmp_path / name)
    assert named.kind == "music" and reason(named.file) in {"unknown format", "archive", "broken"}


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.rar", b"Rar!\x1a\x07", "archive"),
        ("a.tar.gz", gzip.compress(bytes(257) + b"ustar" + bytes(250)), "archive"),
        ("a.zip.gz", gzip.compress(zipped([("a.mid", SONG)])), "archive"),
        ("page.zip", b"<!DOCTYPE html>", "unknown format"),
        ("torn.zip", zipped([("a.mid", SONG)])[:-9], "broken"),
        ("locked.zip", locked(zipped([("a.mid", SONG)])), "encrypted"),
        ("many.zip", zipped([(f"{i}.mid", SONG) for i in range(4)]), "too large"),
        ("a.mid.gz", gzip.compress(SONG)[:-9], "broken"),
        ("text.mid.gz", gzip.compress(b"text"), "unknown format"),
        ("bomb.mid.gz", gzip.compress(SONG + bytes(5000)), "too large"),
    ],
    ids=named,
)
def test_a_container_that_cannot_be_opened_is_one_row(tmp_path, monkeypatch, name, content, why):
    monkeypatch.setattr(archives, "MAX_FILES", 3)
    monkeypatch.setattr(files, "MAX_BYTES", 4096)
    (tmp_path / name).write_bytes(content)
    assert kinds(tmp_path) == {name: "music"}  # a file to read, so that rejected.csv says why it cannot be
    assert reason(tmp_path / name) == why


def test_a_file_without_a_name_is_read(tmp_path):
    (tmp_path / "m.zip").write_bytes(zipped([("@.mid", SONG)]).replace(b"@.mid", b"\0.mid"))  # names end at a zero
    assert kinds(tmp_path) == {"m.zip/unnamed": "music"}
    assert read_music(tmp_path / "m.zip" / "unnamed").score.note_num() == 5


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_archive_is_read_like_a_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_BYTES", 4096)
    members = {
        "jazz/a.mid": SONG,
        "../../b.mid": SONG,
        "/c\\d.mid": SONG,
        "no extension": SONG,
        "e.mid.gz": gzip.compress(SONG),
        "bomb.mid": bytes(5000),
        "inner.zip": zipped([("a.mid", SONG)]),
        "cover.png": b"\x89PNG",
        "letter.docx": zipped([("word/document.xml", "")]),
    }
    (tmp_path / "m.zip").write_bytes(zipped([*members.items(), ("jazz/a.mid", SONG)]))
    found = scan([tmp_path])
    assert [(source.path.removeprefix(f"{tmp_path}/m.zip/"), source.work) for source in found.sources] == [
        ("b.mid", "b"),
        ("bomb.mid", "bomb"),
        ("c/d.mid", "d"),
        ("e.mid.gz", "e"),
        ("inner.zip", "inner zip"),
        ("jazz/a (2).mid", "a"),
        ("jazz/a.mid", "a"),
        ("no extension", "no extension"),
    ]
    assert found.passed_over.line == "2 files are not music: 1 .docx, 1 .png"
    reasons = {
        source.file.name: reason(source.file) for source in found.sources if source.work in ("bomb", "inner zip")
    }
    assert reasons == {"bomb.mid": "too large", "inner.zip": "archive"}
    for source in found.sources:
        if source.file.name not in reasons:
            assert read_music(source.file).score.note_num() == 5
    assert reason(tmp_path / "m.zip" / "none.mid") == "missing"
    assert {source.collection for source in scan([tmp_path / "m.zip"]).sources} == {"m.zip", "c", "jazz"}


@pytest.mark.parametrize(
    "archive",
    [
        zipped([("a.mid", SONG)], zipfile.ZIP_LZMA),  # no bound on what it takes to unpack
        understated(zipped([("a.mid", SONG + bytes(5000))])),
        zipped([("a.mid", SONG)], zipfile.ZIP_STORED).replace(b"MThd", b"MTxx"),
    ],
)
def test_a_damaged_file_of_an_archive_is_one_row(tmp_path, archive):
    (tmp_path / "m.zip").write_bytes(archive)
    assert kinds(tmp_path) == {"m.zip/a.mid": "music"} and reason(tmp_path / "m.zip" / "a.mid") == "broken"


def test_links_are_followed_once_each(tmp_path):
    music, far = tmp_path / "music", tmp_path / "far"
    (music / "real").mkdir(parents=True)
    far.mkdir()
    (music / "real" / "a.mid").write_bytes(SONG)
    (far / "b.mid").write_bytes(SONG)
    for link, target in {
        "first": music / "real",
        "real/round": music,
        "away": far,
        "back": far,
        "0.mid": music / "real" / "a.mid",
        "gone.mid": "nowhere",
        "self": "self",
    }.items():
        os.symlink(target, music / link)
    found = scan([music])
    names = [source.path.removeprefix(f"{music}/") for source in found.sources]
    assert names == ["away/b.mid", "gone.mid", "real/a.mid", "self"]
    assert found.passed_over.line == "4 links lead to what is read already"
    assert {reason(music / name) for name in ("gone.mid", "self")} == {"missing"}


def test_a_file_of_two_styles_has_that_of_its_own_folder(tmp_path):
    for name in ("jazz", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.mid").write_bytes(SONG)
    os.symlink(tmp_path / "jazz" / "jazz.mid", tmp_path / "other" / "again.mid")
    found = scan(styles=[("jazz", tmp_path / "jazz"), ("other", tmp_path / "other")])
    assert [(source.file.name, source.style) for source in found.sources] == [
        ("jazz.mid", "jazz"),
        ("other.mid", "other"),
    ]
    assert found.passed_over.links == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
def test_what_is_no_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert kinds(tmp_path) == {"pipe": "music"} and reason(tmp_path / "pipe") == "unreadable"


def test_the_line_names_the_most_frequent_extensions():
    assert PassedOver().line == ""
    assert PassedOver({".jpg": 1}, 1).line == "1 file is not music: 1 .jpg; 1 link leads to what is read already"
    many = PassedOver({f".{letter}": 1 for letter in "abcdefghij"} | {".z": 5})
    assert many.line == "15 files are not music: 5 .z, 1 .a, 1 .b, 1 .c, 1 .d, 1 .e, 1 .f, 1 .g, 3 others"


def test_a_folder_without_music_says_what_is_there(tmp_path):
    for name in ("a.jpg", "b.jpg", "README"):
        Path(tmp_path / name).touch()
    with pytest.raises(MgenError, match=r"no music to read \(3 files are not music: 2 .jpg, 1 no extension\)"):
        scan([tmp_path])


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_archive_of_tabs_that_are_archives_is_no_tab(tmp_path, method):
    tab = zipped([("Content/score.gpif", "<GPIF/>")])
    (tmp_path / "tabs.zip").write_bytes(zipped([("a.gp", tab), ("b", tab)], method))
    (tmp_path / "c").write_bytes(tab)
    assert kinds(tmp_path) == {"c": "music", "tabs.zip/a.gp": "music", "tabs.zip/b": "music"}


def test_a_file_whose_content_needs_a_missing_extra_is_one_row(tmp_path, monkeypatch):
    (tmp_path / "song 1").write_bytes(b"\x18FICHIER GUITAR PRO v5.10")
    monkeypatch.setitem(sys.modules, "guitarpro", None)  # an import of it fails
    (source,) = scan([tmp_path]).sources
    reading = read_source(source, Rules())
    assert reading.reason == "not installed" and "mgen-music[tabs]" in reading.detail
