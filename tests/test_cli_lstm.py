"""Every command takes an LSTM policy as it takes a Transformer."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from mgen.cli import critic, evaluate, finetune, generate, pretrain, push
from mgen.cli.main import run
from mgen.models.lstm import LstmForCausalLM
from mgen.models.transformer import load_policy
from mgen.training.pretrain import PretrainTrainer

pytestmark = pytest.mark.slow

QUIET = ["--report_to", "none", "--disable_tqdm", "true"]


def words(corpus, out, **options):
    given = {"corpus": corpus, "out": out, "architecture": "lstm", "context": 192, "valid_windows": 16}
    given |= {"per_device_train_batch_size": 8, "learning_rate": "5e-3", "speed": "plain", **options}
    return [*(word for name, value in given.items() for word in (f"--{name}", str(value))), *QUIET]


@pytest.fixture(scope="module")
def base(small_corpus, tmp_path_factory):
    """A policy that has seen enough to write notes."""
    out = tmp_path_factory.mktemp("runs") / "base"
    assert pretrain.main(words(small_corpus, out, max_steps=100, eval_steps=50, width=64)) == 0
    return out


@pytest.fixture(scope="module")
def style_critic(small_corpus, base, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "critic"
    options = ["--corpus", str(small_corpus), "--out", str(out), "--init", str(base / "model"), "--input", "tokens"]
    options += ["--max_steps", "8", "--eval_steps", "8", "--max_tokens", "128", "--min_tokens", "64"]
    options += ["--valid_excerpts", "64", "--test_excerpts", "64", "--per_device_train_batch_size", "8"]
    assert critic.main([*options, "--prompt_tokens", "32", *QUIET]) == 0
    return out


def test_pretraining_learns(base):
    facts = json.loads((base / "run.json").read_text())
    policy, _ = load_policy(base / "model")
    assert type(policy) is LstmForCausalLM and policy.config.hidden_size == 64
    assert facts["parameters"] == policy.num_parameters()
    assert facts["nats_per_token"] < 0.6 * facts["uniform_nats_per_token"]


def test_resuming_is_exact(small_corpus, tmp_path, monkeypatch):
    """With dropout, whose random numbers go on where they were."""
    options = {"max_steps": 8, "eval_steps": 4, "width": 32, "dropout": 0.2, "context": 64, "optimizer": "muon"}
    assert pretrain.main(words(small_corpus, tmp_path / "straight", **options)) == 0
    step, calls = PretrainTrainer.training_step, []

    def cut(*args, **kwargs):
        calls.append(0)
        if len(calls) == 7:
            raise KeyboardInterrupt
        return step(*args, **kwargs)

    monkeypatch.setattr(PretrainTrainer, "training_step", cut)
    with pytest.raises(KeyboardInterrupt):
        pretrain.main(words(small_corpus, tmp_path / "killed", **options))
    monkeypatch.undo()
    assert pretrain.main(words(small_corpus, tmp_path / "killed", **options)) == 0
    weights = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("straight", "killed")]
    assert weights[0] == weights[1]


def test_all_its_options_are_trained(small_corpus, tmp_path):
    options = {"max_steps": 2, "eval_steps": 2, "context": 64, "layers": 3, "width": 24, "speed": "auto"}
    options |= {"normalisation": "none", "residual": "false", "dropout": 0.5, "optimizer": "rmsprop"}
    assert pretrain.main(words(small_corpus, tmp_path / "run", **options, repetition="own", repetition_from=0)) == 0
    config = load_policy(tmp_path / "run" / "model")[0].config
    assert (config.num_hidden_layers, config.hidden_size) == (3, 24)
    assert (config.normalisation, config.residual, config.dropout) == ("none", False, 0.5)


def test_options_of_the_other_architecture_are_one_line(small_corpus, tmp_path, capsys):
    options = ["--corpus", str(small_corpus), "--out", str(tmp_path / "run"), "--layers", "2"]
    assert run(pretrain.main, options) == 2
    assert run(pretrain.main, [*options, "--architecture", "lstn"]) == 2
    first, second = capsys.readouterr().err.strip().splitlines()
    assert "layers is an option of architecture lstm" in first and "lstm" in second
    assert not (tmp_path / "run").exists()


def test_it_generates_and_is_evaluated(small_corpus, base, tmp_path, capsys):
    model = str(base / "model")
    music = tmp_path / "music"
    assert generate.main(["--model", model, "--out", str(music), "--n", "2", "--max_new_tokens", "60"]) == 0
    assert len(list(music.glob("*.mid"))) == 2
    options = ["--model", f"lstm={model}", "--corpus", str(small_corpus), "--out", str(tmp_path / "evaluation")]
    options += ["--n", "32", "--n_greedy", "4", "--prompt_tokens", "32", "--completion_tokens", "64"]
    options += ["--prompt_types", "continuation", "--baselines", "markov1", "--examples", "1", "--samples", "1"]
    assert evaluate.main(options) == 0
    assert "lstm" in json.loads((tmp_path / "evaluation" / "metrics.json").read_text())["systems"]


def test_it_is_finetuned_with_a_critic_on_its_layers(small_corpus, base, style_critic, tmp_path):
    options = ["--policy", str(base / "model"), "--corpus", str(small_corpus), "--out", str(tmp_path / "run")]
    options += ["--critic", str(style_critic / "model"), "--max_steps", "2", "--save_steps", "1", "--completions", "16"]
    options += ["--num_generations", "4", "--minibatch", "8", "--max_completion_length", "64", "--prompt_tokens", "16"]
    options += ["--judges", "style=1", "realism_tokens=1", "--realism_warm_up", "1"]
    options += ["--realism_gradient_penalty", "0.1"]
    options += ["--check_pieces", "0", "--guard_steps", "0"]
    options += ["--report_to", "none"]
    assert finetune.main(options) == 0
    before, after = (load_file(run / "model" / "model.safetensors") for run in (base, tmp_path / "run"))
    assert before.keys() == after.keys() and any(not torch.equal(before[name], after[name]) for name in before)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert abs(next(line["policy/kl"] for line in lines if "policy/kl" in line)) < 1e-2


def test_its_repository_says_what_registers_it(base, style_critic, tmp_path):
    for folder, architecture in ((base, "LstmForCausalLM"), (style_critic, "LstmForSequenceClassification")):
        out = tmp_path / folder.name
        assert push.main([str(folder), "ada/lstm", "--dry_run", str(out), "--samples", "0"]) == 0
        card = (out / "README.md").read_text()
        assert "library_name: mgen" in card and "import mgen.models.lstm" in card
        assert f"`{architecture}` of `mgen` (`model_type` mgen_lstm), registered" in card
