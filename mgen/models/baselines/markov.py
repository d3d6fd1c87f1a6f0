"""Markov chains of note events: the rival that knows what may follow a few notes, and nothing else.

An event is the gap in grid steps since the note before (0 inside a chord), program, pitch and duration, all at once.
The chain knows neither bars nor the prompt beyond its last `order` notes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mgen.corpus.shards import TokenTable
from mgen.encoding.remi import Kind, Remi
from mgen.errors import MgenError
from mgen.models.baselines.endings import Endings
from mgen.notes import STEPS_PER_QUARTER, Bars, Notes

Array = NDArray[np.int64]

_PROGRAMS, _PITCHES, _DURATIONS = 129, 128, 1 << 12
_NONE = -1  # no such context, no such symbol


@dataclass(frozen=True, slots=True)
class _Contexts:
    """All runs of k events that some event follows.

    Attributes:
        codes: (C,) rising: number of the run of k-1 events before the last one, times the number of symbols, plus
            the last one's symbol.
        starts: (C + 1,) where the followers of each run begin in `followers`.
        followers: row of each event that follows a run.
    """

    codes: Array
    starts: Array
    followers: Array

    def draw(self, number: Array, rng: np.random.Generator) -> Array:
        """A follower of each run, every time that one followed as likely as another."""
        count = self.starts[number + 1] - self.starts[number]
        followers: Array = self.followers[self.starts[number] + rng.integers(count)]
        return followers


class MarkovChain:
    """A chain of order k with back-off: the longest context of at most k events that the music holds has the say.

    The next event is one that followed that context somewhere, drawn evenly among all such places; it brings its
    velocity along. One that cannot be written where the completion stands (a chord note not above the one before, an
    onset before the bar that the prompt has begun) gives way to a shorter context.

    Known limits: of order 5 nearly every context is found once, and the chain copies the training set for long
    stretches; so does order 1 on performed music, whose gaps are nearly all different. A piece never ends.

    Args:
        notes: the music, as pieces.
        order: longest context, in events.

    Raises:
        MgenError: The order is below 1, or no piece has two notes at different times.
    """

    def __init__(self, notes: Notes, remi: Remi, order: int) -> None:
        if order < 1:
            raise MgenError(f"markov: order ({order}) must be at least 1")
        self.remi, self.order = remi, order
        rank = _rank(notes.program, notes.pitch)
        again = (np.diff(notes.piece) == 0) & (np.diff(notes.onset) == 0) & (np.diff(rank) == 0)
        notes = notes.select(np.append(True, ~again)[: len(notes)])  # a pitch is written once at one time
        number = np.arange(len(notes)) - notes.starts[notes.piece]  # events before it in its piece
        self._event = {
            name: getattr(notes, name).astype(np.int64)
            for name in ("pitch", "duration", "velocity", "program", "position")
        }
        self._event["beats"] = notes.bars.beats[notes.bar_starts[notes.piece] + notes.bar].astype(np.int64)
        self._gap = np.where(number == 0, _NONE, np.diff(notes.onset, prepend=0)).astype(np.int64)
        self._rank = _rank(self._event["program"], self._event["pitch"])
        self._moving = np.flatnonzero(self._gap > 0)
        if not len(self._moving):
            raise MgenError("markov: no piece has two notes at different times; give more music")
        codes = _code(self._gap, self._event)
        self._symbols, symbol = np.unique(codes, return_inverse=True)
        self._contexts = _contexts(symbol, number, len(self._symbols), order)

    @classmethod
    def fit(cls, table: TokenTable, remi: Remi, order: int) -> MarkovChain:
        """The chain of the pieces of a table, those of one style or all, as they are: no other keys.

        Raises:
            MgenError: As the class.
        """
        return cls(Notes.from_ids([table[piece] for piece in range(len(table))], remi), remi, order)

    # ------------------------------------------------------------ sampling

    def sample(self, prompts: Array, length: int, rng: np.random.Generator) -> list[list[int]]:
        """B completions of exactly `length` tokens, valid after prompts (B, P) of ids, which may be cut anywhere.

        Raises:
            MgenError: A prompt is empty or ends with EOS.
        """
        endings = Endings.of(prompts, self.remi)
        steps = length // 3 + 4  # a note is three tokens at least, and up to 6 of the first are the prompt's own
        events = self._draw(prompts, endings, steps, rng)
        beats = np.where(endings.beats > 0, endings.beats, events["beats"][:, 0])
        written = self.remi.encode(_table(events, beats))
        # What is written begins with the last bar's own tokens; those that the prompt holds are not said again.
        begin = said(endings, self.remi) + (
            (endings.kind == Kind.DURATION) & (events["onset"][:, 0] == endings.position)
        )
        return [row[at : at + length].tolist() for row, at in zip(written, begin.tolist(), strict=True)]

    def _draw(self, prompts: Array, endings: Endings, steps: int, rng: np.random.Generator) -> dict[str, Array]:
        """(B, steps) columns of events; `onset` counts from the prompt's last bar."""
        context, now, rank = self._after(prompts)
        columns: list[dict[str, Array]] = []
        for step in range(steps):
            row, onset = self._next(context, now, rank, rng)
            event = {name: column[row] for name, column in self._event.items()}
            gap = np.where(rank < 0, self._gap[row], onset - now)
            if step == 0:
                onset = self._joined(event, onset, endings, rank, rng)
                gap = np.where(rank < 0, gap, onset - now)
            columns.append(event | {"onset": onset})
            self._move(context, self._symbol(gap, event))
            now, rank = onset, _rank(event["program"], event["pitch"])
        return {name: np.stack([column[name] for column in columns], axis=1) for name in columns[0]}

    def _joined(
        self,
        event: dict[str, Array],
        onset: Array,
        endings: Endings,
        rank: Array,
        rng: np.random.Generator,
    ) -> Array:
        """(B,) onsets of the first events, which take from the prompt what it has said of them (in place)."""
        bar = np.where(endings.beats > 0, endings.beats, event["beats"]) * STEPS_PER_QUARTER
        onset = np.where(rank < 0, event["position"] % bar, onset)  # no note before it: where it stood in its own bar
        onset = np.where(endings.open_note, endings.position, onset)
        named = np.isin(endings.kind, (Kind.PITCH, Kind.VELOCITY))
        for row in np.flatnonzero(named).tolist():  # a duration that this pitch has had
            had = np.flatnonzero(self._event["pitch"] == endings.pitch[row])
            if len(had):
                place = had[rng.integers(len(had))]
                event["duration"][row], event["velocity"][row] = (
                    self._event[name][place] for name in ("duration", "velocity")
                )
        event["pitch"] = np.where(named, endings.pitch, event["pitch"])
        event["velocity"] = np.where(endings.kind == Kind.VELOCITY, endings.velocity, event["velocity"])
        begun = named | (endings.kind == Kind.PROGRAM)
        event["program"] = np.where(begun & self.remi.multi, endings.program, event["program"])
        event["pitch"] = np.maximum(event["pitch"], endings.least)
        return onset

    def _after(self, prompts: Array) -> tuple[list[Array], Array, Array]:
        """What the chain knows of prompts: the context of each order (B,), and onset (since the last bar began) and
        rank of the last note (-1 where there is none).
        """
        notes = Notes.from_ids(list(prompts), self.remi)
        batch, starts = notes.n_pieces, notes.starts
        context = [np.full(batch, 0 if order == 0 else _NONE) for order in range(self.order + 1)]
        for back in range(self.order, 0, -1):
            place = starts[1:] - back
            told = np.flatnonzero(place > starts[:-1])  # the gap before a prompt's first note is not known
            here = place[told]
            symbol = np.full(batch, _NONE)
            event = {name: getattr(notes, name)[here].astype(np.int64) for name in ("program", "pitch", "duration")}
            symbol[told] = self._symbol((notes.onset[here] - notes.onset[here - 1]).astype(np.int64), event)
            self._move(context, symbol)
        now, rank = np.full(batch, -1), np.full(batch, -1)
        some = np.flatnonzero(notes.counts)
        last = starts[1:][some] - 1
        now[some] = notes.onset[last] - notes.bars.onset[notes.bar_starts[1:] - 1][some]
        rank[some] = _rank(notes.program[last], notes.pitch[last])
        return context, now, rank

    def _next(self, context: list[Array], now: Array, rank: Array, rng: np.random.Generator) -> tuple[Array, Array]:
        """(B,) the next events, as rows of the music, and their onsets."""
        row, onset = np.full(len(now), _NONE), np.zeros(len(now), np.int64)
        for order in range(self.order, -1, -1):
            asked = np.flatnonzero((row < 0) & (context[order] >= 0))
            drawn = self._contexts[order].draw(context[order][asked], rng)
            at = now[asked] + self._gap[drawn]
            moves = (self._gap[drawn] > 0) | (self._rank[drawn] > rank[asked])
            fine = (rank[asked] < 0) | ((at >= 0) & moves)
            row[asked[fine]], onset[asked[fine]] = drawn[fine], at[fine]
        rest = np.flatnonzero(row < 0)
        row[rest] = self._moving[rng.integers(len(self._moving), size=len(rest))]
        onset[rest] = np.maximum(now[rest] + self._gap[row[rest]], 0)
        return row, onset

    def _symbol(self, gap: Array, event: dict[str, Array]) -> Array:
        """(B,) number of each event among those of the music; -1 for one that it does not hold."""
        return _find(self._symbols, _code(gap, event))

    def _move(self, context: list[Array], symbol: Array) -> None:
        """Contexts (in place) after one more event."""
        for order in range(self.order, 0, -1):
            before = context[order - 1]
            code = np.where((before >= 0) & (symbol >= 0), before * len(self._symbols) + symbol, _NONE)
            context[order] = _find(self._contexts[order].codes, code)


