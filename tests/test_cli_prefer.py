"""Preferences are learned from pairs as they were sampled, and hold for held-out prompts."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from trl import DPOTrainer, GRPOConfig, GRPOTrainer

from critics.sequence import SequenceCritic
from mgen.cli import prefer
from mgen.errors import MgenError
from mgen.models.transformer import load_policy
from mgen.training.preference import (
    PolicyPreferences,
    RewardPreferences,
    completion_nats,
    policy_margins,
    read_pairs,
    reward_inputs,
    split_pairs,
)
from mgen.workflows.prefer import METHODS

pytestmark = pytest.mark.slow

QUIET = ["--report_to", "none", "--disable_tqdm", "true", "--use_cpu", "true"]


def music(rng, low, high, notes=6, end=False):
    """Notes one behind the other, their pitches between `low` and `high`."""
    words = ["Bar_None", "TimeSig_4/4"]
    for place in range(notes):
        pitch = rng.integers(low, high)
        words += [f"Position_{12 * place}", f"Pitch_{pitch}", "Velocity_63", "Duration_0.12.24"]
    return "".join(words) + ("EOS_None" if end else "")


def toy_pairs(n=48, prompts=24, seed=0, low=(36, 60), high=(72, 96)):
    """Low music is preferred to high music. Some pieces end by themselves, some are cut."""
    rng = np.random.default_rng(seed)
    heads = ["BOS_NoneJAZZ_None" + music(rng, 40, 90, notes=3) for _ in range(prompts)]
    return [
        {
            "prompt": heads[i % prompts],
            "chosen": music(rng, *low, end=i % 2 == 0),
            "rejected": music(rng, *high, end=i % 3 == 0),
            "rater": "a",
            "pair": str(i),
        }
        for i in range(n)
    ]


def write(path, pairs):
    path.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    return path


@pytest.fixture(scope="module")
def policy(tiny_policy, remi, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "policy"
    tiny_policy(max_position_embeddings=96).save_pretrained(folder)
    remi.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def pairs_file(tmp_path_factory):
    return write(tmp_path_factory.mktemp("votes") / "pairs.jsonl", toy_pairs())


def words(method, policy, pairs, out, *more):
    base = ["--method", method, "--policy", str(policy), "--pairs", str(pairs), "--out", str(out)]
    return [*base, "--num_train_epochs", "4", "--learning_rate", "3e-3", "--valid_share", "0.25", *QUIET, *more]


@pytest.fixture(scope="module", params=METHODS)
def trained(request, policy, pairs_file, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / request.param
    assert prefer.main(words(request.param, policy, pairs_file, out)) == 0
    return request.param, out


def test_a_toy_preference_is_learned_and_holds_for_other_prompts(trained, policy, remi):
    """Pieces of a seed of their own: nothing of them, not even the prompts, was in training."""
    method, out = trained
    facts = json.loads((out / "run.json").read_text())
    assert facts["finished"] and facts["accuracy"]["value"] == 1.0 and facts["margin"]["low"] > 0
    assert facts["pairs"] == {"train": 36, "valid": 12, "equal": 0} and facts["prompts"]["valid"] == 6
    fresh = read_pairs(write(out / "fresh.jsonl", toy_pairs(seed=1)), remi, 96)
    if method == "dpo":
        before, after = load_policy(policy)[0], load_policy(out / "model")[0]
        margins = policy_margins(after, before, fresh, remi.pad_id)
        assert any(
            not torch.equal(a, b)
            for a, b in zip(before.state_dict().values(), after.state_dict().values(), strict=True)
        )
    else:
        model = AutoModelForSequenceClassification.from_pretrained(out / "model")
        assert model.config.num_labels == 1 and model.config.id2label == {0: "preferred"}
        tokenizer = AutoTokenizer.from_pretrained(out / "model")
        logits = []
        for rows in (fresh.chosen, fresh.rejected):  # as TRL hands them over: text, without special tokens at its end
            texts = ["".join(remi.names[i] for i in row) for row in reward_inputs(fresh.prompt, rows, remi.eos_id)]
            batch = tokenizer(texts, padding=True, padding_side="right", add_special_tokens=False, return_tensors="pt")
            with torch.no_grad():
                logits.append(model(**batch).logits[:, 0].numpy())
        margins = logits[0] - logits[1]
    assert (margins > 0).mean() > 0.9


def test_pairs_are_trained_on_as_they_were_sampled(policy, pairs_file, remi, tmp_path):
    """What the collators give the networks, padding aside, is the prompt's ids and then the completion's, each once."""
    lines = [json.loads(line) for line in pairs_file.read_text().splitlines()]
    tokenizer = remi.tokenizer()

    def ids(text):
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    pairs = read_pairs(pairs_file, remi, 96)
    model, reference = load_policy(policy)[0], load_policy(policy)[0]
    given = {"policy": "p", "pairs": "p", "out": str(tmp_path), "report_to": "none", "use_cpu": True}
    config = METHODS["dpo"](method="dpo", eval_strategy="no", **given)
    trainer = PolicyPreferences(model, reference, config, train_dataset=pairs.for_policy(), processing_class=tokenizer)
    batch = trainer.data_collator(list(trainer.train_dataset))
    texts = [line[side] for side in ("chosen", "rejected") for line in lines]
    for row, shown, counted, line, text in zip(
        batch["input_ids"], batch["attention_mask"], batch["completion_mask"], lines * 2, texts, strict=True
    ):
        row, counted = row[shown.bool()], counted[shown.bool()]
        assert row.tolist() == ids(line["prompt"]) + ids(text) == ids(line["prompt"] + text)
        assert row[counted.bool()].tolist() == ids(text)
        assert (row == remi.bos_id).sum() == 1 and (row == remi.eos_id).sum() == text.endswith("EOS_None")

    # TRL's own way from text to ids differs in one thing: it ends pieces that had not ended.
    tokenized = DPOTrainer._prepare_dataset(trainer, Dataset.from_list(lines), tokenizer, config, "train")
    for line, row in zip(lines, tokenized, strict=True):
        assert row["prompt_ids"] == ids(line["prompt"])
        assert row["chosen_ids"] == [*ids(line["chosen"].removesuffix("EOS_None")), remi.eos_id]

    config = METHODS["reward"](method="reward", eval_strategy="no", **given)
    critic = SequenceCritic.new(remi, init=policy)
    trainer = RewardPreferences(
        critic.model, config, train_dataset=pairs.for_reward(remi.eos_id), processing_class=tokenizer
    )
    batch = trainer.data_collator(list(trainer.train_dataset))
    for row, shown, line, text in zip(batch["input_ids"], batch["attention_mask"], lines * 2, texts, strict=True):
        # A reward model never sees an EOS: plain TRL takes it away before it asks one.
        assert row[shown.bool()].tolist() == ids(line["prompt"] + text.removesuffix("EOS_None"))


@pytest.mark.parametrize("trained", ["reward"], indirect=True)
def test_plain_trl_takes_the_reward_model_by_its_folder(trained, policy, tmp_path):
    """With no code of ours: TRL loads it, hands it prompt and completion as text, and logs its logit as the reward."""
    out = trained[1]
    heads = [{"prompt": pair["prompt"]} for pair in toy_pairs(4)]
    config = GRPOConfig(
        output_dir=str(tmp_path),
        per_device_train_batch_size=4,
        num_generations=2,
        max_completion_length=12,
        max_steps=1,
        logging_steps=1,
        bf16=False,
        gradient_checkpointing=False,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer = GRPOTrainer(str(policy), str(out / "model"), config, Dataset.from_list(heads))
    trainer.train()
    logged = trainer.state.log_history[0]
    assert np.isfinite(logged["reward"]) and logged["reward"] != 0 and logged["reward_std"] > 0


def test_the_first_step_starts_from_the_reference(trained):
    """DPO's loss is log 2 before the policy has moved; the reward model's is near it, its logits being small."""
    method, out = trained
    first = json.loads((out / "metrics.jsonl").read_text().splitlines()[0])
    assert first["step"] == 1 and first["loss"] == pytest.approx(np.log(2), abs=1e-3 if method == "dpo" else 0.1)


def test_nats_of_a_completion_agree_with_the_model_row_by_row(policy, pairs_file, remi):
    model, _ = load_policy(policy)
    pairs = read_pairs(pairs_file, remi, 96)
    together = completion_nats(model, pairs.prompt, pairs.chosen, remi.pad_id)
    for i in range(4):
        row, head = torch.tensor([pairs.prompt[i] + pairs.chosen[i]]), len(pairs.prompt[i])
        labels = row.clone()
        labels[:, :head] = -100
        with torch.no_grad():
            loss = model(input_ids=row, labels=labels).loss.item()  # transformers' own mean over the completion
        assert together[i] == pytest.approx(-loss * len(pairs.chosen[i]), rel=1e-4)


def test_no_prompt_is_on_both_sides(pairs_file, remi):
    pairs = read_pairs(pairs_file, remi, 96)
    for seed in range(20):
        train, valid = split_pairs(pairs, 0.25, seed)
        assert len(train) + len(valid) == len(pairs) and valid.n_prompts == 6
        assert not {tuple(row) for row in train.prompt} & {tuple(row) for row in valid.prompt}
    first, again = (split_pairs(pairs, 0.25, 3)[1] for _ in range(2))
    assert first.prompt == again.prompt and first.prompt != split_pairs(pairs, 0.25, 4)[1].prompt


def test_the_empty_prompt_does_not_fill_valid(tmp_path, remi):
    """Pairs from nothing share one prompt: in valid it would be one prompt that decides the accuracy."""
    pairs = toy_pairs(32, prompts=16)
    for pair in pairs[8:24]:
        pair["prompt"] = "BOS_NoneJAZZ_None"
    read = read_pairs(write(tmp_path / "pairs.jsonl", pairs), remi, 96)
    assert all(
        split_pairs(read, 0.5, seed)[1].prompt.count([remi.bos_id, remi.style_ids["jazz"]]) == 0 for seed in range(20)
    )


@pytest.mark.parametrize(("method", "trainer"), [("dpo", PolicyPreferences), ("reward", RewardPreferences)])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(method, trainer, policy, pairs_file, tmp_path, monkeypatch):
    full, cut = tmp_path / "full", tmp_path / "cut"
    assert prefer.main(words(method, policy, pairs_file, full)) == 0
    step, steps = trainer.training_step, []

    def power_cut(self, *args, **kwargs):
        steps.append(self.state.global_step)
        if len(steps) == 13:  # 36 pairs, 8 per step: in the third of four epochs
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)

    monkeypatch.setattr(trainer, "training_step", power_cut)
    with pytest.raises(KeyboardInterrupt):
        prefer.main(words(method, policy, pairs_file, cut))
    assert not (cut / "model").exists()
    assert prefer.main(words(method, policy, pairs_file, cut)) == 0
    assert steps[13] == 10  # resumed where the second epoch ended
    one, other = (load_file(run / "model" / "model.safetensors") for run in (full, cut))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_finished_run_says_so(trained, policy, pairs_file, capsys):
    method, out = trained
    assert prefer.main(words(method, policy, pairs_file, out)) == 0
    printed = capsys.readouterr().out
    assert "was finished before" in printed and "6 held-out prompts" in printed
    assert prefer.main([*words(method, policy, pairs_file, out), "--json"]) == 0
    assert {"value", "low", "high"} == set(json.loads(capsys.readouterr().out)["accuracy"])


def spoiled(line, **changes):
    pairs = toy_pairs()
    pairs[line - 1] |= changes
    return "".join(json.dumps(pair) + "\n" for pair in pairs)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "0 pairs of 0 prompts; expected at least 16 pairs of 8 prompts"),
        ("".join(json.dumps(pair) + "\n" for pair in toy_pairs(40, prompts=4)), "40 pairs of 4 prompts"),
        (spoiled(3).replace("}", "", 3), "line 1: not JSON"),
        (spoiled(3) + "[1, 2]\n", "line 49: expected an object with prompt, chosen, rejected, found list"),
        (spoiled(5, chosen=None), "line 5: expected 'chosen' as names of tokens, found NoneType"),
        (spoiled(5, rejected=" "), "line 5: expected 'rejected'"),
        (spoiled(7, prompt="BOS_NonePOLKA_None"), "line 7, prompt: 'POLKA_None' is no token"),
        (spoiled(7, chosen="hello"), "line 7, chosen: 'hello' is no token"),
        (spoiled(9, prompt=toy_pairs()[0]["prompt"] * 6), r"line 9: \d+ tokens .* at most 96"),
    ],
)
def test_bad_pairs_are_one_line_with_their_place(content, message, policy, tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text(content)
    with pytest.raises(MgenError, match=message) as caught:
        prefer.main(words("dpo", policy, path, tmp_path / "run"))
    assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--method", "ppo"], "expected one of dpo, reward"),
        (["--beta", "0"], "above 0"),
        (["--beta_", "0.2"], "did you mean 'beta'"),
        (["--valid_share", "1"], "below 1"),
        (["--max_length", "64"], "never truncated"),
        (["--pairs", "nowhere.jsonl"], "nowhere.jsonl: No such file"),
        (["--policy", "nowhere"], "expected a model"),
    ],
)
def test_mistakes_in_preferring_are_one_line(change, message, policy, pairs_file, tmp_path):
    base = words("dpo", policy, pairs_file, tmp_path / "run")
    base = base[2:] if change[0] == "--method" else base
    with pytest.raises(MgenError, match=message) as caught:
        prefer.main([*base, *change])
    assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()


def test_a_policy_is_sampled_on_held_out_prompts(policy, pairs_file, remi, tmp_path):
    argv = words("dpo", policy, pairs_file, tmp_path / "run", "--num_train_epochs", "1", "--sample_steps", "3")
    assert prefer.main(argv) == 0
    folders = tmp_path / "run" / "samples"
    assert sorted(path.name for path in folders.iterdir()) == ["step_000000", "step_000003"]
    assert {path.stem for path in (folders / "step_000003").iterdir()} == {f"{i}_held_out" for i in range(4)} | {
        "0_held_out_greedy"
    }


def test_equal_pieces_are_left_out_and_counted(tmp_path, remi):
    pairs = toy_pairs()
    pairs[0]["rejected"] = pairs[0]["chosen"]
    read = read_pairs(write(tmp_path / "pairs.jsonl", pairs), remi, 96)
    assert read.equal == 1 and len(read) == len(pairs) - 1
