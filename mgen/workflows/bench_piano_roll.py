"""The figure of `mgen bench piano_roll`: training steps of `mgen baseline piano-roll`."""

from __future__ import annotations

from typing import Any

import numpy as np

from mgen.corpus.roll_windows import Rolls, RollWindows, as_batch
from mgen.encoding.piano_roll import PITCHES
from mgen.models.baselines.piano_roll import PianoRollModel
from mgen.workflows.baseline_piano_roll import RollConfig
from mgen.workflows.bench_measure import BenchConfig
from mgen.workflows.bench_training import TRAINING_ALONE, compare_training

PIECES, PIECE, DENSITY = 40, 4000, 0.035  # random rolls: number, steps of each, share of sounding cells
STEPS, WARM = 15, 5  # those before the clock starts are part of the steps


def bench_piano_roll(config: BenchConfig) -> dict[str, Any]:
    """Training windows/s of the network in its trainer (the median step), and of a bare PyTorch loop over the same data
    with the same steps.
    """
    cells = np.random.default_rng(0).random((PIECES * (PIECE + 1), PITCHES), np.float32) < DENSITY
    rolls = Rolls(np.packbits(cells, axis=1), np.arange(PIECES + 1) * (PIECE + 1), np.array(["random"] * PIECES))
    options = RollConfig(max_steps=STEPS, per_device_train_batch_size=config.batch, **TRAINING_ALONE)
    windows = RollWindows(rolls, options.window, options.window // 2)
    network = lambda: PianoRollModel(options.network())  # noqa: E731
    return compare_training(config, options, network, windows, as_batch, steps=STEPS, warm=WARM, weight_decay=0.0)
