"""A grid of fine-tuning runs: its file, its table, its figure, and a small one from start to end."""

from __future__ import annotations

import json
import math
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
import yaml
from hub_runs import feature_critic_run

from mgen.cli import ablate
from mgen.cli.main import run
from mgen.corpus.shards import Corpus
from mgen.errors import MgenError
from mgen.options import from_keywords
from mgen.render.charts import Curve, standalone_svg
from mgen.runs.lock import lock_run
from mgen.runs.run import TrainingResult
from mgen.workflows.ablate import STUDIES, AblationConfig, run_ablation
from mgen.workflows.baseline_drum_bass import DrumBassOptions
from mgen.workflows.baseline_piano_roll import RollConfig
from mgen.workflows.baseline_tabs import TabsConfig
from mgen.workflows.baseline_tabs_results import MAJORITY, REPEAT
from mgen.workflows.commands import COMMANDS
from mgen.workflows.finetune import FinetuneConfig
from mgen.workflows.grid import Grid, table
from mgen.workflows.grid_measures import PRETRAINED_COLUMNS, TUNED_COLUMNS, TunedMeasure
from mgen.workflows.grpo import GrpoConfig
from mgen.workflows.pretrain import PretrainConfig

OPTIONS = {"finetune": FinetuneConfig, "grpo": GrpoConfig, "pretrain": PretrainConfig}
OPTIONS |= {"baseline tabs": TabsConfig, "baseline piano-roll": RollConfig, "baseline drum-bass": DrumBassOptions}
QUICK = {"max_steps": 12}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "expected runs or axes, and of axes, command, quick, recipe, runs, seeds"),
        ("runs: {}", "expected runs or axes"),
        ("runs: {a: {}}\nsteps: 3", "expected runs or axes"),
        ("axes: {loss: mse}", "axes, loss: expected a list of values, found 'mse'"),
        ("runs: {a: {command: prepare}}", "run a: command 'prepare': expected one of finetune, grpo"),
        ("command: prepare\nruns: {a: {}}", "grid.yaml: command 'prepare': expected one of"),
        ("runs: {", "grid.yaml"),
    ],
)
def test_a_wrong_grid_is_one_line(content, message, tmp_path):
    path = tmp_path / "grid.yaml"
    path.write_text(content)
    with pytest.raises(MgenError, match=message) as caught:
        Grid.read(path, STUDIES)
    assert "\n" not in str(caught.value)
    with pytest.raises(MgenError, match="no such file"):
        Grid.read(tmp_path / "other.yaml", STUDIES)


def test_every_grid_of_the_recipes_can_be_read():
    from mgen.cli.recipe import CONFIGS

    paths = list((CONFIGS / "ablations").glob("*.yaml"))
    assert paths
    given = {"out": "o", "report_to": "none", "use_cpu": True}
    for path in paths:
        for quick in (False, True):
            for cell in Grid.read(path, STUDIES).cells(quick):
                inputs = {name: name for name in COMMANDS[cell.command][1]}
                from_keywords(OPTIONS[cell.command], cell.command, {**cell.options, **given, **inputs})


def test_the_cells_of_a_grid():
    grid = Grid("pretrain", {"size": "tiny", "max_steps": 50}, [0, 1], {"a": {}, "b": {"command": "grpo"}}, {}, QUICK)
    cells = list(grid.cells())
    assert [(cell.name, cell.folder, cell.command) for cell in cells[:2]] == [
        ("a", "a_0", "pretrain"),
        ("b", "b_0", "grpo"),
    ]
    assert cells[0].options == {"size": "tiny", "max_steps": 50, "seed": 0}
    assert cells[1].options == {"seed": 0}  # the recipe is that of another command
    assert [cell.options["max_steps"] for cell in grid.cells(quick=True)] == [12, 12, 12, 12]
    axes = {"loss": ["mse", "bce"], "targets": [["note", "dotted"], ["note"]]}
    crossed = list(Grid("pretrain", {}, [3], {"": {}}, axes, QUICK).cells())
    assert [cell.name for cell in crossed] == ["mse note+dotted", "mse note", "bce note+dotted", "bce note"]
    assert crossed[0].folder == "mse_note+dotted_3" and crossed[0].options["targets"] == ["note", "dotted"]


