"""Trackers get metrics and samples of the policy, and training does not depend on them."""

from __future__ import annotations

import io
import json
import os
import sqlite3
import subprocess
import sys
import textwrap
import wave

import numpy as np
import pytest
import symusic
import torch
from PIL import Image
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mgen.cli import critic, finetune, pretrain
from mgen.errors import MgenError
from mgen.runs.tracking import SampleOptions, TrackingOptions, check_tracking
from mgen.training.pretrain import PretrainTrainer
from mgen.workflows import pretrain as workflow

pytestmark = pytest.mark.slow

EVERYTHING = {"audio": 0, "images": 0, "scalars": 0, "tensors": 0}


def words(corpus, out, *more):
    base = ["--corpus", str(corpus), "--out", str(out), "--max_steps", "4", "--eval_steps", "2", "--context", "128"]
    base += ["--per_device_train_batch_size", "4", "--valid_windows", "4", "--logging_steps", "1", "--use_cpu", "true"]
    return [*base, "--sample_prompts", "2", "--sample_tokens", "60", "--disable_tqdm", "true", *more]


@pytest.fixture(scope="module")
def tracked(small_corpus, tmp_path_factory):
    """A run as it is by default."""
    out = tmp_path_factory.mktemp("runs") / "tracked"
    assert pretrain.main(words(small_corpus, out)) == 0
    return out


def board(run):
    found = EventAccumulator(str(run / "logs"), size_guidance=EVERYTHING)
    found.Reload()
    return found


def test_tensorboard_gets_curves_audio_and_pictures_at_their_steps(tracked):
    found = board(tracked)
    tags = found.Tags()
    prompts = ["0_continuation_jazz", "0_continuation_jazz_greedy", "1_continuation_other"]
    assert sorted(tags["audio"]) == [f"audio/{name}" for name in prompts]
    assert sorted(tags["images"]) == [f"pianoroll/{name}" for name in prompts]
    assert [event.step for event in found.Scalars("train/loss")] == [1, 2, 3, 4]
    assert [event.step for event in found.Scalars("eval/loss")][:2] == [2, 4]
    for name in prompts:
        sounds, pictures = found.Audio(f"audio/{name}"), found.Images(f"pianoroll/{name}")
        assert [event.step for event in sounds] == [event.step for event in pictures] == [2, 4]
        for event in sounds:
            with wave.open(io.BytesIO(event.encoded_audio_string)) as file:
                samples = np.frombuffer(file.readframes(file.getnframes()), np.int16)
                assert file.getframerate() == 22050 and 1 < len(samples) / 22050 <= 12
                assert np.abs(samples).max() > 1000  # the prompt is audible
        for event in pictures:
            picture = np.asarray(Image.open(io.BytesIO(event.encoded_image_string)))
            assert picture.shape == (300, 1200, 3) and len(np.unique(picture.reshape(-1, 3), axis=0)) > 5


def test_the_samples_are_midi_files_that_begin_with_their_prompt(tracked):
    folders = sorted(path.name for path in (tracked / "samples").iterdir())
    assert folders == ["step_000002", "step_000004"]

    def notes(folder, name):
        score = symusic.Score(tracked / "samples" / folder / f"{name}.mid")
        return [(note.time, note.pitch) for track in score.tracks for note in track.notes]

    for name in ("0_continuation_jazz", "1_continuation_other"):
        first, last = (notes(folder, name) for folder in folders)
        assert first[:4] == last[:4] and len(first) >= 4
    assert notes(folders[0], "0_continuation_jazz")[:4] == notes(folders[0], "0_continuation_jazz_greedy")[:4]


def test_a_run_without_a_tracker_has_no_samples(small_corpus, tmp_path):
    assert pretrain.main(words(small_corpus, tmp_path / "run", "--report_to", "none")) == 0
    assert not (tmp_path / "run" / "samples").exists() and not (tmp_path / "run" / "logs").exists()


def test_sample_steps_need_no_tracker(small_corpus, tmp_path):
    out = tmp_path / "run"
    assert pretrain.main(words(small_corpus, out, "--report_to", "none", "--sample_steps", "3")) == 0
    assert [path.name for path in (out / "samples").iterdir()] == ["step_000003"] and not (out / "logs").exists()


