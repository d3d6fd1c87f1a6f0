"""The grammar of REMI as a mask on the next token: what `Remi.decode` would count as broken is not sampled."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import astuple, dataclass, fields

import numpy as np
import torch
from torch import Tensor

from mgen.encoding.remi import Kind, Remi
from mgen.errors import MgenError
from mgen.notes import STEPS_PER_WHOLE

FREE = 1 << 20  # beyond every position and rank
STATE = ("kind", "metre", "at", "rank", "program")  # of a row; `at`: position in the bar
RANKS = 128  # a note's rank at its position is RANKS x program + pitch; notes are written in rising rank


@dataclass(slots=True)
class _Token:
    """What a token asks of the state before it, and how it changes that. `FREE` stands for nothing.

    The base tokens of a note's program and pitch may be in two tokens: a rank before the token's first program is
    relative to the program in force.
    """

    first: int  # kind of its first base token
    last: int  # kind of its last base token
    place: int = FREE  # position that it opens, -1 for a bar
    metre: int = FREE  # time signature that it sets
    program: int = FREE  # program that it sets
    rank: int = FREE  # of its last pitch
    rank_relative: int = 0
    lowest: int = FREE  # rank that must be above that of the note before
    lowest_relative: int = 0
    limit: int = FREE  # of RANKS x program in force


def _read(part: Sequence[int], remi: Remi, metres: dict[int, int], highest: int) -> _Token | None:
    """The facts of a token of these base tokens; None if they break the grammar themselves."""
    kinds = [Kind(remi.kind[base]) for base in part]
    token = _Token(kinds[0], kinds[-1])
    for number, (base, kind) in enumerate(zip(part, kinds, strict=True)):
        value = int(remi.value[base])
        if number and not remi.follows[kinds[number - 1], kind]:
            return None
        if kind in (Kind.BAR, Kind.POSITION):
            if number:
                return None
            token.place = value if kind == Kind.POSITION else -1
        elif kind == Kind.TIME_SIGNATURE:
            token.metre = metres[base]
        elif kind == Kind.PROGRAM:
            token.program = value
        pitch = {Kind.PITCH: value, Kind.PROGRAM: highest}.get(kind)  # after a program, some pitch must fit
        if pitch is None:
            continue
        relative = token.program == FREE
        rank = pitch if relative else RANKS * token.program + pitch
        if token.rank != FREE and token.rank_relative == relative:
            if rank <= token.rank:
                return None
        elif token.rank != FREE:
            token.limit = min(token.limit, rank - token.rank)
        elif token.place == FREE:
            token.lowest, token.lowest_relative = min(token.lowest, rank), int(relative)
        if kind == Kind.PITCH:
            token.rank, token.rank_relative = rank, int(relative)
    return token


def _plays_other(remi: Remi, programs: Collection[int]) -> Tensor:
    """(V,) whether a token sets another program than these."""
    if not remi.multi:
        raise MgenError("programs: the vocabulary has none; they are of the recipe band")
    other = (remi.kind == Kind.PROGRAM) & ~np.isin(remi.value, list(programs))
    return torch.tensor([bool(other[list(part)].any()) for part in remi.parts])


class GrammarMask:
    """Follows B rows from their prompts on, and says which tokens may come next.

    Allowed are the kinds that may follow, positions that are inside the bar, on the grid of its metre and after the
    position before, and notes in rising order of program and pitch at one position; no special token but the end, where
    the grammar has it. The tables are of the base tokens behind each token, so merges are masked exactly; a merge is
    expected to have a bar or a position at its start only.

    Some token is always allowed: after a prompt that itself breaks the grammar so that nothing may follow, only the
    kinds count.

    Args:
        may_end: whether the end token is allowed where the grammar has it.
        programs: what may play, of a vocabulary with programs; drums are -1. Empty: everything.

    Raises:
        MgenError: `programs` of a vocabulary without.
    """

    def __init__(
        self, remi: Remi, device: torch.device | str = "cpu", may_end: bool = True, programs: Collection[int] = ()
    ) -> None:
        metres = {int(base): number for number, base in enumerate((remi.kind == Kind.TIME_SIGNATURE).nonzero()[0])}
        highest = int(remi.value[remi.kind == Kind.PITCH].max())
        read = [_read(part, remi, metres, highest) for part in remi.parts]
        facts = torch.tensor([astuple(token or _Token(Kind.SPECIAL, Kind.SPECIAL)) for token in read])
        self.facts = facts.to(device)  # (V, fields of _Token)
        columns = dict(zip((field.name for field in fields(_Token)), facts.T, strict=True))
        follows = torch.from_numpy(remi.follows)[:, columns["first"]] & (columns["first"] != Kind.SPECIAL)
        follows[:, remi.eos_id] &= may_end
        if programs:
            follows &= ~_plays_other(remi, programs)
        follows[Kind.END, remi.eos_id] = True  # after the end, nothing but the end
        ids = list(metres)
        unit = torch.from_numpy(remi.unit[ids]).long()[:, None]
        length = torch.from_numpy(remi.value[ids]).long()[:, None] * STEPS_PER_WHOLE // unit
        halved = (unit == 8).long()  # a step of the grid has two positions
        place = columns["place"][None].where(columns["first"] == Kind.POSITION, 0)
        inside = ((place >> halved) < length) & (place & halved == 0)
        self.fits = (follows[:, None] & inside).to(device)  # (kinds, metres, V)
        self.follows = follows.to(device)  # (kinds, V)
        place = torch.where(columns["place"] == -1, FREE, columns["place"])
        self.place, self.lowest, self.limit = (
            column.int().to(device) for column in (place, columns["lowest"], columns["limit"])
        )  # (V,), small numbers for speed
        self.relative = columns["lowest_relative"].to(device) if remi.multi else None
        self.limited = bool((columns["limit"] < FREE).any())
        self.common_time, self.pad_id = metres[remi.common_time], remi.pad_id

    def start(self, prompts: Sequence[Sequence[int]]) -> None:
        """Follows B prompts."""
        start = [Kind.SPECIAL, self.common_time, -1, -FREE, 0]
        state = torch.tensor([start] * len(prompts), device=self.facts.device)
        self.kind, self.metre, self.at, self.rank, self.program = state.T  # (B,) each
        length = max(map(len, prompts), default=0)
        ids = [[self.pad_id] * (length - len(prompt)) + list(prompt) for prompt in prompts]  # padding changes nothing
        for column in torch.tensor(ids, dtype=torch.int64, device=self.facts.device).T:
            self.step(column)

    def allowed(self) -> Tensor:
        """(B, V) bool, the tokens that may come next, at least one in each row."""
        at, rank, shift = (column.int()[:, None] for column in (self.at, self.rank, RANKS * self.program))
        if self.relative is not None:
            rank = torch.cat([rank, rank - shift], dim=1)[:, self.relative]
        allowed: Tensor = self.fits[self.kind, self.metre]
        allowed &= self.place > at
        allowed &= self.lowest > rank
        if self.limited:
            allowed &= self.limit > shift
        stuck = allowed.view(torch.uint8).amax(1, keepdim=True) == 0
        allowed |= self.follows[self.kind] & stuck
        return allowed

    def step(self, tokens: Tensor) -> None:
        """Follows the next tokens (B,)."""
        _, self.kind, place, metre, program, rank, relative, *_ = self.facts[tokens].T
        opens = place != FREE
        before = torch.where(opens, -FREE, self.rank)
        self.rank = torch.where(rank == FREE, before, rank + relative * RANKS * self.program)
        self.at = torch.where(opens, place, self.at)
        self.metre = torch.where(metre == FREE, self.metre, metre)
        self.program = torch.where(program == FREE, self.program, program)

    def keep(self, rows: Tensor) -> None:
        """Goes on with the rows of these indices only."""
        for name in STATE:
            setattr(self, name, getattr(self, name)[rows])

    def after(self, ids: Tensor) -> Tensor:
        """(B, T, V) bool, the tokens that may come after each token of ids (B, T), which start with the piece."""
        self.start([[]] * len(ids))
        states = []
        for column in ids.T:
            self.step(column)
            states.append([getattr(self, name) for name in STATE])
        for name, over_time in zip(STATE, zip(*states, strict=True), strict=True):
            setattr(self, name, torch.stack(over_time, dim=1).flatten())
        return self.allowed().view(*ids.shape, -1)
