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
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, TrainerCallback, TrainingArguments
from transformers.integrations import get_reporting_integration_callbacks
from transformers.trainer_callback import CallbackHandler, DefaultFlowCallback, TrainerControl, TrainerState

from mgen.encoding.remi import Kind, Remi
from mgen.errors import MgenError
from mgen.judgement import Judge
from mgen.notes import Notes
from mgen.progress import Progress, silent
from mgen.rl.advantages import Quantile, Scored, quantile_scores, token_advantages
from mgen.rl.batch import Batch
from mgen.rl.compiled import compiled_reading
from mgen.rl.discriminator import DiscriminatorTrainer, check_weights
from mgen.rl.first_phase import distil, guide, read_once
from mgen.rl.guard import Guard, describe, is_best, only_worse
from mgen.rl.kl import KlBudget
from mgen.rl.learner import Learner
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
    signal_and_noise,
    steered,
)
from mgen.runs.checkpoints import stopped
from mgen.runs.divergence import divergence, weight_norm

PROBE = 32  # completions on which the KL of a step is measured


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
        progress: takes lines about problems and checks; called on the main process only.
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
        progress: Progress = silent,
        compiled: bool = False,
    ) -> None:
        trained = sum(weights[name] for name in (discriminator.discriminators if discriminator else ()))
        if discriminator is not None and trained and quantile is None:
            check_weights(discriminator.against, trained, options.kl_weight)
        self.remi, self.judges, self.weights, self.prompts = remi, dict(judges), dict(weights), prompts
        self.options, self.args, self.discriminator, self.quantile = options, args, discriminator, quantile
        self.guard, self.guard_steps = guard, guard_steps
        self.compiled = compiled
        self.learner = Learner(policy, remi, options, torch.bfloat16 if args.bf16 else None, args.use_cpu)
        self.reference = reference.to(self.learner.device).eval().requires_grad_(False)
        self.average = copy_weights(self.policy)
        self.best: Weights | None = None  # weights that the guard keeps
        self.budget = KlBudget(
            options.kl_weight, {"continuation": options.kl_continuation, "transfer": options.kl_transfer}
        )
        self.closes_bar = remi.count_in(Kind.BAR) > 0  # (V,)
        main = self.learner.accelerator.is_main_process
        self.progress = progress if main else silent
        self.state = TrainerState(
            max_steps=options.max_steps, is_world_process_zero=main, is_local_process_zero=main, log_history=[]
        )
        self.control = TrainerControl()
        self.callbacks = CallbackHandler(
            [DefaultFlowCallback, *get_reporting_integration_callbacks(args.report_to)],
            self.policy,
            None,
            self.learner.optimizer,
            None,
        )
        self.seconds: dict[str, float] = {}  # of the parts of the present step

    @property
    def policy(self) -> PreTrainedModel:
        """The policy, as it is sampled."""
        return self.learner.policy

    @property
    def model(self) -> PreTrainedModel:
        """As of a `Trainer`, for what follows a run."""
        return self.learner.policy

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
        heads, _ = self.prompts.batch(self.options.completions // self.options.num_generations, 0)
        trial = partial(read_once, self.learner, self.reference, heads)
        with compiled_reading(self.learner, self.reference, max(map(len, heads)), trial, self.progress):
            self._train(resume_from_checkpoint)

    def _train(self, resume_from_checkpoint: str | None) -> None:
        start = weight_norm(self.policy.parameters())
        if resume_from_checkpoint is not None:
            load_state(self, Path(resume_from_checkpoint))
        self.callbacks.on_train_begin(self.args, self.state, self.control)
        if not self.state.global_step:
            self._check_guard()
            self._first_phases()
        while self.state.global_step < self.options.max_steps and not self.control.should_training_stop:
            try:
                metrics = self._step()
            except MgenError as error:
                raise self._stopped(str(error), "the same command resumes there") from error
            self.state.global_step += 1
            if problem := divergence(weight_norm(self.policy.parameters()), start):
                raise self._stopped(f"{problem} after this step", self.learner.slower, self.state.global_step)
            self._log(metrics)
            self._check_guard()
            self._watch()
            if self.state.global_step == 2:  # the first step has more to do
                minutes = metrics["seconds/step"] * (self.options.max_steps - 2) / 60
                self.progress(f"{metrics['seconds/step']:.1f} s per step; about {minutes:.0f} min to go")
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
        n = self.options.num_generations
        heads, types = self.prompts.batch(self.options.completions // n, number)
        batch, removed = self.learner.sample(heads, n, number, self.options.cold_share)
        self._count("sample", began)
        types = [one for one in types for _ in range(n)]
        scored = self._judge(batch)
        before, log_ratio = self._compare_with_reference(batch)
        parts = self._advantages(batch, scored, types, log_ratio)
        advantages = torch.stack(list(parts.values())).sum(0)
        metrics = step_metrics(self.judges, self.weights, batch, scored, log_ratio, parts, self.steps)
        metrics |= {"grammar/removed": removed} if self.options.grammar else {}
        if self.options.signal_steps and number % self.options.signal_steps == 0:
            metrics |= self._signal(batch, advantages, before)
        if not number:
            self._first_look(batch, metrics)
        growth = self._update(batch, advantages, before)
        metrics |= self._steer(growth, types, log_ratio, batch.warm)
        average_weights(self.average, self.policy, self.options.average)
        metrics |= self._train_discriminator(scored.notes, batch.warm)
        self._count("step", began)
        return metrics | {f"seconds/{part}": seconds for part, seconds in self.seconds.items()}

    # ----------------------------------------------------- parts of a step

    def _judge(self, batch: Batch) -> Scored:
        """The scores of all judges."""
        began = time.perf_counter()
        scored = Scored.by(self.judges, Notes.from_completions(batch.prompts, batch.completions, self.remi))
        self._count("judge", began)
        return scored

    def _compare_with_reference(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """(B, T) log-probabilities under the policy that sampled, and their differences to those of the reference."""
        began = time.perf_counter()
        policy = self.learner.logprobs(self.policy, batch)
        log_ratio = policy - self.learner.logprobs(self.reference, batch)
        self._count("logprobs", began)
        return policy, log_ratio

    def _advantages(self, batch: Batch, scored: Scored, types: Sequence[str], log_ratio: Tensor) -> dict[str, Tensor]:
        began = time.perf_counter()
        kl_weights = torch.tensor([self.budget.weight(one) for one in types], device=self.learner.device)
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
        start = self.learner.logprobs(self.policy, batch, probe, exact=True)
        began = self._count("logprobs", began)

        def loss(logprobs: Tensor, rows: Tensor) -> Tensor:
            return clipped_loss(logprobs, before[rows], advantages[rows], batch.mask[rows], self.options.clip)

        seed = self.options.seed + 1_000_003 * self.state.global_step
        for rows in minibatches(len(batch.ids), self.options.minibatch or len(batch.ids), self.options.epochs, seed):
            self.learner.descend(rows, self.learner.reading(batch, loss))
        began = self._count("update", began)
        end = self.learner.logprobs(self.policy, batch, probe, exact=True)
        self._count("logprobs", began)
        return float(kl_between(end, start, batch.mask[probe]))

    def _signal(self, batch: Batch, advantages: Tensor, before: Tensor) -> dict[str, float]:
        """Signal and noise of the gradient of rewards and KL in this batch, from the groups of even and odd number."""
        began = time.perf_counter()

        def loss(logprobs: Tensor, rows: Tensor) -> Tensor:
            return clipped_loss(logprobs, before[rows], advantages[rows], batch.mask[rows], self.options.clip)

        read = self.learner.reading(batch, loss, grammar=False)
        halves = (torch.nonzero(batch.group % 2 == half)[:, 0] for half in range(2))
        signal, noise = signal_and_noise(*(self.learner.gradient(rows, read) for rows in halves))
        self._count("signal", began)
        return {"gradient/signal": signal, "gradient/noise": noise}

    def _steer(self, growth: float, types: Sequence[str], log_ratio: Tensor, warm: Tensor) -> dict[str, float]:
        """Adapts the learning rate to the measured step, and the weights of KL to their targets."""
        used = self.learner.learning_rate
        self.learner.learning_rate = steered(used, growth, self.options.kl_step)
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

    def _first_phases(self) -> None:
        if self.options.guided_prompts:
            self.progress(guide(self.learner, self.prompts, self.reference))
        if self.options.distil_prompts:
            self.progress(distil(self.learner, self.prompts, lambda batch: self._judge(batch).total(self.weights)))
        if self.options.guided_prompts or self.options.distil_prompts:
            self.average = copy_weights(self.policy)
            self._check_guard()

    def _first_look(self, batch: Batch, metrics: Mapping[str, float]) -> None:
        """Reports, before the first update, what the run can learn from."""
        signal = ""
        if noise := metrics.get("gradient/noise"):
            ratio = metrics["gradient/signal"] / noise
            equal_at = f"; equal at {len(batch.ids) / ratio:,.0f} completions" if ratio > 0 else ""
            signal = f", signal / noise of its gradient {ratio:.3f} (two halves{equal_at})"
        tokens = float(batch.mask.sum()) / self.seconds["sample"]
        self.progress(
            f"first batch: KL {metrics['policy/kl']:.3f} nats, rewards equal in {metrics['groups/equal']:.0%} of the "
            f"groups{signal}, {tokens:,.0f} tokens/s sampled"
        )

    def _check_guard(self) -> None:
        """Checks the averaged weights, and keeps them if they are the best so far."""
        if self.guard is None or self.state.global_step % self.guard_steps:
            return
        held = copy_weights(self.policy)
        set_weights(self.policy, self.average)
        found = self.guard.check(self.policy, self.progress)
        set_weights(self.policy, held)
        self._log(found)
        checks = [line for line in self.state.log_history if any(key.startswith("guard/") for key in line)]
        if is_best(checks):
            self.best = {name: weight.clone() for name, weight in self.average.items()}
        self.progress(f"step {self.state.global_step}, held-out: {describe(found, self.guard.notes)}")
        if only_worse(checks):
            self._end("the completions are further from real music than at the start, and do not come back")

    def _watch(self) -> None:
        """Reports new problems, and ends a run that cannot learn or has spent its KL.

        Raises:
            MgenError: Rewards were equal in every group of every step so far, and that is not allowed.
        """
        steps = self.steps
        for line in new_problems(steps, self.options.dominant_share):
            self.progress(f"  step {self.state.global_step}: {line}")
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
        self.progress(f"  step {self.state.global_step}: {why}; the run ends here")
        self.control.should_training_stop = True

    def _count(self, part: str, began: float) -> float:
        """Adds the time since `began` to a part of the step; returns the present time."""
        now = time.perf_counter()
        self.seconds[part] = self.seconds.get(part, 0.0) + now - began
        return now

    def _stopped(self, problem: str, remedy: str, step: int | None = None) -> MgenError:
        step = self.state.global_step + 1 if step is None else step
        return stopped(Path(self.args.output_dir), step, problem, remedy)
