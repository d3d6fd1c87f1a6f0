"""Figures of `mgen bench` on music files: reading, tokens, metrics."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mgen.corpus.chunks import MAX_CHUNK_NOTES, MIN_CHUNK_NOTES
from mgen.corpus.clean import Recipe, normalise
from mgen.corpus.demo import COLLECTIONS, write_demo_corpus
from mgen.corpus.prepare import prepare_corpus
from mgen.corpus.reading import Rules, read_source
from mgen.corpus.scan import Source, scan
from mgen.corpus.workers import Limits, run_in_processes
from mgen.errors import MgenError, RejectedFile
from mgen.formats.files import read_music
from mgen.music.metrics import METRICS
from mgen.notes import Notes
from mgen.workflows.bench_measure import BenchConfig, compare, per_second, vocabulary
from mgen.workflows.bench_references import miditok_ids, muspy_metrics, muspy_music, parse_tab


def bench_tokenize(config: BenchConfig) -> dict[str, Any]:
    """Notes/s from cleaned notes in memory to token ids, and of MidiTok's encoder for the same pieces and vocabulary.

    `decoding` and `decoding_rival` are notes/s back from ids to notes. Ours encodes all pieces at once.
    """
    remi = vocabulary(config)
    notes = _pieces(config)
    scores = [notes.to_score(piece) for piece in range(notes.n_pieces)]
    ids = remi.encode(notes)
    sequences = [remi.miditok(score) for score in scores]

    def speed(run: Callable[[], object]) -> float:
        return per_second(len(notes), run)

    def ours() -> float:
        return speed(lambda: remi.encode(notes))

    def reference() -> float:
        return speed(lambda: [remi.miditok(score) for score in scores])

    what = f"notes/s to tokens, {notes.n_pieces} pieces; reference: MidiTok's encoder"
    result = compare(what, ours, reference, config.repeats, limit=1.0)
    back = compare(
        "",
        lambda: speed(lambda: Notes.from_ids(ids, remi)),
        lambda: speed(lambda: [remi.miditok.decode(sequence) for sequence in sequences]),
        config.repeats,
    )
    size = sum(map(len, ids)) / len(notes)
    return result | {"decoding": back["ours"], "decoding_rival": back["rival"], "tokens_per_note": size}


def _pieces(config: BenchConfig) -> Notes:
    """The cleaned pieces of the files that can be read, as one batch."""
    with tempfile.TemporaryDirectory() as folder:
        found = list(_cleaned(config, Path(folder), "piano"))
    if not found:
        raise MgenError(
            f"--source {config.source}: no readable music in at most {config.files} files; give more --files"
        )
    return Notes.concat(found)


def _cleaned(config: BenchConfig, folder: Path, recipe: Recipe) -> Iterator[Notes]:
    for source in _music(config, folder):
        try:
            yield normalise(read_music(source.file).score, recipe)
        except RejectedFile:
            continue


def bench_metrics(config: BenchConfig) -> dict[str, Any]:
    """Pieces/s of all of METRICS in one process, on the first 500 notes of files, and of the ten metrics of muspy that
    apply to any music, piece by piece.
    """
    notes, most = _first_notes(config, 500), 20
    theirs = muspy_metrics()
    music = [muspy_music(notes, piece) for piece in range(min(notes.n_pieces, most))]  # fewer: they are slow

    def ours() -> float:
        return per_second(notes.n_pieces, lambda: [metric(notes) for metric in METRICS.values()])

    def reference() -> float:
        return per_second(len(music), lambda: [metric(one) for one in music for metric in theirs])

    ours(), reference()
    what = f"pieces/s of 500 notes ({notes.n_pieces}), all {len(METRICS)} metrics; reference: {len(theirs)} of muspy's"
    return compare(what, ours, reference, config.repeats, limit=300)


def _first_notes(config: BenchConfig, count: int) -> Notes:
    """Reads the first `count` notes of the files that have at least that many, as one batch."""
    found: list[Notes] = []
    with tempfile.TemporaryDirectory() as folder:
        for notes in _cleaned(config, Path(folder), "band"):
            if len(notes) >= count:
                head = notes.select(np.arange(len(notes)) < count)
                found.append(Notes.from_scores([head.to_score(0)]))  # its last bar is that of its last note
    if not found:
        where = f"--source {config.source}" if config.source else "the embedded corpus"
        raise MgenError(f"{where}: no piece of {count} notes in at most {config.files} files; give more --files")
    return Notes.concat(found)


def bench_prepare(config: BenchConfig) -> dict[str, Any]:
    """Files/s from music files to a corpus, and of MidiTok's encoder only, with the same files and workers."""
    workers = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder:
        sources = _music(config, Path(folder) / "music")

        def ours() -> float:
            out = Path(folder) / "corpus"
            return per_second(len(sources), lambda: prepare_corpus(sources, out, workers=workers, overwrite=True))

        def theirs() -> float:
            began = time.perf_counter()
            found = sum(1 for _ in run_in_processes(miditok_ids, sources, workers, Limits(60.0, 4096)))
            return found / (time.perf_counter() - began)

        what = f"files/s of {len(sources)} files on {workers} cores, files to corpus; reference: MidiTok's encoder only"
        return compare(what, ours, theirs, config.repeats, limit=0.7)


def bench_tabs(config: BenchConfig) -> dict[str, Any]:
    """Guitar Pro files per second of processor time, from file to tokens of all chunks, and of pyguitarpro's parser
    only.
    """
    if not config.source:
        raise MgenError("mgen bench tabs: expected --source, got none; give a folder of Guitar Pro files")
    rules = Rules("tabs", min_notes=MIN_CHUNK_NOTES, max_notes=MAX_CHUNK_NOTES)
    sources = [source for source in _music(config, Path()) if not isinstance(parse_tab(source), Exception)]
    if not sources:
        raise MgenError(f"--source {config.source}: no readable Guitar Pro file; give .gp3, .gp4 or .gp5 files")

    def speed(function: Callable[[Source], Any]) -> float:
        began = time.process_time()
        for source in sources:
            function(source)
        return len(sources) / (time.process_time() - began)

    what = f"files/s of processor time, {len(sources)} tabs to tokens; reference: guitarpro.parse only"
    ours, reference = partial(speed, partial(read_source, rules=rules)), partial(speed, parse_tab)
    return compare(what, ours, reference, config.repeats, limit=1 / 1.5)


def _music(config: BenchConfig, folder: Path) -> list[Source]:
    """Finds about `files` files, spread evenly over the source; without a source, writes the embedded corpus."""
    if config.source:
        found = scan([Path(config.source)]).sources
        return found[:: max(1, len(found) // config.files)]
    write_demo_corpus(folder, max(config.files // len(COLLECTIONS), 4))
    return scan(metadata=folder / "metadata.csv").sources
