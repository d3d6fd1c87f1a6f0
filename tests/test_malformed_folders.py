"""Folders that an accident or a stranger has changed: whatever is wrong, it is one line, and no memory is taken."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from hub_runs import critic_run, evaluation, feature_critic_run, policy_run
from listen_voter import study
from safetensors.torch import load_file, save_file

from critics.realism.feature_discriminator import FeatureDiscriminator
from critics.realism.token_discriminator import TokenDiscriminator
from critics.style import StyleCritic
from mgen.corpus.shards import Corpus, ShardWriter
from mgen.errors import MgenError
from mgen.hub.evaluation_results import EvaluationResults
from mgen.hub.trained_run import TrainedRun
from mgen.listen.vote_store import Vote, VoteStore
from mgen.models.transformer import load_policy
from mgen.runs.checkpoints import write_manifest
from mgen.runs.judges import judges_of_run
from mgen.sampling.samples import read_samples
from mgen.workflows.judges import JUDGES
from mgen.workflows.listen import ListenConfig, collect_clips
from mgen.workflows.push import push
from mgen.workflows.votes import count_votes
from rewards.bands import Bands, load_bands, save_bands
from rewards.rule import Band

BANDS = Bands({"loops": Band(0.1, 1.0), "rests": Band(0.0, 0.5)}, {"pieces": 20.0}, {"swing": "too few pieces"})


@dataclass(frozen=True)
class Kind:
    """A kind of folder."""

    load: Callable[[Path], object]
    files: dict[str, tuple[str, ...]]  # name -> keys of its JSON or YAML without which it cannot be used


CRITIC = ("kind", "max_tokens")
KINDS = {
    "policy": Kind(load_policy, {"config.json": ("model_type",), "miditok.json": ("config",), "model.safetensors": ()}),
    "token critic": Kind(
        StyleCritic.from_pretrained, {"critic.json": (*CRITIC, "calibration", "positive"), "config.json": ()}
    ),
    "feature critic": Kind(
        StyleCritic.from_pretrained,
        {
            "critic.json": (
                "kind",
                "input",
                "members",
                "style",
                "intact",
                "guard_limit",
                "real",
                "spread",
                "min_notes",
            ),
            "ensemble.safetensors": (),
        },
    ),
    "discriminator of features": Kind(
        FeatureDiscriminator.from_pretrained,
        {
            "critic.json": ("kind", "input", "against", "options", "calibration"),
            "discriminator.safetensors": (),
        },
    ),
    "discriminator of tokens": Kind(
        TokenDiscriminator.from_pretrained,
        {"critic.json": (*CRITIC, "options", "calibration"), "model.safetensors": ()},
    ),
    "bands": Kind(lambda folder: load_bands(folder / "bands.json"), {"bands.json": ()}),
    "run": Kind(TrainedRun.read, {"run.json": ("command",), "config.yaml": (), "model/config.json": ("model_type",)}),
    "judges of a run": Kind(
        lambda folder: judges_of_run(folder, JUDGES, Corpus.open(folder / "corpus").remi),
        {"config.yaml": ("judges", "policy"), "bands.json": ()},
    ),
    "corpus": Kind(
        lambda folder: Corpus.open(folder).table("train"),
        {
            "corpus.json": ("version", "tokenizer", "fingerprint", "shards"),
            "pieces.parquet": (),
            "tokens/train-00000.parquet": (),
            "tokenizer/miditok.json": ("config",),
        },
    ),
    "evaluation": Kind(lambda folder: EvaluationResults.read(folder, "jazz"), {"metrics.json": ("rows",)}),
    "samples": Kind(read_samples, {"samples/index.json": ("items", "target", "tempo", "systems")}),
    "listening study": Kind(
        lambda folder: collect_clips({"a": folder}, ListenConfig(), print), {"samples/index.json": ("items", "tempo")}
    ),
    "push": Kind(
        lambda folder: push(folder / "jazz", evaluation=str(folder / "e"), samples=0, dry_run=str(folder / "out")),
        {"jazz/run.json": ("command",), "e/metrics.json": ("systems",)},
    ),
    "votes": Kind(lambda folder: count_votes(folder / "votes.sqlite"), {"votes.sqlite": ()}),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory, tiny_policy, remi):
    """A whole folder of each kind."""
    root = tmp_path_factory.mktemp("whole")
    folders = {kind: root / kind for kind in KINDS}
    policy = tiny_policy(max_position_embeddings=64)
    policy_run(folders["run"], policy, remi)
    shutil.copytree(folders["run"] / "model", folders["policy"])
    for kind, run in (("token", critic_run(root / "token", remi)), ("feature", feature_critic_run(root / "feature"))):
        (run / "model").rename(folders[f"{kind} critic"])
    realism = TokenDiscriminator.new(remi, init=folders["policy"])
    realism.save_pretrained(folders["discriminator of tokens"])
    FeatureDiscriminator().save_pretrained(folders["discriminator of features"])
    for kind in ("bands", "judges of a run", "votes"):
        folders[kind].mkdir()
    save_bands(BANDS, folders["bands"] / "bands.json")
    write_corpus(folders["corpus"], remi)
    judges = folders["judges of a run"]
    shutil.copytree(folders["corpus"], judges / "corpus")
    options = {"judges": ["rests=1", "realism=1"], "critic": "", "bands": "", "policy": str(folders["policy"])}
    options |= {"realism_clip": 10.0}
    (judges / "config.yaml").write_text(yaml.safe_dump(options))
    save_bands(BANDS, judges / "bands.json")
    checkpoint = judges / "checkpoints" / "checkpoint-2"
    checkpoint.mkdir(parents=True)
    torch.save({"realism": FeatureDiscriminator().state_dict()}, checkpoint / "discriminator.pt")
    for name in ("trainer_state.json", "model.safetensors", "optimizer.pt"):
        (checkpoint / name).touch()
    write_manifest(checkpoint)
    for kind in ("evaluation", "samples", "listening study"):
        evaluation(folders[kind], remi if kind != "evaluation" else None)
    shutil.copytree(folders["run"], folders["push"] / "jazz")
    evaluation(folders["push"] / "e")
    store = VoteStore.open(folders["votes"] / "votes.sqlite", study(6))
    store.vote(Vote("aaaaaaaa", store.rater("Ann"), 0, "a"))
    store.close()
    return folders


def write_corpus(folder, remi):
    """A corpus of one piece, with no music in it."""
    split, style, sizes = np.array(["train"]), np.array(["jazz"]), np.array([3])
    folder.mkdir()
    with ShardWriter(folder / "tokens", split, style, sizes) as writer:
        writer.write(0, np.array([9, 10, 11], np.uint16))
    pd.DataFrame({"split": split, "style": style, "n_tokens": sizes}).to_parquet(folder / "pieces.parquet")
    remi.save_pretrained(folder / "tokenizer")
    manifest = {"version": 2, "fingerprint": "f", "tokenizer": remi.fingerprint, "shards": writer.shards}
    (folder / "corpus.json").write_text(json.dumps(manifest))


def refused(load, folder, damage=""):
    """Checks that a folder is refused in one line, soon."""
    began = time.process_time()
    with pytest.raises(MgenError) as caught:
        pytest.fail(f"{damage}: taken as {load(folder)}")
    line = str(caught.value)
    assert "\n" not in line and len(line) < 600, f"{damage}: {line}"
    assert time.process_time() - began < 2, damage
    return line


CONTENTS = {
    "empty": b"",
    "a list": b"[]",
    "an empty object": b"{}",
    "null": b"null",
    "not UTF-8": b"\xff\xfe\x00",
    "deep": b"[" * 2_000,
    "a huge number": b"9" * 5_000,
}
DATA = (".safetensors", ".parquet", ".sqlite", ".pt")


@pytest.mark.parametrize("kind", KINDS)
def test_an_accident_is_one_line(kind, folders, tmp_path):
    """Each file of a folder: missing, a folder, cut in half, of other content; each value missing, of another type."""
    load, copy = KINDS[kind].load, tmp_path / "copy"
    load(shutil.copytree(folders[kind], copy))
    shutil.rmtree(copy / "out", ignore_errors=True)
    for name, keys in KINDS[kind].files.items():
        path = copy / name
        whole = path.read_bytes()
        path.unlink()
        refused(load, copy, f"{name} missing")
        path.mkdir()
        refused(load, copy, f"{name} a folder")
        path.rmdir()
        contents = CONTENTS | {"half": whole[: len(whole) // 2]}
        if path.suffix in DATA:
            contents = {title: contents[title] for title in ("empty", "not UTF-8", "half")}
        if path.suffix == ".yaml" and kind == "run":  # all options have defaults, and half of a YAML file may be YAML
            contents = {title: contents[title] for title in ("not UTF-8", "deep")}
        for title, content in contents.items():
            path.write_bytes(content)
            refused(load, copy, f"{name} {title}")
        for key in keys:
            stored = yaml.safe_load(whole)
            for value in (None, {"x": [1]}):
                path.write_text(json.dumps(stored | {key: value}))
                refused(load, copy, f"{name}: {key} is {value}")
            del stored[key]
            path.write_text(json.dumps(stored))
            refused(load, copy, f"{name}: no {key}")
        path.write_bytes(whole)


@pytest.mark.parametrize("content", [b"", b"\x80\x04.", b"PK\x03\x04" * 100])
def test_a_damaged_discriminator_names_its_checkpoint(content, folders, tmp_path):
    copy = shutil.copytree(folders["judges of a run"], tmp_path / "copy")
    checkpoint = copy / "checkpoints" / "checkpoint-2"
    (checkpoint / "discriminator.pt").write_bytes(content)
    write_manifest(checkpoint)
    line = refused(KINDS["judges of a run"].load, copy)
    assert "discriminator.pt: cannot be read" in line and "checkpoint-2 to use the checkpoint before" in line


def test_a_value_of_another_type_stops_a_push(folders, tmp_path):
    copy = shutil.copytree(folders["push"], tmp_path / "copy")
    path = copy / "e" / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"protocol": {"data": []}}))
    assert "holds something else than expected" in refused(KINDS["push"].load, copy)
    assert not (copy / "out").exists()


WEIGHTS = {
    "missing": lambda tensors, name: tensors.pop(name),
    "longer": lambda tensors, name: tensors.update({name: torch.cat([tensors[name], tensors[name]])}),
    "flat": lambda tensors, name: tensors.update({name: tensors[name].flatten()[:1].clone()}),
    "not a number": lambda tensors, name: tensors[name].view(-1)[:1].fill_(torch.nan),
    "infinite": lambda tensors, name: tensors[name].view(-1)[-1:].fill_(torch.inf),
    "one more": lambda tensors, name: tensors.update(extra=torch.zeros(3)),
}


@pytest.mark.parametrize("change", WEIGHTS)
@pytest.mark.parametrize(
    ("kind", "file", "name"),
    [
        ("policy", "model.safetensors", "model.layers.0.self_attn.q_proj.weight"),
        ("token critic", "model.safetensors", "score.weight"),
        ("feature critic", "ensemble.safetensors", "1.body.1.weight"),
    ],
)
def test_other_weights_are_one_line(kind, file, name, change, folders, tmp_path):
    copy = shutil.copytree(folders[kind], tmp_path / "copy")
    tensors = {key: value.clone() for key, value in load_file(copy / file).items()}
    WEIGHTS[change](tensors, name)
    save_file(tensors, copy / file, {"format": "pt"})
    refused(KINDS[kind].load, copy)


SIZES = {
    "num_hidden_layers": (10**6, 10**30, 2, 0, -1, "2", 1.5),
    "hidden_size": (10**9, 64, 0, -32, "32"),
    "vocab_size": (10**12, 10**30, 1, 0, -1, None),
    "max_position_embeddings": (10**9, 10**30, 0, -1, "64"),
    "intermediate_size": (10**9, 32, 0),
    "num_attention_heads": (10**9, 0, -2),
    "tie_word_embeddings": (False,),
}


@pytest.mark.parametrize(
    ("kind", "key"), [*(("policy", key) for key in SIZES), ("discriminator of tokens", "hidden_size")]
)
def test_a_model_of_another_size_than_its_weights_takes_no_memory(kind, key, folders, tmp_path, monkeypatch):
    copy = shutil.copytree(folders[kind], tmp_path / "copy")
    config = json.loads((copy / "config.json").read_text())
    taken: list[int] = []
    monkeypatch.setattr(torch.nn.Parameter, "__new__", counting(torch.nn.Parameter.__new__, taken))
    for value in SIZES[key]:
        (copy / "config.json").write_text(json.dumps(config | {key: value}))
        refused(KINDS[kind].load, copy, f"{key} is {value}")
    assert sum(taken) < 10**6


def counting(build, taken):
    """`Parameter.__new__`, which adds the numbers in memory of each new parameter to `taken`."""

    def new(cls, data=None, requires_grad=True):
        taken.append(0 if data is None or data.is_meta else data.numel())
        return build(cls, data, requires_grad)

    return new


def test_a_vocabulary_of_another_model_or_without_end_is_one_line(folders, tmp_path):
    copy = shutil.copytree(folders["policy"], tmp_path / "copy")
    content = json.loads((copy / "miditok.json").read_text())
    for key, value in {
        "num_velocities": 10**9,
        "beat_res": {"0_2": 10**9},
        "time_signature_range": {"4": [10**9]},
        "special_tokens": ["PAD_None"],
        "pitch_range": [0, 10**9],
    }.items():
        (copy / "miditok.json").write_text(json.dumps(content | {"config": content["config"] | {key: value}}))
        refused(load_policy, copy, key)


RUN_CODE = "from pathlib import Path\nPath(__file__).with_name('it_ran').touch()\n"


@pytest.mark.parametrize(
    "config",
    [
        {"auto_map": {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}, "model_type": "own"},
        {"auto_map": {"AutoModelForCausalLM": "code.Model"}},
        {"auto_map": None},
        {"attn_implementation": "somebody/kernels"},
        {},
    ],
)
@pytest.mark.parametrize("kind", ["policy", "token critic"])
def test_code_of_a_folder_is_not_run(kind, config, folders, tmp_path, monkeypatch):
    """By itself transformers asks on the terminal, and runs it after `y`."""
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    copy = shutil.copytree(folders[kind], tmp_path / "copy")
    (copy / "code.py").write_text(RUN_CODE)
    if not config:
        (copy / "custom_generate").mkdir()
        (copy / "custom_generate" / "generate.py").write_text(RUN_CODE)
    path = copy / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    assert "needs the code in its folder, which mgen does not run" in refused(KINDS[kind].load, copy)
    assert not list(copy.rglob("it_ran"))
