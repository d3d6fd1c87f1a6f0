"""A whole recipe: music files in, a report out. Every step is a command of its own, called with the recipe's configs.

mgen recipe laptop --style jazz=music/jazz --style other=music/other --out runs/laptop
"""

from __future__ import annotations

import argparse
import importlib
import sysconfig
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mgen.cli.options import parse
from mgen.errors import MgenError

_CHECKOUT = Path(__file__).resolve().parents[2] / "configs"
CONFIGS = _CHECKOUT if _CHECKOUT.is_dir() else Path(sysconfig.get_path("data")) / "share" / "mgen" / "configs"
"""The checkout's recipes, or those that were installed with the package."""

OBJECTIVES = ("nats", "normalised")


@dataclass
class RecipeConfig:
    """Options of `mgen recipe`."""

    out: str = field(default="", metadata={"help": "Folder for the corpus, all runs and report.html."})
    metadata: str = field(default="", metadata={"help": "CSV with path,style,collection,work,artist."})

    def __post_init__(self) -> None:
        if not self.out:
            raise ValueError("expected --out, got none; see --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a recipe; returns the exit code."""

    def positional(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("recipe", help="name of a recipe: demo, laptop or gpu")
        parser.add_argument("--style", action="append", default=[], metavar="NAME=SRC", help="music of a style; repeat")

    config, words = parse(
        argv,
        RecipeConfig,
        program="mgen recipe",
        example="mgen recipe laptop --style jazz=music/jazz --style other=music/other --out runs/laptop",
        positional=positional,
    )
    sources = [word for style in words.style for word in ("--style", style)]
    if config.metadata:
        sources += ["--metadata", config.metadata]
    return run_pipeline(words.recipe, sources, Path(config.out))


def run_pipeline(recipe: str, sources: Sequence[str], out: Path) -> int:
    """All steps of a recipe, from files to report.

    Args:
        recipe: name that the configs of each step have.
        sources: words that tell `mgen prepare` where the music is.
        out: folder for the corpus, the runs and the report. Steps that are finished there are not done again.

    Raises:
        MgenError: There is no such recipe, or a step failed.
    """
    if not (CONFIGS / "pretrain" / f"{recipe}.yaml").is_file():
        known = sorted(path.stem for path in (CONFIGS / "pretrain").glob("*.yaml"))
        raise MgenError(f"recipe '{recipe}': expected one of {', '.join(known)} (looked in {CONFIGS / 'pretrain'})")
    corpus = str(out / "corpus")
    base, critic = str(out / "base"), str(out / "critic")
    if not (out / "corpus" / "corpus.json").is_file():
        _step("prepare", recipe, [*sources, "--out", corpus, "--resume", "true"])
    _step("pretrain", recipe, ["--corpus", corpus, "--out", base])
    _step("critic", recipe, ["--corpus", corpus, "--out", critic])
    tuned = []
    for form in OBJECTIVES:
        run = str(out / f"jazz_{form}")
        common = [
            "--policy",
            f"{base}/model",
            "--critic",
            f"{critic}/model",
            "--corpus",
            corpus,
            "--out",
            run,
        ]
        _step("finetune", f"{recipe}_{form}", common)
        tuned.append(f"{form}={run}/model")
    alone = str(out / "jazz_only")
    words = ["--init", f"{base}/model", "--corpus", corpus, "--out", alone]
    _step("pretrain", f"jazz_only_{recipe}", words, folder="baselines")
    models = ["--model", f"pretrained={base}/model", *tuned]
    controls = ["--low_cost_model", f"jazz_only={alone}/model"]
    _step("evaluate", recipe, [*models, *controls, "--corpus", corpus, "--out", str(out / "evaluation")])
    (out / "report.html").write_bytes((out / "evaluation" / "report.html").read_bytes())
    print(f"{out / 'report.html'}")
    return 0


def _step(command: str, config: str, words: list[str], folder: str = "") -> None:
    began = time.monotonic()
    path = CONFIGS / (folder or command) / f"{config}.yaml"
    print(f"== mgen {command} --config {path.parent.name}/{path.name}", flush=True)
    run: Callable[[Sequence[str]], int] = importlib.import_module(f"mgen.cli.{command}").main
    code = run(["--config", str(path), *words])
    if code:
        raise MgenError(f"mgen {command} ended with exit code {code}")
    print(f"== {command} took {time.monotonic() - began:.0f} s", flush=True)
