"""Judge models against real music, or one folder of music files against another, and write the report.

    mgen evaluate --model pretrained=runs/base/model jazz=runs/jazz/model --corpus corpus --out runs/evaluation
    mgen evaluate --midi pieces --reference music/jazz --out runs/comparison

Every model continues the same prompts of the test split, beside the controls and rivals of the protocol and real music;
the first model is the one that the others were tuned from.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from rich.console import Console
from rich.table import Table
from transformers import PreTrainedModel

from critics.sequence import SequenceCritic
from critics.style.feature_model import WEIGHTS as FEATURE_WEIGHTS
from mgen.cli.options import parse
from mgen.corpus.clean import RECIPES, Recipe
from mgen.corpus.shards import Corpus
from mgen.encoding.remi import Remi
from mgen.errors import MgenError
from mgen.evaluation.baselines import BASELINES, LOW_COST_BASELINES, baseline, low_cost_baseline
from mgen.evaluation.clamp import ClampEmbedder
from mgen.evaluation.columns import columns
from mgen.evaluation.folders import EXCERPT_NOTES, compare_folders
from mgen.evaluation.measure import Beside, Numbers
from mgen.evaluation.protocol import (
    EvaluatedSystem,
    PromptSet,
    Protocol,
    SystemOutput,
    copy_index,
    judged,
    play,
    real_music,
    train_judge,
)
from mgen.evaluation.summary import Evaluation, folder_page, model_page
from mgen.models.transformer import check_vocabulary, load_policy
from mgen.runs.judges import judges_of_run
from mgen.runs.run import RUN_FILE
from mgen.sampling.prompts import PROMPT_TYPES, check_style
from mgen.sampling.rollout import Decoding
from mgen.sampling.samples import SamplePrompt, write_samples
from mgen.sampling.systems import ModelSystem
from mgen.stats.frechet import Embedder, pooled_embedder
from mgen.stats.intervals import Interval
from mgen.workflows.judges import JUDGES


@dataclass
class EvaluateConfig:
    """Options of `mgen evaluate`."""

    model: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Model folders, as NAME=FOLDER or FOLDER; the others were tuned from the first. Several training "
            "runs of one kind: NAME=FOLDER,FOLDER,..."
        },
    )
    corpus: str = field(default="", metadata={"help": "Folder written by mgen prepare."})
    midi: str = field(default="", metadata={"help": "Instead of models: a folder of music files to judge."})
    reference: str = field(default="", metadata={"help": "With --midi: folder of the real music to compare with."})
    out: str = field(default="", metadata={"help": "Folder for metrics.json, report.html, samples; new or empty."})
    n: int = field(
        default=1024, metadata={"help": "Pieces of each kind of prompt; quote no two-sample number below 512."}
    )
    seeds: int = field(default=1, metadata={"help": "Equal parts of the pieces, each with prompts of its own."})
    n_greedy: int = field(default=64, metadata={"help": "Prompts continued greedily and at 0.8, for loop rates."})
    prompt_types: list[str] = field(
        default_factory=lambda: list(PROMPT_TYPES),
        metadata={"help": "Prompt types: continuation (always), transfer, unconditional."},
    )
    baselines: list[str] = field(
        default_factory=lambda: list(BASELINES),
        metadata={"help": "Rows of what no model is: markov1, markov5, train (the training music itself); or none."},
    )
    low_cost_baselines: list[str] = field(
        default_factory=lambda: ["auto"],
        metadata={
            "help": "Control rows, made with the first model: best_of_N, guidance_W, repetition_penalty_P; auto: "
            f"{', '.join(LOW_COST_BASELINES)} beside tuned models; or none."
        },
    )
    low_cost_model: list[str] = field(
        default_factory=list,
        metadata={"help": "Models that are control rows, as NAME=FOLDER: such as one trained on jazz alone."},
    )
    judges_of: str = field(
        default="", metadata={"help": "Run whose judges choose for best_of_N; the first tuned run by default."}
    )
    target: str = field(default="jazz", metadata={"help": "Style that is asked for."})
    prompt_tokens: int = field(default=64, metadata={"help": "Tokens of music in a prompt."})
    completion_tokens: int = field(default=192, metadata={"help": "Tokens of a completion, real or sampled."})
    excerpt_notes: int = field(
        default=EXCERPT_NOTES, metadata={"help": "With --midi: notes of an excerpt; 0 takes whole pieces."}
    )
    recipe: str = field(default="piano", metadata={"help": "With --midi: how files are cleaned, as in mgen prepare."})
    workers: int = field(default=0, metadata={"help": "With --midi: processes that read files; 0: one a core."})
    two_sample: bool = field(default=True, metadata={"help": "Do the two-sample test."})
    sequence: bool = field(default=True, metadata={"help": "With the sequence model, which takes most of the time."})
    critic: str = field(
        default="", metadata={"help": "Critic that hears tokens, whose hidden states give a Fréchet distance too."}
    )
    clamp: str = field(default="", metadata={"help": "Local folder of CLaMP weights, for a Fréchet distance too."})
    seed: int = field(default=1, metadata={"help": "Of prompts and samples."})
    examples: int = field(default=3, metadata={"help": "Examples of each kind in the report: best, typical, worst."})
    samples: int = field(
        default=16, metadata={"help": "Prompts of each kind of which every player's piece is written."}
    )
    json: bool = field(default=False, metadata={"help": "Print the numbers as one JSON object and nothing else."})

    def __post_init__(self) -> None:
        if bool(self.model) == bool(self.midi):
            raise ValueError(
                "expected either --model NAME=FOLDER ... with --corpus, or --midi DIR with --reference DIR"
            )
        for name in ("reference",) if self.midi else ("corpus", "out"):
            if not getattr(self, name):
                raise ValueError(f"expected --{name}, got none; see --help")
        if not self.midi and self.n < 32 * self.seeds:
            raise ValueError(
                f"n ({self.n}) must be at least 32 for each of seeds ({self.seeds}); the protocol's is 1024"
            )
        if self.seeds < 1 or self.n_greedy < 0 or self.excerpt_notes < 0:
            raise ValueError(
                f"seeds ({self.seeds}) must be at least 1, n_greedy ({self.n_greedy}) and excerpt_notes "
                f"({self.excerpt_notes}) at least 0"
            )
        if "continuation" not in self.prompt_types or not set(self.prompt_types) <= set(PROMPT_TYPES):
            raise ValueError(
                f"prompt_types ({' '.join(self.prompt_types)}) must be some of {', '.join(PROMPT_TYPES)}, "
                "continuation among them"
            )
        if self.recipe not in RECIPES:
            raise ValueError(f"recipe '{self.recipe}': expected one of {', '.join(RECIPES)}")
        self.prompt_types = [kind for kind in PROMPT_TYPES if kind in self.prompt_types]
        self.n_greedy = min(self.n_greedy, self.n)


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate; returns the exit code."""
    (config,) = parse(
        argv,
        EvaluateConfig,
        program="mgen evaluate",
        example="mgen evaluate --model pretrained=runs/base/model jazz=runs/jazz/model --corpus corpus --out runs/eval",
    )
    out = Path(config.out) if config.out else None
    if out is not None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise MgenError(f"{out}: not empty; choose another --out")
    return _folders(config, out) if config.midi else _models(config, Path(config.out))


