"""What a corpus holds: a prepared corpus to plain data.

Knows nothing of pages, nor of how a style is guessed. The table of pieces is read whole; of the notes, a sample of each
style, a few pieces at a time.
"""

from __future__ import annotations

import csv
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pretty_midi import program_to_instrument_name

from mgen.arrays import Floats, divide
from mgen.corpus.clean import CLEANING_STEPS
from mgen.corpus.shards import PIECES, REJECTED, TOKENS, Corpus
from mgen.corpus.shortcuts import COLUMNS, UNSAID, Leak, column_leaks, count_leaks, numbers, words
from mgen.corpus.split import SPLITS
from mgen.errors import MgenError
from mgen.music import metrics
from mgen.notes import MAX_BEATS, MAX_DURATION, STEPS_PER_QUARTER, Notes

SAMPLE = 2000
"""Pieces of a style whose notes are read."""

GUESSED = 1000
"""Pieces of a style that the style is guessed of from their notes."""

READ_AT_ONCE = 32  # pieces; decoding takes some hundred bytes a token
DRUMS = 128  # a program after all others
MOST_LABELS = 12
CLOCK = 120.0
"""Quarters a minute of what has no tempo, and of a performance whose bars cleaning made two seconds long."""

SECOND_EIGHTH = np.arange(8, 22) - 0.5  # grid steps between those where the metric swing looks for it

NAMED = {
    2: "32nd triplet", 3: "32nd", 4: "16th triplet", 6: "16th", 8: "eighth triplet", 9: "dotted 16th", 12: "eighth",
    16: "quarter triplet", 18: "dotted eighth", 24: "quarter", 32: "half triplet", 36: "dotted quarter", 48: "half",
    72: "dotted half", 96: "whole", 144: "dotted whole",
}  # fmt: skip
"""Durations in grid steps that have a name."""

DOTTED = tuple(steps for steps, name in NAMED.items() if name.startswith("dotted"))
TRIPLET = tuple(steps for steps, name in NAMED.items() if name.endswith("triplet"))

REQUIRED = ("style", "collection", "group", "split", "n_notes", "n_bars", "n_tokens", *COLUMNS)
CLASSES = ("C", "C♯", "D", "E♭", "E", "F", "F♯", "G", "A♭", "A", "B♭", "B")


@dataclass(frozen=True, slots=True)
class Chart:
    """Counts of one quantity, by style.

    Attributes:
        x: the quantity and its unit.
        of: what is counted.
        labels: the K values where they are names; empty where they are numbers.
        edges: the K + 1 limits where they are numbers; what is beyond is in the first and the last class.
        marks: (value, name) of the places that an axis of numbers names; without, round numbers.
        counts: K of each style; styles that have nothing to count are not there.
        middle: the median of each style where the values are numbers.
        log: whether the axis is one of ratios.
        note: what else to know.
    """

    key: str
    title: str
    x: str
    of: str
    counts: dict[str, list[int]] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    edges: tuple[float, ...] = ()
    marks: tuple[tuple[float, str], ...] = ()
    middle: dict[str, float] = field(default_factory=dict)
    log: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class Totals:
    """Sizes of a style, or of one split of it."""

    pieces: int
    works: int
    notes: int
    bars: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Place:
    """One collection of one style; numbers of notes are of its sampled pieces, None where nothing was defined.

    Attributes:
        median_notes: a piece.
        on_grid: share of its pieces.
        tempo: median, quarters a minute.
        swing: median ratio of its pieces on the grid.
        polyphony: median number of notes at once.
        dotted, triplet: share of notes with such a duration, of pieces on the grid.
        phase: (24,) onsets in each step of the quarter.
    """

    style: str
    collection: str
    pieces: int
    works: int
    sampled: int
    median_notes: float
    on_grid: float
    tempo: float | None
    swing: float | None
    polyphony: float | None
    dotted: float | None
    triplet: float | None
    phase: list[int]


