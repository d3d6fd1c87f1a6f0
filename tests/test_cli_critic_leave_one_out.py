"""`mgen critic --leave_one_collection_out true` from a corpus to its tables."""

from __future__ import annotations

import json

import pytest
from progress_counts import Counts

from critics.validation import report
from critics.validation.fitters import on_table
from mgen.cli import critic as command
from mgen.errors import MgenError
from mgen.music.metrics import pitch_range
from mgen.workflows import critic as workflow

pytestmark = pytest.mark.slow

OPTIONS = {"notes": [48], "critics": ["cheap"], "min_pieces": 6, "pieces": 8, "each": 1}


@pytest.fixture
def cheap(monkeypatch):
    """A critic of a piece's range of pitches; the real ones take minutes."""
    fitters = {"cheap": lambda remi: on_table(lambda notes: pitch_range(notes)[:, None])}
    for module in (report, workflow):
        monkeypatch.setattr(module, "FITTERS", fitters)
    stages = {name: report.STAGES[name] for name in ("files", "format-invariant, no rhythm")}
    monkeypatch.setattr(report, "STAGES", stages)


def test_a_corpus_to_a_matrix(small_corpus, tmp_path, cheap):
    progress = Counts()
    result = workflow.leave_one_collection_out(small_corpus, tmp_path / "out", progress=progress, **OPTIONS)
    facts = result.to_json()
    assert facts == json.loads((tmp_path / "out" / "leave_one_collection_out.json").read_text())
    assert facts["positive"] == "jazz"  # the corpus has one style and other
    found = facts["lengths"]["48"]
    matrix = found["critics"]["cheap"]
    sides = [part["positive"] for part in found["parts"].values()]
    assert len(matrix["pairs"]) == sum(sides) * (len(sides) - sum(sides)) > 0
    assert 0 <= matrix["minimum"]["all"]["value"] <= matrix["mean"]["all"]["value"] <= 1
    assert set(found["shortcut_baseline"]["pairs"][0]["auc"]) == set(report.STAGES)
    page = (tmp_path / "out" / "leave_one_collection_out.md").read_text()
    pair = matrix["pairs"][0]
    assert f"| {pair['other']} |" in page and f"{pair['auc']['value']:.3f}" in page
    total = len(matrix["pairs"])
    assert ("pairs of collections, 48 notes, cheap", total, total, "") in progress.counts


def test_the_command_prints_a_summary(small_corpus, capsys, cheap, monkeypatch):
    monkeypatch.setattr(command, "leave_one_collection_out", lambda corpus, out, **options: _short(corpus, options))
    words = ["--leave_one_collection_out", "true", "--corpus", str(small_corpus), "--critics", "cheap"]
    words += ["--shortcut_baseline", "false"]
    assert command.main(words) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("# Leave-one-collection-out: AUC of jazz") and "## cheap, 48 notes" in printed
    assert command.main([*words, "--json", "true"]) == 0
    assert list(json.loads(capsys.readouterr().out)["lengths"]) == ["48"]


def _short(corpus, options):
    return workflow.leave_one_collection_out(corpus, **(options | OPTIONS))


def test_wrong_options_are_errors(small_corpus):
    with pytest.raises(MgenError, match="critics 'mine': expected some of naive"):
        workflow.leave_one_collection_out(small_corpus, critics=["mine"])
    with pytest.raises(MgenError, match=r"notes \(3\) must be at least 16"):
        workflow.leave_one_collection_out(small_corpus, notes=[3])
