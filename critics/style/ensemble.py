"""An ensemble of small networks on traits, each with one question and one view: what the style critic judges by.

Some members say whether music is of the style rather than other music, and some whether it is whole rather than broken.
They disagree most where they know least, so what counts is their mean less a part of their spread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from critics.style.features import VIEWS, columns, traits
from mgen.arrays import Floats
from mgen.notes import Notes

Question = Literal["style", "whole"]

HIDDEN = 64
DROPOUT = (0.15, 0.3)
"""Of the traits, and of the hidden units."""

FARTHEST = 6.0
"""Deviations from the mean of what was trained on at which a trait is cut: no single one may shout."""

MIXED = 0.4
"""Of mixup (Zhang et al. 2018, arXiv:1710.09412): rows are trained on as mixtures of two, mostly of one of them.
Between collections nobody has told the network what to think; a straight line is the modest guess.
"""

SPREAD = 0.5
"""Spreads that are taken off the members' mean. In transfer a whole one lowered the mean AUC by .001 to .004."""

NARROWEST = 1e-3
"""Least deviation of a trait, as one that hardly varied would be magnified without end."""


@dataclass(frozen=True, slots=True)
class Member:
    """One network of an ensemble.

    Attributes:
        question: `style` (the style or other music) or `whole` (real music or broken).
        view: a name of `VIEWS`.
        negatives: ways of breaking music (`critics.style.training_set.WAYS`) that are a no.
        share: their weight, all together, beside that of real music.
        steps: optimizer steps.
        mixed: how far rows are mixed; see `MIXED`. 0 trains on rows as they are.
        seed: members that differ in nothing else differ in this.
    """

    question: Question
    view: str
    negatives: tuple[str, ...]
    share: float = 0.1
    steps: int = 300
    mixed: float = MIXED
    seed: int = 0


_BREAKING = (
    "bars_shuffled",
    "bars_of_others",
    "markov_pitches",
    "random_pitches",
    "two_bar_loop",
    "one_pitch",
    "rhythm_of_others",
    "chords_of_others",
    "pitches_permuted",
)

# Shuffled segments and permuted gaps are left out: where breaking can hardly be heard, whole music is doubted as much.

MEMBERS: tuple[Member, ...] = (
    Member("style", "all", ("random_pitches",)),
    Member("style", "all", ("random_pitches",), seed=1),
    Member("style", "pitch", ("random_pitches", "in_major")),
    Member("style", "rhythm", ("straight_eighths", "gaps_permuted"), share=0.2),
    Member("whole", "everything", _BREAKING, share=1.0),
    Member("whole", "joints", _BREAKING, share=1.0),
)
"""Views of style are told apart from broken music a little too, or chromatic noise reads as jazz."""


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """R rows of traits to learn from: real excerpts, their copies in other formats, and broken copies.

    Attributes:
        table: (R, F) what `feature_table` makes of each.
        positive: (R,) whether the real excerpt that it was made of is of the style.
        way: (R,) how it was broken; empty for real music.
        weight: (R,) what it counts among the real rows, or among those broken in its way.
    """

    table: Floats
    positive: NDArray[np.bool_]
    way: NDArray[np.str_]
    weight: Floats


def feature_table(notes: Notes) -> Floats:
    """(B, F) traits, and log2 of the number of pitched notes: longer pieces return to more."""
    return np.concatenate([traits(notes), np.log2(np.maximum(notes.pitched().counts, 1))[:, None] / 8], axis=1)


def view_columns(view: str) -> NDArray[np.int64]:
    """(K,) columns of `feature_table` in a view; the number of notes is in all."""
    own = columns()
    width = max(part.stop for part in own.values())
    return np.concatenate([*(np.arange(own[group].start, own[group].stop) for group in VIEWS[view]), [width]])


