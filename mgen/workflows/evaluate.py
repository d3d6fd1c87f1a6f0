"""`mgen.evaluate`: systems on the evaluation protocol, or one folder of music files compared with another.

`run_evaluate` builds the systems, runs `mgen.evaluation.protocol` and writes metrics.json, report.html and samples/.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

import torch
from transformers import PreTrainedModel

from critics.sequence import SequenceCritic
from critics.style.feature_model import WEIGHTS as FEATURE_WEIGHTS
from mgen.corpus.clean import RECIPES, Recipe
from mgen.corpus.shards import Corpus
from mgen.errors import MgenError
from mgen.evaluation.baselines import BASELINES, LOW_COST_BASELINES, baseline, low_cost_baseline
from mgen.evaluation.folders import EXCERPT_NOTES, FolderComparison, compare_folders
from mgen.evaluation.measure import MetricOptions
from mgen.evaluation.protocol import REAL, EvaluatedSystem, Evaluation, Protocol, run_protocol
from mgen.evaluation.report_content import evaluation_page, folder_page, outcome_of, system_rows
from mgen.files import check_new_folder
from mgen.models.clamp import ClampEmbedder
from mgen.models.transformer import check_fits, check_vocabulary, load_policy
from mgen.options import check_required, from_keywords, option, target_style
from mgen.progress import Progress, silent
from mgen.runs.folder import RUN_FILE, read_facts
from mgen.runs.judges import judges_of_run
from mgen.sampling.decoding import Decoding
from mgen.sampling.prompts import PROMPT_TYPES
from mgen.sampling.systems import ModelSystem
from mgen.speed import SPEED_HELP, SPEEDS, choose_speed
from mgen.stats.frechet import Embedder, pooled_embedder
from mgen.workflows.judges import JUDGES

Models = Mapping[str, Path | str | Sequence[Path | str]]
"""Name -> model folder, or several folders: training runs of one system."""


@dataclass
class EvaluateConfig:
    """Options of `mgen evaluate`."""

    model: list[str] = option(
        [],
        "Model folders, as NAME=FOLDER or FOLDER; the first is the pretrained model of the others. Several "
        "training runs of one system: NAME=FOLDER,FOLDER,...",
    )
    corpus: str = option("", "Folder written by mgen prepare.")
    midi: str = option("", "Instead of models: a folder of music files to evaluate.")
    reference: str = option("", "With --midi: folder of the real music to compare with.")
    out: str = option("", "Folder for metrics.json, report.html, samples; new or empty.")
    n: int = option(1024, "Pieces of each prompt type; quote no two-sample number below 512.", least=2)
    seeds: int = option(1, "Equal parts of the pieces, each with its own prompts.", least=1)
    n_greedy: int = option(64, "Prompts completed greedily and at temperatures 0.5 and 0.8, for loop rates.", least=0)
    prompt_types: list[str] = option(
        list(PROMPT_TYPES), "Prompt types: continuation (always), transfer, unconditional.", words=PROMPT_TYPES
    )
    baselines: list[str] = option(
        list(BASELINES), "Baselines: markov1, markov5, train (copies of the training set); or none."
    )
    low_cost_baselines: list[str] = option(
        ["auto"],
        "Low-cost baselines, made with the first model: best_of_N, guidance_W, repetition_penalty_P; auto: "
        f"{', '.join(LOW_COST_BASELINES)} if there is a tuned model; or none.",
    )
    low_cost_model: list[str] = option(
        [], "Models that are low-cost baselines, as NAME=FOLDER: one trained on the style only."
    )
    judges_of: str = option("", "Run whose judges choose for best_of_N; the first tuned run by default.")
    target: str = option("", "Target style; may be left out if the corpus has one style and `other`.")
    prompt_tokens: int = option(64, "Tokens of music in a prompt.", least=1)
    completion_tokens: int = option(192, "Tokens of a completion, real or sampled.", least=1)
    excerpt_notes: int = option(EXCERPT_NOTES, "With --midi: notes of an excerpt; 0 takes complete pieces.", least=0)
    recipe: str = option("piano", "With --midi: how files are cleaned, as in mgen prepare.", words=RECIPES)
    workers: int = option(0, "With --midi: processes that read files; 0: one per core.", least=0, most=1024)
    grammar: bool = option(False, "Sample only what the grammar allows, as mgen generate does.")
    two_sample: bool = option(True, "Compute the two-sample test.")
    sequence: bool = option(True, "With its sequence model, which takes most of the time.")
    critic: str = option("", "Token critic whose hidden states give a further Fréchet distance.")
    clamp: str = option("", "Local folder of CLaMP weights, for a further Fréchet distance.")
    speed: str = option("auto", SPEED_HELP, words=SPEEDS)
    seed: int = option(1, "Of prompts and samples.")
    examples: int = option(3, "Examples of each prompt type in the report: typical, best, worst.", least=0)
    samples: int = option(16, "Prompts of each type whose completions are written by every system.", least=0)

    def __post_init__(self) -> None:
        if bool(self.model) == bool(self.midi):
            raise ValueError(
                "expected either --model NAME=FOLDER ... with --corpus, or --midi DIR with --reference DIR"
            )
        check_required(self, *(("reference",) if self.midi else ("corpus", "out")))
        if not self.midi and self.n < 32 * self.seeds:
            raise ValueError(
                f"n ({self.n}) must be at least 32 for each of seeds ({self.seeds}); the protocol's is 1024"
            )
        for name, runs in parse_models(self.model).items():
            if len(runs) > self.seeds:
                raise ValueError(
                    f"seeds ({self.seeds}) must be at least the training runs of '{name}' ({len(runs)}), each of which "
                    "takes whole seeds"
                )
        if "continuation" not in self.prompt_types:
            raise ValueError(
                f"prompt_types ({' '.join(self.prompt_types)}) must be some of {', '.join(PROMPT_TYPES)}, "
                "continuation among them"
            )
        self.prompt_types = [name for name in PROMPT_TYPES if name in self.prompt_types]
        self.n_greedy = min(self.n_greedy, self.n)


@dataclass(frozen=True)
class EvaluateResult:
    """An evaluation or a comparison of folders."""

    folder: Path | None  # with metrics.json and report.html; None if nothing was written
    facts: dict[str, Any]  # the content of metrics.json
    measured: Evaluation | FolderComparison  # everything measured


def evaluate(
    models: Models,
    corpus: Path | str,
    out: Path | str,
    *,
    progress: Progress | None = None,
    **options: Any,
) -> EvaluateResult:
    """Evaluates models on a corpus, together with baselines and real music, and writes a report.

    Args:
        models: name -> model folder; the first is the pretrained model of the others.
        corpus: folder written by `mgen prepare`.
        out: for metrics.json, report.html and samples/; new or empty.
        progress: takes a line after each system.
        options: other fields of `EvaluateConfig`.

    Raises:
        MgenError: An option does not exist or is out of range, a model cannot be loaded or has another vocabulary than
            the corpus, or `out` is not empty.
    """
    words = []
    for name, folders in models.items():
        several = [folders] if isinstance(folders, str | Path) else folders
        words.append(f"{name}={','.join(map(str, several))}")
    options |= {"model": words, "corpus": str(corpus), "out": str(out)}
    return run_evaluate(from_keywords(EvaluateConfig, "evaluate", options), progress)


def evaluate_folders(
    midi: Path | str, reference: Path | str, out: Path | str | None = None, **options: Any
) -> EvaluateResult:
    """Compares a folder of music files with real music in another, without a model.

    Args:
        midi: folder of the music to evaluate.
        reference: folder of real music.
        out: for metrics.json and report.html, new or empty; None writes nothing.
        options: other fields of `EvaluateConfig`.

    Raises:
        MgenError: An option does not exist or is out of range, a folder has no readable music, or `out` is not empty.
    """
    options |= {"midi": str(midi), "reference": str(reference), "out": str(out or "")}
    return run_evaluate(from_keywords(EvaluateConfig, "evaluate", options))


def run_evaluate(config: EvaluateConfig, progress: Progress | None = None) -> EvaluateResult:
    """As `evaluate` or `evaluate_folders`, for options that are an `EvaluateConfig` already."""
    out, progress = check_new_folder(config.out) if config.out else None, progress or silent
    if out is None or config.midi:
        return _evaluate_folders(config, out, progress)
    return _evaluate_models(config, out, progress)


def _evaluate_models(config: EvaluateConfig, out: Path, progress: Progress) -> EvaluateResult:
    corpus = Corpus.open(config.corpus)
    speed = choose_speed(config.speed, _device()).reason
    progress(speed)
    constants = {constant.name: getattr(config, constant.name) for constant in fields(Protocol)}
    protocol = Protocol(**{**constants, "target": target_style(config.target, corpus.remi.style_ids)})
    evaluation = run_protocol(
        protocol,
        corpus,
        build_systems(config, protocol, corpus),
        prompt_types=config.prompt_types,
        embedders=load_embedders(config),
        two_sample=config.two_sample,
        progress=progress,
    )
    folders = {name: paths[0].parent for name, paths in parse_models(config.model).items()}
    rows = system_rows(evaluation)
    page = evaluation_page(evaluation, rows, folders, f"mgen: {', '.join(folders)}", config.examples)
    evaluation.write_samples(out / "samples", config.samples)
    facts = evaluation.to_json() | {"speed": speed, "outcome": outcome_of(evaluation, rows)}
    _write(out, facts, page)
    return EvaluateResult(out, facts, evaluation)


def _evaluate_folders(config: EvaluateConfig, out: Path | None, progress: Progress) -> EvaluateResult:
    started = time.monotonic()
    comparison = compare_folders(
        Path(config.midi),
        Path(config.reference),
        MetricOptions(None, load_embedders(config), config.sequence, config.two_sample),
        n=config.n,
        length=config.excerpt_notes,
        recipe=cast(Recipe, config.recipe),
        workers=config.workers or None,
        seed=config.seed,
        progress=progress,
    )
    facts = comparison.to_json() | {"seconds": round(time.monotonic() - started, 1)}
    if out is not None:
        title = f"mgen: {comparison.names[1]} compared with {comparison.names[0]}"
        _write(out, facts, folder_page(comparison, title, config.examples))
    return EvaluateResult(out, facts, comparison)


def _write(out: Path, facts: dict[str, Any], page: str) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "metrics.json").write_text(json.dumps(facts, indent=1))
    (out / "report.html").write_text(page, encoding="utf-8")


# ------------------------------------------------------------------ systems


def build_systems(config: EvaluateConfig, protocol: Protocol, corpus: Corpus) -> list[EvaluatedSystem]:
    """All rows except real music: models, low-cost baselines, baselines.

    Raises:
        MgenError: A model cannot be loaded or has another vocabulary than the corpus, a name is not that of a baseline,
            or a name is used twice.
    """
    remi, folders = corpus.remi, parse_models(config.model)
    decoding = Decoding(max_new_tokens=protocol.completion_tokens)

    def models(paths: Sequence[Path]) -> list[ModelSystem]:
        return [
            ModelSystem(model, remi, decoding, choose_speed(config.speed, model.device).dtype, config.grammar)
            for model in (_load_model(path, config, corpus) for path in paths)
        ]

    loaded = {name: models(paths) for name, paths in folders.items()}
    pretrained = next(iter(loaded))
    systems = [
        EvaluatedSystem(
            name,
            "pretrained" if name == pretrained else "tuned",
            runs,
            f"{len(runs)} training runs" if len(runs) > 1 else "",
        )
        for name, runs in loaded.items()
    ]
    tuned = next((paths[0].parent for name, paths in folders.items() if name != pretrained), None)
    judges = Path(config.judges_of) if config.judges_of else tuned
    for name in _low_cost_names(config.low_cost_baselines, tuned, judges):
        score = judges_of_run(judges, JUDGES, remi) if judges and name.startswith("best_of") else None
        system = low_cost_baseline(name, loaded[pretrained][0], score)
        remark = f"chosen by {score.description}" if score else ""
        systems.append(EvaluatedSystem(name, "low_cost_baseline", [system], remark))
    for name, paths in parse_models(config.low_cost_model).items():
        systems.append(EvaluatedSystem(name, "low_cost_baseline", models(paths)))
    for name in config.baselines if config.baselines != ["none"] else []:
        role, remark = ("reference", "shows how copying scores") if name == "train" else ("baseline", "")
        systems.append(EvaluatedSystem(name, role, [baseline(name, corpus, protocol.target)], remark))
    names = [system.name for system in systems]
    if taken := next((name for name in names if names.count(name) > 1 or name == REAL), None):
        raise MgenError(f"the name '{taken}' is taken; give NAME=FOLDER with another NAME")
    return systems


def _low_cost_names(words: Sequence[str], tuned: Path | None, judges: Path | None) -> Sequence[str]:
    """The option `low_cost_baselines` with `auto` and `none` replaced."""
    if words == ["auto"]:
        has_judges = judges is not None and is_finetuned(judges)
        return [name for name in LOW_COST_BASELINES if has_judges or not name.startswith("best_of")] if tuned else []
    return words if words != ["none"] else []


def is_finetuned(folder: Path) -> bool:
    """Whether the folder is a run of `mgen finetune` or `mgen grpo`."""
    return (folder / RUN_FILE).is_file() and read_facts(folder)["command"] in ("finetune", "grpo")


def _load_model(folder: Path, config: EvaluateConfig, corpus: Corpus) -> PreTrainedModel:
    """Loads a model, on the GPU if there is one, and checks its vocabulary and its context."""
    model, remi = load_policy(folder)
    check_vocabulary(folder, remi, config.corpus, corpus.remi)
    asked = ("prompt_tokens", config.prompt_tokens), ("completion_tokens", config.completion_tokens)
    check_fits(folder, model.config, *asked)
    return model.to(_device()).eval()


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def parse_models(words: Sequence[str]) -> dict[str, list[Path]]:
    """Reads `NAME=FOLDER,FOLDER` or `FOLDER` words: name -> folders; RUN/model is called RUN.

    Raises:
        MgenError: A name is used twice.
    """
    out: dict[str, list[Path]] = {}
    for word in words:
        name, equals, rest = word.partition("=")
        paths = [Path(folder) for folder in (rest if equals else word).split(",")]
        if not equals:
            name = paths[0].parent.name if paths[0].name == "model" else paths[0].name
        if name in out or name == REAL:
            raise MgenError(f"--model {word}: the name '{name}' is taken; give NAME=FOLDER")
        out[name] = paths
    return out


def load_embedders(config: EvaluateConfig) -> dict[str, Embedder]:
    """Embedding spaces of the further Fréchet distances."""
    out: dict[str, Embedder] = {}
    if config.critic:
        if (Path(config.critic) / FEATURE_WEIGHTS).is_file():
            raise MgenError(
                f"--critic {config.critic}: expected a token critic, this one is of style features and has no hidden "
                "states; leave --critic out, or train one with mgen critic --input tokens"
            )
        network = SequenceCritic.from_pretrained(config.critic)[0]
        out["critic"] = pooled_embedder(network.model.base_model, network.rows, network.remi.pad_id)
    if config.clamp:
        out["clamp"] = ClampEmbedder.load(config.clamp)
    return out
