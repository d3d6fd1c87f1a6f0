"""Statistics of a prepared corpus as plain data, for a page or JSON.

Reads the whole table of pieces, and the notes of a sample of each style a few pieces at a time. Knows no HTML.
"""

from __future__ import annotations

import csv
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pretty_midi import program_to_instrument_name

from mgen.arrays import Floats, divide
from mgen.corpus.clean import CLEANING_STEPS
from mgen.corpus.shards import PIECES, REJECTED, TOKENS, Corpus
from mgen.corpus.shortcuts import COLUMNS, NOT_STATED, Shortcut, column_shortcuts, note_shortcuts, to_labels, to_numbers
from mgen.corpus.split import SPLITS
from mgen.errors import MgenError
from mgen.music import metrics
from mgen.notes import MAX_BEATS, MAX_DURATION, STEPS_PER_QUARTER, Notes
from mgen.progress import Progress, silent

SAMPLE = 2000  # pieces per style whose notes are read, at most
MAX_PREDICTED = 1000  # pieces per style in the cross-validation of note counts, at most
PIECES_PER_BATCH = 32  # decoding takes some hundred bytes per token
DRUMS = 128  # column of drums, after the programs
MAX_LABELS = 12
DEFAULT_TEMPO = 120.0
"""Quarters per minute of a file without a tempo, and of performances whose bars cleaning made two seconds long."""

SECOND_EIGHTH_STEPS = np.arange(8, 22) - 0.5  # edges between the grid steps where `metrics.swing` looks for it

DURATION_NAMES = {
    2: "32nd triplet", 3: "32nd", 4: "16th triplet", 6: "16th", 8: "eighth triplet", 9: "dotted 16th", 12: "eighth",
    16: "quarter triplet", 18: "dotted eighth", 24: "quarter", 32: "half triplet", 36: "dotted quarter", 48: "half",
    72: "dotted half", 96: "whole", 144: "dotted whole",
}  # fmt: skip
"""Duration in grid steps -> its name."""

DOTTED = tuple(steps for steps, name in DURATION_NAMES.items() if name.startswith("dotted"))
TRIPLET = tuple(steps for steps, name in DURATION_NAMES.items() if name.endswith("triplet"))

REQUIRED = ("style", "collection", "group", "split", "n_notes", "n_bars", "n_tokens", *COLUMNS)
METRES = tuple((beats, unit) for unit, most in MAX_BEATS.items() for beats in range(1, most + 1))
"""Beats and unit of every bar that tokens can write."""

CLASSES = ("C", "C♯", "D", "E♭", "E", "F", "F♯", "G", "A♭", "A", "B♭", "B")


@dataclass(frozen=True, slots=True)
class Chart:
    """Histogram of one quantity, by style."""

    key: str
    title: str
    x: str  # the quantity and its unit
    of: str  # what is counted
    counts: dict[str, list[int]] = field(default_factory=dict)  # style -> K counts; styles without any are left out
    labels: tuple[str, ...] = ()  # K categories; empty for numbers
    edges: tuple[float, ...] = ()  # K + 1 bin edges for numbers; values beyond are in the first or the last bin
    marks: tuple[tuple[float, str], ...] = ()  # (value, label) of ticks; round numbers if empty
    medians: dict[str, float] = field(default_factory=dict)  # style -> median, for numbers
    log: bool = False  # whether the axis is logarithmic
    note: str = ""  # remark below the chart


@dataclass(frozen=True, slots=True)
class Totals:
    """Sizes of a style, or of one split of it."""

    pieces: int
    works: int
    notes: int
    bars: int
    tokens: int


@dataclass(frozen=True, slots=True)
class CollectionStats:
    """One collection of one style; statistics of notes are of its sampled pieces, None where undefined."""

    style: str
    collection: str
    pieces: int
    works: int
    sampled: int
    median_notes: float  # median number of notes per piece
    on_grid: float  # share of pieces on the grid
    tempo: float | None  # median, quarters per minute
    swing: float | None  # median swing ratio of pieces on the grid
    polyphony: float | None  # median number of simultaneous notes
    dotted: float | None  # share of dotted durations, of pieces on the grid
    triplet: float | None  # share of triplet durations, of pieces on the grid
    phase: list[int]  # (24,) number of onsets in each step of the quarter


