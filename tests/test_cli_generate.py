"""`mgen generate`: guidance, a repetition penalty, and the best of several completions; judges by name and of a run."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import yaml
from symusic import Score

import mgen
from critics.realism.critic import RealismCritic
from critics.sequence import SequenceCritic
from critics.style import StyleCritic
from critics.style.critic import TokenModel
from mgen.cli import generate, pretrain
from mgen.corpus.shards import Corpus
from mgen.corpus.windows import sample_windows
from mgen.errors import MgenError
from mgen.models.transformer import load_policy
from mgen.notes import Notes
from mgen.runs.checkpoints import write_manifest
from mgen.runs.judges import judges_of_options, judges_of_run
from mgen.stats.calibration import Calibration
from mgen.workflows.judges import JUDGES
from rewards import REWARDS
from rewards.bands import fit_bands, save_bands

pytestmark = pytest.mark.slow

QUIET = ["--report_to", "none", "--disable_tqdm", "true"]


@pytest.fixture(scope="module")
def base(tiny_policy, remi, tmp_path_factory):
    folder = tmp_path_factory.mktemp("base") / "model"
    tiny_policy(seed=1, initializer_range=0.3, max_position_embeddings=256).save_pretrained(folder)
    remi.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def critic(remi, tmp_path_factory):
    folder = tmp_path_factory.mktemp("critic") / "model"
    model = TokenModel(SequenceCritic.new(remi, max_tokens=127), Calibration())
    StyleCritic(model, "jazz", min_notes=1).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def excerpts(small_corpus, remi):
    table = Corpus.open(small_corpus).table("train", "jazz")
    return Notes.from_ids(list(sample_windows(table, remi, 40, 100, np.random.default_rng(0))[0]), remi)


def words(base, out, *more):
    return ["--model", str(base), "--out", str(out), "--max_new_tokens", "40", "--n", "3", *more]


def index(out):
    return json.loads((out / "index.json").read_text())


def test_every_option_changes_the_music(base, tmp_path):
    music = {}
    for name, more in {
        "plain": [],
        "guided": ["--guidance", "4"],
        "penalised": ["--repetition_penalty", "5"],
        "again": ["--guidance", "1", "--repetition-penalty", "1"],
    }.items():
        assert generate.main(words(base, tmp_path / name, "--style", "jazz", *more)) == 0
        music[name] = [(tmp_path / name / entry["file"]).read_bytes() for entry in index(tmp_path / name)["pieces"]]
    assert music["plain"] == music["again"]
    assert music["guided"] != music["plain"] != music["penalised"]
    assert index(tmp_path / "guided")["decoding"]["guidance"] == 4


def test_the_call_gives_the_pieces_and_prints_nothing(base, tmp_path, capsys):
    result = mgen.generate(base, tmp_path / "out", n=2, max_new_tokens=20, style="jazz")
    assert result.notes.n_pieces == 2 and result.facts == index(tmp_path / "out")
    assert capsys.readouterr().out == ""


def test_best_of_keeps_the_critics_best(base, critic, remi, tmp_path, capsys):
    judge = StyleCritic.from_pretrained(critic, remi)
    means = []
    for tries in ("1", "12"):
        more = ["--critic", str(critic)] if tries != "1" else []
        out = tmp_path / tries
        # dashes and underscores are one
        assert generate.main(words(base, out, "--n", "6", "--best-of", tries, "--top-k", "50", *more, "--json")) == 0
        facts = json.loads(capsys.readouterr().out)
        assert facts["decoding"]["best_of"] == int(tries)
        assert (facts["pieces"][0]["nats_per_token"] is None) == (tries != "1")
        pieces = Notes.from_scores([Score(out / entry["file"]) for entry in facts["pieces"]])
        means.append(judge(pieces).score.mean())
    assert means[1] > means[0]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--best_of", "4"], "best_of needs judges: give --judges_of RUN, --critic"),
        (["--best_of", "4", "--judges", "grammar=1"], "expected --bands FILE"),
        (["--best_of", "4", "--judges", "gramar=1"], "did you mean 'grammar'"),
        (["--best_of", "4", "--judges", "realism=1"], "the discriminator lives in a run"),
        (["--best_of", "4", "--judges", "style=1"], "expected --critic FOLDER"),
        (["--best_of", "4", "--temperature", "0", "--critic", "x"], "only one completion"),
        (["--best_of", "0"], r"best_of \(0\) must be at least 1"),
        (["--critic", "x"], "give --best_of"),
        (["--judges_of", "x"], "give --best_of"),
        (["--best_of", "4", "--judges_of", "x", "--critic", "x"], "leave out critic"),
        (["--best_of", "4", "--judges_of", "x"], "expected a run of mgen finetune"),
        (["--guidance", "2"], "guidance needs a style to lead to"),
        (["--guidance", "-1", "--style", "jazz"], r"guidance \(-1.0\) must be at least 0"),
        (["--repetition_penalty", "0"], r"repetition_penalty \(0.0\) must be above 0"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(more, message, base, tmp_path):
    with pytest.raises(MgenError, match=message) as caught:
        generate.main(words(base, tmp_path / "out", *more))
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()


def test_judges_by_name_are_a_weighted_sum(critic, excerpts, remi, tmp_path):
    bands = fit_bands(excerpts)
    save_bands(bands, tmp_path / "bands.json")
    judges = judges_of_options(
        ["grammar=0.25", "longest_run=2", "style=1"], JUDGES, remi, str(critic), str(tmp_path / "bands.json")
    )
    right = 0.25 * REWARDS["grammar"](bands)(excerpts).score + 2.0 * REWARDS["longest_run"](bands)(excerpts).score
    right = right + StyleCritic.from_pretrained(critic, remi)(excerpts).score
    np.testing.assert_allclose(judges(excerpts), right, rtol=1e-5)
    assert judges.description == "0.25 grammar + 2 longest_run + 1 style"


@pytest.fixture
def run_folder(base, critic, excerpts, tmp_path):
    """What a run of `mgen finetune` leaves, as far as its judges are concerned."""
    config = {"judges": ["longest_run=1", "style=1", "realism=0.5"], "critic": str(critic), "bands": ""}
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump({**config, "policy": str(base)}))
    save_bands(fit_bands(excerpts), folder / "bands.json")
    return folder


def test_judges_of_a_run(run_folder, base, critic, excerpts, remi):
    without = judges_of_run(run_folder, JUDGES, remi)
    assert (
        list(without.judges) == ["longest_run", "style"] and "realism is left out: no checkpoint" in without.description
    )
    learned = {}
    for step in (5, 10):
        discriminator = RealismCritic.new(remi, init=base, seed=step, min_notes=1)
        discriminator.calibration = Calibration(1.0, 0.1 * step)  # untrained ones all say 0
        folder = run_folder / "checkpoints" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        torch.save({"discriminator": discriminator.state_dict(), "batches": 0}, folder / "discriminator.pt")
        write_manifest(folder)
        learned[step] = discriminator
    (run_folder / "checkpoints" / "checkpoint-12").mkdir()  # cut off: does not count, and is left alone
    judges = judges_of_run(run_folder, JUDGES, remi)
    assert "the discriminator is that of step 10" in judges.description
    right = without(excerpts) + 0.5 * learned[10](excerpts).score
    np.testing.assert_allclose(judges(excerpts), right, rtol=1e-4)
    assert (run_folder / "checkpoints" / "checkpoint-12").is_dir()


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda folder: (folder / "config.yaml").unlink(), "expected a run of mgen finetune"),
        (lambda folder: (folder / "config.yaml").write_text("- 1"), "not of a run of mgen finetune"),
        (lambda folder: (folder / "config.yaml").write_text("a: [1"), "not YAML"),
        (lambda folder: (folder / "bands.json").unlink(), "expected bands as JSON"),
    ],
)
def test_a_run_without_its_judges_is_one_line(break_it, message, run_folder, remi):
    break_it(run_folder)
    with pytest.raises(MgenError, match=message):
        judges_of_run(run_folder, JUDGES, remi)


def test_pretraining_goes_on_from_a_policy_on_one_style(base, small_corpus, tmp_path):
    """The low-cost baseline trained on jazz: weights start from the policy's, and only jazz is counted."""
    corpus = Corpus.open(small_corpus)
    more = ["--corpus", str(small_corpus), "--init", str(base), "--style", "jazz", "--context", "128"]
    more += ["--max_steps", "2", "--eval_steps", "2", "--valid_windows", "16", "--per_device_train_batch_size", "64"]
    assert pretrain.main([*more, "--out", str(tmp_path / "run"), "--learning_rate", "0", *QUIET]) == 0
    before, after = (load_policy(folder)[0].state_dict() for folder in (base, tmp_path / "run" / "model"))
    assert all(torch.equal(before[name], after[name]) for name in before)  # a rate of 0: the policy's own weights
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    jazz = np.diff(corpus.table("train", "jazz").offsets)
    assert facts["epochs"] == round(128 / np.ceil(jazz / 126).sum(), 2)
    assert pretrain.main([*more, "--out", str(tmp_path / "moved"), *QUIET]) == 0
    moved = load_policy(tmp_path / "moved" / "model")[0].state_dict()
    assert any(not torch.equal(before[name], moved[name]) for name in before)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--style", "polka"], "style 'polka': the corpus has jazz, other"),
        (["--context", "512"], "its context is 256 tokens, 512 were asked for"),
        (["--style", "jazz", "--streaming", "true"], "cannot be streamed"),
    ],
)
def test_mistakes_in_going_on_are_one_line(more, message, base, small_corpus, tmp_path):
    options = ["--corpus", str(small_corpus), "--init", str(base), "--context", "128", "--out", str(tmp_path / "run")]
    with pytest.raises(MgenError, match=message):
        pretrain.main([*options, *QUIET, *more])
