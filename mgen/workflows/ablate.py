"""A grid of fine-tuning runs: named changes of one recipe, with seeds as a dimension, in one table and one figure.

Every run is a run folder of `mgen finetune` or `mgen grpo`, so the same command again resumes what was interrupted, and
several machines that share the output folder divide the runs: a run that another process trains in is passed over.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from scipy.stats import t as student

from critics.style import StyleCritic
from mgen.corpus.shards import Corpus
from mgen.errors import MgenError
from mgen.files import write_atomically
from mgen.models.transformer import load_policy
from mgen.notes import Notes
from mgen.options import check_required, option, target_style
from mgen.render.charts import Curve, standalone_svg
from mgen.rl.batch import collate, token_logprobs
from mgen.rl.guard import NOTES, Guard
from mgen.rl.update import average_weights, copy_weights, set_weights
from mgen.runs.lock import is_locked
from mgen.runs.metrics import Progress, read_metrics
from mgen.sampling.systems import sample_completions
from mgen.speed import choose_speed
from mgen.stored import explain_damage
from mgen.workflows.finetune import finetune
from mgen.workflows.grpo import grpo

COMMANDS: dict[str, Callable[..., Any]] = {"finetune": finetune, "grpo": grpo}
RESULT = "ablation.json"  # in a run folder: what was measured of its policy
QUICK = 12  # most steps of a run of the quick grid

COLUMNS = {
    "continuation/auc": f"AUC by {NOTES} notes, continuing the style",
    "transfer/auc": f"AUC by {NOTES} notes, other prompts",
    "continuation/style": "judged of the style, continuing it",
    "transfer/style": "judged of the style, other prompts",
    "continuation/kl": "KL, continuing the style",
    "transfer/kl": "KL, other prompts",
    "transfer/whole": "whole, other prompts",
    "transfer/variety": "Vendi ratio, other prompts",
    "transfer/cold_loops": "loops at 0.5, other prompts",
    "transfer/greedy_loops": "greedy loops, other prompts",
}
"""Measure -> heading of its column."""


@dataclass
class AblationConfig:
    """Options of `mgen ablate`."""

    grid: str = option("", "YAML of the grid (`--config`): `recipe`, `seeds` and `runs`.")
    policy: str = option("", "Model folder of the policy that all runs start from.")
    corpus: str = option("", "Folder written by mgen prepare.")
    critic: str = option("", "Model folder of the style critic.")
    out: str = option("", "Folder for the runs, table.md, figure.svg and results.json.")
    target: str = option("", "Style that is asked for; may be left out if the corpus has one style and `other`.")
    pieces: int = option(256, "Held-out prompts of each type on which the policies are measured.", least=80)
    interpolate: list[float] = option(
        [],
        "Also measure each policy this far on the way from the start to its weights, such as 0.5: reward against KL "
        "without another run.",
        above=0,
    )
    quick: bool = option(False, "At most 12 steps per run.")

    def __post_init__(self) -> None:
        if not self.grid:
            raise ValueError("expected --config GRID.yaml, got none; see configs/ablations")
        check_required(self, "policy", "corpus", "critic", "out")


@dataclass(frozen=True)
class Grid:
    """Named changes of a recipe.

    Attributes:
        recipe: options that all runs of `mgen finetune` have.
        seeds: of each run.
        runs: name -> options over the recipe; the key `command` names another command than finetune.
    """

    recipe: Mapping[str, Any]
    seeds: Sequence[int]
    runs: Mapping[str, Mapping[str, Any]]

    @classmethod
    def read(cls, path: Path | str) -> Grid:
        """Reads a YAML file.

        Raises:
            MgenError: It cannot be read or has another form.
        """
        path, remedy = Path(path), "see configs/ablations/laptop.yaml"
        if not path.is_file():
            raise MgenError(f"grid {path}: no such file; {remedy}")
        with explain_damage(path, remedy):
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or not content.get("runs") or set(content) - {"recipe", "seeds", "runs"}:
            raise MgenError(f"{path}: expected the keys recipe, seeds and runs; {remedy}")
        runs = {str(name): dict(change or {}) for name, change in content["runs"].items()}
        for name, change in runs.items():
            if (command := change.get("command", "finetune")) not in COMMANDS:
                raise MgenError(f"{path}, run {name}: command '{command}': expected one of {', '.join(COMMANDS)}")
        return cls(dict(content.get("recipe") or {}), list(content.get("seeds") or [0]), runs)


def run_ablation(config: AblationConfig, progress: Progress) -> dict[str, Any]:
    """Trains and measures all runs of a grid that no other process trains.

    Returns:
        The content of results.json: `start` (measures of the policy before training) and `runs`, name -> seed ->
        measures; those that are missing are being trained elsewhere.

    Raises:
        MgenError: The grid is wrong, or a run fails.
    """
    grid, out = Grid.read(config.grid), Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    measure = _Measure(config, grid)
    results: dict[str, Any] = {"start": measure.stored(Path(config.policy), out / "start.json"), "runs": {}}
    for seed in grid.seeds:
        for name, change in grid.runs.items():
            options = {key: value for key, value in change.items() if key != "command"}
            command = change.get("command", "finetune")
            recipe = grid.recipe if command == "finetune" else {}
            options = {**recipe, **options, "seed": seed}
            if config.quick:
                options["max_steps"] = min(options.get("max_steps", QUICK), QUICK)
            folder = out / f"{name}_{seed}"
            progress(f"run {name}, seed {seed}")
            if is_locked(folder):
                progress("  another process trains in it: passed over")
                continue
            options |= {"critic": config.critic, "target": measure.target, "progress": progress}
            run = COMMANDS[command](config.policy, config.corpus, folder, **options)
            found = measure.stored(run.model, folder / RESULT)
            results["runs"].setdefault(name, {})[str(seed)] = found | {"seconds": run.seconds}
            for share in config.interpolate:
                found = measure.stored(run.model, folder / f"ablation_{share:g}.json", share)
                results["runs"].setdefault(f"{name} x {share:g}", {})[str(seed)] = found
            write_results(results, out)
    return results


class _Measure:
    """Measures a policy on held-out prompts."""

    def __init__(self, config: AblationConfig, grid: Grid) -> None:
        corpus = Corpus.open(config.corpus)
        self.target = target_style(config.target, corpus.remi.style_ids)
        self.dtype = choose_speed("auto", "cpu").dtype
        lengths = max(grid.recipe.get("prompt_tokens", [24])), grid.recipe.get("max_completion_length", 192)
        self.guard = Guard.of(corpus, self.target, config.pieces, *lengths, 0, self.dtype, split="test")
        self.critic = StyleCritic.from_pretrained(config.critic, corpus.remi)
        self.start, self.remi = load_policy(config.policy)

    def stored(self, model: Path, path: Path, share: float = 1.0) -> dict[str, float]:
        """The measures of a model, or of one at `share` of the way to it from the start; from a file if known."""
        if path.is_file():
            known: dict[str, float] = json.loads(path.read_text())
            return known
        policy, _ = load_policy(model)
        weights = copy_weights(self.start)
        average_weights(weights, policy, 1 - share)
        set_weights(policy, weights)
        found = {key.removeprefix("guard/"): value for key, value in self.guard.check(policy).items()}
        for prompt_type, prompts in self.guard.prompts.items():
            ids = prompts.ids.tolist()
            completions = sample_completions(policy, ids, self.guard.completion_tokens, self.remi, 1, self.dtype)
            batch = collate(ids, completions, torch.ones(len(ids)), 1, self.remi.pad_id)
            rows = torch.split(torch.arange(len(ids)), 64)
            with torch.no_grad():
                ratio = [(token_logprobs(policy, batch, r) - token_logprobs(self.start, batch, r)).sum(1) for r in rows]
            found[f"{prompt_type}/kl"] = float(torch.cat(ratio).mean())
            notes = Notes.from_completions(ids, completions, self.remi)
            found[f"{prompt_type}/style"] = float((self.critic.probability(notes) > 0.5).mean())
        write_atomically(path, json.dumps(found, indent=1))
        return found


def write_results(results: Mapping[str, Any], out: Path) -> None:
    """Writes results.json, table.md and figure.svg."""
    write_atomically(out / "results.json", json.dumps(results, indent=1))
    write_atomically(out / "table.md", table(results))
    curves = {name: _curve([out / f"{name}_{seed}" for seed in seeds]) for name, seeds in results["runs"].items()}
    curves = {name: line for name, line in curves.items() if line[0]}
    if curves:
        chart = Curve("reward by KL", "reward, nats", curves, across="square root of KL, nats per piece")
        write_atomically(out / "figure.svg", standalone_svg(chart))


def table(results: Mapping[str, Any]) -> str:
    """Rows of runs, columns of measures: the mean over seeds, with a 95 % interval of Student's t from two seeds on."""
    lines = ["| run | seeds | " + " | ".join(COLUMNS.values()) + " |", "| --- " * (len(COLUMNS) + 2) + "|"]
    rows = {"start": [results["start"]]} | {name: list(seeds.values()) for name, seeds in results["runs"].items()}
    for name, found in rows.items():
        cells = [_cell([one[key] for one in found if key in one]) for key in COLUMNS]
        lines.append(f"| {name} | {len(found)} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(values: Sequence[float]) -> str:
    if not values:
        return "-"
    mean = float(np.mean(values))
    if len(values) < 2:
        return f"{mean:.2f}"
    half = float(student.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values)))
    return f"{mean:.2f} [{mean - half:.2f}, {mean + half:.2f}]"


def _curve(folders: Sequence[Path]) -> tuple[list[float], list[float]]:
    """Mean reward over the square root of KL, by step, over the seeds of a run."""
    logs = [[line for line in read_metrics(folder) if "policy/kl" in line] for folder in folders]
    steps = list(zip(*logs, strict=False))
    kl = [math.sqrt(max(float(np.mean([line["policy/kl"] for line in step])), 0.0)) for step in steps]
    return kl, [float(np.mean([line["reward"] for line in step])) for step in steps]
