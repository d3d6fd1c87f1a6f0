"""A causal policy of `mgen pairs` as a writer of bass lines, with the interface of the networks of `drum_bass`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from mgen.arrays import Longs
from mgen.corpus.pairs import CONDITIONS
from mgen.encoding.drum_bass import BASS_PROGRAMS
from mgen.encoding.drums_then_bass import decode_bass, encode_drums, encode_pairs
from mgen.encoding.remi import Remi
from mgen.errors import MgenError
from mgen.models.transformer import context_length
from mgen.music.keys import semitones_to_c
from mgen.sampling.decoding import Decoding
from mgen.sampling.grammar import GrammarMask
from mgen.sampling.rollout import completion_logprobs, sample

LEAST_ROOM = 32  # tokens that must be left in the context for a bass line


@dataclass(frozen=True, slots=True)
class BassPolicyConfig:
    """What `mgen generate` asks of a writer of bass lines."""

    steps: int  # 16ths of a window
    conditions: tuple[str, ...] = ("key",)


class BassPolicy(nn.Module):
    """Writes bass lines with a policy, by the grammar and with the programs of a bass only.

    Args:
        policy: trained on a corpus of `mgen pairs`.
        remi: its vocabulary.
        steps: 16ths of a window, as in that corpus.

    Raises:
        MgenError: The vocabulary has no programs.
    """

    random: ClassVar[bool] = True  # gives another line at each draw

    def __init__(self, policy: PreTrainedModel, remi: Remi, steps: int = 64) -> None:
        super().__init__()
        self.policy, self.remi, self.config = policy, remi, BassPolicyConfig(steps)
        self.grammar = GrammarMask(remi, policy.device, programs=BASS_PROGRAMS)

    @property
    def device(self) -> torch.device:
        """Of the policy."""
        found: torch.device = self.policy.device
        return found

    def prompts(self, drums: Tensor) -> list[list[int]]:
        """The prompts of drum parts (B, T, 14).

        Raises:
            MgenError: A prompt leaves too little of the context.
        """
        head = [self.remi.bos_id, next(iter(self.remi.style_ids.values()))]
        rows = [[*head, *row.tolist()] for row in encode_drums(drums.cpu().numpy(), self.remi)]
        longest, context = max(map(len, rows), default=0), context_length(self.policy.config)
        if longest + LEAST_ROOM > context:
            raise MgenError(
                f"a drum part of {longest} tokens leaves no room for a bass in the policy's context ({context}); train "
                "one with a longer context"
            )
        return rows

    def complete(self, drums: Tensor, temperature: float = 1.0) -> tuple[list[list[int]], list[list[int]]]:
        """Prompts of drum parts (B, T, 14), and a completion of each by the generator of torch."""
        prompts = self.prompts(drums)
        context = context_length(self.policy.config)
        completions: list[list[int]] = [[]] * len(prompts)
        # Together those of similar length: the longest prompt of a batch leaves the least room for all of it.
        size = [-(-len(prompt) // LEAST_ROOM) * LEAST_ROOM for prompt in prompts]
        for longest in sorted(set(size)):
            rows = [row for row, own in enumerate(size) if own == longest]
            room = context - max(len(prompts[row]) for row in rows)
            decoding = Decoding(max_new_tokens=room, temperature=temperature)
            ends = self.remi.eos_id, self.remi.pad_id
            heads = [prompts[row] for row in rows]
            found = sample(self.policy, heads, decoding, *ends, grammar=self.grammar).lists()[0]
            for row, completion in zip(rows, found, strict=True):
                completions[row] = completion
        return prompts, completions

    def draw(self, drums: Tensor, conditions: Tensor, temperature: float) -> Tensor:
        """(B, T) a bass line for each drum part, as `DrumBassModel.draw`."""
        prompts, completions = self.complete(drums, temperature)
        return torch.from_numpy(decode_bass(prompts, completions, _semitones(conditions), self.config.steps, self.remi))

    def nats(self, drums: Tensor, conditions: Tensor, labels: Tensor) -> Tensor:
        """(B,) negative log-likelihood of the true bass and its end; as `DrumBassModel.nats`."""
        prompts = self.prompts(drums)
        rows, given = encode_pairs(
            drums.cpu().numpy(), labels.cpu().numpy().astype(np.uint8), _semitones(conditions), self.remi
        )
        found = []
        for prompt, row, count in zip(prompts, rows, given.tolist(), strict=True):
            bass = [*self.remi.merge(row[count:]).tolist(), self.remi.eos_id]
            ids = torch.tensor([[*prompt, *bass]], device=self.device)
            found.append(-completion_logprobs(self.policy, ids, len(bass)).sum())
        return torch.stack(found)


def _semitones(conditions: Tensor) -> Longs:
    """(B,) that move the keys of conditions (B, 4) to C major or A minor."""
    return semitones_to_c(conditions[:, CONDITIONS.index("key")].cpu().numpy().astype(np.int64))
