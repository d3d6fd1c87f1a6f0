"""Kills training commands at random moments, gives each command again, and compares every file with an undisturbed run.

    python tests/kill_moments.py --moments 10 --after_last 3

Not part of the suite: 40 kills take some 20 minutes. A process that has only imported mgen forks each run, so a run
takes seconds; `after_last` of the `moments` lie between the last checkpoint and the end. Times are not compared.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

from test_cli_prefer import toy_pairs, write

from mgen.cli import critic, finetune, prefer, prepare, pretrain
from mgen.corpus.demo import write_demo_corpus

MAINS = {"pretrain": pretrain.main, "critic": critic.main, "finetune": finetune.main, "prefer": prefer.main}
LAST_STEP = {"pretrain": 12, "critic": 12, "finetune": 5, "prefer": 12}
WORDS = {
    "base": "--corpus {corpus} --max_steps 60 --eval_steps 60 --context 192 --per_device_train_batch_size 8 "
    "--learning_rate 5e-3 --valid_windows 8",
    "pretrain": "--corpus {corpus} --max_steps 12 --eval_steps 4 --context 64 --per_device_train_batch_size 4 "
    "--valid_windows 8 --logging_steps 3 --patience 9 --ema 0.9 --repetition own "
    "--repetition_from 0.3",
    "critic": "--corpus {corpus} --input tokens --init {policy} --max_steps 12 --eval_steps 4 --max_tokens 96 "
    "--min_tokens 64 --prompt_tokens 32 --valid_excerpts 64 --test_excerpts 64 --logging_steps 5",
    "finetune": "--corpus {corpus} --policy {policy} --check_pieces 0 --max_steps 5 --save_steps 2 "
    "--completions 8 --minibatch 4 --num_generations 4 --max_completion_length 48 --prompt_tokens 32 "
    "--guard_steps 2 --guard_pieces 80 --realism_warm_up 1 "
    "--learning_rate 1e-3 --bf16 false --judges grammar=0.25 longest_run=1 "
    "realism=1 --sample_steps 1 --sample_prompts 1 --sample_tokens 16",
    "prefer": "--method dpo --policy {policy} --pairs {pairs} --num_train_epochs 3 --valid_share 0.25 "
    "--learning_rate 3e-3",
}
QUIET = " --report_to none --use_cpu true --out {out}"
TIMES = ("seconds", "began", "started", "finished", "_time", "runtime", "per_second")
NOT_COMPARED = ("training_args.bin", "manifest.json")  # the manifest has hashes of files with times


def words(command: str, inputs: Path, out: Path) -> list[str]:
    policy = inputs / "base" / "model"
    text = WORDS[command] + QUIET
    return text.format(corpus=inputs / "corpus", policy=policy, pairs=inputs / "pairs.jsonl", out=out).split()


def write_inputs(inputs: Path) -> int:
    metadata = write_demo_corpus(inputs / "music", works_per_collection=12)
    write(inputs / "pairs.jsonl", toy_pairs(40, prompts=20))
    prepare.main(["--metadata", str(metadata), "--out", str(inputs / "corpus"), "--workers", "1"])
    return pretrain.main(words("base", inputs, inputs / "base"))


def fork(main, *args, log: Path) -> int:
    """Calls `main` in a new process, its output in `log`; returns the id of the process."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        with log.open("w") as file:
            for stream in (1, 2):
                os.dup2(file.fileno(), stream)
        code = main(*args)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def wait(child: int, log: Path) -> None:
    if os.waitpid(child, 0)[1]:
        raise SystemExit(f"a command failed:\n{log.read_text()}")


def wait_until(child: int, ready) -> bool:
    """Waits until `ready()`, or, with the result False, for the end of the process."""
    while not ready():
        if os.waitpid(child, os.WNOHANG)[0]:
            return False
        time.sleep(0.0005)
    return True


def without_times(content: object) -> object:
    if isinstance(content, dict):
        return {key: without_times(value) for key, value in content.items() if not any(word in key for word in TIMES)}
    return [without_times(value) for value in content] if isinstance(content, list) else content


def hashes(run: Path) -> dict[str, str]:
    """File -> hash of its content without times."""
    found = {}
    for path in sorted(path for path in run.rglob("*") if path.is_file() and path.name not in NOT_COMPARED):
        data = path.read_bytes()
        if path.suffix in (".json", ".jsonl"):
            texts = data.splitlines() if path.suffix == ".jsonl" else [data]
            data = json.dumps([without_times(json.loads(text)) for text in texts]).encode()
        found[str(path.relative_to(run))] = hashlib.sha256(data).hexdigest()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commands", nargs="+", default=list(MAINS))
    parser.add_argument("--moments", type=int, default=10)
    parser.add_argument("--after_last", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng, wrong = random.Random(given.seed), 0
    place = Path(tempfile.mkdtemp())
    inputs, log = place / "inputs", place / "log"
    inputs.mkdir()
    wait(fork(write_inputs, inputs, log=log), log)
    for command in given.commands:
        run = place / command
        task = MAINS[command], words(command, inputs, run)
        last = run / "checkpoints" / f"checkpoint-{LAST_STEP[command]}" / "manifest.json"
        began = time.monotonic()
        child = fork(*task, log=log)
        wait_until(child, last.is_file)
        to_last = time.monotonic() - began
        wait(child, log)
        to_end = time.monotonic() - began
        expected, done = hashes(run), 0
        print(f"{command}: {to_end:.1f} s, {to_end - to_last:.1f} s after the last checkpoint, {len(expected)} files")
        while done < given.moments:
            shutil.rmtree(run)
            late = done < given.after_last
            seconds = rng.uniform(0, 0.9 * (to_end - to_last if late else to_last))
            child = fork(*task, log=log)
            alive = wait_until(child, last.is_file) if late else True
            deadline = time.monotonic() + seconds
            if not (alive and wait_until(child, lambda at=deadline: time.monotonic() > at)):
                continue  # it was faster than the first run: once more
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            left = sorted(path.name for path in (*run.glob("*"), *run.glob("checkpoints/checkpoint-*")))
            wait(fork(*task, log=log), log)
            found = hashes(run)
            differ = sorted(name for name in expected | found if expected.get(name) != found.get(name))
            where = "after the last checkpoint" if late else "after the start"
            print(f"  killed {seconds:.2f} s {where} ({' '.join(left)}): {' '.join(differ) or 'all files'}", end=" ")
            print("differ" if differ else "equal", flush=True)
            wrong, done = wrong + bool(differ), done + 1
    shutil.rmtree(place)
    print(f"{wrong} of {len(given.commands) * given.moments} kills changed a file")
    return int(wrong > 0)


if __name__ == "__main__":
    raise SystemExit(main())
