"""Results of `mgen baseline tabs`: metrics on valid during training; systems on test, their table, the loss by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mgen.corpus.tab_windows import NoteWindows
from mgen.models.baselines.event_vectors import CLASS_NAMES, TARGETS
from mgen.render.charts import Curve, standalone_svg
from mgen.stats.classification import Counts, classification_scores
from mgen.stats.intervals import Interval

Ints = NDArray[np.int64]
Scores = dict[str, dict[str, dict[str, Interval]]]  # system -> target -> metric

MAJORITY, REPEAT = "majority class", "repeat of the last note"
DOTTED = 1  # class that precision and recall are of
COLUMNS = ("accuracy", "balanced_accuracy", "precision", "recall")


@dataclass(frozen=True, slots=True)
class Classes:
    """Examples of each class of a target in train and test, as labels of windows."""

    names: tuple[str, ...]
    train: Ints  # (K,)
    test: Ints  # (K,)

    @property
    def counted(self) -> NDArray[np.bool_]:
        """(K,) classes that occur in train and in test: balanced accuracy averages over them."""
        return (self.train > 0) & (self.test > 0)

    def to_json(self) -> dict[str, Any]:
        """The support of each class that occurs, and those that are left out of balanced accuracy."""

        def support(counts: Ints) -> dict[str, int]:
            return {self.names[k]: int(counts[k]) for k in np.flatnonzero(counts)}

        def absent(counts: Ints) -> list[str]:
            return [self.names[k] for k in np.flatnonzero(counts == 0)]

        left_out = {"not in train": absent(self.train), "not in test": absent(self.test)}
        return {"train": support(self.train), "test": support(self.test), "left_out": left_out}


def class_facts(windows: Mapping[str, NoteWindows], target: str) -> Classes:
    """Counts the classes of a target in train and test."""
    feature = TARGETS[target]
    train, test = (
        np.bincount(feature.of(windows[split].all_labels()[2]), minlength=feature.size) for split in ("train", "test")
    )
    return Classes(CLASS_NAMES[target], train, test)


def valid_metrics(prediction: Any, known: Mapping[str, Classes]) -> dict[str, float]:
    """Accuracy and balanced accuracy of an evaluation by the trainer, without intervals.

    Args:
        prediction: of `transformers`: (N, targets) predicted classes and (N, 4) next events.
        known: classes by target; those that train does not have are left out.
    """
    metrics, one = {}, np.ones((1, 1))
    events = np.asarray(prediction.label_ids, np.int64)
    for i, (target, classes) in enumerate(known.items()):
        feature = TARGETS[target]
        counts = Counts.of(feature.of(events), prediction.predictions[:, i], feature.size)
        metrics[f"{target}/accuracy"] = float(counts.accuracy(one)[0])
        metrics[f"{target}/balanced_accuracy"] = float(counts.balanced_accuracy(one, classes.train > 0)[0])
    balanced = [metrics[f"{target}/balanced_accuracy"] for target in known]
    return metrics | {"balanced_accuracy": sum(balanced) / len(balanced)}


def systems(name: str, predicted: Ints, windows: Mapping[str, NoteWindows], known: Mapping[str, Classes]) -> Scores:
    """Scores on test of the network and of two systems without training.

    Args:
        name: of the network.
        predicted: (N, targets) its classes.
        known: classes by target.
    """
    song, last, following = windows["test"].all_labels()
    found: Scores = {name: {}, MAJORITY: {}, REPEAT: {}}
    for i, (target, classes) in enumerate(known.items()):
        feature = TARGETS[target]
        truth = feature.of(following)
        guesses = {
            name: predicted[:, i],
            MAJORITY: np.full(len(truth), classes.train.argmax()),
            REPEAT: feature.of(last),
        }
        for system, classes_of in guesses.items():
            counts = Counts.of(truth, classes_of, feature.size, song)
            label = DOTTED if target == "dotted" else None
            found[system][target] = classification_scores(counts, classes.counted, label)
    return found


def loss_facts(state: Any, best_kept: bool) -> dict[str, Any]:
    """Where the valid loss was lowest, how far it rose from there, and that of the weights that are kept.

    Args:
        state: of the trainer.
        best_kept: whether the weights with the lowest loss are kept.
    """
    evaluated = [(entry["step"], entry["eval_loss"]) for entry in state.log_history if "eval_loss" in entry]
    if not evaluated:  # eval_strategy no
        unknown: dict[str, Any] = dict.fromkeys(("best_step", "best_eval_loss", "final_eval_loss", "eval_loss"))
        return unknown | {"rises": False}
    best = min((pair for pair in evaluated if pair[0]), key=lambda pair: pair[1], default=evaluated[0])
    final = evaluated[-1][1]
    facts = {"best_step": best[0], "best_eval_loss": best[1], "final_eval_loss": final}
    rises = final > best[1] and evaluated[-1][0] > best[0]
    return facts | {"eval_loss": best[1] if best_kept else final, "final_minus_best": final - best[1], "rises": rises}


def table(scores: Scores, known: Mapping[str, Classes], facts: Mapping[str, Any]) -> str:
    """The systems by target, and below them what was left out and where the valid loss was lowest."""
    used = [name for name in COLUMNS if any(name in of for found in scores.values() for of in found.values())]
    lines = ["| target | system | " + " | ".join(name.replace("_", " ") for name in used) + " |"]
    lines.append("| --- " * (len(used) + 2) + "|")
    for target in known:
        for system, found in scores.items():
            cells = [found[target][name].cell() if name in found[target] else "-" for name in used]
            lines.append(f"| {target} | {system} | " + " | ".join(cells) + " |")
    songs, windows = facts["chunks"]["test"]["songs"], facts["windows"]["test"]
    lines += ["", f"Test: {windows} windows of {songs} songs; 95 % intervals by bootstrap over songs."]
    lines += [line for target, classes in known.items() for line in [_class_line(target, classes)] if line]
    losses = facts["losses"]
    if losses["best_step"] is not None:
        best, final = losses["best_eval_loss"], losses["final_eval_loss"]
        lines.append(
            f"Valid loss: lowest {best:.4g} at step {losses['best_step']}, {final:.4g} at step {facts['steps']}."
        )
    return "\n".join(lines) + "\n"


def _class_line(target: str, classes: Classes) -> str:
    """How many classes are averaged, and which that occur are not."""
    gone = {
        "only in test": (classes.test > 0) & (classes.train == 0),
        "only in train": (classes.train > 0) & (classes.test == 0),
    }
    words = [
        f"{where} {', '.join(classes.names[k] for k in np.flatnonzero(chosen))}"
        for where, chosen in gone.items()
        if chosen.any()
    ]
    left = f"; left out: {'; '.join(words)}" if words else ""
    single = [classes.names[k] for k in np.flatnonzero(classes.counted & (classes.test == 1))]
    lone = f"; with one example in test: {', '.join(single)}" if single else ""
    return f"{target}: {classes.counted.sum()} of {len(classes.names)} classes are in train and test{left}{lone}."


def loss_figure(history: Sequence[Mapping[str, Any]]) -> str:
    """An SVG of the loss on train and valid by step."""
    series = {}
    for name, key in (("train", "loss"), ("valid", "eval_loss")):
        points = [(float(entry["step"]), float(entry[key])) for entry in history if key in entry]
        if points:
            series[name] = ([step for step, _ in points], [loss for _, loss in points])
    return standalone_svg(Curve("Loss by step", "loss", series))
