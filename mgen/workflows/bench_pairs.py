"""The figure of `mgen bench pairs`: a corpus of bands cut into windows of drums with their bass."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from mgen.corpus.demo import COLLECTIONS, compose
from mgen.corpus.pairs import genres_of, read_pairs
from mgen.corpus.prepare import prepare_corpus
from mgen.corpus.reading import Rules
from mgen.corpus.scan import scan
from mgen.corpus.shards import Corpus
from mgen.notes import Notes
from mgen.workflows.bench_measure import BenchConfig, compare, per_second

BANDS = ("combo_charts", "pop_band")  # collections with drums and a bass


def bench_pairs(config: BenchConfig) -> dict[str, Any]:
    """Files/s from a prepared corpus to pairs, in one process, and from its tokens to notes only.

    `source` is a folder of music files; without one, `files` pieces of the embedded corpus are taken.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        music = Path(config.source) if config.source else _bands(folder / "music", config.files)
        sources = scan([music]).sources
        chosen = sources[:: max(1, len(sources) // config.files)]
        prepare_corpus(chosen, folder / "corpus", Rules("band"), near_duplicates="ignore")
        corpus = Corpus.open(folder / "corpus")
        genres, count = genres_of(corpus), int((corpus.pieces["split"] == "train").sum())

        def ours() -> float:
            return per_second(count, lambda: read_pairs(corpus, "train", genres))

        def reference() -> float:
            def read() -> None:
                table = corpus.table("train")
                for i in range(len(table)):
                    Notes.from_ids([table[i]], corpus.remi)

            return per_second(count, read)

        ours()
        what = f"files/s to pairs of drums and bass, {count} files, one process; reference: tokens to notes only"
        return compare(what, ours, reference, config.repeats, limit=0.5)


def _bands(folder: Path, files: int) -> Path:
    for collection in BANDS:
        assert collection in COLLECTIONS
        (folder / collection).mkdir(parents=True)
        for index in range(-(-files // len(BANDS))):
            compose(collection, index).dump_midi(folder / collection / f"{collection} {index:03d}x.mid")
    return folder
