from __future__ import annotations

import os
from pathlib import Path

import pytest

from mgen.corpus.scan import parse_style, scan, work_key, work_name
from mgen.errors import MgenError


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def facts(sources, *names):
    return [tuple(getattr(source, name) for name in names) for source in sources]


@pytest.mark.parametrize(
    ("name", "work"),
    [
        ("Body_and_Soul", "body and soul"),
        ("Body and Soul (1)", "body and soul"),
        ("body-and-soul take 3", "body and soul"),
        ("Body.And.Soul_(Live)", "body and soul"),
        ("Body and Soul alternate take 2 (1)", "body and soul"),
        ("Body and Soul v2", "body and soul"),
        ("Blues 1", "blues 1"),
        ("pop_001", "pop 001"),
        ("Live", "live"),
        ("Take Five", "take five"),
        ("Ｃａｆé", "café"),
    ],
)
def test_work_names(name, work):
    assert work_name(name) == work


def test_spelling_makes_no_new_work():
    names = ["In a Mellow Tone", "InAMellowTone", "in_a_mellow_tone (live)", "In A Mellow Tone - take 2"]
    assert {work_key(name) for name in names} == {"inamellowtone"}
    assert work_key("Blues 1") != work_key("Blues 2")


def test_a_number_goes_where_the_plain_name_is_there_too(tmp_path):
    touch(tmp_path, "c/Aspen.mid", "c/Aspen_2.mid", "c/Etude_1.mid", "c/Etude_2.mid", "d/Etude.mid")
    assert [source.work for source in scan([tmp_path]).sources] == ["aspen", "aspen", "etude 1", "etude 2", "etude"]


