"""Continues pieces beyond the context of a model: it reads their last bars, writes on, and reads again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from mgen.arrays import Longs
from mgen.encoding.remi import Kind, Remi
from mgen.models.transformer import context_length
from mgen.progress import Progress, count, silent
from mgen.sampling.systems import ModelSystem

LEAST_NEW = 4  # a window leaves at least one in this many tokens of the context for what is new


@dataclass(frozen=True, slots=True)
class Length:
    """Where a continuation stops at the latest.

    Attributes:
        tokens: most tokens.
        notes, bars: most notes and bars that begin in it; 0: no limit.
    """

    tokens: int
    notes: int = 0
    bars: int = 0

    def cut(self, completion: Sequence[int], remi: Remi) -> int | None:
        """Tokens of a completion up to the limit that it reaches first; None if it reaches none."""
        ids = np.asarray(completion, np.int64)
        found = [self.tokens] if len(ids) >= self.tokens else []
        count = np.cumsum(remi.notes_in[ids])
        if self.notes and len(ids) and count[-1] >= self.notes:
            found.append(int(np.searchsorted(count, self.notes)) + 1)
        lines = np.flatnonzero(remi.opens_bar[ids])
        if self.bars and len(lines) > self.bars:
            found.append(int(lines[self.bars]))
        return min(found, default=None)


@dataclass(slots=True)
class Continuation:
    """A prompt, and what follows it so far.

    Attributes:
        completion, logprobs, removed: as in `Completions`, by token.
    """

    prompt: list[int]
    completion: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    removed: list[float] = field(default_factory=list)

    def cut(self, tokens: int) -> None:
        """Keeps the first tokens of the completion."""
        for column in (self.completion, self.logprobs, self.removed):
            del column[tokens:]


def extend(
    system: ModelSystem,
    pieces: Sequence[Continuation],
    limit: Length,
    generator: torch.Generator,
    head: int,
    may_end: bool = True,
    progress: Progress = silent,
) -> None:
    """Continues pieces until the end token or `limit`, which counts from the end of their prompts.

    Args:
        head: tokens before the music of each prompt (BOS and style), which begin every window.
        may_end: false: the end token is forbidden, if the system has the grammar.
        progress: takes the count of the pieces that are complete, with that of the windows.

    Raises:
        MgenError: Guidance has no style token to contrast.
    """
    remi, context = system.remi, context_length(system.model.config)
    going = [piece for piece in pieces if not _is_finished(piece, limit, remi)]
    window = 0
    while going:
        window += 1
        count(progress, "pieces", len(pieces) - len(going), len(pieces), f"window {window}")
        wanted = max(limit.tokens - len(piece.completion) for piece in going)
        most = context - min(wanted, context // LEAST_NEW)
        windows = [last_part([*piece.prompt, *piece.completion], head, most, remi) for piece in going]
        length = min(wanted, context - max(map(len, windows)))
        drawn = system.roll_out(windows, length, generator, may_end=may_end)
        columns = [column.tolist() for column in (drawn.token_ids, drawn.logprobs, drawn.removed, drawn.mask.sum(1))]
        for piece, ids, logprobs, removed, size in zip(going, *columns, strict=True):
            piece.completion += ids[:size]
            piece.logprobs += logprobs[:size]
            piece.removed += removed[:size]
        going = [piece for piece in going if not _is_finished(piece, limit, remi)]
    count(progress, "pieces", len(pieces), len(pieces))


def _is_finished(piece: Continuation, limit: Length, remi: Remi) -> bool:
    """Whether a piece has ended or reaches the limit, to which it is cut."""
    reached = limit.cut(piece.completion, remi)
    if reached is not None:
        piece.cut(reached)
    return reached is not None or remi.eos_id in piece.completion[-1:]


def last_part(row: Sequence[int], head: int, most: int, remi: Remi) -> list[int]:
    """The first `head` tokens of a row and as many of its last as make `most`, from a bar line on.

    Where the bar line would leave less than half of them, the part begins inside the bar, at a position, after a bar
    line and the time signature that are in force there.
    """
    if len(row) <= most:
        return list(row)
    ids = np.asarray(row, np.int64)
    first = len(row) - (most - head)
    lines = first + np.flatnonzero(remi.opens_bar[ids[first:]])
    if len(lines) and lines[0] <= (first + len(row)) // 2:
        return [*row[:head], *row[lines[0] :]]
    words = first + 2 + np.flatnonzero(remi.opens_word[ids[first + 2 :]])
    begin = int(words[0]) if len(words) else first + 2
    opening = [] if remi.opens_bar[ids[begin]] else [remi.bar_id, _metre(ids[:begin], remi)]
    return [*row[:head], *opening, *row[begin:]]


def _metre(ids: Longs, remi: Remi) -> int:
    """The last time signature in tokens (L,); 4/4 without one."""
    base = remi.expand(ids)[0]
    found = base[remi.kind[base] == Kind.TIME_SIGNATURE]
    return int(found[-1]) if len(found) else remi.common_time
