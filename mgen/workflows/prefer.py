"""Training on votes: a policy on preference pairs (DPO), or a reward model.

Differs from TRL's scripts: nothing is truncated or ended with an EOS that was not sampled, pairs of one prompt are all
in train or all in valid, and the valid accuracy has an interval by prompt. The reward model is a stock classifier with
one logit, which plain TRL takes as a reward; a difference of logits is log-odds in nats, a single logit has no meaning.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel
from trl import DPOConfig, RewardConfig

from critics.sequence import SequenceCritic
from mgen.encoding.remi import Remi
from mgen.errors import MgenError
from mgen.models.transformer import context_length, load_policy
from mgen.options import as_dict, check_required, from_keywords, option
from mgen.progress import Progress
from mgen.runs.checkpoints import check_saving
from mgen.runs.interruptions import resumable
from mgen.runs.run import Run, TrainingResult, on_main_process
from mgen.runs.tracking import SampleOptions, TrackingOptions, attach_samples, check_tracking
from mgen.speed import SpeedOptions
from mgen.stats.intervals import bootstrap
from mgen.training.preference import (
    Pairs,
    PolicyPreferences,
    RewardPreferences,
    policy_margins,
    read_pairs,
    reward_inputs,
    split_pairs,
)


@dataclass
class PreferOptions(SpeedOptions, TrackingOptions):
    """Options of both methods of `mgen prefer`, with their common defaults."""

    method: str = option("dpo", "dpo (a policy) or reward (a reward model).", words=("dpo", "reward"))
    policy: str = option("", "Model folder of the policy to start from.")
    pairs: str = option("", "JSONL written by mgen votes --export.")
    out: str = option("", "Run folder; the model goes to OUT/model.")
    valid_share: float = option(0.2, "Share of the prompts that is held out.", above=0, below=1)
    num_train_epochs: float = option(1, "Epochs over the training pairs.")
    lr_scheduler_type: str = option("cosine", "As in transformers.")
    warmup_steps: float = option(0.1, "Steps, or a share of all steps if below 1.")
    adam_beta2: float = option(0.95, "Beta 2 of adamw.")
    per_device_train_batch_size: int = option(8, "Pairs per step and device.")
    per_device_eval_batch_size: int = option(16, "Pairs per step of evaluation.")
    eval_strategy: str = option("epoch", "As in transformers; also of checkpoints.")
    save_total_limit: int = option(2, "Checkpoints kept; at least 2, so that one is always complete.")
    logging_steps: float = option(1, "Steps between log lines.")
    gradient_checkpointing: bool = option(False, "Save memory at the cost of time.")
    max_length: int | None = option(None, "Not used: pairs are never truncated.")


@dataclass
class PolicyConfig(SampleOptions, PreferOptions, DPOConfig):  # type: ignore[misc]
    """Options of `mgen prefer --method dpo`: those of `trl.DPOConfig`, with other defaults, and these."""

    beta: float = option(
        0.1, "Log-odds of a preference, in nats, per nat of the policy's margin over the reference.", above=0
    )
    learning_rate: float = option(5e-5, "Highest learning rate.")

    def __post_init__(self) -> None:
        _derive(self)
        super().__post_init__()


@dataclass
class RewardModelConfig(PreferOptions, RewardConfig):  # type: ignore[misc]
    """Options of `mgen prefer --method reward`: those of `trl.RewardConfig`, with other defaults, and these."""

    learning_rate: float = option(1e-4, "Highest learning rate.")
    center_rewards_coefficient: float | None = option(
        0.01, "Keeps the logits around 0, so that they are easy to read as rewards.", least=0
    )

    def __post_init__(self) -> None:
        _derive(self)
        super().__post_init__()


METHODS: dict[str, type[PreferOptions]] = {"dpo": PolicyConfig, "reward": RewardModelConfig}


def _derive(config: Any) -> None:
    """Checks the options of both methods and sets those of TRL that follow from them."""
    check_required(config, "policy", "pairs", "out")
    if config.max_length is not None:
        raise ValueError(f"max_length ({config.max_length}): pairs are never truncated; leave it out")
    check_saving(config)
    check_tracking(config)
    config.output_dir = f"{config.out}/checkpoints"
    config.save_strategy = config.eval_strategy
    config.save_steps = config.eval_steps or config.save_steps
    config.set_precision()
    config.dataloader_pin_memory = torch.cuda.is_available()
    if METHODS.get(config.method) is not type(config):
        raise ValueError(f"method '{config.method}': give one of {', '.join(METHODS)} on the command line")


def prefer(
    policy: Path | str,
    pairs: Path | str,
    out: Path | str,
    *,
    method: str = "dpo",
    progress: Progress | None = None,
    **options: Any,
) -> TrainingResult:
    """Trains on preference pairs and measures the accuracy on held-out prompts.

    The same call again resumes an interrupted run, and returns the result of a finished one.

    Args:
        policy: model folder of the policy to start from.
        pairs: JSONL written by `mgen votes --export`.
        out: run folder; the model goes to `out`/model.
        method: `dpo` trains the policy, `reward` a reward model.
        progress: takes lines about the progress.
        options: other options of `PolicyConfig` or `RewardModelConfig`.

    Returns:
        Metrics on valid: `accuracy`, 0..1, and `margin`, in nats.

    Raises:
        MgenError: An option does not exist or is out of range, the pairs cannot be used, or `out` holds another run.
    """
    options |= {"policy": str(policy), "pairs": str(pairs), "out": str(out), "method": method}
    return run_prefer(from_keywords(options_of(method), "prefer", options), progress)


def options_of(method: str) -> type[PreferOptions]:
    """The dataclass of options of a method.

    Raises:
        MgenError: There is no such method.
    """
    if method not in METHODS:
        raise MgenError(f"mgen prefer: method '{method}': expected one of {', '.join(METHODS)}")
    return METHODS[method]


@resumable
def run_prefer(config: Any, progress: Progress | None = None) -> TrainingResult:
    """As `prefer`, for options that are a `PolicyConfig` or a `RewardModelConfig` already."""
    policy, remi = load_policy(config.policy)
    ends = config.method == "reward"  # a reward model reads an EOS after each
    pairs = read_pairs(config.pairs, remi, context_length(policy.config) - ends)
    train, valid = split_pairs(pairs, config.valid_share, config.seed)
    data = hashlib.sha256(Path(config.pairs).read_bytes()).hexdigest()[:16]
    run = Run.open(config.out, "prefer", as_dict(config), seed=config.seed, data=data)
    if run.finished:
        return _result(run, already_finished=True)
    progress = on_main_process(progress)
    run.record_speed(config.chosen_speed(), progress)
    train_model = _train_policy if config.method == "dpo" else _train_reward_model
    model, margins, steps = train_model(run, config, policy, remi, train, valid, progress)
    run.save_model(model, remi)
    run.finish(
        method=config.method,
        steps=steps,
        parameters=model.num_parameters(),
        pairs={"train": len(train), "valid": len(valid), "equal": pairs.equal},
        prompts={"train": train.n_prompts, "valid": valid.n_prompts},
        accuracy=bootstrap(0.5 + 0.5 * np.sign(margins), valid.group).to_json(),
        margin=bootstrap(margins, valid.group).to_json(),
    )
    return _result(run)


def _result(run: Run, already_finished: bool = False) -> TrainingResult:
    metrics = {name: run.fact(name)["value"] for name in ("accuracy", "margin")}
    return run.result(metrics, already_finished)


TrainedModel = tuple[PreTrainedModel, Any, int]  # the model, (N,) its margins on valid in nats, and its optimizer steps


def _train_policy(
    run: Run, config: PolicyConfig, policy: PreTrainedModel, remi: Remi, train: Pairs, valid: Pairs, progress: Progress
) -> TrainedModel:
    reference, _ = load_policy(config.policy)
    trainer = PolicyPreferences(
        policy,
        reference,
        config,
        train_dataset=train.for_policy(),
        eval_dataset=valid.for_policy(),
        processing_class=remi.tokenizer(),
    )
    run.follow(trainer, progress)
    held_out = list(dict.fromkeys(map(tuple, valid.prompt)))[: config.sample_prompts]
    prompts = {f"{i}_held_out": ids for i, ids in enumerate(held_out)}
    attach_samples(trainer, config, run.folder, run.clip_loggers, remi, prompts, True, progress)
    trainer.train(resume_from_checkpoint=run.last_checkpoint())
    model = trainer.accelerator.unwrap_model(trainer.model)
    reference.to(model.device)
    return model, config.beta * policy_margins(model, reference, valid, remi.pad_id), trainer.state.global_step


def _train_reward_model(
    run: Run,
    config: RewardModelConfig,
    policy: PreTrainedModel,
    remi: Remi,
    train: Pairs,
    valid: Pairs,
    progress: Progress,
) -> TrainedModel:
    critic = SequenceCritic.new(remi, init=config.policy, label="preferred", seed=config.seed)
    trainer = RewardPreferences(
        critic.model,
        config,
        train_dataset=train.for_reward(remi.eos_id),
        eval_dataset=valid.for_reward(remi.eos_id),
        processing_class=remi.tokenizer(),
    )
    run.follow(trainer, progress)
    trainer.train(resume_from_checkpoint=run.last_checkpoint())
    chosen, rejected = (
        critic.row_logits([np.array(row) for row in reward_inputs(valid.prompt, rows, remi.eos_id)])
        for rows in (valid.chosen, valid.rejected)
    )
    return critic.model, (chosen - rejected).astype(np.float64), trainer.state.global_step
