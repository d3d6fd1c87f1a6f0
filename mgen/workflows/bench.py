"""Speed of mgen next to that of another library, measured alternately in one process: on a shared machine only their
ratio is meaningful.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
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
from mgen.formats.files import read_music
from mgen.models.transformer import SIZES, new_policy
from mgen.music.metrics import METRICS
from mgen.notes import Notes
from mgen.options import from_keywords, option
from mgen.sampling.decoding import Decoding
from mgen.sampling.rollout import sample
from mgen.speed import choose_speed
from mgen.training.pretrain import PretrainTrainer
from mgen.workflows.bench_references import miditok_ids, muspy_metrics, muspy_music, parse_tab
from mgen.workflows.pretrain import PretrainConfig
from rewards import rules
from rewards.bands import fit_bands


@dataclass
class BenchConfig:
    """Options of `mgen bench`."""

    size: str = option("tiny", "Size of the model, for the figures with a model.", words=tuple(SIZES))
    context: int = option(512, "Tokens per sequence.", least=8)
    batch: int = option(16, "Sequences per batch.", least=1)
    repeats: int = option(5, "Measurements of each side, alternately; medians are reported.", least=1)
    files: int = option(200, "prepare, tabs, metrics: about the largest number of files to read.", least=1)
    source: str = option("", "prepare, tabs, metrics: folder of music files; default: the embedded corpus.")


def bench(what: str, **options: Any) -> dict[str, Any]:
    """Measures one speed of mgen and of its reference.

    Args:
        what: a key of `BENCHES`.
        options: fields of `BenchConfig`.

    Returns:
        `what` with its unit, `ours`, `rival` (the reference), `ratio` (above 1: ours is faster) and, where one is set,
        `limit`: the least ratio, or without a comparable reference the least value of ours.

    Raises:
        MgenError: There is no such figure, an option is invalid, or the source has no suitable files.
    """
    if what not in BENCHES:
        raise MgenError(f"mgen bench {what}: expected one of {', '.join(BENCHES)}")
    return BENCHES[what](from_keywords(BenchConfig, "bench", options))


def demo_table(remi: Remi, works: int = 12) -> TokenTable:
    """Tokens of the embedded corpus, in memory."""
    pieces, styles = [], []
    for name, collection in COLLECTIONS.items():
        for index in range(works):
            pieces.append(remi.encode(normalise(compose(name, index), "piano"))[0])
            styles.append(collection.style)
    offsets = np.cumsum([0] + [len(piece) for piece in pieces])
    return TokenTable(np.concatenate(pieces).astype(np.uint16), offsets, pd.DataFrame({"style": styles}))


def compare(
    what: str, ours: Callable[[], float], reference: Callable[[], float], repeats: int, limit: float | None = None
) -> dict[str, Any]:
    """Measures two speeds alternately.

    Returns:
        Their medians, the median of the ratio of each pair, and the limit if there is one.
    """
    pairs = [(ours(), reference()) for _ in range(repeats)]
    first, second = (statistics.median(speeds) for speeds in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    return {"what": what, "ours": first, "rival": second, "ratio": ratio} | ({} if limit is None else {"limit": limit})


def per_second(count: float, run: Callable[[], object]) -> float:
    """Times a call once; returns how many of the `count` things that it handles are handled per second."""
    began = time.perf_counter()
    run()
    _wait()
    return count / (time.perf_counter() - began)


class _Clock(TrainerCallback):  # type: ignore[misc]
    """Records when each step begins."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        _wait()
        self.at.append(time.perf_counter())


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def bench_pretrain(config: BenchConfig) -> dict[str, Any]:
    """Training tokens/s of `mgen pretrain`, and of a plain PyTorch loop with the same model and batches."""
    remi = Remi.build(("target", "other"))
    table = demo_table(remi)
    steps, warm = 8, 2
    tokens = config.batch * config.context * (steps - 1 - warm)
    device = "cuda" if torch.cuda.is_available() else "cpu"

    def ours() -> float:
        torch.manual_seed(0)
        with tempfile.TemporaryDirectory() as folder:
            options = PretrainConfig(
                corpus="-",
                out=folder,
                max_steps=steps,
                per_device_train_batch_size=config.batch,
                eval_strategy="no",
                load_best_model_at_end=False,
                report_to=[],
                disable_tqdm=True,
                logging_strategy="no",
                context=config.context,
            )
            windows = Windows(table, remi, config.context, steps * config.batch)
            clock = _Clock()
            model = new_policy(config.size, remi, config.context)
            trainer = PretrainTrainer(model, options, remi, windows, windows, callbacks=[clock])
            trainer.data_collator = partial(collate, pad_id=remi.pad_id, pad_to=config.context)
            trainer.remove_callback(PrinterCallback)  # stdout is for the result
            trainer.train()
        return tokens / (clock.at[-1] - clock.at[warm])

    def plain() -> float:
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

    return compare("tokens/s, training", ours, plain, config.repeats, limit=0.95)


