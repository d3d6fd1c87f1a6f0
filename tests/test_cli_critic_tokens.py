"""`mgen critic --input tokens`: from a corpus to a calibrated critic with a card."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from critics.style import StyleCritic
from critics.style.token_training import StyleTrainer
from mgen.cli import critic as command
from mgen.cli import prepare
from mgen.corpus.demo import compose, write_demo_corpus
from mgen.corpus.shards import Corpus
from mgen.errors import MgenError
from mgen.notes import Notes
from mgen.runs.checkpoints import check_manifest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    metadata = write_demo_corpus(folder / "music", 12)
    assert prepare.main(["--metadata", str(metadata), "--out", str(folder / "corpus")]) == 0
    return folder / "corpus"


@pytest.fixture(scope="module")
def policy(tiny_policy, corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("policy")
    tiny_policy().save_pretrained(folder)
    Corpus.open(corpus).remi.save_pretrained(folder)
    return folder


def words(corpus, policy, out, **changes):
    options = {
        "input": "tokens",
        "corpus": corpus,
        "init": policy,
        "out": out,
        "max_tokens": 96,
        "min_tokens": 64,
        "prompt_tokens": 32,
        "valid_excerpts": 64,
        "test_excerpts": 64,
        "max_steps": 40,
        "learning_rate": 1e-2,
        "eval_steps": 20,
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        **changes,
    }
    return [word for key, value in options.items() for word in (f"--{key}", str(value))]


@pytest.fixture(scope="module")
def run(corpus, policy, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "critic"
    assert command.main(words(corpus, policy, out)) == 0
    return out


def test_it_learns_and_its_card_measures_it(run, policy):
    card = json.loads((run / "card.json").read_text())
    assert card["test"]["auc"]["low"] <= card["test"]["auc"]["value"] <= card["test"]["auc"]["high"]
    assert card["test"]["auc"]["value"] > 0.8
    assert card["test"]["format"]["flat_velocities"]["value"] == 0
    assert 0 <= card["valid"]["ece"] <= 1 and card["valid"]["scale"] > 0
    before, after = load_file(policy / "model.safetensors"), load_file(run / "model" / "model.safetensors")
    moved = [name for name, weight in before.items() if not torch.equal(weight, after[name])]
    assert "model.embed_tokens.weight" in moved and len(moved) > len(before) / 2


def test_the_model_judges_pieces_in_calibrated_nats(run, corpus):
    check_manifest(run / "model")
    critic = StyleCritic.from_pretrained(run / "model", Corpus.open(corpus).remi)
    card = json.loads((run / "card.json").read_text())
    assert (critic.model.calibration.scale, critic.positive) == (card["valid"]["scale"], "jazz")
    judged = critic(Notes.from_scores([compose("lead_sheets", 100), compose("blues_piano", 100)]))
    assert judged.defined.all() and (judged.score <= 0).all()
    facts = json.loads((run / "model" / "critic.json").read_text())
    assert facts["trained_on"]["data"] == Corpus.open(corpus).fingerprint
    assert set(facts["trained_on"]["collections"]) == {"jazz", "other"}


def test_a_finished_run_is_not_trained_again_and_json_is_the_card(run, corpus, policy, capsys):
    assert command.main([*words(corpus, policy, run), "--json", "true"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((run / "card.json").read_text())


def test_an_interrupted_run_resumes_to_the_same_weights(run, corpus, policy, tmp_path, monkeypatch):
    compute_loss = StyleTrainer.compute_loss

    def cut(self, *args, **kwargs):
        if self.state.global_step == 27:
            raise KeyboardInterrupt
        return compute_loss(self, *args, **kwargs)

    monkeypatch.setattr(StyleTrainer, "compute_loss", cut)
    with pytest.raises(KeyboardInterrupt):
        command.main(words(corpus, policy, tmp_path / "cut"))
    monkeypatch.undo()
    assert command.main(words(corpus, policy, tmp_path / "cut")) == 0
    complete, resumed = (load_file(out / "model" / "model.safetensors") for out in (run, tmp_path / "cut"))
    assert all(torch.equal(complete[name], resumed[name]) for name in complete)
    steps = [json.loads(line)["step"] for line in (tmp_path / "cut" / "metrics.jsonl").read_text().splitlines()]
    assert np.all(np.diff(steps) >= 0) and steps[-1] == 40


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": "polka"}, "target: style 'polka': the corpus has jazz, other"),
        ({"max_tokens": 1024}, "max_tokens"),
        ({"min_tokens": 200}, r"min_tokens \(200\) must be between 1 and max_tokens \(96\)"),
        ({"worst": -0.1}, r"worst \(-0.1\) must be below log 1/2"),
        ({"valid_excerpts": 8}, "at least 32"),
        ({"init": "nowhere"}, "nowhere: expected a model"),
        ({"corpus": ""}, "expected --corpus"),
    ],
)
def test_the_callers_mistakes_are_one_line_and_leave_nothing(corpus, policy, tmp_path, changes, message):
    with pytest.raises(MgenError, match=message) as caught:
        command.main(words(**{"corpus": corpus, "policy": policy, "out": tmp_path / "out", **changes}))
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()
