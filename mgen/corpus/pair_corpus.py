"""A corpus for a policy that writes a bass to drums: each piece is a drum part of some bars, then its bass.

The source is a corpus of the recipe `band`; splits, works and styles are its own. In train the windows begin with every
bar, elsewhere they do not overlap. `pieces.parquet` has `given_tokens`, the base tokens of the drum part, which
prompts end with (see `mgen.encoding.drums_then_bass`).
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mgen.corpus.pairs import NoPairs, keys_of, read_pairs
from mgen.corpus.shards import GIVEN, MANIFEST, PIECES, TOKENIZER, TOKENS, Corpus, ShardWriter
from mgen.corpus.split import SPLITS, sums_by_split
from mgen.corpus.staging import stage_corpus
from mgen.encoding.drum_bass import BAR_STEPS
from mgen.encoding.drums_then_bass import encode_pairs
from mgen.encoding.remi import Remi
from mgen.music.keys import semitones_to_c

RECIPE = "drums then bass"


def write_pair_corpus(
    corpus: Corpus,
    out: Path,
    steps: int = 64,
    least_hits: int = 8,
    least_notes: int = 4,
    merges: int = 0,
    overwrite: bool = False,
) -> dict[str, dict[str, int]]:
    """Writes the corpus.

    Args:
        corpus: of the recipe `band`.
        out: folder of the new corpus; must not exist or be empty, or, with `overwrite`, hold a corpus.
        steps, least_hits, least_notes: see `mgen.encoding.drum_bass.cut_windows`.
        merges: merged tokens to learn from train; 0 for none.

    Returns:
        What `read_pairs` counts, for each split; windows of train count once for each first bar.

    Raises:
        MgenError: The corpus has no such music in train, or `out` cannot be written.
    """
    styles = tuple(corpus.remi.style_ids)
    remi = Remi.build(styles, multi=True, velocity=False)
    pieces: list[pd.DataFrame] = []
    tokens: list[NDArray[np.uint16]] = []
    counts: dict[str, dict[str, int]] = {}
    for split in SPLITS:
        counts[split], of_split = {}, corpus.pieces[corpus.pieces["split"] == split]
        for first_bar in range(steps // BAR_STEPS if split == "train" else 1):
            try:
                pairs, found = read_pairs(corpus, split, [], steps, least_hits, least_notes, first_bar)
            except NoPairs:
                if split == "train" and not first_bar:
                    raise
                continue
            for reason, number in found.items():
                if not reason.startswith("pieces"):  # they are the same for every first bar
                    number += counts[split].get(reason, 0)
                counts[split][reason] = number
            ids, given = encode_pairs(pairs.drums, pairs.bass, semitones_to_c(keys_of(pairs)), remi)
            own = of_split.iloc[pairs.piece].reset_index(drop=True)
            sizes = [len(row) for row in ids]
            pieces.append(own.assign(n_tokens=sizes, n_notes=[int(remi.notes_in[row].sum()) for row in ids]))
            pieces[-1][GIVEN] = given
            tokens += [row.astype(np.uint16) for row in ids]
    table = pd.concat(pieces, ignore_index=True)
    with stage_corpus(out, overwrite, resume=False) as folder:
        columns = (table[name].to_numpy() for name in ("split", "style", "n_tokens"))
        digest = hashlib.sha256()
        with ShardWriter(folder / TOKENS, *columns) as shards:
            for number, row in enumerate(tokens):
                shards.write(number, row)
                digest.update(row.astype("<u2").tobytes())
        if merges:
            of_train = [row for row, split in zip(tokens, table["split"], strict=True) if split == "train"]
            remi = remi.learn_merges(of_train, merges)
        digest.update(remi.fingerprint.encode())
        table.to_parquet(folder / PIECES)
        remi.save_pretrained(folder / TOKENIZER)
        manifest = corpus.manifest | {
            "fingerprint": digest.hexdigest()[:16],
            "recipe": RECIPE,
            "source": corpus.fingerprint,
            "tokenizer": remi.fingerprint,
            "merges": {"asked": merges, "learned": remi.merges, "base_per_token": round(remi.base_per_token, 4)},
            "windows": counts,
            "pieces": sums_by_split(table.assign(one=1), "style", "one"),
            "tokens": sums_by_split(table, "style", "n_tokens"),
            "shards": shards.shards,
        }
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return counts
