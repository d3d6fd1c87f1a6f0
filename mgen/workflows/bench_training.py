"""Training steps of a trainer next to those of a bare PyTorch loop, for the figures of `mgen bench`."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, PrinterCallback, TrainerCallback

from mgen.runs.checkpoints import VerifiedCheckpoints
from mgen.workflows.bench_measure import BenchConfig, compare, device, wait

TRAINING_ALONE: dict[str, Any] = {
    "corpus": "-",
    "out": "-",  # the trainer writes into a temporary folder
    "eval_strategy": "no",
    "eval_on_start": False,
    "load_best_model_at_end": False,
    "report_to": [],
    "disable_tqdm": True,
}
"""Options of a baseline that only trains."""


class Clock(TrainerCallback):  # type: ignore[misc]
    """Records when each step of a trainer begins, after the step before has ended."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Notes the time."""
        wait()
        self.at.append(time.perf_counter())


def compare_training(
    config: BenchConfig,
    options: Any,
    network: Callable[[], PreTrainedModel],
    windows: Any,
    as_batch: Callable[[Any], Any],
    steps: int,
    warm: int,
    **adamw: Any,
) -> dict[str, Any]:
    """Training windows/s of a baseline in its trainer (the median step), and of a bare PyTorch loop over the same data.

    Args:
        options: of the trainer.
        windows: data set with `__getitems__`.
        steps, warm: of each side, and those before the clock starts.
        adamw: of the bare loop's optimizer.
    """

    def ours() -> float:
        torch.manual_seed(0)
        clock = Clock()
        arguments: dict[str, Any] = {"args": options, "train_dataset": windows, "data_collator": as_batch}
        with tempfile.TemporaryDirectory() as folder:
            options.output_dir = folder
            trainer = VerifiedCheckpoints(model=network(), callbacks=[clock], **arguments)
            trainer.remove_callback(PrinterCallback)  # stdout is for the result
            trainer.train()
        return config.batch / float(np.median(np.diff(clock.at[warm:])))

    def bare() -> float:
        torch.manual_seed(0)
        on, at = device(), []
        model = network().to(on).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=options.learning_rate, fused=True, **adamw)
        order = torch.randperm(len(windows)).tolist()
        for step in range(steps):
            wait()
            at.append(time.perf_counter())
            batch = windows.__getitems__(order[step * config.batch :][: config.batch])
            model(**{name: of.to(on) for name, of in batch.items()}).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), options.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
        return config.batch / float(np.median(np.diff(at[warm:])))

    ours()
    return compare("windows/s, training", ours, bare, config.repeats, limit=0.9)
