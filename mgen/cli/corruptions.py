"""Break real music on purpose, and see which metrics, rewards and critics hear it.

    mgen corruptions --corpus corpus --critic runs/critic/model --out runs/corruptions

A row is one way of breaking music (or, `format`, of changing only what a file's format decides), a column one
metric, reward or critic. A sign is printed where the difference from the same pieces unbroken is certain.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from critics.style.critic import StyleCritic
from critics.validation.card import BROKEN, FORMAT
from mgen.cli.options import parse
from mgen.corpus.shards import Corpus
from mgen.corpus.windows import sample_windows
from mgen.errors import MgenError
from mgen.evaluation.corruption_table import REAL, CorruptionTable, Measure, corruption_table
from mgen.evaluation.folders import excerpts, read_folder
from mgen.judgement import Judge
from mgen.music.metrics import METRICS
from mgen.notes import Notes
from mgen.sampling.prompts import check_style
from mgen.stats.intervals import Interval
from mgen.stats.set_metrics import set_metrics
from mgen.transforms.corruptions import EXTRA_CORRUPTIONS
from mgen.transforms.rebuild import Transform
from rewards import REWARDS
from rewards.bands import fit_bands

BASS = range(32, 40)
"""Programs of basses, which `--solo` leaves out."""

JUDGES = ("reward ", "critic ")
"""How columns begin that give more to better music."""

WAYS: dict[str, Transform] = {**BROKEN, **EXTRA_CORRUPTIONS}
"""Rows of broken music; those of `FORMAT` follow."""


@dataclass
class CorruptionsConfig:
    """Options of `mgen corruptions`."""

    corpus: str = field(default="", metadata={"help": "Folder written by mgen prepare: the real music."})
    midi: str = field(default="", metadata={"help": "Folder of music files instead of a corpus."})
    split: str = field(default="test", metadata={"help": "Split of the corpus."})
    style: str = field(default="jazz", metadata={"help": "Style of the corpus."})
    n: int = field(default=256, metadata={"help": "Pieces, at most."})
    excerpt_tokens: int = field(default=512, metadata={"help": "Tokens of an excerpt of a corpus."})
    excerpt_notes: int = field(default=128, metadata={"help": "Notes of an excerpt of a file; 0: whole files."})
    solo: bool = field(default=False, metadata={"help": "Files: without basses (programs 32 to 39) and drums."})
    rewards: list[str] = field(default_factory=lambda: list(REWARDS), metadata={"help": "Rewards; all by default."})
    critic: str = field(default="", metadata={"help": "Model folder of a style critic, if it is to be a column."})
    sets: bool = field(default=True, metadata={"help": "Also measure each row as a set beside real music."})
    out: str = field(default="", metadata={"help": "Folder for corruptions.json and .csv; must be new or empty."})
    seed: int = field(default=0, metadata={"help": "Of excerpts, of what is broken how, and of resamples."})
    json: bool = field(default=False, metadata={"help": "Print one JSON object and nothing else."})

    def __post_init__(self) -> None:
        if bool(self.corpus) == bool(self.midi):
            raise ValueError("expected either --corpus or --midi; see --help")
        for name, least in (("n", 2), ("excerpt_tokens", 16), ("excerpt_notes", 0), ("seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} ({getattr(self, name)}) must be at least {least}")
        unknown = [name for name in self.rewards if name not in REWARDS]
        if unknown:
            raise ValueError(f"rewards: no reward is called '{unknown[0]}'; expected some of {', '.join(REWARDS)}")


@dataclass(frozen=True)
class RealMusic:
    """What is broken, and what bands are measured on.

    Attributes:
        notes: B pieces.
        work: (B,) their works.
        others: real pieces as long, for bands.
        about: what they are, in words.
    """

    notes: Notes
    work: NDArray[np.str_]
    others: Notes
    about: str


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the table; returns the exit code."""
    (config,) = parse(
        argv,
        CorruptionsConfig,
        program="mgen corruptions",
        example="mgen corruptions --corpus corpus --critic runs/critic/model --out runs/corruptions",
    )
    out = Path(config.out) if config.out else None
    if out and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise MgenError(f"{out}: not empty; choose another --out")
    began = time.monotonic()
    music = _of_corpus(config) if config.corpus else _of_folder(config)
    table = corruption_table(music.notes, music.work, measures(config, music.others), {**WAYS, **FORMAT}, config.seed)
    sets = _sets(music, config.seed) if config.sets else {}
    result = {
        "about": music.about,
        **table.to_json(),
        "format": list(FORMAT),
        "sets": {row: {name: cell.to_json() for name, cell in cells.items()} for row, cells in sets.items()},
        "seconds": round(time.monotonic() - began, 1),
    }
    if out:
        out.mkdir(parents=True, exist_ok=True)
        (out / "corruptions.csv").write_text(table.to_csv(), encoding="utf-8")
        (out / "corruptions.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
    if config.json:
        print(json.dumps(result))
    else:
        _print(table, sets, music.about, time.monotonic() - began)
    return 0


def measures(config: CorruptionsConfig, others: Notes) -> dict[str, Measure]:
    """The columns: every metric, the rewards with bands of `others`, and the critic."""
    out: dict[str, Measure] = dict(METRICS)
    if config.rewards:
        bands = fit_bands(others)
        known = [name for name in config.rewards if name not in bands.left_out]  # real pieces too short for the others
        out |= {f"{JUDGES[0]}{name}": _score(REWARDS[name](bands)) for name in known}
    if config.critic:
        critic = StyleCritic.from_pretrained(config.critic)
        out[f"{JUDGES[1]}{critic.positive}"] = _score(critic)
    return out


def _score(judge: Judge) -> Measure:
    """A judge's score; its worst value where it cannot speak, as it counts in training."""
    return lambda notes: judge(notes).score.astype(np.float64)


def _of_corpus(config: CorruptionsConfig) -> RealMusic:
    """Excerpts of equal length of a split, and of the split train for bands."""
    corpus = Corpus.open(config.corpus)
    check_style(config.style, corpus.remi)
    parts: list[tuple[Notes, NDArray[np.str_]]] = []
    for split, n in ((config.split, config.n), ("train", max(config.n, 256))):
        source = corpus.table(split, config.style)
        rng = np.random.default_rng([config.seed, len(parts)])
        windows, piece = sample_windows(source, corpus.remi, n, config.excerpt_tokens, rng)
        work = source.rows["group"].to_numpy(str)[piece]
        parts.append((Notes.from_ids(list(windows), corpus.remi), work))
    (notes, work), (others, _) = parts
    about = f"{config.n} excerpts of {config.excerpt_tokens} tokens, {config.style}, {config.split}"
    return RealMusic(notes, work, others, f"{about}; bands of rewards from train")


def _of_folder(config: CorruptionsConfig) -> RealMusic:
    """Excerpts of files; the bands are measured on these themselves."""
    folder = read_folder(Path(config.midi), "band" if config.solo else "piano")
    if config.solo:
        program = folder.notes.program
        lone = folder.notes.select((program >= 0) & ~np.isin(program, BASS))
        some = np.flatnonzero(lone.counts > 0)
        folder = type(folder)(lone.pieces(some), folder.work[some], folder.scanned, folder.rejected)
    drawn = excerpts(folder, config.n, config.excerpt_notes, np.random.default_rng(config.seed))
    what = f"excerpts of {config.excerpt_notes} notes" if config.excerpt_notes else "whole files"
    about = f"{drawn.notes.n_pieces} {what} of {config.midi}; bands of rewards from the same pieces"
    return RealMusic(drawn.notes, drawn.work, drawn.notes, about)


def _sets(music: RealMusic, seed: int) -> dict[str, dict[str, Interval]]:
    """Numbers of each row as a set beside real music."""
    out = {REAL: set_metrics(music.notes, music.notes, music.work, music.work, seed=seed)}
    for row, change in {**WAYS, **FORMAT}.items():
        notes = change(music.notes, np.random.default_rng(seed))  # as in the table
        out[row] = set_metrics(music.notes, notes, music.work, music.work, seed=seed)
    return out


def _print(table: CorruptionTable, sets: dict[str, dict[str, Interval]], about: str, seconds: float) -> None:
    console = Console(soft_wrap=True)
    for title, rows in (("broken", list(WAYS)), ("only the format changed", list(FORMAT))):
        shown = Table("", REAL, *map(_words, rows), title=title, title_justify="left")
        for name, cells in table.cells.items():
            if not np.isnan(cells[REAL].mean.value):
                signed = (f"{_number(cells[row].mean)} {cells[row].sign}" for row in rows)
                shown.add_row(name, _number(cells[REAL].mean), *signed)
        for name in next(iter(sets.values()), {}):
            if not name.startswith(("oa_", "kld_")):
                shown.add_row(f"set {name}", *(_number(sets[row][name]) for row in (REAL, *rows)))
        console.print(shown)
    blind = Table("", "cannot tell from real music", "likes better", title_justify="left")
    blind.title = "+ and -: certain; =: may be chance; ?: undefined"
    for name, cells in table.cells.items():
        if np.isnan(cells[REAL].mean.value):
            blind.add_row(name, "undefined on real music", "")
            continue
        judges = name.startswith(JUDGES)
        better = [row for row, sign in table.told(name).items() if judges and sign == "+" and row in WAYS]
        alike = [row for row in table.not_told(name) if row in WAYS]
        blind.add_row(name, ", ".join(map(_words, alike)) or "-", ", ".join(map(_words, better)))
    console.print(blind)
    console.print(f"{about}; {table.n} pieces of {table.works} works, {seconds:.0f} s", highlight=False, markup=False)


def _words(row: str) -> str:
    return row.replace("_", " ")


def _number(interval: Interval) -> str:
    return "" if np.isnan(interval.value) else f"{interval.value:.3f}"
