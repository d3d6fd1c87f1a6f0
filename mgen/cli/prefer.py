r"""Train on votes: a policy on preference pairs (DPO), or a reward model that says which of two pieces is preferred.

    mgen votes votes.sqlite --export pairs.jsonl
    mgen prefer --config configs/prefer/laptop.yaml --method dpo --policy runs/jazz/model \
        --pairs pairs.jsonl --out runs/preferred
    mgen prefer --config configs/prefer/laptop.yaml --method reward --policy runs/jazz/model \
        --pairs pairs.jsonl --out runs/preference_critic

Differs from TRL's own scripts: nothing is cut or ended with an EOS that was not sampled, pairs of one prompt are all
in train or all in valid, and valid accuracy comes with an interval by prompt. The reward model is a stock classifier
with one logit, to be handed to plain TRL as a reward; a difference of logits is log-odds in nats, a logit alone means
nothing.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from transformers import PreTrainedModel
from trl import DPOConfig, RewardConfig

from critics.sequence import SequenceCritic
from mgen.cli.options import parse
from mgen.encoding.remi import Remi
from mgen.errors import MgenError
from mgen.models.transformer import load_policy
from mgen.options import as_dict
from mgen.runs.run import Run
from mgen.runs.tracking import SampleOptions, TrackingOptions, check_tracking, listen
from mgen.stats.intervals import bootstrap
from mgen.training.preference import (
    Pairs,
    PolicyPreferences,
    RewardPreferences,
    heard,
    policy_margins,
    read_pairs,
    split_pairs,
)


@dataclass
class PreferOptions(TrackingOptions):
    """What both methods of `mgen prefer` ask for, and their common defaults."""

    method: str = field(default="dpo", metadata={"help": "dpo (a policy) or reward (a reward model)."})
    policy: str = field(default="", metadata={"help": "Model folder of the policy to start from."})
    pairs: str = field(default="", metadata={"help": "JSONL written by mgen votes --export."})
    out: str = field(default="", metadata={"help": "Run folder; the model goes to OUT/model."})
    valid_share: float = field(default=0.2, metadata={"help": "Share of the prompts that is kept back to be measured."})
    json: bool = field(default=False, metadata={"help": "Print the result as one JSON object."})
    num_train_epochs: float = field(default=1, metadata={"help": "Times through all pairs."})
    lr_scheduler_type: str = field(default="cosine", metadata={"help": "As in transformers."})
    warmup_steps: float = field(default=0.1, metadata={"help": "Steps, or a share of all steps if below 1."})
    adam_beta2: float = field(default=0.95, metadata={"help": "Of adamw."})
    per_device_train_batch_size: int = field(default=8, metadata={"help": "Pairs a step and device."})
    per_device_eval_batch_size: int = field(default=16, metadata={"help": "Pairs a step of evaluation."})
    eval_strategy: str = field(default="epoch", metadata={"help": "As in transformers; checkpoints are as often."})
    save_total_limit: int = field(
        default=2, metadata={"help": "Checkpoints kept; at least 2, so that one is always whole."}
    )
    logging_steps: float = field(default=1, metadata={"help": "Steps between log lines."})
    gradient_checkpointing: bool = field(default=False, metadata={"help": "Trade time for memory."})
    bf16: bool | None = field(default=None, metadata={"help": "By default where the machine has a GPU for it."})
    max_length: int | None = field(default=None, metadata={"help": "Not used: pairs are never cut."})


@dataclass
class PolicyConfig(SampleOptions, PreferOptions, DPOConfig):  # type: ignore[misc]
    """Options of `mgen prefer --method dpo`: those of `trl.DPOConfig`, with other defaults, and these."""

    beta: float = field(
        default=0.1,
        metadata={"help": "Log-odds of a preference, in nats, for each nat that the policy moves from the reference."},
    )
    learning_rate: float = field(default=5e-5, metadata={"help": "Highest learning rate."})

    def __post_init__(self) -> None:
        if self.beta <= 0:
            raise ValueError(f"beta ({self.beta}) must be above 0, or nothing holds the policy to its reference")
        _settle(self)
        super().__post_init__()


@dataclass
class RewardModelConfig(PreferOptions, RewardConfig):  # type: ignore[misc]
    """Options of `mgen prefer --method reward`: those of `trl.RewardConfig`, with other defaults, and these."""

    learning_rate: float = field(default=1e-4, metadata={"help": "Highest learning rate."})
    center_rewards_coefficient: float | None = field(
        default=0.01, metadata={"help": "Holds the logits around 0, where a reward is read most easily."}
    )

    def __post_init__(self) -> None:
        _settle(self)
        super().__post_init__()


METHODS: dict[str, type[PreferOptions]] = {"dpo": PolicyConfig, "reward": RewardModelConfig}


def _settle(config: Any) -> None:
    """Check what both methods share, and derive what follows from it, before TRL does the same."""
    for name in ("policy", "pairs", "out"):
        if not getattr(config, name):
            raise ValueError(f"expected --{name}, got none; see --help")
    if not 0 < config.valid_share < 1:
        raise ValueError(f"valid_share ({config.valid_share}) must be above 0 and below 1")
    if config.max_length is not None:
        raise ValueError(f"max_length ({config.max_length}): pairs are never cut; leave it out")
    if config.save_total_limit is not None and config.save_total_limit < 2:
        raise ValueError(f"save_total_limit ({config.save_total_limit}) must be at least 2: one is whole at any time")
    check_tracking(config)
    config.output_dir = f"{config.out}/checkpoints"
    config.save_strategy = config.eval_strategy
    config.save_steps = config.eval_steps or config.save_steps
    if config.bf16 is None:
        config.bf16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    config.dataloader_pin_memory = torch.cuda.is_available()
    if METHODS.get(config.method) is not type(config):
        raise ValueError(f"method '{config.method}': give one of {', '.join(METHODS)} on the command line")


def main(argv: Sequence[str] | None = None) -> int:
    """Train and measure; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    (config,) = parse(
        words,
        METHODS[_method(words)],
        program="mgen prefer",
        example="mgen prefer --config configs/prefer/laptop.yaml --method dpo --policy runs/jazz/model "
        "--pairs pairs.jsonl --out runs/preferred",
    )
    policy, remi = load_policy(config.policy)
    pairs = read_pairs(config.pairs, remi, policy.config.max_position_embeddings)
    train, valid = split_pairs(pairs, config.valid_share, config.seed)
    data = hashlib.sha256(Path(config.pairs).read_bytes()).hexdigest()[:16]
    run = Run.open(config.out, "prefer", as_dict(config), seed=config.seed, data=data)
    if run.finished:
        return _report(run, config.json, "was finished before")
    trained = _train_policy if config.method == "dpo" else _train_reward
    model, margins, steps = trained(run, config, policy, remi, train, valid)
    run.save_model(model, remi)
    run.finish(
        method=config.method,
        steps=steps,
        parameters=model.num_parameters(),
        pairs={"train": len(train), "valid": len(valid), "alike": pairs.alike},
        prompts={"train": train.n_prompts, "valid": valid.n_prompts},
        accuracy=bootstrap(0.5 + 0.5 * np.sign(margins), valid.group).to_json(),
        margin=bootstrap(margins, valid.group).to_json(),
    )
    return _report(run, config.json, "finished")


