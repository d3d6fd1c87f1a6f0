"""Fine-tune a policy against rewards and critics.

    accelerate launch scripts/finetune.py --config configs/finetune/laptop_nats.yaml --policy runs/base/model
    --corpus corpus --out runs/jazz

Differs from GRPO as published: credit per note, no division by the group's deviation, KL counted per piece (form
`nats`; the form `normalised` is GRPO as published).
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from datasets import Dataset
from transformers import PreTrainedModel
from trl import GRPOConfig

from critics.realism.critic import RealismCritic, RealismOptions
from critics.realism.regularisation import BOUNDED
from critics.sequence import SequenceCritic
from mgen.cli.options import parse
from mgen.corpus.shards import Corpus
from mgen.encoding.remi import Remi
from mgen.errors import MgenError
from mgen.judgement import Judge
from mgen.models.transformer import check_vocabulary, load_policy
from mgen.notes import Notes
from mgen.options import as_dict
from mgen.rl.credit import AGGREGATIONS
from mgen.rl.discriminator import AGAINST, DiscriminatorTrainer, check_weights, fixed_point
from mgen.rl.trainer import OBJECTIVES, MusicTrainer
from mgen.runs.checkpoints import write_manifest
from mgen.runs.judges import BANDS_FILE, REALISM_FOLDER, JudgeSpec, build_judges, judge_specs
from mgen.runs.run import Run, read_metrics
from mgen.runs.sample_callback import fixed_prompts
from mgen.runs.tracking import SampleOptions, check_tracking, listen
from mgen.sampling.prompts import Prompts, draw_prompts, text
from mgen.sampling.rollout import Decoding, sample
from mgen.workflows.judges import JUDGES
from rewards import REWARDS
from rewards.bands import Bands, fit_bands, load_bands, save_bands
from rewards.trl import trl_rewards

BAND_PIECES = 512
"""Real excerpts from which the bands are measured."""

DEFAULT_JUDGES = (
    "grammar=0.25",
    "repetition_pitch=1",
    "repetition_interval=0.5",
    "repetition_rhythm=0.5",
    "phrase_reuse=1",
    "loops=1",
    "longest_run=1",
    "scale_fit=0.5",
    "pitch_entropy=0.5",
    "chord_tones=0.5",
    "rests=0.5",
    "density=0.5",
    "style=1",
    "realism=1",
)
"""Judges by default. The gate's first broken token costs 10 nats; at weight 1 it drowned the others (0.8 of the
advantage). What repeats is what reinforcement learning spoils first, and weighs most of the rules.
"""


@dataclass
class FinetuneConfig(SampleOptions, GRPOConfig):  # type: ignore[misc]
    """Options of `mgen finetune`: those of `trl.GRPOConfig`, with other defaults, and these."""

    policy: str = field(
        default="", metadata={"help": "Model folder of the policy to start from; also the reference of KL."}
    )
    corpus: str = field(default="", metadata={"help": "Folder written by mgen prepare."})
    out: str = field(default="", metadata={"help": "Run folder; the model goes to OUT/model."})
    critic: str = field(
        default="", metadata={"help": "Model folder of the style critic; needed if `judges` names style."}
    )
    bands: str = field(default="", metadata={"help": "JSON of measured bands; by default they are measured on train."})
    judges: list[str] = field(
        default_factory=lambda: [*DEFAULT_JUDGES],
        metadata={
            "help": "NAME=WEIGHT or package.module:Factory=WEIGHT of each judge, or {judge: ..., weight: ..., "
            "arguments: {...}}. A rule that the corpus has no band for is left out, and a line says so."
        },
    )
    style_credit: bool | None = field(
        default=None,
        metadata={
            "help": "The style critic tells what each bar changed, instead of one score at the end; it then judges a "
            "completion as often as it has bars. By default in the form nats; the form normalised pays one score a "
            "completion anyway."
        },
    )
    form: str = field(default="nats", metadata={"help": "nats, or normalised (GRPO as published)."})
    kl_weight: float = field(
        default=0.5,
        metadata={
            "help": "Form nats: nats of return paid for a nat of KL. With realism among the judges: its weight if it "
            "is trained against the reference, less if against current samples (0: real music is the fixed point, and "
            "only small steps hold the policy)."
        },
    )
    multi_objective_aggregation: str = field(
        default=AGGREGATIONS[0],
        metadata={
            "help": "Form normalised: sum_then_normalize divides the weighted sum by its deviation in the group, "
            "normalize_then_sum each judge by its own first (GDPO), so that all are equally loud at equal weights."
        },
    )
    dominant_share: float = field(
        default=0.8, metadata={"help": "Share of the advantage above which a judge is told of, held for 5 steps."}
    )
    target: str = field(default="jazz", metadata={"help": "Style that is asked for."})
    transfer_share: float = field(
        default=0.5, metadata={"help": "Share of prompts that are other music, to be turned to the target."}
    )
    prompt_tokens: list[int] = field(
        default_factory=lambda: [24, 64],
        metadata={
            "help": "Tokens of music in a prompt; of several lengths, each in turn. Short ones leave more to choose."
        },
    )
    prompts: int = field(default=2048, metadata={"help": "Different prompts."})
    realism_against: str = field(
        default="current",
        metadata={
            "help": "Whose samples the discriminator is trained against. reference: before the first step, then left "
            "alone; log p_real / p_reference, sound with kl_weight equal to its weight. current: after each step, "
            "against what the policy plays now; log p_real / p_policy, sound with kl_weight 0, and at rest between "
            "reference and real music at a kl_weight below its weight."
        },
    )
    realism_warm_up: int = field(
        default=20,
        metadata={
            "help": "The discriminator's batches on the frozen policy before the first step; against the reference "
            "that is all it learns, and the last fifth calibrates it."
        },
    )
    realism_learning_rate: float = field(default=3e-4, metadata={"help": "Of the discriminator."})
    realism_steps: int = field(default=2, metadata={"help": "Its optimizer steps after a step of the policy."})
    realism_batch_size: int = field(
        default=64, metadata={"help": "Its pieces a step: half real, and of each half fresh and half from the buffer."}
    )
    realism_capacity: int = field(default=512, metadata={"help": "Pieces of each side in its replay buffer."})
    realism_smoothing: float = field(default=0.05, metadata={"help": "Its targets are 1 - this and this."})
    realism_clip: float = field(
        default=5.0, metadata={"help": "Nats at which its score ends; caps what can be corrected."}
    )
    realism_floor: float = field(
        default=0.6, metadata={"help": "Held-out accuracy below which it takes twice its steps."}
    )
    realism_ceiling: float = field(default=0.95, metadata={"help": "Held-out accuracy above which it rests."})
    realism_memory: int = field(default=512, metadata={"help": "Held-out logits that its calibration is fitted on."})
    realism_gradient_penalty: float = field(
        default=0.0, metadata={"help": "Weight of a penalty on its slope over the embeddings of real pieces (R1)."}
    )
    realism_spectral_norm: str = field(
        default="none", metadata={"help": f"Layers whose spectral norm is bounded: {', '.join(BOUNDED)}."}
    )
    json: bool = field(default=False, metadata={"help": "Print the result as one JSON object."})
    max_steps: int = field(default=60, metadata={"help": "Optimizer steps."})
    learning_rate: float = field(default=3e-4, metadata={"help": "Highest learning rate."})
    lr_scheduler_type: str = field(default="constant_with_warmup", metadata={"help": "As in transformers."})
    warmup_steps: float = field(default=5, metadata={"help": "Steps."})
    max_grad_norm: float = field(default=1.0, metadata={"help": "Gradients are cut to this norm."})
    adam_beta2: float = field(default=0.95, metadata={"help": "Of adamw."})
    per_device_train_batch_size: int = field(default=64, metadata={"help": "Completions a step and device."})
    num_generations: int = field(default=8, metadata={"help": "Completions of one prompt."})
    max_completion_length: int = field(default=192, metadata={"help": "Tokens in a completion."})
    beta: float = field(default=0.0, metadata={"help": "Form normalised: weight of the KL penalty in the loss."})
    loss_type: str = field(default="dr_grpo", metadata={"help": "As in trl."})
    save_steps: float = field(default=20, metadata={"help": "Steps between checkpoints."})
    save_total_limit: int = field(
        default=2, metadata={"help": "Checkpoints kept; at least 2, so that one is always whole."}
    )
    logging_steps: float = field(default=1, metadata={"help": "Steps between log lines."})
    gradient_checkpointing: bool = field(default=False, metadata={"help": "Trade time for memory."})
    bf16: bool | None = field(default=None, metadata={"help": "By default where the machine has a GPU for it."})

    def __post_init__(self) -> None:
        for name in ("policy", "corpus", "out"):
            if not getattr(self, name):
                raise ValueError(f"expected --{name}, got none; see --help")
        if self.form not in OBJECTIVES:
            raise ValueError(f"form '{self.form}': expected one of {', '.join(OBJECTIVES)}")
        if self.realism_against not in AGAINST:
            raise ValueError(f"realism_against '{self.realism_against}': expected one of {', '.join(AGAINST)}")
        if not 0 <= self.transfer_share <= 1:
            raise ValueError(f"transfer_share ({self.transfer_share}) must be between 0 and 1")
        if self.form == "nats" and self.beta:
            raise ValueError(
                f"beta ({self.beta}) belongs to the form normalised; the form nats pays kl_weight in the return"
            )
        if self.form == "normalised" and not self.beta:
            raise ValueError("beta must be above 0 in the form normalised: KL is always on; try 0.04")
        if not self.prompt_tokens or min(self.prompt_tokens) < 1:
            raise ValueError(f"prompt_tokens ({self.prompt_tokens}) must be one or several numbers of at least 1")
        if self.kl_weight < 0:
            raise ValueError(f"kl_weight ({self.kl_weight}) must be at least 0")
        if self.multi_objective_aggregation not in AGGREGATIONS:
            raise ValueError(
                f"multi_objective_aggregation '{self.multi_objective_aggregation}': expected one of "
                f"{', '.join(AGGREGATIONS)}"
            )
        if self.form == "nats" and self.multi_objective_aggregation != AGGREGATIONS[0]:
            raise ValueError(
                f"multi_objective_aggregation ({self.multi_objective_aggregation}) divides by deviations and belongs "
                "to the form normalised; the form nats adds nats up"
            )
        if not 0.5 <= self.dominant_share <= 1:
            raise ValueError(f"dominant_share ({self.dominant_share}) must be between 0.5 and 1")
        self._check_realism()
        if self.save_total_limit is not None and self.save_total_limit < 2:
            raise ValueError(
                f"save_total_limit ({self.save_total_limit}) must be at least 2, so that one is whole at any time"
            )
        check_tracking(self)
        if self.style_credit is None:
            self.style_credit = self.form == "nats"
        self.output_dir = f"{self.out}/checkpoints"
        self.scale_rewards = "none" if self.form == "nats" else "group"
        if self.bf16 is None:
            self.bf16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
        super().__post_init__()

    def _check_realism(self) -> None:
        try:
            realism_options(self)
        except ValueError as error:
            raise ValueError(f"realism_{error}") from error
        least = 2 if self.realism_against == "reference" else 0
        if self.realism_warm_up < least:
            raise ValueError(
                f"realism_warm_up ({self.realism_warm_up}) must be at least {least} with realism_against "
                f"{self.realism_against}; try 20"
            )
        weight = self.weight().get("realism")
        if weight is None or self.form != "nats":
            return
        check_weights(self.realism_against, weight, self.kl_weight)
        if not self.kl_weight and not self.max_grad_norm:
            raise ValueError(
                f"max_grad_norm ({self.max_grad_norm}) must be above 0 with kl_weight 0: nothing else holds the policy"
            )

    def weight(self) -> dict[str, float]:
        """Weight of each judge."""
        return {spec.name: spec.weight for spec in self.judge_specs()}

    def judge_specs(self) -> list[JudgeSpec]:
        """The judges that are asked for."""
        return judge_specs(self.judges, JUDGES)


def main(argv: Sequence[str] | None = None) -> int:
    """Fine-tune; returns the exit code."""
    (config,) = parse(
        argv,
        FinetuneConfig,
        program="mgen finetune",
        example="mgen finetune --config configs/finetune/laptop_nats.yaml --policy runs/base/model "
        "--critic runs/critic/model --corpus corpus --out runs/jazz",
    )
    corpus = Corpus.open(config.corpus)
    policy, remi = load_policy(config.policy)
    check_vocabulary(config.policy, remi, config.corpus, corpus.remi)
    run = Run.open(config.out, "finetune", as_dict(config), seed=config.seed, data=corpus.fingerprint)
    if run.finished:
        return _report(run, config.json, "was finished before")
    reference, _ = load_policy(config.policy)
    source = _Source(config, corpus)
    bands = measured_bands(config, source, run)
    judges, discriminator, missing = available_judges(config, bands, source)
    for name, why in missing.items():
        _tell(f"judge {name} is left out: {why}")
    weight = {name: value for name, value in config.weight().items() if name in judges}
    config.reward_weights = list(weight.values())
    trainer = MusicTrainer(
        policy,
        reference,
        remi,
        trl_rewards(judges, remi),
        config,
        source.dataset(),
        form=config.form,
        kl_weight=config.kl_weight,
        discriminator=discriminator,
        dominant_share=config.dominant_share,
    )
    run.follow(trainer)
    asked = [("continuation", config.target), ("transfer", config.target)]
    prompts = fixed_prompts(corpus, asked, config.sample_prompts, max(config.prompt_tokens), config.seed)
    listen(trainer, config, run.folder, run.clip_loggers, remi, prompts, at_start=True)
    checkpoint = run.last_checkpoint()
    if discriminator is not None:
        _tell(at_rest(config, weight))
    if discriminator is not None and checkpoint is None:
        warm = discriminator.warm_up(
            lambda n, batch: source.sampled(reference, n, batch),
            config.realism_warm_up,
            config.per_device_train_batch_size,
        )
        _tell(f"discriminator against the frozen policy after {config.realism_warm_up} batches: {_numbers(warm)}")
    trainer.train(resume_from_checkpoint=checkpoint)
    last = _last_metrics(run)
    run.save_model(trainer.accelerator.unwrap_model(trainer.model), remi)
    if discriminator is not None:
        assert isinstance(discriminator.learner, RealismCritic)
        _save_discriminator(discriminator.learner, run, last)
    told = {"left_out": missing} if missing else {}
    run.finish(steps=trainer.state.global_step, last=last, parameters=policy.num_parameters(), **told)
    return _report(run, config.json, "finished")


def realism_options(config: FinetuneConfig) -> RealismOptions:
    """The discriminator's options, `realism_...` of the config."""
    names = {option.name for option in fields(RealismOptions)} - {"min_notes"}
    return RealismOptions(**{name: getattr(config, f"realism_{name}") for name in names})


