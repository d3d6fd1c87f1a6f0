"""A search for the piece that a number likes best: changes, crossings, and the survival of the better.

Knows neither judges nor music beyond the edits of `mgen.transforms.edits`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from mgen.errors import MgenError
from mgen.notes import Notes
from mgen.transforms.edits import EDIT_OPERATORS, NoteArray, SizeLimits, crossover, notes_from_arrays

Fitness = Callable[[Notes], NDArray[np.float64]]
"""(B,) numbers, never NaN; more is better."""

SURVIVORS, CHILDREN = 32, 64
CROSSED = 0.25
"""Share of the children that have two parents."""


@dataclass(frozen=True)
class Budget:
    """When a search ends, whichever comes first.

    Attributes:
        generations: of `CHILDREN` pieces each.
        seconds: a search that ends by time depends on the machine; otherwise a seed gives the same result everywhere.
        patience: generations without a better piece.
        enough: fitness beyond which nothing is gained.
    """

    generations: int
    seconds: float
    patience: int = 1 << 30
    enough: float = np.inf


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        drafts: the survivors, best first.
        fitness: theirs.
        judged: pieces that were judged.
        generations: that were bred.
        timed_out: ended by time.
    """

    drafts: list[NoteArray]
    fitness: NDArray[np.float64]
    judged: int
    generations: int
    timed_out: bool


def evolve(
    fitness: Fitness,
    starts: Sequence[NoteArray],
    limits: SizeLimits,
    budget: Budget,
    seed: int,
    tell: Callable[[str], None] = lambda line: None,
) -> Found:
    """Breed drafts: parents by tournament of two, one to three random edits each, the best of old and new go on.

    Of equals the newer goes on, so that a search can cross a plateau.

    Args:
        fitness: of many pieces at once.
        starts: drafts to begin with; those that are too short are left out.
        limits: of every draft.
        budget: when to end.
        seed: of all chance.
        tell: is told how it goes, now and then.

    Raises:
        MgenError: There is nothing to start from.
    """
    rng = np.random.default_rng(seed)
    began = time.monotonic()
    drafts = [draft for draft in map(limits.keep, starts) if limits.long_enough(draft)]
    if not drafts:
        raise MgenError(
            f"search: none of {len(starts)} drafts has the {limits.notes[0]} notes and {limits.bars[0]} bars "
            "of a short piece; start from longer ones"
        )
    judged, stale, generation, timed_out = len(drafts), 0, 0, False
    drafts, values = _fittest(drafts, fitness(notes_from_arrays(drafts)))
    while generation < budget.generations and stale < budget.patience and values[0] < budget.enough:
        if time.monotonic() - began > budget.seconds:
            timed_out = True
            break
        children = [_child(drafts, limits, rng) for _ in range(CHILDREN)]
        children = [child for child in children if limits.long_enough(child)]
        best = values[0]
        drafts, values = _fittest(children + drafts, np.concatenate([fitness(notes_from_arrays(children)), values]))
        judged, generation = judged + len(children), generation + 1
        stale = 0 if values[0] > best else stale + 1
        if generation % 10 == 0:
            tell(f"generation {generation}, {values[0]:.3f}")
    return Found(drafts, values, judged, generation, timed_out)


def _fittest(drafts: list[NoteArray], values: NDArray[np.float64]) -> tuple[list[NoteArray], NDArray[np.float64]]:
    """The best `SURVIVORS`, best first, no two of them equal; of equal fitness the first."""
    seen: set[bytes] = set()
    kept: list[int] = []
    for row in np.argsort(-values, kind="stable").tolist():
        key = drafts[row].tobytes()
        if key not in seen:
            seen.add(key)
            kept.append(row)
        if len(kept) == SURVIVORS:
            break
    return [drafts[row] for row in kept], values[kept]


def _child(parents: list[NoteArray], limits: SizeLimits, rng: Generator) -> NoteArray:
    """Of the better of two parents (they are in order), crossed with another or not, and edited."""
    operators = tuple(EDIT_OPERATORS.values())
    draft = parents[int(rng.integers(len(parents), size=2).min())]
    if rng.random() < CROSSED:
        draft = limits.keep(crossover(draft, parents[int(rng.integers(len(parents)))], rng))
    for _ in range(int(rng.integers(1, 4))):
        if len(draft):
            draft = limits.keep(operators[int(rng.integers(len(operators)))](draft, rng))
    return draft
