"""A run's folder is opened, moved and read in whatever state a kill or an editor left it, or one line says why not."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import textwrap
import time
from types import SimpleNamespace

import pytest
import yaml

from mgen.errors import MgenError
from mgen.runs.checkpoints import write_manifest
from mgen.runs.folder import read_facts
from mgen.runs.metrics import MetricsCallback, read_metrics
from mgen.runs.run import Run

CONFIG = {"corpus": "corpus", "policy": "policy", "steps": 3, "out": "run", "output_dir": "run/checkpoints"}


def reopen(folder, command="finetune", data="d", **changes):
    places = {"out": str(folder), "output_dir": f"{folder}/checkpoints"}
    return Run.open(folder, command, {**CONFIG, **places, **changes}, data=data)


def give_weights(folder):
    """A run without weights begins again with whatever options."""
    (folder / "model").mkdir()


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy" / "model.safetensors").write_bytes(b"weights")
    return tmp_path


def refused(message, *args, **changes):
    with pytest.raises(MgenError, match=message) as caught:
        reopen(*args, **changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "left", [[], ["checkpoints/"], ["checkpoints/", "config.yaml"], [".lock", ".config.yaml.part"], [".run.json.part"]]
)
def test_a_run_that_was_killed_before_run_json_begins_again(left, place):
    (place / "run").mkdir()
    for name in left:
        (place / "run" / name).mkdir() if name.endswith("/") else (place / "run" / name).write_text("half")
    run = reopen("run")
    assert read_facts(place / "run") == run.facts and not run.finished
    assert yaml.safe_load((place / "run" / "config.yaml").read_text()) == CONFIG
    for other in ("full/letter.txt", "strange/checkpoints/checkpoint-5"):
        (place / other).mkdir(parents=True)
        refused("not empty and not a run of mgen", other.partition("/")[0])


DAMAGE = [b"", b'{"command": ', b"[]", b"null", b"3", b"\xff\xfe\x00"]


@pytest.mark.parametrize(
    ("file", "content"),
    [*(("run.json", content) for content in [*DAMAGE, b"{}"]), *(("config.yaml", content) for content in DAMAGE)],
)
def test_damaged_records_are_one_line(file, content, place):
    reopen("run")
    (place / "run" / file).write_bytes(content)
    refused(f"run/{file}: (cannot be read|expected)", "run")


def test_a_missing_config_is_one_line(place):
    reopen("run")
    (place / "run" / "config.yaml").unlink()
    refused("config.yaml: cannot be read .*; train again, with another --out", "run")


def test_a_run_may_be_moved_and_what_it_reads_may_be_named_otherwise(place, monkeypatch):
    began = reopen("run").facts["began"]
    (place / "elsewhere").mkdir()
    (place / "run").rename(place / "elsewhere" / "moved")
    (place / "link").symlink_to(place / "elsewhere" / "moved")
    same = {"corpus": str(place / "corpus"), "policy": str(place / "policy")}
    for name in (place / "link", "elsewhere/moved/", "./elsewhere/../elsewhere/moved"):
        assert reopen(name, **same).facts["began"] == began
    monkeypatch.chdir(place / "elsewhere")
    assert reopen("moved", policy="../policy", corpus="../corpus").facts["began"] == began
    give_weights(place / "elsewhere" / "moved")
    refused("moved: started with data d, now e", "moved", data="e")
    (place / "policy" / "model.safetensors").write_bytes(b"other weights")
    refused("moved: started with another policy than ../policy is now", "moved", policy="../policy")
    shutil.rmtree(place / "policy")
    refused(r"moved: started with policy=policy, now policy=../policy", "moved", policy="../policy")


def test_a_run_without_hashes_of_an_older_mgen_goes_on(place):
    began = reopen("run").facts["began"]
    facts = read_facts(place / "run")
    del facts["inputs"]
    (place / "run" / "run.json").write_text(json.dumps(facts))
    assert reopen("run").facts["began"] == began
    give_weights(place / "run")
    refused("started with policy=policy, now policy=other", "run", policy="other")


def test_a_run_without_weights_begins_again_with_other_options(place):
    reopen("run", judges="styl=1").lock.close()
    for name in ("judges.json", "bands.json", "metrics.jsonl"):
        (place / "run" / name).write_text("of the first try")
    (place / "run" / "checkpoints" / "checkpoint-3").mkdir()  # half-written
    (place / "run" / "notes.txt").write_text("of the user")
    run = reopen("run", judges="style=1")
    assert yaml.safe_load((place / "run" / "config.yaml").read_text())["judges"] == "style=1"
    assert run.last_checkpoint() is None
    assert {path.name for path in (place / "run").iterdir()} == {
        ".lock", "checkpoints", "config.yaml", "metrics.jsonl", "notes.txt", "run.json"
    }  # fmt: skip
    run.lock.close()
    refused("holds a run of mgen finetune, not grpo", "run", "grpo")
    checkpoint = place / "run" / "checkpoints" / "checkpoint-5"
    checkpoint.mkdir()
    for name in ("trainer_state.json", "model.safetensors", "optimizer.pt"):
        (checkpoint / name).touch()
    write_manifest(checkpoint)
    refused(
        "started with judges=style=1, now judges=none=1; .*the options that it was started with", "run", judges="none=1"
    )


@pytest.mark.slow
def test_two_commands_do_not_train_in_one_folder(place):
    program = """
        import fcntl, sys
        file = open("run/.lock", "w")
        fcntl.lockf(file, fcntl.LOCK_EX)
        file.write("process 1 on other")
        file.flush()
        print(flush=True)
        sys.stdin.read()
    """
    (place / "run").mkdir()
    pipe = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], **pipe) as other:
        other.stdout.readline()
        refused("run: process 1 on other trains in it; wait for its end, or choose another --out", "run")
        other.kill()
    run = reopen("run")  # the lock ends with its process
    assert (place / "run" / ".lock").read_text().startswith("process ")
    reopen("run").finish(steps=3)
    assert not (place / "run" / ".lock").exists()
    assert not reopen("run").finished  # its model is lost: the command makes it again
    (place / "run" / "model").mkdir()
    (place / "run" / "model" / "model.safetensors").write_bytes(b"weights")
    run = reopen("run")
    assert run.finished and run.lock is None


def test_a_clock_that_is_set_back_makes_no_negative_time(place, monkeypatch):
    run = reopen("run")
    monkeypatch.setattr(time, "time", lambda: run.facts["began"] - 3600)
    run.finish(steps=3)
    assert 0 <= run.facts["seconds"] < 60
    del run.facts["seconds"]
    with pytest.raises(MgenError, match=r"run: its run.json has no 'seconds'; train again"):
        run.result({})


def log(folder, step, **logs):
    state = SimpleNamespace(global_step=step, max_steps=10, is_world_process_zero=True)
    MetricsCallback(folder).on_log(None, state, None, logs)


def test_metrics_are_what_the_checkpoint_had_logged(place):
    run = reopen("run")
    log(run.folder, 1, loss=2.0)
    with (run.folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "lo')  # as a kill leaves it
    assert read_metrics(run.folder) == [{"step": 1, "loss": 2.0}]
    log(run.folder, 2, loss=1.0)
    with pytest.raises(MgenError, match=r"metrics.jsonl, line 2: expected a JSON object with a step; remove the line"):
        read_metrics(run.folder)
    assert run.last_checkpoint() is None and read_metrics(run.folder) == []  # it starts again, and so does its log
    log(run.folder, 10, train_runtime=1.0, train_loss=2.0)  # of one process, not of the run
    assert read_metrics(run.folder) == []


def test_a_run_that_is_deleted_during_training_is_one_line(place):
    run = reopen("run")
    shutil.rmtree(run.folder)
    with pytest.raises(MgenError, match=r"run: was deleted during training"):
        log(run.folder, 1, loss=2.0)
    with pytest.raises(MgenError, match=r"run: was deleted during training"):
        run.save_model(None, None)
    with pytest.raises(MgenError, match=r"run.json: cannot be written"):
        run.finish(steps=1)
    assert not run.folder.exists()


def test_a_folder_that_cannot_be_made_is_one_line(place):
    (place / "file").write_text("x")
    refused("file/run: cannot be written", "file/run")
    refused("file: not empty and not a run", "file")
