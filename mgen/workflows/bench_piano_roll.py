"""The figure of `mgen bench piano_roll`: training steps of `mgen baseline piano-roll`."""

from __future__ import annotations

import tempfile
import time
from typing import Any

import numpy as np
import torch
from transformers import PrinterCallback

from mgen.corpus.roll_windows import Rolls, RollWindows, as_batch
from mgen.encoding.piano_roll import PITCHES
from mgen.models.baselines.piano_roll import PianoRollModel
from mgen.runs.checkpoints import VerifiedCheckpoints
from mgen.workflows.baseline_piano_roll import RollConfig
from mgen.workflows.bench_measure import BenchConfig, compare, device, wait
from mgen.workflows.bench_next_note import Clock

PIECES, PIECE, DENSITY = 40, 4000, 0.035  # random rolls: number, steps of each, share of sounding cells
STEPS, WARM = 15, 5  # those before the clock starts are part of the steps


def bench_piano_roll(config: BenchConfig) -> dict[str, Any]:
    """Training windows/s of the network in its trainer (the median step), and of a bare PyTorch loop over the same data
    with the same steps.
    """
    cells = np.random.default_rng(0).random((PIECES * (PIECE + 1), PITCHES), np.float32) < DENSITY
    rolls = Rolls(np.packbits(cells, axis=1), np.arange(PIECES + 1) * (PIECE + 1), np.array(["random"] * PIECES))
    with tempfile.TemporaryDirectory() as folder:
        options = RollConfig(
            corpus="-",
            out=folder,
            max_steps=STEPS,
            per_device_train_batch_size=config.batch,
            eval_strategy="no",
            eval_on_start=False,
            load_best_model_at_end=False,
            report_to=[],
            disable_tqdm=True,
        )
    windows = RollWindows(rolls, options.window, options.window // 2)

    def ours() -> float:
        torch.manual_seed(0)
        clock = Clock()
        arguments: dict[str, Any] = {"args": options, "train_dataset": windows, "data_collator": as_batch}
        with tempfile.TemporaryDirectory() as folder:
            options.output_dir = folder
            trainer = VerifiedCheckpoints(model=PianoRollModel(options.network()), callbacks=[clock], **arguments)
            trainer.remove_callback(PrinterCallback)  # stdout is for the result
            trainer.train()
        return config.batch / float(np.median(np.diff(clock.at[WARM:])))

    def bare() -> float:
        torch.manual_seed(0)
        on, at = device(), []
        model = PianoRollModel(options.network()).to(on).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=options.learning_rate, weight_decay=0.0, fused=True)
        order = torch.randperm(len(windows)).tolist()
        for step in range(STEPS):
            wait()
            at.append(time.perf_counter())
            batch = windows.__getitems__(order[step * config.batch :][: config.batch])
            model(**{name: of.to(on) for name, of in batch.items()}).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), options.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
        return config.batch / float(np.median(np.diff(at[WARM:])))

    ours()
    return compare("windows/s, training", ours, bare, config.repeats, limit=0.9)
