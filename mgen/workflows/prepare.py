"""Prepare a corpus: music files to tokens, in splits.

mgen.prepare(["music"], "corpus", styles={"jazz": "music/jazz"}, recipe="piano")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from mgen.corpus.chunks import LONG_REST, MAX_CHUNK_NOTES, MAX_SILENCE, MIN_CHUNK_NOTES
from mgen.corpus.clean import CLEANING_STEPS, RECIPES, Recipe
from mgen.corpus.prepare import prepare_corpus
from mgen.corpus.reading import MIN_NOTES, Rules
from mgen.corpus.scan import scan
from mgen.corpus.shards import Corpus
from mgen.corpus.staging import check_out
from mgen.corpus.workers import Limits
from mgen.encoding.remi import MAX_MERGES, PITCH_RANGE
from mgen.encoding.tab_events import Voice
from mgen.instruments import select
from mgen.options import from_keywords, option
from mgen.progress import Progress, silent

StyleSources = Mapping[str, str | Path] | Sequence[tuple[str, str | Path]]


@dataclass
class PrepareConfig:
    """Options of `mgen prepare` and `mgen.prepare`."""

    metadata: str = option("", "CSV with the column path (relative to the CSV) and style,collection,work,artist.")
    recipe: str = option(
        "piano",
        "piano: all instruments as one; band: with programs and drums; tabs: tracks in chunks.",
        words=RECIPES,
    )
    collections: list[str] = option([], "Read only these collections.")
    instruments: list[str] = option(
        [], "Keep only these: General MIDI names, families (guitar), programs (24-31), drums."
    )
    on_grid_only: bool = option(False, "Reject pieces that were not written on the beat grid of their file.")
    min_notes: int = option(0, f"Fewest notes of a piece; 0: {MIN_NOTES}, with tabs {MIN_CHUNK_NOTES}.", least=0)
    max_notes: int = option(
        0, f"Most notes of a piece; tabs cuts there. 0: no limit, with tabs {MAX_CHUNK_NOTES}.", least=0
    )
    min_voices: int = option(0, "Fewest simultaneous notes (95th percentile over the onsets of a piece).", least=0)
    max_voices: int = option(0, "Most simultaneous notes; 0: no limit.", least=0)
    lowest_pitch: int = option(PITCH_RANGE[0], "Drop notes below.", least=PITCH_RANGE[0], most=PITCH_RANGE[1])
    highest_pitch: int = option(PITCH_RANGE[1], "Drop notes above.", least=PITCH_RANGE[0], most=PITCH_RANGE[1])
    long_rest: float = option(LONG_REST, "tabs: quarter notes of silence at which a track is split.", least=0)
    max_silence: float = option(
        MAX_SILENCE, "tabs: drop chunks that are silent for a larger share of their time.", least=0
    )
    skip: list[str] = option([], f"Cleaning steps to leave out, of: {', '.join(CLEANING_STEPS)}.")
    pedal: bool = option(
        False, "Lengthen the notes that the sustain pedal holds, which reveals the files that have a pedal."
    )
    tab_events: bool = option(False, "tabs: also write each chunk as rows of (semitone, octave, dur_log, dotted).")
    chord_note: str = option("top", "tab_events: the note kept of a chord, top or bottom.", words=("top", "bottom"))
    velocity: bool = option(True, "Write the velocity of each note; without, notes are played with a metrical accent.")
    merges: int = option(
        0,
        "Merged tokens to learn from train: frequent runs of tokens inside one onset; 0 for none.",
        least=0,
        most=MAX_MERGES,
    )
    near_duplicates: str = option("join", "Near duplicates: join to one work, drop all but the first, or ignore.")
    split_by: str = option("work", "work; or artist: all works of an artist go to one split too.")
    workers: int = option(0, "Processes that read files; 0: one per core.", least=0, most=1024)
    timeout: float = option(Limits().seconds, "Seconds of processor time per file.", above=0)
    memory: int = option(Limits().memory, "MiB of memory per file.", above=0)
    engine: str = option("local", "local processes, or ray: a Ray cluster (RAY_ADDRESS) with shared paths.")
    resume: bool = option(False, "Continue after an interruption, or update the corpus in --out with what is new.")
    overwrite: bool = option(False, "Replace the corpus in --out once the new one is complete.")

    def __post_init__(self) -> None:
        rules = self.rules()
        for name, fewest, most in (
            ("notes", rules.min_notes, rules.max_notes),
            ("voices", rules.min_voices, rules.max_voices),
        ):
            if fewest > most > 0:
                raise ValueError(f"min_{name} ({fewest}) must not be above max_{name} ({most})")
        if self.lowest_pitch > self.highest_pitch:
            raise ValueError(
                f"lowest_pitch ({self.lowest_pitch}) must not be above highest_pitch ({self.highest_pitch})"
            )

    def rules(self) -> Rules:
        """The rules that every file is read by."""
        tabs = self.recipe == "tabs"
        return Rules(
            recipe=cast(Recipe, self.recipe),
            skip=tuple(sorted(self.skip)),
            min_notes=self.min_notes or (MIN_CHUNK_NOTES if tabs else MIN_NOTES),
            max_notes=self.max_notes or (MAX_CHUNK_NOTES if tabs and "cut" not in self.skip else 0),
            min_voices=self.min_voices,
            max_voices=self.max_voices,
            programs=tuple(sorted(select(self.instruments))),
            pitches=(self.lowest_pitch, self.highest_pitch),
            on_grid_only=self.on_grid_only,
            long_rest=self.long_rest,
            max_silence=self.max_silence,
            pedal=self.pedal,
            tab_events=self.tab_events,
            chord_note=cast(Voice, self.chord_note),
            velocity=self.velocity,
        )


@dataclass(frozen=True)
class PrepareResult:
    """A prepared corpus; `corpus.manifest` has all counts."""

    corpus: Corpus
    scanned: int  # number of files
    kept: int  # number of files with a piece
    rejected: dict[str, int]  # number of files without a piece, by reason


def prepare(
    sources: Sequence[str | Path],
    out: str | Path,
    *,
    styles: StyleSources = (),
    progress: Progress = silent,
    **options: Any,
) -> PrepareResult:
    """Prepare a corpus; see `mgen.corpus.prepare.prepare_corpus`.

    Args:
        sources: folders and zip archives of music, and files.
        out: folder of the corpus.
        styles: style name and its folder or file; music without a style is `other`.
        progress: takes the count of the files that are read.
        options: fields of `PrepareConfig`.

    Raises:
        MgenError: An option does not exist or is out of range, a source is missing, or the corpus cannot be written.
    """
    config, folder = from_keywords(PrepareConfig, "prepare", options), Path(out)
    check_out(folder, config.overwrite or config.resume)
    named = styles.items() if isinstance(styles, Mapping) else styles
    found = scan(
        [Path(source) for source in sources],
        [(name, Path(source)) for name, source in named],
        Path(config.metadata) if config.metadata else None,
        config.collections,
    )
    manifest = prepare_corpus(
        found.sources,
        folder,
        config.rules(),
        workers=config.workers or None,
        limits=Limits(config.timeout, config.memory),
        engine=config.engine,
        overwrite=config.overwrite,
        resume=config.resume,
        split_by=config.split_by,
        near_duplicates=config.near_duplicates,
        merges=config.merges,
        # Paths and workers are left out: the same music gives the same manifest.
        options={"collections": config.collections, "instruments": config.instruments},
        passed_over=found.passed_over,
        progress=progress,
    )
    return PrepareResult(Corpus.open(folder), manifest["scanned"], manifest["kept"], manifest["rejected"])