@dataclass(frozen=True, slots=True)
class Insight:
    """All content of the page."""

    name: str
    fingerprint: str
    recipe: str
    scanned: int
    seed: int
    styles: dict[str, Totals]
    works: int  # number of groups (which share a split) over all styles; a group may be in several styles
    hours: dict[str, float]  # style -> hours, estimated from the sample
    sampled: dict[str, int]  # style -> number of pieces whose notes were read
    charts: list[Chart]
    collections: list[CollectionStats]
    splits: dict[str, dict[str, Totals]]  # style -> split -> sizes
    shared_works: int  # number of groups in more than one split
    column_shortcuts: list[Shortcut]  # how well columns of the table predict the style, best first
    note_shortcuts: list[Shortcut]  # how well counts of the cleaned notes predict it, best first
    rejected: list[tuple[str, int, list[str]]]  # (reason, number of files, most frequent details)
    cleaning: list[tuple[str, str, dict[str, int]]]  # (step, description, counts by name) of each step
    chunks: dict[str, Any]  # counts found, kept, dropped by reason, split by step; empty unless the recipe is `tabs`
    duplicates: dict[str, int]
    overlap: dict[str, Any]
    collection_overlap: dict[str, Any]
    options: dict[str, Any]
    missing: list[str]  # a line for each chart without data


def measure_corpus(corpus: Corpus, sample: int = SAMPLE, seed: int = 0, progress: Progress = silent) -> Insight:
    """Measures a corpus.

    Args:
        corpus: written by `mgen prepare`.
        sample: pieces per style whose notes are read, at most.
        seed: of the sample and of the classifiers.
        progress: takes the count of the classifiers.

    Raises:
        MgenError: The corpus has no pieces, its table lacks a column, or its shards are missing or damaged.
    """
    pieces, manifest = _check_table(corpus), corpus.manifest
    counts = count_notes(corpus, pieces, _sample(pieces, sample, seed))
    charts = [*_table_charts(pieces), *_note_charts(counts, manifest["recipe"])]
    few = _sample(counts.rows, MAX_PREDICTED, seed)
    features = {name: table[few] for name, table in _note_features(counts).items()}
    if not corpus.remi.velocity:
        del features["velocity"]  # of the metrical accent
    by_style = {str(style): rows for style, rows in pieces.groupby("style")}
    return Insight(
        name=corpus.folder.resolve().name,
        fingerprint=corpus.fingerprint,
        recipe=manifest["recipe"],
        scanned=manifest["scanned"],
        seed=seed,
        styles={style: _totals(rows) for style, rows in by_style.items()},
        works=pieces["group"].nunique(),
        hours=_hours(pieces, counts, "clock" in manifest["cleaning"]),
        sampled=dict(Counter(counts.style.tolist())),
        charts=[chart for chart in charts if chart.counts],
        collections=_collection_stats(pieces, counts),
        splits={
            style: {name: _totals(rows[rows["split"] == name]) for name in SPLITS} for style, rows in by_style.items()
        },
        shared_works=int((pieces.groupby("group")["split"].nunique() > 1).sum()),
        column_shortcuts=column_shortcuts(pieces, manifest["recipe"], seed, corpus.remi.velocity, progress),
        note_shortcuts=note_shortcuts(features, counts.rows[few], seed, progress),
        rejected=_rejected(corpus),
        cleaning=[
            (step, (CLEANING_STEPS | FIXED_STEPS).get(step, ""), counts)
            for step, counts in manifest["cleaning"].items()
        ],
        chunks=manifest.get("chunks", {}),
        duplicates=manifest["duplicates"],
        overlap=manifest.get("overlap", {}),
        collection_overlap=manifest["collection_overlap"],
        options=manifest["options"],
        missing=[f"{chart.title}: no data." for chart in charts if not chart.counts],
    )


FIXED_STEPS = {"doubled": "notes that start together on one pitch are merged", "percussion": "drums are dropped"}
"""Cleaning steps that cannot be left out, and so are not among `CLEANING_STEPS`."""


def _check_table(corpus: Corpus) -> pd.DataFrame:
    pieces, path = corpus.pieces, corpus.folder / PIECES
    lacking = [name for name in REQUIRED if name not in pieces]
    if lacking:
        found = ", ".join(map(str, pieces))
        raise MgenError(f"{path}: expected the column {lacking[0]}, found {found}; prepare it again")
    if not len(pieces):
        raise MgenError(f"{path}: expected pieces, found none; prepare a corpus that keeps some")
    return pieces.reset_index(drop=True)


