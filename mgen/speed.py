"""Precision and compilation that pay on this machine: the choice behind the option `speed` of the commands.

`plain` is float32, eager, and changes nothing. `auto` is bf16 autocast where the device multiplies bf16 matrices faster
than float32 ones, and compiled where there is enough work and a compiler that works. What is missing costs speed and a
few words in `Speed.reason`, never an error.
"""

from __future__ import annotations

import functools
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from mgen.options import option

SPEEDS = ("auto", "plain")
SPEED_HELP = "auto: bf16 where the machine has units for it, compiled where that pays; plain: float32, eager."
# Eager bf16 training runs at about 8e10 operations/s per core (measured, 3 M weights; half of it with 1 M). Compiling
# takes about 20 s, 4 s from the cache, and saves a quarter of what follows, so it pays from a minute of work on.
WORTH_COMPILING = 60 * 8e10  # operations per thread
BF16_UNITS = {"AMX-BF16": "_is_amx_tile_supported", "AVX512-BF16": "_is_avx512_bf16_supported"}  # tests of torch.cpu


@dataclass(frozen=True, slots=True)
class Speed:
    """How the networks of a command run."""

    dtype: torch.dtype | None  # of autocast; None for float32
    compiled: bool
    reason: str  # one line for the log: the choice and why

    @property
    def bf16(self) -> bool:
        return self.dtype is torch.bfloat16

    def autocast(self, device: torch.device | str) -> AbstractContextManager[Any]:
        """A context in which the matrix products of a forward pass on `device` have this precision."""
        if self.dtype is None:
            return nullcontext()
        return torch.autocast(torch.device(device).type, self.dtype)


@dataclass
class SpeedOptions:
    """Options of commands that train, next to those of `transformers.TrainingArguments`."""

    speed: str = option("auto", SPEED_HELP, words=SPEEDS)
    bf16: bool | None = option(None, "Autocast to bf16; by default as speed chooses.")
    use_cpu: bool = option(False, "As in transformers.")

    def set_precision(self) -> None:
        """Sets what `TrainingArguments` have for it."""
        if self.bf16 is None:
            self.bf16 = choose_speed(self.speed, self._device).bf16
        self.use_cpu |= self.bf16 and self._device == "cpu"  # or transformers takes bf16 on a CPU for an accident

    def chosen_speed(self, work: float = 0.0) -> Speed:
        """As `choose_speed`, in the precision that was set."""
        speed = choose_speed(self.speed, self._device, work)
        if self.bf16 == speed.bf16:
            return speed
        precision = "bf16 autocast" if self.bf16 else "float32"
        reason = f"speed: {precision}, {'compiled' if speed.compiled else 'eager'} (bf16 {str(self.bf16).lower()})"
        return Speed(torch.bfloat16 if self.bf16 else None, speed.compiled, reason)

    @property
    def _device(self) -> str:
        return "cuda" if torch.cuda.is_available() and not self.use_cpu else "cpu"


PLAIN = Speed(None, False, "speed: float32, eager (plain)")


def choose_speed(speed: str, device: torch.device | str, work: float = 0.0) -> Speed:
    """Chooses precision and compilation for a device.

    Args:
        speed: one of `SPEEDS`.
        work: floating-point operations expected of what could be compiled: 6 x weights x tokens in training, 2 x
            weights x tokens without gradients. A CPU compiles from `WORTH_COMPILING` on, a GPU for any but 0.
    """
    device = torch.device(device)
    if speed == "plain":
        return PLAIN
    units = _cuda_units() if device.type == "cuda" else _cpu_units() if device.type == "cpu" else ""
    dtype = torch.bfloat16 if units else None
    precision = "bf16 autocast" if units else "float32"
    why = [units or "no faster bf16"]
    compiled = False
    if work and device.type in ("cpu", "cuda"):
        enough = device.type == "cuda" or work / torch.get_num_threads() >= WORTH_COMPILING
        problem = compile_problem(device.type) if enough else "too short to pay for compiling"
        compiled = not problem
        why += [problem] if problem else []
    return Speed(dtype, compiled, f"speed: {precision}, {'compiled' if compiled else 'eager'} ({'; '.join(why)})")


def _cuda_units() -> str:
    return "GPU" if torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False) else ""


@functools.cache
def _cpu_units() -> str:
    """Name of the bf16 units of the processor; empty if it has none, or if they do not multiply faster than float32."""
    found = [name for name, has in BF16_UNITS.items() if getattr(torch.cpu, has, bool)()]
    return found[0] if found and bf16_is_faster() else ""


def bf16_is_faster() -> bool:
    """Measures on one core whether a matrix product is faster in bf16 than in float32: an emulated one is slower.

    Takes about 20 ms; counts processor time, so that other processes do not change the answer.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        wide = torch.ones(512, 512)
        return product_seconds(wide.bfloat16()) < product_seconds(wide)
    finally:
        torch.set_num_threads(threads)


def product_seconds(matrix: torch.Tensor) -> float:
    """Processor seconds of this thread for the product of a matrix (N, N) with itself: the least of four."""
    seconds = []
    for _ in range(4):
        begin = time.thread_time()
        matrix @ matrix
        seconds.append(time.thread_time() - begin)
    return min(seconds)


@functools.cache
def compile_problem(device_type: str) -> str:
    """Compiles a function of one line; what went wrong in a few words, or an empty text.

    A compiler may be missing or fail, Python's headers may be missing, or the cache folder may be read-only.
    """
    try:
        torch.compile(lambda x: x.sin() + x.cos())(torch.ones(8, device=device_type))
    except Exception as error:  # whatever stops the compiler is a reason to do without
        return f"torch.compile fails: {first_line(error)}"
    return ""


def first_line(error: Exception) -> str:
    """The first line of an error that says something, cut to 100 characters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:100]
