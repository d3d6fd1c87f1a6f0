from __future__ import annotations

import json

import pandas as pd
import pytest
from progress_counts import Counts

import mgen
from mgen.cli.main import run
from mgen.cli.prepare import main
from mgen.corpus.demo import write_demo_corpus
from mgen.corpus.shards import Corpus
from mgen.errors import MgenError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    folder = tmp_path_factory.mktemp("music")
    write_demo_corpus(folder, 4)
    (folder / "jazz" / "note.mid").write_text("no music")
    one = min((folder / "jazz").glob("*/*.mid"))
    data = one.read_bytes()
    one.write_bytes(data[:10] + b"\x00\x63" + data[12:])  # 99 tracks
    return folder


def test_styles_by_folder(music, tmp_path, capsys):
    words = ["--style", f"jazz={music}/jazz", "--style", f"other={music}/other", "--out", str(tmp_path / "c")]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "33 files scanned, 32 kept, 1 rejected" in out and "unknown format" in out
    assert any("track count" in line and line.count(" 1 ") == 2 for line in out.splitlines())
    corpus = Corpus.open(tmp_path / "c")
    assert corpus.manifest["repairs"] == {"track count": {"faults": 1, "files": 1}}
    assert corpus.pieces.groupby("style")["collection"].nunique().to_dict() == {"jazz": 4, "other": 4}
    assert main([*words, "--overwrite"]) == 0


def test_json_is_the_manifest_and_nothing_else(music, tmp_path, capsys):
    words = ["--metadata", str(music / "metadata.csv"), "--out", str(tmp_path / "c"), "--json", "--workers", "1"]
    assert main([*words, "--collections", "lead_sheets", "chorales"]) == 0
    manifest = json.loads(capsys.readouterr().out)
    assert manifest["kept"] == manifest["scanned"] == 8
    assert sorted(manifest["collections"]) == ["chorales", "lead_sheets"]
    assert manifest["options"]["collections"] == ["lead_sheets", "chorales"]


def test_a_config_gives_the_options(music, tmp_path):
    config = tmp_path / "prepare.yaml"
    config.write_text("recipe: band\non_grid_only: true\n")
    assert main([str(music), "--config", str(config), "--out", str(tmp_path / "c")]) == 0
    corpus = Corpus.open(tmp_path / "c")
    assert corpus.manifest["recipe"] == "band" and corpus.pieces["on_grid"].all()
    assert set(corpus.pieces["style"]) == {"other"}


def test_cut_left_out_lets_chunks_be_long(music, tmp_path):
    words = ["--recipe", "tabs", "--min_notes", "30", "--out", str(tmp_path / "c")]
    assert main([str(music), *words, "--skip", "cut", "--max_notes", "0"]) == 0
    assert Corpus.open(tmp_path / "c").manifest["rules"]["max_notes"] == 0


