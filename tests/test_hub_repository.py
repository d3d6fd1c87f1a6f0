import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from dataclasses import replace

import numpy as np
import pytest
import symusic
import yaml
from hub_runs import HOME, critic_run, evaluation, feature_critic_run, policy_run
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from transformers import GPT2Config, GPT2LMHeadModel, Qwen3Config, Qwen3ForCausalLM

from mgen.encoding.remi import Remi
from mgen.errors import MgenError
from mgen.hub.evaluation_results import EvaluationResults
from mgen.hub.model_card import PublisherInfo, RepositoryContents
from mgen.hub.published_samples import from_evaluation, from_model
from mgen.hub.repository import write_repository
from mgen.hub.trained_run import TrainedRun
from mgen.runs.run import Run
from mgen.sampling.samples import read_samples

pytestmark = pytest.mark.slow

PUBLISHER = PublisherInfo("ada/jazz", license="cc-by-4.0", data_license="written by us", eval_dataset="ada/bench")


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_policy, remi):
    return policy_run(tmp_path_factory.mktemp("runs") / "jazz", tiny_policy(max_position_embeddings=96), remi)


@pytest.fixture(scope="module")
def repository(run, remi, tmp_path_factory):
    """The folder of a policy with its evaluation."""
    folder = tmp_path_factory.mktemp("repository")
    results = EvaluationResults.read(evaluation(folder / "evaluation", remi), "jazz")
    samples = from_evaluation(read_samples(folder / "evaluation"), "jazz", "base", 3)
    out = folder / "out"
    write_repository(out, RepositoryContents(TrainedRun.read(run), PUBLISHER, {}, results, samples, {HOME: "home"}))
    return out


@pytest.fixture(scope="module")
def critic_repository(remi, tmp_path_factory):
    folder = tmp_path_factory.mktemp("critic")
    trained = TrainedRun.read(critic_run(folder / "critic", remi))
    publisher = PublisherInfo("ada/critic", eval_dataset="ada/bench")
    write_repository(folder / "out", RepositoryContents(trained, publisher, {}, None, None, {HOME: "home"}))
    return folder / "out"


@pytest.fixture(scope="module")
def feature_repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("features")
    trained = TrainedRun.read(feature_critic_run(folder / "critic"))
    publisher = PublisherInfo("ada/features", eval_dataset="ada/bench")
    write_repository(folder / "out", RepositoryContents(trained, publisher, {}, None, None, {HOME: "home"}))
    return folder / "out"


def stock(program, *words):
    """Output of a program that runs apart from us, with no network and without mgen."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", textwrap.dedent(program), *map(str, words)],
        capture_output=True,
        text=True,
        cwd="/",
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def card_of(folder):
    return (folder / "README.md").read_text()


def test_everything_is_there(repository):
    files = {path.relative_to(repository).as_posix() for path in repository.rglob("*") if path.is_file()}
    assert files == {
        "README.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "miditok.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "training/config.yaml",
        "training/run.json",
        "training/metrics.jsonl",
        "evaluation/metrics.json",
        ".eval_results/mgen_continuation.yaml",
        ".eval_results/mgen_transfer.yaml",
        *(
            f"samples/{i:02d}_{heading}.{kind}"
            for i in (1, 2, 3)
            for heading in ("pretrained", "this_model")
            for kind in ("mid", "ogg")
        ),
    } - {f"samples/01_this_model.{kind}" for kind in ("mid", "ogg")}  # the piece without a note


def test_nothing_of_the_machine_is_in_it(repository):
    for path in repository.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert b"grace" not in content and b"hf_xxx" not in content, path
    config = yaml.safe_load((repository / "training" / "config.yaml").read_text())
    assert config == {
        "policy": "base",
        "corpus": "corpus",
        "target": "jazz",
        "kl_weight": 0.5,
        "judges": ["style=1", "realism=0.5"],
        "max_steps": 60,
    }


def test_it_is_sampled_as_it_was_trained(repository, remi):
    config = json.loads((repository / "generation_config.json").read_text())
    expected = {"bos_token_id": remi.bos_id, "eos_token_id": remi.eos_id, "pad_token_id": remi.pad_id}
    expected |= {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "max_length": 96, "use_cache": True}
    assert config.items() >= expected.items()


def test_stock_classes_load_it_without_us(repository, run):
    said = stock(
        """
        import os, sys
        os.environ["HF_HUB_OFFLINE"] = "1"
        from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline
        model, tokenizer = AutoModelForCausalLM.from_pretrained(sys.argv[1]), AutoTokenizer.from_pretrained(sys.argv[1])
        assert model.generation_config.max_length == 96 and model.generation_config.do_sample
        text = pipeline("text-generation", model=model, tokenizer=tokenizer)("BOS_None JAZZ_None")[0]["generated_text"]
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert len(ids) <= 96 and "".join(tokenizer.convert_ids_to_tokens(ids)) == text.replace(" ", "")
        assert not any(name.split(".")[0] in {"mgen", "rewards", "critics", "miditok"} for name in sys.modules)
        print(type(model).__name__, f"{model.get_input_embeddings().weight.double().sum():.6f}")
        """,
        repository,
    )
    weights = load_file(run / "model" / "model.safetensors")
    assert said.split() == ["LlamaForCausalLM", f"{weights['model.embed_tokens.weight'].double().sum():.6f}"]
    assert Remi.from_pretrained(repository).fingerprint == Remi.from_pretrained(run / "model").fingerprint


def python_of(card, repo, folder):
    """The card's Python, with the downloaded folder in place of the download."""
    blocks = re.findall(r"```python\n(.*?)```", card, re.S)
    return [
        block.replace(f'snapshot_download("{repo}")', repr(str(folder))).replace(f'"{repo}"', repr(str(folder)))
        for block in blocks
    ]


