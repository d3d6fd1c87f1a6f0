"""Figures of `mgen bench` with a model: training, sampling, a step of reinforcement learning, an evaluation."""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, PrinterCallback, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from critics.style import StyleCritic
from mgen.corpus.demo import write_demo_corpus
from mgen.corpus.prepare import prepare_corpus
from mgen.corpus.reading import Rules
from mgen.corpus.scan import scan
from mgen.corpus.shards import Corpus
from mgen.corpus.windows import Windows, collate, sample_windows
from mgen.encoding.remi import Remi
from mgen.evaluation.measure import MetricOptions, PieceSet, measure
from mgen.models.lstm import LstmForCausalLM, lstm_config
from mgen.models.transformer import load_policy, new_policy
from mgen.music.metrics import METRICS
from mgen.notes import Notes
from mgen.rl.loop import PolicyGradient
from mgen.rl.prompt_mix import PromptMix
from mgen.sampling.decoding import Decoding
from mgen.sampling.rollout import sample
from mgen.sampling.systems import sample_completions
from mgen.speed import choose_speed
from mgen.stats.graded import graded
from mgen.stats.set_metrics import set_metrics
from mgen.stats.two_sample import two_sample
from mgen.training.pretrain import PretrainTrainer
from mgen.workflows.bench_judges import untrained_style_model
from mgen.workflows.bench_measure import (
    BenchConfig,
    compare,
    demo_table,
    device,
    per_second,
    tokens_per_note,
    vocabulary,
    wait,
)
from mgen.workflows.bench_plain_lstm import PlainLstm
from mgen.workflows.bench_training import Clock
from mgen.workflows.finetune import FinetuneConfig
from mgen.workflows.judge_options import DEFAULT_JUDGES
from mgen.workflows.pretrain import PretrainConfig
from mgen.workflows.run_judges import available_judges
from rewards.bands import fit_bands
from rewards.trl import trl_rewards


def _new_model(config: BenchConfig, remi: Remi) -> PreTrainedModel:
    if config.architecture == "lstm":
        return LstmForCausalLM(lstm_config(config.size, remi, config.context))
    return new_policy(config.size, remi, config.context)


def _bound(model: PreTrainedModel, factor: int, dtype: torch.dtype | None) -> dict[str, Any]:
    """Operations per token: `factor` (2 forward, 6 in training) for each weight that takes part in a product."""
    looked_up = 0 if model.config.tie_word_embeddings else model.get_input_embeddings().weight.numel()
    return {"operations": factor * (model.num_parameters() - looked_up), "precision": "bf16" if dtype else "float32"}


def bench_pretrain(config: BenchConfig) -> dict[str, Any]:
    """Training tokens/s of `mgen pretrain` after its first steps, which compile, and of a plain PyTorch loop with the
    same model and batches: float32 and eager on a CPU, bf16 and compiled on a GPU; for an LSTM one of a
    plain `nn.LSTM`.

    `notes_per_second` is that of ours.
    """
    remi = vocabulary(config)
    table = demo_table(remi)
    steps, warm, on = 8, 2, device()
    speed = choose_speed(config.speed, on, math.inf)
    tokens = config.batch * config.context  # of a step; the median step counts, so that a pause does not

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
                speed=config.speed,
            )
            windows = Windows(table, remi, config.context, steps * config.batch)
            clock = Clock()
            model = _new_model(config, remi)
            trainer = PretrainTrainer(model, options, remi, windows, windows, speed=speed, callbacks=[clock])
            trainer.data_collator = partial(collate, pad_id=remi.pad_id, pad_to=config.context)
            trainer.remove_callback(PrinterCallback)  # stdout is for the result
            trainer.train()
        return tokens / float(np.median(np.diff(clock.at[warm:])))

    def plain() -> float:
        torch.manual_seed(0)
        windows = Windows(table, remi, config.context, steps * config.batch)
        batches = [
            collate([windows[step * config.batch + i] for i in range(config.batch)], remi.pad_id, config.context)
            for step in range(steps)
        ]
        model = PlainLstm(config.size, remi.vocab_size) if config.architecture == "lstm" else _new_model(config, remi)
        model = model.to(on).train()
        run = torch.compile(model) if on == "cuda" else model
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
        at = []
        for batch in batches:
            wait()
            at.append(time.perf_counter())
            with torch.autocast(on, torch.bfloat16, enabled=on == "cuda"):
                loss = run(input_ids=batch["input_ids"].to(on), labels=batch["labels"].to(on)).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        return tokens / float(np.median(np.diff(at[warm:])))

    result = compare("tokens/s, training", ours, plain, config.repeats, limit=0.95)
    bound = _bound(_new_model(config, remi), 6, speed.dtype)
    return result | bound | {"speed": speed.reason, "notes_per_second": result["ours"] / tokens_per_note(table, remi)}