def test_commands_that_are_measured_differently_are_two_grids(tmp_path):
    path = tmp_path / "grid.yaml"
    path.write_text("runs: {a: {}, b: {command: pretrain}}")
    with pytest.raises(MgenError, match="measured by different numbers"):
        run_ablation(AblationConfig(grid=str(path), corpus="c", out=str(tmp_path / "out")), print)
    path.write_text("runs: {a: {}}")
    with pytest.raises(MgenError, match="runs of finetune need --policy"):
        run_ablation(AblationConfig(grid=str(path), corpus="c", out=str(tmp_path / "out")), print)


def test_a_row_is_the_mean_over_seeds_with_its_interval():
    key = next(iter(TUNED_COLUMNS))
    results = {"start": {"start": {key: 0.9}}, "runs": {"full": {"0": {key: 0.5}, "1": {key: 0.7}}}}
    rows = [line.strip("| ").split(" | ") for line in table(results, TUNED_COLUMNS).splitlines()]
    assert rows[0] == ["run", "seeds", TUNED_COLUMNS[key]]  # no column without a number
    assert rows[2] == ["start", "1", "0.90"]
    # Two seeds: Student's t with one degree of freedom is 12.706, the standard error 0.1.
    assert rows[3][2] == f"0.60 [{0.6 - 1.27062:.2f}, {0.6 + 1.27062:.2f}]"


def test_a_baseline_is_compared_by_its_metrics_and_with_systems_without_training():
    metrics = {"note/accuracy": 0.5, "note/precision": 0.4, "eval_loss": 1.0}
    one = {"value": 0.3, "low": 0.2, "high": 0.4}
    scores = {"note": {"accuracy": one}, "dotted": {"recall": {**one, "value": None}}}
    facts = {"test": {name: scores for name in ("lstm", MAJORITY, REPEAT)}}
    run = TrainingResult(Path(), Path(), 1, 2.0, metrics, False, (), facts)
    study = STUDIES["baseline tabs"](AblationConfig("g", "c", out="o"), Grid("baseline tabs", {}, [0], {}, {}, QUICK))
    assert study.measured(run) == {"": {"note/accuracy": 0.5, "eval_loss": 1.0, "seconds": 2.0}}
    assert study.untrained(facts) == {MAJORITY: {"note/accuracy": 0.3}, REPEAT: {"note/accuracy": 0.3}}


def test_a_chart_in_a_file_has_the_names_of_its_series():
    series = {f"run {i}": ([0.0, 1.0], [float(i), math.sqrt(i)]) for i in range(8)}
    root = ElementTree.fromstring(standalone_svg(Curve("a", "nats", series, across="KL & more")))
    words = [element.text for element in root.iter() if element.tag.endswith("text")]
    assert {"run 0", "run 5", "run 6 (dashed)", "run 7 (dashed)"} <= set(words)