class TraitNetwork(nn.Module):
    """Standardised traits through one hidden layer to a logit.

    Args:
        columns: (K,) columns of `feature_table` that it hears.
        mean, scale: (K,) of these columns in what it is trained on.
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
        """(B, K) what enters the first layer."""
        own = torch.from_numpy(table).float()[:, self.columns]
        return ((own - self.mean) / self.scale).clamp(-FARTHEST, FARTHEST)

    def forward(self, standard: Tensor) -> Tensor:
        """(B,) logits."""
        logits: Tensor = self.body(standard)[:, 0]
        return logits


def fit_member(material: Material, member: Member, seed: int = 0, batch: int = 512) -> TraitNetwork:
    """A network that answers a member's question.

    For `style` the yes is real music of the style, and the no real other music and, of less weight, broken music; for
    `whole` the yes is real music of both sides.

    Raises:
        ValueError: There is nothing that is a yes, or nothing that is a no.
    """
    own = view_columns(member.view)
    real = material.way == ""
    weight = np.where(real, material.weight, 0.0)
    weight /= max(weight.sum(), 1e-12)
    present = [way for way in member.negatives if (material.way == way).any()]
    for way in present:
        broken = material.way == way
        weight += np.where(broken, material.weight, 0.0) * member.share / len(present) / material.weight[broken].sum()
    rows = np.flatnonzero(weight > 0)
    yes = real & material.positive if member.question == "style" else real
    if not 0 < yes[rows].sum() < len(rows):
        raise ValueError(f"{member.question}: expected both a yes and a no to learn from, came {len(rows)} rows of one")
    table = material.table[rows]
    network = _blank(table[:, own], own, [seed, member.seed])
    inputs = network.standard(table)
    target = torch.from_numpy(yes[rows]).float()
    chance = weight[rows] / weight[rows].sum()
    rng = np.random.default_rng([seed, member.seed, 1])
    # One thread: the matrices are small, and beside other work a second thread waits for the first.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=3e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=member.steps)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_whole_number(seed, member.seed, 2))  # of dropout
            for _ in range(member.steps):
                one, other = torch.from_numpy(rng.choice(len(rows), (2, batch), p=chance))
                share = torch.from_numpy(_shares(rng, member.mixed, batch)).float()
                mixed = torch.lerp(inputs[other], inputs[one], share[:, None])
                wanted = torch.lerp(target[other], target[one], share)
                loss = binary_cross_entropy_with_logits(network(mixed), wanted)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
    finally:
        torch.set_num_threads(threads)
    return network.eval()


def _shares(rng: np.random.Generator, mixed: float, batch: int) -> Floats:
    """(batch,) of the first row of each mixture."""
    return rng.beta(mixed, mixed, batch) if mixed else np.ones(batch)


def _blank(table: Floats, own: NDArray[np.int64], seed: Sequence[int]) -> TraitNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_whole_number(*seed))
        return TraitNetwork(own, table.mean(axis=0), np.maximum(table.std(axis=0), NARROWEST)).train()


def _whole_number(*seed: int) -> int:
    return int(np.random.SeedSequence(seed).generate_state(1)[0])


class Ensemble:
    """Networks and what each was asked.

    Args:
        members: what each network is.
        networks: as many.
    """

    def __init__(self, members: Sequence[Member], networks: Sequence[TraitNetwork]) -> None:
        self.members, self.networks = tuple(members), tuple(network.eval() for network in networks)

    @classmethod
    def fit(cls, material: Material, members: Sequence[Member] = MEMBERS, seed: int = 0) -> Ensemble:
        """Train every member."""
        return cls(members, [fit_member(material, member, seed) for member in members])

    @torch.no_grad()
    def logits(self, table: Floats, question: Question, spread: float = SPREAD) -> Floats:
        """(B,) mean less `spread` deviations of the members' logits for a question, in raw units.

        Args:
            table: (B, F) of `feature_table`.
            spread: infinite takes the least of the logits.

        Raises:
            ValueError: No member answers it.
        """
        said = [
            network.forward(network.standard(table)).numpy()
            for member, network in zip(self.members, self.networks, strict=True)
            if member.question == question
        ]
        if not said:
            raise ValueError(f"no member is asked '{question}'")
        each = np.stack(said).astype(np.float64)
        out: Floats = each.min(axis=0) if np.isinf(spread) else each.mean(axis=0) - spread * each.std(axis=0)
        return out

    def tensors(self) -> dict[str, Tensor]:
        """All that `from_tensors` needs beside the members' descriptions."""
        return {
            f"{number}.{name}": value.contiguous()
            for number, network in enumerate(self.networks)
            for name, value in network.state_dict().items()
        }

    def described(self) -> list[dict[str, Any]]:
        """The members as plain values."""
        return [asdict(member) for member in self.members]

    @classmethod
    def from_tensors(cls, described: Sequence[Mapping[str, Any]], tensors: Mapping[str, Tensor]) -> Ensemble:
        """What `described` and `tensors` gave.

        Raises:
            KeyError, RuntimeError: A tensor is missing or has another shape.
        """
        members = [Member(**{**one, "negatives": tuple(one["negatives"])}) for one in described]
        networks = []
        for number in range(len(members)):
            own = {
                name.removeprefix(f"{number}."): value
                for name, value in tensors.items()
                if name.startswith(f"{number}.")
            }
            hidden = own["body.1.bias"].shape[0]
            network = TraitNetwork(own["columns"].numpy(), own["mean"].numpy(), own["scale"].numpy(), hidden)
            network.load_state_dict(own)
            networks.append(network)
        return cls(members, networks)
