"""Policy gradient under judges: one thin subclass of `trl.GRPOTrainer`, with two objectives.

- `kl_in_return` differs from GRPO as published: judges that can judge beginnings reward the tokens that close bars;
  KL is subtracted token by token in the return, so that future KL counts; nothing is divided by a deviation, so that
  judges and KL stay in nats.
- `grpo` is TRL's: one score per completion, divided by the deviation of the group (of the weighted sum, or of each
  judge before the sum), and KL as a penalty in the loss.
"""

from __future__ import annotations

import math
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate.utils import gather_object, send_to_device
from torch import Tensor
from transformers import PreTrainedModel
from trl import GRPOConfig, GRPOTrainer

from mgen.arrays import Floats, Longs
from mgen.encoding.remi import Kind, Remi
from mgen.errors import MgenError
from mgen.judgement import Judge, Judgement, PrefixJudge
from mgen.notes import Notes
from mgen.rl.credit import (
    advantage_shares,
    advantage_sizes,
    dominant_reward,
    equal_groups,
    group_advantages,
    returns_to_go,
    score_advantages,
    token_counts,
)
from mgen.rl.discriminator import DiscriminatorTrainer, check_weights
from mgen.rl.kl import kl_efficiency
from mgen.rl.rewards import (
    Beginnings,
    beginnings,
    end_rewards,
    gain_rewards,
    predicted_scores,
    quantile_rewards,
)
from mgen.runs.checkpoints import VerifiedCheckpoints
from mgen.runs.judges import DISCRIMINATOR_FILE
from mgen.sampling.decoding import Decoding
from mgen.sampling.rollout import completion_logprobs, sample

OBJECTIVES = ("kl_in_return", "grpo")

DOMINANT_STEPS = 5  # steps in a row after which a dominant reward is reported
BLIND = 0.03  # AUC by which a new classifier of another make may beat the discriminator
EQUAL_STEPS = 3  # steps after which rewards that never differ within a group are an error


class JudgeFunction(Protocol):
    """A reward function of TRL that keeps its judge and the last judgement."""

    __name__: str
    judge: Judge
    last: Judgement | None
    last_notes: Notes | None

    def __call__(self, prompts: Any, completions: Any, completion_ids: Any, **rest: Any) -> list[float]: ...


def check_arguments(args: GRPOConfig, objective: str) -> None:
    """Raises ValueError unless TRL's options fit the objective and the number of processes."""
    if objective not in OBJECTIVES:
        raise ValueError(f"objective '{objective}': expected one of {', '.join(OBJECTIVES)}")
    local = args.per_device_train_batch_size * args.steps_per_generation
    if local % args.num_generations:
        raise ValueError(
            f"completions per device ({local}) must be a multiple of num_generations ({args.num_generations}); "
            f"try {-(-local // args.num_generations) * args.num_generations}"
        )
    if objective != "kl_in_return":
        return
    if args.temperature != 1.0:
        raise ValueError(
            f"temperature ({args.temperature:g}) must be 1 with the objective kl_in_return: KL is that of the policy"
        )
    if args.multi_objective_aggregation != "sum_then_normalize":
        raise ValueError(
            f"multi_objective_aggregation ({args.multi_objective_aggregation}) divides every judge by its deviation: "
            "use it with the objective grpo; kl_in_return adds nats"
        )


@dataclass(frozen=True)
class Quantile:
    """What the quantile reward needs."""

    n: int  # its optimum is the best of n samples
    samples: Mapping[str, Notes]  # prompt type -> samples of the reference policy


