"""`mgen baseline piano-roll`: a run from start to end, its results, its grid, and sampling from it."""

from __future__ import annotations

import json
import math
from xml.etree import ElementTree

import mido
import numpy as np
import pretty_midi
import pytest
import yaml

import mgen
from mgen.cli import ablate, baseline, generate
from mgen.cli.main import run
from mgen.corpus.roll_windows import RollWindows, read_rolls
from mgen.corpus.shards import Corpus
from mgen.encoding.piano_roll import Rate, of_midi, read_midi
from mgen.options import from_keywords
from mgen.stats.detection import CENTRES, EVEN, ScoreCounts
from mgen.workflows.baseline_piano_roll import RollConfig, baseline_piano_roll
from mgen.workflows.baseline_piano_roll_results import OFF, REPEAT, learning_facts, systems
from mgen.workflows.grid_baselines import ROLL_COLUMNS

pytestmark = pytest.mark.slow

TINY = {"channels": 4, "width": 8, "kernel": 2, "convolutions": 1, "window": 16, "hop": 64, "sample_rolls": 2}
TINY |= {"steps_per_beat": 2, "max_steps": 4, "eval_steps": 2, "per_device_train_batch_size": 8, "share": 0.3}
TINY |= {"report_to": "none", "use_cpu": True, "logging_steps": 1}


def words(**options):
    return [word for name, value in options.items() for word in (f"--{name}", str(value).lower())]


@pytest.fixture(scope="module")
def trained(small_corpus, tmp_path_factory):
    lines = []
    out = tmp_path_factory.mktemp("roll") / "run"
    result = baseline_piano_roll(small_corpus, out, progress=lines.append, target_ap=0.01, **TINY)
    return result, lines


def test_a_run_from_start_to_end(trained, small_corpus, capsys):
    result, lines = trained
    assert result.steps == 4 and not result.already_finished
    assert {"f1", "precision", "recall", "average_precision", "eval_loss", "test_loss"} <= set(result.metrics)
    assert {"density_ratio", "eval_average_precision", "gradient_norm"} <= set(result.metrics)
    assert all(math.isfinite(value) for value in result.metrics.values())
    assert result.metrics["steps_to_target"] == 0  # every step is more than one in a hundred
    facts = json.loads((result.folder / "run.json").read_text())
    assert set(facts["test"]) == {"bce", OFF, REPEAT} and set(facts["density"]) == {"real", "sampled", "threshold"}
    assert lines[0].startswith("pieces: train ") and "0 without a note of pitch 24 to 107" in lines[0]
    metrics = [json.loads(line) for line in (result.folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in metrics if "eval_average_precision" in line] == [0, 2, 4]
    assert sum("grad_norm" in line for line in metrics) == 4
    assert "repeat of the last step" in (result.folder / "table.md").read_text()
    ElementTree.parse(result.folder / "figure.svg")
    again = ["piano-roll", *words(corpus=small_corpus, out=result.folder, target_ap=0.01, **TINY)]
    before = (result.folder / "run.json").read_text()
    assert run(baseline.main, again) == 0
    assert "was finished before: 4 steps" in capsys.readouterr().out
    assert (result.folder / "run.json").read_text() == before


def test_an_interrupted_run_ends_with_the_same_weights(trained, small_corpus, tmp_path, monkeypatch):
    from mgen.workflows import baseline_piano_roll as module

    def stop(*_):
        raise RuntimeError("killed")

    monkeypatch.setattr(module, "density", stop)
    with pytest.raises(RuntimeError, match="killed"):
        baseline_piano_roll(small_corpus, tmp_path / "run", target_ap=0.01, **TINY)
    monkeypatch.undo()
    result = baseline_piano_roll(small_corpus, tmp_path / "run", target_ap=0.01, **TINY)
    assert result.metrics == pytest.approx(dict(trained[0].metrics))
    names = [one.model / "model.safetensors" for one in (result, trained[0])]
    assert names[0].read_bytes() == names[1].read_bytes()


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "rmsprop"])
def test_options_of_training(optimizer):
    given = {**TINY, "corpus": "c", "out": "o", "optimizer": optimizer, "lr_scheduler_type": "reduce_lr_on_plateau"}
    config = from_keywords(RollConfig, "baseline", given)
    assert config.lr_scheduler_kwargs["mode"] == "max" and config.warmup_steps == 0
    assert (config.weight_decay > 0) == (optimizer == "adamw")
    assert config.network(30.0).positive_weight == 30.0


