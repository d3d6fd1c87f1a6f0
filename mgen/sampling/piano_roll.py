"""Continues piano-rolls step by step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mgen.encoding.piano_roll import PITCHES
from mgen.models.baselines.piano_roll import PianoRollModel


@dataclass(frozen=True, slots=True)
class RollDecoding:
    """How the pitches of the next step are chosen, each by itself.

    Attributes:
        threshold: above 0, a pitch sounds if its probability is at least this, and nothing is drawn.
        temperature: a pitch sounds with the probability of its logit over this; 0 is a threshold of one half.
        top_k: only the k likeliest pitches of a step may sound; 0: all.
    """

    threshold: float = 0.0
    temperature: float = 1.0
    top_k: int = 0

    def choose(self, logits: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """(B, 84) bool for logits (B, 84)."""
        if self.threshold or not self.temperature:
            on = logits.sigmoid() >= (self.threshold or 0.5)
        else:
            chance = (logits / self.temperature).sigmoid()
            on = torch.rand(chance.shape, generator=generator, device=chance.device) < chance
        if 0 < self.top_k < logits.shape[-1]:
            likeliest = torch.zeros_like(on).scatter(-1, logits.topk(self.top_k).indices, True)
            on = on & likeliest
        return on


@torch.inference_mode()
def continue_rolls(model: PianoRollModel, prompt: Tensor, steps: int, decoding: RollDecoding, seed: int = 0) -> Tensor:
    """Samples the steps after a prompt.

    Args:
        prompt: (B, T, 84) bool; T may be 0. Silence precedes it, as in training.
        seed: the same one gives the same steps.

    Returns:
        (B, steps, 84) bool, without the prompt.
    """
    was_training = model.training
    model.eval()
    generator = torch.Generator(model.device).manual_seed(seed)
    step = torch.cat([prompt.new_zeros(len(prompt), 1, PITCHES), prompt], dim=1).to(model.device)
    out, state = [], None
    for _ in range(steps):
        found = model(step, state=state)
        state = found.state
        step = decoding.choose(found.logits[:, -1], generator)[:, None]
        out.append(step)
    model.train(was_training)
    return torch.cat(out, dim=1) if out else prompt[:, :0]
