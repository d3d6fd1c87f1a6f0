"""A grid of fine-tuning runs: its file, its table, its figure, and a small one from start to end."""

from __future__ import annotations

import json
import math
from xml.etree import ElementTree

import pytest
import torch
import yaml
from hub_runs import feature_critic_run

from mgen.cli import ablate
from mgen.cli.main import run
from mgen.errors import MgenError
from mgen.options import from_keywords
from mgen.render.charts import Curve, standalone_svg
from mgen.runs.lock import lock_run
from mgen.workflows.ablate import COLUMNS, AblationConfig, Grid, _Measure, table
from mgen.workflows.finetune import FinetuneConfig
from mgen.workflows.grpo import GrpoConfig


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "expected the keys recipe, seeds and runs"),
        ("runs: {}", "expected the keys recipe, seeds and runs"),
        ("runs: {a: {}}\nsteps: 3", "expected the keys recipe, seeds and runs"),
        ("runs: {a: {command: pretrain}}", "run a: command 'pretrain': expected one of finetune, grpo"),
        ("runs: {", "grid.yaml"),
    ],
)
def test_a_wrong_grid_is_one_line(content, message, tmp_path):
    path = tmp_path / "grid.yaml"
    path.write_text(content)
    with pytest.raises(MgenError, match=message) as caught:
        Grid.read(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(MgenError, match="no such file"):
        Grid.read(tmp_path / "other.yaml")


def test_every_grid_of_the_recipes_can_be_read():
    from mgen.cli.recipe import CONFIGS

    paths = list((CONFIGS / "ablations").glob("*.yaml"))
    assert paths
    given = {"policy": "p", "corpus": "c", "out": "o", "report_to": "none", "use_cpu": True}
    for grid in map(Grid.read, paths):
        for change in grid.runs.values():
            command = change.get("command", "finetune")
            options = {**(grid.recipe if command == "finetune" else {}), **change, **given}
            options.pop("command", None)
            from_keywords({"finetune": FinetuneConfig, "grpo": GrpoConfig}[command], command, options)


def test_a_row_is_the_mean_over_seeds_with_its_interval():
    key = next(iter(COLUMNS))
    results = {"start": {key: 0.9}, "runs": {"full": {"0": {key: 0.5}, "1": {key: 0.7}}}}
    rows = [line.split(" | ") for line in table(results).splitlines()]
    assert rows[2][2] == "0.90" and rows[2][3].startswith("-")
    # Two seeds: Student's t with one degree of freedom is 12.706, the standard error 0.1.
    assert rows[3][2] == f"0.60 [{0.6 - 1.27062:.2f}, {0.6 + 1.27062:.2f}]"


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
    folders = {name: str(tmp_path / name) for name in ("start", "far")}
    given = {"corpus": str(small_corpus), "critic": str(critic), "out": str(tmp_path / "out"), "target": "jazz"}
    config = AblationConfig(grid="grid.yaml", policy=folders["start"], pieces=80, **given)
    measure = _Measure(config, Grid({"max_completion_length": 48, "prompt_tokens": [16]}, [0], {"a": {}}))
    kl = [
        measure.stored(tmp_path / "far", tmp_path / f"{share}.json", share)["continuation/kl"] for share in (1.0, 0.5)
    ]
    assert kl[0] > 1 and 0.15 * kl[0] < kl[1] < 0.4 * kl[0]


def test_a_grid_is_asked_for(capsys):
    assert run(ablate.main, ["--policy", "p"]) == 2
    assert "expected --config GRID.yaml" in capsys.readouterr().err
