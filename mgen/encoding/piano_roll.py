"""Piano-rolls: which of 84 pitches sound in each step of a fixed length, without velocities, programs and drums.

A roll is a boolean array (T, 84): row t is a step, column p is MIDI note number 24 + p. Steps have a length in seconds
or are a share of a beat. A roll does not know where a note ends and the same pitch begins again without a gap: written
back, cells in a row are one note.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pretty_midi
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from mgen.arrays import Longs, ranges
from mgen.errors import RejectedFile
from mgen.notes import STEPS_PER_QUARTER, Notes
from mgen.stored import reason

LOWEST, PITCHES = 24, 84  # C1 to B7
STEPS = 128  # of a roll for a network
DEFAULT_TEMPO = 120.0  # quarters per minute where none is known, as in the MIDI standard
MAX_STEPS = 1 << 20  # of one roll: 88 MB; a longer file has a wrong time in it

Roll = NDArray[np.bool_]  # (T, 84)


@dataclass(frozen=True, slots=True)
class Rate:
    """How long a step is: a share of a beat, unless `per_second` is above 0."""

    per_beat: int = 4
    per_second: float = 0.0

    def seconds(self, tempo: float) -> float:
        """Length of a step in seconds, at a tempo in beats per minute."""
        return 1 / self.per_second if self.per_second else 60 / (tempo * self.per_beat)


def draw(onset: ArrayLike, end: ArrayLike, pitch: ArrayLike) -> Roll:
    """The roll of N notes, as long as they last.

    Args:
        onset, end: (N,) in steps; rounded to whole ones, and a note fills at least one.
        pitch: (N,) MIDI note numbers; those outside 24 to 107 are left out.
    """
    rolls, lengths = draw_all(np.zeros(len(np.atleast_1d(onset)), np.int64), 1, onset, end, pitch)
    return rolls[: lengths[0]]


def draw_all(piece: NDArray[Any], n: int, onset: ArrayLike, end: ArrayLike, pitch: ArrayLike) -> tuple[Roll, Longs]:
    """As `draw`, for n pieces at once.

    Args:
        piece: (N,) piece of each note, 0..n - 1.

    Returns:
        Their rolls (sum of lengths, 84), one after the other, and (n,) their lengths.
    """
    first = np.rint(np.asarray(onset, np.float64)).astype(np.int64)
    last = np.maximum(np.rint(np.asarray(end, np.float64)).astype(np.int64), first + 1)
    column = np.asarray(pitch, np.int64) - LOWEST
    kept = (column >= 0) & (column < PITCHES) & (first >= 0)
    piece, first, last, column = piece[kept], first[kept], last[kept], column[kept]
    lengths = np.zeros(n, np.int64)
    np.maximum.at(lengths, piece, last)
    begins = np.cumsum(lengths) - lengths
    roll = np.zeros((int(lengths.sum()), PITCHES), np.bool_)
    rows, note = ranges(begins[piece] + first, begins[piece] + last)
    roll[rows, column[note]] = True
    return roll, lengths


def of_notes(notes: Notes, rate: Rate, tempo: ArrayLike = DEFAULT_TEMPO) -> tuple[Roll, Longs]:
    """The rolls of B pieces, one after the other, and (B,) their lengths; a beat is a quarter note.

    Args:
        tempo: (B,) quarters per minute, for steps in seconds.
    """
    notes = notes.pitched()
    tempo = np.broadcast_to(np.asarray(tempo, np.float64), notes.n_pieces)[notes.piece]
    steps: Any = 60 / tempo * rate.per_second if rate.per_second else rate.per_beat  # in a quarter
    onset = notes.onset * steps / STEPS_PER_QUARTER
    end = (notes.onset + notes.duration) * steps / STEPS_PER_QUARTER
    return draw_all(notes.piece.astype(np.int64), notes.n_pieces, onset, end, notes.pitch)


def of_midi(midi: pretty_midi.PrettyMIDI, rate: Rate) -> Roll:
    """The roll of a file without its drums, from its time 0.

    A beat is a quarter note of the file, whatever its time signature and through every change of tempo, as in a corpus.
    A file without a tempo has 120 quarters per minute, as MIDI says.
    """
    notes = [note for one in midi.instruments if not one.is_drum for note in one.notes]
    if not notes:
        return np.zeros((0, PITCHES), np.bool_)
    times = np.array([[note.start, note.end] for note in notes])
    if rate.per_second:
        steps = times * rate.per_second
    else:
        ticks = np.array([midi.time_to_tick(time) for time in times.ravel().tolist()]).reshape(times.shape)
        steps = ticks / midi.resolution * rate.per_beat
    return draw(steps[:, 0], steps[:, 1], [note.pitch for note in notes])


def read_midi(path: Path | str, rate: Rate) -> tuple[Roll, float]:
    """Reads the roll of a MIDI file, and its first tempo in quarters per minute.

    Raises:
        RejectedFile: It cannot be read (`unreadable`), has no note but drums (`empty`), none of pitch 24 to 107 (`no
            notes in range`), or more than `MAX_STEPS` steps (`too long`).
    """
    try:
        midi = pretty_midi.PrettyMIDI(str(path))
    except Exception as error:  # of all kinds, by libraries over damaged files
        raise RejectedFile("unreadable", reason(error)) from error
    pitches = [note.pitch for one in midi.instruments if not one.is_drum for note in one.notes]
    if not pitches:
        raise RejectedFile("empty", "no note that is not a drum")
    if not any(LOWEST <= pitch < LOWEST + PITCHES for pitch in pitches):
        raise RejectedFile("no notes in range", f"pitches {min(pitches)} to {max(pitches)}, a roll has 24 to 107")
    tempo = float(midi.get_tempo_changes()[1][0])
    if midi.get_end_time() / rate.seconds(tempo) > MAX_STEPS:
        raise RejectedFile("too long", f"{midi.get_end_time():.0f} seconds")
    return of_midi(midi, rate), tempo


def to_midi(roll: Roll, rate: Rate, tempo: float = DEFAULT_TEMPO, velocity: int = 80) -> pretty_midi.PrettyMIDI:
    """A file with one piano: cells of a pitch in a row are one note."""
    midi = pretty_midi.PrettyMIDI(initial_tempo=tempo)
    piano = pretty_midi.Instrument(0)
    onset, end, pitch = notes_in(roll)
    step = rate.seconds(tempo)
    for first, last, number in zip(onset.tolist(), end.tolist(), pitch.tolist(), strict=True):
        piano.notes.append(pretty_midi.Note(velocity, number, first * step, last * step))
    midi.instruments.append(piano)
    return midi


def notes_in(roll: Roll) -> tuple[Longs, Longs, Longs]:
    """(N,) first step, end (the step after the last) and pitch of each note of a roll, by onset and pitch."""
    edges = np.diff(np.pad(roll.T.astype(np.int8), ((0, 0), (1, 1))), axis=1)  # (84, T + 1)
    pitch, onset = np.nonzero(edges == 1)
    end = np.nonzero(edges == -1)[1]
    order = np.lexsort((pitch, onset))
    return onset[order], end[order], pitch[order] + LOWEST


def transpose(roll: Roll, semitones: int) -> Roll:
    """Moves all notes up; those that leave the range are lost."""
    moved = np.zeros_like(roll)
    if abs(semitones) < PITCHES:
        into, out = slice(max(semitones, 0), PITCHES + min(semitones, 0)), max(-semitones, 0)
        moved[:, into] = roll[:, out : out + into.stop - into.start]
    return moved


def fit(roll: Roll, steps: int = STEPS) -> Roll:
    """Exactly `steps` steps: the first ones, or all and silence after them."""
    return np.pad(roll[:steps], ((0, max(steps - len(roll), 0)), (0, 0)))


def windows(roll: Roll, steps: int = STEPS, hop: int = STEPS) -> Roll:
    """(N, steps, 84) windows that begin every `hop` steps, at least one; silence follows the end of the roll."""
    count = 1 + max(-(-(len(roll) - steps) // hop), 0)
    padded = fit(roll, steps + (count - 1) * hop)
    return sliding_window_view(padded, steps, axis=0)[::hop].transpose(0, 2, 1)
