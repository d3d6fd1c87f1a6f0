"""`mgen.train_style_critic` and `mgen.leave_one_collection_out`.

mgen.train_style_critic("corpus", "runs/critic", target="jazz").card["test"]["auc"]
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from transformers import TrainingArguments

from critics.sequence import SequenceCritic
from critics.style import INPUTS, MIN_NOTES, WORST, StyleCritic
from critics.style.critic import TokenModel
from critics.style.excerpts import LabelledPieces
from critics.style.feature_training import LENGTHS, FeatureTraining, excerpts_of_lengths
from critics.style.token_training import NEGATIVES, StyleDataset, StyleTrainer, TokenWindows
from critics.validation import report
from critics.validation.card import style_card
from critics.validation.degenerate_inputs import degenerate_inputs
from critics.validation.fitters import FITTERS
from critics.validation.leave_one_out import MIN_PIECES
from critics.validation.report import LeaveOneOutReport
from mgen.corpus.shards import Corpus
from mgen.errors import MgenError
from mgen.models.transformer import SIZES
from mgen.options import as_dict, check_required, from_keywords, option, target_style
from mgen.progress import Progress, silent
from mgen.render.charts import reliability_svg
from mgen.runs.checkpoints import check_saving, replace_folder
from mgen.runs.interruptions import resumable
from mgen.runs.run import Run, on_main_process
from mgen.runs.tracking import TrackingOptions, check_tracking
from mgen.speed import SpeedOptions
from mgen.stats.calibration import Calibration, expected_calibration_error
from mgen.stored import read_json
from mgen.transforms.hard_negatives import HARD_NEGATIVES

CARD = "card.json"

PIECES = 120  # largest number of pieces of a collection for a critic of features
REPORT = "leave_one_collection_out"  # name of the files of `leave_one_collection_out`

TOKENS_ONLY = (
    *("init", "size", "max_tokens", "min_tokens", "prompt_tokens", "transpose", "retime", "corrupted"),
    *("valid_excerpts", "test_excerpts", "max_steps", "learning_rate"),
)
"""Options without effect on a critic of features."""


@dataclass
class CriticConfig(SpeedOptions, TrackingOptions, TrainingArguments):  # type: ignore[misc]
    """Options of `mgen critic`: those of `transformers.TrainingArguments`, with other defaults, and these."""

    corpus: str = option("", "Folder written by mgen prepare.")
    out: str = option("", "Run folder; the model is written to OUT/model, the results to OUT/card.json.")
    target: str = option("", "Style whose probability is the score; in a corpus of one style and other it is that one.")
    input: str = option(
        "features", "features: the same in all file formats; tokens: a network that plain TRL can load.", words=INPUTS
    )
    notes: list[int] = option(
        [], "Notes of excerpts; by default 24 to 256, and 256 and 100 to leave collections out.", least=1
    )
    pieces: int = option(
        0, "Most pieces of a collection per length; 0: 120, and 400 to leave collections out.", least=0
    )
    each: int = option(2, "Excerpts of a piece.", least=1)
    degenerate_inputs: bool = option(
        False, "Features: also score degenerate inputs, by critics trained without their like too."
    )
    hacked: list[str] = option([], "degenerate_inputs: policies tuned against other critics, whose samples are scored.")
    init: str = option("", "Tokens: model folder of a pretrained policy to start from; random weights without it.")
    size: str = option("tiny", "Without init: tiny (1 M), mini (3 M), small (24 M) or base (82 M).", words=tuple(SIZES))
    max_tokens: int = option(256, "Longest excerpt, in tokens; longer pieces are cut when judged.", least=1)
    min_tokens: int = option(96, "Shortest excerpt in training.", least=1)
    prompt_tokens: int = option(64, "Tokens of the prompt before half of the excerpts, as for completions.", least=0)
    transpose: bool = option(True, "Train in all twelve keys.")
    retime: bool = option(True, "Train on other grids and uneven timing too, against learning the file format.")
    corrupted: float = option(
        0.3, "Share of the other side that is corrupted music of the style, for learning pitches.", least=0, below=1
    )
    min_notes: int = option(MIN_NOTES, "Pieces with fewer pitched notes are not judged: the worst score.", least=0)
    worst: float = option(WORST, "The worst score, in nats; log 1e-4 by default.")
    valid_excerpts: int = option(512, "Excerpts of valid, for choosing the weights and for calibration.", least=32)
    test_excerpts: int = option(1024, "Excerpts of test, for the card.", least=32)
    max_steps: int = option(300, "Optimizer steps.")
    learning_rate: float = option(3e-4, "Highest learning rate.")
    lr_scheduler_type: str = option("cosine", "As in transformers.")
    warmup_steps: float = option(0.05, "Steps, or a share of all steps if below 1.")
    weight_decay: float = option(0.1, "Of adamw.")
    adam_beta2: float = option(0.95, "Of adamw.")
    per_device_train_batch_size: int = option(16, "Excerpts per step and device.")
    per_device_eval_batch_size: int = option(64, "Excerpts judged at once.")
    eval_strategy: str = option("steps", "As in transformers.")
    eval_steps: float = option(50, "Steps between evaluations, and between checkpoints.")
    save_total_limit: int = option(2, "Checkpoints kept; at least 2, so that one is always complete.")
    load_best_model_at_end: bool = option(True, "Keep the weights that were best on valid.")
    logging_steps: float = option(10, "Steps between log lines.")

    def __post_init__(self) -> None:
        check_required(self, "corpus")
        if self.input == "features":
            defaults = {entry.name: entry.default for entry in fields(self)}
            for name in TOKENS_ONLY:
                if getattr(self, name) != defaults[name]:
                    raise ValueError(f"{name} is for a critic of tokens: leave it out, or give --input tokens")
        if self.notes and min(self.notes) < self.min_notes:
            raise ValueError(f"notes ({min(self.notes)}) must be at least min_notes ({self.min_notes})")
        if self.min_tokens > self.max_tokens:
            raise ValueError(f"min_tokens ({self.min_tokens}) must be between 1 and max_tokens ({self.max_tokens})")
        if self.worst >= np.log(0.5):
            raise ValueError(f"worst ({self.worst}) must be below log 1/2, the score of not knowing; try {WORST:.2f}")
        check_saving(self)
        check_tracking(self)
        self.output_dir = f"{self.out or '.'}/checkpoints"
        self.set_precision()
        self.save_strategy, self.save_steps = self.eval_strategy, self.eval_steps
        self.metric_for_best_model, self.greater_is_better = "loss", False
        self.remove_unused_columns = False
        self.dataloader_pin_memory = torch.cuda.is_available()
        super().__post_init__()


@dataclass(frozen=True)
class CriticResult:
    """A trained style critic.

    Attributes:
        folder: of the run.
        card: content of card.json.
        seconds: of training and measuring.
        already_finished: whether the run was finished before this call.
    """

    folder: Path
    card: dict[str, Any]
    seconds: float
    already_finished: bool

    @property
    def model(self) -> Path:
        """Folder for `StyleCritic.from_pretrained`."""
        return self.folder / "model"


def train_style_critic(
    corpus: Path | str, out: Path | str, *, progress: Progress | None = None, **options: Any
) -> CriticResult:
    """Trains a style critic on the split train, calibrates it on valid and measures it on test.

    An interrupted critic of tokens resumes from its last checkpoint; one of features starts again.

    Args:
        corpus: folder written by `prepare`.
        out: run folder; a finished run is read and not trained again.
        progress: takes lines about the progress.
        options: fields of `CriticConfig`.

    Raises:
        MgenError: An option is invalid, or the corpus does not have the style or enough music.
    """
    config = from_keywords(CriticConfig, "critic", {"corpus": str(corpus), "out": str(out), **options})
    return run_critic(config, progress)


@resumable
def run_critic(config: CriticConfig, progress: Progress | None = None) -> CriticResult:
    """`train_style_critic` with checked options."""
    if not config.out:
        raise MgenError("mgen critic: expected --out, got none; see --help")
    corpus = Corpus.open(config.corpus)
    config.target = target_style(config.target, corpus.remi.style_ids)
    if config.input == "features":
        return _train_on_features(config, corpus, progress or silent)
    return _train_on_tokens(config, corpus, progress)


def _open_run(config: CriticConfig, corpus: Corpus) -> Run:
    return Run.open(config.out, "critic", as_dict(config), seed=config.seed, data=corpus.fingerprint)


def _train_on_features(config: CriticConfig, corpus: Corpus, progress: Progress) -> CriticResult:
    """Trains in the main process alone."""
    lengths, pieces = config.notes or list(LENGTHS), config.pieces or PIECES
    test = excerpts_of_lengths(corpus, config.target, "test", lengths, pieces, config.each, config.seed)
    run = _open_run(config, corpus)
    if run.finished:
        return _result(run, already_finished=True)
    if PartialState().is_main_process:
        training = FeatureTraining.of(corpus, config.target, lengths, pieces, config.each, config.seed, progress)

        def train_without(left_out: Sequence[str] = ()) -> StyleCritic:
            negatives = [name for name in HARD_NEGATIVES if name not in left_out]
            return StyleCritic(training.fit(config.seed, negatives), config.target, config.min_notes, config.worst)

        critic = _save(run, train_without(), training.to_json(), corpus)
        card = {
            "parameters": critic.model.parameters,
            "by_length": {
                str(n): style_card(critic, test.rows(test.notes.counts == n), config.seed, brief=True)
                for n in np.unique(test.notes.counts).tolist()
            },
        }
        if config.degenerate_inputs:
            card["degenerate_inputs"] = degenerate_inputs(
                critic, train_without, corpus, config.notes or report.LENGTHS, config.hacked, config.seed, progress
            )
        _finish(run, config, critic, test, card)
    PartialState().wait_for_everyone()
    return _result(run, already_finished=False)


def _train_on_tokens(config: CriticConfig, corpus: Corpus, progress: Progress | None) -> CriticResult:
    def windows(split: str) -> TokenWindows:
        return TokenWindows.of(corpus, split, config.target, config.prompt_tokens)

    def draw(split: str, n: int) -> LabelledPieces:
        return windows(split).draw(n, config.max_tokens, np.random.default_rng([config.seed, n]))

    valid, test = draw("valid", config.valid_excerpts), draw("test", config.test_excerpts)
    speed = config.chosen_speed()
    network = SequenceCritic.new(
        corpus.remi, config.init or None, config.size, config.max_tokens, config.target, config.seed, speed
    )
    run = _open_run(config, corpus)
    if run.finished:
        return _result(run, already_finished=True)
    train_windows = windows("train")
    dataset = StyleDataset(
        train_windows,
        network,
        config.min_tokens,
        length=config.max_steps * config.train_batch_size * config.gradient_accumulation_steps * config.world_size,
        transpose=config.transpose,
        retime=config.retime,
        corrupted=config.corrupted,
        seed=config.seed,
    )
    progress = on_main_process(progress)
    run.record_speed(speed, progress)
    trainer = StyleTrainer(network, config, dataset, valid)
    run.follow(trainer, progress)
    trainer.train(resume_from_checkpoint=run.last_checkpoint())
    if PartialState().is_main_process:
        model = TokenModel.fit(network, valid)
        logits, calibration = network.logits(valid.notes), model.calibration
        critic = StyleCritic(model, config.target, config.min_notes, config.worst)
        collections: dict[str, list[str]] = {}
        for style, collection in train_windows.tables:
            collections.setdefault(style, []).append(collection)
        about = {
            "data": corpus.fingerprint,
            "collections": collections,
            "negatives": list(NEGATIVES) if config.corrupted else [],
        }
        ece = {
            name: expected_calibration_error(np.exp(line.log_probability(logits)), valid.positive)
            for name, line in {"ece_raw": Calibration(), "ece": calibration}.items()
        }
        card = {
            "parameters": network.model.num_parameters(),
            "max_tokens": config.max_tokens,
            "valid": {"n": len(logits), "scale": calibration.scale, "bias": calibration.bias, **ece},
        }
        _finish(run, config, _save(run, critic, about, corpus), test, card)
    PartialState().wait_for_everyone()
    return _result(run, already_finished=False)


def _save(run: Run, critic: StyleCritic, trained_on: dict[str, Any], corpus: Corpus) -> StyleCritic:
    """Writes RUN/model, in one rename, and reads it again."""
    with replace_folder(run.model_folder) as part:
        critic.save_pretrained(part, trained_on=trained_on)
    return StyleCritic.from_pretrained(run.model_folder, corpus.remi)


def _finish(run: Run, config: CriticConfig, critic: StyleCritic, test: LabelledPieces, card: dict[str, Any]) -> None:
    """Measures what was saved."""
    card = {
        "positive": config.target,
        "input": config.input,
        "prior": 0.5,
        "worst": config.worst,
        "min_notes": config.min_notes,
        **card,
        "test": style_card(critic, test, config.seed),
    }
    (run.folder / CARD).write_text(json.dumps(card, indent=1))
    (run.folder / "reliability.svg").write_text(reliability_svg(card["test"]["reliability"]))
    run.finish(card=card, parameters=card["parameters"])


def _result(run: Run, already_finished: bool) -> CriticResult:
    card = read_json(run.folder / CARD, "train the critic again, with another --out")
    return CriticResult(run.folder, card, run.facts.get("seconds", 0.0), already_finished)


def leave_one_collection_out(
    corpus: Path | str,
    out: Path | str = "",
    *,
    target: str = "",
    notes: Sequence[int] = (),
    critics: Sequence[str] = ("naive", "ensemble"),
    pieces: int = 0,
    each: int = 2,
    min_pieces: int = MIN_PIECES,
    shortcut_baseline: bool = True,
    seed: int = 42,
    progress: Progress = silent,
) -> LeaveOneOutReport:
    """Trains critics without two collections and measures them on these two, for every pair.

    Args:
        corpus: folder written by `prepare`.
        out: folder for leave_one_collection_out.json and .md; none is written without it.
        target: the style; may be empty in a corpus of one style and other.
        notes: notes of an excerpt; 256 and 100 by default.
        critics: names of `critics.validation.fitters.FITTERS`.
        pieces: most pieces of a collection, performed and on grid each; 400 by default.
        each: excerpts of a piece.
        min_pieces: pieces below which a collection is only trained on.
        shortcut_baseline: also measure how well format alone separates the pairs of one type.
        progress: takes a line after each training.

    Raises:
        MgenError: No critic has such a name, a length is below 16 notes, or there are too few collections.
    """
    for name in critics:
        if name not in FITTERS:
            raise MgenError(f"mgen critic: critics '{name}': expected some of {', '.join(FITTERS)}")
    for count in notes:
        if count < MIN_NOTES:
            raise MgenError(f"mgen critic: notes ({count}) must be at least {MIN_NOTES}; try 100")
    opened = Corpus.open(str(corpus))
    target = target_style(target, opened.remi.style_ids)
    lengths, pieces = notes or report.LENGTHS, pieces or 400
    result = report.measure(
        opened, target, lengths, critics, pieces, each, min_pieces, shortcut_baseline, seed, progress
    )
    if out:
        folder = Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{REPORT}.json").write_text(json.dumps(result.to_json(), indent=1), encoding="utf-8")
        (folder / f"{REPORT}.md").write_text(result.to_markdown(), encoding="utf-8")
    return result
