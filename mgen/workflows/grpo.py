"""GRPO as published, for comparison: the unchanged `trl.GRPOTrainer` with the judges of mgen as its reward functions.

Scores are divided by their deviation in the group, a completion has one advantage, and KL is a penalty in the loss; see
`mgen.rl.loop` for how `mgen finetune` differs. All options of `trl.GRPOConfig` can be given, `use_vllm` among them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from transformers import TrainerCallback
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import TrainerState
from trl import GRPOConfig, GRPOTrainer

from mgen.errors import MgenError
from mgen.models.pretrained import quiet
from mgen.notes import Notes
from mgen.options import check_required, from_keywords, option
from mgen.progress import Progress
from mgen.rl.discriminator import DiscriminatorTrainer
from mgen.runs.checkpoints import check_saving, write_manifest
from mgen.runs.interruptions import resumable
from mgen.runs.judges import DISCRIMINATOR_FILE
from mgen.runs.run import TrainingResult, on_main_process
from mgen.runs.tracking import SampleOptions, check_tracking
from mgen.workflows.judge_options import JudgeOptions
from mgen.workflows.policy_run import begin, finish, follow, trained_result
from mgen.workflows.run_judges import prepare_judges
from rewards.trl import TrlReward, trl_rewards

LOSSES = ("grpo", "bnpo", "dr_grpo", "dapo", "luspo", "cispo", "sapo", "vespo")


@dataclass
class GrpoConfig(JudgeOptions, SampleOptions, GRPOConfig):  # type: ignore[misc]
    """Options of `mgen grpo`: those of `trl.GRPOConfig`, with other defaults, and these."""

    prompts: int = option(2048, "Number of prompts.", least=1)
    max_steps: int = option(60, "Optimizer steps.")
    learning_rate: float = option(1e-4, "Highest learning rate.")
    lr_scheduler_type: str = option("constant_with_warmup", "As in transformers.")
    warmup_steps: float = option(5, "Steps.")
    per_device_train_batch_size: int = option(256, "Completions per step and device.")
    num_generations: int = option(8, "Completions per prompt.", least=2)
    max_completion_length: int = option(192, "Most tokens in a completion.", least=1)
    beta: float = option(0.04, "Weight of the KL penalty in the loss.", above=0)
    loss_type: str = option("grpo", "As in trl.", words=LOSSES)
    save_steps: float = option(20, "Steps between checkpoints.")
    save_total_limit: int = option(2, "Checkpoints kept; at least 2, so that one is always complete.")
    logging_steps: float = option(1, "Steps between log lines.")
    gradient_checkpointing: bool = option(False, "Save memory at the cost of time.")

    def __post_init__(self) -> None:
        check_required(self, "policy", "corpus", "out", "prompt_tokens")
        self.check_realism()
        check_saving(self)
        check_tracking(self)
        self.output_dir = f"{self.out}/checkpoints"
        self.disable_dropout = True  # or sampler and loss would read two policies
        self.set_precision()
        super().__post_init__()


def grpo(
    policy: Path | str, corpus: Path | str, out: Path | str, *, progress: Progress | None = None, **options: Any
) -> TrainingResult:
    """Fine-tunes a policy by GRPO as published; arguments, result and errors as those of `mgen.finetune`."""
    if isinstance(options.get("judges"), Mapping):
        options["judges"] = [f"{name}={weight}" for name, weight in options["judges"].items()]
    options |= {"policy": str(policy), "corpus": str(corpus), "out": str(out)}
    return run_grpo(from_keywords(GrpoConfig, "grpo", options), progress)


@resumable
def run_grpo(config: GrpoConfig, progress: Progress | None = None) -> TrainingResult:
    """As `grpo`, for options that are a `GrpoConfig` already."""
    start = begin(config, "grpo", config.seed, config.max_completion_length)
    if start.run.finished:
        return trained_result(start.run, already_finished=True)
    run, remi = start.run, start.remi
    progress = on_main_process(progress)
    run.record_speed(config.chosen_speed(), progress)
    pieces = config.per_device_train_batch_size
    found = prepare_judges(config, start.prompts, start.reference(), run, progress, pieces)
    config.reward_weights = [config.weights()[name] for name in found.judges]
    rewards = trl_rewards(found.judges, remi)
    try:
        with quiet():
            trainer = GRPOTrainer(
                model=start.policy,
                reward_funcs=rewards,
                args=config,
                train_dataset=start.prompts.dataset(config.prompts),
                processing_class=remi.tokenizer(),
            )
    except ValueError as error:  # of TRL, about options that do not fit together
        raise MgenError(" ".join(str(error).split())) from error
    last = run.last_checkpoint()
    follow(trainer, start, config, config.seed, progress)
    trainer.add_callback(CompleteCheckpoints(rewards, found.discriminator, last))
    saved = None if last is None else TrainerState.load_from_json(str(Path(last) / TRAINER_STATE_NAME))
    if last is not None and saved is not None and saved.global_step >= config.max_steps:
        # `Trainer` would train one step more
        return finish(
            start, found, type(start.policy).from_pretrained(last, trust_remote_code=False), saved.global_step
        )
    with quiet():  # bars over the files of each checkpoint
        trainer.train(resume_from_checkpoint=last)
    return finish(start, found, trainer.accelerator.unwrap_model(trainer.model), trainer.state.global_step)


class CompleteCheckpoints(TrainerCallback):  # type: ignore[misc]
    """Trains the discriminators on each step's completions, and ends each checkpoint with their state and a manifest.

    Args:
        rewards: the reward functions, which keep the notes that they judged last.
        last: checkpoint that the run resumes from.
    """

    def __init__(
        self, rewards: Sequence[TrlReward], discriminator: DiscriminatorTrainer | None, last: str | None
    ) -> None:
        self.rewards, self.discriminator = rewards, discriminator
        if discriminator is not None and last is not None:
            state = torch.load(Path(last) / DISCRIMINATOR_FILE, weights_only=True, map_location="cpu")
            discriminator.load_state_dict(state)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        notes = self.rewards[0].last_notes
        if self.discriminator is not None and notes is not None:
            self.discriminator.step(Notes.concat(gather_object([notes])))

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if state.is_world_process_zero:
            if self.discriminator is not None:
                torch.save(self.discriminator.state_dict(), folder / DISCRIMINATOR_FILE)
            write_manifest(folder)
