from __future__ import annotations

import json

import pytest

from mgen.cli.selfcheck import main
from mgen.errors import MgenError
from mgen.workflows.selfcheck import FILE

pytestmark = pytest.mark.slow

FEW = ["--n", "16", "--splits", "2", "--sequence_splits", "1"]


def test_the_table_is_written_and_says_what_could_not_be_judged(small_corpus, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "70")
    out = tmp_path / "out"
    assert main(["--corpus", str(small_corpus), *FEW, "--out", str(out)]) == 0
    summary = capsys.readouterr().out
    assert max(len(line) for line in summary.splitlines() if "│" in line) <= 70
    assert "bars_shuffled" in summary and "not all could be judged" in summary
    found = json.loads((out / FILE).read_text())
    assert set(found["checks"]) == {"bars_shuffled", "segments_shuffled", "markov_pitches"}
    assert found["n"] == 16 and found["met"] is None
    for cell in found["checks"].values():
        assert cell["c2st_auc"]["value"] == max(cell["feature"]["value"], cell["sequence"]["value"])
    with pytest.raises(MgenError, match="not empty"):
        main(["--corpus", str(small_corpus), "--out", str(out)])


def test_json_is_one_object_and_the_same_again(small_corpus, capsys):
    few = ["--n", "8", "--splits", "1", "--sequence_splits", "0", "--json"]
    found = []
    for _ in range(2):
        assert main(["--corpus", str(small_corpus), *few]) == 0
        found.append(json.loads(capsys.readouterr().out))
        del found[-1]["seconds"]
    assert found[0] == found[1]
    assert found[0]["real_against_real"]["sequence"]["include_half"] is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "expected --corpus"),
        (["--corpus", "nowhere"], "expected a corpus"),
        (["--corpus", "C", "--style", "polka"], "style 'polka': the corpus has"),
        (["--corpus", "C", "--collections", "nobody"], "has no jazz of nobody"),
        (["--corpus", "C", "--n", "2000"], "between 8 and 512"),
        (["--corpus", "C", "--n", "1"], "between 8 and 512"),
        (["--corpus", "C", "--split", "3"], "no option 'split'; did you mean 'splits'"),
    ],
)
def test_mistakes_are_one_line(words, message, small_corpus):
    with pytest.raises(MgenError, match=message):
        main([str(small_corpus) if word == "C" else word for word in words])
