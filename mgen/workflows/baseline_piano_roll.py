"""Prediction of the next step of a piano-roll by convolutions and a GRU, a system that people know from tutorials.

    mgen baseline piano-roll --config configs/baselines/piano_roll_laptop.yaml --corpus corpus --out runs/roll

Rolls of 84 pitches are drawn from a prepared corpus, with its split and its works. On test the network is compared with
silence and with a repeat of the last step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState
from transformers import set_seed

from mgen.corpus.roll_windows import RollWindows, as_batch, read_rolls
from mgen.corpus.shards import Corpus
from mgen.encoding.piano_roll import Rate
from mgen.files import write_atomically
from mgen.models.baselines.piano_roll import PianoRollConfig, PianoRollModel
from mgen.models.baselines.roll_losses import LOSSES
from mgen.options import as_dict, from_keywords, option
from mgen.progress import Progress
from mgen.runs.interruptions import resumable
from mgen.runs.run import Run, TrainingResult, on_main_process
from mgen.stats.detection import CENTRES
from mgen.workflows.baseline_piano_roll_results import (
    CountScores,
    bin_losses,
    density,
    learning_facts,
    learning_figure,
    systems,
    table,
)
from mgen.workflows.baseline_training import OPTIMIZERS, SPLITS, BaselineTraining, train_baseline

PLATEAU = {"mode": "max", "factor": 0.5, "patience": 1}
NETWORK = (
    *("channels", "kernel", "convolutions", "width", "layers", "skip", "dropout", "loss", "positive_weight"),
    *("gamma", "alpha", "window", "steps_per_beat", "steps_per_second"),
)


@dataclass
class RollConfig(BaselineTraining):
    """Options of `mgen baseline piano-roll`: `transformers.TrainingArguments` with other defaults, and these."""

    corpus: str = option("", "Folder written by mgen prepare.")
    out: str = option("", "Run folder; the model goes to OUT/model.")
    style: str = option("", "Only pieces of this style; all by default.")
    share: float = option(1.0, "Share of the works of each split, drawn from the seed.", above=0, most=1)
    steps_per_beat: int = option(4, "Steps of a quarter note.", least=1, most=24)
    steps_per_second: float = option(
        0.0, "Steps of a fixed length instead, this many per second, at the tempo of each piece.", least=0, most=100
    )
    window: int = option(128, "Steps of a window.", least=2, most=8192)
    hop: int = option(0, "Steps between the windows of training; 0: half a window.", least=0)
    channels: int = option(64, "Width of the convolutions.", least=1, most=8192)
    kernel: int = option(5, "Steps that a convolution reads.", least=1, most=512)
    convolutions: int = option(1, "Number of convolutions; 0: a GRU alone.", least=0, most=64)
    width: int = option(128, "Width of the GRU.", least=1, most=8192)
    layers: int = option(1, "Layers of the GRU.", least=1, most=16)
    skip: bool = option(True, "The prediction also reads the last step directly, by a linear layer.")
    dropout: float = option(0.0, "Dropout before and after the GRU.", least=0, below=1)
    loss: str = option("bce", "bce, weighted (by sounding or not) or focal (Lin et al. 2017).", words=LOSSES)
    positive_weight: float = option(
        0.0, "weighted: weight of a sounding cell; 0: silent cells per sounding one in train.", least=0
    )
    gamma: float = option(2.0, "focal: exponent of the probability that was missed.", least=0, most=16)
    alpha: float = option(0.25, "focal: weight of a sounding cell; a silent one has the rest.", above=0, below=1)
    optimizer: str = option("adam", "adam (no weight decay), adamw or rmsprop.", words=tuple(OPTIMIZERS))
    target_ap: float = option(
        0.0, "Count the steps until valid has this average precision; 0: do not.", least=0, most=1
    )
    sample_rolls: int = option(64, "Windows of test that are continued, to compare densities.", least=1, most=4096)
    lr_scheduler_type: str = option("cosine", "As in transformers; also reduce_lr_on_plateau of average precision.")
    max_grad_norm: float = option(1.0, "Longer gradients are shortened to this norm; 0: never.")
    per_device_train_batch_size: int = option(32, "Windows per step and device.")
    per_device_eval_batch_size: int = option(256, "Windows per step of evaluation.")
    dataloader_num_workers: int = option(0, "Processes that read batches; 0: none but the main one.")
    load_best_model_at_end: bool = option(True, "Keep the weights with the highest average precision on valid.")

    def __post_init__(self) -> None:
        if self.lr_scheduler_type == "reduce_lr_on_plateau":
            given = getattr(self, "lr_scheduler_kwargs", None) or {}
            self.lr_scheduler_kwargs: Any = {**PLATEAU, **given}
            self.warmup_steps = 0.0
        self.batch_eval_metrics = True  # logits of a whole split would not fit into memory
        self.set_training(["labels", "mask"], best="average_precision")

    def network(self, positive_weight: float = 1.0) -> PianoRollConfig:
        """The network's own options; `positive_weight` is what takes the place of 0."""
        options = {name: getattr(self, name) for name in NETWORK}
        return PianoRollConfig(**options | {"positive_weight": self.positive_weight or positive_weight})