def at_rest(config: FinetuneConfig, weight: dict[str, float]) -> str:
    """What the discriminator and KL pull to, in a line."""
    if config.form != "nats":
        return "discriminator: its ratio is one score among others in the form normalised, and promises no fixed point"
    own = weight["realism"]
    reference, real = fixed_point(config.realism_against, own, config.kl_weight)
    held = "" if config.kl_weight else "; no KL holds the policy, only small steps"
    jazz = ""
    if not config.transfer_share and "style" in weight:
        jazz = f"; its real music is {config.target} alone, so the judge style asks for {config.target} a second time"
    return (
        f"discriminator against {config.realism_against} samples, realism {own:g}, kl_weight {config.kl_weight:g}: at "
        f"rest the policy is reference^{reference:.2f} x real^{real:.2f}, tilted by the other judges{held}{jazz}"
    )


def _save_discriminator(critic: RealismCritic, run: Run, last: dict[str, float]) -> None:
    """Write RUN/realism: aside, flushed, then renamed into place."""
    if not PartialState().is_main_process:
        return
    folder, aside = run.folder / REALISM_FOLDER, run.folder / f"{REALISM_FOLDER}.part"
    held_out = {name.removeprefix("realism/"): last[name] for name in last if name.startswith("realism/")}
    critic.save_pretrained(aside, held_out=held_out)
    write_manifest(aside)
    if folder.exists():  # of a run that was cut off between this and its end
        shutil.rmtree(folder)
    aside.rename(folder)


