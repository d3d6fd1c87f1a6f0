"""A mistake before the first step costs nothing; names of any script in every path."""

from __future__ import annotations

import json

import pytest
import torch
from hub_runs import evaluation, policy_run

from mgen.cli import card, critic, evaluate, finetune, generate, grpo, insight, prefer, prepare, pretrain, push
from mgen.corpus.demo import write_demo_corpus
from mgen.errors import MgenError
from mgen.workflows.listen import open_study

pytestmark = pytest.mark.slow

ODD = "Ünïcode ноты 音楽 & co"
QUIET = ["--report_to", "none", "--speed", "plain"]
TINY = [*QUIET, "--max_steps", "1"]


@pytest.fixture(scope="module")
def places(tmp_path_factory, tiny_policy, remi):
    """A corpus and an untrained policy below a folder of an odd name."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("odd") / ODD
    metadata = write_demo_corpus(folder / f"{ODD} music", works_per_collection=10)
    corpus = folder / f"{ODD} corpus"
    assert prepare.main(["--metadata", str(metadata), "--out", str(corpus), "--workers", "1"]) == 0
    policy = folder / f"{ODD} policy"
    tiny_policy().save_pretrained(policy)
    remi.save_pretrained(policy)
    return folder, corpus, policy


def words_of(command, corpus, policy, out):
    """Words of a training command that takes a moment."""
    words = ["--corpus", str(corpus), "--out", str(out)]
    judged = ["--policy", str(policy), "--judges", "grammar=1", "repetition_interval=1", "--check_pieces", "0"]
    judged += ["--prompt_tokens", "16", "--max_completion_length", "24", "--num_generations", "2"]
    more = {
        "pretrain": [*TINY, "--context", "64", "--valid_windows", "2", "--eval_steps", "1", "--size", "mini"],
        "critic": ["--notes", "24", "--pieces", "24", "--each", "1", "--report_to", "none"],
        "finetune": [*TINY, *judged, "--completions", "4", "--guard_steps", "0", "--allow_equal_rewards", "true"],
        "grpo": [*TINY, *judged, "--per_device_train_batch_size", "4", "--prompts", "4", "--use_cpu", "true"],
    }
    return [*words, *more[command]]


MAINS = {"pretrain": pretrain.main, "critic": critic.main, "finetune": finetune.main, "grpo": grpo.main}
MISTAKES = {
    "pretrain": ["--style", "polka"],
    "critic": ["--target", "polka"],
    "finetune": ["--bands", "nowhere.json"],
    "grpo": ["--bands", "nowhere.json"],
}


@pytest.mark.parametrize("command", MAINS)
def test_a_mistake_and_then_the_corrected_command_in_one_folder_of_an_odd_name(
    command, places, quick_critic, monkeypatch
):
    folder, corpus, policy = places
    monkeypatch.chdir(folder)
    out = folder / f"{ODD} {command}"
    words = words_of(command, corpus, policy, out)
    with pytest.raises(MgenError) as caught:
        MAINS[command]([*words, *MISTAKES[command]])
    assert "\n" not in str(caught.value)
    assert MAINS[command](words) == 0
    assert json.loads((out / "run.json").read_text(encoding="utf-8"))["finished"]


def test_an_odd_name_in_the_paths_of_the_commands_that_measure(places):
    folder, corpus, _ = places
    assert insight.main([str(corpus), "--out", str(folder / f"{ODD}.html"), "--sample", "8"]) == 0
    music = folder / f"{ODD} music"
    words = ["--midi", str(music / "jazz"), "--reference", str(music / "other"), "--out", str(folder / f"{ODD} found")]
    words += ["--n", "8", "--excerpt_notes", "32", "--two_sample", "false", "--sequence", "false", "--workers", "1"]
    assert evaluate.main(words) == 0
    assert (folder / f"{ODD} found" / "report.html").is_file()


def test_an_odd_name_in_the_paths_of_the_commands_that_use_a_model(places, capsys):
    folder, corpus, policy = places
    prompt = next((folder / f"{ODD} music").rglob("*.mid"))
    pieces, cards = folder / f"{ODD} pieces", folder / f"{ODD} cards"
    words = ["--model", str(policy), "--prompt", str(prompt), "--prompt_tokens", "16", "--max_new_tokens", "24"]
    assert generate.main([*words, "--n", "1", "--out", str(pieces)]) == 0
    assert all((pieces / f"0000.{kind}").is_file() for kind in ("mid", "ogg", "svg"))
    words = ["grammar", "--corpus", str(corpus), "--policy", str(policy), "--out", str(cards), "--tokens", "64"]
    assert card.main([*words, "--n", "20", "--generations", "1", "--seconds", "5"]) == 0
    assert (cards / "grammar" / "exploit.mid").is_file() and (cards / "cards.md").is_file()


def test_an_odd_name_in_the_paths_of_a_run_that_is_pushed_listened_to_and_preferred(places, tiny_policy, remi):
    folder, _, _ = places
    run = folder / f"{ODD} run"
    policy_run(run, tiny_policy(max_position_embeddings=96), remi)
    hub, found, out = (folder / f"{ODD} {name}" for name in ("hub", "evaluation", "preferred"))
    evaluation(found, remi)
    assert push.main([str(run), "--dry-run", str(hub), "--evaluation", str(found), "--name", "jazz"]) == 0
    assert ODD not in (hub / "README.md").read_text(encoding="utf-8") and (hub / "model.safetensors").is_file()
    votes = folder / f"{ODD} votes.sqlite"
    study = open_study([f"{ODD}={found}"], out=str(votes))
    study.close()
    assert votes.is_file()
    pairs = folder / f"{ODD} pairs.jsonl"
    music = ["Bar_NoneTimeSig_4/4" + f"Position_0Pitch_{pitch}Velocity_63Duration_0.12.24" for pitch in range(50, 68)]
    rows = [
        {"prompt": f"BOS_NoneJAZZ_None{one}", "chosen": one, "rejected": music[0], "rater": ODD, "pair": str(i)}
        for i, one in enumerate(music[1:])
    ]
    pairs.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    words = ["--method", "dpo", "--policy", str(run / "model"), "--pairs", str(pairs), "--out", str(out), *TINY]
    assert prefer.main([*words, "--valid_share", "0.3", "--use_cpu", "true"]) == 0
    assert (out / "model" / "model.safetensors").is_file()
