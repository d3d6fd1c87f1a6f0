"""A search: its file, its storage, its trials, and what it leaves behind."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import optuna
import pytest
import yaml

from mgen.cli import tune as command
from mgen.cli.main import run
from mgen.errors import MgenError
from mgen.options import from_keywords
from mgen.workflows import tune
from mgen.workflows.baseline_tabs import TabsConfig
from mgen.workflows.critic import CriticConfig
from mgen.workflows.finetune import FinetuneConfig
from mgen.workflows.grpo import GrpoConfig
from mgen.workflows.pretrain import PretrainConfig
from mgen.workflows.tune import Search, TuneConfig, importance, open_study, run_tune

SPACE = {"learning_rate": {"low": 1e-4, "high": 1e-1, "log": True}, "size": ["tiny", "mini"]}
SEARCH = {"command": "pretrain", "metric": "nats_per_note", "space": SPACE}


def write(path, **changes):
    path.write_text(yaml.safe_dump({**SEARCH, **changes}))
    return str(path)


@pytest.fixture
def config(tmp_path):
    """Options of a search in this folder, with changes of the search."""

    def build(trials=3, storage="", **changes):
        search = write(tmp_path / "search.yaml", **changes)
        return TuneConfig(search=search, corpus="corpus", out=str(tmp_path / "out"), trials=trials, storage=storage)

    return build


@pytest.fixture
def bowl(monkeypatch):
    """In place of `pretrain`: the metric is least at a learning rate of .01; returns the options of all calls."""
    calls = []

    def pretrain(corpus, out, progress, learning_rate, size="tiny", seed=0, **rest):
        calls.append({"out": out, "learning_rate": learning_rate, "size": size, "seed": seed, **rest})
        out.mkdir(parents=True, exist_ok=True)
        with (out / "metrics.jsonl").open("w") as file:
            for step in range(1, 11):
                value = (np.log10(learning_rate) + 2) ** 2 + 1 / step
                file.write(json.dumps({"step": step, "eval_loss": value}) + "\n")
                file.flush()
                progress(f"step {step}")
        return SimpleNamespace(metrics={"nats_per_note": (np.log10(learning_rate) + 2) ** 2})

    monkeypatch.setitem(tune.COMMANDS, "pretrain", (pretrain, ("corpus",)))
    return calls


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space": {}}, "space is empty"),
        ({"command": "push"}, "command 'push': expected one of pretrain, critic, finetune, grpo, baseline tabs"),
        ({"sampler": "luck"}, "sampler 'luck': expected one of tpe, random, cmaes"),
        ({"pruner": "median"}, "pruner 'median' needs pruned_by"),
        ({"direction": "down"}, "direction 'down': expected one of minimize, maximize"),
        ({"space": {"lr": 3}}, "space, lr: expected a list of values, or low and high"),
        ({"space": {"lr": {"low": 2.0, "high": 1.0}}}, "space, lr: .*low"),
        ({"space": {"lr": {"low": 0.0, "high": 1.0, "log": True}}}, "space, lr: "),
        ({"spaces": {}}, "expected the keys command, metric and space"),
    ],
)
def test_a_wrong_search_is_one_line(changes, message, tmp_path):
    with pytest.raises(MgenError, match=message) as caught:
        Search.read(write(tmp_path / "search.yaml", **changes))
    assert "\n" not in str(caught.value)


def test_every_search_of_the_recipes_can_be_read():
    from mgen.cli.recipe import CONFIGS

    configs = {"pretrain": PretrainConfig, "critic": CriticConfig, "finetune": FinetuneConfig, "grpo": GrpoConfig}
    configs["baseline tabs"] = TabsConfig
    paths = list((CONFIGS / "tune").glob("*.yaml"))
    assert paths
    for search in map(Search.read, paths):
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        given = {name: name for name in tune.COMMANDS[search.command][1]}
        for _ in range(8):
            options = study.ask(search.distributions).params
            from_keywords(configs[search.command], search.command, {**given, "out": "o", **search.recipe, **options})


def test_it_finds_the_bottom_and_says_so(config, bowl, tmp_path):
    lines = []
    results = run_tune(config(trials=25, recipe={"max_steps": 7}), lines.append)
    assert len(bowl) == 25 and {call["max_steps"] for call in bowl} == {7} and {call["seed"] for call in bowl} == {0}
    best = results["trials"][0]
    assert abs(np.log10(best["options"]["learning_rate"]) + 2) < 0.4
    assert [trial["value"] for trial in results["trials"]] == sorted(trial["value"] for trial in results["trials"])
    assert results["counts"] == {"complete": 25}
    assert next(iter(results["importance"])) == "learning_rate" and results["importance"]["learning_rate"] > 0.8
    assert lines[0] == "study: 0 of 25 trials so far" and lines[-1].startswith("  nats_per_note ")
    text = (tmp_path / "out" / "study.md").read_text()
    assert text.startswith("| trial | nats_per_note | learning_rate | size |") and "Importance (PED-ANOVA): " in text
    assert (tmp_path / "out" / "figure.svg").is_file()
    assert json.loads((tmp_path / "out" / "study.json").read_text()) == json.loads(json.dumps(results))


@pytest.mark.parametrize("storage", ["", "journal"])
def test_a_study_goes_on_where_it_ended(config, bowl, tmp_path, storage):
    storage = f"journal:{tmp_path / 'journal.log'}" if storage else ""
    run_tune(config(trials=2, storage=storage), lambda line: None)
    run_tune(config(trials=2, storage=storage), lambda line: None)
    assert len(bowl) == 2
    results = run_tune(config(trials=5, storage=storage), lambda line: None)
    assert len(bowl) == 5 and len({str(call["out"]) for call in bowl}) == 5 and results["counts"] == {"complete": 5}


def test_another_search_in_the_same_study_is_refused(config, bowl):
    run_tune(config(), lambda line: None)
    with pytest.raises(MgenError, match=r"its study is of another search \(recipe, space differ\); give another --out"):
        run_tune(config(recipe={"a": 1}, space={"learning_rate": [0.1]}), lambda line: None)


@pytest.mark.parametrize("storage", ["sqlite:////no/such/folder/study.db", "tape://x", "journal:/no/such/folder/x"])
def test_a_storage_that_cannot_be_reached_is_one_line(config, storage):
    settings = config(storage=storage)
    with pytest.raises(MgenError, match="cannot be opened") as caught:
        open_study(settings, Search.read(settings.search))
    assert "\n" not in str(caught.value)


def test_worse_trials_are_pruned(config, bowl):
    lines = []
    results = run_tune(config(trials=20, pruner="median", pruned_by="eval_loss"), lines.append)
    assert results["counts"]["pruned"] >= 3 and results["counts"]["complete"] + results["counts"]["pruned"] == 20
    assert any(line.startswith("  pruned at step ") for line in lines)


def test_an_interrupted_trial_is_resumed_in_its_folder(config, bowl, tmp_path, monkeypatch):
    monkeypatch.setattr(tune, "is_locked", lambda folder: folder.name == "trial_0001")  # another process trains in it
    settings = config(trials=2)
    search = Search.read(settings.search)
    (tmp_path / "out").mkdir()
    study = open_study(settings, search)
    lost = study.ask(search.distributions)
    lost.set_user_attr("folder", "trial_0000")
    (tmp_path / "out" / "trial_0000").mkdir()
    busy = study.ask(search.distributions)
    busy.set_user_attr("folder", "trial_0001")
    (tmp_path / "out" / "trial_0001").mkdir()
    results = run_tune(settings, lambda line: None)
    assert bowl[0]["out"].name == "trial_0000" and bowl[0]["learning_rate"] == lost.params["learning_rate"]
    assert bowl[1]["out"].name not in ("trial_0000", "trial_0001")
    assert results["counts"] == {"complete": 2, "fail": 1, "running": 1}


def test_trials_that_fail_are_counted_and_a_wrong_recipe_stops(config, bowl, monkeypatch):
    works = tune.COMMANDS["pretrain"]

    def fails(*args, learning_rate, **options):
        if learning_rate > 1e-3:
            raise MgenError("the loss is not a number")
        return works[0](*args, learning_rate=learning_rate, **options)

    monkeypatch.setitem(tune.COMMANDS, "pretrain", (fails, ("corpus",)))
    results = run_tune(
        config(trials=4, space={"learning_rate": [1e-4, 1e-3, 1e-2]}, sampler="random"), lambda line: None
    )
    assert results["counts"]["complete"] == 4
    assert set(results["failed"].values()) <= {"the loss is not a number"}
    monkeypatch.setitem(tune.COMMANDS, "pretrain", (lambda **_: fails(learning_rate=1.0), ("corpus",)))
    other = config(trials=4)
    other.out += "_2"
    with pytest.raises(MgenError, match="the first 3 trials failed; the last: the loss is not a number"):
        run_tune(other, lambda line: None)


def test_an_unknown_metric_names_those_there_are(config, bowl):
    with pytest.raises(MgenError, match="metric 'loss': the run has nats_per_note"):
        run_tune(config(metric="loss"), lambda line: None)


def test_few_trials_have_no_importance():
    assert importance(optuna.create_study()) == {}


@pytest.mark.slow
def test_a_real_search_from_start_to_end(small_corpus, tmp_path, capsys):
    recipe = {"size": "tiny", "context": 64, "max_steps": 2, "eval_steps": 1, "per_device_train_batch_size": 4}
    recipe |= {"valid_windows": 8, "report_to": ["none"], "sample_steps": 0, "use_cpu": True, "speed": "plain"}
    space = {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}
    search = write(tmp_path / "search.yaml", recipe=recipe, space=space, pruner="median", pruned_by="eval_loss")
    words = ["--config", search, "--corpus", str(small_corpus), "--out", str(tmp_path / "out"), "--trials", "2"]
    assert run(command.main, [*words, "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert len(results["trials"]) == 2 and all(trial["value"] > 0 for trial in results["trials"])
    assert (tmp_path / "out" / results["trials"][0]["folder"] / "model" / "config.json").is_file()
    assert run(command.main, ["--corpus", "c", "--out", "o"]) == 2
    assert "expected --config SEARCH.yaml" in capsys.readouterr().err
