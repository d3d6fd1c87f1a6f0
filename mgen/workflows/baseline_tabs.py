"""Prediction of the next note of a guitar tab, the baseline that people know from tutorials.

    mgen baseline tabs --config configs/baselines/tabs_laptop.yaml --corpus corpus --out runs/tabs

Trains a small network on windows of notes, and compares it on test with the majority class and with a repeat of the
last note.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import set_seed

from mgen.corpus.tab_windows import NoteWindows, as_batch, choose_chunks, read_tabs, tabs_fingerprint
from mgen.files import write_atomically
from mgen.models.baselines.event_vectors import PREPARATIONS, PRETRAINED, TARGETS, VARIANTS
from mgen.models.baselines.next_note import MODELS, NextNoteConfig, NextNoteModel
from mgen.models.baselines.note_losses import LOSSES
from mgen.options import as_dict, from_keywords, option
from mgen.progress import Progress
from mgen.render.network import check_drawing, draw_network
from mgen.runs.interruptions import resumable
from mgen.runs.run import Run, TrainingResult, on_main_process
from mgen.training.event_vectors import train_event_vectors
from mgen.workflows.baseline_tabs_results import class_facts, loss_facts, loss_figure, systems, table, valid_metrics
from mgen.workflows.baseline_training import SPLITS, BaselineTraining, train_baseline

NETWORK = (
    *("features", "preparation", "freeze", "model", "loss", "targets", "window", "event_width", "width", "layers"),
    *("dropout", "confidence_penalty", "label_smoothing"),
)


@dataclass
class TabsConfig(BaselineTraining):
    """Options of `mgen baseline tabs`: those of `transformers.TrainingArguments`, with other defaults, and these."""

    corpus: str = option("", "Folder written by mgen prepare with configs/prepare/tabs.yaml.")
    out: str = option("", "Run folder; the model goes to OUT/model.")
    features: str = option(
        "semitone_octave_dur_dotted", f"What is read of a note: {', '.join(VARIANTS)}.", words=tuple(VARIANTS)
    )
    preparation: str = option(
        "one_hot",
        "How notes become vectors: one-hot features through a dense layer, an embedding per feature, or vectors that "
        "are trained beforehand by skip-gram or by an autoencoder.",
        words=PREPARATIONS,
    )
    freeze: bool = option(False, "skip_gram, autoencoder: the vectors stay as they were trained.")
    event_width: int = option(16, "Width of the vector of a note.", least=1, most=4096)
    model: str = option(
        "feed_forward",
        "Network: last_note reads the last note alone, lstm has one layer, attention is a Transformer.",
        words=MODELS,
    )
    width: int = option(64, "Width of its layers.", least=1, most=8192)
    layers: int = option(2, "Layers, except of lstm.", least=1, most=64)
    dropout: float = option(0.0, "Dropout of the layers.", least=0, below=1)
    targets: list[str] = option(
        ["note", "duration"],
        "What is predicted: note (rest or one of 12), pitch (rest or one of 128), duration (one of 14), dotted.",
        words=tuple(TARGETS),
    )
    loss: str = option(
        "cross_entropy",
        "cross_entropy, weighted (by class, balanced), mse (of log2 of the duration) or bce (one against the rest).",
        words=LOSSES,
    )
    confidence_penalty: float = option(0.0, "Weight of minus the entropy of predictions, in the loss.", least=0)
    label_smoothing: float = option(0.0, "Probability shared by all classes in the training target.", least=0, below=1)
    window: int = option(16, "Notes that are read.", least=10, most=100)
    instrument: str = option("", "Only this instrument, as mgen instruments names it; all by default.")
    chunk_notes: list[int] = option([1, 1_000_000], "Least and most notes of a chunk.", least=1)
    favour_long: float = option(
        0.0, "Windows of a chunk are as likely as its length to this power; 0: all alike.", least=-4, most=4
    )
    share: float = option(1.0, "Share of the songs of train, drawn from the seed.", above=0, most=1)
    picture: bool = option(False, "Draw the network in OUT/network.svg, with the extra graph.")
    max_steps: int = option(2000, "Optimizer steps.")
    per_device_train_batch_size: int = option(1024, "Windows per step and device.")
    per_device_eval_batch_size: int = option(2048, "Windows per step of evaluation.")

    def __post_init__(self) -> None:
        if len(self.chunk_notes) != 2 or self.chunk_notes[0] > self.chunk_notes[1]:
            raise ValueError(f"chunk_notes ({' '.join(map(str, self.chunk_notes))}): expected two numbers, MIN MAX")
        self.network()
        if self.picture:
            check_drawing()
        self.set_training(["labels"])

    def network(self) -> NextNoteConfig:
        """The network's own options.

        Raises:
            ValueError: They do not fit together.
        """
        return NextNoteConfig(**{name: getattr(self, name) for name in NETWORK})


def baseline_tabs(
    corpus: Path | str, out: Path | str, *, progress: Progress | None = None, **options: Any
) -> TrainingResult:
    """Trains a network that predicts the next note of a tab, and evaluates it on the test split.

    The same call again resumes an interrupted run, and returns the result of a finished one.

    Args:
        corpus: folder written by `mgen prepare` with tab events.
        out: run folder; the model goes to `out`/model.
        progress: takes lines about the progress.
        options: other options of `TabsConfig`.

    Returns:
        Metrics of the network on test, `<target>/accuracy` and `<target>/balanced_accuracy`; `balanced_accuracy`, their
        mean; `eval_loss` of the kept weights on valid.

    Raises:
        MgenError: An option does not exist or is out of range, the corpus has no such music, or `out` has another run.
    """
    options |= {"corpus": str(corpus), "out": str(out)}
    return run_tabs(from_keywords(TabsConfig, "baseline_tabs", options), progress)


@resumable
def run_tabs(config: TabsConfig, progress: Progress | None = None) -> TrainingResult:
    """As `baseline_tabs`, for options that are a `TabsConfig` already."""
    progress = on_main_process(progress)
    windows, chunks = _windows(config, progress)
    data = tabs_fingerprint(config.corpus, SPLITS)
    run = Run.open(config.out, "baseline tabs", as_dict(config, BaselineTraining), seed=config.seed, data=data)
    if run.finished:
        return _result(run, already_finished=True)
    set_seed(config.seed)
    model = NextNoteModel(config.network())
    if config.preparation in PRETRAINED:
        shape = config.features, config.event_width, config.seed
        model.vectors.load(train_event_vectors(config.preparation, windows["train"].tabs, *shape))
    if config.picture:
        example = torch.from_numpy(windows["train"].tabs.events[: config.window])[None]
        draw_network(model, example, run.folder / "network.svg")
    known = {target: class_facts(windows, target) for target in config.targets}
    trainer = train_baseline(
        run,
        model,
        config,
        progress,
        data_collator=as_batch,
        train_dataset=windows["train"],
        eval_dataset=windows["valid"],
        compute_metrics=partial(valid_metrics, known=known),
        preprocess_logits_for_metrics=lambda logits, labels: model.predict(logits),
    )
    losses = loss_facts(trainer.state, config.load_best_model_at_end)
    if losses["rises"]:
        progress(
            f"the valid loss rises again: {losses['best_eval_loss']:.4g} at step {losses['best_step']}, "
            f"{losses['final_eval_loss']:.4g} at step {trainer.state.global_step}"
        )
    predicted = trainer.predict(windows["test"])
    scores = systems(config.model, predicted.predictions, windows, known)
    own = {f"{target}/{name}": of.value for target, found in scores[config.model].items() for name, of in found.items()}
    balanced = [own[f"{target}/balanced_accuracy"] for target in config.targets]
    metrics = own | {"balanced_accuracy": sum(balanced) / len(balanced)}
    metrics |= {"eval_loss": losses["eval_loss"], "test_loss": predicted.metrics["test_loss"]}
    facts = {
        "parameters": model.num_parameters(),
        "steps": trainer.state.global_step,
        "chunks": chunks,
        "windows": {split: len(of) for split, of in windows.items()},
        "classes": {target: of.to_json() for target, of in known.items()},
        "test": {
            system: {target: {name: one.to_json() for name, one in found.items()} for target, found in of.items()}
            for system, of in scores.items()
        },
        "losses": losses,
        "metrics": {name: value for name, value in metrics.items() if value is not None and isfinite(value)},
    }
    if PartialState().is_main_process:
        write_atomically(run.folder / "table.md", table(scores, known, facts))
        write_atomically(run.folder / "figure.svg", loss_figure(trainer.state.log_history))
    run.save_model(trainer.accelerator.unwrap_model(trainer.model))
    run.finish(**facts)
    return _result(run)


def _windows(config: TabsConfig, progress: Progress) -> tuple[dict[str, NoteWindows], dict[str, dict[str, int]]]:
    """The windows of each split, and what became of its chunks."""
    windows, chunks = {}, {}
    notes = config.chunk_notes[0], config.chunk_notes[1]
    for split in SPLITS:
        tabs = read_tabs(config.corpus, split)
        share = config.share if split == "train" else 1.0  # few songs would make the numbers noise
        tabs, chunks[split] = choose_chunks(tabs, config.window, config.instrument, notes, share, config.seed)
        windows[split] = NoteWindows(tabs, config.window, config.favour_long if split == "train" else 0.0)
    used = ", ".join(f"{split} {of['used']} of {of['chunks']} ({of['songs']} songs)" for split, of in chunks.items())
    short = sum(of["too short"] for of in chunks.values())
    progress(f"chunks: {used}; {short} too short for a window of {config.window} and the next note")
    return windows, chunks


def _result(run: Run, already_finished: bool = False) -> TrainingResult:
    return run.result(run.fact("metrics"), already_finished)
