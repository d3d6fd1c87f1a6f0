"""`mgen baseline tabs` from a corpus to its results: it learns, it resumes, and what it says is so."""

from __future__ import annotations

import dataclasses
import json
import sys
from functools import partial
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import balanced_accuracy_score
from tab_corpus import learnable, walk, write_tabs
from transformers import AutoModel, TrainerCallback

from mgen.corpus.tab_windows import NoteWindows, read_tabs
from mgen.errors import MgenError
from mgen.models.baselines.event_vectors import TARGETS
from mgen.models.baselines.next_note import NextNoteConfig, NextNoteModel
from mgen.runs.metrics import read_metrics
from mgen.training import event_vectors
from mgen.workflows import baseline_training
from mgen.workflows.baseline_tabs import baseline_tabs
from mgen.workflows.baseline_tabs_results import MAJORITY, REPEAT, class_facts, loss_facts, systems, valid_metrics

pytestmark = pytest.mark.slow

TINY = {"report_to": "none", "use_cpu": True, "window": 10, "per_device_train_batch_size": 64, "event_width": 8}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return learnable(tmp_path_factory.mktemp("tabs") / "corpus")


@pytest.fixture(scope="module")
def finished(corpus, tmp_path_factory):
    """A finished run with all targets, and the lines that it said."""
    lines = []
    out = tmp_path_factory.mktemp("runs") / "run"
    options = {"targets": list(TARGETS), "max_steps": 150, "learning_rate": 1e-2, "width": 32}
    return baseline_tabs(corpus, out, progress=lines.append, **TINY, **options), lines


def test_it_learns_what_follows_and_beats_the_systems_without_training(finished):
    result, _ = finished
    for target in ("note", "pitch", "duration", "dotted"):
        of = {name: scores[target] for name, scores in result.facts["test"].items()}
        assert of["feed_forward"]["balanced_accuracy"]["value"] > 0.95
        assert of["feed_forward"]["accuracy"]["low"] > of[MAJORITY]["accuracy"]["high"]
        assert of["feed_forward"]["accuracy"]["low"] > of[REPEAT]["accuracy"]["high"]
    assert result.metrics["balanced_accuracy"] > 0.95
    assert {"note/accuracy", "dotted/precision", "dotted/recall", "eval_loss", "test_loss"} <= result.metrics.keys()


def test_the_folder_has_the_table_the_figure_and_a_model(finished):
    result, lines = finished
    table = (result.folder / "table.md").read_text()
    assert table.startswith("| target | system | accuracy | balanced accuracy | precision | recall |")
    assert table.count("| note |") == table.count("| dotted |") == 3
    assert "400 windows of 8 songs" in table and "note: 4 of 13 classes are in train and test." in table
    label = ElementTree.parse(result.folder / "figure.svg").getroot().get("aria-label")
    assert "train from" in label and "valid from" in label
    assert AutoModel.from_pretrained(result.model, trust_remote_code=False).config.targets == list(TARGETS)
    assert lines[0].startswith("chunks: train 8 of 8 (8 songs), valid 8 of 8")
    facts = json.loads((result.folder / "run.json").read_text())
    assert facts["windows"] == dict.fromkeys(("train", "valid", "test"), 400)
    assert sum(facts["classes"]["dotted"]["train"].values()) == 400
    assert sum(facts["classes"]["duration"]["test"].values()) == facts["windows"]["test"] == 400
    assert "B" in facts["classes"]["note"]["left_out"]["not in train"]


def test_it_evaluates_at_the_beginning_the_middle_and_the_end(finished):
    result, _ = finished
    entries = read_metrics(result.folder)
    evaluated = [entry["step"] for entry in entries if "eval_loss" in entry]
    assert {0, 75, 150} <= set(evaluated) and len(evaluated) == len(set(evaluated))
    assert all("eval_balanced_accuracy" in entry for entry in entries if "eval_loss" in entry)
    best = min((entry for entry in entries if "eval_loss" in entry), key=lambda entry: entry["eval_loss"])
    assert result.facts["losses"]["best_step"] == best["step"] and result.metrics["eval_loss"] == best["eval_loss"]


def test_a_finished_run_does_nothing(finished, corpus, monkeypatch):
    result, _ = finished
    monkeypatch.setattr(baseline_training, "VerifiedCheckpoints", None)  # training would fail
    options = {"targets": list(TARGETS), "max_steps": 150, "learning_rate": 1e-2, "width": 32}
    again = baseline_tabs(corpus, result.folder, **TINY, **options)
    assert again == dataclasses.replace(result, already_finished=True)
    with pytest.raises(MgenError, match="width"):
        baseline_tabs(corpus, result.folder, **TINY, **{**options, "width": 16})


class _Kill(TrainerCallback):
    def on_step_end(self, args, state, control, **_):
        if state.global_step == 17:
            raise KeyboardInterrupt


@pytest.fixture(autouse=True)
def short_event_vectors(monkeypatch):
    for name in ("skip_gram", "autoencoder"):
        monkeypatch.setattr(event_vectors, name, partial(getattr(event_vectors, name), steps=40))


