"""A run that is killed at any moment and started again ends as one that is not; damaged checkpoints do not count."""

from __future__ import annotations

import json
import os

import pytest
import torch
from torch import nn
from transformers import EarlyStoppingCallback, TrainerCallback, TrainingArguments

from mgen.errors import MgenError
from mgen.runs import checkpoints
from mgen.runs.checkpoints import (
    VerifiedCheckpoints,
    check_saving,
    last_complete,
    replace_folder,
    rotate,
    write_manifest,
)

FILES = ("model.safetensors", "optimizer.pt", "trainer_state.json")


def checkpoint(folder, step, names=FILES):
    place = folder / f"checkpoint-{step}"
    place.mkdir()
    for name in names:
        (place / name).write_text(name)
    write_manifest(place)
    return place


def test_the_complete_checkpoint_of_the_highest_step_counts(tmp_path):
    assert last_complete(tmp_path) is None and last_complete(tmp_path / "nowhere") is None
    for step in (95, 100, 5):  # neither the order of names nor that of times
        checkpoint(tmp_path, step)
    cut = tmp_path / "checkpoint-105"
    cut.mkdir()
    others = [tmp_path / name for name in ("checkpoint-abc", "checkpoint-110 (copy)", "checkpoint-", "old")]
    for other in others:
        other.mkdir()
    (tmp_path / "checkpoint-120").write_text("a file")
    assert last_complete(tmp_path) == tmp_path / "checkpoint-100"
    assert not cut.exists() and all(other.exists() for other in others)


@pytest.mark.parametrize(
    "manifest",
    ["", "{", "[]", "{}", '"model optim"', '{"trainer_state.json": "0", "model.safetensors": "0"}', "{1: 2}"],
)
def test_a_checkpoint_whose_manifest_does_not_name_its_parts_does_not_count(manifest, tmp_path):
    before = checkpoint(tmp_path, 5)
    (checkpoint(tmp_path, 10) / "manifest.json").write_text(manifest)
    assert last_complete(tmp_path) == before and not (tmp_path / "checkpoint-10").exists()


def test_a_changed_file_is_an_error_until_its_checkpoint_is_removed(tmp_path):
    before, last = checkpoint(tmp_path, 5), checkpoint(tmp_path, 10)
    (last / "optimizer.pt").write_text("stale")
    with pytest.raises(
        MgenError, match=r"optimizer.pt: not what was written \(its hash differs\); remove .*point-10 to"
    ):
        last_complete(tmp_path)
    (last / "optimizer.pt").unlink()
    with pytest.raises(
        MgenError, match=r"optimizer.pt: missing, but .* lists it; remove .*checkpoint-10 to resume from"
    ):
        last_complete(tmp_path)
    for name in ("model.safetensors", "trainer_state.json", "manifest.json"):
        (last / name).unlink()
    last.rmdir()
    assert last_complete(tmp_path) == before


def test_checkpoints_are_rotated_by_step_whatever_the_clock_says(tmp_path):
    for step in (5, 10, 15, 20):
        os.utime(checkpoint(tmp_path, step), (1000 - step, 1000 - step))
    (tmp_path / "checkpoint-1 (copy)").mkdir()
    rotate(tmp_path, 2, {20, 5})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-1 (copy)", "checkpoint-20", "checkpoint-5"]


def test_a_folder_is_replaced_with_nothing_left_over(tmp_path):
    for left_over in ("model", "model.part"):
        (tmp_path / left_over).mkdir()
        (tmp_path / left_over / "stale").write_text("x")
    with pytest.raises(KeyboardInterrupt), replace_folder(tmp_path / "model") as part:
        raise KeyboardInterrupt
    assert (tmp_path / "model" / "stale").exists()
    with replace_folder(tmp_path / "model") as part:
        (part / "weights").write_text("new")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["manifest.json", "model", "weights"]
    with (
        pytest.raises(MgenError, match="nowhere: was deleted during training"),
        replace_folder(tmp_path / "nowhere" / "a"),
    ):
        pass


def test_a_run_that_could_not_resume_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"save_total_limit \(1\) must be at least 2"):
        check_saving(TrainingArguments(str(tmp_path), save_total_limit=1))
    with pytest.raises(ValueError, match="cannot resume without its optimizer"):
        check_saving(TrainingArguments(str(tmp_path), save_only_model=True))