class MusicTrainer(VerifiedCheckpoints, GRPOTrainer):  # type: ignore[misc]
    """`GRPOTrainer` with our sampler, rewards per token, and discriminators that are trained between its steps.

    Args:
        policy: to be trained.
        reference: the frozen policy that KL is measured from.
        judges: reward functions; `args.reward_weights` has one weight for each.
        objective: of `OBJECTIVES`.
        kl_weight: of kl_in_return: nats of return per nat of KL. The objective grpo has `args.beta`.
        discriminator: trains the discriminators after each batch of completions has been judged.
        causal_rewards: kl_in_return: judges that can judge beginnings reward what a closed bar adds to the score; else,
            and with other judges, the score is the reward of the last token.
        quantile: kl_in_return: the quantile reward of the weighted sum of the scores in place of the sum.
        dominant_share: share of the advantage above which a judge is reported, after several steps.
        allow_equal_rewards: only warn of rewards that never differ within a group, in place of an error at step 3.
        warn: takes a line about a dominant reward, equal rewards or a discriminator in trouble; called on the main
            process only.

    Metrics besides those of TRL: `policy/kl` in nats per piece; `share/JUDGE`, the judge's share of the advantage in
    the loss, and with kl_in_return `share/kl` (grpo has KL outside the advantage); `undefined/JUDGE`, share of
    completions that a judge could not judge; `probability/JUDGE`, the mean probability that a judge of probabilities
    gives them, and `kl_efficiency/JUDGE`, the share of the KL that its change since the first step needed at least;
    `groups/equal`, share of the groups with equal rewards; `JUDGE/...`, metrics of a discriminator on the completions
    of a step, before it is trained on them.

    Raises:
        ValueError: The completions of one prompt would be on two processes; the objective kl_in_return has another
            temperature than 1 or `normalize_then_sum`; or the weights of the discriminator and of KL do not fit
            (`mgen.rl.discriminator.check_weights`).
    """

    def __init__(
        self,
        policy: PreTrainedModel,
        reference: PreTrainedModel,
        remi: Remi,
        judges: Sequence[JudgeFunction],
        args: GRPOConfig,
        train_dataset: Any,
        objective: str = "kl_in_return",
        kl_weight: float = 1.0,
        discriminator: DiscriminatorTrainer | None = None,
        causal_rewards: bool = True,
        quantile: Quantile | None = None,
        dominant_share: float = 0.8,
        allow_equal_rewards: bool = False,
        warn: Callable[[str], None] | None = None,
        **rest: Any,
    ) -> None:
        check_arguments(args, objective)
        if objective == "kl_in_return":
            weights = [1.0] * len(judges) if args.reward_weights is None else args.reward_weights
            trained = discriminator.discriminators if discriminator is not None else {}
            total = sum(weight for judge, weight in zip(judges, weights, strict=True) if judge.__name__ in trained)
            if discriminator is not None and total and quantile is None:
                check_weights(discriminator.against, total, kl_weight)
        self.remi, self.objective, self.kl_weight, self.discriminator = remi, objective, kl_weight, discriminator
        self.judges, self.dominant_share, self.warn = list(judges), dominant_share, warn
        self.allow_equal_rewards, self.causal_rewards, self.quantile = allow_equal_rewards, causal_rewards, quantile
        self._begins_bar = remi.count_in(Kind.BAR) > 0  # (V,)
        self._last_shares: deque[dict[str, float]] = deque(maxlen=DOMINANT_STEPS)
        self._all_equal: deque[bool] = deque(maxlen=EQUAL_STEPS)
        self._active_warnings: set[str] = set()
        with warnings.catch_warnings():
            # A contract test covers the interface that TRL calls experimental.
            warnings.filterwarnings("ignore", message=".*rollout_func.*")
            super().__init__(
                model=policy,
                reward_funcs=self.judges,
                args=args,
                train_dataset=train_dataset,
                processing_class=remi.tokenizer(),
                rollout_func=_rollout,
                **rest,
            )
        self.reference = reference.to(self.accelerator.device).eval().requires_grad_(False)

    # ------------------------------------------------------------ one step

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """Runs a step, and adds to a judge's or the discriminator's error where it was."""
        try:
            output = self._score_completions(inputs)
            if self.discriminator is not None and self.model.training:
                self._train_discriminator(output)
        except MgenError as error:
            raise self.stopped(str(error), "the same command resumes there") from error
        self._check_rewards_differ()
        return output

    def _score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """Runs TRL's step (sample, judge, normalise), and replaces its advantages by ours."""
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        mask = output["completion_mask"].bool()
        log_ratio = (output["sampling_per_token_logps"] - self._reference_logps(output)) * mask
        if self.objective == "kl_in_return":
            group = torch.arange(len(mask), device=mask.device) // self._group_size()
            types = [row.get("prompt_type", "") for row in inputs]
            parts = self._token_advantages(output["completion_ids"], mask, log_ratio, group, types)
            output["advantages"] = torch.stack(list(parts.values())).sum(0)
        else:
            parts = self._score_advantages(mask.device)
        self._log_step(parts, mask, log_ratio)
        return output

    def _group_size(self) -> int:
        return int(self.num_generations if self.model.training else self.num_generations_eval)

    def _reference_logps(self, output: dict[str, Any]) -> Tensor:
        """(B, T) log-probabilities of the completions under the reference."""
        logps: Tensor | None = output.get("ref_per_token_logps")
        if logps is not None:
            return logps
        ids = torch.cat([output["prompt_ids"], output["completion_ids"]], dim=1)
        mask = torch.cat([output["prompt_mask"], output["completion_mask"]], dim=1)
        with self.accelerator.autocast():
            return completion_logprobs(self.reference, ids, output["completion_ids"].size(1), mask)

    def _token_advantages(
        self, ids: Tensor, mask: Tensor, log_ratio: Tensor, group: Tensor, types: Sequence[str] = ()
    ) -> dict[str, Tensor]:
        """kl_in_return: (B, T) weighted advantages of each judge and of KL; their sum is the advantage."""
        lengths, begun, parts = mask.sum(1).cpu(), None, {}
        kl = group_advantages(returns_to_go(-self.kl_weight * log_ratio, mask), group)
        if self.quantile is not None:
            rewards = end_rewards(self._quantile_rewards(types), lengths).to(mask.device)
            return {"quantile": group_advantages(returns_to_go(rewards, mask), group), "kl": kl}
        for judge, weight in zip(self.judges, self.reward_weights.tolist(), strict=True):
            if begun is None and self.causal_rewards and isinstance(judge.judge, PrefixJudge):
                assert judge.last_notes is not None
                begun = beginnings(judge.last_notes, self._begins_bar[ids.cpu().numpy()] & mask.cpu().numpy())
            rewards = weight * _token_rewards(judge, begun, lengths, group.cpu().numpy()).to(mask.device)
            parts[judge.__name__] = group_advantages(returns_to_go(rewards, mask), group)
        return parts | {"kl": kl}

    def _quantile_rewards(self, types: Sequence[str]) -> Floats:
        """(B,) quantile rewards; the reference samples are judged again, as a discriminator has changed since."""
        assert self.quantile is not None
        weights = self.reward_weights.tolist()

        def total(judgements: Iterable[Judgement]) -> Floats:
            scores = [weight * one.score for weight, one in zip(weights, judgements, strict=True)]
            summed: Floats = np.sum(scores, axis=0, dtype=np.float64)
            return summed

        own, rewards = total(_judgement(judge) for judge in self.judges), np.zeros(len(types))
        for prompt_type, notes in self.quantile.samples.items():
            rows = np.flatnonzero([one == prompt_type for one in types])
            if len(rows):
                reference = total(judge.judge(notes) for judge in self.judges)
                rewards[rows] = quantile_rewards(own[rows], reference, self.quantile.n)
        return rewards

    def _score_advantages(self, device: torch.device) -> dict[str, Tensor]:
        """grpo: (B, 1) terms of each judge in the advantages of TRL."""
        scores = torch.stack([torch.from_numpy(_judgement(judge).score) for judge in self.judges], dim=1).to(device)
        local = slice(self.accelerator.process_index * len(scores), (self.accelerator.process_index + 1) * len(scores))
        parts = score_advantages(
            self.accelerator.gather(scores),
            self.reward_weights.to(device),
            self._group_size(),
            self.multi_objective_aggregation,
            self.scale_rewards,
        )[local]
        return {judge.__name__: part[:, None] for judge, part in zip(self.judges, parts.T, strict=True)}

    def _log_step(self, parts: dict[str, Tensor], mask: Tensor, log_ratio: Tensor) -> None:
        """Logs KL, shares and undefined completions of this step, over all processes."""
        metrics = self._metrics["train" if self.model.training else "eval"]
        sizes = advantage_sizes(parts, token_counts(mask, self.loss_type))
        undefined = torch.tensor([1.0 - _judgement(judge).defined.mean() for judge in self.judges]).to(sizes)
        scores = torch.stack([torch.from_numpy(_judgement(judge).score) for judge in self.judges], dim=1)
        surely = {
            judge.__name__: judge.judge.probability for judge in self.judges if hasattr(judge.judge, "probability")
        }
        shares_of = [probability(self.judges[0].last_notes).mean() for probability in surely.values()]
        equal = equal_groups(scores.double() @ self.reward_weights.double().cpu(), self._group_size())
        means = torch.cat([log_ratio.sum(1).mean()[None], log_ratio.new_tensor([equal, *shares_of])])
        rows = self.accelerator.gather(torch.cat([sizes, means, undefined])[None])
        share = advantage_shares(rows[:, : len(sizes)].sum(0)).tolist()
        kl, equal, *rest = rows[:, len(sizes) :].mean(0).tolist()
        probabilities, undefined_shares = rest[: len(surely)], rest[len(surely) :]
        metrics["policy/kl"].append(kl)  # nats per piece
        metrics["groups/equal"].append(equal)
        for name, value in zip(surely, probabilities, strict=True):
            key = f"probability/{name}"
            metrics[key].append(value)
            before = next((line[key] for line in self.state.log_history if key in line), value)
            if not math.isnan(efficiency := kl_efficiency(before, value, kl)):
                metrics[f"kl_efficiency/{name}"].append(efficiency)
        shares = dict(zip(parts, share, strict=True))
        for name, value in shares.items():
            metrics[f"share/{name}"].append(value)
        for judge, value in zip(self.judges, undefined_shares, strict=True):
            metrics[f"undefined/{judge.__name__}"].append(value)
        if self.model.training and len(self.judges) > 1:
            self._warn_of_dominant_reward(shares)

    def _check_rewards_differ(self) -> None:
        """Stops a run whose rewards never differed within a group, and warns where they no longer do.

        Raises:
            MgenError: They were equal in every group of every step so far, and that is not allowed.
        """
        if not self.model.training:
            return
        self._all_equal.append(self._metrics["train"]["groups/equal"][-1] == 1)
        step, args = self.state.global_step + 1, self.args
        problem = "all completions of a prompt have equal rewards, so only KL is trained on"
        remedy = (
            f"likely causes: completions too short to be judged (max_completion_length {args.max_completion_length}) "
            f"or all alike (temperature {args.temperature:g}), judges at their worst or best value, weights of 0"
        )
        differed = [line["groups/equal"] < 1 for line in self.state.log_history if "groups/equal" in line]
        never = all(self._all_equal) and not any(differed)
        if never and step >= EQUAL_STEPS and not self.allow_equal_rewards:
            raise self.stopped(f"{problem}, since the first step", f"{remedy}; --allow_equal_rewards true goes on")
        equal = len(self._all_equal) == EQUAL_STEPS and all(self._all_equal)
        self._warn_while(equal, "equal", f"{problem}, for {EQUAL_STEPS} steps; {remedy}")

    def _warn_of_dominant_reward(self, shares: dict[str, float]) -> None:
        self._last_shares.append(shares)
        enough = len(self._last_shares) == DOMINANT_STEPS
        dominant = dominant_reward(self._last_shares, self.dominant_share) if enough else None
        for name, share in shares.items():
            self._warn_while(
                name == dominant,
                f"share/{name}",
                f"dominant reward: {name} has {share:.2f} of the advantage, and more than {self.dominant_share:g} for "
                f"{DOMINANT_STEPS} steps; the others have little effect. Lower "
                + ("kl_weight" if name == "kl" else f"the weight of {name}"),
            )

    def _warn_while(self, holds: bool, key: str, line: str) -> None:
        """Warns each time that a condition begins to hold."""
        if holds and key not in self._active_warnings and self.warn is not None and self.accelerator.is_main_process:
            self.warn(f"  step {self.state.global_step + 1}: {line}")
        (self._active_warnings.add if holds else self._active_warnings.discard)(key)

    def _train_discriminator(self, output: dict[str, Any]) -> None:
        """Every process gets every completion and trains the same discriminator, so none has to be synchronised."""
        assert self.discriminator is not None
        prompts = _unpadded(output["prompt_ids"], output["prompt_mask"])
        completions = _unpadded(output["completion_ids"], output["completion_mask"])
        pairs = gather_object(list(zip(prompts, completions, strict=True)))
        generated = Notes.from_completions([p for p, _ in pairs], [c for _, c in pairs], self.remi)
        metrics = self.discriminator.step(generated)
        for name, value in metrics.items():
            self._metrics["train"][name].append(value)
        self._warn_while(
            metrics.get("realism_tokens/running_away", 0) >= 1,
            "running_away",
            "realism_tokens is too strong: it separates nearly all completions from real music and pauses its "
            "training, and the policy does not catch up. Give it fewer steps, a lower learning rate or a gradient "
            "penalty",
        )
        self._warn_while(
            metrics.get("realism_tokens/starved", 0) >= 1,
            "starved",
            "realism_tokens sees no difference, though it takes twice its steps: there is none, or it learns too "
            "little. Give it more steps or a higher learning rate",
        )
        if "realism/fresh_auc" in metrics:
            fresh, own = metrics["realism/fresh_auc"], metrics["realism/auc"]
            self._warn_while(
                fresh > own + BLIND,
                "blind",
                f"realism misses what new boosted trees see: AUC {own:.2f} against {fresh:.2f} on the same pieces. "
                "Lower realism_regularisation, or add judges",
            )

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        loss = super().compute_loss(model, inputs, *args, **kwargs)
        self.check_loss(loss, range(len(inputs["completion_ids"])))
        return loss

    # --------------------------------------------------------- checkpoints

    def save_extra_files(self, folder: Path) -> None:
        if self.discriminator is not None and self.args.should_save:
            torch.save(self.discriminator.state_dict(), folder / DISCRIMINATOR_FILE)
        if self._step % (self.args.steps_per_generation * self.num_iterations):  # more steps on these completions
            state = {"step": self._step, "batches": self._buffered_inputs}
            torch.save(state, folder / self._generation_file)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        folder = Path(resume_from_checkpoint)
        if self.discriminator is not None:
            self.discriminator.load_state_dict(torch.load(folder / DISCRIMINATOR_FILE, weights_only=True))
        if (folder / self._generation_file).is_file():
            state = torch.load(folder / self._generation_file, weights_only=True, map_location="cpu")
            self._step = state["step"]
            self._buffered_inputs = send_to_device(state["batches"], self.accelerator.device)

    @property
    def _generation_file(self) -> str:
        """In a checkpoint between the steps on one batch of completions: this process's part of the batch."""
        return f"generation_{self.args.process_index}.pt"


