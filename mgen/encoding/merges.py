"""Byte-pair merges: frequent runs of REMI tokens inside one onset become tokens.

A word begins at every Bar and every Position token, and merges are learned inside words. So no merge reaches over the
start of a word, and merging a sequence is merging each of its words. MidiTok learns them, with the BPE of `tokenizers`,
and writes each base token as one character.
"""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Sequence

import numpy as np
from miditok import REMI
from miditok.constants import CHR_ID_START
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, decoders, models, normalizers

PRIVATE = 0xE000
"""Character of base token 0 in the tokenizer of texts: Unicode's private use, so that no name of a token has one."""


def to_characters(ids: NDArray[np.integer]) -> str:
    """Base tokens (L,) as L characters."""
    points = ids.astype("<u4") + np.uint32(CHR_ID_START)
    return points.tobytes().decode("utf-32-le")


def learn(miditok: REMI, words: Counter[str], count: int) -> REMI:
    """A tokenizer with the vocabulary of `miditok` and at most `count` merges, the most frequent pair first.

    Args:
        words: characters of words, with their frequencies; the result depends on nothing else.
    """
    config = copy.deepcopy(miditok.config)
    config.encode_ids_split = "no"  # MidiTok would mark the start of each bar with a token
    trained = REMI(config)
    silent = {"progress_format": "silent"}  # its progress bar would leave empty lines in the output
    trained.train(len(trained.vocab) + count, "BPE", iterator=list(words.elements()), **silent)
    return trained


def read_parts(miditok: REMI) -> list[tuple[int, ...]]:
    """Base tokens of each token, in the order of ids.

    Raises:
        ValueError: The merges are of another vocabulary.
    """
    base: list[tuple[int, ...]] = [(id_,) for id_ in range(len(miditok.vocab))]
    ids: dict[str, int] = miditok.vocab_model or {}
    parts = [tuple(ord(one) - CHR_ID_START for one in token) for token in sorted(ids, key=ids.__getitem__)]
    if not parts:
        return base
    known = all(0 <= one < len(base) for part in parts for one in part)
    if parts[: len(base)] != base or sorted(ids.values()) != list(range(len(parts))) or not known:
        raise ValueError("its merges are of another vocabulary")
    return parts


def text_tokenizer(bpe: Tokenizer, names: Sequence[str], special: Sequence[int]) -> Tokenizer:
    """The tokenizer of names of base tokens, with or without space between them, to merged tokens and back.

    It writes each name as a private character. Text that is no name raises an error.

    Args:
        bpe: of characters, as MidiTok trained it.
        names: of the base tokens.
        special: ids of the tokens that never merge; the caller declares their names as special tokens.
    """

    def private(text: str) -> str:
        return "".join(chr(ord(one) - CHR_ID_START + PRIVATE) for one in text)

    model = json.loads(bpe.to_str())["model"]
    vocabulary = {names[id_] if id_ in special else private(text): id_ for text, id_ in model["vocab"].items()}
    merges = [(private(first), private(second)) for first, second in model["merges"]]
    inner = Tokenizer(models.BPE(vocabulary, merges, unk_token="no name of a token"))  # it is unknown, which raises
    # The longest first: some names are the beginning of others.
    writes = [(chr(id_ + PRIVATE), name) for id_, name in enumerate(names) if id_ not in special]
    writes.sort(key=lambda write: -len(write[1]))
    no_space = normalizers.Replace(Regex(r"\s+"), "")
    inner.normalizer = normalizers.Sequence([no_space, *(normalizers.Replace(name, one) for one, name in writes)])
    inner.decoder = decoders.Sequence([decoders.Fuse(), *(decoders.Replace(one, name) for one, name in writes)])
    return inner