def test_weights_are_bit_equal_with_and_without_samples(small_corpus, tmp_path):
    """Attention dropout draws from the generator that careless sampling would draw from."""
    runs = {"silent": ["--report_to", "none"], "sampled": ["--sample_steps", "1"]}
    for name, more in runs.items():
        assert pretrain.main(words(small_corpus, tmp_path / name, "--dropout", "0.2", *more)) == 0
    assert len(list((tmp_path / "sampled" / "samples").iterdir())) == 4
    one, other = (load_file(tmp_path / name / "model" / "model.safetensors") for name in runs)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_resumed_run_logs_each_step_once(tracked, small_corpus, tmp_path, monkeypatch):
    out, step = tmp_path / "run", PretrainTrainer.training_step

    def power_cut(self, *args, **kwargs):
        if self.state.global_step == 3:
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)

    monkeypatch.setattr(PretrainTrainer, "training_step", power_cut)
    with pytest.raises(KeyboardInterrupt):
        pretrain.main(words(small_corpus, out, "--sample_steps", "1"))
    monkeypatch.setattr(PretrainTrainer, "training_step", step)
    assert pretrain.main(words(small_corpus, out, "--sample_steps", "1")) == 0
    found = board(out)
    assert [event.step for event in found.Scalars("train/loss")] == [1, 2, 3, 4]  # 3 was logged twice
    assert [event.step for event in found.Audio("audio/0_continuation_jazz")] == [1, 2, 3, 4]
    one, other = (load_file(run / "model" / "model.safetensors") for run in (tracked, out))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_two_processes_end_with_equal_weights_with_and_without_samples(small_corpus, tmp_path):
    """Only the first process samples, and the other waits; neither draws other random numbers."""
    program = tmp_path / "two.py"
    program.write_text(
        textwrap.dedent(
            """
            import sys
            from mgen.cli import pretrain
            from mgen.cli.main import run
            for name, more in (("silent", ["--report_to", "none"]), ("sampled", ["--sample_steps", "1"])):
                argv = [*sys.argv[2:], "--out", f"{sys.argv[1]}/{name}", "--dropout", "0.2", *more]
                main = run if name == "sampled" else lambda main, argv: main(argv)  # the last one parts the processes
                assert main(pretrain.main, argv) == 0
            """
        )
    )
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone", str(program)]
    base = words(small_corpus, tmp_path)
    base = [*base[:2], *base[4:]]  # each run has another --out
    env = os.environ | {"ACCELERATE_USE_CPU": "1"}
    done = subprocess.run([*launch, str(tmp_path), *base], capture_output=True, text=True, timeout=300, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    one, other = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("silent", "sampled"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert len(list((tmp_path / "sampled" / "samples").iterdir())) == 4
    found = board(tmp_path / "sampled")
    assert [event.step for event in found.Audio("audio/0_continuation_jazz")] == [1, 2, 3, 4]
    assert [event.step for event in found.Scalars("train/loss")] == [1, 2, 3, 4]


def apart(argv, **env):
    """`mgen pretrain` in another process: trackers read their environment once."""
    program = "import sys; from mgen.cli import pretrain; raise SystemExit(pretrain.main(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-c", program, *argv], capture_output=True, text=True, timeout=120, env=os.environ | env
    )


def test_trackio_gets_curves_audio_and_pictures(small_corpus, tmp_path):
    pytest.importorskip("trackio", reason="trackio is not installed: pip install 'mgen-music[trackio]'")
    out = tmp_path / "runs" / "jazz"
    argv = words(small_corpus, out, "--report_to", "trackio", "tensorboard", "--json", "true")
    done = apart(argv, TRACKIO_DIR=str(tmp_path / "trackio"))
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout)["steps"] == 4  # nothing but the result on stdout
    with sqlite3.connect(tmp_path / "trackio" / "mgen.db") as store:
        rows = [(name, json.loads(row)) for name, row in store.execute("select run_name, metrics from metrics")]
    assert len({name for name, _ in rows}) == 1 and rows[0][0].startswith("jazz-")
    assert [row["train/global_step"] for _, row in rows if "train/loss" in row] == [1, 2, 3, 4]
    samples = [row for _, row in rows if "audio/0_continuation_jazz" in row]
    assert [row["train/global_step"] for row in samples] == [2, 4]
    for row in samples:
        assert (
            row["audio/1_continuation_other"]["caption"]
            == f"step_00000{row['train/global_step']}/1_continuation_other.mid"
        )
        with wave.open(str(tmp_path / "trackio" / "media" / row["audio/1_continuation_other"]["file_path"])) as file:
            assert file.getframerate() == 22050 and file.getnframes() > 22050
        picture = tmp_path / "trackio" / "media" / row["pianoroll/1_continuation_other"]["file_path"]
        assert Image.open(picture).size == (1200, 300)
    assert board(out).Tags()["audio"]  # too


