"""A recipe: all steps for a target style of any name."""

from __future__ import annotations

import json

import pytest
import yaml

from mgen.cli import evaluate, recipe
from mgen.cli.options import Output, parse
from mgen.corpus.demo import write_demo_corpus
from mgen.errors import MgenError
from mgen.workflows.critic import CriticConfig
from mgen.workflows.finetune import FinetuneConfig
from mgen.workflows.grpo import GrpoConfig
from mgen.workflows.pretrain import PretrainConfig

pytestmark = pytest.mark.slow

TRAINING = {"report_to": "none", "use_cpu": True, "disable_tqdm": True}
TINY = {
    "prepare/tiny": {"workers": 1},
    "pretrain/tiny": {"context": 128, "max_steps": 2, "eval_steps": 2, "valid_windows": 4, **TRAINING},
    "critic/tiny": {"notes": [24], "pieces": 24, "each": 1},
    "baselines/target_only_tiny": {"context": 128, "max_steps": 1, "eval_steps": 1, "valid_windows": 4, **TRAINING},
    "finetune/tiny": {"completions": 4, "minibatch": 4, "guard_steps": 0},
    "grpo/tiny": {"per_device_train_batch_size": 4, "prompts": 4, "disable_tqdm": True},
    "evaluate/tiny": {
        "n": 32,
        "n_greedy": 0,
        "prompt_types": ["continuation"],
        "prompt_tokens": 16,
        "completion_tokens": 64,
        "two_sample": False,
        "sequence": False,
        "baselines": ["none"],
        "low_cost_baselines": ["none"],
        "examples": 1,
        "samples": 1,
    },
}
JUDGED = {
    "judges": ["grammar=0.25", "style=1"],
    "max_steps": 1,
    "prompt_tokens": [16],
    "max_completion_length": 32,
    "num_generations": 2,
    "report_to": "none",
    "use_cpu": True,
}


@pytest.fixture
def tiny_recipe(tmp_path, monkeypatch):
    """Configs of a recipe that takes seconds."""
    for name, options in TINY.items():
        path = tmp_path / "configs" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(options | (JUDGED if name in ("finetune/tiny", "grpo/tiny") else {})))
    monkeypatch.setattr(recipe, "CONFIGS", tmp_path / "configs")


def test_a_recipe_for_a_style_of_another_name(tiny_recipe, quick_critic, tmp_path, monkeypatch, capsys):
    metadata = write_demo_corpus(tmp_path / "music", works_per_collection=10)
    metadata.write_text(metadata.read_text().replace(",jazz,", ",bach,"))
    out = tmp_path / "out"
    assert recipe.main(["tiny", "--metadata", str(metadata), "--out", str(out)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == str(out / "report.html") and "What came out:" in printed
    steps = [line for line in printed if line.startswith("Step ")]
    assert len(steps) == 7 and steps[2].startswith("Step 3 of 7: critic. Learns to distinguish bach from other music")
    assert set(json.loads((out / "corpus" / "corpus.json").read_text())["pieces"]) == {"bach", "other"}
    for name, command in (("tuned", "finetune"), ("grpo", "grpo")):
        assert yaml.safe_load((out / name / "config.yaml").read_text())["target"] == "bach"
        assert json.loads((out / name / "run.json").read_text())["command"] == command
    metrics = json.loads((out / "evaluation" / "metrics.json").read_text())
    assert {"pretrained", "tuned", "grpo", "target_only", "real"} <= metrics["rows"].keys()
    assert metrics["protocol"]["target"] == "bach"
    assert sum(line.startswith("The fine-tuned model") for line in metrics["outcome"]) == 2  # tuned and grpo
    assert any("tuned is" in line and "target_only" in line for line in metrics["outcome"])
    assert {f"- {line}" for line in metrics["outcome"]} <= set(printed)
    # Again: every step is finished.
    before = (out / "grpo" / "run.json").read_text()
    run_step = recipe.run_step
    monkeypatch.setattr(recipe, "run_step", lambda *words, **o: words[0] == "evaluate" or run_step(*words, **o))
    assert recipe.main(["tiny", "--target", "bach", "--metadata", str(metadata), "--out", str(out)]) == 0
    assert (out / "grpo" / "run.json").read_text() == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--style", "bach=a", "--style", "jazz=b"], "expected --target STYLE, one of bach, jazz"),
        (["--style", "bach=a", "--style", "other=b", "--target", "bax"], "style 'bax': the corpus has bach, other"),
        (["--style", "bach"], "expected NAME=SRC"),
    ],
)
def test_a_target_that_is_not_clear_is_one_line_before_anything_is_read(words, message, tiny_recipe, tmp_path):
    with pytest.raises(MgenError, match=message) as caught:
        recipe.main(["tiny", *words, "--out", str(tmp_path / "out")])
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()


def test_a_recipe_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(MgenError, match="recipe 'laptob': expected one of demo, gpu, laptop"):
        recipe.main(["laptob", "--style", "bach=a", "--style", "other=b", "--out", str(tmp_path / "out")])


@pytest.mark.parametrize("name", ["demo", "laptop", "gpu"])
@pytest.mark.parametrize("target", ["jazz", "other"])
def test_every_step_of_a_recipe_takes_its_options(name, target, small_corpus, monkeypatch, tmp_path):
    steps = []

    def keep(command, config, options, folder=""):
        steps.append((command, config, options, folder))

    monkeypatch.setattr(recipe, "run_step", keep)
    (tmp_path / "corpus").symlink_to(small_corpus)
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation" / "report.html").write_text("page")
    (tmp_path / "evaluation" / "metrics.json").write_text(json.dumps({"outcome": ["What changed."]}))
    assert recipe.run_pipeline(name, ["--style", "jazz=music"], tmp_path, target) == 0
    types = {"pretrain": PretrainConfig, "critic": CriticConfig, "finetune": FinetuneConfig, "grpo": GrpoConfig}
    types["evaluate"] = evaluate.EvaluateConfig
    parsed = {}
    for command, config, options, folder in steps:
        path = recipe.CONFIGS / (folder or command) / f"{config}.yaml"
        argv = ["--config", str(path), *options]
        parsed[command, config], _ = parse(argv, types[command], Output, doc=f"mgen {command}")
    assert {command for command, _ in parsed} == set(types) - ({"grpo"} if name == "demo" else set())
    assert parsed["critic", name].input == "features" and parsed["critic", name].target == target
    assert parsed["finetune", name].out == str(tmp_path / "tuned")
    assert name == "demo" or parsed["grpo", name].out == str(tmp_path / "grpo")
    assert parsed["finetune", name].target == parsed["evaluate", name].target == target
    assert parsed["pretrain", f"target_only_{name}"].style == target
    assert (tmp_path / "report.html").read_text() == "page"