def test_names_of_files_are_no_markup(music, tmp_path, capsys):
    odd = tmp_path / "music [live] [" / "x"
    odd.mkdir(parents=True)
    for file in (music / "jazz" / "lead_sheets").glob("*.mid"):
        (odd / f"[{file.stem}].mid").write_bytes(file.read_bytes())
    assert main([str(odd), "--out", str(tmp_path / "out [bold]")]) == 0
    assert "out [bold]: 4 files scanned" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["{music}"], "expected --out"),
        (["{music}", "--out", "{out}", "--recipy", "band"], "did you mean 'recipe'"),
        (["{music}", "--out", "{out}", "--recipe", "guitar"], "expected one of piano, band"),
        (["{music}", "--out", "{out}", "--recipe", "tabs", "--skip", "rest"], "skip 'rest': expected one of offset"),
        (["{music}", "--out", "{out}", "--tab_events", "true"], "use --recipe tabs"),
        (["{music}", "--out", "{out}", "--near_duplicates", "hide"], "expected one of join, drop, ignore"),
        (["{music}", "--out", "{out}", "--split_by", "year"], "expected one of work, artist"),
        (["{music}", "--out", "{out}", "--engine", "dask"], "expected one of local, ray"),
        (["{music}", "--out", "{out}", "--instruments", "gitar"], "instruments:"),
        (["{music}", "--out", "{out}", "--min_notes", "9", "--max_notes", "8"], "must not be above max_notes (8)"),
        (["{music}", "--out", "{out}", "--max_notes", "8"], "min_notes (16) must not be above max_notes (8)"),
        (["{music}", "--out", "/"], "give a folder inside it"),
        (["{music}", "--out", "{out}", "--lowest_pitch", "5"], "must be between 21 and 108"),
        (["{music}", "--out", "{out}", "--chord_note", "middle"], "expected one of top, bottom"),
        (["{music}", "--out", "{out}", "--memory", "0"], "memory (0) must be above 0"),
        (["{music}", "--out", "{out}", "--workers", "-1"], "must be between 0 and 1024"),
        (["{music}", "--out", "{out}", "--timeout", "0"], "must be above 0"),
        (["--out", "{out}"], "no source given"),
        (["{music}/none", "--out", "{out}"], "no such file or folder"),
        (["--style", "{music}", "--out", "{out}"], "expected NAME=SRC"),
        (["{music}", "--style", "jazz={out}", "--out", "{out}"], "no such file or folder"),
        (["--style", "not_jazz={music}", "--out", "{out}"], "small letters only"),
        (
            ["{music}/jazz/lead_sheets", "--style", "folk={music}/jazz/note.mid", "--out", "{out}"],
            "style folk has 0 works",
        ),
        (["{music}", "--out", "{music}"], "holds something other than a corpus"),
        (["{music}", "--out", "/proc/none/corpus"], "/proc/none/corpus"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(music, tmp_path, capsys, words, says):
    out = tmp_path / "c"
    assert run(main, [word.format(music=music, out=out) for word in words]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("mgen: ") and says in line
    refused = "works" in says  # then what was read is kept, and why
    assert {path.name for path in tmp_path.iterdir()} == ({".c.part", "c"} if refused else set())
    assert not refused or [path.name for path in out.iterdir()] == ["rejected.csv"]


def test_a_refusal_says_why_files_were_rejected_and_where_to_read_more(music, tmp_path, capsys):
    """All music of one style is rejected: the line counts the reasons, and the next run can use the folder."""
    bad, out = tmp_path / "bad", tmp_path / "c"
    bad.mkdir()
    for i in range(5):
        (bad / f"{i}.mid").write_bytes(b"MThd" if i else b"MTrk")
    (bad / "cover.jpg").touch()
    jazz = ["--style", f"jazz={music}/jazz", "--out", str(out), "--workers", "1"]
    assert run(main, [*jazz, "--style", f"folk={bad}"]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.endswith(f"6 files were rejected (broken 4, unknown format 2), see {out / 'rejected.csv'}")
    assert "style folk has 0 works" in line and len(pd.read_csv(out / "rejected.csv")) == 6
    assert main(jazz) == 0 and Corpus.open(out).manifest["kept"] == 16
    assert run(main, [*jazz, "--style", f"folk={bad}", "--overwrite"]) == 2
    place = capsys.readouterr().err.strip().splitlines()[-1].split(", see ")[1]
    assert len(pd.read_csv(place)) == 6 and len(pd.read_csv(out / "rejected.csv")) == 1  # the corpus is as it was
    assert main([*jazz, "--overwrite"]) == 0 and not (tmp_path / ".c.part").exists()


def test_files_that_are_not_music_are_counted_in_one_line(music, tmp_path, capsys):
    folder = tmp_path / "music"
    folder.mkdir()
    for i, file in enumerate((music / "other").rglob("*.mid")):
        (folder / f"song {i}").write_bytes(file.read_bytes())
    for name in ("a.jpg", "b.JPG", "README.txt"):
        (folder / name).touch()
    assert main([str(folder), "--out", str(tmp_path / "c"), "--workers", "1"]) == 0
    out = capsys.readouterr().out
    assert "16 files scanned, 16 kept" in out and "3 files are not music: 2 .jpg, 1 .txt" in out


def test_the_library_call_prints_nothing_and_returns_the_corpus(music, tmp_path, capsys):
    progress = Counts()
    styles = {"jazz": music / "jazz", "other": str(music / "other")}
    result = mgen.prepare([], tmp_path / "c", styles=styles, progress=progress, workers=1)
    assert (result.scanned, result.kept, result.rejected) == (33, 32, {"unknown format": 1})
    assert result.corpus.manifest == Corpus.open(tmp_path / "c").manifest
    assert progress.counts[0] == ("files", 0, 33, "")
    assert progress.counts[-1] == ("files", 33, 33, "1 without a piece")
    assert capsys.readouterr() == ("", "")


def test_the_library_call_names_the_nearest_option(music, tmp_path):
    with pytest.raises(MgenError, match=r"no option 'recipy'; did you mean 'recipe'\?"):
        mgen.prepare([music], tmp_path / "c", recipy="band")
    with pytest.raises(MgenError, match=r"workers \(-1\) must be between 0 and 1024"):
        mgen.prepare([music], tmp_path / "c", workers=-1)
