"""Compiled reading of log-probabilities during a run of the loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from accelerate.utils import gather_object
from transformers import PreTrainedModel

from mgen.models.compiled_layers import CompiledLayers
from mgen.rl.batch import completion_logprobs
from mgen.rl.learner import Learner
from mgen.speed import first_line


@contextmanager
def compiled_reading(
    learner: Learner,
    reference: PreTrainedModel,
    longest_prompt: int,
    trial: Callable[[], None],
    warn: Callable[[str], None],
) -> Iterator[None]:
    """Compiles the layers of policy and reference, and `completion_logprobs`, for the shapes that `trial` reads.

    Every other shape stays eager. Where compiling fails on a process, all go on without.

    Args:
        longest_prompt: tokens; batches are padded to one shape.
        trial: reads both models once as a step does.
        warn: takes one line about the time of compiling, or about its failure.
    """
    began = time.monotonic()
    layers: list[CompiledLayers] = []

    def undo() -> None:
        learner.head, learner.longest_prompt = completion_logprobs, None
        while layers:
            layers.pop().undo()

    try:
        problem = ""
        try:
            layers += [CompiledLayers(learner.policy)]
            layers += [CompiledLayers(reference)]
            learner.head = torch.compile(completion_logprobs, dynamic=False)
            learner.longest_prompt = longest_prompt
            trial()
        except Exception as error:  # whatever stops the compiler; an error of the reading itself comes again in the run
            problem = first_line(error)
        problems = [line for line in gather_object([problem]) if line]
        if problems:
            undo()
            warn(f"compiling failed, the run goes on without: {problems[0]}")
        else:
            warn(f"compiled in {time.monotonic() - began:.0f} s; the next run reads it from the cache")
        torch.compiler.set_stance("eager_on_recompile")
        yield
    finally:
        torch.compiler.set_stance("default")
        undo()
