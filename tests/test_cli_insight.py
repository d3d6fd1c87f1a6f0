from __future__ import annotations

import json
import shutil

import pytest

from mgen.cli.insight import main
from mgen.cli.main import run

pytestmark = pytest.mark.slow


@pytest.mark.slow
def test_the_page_is_written_into_the_corpus(small_corpus, tmp_path, capsys):
    corpus = tmp_path / "corpus"
    shutil.copytree(small_corpus, corpus)
    assert main([str(corpus), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)  # and nothing else
    page = (corpus / "insight.html").read_text(encoding="utf-8")
    assert "Shortcuts to the style" in page and "blues_piano" in page and "pop_takes" in page
    assert not list(corpus.glob(".*insight*"))  # nothing half-written
    swing = {row["collection"]: row["swing"] for row in report["collections"]}
    assert swing["combo_charts"] == 2.0 and swing["chorales"] == 1.0  # as it is composed
    assert swing["club_takes"] is None  # performed, off the grid
    phase = next(one for one in report["note_shortcuts"] if one["key"] == "phase")
    assert phase["works"]["accuracy"] > 0.8


@pytest.mark.slow
def test_a_sample_and_another_place(small_corpus, tmp_path, capsys):
    page = tmp_path / "page.html"
    assert main([str(small_corpus), "--out", str(page), "--sample", "8", "--seed", "3"]) == 0
    out = capsys.readouterr().out
    assert "96 pieces of" in out and f"{page}: written" in out
    assert "8 of 48 pieces of jazz" in page.read_text(encoding="utf-8")
    assert "sampled with seed 3" in page.read_text(encoding="utf-8")
    assert not (small_corpus / "insight.html").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["{tmp}"], "expected a corpus, found no corpus.json"),
        (["{tmp}/none"], "expected a corpus, found no corpus.json"),
        ([], "the following arguments are required: DIR"),
        (["{corpus}", "--sample", "0"], "sample (0) must be at least 1"),
        (["{corpus}", "--seed", "-1"], "seed (-1) must be between 0 and"),
        (["{corpus}", "--smaple", "9"], "did you mean 'sample'"),
        (["--corpus", "{corpus}"], "mgen insight: DIR is given without --corpus, as in: mgen insight runs/"),
        (["{corpus}", "--out", "{tmp}"], "is a folder"),
        (["{corpus}", "--out", "{tmp}/none/page.html"], "there is no folder"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(small_corpus, tmp_path, capsys, words, says):
    assert run(main, [word.format(corpus=small_corpus, tmp=tmp_path) for word in words]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("mgen: ") and says in line
    assert list(tmp_path.iterdir()) == []
