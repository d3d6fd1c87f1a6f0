"""Notes: the table that judges and metrics read.

A batch of pieces is decoded once into flat, sorted arrays for numpy. An encoding converts token ids to this table and
back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from symusic import Note, core

from mgen.arrays import max_of, ranges
from mgen.errors import RejectedFile
from mgen.time_signatures import signatures_in_effect

STEPS_PER_QUARTER = 24
"""Grid steps in a quarter note: triplets and sixteenths both fall on it, and 2:1 swing can be written."""

STEPS_PER_EIGHTH = STEPS_PER_QUARTER // 2
STEPS_PER_WHOLE = 4 * STEPS_PER_QUARTER
MAX_BEATS = {4: 7, 8: 12}  # denominator of a time signature -> most beats in a bar of an encoding
MAX_BAR = 7 * STEPS_PER_QUARTER  # longest bar of an encoding, in grid steps
MAX_DURATION = 13 * STEPS_PER_QUARTER  # longest duration of an encoding, in grid steps
Ints = NDArray[np.int32]


class Encoding(Protocol):
    """The part of an encoding that `Notes.from_ids` uses."""

    def decode(self, ids: Sequence[ArrayLike], start: ArrayLike = 0) -> Notes: ...


@dataclass(frozen=True, slots=True, eq=False)
class Bars:
    """The bars of B pieces, M in all, sorted by piece and time; a piece has at least one."""

    piece: Ints  # (M,)
    onset: Ints  # (M,) grid steps
    beats: Ints  # (M,) beats in the bar, the numerator of its time signature, 1..MAX_BEATS[unit]
    unit: Ints  # (M,) the denominator: 4, a beat is a quarter note, or 8, an eighth

    @property
    def length(self) -> Ints:
        """(M,) grid steps."""
        return self.beats * STEPS_PER_WHOLE // self.unit

    def select(self, rows: NDArray[np.bool_] | NDArray[np.integer] | slice) -> Bars:
        """The bars in `rows`, a mask (M,), numbers or a slice."""
        return Bars(self.piece[rows], self.onset[rows], self.beats[rows], self.unit[rows])

    def changes(self) -> list[tuple[int, int, int]]:
        """Onset, beats and unit of the bars of one piece where these two change, the first included."""
        at = np.flatnonzero(np.diff(self.beats * 8 + self.unit, prepend=-1))
        return [(int(self.onset[i]), int(self.beats[i]), int(self.unit[i])) for i in at]


@dataclass(frozen=True, slots=True, eq=False)
class Notes:
    """The notes of B pieces, N in all, sorted by piece, onset, program, pitch.

    `token` is the index, in the completion, of the token that completed the note (-1 for a note from a file), and
    `broken` the number of tokens up to it, since the note before, that broke the grammar; those after the last note
    are counted with it. `n_tokens` and `n_broken` (B,) count the tokens a piece was decoded from and those that broke
    its grammar (0 for files). `given` has the notes of the B prompts, which time from their own beginning, for judges
    of an accompaniment; None for music without prompts.
    """

    n_pieces: int
    piece: Ints  # (N,) 0..B-1
    onset: Ints  # (N,) grid steps, 24 per quarter note
    duration: Ints  # (N,) grid steps
    bar: Ints  # (N,) number of the bar within the piece
    pitch: Ints  # (N,) MIDI note number
    velocity: Ints  # (N,) 1-127
    program: Ints  # (N,) 0-127, -1 for drums
    token: Ints  # (N,)
    broken: Ints  # (N,)
    bars: Bars
    n_tokens: Ints  # (B,)
    n_broken: Ints  # (B,)
    given: Notes | None = None

    def __len__(self) -> int:
        return len(self.piece)

    @property
    def starts(self) -> NDArray[np.int64]:
        """(B + 1,) index of each piece's first note; the last entry is N."""
        return np.searchsorted(self.piece, np.arange(self.n_pieces + 1))

    @property
    def counts(self) -> NDArray[np.int64]:
        """(B,) notes in each piece."""
        return np.bincount(self.piece, minlength=self.n_pieces)

    @property
    def bar_starts(self) -> NDArray[np.int64]:
        """(B + 1,) index into `bars` of each piece's first bar; the last entry is M."""
        return np.searchsorted(self.bars.piece, np.arange(self.n_pieces + 1))

    @property
    def bar_row(self) -> NDArray[np.int64]:
        """(N,) row of `bars` that each note is in."""
        rows: NDArray[np.int64] = self.bar_starts[self.piece] + self.bar
        return rows

    @property
    def position(self) -> Ints:
        """(N,) grid steps since the note's bar began."""
        begins: Ints = self.bars.onset[self.bar_row]
        return self.onset - begins

    @classmethod
    def from_ids(cls, ids: Sequence[ArrayLike], encoding: Encoding, start: ArrayLike = 0) -> Notes:
        """Decode token ids.

        Args:
            ids: B sequences of token ids, prompt and completion together.
            start: number of leading prompt tokens, one for all or (B,). Notes that a prompt completed are in `given`
                only, and time 0 is the bar in which the completion begins.
        """
        notes = encoding.decode(ids, start)
        count = np.broadcast_to(np.asarray(start, np.int64), (len(ids),))
        if not count.any():
            return notes
        heads = [np.asarray(row)[:n] for row, n in zip(ids, count.tolist(), strict=True)]
        return replace(notes, given=encoding.decode(heads))

    @classmethod
    def from_completions(
        cls, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]], encoding: Encoding
    ) -> Notes:
        """Decode B completions, without their prompts' notes, in the bar and metre that each prompt ends in."""
        rows = [[*prompt, *completion] for prompt, completion in zip(prompts, completions, strict=True)]
        return cls.from_ids(rows, encoding, start=[len(prompt) for prompt in prompts])

    @classmethod
    def from_scores(cls, scores: Sequence[core.ScoreTick]) -> Notes:
        """Read scores onto the grid: onsets rounded to the nearest step, durations at least one step.

        Raises:
            RejectedFile: A bar is not a whole number of eighth notes.
        """
        return cls.concat([_from_score(score) for score in scores])

    @classmethod
    def concat(cls, parts: Sequence[Notes]) -> Notes:
        """One table of all pieces of `parts`, in order."""
        if not parts:
            return _empty()
        base = np.cumsum([0] + [part.n_pieces for part in parts])
        columns: dict[str, Any] = {
            f.name: np.concatenate([getattr(part, f.name) for part in parts])
            for f in fields(cls)
            if f.name not in {"n_pieces", "piece", "bars", "given"}
        }
        shift = [part.piece + first for part, first in zip(parts, base, strict=False)]
        bars = Bars(*(np.concatenate([getattr(part.bars, name) for part in parts]) for name in Bars.__slots__))
        bar_shift = np.repeat(base[:-1], [len(part.bars.piece) for part in parts])
        bars = replace(bars, piece=(bars.piece + bar_shift).astype(np.int32))
        given = [part.given for part in parts if part.given is not None]
        columns["given"] = cls.concat(given) if len(given) == len(parts) else None
        return cls(n_pieces=int(base[-1]), piece=np.concatenate(shift).astype(np.int32), bars=bars, **columns)

    def select(self, rows: NDArray[np.bool_] | NDArray[np.integer]) -> Notes:
        """The same pieces and bars with only some notes: those where a mask (N,) is True, or the numbers in `rows`."""
        return replace(self, **{name: getattr(self, name)[rows] for name in _NOTE_COLUMNS})

    def trimmed(self) -> Notes:
        """The same notes, and the bars up to each piece's last note: at least one a piece."""
        last, bars = max_of(self.bar, self.piece, self.n_pieces), self.bars
        kept = np.arange(len(bars.piece)) - self.bar_starts[bars.piece] <= last[bars.piece]
        return replace(self, bars=bars.select(kept))

    def pitched(self) -> Notes:
        """The same pieces and bars without the drums."""
        keep = self.program >= 0
        return self if keep.all() else self.select(keep)

    def pieces(self, index: Sequence[int] | NDArray[np.integer]) -> Notes:
        """The pieces of `index`, in that order; a piece may be taken more than once."""
        taken = np.asarray(index, dtype=np.int64)
        rows, owner = ranges(self.starts[taken], self.starts[taken + 1])
        bar_rows, bar_owner = ranges(self.bar_starts[taken], self.bar_starts[taken + 1])
        columns = {name: getattr(self, name)[rows] for name in _NOTE_COLUMNS if name != "piece"}
        bars = replace(self.bars.select(bar_rows), piece=bar_owner.astype(np.int32))
        return Notes(
            n_pieces=len(taken),
            piece=owner.astype(np.int32),
            bars=bars,
            n_tokens=self.n_tokens[taken],
            n_broken=self.n_broken[taken],
            given=None if self.given is None else self.given.pieces(taken),
            **columns,
        )

    def to_score(self, piece: int, tempo: float = 120.0) -> core.ScoreTick:
        """One piece as a score of 24 ticks a quarter, a track for each program, at `tempo` quarters a minute."""
        one = self.pieces([piece])
        score = core.ScoreTick(STEPS_PER_QUARTER)
        score.tempos.append(core.TempoTick(0, qpm=tempo))
        for signature in one.bars.changes():
            score.time_signatures.append(core.TimeSignatureTick(*signature))
        for program in np.unique(one.program).tolist():
            rows = one.program == program
            track = core.TrackTick("drums" if program < 0 else f"program {program}", max(program, 0), program < 0)
            notes: Any = Note.from_numpy(
                one.onset[rows], one.duration[rows], one.pitch[rows].astype(np.int8), one.velocity[rows].astype(np.int8)
            )
            track.notes = notes
            score.tracks.append(track)
        return score


