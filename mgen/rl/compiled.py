"""Compiled reading of log-probabilities during a run of the loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from transformers import PreTrainedModel

from mgen.models.compiled_layers import CompiledLayers
from mgen.rl.batch import Head, completion_logprobs
from mgen.speed import first_line

MULTIPLE = 16  # the length of compiled batches is a multiple of it


@contextmanager
def compiled_reading(
    models: Sequence[PreTrainedModel], trial: Callable[[Head], None], warn: Callable[[str], None]
) -> Iterator[Head]:
    """Compiles models in place, and `completion_logprobs`, for the shapes that `trial` reads; others stay eager.

    Args:
        trial: reads each model once, with the head that it is given, in every way and shape that the run will.
        warn: takes one line about the time of compiling, or about its failure, after which all is eager.

    Yields:
        The head to be read with.
    """
    began = time.monotonic()
    layers = [CompiledLayers(model) for model in models]
    head: Head = torch.compile(completion_logprobs, dynamic=False)

    def undo() -> None:
        while layers:
            layers.pop().undo()

    try:
        trial(head)
        warn(f"compiled in {time.monotonic() - began:.0f} s; the next run reads it from the cache")
    except Exception as error:  # whatever stops the compiler; an error of the reading itself comes again in the run
        undo()
        head = completion_logprobs
        warn(f"compiling failed, the run goes on without: {first_line(error)}")
    torch.compiler.set_stance("eager_on_recompile")
    try:
        yield head
    finally:
        torch.compiler.set_stance("default")
        undo()