def bench_rewards(config: BenchConfig) -> dict[str, Any]:
    """Tokens/s of all rule rewards together on one core, and of decoding ids to notes.

    Every batch is new to the rewards. `slowest` has the three most expensive rewards in microseconds per token; what
    several rewards share (the chords of a batch) counts for the first of them.
    """
    torch.set_num_threads(1)
    remi = Remi.build(("target", "other"))
    windows, _ = sample_windows(demo_table(remi), remi, 256, config.context, np.random.default_rng(0))
    rows = list(windows)
    judges = rules(fit_bands(Notes.from_ids(rows, remi)))
    decoded = Notes.from_ids(rows, remi)
    turns: list[dict[str, float]] = []

    def judge() -> float:
        fresh = replace(decoded)  # rules cache the last batch by its identity
        spent = {}
        for name, one in judges.items():
            began = time.perf_counter()
            one(fresh)
            spent[name] = 1e6 * (time.perf_counter() - began) / windows.size
        turns.append(spent)
        return 1e6 / sum(spent.values())

    def decode() -> float:
        return per_second(windows.size, lambda: Notes.from_ids(rows, remi))

    judge(), decode()
    turns.clear()
    what = f"tokens/s, {len(judges)} rule rewards together on decoded notes; reference: decoding ids to notes"
    result = compare(what, judge, decode, max(config.repeats, 5), limit=500_000)
    cost = {name: statistics.median(turn[name] for turn in turns) for name in judges}
    return result | {
        "with_decoding": 1 / (1 / result["ours"] + 1 / result["rival"]),
        "slowest": {name: round(cost[name], 4) for name in sorted(cost, key=cost.__getitem__, reverse=True)[:3]},
    }


def bench_critic(config: BenchConfig) -> dict[str, Any]:
    """Tokens/s of the style critic on 256 decoded pieces at once, and of decoding them.

    `seconds` and `seconds_with_credit` are the time for all pieces. The networks have the size that `mgen critic` uses
    and are trained for two steps only.
    """
    remi = Remi.build(("target", "other"))
    windows, _ = sample_windows(demo_table(remi), remi, 256, config.context, np.random.default_rng(0))
    rows = list(windows)
    notes = Notes.from_ids(rows, remi)
    number = np.arange(len(rows))
    corruption = np.where(number % 3 == 0, "one_pitch", "")
    training_set = TrainingSet(feature_table(notes), number % 2 == 0, corruption, np.ones(len(rows)))
    members = tuple(replace(member, steps=2) for member in MEMBERS)
    model = FeatureModel.fit(training_set, training_set, members)
    judge, with_credit = StyleCritic(model, "jazz"), StyleCritic(model, "jazz", credit=True)

    def speed(one: Callable[[Notes], Any]) -> float:
        return per_second(windows.size, lambda: one(notes))

    def decode() -> float:
        return per_second(windows.size, lambda: Notes.from_ids(rows, remi))

    speed(judge), decode()
    what = f"tokens/s, the style critic on {len(rows)} decoded pieces of {config.context} tokens; reference: decoding"
    result = compare(what, lambda: speed(judge), decode, config.repeats, limit=256 * 512 / 2.5)
    return result | {
        "seconds": windows.size / result["ours"],
        "seconds_with_credit": statistics.median(windows.size / speed(with_credit) for _ in range(config.repeats)),
    }


def bench_metrics(config: BenchConfig) -> dict[str, Any]:
    """Pieces/s of all of METRICS in one process, on the first 500 notes of files, and of the ten metrics of muspy that
    apply to any music, piece by piece.
    """
    notes, most = _first_notes(config, 500), 20
    theirs = muspy_metrics()
    music = [muspy_music(notes, piece) for piece in range(min(notes.n_pieces, most))]  # fewer: they are slow

    def ours() -> float:
        return per_second(notes.n_pieces, lambda: [metric(notes) for metric in METRICS.values()])

    def reference() -> float:
        return per_second(len(music), lambda: [metric(one) for one in music for metric in theirs])

    ours(), reference()
    what = f"pieces/s of 500 notes ({notes.n_pieces}), all {len(METRICS)} metrics; reference: {len(theirs)} of muspy's"
    return compare(what, ours, reference, config.repeats, limit=300)