def _method(words: Sequence[str]) -> str:
    """The method that the command line names: it decides which options there are."""
    for place, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name == "--method":
            method = value if equals else words[place + 1] if place + 1 < len(words) else ""
            if method not in METHODS:
                raise MgenError(f"mgen prefer: method '{method}': expected one of {', '.join(METHODS)}")
            return method
    return "dpo"


Trained = tuple[PreTrainedModel, Any, int]


def _train_policy(
    run: Run, config: PolicyConfig, policy: PreTrainedModel, remi: Remi, train: Pairs, valid: Pairs
) -> Trained:
    """The policy, (N,) its margins on valid, and the steps it took."""
    reference, _ = load_policy(config.policy)
    trainer = PolicyPreferences(
        policy,
        reference,
        config,
        train_dataset=train.for_policy(),
        eval_dataset=valid.for_policy(),
        processing_class=remi.tokenizer(),
    )
    run.follow(trainer)
    held = list(dict.fromkeys(map(tuple, valid.prompt)))[: config.sample_prompts]
    prompts = {f"{i}_held": ids for i, ids in enumerate(held)}
    listen(trainer, config, run.folder, run.clip_loggers, remi, prompts, at_start=True)
    trainer.train(resume_from_checkpoint=run.last_checkpoint())
    model = trainer.accelerator.unwrap_model(trainer.model)
    reference.to(model.device)
    return model, config.beta * policy_margins(model, reference, valid, remi.pad_id), trainer.state.global_step


def _train_reward(
    run: Run, config: RewardModelConfig, policy: PreTrainedModel, remi: Remi, train: Pairs, valid: Pairs
) -> Trained:
    """The reward model, (N,) its margins on valid, and the steps it took."""
    critic = SequenceCritic.new(remi, init=config.policy, label="preferred", seed=config.seed)
    trainer = RewardPreferences(
        critic.model,
        config,
        train_dataset=train.for_reward(remi.eos_id),
        eval_dataset=valid.for_reward(remi.eos_id),
        processing_class=remi.tokenizer(),
    )
    run.follow(trainer)
    trainer.train(resume_from_checkpoint=run.last_checkpoint())
    chosen, rejected = (
        critic.row_logits([np.array(row) for row in heard(valid.prompt, rows, remi.eos_id)])
        for rows in (valid.chosen, valid.rejected)
    )
    return critic.model, (chosen - rejected).astype(np.float64), trainer.state.global_step


def _report(run: Run, as_json: bool, state: str) -> int:
    if not PartialState().is_main_process:
        return 0
    facts = run.facts
    if as_json:
        print(json.dumps(facts))
        return 0
    accuracy, margin = facts["accuracy"], facts["margin"]
    pairs, prompts = facts["pairs"], facts["prompts"]
    print(
        f"{run.folder} {state}: {facts['steps']} steps on {pairs['train']} pairs of {prompts['train']} prompts, "
        f"{facts['seconds']:.0f} s; on {pairs['valid']} pairs of {prompts['valid']} other prompts it prefers what was "
        f"preferred in {_told(accuracy)}, by {_told(margin)} nats (95 % intervals by prompt)"
    )
    return 0


def _told(number: dict[str, float]) -> str:
    return f"{number['value']:.2f} ({number['low']:.2f} to {number['high']:.2f})"
