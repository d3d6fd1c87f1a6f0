"""What a run does before its first step: supervised phases, and a first reading that compiles."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from mgen.arrays import Floats
from mgen.rl.batch import Batch, completion_logits
from mgen.rl.distillation import best_rows, guided_loss, likelihood_loss
from mgen.rl.learner import Learner
from mgen.rl.prompt_mix import PromptMix
from mgen.rl.update import minibatches
from mgen.sampling.systems import without_style

DISTILLED = 32  # completions per update
BEST_OF_N, GUIDED = 1_000_000, 2_000_000  # numbers of their first batches of prompts: no step has them


def distil(learner: Learner, prompts: PromptMix, total: Callable[[Batch], Floats]) -> str:
    """Trains once on the best of several completions of each prompt.

    Args:
        total: the weighted sum (B,) of the judges' scores of completions.

    Returns:
        One line for the log.
    """
    options = learner.options
    count, n = options.distil_prompts, options.distil_of
    heads, completions, gained = [], [], []
    at_once = max(options.completions // n, 1)
    for begin in range(0, count, at_once):
        some, _ = prompts.batch(min(at_once, count - begin), BEST_OF_N + begin)
        batch, _ = learner.sample(some, n, BEST_OF_N + begin)
        score = total(batch)
        best = best_rows(score, n)
        gained.append(score[best].mean() - score.mean())
        heads += some
        completions += [batch.completions[row] for row in best]
    batch = learner.collate(heads, completions, torch.ones(count), 1)
    loss = learner.reading(batch, lambda logprobs, part: likelihood_loss(logprobs, batch.mask[part]))
    for rows in minibatches(count, DISTILLED, 1, options.seed):
        learner.descend(rows, loss)
    return f"first phase: the best of {n} after {count} prompts, {np.mean(gained):.2f} nats above the mean"


def guide(learner: Learner, prompts: PromptMix, reference: PreTrainedModel) -> str:
    """Moves the policy towards the reference under classifier-free guidance, on the policy's own completions.

    Returns:
        One line for the log.

    Raises:
        MgenError: A prompt has no style token.
    """
    options = learner.options
    losses: list[float] = []
    for begin in range(0, options.guided_prompts, options.completions):
        count = min(options.completions, options.guided_prompts - begin)
        heads, _ = prompts.batch(count, GUIDED + begin)
        batch, _ = learner.sample(heads, 1, GUIDED + begin)
        bare_heads = [without_style(head, learner.remi) for head in heads]
        bare = learner.collate(bare_heads, batch.completions, batch.temperature, 1)

        def loss(rows: Tensor, batch: Batch = batch, bare: Batch = bare) -> Tensor:
            with learner.autocast():
                own, allowed = completion_logits(learner.model, batch, rows)
                with torch.no_grad():
                    styled, unstyled = (completion_logits(reference, one, rows)[0] for one in (batch, bare))
            value = guided_loss(own, styled, unstyled, options.guided_weight, batch.mask[rows])
            losses.append(float(value.detach()))
            return value if allowed is None else value - options.grammar_weight * allowed.sum() / len(rows)

        for some in minibatches(count, DISTILLED, 1, options.seed):
            learner.descend(some, loss)
    quarter = max(len(losses) // 4, 1)
    before, after = (float(np.mean(part)) for part in (losses[:quarter], losses[-quarter:]))
    return f"first phase: KL to the start under guidance {before:.2f} -> {after:.2f} nats"


def read_once(learner: Learner, reference: PreTrainedModel, heads: Sequence[Sequence[int]]) -> None:
    """Reads policy and reference in the shapes of a step, with and without gradient, so that this is compiled.

    Args:
        heads: prompts of a step.
    """
    options = learner.options
    temperature = options.cold_temperature if options.cold_share else 1.0

    def batch(most: int) -> Batch:
        count = min(options.device_batch * learner.accelerator.num_processes, most)
        rows = [heads[number % len(heads)] for number in range(count)]
        return learner.collate(rows, [[learner.remi.eos_id]] * count, torch.full((count,), temperature), 1)

    for model in (learner.policy, reference):
        learner.logprobs(model, batch(options.completions))
    some = batch(options.minibatch or options.completions)
    zero = learner.reading(some, lambda logprobs, part: 0.0 * logprobs.sum())
    learner.gradient(torch.arange(len(some.ids)), zero)