# ------------------------------------------------------------------- models


def _models(config: EvaluateConfig, out: Path) -> int:
    began = time.monotonic()
    corpus = Corpus.open(config.corpus)
    remi = corpus.remi
    check_style(config.target, remi)
    protocol = Protocol(
        config.n,
        config.seeds,
        config.n_greedy,
        config.target,
        config.prompt_tokens,
        config.completion_tokens,
        config.seed,
        config.sequence,
    )
    folders = name_models(config.model)
    spaces = embedders(config)
    systems = line_up(config, folders, corpus)
    first = systems[0].players[0]
    assert isinstance(first, ModelSystem)
    judge, judge_auc = train_judge(corpus, protocol)
    beside = Beside(copy_index(corpus, protocol), spaces, config.sequence, config.two_sample)
    asked = {
        kind: PromptSet.draw(protocol, corpus, "test", kind, PROMPT_TYPES.index(kind)) for kind in config.prompt_types
    }
    played: dict[str, dict[str, SystemOutput]] = {name: {} for name in ("real", *(system.name for system in systems))}
    numbers: dict[str, dict[str, Numbers]] = {name: {} for name in played}
    for kind, prompts in asked.items():
        played["real"][kind] = real_music(prompts, remi)
        # Other music that was asked to turn is compared with music of the style, not with how it went on.
        target = played["real"]["continuation" if kind == "transfer" else kind].pieces
        numbers["real"][kind] = judged(played["real"][kind], target, judge, beside)
        for system in systems:
            played[system.name][kind] = play(system, first.model, prompts, remi, protocol)
            numbers[system.name][kind] = judged(played[system.name][kind], target, judge, beside)
            _note(config, f"{kind}: {system.name}, {time.monotonic() - began:.0f} s")
    result = {
        "protocol": {**vars(protocol), "data": corpus.fingerprint},
        "judge_auc": judge_auc.to_json(),
        "systems": {"real": "real", **{system.name: system.role for system in systems}},
        "remarks": _remarks(systems, numbers),
        "rows": to_json(numbers),
        "corpus": {
            "fingerprint": corpus.fingerprint,
            "collections": corpus.manifest["collections"],
            "pieces": corpus.manifest["pieces"],
        },
        "seconds": round(time.monotonic() - began, 1),
    }
    evaluation = Evaluation(
        played,
        numbers,
        asked,
        {system.name: system for system in systems},
        {name: paths[0].parent for name, paths in folders.items()},
        remi,
        config.target,
        facts(folders, protocol, judge_auc),
    )
    page = model_page(evaluation, f"mgen: {', '.join(folders)}", config.examples)
    _write_samples(out / "samples", asked, played, config, remi)
    _write(out, result, page)
    if config.json:
        print(json.dumps(result))
    else:
        print_tables(numbers, config.target)
        print(f"{out / 'report.html'}: {time.monotonic() - began:.0f} s; the judge's AUC on test is {_cell(judge_auc)}")
    return 0


