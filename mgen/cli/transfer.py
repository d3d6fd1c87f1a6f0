"""Leave-one-collection-out, as `mgen critic --transfer` runs it: the matrix of every critic, and the format control.

mgen critic --transfer --corpus corpus --notes 256 100 --out runs/transfer
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from critics.style.excerpts import PIECES, Collected, collected
from critics.validation.ablation import ABLATIONS
from critics.validation.fitters import ensemble, format_invariant_features, naive_features, network, on_table
from critics.validation.leave_one_out import FEWEST, Fitter, Matrix, leave_one_out_matrix, rows_of
from critics.validation.shortcut_baseline import Control, Stage, format_control, raw, stage, summary
from mgen.corpus.shards import Corpus
from mgen.errors import MgenError
from mgen.transforms.format_augmentations import augment
from mgen.transforms.format_invariant import format_invariant_view

LENGTHS = (256, 100)
"""Notes of an excerpt."""

NETWORK_STEPS = 100

FITTERS: dict[str, Callable[[Corpus], Fitter]] = {
    "naive": lambda corpus: on_table(naive_features),
    "network": lambda corpus: network(corpus.remi, NETWORK_STEPS),
    "features": lambda corpus: on_table(format_invariant_features, copies=1),
    "ours": lambda corpus: ensemble(),
    **{name: lambda corpus, fitter=fitter: fitter for name, fitter in ABLATIONS.items()},  # type: ignore[misc]
}
"""Critics by name: one that hears the format, the small network that does too, one of evaluation's features in what is
heard, the one that gives reward, and its members for style with one thing changed.
"""

STAGES: dict[str, Callable[[Collected, int, int], Stage]] = {
    "raw": raw,
    "cleaned": lambda excerpts, n_notes, seed: stage(excerpts.notes),
    "augmented": lambda excerpts, n_notes, seed: stage(augment(excerpts.notes, np.random.default_rng([seed, 3]))),
    "heard": lambda excerpts, n_notes, seed: stage(format_invariant_view(excerpts.notes)),
    "heard, contour": lambda excerpts, n_notes, seed: stage(format_invariant_view(excerpts.notes, "contour")),
    "heard, no rhythm": lambda excerpts, n_notes, seed: stage(format_invariant_view(excerpts.notes, "none")),
}
"""Where the control of format is taken: in the files, in the corpus, in what is trained on, in what is heard."""


def transfer(
    corpus: str,
    out: str = "",
    *,
    positive: str = "jazz",
    notes: Sequence[int] = LENGTHS,
    critics: Sequence[str] = ("naive", "ours"),
    pieces: int = PIECES,
    each: int = 1,
    fewest: int = FEWEST,
    control: bool = True,
    seed: int = 0,
    as_json: bool = False,
) -> int:
    """Measure, write OUT/transfer.json and OUT/transfer.md, print; returns the exit code.

    Args:
        notes: lengths of excerpts.
        critics: names of `FITTERS`.
        pieces: pieces drawn of a collection, of each kind.
        each: excerpts of a piece.
        fewest: pieces below which a collection is only trained on.
        control: take the control of format too, for pairs of one kind.

    Raises:
        MgenError: No such critic, a length below 16 notes, or too few collections.
    """
    for name in critics:
        if name not in FITTERS:
            raise MgenError(
                f"mgen critic --transfer: no critic is called '{name}'; expected some of {', '.join(FITTERS)}"
            )
    for count in notes:
        if count < 16:
            raise MgenError(f"mgen critic --transfer: expected --notes of at least 16, came {count}; try 100")
    opened = Corpus.open(corpus)
    found: dict[str, Any] = {}
    with Progress(console=Console(stderr=True), transient=True) as progress:
        for count in notes:
            found[str(count)] = _measured(
                opened, positive, count, critics, pieces, each, fewest, control, seed, progress
            )
    report = {"positive": positive, "data": opened.fingerprint, "seed": seed, "pieces": pieces, "lengths": found}
    if out:
        folder = Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "transfer.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
        (folder / "transfer.md").write_text(markdown(report), encoding="utf-8")
    if as_json:
        print(json.dumps(report))
    else:
        for length in found:
            _print(length, found[length])
    return 0


def _measured(
    corpus: Corpus,
    positive: str,
    n_notes: int,
    critics: Sequence[str],
    pieces: int,
    each: int,
    fewest: int,
    control: bool,
    seed: int,
    progress: Progress,
) -> dict[str, Any]:
    """Everything of one length."""
    excerpts = collected(corpus, positive, n_notes, pieces, each, seed)
    rows = rows_of(excerpts, fewest)
    out: dict[str, Any] = {
        "excerpts": len(excerpts),
        "rows": {
            row.name: {"positive": row.positive, "on_grid": row.on_grid, "n": int(row.member.sum())} for row in rows
        },
        "critics": {},
    }
    for name in critics:
        task = progress.add_task(f"{n_notes} notes, {name}", total=None)
        begin = time.monotonic()
        matrix: Matrix = leave_one_out_matrix(
            excerpts,
            FITTERS[name](corpus),
            seed,
            fewest,
            lambda done, of, task=task: progress.update(task, completed=done, total=of),  # type: ignore[misc]
        )
        out["critics"][name] = {"seconds": round(time.monotonic() - begin, 1), **matrix.to_json()}
        progress.remove_task(task)
    if control:
        task = progress.add_task(f"{n_notes} notes, format control", total=None)
        stages = {name: make(excerpts, n_notes, seed) for name, make in STAGES.items()}
        controls: list[Control] = format_control(excerpts, stages, seed, fewest, same_kind=True)
        out["format_control"] = {"summary": summary(controls), "pairs": [pair.to_json() for pair in controls]}
        progress.remove_task(task)
    return out


# ------------------------------------------------------------ pages


def _interval(number: dict[str, Any]) -> str:
    return f"{number['value']:.3f} [{number['low']:.3f}, {number['high']:.3f}]"


def _print(length: str, found: dict[str, Any]) -> None:
    console = Console()
    kinds = list(next(iter(found["critics"].values()))["mean"])
    table = Table("critic", "", *kinds, title=f"AUC on collections never heard, {length} notes")
    for name, matrix in found["critics"].items():
        table.add_row(name, "mean", *(_interval(matrix["mean"][kind]) for kind in kinds))
        lowest = [matrix["minimum"][kind] for kind in kinds]
        table.add_row("", "lowest", *(f"{_interval(low)}\n{low['positive']} / {low['other']}" for low in lowest))
    console.print(table)
    if "format_control" in found:
        control = found["format_control"]["summary"]
        stages = list(next(iter(control.values())))
        table = Table("pairs", "of", *stages, title=f"AUC of format alone, {length} notes: mean, highest")
        for kind, at in control.items():
            for part in next(iter(at.values())):
                table.add_row(
                    kind, part, *(f"{at[name][part]['mean']:.2f}, {at[name][part]['highest']:.2f}" for name in stages)
                )
        console.print(table)


def markdown(report: dict[str, Any]) -> str:
    """The report as tables in Markdown: a matrix for each critic and length, and the control of format."""
    lines = [f"# Transfer: {report['positive']} in collections never heard", ""]
    for length, found in report["lengths"].items():
        for name, matrix in found["critics"].items():
            lines += [f"## {name}, {length} notes", "", "| | mean | lowest |", "| --- | --- | --- |"]
            for kind, mean in matrix["mean"].items():
                low = matrix["minimum"][kind]
                lines.append(f"| {kind} | {_interval(mean)} | {_interval(low)} {low['positive']} / {low['other']} |")
            lines += ["", *_grid(matrix["pairs"]), ""]
        if "format_control" in found:
            lines += [f"## Format alone, {length} notes", "", *_control(found["format_control"]), ""]
    return "\n".join(lines)


def _grid(pairs: list[dict[str, Any]]) -> list[str]:
    """Other collections down, those of the style across."""
    across = list(dict.fromkeys(pair["positive"] for pair in pairs))
    down = list(dict.fromkeys(pair["other"] for pair in pairs))
    cell = {(pair["positive"], pair["other"]): _interval(pair["auc"]) for pair in pairs}
    head = [f"| | {' | '.join(across)} |", f"| --- |{' --- |' * len(across)}"]
    return head + [f"| {other} | {' | '.join(cell[a, other] for a in across)} |" for other in down]


def _control(found: dict[str, Any]) -> list[str]:
    stages = list(found["pairs"][0]["auc"]) if found["pairs"] else []
    lines = [f"| pair | kind | {' | '.join(stages)} |", f"| --- | --- |{' --- |' * len(stages)}"]
    for pair in found["pairs"]:
        cells = " | ".join(_interval(pair["auc"][name]["format"]) for name in stages)
        lines.append(f"| {pair['positive']} / {pair['other']} | {pair['kind']} | {cells} |")
    for kind, at in found["summary"].items():
        for part in next(iter(at.values())):
            cells = " | ".join(f"{at[name][part]['mean']:.3f}, {at[name][part]['highest']:.3f}" for name in stages)
            lines.append(f"| mean, highest: {part} | {kind} | {cells} |")
    return lines
