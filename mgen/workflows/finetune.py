"""Policy-gradient fine-tuning of a policy against rewards and critics.

`finetune` in order: prompts, bands of the rules, judges, trainer, discriminator warm-up, training, files. One step of
the algorithm is in `mgen.rl.trainer`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from accelerate import PartialState
from transformers import PreTrainedModel
from trl import GRPOConfig

from critics.realism.feature_discriminator import FeatureDiscriminatorOptions
from critics.realism.regularisation import BOUNDED
from critics.realism.token_discriminator import TokenDiscriminatorOptions
from mgen.corpus.shards import Corpus
from mgen.models.transformer import check_fits, check_vocabulary, load_policy
from mgen.options import as_dict, check_required, from_keywords, option, target_style
from mgen.rl.credit import AGGREGATIONS
from mgen.rl.discriminator import AGAINST, check_weights
from mgen.rl.prompt_mix import PromptMix
from mgen.rl.trainer import OBJECTIVES, MusicTrainer, Quantile, check_arguments
from mgen.runs.checkpoints import check_saving
from mgen.runs.interruptions import resumable
from mgen.runs.judges import JudgeSpec, judge_specs
from mgen.runs.metrics import Progress, read_metrics
from mgen.runs.run import Run, TrainingResult, on_main_process
from mgen.runs.sample_callback import fixed_prompts
from mgen.runs.tracking import SampleOptions, attach_samples, check_tracking
from mgen.speed import SpeedOptions
from mgen.workflows.judges import JUDGES
from mgen.workflows.run_judges import DISCRIMINATORS, prepare_judges, save_discriminators
from rewards.trl import trl_rewards

QUANTILE_SAMPLES = 256  # samples of the reference policy for each prompt type, for the quantile reward
LOSSES = ("grpo", "bnpo", "dr_grpo", "dapo", "luspo", "cispo", "sapo", "vespo")

DEFAULT_JUDGES = (
    *("grammar=0.25", "repetition_interval=1", "repetition_rhythm=0.5", "phrase_reuse=1", "scale_fit=0.5"),
    *("pitch_entropy=0.5", "bar_lines=0.5", "rests=0.5", "style=1", "realism=1"),
)
"""Rules that prefer no corruption and no policy's samples to real jazz (no AUC below .5), and whose sum has the highest
AUC. The first grammar error costs 10 nats; with weight 1, `grammar` had 0.8 of the advantage. Reinforcement learning
degrades repetition first, so these rules have the largest weights.
"""

Options = TypeVar("Options", FeatureDiscriminatorOptions, TokenDiscriminatorOptions)


@dataclass
class FinetuneConfig(SpeedOptions, SampleOptions, GRPOConfig):  # type: ignore[misc]
    """Options of `mgen finetune`: those of `trl.GRPOConfig`, with other defaults, and these."""

    policy: str = option("", "Model folder of the policy to start from; also the reference of KL.")
    corpus: str = option("", "Folder written by mgen prepare.")
    out: str = option("", "Run folder; the model goes to OUT/model.")
    critic: str = option("", "Model folder of the style critic; needed if `judges` names style.")
    bands: str = option("", "JSON of measured bands; by default they are measured on train.")
    judges: list[str] = option(
        [*DEFAULT_JUDGES],
        "NAME=WEIGHT or package.module:Factory=WEIGHT of each judge, or a mapping {judge: ..., weight: "
        "..., arguments: {...}}. A rule for which the corpus has no band is left out.",
        mapping=True,
    )
    causal_rewards: bool = option(
        True,
        "kl_in_return: reward what each closed bar adds to the score of a judge that can judge beginnings, on the "
        "token that closes it; otherwise the score falls on the last token. The optimum is the same, the variance "
        "lower.",
    )
    objective: str = option(
        OBJECTIVES[0],
        "kl_in_return (rewards per token, KL in the return, nats), or grpo (as published).",
        words=OBJECTIVES,
    )
    kl_weight: float = option(
        0.5,
        "kl_in_return: nats of return per nat of KL. With the judge realism: equal to its weight with "
        "realism_against reference, below it with current (0: the fixed point is real music, and only small steps "
        "hold the policy).",
        least=0,
    )
    quantile: int = option(
        0,
        "kl_in_return: n of the quantile reward (n - 1) log F(weighted sum of scores), F among samples of the start; "
        "its optimum with kl_weight 1 is the best of n. 0: the sum itself.",
        least=0,
    )
    multi_objective_aggregation: str = option(
        AGGREGATIONS[0],
        "grpo: sum_then_normalize divides the weighted sum by its deviation in the group; "
        "normalize_then_sum divides each judge by its own deviation first (GDPO), so that equal weights have equal "
        "effect.",
        words=AGGREGATIONS,
    )
    dominant_share: float = option(
        0.8, "Share of the advantage above which, for 5 steps, a judge is reported.", least=0.5, most=1
    )
    allow_equal_rewards: bool = option(
        False, "Go on where rewards never differ within a group; by default the run stops at step 3."
    )
    target: str = option("", "Style that is asked for; may be left out if the corpus has one style and `other`.")
    check_pieces: int = option(
        256,
        "Real pieces, and samples of the policy, on which the judges are compared before the first step: a judge whose "
        "AUC is below 0.55 is left out, unless it is named with `!` (`!style=1`). 0: no comparison.",
        least=0,
    )
    transfer_share: float = option(
        0.5, "Share of prompts of other styles, to be continued in the target style.", least=0, most=1
    )
    prompt_tokens: list[int] = option(
        [24, 64],
        "Tokens of music in a prompt; several lengths take turns. Completions of short ones differ more.",
        least=1,
    )
    prompts: int = option(2048, "Number of prompts.", least=1)
    realism_against: str = option(
        "current",
        "Whose samples the discriminator is trained against. reference: before the first step, then fixed; "
        "its score is log p_real / p_reference. current: after each step, against the samples of the step; its "
        "score is log p_real / p_policy. See kl_weight.",
        words=AGAINST,
    )
    realism_warm_up: int = option(
        4,
        "Batches of the discriminator on the frozen policy before the first step; with realism_against reference its "
        "only training. The judge realism_tokens needs some 20.",
        least=0,
    )
    realism_regularisation: float = option(
        100.0, "realism: weight of the squared coefficients of its logistic regression.", above=0
    )
    realism_capacity: int = option(1024, "Pieces of each side that it remembers: those of the last few steps.", least=4)
    realism_clip: float = option(10.0, "Largest absolute score, in nats; limits what can be corrected.", above=0)
    realism_capped: bool = option(
        True, "realism: no score is above the median of real music, so that nothing is gained beyond it."
    )
    realism_corrupted: float = option(
        0.1, "realism: share of corrupted real pieces on its generated side, against loops and noise.", least=0, below=1
    )
    realism_learning_rate: float = option(3e-4, "realism_tokens: learning rate.", least=0)
    realism_steps: int = option(2, "realism_tokens: optimizer steps per step of the policy.", least=1)
    realism_batch_size: int = option(
        64, "realism_tokens: pieces per step: half of them real, and half of each side from its memory.", least=4
    )
    realism_smoothing: float = option(
        0.05, "realism_tokens: label smoothing: its targets are 1 - x and x.", least=0, below=0.5
    )
    realism_floor: float = option(
        0.6, "realism_tokens: held-out accuracy below which it takes twice its steps.", least=0, most=1
    )
    realism_ceiling: float = option(
        0.95, "realism_tokens: held-out accuracy above which it is not trained.", least=0, most=1
    )
    realism_memory: int = option(512, "realism_tokens: held-out logits for its calibration.", least=32)
    realism_gradient_penalty: float = option(
        0.0, "realism_tokens: weight of a gradient penalty on the embeddings of real pieces (R1).", least=0
    )
    realism_spectral_norm: str = option(
        "none", f"realism_tokens: layers whose spectral norm is bounded: {', '.join(BOUNDED)}.", words=BOUNDED
    )
    max_steps: int = option(60, "Optimizer steps.")
    learning_rate: float = option(3e-4, "Highest learning rate.")
    lr_scheduler_type: str = option("constant_with_warmup", "As in transformers.")
    warmup_steps: float = option(5, "Steps.")
    max_grad_norm: float = option(1.0, "Gradients are clipped to this norm.")
    adam_beta2: float = option(0.95, "Beta 2 of adamw.")
    per_device_train_batch_size: int = option(64, "Completions per step and device.")
    num_generations: int = option(8, "Completions per prompt.", least=2)
    max_completion_length: int = option(192, "Most tokens in a completion.", least=1)
    beta: float = option(0.0, "grpo: weight of the KL penalty in the loss.", least=0)
    loss_type: str = option("dr_grpo", "As in trl.", words=LOSSES)
    save_steps: float = option(20, "Steps between checkpoints.")
    save_total_limit: int = option(2, "Checkpoints kept; at least 2, so that one is always complete.")
    logging_steps: float = option(1, "Steps between log lines.")
    gradient_checkpointing: bool = option(False, "Save memory at the cost of time.")

    def __post_init__(self) -> None:
        check_required(self, "policy", "corpus", "out", "prompt_tokens")
        self._check_objective()
        self._check_realism()
        check_saving(self)
        check_tracking(self)
        self.output_dir = f"{self.out}/checkpoints"
        self.scale_rewards = "none" if self.kl_in_return else "group"
        self.set_precision()
        super().__post_init__()
        check_arguments(self, self.objective)

    def _check_objective(self) -> None:
        if self.kl_in_return and self.beta:
            raise ValueError(f"beta ({self.beta}) is for the objective grpo; kl_in_return has kl_weight")
        if self.quantile == 1 or (self.quantile and not self.kl_in_return):
            raise ValueError(f"quantile ({self.quantile}) is 0 or at least 2, and for the objective kl_in_return")
        if not self.kl_in_return and not self.beta:
            raise ValueError("beta must be above 0 with the objective grpo: KL is always on; try 0.04")

    def _check_realism(self) -> None:
        try:
            (
                self.discriminator_options(FeatureDiscriminatorOptions),
                self.discriminator_options(TokenDiscriminatorOptions),
            )
        except ValueError as error:
            raise ValueError(f"realism_{error}") from error
        least = 2 if self.realism_against == "reference" else 0
        if self.realism_warm_up < least:
            raise ValueError(
                f"realism_warm_up ({self.realism_warm_up}) must be at least {least} with realism_against "
                f"{self.realism_against}; try 4"
            )
        named = [weight for name, weight in self.weights().items() if name in DISCRIMINATORS]
        if not named or not self.kl_in_return or self.quantile:
            return
        check_weights(self.realism_against, sum(named), self.kl_weight)
        if not self.kl_weight and not self.max_grad_norm:
            raise ValueError(
                f"max_grad_norm ({self.max_grad_norm}) must be above 0 with kl_weight 0: nothing else holds the policy"
            )

    @property
    def kl_in_return(self) -> bool:
        """Whether the objective is `kl_in_return`."""
        return self.objective == "kl_in_return"

    def judge_specs(self) -> list[JudgeSpec]:
        """The entries of `judges`."""
        return judge_specs(self.judges, JUDGES)

    def weights(self) -> dict[str, float]:
        """Weight of each judge, by name."""
        return {spec.name: spec.weight for spec in self.judge_specs()}

    def discriminator_options(self, kind: type[Options]) -> Options:
        """The options of a kind of discriminator, `realism_...` here."""
        names = {option.name for option in fields(kind)} - {"min_notes"}
        return kind(**{name: getattr(self, f"realism_{name}") for name in names})


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
    corpus = Corpus.open(config.corpus)
    policy, remi = load_policy(config.policy)
    check_vocabulary(config.policy, remi, config.corpus, corpus.remi)
    longest = ("prompt_tokens", max(config.prompt_tokens)), ("max_completion_length", config.max_completion_length)
    check_fits(config.policy, policy.config, *longest)
    config.target = target_style(config.target, corpus.remi.style_ids)
    run = Run.open(config.out, "finetune", as_dict(config), seed=config.seed, data=corpus.fingerprint)
    if run.finished:
        return _result(run, already_finished=True)
    progress = on_main_process(progress)
    run.record_speed(config.chosen_speed(), progress)
    reference, _ = load_policy(config.policy)
    prompts = PromptMix(
        corpus, config.target, config.transfer_share, config.prompt_tokens, config.max_completion_length, config.seed
    )
    found = prepare_judges(config, prompts, reference.to(PartialState().device), run, progress)
    config.reward_weights = [config.weights()[name] for name in found.judges]
    trainer = MusicTrainer(
        policy,
        reference,
        remi,
        trl_rewards(found.judges, remi),
        config,
        prompts.dataset(config.prompts),
        objective=config.objective,
        kl_weight=config.kl_weight,
        discriminator=found.discriminator,
        causal_rewards=config.causal_rewards,
        quantile=_quantile(config, prompts, reference),
        dominant_share=config.dominant_share,
        allow_equal_rewards=config.allow_equal_rewards,
        warn=progress,
    )
    run.follow(trainer, progress)
    types = [("continuation", config.target), ("transfer", config.target)]
    shown = fixed_prompts(corpus, types, config.sample_prompts, max(config.prompt_tokens), config.seed)
    attach_samples(trainer, config, run.folder, run.clip_loggers, remi, shown, True, progress)
    trainer.train(resume_from_checkpoint=run.last_checkpoint())
    last = _last_metrics(run)
    run.save_model(trainer.accelerator.unwrap_model(trainer.model), remi)
    if found.discriminator is not None:
        save_discriminators(found.discriminator, run, last)
    facts = {"left_out": found.left_out} if found.left_out else {}
    run.finish(steps=trainer.state.global_step, last=last, parameters=policy.num_parameters(), **facts)
    return _result(run)


def _quantile(config: FinetuneConfig, prompts: PromptMix, reference: PreTrainedModel) -> Quantile | None:
    if not config.quantile:
        return None
    dtype = torch.bfloat16 if config.bf16 else None
    return Quantile(config.quantile, prompts.sampled_by_type(reference, QUANTILE_SAMPLES, dtype))


def _last_metrics(run: Run, steps: int = 5) -> dict[str, float]:
    """Means of the logged metrics over the last steps."""
    lines = [line for line in read_metrics(run.folder) if "policy/kl" in line][-steps:]
    names = {name for line in lines for name, value in line.items() if isinstance(value, int | float)} - {"step"}
    values = {name: [line[name] for line in lines if line.get(name) is not None] for name in sorted(names)}
    return {name: round(float(np.mean(numbers)), 5) for name, numbers in values.items()}


def _notes(left_out: Mapping[str, str]) -> list[str]:
    return [f"judge {name} is left out: {reason}" for name, reason in left_out.items()]


def _result(run: Run, already_finished: bool = False) -> TrainingResult:
    return run.result(run.fact("last"), already_finished, _notes(run.facts.get("left_out", {})))