def baseline_piano_roll(
    corpus: Path | str, out: Path | str, *, progress: Progress | None = None, **options: Any
) -> TrainingResult:
    """Trains a network that predicts the next step of a piano-roll, and evaluates it on the test split.

    The same call again resumes an interrupted run, and returns the result of a finished one.

    Args:
        corpus: folder written by `mgen prepare`.
        out: run folder; the model goes to `out`/model.
        progress: takes lines about the progress.
        options: other options of `RollConfig`.

    Returns:
        Metrics of the network on test, by frame: `f1`, `precision` and `recall` at the threshold chosen on valid,
        `average_precision`, `test_loss`; `eval_loss` and `eval_average_precision` of the kept weights on valid;
        `density_ratio`, sounding cells of sampled continuations per one of the real ones; `gradient_norm`, a mean; and
        `steps_to_target` if it was reached.

    Raises:
        MgenError: An option does not exist or is out of range, a split has no note in range, or `out` has another run.
    """
    options |= {"corpus": str(corpus), "out": str(out)}
    return run_piano_roll(from_keywords(RollConfig, "baseline_piano_roll", options), progress)


@resumable
def run_piano_roll(config: RollConfig, progress: Progress | None = None) -> TrainingResult:
    """As `baseline_piano_roll`, for options that are a `RollConfig` already."""
    progress = on_main_process(progress)
    corpus = Corpus.open(config.corpus)
    windows, counts = _windows(config, corpus, progress)
    run = Run.open(
        config.out, "baseline piano-roll", as_dict(config, BaselineTraining), seed=config.seed, data=corpus.fingerprint
    )
    if run.finished:
        return run.result(run.fact("metrics"), already_finished=True)
    rolls = {split: of.rolls for split, of in windows.items()}
    on = rolls["train"].density
    set_seed(config.seed)
    model = PianoRollModel(config.network((1 - on) / on))
    losses = bin_losses(model)
    on_valid = CountScores(np.zeros(len(windows["valid"]), np.int64), losses)
    trainer = train_baseline(
        run,
        model,
        config,
        progress,
        data_collator=as_batch,
        train_dataset=windows["train"],
        eval_dataset=windows["valid"],
        compute_metrics=on_valid,
    )

    def counted(split: str, counter: CountScores) -> CountScores:
        trainer.compute_metrics = counter
        trainer.evaluation_loop(trainer.get_eval_dataloader(windows[split]), "Evaluation")
        return counter

    valid = counted("valid", on_valid)  # of the kept weights
    least, _ = valid.counts.best_threshold()
    work = np.unique(rolls["test"].work, return_inverse=True)[1]
    test = counted("test", CountScores(work[windows["test"].piece], losses)).counts
    scores = systems(config.loss, test, least, rolls["train"], rolls["test"], losses)
    threshold = 1 / (1 + math.exp(-(CENTRES[least] - (CENTRES[1] - CENTRES[0]) / 2)))
    densities = density(model, windows["test"], config.sample_rolls, threshold, config.seed)
    learning = learning_facts(trainer.state.log_history, config.target_ap)
    metrics = {name: one.value for name, one in scores[config.loss].items() if name != "loss"}
    metrics |= {"test_loss": scores[config.loss]["loss"].value}
    metrics |= {f"eval_{name}": value for name, value in valid.result.items() if name != "f1"}
    metrics |= {"density_ratio": densities["sampled"] / densities["real"] if densities["real"] else math.nan}
    metrics |= {name: learning[name] for name in ("gradient_norm", "steps_to_target") if learning[name] is not None}
    facts = {
        "parameters": model.num_parameters(),
        "steps": trainer.state.global_step,
        "pieces": counts,
        "windows": {split: len(of) for split, of in windows.items()},
        "positive_weight": model.config.positive_weight,
        "threshold": threshold,
        "density": densities,
        "learning": learning,
        "test": {system: {name: one.to_json() for name, one in of.items()} for system, of in scores.items()},
        "metrics": {name: value for name, value in metrics.items() if math.isfinite(value)},  # JSON lacks NaN
    }
    if PartialState().is_main_process:
        write_atomically(run.folder / "table.md", table(scores, facts, config.target_ap))
        write_atomically(run.folder / "figure.svg", learning_figure(trainer.state.log_history))
    run.save_model(trainer.accelerator.unwrap_model(trainer.model))
    run.finish(**facts)
    return run.result(run.fact("metrics"))


def _windows(
    config: RollConfig, corpus: Corpus, progress: Progress
) -> tuple[dict[str, RollWindows], dict[str, dict[str, int]]]:
    """The windows of each split, and what became of its pieces."""
    windows, counts = {}, {}
    rate = Rate(config.steps_per_beat, config.steps_per_second)
    for split in SPLITS:
        rolls, counts[split] = read_rolls(corpus, split, rate, config.style, config.share, config.seed)
        hop = (config.hop or config.window // 2) if split == "train" else config.window
        windows[split] = RollWindows(rolls, config.window, hop)
    used = ", ".join(f"{split} {of['used']} of {of['pieces']} ({of['works']} works)" for split, of in counts.items())
    empty, unknown = (sum(of.get(name, 0) for of in counts.values()) for name in ("no notes in range", "without tempo"))
    remark = f"; {unknown} have no tempo: 120 quarters per minute" if unknown else ""
    progress(f"pieces: {used}; {empty} without a note of pitch 24 to 107{remark}")
    return windows, counts
