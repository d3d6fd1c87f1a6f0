"""What runs that train a policy against judges have in common: their start, what follows them, and their end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from accelerate import PartialState
from transformers import PreTrainedModel

from mgen.corpus.shards import Corpus
from mgen.encoding.remi import Remi
from mgen.models.transformer import check_fits, check_vocabulary, load_policy
from mgen.options import as_dict, target_style
from mgen.progress import Progress
from mgen.rl.prompt_mix import PromptMix
from mgen.runs.metrics import read_metrics
from mgen.runs.run import Run, TrainingResult
from mgen.runs.sample_callback import fixed_prompts
from mgen.runs.tracking import attach_samples
from mgen.workflows.judge_options import JudgeOptions
from mgen.workflows.run_judges import RunJudges, save_discriminators


@dataclass(frozen=True)
class PolicyRun:
    """An open run with the policy that it trains."""

    run: Run
    folder: str  # of the policy that it starts from
    policy: PreTrainedModel
    remi: Remi
    prompts: PromptMix

    def reference(self) -> PreTrainedModel:
        """The policy as it was, on the device of this process."""
        return load_policy(self.folder)[0].to(PartialState().device)


def begin(config: JudgeOptions, command: str, seed: int, completion_tokens: int, *bases: type) -> PolicyRun:
    """Loads corpus and policy, checks that they fit together, and opens the run.

    Args:
        command: of the run.
        bases: classes of options that are recorded in full besides the config's own (see `as_dict`).

    Raises:
        MgenError: They do not fit, or the folder holds another run.
    """
    corpus = Corpus.open(config.corpus)
    policy, remi = load_policy(config.policy)
    check_vocabulary(config.policy, remi, config.corpus, corpus.remi)
    longest = ("prompt_tokens", max(config.prompt_tokens)), ("max_completion_length", completion_tokens)
    check_fits(config.policy, policy.config, *longest)
    config.target = target_style(config.target, corpus.remi.style_ids)
    options = as_dict(config, JudgeOptions, *bases)
    run = Run.open(config.out, command, options, seed=seed, data=corpus.fingerprint)
    shares = config.transfer_share, config.prompt_tokens, completion_tokens
    return PolicyRun(run, config.policy, policy, remi, PromptMix(corpus, config.target, *shares, seed))


def follow(trainer: Any, start: PolicyRun, config: Any, seed: int, progress: Progress) -> None:
    """Makes trackers, metrics and samples follow a trainer."""
    prompts = start.prompts
    start.run.follow(trainer, progress)
    types = [("continuation", prompts.target), ("transfer", prompts.target)]
    shown = fixed_prompts(prompts.corpus, types, config.sample_prompts, max(prompts.prompt_tokens), seed)
    attach_samples(trainer, config, start.run.folder, start.run.clip_loggers, start.remi, shown, True, progress)


def finish(start: PolicyRun, found: RunJudges, policy: PreTrainedModel, steps: int) -> TrainingResult:
    """Saves the policy and the discriminators, and marks the run as finished."""
    run, last = start.run, last_metrics(start.run)
    run.save_model(policy, start.remi)
    if found.discriminator is not None:
        save_discriminators(found.discriminator, run, last)
    facts = {"left_out": found.left_out} if found.left_out else {}
    run.finish(steps=steps, last=last, parameters=policy.num_parameters(), **facts)
    return trained_result(run)


def trained_result(run: Run, already_finished: bool = False) -> TrainingResult:
    """What a library call returns for a finished run."""
    left_out: Mapping[str, str] = run.facts.get("left_out", {})
    notes = [f"judge {name} is left out: {reason}" for name, reason in left_out.items()]
    return run.result(run.fact("last"), already_finished, notes)


def last_metrics(run: Run, steps: int = 5) -> dict[str, float]:
    """Means of the logged metrics over the last steps."""
    lines = [line for line in read_metrics(run.folder) if "reward" in line][-steps:]
    names = {name for line in lines for name, value in line.items() if isinstance(value, int | float)} - {"step"}
    values = {name: [line[name] for line in lines if line.get(name) is not None] for name in sorted(names)}
    return {name: round(float(np.mean(numbers)), 5) for name, numbers in values.items()}
