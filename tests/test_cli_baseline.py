"""The command `mgen baseline`: its kinds, and one line for each mistake."""

from __future__ import annotations

import json

import pytest
from tab_corpus import learnable, walk, write_tabs
from typer.testing import CliRunner

from mgen.cli import baseline
from mgen.cli.main import app, run

TINY = ["--report_to", "none", "--use_cpu", "true", "--window", "10", "--max_steps", "2", "--width", "8"]
TABS = "configs/prepare/tabs.yaml"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return learnable(tmp_path_factory.mktemp("tabs") / "corpus")


def test_a_run_prints_its_table_and_the_same_again_does_nothing(corpus, tmp_path, capsys):
    words = ["tabs", "--corpus", str(corpus), "--out", str(tmp_path / "run"), *TINY]
    assert run(baseline.main, words) == 0
    first = capsys.readouterr().out
    assert first.startswith("| target | system |") and "finished: 2 steps" in first
    assert run(baseline.main, words) == 0
    assert "was finished before: 2 steps" in capsys.readouterr().out
    assert run(baseline.main, [*words, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["command"] == "baseline tabs" and "note/balanced_accuracy" in facts["metrics"]


def test_the_recipe_is_valid(corpus, tmp_path):
    from mgen.cli.recipe import CONFIGS

    recipe = str(CONFIGS / "baselines" / "tabs_laptop.yaml")
    words = ["tabs", "--config", recipe, "--corpus", str(corpus), "--out", str(tmp_path / "run"), *TINY]
    assert run(baseline.main, [*words, "--per_device_train_batch_size", "64"]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "mgen baseline: expected a kind first, one of {kinds}; found none"),
        (["tab"], "mgen baseline: expected a kind first, one of {kinds}; found 'tab'"),
        (["--corpus", "c"], "mgen baseline: expected a kind first, one of {kinds}; found '--corpus'"),
        (["tabs", "--out", "o"], "mgen baseline tabs: expected --corpus, got none"),
        (
            ["tabs", "--corpus", "c", "--out", "o", "--windows", "3"],
            "mgen baseline tabs: TabsConfig has no option 'windows'; did you mean 'window'?",
        ),
        (["tabs", "--window", "9"], "mgen baseline tabs: window (9) must be between 10 and 100"),
        (["tabs", "--targets", "key"], "targets 'key': expected one of note, pitch, duration, dotted"),
        (["tabs", "--corpus", "c", "--out", "o", "--loss", "mse"], "loss mse predicts a duration alone"),
        (["tabs", "--corpus", "c", "--out", "o", "--chunk_notes", "5"], "chunk_notes (5): expected two numbers"),
        (["tabs", "--corpus", "c", "--out", "o", "--chunk_notes", "9", "5"], "chunk_notes (9 5): expected two numbers"),
        (
            ["tabs", "--corpus", "{tmp}/none", "--out", "{tmp}/o"],
            f"has no tab_events/train.parquet; mgen prepare --config {TABS}",
        ),
        (["tabs", "--corpus", "{corpus}", "--out", "{tmp}/o", "--window", "90"], "window 90 needs chunks of 91 events"),
        (
            ["tabs", "--corpus", "{short}", "--out", "{tmp}/o"],
            "the longest of 1 chunks has 8; add longer melodic tracks",
        ),
        (["tabs", "--corpus", "{empty}", "--out", "{tmp}/o"], "there is no chunk; add longer melodic tracks"),
        (["tabs", "--corpus", "{corpus}", "--out", "{tmp}/o", "--instrument", "Guitr"], "did you mean 'Guitar'?"),
        (["tabs", "--corpus", "{corpus}", "--out", "{tmp}/o", "--instrument", "Kazoo"], "it has Bass, Guitar"),
        (
            ["tabs", "--corpus", "{corpus}", "--out", "{tmp}/o", "--chunk_notes", "61", "99"],
            "no chunk of 61 to 99 events",
        ),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(corpus, tmp_path, capsys, words, message):
    places = {"tmp": tmp_path, "corpus": corpus, "kinds": ", ".join(baseline.KINDS)}
    places["short"] = write_tabs(tmp_path / "short", train=[("a", "x", walk(0, 8))])
    places["empty"] = write_tabs(tmp_path / "empty", train=[])
    assert run(baseline.main, [word.format(**places) for word in words]) == 2
    error = capsys.readouterr().err
    assert (
        error.count("\n") == 1 and error.startswith("mgen: ") and message.replace("{kinds}", places["kinds"]) in error
    )
    assert not (tmp_path / "o").exists()


def test_help_of_the_command_and_of_a_kind():
    for words in (["baseline", "--help"], ["baseline", "tabs", "--help"]):
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0
        assert done.output.startswith(f"usage: mgen {' '.join(words[:-1])} [--config FILE.yaml]")
        assert "example: mgen baseline tabs --config configs/baselines/tabs_laptop.yaml" in done.output
    assert "--confidence_penalty" in done.output


def test_the_search_reads_what_a_run_writes(corpus, tmp_path):
    """`mgen tune` over the baseline: trials end, are compared by a metric, and are pruned by one that is logged."""
    from mgen.cli import tune

    search = tmp_path / "search.yaml"
    recipe = "{max_steps: 4, report_to: [none], use_cpu: true, window: 10, width: 8, per_device_train_batch_size: 64}"
    search.write_text(
        "command: baseline tabs\nmetric: balanced_accuracy\ndirection: maximize\npruner: median\n"
        f"pruned_by: eval_balanced_accuracy\nrecipe: {recipe}\nspace: {{model: [last_note, feed_forward]}}\n"
    )
    words = ["--config", str(search), "--corpus", str(corpus), "--out", str(tmp_path / "out"), "--trials", "2"]
    assert run(tune.main, words) == 0
    study = json.loads((tmp_path / "out" / "study.json").read_text())
    assert len(study["trials"]) == 2 and study["failed"] == {}
