"""The tempos of a piece as text, `STEP:TEMPO STEP:TEMPO`: the column `tempo_map` of pieces.parquet."""

from __future__ import annotations

import numpy as np
from symusic import core

from mgen.arrays import Floats, Longs
from mgen.notes import STEPS_PER_QUARTER

DEFAULT_TEMPO = 120.0  # quarters per minute, of a file that states none


def write_tempo_map(score: core.ScoreTick, shift: int = 0, last: int | None = None) -> str:
    """Writes the changes of tempo.

    Args:
        shift: grid steps before the step that is 0 in the text.
        last: changes after this step are left out; None: none is.

    Returns:
        `STEP:TEMPO` for each change, in grid steps and quarters per minute, the first at step 0.
    """
    tempos = score.tempos.numpy()
    order = np.argsort(tempos["time"], kind="stable")
    step = np.rint(tempos["time"][order] * (STEPS_PER_QUARTER / score.ticks_per_quarter)).astype(np.int64) - shift
    in_force = {0: DEFAULT_TEMPO}
    for at, mspq in zip(step.tolist(), tempos["mspq"][order].tolist(), strict=True):
        if last is None or at <= last:
            in_force[max(at, 0)] = round(6e7 / mspq, 2)
    words, before = [], 0.0
    for at, tempo in in_force.items():
        if tempo != before:
            words.append(f"{at}:{tempo:g}")
        before = tempo
    return " ".join(words)


def read_tempo_map(text: str) -> tuple[Longs, Floats]:
    """(K,) grid steps, rising from 0, and (K,) tempos that hold from there, in quarters per minute.

    Raises:
        ValueError: The text is no tempo map.
    """
    pairs = [word.split(":") for word in text.split()]
    steps = np.array([int(step) for step, _ in pairs], np.int64)
    if not len(steps) or steps[0] != 0 or (np.diff(steps) <= 0).any():
        raise ValueError(f"expected STEP:TEMPO from step 0 upwards, found '{text:.40}'")
    return steps, np.array([float(tempo) for _, tempo in pairs])
