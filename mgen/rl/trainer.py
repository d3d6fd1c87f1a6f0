"""Policy gradient under judges: one thin subclass of `trl.GRPOTrainer`.

Differs from GRPO as published, in the form `nats`: credit falls on the tokens that earned it, KL is paid token by
token inside the return (so that the KL still to come counts), and nothing is divided by a deviation, so that judges
and KL stay in nats. The form `normalised` is TRL's own: one score a completion, divided by the group's deviation
(that of the weighted sum, or each judge's before they are summed), KL as a penalty in the loss.
"""

from __future__ import annotations

import sys
import warnings
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate.utils import gather_object
from torch import Tensor
from transformers import PreTrainedModel
from trl import GRPOConfig, GRPOTrainer

from mgen.encoding.remi import Remi
from mgen.errors import MgenError
from mgen.judgement import Judgement
from mgen.notes import Notes
from mgen.rl.credit import (
    advantage_shares,
    advantage_sizes,
    dominant_reward,
    group_advantages,
    returns_to_go,
    score_advantages,
    token_counts,
    token_rewards,
)
from mgen.rl.discriminator import DiscriminatorTrainer, check_weights
from mgen.runs.checkpoints import VerifiedCheckpoints
from mgen.runs.judges import DISCRIMINATOR_FILE
from mgen.sampling.rollout import Decoding, completion_logprobs, sample
from mgen.training.pretrain import not_finite

OBJECTIVES = ("nats", "normalised")

DOMINANT_STEPS = 5
"""Steps in a row after which a judge that holds most of the advantage is told of."""


class JudgeFunction(Protocol):
    """A reward function of TRL's that remembers what it judged last, note by note."""

    __name__: str
    last: Judgement | None
    last_notes: Notes | None

    def __call__(self, prompts: Any, completions: Any, completion_ids: Any, **rest: Any) -> list[float]: ...