# ---------------------------------------------------------------- notes


@dataclass(frozen=True, slots=True, eq=False)
class NoteCounts:
    """Counts of the notes of S sampled pieces, one row per piece. Drums count as onsets and programs only."""

    rows: pd.DataFrame  # S rows of the table of pieces
    pitch: NDArray[np.int64]  # (S, 128) notes of each pitch
    duration: NDArray[np.int64]  # (S, 313) notes of each duration in grid steps
    velocity: NDArray[np.int64]  # (S, 128)
    program: NDArray[np.int64]  # (S, 129) notes of each program, the last one drums
    phase: NDArray[np.int64]  # (S, 24) onsets in each step of the quarter
    metres: NDArray[np.int64]  # (S, 19) bars of each of METRES
    swing: Floats  # (S,) and below: as in mgen.music.metrics
    polyphony: Floats
    density: Floats

    @property
    def style(self) -> NDArray[np.str_]:
        """(S,) style of each piece."""
        return self.rows["style"].to_numpy(str)

    @property
    def on_grid(self) -> NDArray[np.bool_]:
        """(S,) whether the piece was written on the beat grid of its file."""
        return self.rows["on_grid"].to_numpy(bool)

    @property
    def classes(self) -> NDArray[np.int64]:
        """(S, 12) notes of each pitch class."""
        return np.stack([self.pitch[:, k::12].sum(axis=1) for k in range(12)], axis=1)


def count_notes(corpus: Corpus, pieces: pd.DataFrame, chosen: NDArray[np.bool_]) -> NoteCounts:
    """Counts the notes of the pieces where `chosen` (P,) is True, in the order of the table.

    Raises:
        MgenError: A shard is missing or damaged, or does not match the table.
    """
    parts = [(piece, _count_batch(Notes.from_ids(ids, corpus.remi))) for piece, ids in _batches(corpus, chosen)]
    piece = np.concatenate([np.zeros(0, np.int64), *(rows for rows, _ in parts)])
    n_found = len(np.unique(piece))
    if not n_found == len(piece) == chosen.sum():
        raise MgenError(
            f"{corpus.folder / TOKENS}: found {n_found} of the {chosen.sum()} pieces sampled from {PIECES}; "
            "prepare it again"
        )
    order = np.argsort(piece)
    columns = {name: np.concatenate([part[name] for _, part in parts])[order] for name in parts[0][1]}
    return NoteCounts(rows=pieces.loc[piece[order]].reset_index(drop=True), **columns)


def _batches(corpus: Corpus, chosen: NDArray[np.bool_]) -> Iterator[tuple[NDArray[np.int64], list[NDArray[np.uint16]]]]:
    """Row numbers and token ids of the chosen pieces, a few at a time."""
    for path, batch in corpus.token_batches(SPLITS, PIECES_PER_BATCH):
        piece = batch["piece"].to_numpy()
        if len(piece) and not 0 <= piece.min() <= piece.max() < len(chosen):
            raise MgenError(f"{path}: holds a piece that is not in {PIECES}; prepare it again")
        wanted = chosen[piece]
        if wanted.any():
            yield (
                piece[wanted].astype(np.int64),
                [one.values.to_numpy() for one in batch.filter(pa.array(wanted))["ids"]],
            )


def _count_batch(notes: Notes) -> dict[str, NDArray[Any]]:
    """The columns of `NoteCounts` for the pieces of `notes`."""
    n = notes.n_pieces
    pitched = notes.pitched()
    begins, _, step = metrics.onset_steps(notes)
    return {
        "pitch": _histogram2d(pitched.piece, pitched.pitch, n, 128),
        "duration": _histogram2d(pitched.piece, np.minimum(pitched.duration, MAX_DURATION), n, MAX_DURATION + 1),
        "velocity": _histogram2d(pitched.piece, pitched.velocity, n, 128),
        "program": _histogram2d(notes.piece, np.where(notes.program < 0, DRUMS, notes.program), n, DRUMS + 1),
        "phase": _histogram2d(begins, step, n, STEPS_PER_QUARTER),
        "metres": _histogram2d(
            notes.bars.piece, notes.bars.beats - 1 + (notes.bars.unit == 8) * MAX_BEATS[4], n, len(METRES)
        ),
        "swing": metrics.swing(notes),
        "polyphony": metrics.polyphony(notes),
        "density": metrics.density(notes),
    }


