"""The discriminator of features: logistic regression on what a fresh classifier would look at, refitted at each step.

Its score is the calibrated log density ratio log p_real(piece) / p_generated(piece), in nats, at equal priors. It has
no optimizer state and needs no warm-up beyond its first batches: each refit solves a convex problem on the pieces in
memory.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from safetensors.torch import load_file, save_file
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

from critics.realism.held_out import held_out_metrics
from critics.realism.stored import REMEDY, last_state, read_facts
from critics.sequence import FILE
from critics.style import MIN_NOTES
from critics.style.ensemble import CLIP, MIN_SCALE, shared_feature_table
from mgen.arrays import Floats, Longs, Mask
from mgen.judgement import Judgement
from mgen.models.pretrained import check_finite
from mgen.music.features import features
from mgen.notes import Notes
from mgen.rl.discriminator import AGAINST
from mgen.runs.judges import REALISM_FOLDER
from mgen.stats.calibration import (
    Calibration,
    expected_calibration_error,
    fit_calibration,
    read_calibration,
)
from mgen.stats.graded import quick_boosting
from mgen.stored import explain_damage, finite
from mgen.transforms.corruptions import CORRUPTIONS

WEIGHTS = "discriminator.safetensors"
FOLDS = 4  # no piece is judged by a model that was fitted on its work
FRESH_EVERY = 10  # rounds between comparisons with a classifier of another make
FITS = ("logistic", "moments")
Rows = NDArray[np.float32]
REAL, GENERATED, CORRUPTED = range(3)
KINDS = ("two_bar_loop", "one_pitch", "markov_pitches", "random_pitches", "bars_of_others")
"""Corruptions on the generated side. A policy does not play them yet, so without them their score would be anything:
a loop would score far above real music.
"""


@dataclass(frozen=True, slots=True)
class FeatureDiscriminatorOptions:
    """How a discriminator of features learns.

    Raises:
        ValueError: A number is out of its range; the message begins with its name.
    """

    capacity: int = 1024  # pieces of each side in memory; the oldest leave, which are those of an older policy
    regularisation: float = 100.0  # weight of the squared coefficients of standardised features
    clip: float = 10.0  # largest score, and minus the smallest, in nats
    capped: bool = True  # whether no score is above the median of real pieces, so that nothing is gained beyond them
    corrupted: float = 0.1  # share of corrupted real pieces on the generated side
    min_notes: int = MIN_NOTES  # fewest notes of a piece that it judges
    fit: str = "logistic"  # how the coefficients are found, one of `FITS`

    def __post_init__(self) -> None:
        for name, least in (("capacity", FOLDS), ("min_notes", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} ({getattr(self, name)}) must be at least {least}")
        if not 0 <= self.corrupted < 1:
            raise ValueError(f"corrupted ({self.corrupted}) must be at least 0 and below 1")
        for name in ("regularisation", "clip"):
            if not 0 < getattr(self, name) < np.inf:
                raise ValueError(f"{name} ({getattr(self, name)}) must be above 0")
        if self.fit not in FITS:
            raise ValueError(f"fit ({self.fit}) must be one of {', '.join(FITS)}")


def battery(notes: Notes) -> Rows:
    """(B, F) float32: the style features, the number of notes, and the features of the two-sample test."""
    return np.concatenate([shared_feature_table(notes), features(notes)], axis=1).astype(np.float32)


@dataclass(slots=True)
class Memory:
    """The pieces that the models are fitted on: R of both sides."""

    rows: Rows  # (R, F)
    side: Longs  # (R,) REAL, GENERATED or CORRUPTED
    fold: Longs  # (R,) 0..FOLDS - 1; the model of a fold was not fitted on its rows

    @classmethod
    def empty(cls) -> Memory:
        return cls(battery(Notes.concat([])), np.zeros(0, np.int64), np.zeros(0, np.int64))

    def add(self, other: Memory, capacity: int) -> Memory:
        """Both, with the newest `capacity` pieces of each side."""
        rows, side, fold = (
            np.concatenate([getattr(self, name), getattr(other, name)]) for name in ("rows", "side", "fold")
        )
        kept = np.sort(np.concatenate([np.flatnonzero(side == one)[-capacity:] for one in range(3)]))
        return Memory(rows[kept], side[kept], fold[kept])

    def select(self, kept: Mask) -> Memory:
        """The pieces where a mask (R,) is True."""
        return Memory(self.rows[kept], self.side[kept], self.fold[kept])

    @property
    def real(self) -> Mask:
        """(R,) whether each piece is real."""
        real: Mask = self.side == REAL
        return real

    @property
    def uncorrupted(self) -> Memory:
        """Without the corrupted pieces."""
        return self.select(self.side != CORRUPTED)

    @property
    def both(self) -> bool:
        """Whether every model has pieces of both sides to be fitted on."""
        return all((self.side[self.fold != k] == one).any() for k in range(FOLDS) for one in (REAL, GENERATED))


class FeatureDiscriminator:
    """log p_real / p_generated in nats, capped: a judge that is refitted while the policy is trained.

    Generated are the samples and, as a small part, corrupted real pieces.

    Four models share the standardisation of features; the model of a fold is fitted without the pieces of that fold. A
    real piece is in the fold of its work, a generated one in turns. A batch of completions is judged by the mean of the
    four before any is fitted on it; metrics and calibration use, for each piece, the model without its fold.

    A piece of fewer than `min_notes` notes is not `defined`, gets `-clip`, and no model is fitted on it. Before the
    first fit all scores are 0. Where a feature is constant in memory it has no effect.

    With `fit` moments the coefficients are the differences between the weighted means of the two sides, not those of a
    logistic regression: the witness function of a linear-kernel MMD on the features, whose reward moves the means of
    the samples to those of real music (moment matching). It is calibrated to nats alike; correlated features count as
    often as they are there.

    Known reward hacking: a weighted sum of features has no interactions, so a piece may compensate an unlikely feature
    by another one; the cap limits it, and the next refit sees such pieces.

    Attributes:
        origin: of a run's discriminator: a phrase that states which checkpoint it is from.
    """

    def __init__(self, options: FeatureDiscriminatorOptions | None = None, against: str = "current") -> None:
        self.options = options or FeatureDiscriminatorOptions()
        self.against, self.origin = against, ""
        self.worst, self.min_notes = -self.options.clip, self.options.min_notes
        self.calibration, self.cap = Calibration(0.0, 0.0), self.options.clip  # until the first fit all scores are 0
        self.memory, self.rounds = Memory.empty(), 0
        width = self.memory.rows.shape[1]
        self.mean, self.scale = np.zeros(width, np.float32), np.ones(width, np.float32)
        self.coefficients, self.intercept = np.zeros((FOLDS, width), np.float32), np.zeros(FOLDS, np.float32)

    def __call__(self, notes: Notes) -> Judgement:
        score, defined = self._scores(notes)
        return Judgement(score=score.astype(np.float32), credit=None, defined=defined)

    def prefix_scores(self, notes: Notes) -> Floats:
        """(B,) scores of beginnings of pieces; 0, the log ratio of equal priors, for one that is too short."""
        score, defined = self._scores(notes)
        return np.where(defined, score, 0.0)

    def update(self, real: Notes, generated: Notes, works: ArrayLike) -> dict[str, float]:
        """Does one round: judges the new batch, then fits the models to it and to the pieces in memory.

        Args:
            works: (R,) names of the works of the real pieces.

        Returns:
            `held_out_metrics` of the batch before the fit; `ece`, the expected calibration error of all pieces in
            memory, each under the model without its fold; `scale` and `bias` of the calibration. Every tenth round also
            `fresh_auc`: on this batch, the AUC of new boosted trees that were trained on the features of the two-sample
            test of the same pieces. Empty if a side has no piece that can be judged.
        """
        batch = self._batch(real, generated, works)
        if not 0 < batch.real.sum() < len(batch.real):
            return {}
        metrics = self._metrics(batch)
        if self.rounds and self.rounds % FRESH_EVERY == 0:
            metrics["fresh_auc"] = fresh_auc(self.memory.uncorrupted, batch)
        self.memory = self.memory.add(batch, self.options.capacity)
        if self.options.corrupted:
            self.memory = self.memory.add(self._corrupted(real, works), self.options.capacity)
        self.rounds += 1
        if self.memory.both:
            self._fit()
        known = self.memory.uncorrupted
        ece = expected_calibration_error(expit(self.calibration.log_odds(self._held_out(known))), known.real)
        return metrics | {"ece": ece, "scale": self.calibration.scale, "bias": self.calibration.bias}

    def calibrate(self, batches: Iterable[tuple[Notes, Notes, ArrayLike]]) -> dict[str, float]:
        """Rounds on the last batches of the reference: cross-fitted, they calibrate without being held out.

        Returns:
            Means of the metrics of `update` over the batches.
        """
        found = [metrics for batch in batches if (metrics := self.update(*batch))]
        return {name: float(np.mean([metrics[name] for metrics in found])) for name in (found[0] if found else ())}

    def watch(self, real: Notes, generated: Notes, works: ArrayLike) -> dict[str, float]:
        """`held_out_metrics` of two batches; changes nothing."""
        batch = self._batch(real, generated, works)
        return self._metrics(batch) if 0 < batch.real.sum() < len(batch.real) else {}

    def _scores(self, notes: Notes) -> tuple[Floats, Mask]:
        defined = notes.counts >= self.min_notes
        score = np.full(notes.n_pieces, self.worst)
        if defined.any():
            rows = self._standard(battery(notes)[defined])
            logits = rows @ self.coefficients.mean(axis=0) + self.intercept.mean()
            score[defined] = np.clip(self.calibration.log_odds(logits), self.worst, self.cap)
        return score, defined

    def _batch(self, real: Notes, generated: Notes, works: ArrayLike) -> Memory:
        """The pieces of both sides that can be judged, real ones first."""
        some = [np.flatnonzero(notes.counts >= self.min_notes) for notes in (real, generated)]
        rows = battery(Notes.concat([real.pieces(some[0]), generated.pieces(some[1])]))
        named = np.asarray(works, str)[some[0]].tolist()
        fold = np.concatenate([folds_of(named), np.arange(len(some[1])) % FOLDS])
        return Memory(rows, np.where(np.arange(len(rows)) < len(some[0]), REAL, GENERATED), fold)

    def _corrupted(self, real: Notes, works: ArrayLike) -> Memory:
        """An eighth of the real pieces, each corrupted in one of the ways; other ones every round."""
        rng = np.random.default_rng([self.rounds, len(real)])
        some = np.flatnonzero(real.counts >= self.min_notes)
        parts, named = [], []
        chosen = rng.permutation(some)[: -(-len(some) // 8)]
        for kind, rows in zip(KINDS, np.array_split(chosen, len(KINDS)), strict=True):
            if len(rows):
                parts.append(CORRUPTIONS[kind](real.pieces(rows), rng))
                named += np.asarray(works, str)[rows].tolist()
        return Memory(battery(Notes.concat(parts)), np.full(len(named), CORRUPTED), folds_of(named))

    def _standard(self, rows: Rows) -> Rows:
        standard: Rows = np.clip((rows - self.mean) / self.scale, -CLIP, CLIP)
        return standard

    def _held_out(self, pieces: Memory) -> Floats:
        """(R,) raw logit of each piece under the model without its fold."""
        logits = (self._standard(pieces.rows) * self.coefficients[pieces.fold]).sum(axis=1)
        out: Floats = (logits + self.intercept[pieces.fold]).astype(np.float64)
        return out

    def _metrics(self, batch: Memory) -> dict[str, float]:
        return held_out_metrics(self.calibration.log_odds(self._held_out(batch)), batch.real, self.options.clip)

    def _fit(self) -> None:
        memory = self.memory
        self.mean, self.scale = memory.rows.mean(axis=0), np.maximum(memory.rows.std(axis=0), np.float32(MIN_SCALE))
        rows, weight = self._standard(memory.rows), self._weights() * len(memory.real)
        with threadpool_limits(1):  # the tables are small: a second thread costs more than it gains
            for k in range(FOLDS):
                some = memory.fold != k
                if self.options.fit == "moments":
                    sides = [some & (memory.real == side) for side in (True, False)]
                    real, generated = (np.average(rows[side], axis=0, weights=weight[side]) for side in sides)
                    self.coefficients[k], self.intercept[k] = real - generated, 0.0
                    continue
                model = LogisticRegression(C=1 / self.options.regularisation, tol=1e-3, max_iter=200)
                model.fit(rows[some], memory.real[some], weight[some])
                self.coefficients[k], self.intercept[k] = model.coef_[0], model.intercept_[0]
        known = memory.uncorrupted
        logits = self._held_out(known)
        self.calibration = fit_calibration(logits, known.real)
        if self.options.capped:
            middle = float(np.median(self.calibration.log_odds(logits[known.real])))
            self.cap = min(max(middle, 0.0), self.options.clip)

    def _weights(self) -> Floats:
        """(R,) weights of the pieces in memory: half for real ones, and the rest in the stated shares."""
        count = np.bincount(self.memory.side, minlength=3)
        corrupted = self.options.corrupted if count[CORRUPTED] else 0.0
        total = 0.5 * np.array([1.0, 1.0 - corrupted, corrupted])
        out: Floats = (total / np.maximum(count, 1))[self.memory.side]
        return out

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next round depends on: tensors and plain values, which `torch.load` reads safely."""
        memory = self.memory
        return {
            "rows": torch.from_numpy(memory.rows),
            "side": torch.from_numpy(memory.side),
            "fold": torch.from_numpy(memory.fold),
            "rounds": self.rounds,
            "cap": self.cap,
            "calibration": (self.calibration.scale, self.calibration.bias),
            **self._tensors(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where `state_dict` was taken."""
        self.memory = Memory(*(state[name].numpy() for name in ("rows", "side", "fold")))
        self.rounds, self.calibration, self.cap = state["rounds"], Calibration(*state["calibration"]), state["cap"]
        self._load_tensors(state)

    def _tensors(self) -> dict[str, torch.Tensor]:
        names = ("mean", "scale", "coefficients", "intercept")
        return {name: torch.from_numpy(getattr(self, name).copy()) for name in names}

    def _load_tensors(self, tensors: dict[str, Any]) -> None:
        for name, own in self._tensors().items():
            if tensors[name].shape != own.shape:
                raise ValueError(f"{name} has shape {tuple(tensors[name].shape)}, this version {tuple(own.shape)}")
            setattr(self, name, tensors[name].numpy())

    def save_pretrained(self, folder: Path | str, **facts: Any) -> None:
        """Writes what judging needs; the pieces in memory belong to checkpoints and are not written."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        save_file(self._tensors(), folder / WEIGHTS)
        about = {
            "kind": "realism",
            "input": "features",
            "against": self.against,
            "score": "log p_real / p_generated of a completion, nats, at least -clip and at most cap",
            "calibration": asdict(self.calibration),
            "cap": self.cap,
            "options": asdict(self.options),
        }
        (folder / FILE).write_text(json.dumps({**about, **facts}, indent=1))

    @classmethod
    def from_pretrained(cls, folder: Path | str) -> FeatureDiscriminator:
        """Reads what `save_pretrained` wrote, to judge with.

        Raises:
            MgenError: The folder has no discriminator of features, or one that this version cannot read.
        """
        folder = Path(folder)
        facts = read_facts(folder, "features")
        with explain_damage(folder, REMEDY):
            tensors = load_file(folder / WEIGHTS)
            check_finite(folder / WEIGHTS, tensors)
            if facts["against"] not in AGAINST:
                raise ValueError(f"against is {facts['against']}, expected one of {', '.join(AGAINST)}")
            critic = cls(FeatureDiscriminatorOptions(**facts["options"]), facts["against"])
            critic.calibration, critic.cap = read_calibration(facts["calibration"]), finite(facts["cap"])
            critic._load_tensors(tensors)
        return critic

    @classmethod
    def from_run(cls, run: Path) -> FeatureDiscriminator:
        """The discriminator of a run of `mgen finetune`: of its end, or else of its last complete checkpoint.

        Raises:
            UnavailableJudge: The run has no checkpoint yet.
        """
        if (run / REALISM_FOLDER).is_dir():
            critic = cls.from_pretrained(run / REALISM_FOLDER)
            critic.origin = f"the discriminator is that of the run's end, against {critic.against} samples"
            return critic
        with last_state(run, "realism") as (step, state, config):
            critic = cls(FeatureDiscriminatorOptions(clip=config["realism_clip"]))
            critic.load_state_dict(state)
        critic.origin = f"the discriminator is that of step {step}"
        return critic


def folds_of(works: list[str]) -> Longs:
    """(R,) fold of each work's name."""
    return np.array([zlib.crc32(work.encode()) % FOLDS for work in works], np.int64)


def fresh_auc(memory: Memory, batch: Memory) -> float:
    """AUC on a batch of boosted trees trained on memory: of another make, on the features of the two-sample test."""
    first = shared_feature_table(Notes.concat([])).shape[1]
    with threadpool_limits(1):
        trees = quick_boosting(0).fit(memory.rows[:, first:], memory.real)
        return float(roc_auc_score(batch.real, trees.decision_function(batch.rows[:, first:])))
