"""What the policy is asked to continue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mgen.corpus.shards import Corpus, TokenTable
from mgen.corpus.windows import sample_windows
from mgen.encoding.remi import Remi
from mgen.errors import MgenError
from mgen.notes import Notes

PROMPT_TYPES = ("continuation", "transfer", "unconditional")
"""`continuation`: music of the target style; `transfer`: music of other styles, to be continued in the target style;
`unconditional`: the style token alone."""


@dataclass(frozen=True, slots=True)
class Prompts:
    """n prompts of one type, and how the real music continues.

    Attributes:
        ids: (n, P) token ids: BOS, the target's style token, then `prompt_tokens` tokens of music (none for
            `unconditional`). Prompts that are the given parts of pieces have padding after the style token.
        windows: (n, prompt_tokens + L) windows of real music: the prompt, then its continuation; padded on the right if
            they were drawn with `ends`, and on the left of given parts.
        work: (n,) name of the work that each came from; pieces of one work are not independent.
    """

    prompt_type: str
    ids: NDArray[np.int64]
    windows: NDArray[np.int64]
    prompt_tokens: int
    work: NDArray[np.str_]

    def lists(self, remi: Remi) -> list[list[int]]:
        """The token ids of each prompt, without padding."""
        return [row[row != remi.pad_id].tolist() for row in self.ids]

    @property
    def continuations(self) -> list[list[int]]:
        """Tokens of the real continuations."""
        rows: list[list[int]] = self.windows[:, self.prompt_tokens :].tolist()
        return rows

    def real(self, remi: Remi) -> Notes:
        """The notes with which real music continued, decoded as completions are."""
        music = self.windows != remi.pad_id
        rows = [row[own] for row, own in zip(self.windows, music, strict=True)]
        return Notes.from_ids(rows, remi, start=music[:, : self.prompt_tokens].sum(axis=1))


def draw_prompts(
    corpus: Corpus,
    split: str,
    prompt_type: str,
    n: int,
    prompt_tokens: int,
    completion_tokens: int,
    target: str,
    rng: np.random.Generator,
    ends: bool = False,
    given: bool = False,
) -> Prompts:
    """Prompts from a split of the corpus.

    Args:
        ends: also ones that their piece ends soon after (`sample_windows`).
        given: the caller reads `Prompts.lists`, so the corpus may be one of pairs: prompts are then the given parts, of
            at most `prompt_tokens` tokens.

    Raises:
        MgenError: The corpus is one of pairs and not `given`, the prompt type or the target style does not exist, or no
            piece of the split is long enough.
    """
    if prompt_type not in PROMPT_TYPES:
        raise MgenError(f"prompt type '{prompt_type}': expected one of {', '.join(PROMPT_TYPES)}")
    if corpus.has_given and not given:
        raise MgenError(
            f"{corpus.folder}: a corpus of mgen pairs, whose prompts differ in length; it is for mgen pretrain and "
            "mgen finetune, and mgen baseline bass-policy measures their models"
        )
    remi = corpus.remi
    check_style(target, remi)
    tables = [
        corpus.merged_table(split, style)
        for style in remi.style_ids
        if (style == target) != (prompt_type == "transfer")
    ]
    tables = [table for table in tables if len(table)]
    if not tables:
        raise MgenError(
            f"split '{split}' has no music to draw {prompt_type} prompts for '{target}' from; prepare more music"
        )
    share = np.bincount(np.arange(n) % len(tables), minlength=len(tables))
    windows, work = [], []
    for table, count in zip(tables, share.tolist(), strict=True):
        if corpus.has_given:
            part, piece = sample_given(table, corpus, count, prompt_tokens, completion_tokens, rng)
        else:
            length = prompt_tokens + completion_tokens
            part, piece = sample_windows(table, remi, count, length, rng, prompt=prompt_tokens, ends=ends)
        windows.append(part)
        work.append(table.rows["group"].to_numpy(str)[piece])
    rows = np.concatenate(windows)
    head = np.tile([remi.bos_id, remi.style_ids[target]], (n, 1))
    music = rows[:, :0] if prompt_type == "unconditional" else rows[:, :prompt_tokens]
    return Prompts(prompt_type, np.concatenate([head, music], axis=1), rows, prompt_tokens, np.concatenate(work))


def sample_given(
    table: TokenTable, corpus: Corpus, n: int, most: int, completion_tokens: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Samples pieces of a corpus of pairs: their given part up to column `most`, then how they go on.

    Args:
        table: of tokens with merges (`Corpus.merged_table`).
        most: longest given part, in tokens; pieces with a longer one are not taken.
        completion_tokens: columns of the continuation; longer ones are cut.

    Returns:
        (n, most + completion_tokens) token ids, padded on both sides, and (n,) the piece (row of `table`) of each.

    Raises:
        MgenError: Every piece has a longer given part.
    """
    given = corpus.given_sizes(table)
    known = np.flatnonzero(given <= most)
    if not len(known):
        raise MgenError(
            f"{corpus.folder}: the given parts have at least {given.min()} tokens, prompt_tokens allows {most}"
        )
    piece = known[rng.integers(len(known), size=n)]
    windows = np.full((n, most + completion_tokens), corpus.remi.pad_id, np.int64)
    for row, number in enumerate(piece.tolist()):
        music = table[number][: given[number] + completion_tokens]
        windows[row, most - given[number] : most - given[number] + len(music)] = music
    return windows, piece


def check_style(style: str, remi: Remi) -> None:
    """Raise unless the vocabulary has a token for the style."""
    if style not in remi.style_ids:
        raise MgenError(f"style '{style}': the corpus has {', '.join(remi.style_ids)}")


def text(ids: Sequence[int], remi: Remi) -> str:
    """Token names run together, as the tokenizer writes and reads them."""
    return "".join(remi.names[token] for token in ids)
