"""What the baselines have in common: options of training, evaluations, and a trainer that resumes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from transformers import EarlyStoppingCallback, PreTrainedModel, TrainerCallback, TrainingArguments

from mgen.options import check_required, option
from mgen.progress import Progress
from mgen.runs.checkpoints import VerifiedCheckpoints, check_saving
from mgen.runs.run import Run
from mgen.runs.tracking import check_tracking

SPLITS = ("train", "valid", "test")
OPTIMIZERS = {"adam": "adamw_torch_fused", "adamw": "adamw_torch_fused", "rmsprop": "rmsprop"}


@dataclass
class BaselineTraining(TrainingArguments):  # type: ignore[misc]
    """Options of training, those of `transformers.TrainingArguments` with other defaults."""

    optimizer: str = option("adamw", "adam (no weight decay), adamw or rmsprop.", words=tuple(OPTIMIZERS))
    patience: int = option(0, "Stop after this many evaluations without improvement; 0 for never.", least=0)
    max_steps: int = option(1000, "Optimizer steps.")
    learning_rate: float = option(2e-3, "Highest learning rate.")
    lr_scheduler_type: str = option("cosine", "As in transformers.")
    warmup_steps: float = option(0.03, "Steps, or a share of all steps if below 1.")
    weight_decay: float = option(0.01, "Weight decay of adamw.")
    eval_strategy: str = option("steps", "As in transformers.")
    eval_on_start: bool = option(True, "Evaluate before the first step.")
    eval_steps: float = option(
        0.1, "Steps between evaluations, or a share of all if below 1; also halfway and at the end."
    )
    dataloader_pin_memory: bool = option(False, "As in transformers.")
    save_total_limit: int = option(2, "Checkpoints kept; at least 2, so that one is always complete.")
    load_best_model_at_end: bool = option(True, "Keep the weights with the lowest valid loss.")
    logging_steps: float = option(0.02, "Steps between log lines, or a share of all steps if below 1.")

    def set_training(self, labels: list[str], best: str = "loss") -> None:
        """Checks the options and sets those of the trainer that follow from them; ends `__post_init__` of a baseline.

        Args:
            labels: names in a batch that are not inputs.
            best: metric of an evaluation by which weights are kept: the loss, or one that is to be high.
        """
        check_required(self, "corpus", "out")
        check_saving(self)
        check_tracking(self)
        self.output_dir = f"{self.out}/checkpoints"
        self.optim = OPTIMIZERS[self.optimizer]
        if self.optimizer != "adamw":
            self.weight_decay = 0.0
        self.save_strategy, self.save_steps = self.eval_strategy, self.eval_steps
        self.metric_for_best_model, self.greater_is_better = best, best != "loss"
        self.remove_unused_columns, self.label_names = False, labels
        self.restore_callback_states_from_checkpoint = True  # evaluations without improvement, for `patience`
        super().__post_init__()


class HalfwayAndEnd(TrainerCallback):  # type: ignore[misc]
    """Evaluates and saves halfway and at the last step, whatever the interval of evaluations."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Asks for both."""
        if args.eval_strategy != "no" and state.global_step in (state.max_steps // 2, state.max_steps):
            control.should_evaluate = control.should_save = True


def train_baseline(
    run: Run, model: PreTrainedModel, config: BaselineTraining, progress: Progress, **parts: Any
) -> VerifiedCheckpoints:
    """Trains a network, from the last checkpoint of the run if it has one.

    Args:
        parts: of the trainer: data sets, collator and metrics.
    """
    callbacks: list[TrainerCallback] = [HalfwayAndEnd()]
    callbacks += [EarlyStoppingCallback(config.patience)] if config.patience else []
    trainer = VerifiedCheckpoints(model=model, args=config, callbacks=callbacks, **parts)
    run.follow(trainer, progress)
    checkpoint = run.last_checkpoint()
    config.eval_on_start = config.eval_on_start and checkpoint is None  # or it counts twice
    trainer.train(resume_from_checkpoint=checkpoint)
    return trainer
