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
from mgen.stored import read_json


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


STEPS = {
    "prepare": "Reads the music files and writes them as tokens, divided by work into train, valid and test.",
    "pretrain": "Learns to continue music of all styles, token by token: the policy.",
    "critic": "Learns to distinguish {target} from other music; its judgement becomes a reward.",
    "finetune": "Samples continuations, judges them and makes the better ones more likely; KL is the price.",
    "grpo": "The same by GRPO as published, for comparison.",
    "target_only": "Trains the policy on {target} alone: the low-cost baseline that fine-tuning has to beat.",
    "evaluate": "Lets all models continue the same unseen music, and compares them with real music.",
}
"""Step -> what is done and why."""


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
    last = CONFIGS / "evaluate"  # a recipe is what has a config of the last step
    if not (last / f"{recipe}.yaml").is_file():
        known = sorted(path.stem for path in last.glob("*.yaml"))
        raise MgenError(f"recipe '{recipe}': expected one of {', '.join(known)} (looked in {last})")
    folder = {name: str(out / name) for name in ("corpus", "base", "critic", "target_only", "evaluation")}
    compared = [name for name in ("finetune", "grpo") if (CONFIGS / name / f"{recipe}.yaml").is_file()]
    names = ["prepare", "pretrain", "critic", *compared, "target_only", "evaluate"]

    def announce(name: str) -> None:
        about = STEPS[name].format(target=target or "the target style")
        print(f"\nStep {names.index(name) + 1} of {len(names)}: {name}. {about}", flush=True)

    announce("prepare")
    if (out / "corpus" / "corpus.json").is_file():
        print(f"{folder['corpus']}: finished before")
    else:
        run_step("prepare", recipe, [*sources, "--out", folder["corpus"], "--resume", "true"])
    target = target_style(target, Corpus.open(folder["corpus"]).remi.style_ids)
    corpus, policy = ["--corpus", folder["corpus"]], f"{folder['base']}/model"
    announce("pretrain")
    run_step("pretrain", recipe, [*corpus, "--out", folder["base"]])
    announce("critic")
    run_step("critic", recipe, ["--target", target, *corpus, "--out", folder["critic"]])
    models = [f"pretrained={policy}"]
    judged = ["--policy", policy, "--critic", f"{folder['critic']}/model", "--target", target, *corpus]
    for command in compared:
        announce(command)
        name = "tuned" if command == "finetune" else command
        run_step(command, recipe, [*judged, "--out", str(out / name)])
        models.append(f"{name}={out / name}/model")
    announce("target_only")
    supervised = ["--init", policy, "--style", target, *corpus, "--out", folder["target_only"]]
    run_step("pretrain", f"target_only_{recipe}", supervised, folder="baselines")
    announce("evaluate")
    systems = ["--model", *models, "--low_cost_model", f"target_only={folder['target_only']}/model"]
    run_step("evaluate", recipe, [*systems, "--target", target, *corpus, "--out", folder["evaluation"]])
    report = out / "report.html"
    report.write_bytes((out / "evaluation" / "report.html").read_bytes())
    found = read_json(out / "evaluation" / "metrics.json", "run it again")
    print("\n- ".join(["\nWhat came out:", *found["outcome"]]))
    print(f"\nListen blind: mgen listen {folder['evaluation']}")
    print(f"Your own music: mgen recipe laptop --style {target}=FOLDER --style other=FOLDER --out runs/own")
    print(f"All numbers and sounds, in a browser:\n{report}")
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
    print(f"mgen {command} --config {path.parent.name}/{path.name} ...", flush=True)
    run: Callable[[Sequence[str]], int] = importlib.import_module(f"mgen.cli.{command}").main
    code = run(["--config", str(path), *words])
    if code:
        raise MgenError(f"mgen {command} ended with exit code {code}")
    print(f"took {time.monotonic() - began:.0f} s", flush=True)
