"""Shortcuts: properties of a piece that reveal its style without its music, and that a critic could learn instead.

Small trees classify the style from one column or one count at a time, and the results are put in words. Takes tables of
numbers and strings, one row per piece; knows nothing of notes, corpora or pages.
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
from mgen.progress import Progress, counted, silent

FOLDS = 5
COLLECTION_REPEATS = 3
"""Repetitions of cross-validation over collections, because they are few and differ in size."""

MIN_STANDARD_ERRORS = 3.0
"""Standard errors above chance from which an accuracy counts as a shortcut; about 30 properties are tested."""

MIN_MARGIN = 0.02  # accuracy above chance below which a shortcut is not reported
MAX_CATEGORIES = 30  # distinct values of a text column; rarer values are pooled
NOT_STATED = "not stated"


@dataclass(frozen=True, slots=True)
class Property:
    """Something other than the music that may reveal the style."""

    title: str
    in_tokens: bool  # whether the tokens still contain it
    advice: str  # what cleaning does with it, and what to do


_GONE = "Cleaning removes it: no token holds it."
_ON_GRID = "Compare on-grid music only: mgen prepare --on_grid_only."
_BAND_ONLY = "Only the recipe band writes instruments."

COLUMNS = {
    "format": Property("File format", False, _GONE),
    "ticks_per_quarter": Property("Ticks per quarter", False, f"{_GONE} Onsets on 24 steps may keep a comb pattern."),
    "tempo": Property("Tempo of the file", False, f"{_GONE} Notes per quarter may keep a trace of it."),
    "n_tempos": Property("Number of tempos", False, _GONE),
    "n_tracks": Property("Number of tracks", False, _GONE),
    "n_programs": Property("Number of instruments", False, _BAND_ONLY),
    "instrument": Property("Instrument", False, _BAND_ONLY),
    "pedal": Property("Sustain pedal", False, f"{_GONE} Durations are those of the keys."),
    "velocities": Property("Number of velocities", True, "Ranks stay: a file with a single velocity still shows."),
    "time_signature": Property(
        "Time signature of the file", True, "Unless replaced, it stays as the bar length (6/8 as 3/4)."
    ),
    "metre": Property("Metre that cleaning replaced", False, "It is replaced: no token holds it."),
    "on_grid": Property("On the beat grid or not", True, f"It stays in the onsets. {_ON_GRID}"),
    "grid_strength": Property("How strongly onsets keep to the grid", True, f"It stays in the onsets. {_ON_GRID}"),
    "grid_offset": Property("Offset from the grid", False, "Cleaning removes it where notes are on a grid."),
    "voices": Property(
        "Simultaneous notes", True, "It is music: choose collections of similar texture in every style."
    ),
    "track": Property("Track number", False, _GONE),
    "chunk": Property("Place of the chunk in its file", False, _GONE),
    "dropped_notes": Property("Number of notes out of range", False, "They are dropped: no token writes them."),
}
"""Columns of pieces.parquet that describe the file, in order."""

COLLECTION_SIZE = {
    "collection_size": Property(
        "Size of the collection",
        False,
        "No token holds it. Sample collections evenly, or a large one dominates its style.",
    )
}

BAND_COLUMNS = {
    name: Property(COLUMNS[name].title, True, "The recipe band writes instruments: train critics on the recipe piano.")
    for name in ("n_programs", "instrument")
}
"""Properties that the recipe `band` keeps."""

NO_VELOCITY = {"velocities": Property(COLUMNS["velocities"].title, False, _GONE)}
"""Properties that tokens without velocity do not keep."""

ALL_COUNTS = "all"
TIMING_COUNTS = ("phase", "duration")

NOTE_COUNTS = {
    "phase": Property("Onset phase", True, "It shows how the file was made before it shows rhythm."),
    "duration": Property(
        "Durations", True, "Exact durations depend on the exporter: distrust a critic that needs them."
    ),
    "velocity": Property("Velocities", True, "Ranks stay: set all to one value and see what a critic still knows."),
    "density": Property("Notes per quarter", True, "Arbitrary under a nominal tempo: keep rewards within a band."),
    "polyphony": Property("Polyphony", True, "Choose collections of similar texture in every style."),
    "range": Property("Pitch range", True, "Transpose in training, and choose collections of similar instruments."),
    "classes": Property("Pitch classes", True, "Keys show, and so does harmony: transpose in training."),
    "bars": Property("Bar lengths", True, "Compare music of one metre, or leave bar lengths out."),
    "length": Property("Length of the piece", True, "Compare excerpts of equal length, never whole pieces."),
    ALL_COUNTS: Property("All note counts together", True, "This needs no order of notes: require more of a critic."),
}
"""Counts of a piece's cleaned notes that a critic can use without musical context."""


