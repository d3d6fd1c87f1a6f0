"""What a corpus holds, and what in it gives the style away: a prepared corpus to plain data.

Knows nothing of pages. The table of pieces is read whole; of the notes, a sample of each style, a few pieces at a
time. Columns and entries that older corpora lack are left out, and a line says so.
"""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray
from pretty_midi import program_to_instrument_name
from sklearn.ensemble import RandomForestClassifier
from sklearn.tree import DecisionTreeClassifier

from mgen.corpus.clean import LONGEST, STEPS
from mgen.corpus.shards import PIECES, REJECTED, TOKENS, Corpus
from mgen.corpus.split import SPLITS
from mgen.errors import MgenError
from mgen.evaluation import metrics
from mgen.evaluation.metrics import Floats, divide
from mgen.notes import MAX_BEATS, STEPS_PER_QUARTER, Notes

SAMPLE = 2000
"""Pieces of a style whose notes are read."""

GUESSED = 1000
"""Pieces of a style that the style is guessed of from their notes."""

FOLDS = 5
DEALS = 3
"""How often collections are dealt into parts: they are few and of all sizes."""

SURE = 3.0
"""Standard errors above a blind guess from which a guess counts as a leak; some thirty are looked at."""

LEAST = 0.02
"""Share of pieces above a blind guess below which a leak is not worth a line."""

READ_AT_ONCE = 32  # pieces; decoding takes some hundred bytes a token
DRUMS = 128  # a program after all others
MOST_LABELS = 12
CLOCK = 120.0
"""Quarters a minute of what has no tempo: a performance whose bars cleaning made two seconds long, an old table."""

SECOND_EIGHTH = np.arange(8, 22) - 0.5  # grid steps between those where the metric swing looks for it

NAMED = {
    2: "32nd triplet",
    3: "32nd",
    4: "16th triplet",
    6: "16th",
    8: "eighth triplet",
    9: "dotted 16th",
    12: "eighth",
    16: "quarter triplet",
    18: "dotted eighth",
    24: "quarter",
    32: "half triplet",
    36: "dotted quarter",
    48: "half",
    72: "dotted half",
    96: "whole",
    144: "dotted whole",
}
"""Durations in grid steps that have a name."""

DOTTED = tuple(steps for steps, name in NAMED.items() if name.startswith("dotted"))
TRIPLET = tuple(steps for steps, name in NAMED.items() if name.endswith("triplet"))

REQUIRED = ("style", "collection", "work", "split", "on_grid", "n_notes", "n_bars", "n_tokens")
CLASSES = ("C", "C♯", "D", "E♭", "E", "F", "F♯", "G", "A♭", "A", "B♭", "B")


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
    "ticks_per_quarter": Clue(
        "Ticks a quarter", False, f"{_GONE} Onsets are rounded to 24 steps, which may leave a comb."
    ),
    "tempo": Clue("Tempo of the file", False, f"{_GONE} Notes a quarter may keep its trace."),
    "n_tempos": Clue("Number of tempos", False, _GONE),
    "n_tracks": Clue("Number of tracks", False, _GONE),
    "n_programs": Clue("Number of instruments", False, _ONE),
    "instrument": Clue("Instrument", False, _ONE),
    "pedal": Clue("Sustain pedal", False, f"{_GONE} Durations are as the keys were held."),
    "velocities": Clue(
        "Number of velocities", True, "Their range is gone and their ranks stay: a file of one velocity still shows."
    ),
    "time_signature": Clue(
        "Time signature of the file", True, "What cleaning did not replace stays as the length of bars (6/8 as 3/4)."
    ),
    "metre": Clue("Metre that cleaning replaced", False, "It is replaced: no token holds it."),
    "on_grid": Clue("On the beat grid or not", True, f"It stays in the onsets. {_ON_GRID}"),
    "grid_strength": Clue("How strongly onsets keep to the grid", True, f"It stays in the onsets. {_ON_GRID}"),
    "grid_offset": Clue("Offset from the grid", False, "Cleaning removes it where notes are on a grid."),
    "voices": Clue("Notes at once", True, "It is music: choose collections of like texture in every style."),
    "track": Clue("Which track it was", False, _GONE),
    "chunk": Clue("Which part of its file it was", False, _GONE),
    "dropped_notes": Clue("Number of notes out of range", False, "They are dropped: no token writes them."),
    "collection_size": Clue(
        "Size of the collection",
        False,
        "No token holds it. Draw collections evenly, or a large one stands for its style.",
    ),
}
"""What a row of pieces.parquet says of the file, in order; `collection_size` is counted here."""

