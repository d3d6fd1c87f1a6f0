"""Bass lines for drum parts, by networks that people know from tutorials.

    mgen baseline drum-bass --config configs/baselines/drum_bass_laptop.yaml --corpus corpus --out runs/drum_bass

Trains a network on windows of drums with the bass played to them, and compares it on test with the real bass and with
systems without training: the bass of another drum part, the root on every kick, the usual pattern.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import PartialState
from transformers import set_seed

from mgen.corpus.pairs import (
    CONDITIONS,
    Pairs,
    PairSet,
    as_batch,
    genres_of,
    keys_of,
    known_conditions,
    read_pairs,
    unseen,
)
from mgen.corpus.shards import Corpus
from mgen.files import write_atomically
from mgen.models.baselines.drum_bass import MODELS, DrumBassConfig, DrumBassModel
from mgen.options import as_dict, from_keywords, option
from mgen.progress import Progress
from mgen.runs.interruptions import resumable
from mgen.runs.run import Run, TrainingResult, on_main_process
from mgen.workflows.baseline_drum_bass_results import left_out_line, systems, table, valid_metrics
from mgen.workflows.baseline_tabs_results import loss_facts, loss_figure
from mgen.workflows.baseline_training import SPLITS, BaselineTraining, train_baseline

NETWORK = (
    *("model", "steps", "conditions", "width", "layers", "dropout", "latent", "kl_weight", "kl_warm_up", "free_bits"),
    *("adversarial_weight", "condition_dropout"),
)


@dataclass
class DrumBassOptions(BaselineTraining):
    """Options of `mgen baseline drum-bass`: those of `transformers.TrainingArguments`, with other defaults, and own."""

    corpus: str = option("", "Folder written by mgen prepare with configs/prepare/band.yaml.")
    out: str = option("", "Run folder; the model goes to OUT/model.")
    model: str = option(
        "lstm",
        "Network: dense, conv and lstm give one bass line for a drum part; seq2seq, pix2pix and cvae give many.",
        words=MODELS,
    )
    steps: int = option(64, "16th notes of a window: 64 (four bars) or 32.", least=32, most=64)
    conditions: list[str] = option(
        list(CONDITIONS), "What is read besides the drums; an empty list for nothing.", words=CONDITIONS
    )
    width: int = option(128, "Width of the layers.", least=4, most=4096)
    layers: int = option(3, "dense, conv: hidden layers.", least=1, most=64)
    dropout: float = option(0.1, "Dropout of the layers.", least=0, below=1)
    latent: int = option(32, "cvae: numbers of the latent vector.", least=1, most=1024)
    kl_weight: float = option(1.0, "cvae: weight of the divergence from the prior in training.", least=0)
    kl_warm_up: int = option(300, "cvae: steps over which this weight rises from 0.", least=0)
    free_bits: float = option(0.1, "cvae: nats of each latent number that cost nothing in training.", least=0)
    adversarial_weight: float = option(0.1, "pix2pix: weight of the discriminator next to the reconstruction.", least=0)
    condition_dropout: float = option(
        0.1, "Share of the conditions that training replaces by unknown.", least=0, below=1
    )
    least_hits: int = option(8, "Windows with fewer drum hits are left out.", least=1)
    least_notes: int = option(4, "Windows with fewer bass notes are left out.", least=1)
    samples: int = option(4, "Lines for each drum part of test, for diversity.", least=2, most=64)
    temperature: float = option(1.0, "Of these lines; 0 is the likeliest line.", least=0)
    per_device_train_batch_size: int = option(64, "Windows per step and device.")
    per_device_eval_batch_size: int = option(512, "Windows per step of evaluation.")

    def __post_init__(self) -> None:
        self.network()
        self.set_training(["labels"])

    def network(self, **known: Any) -> DrumBassConfig:
        """The network's own options, and what is `known` of the corpus.

        Raises:
            ValueError: They do not fit together.
        """
        return DrumBassConfig(**{name: getattr(self, name) for name in NETWORK}, **known)


def baseline_drum_bass(
    corpus: Path | str, out: Path | str, *, progress: Progress | None = None, **options: Any
) -> TrainingResult:
    """Trains a network that writes a bass line to a drum part, and evaluates it on the test split.

    The same call again resumes an interrupted run, and returns the result of a finished one.

    Args:
        corpus: folder written by `mgen prepare` with the recipe `band`.
        out: run folder; the model goes to `out`/model.
        progress: takes lines about the progress.
        options: other options of `DrumBassOptions`.

    Returns:
        Metrics of the network on test, see `mgen.stats.bass_metrics.METRICS`; `eval_loss` of the kept weights on valid,
        in nats per step.

    Raises:
        MgenError: An option does not exist or is out of range, the corpus has no such music, or `out` has another run.
    """
    options |= {"corpus": str(corpus), "out": str(out)}
    return run_drum_bass(from_keywords(DrumBassOptions, "baseline_drum_bass", options), progress)


@resumable
def run_drum_bass(config: DrumBassOptions, progress: Progress | None = None) -> TrainingResult:
    """As `baseline_drum_bass`, for options that are a `DrumBassOptions` already."""
    progress = on_main_process(progress)
    corpus = Corpus.open(config.corpus)
    genres = genres_of(corpus)
    limits = config.steps, config.least_hits, config.least_notes
    pairs, counts = read_splits(corpus, SPLITS, limits, progress)
    run = Run.open(
        config.out, "baseline drum-bass", as_dict(config, BaselineTraining), seed=config.seed, data=corpus.fingerprint
    )
    if run.finished:
        return _result(run, already_finished=True)
    set_seed(config.seed)
    known = known_conditions(pairs["train"].conditions)
    model = DrumBassModel(config.network(genres=genres, programs=known["instrument"], keys=known["key"]))
    trainer = train_baseline(
        run,
        model,
        config,
        progress,
        data_collator=as_batch,
        train_dataset=PairSet(pairs["train"]),
        eval_dataset=PairSet(pairs["valid"]),
        compute_metrics=partial(valid_metrics, drums=pairs["valid"].drums, key=keys_of(pairs["valid"])),
        preprocess_logits_for_metrics=lambda logits, labels: model.predict(logits),
    )
    losses = loss_facts(trainer.state, config.load_best_model_at_end)
    trained = trainer.accelerator.unwrap_model(trainer.model)
    drawn = config.samples, config.temperature, config.seed
    scores = systems(config.model, trained, pairs["train"], pairs["test"], *drawn)
    metrics = {name: of.value for name, of in scores[config.model].items()} | {"eval_loss": losses["eval_loss"]}
    facts = {
        "parameters": model.num_parameters(),
        "steps": trainer.state.global_step,
        "windows": counts,
        "works": {split: len(set(of.work.tolist())) for split, of in pairs.items()},
        "unknown": unseen(pairs["test"].conditions, known),
        "test": {system: {name: of.to_json() for name, of in found.items()} for system, found in scores.items()},
        "losses": losses,
        "metrics": {name: value for name, value in metrics.items() if value == value},  # JSON lacks NaN
    }
    if PartialState().is_main_process:
        write_atomically(run.folder / "table.md", table(scores, facts))
        write_atomically(run.folder / "figure.svg", loss_figure(trainer.state.log_history))
    run.save_model(trained)
    run.finish(**facts)
    return _result(run)


def read_splits(
    corpus: Corpus, splits: Sequence[str], limits: tuple[int, int, int], progress: Progress
) -> tuple[dict[str, Pairs], dict[str, dict[str, int]]]:
    """The pairs of splits, and what was left out; a line for each. `limits`: steps, least_hits and least_notes."""
    pairs, counts, genres = {}, {}, genres_of(corpus)
    for split in splits:
        pairs[split], counts[split] = read_pairs(corpus, split, genres, *limits)
        progress(left_out_line(split, counts[split]))
    return pairs, counts


def _result(run: Run, already_finished: bool = False) -> TrainingResult:
    return run.result(run.fact("metrics"), already_finished)
