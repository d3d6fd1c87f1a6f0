"""Speed figures, each beside its rival in the same process: on a shared machine only the ratio means something.

    mgen bench pretrain --json

`ratio` above 1: ours is faster. `limit` is what the ratio, or (with no rival) ours, must reach.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from transformers import PrinterCallback, TrainerCallback

from critics.style import StyleCritic
from critics.style.ensemble import MEMBERS, TrainingSet, feature_table
from critics.style.feature_model import FeatureModel
from mgen.cli.options import parse
from mgen.cli.rivals import miditok_ids, muspy_metrics, muspy_music, parsed_tab
from mgen.corpus.chunks import MAX_CHUNK_NOTES, MIN_CHUNK_NOTES
from mgen.corpus.clean import normalise
from mgen.corpus.demo import COLLECTIONS, compose, write_demo_corpus
from mgen.corpus.prepare import prepare_corpus
from mgen.corpus.reading import Rules, read_source
from mgen.corpus.scan import Source, scan
from mgen.corpus.shards import TokenTable
from mgen.corpus.windows import Windows, collate, sample_windows
from mgen.corpus.workers import Limits, run_in_processes
from mgen.encoding.remi import Remi
from mgen.errors import MgenError, RejectedFile
from mgen.files import read_music
from mgen.models.transformer import new_policy
from mgen.music.metrics import METRICS
from mgen.notes import Notes
from mgen.sampling.rollout import Decoding, sample
from mgen.training.pretrain import PretrainTrainer
from mgen.workflows.pretrain import PretrainConfig
from rewards import rules
from rewards.bands import fit_bands


@dataclass
class BenchConfig:
    """Options of `mgen bench`."""

    size: str = field(default="tiny", metadata={"help": "Model size, where there is a model."})
    context: int = field(default=512, metadata={"help": "Tokens in a sequence."})
    batch: int = field(default=16, metadata={"help": "Sequences at a time."})
    repeats: int = field(
        default=5,
        metadata={"help": "Turns of ours and the rival's, one after the other; the median ratio is told."},
    )
    files: int = field(default=200, metadata={"help": "prepare, tabs, metrics: at most about so many files."})
    source: str = field(
        default="",
        metadata={"help": "prepare, tabs, metrics: folder of music files; without it the embedded corpus is read."},
    )
    json: bool = field(default=False, metadata={"help": "Print one JSON object and nothing else."})


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; returns the exit code."""

    def positional(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("what", help=", ".join(BENCHES))

    config, words = parse(
        argv, BenchConfig, program="mgen bench", example="mgen bench pretrain --json", positional=positional
    )
    if words.what not in BENCHES:
        raise MgenError(f"mgen bench {words.what}: expected one of {', '.join(BENCHES)}")
    result = BENCHES[words.what](config)
    print(json.dumps(result) if config.json else "\n".join(f"{key:10} {value}" for key, value in result.items()))
    return 0


def demo_table(remi: Remi, works: int = 12) -> TokenTable:
    """Pieces of the embedded corpus, in memory."""
    pieces, styles = [], []
    for name, collection in COLLECTIONS.items():
        for index in range(works):
            pieces.append(remi.encode(normalise(compose(name, index), "piano"))[0])
            styles.append(collection.style)
    offsets = np.cumsum([0] + [len(piece) for piece in pieces])
    return TokenTable(np.concatenate(pieces).astype(np.uint16), offsets, pd.DataFrame({"style": styles}))


def in_turn(ours: Callable[[], float], rival: Callable[[], float], repeats: int) -> tuple[float, float, float]:
    """Medians of two speeds measured in turn, and of their ratio pair by pair."""
    pairs = [(ours(), rival()) for _ in range(repeats)]
    first, second = zip(*pairs, strict=True)
    return statistics.median(first), statistics.median(second), statistics.median(a / b for a, b in pairs)


class _Clock(TrainerCallback):  # type: ignore[misc]
    """When steps began."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        _wait()
        self.at.append(time.perf_counter())


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def pretrain(config: BenchConfig) -> dict[str, Any]:
    """Tokens/s of `mgen pretrain` against a bare PyTorch loop over the same model and batches."""
    remi = Remi.build()
    table = demo_table(remi)
    steps, warm = 8, 2
    tokens = config.batch * config.context * (steps - 1 - warm)
    device = "cuda" if torch.cuda.is_available() else "cpu"

    def ours() -> float:
        torch.manual_seed(0)
        with tempfile.TemporaryDirectory() as folder:
            options = PretrainConfig(
                corpus="-", out=folder, max_steps=steps, per_device_train_batch_size=config.batch, eval_strategy="no",
                load_best_model_at_end=False, report_to=[], disable_tqdm=True, logging_strategy="no",
                context=config.context,
            )  # fmt: skip
            windows = Windows(table, remi, config.context, steps * config.batch)
            clock = _Clock()
            model = new_policy(config.size, remi, config.context)
            trainer = PretrainTrainer(model, options, remi, windows, windows, callbacks=[clock])
            trainer.data_collator = partial(collate, pad_id=remi.pad_id, pad_to=config.context)
            trainer.remove_callback(PrinterCallback)  # stdout is for the result
            trainer.train()
        return tokens / (clock.at[-1] - clock.at[warm])

    def bare() -> float:
        torch.manual_seed(0)
        windows = Windows(table, remi, config.context, steps * config.batch)
        batches = [
            collate([windows[step * config.batch + i] for i in range(config.batch)], remi.pad_id, config.context)
            for step in range(steps)
        ]
        model = new_policy(config.size, remi, config.context).to(device).train()
        run = torch.compile(model) if device == "cuda" else model
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
        at = []
        for batch in batches:
            _wait()
            at.append(time.perf_counter())
            with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
                loss = run(input_ids=batch["input_ids"].to(device), labels=batch["labels"].to(device)).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        return tokens / (at[-1] - at[warm])

    mine, rival, ratio = in_turn(ours, bare, config.repeats)
    return {"what": "tokens/s, training", "ours": mine, "rival": rival, "ratio": ratio, "limit": 0.95}


def rewards(config: BenchConfig) -> dict[str, Any]:
    """Tokens/s of all rule rewards together on one core, each batch heard for the first time; the rival is decoding
    alone, so `ratio` is how many times faster than decoding they are. `slowest`: us a token of the three that take
    most; the first to need a thing that others need too pays for it.
    """
    torch.set_num_threads(1)
    remi = Remi.build()
    windows, _ = sample_windows(demo_table(remi), remi, 256, config.context, np.random.default_rng(0))
    rows = list(windows)
    judges = rules(fit_bands(Notes.from_ids(rows, remi)))
    decoded = Notes.from_ids(rows, remi)
    turns: list[dict[str, float]] = []

    def judge() -> float:
        fresh = replace(decoded)  # rules remember the last batch by its identity
        spent = {}
        for name, one in judges.items():
            began = time.perf_counter()
            one(fresh)
            spent[name] = 1e6 * (time.perf_counter() - began) / windows.size
        turns.append(spent)
        return 1e6 / sum(spent.values())

    def decode() -> float:
        began = time.perf_counter()
        Notes.from_ids(rows, remi)
        return windows.size / (time.perf_counter() - began)

    judge(), decode()
    turns.clear()
    mine, rival, ratio = in_turn(judge, decode, max(config.repeats, 5))
    cost = {name: statistics.median(turn[name] for turn in turns) for name in judges}
    return {
        "what": f"tokens/s, {len(judges)} rule rewards together on decoded notes; rival: decoding the ids to notes",
        "ours": mine,
        "rival": rival,
        "ratio": ratio,
        "with_decoding": 1 / (1 / mine + 1 / rival),
        "limit": 500_000,
        "slowest": {name: round(cost[name], 4) for name in sorted(cost, key=cost.__getitem__, reverse=True)[:3]},
    }


def critic(config: BenchConfig) -> dict[str, Any]:
    """Tokens/s of the style critic that hears traits, 256 pieces at once, decoded beforehand; the rival is decoding
    alone. `seconds` are those of all pieces, without credit and with credit by bars. The networks are as large as
    `mgen critic` makes them, and hardly trained.
    """
    remi = Remi.build()
    windows, _ = sample_windows(demo_table(remi), remi, 256, config.context, np.random.default_rng(0))
    rows = list(windows)
    notes = Notes.from_ids(rows, remi)
    number = np.arange(len(rows))
    way = np.where(number % 3 == 0, "one_pitch", "")
    material = TrainingSet(feature_table(notes), number % 2 == 0, way, np.ones(len(rows)))
    members = tuple(replace(member, steps=2) for member in MEMBERS)
    model = FeatureModel.fit(material, material, members)
    judge, by_bars = StyleCritic(model, "jazz"), StyleCritic(model, "jazz", credit=True)

    def spent(one: Callable[[Notes], Any]) -> float:
        began = time.perf_counter()
        one(notes)
        return time.perf_counter() - began

    def decode() -> float:
        began = time.perf_counter()
        Notes.from_ids(rows, remi)
        return windows.size / (time.perf_counter() - began)

    spent(judge), decode()
    mine, rival, ratio = in_turn(lambda: windows.size / spent(judge), decode, config.repeats)
    return {
        "what": f"tokens/s, the style critic on {len(rows)} decoded pieces of {config.context} tokens; rival: decoding",
        "ours": mine,
        "rival": rival,
        "ratio": ratio,
        "seconds": windows.size / mine,
        "seconds_with_credit": statistics.median(spent(by_bars) for _ in range(config.repeats)),
        "limit": 256 * 512 / 2.5,
    }


def metrics(config: BenchConfig) -> dict[str, Any]:
    """Pieces/s of the whole dict METRICS, one process, on the first 500 notes of files that have as many; the rival is
    muspy, its ten metrics that speak of any music, one piece after the other.
    """
    notes, most = _heads(config, 500), 20
    theirs = muspy_metrics()
    music = [muspy_music(notes, piece) for piece in range(min(notes.n_pieces, most))]  # one by one: fewer will do

    def ours() -> float:
        began = time.perf_counter()
        for metric in METRICS.values():
            metric(notes)
        return notes.n_pieces / (time.perf_counter() - began)

    def rival() -> float:
        began = time.perf_counter()
        for one in music:
            for metric in theirs:
                metric(one)
        return len(music) / (time.perf_counter() - began)

    ours(), rival()
    mine, other, ratio = in_turn(ours, rival, config.repeats)
    what = f"pieces/s of 500 notes ({notes.n_pieces}), all {len(METRICS)} metrics; rival: {len(theirs)} of muspy's"
    return {"what": what, "ours": mine, "rival": other, "ratio": ratio, "limit": 300}


def _heads(config: BenchConfig, count: int) -> Notes:
    """The first `count` notes of each file of `--source`, or of the embedded corpus, that has as many."""
    found: list[Notes] = []
    with tempfile.TemporaryDirectory() as folder:
        for source in _music(config, Path(folder)):
            try:
                notes = normalise(read_music(source.file).score, "band")
            except RejectedFile:
                continue
            if len(notes) >= count:
                head = notes.select(np.arange(len(notes)) < count)
                found.append(Notes.from_scores([head.to_score(0)]))  # its last bar is that of its last note
    if not found:
        where = f"--source {config.source}" if config.source else "the embedded corpus"
        raise MgenError(f"{where}: no piece of {count} notes in at most {config.files} files; give more --files")
    return Notes.concat(found)


def rollout(config: BenchConfig) -> dict[str, Any]:
    """New tokens/s of our sampler against `generate` of transformers."""
    remi = Remi.build()
    torch.manual_seed(0)
    model = new_policy(config.size, remi, config.context).eval()
    model = model.to("cuda" if torch.cuda.is_available() else "cpu")
    model.generation_config.eos_token_id = None  # both always sample the full length
    new = min(192, config.context - 16)
    prompts = [[remi.bos_id] + [remi.bar_id] * 15] * config.batch

    def ours() -> float:
        began = time.perf_counter()
        sample(model, prompts, Decoding(max_new_tokens=new), -1, remi.pad_id)
        _wait()
        return config.batch * new / (time.perf_counter() - began)

    def theirs() -> float:
        began = time.perf_counter()
        model.generate(
            torch.tensor(prompts, device=model.device),
            do_sample=True,
            top_k=0,
            max_new_tokens=new,
            use_cache=True,
        )
        _wait()
        return config.batch * new / (time.perf_counter() - began)

    ours(), theirs()
    mine, rival, ratio = in_turn(ours, theirs, config.repeats)
    return {"what": "new tokens/s, sampling", "ours": mine, "rival": rival, "ratio": ratio}


def prepare(config: BenchConfig) -> dict[str, Any]:
    """Files/s from music files to a corpus; the rival is MidiTok's encoder alone, on the same files and by as many
    workers.
    """
    workers = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder:
        sources = _music(config, Path(folder) / "music")

        def ours() -> float:
            began = time.perf_counter()
            prepare_corpus(sources, Path(folder) / "corpus", workers=workers, overwrite=True)
            return len(sources) / (time.perf_counter() - began)

        def theirs() -> float:
            began = time.perf_counter()
            found = sum(1 for _ in run_in_processes(miditok_ids, sources, workers, Limits(60.0, 4096)))
            return found / (time.perf_counter() - began)

        mine, rival, ratio = in_turn(ours, theirs, config.repeats)
    what = f"files/s of {len(sources)} files on {workers} cores, files to corpus; rival: MidiTok's encoder alone"
    return {"what": what, "ours": mine, "rival": rival, "ratio": ratio, "limit": 0.7}


def tabs(config: BenchConfig) -> dict[str, Any]:
    """Guitar Pro files/s of processor time, one core, from file to tokens of all chunks; the rival is pyguitarpro's
    parser alone.
    """
    if not config.source:
        raise MgenError("mgen bench tabs: expected --source, got none; give a folder of Guitar Pro files")
    rules = Rules("tabs", min_notes=MIN_CHUNK_NOTES, max_notes=MAX_CHUNK_NOTES)
    sources = [source for source in _music(config, Path()) if not isinstance(parsed_tab(source), Exception)]
    if not sources:
        raise MgenError(f"--source {config.source}: no Guitar Pro file that can be read; give .gp3, .gp4 or .gp5 files")

    def clocked(function: Callable[[Source], Any]) -> float:
        began = time.process_time()
        for source in sources:
            function(source)
        return len(sources) / (time.process_time() - began)

    mine, rival, ratio = in_turn(
        lambda: clocked(partial(read_source, rules=rules)), lambda: clocked(parsed_tab), config.repeats
    )
    what = f"files/s of processor time, {len(sources)} tabs to tokens; rival: guitarpro.parse alone"
    return {"what": what, "ours": mine, "rival": rival, "ratio": ratio, "limit": 1 / 1.5}


def _music(config: BenchConfig, folder: Path) -> list[Source]:
    """The files of `--source`, at most `--files`, evenly over the folder; or the embedded corpus."""
    if config.source:
        found = scan([Path(config.source)])
        return found[:: max(1, len(found) // config.files)]
    write_demo_corpus(folder, max(config.files // len(COLLECTIONS), 4))
    return scan(metadata=folder / "metadata.csv")


BENCHES: dict[str, Callable[[BenchConfig], dict[str, Any]]] = {
    "pretrain": pretrain,
    "rewards": rewards,
    "critic": critic,
    "rollout": rollout,
    "metrics": metrics,
    "prepare": prepare,
    "tabs": tabs,
}
