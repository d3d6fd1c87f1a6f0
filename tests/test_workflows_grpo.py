"""GRPO as published with our judges: weights move, judges are logged, the discriminator is trained, and it resumes."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from critics.realism.feature_discriminator import FeatureDiscriminator
from mgen.cli import grpo
from mgen.errors import MgenError
from mgen.workflows import grpo as grpo_workflow
from mgen.workflows import policy_run

pytestmark = pytest.mark.slow

JUDGES = ["grammar=0.25", "pitch_entropy=0.5", "realism=1"]


@pytest.fixture(scope="module")
def policy(musical_policy, remi, tmp_path_factory):
    folder = tmp_path_factory.mktemp("policy")
    musical_policy.save_pretrained(folder)
    remi.save_pretrained(folder)
    return folder


def words(corpus, policy, out, *more):
    options = {"policy": policy, "corpus": corpus, "out": out, "max_steps": 2, "prompts": 8, "save_steps": 1}
    options |= {"per_device_train_batch_size": 8, "num_generations": 4, "max_completion_length": 96}
    options |= {"prompt_tokens": 16, "realism_warm_up": 1, "check_pieces": 0, "sample_steps": 0, "warmup_steps": 0}
    options |= {"learning_rate": 1e-3, "bf16": "false", "report_to": "none", "disable_tqdm": "true", "use_cpu": "true"}
    return [word for key, value in options.items() for word in (f"--{key}", str(value))] + ["--judges", *JUDGES, *more]


@pytest.fixture(scope="module")
def tuned(small_corpus, policy, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "grpo"
    assert grpo.main(words(small_corpus, policy, out)) == 0
    return out


def weights(folder):
    return load_file(folder / "model.safetensors")


def test_weights_move_and_every_judge_is_logged(tuned, policy):
    before, after = weights(policy), weights(tuned / "model")
    assert any(not torch.equal(before[name], after[name]) for name in before)
    lines = [json.loads(line) for line in (tuned / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "rewards/realism/mean" in line]
    assert len(steps) == 2
    for line in steps:
        assert {f"rewards/{spec.split('=')[0]}/mean" for spec in JUDGES} | {"kl", "reward"} <= line.keys()
    facts = json.loads((tuned / "run.json").read_text())
    assert facts["finished"] and facts["command"] == "grpo" and facts["steps"] == 2


def test_it_saves_the_discriminator_that_it_trained(tuned):
    assert FeatureDiscriminator.from_pretrained(tuned / "realism").against == "current"
    first, last = (
        torch.load(tuned / "checkpoints" / f"checkpoint-{step}" / "discriminator.pt", weights_only=True)
        for step in (1, 2)
    )
    assert (first["batches"], last["batches"]) == (2, 3)  # after one of warm-up
    assert not torch.equal(first["realism"]["coefficients"], last["realism"]["coefficients"])


def power_cut(*_, **__):
    raise KeyboardInterrupt


@pytest.mark.parametrize("place", ["after the first step", "after the last"])
def test_a_run_interrupted_after_a_checkpoint_ends_as_it_would_have(
    place, tuned, small_corpus, policy, tmp_path, monkeypatch
):
    """Weights and discriminator are those of an undisturbed run; after its last checkpoint it takes no step more."""
    asked = words(small_corpus, policy, tmp_path / "run")
    with monkeypatch.context() as patch:
        if place == "after the last":
            patch.setattr(policy_run, "save_discriminators", power_cut)
        else:
            patch.setattr(grpo_workflow.CompleteCheckpoints, "on_step_begin", cut_in_step_two)
        with pytest.raises(KeyboardInterrupt):
            grpo.main(asked)
    checkpoints = sorted(path.name for path in (tmp_path / "run" / "checkpoints").glob("checkpoint-*"))
    assert checkpoints == ["checkpoint-1", *(["checkpoint-2"] if place == "after the last" else [])]
    assert grpo.main(asked) == 0
    for folder, name in (("model", "model"), ("realism", "discriminator")):
        expected, found = (load_file(run / folder / f"{name}.safetensors") for run in (tuned, tmp_path / "run"))
        assert all(torch.equal(expected[key], found[key]) for key in expected)
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["finished"] and facts["steps"] == 2


def cut_in_step_two(self, args, state, control, **_):
    if state.global_step == 1:
        raise KeyboardInterrupt


def test_a_finished_run_says_so(tuned, small_corpus, policy, capsys):
    assert grpo.main(words(small_corpus, policy, tuned)) == 0
    assert "was finished before" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--beta", "0"], r"beta \(0\) must be above 0"),
        (["--num_generations", "3"], "num_generations"),
        (["--target", "polka"], "style 'polka': the corpus has jazz, other"),
        (["--save_total_limit", "1"], r"save_total_limit \(1\) must be at least 2"),
        (["--kl_weight", "1"], "kl_weight"),
    ],
)
def test_mistakes_are_one_line(change, message, small_corpus, policy, tmp_path):
    with pytest.raises(MgenError, match=message) as caught:
        grpo.main(words(small_corpus, policy, tmp_path / "run", *change))
    assert "\n" not in str(caught.value)
