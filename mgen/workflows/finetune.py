"""Policy-gradient fine-tuning of a policy against rewards and critics.

`finetune` in order: prompts, bands of the rules, judges, discriminator warm-up, the loop (`mgen.rl.loop`), files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env
from transformers import PreTrainedModel, TrainingArguments

from mgen.errors import MgenError
from mgen.options import check_required, from_keywords, option
from mgen.progress import Progress
from mgen.rl.advantages import Quantile
from mgen.rl.discriminator import check_weights
from mgen.rl.guard import NOTES, Guard
from mgen.rl.loop import PolicyGradient
from mgen.rl.loop_options import LoopOptions
from mgen.rl.prompt_mix import PromptMix
from mgen.runs.interruptions import resumable
from mgen.runs.run import TrainingResult, on_main_process
from mgen.runs.tracking import SampleOptions, check_tracking
from mgen.workflows.judge_options import DISCRIMINATORS, JudgeOptions
from mgen.workflows.policy_run import begin, finish, follow, trained_result
from mgen.workflows.run_judges import prepare_judges

QUANTILE_SAMPLES = 256  # samples of the reference policy for each prompt type, for the quantile reward


@dataclass
class FinetuneConfig(JudgeOptions, LoopOptions, SampleOptions):
    """Options of `mgen finetune`."""

    quantile: int = option(
        0,
        "n of the quantile reward (n - 1) log F(weighted sum of scores), F among samples of the start; its optimum "
        "with kl_weight 1 is the best of n. 0: the sum itself.",
        least=0,
    )
    guard_steps: int = option(
        20,
        "Steps between checks on held-out prompts, by measures that give no reward; the weights of the best check are "
        "kept, and a run that only gets worse ends. 0: no checks, and the last weights are kept.",
        least=0,
    )
    guard_pieces: int = option(256, "Prompts of each type in a check.", least=80)
    guard_notes: int = option(NOTES, "Notes of the completions that a check compares with real music.", least=8)
    run_name: str = option("", "Name of the run in trackers.")

    def __post_init__(self) -> None:
        check_required(self, "policy", "corpus", "out", "prompt_tokens")
        self.check_loop()
        if self.quantile == 1:
            raise ValueError(f"quantile ({self.quantile}) is 0 or at least 2")
        if missing := [name for name in self.cold_judges if name not in self.weights()]:
            raise ValueError(f"cold_judges: {missing[0]} is not among the judges ({', '.join(self.weights())})")
        self.check_realism()
        self._check_weights()
        check_tracking(self)
        self.set_precision()

    def _check_weights(self) -> None:
        named = [weight for name, weight in self.weights().items() if name in DISCRIMINATORS]
        if not named or self.quantile:
            return
        check_weights(self.realism_against, sum(named), self.kl_weight)
        if not self.kl_weight and not self.kl_step:
            raise ValueError(
                f"kl_step ({self.kl_step}) must be above 0 with kl_weight 0: nothing else holds the policy"
            )

    def training_arguments(self) -> TrainingArguments:
        """What follows a run (trackers, samples) expects of it."""
        return TrainingArguments(
            output_dir=f"{self.out}/checkpoints",
            max_steps=self.max_steps,
            save_steps=self.save_steps,
            logging_steps=1,
            learning_rate=self.learning_rate,
            report_to=self.report_to,
            project=self.project,
            run_name=self.run_name or None,
            bf16=bool(self.bf16),
            use_cpu=self.use_cpu,
            seed=self.seed,
            disable_tqdm=True,
        )


def finetune(
    policy: Path | str, corpus: Path | str, out: Path | str, *, progress: Progress | None = None, **options: Any
) -> TrainingResult:
    """Fine-tunes a policy against judges.

    The same call again resumes an interrupted run, and returns the result of a finished one.

    Args:
        policy: model folder of the policy to start from; also the reference of KL.
        corpus: folder written by `mgen prepare`.
        out: run folder; the model goes to `out`/model.
        progress: takes lines about the progress.
        options: other options of `FinetuneConfig`. `judges` may be a mapping of names to weights.

    Returns:
        Means of all metrics over the last 5 steps; notes on judges that were left out.

    Raises:
        MgenError: An option does not exist or is out of range, policy, critic and corpus do not fit together, no judge
            is available, or `out` holds another run.
    """
    if isinstance(options.get("judges"), Mapping):
        options["judges"] = [f"{name}={weight}" for name, weight in options["judges"].items()]
    options |= {"policy": str(policy), "corpus": str(corpus), "out": str(out)}
    return run_finetune(from_keywords(FinetuneConfig, "finetune", options), progress)


@resumable
def run_finetune(config: FinetuneConfig, progress: Progress | None = None) -> TrainingResult:
    """As `finetune`, for options that are a `FinetuneConfig` already."""
    for name in ("FSDP", "DEEPSPEED"):
        if parse_flag_from_env(f"ACCELERATE_USE_{name}"):
            raise MgenError(
                f"mgen finetune: each process samples with the whole policy, so {name} does not divide it; launch with "
                "configs/accelerate/gpus.yaml"
            )
    PartialState(cpu=config.use_cpu or not torch.cuda.is_available())  # joins the processes of a launcher, if any
    start = begin(config, "finetune", config.seed, config.max_completion_length, LoopOptions)
    if start.run.finished:
        return trained_result(start.run, already_finished=True)
    run, policy, remi, prompts = start.run, start.policy, start.remi, start.prompts
    progress = on_main_process(progress)
    tokens = config.completions * (max(config.prompt_tokens) + config.max_completion_length)
    # Per step: read by the policy and the reference without gradient, and once with it.
    work = 10.0 * policy.num_parameters() * config.max_steps * config.epochs * tokens
    speed = config.chosen_speed(work / PartialState().num_processes)
    run.record_speed(speed, progress)
    reference = start.reference()
    kl_weight = None if config.quantile else config.kl_weight
    found = prepare_judges(config, prompts, reference, run, progress, config.completions, kl_weight)
    loop = PolicyGradient(
        policy,
        reference,
        remi,
        found.judges,
        config.weights(),
        prompts,
        config,
        config.training_arguments(),
        discriminator=found.discriminator,
        quantile=_quantile(config, prompts, reference),
        guard=_guard(config, prompts, progress),
        guard_steps=config.guard_steps,
        progress=progress,
        compiled=speed.compiled,
    )
    follow(loop, start, config, config.seed, progress)
    loop.train(run.last_checkpoint())
    return finish(start, found, loop.policy, loop.state.global_step)


def _guard(config: FinetuneConfig, prompts: PromptMix, progress: Progress) -> Guard | None:
    if not config.guard_steps:
        return None
    lengths = max(config.prompt_tokens), config.max_completion_length
    dtype = torch.bfloat16 if config.bf16 else None
    try:
        return Guard.of(
            prompts.corpus, prompts.target, config.guard_pieces, *lengths, config.seed, dtype, notes=config.guard_notes
        )
    except MgenError as error:
        progress(f"no checks on held-out prompts: {error}")
        return None


def _quantile(config: FinetuneConfig, prompts: PromptMix, reference: PreTrainedModel) -> Quantile | None:
    if not config.quantile:
        return None
    dtype = torch.bfloat16 if config.bf16 else None
    return Quantile(config.quantile, prompts.sampled_by_type(reference, QUANTILE_SAMPLES, dtype))
