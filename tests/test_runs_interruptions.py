"""Accidents in a training command: one line with the last good checkpoint, and the command resumes."""

from __future__ import annotations

import errno
from types import SimpleNamespace

import pytest
import transformers

from mgen.cli import pretrain
from mgen.cli.main import run
from mgen.errors import MgenError
from mgen.runs.checkpoints import write_manifest
from mgen.runs.interruptions import resumable


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "no space left.*good checkpoint: {last}; then the same",
        ),
        (RuntimeError("Connection closed by peer"), "another process of this run has ended"),
        (MgenError("one line"), "^one line$"),
    ],
)
def test_an_accident_names_the_last_checkpoint_of_the_run(error, line, tmp_path):
    for step in (5, 10, 20):
        folder = tmp_path / "checkpoints" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        for name in ("trainer_state.json", "model.safetensors", "optimizer.pt"):
            (folder / name).touch()
        if step < 20:
            write_manifest(folder)

    @resumable
    def command(config):
        raise error

    with pytest.raises(MgenError, match=line.format(last=tmp_path / "checkpoints" / "checkpoint-10")) as caught:
        command(SimpleNamespace(out=str(tmp_path)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("steps", "then"), [([], "starts from the beginning"), ([5, 10], "resumes from step 10")])
def test_ctrl_c_ends_with_how_to_go_on(steps, then, tmp_path, capsys):
    for step in steps:
        folder = tmp_path / "checkpoints" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        for name in ("trainer_state.json", "model.safetensors", "optimizer.pt"):
            (folder / name).touch()
        write_manifest(folder)

    @resumable
    def command(config):
        raise KeyboardInterrupt

    assert run(lambda words: command(SimpleNamespace(out=str(tmp_path))), []) == 130
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(f"mgen: {tmp_path}: stopped; the same command {then}")


def test_a_fault_of_the_code_keeps_its_traceback():
    @resumable
    def command(config):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        command(SimpleNamespace(out="out"))


@pytest.mark.slow
def test_a_training_goes_on_where_the_disk_was_full(small_corpus, tmp_path, monkeypatch, capsys):
    words = ["--corpus", str(small_corpus), "--out", str(tmp_path / "run"), "--max_steps", "3", "--eval_steps", "1"]
    words += ["--context", "64", "--per_device_train_batch_size", "2", "--valid_windows", "2", "--sample_steps", "0"]
    words += ["--report_to", "none", "--disable_tqdm", "true"]
    saved = transformers.Trainer._save_optimizer_and_scheduler

    def fail_at_step_2(self, folder):
        if self.state.global_step == 2:
            raise RuntimeError("PytorchStreamWriter failed writing file data/3: file write failed")
        saved(self, folder)

    with monkeypatch.context() as full:
        full.setattr(transformers.Trainer, "_save_optimizer_and_scheduler", fail_at_step_2)
        with pytest.raises(MgenError, match=r"no space left on the device.*last good checkpoint: .*checkpoint-1;"):
            pretrain.main(words)
    assert pretrain.main(words) == 0
    assert "3 steps" in capsys.readouterr().out
