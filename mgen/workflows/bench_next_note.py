"""The figure of `mgen bench next_note`: training steps of `mgen baseline tabs`."""

from __future__ import annotations

import tempfile
import time
from typing import Any

import numpy as np
import torch
from transformers import PrinterCallback, TrainerCallback

from mgen.corpus.tab_windows import NoteWindows, Tabs, as_batch
from mgen.models.baselines.event_vectors import N_SYMBOLS, all_symbols
from mgen.models.baselines.next_note import NextNoteModel
from mgen.runs.checkpoints import VerifiedCheckpoints
from mgen.workflows.baseline_tabs import TabsConfig
from mgen.workflows.bench_measure import BenchConfig, compare, device, wait

CHUNKS, CHUNK = 400, 1000  # of random notes
STEPS, WARM = 45, 5  # those before the clock starts are part of the steps


class Clock(TrainerCallback):  # type: ignore[misc]
    """Records when each step begins."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Waits for the step before."""
        wait()
        self.at.append(time.perf_counter())


def bench_next_note(config: BenchConfig) -> dict[str, Any]:
    """Training windows/s of the feed-forward network in its trainer (the median step), and of a bare PyTorch loop over
    the same data with the same steps.
    """
    events = all_symbols()[np.random.default_rng(0).integers(14, N_SYMBOLS, CHUNKS * CHUNK)]
    names = np.array(["random"] * CHUNKS)
    with tempfile.TemporaryDirectory() as folder:
        options = TabsConfig(
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
    windows = NoteWindows(Tabs("random", events, np.arange(CHUNKS + 1) * CHUNK, names, names), options.window)

    def ours() -> float:
        torch.manual_seed(0)
        clock = Clock()
        arguments: dict[str, Any] = {"args": options, "train_dataset": windows, "data_collator": as_batch}
        with tempfile.TemporaryDirectory() as folder:
            options.output_dir = folder
            trainer = VerifiedCheckpoints(model=NextNoteModel(options.network()), callbacks=[clock], **arguments)
            trainer.remove_callback(PrinterCallback)  # stdout is for the result
            trainer.train()
        return config.batch / float(np.median(np.diff(clock.at[WARM:])))

    def bare() -> float:
        torch.manual_seed(0)
        on, at = device(), []
        model = NextNoteModel(options.network()).to(on).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=options.learning_rate, fused=True)
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
