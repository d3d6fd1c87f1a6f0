"""`mgen critic --transfer` from a corpus to its tables."""

from __future__ import annotations

import json

import pytest

from critics.validation.fitters import on_table
from mgen.cli import transfer as command
from mgen.cli.transfer import STAGES, transfer
from mgen.errors import MgenError
from mgen.music.metrics import pitch_range


@pytest.fixture
def cheap(monkeypatch):
    """A critic that hears a piece's range of pitches; the real ones take minutes."""
    fitters = {"cheap": lambda corpus: on_table(lambda notes: pitch_range(notes)[:, None])}
    monkeypatch.setattr(command, "FITTERS", fitters)
    monkeypatch.setattr(command, "STAGES", {name: STAGES[name] for name in ("raw", "heard, no rhythm")})


def test_a_corpus_to_a_matrix(small_corpus, tmp_path, capsys, cheap):
    code = transfer(
        str(small_corpus), str(tmp_path / "out"), notes=[48], critics=["cheap"], fewest=6, pieces=8, as_json=True
    )
    assert code == 0
    out = capsys.readouterr().out
    report = json.loads(out)
    assert report == json.loads((tmp_path / "out" / "transfer.json").read_text())
    found = report["lengths"]["48"]
    matrix = found["critics"]["cheap"]
    sides = [row["positive"] for row in found["rows"].values()]
    assert len(matrix["pairs"]) == sum(sides) * (len(sides) - sum(sides)) > 0
    assert 0 <= matrix["minimum"]["all"]["value"] <= matrix["mean"]["all"]["value"] <= 1
    assert set(found["format_control"]["pairs"][0]["auc"]) == set(command.STAGES)
    page = (tmp_path / "out" / "transfer.md").read_text()
    pair = matrix["pairs"][0]
    assert f"| {pair['other']} |" in page and f"{pair['auc']['value']:.3f}" in page


def test_a_table_for_people(small_corpus, capsys, cheap):
    options = {"notes": [48], "critics": ["cheap"], "fewest": 6, "pieces": 8, "control": False}
    assert transfer(str(small_corpus), **options) == 0
    assert "AUC on collections never heard" in capsys.readouterr().out


def test_wrong_words_are_said(small_corpus):
    with pytest.raises(MgenError, match="no critic is called 'mine'; expected some of naive"):
        transfer(str(small_corpus), critics=["mine"])
    with pytest.raises(MgenError, match="at least 16, came 3"):
        transfer(str(small_corpus), notes=[3])
