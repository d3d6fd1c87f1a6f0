"""A critic of features in other commands, and rules that a corpus has no band for."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from critics_music import STRAIGHT, SWUNG, toy
from hub_runs import feature_critic_run

from mgen.cli import evaluate, finetune
from mgen.corpus.shards import Corpus
from mgen.errors import MgenError
from mgen.judgement import Judgement
from mgen.notes import Notes
from mgen.rl.credit import group_advantages, returns_to_go, token_rewards
from mgen.rl.prompt_mix import PromptMix
from mgen.runs.judges import build_judges, judge_specs, judges_of_run
from mgen.workflows.finetune import FinetuneConfig, available_judges
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


# ------------------------------------------------------------- credit by bars


def style_judge(corpus, critic, **options):
    asked = {"judges": ["style=1"], "critic": str(critic)}
    config = FinetuneConfig(policy="p", corpus=str(corpus), out="o", bf16=False, use_cpu=True, **asked, **options)
    prompts = PromptMix(Corpus.open(corpus), "jazz", config.transfer_share, config.prompt_tokens, 48, config.seed)
    judges, discriminator, _ = available_judges(config, prompts, Bands())
    assert discriminator is None
    return judges["style"]


def test_the_style_critic_gives_credit_where_the_objective_uses_it(small_corpus, critic):
    grpo = {"objective": "grpo", "beta": 0.04}
    assert style_judge(small_corpus, critic).credit
    assert not style_judge(small_corpus, critic, style_credit=False).credit
    assert not style_judge(small_corpus, critic, **grpo).credit
    assert style_judge(small_corpus, critic, style_credit=True, **grpo).credit


def test_credit_by_bars_changes_the_returns_to_go_and_not_their_sum(small_corpus, critic, remi):
    """Both ways pay a completion the same, so the first token's advantage is the same; what a bar changed is no longer
    to come once the bar has been played.
    """
    rng = np.random.default_rng(1)
    pieces = Notes.concat([toy(SWUNG, 4, rng), toy(STRAIGHT, 4, rng)]).pieces(np.array([0, 4, 1, 5, 2, 6, 3, 7]))
    rows = remi.encode(pieces)
    notes = Notes.from_ids(rows, remi)
    lengths = torch.tensor([len(row) for row in rows])
    group = torch.arange(8) // 4
    mask = torch.arange(int(lengths.max())) < lengths[:, None]
    advantages, rewards = {}, {}
    for credit in (True, False):
        judged = style_judge(small_corpus, critic, style_credit=credit)(notes)
        assert isinstance(judged, Judgement) and judged.defined.all()
        rewards[credit] = token_rewards(judged, notes, lengths)
        torch.testing.assert_close(rewards[credit].sum(1), torch.from_numpy(judged.score), atol=1e-5, rtol=0)
        advantages[credit] = group_advantages(returns_to_go(rewards[credit], mask), group)
    torch.testing.assert_close(advantages[True][:, 0], advantages[False][:, 0], atol=1e-5, rtol=0)
    assert (rewards[False] != 0).sum(1).max() == 1 < (rewards[True] != 0).sum(1).min()
    assert not torch.allclose(advantages[True][mask], advantages[False][mask], atol=0.05)
    # no bar is remarks of what came later: the first bar's credit is that of the bar alone
    first = notes.bar == np.minimum.reduceat(notes.bar, notes.starts[:-1])[notes.piece]
    judge = style_judge(small_corpus, critic)
    alone = judge(notes.select(first))
    score = np.where(alone.defined, alone.score, np.log(0.5))
    np.testing.assert_allclose(
        np.bincount(notes.piece[first], judge(notes).credit[first], minlength=8), score, atol=1e-5
    )


# ------------------------------------------------------ rules without a band


def words(corpus, policy, critic, out, *judges):
    options = {"policy": policy, "corpus": corpus, "critic": critic, "out": out, "max_steps": 1, "prompts": 8}
    options |= {"max_completion_length": 48, "per_device_train_batch_size": 4, "num_generations": 2, "bf16": "false"}
    options |= {"prompt_tokens": 16, "sample_steps": 0, "report_to": "none", "disable_tqdm": "true", "use_cpu": "true"}
    return [word for key, value in options.items() for word in (f"--{key}", str(value))] + ["--judges", *judges]


def test_a_rule_without_a_band_is_left_out_with_a_remark(small_corpus, policy, critic, remi, tmp_path, capsys):
    """Structure over many bars: 48 tokens have none of it."""
    run = tmp_path / "run"
    asked = ["structure_long=1", "density=0.5", "style=1"]
    assert finetune.main(words(small_corpus, policy, critic, run, *asked)) == 0
    printed = capsys.readouterr().err.splitlines()
    remarks = [line for line in printed if "structure_long" in line]
    assert len(remarks) == 1 and remarks[0].startswith("judge structure_long is left out: only 0 of ")
    facts = json.loads((run / "run.json").read_text())
    assert list(facts["left_out"]) == ["structure_long"]
    (line,) = [line for line in map(json.loads, (run / "metrics.jsonl").open()) if "policy/kl" in line]
    judged = {key.split("/")[1] for key in line if key.startswith("rewards/") and key.endswith("/mean")}
    assert judged == {"density", "style"}
    weighted = 0.5 * line["rewards/density/mean"] + line["rewards/style/mean"]  # each has kept its own weight
    assert line["reward"] == pytest.approx(weighted, abs=1e-4)
    judges = judges_of_run(run, JUDGES, remi)
    assert dict(judges.weights) == {"density": 0.5, "style": 1.0}
    assert "structure_long is left out: only 0 of" in judges.description


def test_no_judge_left_is_an_error(small_corpus, policy, critic, tmp_path):
    with pytest.raises(MgenError, match=r"judges: none is left .structure_long: only 0 of .*judge longer completions"):
        finetune.main(words(small_corpus, policy, critic, tmp_path / "run", "structure_long=1"))


def test_only_what_the_corpus_itself_does_not_have_is_left_out(remi):
    """A file of bands that lacks a rule for no stated reason is of another version: that stays an error."""
    bands = Bands({}, left_out={"swing": "only 3 of 99 real pieces can be measured", "n_notes": "none"})
    _, left_out = build_judges(judge_specs(["swing=1"], JUDGES), JUDGES, remi, bands=bands)
    assert left_out == {"swing": "only 3 of 99 real pieces can be measured"}
    for asked in (["density=1"], ["grammar=1"]):
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
