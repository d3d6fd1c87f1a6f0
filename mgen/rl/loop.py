"""Policy gradient under judges.

A step: draw prompts, sample, judge, advantages, update, steer, average, discriminator. Between steps: guard.

How it differs from GRPO as published: judges that can judge beginnings reward the tokens that close bars; KL is
subtracted token by token in the return, so that future KL counts; nothing is divided by a deviation or a length, so
judges and KL stay in nats; the learning rate follows the measured KL of a step. `mgen grpo` is GRPO as published.

Sampling, log-probabilities and gradients are divided among processes; each process gets all completions, judges them
and trains the same discriminator, so nothing of that has to be synchronised. Every draw depends on the seed and the
number of the step alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor
from transformers import PreTrainedModel, TrainerCallback, TrainingArguments
from transformers.integrations import get_reporting_integration_callbacks
from transformers.trainer_callback import CallbackHandler, DefaultFlowCallback, TrainerControl, TrainerState

from mgen.encoding.remi import Kind, Remi
from mgen.errors import MgenError
from mgen.judgement import Judge
from mgen.notes import Notes
from mgen.rl.advantages import Quantile, Scored, quantile_scores, token_advantages
from mgen.rl.batch import Batch, Head, collate, completion_logits, completion_logprobs, read
from mgen.rl.compiled import MULTIPLE, compiled_reading
from mgen.rl.discriminator import DiscriminatorTrainer, check_weights
from mgen.rl.distillation import best_rows, guided_loss, likelihood_loss
from mgen.rl.guard import Guard, describe, is_best, only_worse
from mgen.rl.kl import KlBudget
from mgen.rl.loop_options import LoopOptions
from mgen.rl.problems import EQUAL, Step, never_differed, new_problems
from mgen.rl.prompt_mix import PromptMix
from mgen.rl.state import load_state, save_state
from mgen.rl.step_metrics import step_metrics
from mgen.rl.update import (
    Weights,
    average_weights,
    clipped_loss,
    copy_weights,
    kl_between,
    minibatches,
    set_weights,
    signal_to_noise,
    steered,
)
from mgen.runs.checkpoints import stopped
from mgen.runs.divergence import divergence, weight_norm
from mgen.sampling.decoding import Decoding
from mgen.sampling.grammar import GrammarMask
from mgen.sampling.rollout import sample
from mgen.sampling.systems import without_style

DISTILLED = 32  # completions per update of the first phase
PROBE = 32  # completions on which the KL of a step is measured
FIRST_PHASE = 1_000_000  # number of its first batch: no step has it

Loss = Callable[[Tensor, Tensor], Tensor]
"""The mean loss of completions from their log-probabilities (R, T) and their indices (R,)."""

PartLoss = Callable[[Tensor], Tensor]
"""The mean loss of completions from their indices (R,)."""


class PolicyGradient:
    """The loop.

    Args:
        policy: to be trained; its dropout is switched off.
        reference: the frozen policy that KL is measured from.
        judges, weights: by name.
        prompts: what is continued, drawn for each step.
        options: see `LoopOptions`.
        args: of transformers, for what follows a run (output folder, trackers).
        discriminator: trains the judges that are trained during the run, after each batch has been judged.
        quantile: the quantile reward of the weighted sum of the scores in place of the sum.
        guard: checks the policy on held-out prompts every `guard_steps` steps; the weights with the least evidence are
            kept.
        warn: takes a line about a problem or a check; called on the main process only.
        compiled: compile what reads log-probabilities; batches are padded to one shape.

    Raises:
        ValueError: The weights of the discriminator and of KL do not fit (`mgen.rl.discriminator.check_weights`).
    """

    def __init__(
        self,
        policy: PreTrainedModel,
        reference: PreTrainedModel,
        remi: Remi,
        judges: Mapping[str, Judge],
        weights: Mapping[str, float],
        prompts: PromptMix,
        options: LoopOptions,
        args: TrainingArguments,
        discriminator: DiscriminatorTrainer | None = None,
        quantile: Quantile | None = None,
        guard: Guard | None = None,
        guard_steps: int = 10,
        warn: Callable[[str], None] = lambda line: None,
        compiled: bool = False,
    ) -> None:
        trained = sum(weights[name] for name in (discriminator.discriminators if discriminator else ()))
        if discriminator is not None and trained and quantile is None:
            check_weights(discriminator.against, trained, options.kl_weight)
        self.accelerator = Accelerator(cpu=args.use_cpu, mixed_precision="no")  # autocast is here, not in the model
        self.remi, self.judges, self.weights, self.prompts = remi, dict(judges), dict(weights), prompts
        self.options, self.args, self.discriminator, self.quantile = options, args, discriminator, quantile
        self.guard, self.guard_steps, self.warn = guard, guard_steps, warn
        self.compiled, self.head = compiled, completion_logprobs
        self.device, self.dtype = self.accelerator.device, torch.bfloat16 if args.bf16 else None
        optimizer = torch.optim.AdamW(policy.parameters(), options.learning_rate, betas=(0.9, 0.95), weight_decay=0.0)
        self.model, self.optimizer = self.accelerator.prepare(policy, optimizer)
        self.model.eval()  # no dropout: sampler and loss read the same policy
        self.reference = reference.to(self.device).eval().requires_grad_(False)
        self.average = copy_weights(self.policy)
        self.best: Weights | None = None  # weights that the guard keeps
        self.budget = KlBudget(
            options.kl_weight, {"continuation": options.kl_continuation, "transfer": options.kl_transfer}
        )
        self.grammar = GrammarMask(remi, self.device) if options.grammar else None
        self.closes_bar = remi.count_in(Kind.BAR) > 0  # (V,)
        main = self.accelerator.is_main_process
        self.state = TrainerState(
            max_steps=options.max_steps, is_world_process_zero=main, is_local_process_zero=main, log_history=[]
        )
        self.control = TrainerControl()
        self.callbacks = CallbackHandler(
            [DefaultFlowCallback, *get_reporting_integration_callbacks(args.report_to)],
            self.policy,
            None,
            self.optimizer,
            None,
        )
        self.seconds: dict[str, float] = {}  # of the parts of the present step

    @property
    def policy(self) -> PreTrainedModel:
        """The policy, without what accelerate puts around it."""
        return self.accelerator.unwrap_model(self.model)

    def add_callback(self, callback: TrainerCallback | type[TrainerCallback]) -> None:
        """As `Trainer.add_callback`."""
        self.callbacks.add_callback(callback)

    def pop_callback(self, callback: TrainerCallback | type[TrainerCallback]) -> TrainerCallback | None:
        """As `Trainer.pop_callback`."""
        return self.callbacks.pop_callback(callback)

    # ------------------------------------------------------------ the loop

    def train(self, resume_from_checkpoint: str | None = None) -> None:
        """Trains until `max_steps`, or an earlier end that is reported.

        Raises:
            MgenError: A judge or the discriminator fails, the loss is not finite, a step broke the weights, or rewards
                never differ; the line names the last good checkpoint.
        """
        if not self.compiled:
            return self._train(resume_from_checkpoint)
        with compiled_reading([self.policy, self.reference], self._trial, self._say) as self.head:
            self._train(resume_from_checkpoint)

    def _train(self, resume_from_checkpoint: str | None) -> None:
        start = weight_norm(self.policy.parameters())
        if resume_from_checkpoint is not None:
            load_state(self, Path(resume_from_checkpoint))
        self.callbacks.on_train_begin(self.args, self.state, self.control)
        if not self.state.global_step:
            self._guide()
            self._distil()
            self._check_guard()
        while self.state.global_step < self.options.max_steps and not self.control.should_training_stop:
            try:
                metrics = self._step()
            except MgenError as error:
                raise self._stopped(str(error), "the same command resumes there") from error
            self.state.global_step += 1
            if problem := divergence(weight_norm(self.policy.parameters()), start):
                raise self._stopped(f"{problem} after this step", self._slower, self.state.global_step)
            self._log(metrics)
            self._check_guard()
            self._watch()
            self.callbacks.on_step_end(self.args, self.state, self.control)
            last = self.state.global_step == self.options.max_steps or self.control.should_training_stop
            if last or self.state.global_step % self.options.save_steps == 0:
                save_state(self)
                self.callbacks.on_save(self.args, self.state, self.control)
        set_weights(self.policy, self.best or self.average)
        self.callbacks.on_train_end(self.args, self.state, self.control)

    def _step(self) -> dict[str, float]:
        """One step; returns its metrics."""
        number, began, self.seconds = self.state.global_step, time.perf_counter(), {}
        heads, types = self.prompts.batch(self.options.completions // self.options.num_generations, number)
        batch, removed = self._sample(heads, self.options.num_generations, number, cold=True)
        types = [one for one in types for _ in range(self.options.num_generations)]
        scored = self._judge(batch)
        before, log_ratio = self._compare_with_reference(batch)
        parts = self._advantages(batch, scored, types, log_ratio)
        advantages = torch.stack(list(parts.values())).sum(0)
        metrics = step_metrics(self.judges, self.weights, batch, scored, log_ratio, parts, self.steps)
        metrics |= {"grammar/removed": removed} if self.grammar is not None else {}
        if not number:
            self._first_look(batch, advantages, before, metrics)
        growth = self._update(batch, advantages, before)
        metrics |= self._steer(growth, types, log_ratio, batch.warm)
        average_weights(self.average, self.policy, self.options.average)
        metrics |= self._train_discriminator(scored.notes, batch.warm)
        self._count("step", began)
        return metrics | {f"seconds/{part}": seconds for part, seconds in self.seconds.items()}

    # ----------------------------------------------------- parts of a step

    def _sample(self, heads: Sequence[Sequence[int]], n: int, number: int, cold: bool = False) -> tuple[Batch, float]:
        """n completions of each prompt, sampled by all processes together, and the mean share the grammar removed."""
        began = time.perf_counter()
        prompts = [list(head) for head in heads for _ in range(n)]
        temperature = torch.ones(len(prompts))
        cold_groups = round(self.options.cold_share * len(heads)) if cold else 0
        if cold_groups:
            chosen = np.linspace(0, len(heads) - 1, cold_groups).round().astype(int)
            temperature.view(len(heads), n)[chosen] = self.options.cold_temperature
        own = range(self.accelerator.process_index, len(prompts), self.accelerator.num_processes)
        seeds = np.random.SeedSequence([self.options.seed, 5, number]).generate_state(len(prompts)).tolist()
        decoding = Decoding(max_new_tokens=self.options.max_completion_length)
        rollout = sample(
            self.policy,
            [prompts[row] for row in own],
            decoding,
            self.remi.eos_id,
            self.remi.pad_id,
            dtype=self.dtype,
            temperature=temperature[list(own)],
            seeds=[seeds[row] for row in own],
            grammar=self.grammar,
        )
        removed = (rollout.removed.sum(1) / rollout.mask.sum(1)).tolist()
        rows = sorted(gather_object([*zip(own, rollout.lists()[0], removed, strict=True)]))
        batch = self._collate(prompts, [ids for _, ids, _ in rows], temperature, n)
        self._count("sample", began)
        return batch, float(np.mean([share for *_, share in rows]))

    def _collate(
        self, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]], temperature: Tensor, n: int
    ) -> Batch:
        longest = self.options.max_completion_length
        length = -(-(max(map(len, prompts)) + longest) // MULTIPLE) * MULTIPLE
        pad_to = (length, longest) if self.compiled else (0, 0)
        return collate(prompts, completions, temperature, n, self.remi.pad_id, self.device, self.grammar, pad_to)

    def _judge(self, batch: Batch) -> Scored:
        """The scores of all judges."""
        began = time.perf_counter()
        scored = Scored.by(self.judges, Notes.from_completions(batch.prompts, batch.completions, self.remi))
        self._count("judge", began)
        return scored

    def _compare_with_reference(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """(B, T) log-probabilities under the policy that sampled, and their differences to those of the reference."""
        began = time.perf_counter()
        policy = self._logprobs(self.policy, batch)
        log_ratio = policy - self._logprobs(self.reference, batch)
        self._count("logprobs", began)
        return policy, log_ratio

    @torch.no_grad()
    def _logprobs(
        self, model: PreTrainedModel, batch: Batch, rows: Tensor | None = None, exact: bool = False
    ) -> Tensor:
        """(R, T) of all completions or of some, computed by all processes together; `exact`: in float32."""
        every = torch.arange(len(batch.ids), device=self.device) if rows is None else rows
        own = every[self.accelerator.process_index :: self.accelerator.num_processes]
        with self._autocast(exact):
            parts = [read(model, batch, part, self.head)[0] for part in torch.split(own, self.options.device_batch)]
        found = torch.cat(parts)
        if self.accelerator.num_processes == 1:
            return found
        shares = gather_object([(own.tolist(), found.cpu())])
        gathered = {row: values for numbers, part in shares for row, values in zip(numbers, part, strict=True)}
        return torch.stack([gathered[row] for row in every.tolist()]).to(self.device)

    def _autocast(self, exact: bool = False) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None and not exact)

    def _advantages(self, batch: Batch, scored: Scored, types: Sequence[str], log_ratio: Tensor) -> dict[str, Tensor]:
        began = time.perf_counter()
        kl_weights = torch.tensor([self.budget.weight(one) for one in types], device=self.device)
        quantile = None
        if self.quantile is not None:
            quantile = quantile_scores(self.judges, self.weights, scored, types, self.quantile)
        parts = token_advantages(
            self.judges,
            self.weights,
            scored,
            batch,
            -kl_weights[:, None] * log_ratio,
            self.closes_bar,
            causal=self.options.causal_rewards,
            cold_judges=self.options.cold_judges,
            quantile=quantile,
        )
        if self.options.shuffled:
            order = next(minibatches(len(types), len(types), 1, self.options.seed + self.state.global_step))
            parts = {name: part if name == "kl" else part[order.to(part.device)] for name, part in parts.items()}
        self._count("advantages", began)
        return parts

    def _update(self, batch: Batch, advantages: Tensor, before: Tensor) -> float:
        """Some epochs of minibatches; returns how far they moved the policy, in nats per completion."""
        began = time.perf_counter()
        # In bf16 the rounding of the log-probabilities alone would be some .02 nats.
        warm = torch.nonzero(batch.warm)[:, 0]
        probe = warm[:: max(len(warm) // PROBE, 1)]
        start = self._logprobs(self.policy, batch, probe, exact=True)
        began = self._count("logprobs", began)

        def loss(logprobs: Tensor, rows: Tensor) -> Tensor:
            return clipped_loss(logprobs, before[rows], advantages[rows], batch.mask[rows], self.options.clip)

        seed = self.options.seed + 1_000_003 * self.state.global_step
        for rows in minibatches(len(batch.ids), self.options.minibatch or len(batch.ids), self.options.epochs, seed):
            self._descend(rows, self._reading(batch, loss))
        began = self._count("update", began)
        growth = float(kl_between(self._logprobs(self.policy, batch, probe, exact=True), start, batch.mask[probe]))
        self._count("logprobs", began)
        return growth

    def _reading(self, batch: Batch, loss: Loss) -> PartLoss:
        """The mean loss of some completions of a batch, and what the grammar adds, from reading them."""

        def mean(rows: Tensor) -> Tensor:
            with self._autocast():
                logprobs, allowed = read(self.model, batch, rows, self.head)
            value = loss(logprobs, rows)
            return value if allowed is None else value - self.options.grammar_weight * allowed.sum() / len(rows)

        return mean

    def _descend(self, rows: Tensor, loss: PartLoss) -> None:
        """One step of the optimizer on the completions `rows` (R,), none if there are fewer than processes."""
        if len(rows) < self.accelerator.num_processes:
            return
        self._backward(rows, loss)
        self.accelerator.clip_grad_norm_(self.model.parameters(), self.options.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def _backward(self, rows: Tensor, loss: PartLoss) -> None:
        """The gradient of the mean loss of the completions `rows`, of which each process computes its share."""
        world = self.accelerator.num_processes
        own = rows.to(self.device)[self.accelerator.process_index :: world]
        parts = torch.split(own, self.options.device_batch)
        for place, part in enumerate(parts):
            last = place == len(parts) - 1
            with nullcontext() if last else self.accelerator.no_sync(self.model):
                value = loss(part)
                if not torch.isfinite(value):
                    raise MgenError(
                        f"the loss is {'not a number' if torch.isnan(value) else 'infinite'}; {self._slower}"
                    )
                # Processes average their gradients, so each gives its part of the sum times their number.
                self.accelerator.backward(value * (len(part) * world / len(rows)))

    def _steer(self, growth: float, types: Sequence[str], log_ratio: Tensor, warm: Tensor) -> dict[str, float]:
        """Adapts the learning rate to the measured step, and the weights of KL to their targets."""
        used = self.optimizer.param_groups[0]["lr"]
        for group in self.optimizer.param_groups:
            group["lr"] = steered(used, growth, self.options.kl_step)
        kl = log_ratio.sum(1)
        found = {"policy/kl_step": growth, "learning_rate": used}
        by_type = {}
        for kind in dict.fromkeys(types):
            rows = warm & torch.tensor([one == kind for one in types], device=warm.device)
            if rows.any():
                by_type[kind] = found[f"policy/kl/{kind}"] = float(kl[rows].mean())
                found[f"policy/kl_weight/{kind}"] = self.budget.weight(kind)
        self.budget.update(by_type)
        return found

    def _train_discriminator(self, notes: Notes, warm: Tensor) -> dict[str, float]:
        if self.discriminator is None:
            return {}
        began = time.perf_counter()
        metrics = self.discriminator.step(notes.pieces(np.flatnonzero(warm.cpu().numpy())))
        self._count("discriminator", began)
        return metrics

    # ------------------------------------------ before the first step, and after each

    def _trial(self, head: Head) -> None:
        """Reads policy and reference as a step does, so that this is compiled."""
        self.head = head
        heads, _ = self.prompts.batch(self.options.completions // self.options.num_generations, 0)
        count = min(self.options.device_batch * self.accelerator.num_processes, self.options.completions)
        rows = [heads[number % len(heads)] for number in range(count)]
        temperature = torch.full((count,), self.options.cold_temperature if self.options.cold_share else 1.0)
        batch = self._collate(rows, [[self.remi.eos_id]] * count, temperature, 1)
        self._logprobs(self.policy, batch), self._logprobs(self.reference, batch)
        self._backward(torch.arange(count), self._reading(batch, lambda logprobs, part: 0.0 * logprobs.sum()))
        self.optimizer.zero_grad()

    def _distil(self) -> None:
        """First phase: trains once on the best of several completions of each prompt, by the judges."""
        count, n = self.options.distil_prompts, self.options.distil_of
        if not count:
            return
        prompts, completions, gained = [], [], []
        at_once = max(self.options.completions // n, 1)
        for begin in range(0, count, at_once):
            heads, _ = self.prompts.batch(min(at_once, count - begin), FIRST_PHASE + begin)
            batch, _ = self._sample(heads, n, FIRST_PHASE + begin)
            total = self._judge(batch).total(self.weights)
            rows = best_rows(total, n)
            gained.append(total[rows].mean() - total.mean())
            prompts += heads
            completions += [batch.completions[row] for row in rows]
        batch = self._collate(prompts, completions, torch.ones(count), 1)
        tokens = float(batch.mask.sum()) / count
        loss = self._reading(batch, lambda logprobs, part: likelihood_loss(logprobs, batch.mask[part], tokens))
        for some in minibatches(count, DISTILLED, 1, self.options.seed):
            self._descend(some, loss)
        self.average = copy_weights(self.policy)
        self._say(f"first phase: the best of {n} after {count} prompts, {np.mean(gained):.2f} nats above the mean")

    def _guide(self) -> None:
        """First phase: moves the policy towards the start under guidance, on its own completions."""
        count, at_once = self.options.guided_prompts, self.options.completions
        losses: list[float] = []
        for begin in range(0, count, at_once):
            heads, _ = self.prompts.batch(min(at_once, count - begin), FIRST_PHASE + begin)
            batch, _ = self._sample(heads, 1, FIRST_PHASE + begin)
            bare = self._collate(
                [without_style(head, self.remi) for head in heads], batch.completions, batch.temperature, 1
            )

            def loss(rows: Tensor, batch: Batch = batch, bare: Batch = bare) -> Tensor:
                with self._autocast():
                    own = completion_logits(self.model, batch, rows)
                    with torch.no_grad():
                        styled, unstyled = (completion_logits(self.reference, one, rows) for one in (batch, bare))
                value = guided_loss(own, styled, unstyled, self.options.guided_weight, batch.mask[rows])
                losses.append(float(value.detach()))
                return value

            for some in minibatches(len(heads), DISTILLED, 1, self.options.seed):
                self._descend(some, loss)
        if losses:
            self.average = copy_weights(self.policy)
            quarter = max(len(losses) // 4, 1)
            ends = (np.mean(part) for part in (losses[:quarter], losses[-quarter:]))
            self._say("first phase: KL to the start under guidance {:.2f} -> {:.2f} nats".format(*ends))

    def _first_look(self, batch: Batch, advantages: Tensor, before: Tensor, metrics: Mapping[str, float]) -> None:
        """Reports, before the first update, what the run can learn from."""
        began = time.perf_counter()

        def loss(logprobs: Tensor, part: Tensor) -> Tensor:
            return clipped_loss(logprobs, before[part], advantages[part], batch.mask[part], self.options.clip)

        gradients = []
        for half in range(2):
            rows = torch.nonzero(batch.group % 2 == half)[:, 0]
            self._backward(rows, self._reading(batch, loss))
            gradients.append(torch.cat([p.grad.flatten() for p in self.model.parameters() if p.grad is not None]))
            self.optimizer.zero_grad()
        ratio = signal_to_noise(*gradients)
        equal_at = f"; equal at {len(batch.ids) / ratio:,.0f} completions" if ratio > 0 else ""
        self._count("first look", began)
        tokens = float(batch.mask.sum()) / self.seconds["sample"]
        self._say(
            f"first batch: KL {metrics['policy/kl']:.3f} nats, rewards equal in {metrics['groups/equal']:.0%} of the "
            f"groups, signal / noise of its gradient {ratio:.3f} (two halves{equal_at}), {tokens:,.0f} tokens/s sampled"
        )

    def _check_guard(self) -> None:
        """Checks the averaged weights, and keeps them if they are the best so far."""
        if self.guard is None or self.state.global_step % self.guard_steps:
            return
        held = copy_weights(self.policy)
        set_weights(self.policy, self.average)
        found = self.guard.check(self.policy)
        set_weights(self.policy, held)
        self._log(found)
        checks = [line for line in self.state.log_history if any(key.startswith("guard/") for key in line)]
        if is_best(checks):
            self.best = {name: weight.clone() for name, weight in self.average.items()}
        self._say(f"step {self.state.global_step}, held-out: {describe(found)}")
        if only_worse(checks):
            self._end("the completions are further from real music than at the start, and do not come back")

    def _watch(self) -> None:
        """Reports new problems, and ends a run that cannot learn or has spent its KL.

        Raises:
            MgenError: Rewards were equal in every group of every step so far, and that is not allowed.
        """
        steps = self.steps
        for line in new_problems(steps, self.options.dominant_share):
            self._say(f"  step {self.state.global_step}: {line}")
        if never_differed(steps) and len(steps) == self.state.global_step and not self.options.allow_equal_rewards:
            length = self.options.max_completion_length
            remedy = (
                f"likely causes: completions too short to be judged (max_completion_length {length}), judges at their "
                "worst or best value, weights of 0; --allow_equal_rewards true goes on"
            )
            raise self._stopped(f"{EQUAL}, since the first step", remedy, self.state.global_step)
        if 0 < self.options.kl_stop <= steps[-1]["policy/kl"]:
            self._end(f"KL {steps[-1]['policy/kl']:.2f} has reached kl_stop ({self.options.kl_stop:g})")

    @property
    def steps(self) -> list[Step]:
        """Metrics of the steps so far."""
        return [line for line in self.state.log_history if "policy/kl" in line]

    def _log(self, metrics: Mapping[str, float]) -> None:
        logs = dict(metrics)
        self.state.log_history.append({**logs, "step": self.state.global_step})
        self.callbacks.on_log(self.args, self.state, self.control, logs)

    def _end(self, why: str) -> None:
        self._say(f"  step {self.state.global_step}: {why}; the run ends here")
        self.control.should_training_stop = True

    def _say(self, line: str) -> None:
        if self.accelerator.is_main_process:
            self.warn(line)

    def _count(self, part: str, began: float) -> float:
        """Adds the time since `began` to a part of the step; returns the present time."""
        now = time.perf_counter()
        self.seconds[part] = self.seconds.get(part, 0.0) + now - began
        return now

    def _stopped(self, problem: str, remedy: str, step: int | None = None) -> MgenError:
        step = self.state.global_step + 1 if step is None else step
        return stopped(Path(self.args.output_dir), step, problem, remedy)

    @property
    def _slower(self) -> str:
        return f"lower learning_rate ({self.options.learning_rate:g}) or kl_step ({self.options.kl_step:g})"