def line_up(config: EvaluateConfig, folders: Mapping[str, Sequence[Path]], corpus: Corpus) -> list[EvaluatedSystem]:
    """Every row but real music: the models, their controls, the rivals.

    Raises:
        MgenError: A model cannot be loaded or writes other tokens than the corpus; a word names no control or rival; a
            name comes twice.
    """
    models = {name: [_model(path, config.corpus, corpus.remi) for path in paths] for name, paths in folders.items()}
    pretrained = next(iter(models))
    plain = Decoding(max_new_tokens=config.completion_tokens)
    systems = [
        EvaluatedSystem(
            name,
            "pretrained" if name == pretrained else "tuned",
            [ModelSystem(model, corpus.remi, plain) for model in of_name],
            f"{len(of_name)} training runs" if len(of_name) > 1 else "",
        )
        for name, of_name in models.items()
    ]
    tuned = next((paths[0].parent for name, paths in folders.items() if name != pretrained), None)
    judges = Path(config.judges_of) if config.judges_of else tuned
    words = config.low_cost_baselines
    if words == ["auto"]:
        known = judges is not None and is_finetuned(judges)
        words = [word for word in LOW_COST_BASELINES if known or not word.startswith("best_of")] if tuned else []
    for word in words if words != ["none"] else []:
        score = judges_of_run(judges, JUDGES, corpus.remi) if judges and word.startswith("best_of") else None
        player = low_cost_baseline(word, models[pretrained][0], corpus.remi, score)
        systems.append(
            EvaluatedSystem(word, "low_cost_baseline", [player], f"chosen by {score.description}" if score else "")
        )
    for name, paths in name_models(config.low_cost_model).items():
        of_name = [_model(path, config.corpus, corpus.remi) for path in paths]
        systems.append(
            EvaluatedSystem(name, "low_cost_baseline", [ModelSystem(model, corpus.remi, plain) for model in of_name])
        )
    for word in config.baselines if config.baselines != ["none"] else []:
        # The training music is no rival to be beaten: its row exposes what copying scores.
        kind, remark = ("reference", "what copying scores") if word == "train" else ("baseline", "")
        systems.append(EvaluatedSystem(word, kind, [baseline(word, corpus, config.target)], remark))
    names = [system.name for system in systems]
    if twice := next((name for name in names if names.count(name) > 1 or name == "real"), None):
        raise MgenError(f"the name '{twice}' is taken; give NAME=FOLDER with another NAME")
    return systems