def _histogram2d(piece: NDArray[Any], value: NDArray[Any], n: int, size: int) -> NDArray[np.int64]:
    """(n, size) number of times that each piece has each value."""
    return np.bincount(piece * np.int64(size) + value, minlength=n * size).reshape(n, size)


def _sample(pieces: pd.DataFrame, most: int, seed: int) -> NDArray[np.bool_]:
    """(P,) mask of at most `most` random pieces per style."""
    rng = np.random.default_rng(seed)
    chosen = np.zeros(len(pieces), bool)
    for _, rows in pieces.groupby("style"):
        own = rows.index.to_numpy()
        chosen[own if len(own) <= most else rng.choice(own, most, replace=False)] = True
    return chosen


_EDGES = np.array([*range(1, 25), 25, 48, 49, 72, 73, 96, 97])  # grid steps: each up to a quarter, then the named ones


def _note_features(counts: NoteCounts) -> dict[str, Floats]:
    """Name in `NOTE_COUNTS` -> (S, F) features of each piece."""
    some = counts.pitch > 0
    notes = counts.pitch.sum(axis=1)
    low, high = some.argmax(axis=1), 127 - some[:, ::-1].argmax(axis=1)
    velocities = np.add.reduceat(counts.velocity, np.arange(0, 128, 16), axis=1)
    return {
        "phase": _row_shares(counts.phase),
        "duration": _row_shares(np.add.reduceat(counts.duration, _EDGES, axis=1)),
        "velocity": np.column_stack([_row_shares(velocities), (counts.velocity > 0).sum(axis=1)]),
        "density": counts.density[:, None],
        "polyphony": counts.polyphony[:, None],
        "range": np.column_stack([low, high, high - low, divide(counts.pitch @ np.arange(128), notes)]),
        "classes": _row_shares(counts.classes),
        "bars": _row_shares(counts.metres),
        "length": np.column_stack([notes, counts.metres.sum(axis=1)]).astype(np.float64),
    }


def _row_shares(counts: NDArray[np.int64]) -> Floats:
    return divide(counts, counts.sum(axis=1, keepdims=True))


# ---------------------------------------------------------------- charts


def _table_charts(pieces: pd.DataFrame) -> list[Chart]:
    """Charts of the table of all pieces."""
    style = pieces["style"].to_numpy(str)
    return [
        _with_histogram(Chart("notes", "Notes per piece", "notes, log scale", "pieces", log=True,
                      edges=tuple(2.0 ** np.arange(4, 16.1, 0.5)),
                      marks=tuple((2**power, f"{2**power:,}") for power in range(4, 17, 2))),
                style, pieces["n_notes"].to_numpy(float)),
        _with_histogram(Chart("tempo", "Tempo of the file", "quarters per minute", "pieces",
                      edges=tuple(np.arange(30, 301, 10.0)),
                      note="As the file states it; recorders without a tempo write 120."),
                style, to_numbers(pieces["tempo"])),
        _with_categories(Chart("time_signature", "Time signature of the file", "as written", "pieces"), pieces),
        _with_categories(Chart("instrument", "Instruments", "as the file names them", "pieces"), pieces),
        _with_categories(Chart("format", "File format", "as scanned", "pieces"), pieces),
        _with_categories(Chart("ticks_per_quarter", "Ticks per quarter", "ticks", "pieces"), pieces),
        _with_categories(Chart("n_tracks", "Tracks of the file", "tracks", "pieces"), pieces),
    ]  # fmt: skip


