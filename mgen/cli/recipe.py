"""Run a recipe: music files in, a report out. Every step is a command, called with the recipe's config.

mgen recipe laptop --target bach --style bach=music/bach --style other=music/other --out runs/laptop
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mgen.cli.configs import CONFIGS
from mgen.cli.options import parse
from mgen.corpus.scan import parse_style
from mgen.corpus.shards import Corpus
from mgen.errors import MgenError
from mgen.options import check_required, option, target_style


@dataclass
class RecipeConfig:
    """Options of `mgen recipe`."""

    out: str = option("", "Folder for the corpus, all runs and report.html.")
    target: str = option("", "Style to fine-tune for; may be left out if there is one style and `other`.")
    metadata: str = option("", "CSV with path,style,collection,work,artist.")

    def __post_init__(self) -> None:
        check_required(self, "out")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a recipe; returns the exit code."""
    arguments: dict[str, dict[str, Any]] = {
        "recipe": {"help": "name of a recipe: demo, laptop or gpu"},
        "--style": {"action": "append", "default": [], "metavar": "NAME=SRC", "help": "music of a style; repeat"},
    }
    config, words = parse(argv, RecipeConfig, doc=__doc__, arguments=arguments)
    sources = [word for style in words.style for word in ("--style", style)]
    if config.metadata:
        sources += ["--metadata", config.metadata]
    else:  # the styles are known before anything is read
        target_style(config.target, dict.fromkeys(parse_style(word)[0].lower() for word in words.style))
    return run_pipeline(words.recipe, sources, Path(config.out), config.target)


def run_pipeline(recipe: str, sources: Sequence[str], out: Path, target: str = "") -> int:
    """Runs all steps of a recipe, from files to report; returns the exit code.

    Args:
        recipe: name that the configs of each step have.
        sources: options of `mgen prepare` with the places of the music.
        out: folder for the corpus, the runs and the report. Finished steps are skipped.
        target: style to fine-tune for; empty to infer it from the corpus.

    Raises:
        MgenError: There is no such recipe or target, or a step failed.
    """
    if not (CONFIGS / "pretrain" / f"{recipe}.yaml").is_file():
        known = sorted(path.stem for path in (CONFIGS / "pretrain").glob("*.yaml"))
        raise MgenError(f"recipe '{recipe}': expected one of {', '.join(known)} (looked in {CONFIGS / 'pretrain'})")
    folder = {name: str(out / name) for name in ("corpus", "base", "critic", "target_only", "evaluation")}
    if not (out / "corpus" / "corpus.json").is_file():
        run_step("prepare", recipe, [*sources, "--out", folder["corpus"], "--resume", "true"])
    target = target_style(target, Corpus.open(folder["corpus"]).remi.style_ids)
    corpus, policy = ["--corpus", folder["corpus"]], f"{folder['base']}/model"
    run_step("pretrain", recipe, [*corpus, "--out", folder["base"]])
    run_step("critic", recipe, ["--positive", target, *corpus, "--out", folder["critic"]])
    models = [f"pretrained={policy}"]
    judged = ["--policy", policy, "--critic", f"{folder['critic']}/model", "--target", target, *corpus]
    for name, command in (("tuned", "finetune"), ("grpo", "grpo")):
        if not (CONFIGS / command / f"{recipe}.yaml").is_file():  # the demo has no minute for a comparison
            continue
        run_step(command, recipe, [*judged, "--out", str(out / name)])
        models.append(f"{name}={out / name}/model")
    supervised = ["--init", policy, "--style", target, *corpus, "--out", folder["target_only"]]
    run_step("pretrain", f"target_only_{recipe}", supervised, folder="baselines")
    systems = ["--model", *models, "--low_cost_model", f"target_only={folder['target_only']}/model"]
    run_step("evaluate", recipe, [*systems, "--target", target, *corpus, "--out", folder["evaluation"]])
    report = out / "report.html"
    report.write_bytes((out / "evaluation" / "report.html").read_bytes())
    print(report)
    return 0


def run_step(command: str, config: str, words: Sequence[str], folder: str = "") -> None:
    """Runs one command with a config of the recipe.

    Args:
        config: name of the YAML file, without `.yaml`.
        words: options over the config.
        folder: of the config; by default the command's name.

    Raises:
        MgenError: The command failed.
    """
    began = time.monotonic()
    path = CONFIGS / (folder or command) / f"{config}.yaml"
    print(f"== mgen {command} --config {path.parent.name}/{path.name}", flush=True)
    run: Callable[[Sequence[str]], int] = importlib.import_module(f"mgen.cli.{command}").main
    code = run(["--config", str(path), *words])
    if code:
        raise MgenError(f"mgen {command} ended with exit code {code}")
    print(f"== {command} took {time.monotonic() - began:.0f} s", flush=True)
