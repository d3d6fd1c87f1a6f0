"""Train a style critic: how surely is a piece jazz? Calibrated on valid, measured on test.

    mgen critic --config configs/critic/laptop.yaml --corpus corpus --out runs/critic
    mgen critic --transfer --corpus corpus --out runs/transfer

A critic hears by traits that all formats share (`--hears traits`, the one to give reward), or by the tokens themselves
(`--hears tokens`). The second's RUN/model is a stock classifier that plain TRL takes as a reward; there it gives the
raw logit of prompt and completion together. Calibrated nats of the completion alone need
`critics.style.critic.StyleCritic`.

With `--transfer` nothing is kept: critics are trained without two collections and have to tell these, for every pair.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from rich.console import Console
from rich.table import Table
from transformers import TrainingArguments

from critics.sequence import SequenceCritic
from critics.style.critic import HEARS, MIN_NOTES, WORST, StyleCritic
from critics.style.excerpts import collected
from critics.style.token_model import TokenModel
from critics.style.token_training import BREAKING, Excerpts, Music, StyleExcerpts, StyleTrainer
from critics.style.training_set import WAYS
from critics.validation.card import Labelled, style_card
from critics.validation.degenerate_inputs import wrong_way
from mgen.cli.options import parse, to_stderr
from mgen.cli.traits import NOTES, Lessons, excerpts_of
from mgen.cli.transfer import LENGTHS, transfer
from mgen.corpus.shards import Corpus
from mgen.models.transformer import check_vocabulary, load_policy
from mgen.notes import Notes
from mgen.options import as_dict
from mgen.render.charts import reliability_svg
from mgen.runs.checkpoints import write_manifest
from mgen.runs.run import Run
from mgen.runs.tracking import TrackingOptions, check_tracking
from mgen.sampling.prompts import draw_prompts
from mgen.sampling.rollout import Decoding, sample
from mgen.stats.calibration import Calibration, expected_calibration_error, fit_calibration
from mgen.stats.two_sample import first_notes
from mgen.transforms.degenerate import random_tokens

WRONG = 1000
"""Inputs of each kind that `wrong_way` tries, if the test split has so many excerpts."""


TOKENS_ONLY = (
    "init",
    "size",
    "max_tokens",
    "min_tokens",
    "prompt_tokens",
    "transpose",
    "retime",
    "broken",
    "valid_excerpts",
    "test_excerpts",
    "max_steps",
    "learning_rate",
)
"""Options that a critic of traits would not heed."""


@dataclass
class CriticConfig(TrackingOptions, TrainingArguments):  # type: ignore[misc]
    """Options of `mgen critic`: those of `transformers.TrainingArguments`, with other defaults, and these."""

    corpus: str = field(default="", metadata={"help": "Folder written by mgen prepare."})
    out: str = field(
        default="",
        metadata={"help": "Run folder; the model goes to OUT/model, what was measured to OUT/card.json."},
    )
    hears: str = field(
        default="traits",
        metadata={"help": "traits: what all formats share; tokens: a network that plain TRL can load."},
    )
    transfer: bool = field(
        default=False,
        metadata={"help": "Train on all but two collections and tell these two, for every pair; writes OUT/transfer.*"},
    )
    critics: list[str] = field(
        default_factory=lambda: ["naive", "ours"],
        metadata={"help": "With transfer: which critics. naive, network, features, ours, or a name of an ablation."},
    )
    control: bool = field(
        default=True, metadata={"help": "With transfer: how far format alone tells each pair of one kind, too."}
    )
    notes: list[int] = field(
        default_factory=list,
        metadata={"help": "Notes of excerpts: by default of many lengths in training, 256 and 100 with transfer."},
    )
    pieces: int = field(
        default=0,
        metadata={"help": "At most so many pieces of a collection, for each length; 0: 120, or 400 with transfer."},
    )
    each: int = field(default=2, metadata={"help": "Excerpts of a piece."})
    wrong_way: bool = field(
        default=False,
        metadata={"help": "Traits: try wrong inputs of each kind too, on critics that never heard the kind."},
    )
    hacked: list[str] = field(
        default_factory=list,
        metadata={"help": "With wrong_way: policies tuned against other critics, whose samples are tried."},
    )
    init: str = field(
        default="",
        metadata={
            "help": "Tokens: model folder of a pretrained policy to start from, better in fewer steps. None: noise."
        },
    )
    size: str = field(default="tiny", metadata={"help": "Without init: tiny (1 M), small (25 M) or base (85 M)."})
    positive: str = field(
        default="jazz",
        metadata={"help": "The style that the critic is sure of; all others are the other side."},
    )
    max_tokens: int = field(
        default=256, metadata={"help": "Longest excerpt, in tokens; what is longer is cut when judged."}
    )
    min_tokens: int = field(default=96, metadata={"help": "Shortest excerpt in training."})
    prompt_tokens: int = field(
        default=64, metadata={"help": "Half of the excerpts come after so many tokens, as completions do."}
    )
    transpose: bool = field(default=True, metadata={"help": "Train in all twelve keys."})
    retime: bool = field(
        default=True,
        metadata={"help": "Train on other grids and uneven timing too, so that it hears less of the file's format."},
    )
    broken: float = field(
        default=0.3,
        metadata={"help": "Share of the other side that is broken music of the style, so that it hears pitches."},
    )
    min_notes: int = field(
        default=MIN_NOTES,
        metadata={"help": "A piece with fewer pitched notes is not judged: it gets the worst score."},
    )
    worst: float = field(default=WORST, metadata={"help": "The worst score, in nats; log 1e-4 by default."})
    valid_excerpts: int = field(
        default=512, metadata={"help": "Excerpts of valid: for choosing the weights and for calibration."}
    )
    test_excerpts: int = field(default=1024, metadata={"help": "Excerpts of test: for the card."})
    json: bool = field(default=False, metadata={"help": "Print the card as one JSON object."})
    max_steps: int = field(default=300, metadata={"help": "Optimizer steps."})
    learning_rate: float = field(default=3e-4, metadata={"help": "Highest learning rate."})
    lr_scheduler_type: str = field(default="cosine", metadata={"help": "As in transformers."})
    warmup_steps: float = field(default=0.05, metadata={"help": "Steps, or a share of all steps if below 1."})
    weight_decay: float = field(default=0.1, metadata={"help": "Of adamw."})
    adam_beta2: float = field(default=0.95, metadata={"help": "Of adamw."})
    per_device_train_batch_size: int = field(default=16, metadata={"help": "Excerpts a step and device."})
    per_device_eval_batch_size: int = field(default=64, metadata={"help": "Excerpts heard at once."})
    eval_strategy: str = field(default="steps", metadata={"help": "As in transformers."})
    eval_steps: float = field(
        default=50, metadata={"help": "Steps between evaluations; checkpoints are written as often."}
    )
    save_total_limit: int = field(
        default=2, metadata={"help": "Checkpoints kept; at least 2, so that one is always whole."}
    )
    load_best_model_at_end: bool = field(default=True, metadata={"help": "Keep the weights that were best on valid."})
    logging_steps: float = field(default=10, metadata={"help": "Steps between log lines."})

    def __post_init__(self) -> None:
        for name in ("corpus", "out"):
            if not getattr(self, name) and not (name == "out" and self.transfer):
                raise ValueError(f"expected --{name}, got none; see --help")
        if self.hears not in HEARS:
            raise ValueError(f"hears '{self.hears}': expected one of {', '.join(HEARS)}")
        if self.hears == "traits":
            defaults = {entry.name: entry.default for entry in fields(self)}
            for name in TOKENS_ONLY:
                if getattr(self, name) != defaults[name]:
                    raise ValueError(f"{name} is for a critic that hears tokens: leave it out, or give --hears tokens")
        if self.notes and min(self.notes) < self.min_notes:
            raise ValueError(f"notes ({min(self.notes)}) must be at least min_notes ({self.min_notes})")
        if self.pieces < 0 or self.each < 1:
            raise ValueError(f"pieces ({self.pieces}) must be at least 0 and each ({self.each}) at least 1")
        if not 0 < self.min_tokens <= self.max_tokens:
            raise ValueError(f"min_tokens ({self.min_tokens}) must be between 1 and max_tokens ({self.max_tokens})")
        if self.prompt_tokens < 0:
            raise ValueError(f"prompt_tokens ({self.prompt_tokens}) must be at least 0")
        if not 0 <= self.broken < 1:
            raise ValueError(f"broken ({self.broken}) must be at least 0 and below 1: the rest is real music")
        if self.worst >= np.log(0.5):
            raise ValueError(f"worst ({self.worst}) must be below log 1/2, the score of not knowing; try {WORST:.2f}")
        if min(self.valid_excerpts, self.test_excerpts) < 32:
            raise ValueError(
                f"valid_excerpts ({self.valid_excerpts}) and test_excerpts ({self.test_excerpts}) must be at "
                "least 32; a calibration on fewer says nothing"
            )
        if self.save_total_limit is not None and self.save_total_limit < 2:
            raise ValueError(f"save_total_limit ({self.save_total_limit}) must be at least 2: one is whole at any time")
        check_tracking(self)
        self.output_dir = f"{self.out or '.'}/checkpoints"
        self.bf16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
        self.save_strategy, self.save_steps = self.eval_strategy, self.eval_steps
        self.metric_for_best_model, self.greater_is_better = "loss", False
        self.remove_unused_columns = False
        self.dataloader_pin_memory = torch.cuda.is_available()
        super().__post_init__()


def main(argv: Sequence[str] | None = None) -> int:
    """Train, calibrate, measure; returns the exit code."""
    (config,) = parse(
        argv,
        CriticConfig,
        program="mgen critic",
        example="mgen critic --config configs/critic/laptop.yaml --corpus corpus --out runs/critic",
    )
    if config.transfer:
        return transfer(
            config.corpus,
            config.out,
            positive=config.positive,
            notes=config.notes or LENGTHS,
            critics=config.critics,
            pieces=config.pieces or 400,
            each=config.each,
            control=config.control,
            seed=config.seed,
            as_json=config.json,
        )
    corpus = Corpus.open(config.corpus)
    return {"traits": _hear_traits, "tokens": _hear_tokens}[config.hears](config, corpus)


def _hear_traits(config: CriticConfig, corpus: Corpus) -> int:
    """The whole way of a critic that hears traits; one process does it."""
    lengths, pieces = config.notes or list(NOTES), config.pieces or 120
    test = excerpts_of(corpus, config.positive, "test", lengths, pieces, config.each, config.seed)
    run = Run.open(config.out, "critic", as_dict(config), seed=config.seed, data=corpus.fingerprint)
    if run.finished:
        return _report(run, config.json, "was finished before")
    if PartialState().is_main_process:
        lessons = Lessons.of(corpus, config.positive, lengths, pieces, config.each, config.seed)

        def critic(left_out: Sequence[str] = ()) -> StyleCritic:
            ways = [way for way in WAYS if way not in left_out]
            return StyleCritic(lessons.model(config.seed, ways), config.positive, config.min_notes, config.worst)

        saved = _saved(run, critic(), lessons.told(), corpus)
        at = dict.fromkeys(sorted(test.notes.counts.tolist()))
        by_length = {
            str(count): style_card(saved, test.rows(test.notes.counts == count), config.seed, brief=True)
            for count in at
        }
        own = {"parameters": saved.model.parameters, "by_length": by_length}
        if config.wrong_way:
            own["wrong_way"] = _wrong_way(config, corpus, saved, critic)
        _finish(run, config, saved, test, own)
    PartialState().wait_for_everyone()
    return _report(run, config.json, "finished")


def _wrong_way(
    config: CriticConfig, corpus: Corpus, critic: StyleCritic, without: Callable[[Sequence[str]], StyleCritic]
) -> dict[str, Any]:
    """Length -> what `critics.validation.degenerate_inputs` found of a thousand inputs of each kind."""
    found = {}
    lengths = config.notes or LENGTHS
    sampled = {
        f"samples of {Path(name).resolve().parent.name}": _samples(config, corpus, name, 4 * max(lengths))
        for name in config.hacked
    }
    for count in lengths:
        music = collected(corpus, config.positive, count, WRONG, 4, config.seed, splits=("test",))
        rows = np.flatnonzero(music.positive)
        real = music.notes.pieces(np.random.default_rng(config.seed).permutation(rows)[:WRONG])
        tokens = random_tokens(real, np.random.default_rng(config.seed), corpus.remi, 4 * count)
        others = {"random_tokens": tokens}
        others |= {name: first_notes(notes, np.full(notes.n_pieces, count)) for name, notes in sampled.items()}
        found[str(count)] = wrong_way(critic, without, real, others, config.seed)
    return found


def _samples(config: CriticConfig, corpus: Corpus, model: str, tokens: int) -> Notes:
    """A thousand completions by a policy, half of them turned from other music."""
    policy, remi = load_policy(model)
    check_vocabulary(model, remi, config.corpus, corpus.remi)
    room = int(policy.config.max_position_embeddings) - 32
    parts = []
    for prompt_type, use in (("continuation", 8), ("transfer", 4)):
        rng = np.random.default_rng([config.seed, use])
        prompts = draw_prompts(corpus, "test", prompt_type, WRONG // 2, 24, 1, config.positive, rng)
        ids = [row.tolist() for row in prompts.ids]
        for begin in range(0, len(ids), 250):
            some = ids[begin : begin + 250]
            generator = torch.Generator(policy.device).manual_seed(config.seed + begin)
            decoding = Decoding(max_new_tokens=min(tokens, room))
            completions, _ = sample(policy, some, decoding, remi.eos_id, remi.pad_id, generator).lists()
            parts.append(Notes.from_completions(some, completions, remi))
    return Notes.concat(parts)


def _hear_tokens(config: CriticConfig, corpus: Corpus) -> int:
    """The whole way of a critic that hears tokens."""
    excerpts = {split: _excerpts(corpus, split, config) for split in ("valid", "test")}
    network = SequenceCritic.new(
        corpus.remi, config.init or None, config.size, config.max_tokens, config.positive, config.seed
    )
    run = Run.open(config.out, "critic", as_dict(config), seed=config.seed, data=corpus.fingerprint)
    if run.finished:
        return _report(run, config.json, "was finished before")
    batch = config.train_batch_size * config.gradient_accumulation_steps * config.world_size
    music = Music.of(corpus, "train", config.positive, config.prompt_tokens)
    train = StyleExcerpts(
        music,
        network,
        config.min_tokens,
        length=config.max_steps * batch,
        transpose=config.transpose,
        retime=config.retime,
        broken=config.broken,
        seed=config.seed,
    )
    trainer = StyleTrainer(network, config, train, excerpts["valid"])
    run.follow(trainer, to_stderr)
    trainer.train(resume_from_checkpoint=run.last_checkpoint())
    if PartialState().is_main_process:
        valid = excerpts["valid"]
        logits = network.logits(valid.notes)
        calibration = fit_calibration(logits, valid.positive)
        critic = StyleCritic(TokenModel(network, calibration), config.positive, config.min_notes, config.worst)
        collections: dict[str, list[str]] = {}
        for style, collection in music.tables:
            collections.setdefault(style, []).append(collection)
        about = {
            "data": corpus.fingerprint,
            "collections": collections,
            "broken": [change.__name__ for change in BREAKING] if config.broken else [],  # no news on the card
        }
        saved = _saved(run, critic, about, corpus)
        ece = {
            name: expected_calibration_error(np.exp(said.log_probability(logits)), valid.positive)
            for name, said in {"ece_raw": Calibration(), "ece": calibration}.items()
        }
        own = {
            "parameters": network.model.num_parameters(),
            "max_tokens": config.max_tokens,
            "valid": {"n": len(logits), "scale": calibration.scale, "bias": calibration.bias, **ece},
        }
        _finish(run, config, saved, excerpts["test"], own)
    PartialState().wait_for_everyone()
    return _report(run, config.json, "finished")


def _excerpts(corpus: Corpus, split: str, config: CriticConfig) -> Excerpts:
    """Excerpts of the longest kind, the same ones at every call."""
    n = {"valid": config.valid_excerpts, "test": config.test_excerpts}[split]
    rng = np.random.default_rng([config.seed, n])
    return Music.of(corpus, split, config.positive, config.prompt_tokens).draw(n, config.max_tokens, rng)


def _saved(run: Run, critic: StyleCritic, about: dict[str, Any], corpus: Corpus) -> StyleCritic:
    """The critic as it is found in RUN/model, which is written aside and renamed."""
    aside = run.folder / "model.part"
    critic.save_pretrained(aside, trained_on=about)
    write_manifest(aside)
    if run.model_folder.exists():  # of a run that was cut off after this
        shutil.rmtree(run.model_folder)
    aside.rename(run.model_folder)
    return StyleCritic.from_pretrained(run.model_folder, corpus.remi)


def _finish(run: Run, config: CriticConfig, critic: StyleCritic, test: Labelled, own: dict[str, Any]) -> None:
    """Measure what was saved."""
    card: dict[str, Any] = {
        "positive": config.positive,
        "hears": config.hears,
        "prior": 0.5,
        "worst": config.worst,
        "min_notes": config.min_notes,
        **own,
        "test": style_card(critic, test, config.seed),
    }
    (run.folder / "card.json").write_text(json.dumps(card, indent=1))
    (run.folder / "reliability.svg").write_text(reliability_svg(card["test"]["reliability"]))
    run.finish(card=card, parameters=card["parameters"])


def _report(run: Run, as_json: bool, state: str) -> int:
    if not PartialState().is_main_process:
        return 0
    card = run.facts["card"]
    if as_json:
        print(json.dumps(card))
        return 0
    test = card["test"]
    table = Table("on test", "value", "95 % interval", title=f"{run.folder} {state}, {run.facts['seconds']:.0f} s")
    rows = {"AUC": test["auc"], "accuracy": test["accuracy"]}
    rows |= {f"AUC {a} / {b}": pair for a, others in test["pairs"].items() for b, pair in others.items()}
    rows |= {f"log P({card['positive']}), {side}": number for side, number in test["score"].items()}
    rows |= {f"nats, {name}": change for name, change in (test["format"] | test["broken"]).items()}
    for name, number in rows.items():
        table.add_row(name, f"{number['value']:.3f}", f"{number['low']:.3f} .. {number['high']:.3f}")
    table.add_row("calibration error", f"{test['ece']:.3f}", "")
    Console().print(table)
    return 0
