"""A policy under training: sampled, read and updated by all processes together.

Each process has the whole policy and computes its share of the completions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor
from transformers import PreTrainedModel

from mgen.encoding.remi import Remi
from mgen.errors import MgenError
from mgen.rl.batch import Batch, Head, collate, completion_logprobs, read
from mgen.rl.loop_options import LoopOptions
from mgen.sampling.decoding import Decoding
from mgen.sampling.grammar import GrammarMask
from mgen.sampling.rollout import sample

Loss = Callable[[Tensor, Tensor], Tensor]
"""The mean loss of completions from their log-probabilities (R, T) and their indices (R,)."""

PartLoss = Callable[[Tensor], Tensor]
"""The mean loss of completions from their indices (R,)."""


class Learner:
    """A policy with its optimizer.

    Args:
        policy: to be trained; its dropout is switched off, so that sampler and loss read the same policy.
        options: see `LoopOptions`.
        dtype: of matrix products; None for float32.
        use_cpu: even where there is a GPU.

    Attributes:
        head: what reads log-probabilities from logits.
        longest_prompt: tokens; if given, batches are padded to one shape, which compiled models need.
    """

    def __init__(
        self,
        policy: PreTrainedModel,
        remi: Remi,
        options: LoopOptions,
        dtype: torch.dtype | None = None,
        use_cpu: bool = False,
    ) -> None:
        self.accelerator = Accelerator(cpu=use_cpu, mixed_precision="no")  # autocast is here, not in the model
        self.remi, self.options, self.dtype = remi, options, dtype
        self.device = self.accelerator.device
        optimizer = torch.optim.AdamW(policy.parameters(), options.learning_rate, betas=(0.9, 0.95), weight_decay=0.0)
        self.model, self.optimizer = self.accelerator.prepare(policy, optimizer)
        self.model.eval()
        self.grammar = GrammarMask(remi, self.device, programs=options.programs) if options.grammar else None
        self.head: Head = completion_logprobs
        self.longest_prompt: int | None = None

    @property
    def policy(self) -> PreTrainedModel:
        """The policy, without what accelerate puts around it."""
        return self.accelerator.unwrap_model(self.model)

    def sample(
        self, heads: Sequence[Sequence[int]], n: int, number: int, cold_share: float = 0.0
    ) -> tuple[Batch, float]:
        """n completions of each prompt, and the mean share of probability that the grammar removed.

        Args:
            number: of the batch, which the draws depend on.
            cold_share: of the groups, sampled at `cold_temperature`.
        """
        prompts = [list(head) for head in heads for _ in range(n)]
        temperature = torch.ones(len(prompts))
        if cold_groups := round(cold_share * len(heads)):
            chosen = np.linspace(0, len(heads) - 1, cold_groups).round().astype(int)
            temperature.view(len(heads), n)[chosen] = self.options.cold_temperature
        own = range(self.accelerator.process_index, len(prompts), self.accelerator.num_processes)
        seeds = np.random.SeedSequence([self.options.seed, 5, number]).generate_state(len(prompts)).tolist()
        rollout = sample(
            self.policy,
            [prompts[row] for row in own],
            Decoding(max_new_tokens=self.options.max_completion_length),
            self.remi.eos_id,
            self.remi.pad_id,
            dtype=self.dtype,
            temperature=temperature[list(own)],
            seeds=[seeds[row] for row in own],
            grammar=self.grammar,
        )
        removed = (rollout.removed.sum(1) / rollout.mask.sum(1)).tolist()
        rows = sorted(gather_object([*zip(own, rollout.lists()[0], removed, strict=True)]))
        batch = self.collate(prompts, [ids for _, ids, _ in rows], temperature, n)
        return batch, float(np.mean([share for *_, share in rows]))

    def collate(
        self, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]], temperature: Tensor, n: int
    ) -> Batch:
        """See `mgen.rl.batch.collate`."""
        longest = self.options.max_completion_length
        pad_to = (0, 0) if self.longest_prompt is None else (self.longest_prompt + longest, longest)
        return collate(prompts, completions, temperature, n, self.remi.pad_id, self.device, self.grammar, pad_to)

    @torch.no_grad()
    def logprobs(self, model: PreTrainedModel, batch: Batch, rows: Tensor | None = None, exact: bool = False) -> Tensor:
        """(R, T) log-probabilities under a model of all completions or of `rows` (R,); `exact`: in float32."""
        every = torch.arange(len(batch.ids), device=self.device) if rows is None else rows
        own = every[self.accelerator.process_index :: self.accelerator.num_processes]
        with self.autocast(exact):
            parts = [read(model, batch, part, self.head)[0] for part in torch.split(own, self.options.device_batch)]
        found = torch.cat(parts)
        if self.accelerator.num_processes == 1:
            return found
        shares = gather_object([(own.tolist(), found.cpu())])
        gathered = {row: values for numbers, part in shares for row, values in zip(numbers, part, strict=True)}
        return torch.stack([gathered[row] for row in every.tolist()]).to(self.device)

    def autocast(self, exact: bool = False) -> AbstractContextManager[Any]:
        """A context for a forward pass; `exact`: in float32."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None and not exact)

    def reading(self, batch: Batch, loss: Loss, grammar: bool = True) -> PartLoss:
        """The mean loss of some completions of a batch, with what the grammar adds if `grammar`, from reading them."""

        def mean(rows: Tensor) -> Tensor:
            with self.autocast():
                logprobs, allowed = read(self.model, batch, rows, self.head)
            value = loss(logprobs, rows)
            return (
                value
                if allowed is None or not grammar
                else value - self.options.grammar_weight * allowed.sum() / len(rows)
            )

        return mean

    def descend(self, rows: Tensor, loss: PartLoss) -> None:
        """One step of the optimizer on the completions `rows` (R,), none if there are fewer than processes.

        Raises:
            MgenError: As `backward`.
        """
        if len(rows) < self.accelerator.num_processes:
            return
        self.backward(rows, loss)
        self.accelerator.clip_grad_norm_(self.model.parameters(), self.options.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def backward(self, rows: Tensor, loss: PartLoss) -> None:
        """The gradient of the mean loss of the completions `rows` (R,).

        Raises:
            MgenError: The loss is not finite.
        """
        world = self.accelerator.num_processes
        own = rows.to(self.device)[self.accelerator.process_index :: world]
        parts = torch.split(own, self.options.device_batch)
        for place, part in enumerate(parts):
            last = place == len(parts) - 1
            with nullcontext() if last else self.accelerator.no_sync(self.model):
                value = loss(part)
                if not torch.isfinite(value):
                    what = "not a number" if torch.isnan(value) else "infinite"
                    raise MgenError(f"the loss is {what}; {self.slower}")
                # Processes average their gradients, so each gives its part of the sum times their number.
                self.accelerator.backward(value * (len(part) * world / len(rows)))

    def gradient(self, rows: Tensor, loss: PartLoss) -> Tensor:
        """The gradient (weights,) of the mean loss of the completions `rows` (R,), which changes nothing."""
        try:
            self.backward(rows, loss)
            return torch.cat([p.grad.flatten() for p in self.model.parameters() if p.grad is not None])
        finally:
            self.optimizer.zero_grad()

    @property
    def learning_rate(self) -> float:
        """Of the next update."""
        return float(self.optimizer.param_groups[0]["lr"])

    @learning_rate.setter
    def learning_rate(self, rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    @property
    def slower(self) -> str:
        """What to do where an update breaks the policy."""
        return f"lower learning_rate ({self.options.learning_rate:g}) or kl_step ({self.options.kl_step:g})"
