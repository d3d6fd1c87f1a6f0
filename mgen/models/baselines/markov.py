"""Markov chains of note events: the baseline that models which note follows the last few, and nothing else.

An event is one symbol of gap (grid steps since the note before, 0 inside a chord), program, pitch and duration. The
chain models neither bars nor anything of the prompt before its last `order` notes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mgen.arrays import rank_within
from mgen.corpus.shards import TokenTable
from mgen.encoding.remi import Kind, Remi
from mgen.errors import MgenError
from mgen.models.baselines.endings import Endings
from mgen.notes import STEPS_PER_WHOLE, Notes
from mgen.transforms.rebuild import distinct, equal_bars

Array = NDArray[np.int64]

_PROGRAMS, _PITCHES, _DURATIONS = 129, 128, 1 << 12
_NONE = -1  # unknown context or symbol
_METRE = ("beats", "unit")  # columns of `Bars` that an event takes from its bar


@dataclass(frozen=True, slots=True)
class _Contexts:
    """The C different runs of k events that are followed by another event."""

    codes: Array  # (C,) rising: (number of the run of the first k-1 events) * (number of symbols) + last symbol
    starts: Array  # (C + 1,) where the followers of each run begin in `followers`
    followers: Array  # rows of the events that follow a run

    def draw(self, number: Array, rng: np.random.Generator) -> Array:
        """A follower of each run, drawn uniformly from its occurrences."""
        count = self.starts[number + 1] - self.starts[number]
        followers: Array = self.followers[self.starts[number] + rng.integers(count)]
        return followers


class MarkovChain:
    """A chain of order k with back-off to the longest context of at most k events that the training music contains.

    The next event is drawn uniformly from the occurrences of events after that context; its velocity is that of the
    occurrence. An event that the grammar does not allow at this place (a chord note not above the one before, an onset
    before the current bar) is replaced by one after a shorter context.

    Known limits: of order 5 nearly every context occurs once, and the chain copies the training set for long
    stretches; so does order 1 on performed music, whose gaps are nearly all different. A piece never ends.

    Args:
        notes: the training music.
        order: longest context, in events.

    Raises:
        MgenError: The order is below 1, or no piece has two notes at different times.
    """

    def __init__(self, notes: Notes, remi: Remi, order: int) -> None:
        if order < 1:
            raise MgenError(f"markov: order ({order}) must be at least 1")
        self.remi, self.order = remi, order
        notes = distinct(notes)
        number = rank_within(notes.piece, notes.n_pieces)  # events before it in its piece
        self._event = {
            name: getattr(notes, name).astype(np.int64)
            for name in ("pitch", "duration", "velocity", "program", "position")
        }
        for name in _METRE:
            self._event[name] = getattr(notes.bars, name)[notes.bar_row].astype(np.int64)
        self._gap = np.where(number == 0, _NONE, np.diff(notes.onset, prepend=0)).astype(np.int64)
        self._rank = _rank(self._event["program"], self._event["pitch"])
        self._moving = np.flatnonzero(self._gap > 0)
        if not len(self._moving):
            raise MgenError("markov: no piece has two notes at different times; give more music")
        self._symbols, symbol = np.unique(_code(self._gap, self._event), return_inverse=True)
        self._contexts = _contexts(symbol, number, len(self._symbols), order)

    @classmethod
    def fit(cls, table: TokenTable, remi: Remi, order: int) -> MarkovChain:
        """Fits a chain on the pieces of a table, without transposing them.

        Raises:
            MgenError: As the class.
        """
        return cls(Notes.from_ids([table[piece] for piece in range(len(table))], remi), remi, order)

    # ------------------------------------------------------------ sampling

    def sample(self, prompts: Array, length: int, rng: np.random.Generator) -> list[list[int]]:
        """Samples B completions of exactly `length` tokens that are valid after prompts (B, P), which may end anywhere.

        Raises:
            MgenError: A prompt is empty or ends with EOS.
        """
        endings = Endings.of(prompts, self.remi)
        steps = length // self.remi.note_size + 4  # notes; the prompt may have the first tokens of one
        events = self._draw(prompts, endings, steps, rng)
        metre = _metre(endings, {name: events[name][:, 0] for name in _METRE})
        encoded = self.remi.encode(_table(events, *metre))
        # The encoded events start with the tokens of the last bar; those that the prompt has are skipped.
        begin = bar_tokens(endings, self.remi) + (
            (endings.kind == Kind.DURATION) & (events["onset"][:, 0] == endings.position)
        )
        return [row[at : at + length].tolist() for row, at in zip(encoded, begin.tolist(), strict=True)]

    def _draw(self, prompts: Array, endings: Endings, steps: int, rng: np.random.Generator) -> dict[str, Array]:
        """Draws (B, steps) columns of events; `onset` is relative to the prompt's last bar."""
        context, now, rank = self._after(prompts)
        columns: list[dict[str, Array]] = []
        for step in range(steps):
            row, onset = self._next(context, now, rank, rng)
            event = {name: column[row] for name, column in self._event.items()}
            gap = np.where(rank < 0, self._gap[row], onset - now)
            if step == 0:
                onset = self._fit_to_prompt(event, onset, endings, rank, rng)
                gap = np.where(rank < 0, gap, onset - now)
            columns.append(event | {"onset": onset})
            self._move(context, self._symbol(gap, event))
            now, rank = onset, _rank(event["program"], event["pitch"])
        return {name: np.stack([column[name] for column in columns], axis=1) for name in columns[0]}

    def _fit_to_prompt(
        self, event: dict[str, Array], onset: Array, endings: Endings, rank: Array, rng: np.random.Generator
    ) -> Array:
        """(B,) onsets of the first events, after the tokens that the prompt has of them replace theirs (in place)."""
        beats, unit = _metre(endings, event)
        bar = beats * STEPS_PER_WHOLE // unit
        onset = np.where(rank < 0, event["position"] % bar, onset)  # no note before it: its position in its own bar
        onset = np.where(endings.open_note, endings.position, onset)
        named = np.isin(endings.kind, (Kind.PITCH, Kind.VELOCITY))
        for row in np.flatnonzero(named).tolist():  # a duration with which this pitch occurs
            had = np.flatnonzero(self._event["pitch"] == endings.pitch[row])
            if len(had):
                place = had[rng.integers(len(had))]
                for name in ("duration", "velocity"):
                    event[name][row] = self._event[name][place]
        event["pitch"] = np.where(named, endings.pitch, event["pitch"])
        event["velocity"] = np.where(endings.kind == Kind.VELOCITY, endings.velocity, event["velocity"])
        begun = named | (endings.kind == Kind.PROGRAM)
        event["program"] = np.where(begun & self.remi.multi, endings.program, event["program"])
        event["pitch"] = np.maximum(event["pitch"], endings.least)
        return onset

    def _after(self, prompts: Array) -> tuple[list[Array], Array, Array]:
        """State after prompts.

        Returns:
            Context of each order (B,); onset in its bar (B,) and rank (B,) of the last note, -1 where there is none.
        """
        notes = Notes.from_ids(list(prompts), self.remi)
        batch, starts = notes.n_pieces, notes.starts
        context = [np.full(batch, 0 if order == 0 else _NONE) for order in range(self.order + 1)]
        for back in range(self.order, 0, -1):
            known = np.flatnonzero(starts[1:] - back > starts[:-1])  # the gap before a prompt's first note is not known
            here = starts[1:][known] - back
            symbol = np.full(batch, _NONE)
            event = {name: getattr(notes, name)[here].astype(np.int64) for name in ("program", "pitch", "duration")}
            symbol[known] = self._symbol((notes.onset[here] - notes.onset[here - 1]).astype(np.int64), event)
            self._move(context, symbol)
        now, rank = np.full(batch, -1), np.full(batch, -1)
        some = np.flatnonzero(notes.counts)
        last = starts[1:][some] - 1
        now[some] = notes.onset[last] - notes.bars.onset[notes.bar_starts[1:] - 1][some]
        rank[some] = _rank(notes.program[last], notes.pitch[last])
        return context, now, rank

    def _next(self, context: list[Array], now: Array, rank: Array, rng: np.random.Generator) -> tuple[Array, Array]:
        """(B,) the next events, as rows of the training music, and their onsets."""
        row, onset = np.full(len(now), _NONE), np.zeros(len(now), np.int64)
        for order in range(self.order, -1, -1):
            pending = np.flatnonzero((row < 0) & (context[order] >= 0))
            drawn = self._contexts[order].draw(context[order][pending], rng)
            at = now[pending] + self._gap[drawn]
            moves = (self._gap[drawn] > 0) | (self._rank[drawn] > rank[pending])
            valid = (rank[pending] < 0) | ((at >= 0) & moves)
            row[pending[valid]], onset[pending[valid]] = drawn[valid], at[valid]
        rest = np.flatnonzero(row < 0)
        row[rest] = self._moving[rng.integers(len(self._moving), size=len(rest))]
        onset[rest] = np.maximum(now[rest] + self._gap[row[rest]], 0)
        return row, onset

    def _symbol(self, gap: Array, event: dict[str, Array]) -> Array:
        """(B,) number of each event's symbol; -1 for one that the training music does not contain."""
        return _find(self._symbols, _code(gap, event))

    def _move(self, context: list[Array], symbol: Array) -> None:
        """Updates contexts (in place) by one event."""
        for order in range(self.order, 0, -1):
            before = context[order - 1]
            code = np.where((before >= 0) & (symbol >= 0), before * len(self._symbols) + symbol, _NONE)
            context[order] = _find(self._contexts[order].codes, code)