@pytest.mark.slow
def test_a_grid_from_start_to_end(small_corpus, tiny_policy, remi, tmp_path, capsys):
    critic = feature_critic_run(tmp_path / "critic") / "model"
    policy = tmp_path / "policy"
    tiny_policy().save_pretrained(policy)
    remi.save_pretrained(policy)
    small = {"max_completion_length": 48, "num_generations": 2, "prompt_tokens": [16], "check_pieces": 0}
    small |= {"report_to": "none", "use_cpu": True, "judges": ["style=1"], "sample_steps": 0}
    own = {"completions": 8, "minibatch": 8, "guard_steps": 0, "max_steps": 1}
    runs = {
        "full": {},
        "end_rewards": {"causal_rewards": False},
        "grpo": {"command": "grpo", **small, "per_device_train_batch_size": 4, "max_steps": 1, "prompts": 8},
    }
    grid = tmp_path / "grid.yaml"
    grid.write_text(yaml.safe_dump({"seeds": [0], "recipe": {**small, **own}, "runs": runs}, sort_keys=False))
    out = tmp_path / "out"
    words = ["--config", str(grid), "--policy", str(policy), "--critic", str(critic), "--corpus", str(small_corpus)]
    words += ["--out", str(out), "--target", "jazz", "--pieces", "80", "--json", "--interpolate", "0.25"]
    (out / "end_rewards_0").mkdir(parents=True)
    assert run(ablate.main, words) == 0
    results = json.loads(capsys.readouterr().out)
    assert list(results["runs"]) == [
        f"{name}{share}" for name in ("full", "end_rewards", "grpo") for share in ("", " x 0.25")
    ]
    for name in ("full", "end_rewards", "grpo"):
        seeds = results["runs"][name]
        assert (out / f"{name}_0" / "model").is_dir()
        assert abs(seeds["0"]["transfer/kl"]) < 5 and 0 <= seeds["0"]["transfer/style"] <= 1
    assert (out / "table.md").read_text().count("\n") == 9 and (out / "figure.svg").is_file()
    before = (out / "full_0" / "run.json").read_text()
    assert run(ablate.main, words) == 0  # finished runs are not trained again
    assert (out / "full_0" / "run.json").read_text() == before
    assert json.loads(capsys.readouterr().out)["runs"] == results["runs"]
    assert lock_run(out / "full_0") is not None  # no lock is left


@pytest.mark.slow
def test_a_policy_half_way_has_a_quarter_of_the_kl(small_corpus, tiny_policy, remi, tmp_path):
    critic = feature_critic_run(tmp_path / "critic") / "model"
    start, far = tiny_policy(), tiny_policy()
    with torch.no_grad():
        for weight in far.parameters():
            weight += 0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel()))
    for name, policy in (("start", start), ("far", far)):
        policy.save_pretrained(tmp_path / name)
        remi.save_pretrained(tmp_path / name)
    measure = TunedMeasure(
        Corpus.open(small_corpus),
        str(tmp_path / "start"),
        str(critic),
        "jazz",
        80,
        prompt_tokens=16,
        completion_tokens=48,
    )
    kl = [measure(tmp_path / "far", tmp_path / f"{share}.json", share)["continuation/kl"] for share in (1.0, 0.5)]
    assert kl[0] > 1 and 0.15 * kl[0] < kl[1] < 0.4 * kl[0]


@pytest.mark.slow
def test_a_grid_of_pretrainings(small_corpus, tmp_path, capsys):
    grid = tmp_path / "grid.yaml"
    recipe = {"max_steps": 4, "eval_steps": 2, "context": 64, "per_device_train_batch_size": 2, "valid_windows": 2}
    recipe |= {"report_to": "none", "use_cpu": True, "sample_steps": 0}
    axes = {"architecture": ["llama", "lstm"]}
    content = {"command": "pretrain", "recipe": recipe, "axes": axes, "quick": {"max_steps": 2}}
    grid.write_text(yaml.safe_dump(content))
    words = ["--config", str(grid), "--corpus", str(small_corpus), "--out", str(tmp_path / "out"), "--target", "jazz"]
    assert run(ablate.main, [*words, "--pieces", "80", "--quick", "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert list(results["runs"]) == ["llama", "lstm"]
    for seeds in results["runs"].values():
        found = seeds["0"]
        assert set(found) <= set(PRETRAINED_COLUMNS) and found["tokens_per_second"] > 0
        assert 0 <= found["whole"] <= 1
    facts = json.loads((tmp_path / "out" / "lstm_0" / "run.json").read_text())
    assert facts["steps"] == 2 and facts["tokens"] == 2 * 2 * 64
    assert (tmp_path / "out" / "figure.svg").is_file()


def test_a_grid_is_asked_for(capsys):
    assert run(ablate.main, ["--policy", "p"]) == 2
    assert "expected --config GRID.yaml" in capsys.readouterr().err
