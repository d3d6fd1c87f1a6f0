"""The training set as a reference: excerpts of real pieces, appended to a prompt where the grammar allows it.

Its metrics show what copying gives: nearly those of real music, without any value as generation.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mgen.corpus.shards import TokenTable
from mgen.encoding.remi import Kind, Remi
from mgen.errors import MgenError
from mgen.models.baselines.endings import Endings
from mgen.notes import MAX_BAR

Array = NDArray[np.int64]


class TrainingExcerpts:
    """Excerpts of a given number of tokens: a piece drawn uniformly from those long enough, then one of its bars.

    The excerpt starts inside a bar of the prompt's metre, after the position where the prompt ends (or with the next
    bar, if no position follows or no piece has that metre). An unfinished note of the prompt is completed with tokens
    of the note before the excerpt. Key and register stay the piece's: only the bar fits the prompt.

    Args:
        table: the pieces; those of the training split, of one style or all.
    """

    def __init__(self, table: TokenTable, remi: Remi) -> None:
        self.table, self.remi = table, remi
        self._ids = table.ids.astype(np.int64)
        kind = remi.kind[self._ids]
        self._bars = np.flatnonzero(kind == Kind.BAR)
        self._owner = np.searchsorted(table.offsets, self._bars, side="right") - 1
        self._ends = table.offsets[self._owner + 1]  # where the piece of each bar ends
        self._next = np.minimum(np.append(self._bars[1:], len(kind)), self._ends)
        signature = self._ids[np.minimum(self._bars + 1, len(kind) - 1)]
        self._metre = _metre(remi.value[signature], remi.unit[signature])
        positions = np.flatnonzero(kind == Kind.POSITION)
        bar_of = np.searchsorted(self._bars, positions, side="right") - 1
        self._positions = np.append(positions, len(kind))
        step = remi.value[self._ids[positions]] * 4 // remi.unit[signature][bar_of]
        self._reached = bar_of * MAX_BAR + step  # ascending
        self._notes = np.flatnonzero(kind == Kind.DURATION)

    def draw(self, prompts: Array, length: int, rng: np.random.Generator) -> list[list[int]]:
        """B completions of exactly `length` tokens for prompts (B, P).

        Raises:
            MgenError: No piece has `length` tokens after its first bar.
        """
        endings = Endings.of(prompts, self.remi)
        fits = np.flatnonzero(self._ends - self._next >= length)
        if not len(fits):
            longest = int(np.diff(self.table.offsets).max(initial=0))
            raise MgenError(
                f"excerpts need {length} tokens after a bar, the longest piece has {longest}; ask for fewer tokens"
            )
        within = ~np.isin(endings.kind, (Kind.SPECIAL, Kind.BAR))  # the prompt's bar keeps its metre
        wanted = _metre(endings.beats, endings.unit)
        within &= np.isin(wanted, self._metre[fits])
        bar = np.empty(len(prompts), np.int64)
        for metre in np.unique(np.where(within, wanted, 0)).tolist():
            rows = np.flatnonzero(np.where(within, wanted, 0) == metre)
            bar[rows] = self._draw_bars(fits[self._metre[fits] == metre] if metre else fits, len(rows), rng)
        start = np.where(endings.kind == Kind.BAR, self._bars[bar] + 1, self._bars[bar])
        behind = self._positions[np.searchsorted(self._reached, bar * MAX_BAR + endings.position, side="right")]
        start = np.where(within, np.minimum(behind, self._next[bar]), start)
        out = []
        for row, begin in enumerate(start.tolist()):
            rest = self._rest_of_note(Kind(endings.kind[row]), int(endings.least[row]), int(bar[row]), begin)
            out.append([*rest, *self._ids[begin : begin + length - len(rest)].tolist()][:length])
        return out

    def _draw_bars(self, bars: Array, n: int, rng: np.random.Generator) -> Array:
        """(n,) of `bars`: pieces drawn uniformly, then one bar of each."""
        pieces, first, count = np.unique(self._owner[bars], return_index=True, return_counts=True)
        choice = rng.integers(len(pieces), size=n)
        drawn: Array = bars[first[choice] + rng.integers(count[choice])]
        return drawn

    def _rest_of_note(self, kind: Kind, least: int, bar: int, begin: int) -> list[int]:
        """The missing tokens of an unfinished note: those of the note before `begin`, or of the first after it."""
        size, tail = self.remi.note_size, 1 + self.remi.velocity
        missing = {Kind.POSITION: size, Kind.PROGRAM: 1 + tail, Kind.PITCH: tail, Kind.VELOCITY: 1}.get(kind, 0)
        if not missing:
            return []
        place = int(np.searchsorted(self._notes, begin))
        first = int(self.table.offsets[self._owner[bar]])
        note = place - 1 if place and self._notes[place - 1] >= first else place
        end = int(self._notes[note]) + 1
        tokens: list[int] = self._ids[end - missing : end].tolist()
        if kind == Kind.PROGRAM and self.remi.value[tokens[0]] < least:
            tokens[0] += least - int(self.remi.value[tokens[0]])  # ids of pitches are consecutive
        return tokens


def _metre(beats: NDArray[np.integer], unit: NDArray[np.integer]) -> Array:
    """A number for each time signature, above 0."""
    metre: Array = beats.astype(np.int64) * 16 + unit
    return metre