def bar_tokens(endings: Endings, remi: Remi) -> Array:
    """(B,) number of tokens of bar, position and note at the end of each prompt that its last event starts with."""
    multi = int(remi.multi)
    tokens = np.zeros(len(Kind), np.int64)
    tokens[[Kind.BAR, Kind.TIME_SIGNATURE, Kind.DURATION, Kind.POSITION, Kind.PROGRAM]] = 1, 2, 2, 3, 4
    tokens[[Kind.PITCH, Kind.VELOCITY]] = 4 + multi, 5 + multi
    return tokens[endings.kind]


def _rank(program: NDArray[np.integer], pitch: NDArray[np.integer]) -> Array:
    """A number by which the notes of a chord are sorted."""
    rank: Array = (program.astype(np.int64) + 1) * _PITCHES + pitch
    return rank


def _code(gap: Array, event: dict[str, Array]) -> Array:
    """Encodes gap, program, pitch and duration as one number."""
    rank = _rank(event["program"], event["pitch"])
    return ((gap + 1) * (_PROGRAMS * _PITCHES) + rank) * _DURATIONS + event["duration"]


def _find(codes: Array, wanted: Array) -> Array:
    """Index of each number in rising `codes`; -1 where it is missing."""
    if not len(codes):
        return np.full(len(wanted), _NONE)
    at = np.minimum(np.searchsorted(codes, wanted), len(codes) - 1)
    return np.where(codes[at] == wanted, at, _NONE)