@dataclass(frozen=True, slots=True)
class StyleAccuracy:
    """How well the style of pieces is predicted by a classifier that was not trained on them."""

    accuracy: float  # balanced accuracy (mean recall of the styles), 0..1
    error: float  # its standard error, with held-out groups as units
    chance: float  # 1 / number of styles
    pieces: int  # number of predictions

    @property
    def is_above_chance(self) -> bool:
        return self.accuracy - self.chance > max(MIN_MARGIN, MIN_STANDARD_ERRORS * self.error)


@dataclass(frozen=True, slots=True)
class Shortcut:
    """How well one property predicts the style."""

    key: str
    property: Property
    works: StyleAccuracy  # accuracy on unseen works
    collections: StyleAccuracy | None = None  # on unseen collections; None if a style has fewer than two
    on_grid: StyleAccuracy | None = None  # as works, of pieces on the grid; None for columns, and if there are too few


def predict_style(
    features: ArrayLike, style: NDArray[Any], group: NDArray[Any], seed: int = 0, repeats: int = 1
) -> StyleAccuracy | None:
    """Cross-validates a classifier of the style on groups that it was not trained on.

    A decision tree for one feature, a random forest for several; up to five folds that keep groups together; styles
    have equal weight in training and in the accuracy.

    Args:
        features: (P,) or (P, F) numbers; NaN where undefined.
        style: (P,) names.
        group: (P,) pieces that must be held out together share it, such as those of a work.
        seed: of the folds and of the forest.
        repeats: number of random assignments of groups to folds; with more, the result depends less on which large
            groups are held out together.

    Returns:
        None with one style only, or if a style has fewer than two groups.
    """
    styles, of = np.unique(style, return_inverse=True)
    _, group = np.unique(group, return_inverse=True)
    folds = min(FOLDS, *(len(np.unique(group[of == k])) for k in range(len(styles)))) if len(styles) > 1 else 0
    if folds < 2:
        return None
    table = np.reshape(np.asarray(features, np.float64), (len(of), -1))
    correct = np.zeros(len(of))
    for repeat in range(repeats):
        fold = _assign_folds(of, group, folds, seed + repeat)
        for test in (fold == number for number in range(folds)):
            model = _classifier(table.shape[1], seed).fit(table[~test], of[~test])
            correct[test] += (model.predict(table[test]) == of[test]) / repeats
    recall, variance = zip(*(_recall(correct[of == k], group[of == k]) for k in range(len(styles))), strict=True)
    error = math.sqrt(sum(variance)) / len(styles)
    return StyleAccuracy(float(np.mean(recall)), error, 1 / len(styles), len(of))


def _assign_folds(of: NDArray[np.intp], group: NDArray[np.intp], folds: int, seed: int) -> NDArray[np.int64]:
    """(P,) fold of each piece: groups are shuffled, sorted by style and assigned to folds in turn.

    So each fold has groups of every style, and no fold has all groups of one.
    """
    _, first = np.unique(group, return_index=True)
    shuffled = np.random.default_rng(seed).permutation(len(first))
    order = shuffled[np.argsort(of[first[shuffled]], kind="stable")]
    fold = np.empty(len(first), np.int64)
    fold[order] = np.arange(len(first)) % folds
    return fold[group]


def _classifier(n_features: int, seed: int) -> DecisionTreeClassifier | RandomForestClassifier:
    rules: dict[str, Any] = {"min_samples_leaf": 4, "class_weight": "balanced", "random_state": seed}
    if n_features == 1:
        return DecisionTreeClassifier(max_leaf_nodes=32, **rules)
    return RandomForestClassifier(n_estimators=20, max_leaf_nodes=128, n_jobs=1, **rules)


def _recall(correct: Floats, group: NDArray[np.integer]) -> tuple[float, float]:
    """Share of correct predictions, and its variance with groups as the units."""
    share = float(correct.mean())
    _, owner = np.unique(group, return_inverse=True)
    deviation = np.bincount(owner, weights=correct - share)
    return share, float((deviation**2).sum() / len(correct) ** 2 * len(deviation) / max(len(deviation) - 1, 1))


def column_shortcuts(
    pieces: pd.DataFrame,
    recipe: str = "piano",
    seed: int = 0,
    velocity: bool = True,
    progress: Progress = silent,
) -> list[Shortcut]:
    """How well each column of `COLUMNS` predicts the style, best first; constant columns are left out.

    `pieces` has P rows with style, collection and group; the recipe `band` keeps instruments; `seed` is of the folds;
    `velocity` is whether the tokens hold velocities.
    """
    table = pieces.assign(collection_size=pieces.groupby("collection")["collection"].transform("size"))
    properties = COLUMNS | COLLECTION_SIZE | (BAND_COLUMNS if recipe == "band" else {})
    properties |= {} if velocity else NO_VELOCITY
    codes = {name: _codes(table[name]) for name in properties if name in table}
    return _shortcuts(
        {name: code for name, code in codes.items() if len(np.unique(code)) > 1}, properties, pieces, seed, progress
    )