_NOTE_COLUMNS = ("piece", "onset", "duration", "bar", "pitch", "velocity", "program", "token", "broken")


def sort_order(
    piece: Ints, onset: Ints, program: Ints, pitch: Ints, duration: Ints, velocity: Ints
) -> NDArray[np.intp]:
    """The order in which every `Notes` table lists its notes."""
    return np.lexsort((velocity, duration, pitch, program, onset, piece))


def _empty() -> Notes:
    none = np.zeros(0, np.int32)
    columns: dict[str, Any] = dict.fromkeys(_NOTE_COLUMNS, none)
    return Notes(n_pieces=0, bars=Bars(none, none, none, none), n_tokens=none, n_broken=none, **columns)


def _from_score(score: core.ScoreTick) -> Notes:
    scale = STEPS_PER_QUARTER / score.ticks_per_quarter
    tracks = [
        (track.notes.numpy(), -1 if track.is_drum else track.program) for track in score.tracks if len(track.notes)
    ]
    if not tracks:
        bars = Bars(*np.array([[0], [0], [4], [4]], np.int32))
        return replace(_empty(), n_pieces=1, bars=bars, n_tokens=np.zeros(1, np.int32), n_broken=np.zeros(1, np.int32))
    time = np.concatenate([notes["time"] for notes, _ in tracks])
    onset = np.rint(time * scale).astype(np.int32)
    end = np.rint((time + np.concatenate([notes["duration"] for notes, _ in tracks])) * scale).astype(np.int32)
    duration = np.maximum(end - onset, 1)
    pitch, velocity = (
        np.concatenate([notes[name] for notes, _ in tracks]).astype(np.int32) for name in ("pitch", "velocity")
    )
    program = np.concatenate([np.full(len(notes["time"]), program, np.int32) for notes, program in tracks])
    piece = np.zeros(len(onset), np.int32)
    order = sort_order(piece, onset, program, pitch, duration, velocity)
    signatures = [(round(tick * scale), beats, unit) for tick, beats, unit in signatures_in_effect(score)]
    bars = bar_lines(signatures, int(onset.max()))
    none = np.zeros(1, np.int32)
    return Notes(
        n_pieces=1,
        piece=piece,
        onset=onset[order],
        duration=duration[order],
        bar=(np.searchsorted(bars.onset, onset[order], side="right") - 1).astype(np.int32),
        pitch=pitch[order],
        velocity=velocity[order],
        program=program[order],
        token=np.full(len(onset), -1, np.int32),
        broken=np.zeros(len(onset), np.int32),
        bars=bars,
        n_tokens=none,
        n_broken=none,
    )