def test_the_cards_own_program_writes_a_midi_file(repository, tmp_path):
    (program,) = python_of(card_of(repository), "ada/jazz", repository)
    stock(program.replace('"piece.mid"', repr(str(tmp_path / "piece.mid"))))
    assert symusic.Score(tmp_path / "piece.mid").ticks_per_quarter > 0


FAMILIES = {
    "gpt2": (
        GPT2LMHeadModel,
        GPT2Config(n_embd=32, n_layer=3, n_head=4, n_positions=96),
        ["`GPT2LMHeadModel` of `transformers` (`model_type` gpt2)", "layers: 3", "hidden size: 32", "heads: 4"],
    ),
    "qwen3": (
        Qwen3ForCausalLM,
        Qwen3Config(
            hidden_size=48, intermediate_size=64, num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=2,
            head_dim=8, max_position_embeddings=96,
        ),
        ["`Qwen3ForCausalLM` of `transformers` (`model_type` qwen3)", "layers: 2", "hidden size: 48", "heads: 6"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_the_card_describes_the_architecture_of_the_model(family, remi, tmp_path):
    """By the model's configuration; the card's own program runs for each family."""
    build, config, facts = FAMILIES[family]
    config.vocab_size, config.pad_token_id = remi.vocab_size, remi.pad_id
    config.bos_token_id, config.eos_token_id = remi.bos_id, remi.eos_id
    model = build(config)
    run = policy_run(tmp_path / "run", model, remi, "pretrain")
    write_repository(tmp_path / "out", RepositoryContents(TrainedRun.read(run), PUBLISHER, {}, None, None, {}))
    card = card_of(tmp_path / "out")
    shown = [*facts, f"parameters: {model.num_parameters():,}", "context: 96 tokens", f"model (`{build.__name__}`)"]
    assert [fact for fact in shown if fact not in card] == [] and "Llama" not in card
    (program,) = python_of(card, "ada/jazz", tmp_path / "out")
    stock(program.replace('"piece.mid"', repr(str(tmp_path / "piece.mid"))))
    assert symusic.Score(tmp_path / "piece.mid").ticks_per_quarter > 0


def test_the_card_of_a_llama_model(repository):
    card = card_of(repository)
    assert "architecture: `LlamaForCausalLM` of `transformers` (`model_type` llama)" in card
    assert "layers: 1" in card and "hidden size: 32" in card and "attention heads: 2" in card
    assert "A causal language model (`LlamaForCausalLM`) with" in card


def test_metadata_reads_back(repository):
    data = ModelCard.load(repository / "README.md").data
    assert (data.library_name, data.pipeline_tag, data.license) == ("transformers", "text-generation", "cc-by-4.0")
    assert {"symbolic-music", "midi", "reinforcement-learning", "jazz"} <= set(data.tags)
    assert not {"trl", "grpo"} & set(data.tags)  # TRL did not train it
    assert data.datasets is None and data.base_model is None  # nobody named any
    found = {(result.dataset_config, result.metric_type): result.metric_value for result in data.eval_results}
    assert found["transfer", "c2st_auc"] == 0.971235 and found["continuation", "kl_piece"] == 11.9
    assert {result.dataset_type for result in data.eval_results} == {"ada/bench"}


def test_the_page_says_what_was_measured_and_what_got_worse(repository):
    card = card_of(repository)
    assert "| judged jazz | 0.90 [0.85, 0.95] | 0.20 [0.15, 0.25] | 0.60 [0.50, 0.70] | as real |" in card
    limits = card.split("## Limits")[1].split("## ")[0]
    assert "Worse than the pretrained model (transfer): greedy loops 0.23 → 0.55; two-sample AUC 0.60 → 0.97." in limits
    assert "separates its pieces from real jazz (transfer): two-sample AUC 0.97 [0.95, 0.99]" in limits
    assert "Evaluated on 256 pieces per row" in limits  # below 512
    assert "Licence of the music, as stated by the publisher: written by us" in card
    assert "style with weight 1, realism with weight 0.5" in card
    assert "did not state a licence for the weights" not in card


def test_a_judge_that_was_left_out_is_not_named(tmp_path, tiny_policy, remi):
    run = policy_run(tmp_path / "jazz", tiny_policy(), remi, judges=["style=1", "swing=0.5", "rests=0.5"])
    facts = json.loads((run / "run.json").read_text()) | {"left_out": {"swing": "only 3 of 99 pieces"}}
    (run / "run.json").write_text(json.dumps(facts))
    write_repository(
        tmp_path / "out", RepositoryContents(TrainedRun.read(run), PUBLISHER, {}, None, None, {HOME: "home"})
    )
    assert "judged by style with weight 1, rests with weight 0.5." in card_of(tmp_path / "out")


def test_names_of_others_cannot_break_the_page(repository):
    """Collections and systems have the names of users' folders."""
    card = card_of(repository)
    assert "order 1 \\| chain (baseline)" in card
    rows = [line for line in card.splitlines() if line.startswith("| ") and "audio" not in line]
    assert rows and "<b>" not in card


def test_samples_hold_nothing_but_what_the_model_wrote(repository, remi):
    """`base` has its four notes twice, `jazz` three times; the first `unconditional` prompt got no note of `jazz`."""
    notes = {
        path.stem: sum(len(track.notes) for track in symusic.Score(path).tracks)
        for path in (repository / "samples").glob("*.mid")
    }
    assert notes == {
        "01_pretrained": 8,
        "02_pretrained": 8,
        "03_pretrained": 8,
        "02_this_model": 12,
        "03_this_model": 12,
    }
    card = card_of(repository)
    assert "| 1 | <audio" in card and "| no note |" in card
    assert 'src="https://huggingface.co/ada/jazz/resolve/main/samples/02_this_model.ogg"' in card


def test_prompts_of_real_music_are_not_published(run, remi, tmp_path):
    evaluated = read_samples(evaluation(tmp_path / "e", remi))
    only = [item for item in evaluated.items if item.prompt_type == "continuation"]
    samples = from_evaluation(replace(evaluated, items=only), "jazz", "base", 3)
    assert samples is not None and "cut off" in samples.source
    out = tmp_path / "out"
    write_repository(out, RepositoryContents(TrainedRun.read(run), PUBLISHER, {}, None, samples, {}))
    score = symusic.Score(out / "samples" / "01_this_model.mid")
    assert sum(len(track.notes) for track in score.tracks) == 12  # three bars of four; the prompt's bar is not there


def test_without_an_evaluation_the_model_is_sampled(run, tmp_path):
    samples = from_model(run / "model", "jazz", 2)
    assert samples is not None and len(samples.pieces["this model"]) == 2
    assert from_model(run / "model", "jazz", 0) is None
    out = tmp_path / "out"
    write_repository(out, RepositoryContents(TrainedRun.read(run), PublisherInfo("ada/jazz"), {}, None, samples, {}))
    card = card_of(out)
    assert "No evaluation was published with it" in card and "There is no evaluation." in card
    assert "did not state a licence for the weights" in card and "did not state the licence of the music" in card
    assert ModelCard(card).data.license is None and not (out / ".eval_results").exists()


def test_a_critic_is_complete_too(critic_repository, remi):
    from critics.style import StyleCritic
    from mgen.notes import Notes
    from mgen.stats.calibration import Calibration

    critic = StyleCritic.from_pretrained(critic_repository, remi)
    assert (critic.model.calibration, critic.positive) == (Calibration(0.5, 0.25), "jazz")
    before = StyleCritic.from_pretrained(critic_repository.parent / "critic" / "model", remi)
    from mgen.corpus.demo import compose

    notes = Notes.from_scores([compose("club_takes", 0), compose("chorales", 0)])
    np.testing.assert_array_equal(critic(notes).score, before(notes).score)
    data = ModelCard.load(critic_repository / "README.md").data
    assert data.pipeline_tag == "text-classification" and "trl" not in data.tags
    assert {result.metric_type for result in data.eval_results} >= {"auc", "accuracy"}
    assert "AUC, a\\|b against pop" in card_of(critic_repository)
    assert (critic_repository / ".eval_results" / "mgen_critic.yaml").is_file()
    assert not (critic_repository / "generation_config.json").exists()


def test_the_critics_own_programs_run(critic_repository, tmp_path):
    stock_program, ours = python_of(card_of(critic_repository), "ada/critic", critic_repository)
    said = stock(stock_program + "\nimport sys; assert 'mgen' not in sys.modules")
    assert re.search(r"'label': 'jazz', 'score': -?\d", said)
    from mgen.corpus.demo import compose

    compose("club_takes", 0).dump_midi(tmp_path / "piece.mid")
    done = subprocess.run([sys.executable, "-c", ours], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert -9.3 < float(done.stdout.strip("[] \n")) <= 0


def test_a_feature_critic_is_complete_without_config_and_vocabulary(feature_repository):
    files = {
        path.relative_to(feature_repository).as_posix() for path in feature_repository.rglob("*") if path.is_file()
    }
    assert files == {
        "README.md",
        "critic.json",
        "ensemble.safetensors",
        "training/config.yaml",
        "training/run.json",
        "evaluation/card.json",
        "evaluation/reliability.svg",
        ".eval_results/mgen_critic.yaml",
    }
    for path in feature_repository.rglob("*"):
        assert not path.is_file() or b"grace" not in path.read_bytes(), path
    data = ModelCard.load(feature_repository / "README.md").data
    assert (data.library_name, data.pipeline_tag) == ("mgen", None)
    assert {"reward-model", "jazz"} <= set(data.tags) and not {"trl", "remi", "miditok"} & set(data.tags)
    assert {result.metric_type: result.metric_value for result in data.eval_results}["auc"] == 0.9


def test_the_page_of_a_feature_critic_states_its_input_and_requirements(feature_repository):
    card = card_of(feature_repository)
    assert "plain TRL cannot load it by name" in card and "`mgen critic --input tokens`" in card
    assert (
        "style features: statistics of harmony, melody, rhythm" in card
        and "1,048 excerpts of 48 works, of 32 to 32 notes" in card
    )
    assert "members for intact against corrupted music: features transitions" in card and "pipeline(" not in card
    assert "a piece of fewer than 16 notes" in card and "-9.21 nats" in card
    assert "Expected calibration error on test 0.030" in card
    assert "Abstentions, counted as negative: 1.5% of jazz, 25.0% of other music." in card
    assert "](evaluation/reliability.svg)" in card and "| 0.12 | 0.25 | 40 |" in card
    assert "| 256 | 64 | 0.900 [0.800, 0.950] | 0.800 [0.800, 0.800] | 0.040 |" in card
    assert "| one pitch | 1000 | \N{EN DASH} | 0.4% | -6.50 | 25.0% |" in card
    assert "Llama" not in card and "Context of" not in card and "attention heads" not in card


def test_a_feature_critic_is_loaded_by_its_own_program(feature_repository, tmp_path):
    from critics.style import StyleCritic
    from mgen.corpus.demo import compose
    from mgen.notes import Notes

    notes = Notes.from_scores([compose("club_takes", 0), compose("chorales", 0)])
    before = StyleCritic.from_pretrained(feature_repository.parent / "critic" / "model")
    after = StyleCritic.from_pretrained(feature_repository)
    np.testing.assert_array_equal(after(notes).score, before(notes).score)
    (program,) = python_of(card_of(feature_repository), "ada/features", feature_repository)
    compose("club_takes", 0).dump_midi(tmp_path / "piece.mid")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert -9.3 < float(done.stdout.strip("[] \n")) <= 0


def test_the_card_of_a_reward_model_shows_its_accuracy_on_preferences(tmp_path, remi):
    """A run of `mgen prefer --method reward`: a classifier without a critic's card."""
    from critics.sequence import SequenceCritic

    network = SequenceCritic.new(remi, size="tiny", max_tokens=64, label="preferred").model
    run = Run.open(tmp_path / "run", "prefer", {"policy": f"{HOME}/runs/jazz/model"}, seed=1, data="cafe")
    run.save_model(network, remi)
    number = {"value": 0.75, "low": 0.6, "high": 0.9}
    run.finish(method="reward", parameters=1000, accuracy=number, margin=number, pairs={"train": 80, "valid": 20})
    trained = TrainedRun.read(tmp_path / "run")
    assert trained.kind == "reward model"
    write_repository(tmp_path / "out", RepositoryContents(trained, PUBLISHER, {}, None, None, {HOME: "home"}))
    card = card_of(tmp_path / "out")
    assert "| pairs in the listeners' order | 0.750 [0.600, 0.900] | 1 |" in card
    assert "80 pairs for training, 20 held out (hash `cafe`)" in card and "listeners' preferences between pairs" in card
    data = ModelCard(card).data
    assert {"trl", "reward-trainer"} <= set(data.tags) and data.pipeline_tag == "text-classification"
    assert {result.metric_type: result.metric_value for result in data.eval_results}["accuracy"] == 0.75
    assert (tmp_path / "out" / ".eval_results" / "mgen_preference.yaml").is_file()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda run: (run / "run.json").unlink(), "found none; give RUN"),
        (lambda run: (run / "model" / "config.json").unlink(), "expected config.json and"),
        (lambda run: (run / "model" / "miditok.json").write_text("{}"), "its model is damaged"),
        (
            lambda run: (run / "run.json").write_text(json.dumps({"command": "finetune"})),
            "is not finished; give its mgen finetune command again",
        ),
        (lambda run: (run / "run.json").write_text("{"), "cannot be read"),
        (lambda run: (run / "run.json").write_text(json.dumps({"command": "prepare"})), "mgen prepare has no model"),
    ],
)
def test_a_run_that_is_none_is_one_line(damage, said, tmp_path, tiny_policy, remi):
    run = policy_run(tmp_path / "jazz", tiny_policy(), remi)
    damage(run)
    with pytest.raises(MgenError) as caught:
        TrainedRun.read(run)
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["model", "model/model.safetensors", "run.json", "config.yaml", "metrics.jsonl"])
def test_no_link_out_of_the_run_is_followed(name, run, tmp_path):
    copy, elsewhere = shutil.copytree(run, tmp_path / "jazz"), tmp_path / "elsewhere"
    (copy / name).rename(elsewhere)
    (copy / name).symlink_to(elsewhere)
    with pytest.raises(MgenError, match=f"{name}.*found a link out of it or no file") as caught:
        TrainedRun.read(copy)
    assert "\n" not in str(caught.value)
    elsewhere.rename(copy / "elsewhere")  # a link inside the run may be used
    (copy / name).unlink()
    (copy / name).symlink_to(copy / "elsewhere")
    assert TrainedRun.read(copy).kind == "policy"


def test_only_regular_files_are_published(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "jazz")
    os.mkfifo(copy / "model" / "chat_template.jinja")
    with pytest.raises(MgenError, match=r"chat_template\.jinja: expected a file of the run"):
        TrainedRun.read(copy)


def test_a_runs_model_is_not_the_run(run):
    with pytest.raises(MgenError, match="is a run's model; give the run itself"):
        TrainedRun.read(run / "model")


def test_a_private_path_stops_before_anything_is_written(run, tmp_path):
    publisher = PublisherInfo("ada/jazz", data_license=f"see {HOME}/licence.txt")
    with pytest.raises(MgenError, match=r"README\.md: names your music"):
        write_repository(
            tmp_path / "out", RepositoryContents(TrainedRun.read(run), publisher, {}, None, None, {HOME: "your music"})
        )
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_empty_stays(run, tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(MgenError, match="not empty; choose another folder"):
        write_repository(tmp_path, RepositoryContents(TrainedRun.read(run), PUBLISHER, {}, None, None, {}))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
