"""The judges of a run of `mgen finetune`: built, warmed up, and compared on real music and samples before step 1."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import PreTrainedModel

from critics.realism.feature_discriminator import FeatureDiscriminator, FeatureDiscriminatorOptions
from critics.realism.token_discriminator import TokenDiscriminator, TokenDiscriminatorOptions
from critics.sequence import SequenceCritic
from mgen.errors import MgenError
from mgen.files import write_atomically
from mgen.judgement import Judge, judged
from mgen.progress import Progress
from mgen.rl.discriminator import DiscriminatorTrainer, fixed_point
from mgen.rl.judge_auc import WEAK, judge_aucs, weak
from mgen.rl.prompt_mix import PromptMix
from mgen.runs.checkpoints import replace_folder
from mgen.runs.judges import (
    BANDS_FILE,
    JUDGES_FILE,
    build_judges,
    weak_judges,
)
from mgen.runs.run import Run
from mgen.workflows.judge_options import DISCRIMINATORS, JudgeOptions
from mgen.workflows.judges import JUDGES
from rewards import ACCOMPANIMENT, REWARDS
from rewards.bands import Bands, fit_bands, load_bands, save_bands

BAND_PIECES = 512  # real excerpts from which the bands are measured
CHECK_BATCH = 1_000_000  # number of the batch on which judges are compared: no other draw has it


@dataclass
class RunJudges:
    """The judges of a run.

    Attributes:
        judges: by name.
        discriminator: trains those judges that are trained during the run; None without any.
        left_out: name -> why a judge that the options name is not used.
    """

    judges: dict[str, Judge]
    discriminator: DiscriminatorTrainer | None
    left_out: dict[str, str]

    def leave_out(self, reasons: Mapping[str, str]) -> None:
        """Leaves out judges by name.

        Raises:
            MgenError: No judge is left.
        """
        self.left_out |= reasons
        self.judges = {name: judge for name, judge in self.judges.items() if name not in reasons}
        if not self.judges:
            why = "; ".join(f"{name}: {reason}" for name, reason in self.left_out.items()) or "none was named"
            raise MgenError(f"judges: none is left ({why}); name others, or judge longer completions")
        if self.discriminator is not None:
            self.discriminator.discriminators = {
                name: one for name, one in self.discriminator.discriminators.items() if name in self.judges
            }
            self.discriminator = self.discriminator if self.discriminator.discriminators else None


def prepare_judges(
    config: JudgeOptions,
    prompts: PromptMix,
    reference: PreTrainedModel,
    run: Run,
    progress: Progress,
    pieces: int,
    kl_weight: float | None = None,
) -> RunJudges:
    """Builds the judges of a run; before its first checkpoint, also warms up the discriminators and checks them all.

    Args:
        pieces: in a batch of the discriminators' warm-up, of each side.
        kl_weight: of an objective in nats, whose fixed point is reported; None for another objective.

    Raises:
        MgenError: No judge is left.
    """
    found = available_judges(config, prompts, run_bands(config, prompts, run))
    for name, reason in found.left_out.items():
        progress(f"judge {name} is left out: {reason}")
    if found.discriminator is not None and kl_weight is not None:
        progress(describe_fixed_point(config, kl_weight))
    if run.last_checkpoint() is not None:
        found.leave_out(weak_judges(run.folder))
        return found
    if found.discriminator is not None:
        warm_up(found.discriminator, reference, prompts, config, progress, pieces)
    if config.check_pieces:
        reasons = check_judges(found.judges, config, prompts, reference, run, progress)
        for name, reason in reasons.items():
            progress(f"judge {name} is left out: {reason}; name it !{name} to keep it")
        found.leave_out(reasons)
    return found


def check_judges(
    judges: Mapping[str, Judge],
    config: JudgeOptions,
    prompts: PromptMix,
    reference: PreTrainedModel,
    run: Run,
    progress: Progress,
) -> dict[str, str]:
    """Compares the judges' scores of real music of the target style with those of samples of the frozen policy.

    Writes RUN/judges.json with each judge's AUC.

    Returns:
        Judge -> why it is left out, of those with an AUC below `WEAK` that are not named with `!`.
    """
    n, dtype = config.check_pieces, torch.bfloat16 if config.bf16 else None
    real, works, _ = prompts.real_target(n, CHECK_BATCH)
    samples = prompts.sampled(reference, n, CHECK_BATCH, dtype)
    of_real, of_samples = (
        {name: judged(name, one, notes).score for name, one in judges.items()} for notes in (real, samples)
    )
    aucs = judge_aucs(of_real, of_samples, works, seed=prompts.seed)
    each = ", ".join(f"{name} {auc.value:.2f} [{auc.low:.2f}, {auc.high:.2f}]" for name, auc in aucs.items())
    progress(f"AUC of {n} real pieces above {n} samples of the policy: {each}")
    kept = {spec.name for spec in config.judge_specs() if spec.keep}
    reasons = {
        name: f"AUC {aucs[name].value:.2f} of real music above samples, below {WEAK}"
        for name in weak(aucs)
        if name not in kept
    }
    if PartialState().is_main_process:
        stored = {"auc": {name: auc.to_json() for name, auc in aucs.items()}, "left_out": reasons}
        write_atomically(run.folder / JUDGES_FILE, json.dumps(stored, indent=1) + "\n")
    PartialState().wait_for_everyone()
    return reasons


def run_bands(config: JudgeOptions, prompts: PromptMix, run: Run) -> Bands:
    """The bands of the rules: those of `config.bands`, or measured on real music and stored with the run."""
    if not any(name in REWARDS or name in ACCOMPANIMENT for name in config.weights()):
        return Bands()
    path = Path(config.bands) if config.bands else run.folder / BANDS_FILE
    state = PartialState()
    if not config.bands and not path.is_file() and state.is_main_process:
        notes, _, on_grid = prompts.real_target(BAND_PIECES)
        save_bands(fit_bands(notes, on_grid), path)
    state.wait_for_everyone()
    return load_bands(path)


def available_judges(config: JudgeOptions, prompts: PromptMix, bands: Bands) -> RunJudges:
    """Builds the judges.

    Raises:
        MgenError: No judge is left.
    """
    remi, speed, against = prompts.corpus.remi, config.chosen_speed(), config.realism_against

    def realism() -> FeatureDiscriminator:
        return FeatureDiscriminator(config.discriminator_options(FeatureDiscriminatorOptions), against)

    def realism_tokens() -> TokenDiscriminator:
        network = SequenceCritic.new(remi, config.policy, label="real", seed=prompts.seed, speed=speed)
        return TokenDiscriminator(
            network, config.discriminator_options(TokenDiscriminatorOptions), against, prompts.seed
        )

    judges, left_out = build_judges(
        config.judge_specs(),
        {**JUDGES, "realism": realism, "realism_tokens": realism_tokens},
        remi,
        bands=bands,
        critic=config.critic,
        speed=speed,
    )
    trained: dict[str, Any] = {name: judge for name, judge in judges.items() if name in DISCRIMINATORS}
    trainer = DiscriminatorTrainer(trained, prompts.real, against, config.realism_gate)
    found = RunJudges(judges, trainer if trained else None, {})
    found.leave_out(left_out)
    return found


def describe_fixed_point(config: JudgeOptions, kl_weight: float) -> str:
    """One line on the optimum of discriminator and KL."""
    weights = config.weights()
    weight = sum(weights[name] for name in DISCRIMINATORS if name in weights)
    reference, real = fixed_point(config.realism_against, weight, kl_weight)
    held = "" if kl_weight else "; no KL holds the policy, only small steps"
    return (
        f"discriminator against {config.realism_against} samples, realism {weight:g}, kl_weight {kl_weight:g}: "
        f"fixed point reference^{reference:.2f} x real {config.target}^{real:.2f}, shifted by the other judges{held}"
    )


def warm_up(
    discriminator: DiscriminatorTrainer,
    reference: PreTrainedModel,
    prompts: PromptMix,
    config: JudgeOptions,
    progress: Progress,
    pieces: int,
) -> None:
    """Trains the discriminator on samples of the frozen policy."""
    rounds = config.realism_warm_up
    dtype = torch.bfloat16 if config.bf16 else None
    metrics = discriminator.warm_up(
        lambda n, batch: prompts.sampled(reference, n, batch, dtype), rounds, pieces, progress
    )
    numbers = ", ".join(f"{name} {value:.3f}" for name, value in metrics.items())
    progress(f"discriminator against the frozen policy after {rounds} batches: {numbers}")


def save_discriminators(trainer: DiscriminatorTrainer, run: Run, last: Mapping[str, float]) -> None:
    """Writes RUN/realism and RUN/realism_tokens: to a temporary folder, flushed, then renamed."""
    if not PartialState().is_main_process:
        return
    for name, critic in trainer.discriminators.items():
        assert isinstance(critic, FeatureDiscriminator | TokenDiscriminator)
        held_out = {key.removeprefix(f"{name}/"): last[key] for key in last if key.startswith(f"{name}/")}
        with replace_folder(run.folder / DISCRIMINATORS[name]) as part:
            critic.save_pretrained(part, held_out=held_out)
