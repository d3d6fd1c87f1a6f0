"""`mgen pairs`: a corpus of drum parts with their basses, for a policy that is asked for a bass."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mgen.corpus.pair_corpus import write_pair_corpus
from mgen.corpus.shards import Corpus
from mgen.encoding.remi import MAX_MERGES
from mgen.options import from_keywords, option


@dataclass
class PairsConfig:
    """Options of `mgen pairs`."""

    steps: int = option(64, "16th notes of a window: 64 (four bars) or 32.", least=32, most=64)
    least_hits: int = option(8, "Windows with fewer drum hits are left out.", least=1)
    least_notes: int = option(4, "Windows with fewer bass notes are left out.", least=1)
    merges: int = option(512, "Merged tokens to learn from train; 0 for none.", least=0, most=MAX_MERGES)
    overwrite: bool = option(False, "Replace the corpus in --out once the new one is complete.")

    def __post_init__(self) -> None:
        if self.steps not in (32, 64):
            raise ValueError(f"steps ({self.steps}) must be 32 or 64")


@dataclass(frozen=True)
class PairsResult:
    """The corpus, and what was cut and left out in each split."""

    corpus: Corpus
    counts: dict[str, dict[str, int]]


def pairs(corpus: Path | str, out: Path | str, **options: Any) -> PairsResult:
    """Writes a corpus in which each piece is a drum part, then its bass.

    Args:
        corpus: folder written by `mgen prepare` with the recipe `band`.
        out: folder of the new corpus.
        options: fields of `PairsConfig`.

    Raises:
        MgenError: As `mgen.corpus.pair_corpus.write_pair_corpus`; or an option does not exist or is out of range.
    """
    config = from_keywords(PairsConfig, "pairs", options)
    counts = write_pair_corpus(Corpus.open(corpus), Path(out), **asdict(config))
    return PairsResult(Corpus.open(out), counts)