def said(endings: Endings, remi: Remi) -> Array:
    """(B,) how many tokens of bar, position and note a prompt has written of the bar in which it ends."""
    multi = int(remi.multi)
    tokens = {
        Kind.BAR: 1,
        Kind.TIME_SIGNATURE: 2,
        Kind.DURATION: 2,
        Kind.POSITION: 3,
        Kind.PROGRAM: 4,
        Kind.PITCH: 4 + multi,
        Kind.VELOCITY: 5 + multi,
    }
    return np.array([tokens.get(Kind(kind), 0) for kind in endings.kind.tolist()], np.int64)


def _rank(program: NDArray[np.integer], pitch: NDArray[np.integer]) -> Array:
    """The order of the notes of a chord, from 0."""
    rank: Array = (program.astype(np.int64) + 1) * _PITCHES + pitch
    return rank


def _code(gap: Array, event: dict[str, Array]) -> Array:
    """One number for gap, program, pitch and duration."""
    rank = _rank(event["program"], event["pitch"])
    return ((gap + 1) * (_PROGRAMS * _PITCHES) + rank) * _DURATIONS + event["duration"]


def _find(codes: Array, wanted: Array) -> Array:
    """Place of each number among rising `codes`; -1 where it is not."""
    if not len(codes):
        return np.full(len(wanted), _NONE)
    at = np.minimum(np.searchsorted(codes, wanted), len(codes) - 1)
    return np.where(codes[at] == wanted, at, _NONE)