@dataclass(frozen=True, slots=True)
class Insight:
    """All that the page says.

    Attributes:
        works: of all styles; one may be in several. Pieces of one group, and so of one split, are one work.
        hours: of each style, estimated from the sample.
        sampled: pieces of each style whose notes were read.
        splits: style -> split -> sizes.
        shared_works: works that are in more than one split.
        columns: what the table of pieces tells of the style, worst first.
        marginals: what the cleaned notes tell of it, worst first.
        rejected: (reason, files, commonest details).
        cleaning: (step, what it does, counts by name) of each step.
        chunks: found, kept, dropped by reason, and splits by step; empty where tracks stay whole.
        missing: a line for each chart that this corpus has no numbers for.
    """

    name: str
    fingerprint: str
    recipe: str
    scanned: int
    seed: int
    styles: dict[str, Totals]
    works: int
    hours: dict[str, float]
    sampled: dict[str, int]
    charts: list[Chart]
    places: list[Place]
    splits: dict[str, dict[str, Totals]]
    shared_works: int
    columns: list[Leak]
    marginals: list[Leak]
    rejected: list[tuple[str, int, list[str]]]
    cleaning: list[tuple[str, str, dict[str, int]]]
    chunks: dict[str, Any]
    duplicates: dict[str, int]
    overlap: dict[str, Any]
    collection_overlap: dict[str, Any]
    options: dict[str, Any]
    missing: list[str]

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON takes it."""
        return asdict(self)


def measure_corpus(corpus: Corpus, sample: int = SAMPLE, seed: int = 0) -> Insight:
    """Measure a corpus.

    Args:
        corpus: as `mgen prepare` wrote it.
        sample: pieces of each style whose notes are read, at most.
        seed: of the sample and of the guessing.

    Raises:
        MgenError: The corpus has no pieces, its table lacks a column, or its shards are missing or damaged.
    """
    pieces, manifest = _checked(corpus), corpus.manifest
    heard = listen(corpus, pieces, _drawn(pieces, sample, seed))
    charts = [*_table_charts(pieces), *_note_charts(heard, manifest["recipe"])]
    few = _drawn(heard.rows, GUESSED, seed)
    marginals = {name: features[few] for name, features in _marginals(heard).items()}
    by_style = {str(style): rows for style, rows in pieces.groupby("style")}
    return Insight(
        name=corpus.folder.resolve().name,
        fingerprint=corpus.fingerprint,
        recipe=manifest["recipe"],
        scanned=manifest["scanned"],
        seed=seed,
        styles={style: _totals(rows) for style, rows in by_style.items()},
        works=pieces["group"].nunique(),
        hours=_hours(pieces, heard, "clock" in manifest["cleaning"]),
        sampled=dict(Counter(heard.style.tolist())),
        charts=[chart for chart in charts if chart.counts],
        places=_places(pieces, heard),
        splits={
            style: {name: _totals(rows[rows["split"] == name]) for name in SPLITS} for style, rows in by_style.items()
        },
        shared_works=int((pieces.groupby("group")["split"].nunique() > 1).sum()),
        columns=column_leaks(pieces, manifest["recipe"], seed),
        marginals=count_leaks(marginals, heard.rows[few], seed),
        rejected=_rejected(corpus),
        cleaning=[
            (step, (CLEANING_STEPS | _ALWAYS).get(step, ""), counts) for step, counts in manifest["cleaning"].items()
        ],
        chunks=manifest.get("chunks", {}),
        duplicates=manifest["duplicates"],
        overlap=manifest.get("overlap", {}),
        collection_overlap=manifest["collection_overlap"],
        options=manifest["options"],
        missing=[f"{chart.title}: no piece has any." for chart in charts if not chart.counts],
    )


_ALWAYS = {"doubled": "notes that start together on one pitch are joined", "percussion": "drums are dropped"}
"""Steps of cleaning that cannot be left out, and so are not among `STEPS`."""


def _checked(corpus: Corpus) -> pd.DataFrame:
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
class Heard:
    """What the notes of S sampled pieces come to, a row a piece. Drums count as onsets and programs only."""

    rows: pd.DataFrame  # S rows of the table of pieces
    pitch: NDArray[np.int64]  # (S, 128) notes of each pitch
    duration: NDArray[np.int64]  # (S, 313) notes of each duration in grid steps
    velocity: NDArray[np.int64]  # (S, 128)
    program: NDArray[np.int64]  # (S, 129) notes of each program, the last one drums
    phase: NDArray[np.int64]  # (S, 24) onsets in each step of the quarter
    beats: NDArray[np.int64]  # (S, 8) bars of each length in quarters
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


def listen(corpus: Corpus, pieces: pd.DataFrame, taken: NDArray[np.bool_]) -> Heard:
    """Count the notes of the pieces where `taken` (P,) is True, in the order of the table.

    Raises:
        MgenError: A shard is missing or damaged, or does not hold what the table says.
    """
    parts = [(piece, _heard(Notes.from_ids(ids, corpus.remi))) for piece, ids in _batches(corpus, taken)]
    piece = np.concatenate([np.zeros(0, np.int64), *(rows for rows, _ in parts)])
    there = len(np.unique(piece))
    if not there == len(piece) == taken.sum():
        raise MgenError(
            f"{corpus.folder / TOKENS}: {there} of the {taken.sum()} pieces drawn from {PIECES} are there; "
            "prepare it again"
        )
    order = np.argsort(piece)
    columns = {name: np.concatenate([part[name] for _, part in parts])[order] for name in parts[0][1]}
    return Heard(rows=pieces.loc[piece[order]].reset_index(drop=True), **columns)


def _batches(corpus: Corpus, taken: NDArray[np.bool_]) -> Iterator[tuple[NDArray[np.int64], list[NDArray[np.uint16]]]]:
    """Numbers and ids of the pieces that are taken, a few at a time."""
    for shard in corpus.manifest["shards"]:
        path = corpus.folder / TOKENS / str(shard["file"])
        try:
            for batch in pq.ParquetFile(path).iter_batches(READ_AT_ONCE):
                piece = batch["piece"].to_numpy()
                if len(piece) and not 0 <= piece.min() <= piece.max() < len(taken):
                    raise MgenError(f"{path}: holds a piece that is not in {PIECES}; prepare it again")
                wanted = taken[piece]
                if wanted.any():
                    ids = batch.filter(pa.array(wanted))["ids"]
                    yield piece[wanted].astype(np.int64), [one.values.to_numpy() for one in ids]
        except (OSError, pa.ArrowInvalid) as error:
            raise MgenError(f"{path}: cannot be read ({error}); prepare it again") from error


def _heard(notes: Notes) -> dict[str, NDArray[Any]]:
    """The columns of `Heard` for the pieces of `notes`."""
    n = notes.n_pieces
    pitched = notes.pitched()
    begins, onset = metrics.onsets(notes)
    return {
        "pitch": _counted(pitched.piece, pitched.pitch, n, 128),
        "duration": _counted(pitched.piece, np.minimum(pitched.duration, MAX_DURATION), n, MAX_DURATION + 1),
        "velocity": _counted(pitched.piece, pitched.velocity, n, 128),
        "program": _counted(notes.piece, np.where(notes.program < 0, DRUMS, notes.program), n, DRUMS + 1),
        "phase": _counted(begins, onset % STEPS_PER_QUARTER, n, STEPS_PER_QUARTER),
        "beats": _counted(notes.bars.piece, notes.bars.beats, n, MAX_BEATS + 1),
        "swing": metrics.swing(notes),
        "polyphony": metrics.polyphony(notes),
        "density": metrics.density(notes),
    }


def _counted(piece: NDArray[Any], value: NDArray[Any], n: int, size: int) -> NDArray[np.int64]:
    """(n, size) how often each piece has each value."""
    return np.bincount(piece * np.int64(size) + value, minlength=n * size).reshape(n, size)


def _drawn(pieces: pd.DataFrame, most: int, seed: int) -> NDArray[np.bool_]:
    """(P,) at most `most` pieces of each style, by chance."""
    rng = np.random.default_rng(seed)
    taken = np.zeros(len(pieces), bool)
    for _, rows in pieces.groupby("style"):
        own = rows.index.to_numpy()
        taken[own if len(own) <= most else rng.choice(own, most, replace=False)] = True
    return taken


_EDGES = np.array([*range(1, 25), 25, 48, 49, 72, 73, 96, 97])  # grid steps: each up to a quarter, then the named ones


def _marginals(heard: Heard) -> dict[str, Floats]:
    """(S, F) features of each piece under the names of `MARGINALS`."""
    some = heard.pitch > 0
    notes = heard.pitch.sum(axis=1)
    low, high = some.argmax(axis=1), 127 - some[:, ::-1].argmax(axis=1)
    velocities = np.add.reduceat(heard.velocity, np.arange(0, 128, 16), axis=1)
    return {
        "phase": _shares_of_row(heard.phase),
        "duration": _shares_of_row(np.add.reduceat(heard.duration, _EDGES, axis=1)),
        "velocity": np.column_stack([_shares_of_row(velocities), (heard.velocity > 0).sum(axis=1)]),
        "density": heard.density[:, None],
        "polyphony": heard.polyphony[:, None],
        "range": np.column_stack([low, high, high - low, divide(heard.pitch @ np.arange(128), notes)]),
        "classes": _shares_of_row(heard.classes),
        "bars": _shares_of_row(heard.beats[:, 1:]),
        "length": np.column_stack([notes, heard.beats.sum(axis=1)]).astype(np.float64),
    }


def _shares_of_row(counts: NDArray[np.int64]) -> Floats:
    return divide(counts, counts.sum(axis=1, keepdims=True))


# ---------------------------------------------------------------- charts


def _table_charts(pieces: pd.DataFrame) -> list[Chart]:
    """What the table says of all pieces."""
    style = pieces["style"].to_numpy(str)
    return [
        _spread(Chart("notes", "Notes a piece", "notes, log scale", "pieces", log=True,
                      edges=tuple(2.0 ** np.arange(4, 16.1, 0.5)),
                      marks=tuple((2**power, f"{2**power:,}") for power in range(4, 17, 2))),
                style, pieces["n_notes"].to_numpy(float)),
        _spread(Chart("tempo", "Tempo of the file", "quarters a minute", "pieces",
                      edges=tuple(np.arange(30, 301, 10.0)),
                      note="What the file claims. A recorder that nobody told writes 120."),
                style, numbers(pieces["tempo"])),
        _names(Chart("time_signature", "Time signature of the file", "as written", "pieces"), pieces),
        _names(Chart("instrument", "Instruments", "as the file names them", "pieces"), pieces),
        _names(Chart("format", "File format", "as scanned", "pieces"), pieces),
        _names(Chart("ticks_per_quarter", "Ticks a quarter", "ticks", "pieces"), pieces),
        _names(Chart("n_tracks", "Tracks of the file", "tracks", "pieces"), pieces),
    ]  # fmt: skip


def _note_charts(heard: Heard, recipe: str) -> list[Chart]:
    """What the notes of the sampled pieces say."""
    style, grid = heard.style, heard.on_grid
    beat = ((0.0, "beat"), (6.0, "¼"), (8.0, "⅓"), (12.0, "½"), (16.0, "⅔"), (18.0, "¾"))
    steps = tuple(np.arange(STEPS_PER_QUARTER + 1.0) - 0.5)
    named = (*(f"{name}, {Fraction(step, STEPS_PER_QUARTER)}" for step, name in NAMED.items()), "any other")
    octaves = np.add.reduceat(heard.pitch, np.arange(0, 128, 12), axis=1)
    charts = [
        Chart("pitch", "Pitches", "pitch", "notes", _summed(heard.pitch[:, 12:120], style),
              edges=tuple(np.arange(12, 121) - 0.5), marks=tuple((c, f"C{c // 12 - 1}") for c in range(24, 120, 12))),
        Chart("classes", "Pitch classes", "pitch class", "notes", _summed(heard.classes, style), labels=CLASSES),
        Chart("octaves", "Octaves", "octave (C4 is middle C)", "notes", _summed(octaves[:, 1:10], style),
              labels=tuple(map(str, range(9)))),
        Chart("durations", "Durations, pieces on the grid", "name and quarters", "notes",
              _summed(_with_rest(heard.duration, list(NAMED))[grid], style[grid]), named, note=_dotted_in_words(heard)),
        Chart("fine", "Durations to the step, all pieces", "length, 24 steps a quarter", "notes",
              _summed(heard.duration[:, 1:51], style), edges=tuple(np.arange(1, 52) - 0.5),
              marks=((6.0, "16th"), (12.0, "eighth"), (24.0, "quarter"), (36.0, "dotted"), (48.0, "half")),
              note="Longer notes are not drawn. Teeth a step before a name: exporters that end their notes early."),
        Chart("phase", "Onsets in the quarter, all pieces", "step of the quarter, of 24", "onsets",
              _summed(heard.phase, style), edges=steps, marks=beat,
              note="A flat line is free playing; a comb is the resolution of the files, rounded to 24 steps."),
        Chart("phase_on_grid", "Onsets in the quarter, pieces on the grid", "step of the quarter, of 24", "onsets",
              _summed(heard.phase[grid], style[grid]), edges=steps, marks=beat),
        Chart("beats", "Bars", "quarters in a bar", "bars", _summed(heard.beats[:, 1:], style),
              labels=tuple(map(str, range(1, MAX_BEATS + 1)))),
        _spread(Chart("swing", "Swing, pieces on the grid", "first eighth : second eighth", "pieces",
                      edges=tuple(SECOND_EIGHTH / (STEPS_PER_QUARTER - SECOND_EIGHTH)), log=True,
                      marks=((0.5, "½"), (1, "1 straight"), (1.5, "1½"), (2, "2 triplet"), (3, "3")),
                      note="Median of the beats with just two onsets, on the 13 ratios that the grid can write."),
                style, np.where(grid, heard.swing, np.nan)),
        _spread(Chart("polyphony", "Polyphony", "notes at once, mean of the piece", "pieces",
                      edges=tuple(np.arange(1, 8.1, 0.25))), style, heard.polyphony),
        _spread(Chart("density", "Density", "notes a quarter", "pieces", edges=tuple(np.arange(0, 16.1, 0.5))),
                style, heard.density),
    ]  # fmt: skip
    if recipe == "band":
        total = heard.program.sum(axis=0)
        used = [p for p in np.argsort(-total, kind="stable").tolist() if total[p]][:MOST_LABELS]
        names = ["drums" if p == DRUMS else program_to_instrument_name(p).lower() for p in used]
        counts = _summed(_with_rest(heard.program, used), style)
        charts.append(Chart("programs", "Instruments of the notes", "program", "notes", counts, (*names, "any other")))
    return charts


def _with_rest(counts: NDArray[np.int64], columns: Sequence[int]) -> NDArray[np.int64]:
    """Some columns, and the sum of all others as the last one."""
    some = counts[:, columns]
    return np.column_stack([some, counts.sum(axis=1) - some.sum(axis=1)])


def _summed(counts: NDArray[np.int64], style: NDArray[np.str_]) -> dict[str, list[int]]:
    """Sum over the pieces of each style; styles without anything are left out."""
    sums = {name: counts[style == name].sum(axis=0).tolist() for name in np.unique(style).tolist()}
    return {name: total for name, total in sums.items() if sum(total)}


def _spread(chart: Chart, style: NDArray[np.str_], values: Floats) -> Chart:
    """The chart with one number a piece counted between its edges."""
    counts, middle = {}, {}
    inside = np.clip(values, chart.edges[0], chart.edges[-1])  # the last edge is in the last class
    for name in np.unique(style[np.isfinite(values)]).tolist():
        own = (style == name) & np.isfinite(values)
        counts[name] = np.histogram(inside[own], chart.edges)[0].tolist()
        middle[name] = float(np.median(values[own]))
    return replace(chart, counts=counts, middle=middle)


def _names(chart: Chart, pieces: pd.DataFrame) -> Chart:
    """The chart with the commonest values of its column; those of few pieces are counted together."""
    values = words(pieces[chart.key])
    common = values.value_counts().index[:MOST_LABELS].tolist()
    if pd.api.types.is_numeric_dtype(pieces[chart.key]):
        common.sort(key=lambda word: float(word) if word != UNSAID else math.inf)
    labels = (*common, "any other") if values.nunique() > len(common) else tuple(common)
    shown = values.where(values.isin(common), "any other")
    counts = pd.crosstab(pieces["style"], shown).reindex(columns=list(labels))
    return replace(chart, counts={str(style): row.tolist() for style, row in counts.iterrows()}, labels=labels)


def _shares(counts: NDArray[np.int64], steps: Sequence[int]) -> float | None:
    """Share of the notes with one of the durations; None without notes."""
    total = int(counts.sum())
    return float(counts[:, list(steps)].sum() / total) if total else None


def _dotted_in_words(heard: Heard) -> str:
    """Dotted and triplet shares of each style."""
    said = []
    for style, counts in _summed(heard.duration[heard.on_grid], heard.style[heard.on_grid]).items():
        dotted, triplet = (sum(counts[i] for i in steps) / sum(counts) for steps in (DOTTED, TRIPLET))
        said.append(f"{style}: {dotted:.1%} dotted, {triplet:.1%} triplet")
    return f"Lengths as held, to the step. {'; '.join(said)}." if said else ""


# ---------------------------------------------------------------- tables


def _totals(rows: pd.DataFrame) -> Totals:
    notes, bars, tokens = (int(rows[name].sum()) for name in ("n_notes", "n_bars", "n_tokens"))
    return Totals(len(rows), rows["group"].nunique(), notes, bars, tokens)


def _hours(pieces: pd.DataFrame, heard: Heard, clocked: bool) -> dict[str, float]:
    """Hours of each style at the first tempo of each file: the mean of the sampled pieces, for all of them.

    Args:
        clocked: cleaning gave pieces off the grid half a second a quarter, whatever the tempo of their file.
    """
    tempo = numbers(heard.rows["tempo"])
    tempo = np.where((tempo > 0) & (heard.on_grid | (not clocked)), tempo, CLOCK)
    hours = heard.beats @ np.arange(MAX_BEATS + 1) / tempo / 60
    sizes = sorted(Counter(pieces["style"]).items())
    return {style: float(hours[heard.style == style].mean() * n) for style, n in sizes}


def _places(pieces: pd.DataFrame, heard: Heard) -> list[Place]:
    """A row a collection, by style and name."""
    sampled = heard.rows.groupby(["style", "collection"]).indices
    places = []
    for (style, collection), rows in pieces.groupby(["style", "collection"]):
        at = sampled.get((style, collection), np.zeros(0, np.int64))
        grid = at[heard.on_grid[at]]
        places.append(
            Place(
                style=str(style),
                collection=str(collection),
                pieces=len(rows),
                works=rows["group"].nunique(),
                sampled=len(at),
                median_notes=float(rows["n_notes"].median()),
                on_grid=float(rows["on_grid"].mean()),
                tempo=_median(numbers(rows["tempo"])),
                swing=_median(heard.swing[grid]),
                polyphony=_median(heard.polyphony[at]),
                dotted=_shares(heard.duration[grid], DOTTED),
                triplet=_shares(heard.duration[grid], TRIPLET),
                phase=heard.phase[at].sum(axis=0).tolist(),
            )
        )
    return places


def _median(values: Floats) -> float | None:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else None


def _rejected(corpus: Corpus, most: int = 3) -> list[tuple[str, int, list[str]]]:
    """Reasons, how many files each, and the commonest details; the most files first."""
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
