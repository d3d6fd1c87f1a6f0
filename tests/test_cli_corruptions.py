"""Every metric and reward must detect corrupted music: a table of the corruptions that each must detect."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest

from mgen.cli.corruptions import main
from mgen.corpus.clean import normalise
from mgen.corpus.demo import COLLECTIONS, compose
from mgen.encoding.remi import Remi
from mgen.errors import MgenError
from mgen.evaluation.corruption_table import CorruptionTable, corruption_table
from mgen.music.metrics import METRICS
from mgen.notes import Notes
from mgen.workflows.corruptions import CORRUPTION_ROWS, FORMAT_ROWS, CorruptionsConfig, build_measures
from rewards import REWARDS
from rewards.bands import MEASURES

pytestmark = pytest.mark.slow

REAL_MUSIC = os.environ.get("MGEN_REAL_MUSIC", "")

STRUCTURE = "segments_shuffled- bars_shuffled- bars_of_others- markov_pitches- random_pitches- two_bar_loop+"
REPEATS = "bars_shuffled- markov_pitches- random_pitches- two_bar_loop+ one_pitch+"
UNLIKE = "bars_of_others- markov_pitches- random_pitches-"
# Corruptions that each metric and reward must detect, and whether its value rises or falls. Those that detect only the
# extra corruptions are listed too.
EXPECTED = {
    "valid": "misspelt-",
    "broken_tokens": "misspelt+",
    "loop_rate": "two_bar_loop+ one_pitch+",
    "rep4": f"{REPEATS} segments_shuffled- bars_of_others-",
    "rep8": REPEATS,
    "interval_rep8": REPEATS,
    "rep_interval4": f"{REPEATS} segments_shuffled- bars_of_others-",
    "longest_loop": "random_pitches- two_bar_loop+ one_pitch+",
    "longest_run": "markov_pitches+ random_pitches+ one_pitch+",
    "same_pitch": "markov_pitches+ random_pitches+ one_pitch+",
    "compression": "bars_shuffled+ bars_of_others+ markov_pitches+ random_pitches+ two_bar_loop- one_pitch-",
    "H1": "markov_pitches+ random_pitches+ one_pitch-",
    "H4": "bars_of_others+ markov_pitches+ random_pitches+ two_bar_loop- one_pitch-",
    "GS": "two_bar_loop+",
    "CPI": "bars_shuffled+ bars_of_others+ markov_pitches+ random_pitches+ two_bar_loop-",
    "SI": STRUCTURE,
    "SI_short": STRUCTURE,
    "SI_mid": STRUCTURE,
    "SI_long": STRUCTURE,
    "swing": "straight_eighths-",
    "triplet_share": "straight_eighths-",
    "scale_consistency": "bars_of_others- markov_pitches- random_pitches- two_bar_loop+ one_pitch+",
    "polyphony": "thinned-",
    "density": "thinned-",
    "pitch_range": "bars_of_others+ markov_pitches+ two_bar_loop- one_pitch-",
    "empty_beats": "thinned+",
    "repeated_bars": "two_bar_loop+ one_pitch+",
    "mean_interval": "one_pitch-",
    "reward grammar": "misspelt-",
    "reward repetition_pitch": f"{UNLIKE} two_bar_loop- one_pitch-",
    "reward repetition_interval": f"{UNLIKE} two_bar_loop- one_pitch-",
    "reward repetition_rhythm": "segments_shuffled- bars_shuffled- bars_of_others- two_bar_loop- thinned-",
    "reward loops": "two_bar_loop- one_pitch-",
    "reward longest_run": "random_pitches- one_pitch-",
    "reward phrase_reuse": "markov_pitches- random_pitches- two_bar_loop- one_pitch- thinned-",
    "reward chord_tones": "markov_pitches- random_pitches- two_bar_loop- one_pitch-",
    "reward scale_fit": f"{UNLIKE} two_bar_loop- one_pitch-",
    "reward pitch_entropy": f"{UNLIKE} two_bar_loop- one_pitch-",
    "reward voice_leading": f"{UNLIKE} segments_shuffled- bars_shuffled- one_pitch- thinned-",
    "reward bar_lines": f"{UNLIKE} segments_shuffled- bars_shuffled- one_pitch- thinned-",
    "reward swing": "straight_eighths- two_bar_loop-",
    "reward syncopation": "thinned-",
    "reward groove": "two_bar_loop- thinned-",
    "reward rests": "segments_shuffled- bars_shuffled- thinned-",
    "reward onset_variety": "straight_eighths- two_bar_loop- thinned-",
    "reward structure_short": f"{UNLIKE} two_bar_loop- one_pitch-",
    "reward structure_mid": f"{UNLIKE} two_bar_loop- one_pitch-",
    "reward structure_long": f"{UNLIKE} two_bar_loop- one_pitch-",
    "reward length": "two_bar_loop- thinned-",
    "reward ending": "segments_shuffled- bars_shuffled- bars_of_others- two_bar_loop-",
}


@pytest.fixture(scope="module")
def table() -> CorruptionTable:
    remi = Remi.build(("jazz", "other"))
    names = [name for name, collection in COLLECTIONS.items() if collection.style == "jazz"]
    ids = [remi.encode(normalise(compose(name, i), "piano"))[0] for name in names for i in range(10)]
    notes = Notes.from_ids(ids, remi)
    columns = build_measures(CorruptionsConfig(corpus="demo"), notes)
    return corruption_table(notes, np.arange(notes.n_pieces), columns, {**CORRUPTION_ROWS, **FORMAT_ROWS})


@pytest.mark.parametrize("name", [*METRICS, *(f"reward {name}" for name in REWARDS)])
def test_each_metric_and_reward_detects_what_it_must(name, table):
    assert name in EXPECTED, f"add to EXPECTED the corruptions that '{name}' detects, and the direction"
    signs = table.detected(name)
    wrong = {
        row: signs.get(row, "=") for word in EXPECTED[name].split() for row in [word[:-1]] if signs.get(row) != word[-1]
    }
    assert wrong == {}, "expected " + EXPECTED[name]
    assert EXPECTED[name], "a column that detects nothing measures nothing"


@pytest.mark.parametrize("name", [*METRICS, *(f"reward {name}" for name in REWARDS)])
def test_no_metric_or_reward_depends_on_velocity_or_key(name, table):
    for row in ("flat_velocities", "tritone_away"):
        cell = table.cells[name][row]
        assert cell.change.value == 0 or np.isnan(cell.change.value), row


def test_the_rows_are_corruptions_and_format_changes(table):
    assert set(table.rows) == {*CORRUPTION_ROWS, *FORMAT_ROWS}
    assert {row for words in EXPECTED.values() for word in words.split() for row in [word[:-1]]} == set(CORRUPTION_ROWS)


# ------------------------------------------------------------- the command


def test_a_corpus(small_corpus, tmp_path, capsys):
    out = tmp_path / "table"
    words = ["--corpus", str(small_corpus), "--split", "train", "--n", "24", "--excerpt_tokens", "256"]
    assert main([*words, "--sets", "false", "--out", str(out), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((out / "corruptions.json").read_text())
    assert printed["n"] == 24 and printed["works"] > 4
    assert set(printed["rows"]) == {"real", *CORRUPTION_ROWS, *FORMAT_ROWS}
    bound = {name for name, measure in MEASURES.items() if measure.beat_bound}
    available = REWARDS.keys() - bound  # a quarter of the jazz is off the beat grid
    assert set(printed["rows"]["real"]) == {*METRICS, *(f"reward {name}" for name in available)}
    assert "two_bar_loop" in printed["detected"]["rep4"] and "flat_velocities" in printed["undetected"]["rep4"]
    lines = list(csv.DictReader((out / "corruptions.csv").open()))
    assert len(lines) == len(printed["rows"]) * len(printed["rows"]["real"])
    with pytest.raises(MgenError, match="not empty"):
        main([*words, "--out", str(out)])


def test_a_folder_with_sets_and_one_reward(tmp_path, capsys):
    for i in range(24):
        compose("lead_sheets", i).dump_midi(tmp_path / f"tune_{i}.mid")
    assert main(["--midi", str(tmp_path), "--solo", "true", "--excerpt_notes", "40", "--rewards", "longest_run"]) == 0
    message = capsys.readouterr().out
    assert "reward longest_run" in message and "reward grammar" not in message
    assert "not detected" in message and "--out FOLDER writes all numbers" in message
    assert "excerpts of 40 notes" in message


def test_a_critic_is_a_column(small_corpus, tmp_path, capsys):
    from critics_music import MEDIANS

    from critics.sequence import SequenceCritic
    from critics.style import StyleCritic
    from critics.style.critic import TokenModel
    from mgen.corpus.shards import Corpus
    from mgen.stats.calibration import Calibration

    remi = Corpus.open(small_corpus).remi
    model = TokenModel(SequenceCritic.new(remi, max_tokens=64), Calibration(), MEDIANS)
    StyleCritic(model, "jazz").save_pretrained(tmp_path / "critic")
    words = ["--corpus", str(small_corpus), "--split", "train", "--n", "8", "--excerpt_tokens", "128"]
    assert main([*words, "--sets", "false", "--critic", str(tmp_path / "critic"), "--json"]) == 0
    real = json.loads(capsys.readouterr().out)["rows"]["real"]["critic jazz"]
    assert real["value"] < 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "expected either --corpus or --midi"),
        (["--corpus", "a", "--midi", "b"], "expected either --corpus or --midi"),
        (["--corpus", "a", "--rewards", "swings"], "rewards 'swings': expected one of grammar"),
        (["--corpus", "a", "--n", "1"], r"n \(1\) must be at least 2"),
        (["--corpus", "nowhere"], "expected a corpus"),
        (["--midi", "nowhere"], "nowhere"),
    ],
)
def test_mistakes_are_one_line(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MgenError, match=message) as raised:
        main(words)
    assert "\n" not in str(raised.value)


# ------------------------------------------------------------- real music

# Means of 420 solos of the Weimar Jazz Database, from whose makers' files these are; 355 of them are at hand.
WEIMAR = {
    "real": {"H1": 1.945, "H4": 2.889, "GS": 0.826, "rep4": 0.144, "rep8": 0.025, "compression": 0.612},
    "bars_shuffled": {"H1": 1.945, "H4": 2.937, "GS": 0.826, "rep4": 0.090, "rep8": 0.006, "compression": 0.634},
    "bars_of_others": {"H1": 1.929, "H4": 3.065, "GS": 0.830, "rep4": 0.024, "rep8": 0.002, "compression": 0.714},
    "markov_pitches": {"H1": 2.054, "H4": 3.100, "GS": 0.826, "rep4": 0.012, "rep8": 0.000, "compression": 0.715},
    "random_pitches": {"H1": 2.048, "H4": 3.109, "GS": 0.826, "rep4": 0.001, "rep8": 0.000, "compression": 0.730},
    "two_bar_loop": {"GS": 0.916, "rep4": 0.959, "rep8": 0.957, "compression": 0.087},
    "one_pitch": {"H1": 0.0, "H4": 0.0, "GS": 0.826, "rep4": 0.996, "rep8": 0.996, "compression": 0.045},
}


@pytest.mark.skipif(not REAL_MUSIC, reason="MGEN_REAL_MUSIC names no folder of MIDI files")
def test_real_solos_give_the_first_table(capsys):
    folders = [path for path in (Path(REAL_MUSIC), *Path(REAL_MUSIC).rglob("wjazzd")) if path.name == "wjazzd"]
    if not folders:
        pytest.skip("MGEN_REAL_MUSIC has no folder wjazzd")
    words = ["--midi", str(folders[0]), "--solo", "true", "--excerpt_notes", "0", "--n", "1000", "--sets", "false"]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["rows"]
    for row, numbers in WEIMAR.items():
        for name, expected in numbers.items():
            assert found[row][name]["value"] == pytest.approx(expected, rel=0.05, abs=0.01), (row, name)
