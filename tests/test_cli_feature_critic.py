"""A critic of features in other commands, and rules that a corpus has no band for."""

from __future__ import annotations

import json

import pytest
from hub_runs import feature_critic_run

from mgen.cli import evaluate, finetune
from mgen.errors import MgenError
from mgen.runs.judges import build_judges, judge_specs, judges_of_run
from mgen.workflows.judges import JUDGES
from rewards.bands import Bands

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def critic(tmp_path_factory):
    return feature_critic_run(tmp_path_factory.mktemp("runs") / "critic") / "model"


@pytest.fixture(scope="module")
def policy(tiny_policy, remi, tmp_path_factory):
    folder = tmp_path_factory.mktemp("policy")
    tiny_policy().save_pretrained(folder)
    remi.save_pretrained(folder)
    return folder


# ------------------------------------------------------ rules without a band


def words(corpus, policy, critic, out, *judges):
    options = {"policy": policy, "corpus": corpus, "critic": critic, "out": out, "max_steps": 1, "guard_steps": 0}
    options |= {"max_completion_length": 48, "completions": 4, "minibatch": 4, "num_generations": 2, "bf16": "false"}
    options |= {
        "prompt_tokens": 16,
        "sample_steps": 0,
        "check_pieces": 0,
        "report_to": "none",
        "use_cpu": "true",
    }
    return [word for key, value in options.items() for word in (f"--{key}", str(value))] + ["--judges", *judges]


def test_a_rule_without_a_band_is_left_out_with_a_remark(small_corpus, policy, critic, remi, tmp_path, capsys):
    """Structure over many bars: 48 tokens have none of it."""
    run = tmp_path / "run"
    asked = ["structure_long=1", "rests=0.5", "style=1"]
    assert finetune.main(words(small_corpus, policy, critic, run, *asked)) == 0
    printed = capsys.readouterr().err.splitlines()
    remarks = [line for line in printed if "structure_long" in line]
    assert len(remarks) == 1 and remarks[0].startswith("judge structure_long is left out: only 0 of ")
    facts = json.loads((run / "run.json").read_text())
    assert list(facts["left_out"]) == ["structure_long"]
    (line,) = [line for line in map(json.loads, (run / "metrics.jsonl").open()) if "policy/kl" in line]
    judged = {key.split("/")[1] for key in line if key.startswith("rewards/") and key.endswith("/mean")}
    assert judged == {"rests", "style"}
    weighted = 0.5 * line["rewards/rests/mean"] + line["rewards/style/mean"]  # each has kept its own weight
    assert line["reward"] == pytest.approx(weighted, abs=1e-4)
    judges = judges_of_run(run, JUDGES, remi)
    assert dict(judges.weights) == {"rests": 0.5, "style": 1.0}
    assert "structure_long is left out: only 0 of" in judges.description


def test_no_judge_left_is_an_error(small_corpus, policy, critic, tmp_path):
    with pytest.raises(MgenError, match=r"judges: none is left .structure_long: only 0 of .*judge longer completions"):
        finetune.main(words(small_corpus, policy, critic, tmp_path / "run", "structure_long=1"))


def test_only_what_the_corpus_itself_does_not_have_is_left_out(remi):
    """A file of bands that lacks a rule for no stated reason is of another version: that stays an error."""
    bands = Bands({}, left_out={"swing": "only 3 of 99 real pieces can be measured", "n_notes": "none"})
    _, left_out = build_judges(judge_specs(["swing=1"], JUDGES), JUDGES, remi, bands=bands)
    assert left_out == {"swing": "only 3 of 99 real pieces can be measured"}
    for asked in (["rests=1"], ["grammar=1"]):
        with pytest.raises(MgenError, match=r"no '\w+' \(there: none\)"):
            build_judges(judge_specs(asked, JUDGES), JUDGES, remi, bands=Bands({}))


# ------------------------------------------------------------- other commands


@pytest.mark.parametrize("what", ["midi", "model"])
def test_evaluate_needs_hidden_states(what, small_corpus, policy, critic, tmp_path):
    models = ["--model", str(policy), "--corpus", str(small_corpus), "--out", str(tmp_path / "e"), "--n", "64"]
    music = str(small_corpus.parent / "music")
    asked = {"midi": ["--midi", music, "--reference", music], "model": models}[what]
    with pytest.raises(MgenError, match=r"--critic .*expected a token critic, this one is of style features"):
        evaluate.main([*asked, "--critic", str(critic)])
    assert list(tmp_path.iterdir()) == []