def _note_charts(counts: NoteCounts, recipe: str) -> list[Chart]:
    """Charts of the notes of the sampled pieces."""
    style, grid = counts.style, counts.on_grid
    beat = ((0.0, "beat"), (6.0, "¼"), (8.0, "⅓"), (12.0, "½"), (16.0, "⅔"), (18.0, "¾"))
    steps = tuple(np.arange(STEPS_PER_QUARTER + 1.0) - 0.5)
    named = (*(f"{name}, {Fraction(step, STEPS_PER_QUARTER)}" for step, name in DURATION_NAMES.items()), "any other")
    octaves = np.add.reduceat(counts.pitch, np.arange(0, 128, 12), axis=1)
    occurs = counts.metres.any(axis=0)
    charts = [
        Chart("pitch", "Pitches", "pitch", "notes", _sum_by_style(counts.pitch[:, 12:120], style),
              edges=tuple(np.arange(12, 121) - 0.5), marks=tuple((c, f"C{c // 12 - 1}") for c in range(24, 120, 12))),
        Chart("classes", "Pitch classes", "pitch class", "notes", _sum_by_style(counts.classes, style), labels=CLASSES),
        Chart("octaves", "Octaves", "octave (C4 is medians C)", "notes", _sum_by_style(octaves[:, 1:10], style),
              labels=tuple(map(str, range(9)))),
        Chart("durations", "Durations, pieces on the grid", "name and quarters", "notes",
              _sum_by_style(_with_rest(counts.duration, list(DURATION_NAMES))[grid], style[grid]), named,
              note=_describe_dotted(counts)),
        Chart("fine", "Durations to the step, all pieces", "length, 24 steps per quarter", "notes",
              _sum_by_style(counts.duration[:, 1:51], style), edges=tuple(np.arange(1, 52) - 0.5),
              marks=((6.0, "16th"), (12.0, "eighth"), (24.0, "quarter"), (36.0, "dotted"), (48.0, "half")),
              note="Longer notes are not shown. Peaks one step below a named length: exporters that end notes early."),
        Chart("phase", "Onsets in the quarter, all pieces", "step of the quarter, of 24", "onsets",
              _sum_by_style(counts.phase, style), edges=steps, marks=beat,
              note="A flat line is free playing; a comb pattern is the resolution of the files, rounded to 24 steps."),
        Chart("phase_on_grid", "Onsets in the quarter, pieces on the grid", "step of the quarter, of 24", "onsets",
              _sum_by_style(counts.phase[grid], style[grid]), edges=steps, marks=beat),
        Chart("metres", "Bars", "time signature", "bars", _sum_by_style(counts.metres[:, occurs], style),
              labels=tuple(f"{beats}/{unit}" for beats, unit in np.array(METRES)[occurs])),
        _with_histogram(Chart("swing", "Swing, pieces on the grid", "first eighth : second eighth", "pieces",
                      edges=tuple(SECOND_EIGHTH_STEPS / (STEPS_PER_QUARTER - SECOND_EIGHTH_STEPS)), log=True,
                      marks=((0.5, "½"), (1, "1 straight"), (1.5, "1½"), (2, "2 triplet"), (3, "3")),
                      note="Median over beats with exactly two onsets; the grid can represent 13 ratios."),
                style, np.where(grid, counts.swing, np.nan)),
        _with_histogram(Chart("polyphony", "Polyphony", "simultaneous notes, mean of the piece", "pieces",
                      edges=tuple(np.arange(1, 8.1, 0.25))), style, counts.polyphony),
        _with_histogram(Chart("density", "Density", "notes per quarter", "pieces",
                      edges=tuple(np.arange(0, 16.1, 0.5))), style, counts.density),
    ]  # fmt: skip
    if recipe == "band":
        total = counts.program.sum(axis=0)
        used = [p for p in np.argsort(-total, kind="stable").tolist() if total[p]][:MAX_LABELS]
        names = ["drums" if p == DRUMS else program_to_instrument_name(p).lower() for p in used]
        sums = _sum_by_style(_with_rest(counts.program, used), style)
        charts.append(Chart("programs", "Instruments of the notes", "program", "notes", sums, (*names, "any other")))
    return charts


def _with_rest(counts: NDArray[np.int64], columns: Sequence[int]) -> NDArray[np.int64]:
    """Selected columns, and the sum of all others as the last column."""
    some = counts[:, columns]
    return np.column_stack([some, counts.sum(axis=1) - some.sum(axis=1)])


def _sum_by_style(counts: NDArray[np.int64], style: NDArray[np.str_]) -> dict[str, list[int]]:
    """Sum over the pieces of each style; styles with a sum of 0 are left out."""
    sums = {name: counts[style == name].sum(axis=0).tolist() for name in np.unique(style).tolist()}
    return {name: total for name, total in sums.items() if sum(total)}


def _with_histogram(chart: Chart, style: NDArray[np.str_], values: Floats) -> Chart:
    """The chart with a histogram of one number per piece."""
    counts, medians = {}, {}
    inside = np.clip(values, chart.edges[0], chart.edges[-1])  # the last edge is in the last class
    for name in np.unique(style[np.isfinite(values)]).tolist():
        own = (style == name) & np.isfinite(values)
        counts[name] = np.histogram(inside[own], chart.edges)[0].tolist()
        medians[name] = float(np.median(values[own]))
    return replace(chart, counts=counts, medians=medians)


