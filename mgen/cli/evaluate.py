"""Judge models against real music, and write the report.

    mgen evaluate --model pretrained=runs/base/model jazz=runs/jazz/model --corpus corpus --out runs/evaluation

Every model continues the same prompts of the test split; the first is the one that the others were tuned from.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from transformers import PreTrainedModel

from mgen.cli.options import parse
from mgen.cli.run import RUN_FILE
from mgen.corpus.shards import Corpus
from mgen.errors import MgenError
from mgen.evaluation.intervals import Interval
from mgen.evaluation.protocol import (
    Numbers,
    Played,
    Protocol,
    measure,
    play,
    real_music,
    to_json,
    train_judge,
)
from mgen.evaluation.summary import Evaluation, render
from mgen.models.transformer import check_vocabulary, load_policy
from mgen.rl.prompts import KINDS


@dataclass
class EvaluateConfig:
    """Options of `mgen evaluate`."""

    model: list[str] = field(
        default_factory=list,
        metadata={"help": "Model folders, as NAME=FOLDER or FOLDER; KL is measured from the first."},
    )
    corpus: str = field(default="", metadata={"help": "Folder written by mgen prepare."})
    out: str = field(default="", metadata={"help": "Folder for metrics.json and report.html; must be new or empty."})
    n: int = field(
        default=512, metadata={"help": "Pieces of each kind of prompt; quote no two-sample number below 512."}
    )
    n_greedy: int = field(default=64, metadata={"help": "Prompts continued greedily, for the loop rate."})
    kinds: list[str] = field(
        default_factory=lambda: list(KINDS),
        metadata={"help": "Kinds of prompt: continue (always), turn, nothing."},
    )
    target: str = field(default="jazz", metadata={"help": "Style that is asked for."})
    prompt_tokens: int = field(default=64, metadata={"help": "Tokens of music in a prompt."})
    completion_tokens: int = field(default=192, metadata={"help": "Tokens of a completion, real or sampled."})
    seed: int = field(default=1, metadata={"help": "Of prompts and samples."})
    examples: int = field(default=3, metadata={"help": "Examples of each kind in the report: best, typical, worst."})
    json: bool = field(default=False, metadata={"help": "Print the numbers as one JSON object and nothing else."})

    def __post_init__(self) -> None:
        for name in ("model", "corpus", "out"):
            if not getattr(self, name):
                raise ValueError(f"expected --{name}, got none; see --help")
        if self.n < 32:
            raise ValueError(f"n ({self.n}) must be at least 32; the protocol's is 512")
        if "continue" not in self.kinds or not set(self.kinds) <= set(KINDS):
            raise ValueError(f"kinds ({' '.join(self.kinds)}) must be some of {', '.join(KINDS)}, continue among them")
        self.kinds = [kind for kind in KINDS if kind in self.kinds]
        self.n_greedy = min(self.n_greedy, self.n)


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate; returns the exit code."""
    (config,) = parse(
        argv,
        EvaluateConfig,
        program="mgen evaluate",
        example="mgen evaluate --model pretrained=runs/base/model jazz=runs/jazz/model --corpus corpus --out runs/eval",
    )
    out = Path(config.out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise MgenError(f"{out}: not empty; choose another --out")
    began = time.monotonic()
    corpus = Corpus.open(config.corpus)
    folders = name_models(config.model)
    models = load_models(folders, corpus, config.corpus)
    protocol = Protocol(
        config.n, config.n_greedy, config.target, config.prompt_tokens, config.completion_tokens, config.seed
    )
    judge, judge_auc = train_judge(corpus, protocol)
    reference = next(iter(models.values()))
    prompts = {kind: protocol.draw(corpus, "test", kind, seed=KINDS.index(kind)) for kind in config.kinds}
    played: dict[str, dict[str, Played]] = {name: {} for name in ("real", *models)}
    numbers: dict[str, dict[str, Numbers]] = {name: {} for name in played}
    for kind, asked in prompts.items():
        played["real"][kind] = real_music(asked, corpus.remi)
        # Other music that was asked to turn is compared with music of the style, not with how it went on.
        target = played["real"]["continue" if kind == "turn" else kind]
        for name, model in models.items():
            played[name][kind] = play(model, reference, asked, corpus.remi, protocol)
        for name, by_kind in played.items():
            numbers[name][kind] = measure(by_kind[kind], target, judge)
    result = {
        "protocol": {**vars(protocol), "data": corpus.fingerprint},
        "judge_auc": judge_auc.to_json(),
        "rows": to_json(numbers),
        "seconds": round(time.monotonic() - began, 1),
    }
    evaluation = Evaluation(
        played,
        numbers,
        prompts,
        {name: folder.parent for name, folder in folders.items()},
        corpus.remi,
        config.target,
        facts(folders, protocol, judge_auc),
    )
    page = render(evaluation, f"mgen: {', '.join(models)}", config.examples)
    out.mkdir(parents=True, exist_ok=True)
    (out / "metrics.json").write_text(json.dumps(result, indent=1))
    (out / "report.html").write_text(page)
    if config.json:
        print(json.dumps(result))
    else:
        print_tables(numbers)
        print(f"{out / 'report.html'}: {time.monotonic() - began:.0f} s; the judge's AUC on test is {_cell(judge_auc)}")
    return 0


def name_models(words: Sequence[str]) -> dict[str, Path]:
    """`NAME=FOLDER` or `FOLDER` words to folders by name; RUN/model is called RUN.

    Raises:
        MgenError: Two models have one name.
    """
    out: dict[str, Path] = {}
    for word in words:
        name, equals, folder = word.partition("=")
        path = Path(folder if equals else word)
        if not equals:
            name = path.parent.name if path.name == "model" else path.name
        if name in out or name == "real":
            raise MgenError(f"--model {word}: the name '{name}' is taken; give NAME=FOLDER")
        out[name] = path
    return out


def load_models(folders: Mapping[str, Path], corpus: Corpus, corpus_folder: str) -> dict[str, PreTrainedModel]:
    """The models, on the GPU if there is one, checked to write music as the corpus does."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    out = {}
    for name, folder in folders.items():
        model, remi = load_policy(folder)
        check_vocabulary(folder, remi, corpus_folder, corpus.remi)
        out[name] = model.to(device).eval()
    return out


def facts(folders: Mapping[str, Path], protocol: Protocol, judge_auc: Interval) -> dict[str, str]:
    """What was run, for the end of the report: the protocol, and of each model its run's options, time and machine."""
    out = {
        "protocol": ", ".join(f"{name} {value}" for name, value in vars(protocol).items()),
        "judge": f"trained on the split judge, AUC on test {_cell(judge_auc)}",
    }
    for name, folder in folders.items():
        path = folder.parent / RUN_FILE
        if path.is_file():
            run: dict[str, Any] = json.loads(path.read_text())
            config = (folder.parent / "config.yaml").read_text().strip()
            versions = ", ".join(f"{package} {version}" for package, version in run["versions"].items())
            machine = ", ".join(f"{key} {value}" for key, value in run["machine"].items() if value)
            out[name] = f"{run.get('seconds', '?')} s, {machine}\n{versions}\n{config}"
    return out


def print_tables(numbers: Mapping[str, Mapping[str, Numbers]]) -> None:
    """One table for each kind of prompt."""
    console = Console(soft_wrap=True)
    for kind in next(iter(numbers.values())):
        parts = {name: by_kind[kind].cells for name, by_kind in numbers.items()}
        table = Table("", *parts, title=f"prompts: {kind}", title_justify="left")
        for key in dict.fromkeys(key for cells in parts.values() for key in cells):
            table.add_row(key, *(_cell(cells[key]) if key in cells else "" for cells in parts.values()))
        console.print(table)


def _cell(interval: Interval) -> str:
    return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"
