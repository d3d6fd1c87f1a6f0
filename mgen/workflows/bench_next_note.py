"""The figure of `mgen bench next_note`: training steps of `mgen baseline tabs`."""

from __future__ import annotations

from typing import Any

import numpy as np

from mgen.corpus.tab_windows import NoteWindows, Tabs, as_batch
from mgen.models.baselines.event_vectors import N_SYMBOLS, all_symbols
from mgen.models.baselines.next_note import NextNoteModel
from mgen.workflows.baseline_tabs import TabsConfig
from mgen.workflows.bench_measure import BenchConfig
from mgen.workflows.bench_training import TRAINING_ALONE, compare_training

CHUNKS, CHUNK = 400, 1000  # of random notes
STEPS, WARM = 45, 5  # those before the clock starts are part of the steps


def bench_next_note(config: BenchConfig) -> dict[str, Any]:
    """Training windows/s of the feed-forward network in its trainer (the median step), and of a bare PyTorch loop over
    the same data with the same steps.
    """
    events = all_symbols()[np.random.default_rng(0).integers(14, N_SYMBOLS, CHUNKS * CHUNK)]
    names = np.array(["random"] * CHUNKS)
    options = TabsConfig(max_steps=STEPS, per_device_train_batch_size=config.batch, **TRAINING_ALONE)
    windows = NoteWindows(Tabs("random", events, np.arange(CHUNKS + 1) * CHUNK, names, names), options.window)
    return compare_training(
        config, options, lambda: NextNoteModel(options.network()), windows, as_batch, steps=STEPS, warm=WARM
    )
