"""Which metrics, rewards and critics detect which corruption of real music.

`mgen.workflows.corruptions.measure_corruptions("corpus")`
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from critics.style import StyleCritic
from critics.validation.card import CORRUPTION_TRANSFORMS, FORMAT_TRANSFORMS
from mgen.arrays import Mask
from mgen.corpus.shards import Corpus
from mgen.corpus.split import SPLITS
from mgen.corpus.windows import sample_windows
from mgen.evaluation.corruption_table import REAL, CorruptionTable, Measure, corruption_table
from mgen.evaluation.folders import draw_excerpts, read_folder
from mgen.files import check_new_folder
from mgen.judgement import Judge, judged
from mgen.music.metrics import METRICS
from mgen.notes import Notes
from mgen.options import from_keywords, option, target_style
from mgen.progress import Progress, counted, silent
from mgen.stats.intervals import Interval
from mgen.stats.set_metrics import set_metrics
from mgen.transforms.corruptions import EXTRA_CORRUPTIONS
from mgen.transforms.rebuild import Transform
from rewards import REWARDS
from rewards.bands import fit_bands

BASS = range(32, 40)  # programs of basses, which `solo` leaves out
JUDGE_PREFIXES = ("reward ", "critic ")  # prefixes of the columns whose values are higher for better music
CORRUPTION_ROWS: dict[str, Transform] = {**CORRUPTION_TRANSFORMS, **EXTRA_CORRUPTIONS}
FORMAT_ROWS: dict[str, Transform] = FORMAT_TRANSFORMS


@dataclass
class CorruptionsConfig:
    """Options of `mgen corruptions`."""

    corpus: str = option("", "Folder written by mgen prepare: the real music.")
    midi: str = option("", "Folder of music files instead of a corpus.")
    split: str = option("test", "Split of the corpus.", words=SPLITS)
    style: str = option("", "Style of the corpus; may be left out if it has one style and `other`.")
    n: int = option(256, "Pieces, at most.", least=2)
    excerpt_tokens: int = option(512, "Tokens of an excerpt of a corpus.", least=16)
    excerpt_notes: int = option(128, "Notes of an excerpt of a file; 0: complete files.", least=0)
    solo: bool = option(False, "Files: without basses (programs 32 to 39) and drums.")
    rewards: list[str] = option(list(REWARDS), "Rewards; all by default.", words=tuple(REWARDS))
    critic: str = option("", "Model folder of a style critic, for one more column.")
    sets: bool = option(True, "Also compare each row as a set with real music.")
    out: str = option("", "Folder for corruptions.json and .csv; must be new or empty.")
    seed: int = option(0, "Of excerpts, corruptions and resamples.")

    def __post_init__(self) -> None:
        if bool(self.corpus) == bool(self.midi):
            raise ValueError("expected either --corpus or --midi; see --help")


@dataclass(frozen=True)
class RealMusic:
    """The music that is corrupted."""

    notes: Notes  # B pieces
    work: NDArray[np.str_]  # (B,) their works
    band_notes: Notes  # real pieces of the same length, on which the bands of rewards are measured
    about: str  # a description
    on_grid: Mask | None = None  # which of `band_notes` are on the beat grid; None: all


@dataclass(frozen=True)
class CorruptionsResult:
    """The table of measures and corruptions."""

    table: CorruptionTable  # of metrics, rewards and critic
    sets: dict[str, dict[str, Interval]]  # row -> set metrics; empty without them
    facts: dict[str, Any]  # the content of corruptions.json


def measure_corruptions(
    corpus: Path | str = "", *, midi: Path | str = "", out: Path | str = "", progress: Progress = silent, **options: Any
) -> CorruptionsResult:
    """Measures corruptions of real music with every metric, reward and critic.

    Args:
        corpus: folder written by `mgen prepare`; or
        midi: a folder of music files.
        out: for corruptions.json and corruptions.csv, new or empty; nothing is written without it.
        progress: takes the count of the rows.
        options: other fields of `CorruptionsConfig`.

    Raises:
        MgenError: An option does not exist or is out of range, there is no such music, or `out` is not empty.
    """
    options |= {"corpus": str(corpus), "midi": str(midi), "out": str(out)}
    return run_corruptions(from_keywords(CorruptionsConfig, "corruptions", options), progress)


def run_corruptions(config: CorruptionsConfig, progress: Progress = silent) -> CorruptionsResult:
    """As `measure_corruptions`, for options that are a `CorruptionsConfig` already."""
    out = check_new_folder(config.out) if config.out else None
    started = time.monotonic()
    music = _from_corpus(config) if config.corpus else _from_folder(config)
    rows = {**CORRUPTION_ROWS, **FORMAT_ROWS}
    measures = build_measures(config, music.band_notes, music.on_grid)
    table = corruption_table(music.notes, music.work, measures, rows, config.seed, progress)
    sets = _compare_sets(music, config.seed, progress) if config.sets else {}
    facts = {
        "about": music.about,
        **table.to_json(),
        "format": list(FORMAT_ROWS),
        "sets": {row: {name: cell.to_json() for name, cell in cells.items()} for row, cells in sets.items()},
        "seconds": round(time.monotonic() - started, 1),
    }
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "corruptions.csv").write_text(table.to_csv(), encoding="utf-8")
        (out / "corruptions.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
    return CorruptionsResult(table, sets, facts)


def build_measures(config: CorruptionsConfig, band_notes: Notes, on_grid: Mask | None = None) -> dict[str, Measure]:
    """The columns: all metrics, the rewards with bands of `band_notes`, and the critic."""
    out: dict[str, Measure] = dict(METRICS)
    reward, critic = JUDGE_PREFIXES
    if config.rewards:
        bands = fit_bands(band_notes, on_grid)
        available = [name for name in config.rewards if name not in bands.left_out]
        out |= {f"{reward}{name}": _score(name, REWARDS[name](bands)) for name in available}
    if config.critic:
        judge = StyleCritic.from_pretrained(config.critic)
        out[f"{critic}{judge.positive}"] = _score("style", judge)
    return out


def _score(name: str, judge: Judge) -> Measure:
    """A judge's score; its worst value where it is undefined, as in training."""
    return lambda notes: judged(name, judge, notes).score.astype(np.float64)