def _with_categories(chart: Chart, pieces: pd.DataFrame) -> Chart:
    """The chart with the most frequent values of its column; other values are pooled."""
    values = to_labels(pieces[chart.key])
    common = values.value_counts().index[:MAX_LABELS].tolist()
    if pd.api.types.is_numeric_dtype(pieces[chart.key]):
        common.sort(key=lambda word: float(word) if word != NOT_STATED else math.inf)
    labels = (*common, "any other") if values.nunique() > len(common) else tuple(common)
    shown = values.where(values.isin(common), "any other")
    counts = pd.crosstab(pieces["style"], shown).reindex(columns=list(labels))
    return replace(chart, counts={str(style): row.tolist() for style, row in counts.iterrows()}, labels=labels)


def _shares(counts: NDArray[np.int64], steps: Sequence[int]) -> float | None:
    """Share of the notes with one of the durations; None without notes."""
    total = int(counts.sum())
    return float(counts[:, list(steps)].sum() / total) if total else None


def _describe_dotted(counts: NoteCounts) -> str:
    """Dotted and triplet shares of each style."""
    shares = []
    for style, sums in _sum_by_style(counts.duration[counts.on_grid], counts.style[counts.on_grid]).items():
        dotted, triplet = (sum(sums[i] for i in steps) / sum(sums) for steps in (DOTTED, TRIPLET))
        shares.append(f"{style}: {dotted:.1%} dotted, {triplet:.1%} triplet")
    return f"Lengths as played, rounded to the step. {'; '.join(shares)}." if shares else ""


# ---------------------------------------------------------------- tables


def _totals(rows: pd.DataFrame) -> Totals:
    notes, bars, tokens = (int(rows[name].sum()) for name in ("n_notes", "n_bars", "n_tokens"))
    return Totals(len(rows), rows["group"].nunique(), notes, bars, tokens)


def _hours(pieces: pd.DataFrame, counts: NoteCounts, retimed: bool) -> dict[str, float]:
    """Style -> hours at the first tempo of each file, extrapolated from the mean of the sampled pieces.

    Args:
        retimed: cleaning retimed pieces off the grid to half a second per quarter, whatever the tempo of their file.
    """
    tempo = to_numbers(counts.rows["tempo"])
    tempo = np.where((tempo > 0) & (counts.on_grid | (not retimed)), tempo, DEFAULT_TEMPO)
    quarters = np.array([4 * beats / unit for beats, unit in METRES])
    hours = counts.metres @ quarters / tempo / 60
    sizes = sorted(Counter(pieces["style"]).items())
    return {style: float(hours[counts.style == style].mean() * n) for style, n in sizes}


def _collection_stats(pieces: pd.DataFrame, counts: NoteCounts) -> list[CollectionStats]:
    """One row per collection, by style and name."""
    sampled = counts.rows.groupby(["style", "collection"]).indices
    collections = []
    for (style, collection), rows in pieces.groupby(["style", "collection"]):
        at = sampled.get((style, collection), np.zeros(0, np.int64))
        grid = at[counts.on_grid[at]]
        collections.append(
            CollectionStats(
                style=str(style),
                collection=str(collection),
                pieces=len(rows),
                works=rows["group"].nunique(),
                sampled=len(at),
                median_notes=float(rows["n_notes"].median()),
                on_grid=float(rows["on_grid"].mean()),
                tempo=_median(to_numbers(rows["tempo"])),
                swing=_median(counts.swing[grid]),
                polyphony=_median(counts.polyphony[at]),
                dotted=_shares(counts.duration[grid], DOTTED),
                triplet=_shares(counts.duration[grid], TRIPLET),
                phase=counts.phase[at].sum(axis=0).tolist(),
            )
        )
    return collections


def _median(values: Floats) -> float | None:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else None


def _rejected(corpus: Corpus, most: int = 3) -> list[tuple[str, int, list[str]]]:
    """Reasons with their number of files and most frequent details; most files first."""
    details: defaultdict[str, Counter[str]] = defaultdict(Counter)
    path = corpus.folder / REJECTED
    if path.is_file():
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                details[row["reason"]][row["detail"]] += 1
    return [
        (reason, files, [f"{detail} ({n:,})" for detail, n in details[reason].most_common(most) if detail])
        for reason, files in Counter(corpus.manifest["rejected"]).most_common()
    ]
