"""What the figures of `mgen bench` share: options, alternating measurements, rates of this machine, bounds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from mgen.corpus.clean import normalise
from mgen.corpus.demo import COLLECTIONS, compose
from mgen.corpus.shards import TokenTable
from mgen.encoding.remi import Remi
from mgen.models.transformer import SIZES
from mgen.notes import Notes
from mgen.options import option
from mgen.progress import Progress, counted, silent
from mgen.speed import SPEED_HELP, SPEEDS

PROGRESS: ContextVar[Progress] = ContextVar("progress of a figure", default=silent)

_SIDE = {"cpu": 1024, "cuda": 8192}  # of the square matrices whose product is measured


@dataclass
class BenchConfig:
    """Options of `mgen bench`."""

    size: str = option("tiny", "Size of the model, for the figures with a model.", words=tuple(SIZES))
    architecture: str = option(
        "llama", "pretrain and rollout: llama, or lstm next to a plain `nn.LSTM`.", words=("llama", "lstm")
    )
    context: int = option(512, "Tokens per sequence.", least=8)
    batch: int = option(
        0,
        "Sequences or completions per batch; 0: 256 for rollout, rl and evaluate, 4096 for next_note, 32 for "
        "piano_roll, otherwise 16.",
        least=0,
    )
    repeats: int = option(
        0,
        "Measurements of each side, alternately; medians are reported. 0: 1 to 5, by figure.",
        least=0,
    )
    speed: str = option("auto", f"Of ours. {SPEED_HELP}", words=SPEEDS)
    velocity: bool = option(False, "Velocity tokens in the vocabulary.")
    merges: int = option(0, "Merged tokens in the vocabulary, learned from the embedded corpus.", least=0)
    files: int = option(200, "About the largest number of files to read, for the figures on music files.", least=1)
    source: str = option("", "Folder of music files for them; default: the embedded corpus.")


def vocabulary(config: BenchConfig) -> Remi:
    """The vocabulary of all figures."""
    remi = Remi.build(sorted({collection.style for collection in COLLECTIONS.values()}), velocity=config.velocity)
    if not config.merges:
        return remi
    table = demo_table(remi)
    return remi.learn_merges([table[row] for row in range(len(table))], config.merges)


def demo_table(remi: Remi, works: int = 12) -> TokenTable:
    """Tokens of the embedded corpus, in memory."""
    pieces, styles = [], []
    for name, collection in COLLECTIONS.items():
        for index in range(works):
            pieces.append(remi.encode(normalise(compose(name, index), "piano"))[0])
            styles.append(collection.style)
    offsets = np.cumsum([0] + [len(piece) for piece in pieces])
    return TokenTable(np.concatenate(pieces).astype(np.uint16), offsets, pd.DataFrame({"style": styles}))


def tokens_per_note(table: TokenTable, remi: Remi) -> float:
    """Mean number of tokens of a note."""
    rows = [table[row] for row in range(len(table))]
    return sum(map(len, rows)) / len(Notes.from_ids(rows, remi))


def compare(
    what: str, ours: Callable[[], float], reference: Callable[[], float], repeats: int, limit: float | None = None
) -> dict[str, Any]:
    """Measures two speeds alternately.

    Returns:
        Their medians, the median of the ratio of each pair, and the limit if there is one.
    """
    pairs = [(ours(), reference()) for _ in counted(PROGRESS.get(), "pairs of measurements", range(repeats))]
    first, second = (statistics.median(speeds) for speeds in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    return {"what": what, "ours": first, "rival": second, "ratio": ratio} | ({} if limit is None else {"limit": limit})


def per_second(count: float, run: Callable[[], object]) -> float:
    """Times a call once; returns how many of the `count` things that it handles are handled per second."""
    began = time.perf_counter()
    run()
    wait()
    return count / (time.perf_counter() - began)


def wait() -> None:
    """Waits for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def device() -> str:
    """`cuda` if there is a GPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def machine() -> dict[str, Any]:
    """Measures the rates of matrix products, in GFLOP/s: the best of several products of large square matrices."""
    rates = {name: round(_matmul_rate(kind) / 1e9, 1) for name, kind in _PRECISIONS.items()}
    return {"device": device(), "threads": torch.get_num_threads()} | {f"{k}_gflops": rate for k, rate in rates.items()}


_PRECISIONS = {"bf16": torch.bfloat16, "float32": torch.float32}


def _matmul_rate(dtype: torch.dtype) -> float:
    side = _SIDE[device()]
    a, b = torch.randn(2, side, side, device=device()).to(dtype)
    a @ b
    return max(per_second(2.0 * side**3, lambda: a @ b) for _ in range(8))


def with_bound(result: dict[str, Any], rates: dict[str, Any]) -> dict[str, Any]:
    """Adds the machine, and the bound of a figure that states its operations and precision.

    `bound` is the speed at which the matrix products of the weights alone would run at the measured rate;
    `share_of_bound` is the share of it that ours reaches. Attention, normalisation and memory traffic come on top.
    """
    result = result | {"machine": rates}
    if "operations" not in result:
        return result
    bound = 1e9 * rates[f"{result['precision']}_gflops"] / result["operations"]
    return result | {"bound": bound, "share_of_bound": result["ours"] / bound}
