"""A judge of somebody else's package: installed, trained with, found again by the commands that follow."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mgen.cli import evaluate, finetune, generate
from mgen.errors import MgenError
from mgen.runs.judges import judges_of_run
from mgen.workflows.judges import JUDGES

pytestmark = pytest.mark.slow

PACKAGE = Path(__file__).parents[1] / "examples" / "own_judge"
ENTRY = {"judge": "own_judge:SmallLeaps", "weight": 0.5, "arguments": {"largest": 3}}


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Folder with the installed package; `use` puts it on the path."""
    if importlib.util.find_spec("setuptools") is None:
        pytest.skip("setuptools, which builds the package, is not installed")
    target = tmp_path_factory.mktemp("site")
    words = ["install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(target)]
    source = tmp_path_factory.mktemp("source") / "own_judge"  # a build writes into its source
    source.mkdir()
    for name in ("pyproject.toml", "own_judge.py", "README.md"):
        (source / name).write_text((PACKAGE / name).read_text())
    done = subprocess.run([sys.executable, "-m", "pip", *words, str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture
def use(installed, monkeypatch):
    monkeypatch.syspath_prepend(str(installed))
    yield
    sys.modules.pop("own_judge", None)


@pytest.fixture(scope="module")
def policy(tiny_policy, remi, tmp_path_factory):
    folder = tmp_path_factory.mktemp("base") / "model"
    tiny_policy(seed=1, initializer_range=0.3, max_position_embeddings=192).save_pretrained(folder)
    remi.save_pretrained(folder)
    return folder


def words(corpus, policy, out, *more):
    options = {"policy": policy, "corpus": corpus, "out": out, "max_steps": 2, "prompt_tokens": 16}
    options |= {"max_completion_length": 48, "completions": 4, "minibatch": 4, "num_generations": 2, "bf16": "false"}
    options |= {"sample_steps": 0, "check_pieces": 0, "report_to": "none", "guard_steps": 0, "use_cpu": "true"}
    return [word for key, value in options.items() for word in (f"--{key}", str(value))] + [*more]


def test_a_run_is_trained_generated_and_evaluated_with_it(use, small_corpus, policy, remi, tmp_path, monkeypatch):
    config = tmp_path / "leaps.yaml"
    config.write_text(yaml.safe_dump({"judges": ["rests=0.5", ENTRY]}))
    run = tmp_path / "run"
    assert finetune.main(["--config", str(config), *words(small_corpus, policy, run)]) == 0
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert all("rewards/own_judge:SmallLeaps/mean" in line for line in lines if "policy/kl" in line)

    judges = judges_of_run(run, JUDGES, remi)
    assert judges.judges["own_judge:SmallLeaps"].largest == 3
    assert "0.5 own_judge:SmallLeaps as in the run" in judges.description
    asked = ["--model", str(run / "model"), "--out", str(tmp_path / "pieces"), "--max_new_tokens", "48", "--n", "2"]
    assert generate.main([*asked, "--best_of", "2", "--judges_of", str(run)]) == 0
    asked = ["--model", f"base={policy}", f"leaps={run / 'model'}", "--corpus", str(small_corpus), "--n", "64"]
    asked += ["--n_greedy", "4", "--prompt_tokens", "16", "--completion_tokens", "48", "--prompt_types", "continuation"]
    asked += ["--low_cost_baselines", "best_of_2", "--baselines", "none", "--sequence", "false", "--samples", "0"]
    assert evaluate.main([*asked, "--two_sample", "false", "--out", str(tmp_path / "evaluation")]) == 0
    result = json.loads((tmp_path / "evaluation" / "metrics.json").read_text())
    assert "own_judge:SmallLeaps" in json.dumps(result["remarks"])

    monkeypatch.setattr(sys, "path", [path for path in sys.path if "site" not in Path(path).name])
    sys.modules.pop("own_judge")
    with pytest.raises(MgenError, match=r"judge own_judge:SmallLeaps: no module own_judge; pip install") as caught:
        judges_of_run(run, JUDGES, remi)
    assert "\n" not in str(caught.value)


def test_a_word_of_the_command_line_takes_arguments_too(use, small_corpus, policy, remi, tmp_path):
    word = '{judge: "own_judge:SmallLeaps", weight: 2, arguments: {largest: 12}}'
    assert finetune.main(words(small_corpus, policy, tmp_path / "run", "--max_steps", "1", "--judges", word)) == 0
    judges = judges_of_run(tmp_path / "run", JUDGES, remi)
    assert judges.weights == {"own_judge:SmallLeaps": 2.0}
    assert judges.judges["own_judge:SmallLeaps"].largest == 12


def test_the_packages_own_tests_pass(installed, tmp_path):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(PACKAGE / "tests")]
    path = f"{installed}:{PACKAGE.parents[1]}"
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env={"PYTHONPATH": path})
    assert done.returncode == 0, done.stdout