@pytest.mark.parametrize("preparation", ["one_hot", "skip_gram"])
def test_a_killed_run_goes_on_to_the_same_weights(corpus, tmp_path, monkeypatch, preparation):
    options = {**TINY, "max_steps": 30, "eval_steps": 5, "dropout": 0.2, "loss": "weighted", "preparation": preparation}
    whole = baseline_tabs(corpus, tmp_path / "whole", **options)
    with monkeypatch.context() as patch:
        patch.setattr(baseline_training, "HalfwayAndEnd", _Kill)
        with pytest.raises(KeyboardInterrupt):
            baseline_tabs(corpus, tmp_path / "killed", **options)
    resumed = baseline_tabs(corpus, tmp_path / "killed", **options)
    ours, theirs = (load_file(result.model / "model.safetensors") for result in (whole, resumed))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert resumed.metrics == whole.metrics
    steps = [[(e["step"], e.get("eval_loss")) for e in read_metrics(result.folder)] for result in (whole, resumed)]
    assert steps[0] == steps[1]


@pytest.mark.parametrize(
    "options",
    [
        {"model": "attention", "loss": "bce", "targets": ["dotted", "note"], "optimizer": "rmsprop"},
        {"model": "lstm", "loss": "mse", "targets": ["duration"], "preparation": "skip_gram", "freeze": True},
        {"model": "stacked_lstm", "preparation": "autoencoder", "confidence_penalty": 0.1, "label_smoothing": 0.1},
        {"model": "last_note", "preparation": "embedding", "favour_long": 1.0, "share": 0.5, "patience": 3},
        {"load_best_model_at_end": False, "instrument": "Guitar", "chunk_notes": [20, 100], "optimizer": "adam"},
        {"eval_strategy": "no", "eval_on_start": False, "load_best_model_at_end": False, "save_strategy": "no"},
    ],
)
def test_other_options_train(corpus, tmp_path, options):
    result = baseline_tabs(corpus, tmp_path / "run", **{**TINY, "max_steps": 4, "width": 8, **options})
    assert result.steps == 4 and 0 <= result.metrics["balanced_accuracy"] <= 1
    assert ("eval_loss" in result.metrics) == (options.get("eval_strategy") != "no")


def test_one_example_of_a_class_is_enough(tmp_path):
    chunks = [(f"{i}", "x", walk(i, 40)) for i in range(4)]
    odd = walk(0, 40)
    odd[-1] = (2, 5, 6, 0)  # the only C#, and the only 64th, is the label of the last window
    rare = [*chunks[:3], ("odd", "x", odd)]
    corpus = write_tabs(
        tmp_path / "c", train=rare, valid=chunks, test=[*rare, ("new", "x", np.uint8([[4, 5, 0, 1]] * 12))]
    )
    result = baseline_tabs(corpus, tmp_path / "run", **TINY, loss="weighted", max_steps=4)
    support = result.facts["classes"]["note"]
    assert support["train"]["C#"] == support["test"]["C#"] == 1
    table = (result.folder / "table.md").read_text()
    assert "with one example in test: C#" in table and "only in test dotted whole" in table


def test_systems_on_test_by_hand(corpus):
    tabs = {split: read_tabs(corpus, split) for split in ("train", "test")}
    windows = {split: NoteWindows(of, 10) for split, of in tabs.items()}
    known = {"duration": class_facts(windows, "duration")}
    _, last, following = windows["test"].all_labels()
    truth = TARGETS["duration"].of(following)
    guess = np.where(np.arange(len(truth)) % 2, truth, TARGETS["duration"].of(last))
    scores = systems("own", guess[:, None], windows, known)
    assert scores["own"]["duration"]["balanced_accuracy"].value == pytest.approx(balanced_accuracy_score(truth, guess))
    assert scores[MAJORITY]["duration"]["balanced_accuracy"].value == pytest.approx(1 / 3)
    assert scores[REPEAT]["duration"]["accuracy"].value == 0  # durations alternate
    found = valid_metrics(SimpleNamespace(predictions=guess[:, None], label_ids=following), known)
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(truth, guess))


def test_a_rise_of_the_valid_loss_is_noticed():
    history = [{"step": step, "eval_loss": loss} for step, loss in ((0, 3.0), (10, 2.0), (20, 2.5))]
    facts = loss_facts(SimpleNamespace(log_history=history), best_kept=True)
    assert facts["rises"] and facts["final_minus_best"] == 0.5
    assert (facts["best_step"], facts["eval_loss"]) == (10, 2.0)
    assert not loss_facts(SimpleNamespace(log_history=history[:2]), best_kept=False)["rises"]


def test_a_network_is_drawn(tmp_path):
    pytest.importorskip("torchview", reason="needs the extra graph")
    from mgen.render.network import network_graph

    model = NextNoteModel(NextNoteConfig(window=10))
    graph = network_graph(model, torch.zeros(1, 10, 4, dtype=torch.uint8))
    assert "Linear" in graph.source and "EventVectors" in graph.source


def test_without_the_extra_a_picture_is_one_line(corpus, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchview", None)
    with pytest.raises(MgenError, match=r"picture: torchview is not installed; .* 'mgen-music\[graph\]', or leave"):
        baseline_tabs(corpus, tmp_path / "run", **TINY, picture=True)
    monkeypatch.setattr("mgen.render.network.import_extra", lambda *_: None)
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(MgenError, match="picture: the program dot is not installed; install Graphviz, or leave"):
        baseline_tabs(corpus, tmp_path / "run", **TINY, picture=True)
    assert not (tmp_path / "run").exists()
