"""What tells the style of a piece without its music: guessed by small trees from columns and counts, put in words.

Takes tables of numbers and words, a row a piece; knows nothing of notes, corpora or pages.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.tree import DecisionTreeClassifier

from mgen.arrays import Floats

FOLDS = 5
DEALS = 3
"""How often collections are dealt into parts: they are few and of all sizes."""

SURE = 3.0
"""Standard errors above a blind guess from which a guess counts as a leak; some thirty are looked at."""

LEAST = 0.02
"""Share of pieces above a blind guess below which a leak is not worth a line."""

COMMON = 30
"""Words of a column that are told apart."""

UNSAID = "not said"


@dataclass(frozen=True, slots=True)
class Clue:
    """Something that may tell the style.

    Attributes:
        title: as shown.
        kept: whether the tokens still hold it.
        advice: what becomes of it in cleaning, and what to do.
    """

    title: str
    kept: bool
    advice: str


_GONE = "Cleaning removes it: no token holds it."
_ON_GRID = "Compare on-grid with on-grid: mgen prepare --on-grid-only."
_ONE = "Only the recipe band writes instruments."

COLUMNS = {
    "format": Clue("File format", False, _GONE),
    "ticks_per_quarter": Clue("Ticks a quarter", False, f"{_GONE} Onsets on 24 steps may keep a comb."),
    "tempo": Clue("Tempo of the file", False, f"{_GONE} Notes a quarter may keep its trace."),
    "n_tempos": Clue("Number of tempos", False, _GONE),
    "n_tracks": Clue("Number of tracks", False, _GONE),
    "n_programs": Clue("Number of instruments", False, _ONE),
    "instrument": Clue("Instrument", False, _ONE),
    "pedal": Clue("Sustain pedal", False, f"{_GONE} Durations are as the keys were held."),
    "velocities": Clue("Number of velocities", True, "Their ranks stay: a file of one velocity still shows."),
    "time_signature": Clue("Time signature of the file", True, "Unless replaced, it stays as bar length (6/8 as 3/4)."),
    "metre": Clue("Metre that cleaning replaced", False, "It is replaced: no token holds it."),
    "on_grid": Clue("On the beat grid or not", True, f"It stays in the onsets. {_ON_GRID}"),
    "grid_strength": Clue("How strongly onsets keep to the grid", True, f"It stays in the onsets. {_ON_GRID}"),
    "grid_offset": Clue("Offset from the grid", False, "Cleaning removes it where notes are on a grid."),
    "voices": Clue("Notes at once", True, "It is music: choose collections of like texture in every style."),
    "track": Clue("Which track it was", False, _GONE),
    "chunk": Clue("Which part of its file it was", False, _GONE),
    "dropped_notes": Clue("Number of notes out of range", False, "They are dropped: no token writes them."),
}
"""What a row of pieces.parquet says of the file, in order."""

_EVENLY = "No token holds it. Draw collections evenly, or a large one stands for its style."
COUNTED = {"collection_size": Clue("Size of the collection", False, _EVENLY)}

BAND = {
    name: Clue(COLUMNS[name].title, True, "The recipe band writes instruments: judge the recipe piano.")
    for name in ("n_programs", "instrument")
}
"""What differs in the recipe that keeps instruments."""

TOGETHER = "together"
TIMED = ("phase", "duration")

MARGINALS = {
    "phase": Clue("Onset phase", True, "It is how the file was made before it is rhythm."),
    "duration": Clue("Durations", True, "Exact lengths are a habit of exporters: distrust a judge that needs them."),
    "velocity": Clue("Velocities", True, "Their ranks stay: set all to one and see what a judge still knows."),
    "density": Clue("Notes a quarter", True, "At a nominal tempo they are anything: hold rewards to a band."),
    "polyphony": Clue("Polyphony", True, "Choose collections of like texture in every style."),
    "range": Clue("Pitch range", True, "Transpose in training, and choose collections of like instruments."),
    "classes": Clue("Pitch classes", True, "Keys show, and so does harmony: transpose in training."),
    "bars": Clue("Lengths of bars", True, "Judge music of one metre, or leave bar lengths out."),
    "length": Clue("Length of the piece", True, "Judge excerpts of one length, never whole pieces."),
    TOGETHER: Clue(
        "All counts of notes together", True, "It takes no order of notes to reach this: ask a judge for more."
    ),
}
"""Simple counts of a piece's cleaned notes that a judge can read without hearing music."""