def bar_lines(signatures: Sequence[tuple[int, int, int]], last: int) -> Bars:
    """The bars of one piece, from time 0 to the one that holds step `last`.

    Quarters and longer beats are written as quarters, shorter ones as eighths, and a bar too long for that as several.

    Args:
        signatures: (onset in grid steps, numerator, denominator), in order. Before the first one the metre is 4/4. A
            change inside a bar ends that bar early if whole eighths are left of it, and otherwise waits for the next
            bar line.

    Raises:
        RejectedFile: A bar is not a whole number of eighth notes.
    """
    changes = list(signatures)
    if not changes or changes[0][0] > 0:
        changes.insert(0, (0, 4, 4))
    written: list[NDArray[np.int64]] = []
    now = 0
    for (_, numerator, denominator), (change, *_) in pairwise([*changes, (last + 1, 4, 4)]):
        until = min(change, last + 1)
        if until <= now:
            continue
        length, rest = divmod(numerator * STEPS_PER_WHOLE, denominator)
        if rest or length % STEPS_PER_EIGHTH:
            raise RejectedFile(
                "time signature", f"a bar of {numerator}/{denominator} is not a whole number of eighth notes"
            )
        metres = np.tile(_metres(length, 4 if denominator <= 4 else 8), (-(-(until - now) // length), 1))
        lines = now + np.cumsum(_lengths(metres))
        metres = metres[: np.searchsorted(lines, until) + 1]
        early = int(lines[len(metres) - 1]) - until
        if until <= last and early and early % STEPS_PER_EIGHTH == 0:
            rest_of_bar = _metres(int(_lengths(metres)[-1]) - early, int(metres[-1, 1]))
            metres = np.concatenate([metres[:-1], rest_of_bar])
        written.append(metres)
        now += int(_lengths(metres).sum())
    metres = np.concatenate(written)
    onset = np.cumsum(_lengths(metres)) - _lengths(metres)
    return Bars(*(column.astype(np.int32) for column in (np.zeros_like(onset), onset, *metres.T)))


def _lengths(metres: NDArray[np.int64]) -> NDArray[np.int64]:
    """(M,) grid steps of bars of time signatures (M, 2)."""
    return metres[:, 0] * STEPS_PER_WHOLE // metres[:, 1]


def _metres(length: int, unit: int) -> NDArray[np.int64]:
    """(K, 2) time signatures that write a bar of `length` grid steps, in beats of 1/`unit` or else in eighths.

    One if it is not too long; of several, a compound metre has whole groups of three beats (15/8 is 9/8 and 6/8).
    """
    if length % (STEPS_PER_WHOLE // unit):
        unit = 8
    beats = length * unit // STEPS_PER_WHOLE
    group = 1 if beats % 3 else 3
    groups = beats // group
    bars = -(-groups // (MAX_BEATS[unit] // group))
    return np.array([[group * ((groups + bars - 1 - number) // bars), unit] for number in range(bars)])


def select_notes(columns: dict[str, NDArray[Any]], rows: NDArray[Any]) -> Any:
    """symusic's note list with the `rows` of its columns."""
    return Note.from_numpy(*(columns[name][rows] for name in ("time", "duration", "pitch", "velocity")))