def test_wandb_gets_audio_and_pictures(small_corpus, tmp_path):
    pytest.importorskip("wandb", reason="wandb is not installed: pip install 'mgen-music[wandb]'")
    out = tmp_path / "jazz"
    done = apart(words(small_corpus, out, "--report_to", "wandb", "--json", "true"), WANDB_MODE="offline")
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1])["steps"] == 4  # transformers prints that W&B is offline
    (run,) = (out / "logs" / "wandb").glob("offline-run-*")
    media = run / "files" / "media"
    assert len(list((media / "audio" / "audio").glob("0_continuation_jazz_[0-9]*.wav"))) == 2
    assert len(list((media / "images" / "pianoroll").glob("1_continuation_other_[0-9]*.png"))) == 2
    assert not (tmp_path / "wandb").exists() and not os.path.exists("wandb")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--report_to", "tensorbord"], "expected tensorboard, wandb, trackio or none"),
        (["--report_to", "wandb"], r"report_to wandb: it is not installed; pip install 'mgen-music\[wandb\]'"),
        (["--run_name", "runs/a"], "without /"),
        (["--sample_steps", "-1"], "at least 0"),
        (["--sample_prompts", "0"], "must be at least 1"),
    ],
)
def test_mistakes_are_one_line_before_anything_is_trained(more, message, small_corpus, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "wandb" else object())
    with pytest.raises(MgenError, match=message) as caught:
        pretrain.main(words(small_corpus, tmp_path / "run", *more))
    assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()


def test_missing_prompts_are_an_error_only_with_sample_steps(small_corpus, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(workflow, "fixed_prompts", lambda *_: {})
    with pytest.raises(MgenError, match=r"sample_steps \(1\): valid has no music .* use --sample_steps 0"):
        pretrain.main(words(small_corpus, tmp_path / "asked", "--sample_steps", "1"))
    assert pretrain.main(words(small_corpus, tmp_path / "not")) == 0
    assert "no samples: valid has no music" in capsys.readouterr().err


def test_report_to_is_a_word_or_a_list(tmp_path):
    """As the command line and YAML give it."""
    for given, kept in (("none", "none"), (["none"], "none"), ("trackio", ["trackio"]), (None, "none")):
        options = SampleOptions(report_to=given)
        options.run_name = None
        check_tracking(options)
        assert options.report_to == kept
    assert TrackingOptions().report_to == ["tensorboard"]


def test_finetuning_is_sampled_before_its_first_step_and_ends_with_the_same_weights(
    small_corpus, tiny_policy, remi, tmp_path
):
    """The rollouts draw from the global generator, so a single number drawn for the samples would change them all."""
    tiny_policy(max_position_embeddings=128).save_pretrained(tmp_path / "policy")
    remi.save_pretrained(tmp_path / "policy")
    base = ["--policy", str(tmp_path / "policy"), "--corpus", str(small_corpus), "--judges", "grammar=1"]
    base += ["--max_steps", "2", "--max_completion_length", "24", "--prompt_tokens", "16", "--guard_steps", "0"]
    base += ["--completions", "4", "--minibatch", "4", "--num_generations", "2", "--save_steps", "2"]
    base += [
        "--check_pieces",
        "0",
        "--learning_rate",
        "1e-2",
        "--sample_prompts",
        "2",
        "--use_cpu",
        "true",
    ]
    runs = {"silent": ["--report_to", "none"], "sampled": ["--sample_steps", "1"]}
    for name, more in runs.items():
        assert finetune.main([*base, "--out", str(tmp_path / name), *more]) == 0
    one, other = (load_file(tmp_path / name / "model" / "model.safetensors") for name in runs)
    assert all(torch.equal(one[name], other[name]) for name in one)
    found = board(tmp_path / "sampled")
    prompts = ["0_continuation_jazz", "0_continuation_jazz_greedy", "1_transfer_jazz"]
    assert sorted(found.Tags()["audio"]) == [f"audio/{name}" for name in prompts]
    assert [event.step for event in found.Audio("audio/1_transfer_jazz")] == [0, 1, 2]
    assert [event.step for event in found.Scalars("train/policy/kl")] == [1, 2]


def test_a_critic_is_tracked_too(small_corpus, tmp_path):
    argv = ["--corpus", str(small_corpus), "--out", str(tmp_path / "critic"), "--max_steps", "2", "--eval_steps", "2"]
    argv += ["--max_tokens", "64", "--min_tokens", "32", "--valid_excerpts", "32", "--test_excerpts", "32"]
    argv += ["--input", "tokens"]
    argv += [
        "--per_device_train_batch_size",
        "4",
        "--logging_steps",
        "1",
        "--use_cpu",
        "true",
        "--disable_tqdm",
        "true",
    ]
    assert critic.main(argv) == 0
    found = board(tmp_path / "critic")
    assert [event.step for event in found.Scalars("train/loss")] == [1, 2] and not found.Tags()["audio"]
