"""A grid of runs: named changes of one recipe, with seeds as a dimension, in one table and one figure.

Every run is a run folder of its command, so the same command again resumes what was interrupted, and several machines
that share the output folder divide the runs: a run that another process trains in is passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mgen.corpus.shards import Corpus
from mgen.errors import MgenError
from mgen.options import check_required, option, target_style
from mgen.progress import Progress, counted
from mgen.runs.lock import is_locked
from mgen.runs.run import TrainingResult
from mgen.workflows.commands import COMMANDS
from mgen.workflows.grid import Axes, Grid, write_results
from mgen.workflows.grid_baselines import (
    ROLL_AXES,
    ROLL_COLUMNS,
    TABS_AXES,
    TABS_COLUMNS,
    untrained_rolls,
    untrained_tabs,
)
from mgen.workflows.grid_drum_bass import DRUM_BASS_AXES, DRUM_BASS_COLUMNS, untrained_drum_bass
from mgen.workflows.grid_measures import PRETRAINED_COLUMNS, TUNED_COLUMNS, PretrainedMeasure, TunedMeasure

RESULT = "ablation"  # .json in a run folder: what was measured of its policy

Measures = dict[str, float]


@dataclass
class AblationConfig:
    """Options of `mgen ablate`."""

    grid: str = option("", "YAML of the grid (`--config`): `recipe`, `seeds`, and `runs` or `axes`.")
    corpus: str = option("", "Folder written by mgen prepare.")
    policy: str = option("", "Model folder of the policy that fine-tuning starts from.")
    critic: str = option("", "Model folder of the style critic, for fine-tuning.")
    out: str = option("", "Folder for the runs, table.md, figure.svg and results.json.")
    target: str = option("", "Style that is asked for; may be left out if the corpus has one style and `other`.")
    pieces: int = option(256, "Held-out prompts of each type on which the policies are measured.", least=80)
    interpolate: list[float] = option(
        [],
        "Also measure each fine-tuned policy this far on the way from the start to its weights, such as 0.5: reward "
        "against KL without another run.",
        above=0,
    )
    quick: bool = option(False, "The short form of each run that the grid names; at most 12 steps if it names none.")

    def __post_init__(self) -> None:
        if not self.grid:
            raise ValueError("expected --config GRID.yaml, got none; see configs/ablations")
        check_required(self, "corpus", "out")


@dataclass(frozen=True)
class Study:
    """How the runs of a command are measured and shown.

    Attributes:
        columns: measure -> heading.
        measured: result of a run -> end of the row's name -> measures.
        start: row -> measures of what is there before any run.
        untrained: facts of the first run -> row -> measures of systems that it was compared with.
    """

    columns: Mapping[str, str]
    axes: Axes
    measured: Callable[[TrainingResult], Mapping[str, Measures]]
    start: Mapping[str, Measures]
    untrained: Callable[[Mapping[str, Any]], Mapping[str, Measures]] = lambda facts: {}


def _tuned(config: AblationConfig, grid: Grid) -> Study:
    for name in ("policy", "critic"):
        if not getattr(config, name):
            raise MgenError(f"{config.grid}: runs of {grid.command} need --{name}; see mgen ablate --help")
    corpus = Corpus.open(config.corpus)
    config.target = target_style(config.target, corpus.remi.style_ids)
    lengths = max(grid.recipe.get("prompt_tokens", [24])), grid.recipe.get("max_completion_length", 192)
    measure = TunedMeasure(corpus, config.policy, config.critic, config.target, config.pieces, *lengths)

    def measured(run: TrainingResult) -> Mapping[str, Measures]:
        found = {"": measure(run.model, run.folder / f"{RESULT}.json") | {"seconds": run.seconds}}
        for share in config.interpolate:
            found[f" x {share:g}"] = measure(run.model, run.folder / f"{RESULT}_{share:g}.json", share)
        return found

    axes = Axes("reward by KL", "reward, nats", "square root of KL, nats per piece", "policy/kl", "reward", True)
    start = {"start": measure(Path(config.policy), Path(config.out) / "start.json")}
    return Study(TUNED_COLUMNS, axes, measured, start)


def _pretrained(config: AblationConfig, grid: Grid) -> Study:
    corpus = Corpus.open(config.corpus)
    target = target_style(config.target, corpus.remi.style_ids)
    measure = PretrainedMeasure(corpus, target, config.pieces, prompt_tokens=14, completion_tokens=192)
    axes = Axes("learning curves", "nats per note on valid", "step", "step", "eval_nats_per_note")
    return Study(PRETRAINED_COLUMNS, axes, lambda run: {"": measure(run, run.folder / f"{RESULT}.json")}, {})


def _by_its_metrics(
    columns: Mapping[str, str], axes: Axes, untrained: Callable[[Mapping[str, Any]], Mapping[str, Measures]]
) -> Callable[[AblationConfig, Grid], Study]:
    """A study that compares the metrics that each run has measured itself, which have names in `columns`."""

    def measured(run: TrainingResult) -> Mapping[str, Measures]:
        found = {**run.metrics, "seconds": run.seconds}
        return {"": {name: value for name, value in found.items() if name in columns}}

    return lambda config, grid: Study(columns, axes, measured, {}, untrained)


STUDIES: dict[str, Callable[[AblationConfig, Grid], Study]] = {
    "finetune": _tuned,
    "grpo": _tuned,
    "pretrain": _pretrained,
    "baseline tabs": _by_its_metrics(TABS_COLUMNS, TABS_AXES, untrained_tabs),
    "baseline piano-roll": _by_its_metrics(ROLL_COLUMNS, ROLL_AXES, untrained_rolls),
    "baseline drum-bass": _by_its_metrics(DRUM_BASS_COLUMNS, DRUM_BASS_AXES, untrained_drum_bass),
}
"""Command of a grid -> how its runs are measured. Commands of one grid are measured alike."""


def run_ablation(config: AblationConfig, progress: Progress) -> dict[str, Any]:
    """Trains and measures all runs of a grid that no other process trains.

    Returns:
        The content of results.json: `columns`, measure -> heading; `start`, row -> measures before training; `runs`,
        row -> seed -> measures; those that are missing are being trained elsewhere; `folders`, row -> run folders.

    Raises:
        MgenError: The grid is wrong, or a run fails.
    """
    grid, out = Grid.read(config.grid, STUDIES), Path(config.out)
    if len({STUDIES[cell.command] for cell in grid.cells()}) > 1:
        raise MgenError(f"{config.grid}: its commands are measured by different numbers; make a grid of each")
    out.mkdir(parents=True, exist_ok=True)
    study = STUDIES[grid.command](config, grid)
    results: dict[str, Any] = {"columns": study.columns, "start": {**study.start}, "runs": {}, "folders": {}}
    for cell in counted(progress, "runs", list(grid.cells(config.quick))):
        progress(f"run {cell.folder}")
        if is_locked(out / cell.folder):
            progress("  another process trains in it: passed over")
            continue
        call, inputs = COMMANDS[cell.command]
        given = {name: getattr(config, name) for name in (*inputs, "target") if getattr(config, name)}
        if "policy" not in inputs:
            given.pop("target", None)
        run = call(**given, out=out / cell.folder, progress=progress, **cell.options)
        if not results["folders"]:
            results["start"] |= study.untrained(run.facts)
        for end, found in study.measured(run).items():
            results["runs"].setdefault(cell.name + end, {})[str(cell.options["seed"])] = found
        results["folders"].setdefault(cell.name, []).append(cell.folder)
        write_results(results, study.columns, study.axes, out)
    return results