def test_the_loss_falls_and_the_rate_follows_the_plateau(small_corpus, tmp_path):
    more = {**TINY, "max_steps": 30, "learning_rate": 0.02, "loss": "weighted", "eval_steps": 10, "share": 0.1}
    result = baseline_piano_roll(small_corpus, tmp_path, lr_scheduler_type="reduce_lr_on_plateau", **more)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    losses = [line["eval_loss"] for line in lines if "eval_loss" in line]
    assert losses[-1] < 0.8 * losses[0]
    assert result.facts["positive_weight"] == pytest.approx(1 / density_of(small_corpus, 0.1) - 1)


def density_of(folder, share):
    return read_rolls(Corpus.open(folder), "train", Rate(2), share=share, seed=42)[0].density


def test_systems_without_training_are_right(small_corpus):
    corpus = Corpus.open(small_corpus)
    train, test = (read_rolls(corpus, split, Rate(2))[0] for split in ("train", "test"))
    works = len(np.unique(test.work))
    counts = ScoreCounts(np.zeros((works, len(CENTRES))), np.zeros((works, len(CENTRES))))
    loss = np.logaddexp(0, CENTRES), np.logaddexp(0, -CENTRES)
    found = systems("net", counts, EVEN, train, test, loss)
    windows = RollWindows(test, 64, 64)
    batch = windows.__getitems__(range(len(windows)))
    last, now = (batch[name][batch["mask"]].bool() for name in ("roll", "labels"))
    hits = int((last & now).sum())
    assert found[REPEAT]["precision"].value == pytest.approx(hits / int(last.sum()))
    assert found[REPEAT]["recall"].value == pytest.approx(hits / int(now.sum()))
    assert found[OFF]["recall"].value == 0 and found[OFF]["f1"].value == 0
    assert math.isnan(found[OFF]["precision"].value)
    assert found[OFF]["average_precision"].value == pytest.approx(float(now.float().mean()))
    rate = train.density
    cross = -(now.float().mean() * math.log(rate) + (1 - now.float().mean()) * math.log(1 - rate))
    assert found[OFF]["loss"].value == pytest.approx(float(cross), rel=1e-2)


def test_learning_facts():
    history = [{"step": 0, "eval_loss": 1, "eval_average_precision": 0.1}, {"step": 1, "grad_norm": 1.0}]
    history += [{"step": 2, "grad_norm": 3.0}, {"step": 3, "grad_norm": math.nan}]
    history += [{"step": s, "eval_loss": 1, "eval_average_precision": v} for s, v in ((4, 0.5), (8, 0.6), (12, 0.4))]
    facts = learning_facts(history, 0.5)
    assert (facts["steps_to_target"], facts["best_step"], facts["best_average_precision"]) == (4, 8, 0.6)
    assert (facts["gradient_norm"], facts["gradient_norm_deviation"]) == (2.0, 1.0)
    assert learning_facts(history, 0.7)["steps_to_target"] is learning_facts(history, 0)["steps_to_target"] is None
    assert learning_facts([], 0.5)["best_step"] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": "mse"}, "expected one of bce, weighted, focal"),
        ({"steps_per_beat": 0}, "must be between 1 and 24"),
        ({"style": "polka"}, "the corpus has"),
        ({"alpha": 1.0}, "above 0 and below 1"),
        ({"lr_scheduler_type": "reduce_lr_on_plateau", "eval_strategy": "no"}, "eval"),
    ],
)
def test_bad_options_are_one_line(change, message, small_corpus, tmp_path, capsys):
    options = {**TINY, "corpus": small_corpus, "out": tmp_path / "out", **change}
    assert run(baseline.main, ["piano-roll", *words(**options)]) == 2
    line = capsys.readouterr().err.strip()
    assert message in line and "\n" not in line.replace("\nmgen", "")


def test_a_corpus_without_a_note_in_range_is_one_line(small_corpus, tmp_path, capsys, monkeypatch):
    table = Corpus.table
    for split in ("train", "test"):  # as of a corpus of fewer pieces than splits

        def without(self, name, style=None, gone=split):
            found = table(self, name, style)
            return type(found)(found.ids[:0], np.zeros(1, np.int64), found.rows[:0]) if name == gone else found

        monkeypatch.setattr(Corpus, "table", without)
        assert run(baseline.main, ["piano-roll", *words(**TINY, corpus=small_corpus, out=tmp_path / "out")]) == 2
        assert f"{split}: expected a piece with a note of pitch 24 to 107, there is no piece" in capsys.readouterr().err