def _contexts(symbol: Array, number: Array, symbols: int, order: int) -> list[_Contexts]:
    """The runs of 0 to `order` events of music with symbols (L,), `number` (L,) events before each in its piece."""
    rows = np.flatnonzero(number >= 1)
    out = [_Contexts(np.zeros(1, np.int64), np.array([0, len(rows)]), rows)]
    run = np.zeros(len(symbol), np.int64)
    for length in range(1, order + 1):
        rows = np.flatnonzero(number >= length)
        codes, inverse, count = np.unique(
            run[rows - 1] * symbols + symbol[rows - 1], return_inverse=True, return_counts=True
        )
        run = np.full(len(symbol), _NONE)
        run[rows] = inverse
        starts = np.concatenate([[0], np.cumsum(count)])
        out.append(_Contexts(codes, starts, rows[np.argsort(inverse, kind="stable")]))
    return out


def _table(events: dict[str, Array], beats: Array) -> Notes:
    """Events (B, N each) as pieces in bars of `beats` (B,) quarters."""
    batch, steps = events["onset"].shape
    bar = events["onset"] // (beats * STEPS_PER_QUARTER)[:, None]
    count = bar[:, -1] + 1
    piece = np.repeat(np.arange(batch), count)
    number = np.arange(len(piece)) - (np.cumsum(count) - count)[piece]
    bars = Bars(*(x.astype(np.int32) for x in (piece, number * beats[piece] * STEPS_PER_QUARTER, beats[piece])))
    columns = {name: events[name].ravel() for name in ("onset", "duration", "pitch", "velocity", "program")}
    columns |= {"piece": np.repeat(np.arange(batch), steps), "bar": bar.ravel()}
    none, zero = np.zeros(batch, np.int32), np.zeros(batch * steps, np.int32)
    return Notes(
        n_pieces=batch,
        bars=bars,
        token=zero - 1,
        broken=zero,
        n_tokens=none,
        n_broken=none,
        **{name: column.astype(np.int32) for name, column in columns.items()},
    )
