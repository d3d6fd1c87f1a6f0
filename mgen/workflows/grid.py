"""A grid of runs: named changes of one recipe, products of options, and seeds; its file, its table and its figure."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from scipy.stats import t as student

from mgen.errors import MgenError
from mgen.files import write_atomically
from mgen.render.charts import Curve, standalone_svg
from mgen.runs.metrics import read_metrics
from mgen.stored import explain_damage

KEYS = {"command", "recipe", "seeds", "runs", "axes", "quick"}
REMEDY = "see configs/ablations"
CURVES = 12  # most rows in the figure: the first ones


@dataclass(frozen=True)
class Cell:
    """A run of a grid."""

    name: str  # of its row
    folder: str
    command: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Grid:
    """Named changes of a recipe.

    Attributes:
        command: of all runs that name no other.
        recipe: options of all runs of this command.
        seeds: of each run.
        runs: name -> options over the recipe; the key `command` names another command.
        axes: option -> values; each run is repeated with every combination.
        quick: options of a short form of every run; numbers are upper limits.
    """

    command: str
    recipe: Mapping[str, Any]
    seeds: Sequence[int]
    runs: Mapping[str, Mapping[str, Any]]
    axes: Mapping[str, Sequence[Any]]
    quick: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path | str, commands: Collection[str]) -> Grid:
        """Reads a YAML file.

        Args:
            commands: that may be named.

        Raises:
            MgenError: It cannot be read or has another form.
        """
        path = Path(path)
        if not path.is_file():
            raise MgenError(f"grid {path}: no such file; {REMEDY}")
        with explain_damage(path, REMEDY):
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        known = isinstance(content, dict) and not set(content) - KEYS
        if not known or not (content.get("runs") or content.get("axes")):
            raise MgenError(f"{path}: expected runs or axes, and of {', '.join(sorted(KEYS))}; {REMEDY}")
        runs = {str(name): dict(change or {}) for name, change in (content.get("runs") or {"": {}}).items()}
        axes = content.get("axes") or {}
        for name, values in axes.items():
            if not isinstance(values, list) or not values:
                raise MgenError(f"{path}, axes, {name}: expected a list of values, found {values!r}; {REMEDY}")
        command = content.get("command", "finetune")
        for name, change in {"": content, **runs}.items():
            if (named := change.get("command", command)) not in commands:
                where = f"{path}, run {name}" if name else f"{path}"
                raise MgenError(f"{where}: command '{named}': expected one of {', '.join(commands)}")
        quick = {"max_steps": 12} | (content.get("quick") or {})
        return cls(command, content.get("recipe") or {}, list(content.get("seeds") or [0]), runs, axes, quick)

    def cells(self, quick: bool = False) -> Iterator[Cell]:
        """All runs: one seed after the other, so that a grid that is stopped early has whole rows."""
        for seed, (name, change) in itertools.product(self.seeds, self.runs.items()):
            for values in itertools.product(*self.axes.values()):
                command = change.get("command", self.command)
                recipe = self.recipe if command == self.command else {}
                options = {**recipe, **change, **dict(zip(self.axes, values, strict=True)), "seed": seed}
                options.pop("command", None)
                if quick:
                    options |= {key: _at_most(options.get(key), value) for key, value in self.quick.items()}
                row = " ".join([*([name] if name else []), *map(_word, values)])
                yield Cell(row, f"{re.sub(r'[^A-Za-z0-9.+-]+', '_', row)}_{seed}", command, options)


def _word(value: Any) -> str:
    return "+".join(map(str, value)) if isinstance(value, list) else str(value)


def _at_most(value: Any, limit: Any) -> Any:
    numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in (value, limit))
    return min(value, limit) if numbers else limit


@dataclass(frozen=True)
class Axes:
    """What the figure shows: a curve for each row, over the logged lines of its runs that have both values."""

    title: str
    unit: str
    across: str
    x: str  # of metrics.jsonl, as y
    y: str
    root: bool = False  # whether the square root of x is shown


def write_results(results: Mapping[str, Any], columns: Mapping[str, str], axes: Axes, out: Path) -> None:
    """Writes results.json, table.md and figure.svg.

    Args:
        results: `start`, measures or nothing; `runs`, row -> seed -> measures; `folders`, row -> names in `out`.
        columns: measure -> heading.
    """
    write_atomically(out / "results.json", json.dumps(results, indent=1))
    write_atomically(out / "table.md", table(results, columns))
    curves = {name: _curve([out / one for one in folders], axes) for name, folders in results["folders"].items()}
    curves = dict(itertools.islice(((name, line) for name, line in curves.items() if line[0]), CURVES))
    if curves:
        chart = Curve(axes.title, axes.unit, curves, across=axes.across)
        write_atomically(out / "figure.svg", standalone_svg(chart))


def table(results: Mapping[str, Any], columns: Mapping[str, str]) -> str:
    """Rows of runs, columns of measures: the mean over seeds, with a 95 % interval of Student's t from two seeds on."""
    rows = {name: list(seeds.values()) for name, seeds in results["runs"].items()}
    rows = {name: [found] for name, found in results.get("start", {}).items()} | rows
    known = {
        key: heading for key, heading in columns.items() if any(key in one for row in rows.values() for one in row)
    }
    lines = ["| run | seeds | " + " | ".join(known.values()) + " |", "| --- " * (len(known) + 2) + "|"]
    for name, found in rows.items():
        cells = [_cell([one[key] for one in found if key in one]) for key in known]
        lines.append(f"| {name} | {len(found)} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(values: Sequence[float]) -> str:
    if not values:
        return "-"
    mean = float(np.mean(values))
    digits = 0 if abs(mean) >= 1000 else 2 if abs(mean) < 100 else 1
    if len(values) < 2:
        return f"{mean:.{digits}f}"
    half = float(student.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values)))
    return f"{mean:.{digits}f} [{mean - half:.{digits}f}, {mean + half:.{digits}f}]"


def _curve(folders: Sequence[Path], axes: Axes) -> tuple[list[float], list[float]]:
    """Means over the runs of a row, line by line."""
    keys = axes.x, axes.y
    logs = [[[line[key] for key in keys] for line in read_metrics(one) if _has(line, keys)] for one in folders]
    x, y = np.array(list(zip(*logs, strict=False)), np.float64).reshape(-1, len(folders), 2).mean(axis=1).T
    return (np.sqrt(x.clip(0)) if axes.root else x).tolist(), y.tolist()


def _has(line: Mapping[str, Any], keys: Sequence[str]) -> bool:
    return all(isinstance(line.get(key), int | float) for key in keys)