@dataclass(frozen=True, slots=True)
class Guess:
    """How well the style was guessed of pieces that the guesser had not seen.

    Attributes:
        accuracy: share guessed right, every style weighing the same, 0..1.
        error: its standard error, from groups that were held out as one.
        blind: what a guess without looking reaches: 1 / number of styles.
        pieces: how many were guessed.
    """

    accuracy: float
    error: float
    blind: float
    pieces: int

    @property
    def above(self) -> bool:
        """Whether it is surely better than blind."""
        return self.accuracy - self.blind > max(LEAST, SURE * self.error)


@dataclass(frozen=True, slots=True)
class Leak:
    """What one clue tells of the style.

    Attributes:
        works: guessed of works that were not seen.
        collections: of collections that were not seen; None where a style has fewer than two.
        on_grid: of works not seen, among pieces on the grid only; None for columns of the table and where a
            style has too few of them.
    """

    key: str
    clue: Clue
    works: Guess
    collections: Guess | None = None
    on_grid: Guess | None = None


def guess(features: ArrayLike, style: NDArray[Any], group: NDArray[Any], seed: int = 0, deals: int = 1) -> Guess | None:
    """How well the style is guessed from features, of groups that were not seen.

    A decision tree for one feature, a random forest for several; cross-validated in up to five parts that keep
    groups together; every style weighs the same in training and in the score.

    Args:
        features: (P,) or (P, F) numbers; NaN where undefined.
        style: (P,) names.
        group: (P,) pieces that must be held out together share it, such as those of a work.
        seed: of the parts and of the forest.
        deals: how often the groups are dealt into parts anew; the more, the less it matters which few large groups
            happen to be held out together.

    Returns:
        None where nothing can be guessed: one style only, or a style in fewer than two groups.
    """
    styles, of = np.unique(style, return_inverse=True)
    _, group = np.unique(group, return_inverse=True)
    folds = min(FOLDS, *(len(np.unique(group[of == k])) for k in range(len(styles)))) if len(styles) > 1 else 0
    if folds < 2:
        return None
    table = np.reshape(np.asarray(features, np.float64), (len(of), -1))
    right = np.zeros(len(of))
    for deal in range(deals):
        part = _dealt(of, group, folds, seed + deal)
        for test in (part == number for number in range(folds)):
            model = _guesser(table.shape[1], seed).fit(table[~test], of[~test])
            right[test] += (model.predict(table[test]) == of[test]) / deals
    recall, variance = zip(*(_recall(right[of == k], group[of == k]) for k in range(len(styles))), strict=True)
    error = math.sqrt(sum(variance)) / len(styles)
    return Guess(float(np.mean(recall)), error, 1 / len(styles), len(of))


def _dealt(of: NDArray[np.intp], group: NDArray[np.intp], folds: int, seed: int) -> NDArray[np.int64]:
    """(P,) part of each piece: the groups, shuffled and put in the order of their styles, are dealt out in turn.

    So each part has groups of every style, and none has all of one.
    """
    _, first = np.unique(group, return_index=True)
    shuffled = np.random.default_rng(seed).permutation(len(first))
    order = shuffled[np.argsort(of[first[shuffled]], kind="stable")]
    part = np.empty(len(first), np.int64)
    part[order] = np.arange(len(first)) % folds
    return part[group]


def _guesser(n_features: int, seed: int) -> DecisionTreeClassifier | RandomForestClassifier:
    rules: dict[str, Any] = {"min_samples_leaf": 4, "class_weight": "balanced", "random_state": seed}
    if n_features == 1:
        return DecisionTreeClassifier(max_leaf_nodes=32, **rules)
    return RandomForestClassifier(n_estimators=20, max_leaf_nodes=128, n_jobs=1, **rules)


def _recall(right: Floats, group: NDArray[np.integer]) -> tuple[float, float]:
    """Share guessed right, and its variance with groups as the units."""
    share = float(right.mean())
    _, owner = np.unique(group, return_inverse=True)
    off = np.bincount(owner, weights=right - share)
    return share, float((off**2).sum() / len(right) ** 2 * len(off) / max(len(off) - 1, 1))