def measured_bands(config: FinetuneConfig, source: _Source, run: Run) -> Bands:
    """The bands that rules are built from: those of `config.bands`, or of real music, kept with the run."""
    if not any(name in REWARDS for name in config.weight()):
        return Bands()
    path = Path(config.bands) if config.bands else run.folder / BANDS_FILE
    state = PartialState()
    if not config.bands and not path.is_file() and state.is_main_process:
        save_bands(fit_bands(source.real_target(BAND_PIECES)), path)
    state.wait_for_everyone()
    return load_bands(path)


def available_judges(
    config: FinetuneConfig, bands: Bands, source: _Source
) -> tuple[dict[str, Judge], DiscriminatorTrainer | None, dict[str, str]]:
    """The judges of the config, the discriminator if realism is among them, and why each judge is left out that is.

    Raises:
        MgenError: No judge is left.
    """
    remi, learners = source.corpus.remi, []

    def realism() -> RealismCritic:
        network = SequenceCritic.new(remi, config.policy, label="real", seed=config.seed)
        learners.append(RealismCritic(network, realism_options(config), config.realism_against, config.seed))
        return learners[0]

    judges, missing = build_judges(
        config.judge_specs(),
        {**JUDGES, "realism": realism},
        remi,
        bands=bands,
        critic=config.critic,
        credit=bool(config.style_credit),
    )
    if not judges:
        why = "; ".join(f"{name}: {reason}" for name, reason in missing.items()) or "none was named"
        raise MgenError(f"judges: none is left ({why}); name others, or judge longer completions")
    against = config.realism_against
    discriminator = DiscriminatorTrainer(learners[0], source.real, against) if learners else None
    return judges, discriminator, missing