def _token_rewards(judge: JudgeFunction, begun: Beginnings | None, lengths: Tensor, group: Longs) -> Tensor:
    """(B, T) rewards of a judge, by bars where it can judge beginnings and these are given."""
    judgement = _judgement(judge)
    if begun is None or not isinstance(judge.judge, PrefixJudge):
        return end_rewards(judgement.score, lengths)
    scores = predicted_scores(judge.judge.prefix_scores(begun.notes), begun, judgement.score, group)
    return gain_rewards(judgement, scores, begun, lengths)


def _judgement(judge: JudgeFunction) -> Judgement:
    assert judge.last is not None  # TRL has just called it
    return judge.last


def _unpadded(ids: Tensor, mask: Tensor) -> list[list[int]]:
    return [row[keep].tolist() for row, keep in zip(ids, mask.bool(), strict=True)]


def _rollout(prompts: list[str], trainer: MusicTrainer) -> dict[str, Any]:
    """The `rollout_func` of TRL: samples from the policy after the prompts' texts."""
    prompt_ids = [trainer.remi.read(prompt).tolist() for prompt in prompts]
    model = trainer.accelerator.unwrap_model(trainer.model, keep_torch_compile=False)
    args = trainer.args
    decoding = Decoding(args.temperature, args.top_k or 0, args.top_p, args.max_completion_length)
    ends = trainer.remi.eos_id, trainer.remi.pad_id
    rollout = sample(model, prompt_ids, decoding, *ends, dtype=torch.bfloat16 if args.bf16 else None)
    completion_ids, logprobs = rollout.lists()
    return {"prompt_ids": prompt_ids, "completion_ids": completion_ids, "logprobs": logprobs}
