"""An ensemble of small networks on style features, each with one question and one view of the features.

Some members tell the style from other music, some tell intact music from corrupted music. They disagree most far from
their training set, so the answer is their mean minus a part of their spread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from critics.style.features import VIEWS, feature_columns, style_features
from mgen.arrays import Floats
from mgen.notes import Notes
from mgen.stats.sequence_classifier import one_thread

Question = Literal["style", "intact"]
QUESTIONS: tuple[Question, ...] = ("style", "intact")

HIDDEN = 64
DROPOUT = (0.15, 0.3)  # dropout rates of the features and of the hidden units
CLIP = 6.0  # standard deviations from the training mean to which a feature is clipped, so that none dominates

MIXUP = 0.4
"""Parameter of the beta distribution of mixup (Zhang et al. 2018, arXiv:1710.09412): between collections, where there
are no examples, the network then learns to interpolate.
"""

SPREAD = 0.5
"""Standard deviations of the members that are subtracted from their mean. One full deviation lowered
the mean leave-one-collection-out AUC by .001 to .004.
"""

MIN_SCALE = 1e-3  # least scale that a feature is divided by: one that hardly varies would be magnified without limit


@dataclass(frozen=True, slots=True)
class Member:
    """One network of an ensemble."""

    question: Question  # `style` (the style or other music) or `intact` (real or corrupted music)
    view: str  # a name of `VIEWS`
    negatives: tuple[str, ...]  # names of `HARD_NEGATIVES` that count as a no
    share: float = 0.1  # their total weight, relative to that of real music
    steps: int = 300  # optimizer steps
    mixup: float = MIXUP  # see `MIXUP`; 0 trains on rows as they are
    seed: int = 0  # distinguishes members that are otherwise equal


_CORRUPTIONS = (
    "bars_shuffled",
    "bars_of_others",
    "markov_pitches",
    "random_pitches",
    "two_bar_loop",
    "one_pitch",
    "rhythm_of_others",
    "chords_of_others",
    "pitches_permuted",
    "semitone_errors",
    "late_hand",
    "hand_of_others",
    "superposed",
    "jittered",
    "random_gaps",
    "collage",
    "pedal_walk",
    "approach_notes",
    "bars_looped",
)

# Without segments_shuffled and gaps_permuted: corruptions this subtle make intact music doubtful as well.

MEMBERS: tuple[Member, ...] = (
    Member("style", "bar_free", ("random_pitches",)),
    Member("style", "bar_free", ("random_pitches",), seed=1),
    Member("style", "pitch", ("random_pitches", "in_major")),
    Member("style", "rhythm", ("straight_eighths", "gaps_permuted"), share=0.2),
    Member("intact", "all", _CORRUPTIONS, share=1.0, steps=900),
    Member("intact", "transitions", _CORRUPTIONS, share=1.0, steps=900),
)
"""Style members learn from a few hard negatives too; otherwise chromatic noise scores as jazz."""


@dataclass(frozen=True, slots=True, eq=False)
class TrainingSet:
    """R rows of style features to learn from: real excerpts, augmented copies and hard negatives."""

    table: Floats  # (R, F) of `feature_table`
    positive: NDArray[np.bool_]  # (R,) whether the real excerpt that the row was made from is of the style
    corruption: NDArray[np.str_]  # (R,) name in `HARD_NEGATIVES`; empty for real music
    weight: Floats  # (R,) weight among the real rows, or among the rows of the same corruption


def feature_table(notes: Notes) -> Floats:
    """(B, F) style features, and log2 of the number of pitched notes: longer pieces repeat more."""
    return np.concatenate([style_features(notes), np.log2(np.maximum(notes.pitched().counts, 1))[:, None] / 8], axis=1)


@lru_cache(maxsize=2)
def shared_feature_table(notes: Notes) -> Floats:
    """`feature_table`, kept in memory for the last two batches, so that several judges share the work.

    `Notes` are compared by identity and taken as unchanging.
    """
    return feature_table(notes)


def notes_of(table: Floats) -> Floats:
    """(B,) number of pitched notes of the pieces of a `feature_table`."""
    return np.rint(2.0 ** (8 * table[:, -1]))


def view_columns(view: str) -> NDArray[np.int64]:
    """(K,) columns of `feature_table` in a view; the number of notes is in every view."""
    own = feature_columns()
    width = max(part.stop for part in own.values())
    return np.concatenate([*(np.arange(own[group].start, own[group].stop) for group in VIEWS[view]), [width]])


class FeatureNetwork(nn.Module):
    """Standardises features and maps them through one hidden layer to a logit.

    Args:
        columns: (K,) columns of `feature_table` that it reads.
        mean, scale: (K,) of these columns in the training set.
    """

    columns: Tensor
    mean: Tensor
    scale: Tensor

    def __init__(self, columns: NDArray[np.integer[Any]], mean: Floats, scale: Floats, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.register_buffer("columns", torch.from_numpy(columns.astype(np.int64)))
        self.register_buffer("mean", torch.from_numpy(mean.astype(np.float32)))
        self.register_buffer("scale", torch.from_numpy(scale.astype(np.float32)))
        self.body = nn.Sequential(
            nn.Dropout(DROPOUT[0]),
            nn.Linear(len(columns), hidden),
            nn.GELU(),
            nn.Dropout(DROPOUT[1]),
            nn.Linear(hidden, 1),
        )

    def standard(self, table: Floats) -> Tensor:
        """(B, K) standardised and clipped features."""
        own = torch.from_numpy(table).float()[:, self.columns]
        return ((own - self.mean) / self.scale).clamp(-CLIP, CLIP)

    def forward(self, standard: Tensor) -> Tensor:
        """(B,) logits."""
        logits: Tensor = self.body(standard)[:, 0]
        return logits


def fit_member(training_set: TrainingSet, member: Member, seed: int = 0, batch: int = 512) -> FeatureNetwork:
    """Trains the network of a member.

    For `style` a yes is real music of the style, a no real other music and, with less weight, hard negatives; for
    `intact` a yes is all real music.

    Raises:
        ValueError: There is no example of a yes, or none of a no.
    """
    columns = view_columns(member.view)
    real = training_set.corruption == ""
    weight = np.where(real, training_set.weight, 0.0)
    weight /= max(weight.sum(), 1e-12)
    groups = [group for name in member.negatives if (group := training_set.corruption == name).any()]
    for group in groups:
        own = training_set.weight[group]
        weight[group] += own * member.share / len(groups) / own.sum()
    rows = np.flatnonzero(weight > 0)
    yes = real & training_set.positive if member.question == "style" else real
    if not 0 < yes[rows].sum() < len(rows):
        raise ValueError(f"{member.question}: expected examples of both classes, found {len(rows)} rows of one")
    table = training_set.table[rows]
    own = table[:, columns]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_torch_seed(seed, member.seed))
        network = FeatureNetwork(columns, own.mean(axis=0), np.maximum(own.std(axis=0), MIN_SCALE)).train()
    inputs = network.standard(table)
    target = torch.from_numpy(yes[rows]).float()
    chance = weight[rows] / weight[rows].sum()
    rng = np.random.default_rng([seed, member.seed, 1])
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=3e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=member.steps)
    with torch.random.fork_rng(devices=[]), one_thread():
        torch.manual_seed(_torch_seed(seed, member.seed, 2))  # for dropout
        for _ in range(member.steps):
            one, other = torch.from_numpy(rng.choice(len(rows), (2, batch), p=chance))
            part = rng.beta(member.mixup, member.mixup, batch) if member.mixup else np.ones(batch)
            share = torch.from_numpy(part).float()  # of the first of two rows in each mixture
            rows_mixed = torch.lerp(inputs[other], inputs[one], share[:, None])
            target_mixed = torch.lerp(target[other], target[one], share)
            loss = binary_cross_entropy_with_logits(network(rows_mixed), target_mixed)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return network.eval()


def _torch_seed(*seed: int) -> int:
    return int(np.random.SeedSequence(seed).generate_state(1)[0])


class Ensemble:
    """The networks of all members."""

    def __init__(self, members: Sequence[Member], networks: Sequence[FeatureNetwork]) -> None:
        self.members, self.networks = tuple(members), tuple(network.eval() for network in networks)

    @classmethod
    def fit(cls, training_set: TrainingSet, members: Sequence[Member] = MEMBERS, seed: int = 0) -> Ensemble:
        """Trains every member."""
        return cls(members, [fit_member(training_set, member, seed) for member in members])

    @torch.no_grad()
    def logits(self, table: Floats, question: Question, spread: float = SPREAD) -> Floats:
        """(B,) mean minus `spread` standard deviations of the members' raw logits for a question.

        Args:
            table: (B, F) of `feature_table`.
            spread: infinite takes the least logit.

        Raises:
            ValueError: No member has this question.
        """
        logits = [
            network.forward(network.standard(table)).numpy()
            for member, network in zip(self.members, self.networks, strict=True)
            if member.question == question
        ]
        if not logits:
            raise ValueError(f"no member has the question '{question}'")
        each = np.stack(logits).astype(np.float64)
        out: Floats = each.min(axis=0) if np.isinf(spread) else each.mean(axis=0) - spread * each.std(axis=0)
        return out

    def tensors(self) -> dict[str, Tensor]:
        """The weights, for `from_tensors`."""
        return dict(nn.ModuleList(self.networks).state_dict())

    @classmethod
    def from_tensors(cls, members_json: Sequence[Mapping[str, Any]], tensors: Mapping[str, Tensor]) -> Ensemble:
        """Restores an ensemble from its members as plain values and `tensors`.

        Raises:
            KeyError, RuntimeError, ValueError: A tensor is missing or has another shape.
        """
        members = [Member(**{**one, "negatives": tuple(one["negatives"])}) for one in members_json]
        networks = []
        for number in range(len(members)):
            first = f"{number}."
            own = {name.removeprefix(first): value for name, value in tensors.items() if name.startswith(first)}
            hidden, width = len(own["body.1.bias"]), len(own["columns"])
            if own["body.1.weight"].shape != (hidden, width):  # before memory is taken for a network of that size
                raise ValueError(f"member {number}: its tensors must match in their sizes")
            network = FeatureNetwork(own["columns"].numpy(), own["mean"].numpy(), own["scale"].numpy(), hidden)
            network.load_state_dict(own)
            networks.append(network)
        return cls(members, networks)
