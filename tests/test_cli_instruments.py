from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from instrument_scores import score_of
from midi_bytes import midi_file, note, program, tempo, track

from mgen.cli.instruments import main
from mgen.cli.main import run


def write(path, *tracks):
    score_of(*tracks).dump_midi(path)


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    folder = tmp_path_factory.mktemp("music")
    (folder / "deep").mkdir()
    write(folder / "band.mid", (33, False, "low", 2), (0, True, "kit", 3), (25, False, "high", 4))
    write(folder / "solo.mid", (40, False, "", 1), (40, False, "", 1))
    write(folder / "deep" / "beat.mid", (0, True, "kit", 5))
    (folder / "torn.mid").write_bytes(b"MThd")
    (folder / "notes.txt").write_text("not looked at")
    (folder / "empty").mkdir()
    return folder


def test_one_line_a_file(music, capsys):
    assert main([str(music)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{music}/band.mid: 3 instruments: Acoustic Guitar (steel) 4, Electric Bass (finger) 2, Drums 3",
        f"{music}/deep/beat.mid: percussion only (5 notes)",
        f"{music}/solo.mid: one instrument: Violin 2",
        f"{music}/torn.mid: broken: ends inside the header, after 4 bytes",
    ]


def test_what_is_not_music_is_counted(music, capsys):
    assert main([str(music)]) == 0
    assert capsys.readouterr().err == "1 file is not music: 1 .txt\n"


def test_neither_a_tempo_nor_a_long_note_matters(tmp_path, capsys):
    body = track(tempo(0), program(40), note(0, 10_000_000), note(240))
    (tmp_path / "odd.mid").write_bytes(midi_file(body))
    assert main([str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/odd.mid: one instrument: Violin 2\n"


def test_files_and_folders_in_one_go(music, capsys):
    """A file is read once and whatever its name; one that is not there has its line."""
    assert main([str(music / "solo.mid"), str(music / "none.mid"), str(music / "notes.txt"), str(music)]) == 0
    lines = [line.removeprefix(f"{music}/") for line in capsys.readouterr().out.splitlines()]
    assert [line.split(":")[0] for line in lines] == [
        "band.mid",
        "deep/beat.mid",
        "notes.txt",
        "solo.mid",
        "torn.mid",
        "none.mid",
    ]
    assert lines[-1] == "none.mid: missing: no such file" and lines[2].startswith("notes.txt: unknown format")


def test_json_is_one_object_and_nothing_else(music, capsys):
    assert main([str(music), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["read"], report["unread"], report["several"]) == (3, 1, 1)
    band, beat, solo, torn = report["files"]
    assert band == {
        "path": f"{music}/band.mid",
        "instruments": [
            {"program": 25, "name": "Acoustic Guitar (steel)", "family": "Guitar", "tracks": ["high"], "n_notes": 4},
            {"program": 33, "name": "Electric Bass (finger)", "family": "Bass", "tracks": ["low"], "n_notes": 2},
            {"program": -1, "name": "Drums", "family": "Drums", "tracks": ["kit"], "n_notes": 3},
        ],
        "several": True,
        "percussion_only": False,
        "reason": "",
        "detail": "",
    }
    assert beat["percussion_only"] and not beat["several"] and beat["reason"] == ""
    assert not solo["several"] and not solo["percussion_only"]
    assert torn["reason"] == "broken" and torn["instruments"] == []


def test_two_are_several(tmp_path, capsys):
    write(tmp_path / "duo.mid", (0, False, "", 1), (0, True, "", 1))
    assert main([str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"][0]["several"]


def test_percussion_alone_was_read(music, capsys):
    assert main([str(music / "deep")]) == 0
    assert "percussion only" in capsys.readouterr().out


def test_a_table_and_an_exit_code_answer_for_a_folder(music, capsys):
    assert run(main, [str(music), "--table"]) == 1
    rows = []
    for line in capsys.readouterr().out.splitlines():
        cells = [cell.strip() for cell in line.split("│")[1:-1]]
        if cells and not cells[0]:  # the rest of a long cell
            rows[-1] = [f"{before} {after}".strip() for before, after in zip(rows[-1], cells, strict=True)]
        elif cells:
            rows.append(cells)
    assert rows == [
        ["one instrument", "1", "Violin 1"],
        ["several", "1", "Acoustic Guitar (steel) + Drums + Electric Bass (finger) 1"],
        ["percussion only", "1", ""],
        ["not read", "1", "broken 1"],
    ]
    assert run(main, [str(music / "solo.mid"), str(music / "deep"), "--table"]) == 0
    assert run(main, [str(music), "--table", "--json"]) == 1
    assert run(main, [str(music / "torn.mid"), "--table"]) == 2
    assert "the table has the reasons" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says", "lines"),
    [
        (["{music}/torn.mid"], "no file could be read", 1),
        (["{music}/none.mid", "{music}/torn.mid"], "no file could be read", 2),
        (["{music}/torn.mid", "--json"], "no file could be read", 1),
        (["{music}/empty"], "no music to read", 0),
        ([], "FILE", 0),
        (["{music}", "--jso"], "did you mean 'json'?", 0),
    ],
)
def test_nothing_read_is_one_line_and_exit_code_2(music, capsys, words, says, lines):
    assert run(main, [word.format(music=music) for word in words]) == 2
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == lines
    (line,) = captured.err.strip().splitlines()
    assert line.startswith("mgen: ") and says in line


def test_a_name_that_is_no_text_can_be_printed(music, capfdbinary):
    file = os.path.join(os.fsencode(music), b"caf\xe9.mid")
    with open(file, "wb") as out:
        out.write((music / "solo.mid").read_bytes())
    try:
        assert main([os.fsdecode(file), os.fsdecode(file + b"2")]) == 0
    finally:
        os.remove(file)
    lines = capfdbinary.readouterr().out.splitlines()
    assert lines[0].endswith(b"caf\\xe9.mid: one instrument: Violin 2")
    assert lines[1].endswith(b"caf\\xe9.mid2: missing: no such file")


@pytest.mark.slow
def test_the_script_is_the_command(music):
    script = Path(__file__).parents[1] / "scripts" / "instruments.py"
    done = subprocess.run([sys.executable, script, music / "solo.mid"], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout == f"{music}/solo.mid: one instrument: Violin 2\n"