def test_pieces_without_tempo_are_counted(small_corpus, tmp_path, monkeypatch):
    table = Corpus.table

    def without(self, *args):
        found = table(self, *args)
        return type(found)(
            found.ids, found.offsets, found.rows.assign(tempo=np.where(found.rows.index < 1, np.nan, 99))
        )

    monkeypatch.setattr(Corpus, "table", without)
    lines = []
    more = {**TINY, "share": 1.0, "steps_per_second": 2.0, "max_steps": 1, "eval_strategy": "no"}
    more |= {"load_best_model_at_end": False, "eval_on_start": False}
    result = baseline_piano_roll(small_corpus, tmp_path / "run", progress=lines.append, **more)
    assert "; 3 have no tempo: 120 quarters per minute" in lines[0]
    assert result.facts["pieces"]["train"]["without tempo"] == 1


def test_sampling_from_a_run(trained, tmp_path, capsys):
    folder, prompt = trained[0].folder, tmp_path / "prompt.mid"
    midi = pretty_midi.PrettyMIDI(initial_tempo=90)
    midi.instruments.append(pretty_midi.Instrument(0))
    midi.instruments[0].notes = [pretty_midi.Note(80, 60, 0, 60 / 90), pretty_midi.Note(80, 64, 60 / 90, 120 / 90)]
    midi.write(str(prompt))
    given = words(baseline=folder, n=2, prompt=prompt, prompt_tokens=3, max_new_tokens=5, top_k=4, seed=7)
    assert run(generate.main, [*given, "--out", str(tmp_path / "a")]) == 0
    assert "steps" in capsys.readouterr().out
    index = json.loads((tmp_path / "a" / "index.json").read_text())
    assert index["seed"] == 7 and index["tempo"] == 90 and [piece["steps"] for piece in index["pieces"]] == [8, 8]
    assert run(generate.main, [*given, "--out", str(tmp_path / "b"), "--json"]) == 0
    wanted, _ = read_midi(prompt, Rate(2))
    for piece in index["pieces"]:
        first, again = (pretty_midi.PrettyMIDI(str(tmp_path / name / piece["file"])) for name in "ab")
        roll = of_midi(first, Rate(2))
        np.testing.assert_array_equal(roll, of_midi(again, Rate(2)))
        np.testing.assert_array_equal(roll[:3], wanted[-3:])
        assert roll[3:].sum(axis=1).max(initial=0) <= 4
    result = mgen.generate("", tmp_path / "c", baseline=str(folder), n=3, threshold=0.99)
    assert result.notes.n_pieces == 3 and len(result.notes) == sum(one["notes"] for one in result.facts["pieces"]) == 0


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--model", "m"], "model is not for a baseline"),
        (["--style", "jazz"], "style is not for a baseline"),
        (["--prompt", "PROMPT"], "empty: no note that is not a drum; give another MIDI file"),
    ],
)
def test_what_a_baseline_cannot_do_is_one_line(more, message, trained, tmp_path, capsys):
    mido.MidiFile(tracks=[mido.MidiTrack()]).save(tmp_path / "empty.mid")
    more = [word.replace("PROMPT", str(tmp_path / "empty.mid")) for word in more]
    given = words(baseline=trained[0].folder, out=tmp_path / "out")
    assert run(generate.main, [*given, *more]) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_run_of_another_kind_does_not_generate(trained, tmp_path, capsys):
    other = tmp_path / "run"
    other.mkdir()
    facts = json.loads((trained[0].folder / "run.json").read_text())
    (other / "run.json").write_text(json.dumps({**facts, "command": "pretrain"}))
    assert run(generate.main, words(baseline=other, out=tmp_path / "out")) == 2
    assert "a run of pretrain does not generate; expected baseline piano-roll" in capsys.readouterr().err
    assert run(generate.main, words(model="m", out=tmp_path / "out", threshold=0.5)) == 2
    assert "threshold is for a baseline" in capsys.readouterr().err


def test_a_grid_of_losses(small_corpus, tmp_path, capsys):
    grid = tmp_path / "grid.yaml"
    content = {"command": "baseline piano-roll", "recipe": {**TINY, "share": 0.1}, "quick": {"max_steps": 2}}
    grid.write_text(yaml.safe_dump({**content, "axes": {"loss": ["bce", "focal"]}}))
    given = ["--config", str(grid), "--corpus", str(small_corpus), "--out", str(tmp_path / "out"), "--quick", "--json"]
    assert run(ablate.main, given) == 0
    results = json.loads(capsys.readouterr().out)
    assert list(results["runs"]) == ["bce", "focal"] and list(results["start"]) == [OFF, REPEAT]
    assert set(results["runs"]["bce"]["0"]) <= set(ROLL_COLUMNS)
    table = (tmp_path / "out" / "table.md").read_text()
    assert "average precision" in table and REPEAT in table and (tmp_path / "out" / "figure.svg").is_file()
