"""Opens the folder of a run: what is there, whether it is the same run, and whether another process trains in it.

A folder becomes a run when run.json is written. What a killed process left before that is overwritten. A run without a
checkpoint has nothing to lose: with other options it begins again.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

import torch
import yaml

import mgen
from mgen.errors import MgenError
from mgen.files import write_atomically
from mgen.renames import check_run_folder
from mgen.runs.checkpoints import checkpoint_folders, file_hashes, is_complete
from mgen.runs.lock import LOCK, lock_run
from mgen.stored import explain_damage, read_json

PACKAGES = ("torch", "transformers", "trl", "accelerate", "miditok", "symusic", "numpy", "scikit-learn")
RUN_FILE = "run.json"
CONFIG_FILE = "config.yaml"
CHECKPOINTS = "checkpoints"
MODEL = "model"

# Options that may differ when a run is resumed: none of them changes a weight.
_FREE = {"out", "output_dir", "json", "debug", "logging_steps", "report_to", "disable_tqdm", "project", "run_name"}
_FREE |= {"sample_steps", "sample_prompts", "sample_tokens", "allow_equal_rewards"}
_FREE |= {"restore_callback_states_from_checkpoint"}

_DATA = {"corpus", "pairs"}  # options that name what the fact `data` is the hash of
_INPUTS = ("bands", "critic", "init", "policy")  # options that name other files and folders

_OF_A_RUN = (RUN_FILE, CONFIG_FILE, CHECKPOINTS, "metrics.jsonl", "judges.json", "bands.json", "logs", "samples")

REMEDY = "train again, with another --out"

Facts = dict[str, Any]  # the content of run.json


def open_folder(folder: Path, command: str, config: Mapping[str, Any], facts: Facts) -> tuple[Facts, IO[str] | None]:
    """Creates a run, or opens the one that is there.

    Args:
        command: `pretrain`, `critic`, ...
        config: options as used; stored in config.yaml.
        facts: what else identifies the run (seed, hash of the data, ...).

    Returns:
        The content of run.json, and the lock of a run that is not finished.

    Raises:
        MgenError: The folder holds something else, or another run; another process trains in it; or it cannot be
            written.
    """
    try:
        inputs = {name: found for name in _INPUTS if (found := _content_hash(config.get(name)))}
        stored = _find(folder, command, config, facts, inputs)
        if stored and is_finished(folder, stored):
            return stored, None
        folder.mkdir(parents=True, exist_ok=True)
        lock = lock_run(folder)
        stored = _find(folder, command, config, facts, inputs)  # again: another process may have changed it
        if not stored:
            _clear(folder)
            stored = _first_facts(command, {**facts, "inputs": inputs})
            (folder / CHECKPOINTS).mkdir(exist_ok=True)
            write_atomically(folder / CONFIG_FILE, yaml.safe_dump(dict(config), sort_keys=True))
            write_facts(folder, stored)
        return stored, lock
    except OSError as error:
        raise MgenError(f"{folder}: cannot be written ({error.strerror or error}); choose another --out") from error


def is_finished(folder: Path, facts: Facts) -> bool:
    """Whether a run has ended and still has its model; without it, the same command makes it again."""
    return bool(facts.get("finished")) and any((folder / MODEL).glob("*.safetensors"))


def read_facts(folder: Path) -> Facts:
    """Reads run.json.

    Raises:
        MgenError: It is missing, or not of a run.
    """
    facts = read_json(folder / RUN_FILE, REMEDY)
    if not (isinstance(facts.get("began"), int | float) and "command" in facts):
        raise MgenError(f"{folder / RUN_FILE}: expected command and began, found none; {REMEDY}")
    return facts


def read_options(folder: Path) -> dict[str, Any]:
    """Reads config.yaml.

    Raises:
        MgenError: It is missing, or holds no options.
    """
    path = folder / CONFIG_FILE
    with explain_damage(path, REMEDY):
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(config, dict):
        raise MgenError(f"{path}: expected options, found {type(config).__name__}; {REMEDY}")
    return config


def write_facts(folder: Path, facts: Facts) -> None:
    """Writes run.json."""
    write_atomically(folder / RUN_FILE, json.dumps(facts, indent=1))


def _find(
    folder: Path, command: str, config: Mapping[str, Any], facts: Facts, inputs: Mapping[str, str]
) -> Facts | None:
    """The content of run.json; None where the run begins.

    That is in a new folder, in one that a process was killed in before it wrote run.json, and in one whose run has
    other options or inputs but no checkpoint.

    Raises:
        MgenError: The folder holds something else than this run.
    """
    if not (folder / RUN_FILE).exists():
        before_run = {CHECKPOINTS, CONFIG_FILE, LOCK, f".{CONFIG_FILE}.part", f".{RUN_FILE}.part"}
        left = [path.name for path in (*folder.glob("*"), *folder.glob("*/*"))]
        if not before_run.issuperset(left) or (folder.exists() and not folder.is_dir()):
            raise MgenError(f"{folder}: not empty and not a run of mgen; choose another --out")
        return None
    stored = read_facts(folder)

    if stored["command"] != command:
        raise MgenError(f"{folder}: holds a run of mgen {stored['command']}, not {command}; choose another --out")
    before = read_options(folder)
    check_run_folder(folder, command, before)
    problem = _difference(stored, before, config, facts, inputs)
    if problem and _has_weights(folder):
        raise MgenError(f"{folder}: {problem}; choose another --out, or the options that it was started with")
    return None if problem else stored


def _difference(
    stored: Facts, before: Mapping[str, Any], config: Mapping[str, Any], facts: Facts, inputs: Mapping[str, str]
) -> str:
    """The first option or input that is not what the run was started with; empty if all are."""
    # What is read is compared by content, where that is known: it may be named by another path, and it may change.
    known = {key: found for key, found in stored.get("inputs", {}).items() if key in inputs}
    by_content = known.keys() | (_DATA if "data" in facts else set())
    for key in sorted((before.keys() | config.keys()) - _FREE - by_content):
        was, now = before.get(key), config.get(key)
        if was != now:
            return f"started with {key}={was}, now {key}={now}"
    for key, found in known.items():
        if found != inputs[key]:
            return f"started with another {key} than {config[key]} is now"
    for key, value in facts.items():
        if stored.get(key) != value:
            return f"started with {key} {stored.get(key)}, now {value}"
    return ""


def _has_weights(folder: Path) -> bool:
    """Whether a run has something to lose: a complete checkpoint, or a model."""
    checkpoints = checkpoint_folders(folder / CHECKPOINTS).values()
    return (folder / MODEL).exists() or any(map(is_complete, checkpoints))


def _clear(folder: Path) -> None:
    """Removes what a run that begins again wrote and would read."""
    for name in _OF_A_RUN:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _content_hash(name: str | None) -> str:
    """Hash of the content of a file, or of all files of a folder; empty if it is none."""
    if not name:
        return ""
    path = Path(name)
    content = path.read_bytes() if path.is_file() else json.dumps(file_hashes(path)).encode() if path.is_dir() else b""
    return hashlib.sha256(content).hexdigest()[:16] if content else ""


def _first_facts(command: str, facts: Facts) -> Facts:
    now = time.time()
    versions = {"mgen": mgen.__version__, "python": platform.python_version()}
    versions |= {name: version(name) for name in PACKAGES}
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    machine = {"processor": platform.machine(), "cores": os.cpu_count(), "gpu": gpu}
    started = {"command": command, "began": now, "started": timestamp(now)}
    return {**started, "versions": versions, "machine": machine, **facts}


def timestamp(seconds: float) -> str:
    """`2026-01-31 12:00:00` in UTC, of seconds since 1970."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))