def is_finetuned(folder: Path) -> bool:
    """Whether the folder holds a run of `mgen finetune`."""
    path = folder / RUN_FILE
    return path.is_file() and json.loads(path.read_text()).get("command") == "finetune"


def _model(folder: Path, corpus_folder: str, corpus_remi: Remi) -> PreTrainedModel:
    """A model on the GPU if there is one, checked to write music as the corpus does."""
    model, remi = load_policy(folder)
    check_vocabulary(folder, remi, corpus_folder, corpus_remi)
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def name_models(words: Sequence[str]) -> dict[str, list[Path]]:
    """`NAME=FOLDER,FOLDER` or `FOLDER` words to folders by name; RUN/model is called RUN.

    Raises:
        MgenError: Two models have one name.
    """
    out: dict[str, list[Path]] = {}
    for word in words:
        name, equals, rest = word.partition("=")
        paths = [Path(folder) for folder in (rest if equals else word).split(",")]
        if not equals:
            name = paths[0].parent.name if paths[0].name == "model" else paths[0].name
        if name in out or name == "real":
            raise MgenError(f"--model {word}: the name '{name}' is taken; give NAME=FOLDER")
        out[name] = paths
    return out


def _write_samples(
    folder: Path,
    asked: Mapping[str, PromptSet],
    played: Mapping[str, Mapping[str, SystemOutput]],
    config: EvaluateConfig,
    remi: Remi,
) -> None:
    """The first prompts of each kind with everyone's pieces."""
    prompts: list[SamplePrompt] = []
    completions: dict[str, list[list[int]]] = {name: [] for name in played}
    for kind, part in asked.items():
        ids, work = part.ids, part.work.tolist()
        count = min(config.samples, len(ids))
        prompts += [SamplePrompt(f"{kind}/{i:04d}", kind, work[i], ids[i]) for i in range(count)]
        for name, by_kind in played.items():
            completions[name] += by_kind[kind].completions[:count]
    write_samples(folder, config.target, prompts, completions, remi)


def _remarks(systems: Sequence[EvaluatedSystem], numbers: Mapping[str, Mapping[str, Numbers]]) -> dict[str, str]:
    """What has to be said with rows and numbers."""
    out = {system.name: system.remark for system in systems if system.remark}
    for name, by_kind in numbers.items():
        for kind, part in by_kind.items():
            out |= {f"{name}, {kind}, {number}": remark for number, remark in part.remarks.items()}
    return out


def to_json(numbers: Mapping[str, Mapping[str, Numbers]]) -> dict[str, dict[str, dict[str, Any]]]:
    """player -> kind of prompt -> name -> value, low, high."""
    return {
        player: {kind: {name: cell.to_json() for name, cell in part.cells.items()} for kind, part in by_kind.items()}
        for player, by_kind in numbers.items()
    }


