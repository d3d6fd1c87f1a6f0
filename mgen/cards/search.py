"""Evolutionary search for the piece with the highest fitness: edit operators, crossover, and selection.

Knows neither judges nor music beyond the edit operators of `mgen.transforms.edits`.
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
from mgen.progress import Progress, count, silent
from mgen.transforms.edits import EDIT_OPERATORS, NoteArray, SizeLimits, crossover, notes_from_arrays

Fitness = Callable[[Notes], NDArray[np.float64]]  # (B,) numbers, never NaN; higher is better
SURVIVORS, CHILDREN = 32, 64
CROSSOVER_SHARE = 0.25
"""Share of the children with two parents."""

_OPERATORS = tuple(EDIT_OPERATORS.values())


@dataclass(frozen=True)
class SearchBudget:
    """Limits of a search; it ends at the first that is reached.

    Attributes:
        generations: of `CHILDREN` pieces each.
        seconds: the result of a search that ends by time depends on the machine; otherwise on the seed alone.
        patience: generations without improvement.
        enough: fitness at which the search ends.
    """

    generations: int
    seconds: float
    patience: int = 1 << 30
    enough: float = np.inf


@dataclass(frozen=True)
class SearchResult:
    """Result of a search.

    Attributes:
        pieces: the survivors, best first.
        fitness: of each.
        evaluated: pieces whose fitness was computed.
        generations: completed.
        timed_out: whether the search ended by time.
    """

    pieces: list[NoteArray]
    fitness: NDArray[np.float64]
    evaluated: int
    generations: int
    timed_out: bool


def evolve(
    fitness: Fitness,
    initial: Sequence[NoteArray],
    limits: SizeLimits,
    budget: SearchBudget,
    seed: int,
    progress: Progress = silent,
) -> SearchResult:
    """Searches by tournament selection of two, one to three random edits per child, and survival of the fittest.

    Among equals the newer piece survives, so that a search can cross a plateau.

    Args:
        fitness: of a batch of pieces.
        initial: first generation; pieces below the least size are left out.
        limits: sizes of every piece.
        budget: when to end.
        seed: of all randomness.
        progress: takes the count of the generations.

    Raises:
        MgenError: No initial piece has the least size.
    """
    rng = np.random.default_rng(seed)
    began = time.monotonic()
    pieces = [piece for piece in map(limits.keep, initial) if limits.long_enough(piece)]
    if not pieces:
        raise MgenError(
            f"search: none of {len(initial)} initial pieces has the least size, {limits.notes[0]} notes and "
            f"{limits.bars[0]} bars; start from longer ones"
        )
    evaluated, stale, generation, timed_out = len(pieces), 0, 0, False
    pieces, values = _fittest(pieces, fitness(notes_from_arrays(pieces)))
    while generation < budget.generations and stale < budget.patience and values[0] < budget.enough:
        if time.monotonic() - began > budget.seconds:
            timed_out = True
            break
        children = [_child(pieces, limits, rng) for _ in range(CHILDREN)]
        children = [child for child in children if limits.long_enough(child)]
        best = values[0]
        pieces, values = _fittest(children + pieces, np.concatenate([fitness(notes_from_arrays(children)), values]))
        evaluated, generation = evaluated + len(children), generation + 1
        stale = 0 if values[0] > best else stale + 1
        count(progress, "generations", generation, budget.generations, f"best {values[0]:.3f}")
    count(progress, "generations", budget.generations, budget.generations)
    return SearchResult(pieces, values, evaluated, generation, timed_out)


def _fittest(pieces: list[NoteArray], values: NDArray[np.float64]) -> tuple[list[NoteArray], NDArray[np.float64]]:
    """Selects the best `SURVIVORS` distinct pieces, best first; ties keep their order."""
    seen: set[bytes] = set()
    kept: list[int] = []
    for row in np.argsort(-values, kind="stable").tolist():
        key = pieces[row].tobytes()
        if key not in seen:
            seen.add(key)
            kept.append(row)
        if len(kept) == SURVIVORS:
            break
    return [pieces[row] for row in kept], values[kept]


def _child(parents: list[NoteArray], limits: SizeLimits, rng: Generator) -> NoteArray:
    """Edits the better of two parents (they are sorted), perhaps after crossover with a third."""
    piece = parents[int(rng.integers(len(parents), size=2).min())]
    if rng.random() < CROSSOVER_SHARE:
        piece = limits.keep(crossover(piece, parents[int(rng.integers(len(parents)))], rng))
    for _ in range(int(rng.integers(1, 4))):
        if len(piece):
            piece = limits.keep(_OPERATORS[int(rng.integers(len(_OPERATORS)))](piece, rng))
    return piece