class _Source:
    """Prompts, and real and sampled music of the same form, for one run."""

    def __init__(self, config: FinetuneConfig, corpus: Corpus) -> None:
        self.config, self.corpus = config, corpus

    def _rng(self, *use: int) -> np.random.Generator:
        """Chance of one use, the same on every process and after a resume."""
        return np.random.default_rng([self.config.seed, *use])

    def _draw(self, n: int, rng: np.random.Generator) -> list[Prompts]:
        """n prompts in the config's shares of kinds, their lengths in turn."""
        c = self.config
        turned = round(n * c.transfer_share)
        counts = {
            (prompt_type, length): (count + place) // len(c.prompt_tokens)
            for prompt_type, count in (("continuation", n - turned), ("transfer", turned))
            for place, length in enumerate(c.prompt_tokens)
        }
        return [
            draw_prompts(self.corpus, "train", prompt_type, count, length, c.max_completion_length, c.target, rng)
            for (prompt_type, length), count in counts.items()
            if count
        ]

    def dataset(self) -> Dataset:
        """Prompts as TRL reads them, in an order drawn once."""
        rng = self._rng(0)
        rows = [
            {"prompt": text(ids, self.corpus.remi), "prompt_type": prompts.prompt_type}
            for prompts in self._draw(self.config.prompts, rng)
            for ids in prompts.ids
        ]
        return Dataset.from_list([rows[i] for i in rng.permutation(len(rows))])

    def real_target(self, n: int) -> Notes:
        """What real music of the target style did, after prompts of the longest kind."""
        c = self.config
        length, new = max(c.prompt_tokens), c.max_completion_length
        prompts = draw_prompts(self.corpus, "train", "continuation", n, length, new, c.target, self._rng(1))
        return prompts.real(self.corpus.remi)

    def real(self, n: int, batch: int) -> Notes:
        """What real music did after n prompts; another batch, others."""
        return Notes.concat([prompts.real(self.corpus.remi) for prompts in self._draw(n, self._rng(2, batch))])

    def sampled(self, policy: PreTrainedModel, n: int, batch: int) -> Notes:
        """What a policy does after n prompts; another batch, others."""
        remi: Remi = self.corpus.remi
        ids = [row.tolist() for prompts in self._draw(n, self._rng(3, batch)) for row in prompts.ids]
        decoding = Decoding(max_new_tokens=self.config.max_completion_length)
        generator = torch.Generator(policy.device).manual_seed(self.config.seed + batch)
        completions, _ = sample(policy, ids, decoding, remi.eos_id, remi.pad_id, generator).lists()
        return Notes.from_completions(ids, completions, remi)


