"""The report of leave-one-collection-out: matrices of the critics that are compared, and the shortcut baseline."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from critics.style.excerpts import draw_excerpts
from critics.validation.fitters import FITTERS
from critics.validation.leave_one_out import MIN_PIECES, collection_parts, leave_one_out_matrix
from critics.validation.shortcut_baseline import STAGES, shortcut_baseline, summarise
from mgen.corpus.shards import Corpus
from mgen.progress import Progress, silent

LENGTHS = (256, 100)  # notes of an excerpt


@dataclass(frozen=True)
class LeaveOneOutReport:
    """The measurements as plain values."""

    positive: str
    data: str  # fingerprint of the corpus
    seed: int
    pieces: int  # largest number of pieces of a collection
    # Notes of an excerpt -> `excerpts`, `parts` of collections, `critics` (name -> matrix and `seconds`) and
    # `shortcut_baseline` (`summary` and `pairs`).
    lengths: dict[str, dict[str, Any]]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def to_markdown(self, pairs: bool = True) -> str:
        """The report as tables.

        Args:
            pairs: with one number for each pair of collections, not only the means and the lowest.
        """
        lines = [f"# Leave-one-collection-out: AUC of {self.positive}", ""]
        for length, results in self.lengths.items():
            for name, matrix in results["critics"].items():
                lines += [f"## {name}, {length} notes", "", "| | mean | lowest |", "| --- | --- | --- |"]
                for pair_type, mean in matrix["mean"].items():
                    low = matrix["minimum"][pair_type]
                    lowest = f"{_interval(low)} {low['positive']} / {low['other']}"
                    lines.append(f"| {pair_type} | {_interval(mean)} | {lowest} |")
                lines += ["", *(_grid(matrix["pairs"]) if pairs else ()), ""]
            if "shortcut_baseline" in results:
                baseline = results["shortcut_baseline"]
                lines += [f"## Shortcut baseline, {length} notes", "", *_baseline(baseline, pairs), ""]
        return "\n".join(lines)


def measure(
    corpus: Corpus,
    positive: str,
    lengths: Sequence[int] = LENGTHS,
    critics: Sequence[str] = ("naive", "ensemble"),
    pieces: int = 400,
    each: int = 2,
    min_pieces: int = MIN_PIECES,
    baseline: bool = True,
    seed: int = 0,
    progress: Progress = silent,
) -> LeaveOneOutReport:
    """Measures critics, and the shortcut baseline for pairs of one type.

    Args:
        lengths, critics: notes of an excerpt; names in `FITTERS`.
        pieces, each, seed: see `draw_excerpts`; `min_pieces`: see `leave_one_out_matrix`.
    """
    report: dict[str, dict[str, Any]] = {}
    for n_notes in lengths:
        excerpts = draw_excerpts(corpus, positive, n_notes, pieces, each, seed)
        matrices = {}
        for name in critics:
            began = time.monotonic()
            matrix = leave_one_out_matrix(
                excerpts,
                FITTERS[name](corpus.remi),
                seed,
                min_pieces,
                progress,
                f"{n_notes} notes, {name}",
            )
            matrices[name] = {"seconds": round(time.monotonic() - began, 1), **matrix.to_json()}
        report[str(n_notes)] = {
            "excerpts": len(excerpts),
            "parts": {
                part.name: {"positive": part.positive, "on_grid": part.on_grid, "n": int(part.member.sum())}
                for part in collection_parts(excerpts, min_pieces)
            },
            "critics": matrices,
        }
        if baseline:
            progress(f"{n_notes} notes, shortcut baseline")
            stages = {name: make(excerpts, n_notes, seed) for name, make in STAGES.items()}
            results = shortcut_baseline(excerpts, stages, seed, min_pieces, same_type=True)
            report[str(n_notes)]["shortcut_baseline"] = {
                "summary": summarise(results),
                "pairs": [result.to_json() for result in results],
            }
    return LeaveOneOutReport(positive, corpus.fingerprint, seed, pieces, report)


def _interval(number: dict[str, Any]) -> str:
    return f"{number['value']:.3f} [{number['low']:.3f}, {number['high']:.3f}]"


def _grid(pairs: list[dict[str, Any]]) -> list[str]:
    """Collections of the style across, other collections down."""
    across = list(dict.fromkeys(pair["positive"] for pair in pairs))
    down = list(dict.fromkeys(pair["other"] for pair in pairs))
    cell = {(pair["positive"], pair["other"]): _interval(pair["auc"]) for pair in pairs}
    head = [f"| | {' | '.join(across)} |", f"| --- |{' --- |' * len(across)}"]
    return head + [f"| {other} | {' | '.join(cell[a, other] for a in across)} |" for other in down]


def _baseline(results: dict[str, Any], pairs: bool) -> list[str]:
    stages = list(results["pairs"][0]["auc"]) if results["pairs"] else []
    lines = [f"| pair | type | {' | '.join(stages)} |", f"| --- | --- |{' --- |' * len(stages)}"]
    for pair in results["pairs"] if pairs else ():
        cells = " | ".join(_interval(pair["auc"][name]["format"]) for name in stages)
        lines.append(f"| {pair['positive']} / {pair['other']} | {pair['type']} | {cells} |")
    for pair_type, at in results["summary"].items():
        for part in next(iter(at.values())):
            cells = " | ".join(f"{at[name][part]['mean']:.3f}, {at[name][part]['highest']:.3f}" for name in stages)
            lines.append(f"| mean, highest: {part} | {pair_type} | {cells} |")
    return lines
