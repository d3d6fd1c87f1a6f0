"""`mgen baseline drum-bass` from a corpus to its results and to MIDI files."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from band_corpus import band, prepare_songs, songs
from safetensors.torch import load_file
from symusic import core
from transformers import TrainerCallback

from mgen.cli import baseline
from mgen.cli.main import run
from mgen.corpus.shards import Corpus
from mgen.encoding.drum_bass import HOLD, REST, drum_rolls
from mgen.errors import MgenError
from mgen.models.baselines.drum_bass import MODELS
from mgen.notes import Notes
from mgen.stats.bass_metrics import METRICS
from mgen.workflows import baseline_drum_bass as workflow
from mgen.workflows import baseline_training
from mgen.workflows.baseline_drum_bass import baseline_drum_bass
from mgen.workflows.baseline_drum_bass_results import ANOTHER, MAJORITY, REAL, ROOTS, majority_pattern, roots_on_kicks
from mgen.workflows.generate_drum_bass import generate_drum_bass
from mgen.workflows.grid import Grid
from mgen.workflows.grid_drum_bass import DRUM_BASS_COLUMNS, untrained_drum_bass

pytestmark = pytest.mark.slow

TINY = {"report_to": "none", "use_cpu": True, "width": 16, "layers": 1, "per_device_train_batch_size": 16, "samples": 2}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return prepare_songs(tmp_path_factory.mktemp("band"), songs(12, bars=16))


@pytest.fixture(scope="module")
def finished(corpus, tmp_path_factory):
    """A finished run, and the lines that it said."""
    lines, out = [], tmp_path_factory.mktemp("runs") / "run"
    options = {"model": "cvae", "max_steps": 6, "least_hits": 4}
    return baseline_drum_bass(corpus, out, progress=lines.append, **TINY, **options), lines


def test_the_folder_has_the_table_the_figure_and_the_facts(finished):
    result, lines = finished
    table = (result.folder / "table.md").read_text()
    for system in ("cvae", REAL, ANOTHER, ROOTS, MAJORITY):
        assert f"| {system} | " in table
    assert table.splitlines()[0].count("|") == len(METRICS) + 2
    assert "95 % intervals over works" in table and lines[0].startswith("train: ")
    facts = json.loads((result.folder / "run.json").read_text())
    assert facts["test"][REAL]["note_f1"]["value"] == facts["test"][ROOTS]["kicks_with_bass"]["value"] == 1
    assert facts["windows"]["test"]["windows"] > 0 and facts["works"]["train"] >= 6
    assert {"note_f1", "perplexity", "diversity", "eval_loss"} <= result.metrics.keys()
    assert (result.folder / "figure.svg").is_file() and (result.model / "config.json").is_file()


def test_a_finished_run_does_nothing(finished, corpus, monkeypatch):
    result, _ = finished
    monkeypatch.setattr(baseline_training, "VerifiedCheckpoints", None)  # training would fail
    options = {"model": "cvae", "max_steps": 6, "least_hits": 4}
    assert baseline_drum_bass(corpus, result.folder, **TINY, **options) == dataclasses.replace(
        result, already_finished=True
    )
    with pytest.raises(MgenError, match="latent"):
        baseline_drum_bass(corpus, result.folder, **TINY, **options, latent=3)


class _Kill(TrainerCallback):
    def on_step_end(self, args, state, control, **_):
        if state.global_step == 5:
            raise KeyboardInterrupt


@pytest.mark.parametrize("model", ["cvae", "pix2pix"])
def test_a_killed_run_goes_on_to_the_same_weights(corpus, tmp_path, monkeypatch, model):
    options = {**TINY, "max_steps": 8, "eval_steps": 2, "model": model, "kl_warm_up": 5, "steps": 32}
    whole = baseline_drum_bass(corpus, tmp_path / "whole", **options)
    with monkeypatch.context() as patch:
        patch.setattr(baseline_training, "HalfwayAndEnd", _Kill)
        with pytest.raises(KeyboardInterrupt):
            baseline_drum_bass(corpus, tmp_path / "killed", **options)
    resumed = baseline_drum_bass(corpus, tmp_path / "killed", **options)
    ours, theirs = (load_file(result.model / "model.safetensors") for result in (whole, resumed))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert resumed.metrics == whole.metrics


@pytest.mark.parametrize("model", MODELS)
def test_every_model_trains_evaluates_and_says_what_it_does(corpus, tmp_path, model):
    result = baseline_drum_bass(corpus, tmp_path / "run", **TINY, model=model, max_steps=2, steps=32, conditions=[])
    assert result.steps == 2 and 0 <= result.metrics["onset_f1"] <= 1 and result.metrics["perplexity"] > 1
    assert result.facts["test"][model]["diversity"]["value"] is not None


def test_roots_and_the_majority_pattern_by_hand():
    drums = np.zeros((2, 16, 14), bool)
    drums[:, [2, 5], 0] = True
    roots = roots_on_kicks(drums, np.array([4, 12 + 0]))  # E major, C minor
    assert roots[0].tolist() == [REST, REST, 0, HOLD, HOLD, 0, *[HOLD] * 10]
    assert roots[1, 2] == 8  # C2 is eight semitones above E1
    lines = np.full((4, 16), REST, np.uint8)
    lines[:3, 0] = 5, 5, 7  # a start in three of four
    lines[:2, 1] = HOLD
    lines[:3, 2] = HOLD
    assert majority_pattern(lines)[:4].tolist() == [5, REST, REST, REST]


@dataclass(frozen=True)
class Asked:
    run: Path
    out: Path
    prompt: str = ""
    n: int = 3
    seed: int = 0
    temperature: float = 1.0
    tempo: float | None = None


def prompt_file(folder, **changes):
    path = folder / "prompt.mid"
    band(5, **changes).dump_midi(str(path))
    return str(path)


def test_files_have_the_given_drums_and_a_new_bass(finished, tmp_path):
    result, _ = finished
    prompt = prompt_file(tmp_path, bars=6, bass=False, tempos=((0, 90.0),))
    facts = generate_drum_bass(Asked(result.folder, tmp_path / "out", prompt))
    assert facts["conditions"]["instrument"] == 33 and facts["conditions"]["tempo"] == pytest.approx(90, abs=0.1)
    assert facts["windows"] == {"with a bass": 2, "without drums": 0, "other metre": 0}
    given = Notes.from_scores([core.ScoreTick.from_file(prompt)])
    drums = given.select(given.program < 0)
    for piece in facts["pieces"]:
        score = core.ScoreTick.from_file(str(tmp_path / "out" / piece["file"]))
        made = Notes.from_scores([score])
        own = made.select(made.program < 0)
        for column in ("onset", "pitch", "velocity"):
            np.testing.assert_array_equal(getattr(own, column), getattr(drums, column))
        bass = made.select(made.program >= 0)
        assert set(bass.program) <= {33} and len(bass) == piece["notes"]
        assert (bass.onset + bass.duration).max(initial=0) <= 6 * 96  # no longer than the prompt
        assert round(60e6 / score.tempos[0].mspq) == 90
    again = generate_drum_bass(Asked(result.folder, tmp_path / "again", prompt))
    assert again["pieces"] == facts["pieces"]


def test_bars_of_another_metre_get_no_bass(finished, tmp_path):
    result, _ = finished
    bar = 4 * 480
    prompt = prompt_file(tmp_path, bars=8, signatures=((0, 4, 4), (3 * bar, 3, 4), (4 * bar - 480, 4, 4)), program=38)
    facts = generate_drum_bass(Asked(result.folder, tmp_path / "out", prompt))
    assert facts["windows"]["other metre"] == 1 and facts["conditions"]["instrument"] == 38
    made = Notes.from_scores([core.ScoreTick.from_file(str(tmp_path / "out" / "0000.mid"))])
    bass = made.select(made.program >= 0)
    outside = (bass.onset >= 3 * 96) & (bass.onset < 3 * 96 + 72)
    assert len(bass) and not outside.any()
    np.testing.assert_array_equal(drum_rolls(made, np.array([0]), 32).any(), True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"drums": False}, "has no drums; give a MIDI file with a drum track"),
        ({"signatures": ((0, 3, 4),)}, "has no drums in 4/4"),
        (None, "writes a bass to drums; give a MIDI file with drums as --prompt"),
    ],
)
def test_prompts_that_cannot_be_used(finished, tmp_path, changes, message):
    result, _ = finished
    prompt = "" if changes is None else prompt_file(tmp_path, **changes)
    with pytest.raises(MgenError, match=message) as found:
        generate_drum_bass(Asked(result.folder, tmp_path / "out", prompt))
    assert "\n" not in str(found.value) and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "mlp"], "model 'mlp'"),
        (["--steps", "48"], "steps (48): expected one of 32, 64"),
        (["--conditions", "mood"], "conditions 'mood'"),
        (["--least_hits", "500"], "no window of 64 steps in 4/4 has 500 drum hits and 4 bass notes"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(corpus, tmp_path, capsys, words, message):
    places = ["--corpus", str(corpus), "--out", str(tmp_path / "o")]
    assert run(baseline.main, ["drum-bass", *places, "--report_to", "none", "--use_cpu", "true", *words]) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("mgen")]
    assert len(error) == 1 and message in error[0] and not (tmp_path / "o").exists()


def test_the_recipe_is_valid_and_conditions_can_be_unseen(tmp_path, capsys):
    from mgen.cli.recipe import CONFIGS

    music = songs(12, bars=8)
    pieces = Corpus.open(prepare_songs(tmp_path / "first", music)).pieces
    for name in pieces.loc[pieces["split"] == "test", "song"]:
        music[name].tracks[1].program = 39
    own = prepare_songs(tmp_path / "second", music)
    words = ["--config", str(CONFIGS / "baselines" / "drum_bass_laptop.yaml"), "--corpus", str(own)]
    words += ["--out", str(tmp_path / "run"), "--max_steps", "2", "--report_to", "none", "--use_cpu", "true"]
    capsys.readouterr()
    assert run(baseline.main, ["drum-bass", *words, "--width", "8"]) == 0
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["unknown"]["instrument"] == facts["windows"]["test"]["windows"] > 0
    table = capsys.readouterr().out
    assert table.startswith("| system | note f1 |")
    assert "Windows of test with a condition that train does not have, taken as unknown: instrument" in table


def test_a_grid_compares_the_networks_by_their_metrics(finished):
    from mgen.cli.recipe import CONFIGS

    grid = Grid.read(CONFIGS / "ablations" / "drum_bass.yaml", ["baseline drum-bass"])
    cells = list(grid.cells())
    assert [cell.options["model"] for cell in cells] == list(MODELS)
    for cell in cells:
        workflow.DrumBassOptions(corpus="c", out="o", report_to=[], use_cpu=True, **cell.options)
    result, _ = finished
    rows = untrained_drum_bass(result.facts)
    assert list(rows) == [REAL, ANOTHER, ROOTS, MAJORITY] and rows[REAL]["note_f1"] == 1
    assert set(result.metrics) <= set(DRUM_BASS_COLUMNS)
