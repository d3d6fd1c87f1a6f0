"""Training steps of a compiled model, for batches of one shape; evaluation and every other shape run eagerly."""

from __future__ import annotations

import time
from typing import Any

import torch

from mgen.models.compiled_layers import CompiledLayers
from mgen.progress import Progress
from mgen.speed import Speed, first_line


class CompiledSteps:
    """Mixin of `Trainer`: training steps are compiled at the first, and eager where that fails.

    Attributes:
        speed: whether to compile.
        progress: takes one line about the time of compiling, or about its failure.
    """

    speed: Speed
    progress: Progress
    model: Any  # of `Trainer`
    _layers: CompiledLayers | None = None

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Trains as `Trainer.train`, and leaves the model eager."""
        try:
            return super().train(*args, **kwargs)  # type: ignore[misc]
        finally:
            torch.compiler.set_stance("default")
            if self._layers is not None:
                self._layers.undo()
                self._layers = None

    def training_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """A step as `Trainer.training_step`; the first one compiles."""
        step = super().training_step  # type: ignore[misc]
        if not self.speed.compiled or self._layers is not None:
            return step(model, inputs, *args, **kwargs)
        began = time.monotonic()
        self._layers = CompiledLayers(self.model)
        try:
            loss = step(model, dict(inputs), *args, **kwargs)
            self.progress(f"compiled in {time.monotonic() - began:.0f} s; the next run reads it from the cache")
        except Exception as error:  # whatever stops the compiler; an error of the step itself is raised again below
            self._layers.undo()
            self._layers, self.speed = None, Speed(self.speed.dtype, False, self.speed.reason)
            self.progress(f"compiling failed, training goes on without: {first_line(error)}")
            self.model.zero_grad()
            return step(model, inputs, *args, **kwargs)
        torch.compiler.set_stance("eager_on_recompile")
        return loss
