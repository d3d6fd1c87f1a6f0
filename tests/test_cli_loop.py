"""All commands one after the other, on a few pieces: weights change, and files have the expected content."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import symusic
import torch
from safetensors.torch import load_file

from critics.realism.feature_discriminator import FeatureDiscriminator
from mgen.cli import critic, evaluate, finetune, generate, pretrain
from mgen.errors import MgenError
from mgen.notes import Notes
from mgen.runs.judges import judges_of_run
from mgen.sampling.samples import read_samples
from mgen.workflows import policy_run
from mgen.workflows.finetune import FinetuneConfig
from mgen.workflows.judges import JUDGES
from mgen.workflows.run_judges import describe_fixed_point

pytestmark = pytest.mark.slow

QUIET = ["--report_to", "none", "--disable_tqdm", "true"]


@pytest.fixture(scope="module")
def base(small_corpus, tmp_path_factory):
    """A policy that has seen enough to write notes."""
    out = tmp_path_factory.mktemp("runs") / "base"
    words = ["--corpus", str(small_corpus), "--out", str(out), "--max_steps", "120", "--eval_steps", "60"]
    words += [
        "--context",
        "192",
        "--per_device_train_batch_size",
        "8",
        "--learning_rate",
        "5e-3",
        "--valid_windows",
        "16",
    ]
    assert pretrain.main([*words, *QUIET]) == 0
    return out / "model"


@pytest.fixture(scope="module")
def style_critic(small_corpus, base, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "critic"
    words = ["--corpus", str(small_corpus), "--out", str(out), "--init", str(base), "--max_steps", "8"]
    words += ["--input", "tokens"]
    words += ["--eval_steps", "8", "--max_tokens", "128", "--min_tokens", "64", "--prompt_tokens", "32"]
    words += ["--valid_excerpts", "64", "--test_excerpts", "64", "--per_device_train_batch_size", "8"]
    assert critic.main([*words, *QUIET]) == 0
    return out / "model"


def finetune_words(corpus, base, style_critic, out, steps=2):
    words = ["--policy", str(base), "--corpus", str(corpus), "--critic", str(style_critic), "--out", str(out)]
    words += ["--max_steps", str(steps), "--max_completion_length", "120", "--prompt_tokens", "32", "--save_steps", "1"]
    words += ["--completions", "16", "--minibatch", "8", "--num_generations", "4", "--learning_rate", "1e-3"]
    words += ["--realism_warm_up", "1", "--check_pieces", "0", "--guard_steps", "0", "--bf16", "false"]
    return [*words, "--report_to", "none"]


@pytest.fixture(scope="module")
def tuned(small_corpus, base, style_critic, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "tuned"
    assert finetune.main(finetune_words(small_corpus, base, style_critic, out)) == 0
    return out


def test_finetuning_moves_weights_and_logs_every_judge(tuned, base):
    before, after = (load_file(folder / "model.safetensors") for folder in (base, tuned / "model"))
    assert any(not torch.equal(before[name], after[name]) for name in before)
    lines = [json.loads(line) for line in (tuned / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "policy/kl" in line]
    assert len(steps) == 2 and abs(steps[0]["policy/kl"]) < 1e-3 and steps[1]["policy/kl"] != 0
    judges = ["grammar", "repetition_interval", "repetition_rhythm", "scale_fit", "style", "realism"]
    for line in steps:
        for judge in judges:
            assert {f"rewards/{judge}/mean", f"rewards/{judge}/std", f"share/{judge}"} <= line.keys()
        shares = [value for key, value in line.items() if key.startswith("share/")]
        assert abs(sum(shares) - 1) < 1e-5
        assert {"policy/kl_step", "grammar/removed", "realism/accuracy"} <= line.keys()
    assert json.loads((tuned / "run.json").read_text())["finished"]


def test_a_run_saves_its_discriminator(tuned, remi, demo_pieces):
    discriminator = FeatureDiscriminator.from_pretrained(tuned / "realism")
    facts = json.loads((tuned / "realism" / "critic.json").read_text())
    assert (discriminator.against, facts["kind"]) == ("current", "realism")
    assert {"accuracy", "auc", "clip_rate", "ece", "scale", "logit_real"} <= facts["held_out"].keys()
    judges = judges_of_run(tuned, JUDGES, remi)
    assert "that of the run's end, against current samples" in judges.description
    notes = Notes.from_scores(demo_pieces)
    last = torch.load(tuned / "checkpoints" / "checkpoint-2" / "discriminator.pt", weights_only=True)["realism"]
    ended = judges.judges["realism"](notes).score.copy()
    discriminator.load_state_dict(last)  # what the last checkpoint holds is what the folder holds
    np.testing.assert_allclose(discriminator(notes).score, ended, atol=1e-5)


def test_a_run_killed_after_its_last_checkpoint_ends_as_it_would_have(
    tuned, small_corpus, base, style_critic, tmp_path, monkeypatch
):
    """It takes no step more, whose weights would replace the right ones of policy and discriminator."""
    words = finetune_words(small_corpus, base, style_critic, tmp_path / "run")

    def power_cut(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(policy_run, "save_discriminators", power_cut)
        with pytest.raises(KeyboardInterrupt):
            finetune.main(words)
    assert (tmp_path / "run" / "model").is_dir() and not (tmp_path / "run" / "realism").exists()
    assert finetune.main(words) == 0
    for folder in ("model", "realism", "checkpoints/checkpoint-2"):
        for name in ("model.safetensors", "critic.json", "discriminator.pt"):
            if (tuned / folder / name).exists():
                assert (tuned / folder / name).read_bytes() == (tmp_path / "run" / folder / name).read_bytes()
    records = []
    for run in (tuned, tmp_path / "run"):
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        facts = json.loads((run / "run.json").read_text())
        for entry in (*lines, facts["last"]):
            for key in [key for key in entry if key.startswith("seconds/")]:
                del entry[key]
        records.append((lines, facts["steps"], facts["last"], facts["parameters"]))
    assert records[0] == records[1] and records[0][1] == 2


def test_judges_that_distinguish_nothing_are_left_out_unless_kept(
    small_corpus, base, style_critic, remi, tmp_path, capsys
):
    """A policy after 120 steps repeats no pitch for long and breaks the grammar: loops cannot distinguish it."""
    words = finetune_words(small_corpus, base, style_critic, tmp_path / "run", steps=1)
    words += ["--check_pieces", "32", "--judges", "style=0.5", "realism=1", "!scale_fit=0.5"]
    assert finetune.main([*words, "length=1"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert sum(line.startswith("AUC of 32 real pieces above 32 samples of the policy: style ") for line in lines) == 1
    stored = json.loads((tmp_path / "run" / "judges.json").read_text())
    assert list(stored["auc"]) == ["style", "realism", "scale_fit", "length"]
    weak = {name for name, auc in stored["auc"].items() if auc["value"] < 0.55} - {"scale_fit"}
    assert set(stored["left_out"]) == weak and stored["auc"]["realism"]["value"] > 0.55
    for name in weak:
        assert any(line.startswith(f"judge {name} is left out: AUC ") and f"name it !{name}" in line for line in lines)
    judges = judges_of_run(tmp_path / "run", JUDGES, remi)
    assert set(judges.judges) == set(stored["auc"]) - weak
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert set(facts.get("left_out", {})) == weak
    assert "scale_fit" in judges.weights and judges.weights["scale_fit"] == 0.5


def test_a_run_against_the_reference_does_not_train_the_discriminator(small_corpus, base, style_critic, tmp_path):
    words = finetune_words(small_corpus, base, style_critic, tmp_path / "run")
    words += ["--realism_against", "reference", "--kl_weight", "1", "--realism_warm_up", "2", "--realism_clip", "3"]
    words += ["--realism_gradient_penalty", "0.1", "--realism_spectral_norm", "head"]
    words += ["--judges", "realism=0.5", "realism_tokens=0.5"]
    assert finetune.main(words) == 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "policy/kl" in line]
    for line in steps:
        assert {"realism/auc", "realism/clip_rate", "realism_tokens/auc"} <= line.keys()
        assert not {"realism/ece", "realism_tokens/steps"} & line.keys()  # those of a round of training
    first, last = (
        torch.load(path, weights_only=True)
        for path in sorted((tmp_path / "run" / "checkpoints").glob("*/discriminator.pt"))
    )
    network, features = first["realism_tokens"]["model"], first["realism"]["coefficients"]
    assert all(torch.equal(network[name], last["realism_tokens"]["model"][name]) for name in network)
    assert torch.equal(features, last["realism"]["coefficients"]) and features.abs().max() > 0
    for name in ("realism", "realism_tokens"):
        facts = json.loads((tmp_path / "run" / name / "critic.json").read_text())
        assert facts["against"] == "reference" and facts["options"]["clip"] == 3.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"fixed point reference^0.33 x real jazz^0.67, shifted by the other judges"),
        ({"kl_weight": 0.0}, "reference^0.00 x real jazz^1.00, shifted by the other judges; no KL holds the policy"),
        ({"kl_weight": 1.0, "realism_against": "reference"}, "reference^0.00 x real jazz^1.00, shifted"),
    ],
)
def test_a_run_describes_its_fixed_point(options, message):
    config = FinetuneConfig(policy="p", corpus="c", out="o", target="jazz", bf16=False, use_cpu=True, **options)
    assert message in describe_fixed_point(config, config.kl_weight)


def test_a_policy_that_is_divided_among_processes_is_refused(small_corpus, base, style_critic, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(MgenError, match=r"FSDP does not divide it; launch with configs/accelerate/gpus.yaml"):
        finetune.main(finetune_words(small_corpus, base, style_critic, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_finished_finetuning_says_so(tuned, small_corpus, base, style_critic, capsys):
    words = finetune_words(small_corpus, base, style_critic, tuned)
    assert finetune.main(words) == 0
    assert "was finished before" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--judges", "stile=1"], "did you mean 'style'"),
        (["--beta", "0.1"], "option 'beta' was removed: mgen grpo, GRPO as published, has it"),
        (["--kl_weight", "1"], r"kl_weight \(1\) must be below the weight of realism \(1\).*try 0.5 or 0"),
        (
            ["--realism_against", "reference", "--realism_warm_up", "4"],
            r"kl_weight \(0.5\) must be the weight of realism \(1\).*try kl_weight 1",
        ),
        (["--realism_against", "reference", "--kl_weight", "1"], r"realism_warm_up \(1\) must be at least 2"),
        (["--kl_weight", "0", "--kl_step", "0"], r"kl_step \(0.0\) must be above 0 with kl_weight 0"),
        (["--max_grad_norm", "0"], r"max_grad_norm \(0\) must be above 0"),
        (
            ["--realism_floor", "0.9", "--realism_ceiling", "0.8"],
            r"realism_floor \(0.9\) must be below ceiling \(0.8\)",
        ),
        (["--realism_spectral_norm", "some"], "realism_spectral_norm 'some': expected one of none, head, all"),
        (["--dominant_share", "0.2"], "between 0.5 and 1"),
        (["--transfer_share", "2"], "between 0 and 1"),
        (["--target", "polka"], "style 'polka': the corpus has jazz, other"),
        (["--num_generations", "3"], r"completions \(16\) must be a multiple of twice num_generations \(3\).*try 18"),
        (["--minibatch", "32"], r"minibatch \(32\) must be at most completions \(16\)"),
        (["--cold_share", "0.25"], r"cold_share \(0.25\) and cold_judges \(none\) go together"),
        (["--cold_share", "0.25", "--cold_judges", "loops"], "cold_judges: loops is not among the judges"),
        (["--quantile", "1"], r"quantile \(1\) is 0 or at least 2"),
        (["--guard_pieces", "79"], r"guard_pieces \(79\) must be at least 80"),
    ],
)
def test_mistakes_in_finetuning_are_one_line(change, message, small_corpus, base, style_critic, tmp_path):
    words = [*finetune_words(small_corpus, base, style_critic, tmp_path / "run"), *change]
    with pytest.raises(MgenError, match=message) as caught:
        finetune.main(words)
    assert "\n" not in str(caught.value)


def test_our_checkpoint_is_a_stock_model(base):
    """Loaded, sampled and read back by stock classes in a process that does not know mgen."""
    program = """
        import sys
        from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline
        tokenizer, model = AutoTokenizer.from_pretrained(sys.argv[1]), AutoModelForCausalLM.from_pretrained(sys.argv[1])
        write = pipeline("text-generation", model=model, tokenizer=tokenizer)
        text = write(tokenizer.bos_token, max_new_tokens=24, do_sample=True)[0]["generated_text"]
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert len(ids) >= 1 and "".join(tokenizer.convert_ids_to_tokens(ids)) == text, text
        assert not any(name.split(".")[0] in {"mgen", "rewards", "critics", "miditok"} for name in sys.modules)
        print(type(model).__name__)
    """
    command = [sys.executable, "-I", "-c", textwrap.dedent(program), str(base)]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "LlamaForCausalLM"


def test_two_processes_end_with_equal_weights(small_corpus, base, style_critic, tmp_path):
    """Completions are split between processes and judged on both; the discriminators see the same. Nothing may
    drift.
    """
    words = finetune_words(small_corpus, base, style_critic, tmp_path / "run")
    program = tmp_path / "two.py"
    program.write_text(
        textwrap.dedent(
            """
            import hashlib, sys
            from pathlib import Path
            from accelerate import PartialState
            from mgen.cli import finetune
            from mgen.cli.main import run
            from mgen.rl.loop import PolicyGradient

            def digest(state):
                digests = hashlib.sha256()
                for name in sorted(state):
                    digests.update(state[name].detach().numpy().tobytes())
                return digests.hexdigest()

            trained = PolicyGradient.train

            def train(self, *args, **kwargs):
                out = trained(self, *args, **kwargs)
                policy = self.policy.state_dict()
                critic = self.discriminator.discriminators["realism"]._tensors()
                rank = PartialState().process_index
                Path(sys.argv[1], f"rank{rank}").write_text(digest(policy) + " " + digest(critic))
                return out

            PolicyGradient.train = train
            raise SystemExit(run(finetune.main, sys.argv[2:]))
            """
        )
    )
    # On CPUs `accelerate launch` starts one process, whatever --num_processes is; torchrun starts them all.
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    command = [*launch, str(program), str(tmp_path), *words, "--use_cpu", "true"]
    env = os.environ | {"ACCELERATE_USE_CPU": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=540, env=env)
    assert done.returncode == 0, done.stderr[:6000]
    assert (tmp_path / "rank0").read_text() == (tmp_path / "rank1").read_text()
    before, after = (load_file(folder / "model.safetensors") for folder in (base, tmp_path / "run" / "model"))
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_generate_writes_midi_that_continues_the_prompt(base, demo_pieces, tmp_path, capsys):
    prompt = tmp_path / "prompt.mid"
    demo_pieces[0].dump_midi(prompt)
    words = [
        "--model",
        str(base),
        "--prompt",
        str(prompt),
        "--style",
        "jazz",
        "--n",
        "2",
        "--max_new_tokens",
        "60",
        "--json",
    ]
    for folder, more in (
        ("a", []),
        ("b", []),
        ("greedy", ["--temperature", "0"]),
        ("k", ["--top_k", "5", "--top_p", "0.9"]),
    ):
        assert generate.main([*words, "--out", str(tmp_path / folder), *more]) == 0
        index = json.loads(capsys.readouterr().out)
        assert index == json.loads((tmp_path / folder / "index.json").read_text())
        assert [entry["file"] for entry in index["pieces"]] == ["0000.mid", "0001.mid"]

    def pitches(folder, name="0000.mid"):
        return [note.pitch for track in symusic.Score(tmp_path / folder / name).tracks for note in track.notes]

    assert pitches("a") == pitches("b") != pitches("k")
    assert pitches("greedy") == pitches("greedy", "0001.mid")
    assert len({tuple(pitches(folder)[:4]) for folder in ("a", "greedy", "k")}) == 1  # the prompt's first notes
    with pytest.raises(MgenError, match="not empty"):
        generate.main([*words, "--out", str(tmp_path / "a")])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--style", "polka"], "the corpus has"),
        (["--temperature", "-1"], "at least 0"),
        (["--prompt", "nowhere.mid"], "nowhere.mid"),
        (["--model", "nowhere"], "expected a model"),
    ],
)
def test_mistakes_in_generating_are_one_line(change, message, base, tmp_path):
    with pytest.raises(MgenError, match=message) as caught:
        generate.main(["--model", str(base), "--out", str(tmp_path / "out"), "--n", "1", *change])
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()


def test_evaluate_measures_models_baselines_and_real_music(small_corpus, base, tuned, tmp_path, capsys):
    models = [f"pretrained={base}", f"runs={base},{base}", f"tuned={tuned / 'model'}"]
    words = ["--model", *models, "--corpus", str(small_corpus), "--out", str(tmp_path / "e")]
    words += ["--n", "64", "--seeds", "2", "--n_greedy", "4", "--prompt_tokens", "32", "--completion_tokens", "96"]
    words += [
        "--prompt_types",
        "continuation",
        "transfer",
        "--low_cost_baselines",
        "best_of_2",
        "guidance_2",
        "--judges_of",
        str(tuned),
    ]
    words += ["--low_cost_model", f"alone={base}", "--baselines", "markov1", "train", "--sequence", "false"]
    words += ["--speed", "plain"]  # in bf16 the policy and itself are .01 nats per piece apart
    assert evaluate.main([*words, "--examples", "1", "--samples", "3", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result == json.loads((tmp_path / "e" / "metrics.json").read_text())
    rows = result["rows"]
    assert result["systems"] == {
        "real": "real",
        "pretrained": "pretrained",
        "runs": "tuned",
        "tuned": "tuned",
        "best_of_2": "low_cost_baseline",
        "guidance_2": "low_cost_baseline",
        "alone": "low_cost_baseline",
        "markov1": "baseline",
        "train": "reference",
    }
    assert list(rows) == list(result["systems"])
    names = {"valid", "loop_rate", "rep4", "rep8", "interval_rep8", "H1", "H4", "GS", "CPI", "SI", "swing", "oa", "kld"}
    names |= {"triplet_share", "judge_jazz", "c2st_auc", "frechet", "vendi_ratio", "copy_rate", "self_bleu"}
    for by_kind in rows.values():
        for cells in by_kind.values():
            assert names <= cells.keys()
            for cell in cells.values():
                assert cell["value"] is None or cell["low"] - 1e-9 <= cell["value"] <= cell["high"] + 1e-9
    for kind in ("continuation", "transfer"):
        of_model = {"loop_rate_greedy", "loop_rate_08", "kl_piece"}
        assert of_model <= rows["pretrained"][kind].keys() and not of_model & rows["real"][kind].keys()
        # the same weights and seeds: the same pieces
        assert rows["pretrained"][kind]["H1"]["seeds"] == rows["alone"][kind]["H1"]["seeds"]
        assert rows["pretrained"][kind]["H1"]["value"] == rows["runs"][kind]["H1"]["value"]
        # two training runs: their spread is joined to the interval
        assert rows["pretrained"][kind]["H1"]["high"] < rows["runs"][kind]["H1"]["high"]
        assert abs(rows["alone"][kind]["kl_piece"]["value"]) < 1e-3 < rows["guidance_2"][kind]["kl_piece"]["value"]
        assert rows["best_of_2"][kind]["kl_bound"]["value"] == pytest.approx(np.log(2) - 0.5)
        assert rows["train"][kind]["copy_rate"]["value"] > 0.9 > rows["real"][kind]["copy_rate"]["value"]
    assert rows["real"]["continuation"]["valid"]["value"] == 1.0
    # 120 steps of training are not music: the fresh classifier must see it, and real halves must look alike.
    assert rows["pretrained"]["continuation"]["c2st_auc"]["value"] > 0.8
    assert rows["real"]["continuation"]["c2st_auc"]["low"] < 0.6
    assert 0 < rows["pretrained"]["continuation"]["nll_note"]["value"] < 40
    assert "nll_note" not in rows["guidance_2"]["continuation"]  # its model is the pretrained one
    assert "chosen by" in result["remarks"]["best_of_2"] and "2 training runs" in result["remarks"]["runs"]
    assert "too few to quote" in result["remarks"]["pretrained, transfer, c2st_auc"]
    page = (tmp_path / "e" / "report.html").read_text()
    assert "two-sample AUC" in page and "data:audio/ogg;base64," in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    samples = read_samples(tmp_path / "e")
    assert samples.systems == list(rows) and len(samples.items) == 9 * 2 * 3
    prompts = {(item.prompt, tuple(item.prompt_ids)) for item in samples.items}
    assert len(prompts) == 6  # everyone was given the same


def test_a_model_of_other_tokens_is_refused(base, small_corpus, tmp_path):
    from mgen.cli import prepare

    band = tmp_path / "band"
    music = small_corpus.parent / "music" / "metadata.csv"
    assert prepare.main(["--metadata", str(music), "--out", str(band), "--recipe", "band", "--workers", "1"]) == 0
    with pytest.raises(MgenError, match="is not that of"):
        evaluate.main(["--model", str(base), "--corpus", str(band), "--out", str(tmp_path / "e")])
    words = ["--model", str(base), "--corpus", str(small_corpus), "--prompt_tokens", "24", "--completion_tokens", "96"]
    for change, message in (
        (["--completion_tokens", "167"], "give at most 166"),
        (["--target", "polka"], "the corpus has jazz, other"),
        (["--baselines", "markof5"], "did you mean markov5"),
        (["--low_cost_baselines", "best_of_2"], "name a run of mgen finetune"),
        (["--model", str(base), str(base)], "is taken; give NAME=FOLDER"),
    ):
        with pytest.raises(MgenError, match=message) as caught:
            evaluate.main([*words, "--out", str(tmp_path / "e"), *change])
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "e").exists()


def test_bench_measures_ours_and_the_reference(capsys):
    from mgen.cli import bench
    from mgen.encoding.remi import Remi

    lstm = ["--architecture", "lstm"]
    for what in (["rewards"], ["critic"], ["pretrain", *lstm], ["rollout", *lstm], ["pretrain"], ["rollout"]):
        words = [*what, "--json", "--repeats", "1", "--batch", "2", "--context", "64", "--speed", "plain"]
        assert bench.main(words) == 0
        result = json.loads(capsys.readouterr().out)
        assert {"ours", "rival", "ratio"} <= result.keys() and min(result["ours"], result["rival"]) > 0
        assert min(result["machine"]["bf16_gflops"], result["machine"]["float32_gflops"]) > 0
    # tiny: 4 layers of 2 x 128 x 128 + 2 x 128 x 64 (attention) and 3 x 128 x 384, and the tied output layer
    rows = Remi.build(("jazz", "other"), velocity=False).vocab_size
    assert result["operations"] == pytest.approx(2 * (4 * (49_152 + 147_456) + 128 * rows), rel=0.01)
    rate = result["machine"][f"{result['precision']}_gflops"]
    assert result["share_of_bound"] == pytest.approx(result["ours"] * result["operations"] / (1e9 * rate))
    with pytest.raises(MgenError, match="expected one of"):
        bench.main(["nothing"])


def test_the_parts_of_a_step_sum_to_its_time(capsys):
    from mgen.cli import bench

    for what in ("rl", "evaluate", "tokenize"):
        words = [what, "--json", "--batch", "4", "--context", "64", "--repeats", "1", "--files", "8"]
        assert bench.main(words) == 0
        result = json.loads(capsys.readouterr().out)
        assert min(result["ours"], result["rival"]) > 0
        if what == "rl":
            assert sum(result["split"].values()) == pytest.approx(result["split_share"] * result["seconds"])
            names = {"sample", "judge", "logprobs", "advantages", "update", "discriminator"}
            assert result["split"].keys() == names and 0.8 < result["split_share"] <= 1


def test_samples_are_not_all_alike(base, remi):
    from mgen.models.transformer import load_policy
    from mgen.sampling.decoding import Decoding
    from mgen.sampling.rollout import sample

    policy, own = load_policy(base)
    assert own.fingerprint == remi.fingerprint
    rows = sample(
        policy, [[remi.bos_id, remi.style_ids["jazz"]]] * 8, Decoding(max_new_tokens=32), remi.eos_id, remi.pad_id
    )
    assert len({tuple(row) for row in np.asarray(rows.token_ids).tolist()}) > 4