def _last_metrics(run: Run, steps: int = 5) -> dict[str, float]:
    """Mean of what was logged over the last steps."""
    lines = [line for line in read_metrics(run.folder) if "policy/kl" in line][-steps:]
    names = sorted(
        {name for line in lines for name, value in line.items() if isinstance(value, int | float)} - {"step"}
    )
    return {
        name: round(float(np.mean([line[name] for line in lines if line.get(name) is not None])), 5) for name in names
    }


def _note(line: str) -> None:
    if PartialState().is_main_process:
        print(line, flush=True)


def _tell(line: str) -> None:
    """Progress: to stderr, for stdout may be one JSON object."""
    if PartialState().is_main_process:
        print(line, file=sys.stderr, flush=True)


def _numbers(metrics: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in metrics.items())


def _report(run: Run, as_json: bool, state: str) -> int:
    if as_json:
        _note(json.dumps(run.facts))
        return 0
    last = run.facts["last"]
    shown = {
        name: last[name]
        for name in last
        if name.startswith(("rewards/", "share/", "policy/", "realism/")) and "std" not in name
    }
    _note(f"{run.folder} {state}: {run.facts['steps']} steps, {run.facts['seconds']:.0f} s; means of the last 5 steps:")
    for name, value in shown.items():
        _note(f"  {name:42} {value:9.3f}")
    return 0