def column_leaks(pieces: pd.DataFrame, recipe: str = "piano", seed: int = 0) -> list[Leak]:
    """What each column of `COLUMNS` that is there tells of the style, worst first; a column of one value is left out.

    Args:
        pieces: P rows with style, collection and group.
        recipe: `band` keeps instruments.
        seed: of the parts.
    """
    table = pieces.assign(collection_size=pieces.groupby("collection")["collection"].transform("size"))
    clues = COLUMNS | COUNTED | (BAND if recipe == "band" else {})
    codes = {name: _codes(table[name]) for name in clues if name in table}
    return _leaks({name: code for name, code in codes.items() if len(np.unique(code)) > 1}, clues, pieces, seed)


def count_leaks(counts: Mapping[str, Floats], pieces: pd.DataFrame, seed: int = 0) -> list[Leak]:
    """What counts of notes tell of the style, each alone and all together, worst first.

    Args:
        counts: (P, F) numbers under names of `MARGINALS`; NaN where undefined.
        pieces: P rows with style, collection, group and on_grid.
        seed: of the parts and of the forests.
    """
    grid = pieces["on_grid"].to_numpy(bool)
    tables = {**counts, TOGETHER: np.column_stack(list(counts.values()))}
    leaks = _leaks(tables, MARGINALS, pieces, seed)
    if set(pieces["style"]) != set(pieces["style"][grid]):
        return leaks
    return [replace(leak, on_grid=_guessed(tables[leak.key][grid], pieces[grid], "group", seed)) for leak in leaks]


def _leaks(tables: Mapping[str, Floats], clues: Mapping[str, Clue], pieces: pd.DataFrame, seed: int) -> list[Leak]:
    """What can be guessed of works and of collections, worst first."""
    leaks = []
    for name, table in tables.items():
        works = _guessed(table, pieces, "group", seed)
        if works is not None:
            leaks.append(Leak(name, clues[name], works, _guessed(table, pieces, "collection", seed, DEALS)))
    return sorted(leaks, key=lambda leak: -leak.works.accuracy)


def _guessed(table: Floats, pieces: pd.DataFrame, by: str, seed: int, deals: int = 1) -> Guess | None:
    return guess(table, pieces["style"].to_numpy(str), pieces[by].to_numpy(str), seed, deals)


def in_words(leak: Leak) -> str:
    """What a leak tells, what that means, and what to do."""
    works, collections, on_grid = leak.works, leak.collections, leak.on_grid
    unseen = f", {100 * collections.accuracy:.0f} of collections not seen before" if collections else ""
    told = f"{leak.clue.title} alone: {100 * works.accuracy:.0f} in 100 pieces of works not seen before{unseen}"
    said = [f"{told} (blind: {100 * works.blind:.0f})"]
    if collections and works.above:
        said.append(_across(works, collections))
    said.append(leak.clue.advice)
    if on_grid and works.above:
        if on_grid.accuracy + on_grid.error < works.accuracy - works.error:
            said.append(f"On the grid it falls to {100 * on_grid.accuracy:.0f}: mgen prepare --on-grid-only")
        elif leak.key in TIMED:
            said.append(
                f"On the grid it is still {100 * on_grid.accuracy:.0f}, so --on-grid-only does not mend it: "
                "choose collections made the same way in every style"
            )
    return " ".join(f"{sentence.rstrip('.')}." for sentence in said)


def _across(works: Guess, collections: Guess) -> str:
    """What it means that collections not seen before are guessed worse, or no worse, than works."""
    if collections.above:
        if collections.accuracy - collections.blind < (works.accuracy - works.blind) / 2:
            return "It knows the collections better than the style"
        return "It holds across collections: music, or a habit of all files of a style"
    if collections.accuracy + 2 * collections.error < works.accuracy:
        return "It knows the collections, not the style"
    return "There are too few collections to say whether it is more than their habit"


def _codes(column: pd.Series[Any]) -> Floats:
    """(P,) numbers as they are, words by how common they are; rare words share a number."""
    if pd.api.types.is_numeric_dtype(column):
        return numbers(column)
    said = words(column)
    return np.minimum(said.value_counts().index.get_indexer(pd.Index(said)), COMMON).astype(np.float64)


def numbers(column: pd.Series[Any]) -> Floats:
    """(P,) the column as numbers; NaN where it says none."""
    return pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan)


def words(column: pd.Series[Any]) -> pd.Series[str]:
    """Values as they are shown; an empty or missing one is `UNSAID`."""
    said = column.map(lambda value: f"{value:g}" if isinstance(value, float) else str(value), na_action="ignore")
    return said.astype(object).where(column.notna() & (said != ""), UNSAID).astype(str)