def facts(folders: Mapping[str, Sequence[Path]], protocol: Protocol, judge_auc: Interval) -> dict[str, str]:
    """What was run, for the end of the report: the protocol, and of each model its run's options, time and machine."""
    out = {
        "protocol": ", ".join(f"{name} {value}" for name, value in vars(protocol).items()),
        "judge": f"trained on the split judge, AUC on test {_cell(judge_auc)}",
    }
    for name, paths in folders.items():
        run_folder = paths[0].parent
        path = run_folder / RUN_FILE
        if path.is_file():
            run: dict[str, Any] = json.loads(path.read_text())
            config = (run_folder / "config.yaml").read_text().strip()
            versions = ", ".join(f"{package} {version}" for package, version in run["versions"].items())
            machine = ", ".join(f"{key} {value}" for key, value in run["machine"].items() if value)
            out[name] = f"{run.get('seconds', '?')} s, {machine}\n{versions}\n{config}"
    return out


# ------------------------------------------------------------------ folders


def _folders(config: EvaluateConfig, out: Path | None) -> int:
    began = time.monotonic()
    beside = Beside(None, embedders(config), config.sequence, config.two_sample)
    found = compare_folders(
        Path(config.midi),
        Path(config.reference),
        beside,
        n=config.n,
        length=config.excerpt_notes,
        recipe=cast(Recipe, config.recipe),
        workers=config.workers or None,
        seed=config.seed,
    )
    result = found.to_json() | {"seconds": round(time.monotonic() - began, 1)}
    if out is not None:
        _write(out, result, folder_page(found, f"mgen: {found.names[1]} beside {found.names[0]}", config.examples))
    if config.json:
        print(json.dumps(result))
    else:
        print_tables({name: {"excerpts": part} for name, part in zip(found.names, found.numbers, strict=True)}, "")
        for name, remark in found.remarks.items():
            print(f"{name}: {remark}")
        print(f"{out / 'report.html' if out else 'done'}: {time.monotonic() - began:.0f} s")
    return 0


def embedders(config: EvaluateConfig) -> dict[str, Embedder]:
    """What Fréchet distances are measured in, beside the features."""
    out: dict[str, Embedder] = {}
    if config.critic:
        if (Path(config.critic) / FEATURE_WEIGHTS).is_file():
            raise MgenError(
                f"--critic {config.critic}: expected a critic that hears tokens, this one hears traits and has no "
                "hidden states; leave --critic out, or train one with mgen critic --hears tokens"
            )
        network = SequenceCritic.from_pretrained(config.critic)[0]
        out["critic"] = pooled_embedder(network.model.model, network.rows, network.remi.pad_id)
    if config.clamp:
        out["clamp"] = ClampEmbedder.load(config.clamp)
    return out


def _write(out: Path, result: dict[str, Any], page: str) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "metrics.json").write_text(json.dumps(result, indent=1))
    (out / "report.html").write_text(page, encoding="utf-8")


def _note(config: EvaluateConfig, line: str) -> None:
    if not config.json:
        print(f"  {line}", flush=True)


def print_tables(numbers: Mapping[str, Mapping[str, Numbers]], target: str) -> None:
    """The main numbers, one table for each kind of prompt; all of them are in the report."""
    main = [column for column in columns(target) if column.main]
    for kind in next(iter(numbers.values())):
        parts = {name: by_kind[kind].cells for name, by_kind in numbers.items()}
        table = Table("", *parts, title=f"prompts: {kind}", title_justify="left")
        for column in main:
            cells = [_cell(found[column.key]) if column.key in found else "" for found in parts.values()]
            if any(cells):
                table.add_row(column.title, *cells)
        console = Console(soft_wrap=True)
        console.width = max(console.width, 24 * (1 + len(parts)))  # wider than the terminal rather than cut
        console.print(table)


def _cell(interval: Interval) -> str:
    return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"