def _from_corpus(config: CorruptionsConfig) -> RealMusic:
    """Excerpts of equal length of a split; the bands are measured on the split train."""
    corpus = Corpus.open(config.corpus)
    style = target_style(config.style, corpus.remi.style_ids, "style")
    parts: list[tuple[Notes, pd.DataFrame]] = []
    for split, n in ((config.split, config.n), ("train", max(config.n, 256))):
        table = corpus.table(split, style)
        rng = np.random.default_rng([config.seed, len(parts)])
        windows, piece = sample_windows(table, corpus.remi, n, config.excerpt_tokens, rng)
        parts.append((Notes.from_ids(list(windows), corpus.remi), table.rows.iloc[piece]))
    (notes, rows), (band_notes, band_rows) = parts
    about = f"{config.n} excerpts of {config.excerpt_tokens} tokens, {style}, {config.split}"
    work, on_grid = rows["group"].to_numpy(str), band_rows["on_grid"].to_numpy(bool)
    return RealMusic(notes, work, band_notes, f"{about}; bands of rewards from train", on_grid)


def _from_folder(config: CorruptionsConfig) -> RealMusic:
    """Excerpts of files; the bands are measured on the same excerpts."""
    folder = read_folder(Path(config.midi), "band" if config.solo else "piano")
    if config.solo:
        program = folder.notes.program
        solo = folder.notes.select((program >= 0) & ~np.isin(program, BASS))
        some = np.flatnonzero(solo.counts > 0)
        folder = replace(folder, notes=solo.pieces(some), work=folder.work[some])
    drawn = draw_excerpts(folder, config.n, config.excerpt_notes, np.random.default_rng(config.seed))
    unit = f"excerpts of {config.excerpt_notes} notes" if config.excerpt_notes else "complete files"
    about = f"{drawn.notes.n_pieces} {unit} of {config.midi}; bands of rewards from the same pieces"
    return RealMusic(drawn.notes, drawn.work, drawn.notes, about)


def _compare_sets(music: RealMusic, seed: int, progress: Progress) -> dict[str, dict[str, Interval]]:
    """Set metrics of each row."""
    out = {REAL: set_metrics(music.notes, music.notes, music.work, music.work, seed=seed)}
    rows = {**CORRUPTION_ROWS, **FORMAT_ROWS}
    for row, transform in counted(progress, "sets", rows.items()):
        notes = transform(music.notes, np.random.default_rng(seed))  # as in the table
        out[row] = set_metrics(music.notes, notes, music.work, music.work, seed=seed)
    return out