def bench_rollout(config: BenchConfig) -> dict[str, Any]:
    """New tokens/s of our sampler, and of `generate` of transformers in float32, or of a loop over a plain `nn.LSTM`.

    `speed` is how ours runs; `ours_float32` what it reaches without bf16.
    """
    remi = vocabulary(config)
    torch.manual_seed(0)
    model = _new_model(config, remi).eval().to(device())
    plain = PlainLstm(config.size, remi.vocab_size).eval().to(device()) if config.architecture == "lstm" else None
    model.generation_config.eos_token_id = None  # both sample the full length
    new = min(192, config.context - 16)
    ids = torch.randint(remi.bar_id, remi.vocab_size, (config.batch, 16), device=model.device)
    prompts, options = ids.tolist(), {"do_sample": True, "top_k": 0, "use_cache": True}
    decoding, speed = Decoding(max_new_tokens=new), choose_speed(config.speed, model.device)

    def ours(dtype: torch.dtype | None = speed.dtype) -> float:
        def run() -> None:
            sample(model, prompts, decoding, -1, remi.pad_id, batch_size=config.batch, dtype=dtype)

        return per_second(config.batch * new, run)

    def theirs() -> float:
        if plain is not None:
            return per_second(config.batch * new, lambda: plain.sample(ids, new))
        return per_second(config.batch * new, lambda: model.generate(ids, max_new_tokens=new, **options))

    ours(), theirs()
    result = compare("new tokens/s, sampling", ours, theirs, config.repeats)
    return result | _bound(model, 2, speed.dtype) | {"speed": speed.reason, "ours_float32": ours(None)}


NOTES = 70  # of a completion of `bench_rl`


class _StepTimer(TrainerCallback):  # type: ignore[misc]
    """Seconds of the last step of a trainer."""

    def __init__(self) -> None:
        self.began = self.total = 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.began = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        wait()
        self.total = time.perf_counter() - self.began