def test_folders_are_searched_to_the_bottom_for_music(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    touch(tmp_path / "music", "a.mid", "b.MIDI", "x/c.kar", "x/deep/d.rmi", "notes.txt", "x/e.mid.bak")
    os.symlink(tmp_path / "music", tmp_path / "music" / "x" / "round")
    (tmp_path / "music" / "folder.mid").mkdir()
    found = scan([Path("music")]).sources
    assert facts(found, "path", "collection", "style") == [
        ("music/a.mid", "music", "other"),
        ("music/b.MIDI", "music", "other"),
        ("music/x/c.kar", "x", "other"),
        ("music/x/deep/d.rmi", "x", "other"),
    ]
    (odd,) = scan([Path("music/notes.txt")]).sources
    assert (odd.path, odd.collection) == ("music/notes.txt", "music")
    assert len(scan([Path("music"), tmp_path / "music" / "x"]).sources) == 4  # a file is scanned once


def test_the_innermost_styled_folder_decides(tmp_path):
    touch(tmp_path, "a.mid", "jazz/b.mid", "jazz/solo/c.mid", "jazz/pop/d.mid")
    found = scan([tmp_path], [("Jazz", tmp_path / "jazz"), ("pop", tmp_path / "jazz" / "pop")]).sources
    assert [source.style for source in found] == ["other", "jazz", "pop", "jazz"]
    assert [source.collection for source in found] == [tmp_path.name, "jazz", "pop", "solo"]


def test_metadata_says_what_is_read(tmp_path):
    touch(tmp_path, "in/a.mid", "in/b.mid", "in/sub/c.mid", "out/d.mid", "unlisted.mid")
    table = tmp_path / "metadata.csv"
    table.write_text(
        "path,artist,work,style,collection\n"
        "in/a.mid,Ann,Blue  Moon,Jazz,club\n"
        'in/b.mid,,,,"a, b"\n'
        "in/sub/c.mid,,,,\n"
        "in/gone.mid,,,,\n"
        "out/d.mid,,,,\n"
    )
    found = scan([tmp_path / "in"], [("folk", tmp_path / "in" / "sub")], table).sources
    assert facts(found, "style", "collection", "work", "artist") == [
        ("jazz", "club", "blue moon", "Ann"),
        ("other", "a, b", "b", ""),
        ("other", "in", "gone", ""),
        ("folk", "in", "c", ""),
    ]
    assert len(scan(metadata=table).sources) == 5
    assert [source.work for source in scan(metadata=table, collections=["club", "out"]).sources] == ["blue moon", "d"]


def test_a_name_that_is_no_text_can_be_stored(tmp_path):
    raw = os.fsencode(tmp_path) + b"/caf\xe9.mid"
    try:
        with open(raw, "wb"):
            pass
    except OSError:
        pytest.skip("this file system takes only names in UTF-8")
    (source,) = scan([tmp_path]).sources
    assert source.path.endswith(r"caf\xe9.mid") and source.path.encode()
    assert source.file.exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"sources": ["none"]}, "no such file or folder"),
        ({"sources": ["empty"]}, "no music to read"),
        ({}, "no source given"),
        ({"sources": ["music"], "styles": [("jazz", "empty")]}, "style 'jazz' has no file"),
        ({"styles": [("jazz", "music"), ("pop", "music")]}, "two styles"),
        ({"sources": ["music"], "collections": ["solo"]}, "did you mean 'solos'"),
        ({"sources": ["music"], "collections": ["xyz"]}, "there are solos"),
        ({"metadata": "none.csv"}, "No such file"),
        ({"metadata": "nopath.csv"}, "expected a column 'path', found file, style"),
        ({"metadata": "twice.csv"}, "row 3: .* is listed twice"),
        ({"metadata": "blank.csv"}, "row 2: no path"),
        ({"metadata": "latin.csv"}, "not a CSV in UTF-8"),
        *(({"metadata": f"leads_out_{i}.csv"}, "row 3: the path leads out of the CSV's folder") for i in range(4)),
    ],
)
def test_what_cannot_be_scanned_is_said(tmp_path, options, says):
    touch(tmp_path, "music/solos/a.mid")
    (tmp_path / "empty").mkdir()
    (tmp_path / "nopath.csv").write_text("file,style\n")
    (tmp_path / "twice.csv").write_text("path\nmusic/solos/a.mid\nmusic/solos/../solos/a.mid\n")
    (tmp_path / "blank.csv").write_text("path,style\n,jazz\n")
    (tmp_path / "latin.csv").write_bytes(b"path\ncaf\xe9.mid\n")
    (tmp_path.parent / "secret.mid").write_text("secret")
    (tmp_path / "link.mid").symlink_to("../secret.mid")
    (tmp_path / "linked").symlink_to("..")
    outside = ("../secret.mid", str(tmp_path.parent / "secret.mid"), "link.mid", "linked/secret.mid")
    for i, path in enumerate(outside):
        (tmp_path / f"leads_out_{i}.csv").write_text(f"path\nmusic/solos/a.mid\n{path}\n")
    if "metadata" in options:
        options = {"metadata": tmp_path / options["metadata"]}
    options["sources"] = [tmp_path / name for name in options.get("sources", [])]
    options["styles"] = [(name, tmp_path / folder) for name, folder in options.get("styles", [])]
    with pytest.raises(MgenError, match=says) as caught:
        scan(**options)
    assert "\n" not in str(caught.value) and "secret" not in str(caught.value)


def test_metadata_may_name_files_of_a_source_elsewhere(tmp_path):
    touch(tmp_path, "music/a.mid")
    (tmp_path / "tables").mkdir()
    table = tmp_path / "tables" / "metadata.csv"
    for path in ("../music/a.mid", str(tmp_path / "music" / "a.mid")):
        table.write_text(f"path,artist\n{path},Ann\n")
        assert [source.artist for source in scan([tmp_path / "music"], metadata=table).sources] == ["Ann"]


def test_style_words():
    name, folder = parse_style("jazz=music/a=b")
    assert (name, str(folder)) == ("jazz", os.path.join("music", "a=b"))
    for word in ("jazz", "=music", "jazz="):
        with pytest.raises(MgenError, match="expected NAME=SRC"):
            parse_style(word)