class Line(nn.Module):
    """Least squares with dropout: every step depends on the generator and on the optimizer."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.dropout = nn.Linear(4, 1), nn.Dropout(0.5)

    def forward(self, x, y):
        predicted = self.layer(self.dropout(x))[:, 0]
        return {"loss": (predicted - y).square().mean(), "logits": predicted}


class Kill(TrainerCallback):
    """Ends the process, so to speak, at an event of a step."""

    def __init__(self, event, step):
        def at(args, state, control, **_):
            if state.global_step == step:
                raise KeyboardInterrupt

        setattr(self, event, at)


EVAL = {"eval_strategy": "steps", "eval_steps": 2, "load_best_model_at_end": True, "metric_for_best_model": "loss"}


def train(folder, *callbacks, killed=False, **changes):
    """Trains, or resumes, as a command does; returns weights and log without times."""
    options = {"max_steps": 7, "save_steps": 2, "logging_steps": 3, "learning_rate": 0.1, "save_total_limit": 2}
    options |= {"lr_scheduler_type": "cosine", "restore_callback_states_from_checkpoint": True, "label_names": ["y"]}
    options |= {"report_to": [], "disable_tqdm": True, "use_cpu": True, "per_device_train_batch_size": 2, "seed": 3}
    generator = torch.Generator().manual_seed(1)
    data = [{"x": x, "y": x.sum()} for x in torch.randn(10, 4, generator=generator)]
    args = TrainingArguments(str(folder), **{**options, **changes})
    trainer = VerifiedCheckpoints(Line(), args, train_dataset=data, eval_dataset=data[:4], callbacks=[*callbacks])
    last = last_complete(folder)
    if killed:
        with pytest.raises(KeyboardInterrupt):
            trainer.train(resume_from_checkpoint=str(last) if last else None)
        return None
    trainer.train(resume_from_checkpoint=str(last) if last else None)
    log = [{key: value for key, value in line.items() if "_per_s" not in key} for line in trainer.state.log_history]
    log = [{key: value for key, value in line.items() if "runtime" not in key} for line in log[:-1]]
    return trainer.model.layer.weight.tolist(), log, trainer.state.global_step


KILLS = [("on_step_end", 1), ("on_step_end", 5), ("on_train_end", 7)]


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, EVAL, {"max_steps": -1, "num_train_epochs": 1.3, "save_strategy": "epoch"}])
def test_a_run_that_is_killed_again_and_again_ends_as_an_uninterrupted_one(changes, tmp_path):
    """Steps, weights and log are equal, though it is also killed after its last checkpoint."""
    straight = train(tmp_path / "a", **changes)
    assert straight[2] == 7
    for event, step in KILLS:
        train(tmp_path / "b", Kill(event, step), killed=True, **changes)
    assert train(tmp_path / "b", **changes) == straight


@pytest.mark.slow
def test_a_kill_while_a_checkpoint_is_written_costs_the_steps_since_the_one_before(tmp_path, monkeypatch):
    straight = train(tmp_path / "a")
    for step in (2, 4):

        def cut(folder, step=step):
            if folder.name == f"checkpoint-{step}":
                raise KeyboardInterrupt
            write_manifest(folder)

        monkeypatch.setattr(checkpoints, "write_manifest", cut)
        train(tmp_path / "b", killed=True)
    monkeypatch.undo()
    assert train(tmp_path / "b") == straight


@pytest.mark.slow
def test_a_run_that_was_moved_keeps_its_best_weights_and_its_patience(tmp_path, monkeypatch):
    options = {**EVAL, "learning_rate": 3.0, "eval_steps": 1, "save_steps": 1, "max_steps": 40}
    straight = train(tmp_path / "a", EarlyStoppingCallback(3), **options)
    end = straight[2]
    assert 3 < end < 40  # it stopped early, and its best weights are of an earlier step
    place = tmp_path / "b"
    for number, (event, step) in enumerate([("on_step_begin", end - 1), ("on_train_end", end)]):
        train(place, EarlyStoppingCallback(3), Kill(event, step), killed=True, **options)
        place = place.rename(tmp_path / f"moved {number}")
    monkeypatch.chdir(tmp_path)
    assert train(place.relative_to(tmp_path), EarlyStoppingCallback(3), **options) == straight
    best = json.loads((place / f"checkpoint-{end}" / "trainer_state.json").read_text())["best_global_step"]
    (place / f"checkpoint-{best}" / "model.safetensors").write_bytes(b"")
    with pytest.raises(
        MgenError, match=f"checkpoint-{best}.*its weights were the best so far: remove .* to train from"
    ):
        train(place, EarlyStoppingCallback(3), **options)


def test_a_folder_that_is_deleted_during_training_is_one_line(tmp_path):
    class Delete(TrainerCallback):
        def on_step_begin(self, args, state, control, **_):
            (tmp_path / "a").rmdir()

    with pytest.raises(MgenError, match="a: was deleted during training; give the command again"):
        train(tmp_path / "a", Delete(), save_steps=1)
    assert not (tmp_path / "a").exists()