def _contexts(symbol: Array, number: Array, symbols: int, order: int) -> list[_Contexts]:
    """The runs of 0 to `order` events in symbols (L,), with `number` (L,) events before each in its piece."""
    rows = np.flatnonzero(number >= 1)
    out = [_Contexts(np.zeros(1, np.int64), np.array([0, len(rows)]), rows)]
    run = np.zeros(len(symbol), np.int64)
    for length in range(1, order + 1):
        rows = np.flatnonzero(number >= length)
        longer = run[rows - 1] * symbols + symbol[rows - 1]
        codes, inverse, count = np.unique(longer, return_inverse=True, return_counts=True)
        run = np.full(len(symbol), _NONE)
        run[rows] = inverse
        starts = np.concatenate([[0], np.cumsum(count)])
        out.append(_Contexts(codes, starts, rows[np.argsort(inverse, kind="stable")]))
    return out


def _metre(endings: Endings, event: dict[str, Array]) -> tuple[Array, Array]:
    """(B,) beats and unit of the bars: those of the prompt's last bar, else those of the event's bar."""
    beats, unit = (np.where(endings.beats > 0, getattr(endings, name), event[name]) for name in _METRE)
    return beats, unit


def _table(events: dict[str, Array], beats: Array, unit: Array) -> Notes:
    """Decodes events (B, N each) as pieces in bars of `beats` (B,) of `unit` (B,)."""
    batch, steps = events["onset"].shape
    bar = events["onset"] // (beats * STEPS_PER_WHOLE // unit)[:, None]
    columns = {name: events[name].ravel() for name in ("onset", "duration", "pitch", "velocity", "program")}
    columns |= {"piece": np.repeat(np.arange(batch), steps), "bar": bar.ravel()}
    ints: dict[str, Any] = {name: column.astype(np.int32) for name, column in columns.items()}
    none, zero = np.zeros(batch, np.int32), np.zeros(batch * steps, np.int32)
    return Notes(
        n_pieces=batch,
        bars=equal_bars(bar[:, -1] + 1, beats, unit),
        token=zero - 1,
        broken=zero,
        n_tokens=none,
        n_broken=none,
        **ints,
    )