def bench_rl(config: BenchConfig) -> dict[str, Any]:
    """Completions/s of a whole step of `mgen finetune` with its judges, for completions of about 70 notes; reference: a
    step of TRL's GRPOTrainer in float32 with `generate`, the same rules and style critic, and no discriminator.

    `seconds` and `seconds_rival` are those of one step, `split` the parts of ours; ours takes two epochs of updates,
    TRL one. The policy has learned little but the grammar, and the style critic is untrained.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_demo_corpus(folder / "music", 8)
        sources, rules = scan(metadata=folder / "music" / "metadata.csv").sources, Rules(velocity=config.velocity)
        prepare_corpus(sources, folder / "corpus", rules, workers=1, merges=config.merges)
        corpus = Corpus.open(folder / "corpus")
        per_note = tokens_per_note(corpus.table("train"), corpus.remi)
        torch.manual_seed(0)
        policy = _grammatical_policy(config, corpus)
        for part in (policy, corpus.remi):
            part.save_pretrained(folder / "policy")
        common: dict[str, Any] = {
            "num_generations": min(8, config.batch // 2),
            "max_completion_length": min(round(NOTES * per_note), config.context - 32),
            "max_steps": 2,  # the first one warms up
            "report_to": [],
        }
        options = FinetuneConfig(
            policy=str(folder / "policy"),
            corpus=str(folder / "corpus"),
            out=str(folder / "run"),
            judges=[judge for judge in DEFAULT_JUDGES if not judge.startswith("style")],
            prompt_tokens=[8, 24],
            completions=config.batch,
            speed=config.speed,
            **common,
        )
        compiled = options.chosen_speed(math.inf).compiled  # as in a run of many steps
        target = next(iter(corpus.remi.style_ids))
        prompts = PromptMix(corpus, target, 0.5, options.prompt_tokens, options.max_completion_length, options.seed)
        real, _, on_grid = prompts.real_target(256)
        bands, style = fit_bands(real, on_grid), untrained_style_model(real)
        judges = available_judges(options, prompts, bands).judges
        (folder / "run" / "checkpoints").mkdir(parents=True)
        splits: list[dict[str, float]] = []

        def ours() -> float:
            found = available_judges(options, prompts, bands)
            policy, remi = load_policy(folder / "policy")
            loop = PolicyGradient(
                policy,
                load_policy(folder / "policy")[0],
                remi,
                found.judges | {"style": StyleCritic(style, target)},
                options.weights() | {"style": 1.0},
                prompts,
                options,
                options.training_arguments(),
                discriminator=found.discriminator,
                compiled=compiled,
            )
            loop.train()
            splits.append(loop.seconds)
            return config.batch / loop.seconds["step"]

        def stock() -> float:
            kept = {name: judge for name, judge in judges.items() if name != "realism"}
            policy, remi = load_policy(folder / "policy")
            plain = {"bf16": False, "gradient_checkpointing": False, "generation_kwargs": {"use_cache": True}}
            quiet = {"save_strategy": "no", "logging_strategy": "no", "disable_tqdm": True}
            trainer = GRPOTrainer(
                model=policy,
                reward_funcs=trl_rewards({**kept, "style": StyleCritic(style, target)}, remi),
                args=GRPOConfig(
                    str(folder / "stock"),
                    beta=0.04,
                    per_device_train_batch_size=config.batch,
                    **plain,
                    **quiet,
                    **common,
                ),
                train_dataset=prompts.dataset(config.batch),
                processing_class=remi.tokenizer(),
            )
            timer = _StepTimer()
            trainer.add_callback(timer)
            trainer.remove_callback(PrinterCallback)  # stdout is for the result
            trainer.train()
            return config.batch / timer.total

        what = f"completions/s, a step of {config.batch} completions of {options.max_completion_length} tokens"
        result = compare(f"{what}; reference: TRL's GRPOTrainer", ours, stock, config.repeats)
    split = {part: statistics.median(one[part] for one in splits) for part in splits[0]}
    step = split.pop("step")
    seconds = {f"seconds{end}": config.batch / result[key] for end, key in (("", "ours"), ("_rival", "rival"))}
    return result | seconds | {"split": split, "split_share": sum(split.values()) / step}


def _grammatical_policy(config: BenchConfig, corpus: Corpus, steps: int = 40) -> PreTrainedModel:
    """A policy after a few steps on the corpus: its completions have notes for the judges."""
    policy = new_policy(config.size, corpus.remi, config.context).train()
    optimizer = torch.optim.AdamW(policy.parameters(), lr=3e-3)
    windows = Windows(corpus.table("train"), corpus.remi, min(128, config.context), 16 * steps)
    for step in range(steps):
        batch = collate([windows[16 * step + i] for i in range(16)], corpus.remi.pad_id)
        policy(input_ids=batch["input_ids"], labels=batch["labels"]).loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return policy


def bench_evaluate(config: BenchConfig) -> dict[str, Any]:
    """Pieces/s of one row of an evaluation: completions of at most 192 tokens by an untrained policy, and their numbers
    without the judge and the sequence model; reference: the same with `generate` of transformers in float32.

    `split` has the seconds of the parts of ours; `intervals` are those of means and distances.
    """
    remi = vocabulary(config)
    torch.manual_seed(0)
    model = new_policy(config.size, remi, config.context).to(device()).eval()
    new, speed = min(192, config.context // 2), choose_speed(config.speed, device())
    prompt = min(64, config.context - new)
    windows, piece = sample_windows(demo_table(remi), remi, config.batch, prompt + new, np.random.default_rng(0))
    ids, work, seed = windows[:, :prompt].tolist(), piece.astype(str), np.zeros(config.batch, np.int64)
    real = Notes.from_ids(list(windows), remi, start=prompt)

    def ours() -> list[list[int]]:
        return sample_completions(model, ids, new, remi, 0, speed.dtype)

    def stock() -> list[list[int]]:
        options = {"do_sample": True, "top_k": 0, "use_cache": True}
        rows = model.generate(torch.tensor(ids, device=device()), max_new_tokens=new, **options)
        completions: list[list[int]] = rows[:, prompt:].tolist()
        return completions

    def row(complete: Callable[[], list[list[int]]]) -> float:
        def run() -> None:
            own = Notes.from_completions(ids, complete(), remi)
            measure(PieceSet(own, work, seed), PieceSet(real, work, seed), MetricOptions(sequence=False))

        return per_second(config.batch, run)

    what = f"pieces/s, a row of {config.batch} pieces of {new} tokens; reference: the same numbers after `generate`"
    result = compare(what, lambda: row(ours), lambda: row(stock), config.repeats)
    own = Notes.from_completions(ids, ours(), remi)
    sets = real, own, work, work
    parts: dict[str, Callable[[], object]] = {
        "sampling": ours,
        "pieces": lambda: [metric(notes) for notes in (real, own) for metric in METRICS.values()],
        "two_sample": lambda: two_sample(*sets, sequence=False),
        "by_length": lambda: graded(*sets),
        "sets": lambda: set_metrics(*sets),
    }
    split = {name: 1 / per_second(1, run) for name, run in parts.items()}
    return result | {"split": split | {"intervals": config.batch / result["ours"] - sum(split.values())}}
