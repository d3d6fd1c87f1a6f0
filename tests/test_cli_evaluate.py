"""`mgen evaluate` on folders of files, and what it says to options that cannot be."""

from __future__ import annotations

import json
import re

import pytest
from evaluation_pieces import line, solo

from mgen.cli import evaluate
from mgen.cli.main import run
from mgen.errors import MgenError
from mgen.evaluation.measure import Measurements
from mgen.stats.intervals import Interval
from mgen.workflows.evaluate import evaluate_folders

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    root = tmp_path_factory.mktemp("music")
    for name, seed in (("real", 0), ("own", 50)):
        (root / name).mkdir()
        for i in range(10):
            solo(seed + i, 12).to_score(0).dump_midi(root / name / f"{name} solo {i}.mid")
    (root / "one").mkdir()
    line([60]).to_score(0).dump_midi(root / "one" / "one.mid")
    (root / "broken").mkdir()
    (root / "broken" / "x.mid").write_bytes(b"no music")
    return root


def test_two_folders_give_one_object_and_a_page(music, tmp_path, capsys):
    words = ["--midi", str(music / "own"), "--reference", str(music / "real"), "--out", str(tmp_path / "e"), "--json"]
    assert evaluate.main([*words, "--excerpt_notes", "48", "--workers", "1", "--sequence", "false"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result == json.loads((tmp_path / "e" / "metrics.json").read_text())
    names = "c2st_auc loop_rate rep4 rep8 interval_rep8 H1 H4 GS CPI SI swing triplet_share oa kld frechet vendi_ratio"
    for name in [*names.split(), "valid"]:
        assert {"value", "low", "high"} <= result[name].keys(), name
        assert name in result["real"], name
    passed_over = {"not_music": {}, "links": 0}
    assert result["midi"] == {"name": "own", "scanned": 10, "rejected": {}, "passed_over": passed_over}
    assert result["n"] >= 10
    page = (tmp_path / "e" / "report.html").read_text()
    assert "own" in page and "data:audio/ogg;base64," in page
    with pytest.raises(MgenError, match="not empty"):
        evaluate.main(words)


def test_without_out_nothing_is_written(music, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["--midi", str(music / "own"), "--reference", str(music / "real"), "--workers", "1"]
    assert evaluate.main([*words, "--excerpt_notes", "48", "--two_sample", "false"]) == 0
    out = capsys.readouterr().out
    assert "entropy H1" in out and "two-sample" not in out
    assert list(tmp_path.iterdir()) == []


def test_the_call_on_folders_prints_nothing(music, tmp_path, capsys):
    result = evaluate_folders(music / "own", music / "real", excerpt_notes=48, two_sample=False, workers=1)
    assert result.folder is None and result.facts["H1"]["value"] > 0 and result.measured.names == ("real", "own")
    assert capsys.readouterr().out == ""
    with pytest.raises(MgenError, match="no option 'excerpt_note'; did you mean 'excerpt_notes'"):
        evaluate_folders(music / "own", music / "real", excerpt_note=48)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "either --model NAME=FOLDER ... with --corpus, or --midi"),
        (["--midi", "a"], "expected --reference"),
        (["--model", "a"], "expected --corpus"),
        (
            ["--model", "a", "--corpus", "c", "--out", "o", "--n", "100", "--seeds", "5"],
            "at least 32 for each of seeds",
        ),
        (["--model", "a", "--corpus", "c", "--out", "o", "--prompt_types", "transfer"], "continuation among them"),
        (["--midi", "{music}/nowhere", "--reference", "{music}/real"], "no such file or folder"),
        (["--midi", "{music}/broken", "--reference", "{music}/real"], "none of 1 files could be read"),
        (["--midi", "{music}/one", "--reference", "{music}/real", "--excerpt_notes", "48"], "longest piece has 1 "),
        (["--midi", "{music}/own", "--reference", "{music}/real", "--recipe", "organ"], "expected one of piano"),
        (["--midi", "{music}/own", "--reference", "{music}/real", "--clamp", "{music}/one"], "CLaMP|expected"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(words, message, music, capsys):
    words = [word.replace("{music}", str(music)) for word in words]
    with pytest.raises(MgenError, match=message):
        evaluate.main(words)
    assert run(evaluate.main, words) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_the_terminal_has_a_row_for_each_system_within_its_width(columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    wide = Interval(0.631, 0.512, 0.744)
    keys = ("judge_jazz", "notes_until_told", "auc_by_notes_36", "valid", "loop_rate", "kl_piece", "rep4", "H1")
    rows = {name: Measurements(dict.fromkeys(keys, wide)) for name in ("pretrained", "tuned", "guidance_2")}
    rows = {"the prompts' own music": Measurements({"judge_jazz": wide}), **rows}
    table = evaluate._by_system("prompts: transfer", rows, "jazz")
    assert max(map(len, table.splitlines())) <= columns
    for word in ("judged", "recognised", "AUC", "whole", "loops", "KL,", "own", "guidance_2"):
        assert word in table
    assert "entropy" not in table and "grams" not in table
    if columns == 200:
        assert len(re.findall(r"0\.63 \[0\.51, 0\.74\]", table)) == 1 + 3 * 3  # 3 of the 6 numbers have other digits
