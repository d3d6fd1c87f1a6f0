"""Results of `mgen baseline piano-roll`: metrics in training; systems on test, densities, their table and figure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from mgen.arrays import Floats, Longs
from mgen.corpus.roll_windows import Rolls, RollWindows
from mgen.models.baselines.piano_roll import PianoRollModel
from mgen.render.charts import Curve, standalone_svg
from mgen.sampling.piano_roll import RollDecoding, continue_rolls
from mgen.stats.detection import BINS, CENTRES, ScoreCounts, bin_of, count_scores, detection_scores
from mgen.stats.intervals import Interval

Scores = dict[str, dict[str, Interval]]  # system -> measure

OFF, REPEAT = "always off", "repeat of the last step"
COLUMNS = ("f1", "precision", "recall", "average_precision", "loss")


class CountScores:
    """Metrics of an evaluation by the trainer, batch by batch: the cells of each group by score.

    Args:
        groups: (N,) group of each item of the data, which are read in order.
        losses: of a silent and of a sounding cell at the centres of the bins.
    """

    counts: ScoreCounts  # of the last evaluation that has ended
    result: dict[str, float]

    def __init__(self, groups: Longs, losses: tuple[Floats, Floats]) -> None:
        self.groups, self.losses = groups, losses
        self._begin()

    def _begin(self) -> None:
        self._read = 0
        self._total = np.zeros((int(self.groups.max(initial=0)) + 1, 2, BINS), np.int64)

    def __call__(self, prediction: Any, compute_result: bool = True) -> dict[str, float]:
        """Counts a batch of `transformers`; after the last one, average precision, highest F1 and loss of all."""
        logits, (labels, mask) = (prediction.predictions, prediction.label_ids)
        cells = mask[:, :, None].expand(labels.shape)
        rows = self.groups[self._read : self._read + len(logits)]
        found = count_scores(logits, labels, cells).cpu().numpy()
        np.add.at(self._total, rows, found[: len(rows)])
        self._read += len(rows)
        if not compute_result:
            return {}
        self.counts = ScoreCounts(self._total[:, 0].astype(np.float64), self._total[:, 1].astype(np.float64))
        self._begin()
        whole = np.ones((1, len(self.counts.yes)))
        self.result = {
            "average_precision": float(self.counts.average_precision(whole)[0]),
            "f1": self.counts.best_threshold()[1],
            "loss": float(self.counts.mean_loss(whole, *self.losses)[0]),  # exact: batches are not of one size
        }
        return self.result


def bin_losses(model: PianoRollModel) -> tuple[Floats, Floats]:
    """The loss of a silent and of a sounding cell at the centres of the bins, (BINS,) each."""
    logits = torch.from_numpy(CENTRES)
    return tuple(model.cell_loss(logits, torch.full_like(logits, truth)).numpy() for truth in (0.0, 1.0))  # type: ignore[return-value]


def systems(
    name: str, counts: ScoreCounts, least: int, train: Rolls, test: Rolls, losses: tuple[Floats, Floats]
) -> Scores:
    """Scores on test of the network and of two systems that learn nothing but shares of cells in train.

    Silence gives every cell the share of sounding ones; the repeat gives it their share after a cell that sounds or
    does not.

    Args:
        name: of the network.
        counts: its cells of each work.
        least: bin from which on it predicts that a cell sounds.
    """
    cells = train.transitions().sum(axis=0).astype(np.float64)  # (before, now)
    work = np.unique(test.work, return_inverse=True)[1]
    by_work = np.zeros((int(work.max()) + 1, 2, 2))
    np.add.at(by_work, work, test.transitions())
    shares = np.array([cells[:, 1].sum() / cells.sum(), *(cells[:, 1] / cells.sum(axis=1).clip(1))]).clip(
        1e-6, 1 - 1e-6
    )
    all_cells, off, on = bin_of(torch.from_numpy(np.log(shares / (1 - shares)))).tolist()
    silence, repeat = (ScoreCounts(np.zeros(counts.no.shape), np.zeros(counts.no.shape)) for _ in range(2))
    for before, place in enumerate((off, on)):
        for of, column in ((repeat, place), (silence, all_cells)):
            of.no[:, column] += by_work[:, before, 0]
            of.yes[:, column] += by_work[:, before, 1]
    return {
        name: detection_scores(counts, least, losses),
        OFF: detection_scores(silence, BINS, losses),
        REPEAT: detection_scores(repeat, on if on > off else BINS, losses),
    }


def density(model: PianoRollModel, windows: RollWindows, count: int, threshold: float, seed: int) -> dict[str, float]:
    """Share of sounding cells in continuations of windows of test from their middle on.

    Returns:
        `real`; `sampled`, at temperature 1; `threshold`, by the threshold.
    """
    items = np.unique(np.linspace(0, len(windows) - 1, count).astype(np.int64))
    batch = windows.__getitems__(items)
    middle = windows.window // 2
    steps = windows.window - middle
    mask = batch["mask"][:, middle:]
    labels = batch["labels"].bool()
    found = {"real": labels[:, middle:]}
    for name, decoding in (("sampled", RollDecoding()), ("threshold", RollDecoding(threshold=threshold))):
        found[name] = continue_rolls(model, labels[:, :middle], steps, decoding, seed).cpu()
    return {name: float(of[mask].float().mean()) if mask.any() else 0.0 for name, of in found.items()}


def learning_facts(history: Sequence[Mapping[str, Any]], target: float) -> dict[str, Any]:
    """When valid was best and reached a target, and how long gradients were, before they were shortened.

    Args:
        history: of the trainer.
        target: average precision; 0 for none.

    Returns:
        `best_step` and `best_average_precision`; `steps_to_target`, the first evaluation with it, or None;
        `gradient_norm` and `gradient_norm_deviation` over the logged steps, None if none was logged.
    """
    evaluated = [(entry["step"], entry["eval_average_precision"]) for entry in history if "eval_loss" in entry]
    best = max(evaluated, key=lambda pair: pair[1], default=(None, None))
    reached = [step for step, value in evaluated if target and value >= target]
    norms = [float(entry["grad_norm"]) for entry in history if "grad_norm" in entry]
    finite = [norm for norm in norms if math.isfinite(norm)]
    return {
        "best_step": best[0],
        "best_average_precision": best[1],
        "steps_to_target": min(reached, default=None),
        "gradient_norm": float(np.mean(finite)) if finite else None,
        "gradient_norm_deviation": float(np.std(finite)) if finite else None,
    }


def table(scores: Scores, facts: Mapping[str, Any], target: float) -> str:
    """The systems, and below them the densities and how training went."""
    lines = ["| system | " + " | ".join(name.replace("_", " ") for name in COLUMNS) + " |"]
    lines.append("| --- " * (len(COLUMNS) + 1) + "|")
    for system, found in scores.items():
        lines.append(f"| {system} | " + " | ".join(found[name].cell() for name in COLUMNS) + " |")
    density, learning, pieces = facts["density"], facts["learning"], facts["pieces"]["test"]
    lines += [
        "",
        f"Test: {pieces['used']} pieces of {pieces['works']} works; 95 % intervals by bootstrap over works. A cell "
        f"sounds from probability {facts['threshold']:.3f} on, which gives the highest F1 on valid.",
        f"Sounding cells of continuations: real {density['real']:.2%}, sampled {density['sampled']:.2%}, by threshold "
        f"{density['threshold']:.2%}.",
    ]
    if learning["best_step"] is not None:
        best = f"Valid: average precision {learning['best_average_precision']:.3f} at step {learning['best_step']}"
        first = learning["steps_to_target"]
        reached = f"{target:g} first at step {first}" if first is not None else f"{target:g} was not reached"
        lines.append(f"{best}{f'; {reached}' if target else ''}.")
    if learning["gradient_norm"] is not None:
        mean, spread = learning["gradient_norm"], learning["gradient_norm_deviation"]
        lines.append(f"Gradient norm: mean {mean:.3g}, standard deviation {spread:.3g}.")
    return "\n".join(lines) + "\n"


def learning_figure(history: Sequence[Mapping[str, Any]]) -> str:
    """An SVG of average precision and F1 on valid by step."""
    series = {}
    for name, key in (("average precision", "eval_average_precision"), ("highest F1", "eval_f1")):
        points = [(float(entry["step"]), float(entry[key])) for entry in history if key in entry]
        if points:
            series[name] = ([step for step, _ in points], [value for _, value in points])
    return standalone_svg(Curve("Valid by step", "", series))