TOGETHER = "together"
TIMED = ("phase", "duration")

MARGINALS = {
    "phase": Clue("Onset phase", True, "It is how the file was made before it is rhythm."),
    "duration": Clue(
        "Durations",
        True,
        "Exact lengths are a habit of exporters as much as music: distrust a judge that falls without them.",
    ),
    "velocity": Clue(
        "Velocities",
        True,
        "Their ranks stay, so files of one velocity show: set all to one and see what a judge still knows.",
    ),
    "density": Clue("Notes a quarter", True, "At a nominal tempo they are anything: hold rewards to a band."),
    "polyphony": Clue("Polyphony", True, "Choose collections of like texture in every style."),
    "range": Clue("Pitch range", True, "Transpose in training, and choose collections of like instruments."),
    "classes": Clue("Pitch classes", True, "Keys show, and so does harmony: transpose in training."),
    "bars": Clue("Lengths of bars", True, "Judge music of one metre, or leave bar lengths out."),
    "length": Clue("Length of the piece", True, "Judge excerpts of one length, never whole pieces."),
    TOGETHER: Clue(
        "All counts of notes together",
        True,
        "A judge reaches this without hearing which note follows which: ask it for more.",
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
    counts: dict[str, list[int]]
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
        works: of all styles; one may be in several.
        hours: of each style, estimated from the sample.
        hours_at: how the hours were reckoned.
        sampled: pieces of each style whose notes were read.
        splits: style -> split -> sizes.
        shared_works: works that are in more than one split.
        works_by: the column that works are told by.
        columns: what the table of pieces tells of the style, worst first.
        marginals: what the cleaned notes tell of it, worst first.
        rejected: (reason, files, commonest details).
        cleaning: (step, what it does, counts by name) of each step.
        missing: a line for each part that this corpus has no numbers for.
    """

    name: str
    fingerprint: str
    recipe: str
    scanned: int
    seed: int
    styles: dict[str, Totals]
    works: int
    hours: dict[str, float]
    hours_at: str
    sampled: dict[str, int]
    charts: list[Chart]
    places: list[Place]
    splits: dict[str, dict[str, Totals]]
    shared_works: int
    works_by: str
    columns: list[Leak]
    marginals: list[Leak]
    rejected: list[tuple[str, int, list[str]]]
    cleaning: list[tuple[str, str, dict[str, int]]]
    duplicates: dict[str, int]
    overlap: dict[str, Any]
    collection_overlap: dict[str, Any]
    options: dict[str, Any]
    missing: list[str]

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON takes it; None for a number that is not defined."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain


def insight(corpus: Corpus, sample: int = SAMPLE, seed: int = 0) -> Insight:
    """Measure a corpus.

    Args:
        corpus: as `mgen prepare` wrote it.
        sample: pieces of each style whose notes are read, at most.
        seed: of the sample and of the guessing.

    Raises:
        MgenError: The corpus has no pieces, its table lacks a column that every corpus has, or its shards are
            missing or damaged.
    """
    pieces, manifest = _checked(corpus), corpus.manifest
    works_by = "group" if "group" in pieces and pieces["group"].notna().all() else "work"
    taken = _drawn(pieces, sample, seed)
    heard = listen(corpus, pieces, taken)
    missing: list[str] = []
    charts = [*_table_charts(pieces, missing), *_note_charts(heard, str(manifest.get("recipe")), missing)]
    for key, what in _OPTIONAL.items():
        if not manifest.get(key):
            missing.append(f"{what}: {corpus.folder.name}/corpus.json has no '{key}'.")
    columns, marginals = _leaks(pieces, heard, works_by, str(manifest.get("recipe")), seed, missing)
    hours, hours_at = _hours(pieces, heard, "clock" in (manifest.get("cleaning") or {}))
    return Insight(
        name=corpus.folder.resolve().name,
        fingerprint=corpus.fingerprint,
        recipe=str(manifest.get("recipe")),
        scanned=int(manifest.get("scanned", len(pieces))),
        seed=seed,
        styles={str(style): _totals(rows, works_by) for style, rows in pieces.groupby("style")},
        works=int(pieces[works_by].nunique()),
        hours=hours,
        hours_at=hours_at,
        sampled={str(style): len(rows) for style, rows in heard.rows.groupby("style")},
        charts=charts,
        places=_places(pieces, heard, works_by),
        splits={
            str(style): {name: _totals(rows[rows["split"] == name], works_by) for name in SPLITS}
            for style, rows in pieces.groupby("style")
        },
        shared_works=int((pieces.groupby(works_by)["split"].nunique() > 1).sum()),
        works_by=works_by,
        columns=columns,
        marginals=marginals,
        rejected=_rejected(corpus),
        cleaning=[
            (step, (STEPS | _ALWAYS).get(step, ""), dict(counts))
            for step, counts in (manifest.get("cleaning") or {}).items()
        ],
        duplicates=dict(manifest.get("duplicates") or {}),
        overlap=dict(manifest.get("overlap") or {}),
        collection_overlap=dict(manifest.get("collection_overlap") or {}),
        options=dict(manifest.get("options") or {}),
        missing=missing,
    )


_ALWAYS = {
    "doubled": "notes that start together on one pitch are joined",
    "percussion": "drums are dropped",
}
"""Steps of cleaning that cannot be left out, and so are not among `STEPS`."""

_OPTIONAL = {
    "cleaning": "What cleaning did",
    "duplicates": "Duplicates",
    "overlap": "The largest overlap of train and test",
    "collection_overlap": "Overlap of collections",
}


def _checked(corpus: Corpus) -> pd.DataFrame:
    pieces = corpus.pieces
    path = corpus.folder / PIECES
    lacking = [name for name in REQUIRED if name not in pieces]
    if lacking:
        raise MgenError(
            f"{path}: expected the column {lacking[0]}, found {', '.join(map(str, pieces))}; prepare it again"
        )
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
    swing: Floats  # (S,) and below: as in mgen.evaluation.metrics
    polyphony: Floats
    density: Floats

    @property
    def on_grid(self) -> NDArray[np.bool_]:
        """(S,) whether the piece was written on the beat grid of its file."""
        return self.rows["on_grid"].to_numpy(bool)

    @property
    def quarters(self) -> NDArray[np.int64]:
        """(S,) length in quarter notes."""
        return self.beats @ np.arange(MAX_BEATS + 1)


_COUNTED = ("pitch", "duration", "velocity", "program", "phase", "beats")
_MEASURED = ("swing", "polyphony", "density")


def listen(corpus: Corpus, pieces: pd.DataFrame, taken: NDArray[np.bool_]) -> Heard:
    """Count the notes of the pieces where `taken` (P,) is True, in the order of the table.

    Raises:
        MgenError: A shard is missing or damaged, or does not hold what the table says.
    """
    rows: list[NDArray[np.int64]] = []
    parts: list[dict[str, NDArray[Any]]] = []
    for piece, ids in _batches(corpus, taken):
        rows.append(piece)
        parts.append(_heard(Notes.from_ids(ids, corpus.remi)))
    piece = np.concatenate([*rows, np.zeros(0, np.int64)])
    if len(piece) != taken.sum() or len(np.unique(piece)) != len(piece):
        raise MgenError(
            f"{corpus.folder / TOKENS}: {len(np.unique(piece))} of the {int(taken.sum())} pieces drawn from {PIECES} "
            "are there; prepare it again"
        )
    order = np.argsort(piece)
    columns = {name: np.concatenate([part[name] for part in parts])[order] for name in parts[0]}
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
    pitched = metrics.pitched(notes)
    begins, onset = metrics.onsets(notes)
    return {
        "pitch": _counted(pitched.piece, pitched.pitch, n, 128),
        "duration": _counted(pitched.piece, np.minimum(pitched.duration, LONGEST), n, LONGEST + 1),
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


# ---------------------------------------------------------------- charts


def _table_charts(pieces: pd.DataFrame, missing: list[str]) -> list[Chart]:
    """What the table says of all pieces."""
    powers = range(4, 17)
    charts = [
        _spread("notes", "Notes a piece", "notes, log scale", pieces, pieces["n_notes"].to_numpy(float),
                2.0 ** np.arange(4, 16.1, 0.5), marks=[(2**p, f"{2**p:,}") for p in powers if p % 2 == 0], log=True)
    ]  # fmt: skip
    if _there(pieces, "tempo", "Tempo", missing):
        charts.append(
            _spread("tempo", "Tempo of the file", "quarters a minute", pieces, _numbers(pieces["tempo"]),
                    np.arange(30, 301, 10.0), note="What the file claims. A recorder that nobody told writes 120.")
        )  # fmt: skip
    for name, title, x in (
        ("time_signature", "Time signature of the file", "as written"),
        ("instrument", "Instruments", "as the file names them"),
        ("format", "File format", "as scanned"),
        ("ticks_per_quarter", "Ticks a quarter", "ticks"),
        ("n_tracks", "Tracks of the file", "tracks"),
    ):
        if _there(pieces, name, title, missing):
            charts.append(_names(name, title, x, "pieces", pieces))
    return charts


def _note_charts(heard: Heard, recipe: str, missing: list[str]) -> list[Chart]:
    """What the notes of the sampled pieces say."""
    rows, grid = heard.rows, heard.on_grid
    everything = np.ones(len(rows), bool)
    beat = ((0.0, "beat"), (6.0, "¼"), (8.0, "⅓"), (12.0, "½"), (16.0, "⅔"), (18.0, "¾"))
    steps = tuple(np.arange(STEPS_PER_QUARTER + 1.0) - 0.5)
    named = np.array(list(NAMED))
    lengths = np.column_stack(
        [heard.duration[:, named], heard.duration.sum(axis=1) - heard.duration[:, named].sum(axis=1)]
    )
    quarters = [f"{name}, {Fraction(step, STEPS_PER_QUARTER)}" for step, name in NAMED.items()]
    octaves = np.add.reduceat(heard.pitch, np.arange(0, 128, 12), axis=1)
    classes = np.stack([heard.pitch[:, pitch_class::12].sum(axis=1) for pitch_class in range(12)], axis=1)
    charts = [
        Chart("pitch", "Pitches", "pitch", "notes", _summed(heard.pitch[:, 12:120], rows, everything),
              edges=tuple(np.arange(12, 121) - 0.5), marks=tuple((c, f"C{c // 12 - 1}") for c in range(24, 120, 12))),
        Chart("classes", "Pitch classes", "pitch class", "notes", _summed(classes, rows, everything), labels=CLASSES),
        Chart("octaves", "Octaves", "octave (C4 is middle C)", "notes", _summed(octaves[:, 1:10], rows, everything),
              labels=tuple(str(octave) for octave in range(9))),
        Chart("durations", "Durations, pieces on the grid", "name and quarters", "notes", _summed(lengths, rows, grid),
              labels=(*quarters, "any other"), note=_dotted_in_words(heard)),
        Chart("fine", "Durations to the step, all pieces", "length, 24 steps a quarter", "notes",
              _summed(heard.duration[:, 1:51], rows, everything), edges=tuple(np.arange(1, 52) - 0.5),
              marks=((6.0, "16th"), (12.0, "eighth"), (24.0, "quarter"), (36.0, "dotted"), (48.0, "half")),
              note="Longer notes are not drawn. Teeth a step before a name: exporters that end their notes early."),
        Chart("phase", "Onsets in the quarter, all pieces", "step of the quarter, of 24", "onsets",
              _summed(heard.phase, rows, everything), edges=steps, marks=beat,
              note="A flat line is free playing; a comb is the resolution of the files, rounded to 24 steps."),
        Chart("phase_on_grid", "Onsets in the quarter, pieces on the grid", "step of the quarter, of 24", "onsets",
              _summed(heard.phase, rows, grid), edges=steps, marks=beat),
        Chart("beats", "Bars", "quarters in a bar", "bars", _summed(heard.beats[:, 1:], rows, everything),
              labels=tuple(str(n) for n in range(1, MAX_BEATS + 1))),
        _spread("swing", "Swing, pieces on the grid", "first eighth : second eighth", rows,
                np.where(grid, heard.swing, np.nan), SECOND_EIGHTH / (STEPS_PER_QUARTER - SECOND_EIGHTH),
                marks=[(0.5, "½"), (1, "1 straight"), (1.5, "1½"), (2, "2 triplet"), (3, "3")], log=True,
                note="Median of the beats with just two onsets, on the 13 ratios that the grid can write."),
        _spread("polyphony", "Polyphony", "notes at once, mean of the piece", rows, heard.polyphony,
                np.arange(1, 8.1, 0.25)),
        _spread("density", "Density", "notes a quarter", rows, heard.density, np.arange(0, 16.1, 0.5)),
    ]  # fmt: skip
    if recipe == "band":
        used = np.flatnonzero(heard.program.sum(axis=0))
        used = used[np.argsort(-heard.program[:, used].sum(axis=0), kind="stable")][:MOST_LABELS]
        rest = heard.program.sum(axis=1) - heard.program[:, used].sum(axis=1)
        names = ["drums" if p == DRUMS else program_to_instrument_name(p).lower() for p in used.tolist()]
        counts = _summed(np.column_stack([heard.program[:, used], rest]), rows, everything)
        charts.append(Chart("programs", "Instruments of the notes", "program", "notes", counts, (*names, "any other")))
    elif "instrument" not in rows:
        missing.append(f"Instruments of the notes: the recipe {recipe} makes one of all.")
    shown = [chart for chart in charts if any(map(sum, chart.counts.values()))]
    missing += [f"{chart.title}: no piece has any." for chart in charts if chart not in shown]
    return shown


def _there(pieces: pd.DataFrame, name: str, what: str, missing: list[str]) -> bool:
    """Whether the table has a column with something in it; says so if not."""
    if name in pieces and pieces[name].notna().any():
        return True
    missing.append(f"{what}: the table of pieces has no column {name}.")
    return False


def _numbers(column: pd.Series[Any]) -> Floats:
    return pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan)


def _summed(counts: NDArray[np.int64], rows: pd.DataFrame, keep: NDArray[np.bool_]) -> dict[str, list[int]]:
    """Sum over the pieces of each style that are kept; styles without any are left out."""
    style = rows["style"].to_numpy(str)
    sums = {name: counts[keep & (style == name)].sum(axis=0).tolist() for name in np.unique(style).tolist()}
    return {name: total for name, total in sums.items() if sum(total)}


def _spread(
    key: str,
    title: str,
    x: str,
    rows: pd.DataFrame,
    values: Floats,
    edges: NDArray[np.float64],
    marks: Sequence[tuple[float, str]] = (),
    log: bool = False,
    note: str = "",
) -> Chart:
    """A chart of one number a piece."""
    counts, middle = {}, {}
    for style, index in rows.groupby("style").indices.items():
        own = values[index]
        own = own[np.isfinite(own)]
        if len(own):
            inside = np.clip(own, edges[0], np.nextafter(edges[-1], -np.inf))
            counts[str(style)] = np.histogram(inside, edges)[0].tolist()
            middle[str(style)] = float(np.median(own))
    return Chart(
        key,
        title,
        x,
        "pieces",
        counts,
        edges=tuple(edges.tolist()),
        marks=tuple(marks),
        middle=middle,
        log=log,
        note=note,
    )


def _names(key: str, title: str, x: str, of: str, rows: pd.DataFrame) -> Chart:
    """A chart of the commonest values of a column; those of few pieces are counted together."""
    values = _words(rows[key])
    common = values.value_counts().index[:MOST_LABELS].tolist()
    if pd.api.types.is_numeric_dtype(rows[key]):
        common.sort(key=lambda word: float(word) if word != _UNSAID else math.inf)
    labels = [*common, "any other"] if values.nunique() > len(common) else common
    place = {word: i for i, word in enumerate(common)}
    counts = {
        str(style): np.bincount([place.get(word, len(common)) for word in own], minlength=len(labels)).tolist()
        for style, own in values.groupby(rows["style"])
    }
    return Chart(key, title, x, of, counts, labels=tuple(labels))


_UNSAID = "not said"


def _words(column: pd.Series[Any]) -> pd.Series[str]:
    """Values as they are shown; an empty or missing one is `not said`."""
    words = column.map(lambda value: f"{value:g}" if isinstance(value, float) else str(value), na_action="ignore")
    return words.astype(object).where(column.notna() & (words != ""), _UNSAID).astype(str)


def _shares(counts: NDArray[np.int64], steps: Sequence[int]) -> float | None:
    """Share of the notes with one of the durations; None without notes."""
    total = int(counts.sum())
    return float(counts[:, list(steps)].sum() / total) if total else None


def _dotted_in_words(heard: Heard) -> str:
    """Dotted and triplet shares of each style."""
    said = []
    for style, rows in heard.rows.groupby("style"):
        own = heard.duration[rows.index.to_numpy()[rows["on_grid"].to_numpy(bool)]]
        dotted, triplet = _shares(own, DOTTED), _shares(own, TRIPLET)
        if dotted is not None and triplet is not None:
            said.append(f"{style}: {dotted:.1%} dotted, {triplet:.1%} triplet")
    return f"Lengths as held, to the step. {'; '.join(said)}." if said else ""


# ---------------------------------------------------------------- tables


def _totals(rows: pd.DataFrame, works_by: str) -> Totals:
    notes, bars, tokens = (int(rows[name].sum()) for name in ("n_notes", "n_bars", "n_tokens"))
    return Totals(len(rows), int(rows[works_by].nunique()), notes, bars, tokens)


def _hours(pieces: pd.DataFrame, heard: Heard, clocked: bool) -> tuple[dict[str, float], str]:
    """Hours of each style, the mean of the sampled pieces for all of them, and at which tempo.

    Args:
        clocked: cleaning gave pieces off the grid half a second a quarter, whatever the tempo of their file.
    """
    tempo = _numbers(heard.rows["tempo"]) if "tempo" in heard.rows else np.full(len(heard.rows), np.nan)
    tempo = np.where(np.isfinite(tempo) & (tempo > 0), tempo, CLOCK)
    tempo = np.where(heard.on_grid, tempo, CLOCK) if clocked else tempo
    seconds = heard.quarters * 60 / tempo
    style, all_styles = heard.rows["style"].to_numpy(str), pieces["style"].to_numpy(str)
    hours = {
        name: float(seconds[style == name].mean() * (all_styles == name).sum() / 3600)
        for name in np.unique(style).tolist()
    }
    return hours, "the first tempo of each file" if "tempo" in heard.rows else f"{CLOCK:g} quarters a minute"


def _places(pieces: pd.DataFrame, heard: Heard, works_by: str) -> list[Place]:
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
                works=int(rows[works_by].nunique()),
                sampled=len(at),
                median_notes=float(rows["n_notes"].median()),
                on_grid=float(rows["on_grid"].mean()),
                tempo=_median(_numbers(rows["tempo"])) if "tempo" in rows else None,
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
    count = {str(reason): int(files) for reason, files in (corpus.manifest.get("rejected") or {}).items()}
    details: dict[str, Counter[str]] = {reason: Counter() for reason in count}
    path = corpus.folder / REJECTED
    if path.is_file():
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                details.setdefault(row["reason"], Counter())[row["detail"]] += 1
    for reason, found in details.items():
        count.setdefault(reason, found.total())
    told = {
        reason: [f"{detail} ({files:,})" for detail, files in found.most_common(most) if detail]
        for reason, found in details.items()
    }
    return [(reason, files, told[reason]) for reason, files in sorted(count.items(), key=lambda entry: -entry[1])]


# ---------------------------------------------------------------- leaks


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
    table = np.asarray(features, np.float64)
    table = table[:, None] if table.ndim == 1 else table
    styles, of = np.unique(style, return_inverse=True)
    _, group = np.unique(group, return_inverse=True)
    folds = min(FOLDS, *(len(np.unique(group[of == k])) for k in range(len(styles)))) if len(styles) > 1 else 0
    if folds < 2:
        return None
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


def _leaks(
    pieces: pd.DataFrame, heard: Heard, works_by: str, recipe: str, seed: int, missing: list[str]
) -> tuple[list[Leak], list[Leak]]:
    """What the columns and the notes tell, each worst first."""
    if pieces["style"].nunique() < 2:
        missing.append("Leaks: the corpus has one style, so there is nothing to tell apart.")
        return [], []
    columns = column_leaks(pieces, works_by, recipe, seed, missing)
    few = np.flatnonzero(_drawn(heard.rows, GUESSED, seed))
    tables = {name: table[few] for name, table in _marginals(heard).items()}
    tables[TOGETHER] = np.column_stack(list(tables.values()))
    rows = heard.rows.iloc[few]
    grid = rows["on_grid"].to_numpy(bool)
    found = []
    for name, table in tables.items():
        leak = _leak(name, MARGINALS[name], table, rows, works_by, seed)
        if leak is not None:
            on_grid = (
                _guessed(table[grid], rows[grid], works_by, seed)
                if set(rows["style"]) == set(rows["style"][grid])
                else None
            )
            found.append(Leak(leak.key, leak.clue, leak.works, leak.collections, on_grid))
    return columns, _worst_first(found)


def column_leaks(
    pieces: pd.DataFrame, works_by: str = "work", recipe: str = "piano", seed: int = 0, missing: list[str] | None = None
) -> list[Leak]:
    """What each column of `COLUMNS` that the table has tells of the style, worst first.

    Args:
        pieces: P rows with style, collection and the column `works_by`.
        recipe: `band` keeps instruments.
        missing: gets a line that names the columns that are not there.
    """
    found: list[Leak] = []
    lacking: list[str] = []
    table = pieces.assign(collection_size=pieces.groupby("collection")["collection"].transform("size"))
    for name, clue in COLUMNS.items():
        if name not in table:
            lacking.append(name)
            continue
        if recipe == "band" and name in ("n_programs", "instrument"):
            clue = Clue(clue.title, True, "The recipe band writes instruments: judge the recipe piano.")
        codes = _codes(table[name])
        if len(np.unique(codes)) < 2:
            continue
        leak = _leak(name, clue, codes, table, works_by, seed)
        if leak is not None:
            found.append(leak)
    if lacking and missing is not None:
        missing.append(f"Leaks: the table of pieces has no column {', '.join(lacking)}.")
    return _worst_first(found)


def _leak(name: str, clue: Clue, features: Floats, rows: pd.DataFrame, works_by: str, seed: int) -> Leak | None:
    works = _guessed(features, rows, works_by, seed)
    return Leak(name, clue, works, _guessed(features, rows, "collection", seed)) if works else None


def in_words(leak: Leak) -> str:
    """What a leak tells, what that means, and what to do."""
    works, collections, on_grid = leak.works, leak.collections, leak.on_grid
    said = [f"{leak.clue.title} alone: {_hundred(works)} in 100 pieces of works not seen before"]
    if collections is not None:
        said[0] += f", {_hundred(collections)} of collections not seen before"
    said[0] += f" (blind: {round(100 * works.blind)})"
    if collections is not None and works.above:
        said.append(_across(works, collections))
    said.append(leak.clue.advice)
    if on_grid is not None and works.above:
        if on_grid.accuracy + on_grid.error < works.accuracy - works.error:
            said.append(f"On the grid it falls to {_hundred(on_grid)}: mgen prepare --on-grid-only")
        elif leak.key in TIMED:
            said.append(
                f"On the grid it is still {_hundred(on_grid)}, so --on-grid-only does not mend it: "
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


def _hundred(guess: Guess) -> int:
    return round(100 * guess.accuracy)


def _guessed(features: Floats, rows: pd.DataFrame, by: str, seed: int) -> Guess | None:
    deals = DEALS if by == "collection" else 1
    return guess(features, rows["style"].to_numpy(str), rows[by].to_numpy(str), seed, deals)


def _worst_first(leaks: list[Leak]) -> list[Leak]:
    return sorted(leaks, key=lambda leak: -leak.works.accuracy)


def _codes(column: pd.Series[Any], most: int = 30) -> Floats:
    """(P,) numbers as they are, words by how common they are; rare words share a number."""
    if pd.api.types.is_bool_dtype(column) or pd.api.types.is_numeric_dtype(column):
        return _numbers(column)
    words = _words(column)
    place = {word: float(i) for i, word in enumerate(words.value_counts().index[:most])}
    return words.map(lambda word: place.get(word, float(most))).to_numpy(np.float64)


_EDGES = np.array([*range(1, 25), 25, 48, 49, 72, 73, 96, 97])  # grid steps: each up to a quarter, then the named ones


def _marginals(heard: Heard) -> dict[str, Floats]:
    """(S, F) features of each piece under the names of `MARGINALS`."""
    pitches = np.arange(128)
    some = heard.pitch > 0
    notes = heard.pitch.sum(axis=1)
    low, high = some.argmax(axis=1), 127 - some[:, ::-1].argmax(axis=1)
    velocities = np.add.reduceat(heard.velocity, np.arange(0, 128, 16), axis=1)
    return {
        "phase": _normal(heard.phase),
        "duration": _normal(np.add.reduceat(heard.duration, _EDGES, axis=1)),
        "velocity": np.column_stack([_normal(velocities), (heard.velocity > 0).sum(axis=1)]),
        "density": heard.density[:, None],
        "polyphony": heard.polyphony[:, None],
        "range": np.column_stack([low, high, high - low, divide(heard.pitch @ pitches, notes)]),
        "classes": _normal(np.stack([heard.pitch[:, k::12].sum(axis=1) for k in range(12)], axis=1)),
        "bars": _normal(heard.beats[:, 1:]),
        "length": np.column_stack([notes, heard.beats.sum(axis=1)]).astype(np.float64),
    }


def _normal(counts: NDArray[np.int64]) -> Floats:
    """Shares of each row."""
    return divide(counts, counts.sum(axis=1, keepdims=True))


def _plain(value: Any) -> Any:
    """What JSON can write."""
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