def _first_notes(config: BenchConfig, count: int) -> Notes:
    """Reads the first `count` notes of the files that have at least that many, as one batch."""
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


def bench_rollout(config: BenchConfig) -> dict[str, Any]:
    """New tokens/s of our sampler, and of `generate` of transformers in float32.

    `precision` is that of ours; `ours_float32` the speed without it.
    """
    remi = Remi.build(("target", "other"))
    torch.manual_seed(0)
    model = new_policy(config.size, remi, config.context).eval()
    model = model.to("cuda" if torch.cuda.is_available() else "cpu")
    model.generation_config.eos_token_id = None  # both sample the full length
    new = min(192, config.context - 16)
    ids = torch.randint(remi.bar_id, remi.vocab_size, (config.batch, 16), device=model.device)
    prompts, options = ids.tolist(), {"do_sample": True, "top_k": 0, "use_cache": True}
    decoding, speed = Decoding(max_new_tokens=new), choose_speed("auto", model.device)

    def ours(dtype: torch.dtype | None = speed.dtype) -> float:
        def run() -> None:
            sample(model, prompts, decoding, -1, remi.pad_id, batch_size=config.batch, dtype=dtype)

        return per_second(config.batch * new, run)

    def theirs() -> float:
        return per_second(config.batch * new, lambda: model.generate(ids, max_new_tokens=new, **options))

    ours(), theirs()
    result = compare("new tokens/s, sampling", ours, theirs, config.repeats)
    return result | {"precision": speed.reason, "ours_float32": ours(None)}


def bench_prepare(config: BenchConfig) -> dict[str, Any]:
    """Files/s from music files to a corpus, and of MidiTok's encoder only, with the same files and workers."""
    workers = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder:
        sources = _music(config, Path(folder) / "music")

        def ours() -> float:
            out = Path(folder) / "corpus"
            return per_second(len(sources), lambda: prepare_corpus(sources, out, workers=workers, overwrite=True))

        def theirs() -> float:
            began = time.perf_counter()
            found = sum(1 for _ in run_in_processes(miditok_ids, sources, workers, Limits(60.0, 4096)))
            return found / (time.perf_counter() - began)

        what = f"files/s of {len(sources)} files on {workers} cores, files to corpus; reference: MidiTok's encoder only"
        return compare(what, ours, theirs, config.repeats, limit=0.7)


def bench_tabs(config: BenchConfig) -> dict[str, Any]:
    """Guitar Pro files per second of processor time, from file to tokens of all chunks, and of pyguitarpro's parser
    only.
    """
    if not config.source:
        raise MgenError("mgen bench tabs: expected --source, got none; give a folder of Guitar Pro files")
    rules = Rules("tabs", min_notes=MIN_CHUNK_NOTES, max_notes=MAX_CHUNK_NOTES)
    sources = [source for source in _music(config, Path()) if not isinstance(parse_tab(source), Exception)]
    if not sources:
        raise MgenError(f"--source {config.source}: no readable Guitar Pro file; give .gp3, .gp4 or .gp5 files")

    def speed(function: Callable[[Source], Any]) -> float:
        began = time.process_time()
        for source in sources:
            function(source)
        return len(sources) / (time.process_time() - began)

    what = f"files/s of processor time, {len(sources)} tabs to tokens; reference: guitarpro.parse only"
    ours, reference = partial(speed, partial(read_source, rules=rules)), partial(speed, parse_tab)
    return compare(what, ours, reference, config.repeats, limit=1 / 1.5)


def _music(config: BenchConfig, folder: Path) -> list[Source]:
    """Finds about `files` files, spread evenly over the source; without a source, writes the embedded corpus."""
    if config.source:
        found = scan([Path(config.source)]).sources
        return found[:: max(1, len(found) // config.files)]
    write_demo_corpus(folder, max(config.files // len(COLLECTIONS), 4))
    return scan(metadata=folder / "metadata.csv").sources


BENCHES: dict[str, Callable[[BenchConfig], dict[str, Any]]] = {
    "pretrain": bench_pretrain,
    "rewards": bench_rewards,
    "critic": bench_critic,
    "rollout": bench_rollout,
    "metrics": bench_metrics,
    "prepare": bench_prepare,
    "tabs": bench_tabs,
}