def note_shortcuts(
    counts: Mapping[str, Floats], pieces: pd.DataFrame, seed: int = 0, progress: Progress = silent
) -> list[Shortcut]:
    """How well counts of notes predict the style, each alone and all together, best first.

    Args:
        counts: (P, F) numbers under names of `NOTE_COUNTS`; NaN where undefined.
        pieces: P rows with style, collection, group and on_grid.
        seed: of the folds and of the forests.
        progress: takes the count of the classifiers.
    """
    grid = pieces["on_grid"].to_numpy(bool)
    tables = {**counts, ALL_COUNTS: np.column_stack(list(counts.values()))}
    shortcuts = _shortcuts(tables, NOTE_COUNTS, pieces, seed, progress)
    if set(pieces["style"]) != set(pieces["style"][grid]):
        return shortcuts
    return [replace(one, on_grid=_predict(tables[one.key][grid], pieces[grid], "group", seed)) for one in shortcuts]


def _shortcuts(
    tables: Mapping[str, Floats],
    properties: Mapping[str, Property],
    pieces: pd.DataFrame,
    seed: int,
    progress: Progress,
) -> list[Shortcut]:
    """Accuracies on works and on collections, best first."""
    shortcuts = []
    for name, table in counted(progress, "shortcuts", tables.items()):
        works = _predict(table, pieces, "group", seed)
        if works is not None:
            collections = _predict(table, pieces, "collection", seed, COLLECTION_REPEATS)
            shortcuts.append(Shortcut(name, properties[name], works, collections))
    return sorted(shortcuts, key=lambda shortcut: -shortcut.works.accuracy)


def _predict(table: Floats, pieces: pd.DataFrame, by: str, seed: int, repeats: int = 1) -> StyleAccuracy | None:
    return predict_style(table, pieces["style"].to_numpy(str), pieces[by].to_numpy(str), seed, repeats)


def describe(shortcut: Shortcut) -> str:
    """How well a shortcut predicts the style, what that means, and what to do."""
    works, collections, on_grid = shortcut.works, shortcut.collections, shortcut.on_grid
    unseen = f", {_percent(collections)} on unseen collections" if collections else ""
    chance = f"(chance: {100 * works.chance:.0f} %)"
    sentences = [f"{shortcut.property.title} alone: {_percent(works)} accuracy on unseen works{unseen} {chance}"]
    if collections and works.is_above_chance:
        sentences.append(_compare_collections(works, collections))
    sentences.append(shortcut.property.advice)
    if on_grid and works.is_above_chance:
        if on_grid.accuracy + on_grid.error < works.accuracy - works.error:
            sentences.append(f"On the grid it falls to {_percent(on_grid)}: mgen prepare --on_grid_only")
        elif shortcut.key in TIMING_COUNTS:
            sentences.append(
                f"On the grid it is still {_percent(on_grid)}, so --on_grid_only does not help: "
                "choose collections made the same way in every style"
            )
    return " ".join(f"{sentence.rstrip('.')}." for sentence in sentences)


def _percent(accuracy: StyleAccuracy) -> str:
    return f"{100 * accuracy.accuracy:.0f} %"


def _compare_collections(works: StyleAccuracy, collections: StyleAccuracy) -> str:
    """What it means that unseen collections are predicted worse, or no worse, than unseen works."""
    if collections.is_above_chance:
        if collections.accuracy - collections.chance < (works.accuracy - works.chance) / 2:
            return "It identifies the collections better than the style"
        return "It holds across collections: music, or a habit common to all files of a style"
    if collections.accuracy + 2 * collections.error < works.accuracy:
        return "It identifies the collections, not the style"
    return "There are too few collections to tell whether it is more than their habit"


def _codes(column: pd.Series[Any]) -> Floats:
    """(P,) numbers unchanged, strings as ranks by frequency; rare strings share a number."""
    if pd.api.types.is_numeric_dtype(column):
        return to_numbers(column)
    values = to_labels(column)
    return np.minimum(values.value_counts().index.get_indexer(pd.Index(values)), MAX_CATEGORIES).astype(np.float64)


def to_numbers(column: pd.Series[Any]) -> Floats:
    """(P,) the column as numbers; NaN where there is none."""
    return pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan)


def to_labels(column: pd.Series[Any]) -> pd.Series[str]:
    """Values as strings to show; an empty or missing one is `NOT_STATED`."""
    text = column.map(lambda value: f"{value:g}" if isinstance(value, float) else str(value), na_action="ignore")
    return text.astype(object).where(column.notna() & (text != ""), NOT_STATED).astype(str)