class MusicTrainer(VerifiedCheckpoints, GRPOTrainer):  # type: ignore[misc]
    """`GRPOTrainer` with our sampler, credit per note, and an discriminator between its steps.

    Args:
        policy: what is trained.
        reference: the frozen policy that KL is measured from.
        judges: reward functions; `args.reward_weights` has one weight for each.
        form: `nats` or `normalised`.
        kl_weight: in the form nats, nats of return paid for each nat of KL. The other form pays `args.beta`.
        discriminator: trained after each batch of completions has been judged.
        dominant_share: share of the advantage above which a judge is told of, if it holds it for several steps.

    Metrics beside TRL's: `policy/kl` in nats a piece; `share/JUDGE`, how much of the advantage is a judge's, as it
    enters the loss of the form, and `share/kl` in the form nats (the other form pays KL beside the advantage);
    `undefined/JUDGE`, share of completions that a judge could not judge; `realism/...`, what the discriminator said
    of this step's completions before it learned from them.

    Raises:
        ValueError: Completions of one prompt would fall on two processes, the form nats is sampled at another
            temperature than 1 or mixed as `normalize_then_sum`, or the discriminator is one of the judges and its
            weight and that of KL are of neither sound form (`mgen.rl.discriminator`).
    """

    def __init__(
        self,
        policy: PreTrainedModel,
        reference: PreTrainedModel,
        remi: Remi,
        judges: Sequence[JudgeFunction],
        args: GRPOConfig,
        train_dataset: Any,
        form: str = "nats",
        kl_weight: float = 1.0,
        discriminator: DiscriminatorTrainer | None = None,
        dominant_share: float = 0.8,
        **rest: Any,
    ) -> None:
        if form not in OBJECTIVES:
            raise ValueError(f"form '{form}': expected one of {', '.join(OBJECTIVES)}")
        local = args.per_device_train_batch_size * args.steps_per_generation
        if local % args.num_generations:
            raise ValueError(
                f"completions a device ({local}) must be a multiple of num_generations ({args.num_generations}); "
                f"try {-(-local // args.num_generations) * args.num_generations}"
            )
        if form == "nats" and args.temperature != 1.0:
            raise ValueError(
                f"temperature ({args.temperature}) must be 1 in the form nats, or KL is not that of the policy"
            )
        if form == "nats" and args.multi_objective_aggregation != "sum_then_normalize":
            raise ValueError(
                f"multi_objective_aggregation ({args.multi_objective_aggregation}) divides every judge by its own "
                "deviation and belongs to the form normalised; the form nats adds nats up"
            )
        weights = [1.0] * len(judges) if args.reward_weights is None else args.reward_weights
        for judge, weight in zip(judges, weights, strict=True):
            if form == "nats" and discriminator is not None and getattr(judge, "judge", None) is discriminator.learner:
                check_weights(discriminator.against, weight, kl_weight)
        self.remi, self.form, self.kl_weight, self.discriminator = remi, form, kl_weight, discriminator
        self.judges, self.dominant_share = list(judges), dominant_share
        self._last_shares: deque[dict[str, float]] = deque(maxlen=DOMINANT_STEPS)
        self._told: set[str] = set()
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
        """TRL's step (sample, judge, normalise), then our advantages in place of its own, then the discriminator's
        step.
        """
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        mask = output["completion_mask"].bool()
        log_ratio = (output["sampling_per_token_logps"] - self._reference_logps(output)) * mask
        if self.form == "nats":
            group = torch.arange(len(mask), device=mask.device) // self._group_size()
            parts = self._advantage_parts(mask, log_ratio, group)
            output["advantages"] = torch.stack(list(parts.values())).sum(0)
        else:
            parts = self._score_parts(mask.device)
        self._log_step(parts, mask, log_ratio)
        if self.discriminator is not None and self.model.training:
            self._train_discriminator(output)
        return output

    def _group_size(self) -> int:
        return int(self.num_generations if self.model.training else self.num_generations_eval)

    def _reference_logps(self, output: dict[str, Any]) -> Tensor:
        """(B, T) log-probabilities of the completions under the reference."""
        if "ref_per_token_logps" in output:
            told: Tensor = output["ref_per_token_logps"]
            return told
        ids = torch.cat([output["prompt_ids"], output["completion_ids"]], dim=1)
        mask = torch.cat([output["prompt_mask"], output["completion_mask"]], dim=1)
        with self.accelerator.autocast():
            return completion_logprobs(self.reference, ids, output["completion_ids"].size(1), mask)

    def _advantage_parts(self, mask: Tensor, log_ratio: Tensor, group: Tensor) -> dict[str, Tensor]:
        """Form nats: (B, T) advantages from each judge alone, weighted, and from KL; they add up."""
        weights = self.reward_weights.tolist()
        lengths = mask.sum(1).cpu()
        parts = {}
        for judge, weight in zip(self.judges, weights, strict=True):
            assert judge.last_notes is not None
            rewards = weight * token_rewards(_said(judge), judge.last_notes, lengths).to(mask.device)
            parts[judge.__name__] = group_advantages(returns_to_go(rewards, mask), group)
        parts["kl"] = group_advantages(returns_to_go(-self.kl_weight * log_ratio, mask), group)
        return parts

    def _score_parts(self, device: torch.device) -> dict[str, Tensor]:
        """Form normalised: (B, 1) what each judge brings to TRL's own advantages."""
        scores = torch.stack([torch.from_numpy(_said(judge).score) for judge in self.judges], dim=1).to(device)
        mine = slice(self.accelerator.process_index * len(scores), (self.accelerator.process_index + 1) * len(scores))
        parts = score_advantages(
            self.accelerator.gather(scores),
            self.reward_weights.to(device),
            self._group_size(),
            self.multi_objective_aggregation,
            self.scale_rewards,
        )[mine]
        return {judge.__name__: part[:, None] for judge, part in zip(self.judges, parts.T, strict=True)}

    def _log_step(self, parts: dict[str, Tensor], mask: Tensor, log_ratio: Tensor) -> None:
        """Log KL, shares and silence of this step, of all processes together."""
        metrics = self._metrics["train" if self.model.training else "eval"]
        sizes = advantage_sizes(parts, token_counts(mask, self.loss_type))
        silent = torch.tensor([1.0 - _said(judge).defined.mean() for judge in self.judges]).to(sizes)
        told = self.accelerator.gather(torch.cat([log_ratio.sum(1).mean()[None], sizes, silent])[None])
        metrics["policy/kl"].append(told[:, 0].mean().item())  # nats per piece
        whole = advantage_shares(told[:, 1 : 1 + len(sizes)].sum(0)).tolist()
        shares = dict(zip(parts, whole, strict=True))
        for name, share in shares.items():
            metrics[f"share/{name}"].append(share)
        for judge, value in zip(self.judges, told[:, 1 + len(sizes) :].mean(0).tolist(), strict=True):
            metrics[f"undefined/{judge.__name__}"].append(value)
        if self.model.training and len(self.judges) > 1:
            self._last_shares.append(shares)
            loud = (
                dominant_reward(self._last_shares, self.dominant_share)
                if len(self._last_shares) == DOMINANT_STEPS
                else None
            )
            for name in shares:
                self._tell(
                    f"share/{name}",
                    name == loud,
                    f"one loud judge: {name} holds {shares[name]:.2f} of the advantage, and above "
                    f"{self.dominant_share:g} for {DOMINANT_STEPS} steps; the others are hardly heard. Lower "
                    + ("kl_weight" if name == "kl" else f"the weight of {name}"),
                )

    def _tell(self, key: str, holds: bool, line: str) -> None:
        """A warning, once for each time that it begins to hold."""
        if holds and key not in self._told and self.accelerator.is_main_process:
            print(f"  step {self.state.global_step + 1}: {line}", file=sys.stderr, flush=True)
        (self._told.add if holds else self._told.discard)(key)

    def _train_discriminator(self, output: dict[str, Any]) -> None:
        """Every process sees every completion, so all train the same critic and none has to be sent around."""
        assert self.discriminator is not None
        prompts = _rows(output["prompt_ids"], output["prompt_mask"])
        completions = _rows(output["completion_ids"], output["completion_mask"])
        pairs = gather_object(list(zip(prompts, completions, strict=True)))
        generated = Notes.from_completions([p for p, _ in pairs], [c for _, c in pairs], self.remi)
        found = self.discriminator.step(generated)
        for name, value in found.items():
            self._metrics["train"][f"realism/{name}"].append(value)
        self._tell(
            "running_away",
            found.get("running_away", 0) >= 1,
            "the discriminator has run away: it tells nearly all completions from real music and rests, and the policy "
            "does not catch up. Give it fewer steps, a lower learning rate or a gradient penalty",
        )
        self._tell(
            "starved",
            found.get("starved", 0) >= 1,
            "the discriminator hears no difference, though it takes twice its steps: there is none left, or it is "
            "starved. A fresh classifier (mgen evaluate) says which; if it is starved, give it more steps or a "
            "higher rate",
        )

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        loss = super().compute_loss(model, inputs, *args, **kwargs)
        if not torch.isfinite(loss):
            items = list(range(len(inputs["completion_ids"])))
            raise MgenError(not_finite(loss.item(), self.state.global_step + 1, items, Path(self.args.output_dir)))
        return loss

    # --------------------------------------------------------- checkpoints

    def save_beside(self, folder: Path) -> None:
        if self.discriminator is not None:
            torch.save(self.discriminator.state_dict(), folder / DISCRIMINATOR_FILE)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        if self.discriminator is not None:
            state = torch.load(Path(resume_from_checkpoint) / DISCRIMINATOR_FILE, weights_only=True)
            self.discriminator.load_state_dict(state)


def _said(judge: JudgeFunction) -> Judgement:
    assert judge.last is not None  # TRL has just called it
    return judge.last


def _rows(ids: Tensor, mask: Tensor) -> list[list[int]]:
    return [row[keep].tolist() for row, keep in zip(ids, mask.bool(), strict=True)]


def _rollout(prompts: list[str], trainer: MusicTrainer) -> dict[str, Any]:
    """TRL's `rollout_func`: our sampler over the prompts' texts."""
    prompt_ids = trainer.processing_class(prompts, add_special_tokens=False)["input_ids"]
    model = trainer.accelerator.unwrap_model(trainer.model, keep_torch_compile=False)
    args = trainer.args
    decoding = Decoding(args.temperature, args.top_k or 0, args.top_p, args.max_completion_length)
    with trainer.accelerator.autocast():
        rollout = sample(model, prompt_ids, decoding, trainer.remi.eos_id, trainer.remi.pad_id)
    completion_ids, logprobs = rollout.lists()
    return {"prompt_ids": prompt_ids, "completion_ids": completion_ids, "logprobs": logprobs}
